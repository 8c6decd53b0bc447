//! What few connections have: a tracker's state, zones, a helper, counters and the like.
//!
//! One box holds the tracker's state, so that TCP pays for its windows alone; the rest lies in another.
//! Invariant: what is not there has its default value.

use super::conn::{Conn, Zones};
use super::expect::ExpectNat;
use super::helper::Ftp;
use super::sctp::Sctp;
use super::seqadj::SeqAdj;
use super::tcp::Tcp;
use super::tuple::Dir;
use crate::base::Instant;
use crate::nf::Counters;
use crate::wire::ConnId;
use core::time::Duration;

/// What the protocol's tracker remembers (kernel: `union nf_conntrack_proto`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProtoState<'a> {
    /// No state: ICMP and protocols without a tracker.
    Generic,
    /// TCP.
    Tcp(&'a Tcp),
    /// UDP: from when on traffic both ways counts as a stream.
    Udp(Instant),
    /// SCTP.
    Sctp(&'a Sctp),
    /// GRE: life without and with a reply, fixed when the connection began.
    Gre(Duration, Duration),
}

/// A tracker's own state.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) enum Tracker {
    #[default]
    None,
    Tcp(Tcp),
    Sctp(Sctp),
    Gre(Duration, Duration),
}

/// What a connection may have besides.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct More {
    pub tracker: Tracker,
    rare: Option<Box<Rare>>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Rare {
    zones: Zones,
    labels: u128,
    acct: Option<[Counters; 2]>,
    started: Option<Instant>,
    helper: Option<&'static str>,
    master: Option<ConnId>,
    seqadj: [SeqAdj; 2],
    expectation: Option<ExpectNat>,
    event_mask: Option<u32>,
    ftp: Ftp,
}

impl More {
    pub fn in_zones(zones: Zones) -> More {
        let rare = Rare {
            zones,
            ..Rare::default()
        };
        More {
            tracker: Tracker::None,
            rare: Some(Box::new(rare)),
        }
    }
}

impl Conn {
    fn rare(&self) -> Option<&Rare> {
        self.more.as_deref()?.rare.as_deref()
    }

    fn rare_mut(&mut self) -> &mut Rare {
        let more = self.more.get_or_insert_default();
        more.rare.get_or_insert_default()
    }

    /// Sets something; what is not there and stays as it is takes no room.
    fn put<T: PartialEq + Default>(&mut self, value: T, place: fn(&mut Rare) -> &mut T) {
        if value != T::default() || self.rare().is_some() {
            *place(self.rare_mut()) = value;
        }
    }

    /// Zones.
    pub fn zones(&self) -> Zones {
        self.rare().map_or(Zones::default(), |r| r.zones)
    }

    /// Labels, bit N is label N (kernel: `nf_conn_labels`).
    pub fn labels(&self) -> u128 {
        self.rare().map_or(0, |r| r.labels)
    }

    /// Sets labels besides those it has.
    pub fn add_labels(&mut self, labels: u128) {
        self.put(self.labels() | labels, |r| &mut r.labels);
    }

    /// Takes labels away.
    pub fn drop_labels(&mut self, labels: u128) {
        self.put(self.labels() & !labels, |r| &mut r.labels);
    }

    /// Packets and bytes by direction; counted only if `nf_conntrack_acct` was on when it began.
    pub fn acct(&self) -> Option<[Counters; 2]> {
        self.rare()?.acct
    }

    pub(super) fn set_acct(&mut self, acct: Option<[Counters; 2]>) {
        self.put(acct, |r| &mut r.acct);
    }

    /// Counts packets and bytes of a direction, if it counts (kernel: `nf_ct_acct_update`).
    pub(super) fn account(&mut self, dir: Dir, n: Counters) {
        let rare = self.more.as_deref_mut().and_then(|m| m.rare.as_deref_mut());
        if let Some(acct) = rare.and_then(|r| r.acct.as_mut()) {
            let c = &mut acct[dir.index()];
            c.packets = c.packets.saturating_add(n.packets);
            c.bytes = c.bytes.saturating_add(n.bytes);
        }
    }

    /// When it was confirmed, if `nf_conntrack_timestamp` was on when it began.
    pub fn started(&self) -> Option<Instant> {
        self.rare()?.started
    }

    pub(super) fn set_started(&mut self, at: Option<Instant>) {
        self.put(at, |r| &mut r.started);
    }

    /// Helper by name (`ftp`, `tftp`).
    pub fn helper(&self) -> Option<&'static str> {
        self.rare()?.helper
    }

    /// Gives it a helper.
    pub fn set_helper(&mut self, name: Option<&'static str>) {
        self.put(name, |r| &mut r.helper);
    }

    /// The connection that expected this one.
    pub fn master(&self) -> Option<ConnId> {
        self.rare()?.master
    }

    /// It was expected by another, and what NAT is to do with it.
    pub fn set_master(&mut self, master: ConnId, nat: Option<ExpectNat>) {
        self.put(Some(master), |r| &mut r.master);
        self.put(nat, |r| &mut r.expectation);
    }

    /// What NAT is to do with an expected connection.
    pub fn expectation(&self) -> Option<ExpectNat> {
        self.rare()?.expectation
    }

    /// Shifts of TCP sequence numbers by direction; used with `SEQ_ADJUST` only.
    pub fn seqadj(&self) -> [SeqAdj; 2] {
        self.rare().map_or([SeqAdj::default(); 2], |r| r.seqadj)
    }

    /// The same of one direction, to be changed.
    pub fn seqadj_mut(&mut self, dir: Dir) -> &mut SeqAdj {
        &mut self.rare_mut().seqadj[dir.index()]
    }

    /// Events that are told (`-j CT --ctevents`); `None` for all.
    pub fn event_mask(&self) -> Option<u32> {
        self.rare()?.event_mask
    }

    /// Tells these events only.
    pub fn set_event_mask(&mut self, mask: Option<u32>) {
        self.put(mask, |r| &mut r.event_mask);
    }

    /// What the ftp helper remembers.
    pub(super) fn ftp_mut(&mut self) -> &mut Ftp {
        &mut self.rare_mut().ftp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TCP connection is its slot and this.
    #[test]
    fn windows_are_small() {
        assert!(size_of::<More>() <= 72, "{}", size_of::<More>());
    }
}
