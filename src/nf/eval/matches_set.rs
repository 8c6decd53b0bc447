//! `-m set` and `-j SET`: sets of addresses, ports and the rest.
//!
//! As xt_set.c; the sets themselves are [`crate::nf::ipset`]'s. Invariant: a set that is not there makes
//! the rule not understood, never a guess.

use super::Verdict;
use super::chain::{Answer, Env};
use crate::nf::matches::Set;
use crate::nf::target::SetTarget;
use crate::wire::Frame;

impl Env<'_, '_> {
    /// `set_match_v4`
    pub fn set(&mut self, _f: &Frame, _m: &Set) -> Answer {
        Answer::Unknown
    }

    /// `set_target_v3`
    pub fn set_target(&mut self, _f: &mut Frame, _m: &SetTarget) -> Option<Verdict> {
        Some(Verdict::Depends(self.rule))
    }
}
