//! `ip route` and `ip rule`.
//!
//! Checks next hops as the kernel does before a route enters its table (`fib_check_nh`,
//! `ip6_route_info_create`); the tables themselves are `net::fib`'s.

use super::{Edit, EditError};
use crate::base::DevId;
use crate::net::addr::{Scope, is_link_local, network_of};
use crate::net::fib::{AddMode, FibEditError, NextHop, PolicyRule, Route, RouteKind};
use ipnetwork::IpNetwork;
use std::net::IpAddr;

impl Edit<'_> {
    /// `ip route add|replace|append`, with the device looked up from the gateway where it is not given.
    pub fn route_add(&mut self, id: u32, mut route: Route, mode: AddMode) -> Result<(), EditError> {
        if route.is_dead_end() && !route.nexthops.is_empty() {
            // IPv4: `fib_create_info`. IPv6 leads to `lo` whatever is named (`ip6_route_info_create`).
            if route.dst.is_ipv4() {
                return Err(FibEditError::DeadEndHop.into());
            }
            route.nexthops.clear();
        }
        for i in 0..route.nexthops.len() {
            let n = route.nexthops[i].clone();
            let dev = self.check_nexthop(&n)?;
            route.nexthops[i].dev = dev;
        }
        self.ns.fib.add(id, route, mode)?;
        Ok(())
    }

    /// A gateway must be on a connected network unless `onlink` (kernel: `fib_check_nh`).
    pub(super) fn check_nexthop(&self, n: &NextHop) -> Result<Option<DevId>, EditError> {
        if let Some(d) = n.dev {
            self.known(d)?;
        }
        let Some(via) = n.via.filter(|_| !n.onlink) else {
            return if n.dev.is_some() {
                Ok(n.dev)
            } else {
                Err(FibEditError::NoDevice.into())
            };
        };
        let link_local = matches!(via, IpAddr::V6(a) if is_link_local(a));
        if link_local && n.dev.is_some() {
            return Ok(n.dev);
        }
        let found = self
            .ns
            .route_output(None, via, n.dev, 0, 0)
            .map_err(|_| FibEditError::BadGateway)?;
        // The host's own address is a valid gateway too (kernel: `fib_check_nh_v4_gw`, RTN_LOCAL).
        let direct = found.nexthop().is_some_and(|h| h.via.is_none())
            && matches!(found.route.kind, RouteKind::Unicast | RouteKind::Local);
        if !direct || via.is_ipv4() && found.route.scope < Scope::Link {
            return Err(FibEditError::BadGateway.into());
        }
        Ok(found.dev())
    }

    /// `ip route del`: the first route of that prefix for which `which` holds.
    pub fn route_del(
        &mut self,
        id: u32,
        dst: IpNetwork,
        which: &dyn Fn(&Route) -> bool,
    ) -> Result<(), EditError> {
        self.ns.fib.remove(id, network_of(dst), which)?;
        Ok(())
    }

    /// `ip route flush`: every route for which `which` holds.
    pub fn route_flush(&mut self, which: &dyn Fn(u32, &Route) -> bool) {
        self.ns.fib.retain(&|t, r| !which(t, r));
    }

    /// `ip rule add`.
    pub fn rule_add(&mut self, v4: bool, rule: PolicyRule) {
        self.ns.fib.add_rule(v4, rule);
    }

    /// `ip rule del`: the first rule for which `which` holds.
    pub fn rule_del(
        &mut self,
        v4: bool,
        which: &dyn Fn(&PolicyRule) -> bool,
    ) -> Result<(), EditError> {
        let rules = self.ns.fib.rules_mut(v4);
        let at = rules.iter().position(which).ok_or(EditError::Missing)?;
        rules.remove(at);
        Ok(())
    }
}
