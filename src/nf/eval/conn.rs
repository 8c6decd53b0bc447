//! The connection a packet belongs to, as matches and targets see it (kernel: `nf_ct_get`).
//!
//! Invariant: only connections of this namespace's table are given out.

use super::Verdict;
use super::chain::Env;
use crate::nf::ct::conn::Zones;
use crate::nf::ct::{Conn, Template};
use crate::nf::queue::Answer;
use crate::nf::target::{Ct, Zone};
use crate::wire::{CtInfo, CtRef, Frame};

impl Env<'_, '_> {
    /// The packet's connection and its relation to it.
    pub fn conn(&self, f: &Frame) -> Option<(&Conn, CtInfo)> {
        self.nf.ct.of(f.ct)
    }

    /// A packet at a queue: what its reader says. Nobody reads it: the packet goes on to the next hook if it
    /// may, and is dropped otherwise (kernel: `nf_queue`). What a program accepts skips the rest of its chain
    /// (`nf_reinject`).
    pub fn queue(&mut self, number: Option<u16>, bypass: bool, f: &Frame) -> Verdict {
        let reader = number.and_then(|n| self.nf.queues.get(&n).cloned());
        match reader.map(|r| r.answer(f.l3())) {
            Some(Answer::Accept { labels }) => {
                if let Some(c) = self.conn_mut(f) {
                    c.add_labels(labels);
                }
                Verdict::Bypass
            }
            Some(Answer::Drop) => Verdict::Drop(self.rule),
            None if bypass => Verdict::Bypass,
            None => Verdict::Queue(self.rule),
        }
    }

    /// The same to be changed.
    pub fn conn_mut(&mut self, f: &Frame) -> Option<&mut Conn> {
        match f.ct {
            CtRef::Conn { id, .. } => self.nf.ct.get_mut(id),
            CtRef::Template { id, .. } => self.nf.ct.template_mut(id),
            CtRef::None | CtRef::Orphan | CtRef::Untracked => None,
        }
    }

    /// What `-j CT` leaves on a packet for `nf_conntrack_in` to find (`xt_ct_tg_check`).
    pub fn template(&mut self, m: &Ct) -> CtRef {
        let id = |z: Option<Zone>| match z {
            Some(Zone::Id(id)) => id,
            _ => 0,
        };
        let marked = |z: Option<Zone>| z == Some(Zone::Mark);
        let (orig, reply) = (m.zone.or(m.zone_orig), m.zone.or(m.zone_reply));
        let from_mark = [marked(orig), marked(reply)];
        let template = Template {
            zones: Zones {
                orig: id(orig),
                reply: id(reply),
            },
            zone_from_mark: from_mark.contains(&true).then_some(from_mark),
            helper: m.helper.as_ref().and_then(|h| helper(&h.0)),
            events: m.ctevents.map(|e| e.0),
        };
        CtRef::template(self.nf.ct.new_template(self.rule.family, template))
    }
}

/// Helpers of nf_conntrack_*; another is as one whose module is not there.
pub(in crate::nf) fn helper(name: &str) -> Option<&'static str> {
    const HELPERS: [&str; 12] = [
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
    ];
    HELPERS.into_iter().find(|h| *h == name)
}
