//! Helpers: they read what two ends agree on and announce the connections to come (kernel:
//! nf_conntrack_helper.c, called from `nf_confirm`).
//!
//! A connection has one because a rule of `-j CT --helper` said so, or, where the kernel still has
//! the sysctl, because of its port. Payload is not translated here: see [`Announcement`].
//! Invariant: a helper changes no packet.

mod ftp;
mod tftp;

pub(super) use ftp::Ftp;
pub use ftp::FtpCommand;

use super::expect::Expectation;
use super::packet::Packet;
use super::tuple::CtTuple;
use super::{Conntrack, CtDrop, CtStatus};
use crate::net::NetNs;
use crate::nf::eval::{At, Cx};
use crate::wire::{CtInfo, CtRef, Frame, proto};
use core::time::Duration;

/// How long an announced connection is waited for (`ftp_exp_policy`, `tftp_exp_policy`).
const EXPECT_LIFE: Duration = Duration::from_secs(300);

/// An announcement in a packet of a connection that NAT maps: the address in it and the expected
/// connection must be translated, then [`Conntrack::expect`] takes the latter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Announcement {
    /// What would be expected without NAT.
    pub expectation: Expectation,
    /// Where in the packet the text of address and port begins, from the IP header on, and its length;
    /// `None` for tftp, whose packets carry none.
    pub text: Option<(usize, usize)>,
    /// How the text is written; `None` for tftp.
    pub command: Option<FtpCommand>,
}

/// What a helper says of a packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Helped {
    /// It goes on.
    Accept,
    /// It goes on after NAT has dealt with the announcement in it.
    Nat(Box<Announcement>),
    /// It is dropped: half an announcement, or one that cannot be expected.
    Drop(CtDrop),
}

/// The helper that `--helper NAME` means.
pub fn by_name(name: &str) -> Option<&'static str> {
    ["ftp", "tftp"].into_iter().find(|known| *known == name)
}

/// The helper of a port, which `nf_conntrack_helper=1` assigns (kernel before 6.1:
/// `__nf_ct_helper_find`, which looks at the reply's source).
pub(super) fn by_port(reply: &CtTuple) -> Option<&'static str> {
    match (reply.proto, reply.sport) {
        (proto::TCP, 21) => Some("ftp"),
        (proto::UDP, 69) => Some("tftp"),
        _ => None,
    }
}

impl Conntrack {
    /// Lets the connection's helper look into the packet (kernel: the first part of `nf_confirm`).
    pub fn helper(&mut self, ns: &NetNs, f: &Frame, _at: &At, cx: &mut Cx<'_>) -> Helped {
        self.now = cx.now;
        let CtRef::Conn { id, info } = f.ct else {
            return Helped::Accept;
        };
        // Helpers do not expect ICMP.
        if info == CtInfo::RelatedReply {
            return Helped::Accept;
        }
        let Some(name) = self.get(id).and_then(|c| c.helper()) else {
            return Helped::Accept;
        };
        let Some(p) = Packet::parse(f.l3()) else {
            return Helped::Accept;
        };
        let expires = cx.now + EXPECT_LIFE;
        let found = match (name, p.proto) {
            ("ftp", proto::TCP) => ftp::look(self, id, info, &p, expires),
            ("tftp", proto::UDP) => Ok(tftp::look(self, id, &p, expires)),
            _ => Ok(None),
        };
        let mapped = self
            .get(id)
            .is_some_and(|c| c.status.any(CtStatus::NAT_MASK));
        match found {
            Err(why) => Helped::Drop(why),
            Ok(None) => Helped::Accept,
            Ok(Some(a)) if mapped => Helped::Nat(Box::new(a)),
            Ok(Some(a)) => match self.expect(ns, a.expectation) {
                true => Helped::Accept,
                false => Helped::Drop(CtDrop::Expectation),
            },
        }
    }

    /// Waits for an announced connection (kernel: `nf_ct_expect_related`). False if something else
    /// waits for the same already, or there are too many.
    pub fn expect(&mut self, ns: &NetNs, e: Expectation) -> bool {
        let max = usize::try_from(ns.sysctl().ct.expect_max).unwrap_or(0);
        let done = self.expects.add(e, max);
        self.stats.expect_create += u64::from(done);
        done
    }
}
