//! The targets DNAT, SNAT, MASQUERADE, REDIRECT and NETMAP: from a rule's words to a range.
//!
//! Kernel: xt_nat.c, xt_MASQUERADE.c with nf_nat_masquerade.c, xt_REDIRECT.c with nf_nat_redirect.c,
//! xt_NETMAP.c. Invariant: a target without a connection to map does nothing.

use super::setup::{Nat, NoNat};
use super::{Manip, NatTarget};
use crate::base::DevId;
use crate::net::addr::Scope;
use crate::net::{NetNs, device::Device};
use crate::nf::ct::Dir;
use crate::nf::eval::{At, Cx};
use crate::nf::target::{Masquerade, NatRange, PortSpan, Redirect, Target};
use crate::nf::value::AddrMask;
use crate::nf::{Family, Hook};
use crate::wire::{ConnId, CtRef, Frame, IpHeader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

impl Nat<'_> {
    /// Carries a NAT target out. `Ok` accepts the packet and ends the chain, `Err` drops it; other targets
    /// are not looked at.
    pub fn target(
        &mut self,
        ns: &NetNs,
        f: &Frame,
        at: &At,
        target: &Target,
        cx: &mut Cx<'_>,
    ) -> Result<(), NoNat> {
        let CtRef::Conn { id, .. } = f.ct else {
            return Ok(());
        };
        match target {
            Target::Dnat(_) | Target::Snat(_) => match range_of(target) {
                Some((range, manip)) => self.setup(id, &range, manip, cx),
                None => Ok(()),
            },
            Target::Masquerade(m) => self.masquerade(ns, f, at, id, m, cx),
            Target::Redirect(r) => {
                let to = redirect_to(ns, f, at).ok_or(NoNat::NoDestination)?;
                self.setup(id, &redirect(r, to), Manip::Dst, cx)
            }
            Target::Netmap(n) => {
                let range = NatTarget {
                    addrs: n.to.map(|net| (net.addr, last_of(net))),
                    netmap: true,
                    ..NatTarget::default()
                };
                let manip = Manip::at(at.hook);
                self.setup(id, &netmap(&range, manip, f), manip, cx)
            }
            _ => Ok(()),
        }
    }

    /// MASQUERADE (kernel: `nf_nat_masquerade_ipv4`, `nf_nat_masquerade_ipv6`).
    fn masquerade(
        &mut self,
        ns: &NetNs,
        f: &Frame,
        at: &At,
        id: ConnId,
        m: &Masquerade,
        cx: &mut Cx<'_>,
    ) -> Result<(), NoNat> {
        let conn = self.ct.get(id).ok_or(NoNat::Mapped)?;
        // A DHCP client that has no address yet is not to be given one.
        if conn.tuple(Dir::Original).src == IpAddr::V4(Ipv4Addr::UNSPECIFIED) {
            return Ok(());
        }
        let out = at.output.ok_or(NoNat::NoSource)?;
        let ip = source(ns, f, at.family, out).ok_or(NoNat::NoSource)?;
        if let Some(c) = self.ct.get_mut(id).filter(|c| !c.is_confirmed()) {
            c.set_masq_dev(out);
        }
        let range = NatTarget {
            ports: m.ports.map(span),
            random: m.random,
            random_fully: m.random_fully,
            ..NatTarget::to(ip)
        };
        self.setup(id, &range, Manip::Src, cx)
    }
}

/// The address a packet that leaves by `out` is masqueraded with: for IPv4 one of the next hop's subnet
/// (kernel: `rt_nexthop`, `inet_select_addr`), for IPv6 what `ipv6_dev_get_saddr` picks.
fn source(ns: &NetNs, f: &Frame, family: Family, out: DevId) -> Option<IpAddr> {
    let dst = IpHeader::parse_lax(f.l3()).ok()?.dst;
    match (family, dst) {
        (Family::V4, IpAddr::V4(dst)) => {
            let towards = match f.nexthop {
                Some(IpAddr::V4(gateway)) => gateway,
                _ => dst,
            };
            let ip = ns.select_addr4(out, Some(towards), Scope::Universe)?;
            Some(IpAddr::V4(ip))
        }
        (Family::V6, IpAddr::V6(dst)) => ns.select_addr6(out, dst).map(IpAddr::V6),
        _ => None,
    }
}

/// This host, for REDIRECT: the loopback address for own packets, else the first of the input device's
/// (kernel: `nf_nat_redirect_ipv4`, `nf_nat_redirect_ipv6`).
fn redirect_to(ns: &NetNs, f: &Frame, at: &At) -> Option<IpAddr> {
    let input = match at.hook {
        Hook::Output => None,
        _ => Some(ns.dev(at.input?)?),
    };
    match (at.family, input) {
        (Family::V4, None) => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        (Family::V6, None) => Some(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        (Family::V4, Some(d)) => d.addrs4().next().map(|(_, ip)| IpAddr::V4(ip)),
        (Family::V6, Some(d)) => {
            let dst = IpHeader::parse_lax(f.l3()).ok()?.dst;
            first_of(d, Scope::of(dst)).map(IpAddr::V6)
        }
    }
}

/// The first IPv6 address of a device's list that a packet to an address of `scope` may be redirected to. The
/// list is sorted, wide scopes first, the newest of one scope in front (kernel: `ipv6_link_dev_addr`).
fn first_of(d: &Device, scope: Scope) -> Option<Ipv6Addr> {
    // A destination of global scope sets no condition (kernel: `nf_nat_redirect_ipv6_usable`).
    let usable = d
        .addrs6()
        .filter(|(a, _)| scope == Scope::Universe || Scope::of(a.ip()) == scope);
    let mut best: Option<(Scope, Ipv6Addr)> = None;
    for (a, ip) in usable {
        let s = Scope::of(a.ip());
        if best.is_none_or(|(b, _)| s <= b) {
            best = Some((s, ip));
        }
    }
    best.map(|b| b.1)
}

/// NETMAP's range narrowed to the one address that the packet's own maps to, as its header now has it
/// (kernel: `netmap_tg4`, `netmap_tg6`, `nft_nat_setup_netmap`).
pub fn netmap(range: &NatTarget, manip: Manip, f: &Frame) -> NatTarget {
    let ip = IpHeader::parse_lax(f.l3()).ok().map(|h| match manip {
        Manip::Src => h.src,
        Manip::Dst => h.dst,
    });
    let to = match (range.addrs, ip) {
        (Some((IpAddr::V4(min), IpAddr::V4(max))), Some(IpAddr::V4(ip))) if range.netmap => {
            let mask = !(min.to_bits() ^ max.to_bits());
            IpAddr::V4((ip.to_bits() & !mask | min.to_bits() & mask).into())
        }
        (Some((IpAddr::V6(min), IpAddr::V6(max))), Some(IpAddr::V6(ip))) if range.netmap => {
            let mask = !(min.to_bits() ^ max.to_bits());
            IpAddr::V6((ip.to_bits() & !mask | min.to_bits() & mask).into())
        }
        _ => return *range,
    };
    NatTarget {
        addrs: Some((to, to)),
        ..*range
    }
}

/// What DNAT or SNAT maps to, and which side (kernel: `xt_dnat_target_v2`, `xt_snat_target_v1`).
pub fn range_of(target: &Target) -> Option<(NatTarget, Manip)> {
    match target {
        Target::Dnat(d) => {
            let range = NatTarget {
                random: d.random,
                persistent: d.persistent,
                ..range(d.to)
            };
            Some((range, Manip::Dst))
        }
        Target::Snat(s) => {
            let range = NatTarget {
                random: s.random,
                random_fully: s.random_fully,
                persistent: s.persistent,
                ..range(s.to)
            };
            Some((range, Manip::Src))
        }
        _ => None,
    }
}

fn redirect(r: &Redirect, to: IpAddr) -> NatTarget {
    NatTarget {
        ports: r.ports.map(span),
        random: r.random,
        ..NatTarget::to(to)
    }
}

fn range(to: Option<NatRange>) -> NatTarget {
    NatTarget {
        addrs: to.and_then(|t| t.addrs).map(|a| (a.from, a.to)),
        ports: to.and_then(|t| t.ports).map(span),
        base: to.and_then(|t| t.base),
        ..NatTarget::default()
    }
}

fn span(p: PortSpan) -> (u16, u16) {
    (p.0.min, p.0.max)
}

/// The last address of a network; `addr ^ last` are the bits that are kept.
fn last_of(net: AddrMask) -> IpAddr {
    match (net.addr, net.mask) {
        (IpAddr::V4(a), IpAddr::V4(m)) => IpAddr::V4((a.to_bits() | !m.to_bits()).into()),
        (IpAddr::V6(a), IpAddr::V6(m)) => IpAddr::V6((a.to_bits() | !m.to_bits()).into()),
        (a, _) => a,
    }
}
