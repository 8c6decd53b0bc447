//! Connections come and go: their counts at the destinations, thresholds, templates (kernel: ip_vs_conn.c).
//!
//! Invariant: a destination's `active + inactive` and `persistent` are the connections and templates
//! that refer to it.

use super::Ipvs;
use super::conn::{Conn, ConnId, Key};
use super::service::{Dest, DestId, Forward};
use super::state;
use crate::base::{Instant, limits};
use crate::net::sysctl::Sysctl;
use crate::nf::ct::CtTuple;
use core::time::Duration;

/// A new connection's time before its first packet sets its state (`ip_vs_conn_new`).
const NEW: Duration = Duration::from_secs(3);
/// How long a template waits for the connections it still controls (`expire_later`).
const LATER: Duration = Duration::from_secs(60);

/// What a new connection is like.
pub(super) struct Born {
    pub key: Key,
    pub dport: u16,
    pub template: bool,
    pub one_packet: bool,
    pub open: u32,
}

impl Ipvs {
    /// `ip_vs_conn_new`; `None`: the table is full.
    pub(super) fn conn_new(
        &mut self,
        b: Born,
        dest: Option<DestId>,
        sysctl: &Sysctl,
        now: Instant,
    ) -> Option<ConnId> {
        if self.conns.len() >= limits::IPVS_CONNS_MAX {
            return None;
        }
        let spec = match dest {
            Some(id) => Some(self.dests.get(&id)?.spec),
            None => None,
        };
        let fwd = spec.map_or(Forward::Bypass, |s| s.fwd);
        let id = self.conns.insert(Conn {
            key: b.key,
            daddr: spec.map_or(b.key.vaddr, |s| s.ip),
            dport: b.dport,
            fwd,
            dest,
            template: b.template,
            inactive: true,
            no_output: fwd != Forward::Masq,
            one_packet: b.one_packet,
            nfct: sysctl.vs.conntrack != 0,
            state: 0,
            timeout: NEW,
            expires: now + NEW,
            control: None,
            controls: 0,
            in_pkts: 0,
            open: b.open,
        });
        if !b.template {
            let (ip, port) = match (fwd, spec) {
                (Forward::Masq, Some(s)) => (s.ip, b.dport),
                _ => (b.key.vaddr, b.key.vport),
            };
            self.made(&b.key, (ip, port));
        }
        if let Some(d) = dest.and_then(|d| self.dests.get_mut(&d)) {
            d.refs += 1;
            match b.template {
                true => d.persistent += 1,
                false => d.inactive += 1,
            }
            if d.spec.upper != 0 && d.total() >= u64::from(d.spec.upper) {
                d.overload = true;
            }
        }
        Some(id)
    }

    /// Restarts a connection's timer (`ip_vs_conn_put`).
    pub(super) fn conn_put(&mut self, id: ConnId, now: Instant) {
        let Some(c) = self.conns.get(id) else { return };
        let life = if c.one_packet {
            Duration::ZERO
        } else {
            c.timeout
        };
        self.conns.set_expiry(id, now + life);
    }

    /// Lets a connection go as soon as possible (`ip_vs_conn_expire_now`).
    pub(super) fn expire_now(&mut self, id: ConnId, now: Instant) {
        if self.conns.get(id).is_some_and(|c| c.expires > now) {
            self.conns.set_expiry(id, now);
            self.surprised();
        }
    }

    /// Makes `id` a connection of the template `of` (`ip_vs_control_add`).
    pub(super) fn control_add(&mut self, id: ConnId, of: ConnId) {
        if let Some(c) = self.conns.get_mut(id) {
            c.control = Some(of);
        }
        if let Some(t) = self.conns.get_mut(of) {
            t.controls += 1;
        }
    }

    /// Lets go all whose time has come, and estimates rates (the kernel's timers).
    pub fn expire(&mut self, now: Instant) {
        while let Some(id) = self.conns.due(now) {
            let due = self.conns.get(id).map_or(now, |c| c.expires);
            if self.conns.get(id).is_some_and(|c| c.controls > 0) {
                if let Some(c) = self.conns.get_mut(id) {
                    c.timeout = LATER;
                }
                self.conns.set_expiry(id, due + LATER);
            } else {
                self.unlink(id);
            }
        }
        self.estimate(now);
    }

    /// Takes a connection out (`ip_vs_conn_expire`, `ip_vs_unbind_dest`).
    pub(super) fn unlink(&mut self, id: ConnId) {
        let Some(c) = self.conns.remove(id) else {
            return;
        };
        if let Some(t) = c.control.and_then(|t| self.conns.get_mut(t)) {
            t.controls = t.controls.saturating_sub(1);
        }
        if c.nfct && !c.template && self.dropped.len() < limits::IPVS_CONNS_MAX {
            self.dropped.push(CtTuple {
                proto: c.key.proto,
                src: c.key.caddr,
                dst: c.key.vaddr,
                sport: c.key.cport,
                dport: c.key.vport,
            });
        }
        let Some(id) = c.dest else { return };
        if let Some(d) = self.dests.get_mut(&id) {
            unbind(d, &c);
            if d.refs == 0 && !d.available {
                self.dests.remove(&id);
            }
        }
    }

    /// The state a packet leads to (`ip_vs_set_state`).
    pub(super) fn set_state(&mut self, id: ConnId, way: state::Way, l4: &[u8], secure: bool) {
        let timeouts = self.timeouts;
        let Some(c) = self.conns.get_mut(id) else {
            return;
        };
        let mut way = way;
        if c.no_output {
            match way {
                state::Way::Out => c.no_output = false,
                _ => way = state::Way::InOnly,
            }
        }
        let proto = c.key.proto;
        let Some(new) = state::next(proto, c.state, way, l4, secure) else {
            return;
        };
        let inactive = !state::is_active(proto, new);
        let moved = (new != c.state && inactive != c.inactive).then_some(inactive);
        let assured = (new != c.state || way == state::Way::Out) && state::assures(proto, new, way);
        let (dest, control) = (c.dest, c.control);
        (c.state, c.timeout) = (new, timeouts.of(proto, new));
        if let Some(inactive) = moved {
            c.inactive = inactive;
        }
        if let (Some(inactive), Some(d)) = (moved, dest.and_then(|d| self.dests.get_mut(&d))) {
            let (from, to) = match inactive {
                true => (&mut d.active, &mut d.inactive),
                false => (&mut d.inactive, &mut d.active),
            };
            *from = from.saturating_sub(1);
            *to += 1;
        }
        if assured && let Some(t) = control.and_then(|t| self.conns.get_mut(t)) {
            t.state = 1;
        }
    }

    /// Whether a template still leads anywhere; else no packet finds it any more.
    pub(super) fn check_template(&mut self, id: ConnId, sysctl: &Sysctl) -> Option<DestId> {
        let dest = self.conns.get(id).and_then(|c| c.dest);
        let quiescent = sysctl.vs.expire_quiescent_template != 0;
        let good = dest
            .and_then(|d| self.dests.get(&d))
            .is_some_and(|d| d.available && !(quiescent && d.spec.weight == 0));
        if !good {
            self.conns.spoil(id);
            return None;
        }
        dest
    }
}

fn unbind(d: &mut Dest, c: &Conn) {
    d.refs = d.refs.saturating_sub(1);
    let count = match (c.template, c.inactive) {
        (true, _) => &mut d.persistent,
        (false, true) => &mut d.inactive,
        (false, false) => &mut d.active,
    };
    *count = count.saturating_sub(1);
    let total = d.total();
    let full = match (d.spec.lower, d.spec.upper) {
        (0, 0) => false,
        (0, upper) => total * 4 >= u64::from(upper) * 3,
        (lower, _) => total >= u64::from(lower),
    };
    if !full {
        d.overload = false;
    }
}
