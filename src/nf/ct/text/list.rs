//! Connections to printed entries and back.
//!
//! Invariant: what is put back into a table has both directions' mapping told by its tuples alone.

use super::entry::{Entry, Mode, Side, State};
use crate::base::Instant;
use crate::nf::ct::Conntrack;
use crate::nf::ct::conn::{Conn, CtStatus, Zones};
use crate::nf::ct::more::{ProtoState, Tracker};
use crate::nf::ct::sctp::Sctp;
use crate::nf::ct::tcp::Tcp;
use crate::nf::ct::tuple::Dir;
use crate::wire::ConnId;
use core::time::Duration;
use std::collections::BTreeMap;

/// How entries are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Style {
    /// `conntrack -L`
    #[default]
    Plain,
    /// `conntrack -L -o extended`
    Extended,
    /// `/proc/net/nf_conntrack`
    Proc,
}

/// The confirmed connections of a table, by slot.
pub fn list(ct: &Conntrack, now: Instant, style: Style) -> Vec<Entry> {
    // A connection that was expected holds on to the one that announced it.
    let mut children: BTreeMap<ConnId, u32> = BTreeMap::new();
    for master in ct.iter().filter_map(|(_, c)| c.master()) {
        *children.entry(master).or_default() += 1;
    }
    let alive = ct.iter().filter(|(_, c)| !c.is_expired(now));
    let entry = |(id, c)| {
        let mut e = Entry::of(c, now, style);
        e.uses = e.uses.map(|n| n + children.get(&id).copied().unwrap_or(0));
        e
    };
    alive.map(entry).collect()
}

impl Entry {
    /// A connection as it prints at `now`.
    pub fn of(c: &Conn, now: Instant, style: Style) -> Entry {
        let proc = style == Style::Proc;
        let zones = c.zones();
        let both = (zones.orig == zones.reply).then_some(zones.orig);
        let side = |dir: Dir| Side {
            tuple: c.tuple(dir),
            zone: Some(zones.of(dir)).filter(|z| both.is_none() && *z != 0),
            counters: c.acct().map(|a| a[dir.index()]),
        };
        // The tool subtracts whole seconds, the kernel nanoseconds (`ct_delta_time`).
        let secs = |t: Instant| t.since(Instant::ZERO).as_secs();
        let age = |from: Instant| match proc {
            true => now.since(from).as_secs(),
            false => secs(now).saturating_sub(secs(from)),
        };
        Entry {
            layer3: style != Style::Plain,
            full_v6: proc,
            timeout: Some(c.remaining(now).as_secs()),
            state: match c.proto() {
                ProtoState::Tcp(t) => Some(State::Tcp(t.state)),
                ProtoState::Sctp(s) => Some(State::Sctp(s.state)),
                _ => None,
            },
            gre: match c.proto() {
                ProtoState::Gre(a, b) if proc => Some((a.as_secs(), b.as_secs())),
                _ => None,
            },
            sides: [side(Dir::Original), side(Dir::Reply)],
            unreplied: !c.status.any(CtStatus::SEEN_REPLY),
            mode: mode(c.status),
            mark: Some(c.mark),
            secmark: None,
            secctx: None,
            zone: both.filter(|z| proc || *z != 0),
            delta_time: c.started().map(age),
            start: None,
            stop: None,
            helper: c.helper().filter(|_| !proc).map(str::to_owned),
            uses: Some(if proc { 2 } else { 1 }),
            id: None,
            labels: None,
        }
    }

    /// The connection that printed so, as far as the text tells: windows of TCP are not in it, so any
    /// are taken, as for a connection picked up midway.
    pub fn to_conn(&self, now: Instant) -> Conn {
        let [orig, reply] = self.tuples();
        let both = self.zone.unwrap_or(0);
        let zones = match (self.sides[0].zone, self.sides[1].zone) {
            (None, None) => Zones::both(both),
            (o, r) => Zones {
                orig: o.unwrap_or(both),
                reply: r.unwrap_or(both),
            },
        };
        let mut c = Conn::new(orig, reply, zones);
        c.status.set(CtStatus::CONFIRMED | CtStatus::NAT_DONE_MASK);
        let untranslated = orig.invert().unwrap_or(reply);
        if (untranslated.dst, untranslated.dport) != (reply.dst, reply.dport) && !orig.is_icmp()
            || untranslated.dst != reply.dst
            || orig.is_icmp() && untranslated.sport != reply.sport
        {
            c.status.set(CtStatus::SRC_NAT);
        }
        if untranslated.src != reply.src || !orig.is_icmp() && untranslated.sport != reply.sport {
            c.status.set(CtStatus::DST_NAT);
        }
        if !self.unreplied {
            c.status.set(CtStatus::SEEN_REPLY);
        }
        c.status.set(match self.mode {
            Some(Mode::Assured) => CtStatus::ASSURED,
            Some(Mode::Offload) => CtStatus::OFFLOAD | CtStatus::ASSURED,
            Some(Mode::HwOffload) => CtStatus::OFFLOAD | CtStatus::HW_OFFLOAD | CtStatus::ASSURED,
            None => 0,
        });
        let life = self.timeout.unwrap_or(0).min(u64::from(u32::MAX));
        c.set_timeout(Duration::from_secs(life));
        c.begin_life(now);
        c.mark = self.mark.unwrap_or(0);
        match self.state {
            Some(State::Tcp(s)) => c.set_tracker(Tracker::Tcp(Tcp::in_state(s))),
            Some(State::Sctp(s)) => c.set_tracker(Tracker::Sctp(Sctp::in_state(s))),
            None => {}
        }
        if let [Some(a), Some(b)] = [self.sides[0].counters, self.sides[1].counters] {
            c.set_acct(Some([a, b]));
        }
        c.set_helper(match self.helper.as_deref() {
            Some("ftp") => Some("ftp"),
            Some("tftp") => Some("tftp"),
            _ => None,
        });
        c
    }
}

fn mode(s: CtStatus) -> Option<Mode> {
    if s.any(CtStatus::HW_OFFLOAD) {
        Some(Mode::HwOffload)
    } else if s.any(CtStatus::OFFLOAD) {
        Some(Mode::Offload)
    } else if s.any(CtStatus::ASSURED) {
        Some(Mode::Assured)
    } else {
        None
    }
}
