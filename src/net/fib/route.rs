//! A route and its next hops (`ip route`).
//!
//! What it says only; which route wins is the table's matter. Invariant: exactly one next hop unless
//! multipath, none for blackhole and its kin.

use crate::base::{DevId, Origin};
use crate::net::addr::{Scope, network_of};
use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// What a route does with a packet (kernel: `RTN_*`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum RouteKind {
    /// Forward to a next hop.
    Unicast,
    /// Ours.
    Local,
    /// Ours, link-layer broadcast when sent.
    Broadcast,
    /// IPv6 anycast.
    Anycast,
    /// A group.
    Multicast,
    /// Drop silently.
    Blackhole,
    /// Answer host unreachable.
    Unreachable,
    /// Answer administratively prohibited.
    Prohibit,
    /// Go on with the next rule.
    Throw,
}

impl RouteKind {
    /// `ip`'s word.
    pub fn name(self) -> &'static str {
        match self {
            RouteKind::Unicast => "unicast",
            RouteKind::Local => "local",
            RouteKind::Broadcast => "broadcast",
            RouteKind::Anycast => "anycast",
            RouteKind::Multicast => "multicast",
            RouteKind::Blackhole => "blackhole",
            RouteKind::Unreachable => "unreachable",
            RouteKind::Prohibit => "prohibit",
            RouteKind::Throw => "throw",
        }
    }
}

/// Where a route leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NextHop {
    /// Output device; none for blackhole and its kin.
    pub dev: Option<DevId>,
    /// Gateway, of either family (RFC 5549 style routes exist); none for directly connected.
    pub via: Option<IpAddr>,
    /// Weight in a multipath route, from 1.
    pub weight: u32,
    /// Do not check that the gateway is reachable (`onlink`).
    pub onlink: bool,
}

/// A route of one table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// Destination prefix, host bits zero.
    pub dst: IpNetwork,
    /// TOS that must match, 0 for any.
    pub tos: u8,
    /// Metric; lower wins.
    pub metric: u32,
    /// What it does.
    pub kind: RouteKind,
    /// Reach of the destination.
    pub scope: Scope,
    /// Who installed it: the number of `/etc/iproute2/rt_protos` (2 kernel, 3 boot, 4 static, 12 bird,
    /// 80...).
    pub protocol: u8,
    /// Preferred source address.
    pub prefsrc: Option<IpAddr>,
    /// MTU metric.
    pub mtu: Option<u32>,
    /// No path MTU is learned in its place (`mtu lock`).
    pub mtu_lock: bool,
    /// Next hops; exactly one unless multipath; empty for blackhole and its kin.
    pub nexthops: Vec<NextHop>,
    /// Where it came from.
    pub origin: Origin,
}

/// `rt_protos`: kernel.
pub const PROTO_KERNEL: u8 = 2;
/// `rt_protos`: boot, what `ip route add` writes.
pub const PROTO_BOOT: u8 = 3;
/// `rt_protos`: static.
pub const PROTO_STATIC: u8 = 4;
/// `rt_protos`: bird (Calico).
pub const PROTO_BIRD: u8 = 12;

impl Route {
    /// A unicast route as `ip route add DST [via GW] dev DEV` makes it.
    pub fn unicast(
        dst: IpNetwork,
        via: Option<IpAddr>,
        dev: Option<DevId>,
        origin: Origin,
    ) -> Self {
        Route {
            dst: network_of(dst),
            tos: 0,
            metric: if dst.is_ipv6() { 1024 } else { 0 },
            kind: RouteKind::Unicast,
            scope: if via.is_some() || dst.is_ipv6() {
                Scope::Universe
            } else {
                Scope::Link
            },
            protocol: PROTO_BOOT,
            prefsrc: None,
            mtu: None,
            mtu_lock: false,
            nexthops: vec![NextHop {
                dev,
                via,
                weight: 1,
                onlink: false,
            }],
            origin,
        }
    }

    /// The same route but for who made it: a second one is refused even where several of one metric may
    /// stand (kernel: `fa_type` and `fib_info` are the same; `rt6_duplicate_nexthop`).
    pub(super) fn is_twin(&self, other: &Route) -> bool {
        let same = self.kind == other.kind && self.nexthops == other.nexthops;
        let info = |r: &Route| (r.protocol, r.scope, r.prefsrc, r.mtu, r.mtu_lock);
        same && (self.dst.is_ipv6() || info(self) == info(other))
    }

    /// Whether the route has no next hop to offer.
    pub fn is_dead_end(&self) -> bool {
        use RouteKind::*;
        matches!(self.kind, Blackhole | Unreachable | Prohibit | Throw)
    }
}
