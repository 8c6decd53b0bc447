//! `fib`: what the routing tables say of one of the packet's addresses.
//!
//! As nft_fib.c, nft_fib_ipv4.c, nft_fib_ipv6.c. Invariant: asks, changes nothing.

use super::super::expr::{Fib, FibResult};
use super::super::types::Value;
use super::load::yes;
use super::run::{Stop, Walk};
use crate::base::DevId;
use crate::net::fib::{Flow, FlowL4};
use crate::net::{DeviceKind, RouteKind, Scope};
use crate::nf::Hook;
use crate::nf::eval::chain::input;
use crate::nf::eval::packet::dsfield;
use crate::wire::Frame;
use std::net::{IpAddr, Ipv4Addr};

impl Walk<'_, '_, '_> {
    pub(super) fn fib(&self, fib: &Fib, f: &Frame) -> Result<Value, Stop> {
        let at = self.env.at;
        let dev = match (fib.iif, fib.oif) {
            (true, _) => input(at),
            (_, true) => at.output,
            _ => None,
        };
        if fib.result == FibResult::Type {
            let kind = self.fib_type(fib, dev);
            return Ok(match fib.exists {
                true => yes(kind != 0),
                false => Value::Num(kind),
            });
        }
        let found = self.fib_device(fib, dev, f);
        let name = found.map(|d| self.env.ns.dev_name(d));
        Ok(match (fib.exists, fib.result, name) {
            (true, _, name) => yes(name.is_some()),
            (_, _, Some(name)) => Value::Text(name.into(), false),
            (_, FibResult::OifName, None) => Value::Text("".into(), false),
            (_, _, None) => Value::Num(0),
        })
    }

    /// `nft_fib4_eval_type`, `nft_fib6_eval_type`: uapi rtnetlink.h `RTN_*`.
    fn fib_type(&self, fib: &Fib, dev: Option<DevId>) -> u128 {
        let p = &self.env.pkt;
        let kind = match if fib.daddr { p.dst } else { p.src } {
            IpAddr::V4(a) => self.env.type4(a, dev),
            IpAddr::V6(a) if a.is_multicast() => RouteKind::Multicast,
            // A device asked for restricts what counts as local; everything that has a route is unicast.
            IpAddr::V6(a) => {
                let ns = self.env.ns;
                let own = |d: DevId| ns.dev(d).is_some_and(|d| d.addrs6().any(|(_, x)| x == a));
                match ns.fib().address_kind(IpAddr::V6(a)) {
                    RouteKind::Local if dev.is_some_and(|d| !own(d)) => RouteKind::Unicast,
                    RouteKind::Local => RouteKind::Local,
                    kind @ (RouteKind::Anycast | RouteKind::Blackhole | RouteKind::Prohibit) => {
                        kind
                    }
                    _ => match ns.route_output(None, IpAddr::V6(a), None, 0, 0) {
                        Ok(_) => RouteKind::Unicast,
                        Err(_) => RouteKind::Unreachable,
                    },
                }
            }
        };
        match kind {
            RouteKind::Unicast => 1,
            RouteKind::Local => 2,
            RouteKind::Broadcast => 3,
            RouteKind::Anycast => 4,
            RouteKind::Multicast => 5,
            RouteKind::Blackhole => 6,
            RouteKind::Unreachable => 7,
            RouteKind::Prohibit => 8,
            RouteKind::Throw => 9,
        }
    }

    /// `nft_fib4_eval`, `nft_fib6_eval`: the device of the way to the address.
    fn fib_device(&self, fib: &Fib, dev: Option<DevId>, f: &Frame) -> Option<DevId> {
        let (at, ns, p) = (self.env.at, self.env.ns, &self.env.pkt);
        let loopback = |d: DevId| {
            let d = ns.dev(d);
            d.is_some_and(|d| matches!(d.kind, DeviceKind::Loopback))
        };
        // nft_fib_can_skip, nft_fib_is_loopback: what comes by `lo` or was looped back came from here.
        let arriving = matches!(at.hook, Hook::Prerouting | Hook::Input);
        if arriving && (f.looped || at.input.is_some_and(loopback)) {
            return at.input;
        }
        if let (IpAddr::V4(s), IpAddr::V4(d)) = (p.src, p.dst) {
            let local_group = d.octets()[..3] == [224, 0, 0];
            if s.octets()[0] == 0 && (d.is_broadcast() || local_group) {
                return input(at);
            }
        }
        let odd = |a: IpAddr| {
            a.is_multicast() || a.is_unspecified() || a == IpAddr::V4(Ipv4Addr::BROADCAST)
        };
        let (to, from) = if fib.daddr {
            (p.dst, p.src)
        } else {
            (p.src, p.dst)
        };
        let iif = match at
            .output
            .filter(|_| !fib.daddr && fib.iif && at.hook == Hook::Forward)
        {
            Some(out) => ns.dev_name(out),
            None => "lo",
        };
        let link_local = matches!(to, IpAddr::V6(a) if crate::net::addr::is_link_local(a));
        let oif = dev.filter(|_| link_local);
        let found = ns.route(&Flow {
            src: Some(from).filter(|a| !odd(*a)),
            dst: to,
            iif_name: iif,
            oif,
            oif_name: oif.map(|d| ns.dev_name(d)),
            mark: if fib.mark { f.mark } else { 0 },
            tos: dsfield(f),
            l4: FlowL4::default(),
            multipath: ns.sysctl().multipath(),
            scope: Scope::Universe,
        });
        let found = found.ok()?;
        match (found.route.kind, p.src) {
            (RouteKind::Local, _) => None,
            (RouteKind::Anycast, IpAddr::V6(_)) => None,
            _ => match dev {
                None => found.dev(),
                Some(d) => {
                    let uses = found.route.nexthops.iter().any(|n| n.dev == Some(d));
                    uses.then_some(d)
                }
            },
        }
    }
}
