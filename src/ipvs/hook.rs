//! What IPVS says of a packet at its hooks (kernel: `ip_vs_in_hook`, `ip_vs_out_hook`).
//!
//! Replies are translated here and now; requests are handed to the walker as an [`Order`], which has to
//! find a route first. Invariant: a packet marked `ipvs` is never looked at twice.

use super::carried::Met;
use super::conn::{ConnId, Key};
use super::service::{DestId, Forward, Virtual};
use super::state::Way;
use super::{Ipvs, xmit};
use crate::base::Instant;
use crate::net::NetNs;
use crate::nf::Hook;
use crate::wire::{ConnId as CtId, CtRef, Frame, IpHeader, PacketType, proto};
use std::net::IpAddr;

/// Where and when a packet is seen.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The namespace, without its `ipvs`.
    pub ns: &'a NetNs,
    /// The time.
    pub now: Instant,
    /// The hook.
    pub hook: Hook,
    /// It came by the loopback device or by none.
    pub loopback: bool,
    /// Its mark.
    pub mark: u32,
}

/// How a request goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Order {
    /// The way to the real server.
    pub fwd: Forward,
    /// The real server.
    pub to: IpAddr,
    /// Its port.
    pub port: u16,
    /// The virtual address and port.
    pub virt: (IpAddr, u16),
    /// conntrack is to know of it (`IP_VS_CONN_F_NFCT`).
    pub nfct: bool,
    /// It dies with this packet.
    pub one_packet: bool,
    /// It is an ICMP error about a connection.
    pub icmp: bool,
    /// The service, where the real server is one's still.
    pub of: Option<Virtual>,
    /// The connection is new, and of so many real servers nobody knows which was next (0: it is known).
    pub open: u32,
}

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It goes on as it is.
    Accept,
    /// It was translated back: its route may be another, and conntrack is told what `Order` says.
    Translated(Order),
    /// It ends, silently.
    Drop(&'static str),
    /// Its sender is told that the port is unreachable: that of a service without anybody to take it.
    Unreachable(Option<Virtual>),
    /// It is sent to a real server.
    Send(Order),
}

/// A packet's header and ports.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub h: IpHeader,
    pub sport: u16,
    pub dport: u16,
}

impl Packet {
    /// `None`: not of a protocol that IPVS knows, or too short.
    pub(super) fn of(l3: &[u8]) -> Option<Packet> {
        let h = IpHeader::parse_lax(l3).ok()?;
        if !matches!(h.proto, proto::TCP | proto::UDP | proto::SCTP) || h.frag_off != 0 {
            return None;
        }
        let (sport, dport) = h.ports(l3)?;
        Some(Packet { h, sport, dport })
    }

    /// The key of its connection, as a request.
    pub(super) fn key(&self) -> Key {
        Key {
            proto: self.h.proto,
            caddr: self.h.src,
            cport: self.sport,
            vaddr: self.h.dst,
            vport: self.dport,
        }
    }
}

impl Ipvs {
    /// `ip_vs_in_hook`: at INPUT and OUTPUT.
    pub fn request(&mut self, f: &mut Frame, seen: &Seen<'_>) -> Verdict {
        let output = seen.hook == Hook::Output;
        if f.ipvs
            || (f.pkt_type != PacketType::Host && !output)
            || seen.ns.sysctl().vs.backup_only != 0
        {
            return Verdict::Accept;
        }
        self.met = Met::Other;
        if let Some(v) = self.request_icmp(f, seen) {
            return v;
        }
        let Some(p) = Packet::of(f.l3()) else {
            self.met = Met::Nothing;
            return Verdict::Accept;
        };
        let l4 = p.h.payload(f.l3());
        let found = self.conns.find_in(&p.key());
        let found = match self.keep(found, &p, l4, f.ct, seen) {
            Ok(found) => found,
            Err(v) => return v,
        };
        let id = match found {
            Some(id) => id,
            None => match self.try_to_schedule(&p, l4, seen) {
                Ok(id) => id,
                Err(v) => return v,
            },
        };
        self.count_in(id, p.h.total_len);
        let secure = seen.ns.sysctl().vs.secure_tcp == 3;
        let before = found.and_then(|id| self.conns.get(id)).map(|c| c.state);
        self.set_state(id, Way::In, l4, secure);
        self.met = self.meets(id, before, false);
        let mut order = self.order(id, false);
        if let Some(c) = self.conns.get_mut(id) {
            c.in_pkts += 1;
            if let Some(order) = order.as_mut().filter(|_| found.is_none()) {
                order.open = c.open;
            }
        }
        self.conn_put(id, seen.now);
        order.map_or(Verdict::Accept, Verdict::Send)
    }

    /// Whether a packet may use the connection it belongs to, or begins a new one in its place.
    fn keep(
        &mut self,
        found: Option<ConnId>,
        p: &Packet,
        l4: &[u8],
        ct: CtRef,
        seen: &Seen<'_>,
    ) -> Result<Option<ConnId>, Verdict> {
        let Some(id) = found else { return Ok(None) };
        let Some(c) = self.conns.get(id) else {
            return Ok(None);
        };
        let vs = &seen.ns.sysctl().vs;
        let old_ct = c.nfct && confirmed(seen.ns, ct);
        let (controls, dest) = (c.controls, c.dest.and_then(|d| self.dests.get(&d)));
        let quiet = dest.is_some_and(|d| d.spec.weight == 0);
        let gone = dest.is_some_and(|d| !d.available);
        let fresh = is_new(p.h.proto, l4);
        let again = if !fresh {
            false
        } else if vs.expire_nodest_conn != 0 && quiet {
            true
        } else {
            vs.conn_reuse_mode != 0
                && self.reuse_expected(id, vs.conn_reuse_mode)
                && (controls == 0 || !old_ct)
        };
        if again {
            self.let_go(id, old_ct, controls == 0, seen.now);
            return if old_ct {
                Err(Verdict::Drop("its old connection goes first"))
            } else {
                Ok(None)
            };
        }
        if !gone {
            return Ok(Some(id));
        }
        if vs.expire_nodest_conn == 0 {
            return Err(Verdict::Drop("its real server was removed"));
        }
        self.let_go(id, old_ct, true, seen.now);
        match old_ct {
            true => Err(Verdict::Drop("its real server was removed")),
            false => Ok(None),
        }
    }

    /// Unless conntrack's entry is still used, it outlives the connection.
    fn let_go(&mut self, id: ConnId, old_ct: bool, expire: bool, now: Instant) {
        if let Some(c) = self.conns.get_mut(id).filter(|_| !old_ct) {
            c.nfct = false;
        }
        if expire {
            self.expire_now(id, now);
        }
    }

    /// `ip_vs_out_hook`: at INPUT, FORWARD and OUTPUT.
    pub fn reply(&mut self, f: &mut Frame, seen: &Seen<'_>) -> Verdict {
        if f.ipvs {
            return Verdict::Accept;
        }
        self.met = Met::Other;
        if let Some(v) = self.reply_icmp(f, seen) {
            return v;
        }
        let Some(p) = Packet::of(f.l3()) else {
            self.met = Met::Nothing;
            return Verdict::Accept;
        };
        let found = self
            .conns
            .find_out(p.h.proto, p.h.src, p.sport, p.h.dst, p.dport);
        let order = found.and_then(|id| self.order(id, false).map(|o| (id, o)));
        let Some((id, order)) = order.filter(|(_, o)| o.fwd == Forward::Masq) else {
            if found.is_none() && seen.ns.sysctl().vs.nat_icmp_send == 0 {
                self.met = Met::Stranger(p.hash());
            }
            return self.stray(&p, f.l3(), seen);
        };

        if !xmit::translate_reply(f.l3_mut(), &order) {
            return Verdict::Drop("its header is cut off");
        }
        self.count_out(id, p.h.total_len);
        let secure = seen.ns.sysctl().vs.secure_tcp == 3;
        let before = self.conns.get(id).map(|c| c.state);
        self.set_state(id, Way::Out, p.h.payload(f.l3()), secure);
        self.met = self.meets(id, before, true);
        self.conn_put(id, seen.now);
        Verdict::Translated(order)
    }

    /// A real server's packet that belongs to no connection (`nat_icmp_send`).
    fn stray(&self, p: &Packet, l3: &[u8], seen: &Seen<'_>) -> Verdict {
        let l4 = p.h.payload(l3);
        let reset = match p.h.proto {
            proto::TCP => l4.get(13).is_none_or(|f| f & 4 != 0),
            proto::SCTP => l4.get(12).is_none_or(|c| *c == 6),
            _ => false,
        };
        let real = || {
            self.dests.values().any(|d| {
                let same = matches!(d.of, Virtual::Addr { proto, .. } if proto == p.h.proto);
                d.available
                    && d.spec.fwd == Forward::Masq
                    && same
                    && (d.spec.ip, d.spec.port) == (p.h.src, p.sport)
            })
        };
        match seen.ns.sysctl().vs.nat_icmp_send != 0 && !reset && real() {
            true => Verdict::Unreachable(None),
            false => Verdict::Accept,
        }
    }

    /// What the walker has to know of a connection.
    pub(super) fn order(&self, id: ConnId, icmp: bool) -> Option<Order> {
        let c = self.conns.get(id)?;
        Some(Order {
            fwd: c.fwd,
            to: c.daddr,
            port: c.dport,
            virt: (c.key.vaddr, c.key.vport),
            nfct: c.nfct,
            one_packet: c.one_packet,
            icmp,
            of: c.dest.and_then(|d| self.dests.get(&d)).map(|d| d.of),
            open: 0,
        })
    }

    fn counted(&mut self, id: ConnId, count: impl Fn(&mut super::stats::Stats)) {
        let dest: Option<DestId> = self.conns.get(id).and_then(|c| c.dest);
        if let Some(dest) = dest {
            self.counted_at(dest, count);
        }
    }

    pub(super) fn counted_at(&mut self, dest: DestId, count: impl Fn(&mut super::stats::Stats)) {
        let Some(d) = self.dests.get_mut(&dest) else {
            return;
        };
        if !d.available {
            return;
        }
        count(&mut d.stats);
        if let Some(s) = self.services.get_mut(&d.of) {
            count(&mut s.stats);
        }
        count(&mut self.total);
    }

    pub(super) fn count_in(&mut self, id: ConnId, bytes: usize) {
        self.counted(id, |s| s.packet_in(bytes));
    }

    pub(super) fn count_out(&mut self, id: ConnId, bytes: usize) {
        self.counted(id, |s| s.packet_out(bytes));
    }
}

/// A SYN or an INIT (`is_new_conn`).
fn is_new(p: u8, l4: &[u8]) -> bool {
    match p {
        proto::TCP => l4.get(13).is_some_and(|f| f & 2 != 0),
        proto::SCTP => l4.get(12) == Some(&1),
        _ => false,
    }
}

/// Whether conntrack knows the packet's connection since an earlier one (`nf_ct_is_confirmed`).
fn confirmed(ns: &NetNs, ct: CtRef) -> bool {
    let CtRef::Conn { id, .. } = ct else {
        return false;
    };
    let id: CtId = id;
    let conn = ns.nf().and_then(|nf| nf.ct.get(id));
    conn.is_some_and(crate::nf::ct::Conn::is_confirmed)
}
