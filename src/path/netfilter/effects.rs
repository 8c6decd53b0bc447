//! What a target asks the walk to do besides its verdict: copies (TEE), log lines.

use crate::base::DevId;
use crate::nf::eval::At;
use crate::path::observer::Observer;
use crate::path::walker::Walker;
use crate::wire::Frame;
use std::net::IpAddr;

#[derive(Debug)]
pub(super) enum Effect {
    Tee { gateway: IpAddr, oif: Option<DevId> },
}

impl<O: Observer> Walker<'_, O> {
    pub(super) fn nf_effects(&mut self, at: &At, f: &mut Frame, fx: Vec<Effect>) {
        let _ = (at, f, fx);
    }
}
