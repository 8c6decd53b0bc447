//! OUTPUT for packets of this host's own, and their route after a change (kernel: `__ip_local_out`,
//! `ip_route_me_harder`, `ip6_route_me_harder`).

use super::OutRoute;
use crate::base::DevId;
use crate::net::RouteKind;
use crate::net::fib::{FibError, FlowL4, Found};
use crate::nf::hook::OpKind;
use crate::nf::{Hook, TableName};
use crate::path::observer::Observer;
use crate::path::output::gateway;
use crate::path::walker::{Errno, Walker};
use crate::wire::{Frame, IpHeader};
use std::net::IpAddr;

/// What of a packet decides its route, as far as one operation's changes count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Routed {
    /// Any change counts (kernel: `ipt_mangle_out`, `ip6t_mangle_out`, nft `route` chains): addresses,
    /// mark, TOS; in IPv6 hop limit and flow label too.
    Mangle(IpAddr, IpAddr, u32, [u8; 4], u8),
    /// A new destination counts (kernel: `nf_nat_ipv4_local_fn`).
    Nat(IpAddr),
}

impl Routed {
    /// What to watch while an operation runs; `None` for those that change no route.
    pub(super) fn of(kind: OpKind, f: &Frame) -> Option<Routed> {
        let mangle = match kind {
            OpKind::Table(_, TableName::Mangle) | OpKind::Nft { route: true, .. } => true,
            OpKind::Nat => false,
            _ => return None,
        };
        let h = IpHeader::parse_lax(f.l3()).ok()?;
        if !mangle {
            return Some(Routed::Nat(h.dst));
        }
        let (head, ttl) = if h.is_v4() {
            ([0, h.tos, 0, 0], 0)
        } else {
            (f.l3().first_chunk().copied().unwrap_or_default(), h.ttl)
        };
        Some(Routed::Mangle(h.src, h.dst, f.mark, head, ttl))
    }

    /// The same of a packet as it is now.
    pub(super) fn now(before: &Routed, f: &Frame) -> Routed {
        use crate::nf::Backend::Legacy;
        let kind = match before {
            Routed::Mangle(..) => OpKind::Table(Legacy, TableName::Mangle),
            Routed::Nat(_) => OpKind::Nat,
        };
        Routed::of(kind, f).unwrap_or(*before)
    }
}

impl<O: Observer> Walker<'_, O> {
    /// OUTPUT for a routed packet: as it is afterwards, with its route, and whether that is a new one;
    /// `None`: IPVS sent it.
    pub(crate) fn nf_output(
        &mut self,
        mut f: Frame,
        mut found: Found,
        oif: Option<DevId>,
    ) -> Result<Option<(Frame, Found, bool)>, Errno> {
        if self.ns.nf.is_none() {
            return Ok(Some((f, found, false)));
        }
        let out = self.out_device(&found);
        let dst = IpHeader::parse_lax(f.l3()).map(|h| h.dst);
        f.nexthop = dst.ok().and_then(|dst| gateway(&found, dst)).or(f.nexthop);
        f.rerouted = None;
        let (mut errno, mut sent) = (Errno::Perm, false);
        let mut route = OutRoute {
            found: &mut found,
            oif,
            changed: false,
            errno: &mut errno,
            sent: &mut sent,
        };
        let passed = self.nf_run(Hook::Output, f, None, out, Some(&mut route));
        let changed = route.changed;
        match passed {
            Some(f) => Ok(Some((f, found, changed))),
            None if sent => Ok(None),
            None => Err(errno),
        }
    }

    /// FORWARD for a packet whose header was `h`: both as they are afterwards, and the route, which IPVS
    /// may change.
    pub(crate) fn nf_forward(
        &mut self,
        dev: DevId,
        h: IpHeader,
        mut f: Frame,
        mut found: Found,
    ) -> Option<(IpHeader, Frame, Found)> {
        if self.ns.nf.is_none() {
            return Some((h, f, found));
        }
        let out = self.out_device(&found);
        f.nexthop = gateway(&found, h.dst);
        let (mut errno, mut sent) = (Errno::Perm, false);
        let mut route = OutRoute {
            found: &mut found,
            oif: None,
            changed: false,
            errno: &mut errno,
            sent: &mut sent,
        };
        let f = self.nf_run(Hook::Forward, f, Some(dev), out, Some(&mut route))?;
        let (h, f) = self.nf_header(Some(dev), f)?;
        Some((h, f, found))
    }

    /// OUTPUT and POSTROUTING for what the kernel sends on one link by itself (neighbour discovery, groups;
    /// kernel: `ndisc_send_skb`, `ip6_output`).
    pub(crate) fn nf_link_output(&mut self, dev: DevId, f: Frame) -> Option<Frame> {
        let f = self.nf_hook(Hook::Output, f, None, Some(dev))?;
        self.nf_hook(Hook::Postrouting, f, None, Some(dev))
    }

    /// Whether a group or everybody is spoken to from an address that no device has: `ip_route_me_harder`
    /// keeps any unicast source, and `ip_route_output_key_hash_rcu` then finds no device (`ENETUNREACH`).
    fn no_group_device(&self, h: &IpHeader, oif: Option<DevId>) -> bool {
        let IpAddr::V4(dst) = h.dst else { return false };
        oif.is_none()
            && (dst.is_multicast() || dst.is_broadcast())
            && !h.src.is_unspecified()
            && self.ns.fib.address_kind(h.src) == RouteKind::Unicast
    }

    /// Looks the route up again with what the packet is now.
    pub(super) fn nf_reroute(&mut self, r: &mut OutRoute<'_>, mut f: Frame) -> Option<Frame> {
        let h = IpHeader::parse_lax(f.l3()).ok()?;
        let l4 = FlowL4::of(&h, f.l3());
        let found = match self.no_group_device(&h, r.oif) {
            true => Err(FibError::NoRoute),
            false => self
                .ns
                .route_output_l4(Some(h.src), h.dst, r.oif, f.mark, h.tos, l4),
        };
        match found {
            Ok(found) if self.loopback_escapes(&h, &found) => {
                *r.errno = self.martian_source(&f, &h, &found);
                None
            }
            Ok(found) => {
                if let Some(dev) = found.dev() {
                    self.show_route(dev, &f, &found);
                }
                f.nexthop = gateway(&found, h.dst);
                f.rerouted = self.out_device(&found);
                *r.found = found;
                r.changed = true;
                self.copy_rerouted = self.teeing;
                Some(f)
            }
            Err(e) => {
                *r.errno = self.output_failed(&f, h.dst, &e);
                None
            }
        }
    }
}
