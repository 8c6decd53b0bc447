//! The connection a packet belongs to, as matches and targets see it (kernel: `nf_ct_get`).
//!
//! Invariant: only connections of this namespace's table are given out.

use super::chain::Env;
use crate::nf::ct::{Conn, Conntrack, CtTuple, Template, Zones};
use crate::nf::target::{Ct, Zone};
use crate::wire::{ConnId, CtInfo, CtRef, Frame};

/// Helpers that a template may name (kernel: modules nf_conntrack_*).
const HELPERS: [&str; 14] = [
    "ftp",
    "tftp",
    "irc",
    "sip",
    "amanda",
    "pptp",
    "netbios-ns",
    "snmp",
    "sane",
    "RAS",
    "Q.931",
    "H.245",
    "talk",
    "rtsp",
];

/// One of the table's connections.
pub(super) fn get(ct: &Conntrack, id: ConnId) -> Option<&Conn> {
    ct.get(id)
}

/// Whether a connection is in the table.
pub(super) fn find(ct: &Conntrack, tuple: &CtTuple, zone: u16) -> bool {
    ct.find(tuple, zone).is_some()
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
        self.nf.ct.get_mut(id)
    }

    /// What `-j CT` leaves on a packet for `nf_conntrack_in` to find (kernel: `xt_ct_tg_check`). The
    /// tracker's own timeouts stand for a timeout policy.
    pub fn template(&mut self, m: &Ct) -> CtRef {
        let number = |z: Option<Zone>| match z {
            Some(Zone::Id(n)) => n,
            Some(Zone::Mark) | None => 0,
        };
        let marked = |z: Option<Zone>| z == Some(Zone::Mark);
        let (orig, reply) = (m.zone.or(m.zone_orig), m.zone.or(m.zone_reply));
        let from_mark = [marked(orig), marked(reply)];
        let wanted = m.helper.as_ref().map(|n| n.0.as_str());
        let template = Template {
            zones: Zones {
                orig: number(orig),
                reply: number(reply),
            },
            zone_from_mark: from_mark.contains(&true).then_some(from_mark),
            helper: wanted.and_then(|w| HELPERS.into_iter().find(|h| *h == w)),
            events: None,
        };
        let id = self.nf.ct.new_template(template);
        id.map_or(CtRef::None, CtRef::Template)
    }
}

/// The connection a frame names.
pub(super) fn conn_id(f: &Frame) -> Option<(ConnId, CtInfo)> {
    match f.ct {
        CtRef::Conn { id, info } => Some((id, info)),
        CtRef::None | CtRef::Untracked | CtRef::Template(_) => None,
    }
}
