//! `ip addr`, and what comes and goes with a device's addresses and its state: local, connected, broadcast
//! and anycast routes, link-local addresses, flushes.
//!
//! Kernel: `net/ipv4/devinet.c`, `fib_frontend.c` (`fib_add_ifaddr`, `fib_del_ifaddr`, `fib_disable_ip`),
//! `net/ipv6/addrconf.c`, `anycast.c`. Duplicate address detection is not modelled: addresses are used at
//! once.

use super::{Edit, EditError};
use crate::base::{DevId, Origin};
use crate::net::addr::{IfAddr, Scope, host_net};
use crate::net::device::{Device, DeviceKind};
use crate::net::fib::{AddMode, PROTO_KERNEL, Route, RouteKind, table};
use crate::nf::nat::masquerade;
use ipnetwork::IpNetwork;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

impl Edit<'_> {
    /// `lo` brings its addresses itself (kernel: `inetdev_event`, `init_loopback`).
    pub(super) fn loopback_addresses(&mut self, lo: DevId) -> Result<(), EditError> {
        let v4 = IpNetwork::new(Ipv4Addr::LOCALHOST.into(), 8);
        let v6 = (self.known(lo)?.conf6.disable_ipv6 == 0)
            .then(|| IpNetwork::from(IpAddr::V6(Ipv6Addr::LOCALHOST)));
        for net in v4.ok().into_iter().chain(v6) {
            if !self.known(lo)?.addrs.iter().any(|a| a.net == net) {
                let d = self.known_mut(lo)?;
                d.addrs.push(IfAddr::new(net, Origin::Kernel));
            }
        }
        Ok(())
    }

    /// A device that is up and has carrier gets its IPv6 link-local address and group route. Bridge ports
    /// too: the kernel leaves out only `IFF_SLAVE`, which they do not carry (`addrconf_notify`).
    pub(super) fn came_up(&mut self, dev: DevId) {
        let Some(d) = self.ns.dev(dev) else { return };
        if !d.is_running() || d.conf6.disable_ipv6 != 0 || self.ns.sysctl.all6.disable_ipv6 != 0 {
            return;
        }
        if matches!(d.kind, DeviceKind::Loopback) || d.is_layer3() {
            return;
        }
        let wants = d.link_local().is_none() && d.conf6.addr_gen_mode == 0;
        let ll = IpNetwork::new(IpAddr::V6(d.mac.link_local()), 64);
        if let Ok(groups) = IpNetwork::new(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0).into(), 8) {
            let mut r = Route::unicast(groups, None, Some(dev), Origin::Kernel);
            (r.kind, r.metric, r.protocol) = (RouteKind::Multicast, 256, PROTO_KERNEL);
            let _ = self.ns.fib.add(table::LOCAL, r, AddMode::Append);
        }
        if wants && let Ok(net) = ll {
            let _ = self.addr_add(dev, IfAddr::new(net, Origin::Kernel));
        }
    }

    /// Down: routes through it, learned neighbours, FDB entries and IPv6 addresses go
    /// (kernel: `fib_disable_ip`, `neigh_ifdown`, `addrconf_ifdown`).
    pub(super) fn went_down(&mut self, dev: DevId) {
        // IPv4 addresses stay ours, so their local routes stay; everything else through the device goes.
        self.ns.fib.retain(&|t, r| {
            let through = r.nexthops.len() == 1 && r.nexthops[0].dev == Some(dev);
            let own = t == table::LOCAL && r.kind == RouteKind::Local && r.dst.is_ipv4();
            !through || own
        });
        self.ns.neigh.forget(dev, None);
        let mut master = None;
        if let Some(d) = self.ns.dev_mut(dev) {
            d.addrs.retain(|a| a.net.is_ipv4());
            master = d.master.as_ref().map(|m| m.0);
        }
        if let Some(b) = master
            .and_then(|m| self.ns.dev_mut(m))
            .and_then(Device::bridge_mut)
        {
            b.fdb.flush_port(dev, false);
        }
    }

    /// `ip addr add`, with the local, broadcast and connected routes it brings.
    pub fn addr_add(&mut self, dev: DevId, mut addr: IfAddr) -> Result<(), EditError> {
        let d = self.known_mut(dev)?;
        if d.addrs.iter().any(|a| a.net == addr.net) {
            return Err(EditError::AddrExists(addr.net));
        }
        addr.secondary = addr.net.is_ipv4()
            && d.addrs
                .iter()
                .any(|a| a.net.is_ipv4() && a.subnet() == addr.subnet() && !a.secondary);
        // `inet_insert_ifa`: primaries of one scope stay in front of secondaries; IPv6 keeps the newest first
        // within its scope when listed, which `show` arranges.
        d.addrs.push(addr.clone());
        let up = d.up;
        // IPv6: without ARP duplicate detection is over at once, up or not (`addrconf_dad_begin`,
        // `__ipv6_ifa_notify`).
        let no_arp = matches!(d.kind, DeviceKind::Dummy);
        if up || addr.net.is_ipv4() || no_arp {
            self.local_route(dev, &addr);
        }
        if up {
            self.connected_routes(dev, &addr);
        }
        Ok(())
    }

    /// The address whose routes' source is: its subnet's primary for a secondary
    /// (kernel: `fib_add_ifaddr`, `inet_ifa_byprefix`).
    fn primary(&self, dev: DevId, addr: &IfAddr) -> IpAddr {
        let primary = self
            .ns
            .dev(dev)
            .filter(|_| addr.secondary)
            .and_then(|d| primary_of(&d.addrs, addr));
        primary.map_or(addr.ip(), IfAddr::ip)
    }

    fn kernel_route(&self, dev: DevId, addr: &IfAddr, dst: IpNetwork, kind: RouteKind) -> Route {
        let mut r = Route::unicast(dst, None, Some(dev), addr.origin.clone());
        (r.kind, r.protocol, r.metric) = (kind, PROTO_KERNEL, 0);
        r.scope = match kind {
            _ if dst.is_ipv6() => Scope::Universe,
            RouteKind::Local => Scope::Host,
            _ => Scope::Link,
        };
        r.prefsrc = addr.net.is_ipv4().then(|| self.primary(dev, addr));
        r
    }

    /// Kernel routes are appended; one that is there already stays the only one of its kind
    /// (kernel: `fib_magic`, `ip6_ins_rt`).
    fn add_kernel_route(&mut self, table: u32, r: Route) {
        let _ = self.ns.fib.add(table, r, AddMode::Append);
    }

    fn local_route(&mut self, dev: DevId, addr: &IfAddr) {
        let mut r = self.kernel_route(dev, addr, host_net(addr.ip()), RouteKind::Local);
        r.scope = Scope::Host;
        self.add_kernel_route(table::LOCAL, r);
    }

    /// Routes that an address of an up device makes (kernel: `fib_add_ifaddr`, `addrconf_prefix_route`).
    pub(super) fn connected_routes(&mut self, dev: DevId, addr: &IfAddr) {
        self.local_route(dev, addr);
        let Some(d) = self.ns.dev(dev) else { return };
        let lo = matches!(d.kind, DeviceKind::Loopback);
        let forwards = d.conf6.forwarding != 0;
        let net = addr.subnet();
        match net {
            IpNetwork::V4(n) => {
                let broadcast = |to: Ipv4Addr| {
                    self.kernel_route(dev, addr, host_net(to.into()), RouteKind::Broadcast)
                };
                let own = addr.broadcast.filter(|b| *b != Ipv4Addr::BROADCAST);
                let own = own.map(broadcast);
                let whole = (n.prefix() < 31).then(|| broadcast(n.broadcast()));
                let kind = if lo {
                    RouteKind::Local
                } else {
                    RouteKind::Unicast
                };
                let connected = self.kernel_route(dev, addr, net, kind);
                own.into_iter()
                    .for_each(|r| self.add_kernel_route(table::LOCAL, r));
                if addr.secondary || n.prefix() == 32 && addr.peer.is_none() {
                    return;
                }
                let t = if lo { table::LOCAL } else { table::MAIN };
                self.add_kernel_route(t, connected);
                whole
                    .into_iter()
                    .for_each(|r| self.add_kernel_route(table::LOCAL, r));
            }
            IpNetwork::V6(n) => {
                if n.prefix() == 128 && lo {
                    return;
                }
                let mut r = self.kernel_route(dev, addr, net, RouteKind::Unicast);
                r.metric = 256;
                self.add_kernel_route(table::MAIN, r);
                if forwards {
                    self.join_anycast(dev, addr);
                }
            }
        }
    }

    /// The subnet-router anycast address, the one with all host bits zero (RFC 4291 section 2.6.1; kernel:
    /// `addrconf_join_anycast`).
    fn join_anycast(&mut self, dev: DevId, addr: &IfAddr) {
        if let Some(dst) = anycast_of(addr) {
            let r = self.kernel_route(dev, addr, dst, RouteKind::Anycast);
            self.add_kernel_route(table::LOCAL, r);
        }
    }

    /// A device begins or ceases to forward IPv6 (kernel: `dev_forward_change`).
    pub(super) fn forwarding6_changed(&mut self, dev: DevId) {
        let Some(d) = self.ns.dev(dev) else { return };
        if d.conf6.forwarding == 0 {
            self.ns.fib.retain(&|_, r| {
                let here = r.nexthops.iter().any(|n| n.dev == Some(dev));
                !(here && r.kind == RouteKind::Anycast && r.protocol == PROTO_KERNEL)
            });
        } else if d.up {
            let addrs = d.addrs.clone();
            addrs.iter().for_each(|a| self.join_anycast(dev, a));
        }
    }

    /// `ip addr del`.
    pub fn addr_del(&mut self, dev: DevId, net: IpNetwork) -> Result<(), EditError> {
        let d = self.known_mut(dev)?;
        let at = d
            .addrs
            .iter()
            .position(|a| a.net == net)
            .ok_or(EditError::NoAddr(net))?;
        let mut gone = vec![d.addrs.remove(at)];
        // Deleting a primary deletes its secondaries (promote_secondaries=0).
        if let Some(primary) = gone
            .first()
            .filter(|g| !g.secondary && net.is_ipv4())
            .cloned()
        {
            let follows = |a: &IfAddr| a.secondary && a.subnet() == primary.subnet();
            gone.extend(d.addrs.iter().filter(|a| follows(a)).cloned());
            d.addrs.retain(|a| !follows(a));
        }
        let rest = d.addrs.clone();
        let mut prim = gone.iter().find(|a| !a.secondary).map(IfAddr::ip);
        for a in &gone {
            prim = prim.or_else(|| primary_of(&rest, a).map(IfAddr::ip));
            self.forget_routes(dev, a, prim.unwrap_or(a.ip()), &rest);
            if let Some(nf) = self.ns.nf.as_deref_mut() {
                masquerade::address_removed(&mut nf.ct, dev, a.ip());
            }
        }
        if net.is_ipv4() && !rest.iter().any(|a| a.net.is_ipv4()) {
            self.disable_ipv4(dev);
        }
        Ok(())
    }

    /// The routes that an address made, unless another address of the device makes the same, and those of the
    /// main table that name it as their source (kernel: `fib_del_ifaddr`, `fib_sync_down_addr`; IPv6 routes
    /// only lose their source: `rt6_remove_prefsrc`).
    fn forget_routes(&mut self, dev: DevId, gone: &IfAddr, primary: IpAddr, rest: &[IfAddr]) {
        let (ip, sub, v4) = (gone.ip(), gone.subnet(), gone.net.is_ipv4());
        let mut made = Vec::new();
        let still_here = rest.iter().any(|a| a.ip() == ip);
        if !still_here {
            made.push((table::LOCAL, host_net(ip)));
        }
        let shared = rest
            .iter()
            .any(|a| a.subnet() == sub && (!v4 || gone.secondary));
        if !shared {
            made.extend([(table::MAIN, sub), (table::LOCAL, sub)]);
            made.extend(anycast_of(gone).map(|n| (table::LOCAL, n)));
        }
        if let IpNetwork::V4(n) = sub {
            let whole = (!shared).then(|| n.broadcast());
            let kept = |b: &Ipv4Addr| rest.iter().any(|a| a.broadcast == Some(*b));
            let both = whole.into_iter().chain(gone.broadcast).filter(|b| !kept(b));
            made.extend(both.map(|b| (table::LOCAL, host_net(b.into()))));
        }
        self.ns.fib.retain(&|t, r| {
            let on_dev = r.nexthops.iter().any(|n| n.dev == Some(dev));
            let its = v4.then_some(primary) == r.prefsrc && r.protocol == PROTO_KERNEL;
            let sourced = v4 && !still_here && t == table::MAIN && r.prefsrc == Some(ip);
            !(on_dev && its && made.contains(&(t, r.dst)) || sourced)
        });
        if !v4 && !self.ns.is_local(ip) {
            self.ns.fib.forget_source(ip);
        }
    }

    /// The last IPv4 address of a device is gone: so are its IPv4 neighbours, permanent ones too, and what
    /// led through it (kernel: `fib_disable_ip`, `arp_ifdown`).
    fn disable_ipv4(&mut self, dev: DevId) {
        self.ns.fib.retain(&|_, r| {
            let through = |n: &crate::net::NextHop| n.dev == Some(dev);
            let all = !r.nexthops.is_empty() && r.nexthops.iter().all(through);
            !(r.dst.is_ipv4() && all)
        });
        self.ns.neigh.forget(dev, Some(true));
    }
}

/// The primary address of a secondary's subnet.
fn primary_of<'a>(addrs: &'a [IfAddr], of: &IfAddr) -> Option<&'a IfAddr> {
    let same = |a: &&IfAddr| a.net.is_ipv4() && !a.secondary && a.subnet() == of.subnet();
    addrs.iter().find(same)
}

/// The subnet-router anycast address of an address's subnet, if it has one: not of /127 and /128.
fn anycast_of(addr: &IfAddr) -> Option<IpNetwork> {
    let net = addr.net.network();
    let has = net.is_ipv6() && addr.net.prefix() < 127 && !net.is_unspecified();
    has.then(|| host_net(net))
}
