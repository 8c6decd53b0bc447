//! The choice of a mapping: addresses and ports such that replies belong to one connection only.
//!
//! Follows `get_unique_tuple` of nf_nat_core.c (6.18). Pure: the table is asked through [`Mappings`], chance
//! comes from the caller. Invariant: like the kernel's search it ends after at most 128 + 64 + ... + 8
//! attempts, and where none is free it gives the last one tried; `nf_conntrack_confirm` then drops the
//! packet, for the tuple is taken.

use super::{GRE, Manip, NatTarget, UDPLITE, addr, inverse};
use crate::base::{Rng, limits};
use crate::nf::ct::CtTuple;
use crate::wire::proto;
use std::net::IpAddr;

/// What the choice has to know of other connections.
pub trait Mappings {
    /// Whether replies with this tuple belong to another connection (kernel: `nf_conntrack_tuple_taken`).
    fn taken(&mut self, reply: &CtTuple) -> bool;

    /// The same for a connection that would keep its own tuple (kernel: `nf_nat_used_tuple_new`).
    fn taken_unchanged(&mut self, reply: &CtTuple) -> bool {
        self.taken(reply)
    }

    /// The same for one of the last attempts, which may end a connection that is closed already
    /// (kernel: `nf_nat_used_tuple_harder`).
    fn taken_after_all(&mut self, reply: &CtTuple) -> bool {
        self.taken(reply)
    }

    /// The newest connection from the same protocol, address and port whose mapping `fits`: its reply tuple
    /// (kernel: `nf_nat_bysource`).
    fn of_source(&mut self, t: &CtTuple, fits: &dyn Fn(&CtTuple) -> bool) -> Option<CtTuple>;
}

/// What is to be mapped.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// As the connection's packets leave so far: the inverse of its reply tuple.
    pub current: CtTuple,
    /// Where to.
    pub range: &'a NatTarget,
    /// Which side.
    pub manip: Manip,
    /// The connection's zone.
    pub zone: u16,
    /// Whether another connection expected it; only then has GRE a key to change.
    pub expected: bool,
    /// What is decided beforehand ([`crate::nf::forced`]); taken if it is free and the range allows it.
    pub forced: Option<(IpAddr, u16)>,
}

/// How the connection's packets will leave (kernel: `get_unique_tuple`).
pub fn choose(w: &Wish<'_>, table: &mut dyn Mappings, rng: &mut Rng) -> CtTuple {
    if let Some(t) = forced(w).filter(|t| !table.taken(&inverse(t))) {
        return t;
    }
    let draws = w.range.draws();
    if w.manip == Manip::Src && !draws {
        if in_range(&w.current, w.range) {
            if !table.taken_unchanged(&inverse(&w.current)) {
                return w.current;
            }
        } else if let Some(t) = appropriate_source(w, table)
            && !table.taken(&inverse(&t))
        {
            return t;
        }
    }
    let mut t = w.current;
    if let Some(range) = w.range.addrs {
        addr::choose(&mut t, range, w.range.persistent, w.zone, w.manip);
    }
    let keeps = match w.range.ports {
        _ if draws => false,
        // A single port is taken whether it is free or not.
        Some((min, max)) => {
            w.range.base.is_none()
                && part_in_range(&t, w.manip, (min, max))
                && (min == max || !table.taken(&inverse(&t)))
        }
        None => !table.taken(&inverse(&t)),
    };
    if !keeps {
        free_part(&mut t, w, table, rng);
    }
    t
}

/// The tuple that was decided beforehand, if the range allows it.
fn forced(w: &Wish<'_>) -> Option<CtTuple> {
    let (ip, port) = w.forced?;
    let mut t = w.current;
    if ip.is_ipv4() != t.src.is_ipv4() {
        return None;
    }
    w.manip.set_addr(&mut t, ip);
    let address = match w.range.addrs {
        Some((min, max)) => (min..=max).contains(&ip),
        None => ip == w.manip.addr(&w.current),
    };
    let key = key_of(&t, w.manip, w.expected);
    if let Some(key) = key {
        key.set_port(&mut t, port);
    }
    let ports = match (w.range.ports, key) {
        (Some(ports), _) => part_in_range(&t, w.manip, ports),
        (None, Some(Manip::Dst)) => port == w.current.dport,
        (None, _) => true,
    };
    (address && ports).then_some(t)
}

/// The mapping that the same source has already, to whatever destination (kernel: `find_appropriate_src`).
fn appropriate_source(w: &Wish<'_>, table: &mut dyn Mappings) -> Option<CtTuple> {
    let mapped = |reply: &CtTuple| CtTuple {
        dst: w.current.dst,
        dport: w.current.dport,
        ..inverse(reply)
    };
    let reply = table.of_source(&w.current, &|reply| in_range(&mapped(reply), w.range))?;
    Some(mapped(&reply))
}

/// Whether the source is one the range allows (kernel: `nf_in_range`).
fn in_range(t: &CtTuple, range: &NatTarget) -> bool {
    range.addrs.is_none_or(|(a, b)| (a..=b).contains(&t.src))
        && range.ports.is_none_or(|p| part_in_range(t, Manip::Src, p))
}

/// Whether the 16-bit part is one the range allows (kernel: `l4proto_in_range`).
fn part_in_range(t: &CtTuple, manip: Manip, (min, max): (u16, u16)) -> bool {
    let part = match t.proto {
        proto::ICMP | proto::ICMPV6 => t.sport,
        proto::TCP | proto::UDP | UDPLITE | proto::SCTP | GRE => manip.port(t),
        _ => return true,
    };
    (min..=max).contains(&part)
}

/// Where the part stands that may be changed; `None`: this protocol has none.
fn key_of(t: &CtTuple, manip: Manip, expected: bool) -> Option<Manip> {
    match t.proto {
        proto::ICMP | proto::ICMPV6 => Some(Manip::Src), // the id is one for both directions
        GRE => expected.then_some(manip),
        proto::TCP | proto::UDP | UDPLITE | proto::SCTP => Some(manip),
        _ => None,
    }
}

/// The smallest value and the number of values to choose from (kernel: `nf_nat_l4proto_unique_tuple`).
fn span(t: &CtTuple, key: Manip, w: &Wish<'_>) -> Option<(u32, u32)> {
    let ports = w.range.ports.map(|(a, b)| (u32::from(a), u32::from(b)));
    let size = |(a, b): (u32, u32)| (a, b + 1 - a);
    match (t.proto, ports) {
        (proto::ICMP | proto::ICMPV6 | GRE, Some((a, b))) if b < a => None,
        (_, Some((a, b))) => Some(size((a.min(b), a.max(b)))),
        (proto::ICMP | proto::ICMPV6, None) => Some(size((0, 65_535))),
        (GRE, None) => Some(size((1, 65_535))),
        (_, None) if w.manip == Manip::Dst => None,
        (_, None) => Some(size(match key.port(t) {
            0..512 => (1, 511), // rsh and its like tell by the port who may log in
            512..1024 => (600, 1023),
            _ => (1024, 65_535),
        })),
    }
}

/// Looks for a free part, from a random one on (kernel: `nf_nat_l4proto_unique_tuple`).
fn free_part(t: &mut CtTuple, w: &Wish<'_>, table: &mut dyn Mappings, rng: &mut Rng) {
    let Some(key) = key_of(t, w.manip, w.expected) else {
        return;
    };
    let Some((min, size)) = span(t, key, w) else {
        return;
    };
    let mut off = match w.range.base {
        Some(base) => key.port(t).wrapping_sub(base),
        None if w.range.draws() || w.manip == Manip::Src => random_u16(rng),
        None => 0,
    };
    let mut attempts = size.min(limits::NAT_ATTEMPTS_MAX);
    loop {
        for left in (1..=attempts).rev() {
            key.set_port(t, (min + u32::from(off) % size) as u16);
            let reply = inverse(t);
            let taken = match left <= limits::NAT_HARDER_ATTEMPTS {
                true => table.taken_after_all(&reply),
                false => table.taken(&reply),
            };
            if !taken {
                return;
            }
            off = off.wrapping_add(1);
        }
        if attempts >= size || attempts < 16 {
            return;
        }
        attempts /= 2;
        off = random_u16(rng);
    }
}

fn random_u16(rng: &mut Rng) -> u16 {
    rng.below(1 << 16) as u16
}
