//! Connections and counters taken over from a listing.
//!
//! A listing does not name a connection's template, its service by mark or its forwarding method: they are
//! found as `ip_vs_try_bind_dest` finds them. Invariant: counts at real servers are those of the connections
//! taken over, plus those said to be there without being listed.

use super::conn::{Conn, ConnId, Key};
use super::schedule::mark_address;
use super::service::{DestId, Forward, Virtual};
use super::stats::Stats;
use super::{Ipvs, Refused, state};
use crate::base::{Instant, limits};
use core::time::Duration;
use std::net::{IpAddr, SocketAddr};

/// A connection as `ipvsadm -Lnc` shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Protocol; 0 for the template of a service by mark.
    pub proto: u8,
    /// The client.
    pub client: SocketAddr,
    /// The virtual address.
    pub virt: SocketAddr,
    /// The real server.
    pub dest: SocketAddr,
    /// It stands for a client of a persistent service.
    pub template: bool,
    /// Its state by number.
    pub state: u8,
    /// How long it still lives.
    pub left: Duration,
}

impl Ipvs {
    /// A real server of a service, by address and port.
    pub(super) fn find_listed(&self, at: &Virtual, (ip, port): (IpAddr, u16)) -> Option<DestId> {
        let svc = self.services.get(at)?;
        let is = |id: &&DestId| {
            let dest = self.dests.get(id);
            dest.is_some_and(|d| (d.spec.ip, d.spec.port) == (ip, port))
        };
        svc.dests.iter().find(is).copied()
    }

    /// Takes a connection over.
    pub(super) fn add_listed(
        &mut self,
        l: &Listed,
        nfct: bool,
        now: Instant,
    ) -> Result<(), Refused> {
        if self.conns.len() >= limits::IPVS_CONNS_MAX {
            return Err(Refused::Full);
        }
        let (at, dest) = self.owner(l);
        let of_service = at.and_then(|at| self.services.get(&at));
        let secs = of_service.and_then(|s| s.spec.persistent);
        let beside = of_service.and_then(|s| s.dests.first().copied());
        let like = dest.or(beside).and_then(|id| self.dests.get(&id));
        let fwd = like.map_or(Forward::Masq, |d| d.spec.fwd);
        let timeout = match (l.template, secs) {
            (true, Some(secs)) => Duration::from_secs(u64::from(secs)),
            (true, None) => l.left,
            (false, _) => self.timeouts.of(l.proto, l.state),
        };
        let inactive = !state::is_active(l.proto, l.state);
        self.conns.insert(Conn {
            key: Key {
                proto: l.proto,
                caddr: l.client.ip(),
                cport: l.client.port(),
                vaddr: l.virt.ip(),
                vport: l.virt.port(),
            },
            daddr: l.dest.ip(),
            dport: l.dest.port(),
            fwd,
            dest,
            template: l.template,
            inactive,
            no_output: fwd != Forward::Masq,
            one_packet: false,
            nfct,
            state: l.state,
            timeout,
            expires: now + l.left,
            control: None,
            controls: 0,
            in_pkts: 0,
            open: 0,
        });
        if let Some(d) = dest.and_then(|id| self.dests.get_mut(&id)) {
            d.refs += 1;
            match (l.template, inactive) {
                (true, _) => d.persistent += 1,
                (false, true) => d.inactive += 1,
                (false, false) => d.active += 1,
            }
            d.overload |= d.spec.upper != 0 && d.total() >= u64::from(d.spec.upper);
        }
        Ok(())
    }

    /// The service and the real server of a connection; without the latter the one it once had.
    fn owner(&self, l: &Listed) -> (Option<Virtual>, Option<DestId>) {
        let (ip, v6) = (l.virt.ip(), l.virt.is_ipv6());
        let addr = |port| Virtual::Addr {
            proto: l.proto,
            ip,
            port,
        };
        let by_addr = [addr(l.virt.port()), addr(0)];
        let by_addr = by_addr
            .into_iter()
            .filter(|v| self.services.contains_key(v));
        let by_mark = self.services.keys().copied().filter(|v| match v {
            Virtual::Mark { mark, v6: six } => {
                *six == v6 && (l.proto != 0 || mark_address(*mark, v6) == ip)
            }
            Virtual::Addr { .. } => false,
        });
        let all: Vec<Virtual> = by_addr.chain(by_mark).collect();
        // Ports 0 and 65535 stand for any (`ip_vs_sched_persist`, `ip_vs_check_template`).
        let any = l.template && matches!(l.dest.port(), 0 | 0xffff);
        let ports = [l.dest.port(), 0];
        for at in &all {
            let exact = ports
                .iter()
                .find_map(|p| self.find_listed(at, (l.dest.ip(), *p)));
            let loose = || {
                let svc = self.services.get(at).filter(|_| any)?;
                let mine =
                    |id: &&DestId| self.dests.get(id).is_some_and(|d| d.spec.ip == l.dest.ip());
                svc.dests.iter().find(mine).copied()
            };
            if let Some(id) = exact.or_else(loose) {
                return (Some(*at), Some(id));
            }
        }
        (all.first().copied(), None)
    }

    /// Finds connections' templates, once all are there (`ip_vs_sched_persist`).
    pub(super) fn join_templates(&mut self) {
        let alone: Vec<(ConnId, ConnId)> = self
            .conns
            .iter()
            .filter(|(_, c)| !c.template && c.control.is_none())
            .filter_map(|(id, c)| Some((id, self.template_of(c)?)))
            .collect();
        for (id, template) in alone {
            self.control_add(id, template);
        }
    }

    fn template_of(&self, c: &Conn) -> Option<ConnId> {
        let at = self.dests.get(&c.dest?)?.of;
        let spec = &self.services.get(&at)?.spec;
        spec.persistent?;
        let (proto, vaddr) = match at {
            Virtual::Mark { mark, v6 } => (0, mark_address(mark, v6)),
            Virtual::Addr { .. } => (c.key.proto, c.key.vaddr),
        };
        let key = |vport| Key {
            proto,
            caddr: spec.mask.apply(c.key.caddr),
            cport: 0,
            vaddr,
            vport,
        };
        let found = [c.key.vport, 0].map(|port| self.conns.find_template(&key(port)));
        let same = |id: &ConnId| self.conns.get(*id).is_some_and(|t| t.dest == c.dest);
        found.into_iter().flatten().find(same)
    }

    /// Counts connections at a real server that are known by number only.
    pub(super) fn count_unseen(&mut self, id: DestId, active: u64, inactive: u64) {
        let Some(d) = self.dests.get_mut(&id) else {
            return;
        };
        let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        (d.active, d.inactive) = (small(active), small(inactive));
        d.overload |= d.spec.upper != 0 && d.total() >= u64::from(d.spec.upper);
    }

    /// Changes the counters of a service, or of one of its real servers.
    pub(super) fn listed_stats(
        &mut self,
        at: &Virtual,
        dest: Option<DestId>,
        change: impl FnOnce(&mut Stats),
    ) {
        match dest {
            Some(id) => {
                if let Some(d) = self.dests.get_mut(&id) {
                    change(&mut d.stats);
                }
            }
            None => {
                if let Some(s) = self.services.get_mut(at) {
                    change(&mut s.stats);
                }
            }
        }
    }
}
