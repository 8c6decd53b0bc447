//! A new connection gets its real server (kernel: `ip_vs_schedule`, `ip_vs_sched_persist`, the protocols'
//! `conn_schedule`).
//!
//! Invariant: a connection is made only for a destination that the scheduler or a template named.

use super::bind::Born;
use super::carried::Met;
use super::conn::{ConnId, Key};
use super::hook::{Packet, Seen, Verdict};
use super::sched::{self, Pick, Scheduler};
use super::service::{DestId, Virtual};
use super::{Ipvs, OpenChoice, state};
use crate::base::limits;
use crate::net::RouteKind;
use crate::net::sysctl::Sysctl;
use crate::wire::proto;
use core::time::Duration;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const FTP: u16 = 21;
const FTP_DATA: u16 = 20;
/// `PROT_SOCK`: passive FTP uses ports from here on.
const PROT_SOCK: u16 = 1024;

/// Why there is no connection (kernel: `ignored` of `ip_vs_schedule`).
enum Unmade {
    /// It is not to be scheduled: it goes on its way.
    Ignored,
    /// There is nobody to take it.
    NoDest,
    /// The table is full.
    Full,
}

impl Ipvs {
    /// The service of a packet (`ip_vs_service_find`).
    pub(super) fn service_of(&self, p: &Packet, mark: u32) -> Option<Virtual> {
        let v6 = p.h.dst.is_ipv6();
        let by_mark = Virtual::Mark { mark, v6 };
        if mark != 0 && self.services.contains_key(&by_mark) {
            return Some(by_mark);
        }
        let at = |port| Virtual::Addr {
            proto: p.h.proto,
            ip: p.h.dst,
            port,
        };
        let has = |v: &Virtual| self.services.contains_key(v);
        let ftp = p.h.proto == proto::TCP && (p.dport == FTP || p.dport >= PROT_SOCK);
        let exact = Some(at(p.dport)).filter(has);
        exact
            .or_else(|| Some(at(FTP)).filter(|v| ftp && has(v)))
            .or_else(|| Some(at(0)).filter(has))
    }

    /// Whether a packet may begin a connection: a SYN, an INIT, any of UDP.
    fn begins(&self, p: &Packet, l4: &[u8], sysctl: &Sysctl) -> bool {
        match p.h.proto {
            proto::TCP => {
                let flags = l4.get(13).copied().unwrap_or(0);
                (flags & 2 != 0 || sysctl.vs.sloppy_tcp != 0) && flags & 4 == 0
            }
            proto::SCTP => {
                let chunk = l4.get(12).copied();
                chunk == Some(1) || (sysctl.vs.sloppy_sctp != 0 && chunk.is_some_and(|c| c != 6))
            }
            _ => true,
        }
    }

    /// `ip_vs_try_to_schedule`: a connection, or the packet's verdict.
    pub(super) fn try_to_schedule(
        &mut self,
        p: &Packet,
        l4: &[u8],
        seen: &Seen<'_>,
    ) -> Result<ConnId, Verdict> {
        let sysctl = seen.ns.sysctl();
        if !self.begins(p, l4, sysctl) {
            return Err(Verdict::Accept);
        }
        let Some(at) = self.service_of(p, seen.mark) else {
            self.met = Met::Stranger(p.hash());
            return Err(Verdict::Accept);
        };
        if self.drops_now(sysctl) {
            return Err(Verdict::Drop("net.ipv4.vs.drop_packet"));
        }
        match self.schedule(&at, p, seen) {
            Ok(id) => Ok(id),
            Err(Unmade::Ignored) => Err(Verdict::Accept),
            Err(Unmade::Full) => Err(Verdict::Drop("the connection table is full")),
            Err(Unmade::NoDest) => self.leave(&at, p, seen),
        }
    }

    /// `ip_vs_todrop`; only mode 3 drops whatever the memory.
    fn drops_now(&mut self, sysctl: &Sysctl) -> bool {
        if sysctl.vs.drop_packet != 3 || sysctl.vs.am_droprate <= 0 {
            return false;
        }
        self.drop_counter -= 1;
        let now = self.drop_counter <= 0;
        if now {
            self.drop_counter = sysctl.vs.am_droprate;
        }
        now
    }

    fn schedule(&mut self, at: &Virtual, p: &Packet, seen: &Seen<'_>) -> Result<ConnId, Unmade> {
        if p.sport == FTP_DATA {
            return Err(Unmade::Ignored);
        }
        // Answers of a real server on this host.
        let mirrored = Key {
            proto: p.h.proto,
            caddr: p.h.dst,
            cport: p.dport,
            vaddr: p.h.src,
            vport: p.sport,
        };
        if seen.loopback && self.conns.find_in(&mirrored).is_some() {
            return Err(Unmade::Ignored);
        }
        let svc = self.services.get(at).ok_or(Unmade::Ignored)?;
        if svc.spec.persistent.is_some() {
            return self.schedule_persistent(at, p, seen);
        }
        let port = at.port();
        if matches!(at, Virtual::Addr { .. }) && p.dport != port {
            return Err(Unmade::NoDest);
        }
        let (dest, open) = self.choose(at, p, seen).ok_or(Unmade::NoDest)?;
        let dport = self.dests.get(&dest).map_or(0, |d| d.spec.port);
        let dport = if dport == 0 { p.dport } else { dport };
        self.make(at, p, dport, (dest, open), seen)
    }

    /// A real server for a new connection, and of how many it is if nobody knows which is next.
    fn choose(&mut self, at: &Virtual, p: &Packet, seen: &Seen<'_>) -> Option<(DestId, u32)> {
        let svc = self.services.get_mut(at)?;
        let vs = &seen.ns.sysctl().vs;
        let secs = match svc.spec.sched {
            Scheduler::Lblcr => vs.lblcr_expiration,
            _ => vs.lblc_expiration,
        };
        let pick = Pick {
            src: p.h.src,
            dst: p.h.dst,
            sport: p.sport,
            now: seen.now,
            expiration: Duration::from_secs(secs.max(0) as u64),
        };
        let open = match svc.order_unknown {
            true => sched::open(svc, &self.dests),
            false => Vec::new(),
        };
        let mut dest = sched::choose(svc, &self.dests, &pick)?;
        if open.len() < 2 {
            return Some((dest, 0));
        }
        let address = |id: &DestId| {
            let spec = self.dests.get(id)?.spec;
            Some(SocketAddr::new(spec.ip, spec.port))
        };
        let assumed = self.assumed.take();
        if let Some(id) = open
            .iter()
            .find(|id| assumed.is_some() && address(id) == assumed)
        {
            dest = *id;
            sched::chosen(svc, dest);
        }
        let of = open.iter().filter_map(address);
        self.last_open = Some(OpenChoice {
            number: self.open_choices,
            at: *at,
            count: open.len(),
            of: of.take(limits::FORK_BRANCHES_MAX).collect(),
        });
        self.open_choices = self.open_choices.wrapping_add(1);
        Some((dest, open.len() as u32))
    }

    /// The connection itself, counted (`ip_vs_conn_stats`).
    fn make(
        &mut self,
        at: &Virtual,
        p: &Packet,
        dport: u16,
        (dest, open): (DestId, u32),
        seen: &Seen<'_>,
    ) -> Result<ConnId, Unmade> {
        let ops = self.services.get(at).is_some_and(|s| s.spec.ops);
        let born = Born {
            key: p.key(),
            dport,
            template: false,
            one_packet: ops && p.h.proto == proto::UDP,
            open,
        };
        let made = self.conn_new(born, Some(dest), seen.ns.sysctl(), seen.now);
        let id = made.ok_or(Unmade::Full)?;
        if let Some(d) = self.dests.get_mut(&dest) {
            d.stats.live.conns += 1;
        }
        if let Some(s) = self.services.get_mut(at) {
            s.stats.live.conns += 1;
        }
        self.total.live.conns += 1;
        Ok(id)
    }

    fn schedule_persistent(
        &mut self,
        at: &Virtual,
        p: &Packet,
        seen: &Seen<'_>,
    ) -> Result<ConnId, Unmade> {
        let svc = self.services.get(at).ok_or(Unmade::Ignored)?;
        let (secs, mask) = (svc.spec.persistent.unwrap_or(0), svc.spec.mask);
        let own_port = p.dport == at.port() && at.port() != FTP;
        let (proto, vaddr) = match at {
            Virtual::Mark { mark, v6 } => (0, mark_address(*mark, *v6)),
            Virtual::Addr { .. } => (p.h.proto, p.h.dst),
        };
        let key = Key {
            proto,
            caddr: mask.apply(p.h.src),
            cport: 0,
            vaddr,
            vport: if own_port { p.dport } else { 0 },
        };
        let known = self.conns.find_template(&key);
        let kept = known.and_then(|t| {
            let dest = self.check_template(t, seen.ns.sysctl())?;
            Some((t, dest, 0))
        });
        let (template, dest, open) = match kept {
            Some(found) => found,
            None => {
                let (dest, open) = self.choose(at, p, seen).ok_or(Unmade::NoDest)?;
                let port = self.dests.get(&dest).map_or(0, |d| d.spec.port);
                let born = Born {
                    key,
                    dport: if own_port { port } else { 0 },
                    template: true,
                    one_packet: false,
                    open,
                };
                let made = self.conn_new(born, Some(dest), seen.ns.sysctl(), seen.now);
                let t = made.ok_or(Unmade::Full)?;
                if let Some(c) = self.conns.get_mut(t) {
                    c.timeout = Duration::from_secs(u64::from(secs));
                }
                (t, dest, open)
            }
        };
        let port = self.dests.get(&dest).map_or(0, |d| d.spec.port);
        let dport = match p.dport == at.port() && port != 0 {
            true => port,
            false => p.dport,
        };
        let id = self.make(at, p, dport, (dest, open), seen)?;
        self.control_add(id, template);
        self.conn_put(template, seen.now);
        Ok(id)
    }

    /// `ip_vs_leave`: a service, but nobody there.
    fn leave(&mut self, at: &Virtual, p: &Packet, seen: &Seen<'_>) -> Result<ConnId, Verdict> {
        let sysctl = seen.ns.sysctl();
        let unicast = seen.ns.fib().address_kind(p.h.dst) == RouteKind::Unicast;
        let by_mark = matches!(at, Virtual::Mark { .. });
        if sysctl.vs.cache_bypass != 0 && by_mark && unicast {
            let ops = self.services.get(at).is_some_and(|s| s.spec.ops);
            let born = Born {
                key: p.key(),
                dport: 0,
                template: false,
                one_packet: ops && p.h.proto == proto::UDP,
                open: 0,
            };
            let made = self.conn_new(born, None, sysctl, seen.now);
            return made.ok_or(Verdict::Drop("the connection table is full"));
        }
        if at.port() == FTP && p.dport != FTP {
            return Err(Verdict::Accept);
        }
        Err(Verdict::Unreachable(Some(*at)))
    }

    /// Whether a SYN for a connection means a new one (`is_new_conn_expected`).
    pub(super) fn reuse_expected(&self, id: ConnId, mode: i32) -> bool {
        let Some(c) = self.conns.get(id) else {
            return false;
        };
        if c.control.is_some() {
            return false;
        }
        match (c.key.proto, c.state) {
            (proto::TCP, state::tcp::TIME_WAIT | state::tcp::CLOSE) => true,
            (proto::TCP, state::tcp::FIN_WAIT) => mode & 2 != 0 && c.no_output,
            (proto::SCTP, state::sctp::CLOSED) => true,
            _ => false,
        }
    }
}

/// A mark as the kernel writes it where an address stands (`union nf_inet_addr fwmark`).
pub(super) fn mark_address(mark: u32, v6: bool) -> IpAddr {
    match v6 {
        false => Ipv4Addr::from(mark).into(),
        true => Ipv6Addr::from(u128::from(mark) << 96).into(),
    }
}
