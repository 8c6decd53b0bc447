//! Reassembly in front of conntrack (kernel: `nf_defrag_ipv4.c`, `nf_conntrack_reasm.c`).
//!
//! A whole packet remembers its largest piece and may be cut again in spite of DF.

use crate::base::Origin;
use crate::net::frag::FragResult;
use crate::nf::Hook;
use crate::nf::eval::At;
use crate::path::observer::{Observer, Step};
use crate::path::reason::DropReason;
use crate::path::walker::Walker;
use crate::wire::{CtRef, Frame, IpHeader};
use core::time::Duration;

/// Local delivery reassembles (uapi-internal `enum ip_defrag_users`).
pub(crate) const LOCAL_DELIVER: u32 = 0;
/// `IP_DEFRAG_CONNTRACK_IN`, plus the zone.
const CONNTRACK_IN: u32 = 2;
/// `IP_DEFRAG_CONNTRACK_OUT`, plus the zone.
const CONNTRACK_OUT: u32 = CONNTRACK_IN + 0xffff + 1;
/// `IP_DEFRAG_CONNTRACK_BRIDGE_IN`, plus the zone.
const CONNTRACK_BRIDGE_IN: u32 = CONNTRACK_OUT + 0xffff + 1;

/// Who reassembles here (kernel: `nf_ct_defrag_user`). A zone is only known once a template is attached,
/// which the raw table does after reassembly: it is always the default one.
fn user(at: &At, f: &Frame) -> u32 {
    match at.hook {
        Hook::Prerouting if f.bridged.is_some_and(|b| !b.skipped) => CONNTRACK_BRIDGE_IN,
        Hook::Prerouting => CONNTRACK_IN,
        _ => CONNTRACK_OUT,
    }
}

impl<O: Observer> Walker<'_, O> {
    /// `None` while the packet waits for its other fragments, or when it was dropped.
    pub(super) fn nf_defrag(&mut self, at: &At, f: Frame) -> Option<Frame> {
        if f.ct == CtRef::Untracked {
            return Some(f);
        }
        let Ok(h) = IpHeader::parse_lax(f.l3()) else {
            return Some(f);
        };
        let Some(dev) = at.input.or(at.output).filter(|_| h.is_fragment()) else {
            return Some(f);
        };
        let life = self.fragment_life(h.is_v4());
        let user = user(at, &f);
        let shown = O::TRACING.then(|| f.clone());
        match self.ns.frags.add(f, &h, user, dev, self.now, life) {
            FragResult::Queued => {
                if let Some(f) = shown {
                    self.step(Some(dev), &f, |_| Step::FragmentQueued);
                }
                None
            }
            FragResult::Whole(mut w) => {
                self.ns.snmp.reasm_ok += 1;
                w.ignore_df = true;
                self.step(Some(dev), &w, |_| Step::Reassembled { len: w.l3().len() });
                Some(w)
            }
            // The IP layer itself will tell its sender (kernel: -EPROTO lets it pass as it is).
            FragResult::Problem(f, _) => Some(f),
            FragResult::Bad(f) => {
                self.drop(Some(dev), &f, DropReason::FragmentBad);
                None
            }
            FragResult::Duplicate(f) => {
                self.drop(Some(dev), &f, DropReason::FragmentDuplicate);
                None
            }
        }
    }

    /// How long fragments wait for each other.
    pub(crate) fn fragment_life(&self, v4: bool) -> Duration {
        let s = &self.ns.sysctl;
        let seconds = if v4 { s.ipfrag_time } else { s.ip6frag_time };
        Duration::from_secs(seconds.max(0) as u64)
    }

    /// A queue's time is over. Only an end host tells of it; what conntrack gathered for others dies
    /// silently (kernel: `ip_expire` with `frag_expire_skip_icmp`; IPv6 makes no difference).
    pub(crate) fn fragments_timed_out(&mut self, dev: crate::base::DevId, f: Frame, user: u32) {
        let quiet = user != LOCAL_DELIVER
            && IpHeader::parse_lax(f.l3()).is_ok_and(|h| h.is_v4() && !self.is_own(h.dst));
        if quiet {
            return self.drop_with(
                Some(dev),
                &f,
                DropReason::FragmentTimeout,
                Origin::Kernel,
                |_| "conntrack waited for them".into(),
            );
        }
        self.reassembly_timed_out(dev, f);
    }
}
