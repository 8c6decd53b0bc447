//! The connection a packet belongs to, as matches and targets see it (kernel: `nf_ct_get`).
//!
//! Invariant: only connections of this namespace's table are given out.

use super::chain::Env;
use crate::nf::ct::{Conn, Conntrack, CtTuple};
use crate::nf::target::Ct;
use crate::wire::{ConnId, CtInfo, CtRef, Frame};

pub(super) fn get(_ct: &Conntrack, _id: ConnId) -> Option<&Conn> {
    None
}

fn get_mut(_ct: &mut Conntrack, _id: ConnId) -> Option<&mut Conn> {
    None
}

/// Whether a connection is in the table.
pub(super) fn find(_ct: &Conntrack, _tuple: &CtTuple, _zone: u16) -> bool {
    false
}

impl Env<'_, '_> {
    /// The packet's connection and its relation to it.
    pub fn conn(&self, f: &Frame) -> Option<(&Conn, CtInfo)> {
        let (id, info) = conn_id(f)?;
        Some((get(&self.nf.ct, id)?, info))
    }

    /// The same to be changed.
    pub fn conn_mut(&mut self, f: &Frame) -> Option<&mut Conn> {
        let (id, _) = conn_id(f)?;
        get_mut(&mut self.nf.ct, id)
    }

    /// What `-j CT` leaves on a packet for `nf_conntrack_in` to find.
    pub fn template(&mut self, _m: &Ct) -> CtRef {
        CtRef::None
    }
}

/// The connection a frame names.
pub(super) fn conn_id(f: &Frame) -> Option<(ConnId, CtInfo)> {
    match f.ct {
        CtRef::Conn { id, info } => Some((id, info)),
        CtRef::None | CtRef::Untracked | CtRef::Template(_) => None,
    }
}
