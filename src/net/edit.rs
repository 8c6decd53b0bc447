//! Configuration of a namespace: what `ip`, `bridge` and `sysctl -w` do, with the kernel's side effects
//! (connected routes, link-local addresses, a bridge's own MAC and MTU, flushes when a link goes down).
//!
//! The only way to change configuration; dropping the guard makes a new epoch.
//! Text commands are parsed elsewhere (`import::ipcmd`); here are their effects.

use crate::base::{DevId, Instant, Origin};
use crate::net::addr::{IfAddr, Scope, host_net, network_of};
use crate::net::bridge::{BridgePort, FdbEntry};
use crate::net::device::{DevStats, Device, DeviceKind, PortAt, VxlanDst};
use crate::net::fib::{
    AddMode, FibEditError, NextHop, PROTO_KERNEL, PolicyRule, Route, RouteKind, table,
};
use crate::net::neigh::NudState;
use crate::net::netns::NetNs;
use crate::net::sysctl::{SetSysctl, SysctlError, SysctlKey, parse_value, set_conf};
use crate::wire::MacAddr;
use ipnetwork::{IpNetwork, Ipv6Network};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A device to be made.
#[derive(Clone, Debug)]
pub struct LinkSpec {
    /// Its name, at most 15 bytes.
    pub name: String,
    /// What it is.
    pub kind: DeviceKind,
    /// Link address.
    pub mac: MacAddr,
    /// MTU; the kind's default when `None`.
    pub mtu: Option<u32>,
    /// Who makes it.
    pub origin: Origin,
}

/// Why a change was refused; the words are the kernel's or `ip`'s.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EditError {
    /// A device of that name is there.
    #[error("device {0:?}: File exists")]
    LinkExists(String),
    /// There is no such device.
    #[error("Cannot find device {0:?}")]
    NoDevice(String),
    /// The name is empty or longer than 15 bytes.
    #[error("{0:?} is not a valid device name (1 to 15 bytes, no slash or space)")]
    BadName(String),
    /// The MTU is outside what the kind permits.
    #[error("mtu {0} is out of range for this device")]
    BadMtu(u32),
    /// The address is there.
    #[error("address {0}: File exists")]
    AddrExists(IpNetwork),
    /// The address is not there.
    #[error("address {0}: Cannot assign requested address")]
    NoAddr(IpNetwork),
    /// The device is not of the kind the change needs.
    #[error("{0:?} is not a {1}")]
    WrongKind(String, &'static str),
    /// A route or rule change was refused.
    #[error(transparent)]
    Fib(#[from] FibEditError),
    /// The entry is not there.
    #[error("No such file or directory")]
    Missing,
    /// A sysctl was refused.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
}

/// A namespace open for configuration.
pub struct Edit<'a> {
    ns: &'a mut NetNs,
}

impl Drop for Edit<'_> {
    fn drop(&mut self) {
        self.ns.epoch += 1;
    }
}

impl std::ops::Deref for Edit<'_> {
    type Target = NetNs;
    fn deref(&self) -> &NetNs {
        self.ns
    }
}

impl<'a> Edit<'a> {
    pub(crate) fn new(ns: &'a mut NetNs) -> Self {
        Edit { ns }
    }

    pub(crate) fn add_loopback(&mut self) {
        let id = self.push_device(
            "lo",
            DeviceKind::Loopback,
            MacAddr::ZERO,
            65_536,
            Origin::Kernel,
        );
        if let Some(d) = self.ns.dev_mut(id) {
            d.carrier = true;
        }
    }

    fn push_device(
        &mut self,
        name: &str,
        kind: DeviceKind,
        mac: MacAddr,
        mtu: u32,
        origin: Origin,
    ) -> DevId {
        let id = DevId(self.ns.devices.len() as u32 + 1);
        let carrier = !matches!(kind, DeviceKind::Veth | DeviceKind::Bridge(_));
        self.ns.devices.push(Some(Device {
            id,
            name: name.to_owned(),
            mac,
            mtu,
            up: false,
            carrier,
            promisc: false,
            kind,
            master: None,
            peer: None,
            addrs: Vec::new(),
            conf4: self.ns.sysctl.default4,
            conf6: self.ns.sysctl.default6,
            parms4: self.ns.sysctl.neigh4,
            parms6: self.ns.sysctl.neigh6,
            stats: DevStats::default(),
            origin,
        }));
        id
    }

    fn known(&self, dev: DevId) -> Result<&Device, EditError> {
        self.ns
            .dev(dev)
            .ok_or_else(|| EditError::NoDevice(format!("#{}", dev.0)))
    }

    fn known_mut(&mut self, dev: DevId) -> Result<&mut Device, EditError> {
        self.ns
            .dev_mut(dev)
            .ok_or_else(|| EditError::NoDevice(format!("#{}", dev.0)))
    }

    /// The device of that name.
    pub fn find(&self, name: &str) -> Result<DevId, EditError> {
        self.ns
            .dev_by_name(name)
            .map(|d| d.id)
            .ok_or_else(|| EditError::NoDevice(name.to_owned()))
    }

    /// `ip link add`. The device is down.
    pub fn link_add(&mut self, spec: LinkSpec) -> Result<DevId, EditError> {
        let n = &spec.name;
        if n.is_empty() || n.len() > 15 || n.contains(['/', ' ']) || n == "." || n == ".." {
            return Err(EditError::BadName(spec.name));
        }
        if self.ns.dev_by_name(n).is_some() {
            return Err(EditError::LinkExists(spec.name));
        }
        let default = match &spec.kind {
            DeviceKind::Loopback => 65_536,
            DeviceKind::Vxlan(v) => {
                v.lower.and_then(|l| self.ns.dev(l)).map_or(1500, |l| l.mtu) - 50
            }
            DeviceKind::Ipip(_) => 1480,
            _ => 1500,
        };
        let mtu = spec.mtu.unwrap_or(default);
        let id = self.push_device(&spec.name, spec.kind, spec.mac, default, spec.origin);
        self.own_fdb_entry(id, spec.mac);
        if spec.mtu.is_some() {
            self.set_mtu(id, mtu).inspect_err(|_| {
                self.ns.devices.pop();
            })?;
        }
        Ok(id)
    }

    /// A bridge's own address is a local entry of its FDB.
    fn own_fdb_entry(&mut self, id: DevId, mac: MacAddr) {
        let Some(b) = self.ns.dev_mut(id).and_then(Device::bridge_mut) else {
            return;
        };
        b.fdb.flush_port(id, true);
        let e = FdbEntry {
            port: id,
            local: true,
            is_static: true,
            updated: Instant::ZERO,
        };
        b.fdb.put(0, mac, e);
    }

    /// `ip link del`.
    pub fn link_del(&mut self, dev: DevId) -> Result<(), EditError> {
        self.known(dev)?;
        self.set_up(dev, false)?;
        self.set_master(dev, None)?;
        let ports: Vec<DevId> = self
            .known(dev)?
            .bridge()
            .map(|b| b.ports.clone())
            .unwrap_or_default();
        for p in ports {
            self.set_master(p, None)?;
        }
        self.ns.neigh.flush(dev, true);
        self.ns
            .fib
            .retain(&|_, r| !r.nexthops.iter().any(|n| n.dev == Some(dev)));
        if let Some(slot) = self.ns.devices.get_mut(dev.0 as usize - 1) {
            *slot = None;
        }
        Ok(())
    }

    /// `ip link set DEV up|down`, with the routes and addresses that come and go with it.
    pub fn set_up(&mut self, dev: DevId, up: bool) -> Result<(), EditError> {
        let d = self.known_mut(dev)?;
        if d.up == up {
            return Ok(());
        }
        d.up = up;
        let lo = matches!(d.kind, DeviceKind::Loopback);
        if up {
            if lo {
                self.loopback_addresses(dev)?;
            }
            let addrs = self.known(dev)?.addrs.clone();
            addrs.iter().for_each(|a| self.connected_routes(dev, a));
            self.came_up(dev);
        } else {
            self.went_down(dev);
        }
        self.refresh_master_carrier(dev);
        Ok(())
    }

    /// `lo` brings its addresses itself (kernel: `inetdev_event`, `init_loopback`).
    fn loopback_addresses(&mut self, lo: DevId) -> Result<(), EditError> {
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

    /// A device that is up and has carrier gets its IPv6 link-local address and group route.
    fn came_up(&mut self, dev: DevId) {
        let Some(d) = self.ns.dev(dev) else { return };
        let port = d.master.is_some();
        if !d.is_running() || d.conf6.disable_ipv6 != 0 || self.ns.sysctl.all6.disable_ipv6 != 0 {
            return;
        }
        if matches!(d.kind, DeviceKind::Loopback) || d.is_layer3() {
            return;
        }
        let (ll, have) = (d.mac.link_local(), d.link_local().is_some());
        let any = IpNetwork::V6(
            Ipv6Network::new(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8).unwrap_or(v6_any()),
        );
        let mut r = Route::unicast(any, None, Some(dev), Origin::Kernel);
        (r.kind, r.metric, r.protocol) = (RouteKind::Multicast, 256, PROTO_KERNEL);
        let _ = self.ns.fib.add(table::LOCAL, r, AddMode::Append);
        if !have
            && !port
            && d_addr_gen(self.ns.dev(dev)) == 0
            && let Ok(net) = IpNetwork::new(IpAddr::V6(ll), 64)
        {
            let _ = self.addr_add(dev, IfAddr::new(net, Origin::Kernel));
        }
    }

    /// Down: routes through it, learned neighbours, FDB entries and IPv6 addresses go
    /// (kernel: `fib_disable_ip`, `neigh_ifdown`, `addrconf_ifdown`).
    fn went_down(&mut self, dev: DevId) {
        // IPv4 addresses stay ours, so their local routes stay; everything else through the device goes.
        self.ns.fib.retain(&|t, r| {
            let through = r.nexthops.len() == 1 && r.nexthops[0].dev == Some(dev);
            let own = t == table::LOCAL && r.kind == RouteKind::Local && r.dst.is_ipv4();
            !through || own
        });
        self.ns.neigh.flush(dev, true);
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

    /// Whether the other end is there: set by whoever knows both ends.
    pub fn set_carrier(&mut self, dev: DevId, carrier: bool) -> Result<(), EditError> {
        let d = self.known_mut(dev)?;
        if d.carrier != carrier {
            d.carrier = carrier;
            if carrier {
                self.came_up(dev);
            } else {
                // kernel: neigh_carrier_down
                self.ns.neigh.flush(dev, false);
            }
            self.refresh_master_carrier(dev);
        }
        Ok(())
    }

    /// A bridge has carrier while one of its ports has.
    fn refresh_master_carrier(&mut self, port: DevId) {
        let Some(master) = self
            .ns
            .dev(port)
            .and_then(|d| d.master.as_ref())
            .map(|m| m.0)
        else {
            return;
        };
        self.refresh_bridge(master);
    }

    fn refresh_bridge(&mut self, bridge: DevId) {
        let Some(b) = self.ns.dev(bridge).and_then(Device::bridge) else {
            return;
        };
        let ports: Vec<&Device> = b.ports.iter().filter_map(|p| self.ns.dev(*p)).collect();
        let carrier = ports.iter().any(|p| p.is_running());
        let mtu = (!b.mtu_set)
            .then(|| ports.iter().map(|p| p.mtu).min())
            .flatten();
        let mac = (!b.mac_set)
            .then(|| ports.iter().map(|p| p.mac).min())
            .flatten();
        if let Some(mtu) = mtu
            && let Some(d) = self.ns.dev_mut(bridge)
        {
            d.mtu = mtu;
        }
        if let Some(mac) = mac {
            self.apply_mac(bridge, mac);
        }
        let _ = self.set_carrier(bridge, carrier);
    }

    /// Tells a device where its cable ends.
    pub fn set_peer(&mut self, dev: DevId, peer: Option<PortAt>) -> Result<(), EditError> {
        self.known_mut(dev)?.peer = peer;
        Ok(())
    }

    /// `ip link set DEV name NAME`.
    pub fn rename(&mut self, dev: DevId, name: &str) -> Result<(), EditError> {
        if self.ns.dev_by_name(name).is_some() {
            return Err(EditError::LinkExists(name.to_owned()));
        }
        self.known_mut(dev)?.name = name.to_owned();
        Ok(())
    }

    /// `ip link set DEV promisc on|off`.
    pub fn set_promisc(&mut self, dev: DevId, on: bool) -> Result<(), EditError> {
        self.known_mut(dev)?.promisc = on;
        Ok(())
    }

    /// `ip link set DEV mtu N`. A VXLAN device cannot exceed its lower device less 50 (IPv4) or 70 bytes.
    pub fn set_mtu(&mut self, dev: DevId, mtu: u32) -> Result<(), EditError> {
        let d = self.known(dev)?;
        let max = match &d.kind {
            DeviceKind::Vxlan(v) => {
                let over = if matches!(v.local, Some(IpAddr::V6(_))) {
                    70
                } else {
                    50
                };
                v.lower
                    .and_then(|l| self.ns.dev(l))
                    .map_or(65_535, |l| l.mtu)
                    - over
            }
            DeviceKind::Ipip(_) => 65_535 - 20,
            DeviceKind::Loopback => u32::MAX,
            _ => 65_535,
        };
        if mtu < 68 || mtu > max {
            return Err(EditError::BadMtu(mtu));
        }
        let d = self.known_mut(dev)?;
        d.mtu = mtu;
        if let Some(b) = d.bridge_mut() {
            b.mtu_set = true;
        }
        self.refresh_master_carrier(dev);
        Ok(())
    }

    /// `ip link set DEV address MAC`.
    pub fn set_mac(&mut self, dev: DevId, mac: MacAddr) -> Result<(), EditError> {
        self.known(dev)?;
        self.apply_mac(dev, mac);
        let d = self.known_mut(dev)?;
        if let Some(b) = d.bridge_mut() {
            b.mac_set = true;
        }
        if let Some((master, _)) = self.known(dev)?.master.clone() {
            self.port_fdb_entry(master, dev, mac);
            self.refresh_bridge(master);
        }
        Ok(())
    }

    fn apply_mac(&mut self, dev: DevId, mac: MacAddr) {
        if let Some(d) = self.ns.dev_mut(dev) {
            d.mac = mac;
        }
        self.own_fdb_entry(dev, mac);
    }

    fn port_fdb_entry(&mut self, bridge: DevId, port: DevId, mac: MacAddr) {
        let Some(b) = self.ns.dev_mut(bridge).and_then(Device::bridge_mut) else {
            return;
        };
        b.fdb.flush_port(port, true);
        let e = FdbEntry {
            port,
            local: true,
            is_static: true,
            updated: Instant::ZERO,
        };
        b.fdb.put(0, mac, e);
    }

    /// `ip link set DEV master BRIDGE` or `nomaster`.
    pub fn set_master(&mut self, dev: DevId, bridge: Option<DevId>) -> Result<(), EditError> {
        let old = self.known(dev)?.master.as_ref().map(|m| m.0);
        if let Some(old) = old.filter(|o| Some(*o) != bridge) {
            if let Some(b) = self.ns.dev_mut(old).and_then(Device::bridge_mut) {
                b.ports.retain(|p| *p != dev);
                b.fdb.flush_port(dev, true);
            }
            self.known_mut(dev)?.master = None;
            self.refresh_bridge(old);
        }
        let Some(bridge) = bridge.filter(|b| Some(*b) != old) else {
            return Ok(());
        };
        let name = self.known(bridge)?.name.clone();
        let b = self
            .known_mut(bridge)?
            .bridge_mut()
            .ok_or(EditError::WrongKind(name, "bridge"))?;
        b.ports.insert(0, dev);
        let d = self.known_mut(dev)?;
        d.master = Some((bridge, BridgePort::default()));
        let mac = d.mac;
        self.port_fdb_entry(bridge, dev, mac);
        self.refresh_bridge(bridge);
        Ok(())
    }

    /// The flags of a bridge port, to be changed (`bridge link set`).
    pub fn port(&mut self, dev: DevId) -> Result<&mut BridgePort, EditError> {
        let d = self.known_mut(dev)?;
        let name = d.name.clone();
        d.master
            .as_mut()
            .map(|m| &mut m.1)
            .ok_or(EditError::WrongKind(name, "bridge port"))
    }

    /// The settings of a bridge, to be changed (`ip link set BR type bridge ...`).
    pub fn bridge(&mut self, dev: DevId) -> Result<&mut crate::net::bridge::Bridge, EditError> {
        let d = self.known_mut(dev)?;
        let name = d.name.clone();
        d.bridge_mut().ok_or(EditError::WrongKind(name, "bridge"))
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
        if up || addr.net.is_ipv4() {
            self.local_route(dev, &addr);
        }
        if up {
            self.connected_routes(dev, &addr);
        }
        Ok(())
    }

    fn local_route(&mut self, dev: DevId, addr: &IfAddr) {
        let v4 = addr.net.is_ipv4();
        let mut r = Route::unicast(host_net(addr.ip()), None, Some(dev), addr.origin.clone());
        (r.kind, r.scope, r.protocol) = (RouteKind::Local, Scope::Host, PROTO_KERNEL);
        r.prefsrc = v4.then_some(addr.ip());
        r.metric = 0;
        let _ = self.ns.fib.add(table::LOCAL, r, AddMode::New);
    }

    /// Routes that an address of an up device makes (kernel: `fib_add_ifaddr`, `addrconf_prefix_route`).
    fn connected_routes(&mut self, dev: DevId, addr: &IfAddr) {
        self.local_route(dev, addr);
        let lo = self
            .ns
            .dev(dev)
            .is_some_and(|d| matches!(d.kind, DeviceKind::Loopback));
        let net = addr.subnet();
        let kernel = |dst, kind, scope| {
            let mut r = Route::unicast(dst, None, Some(dev), addr.origin.clone());
            (r.kind, r.scope, r.protocol) = (kind, scope, PROTO_KERNEL);
            r.prefsrc = addr.net.is_ipv4().then_some(addr.ip());
            r
        };
        match net {
            IpNetwork::V4(n) => {
                if let Some(b) = addr.broadcast.filter(|b| *b != Ipv4Addr::BROADCAST) {
                    let r = kernel(host_net(b.into()), RouteKind::Broadcast, Scope::Link);
                    let _ = self.ns.fib.add(table::LOCAL, r, AddMode::New);
                }
                if addr.secondary || n.prefix() == 32 && addr.peer.is_none() {
                    return;
                }
                if lo {
                    let r = kernel(net, RouteKind::Local, Scope::Host);
                    let _ = self.ns.fib.add(table::LOCAL, r, AddMode::New);
                } else {
                    let r = kernel(net, RouteKind::Unicast, Scope::Link);
                    let _ = self.ns.fib.add(table::MAIN, r, AddMode::Append);
                }
                if n.prefix() < 31 {
                    let r = kernel(
                        host_net(n.broadcast().into()),
                        RouteKind::Broadcast,
                        Scope::Link,
                    );
                    let _ = self.ns.fib.add(table::LOCAL, r, AddMode::New);
                }
            }
            IpNetwork::V6(n) => {
                if n.prefix() == 128 && lo {
                    return;
                }
                let mut r = kernel(net, RouteKind::Unicast, Scope::Universe);
                r.metric = 256;
                let _ = self.ns.fib.add(table::MAIN, r, AddMode::Append);
            }
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
        let gone = d.addrs.remove(at);
        // Deleting a primary deletes its secondaries (promote_secondaries=0).
        if !gone.secondary && net.is_ipv4() {
            d.addrs
                .retain(|a| !(a.secondary && a.subnet() == gone.subnet()));
        }
        let ip = gone.ip();
        let rest: Vec<IfAddr> = d.addrs.clone();
        let (sub, host) = (gone.subnet(), host_net(ip));
        self.ns.fib.retain(&|t, r| {
            let on_dev = r.nexthops.iter().any(|n| n.dev == Some(dev));
            let own_local = t == table::LOCAL && on_dev && r.dst == host;
            let own_net = on_dev
                && r.protocol == PROTO_KERNEL
                && (r.prefsrc == Some(ip) || ip.is_ipv6() && r.dst == sub)
                && !rest.iter().any(|a| a.subnet() == sub && a.net.is_ipv6());
            // Routes that name the address as their source go with it (kernel: `fib_sync_down_addr`).
            let sourced = r.prefsrc == Some(ip);
            !(own_local || own_net || sourced)
        });
        Ok(())
    }

    /// `ip route add|replace|append`, with the device looked up from the gateway where it is not given.
    pub fn route_add(&mut self, id: u32, mut route: Route, mode: AddMode) -> Result<(), EditError> {
        for i in 0..route.nexthops.len() {
            let n = route.nexthops[i].clone();
            let dev = self.check_nexthop(&n, &route)?;
            route.nexthops[i].dev = dev;
        }
        self.ns.fib.add(id, route, mode)?;
        Ok(())
    }

    /// A gateway must be on a connected network unless `onlink` (kernel: `fib_check_nh`).
    fn check_nexthop(&self, n: &NextHop, route: &Route) -> Result<Option<DevId>, EditError> {
        if route.is_dead_end() {
            return Ok(None);
        }
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
        let link_local = matches!(via, IpAddr::V6(a) if crate::net::addr::is_link_local(a));
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

    /// `ip neigh replace ... nud STATE`.
    pub fn neigh_set(
        &mut self,
        dev: DevId,
        ip: IpAddr,
        mac: MacAddr,
        state: NudState,
        origin: Origin,
    ) -> Result<(), EditError> {
        self.known(dev)?;
        self.ns
            .neigh
            .put(dev, ip, state, mac, Instant::ZERO, origin);
        Ok(())
    }

    /// `ip neigh del`.
    pub fn neigh_del(&mut self, dev: DevId, ip: IpAddr) -> Result<(), EditError> {
        self.ns
            .neigh
            .remove(dev, ip)
            .map(|_| ())
            .ok_or(EditError::Missing)
    }

    /// `ip neigh flush dev DEV`: all but permanent entries.
    pub fn neigh_flush(&mut self, dev: DevId) {
        self.ns.neigh.flush(dev, false);
    }

    /// `ip neigh add proxy`.
    pub fn proxy_add(&mut self, dev: DevId, ip: IpAddr, origin: Origin) -> Result<(), EditError> {
        self.known(dev)?;
        self.ns.neigh.add_proxy(dev, ip, origin);
        Ok(())
    }

    /// `ip neigh del proxy`.
    pub fn proxy_del(&mut self, dev: DevId, ip: IpAddr) -> Result<(), EditError> {
        if self.ns.neigh.del_proxy(dev, ip) {
            Ok(())
        } else {
            Err(EditError::Missing)
        }
    }

    /// `bridge fdb add|replace MAC dev PORT master [static]`, or of the bridge itself (`self`, local).
    pub fn fdb_set(
        &mut self,
        port: DevId,
        vlan: u16,
        mac: MacAddr,
        is_static: bool,
        now: Instant,
    ) -> Result<(), EditError> {
        let d = self.known(port)?;
        let (bridge, local) = match &d.master {
            Some((b, _)) => (*b, false),
            None if d.bridge().is_some() => (port, true),
            None => return Err(EditError::WrongKind(d.name.clone(), "bridge port")),
        };
        self.bridge(bridge)?.fdb.put(
            vlan,
            mac,
            FdbEntry {
                port,
                local,
                is_static,
                updated: now,
            },
        );
        Ok(())
    }

    /// `bridge fdb del MAC dev PORT master`.
    pub fn fdb_del(&mut self, port: DevId, vlan: u16, mac: MacAddr) -> Result<(), EditError> {
        let d = self.known(port)?;
        let bridge = d.master.as_ref().map_or(port, |m| m.0);
        if self.bridge(bridge)?.fdb.remove(vlan, mac) {
            Ok(())
        } else {
            Err(EditError::Missing)
        }
    }

    /// `bridge fdb append MAC dev VXLAN dst IP`.
    pub fn vxlan_fdb_add(
        &mut self,
        dev: DevId,
        mac: MacAddr,
        ip: IpAddr,
        replace: bool,
    ) -> Result<(), EditError> {
        let d = self.known_mut(dev)?;
        let name = d.name.clone();
        let DeviceKind::Vxlan(v) = &mut d.kind else {
            return Err(EditError::WrongKind(name, "vxlan"));
        };
        let list = v.fdb.entry(mac).or_default();
        if replace {
            list.clear();
        }
        if !list.iter().any(|e| e.ip == ip) {
            list.push(VxlanDst { ip, learned: None });
        }
        Ok(())
    }

    /// `bridge fdb del MAC dev VXLAN [dst IP]`.
    pub fn vxlan_fdb_del(
        &mut self,
        dev: DevId,
        mac: MacAddr,
        ip: Option<IpAddr>,
    ) -> Result<(), EditError> {
        let d = self.known_mut(dev)?;
        let name = d.name.clone();
        let DeviceKind::Vxlan(v) = &mut d.kind else {
            return Err(EditError::WrongKind(name, "vxlan"));
        };
        let list = v.fdb.get_mut(&mac).ok_or(EditError::Missing)?;
        let before = list.len();
        list.retain(|e| ip.is_some_and(|i| e.ip != i));
        let gone = list.len() < before;
        if list.is_empty() {
            v.fdb.remove(&mac);
        }
        if gone {
            Ok(())
        } else {
            Err(EditError::Missing)
        }
    }

    /// `sysctl -w KEY=VALUE`.
    pub fn sysctl_set(&mut self, key: &str, value: &str) -> Result<SetSysctl, EditError> {
        let key = key.replace('/', ".");
        let done = match SysctlKey::parse(&key) {
            SysctlKey::Conf(v4, dev, k) => self.set_dev_conf(&key, v4, dev, k, value)?,
            SysctlKey::Neigh(v4, dev, k) => self.set_neigh_parm(&key, v4, dev, k, value)?,
            SysctlKey::Other("net.ipv4.ip_forward") => {
                self.set_dev_conf(&key, true, "all", "forwarding", value)?
            }
            SysctlKey::Other(k) => self.ns.sysctl.set_global(k, value)?,
        };
        Ok(done)
    }

    /// `default` reaches the devices too, as it does while nobody set theirs (kernel:
    /// `neigh_copy_dflt_parms`).
    fn set_neigh_parm(
        &mut self,
        key: &str,
        v4: bool,
        dev: &str,
        k: &str,
        value: &str,
    ) -> Result<SetSysctl, EditError> {
        let v = u64::try_from(parse_value(key, value)?).unwrap_or(0);
        let known = if dev == "default" {
            let s = &mut self.ns.sysctl;
            let mut known = if v4 {
                s.neigh4.set(k, v)
            } else {
                s.neigh6.set(k, v)
            };
            for d in self.ns.devices.iter_mut().flatten() {
                known &= if v4 {
                    d.parms4.set(k, v)
                } else {
                    d.parms6.set(k, v)
                };
            }
            known
        } else {
            let id = self.find(&dev.replace('/', "."))?;
            let d = self.known_mut(id)?;
            if v4 {
                d.parms4.set(k, v)
            } else {
                d.parms6.set(k, v)
            }
        };
        if known {
            return Ok(SetSysctl::Done);
        }
        self.ns
            .sysctl
            .other
            .insert(key.to_owned(), value.to_owned());
        Ok(SetSysctl::NotModelled)
    }

    fn set_dev_conf(
        &mut self,
        key: &str,
        v4: bool,
        dev: &str,
        k: &str,
        value: &str,
    ) -> Result<SetSysctl, EditError> {
        let v = parse_value(key, value)?;
        let s = &mut self.ns.sysctl;
        let done = match dev {
            "all" => set_conf(&mut s.all4, &mut s.all6, v4, k, v),
            "default" => set_conf(&mut s.default4, &mut s.default6, v4, k, v),
            name => {
                let name = name.replace('/', ".");
                let missing = || SysctlError::NoDevice {
                    key: key.to_owned(),
                    dev: name.clone(),
                };
                let id = self
                    .ns
                    .dev_by_name(&name)
                    .map(|d| d.id)
                    .ok_or_else(missing)?;
                let d = self.known_mut(id)?;
                set_conf(&mut d.conf4, &mut d.conf6, v4, k, v)
            }
        };
        // Writing these to `all` writes them to every device and to `default`
        // (kernel: `inet_forward_change`, `addrconf_forward_change`, `addrconf_disable_change`).
        if dev == "all" && (k == "forwarding" || !v4 && k == "disable_ipv6") {
            let s = &mut self.ns.sysctl;
            set_conf(&mut s.default4, &mut s.default6, v4, k, v);
            for d in self.ns.devices.iter_mut().flatten() {
                set_conf(&mut d.conf4, &mut d.conf6, v4, k, v);
            }
        }
        if done == SetSysctl::NotModelled {
            self.ns
                .sysctl
                .other
                .insert(key.to_owned(), value.to_owned());
        }
        if !v4 && k == "disable_ipv6" {
            self.disable_ipv6_effects(dev, v);
        }
        Ok(done)
    }

    /// Disabling IPv6 takes the addresses away; enabling brings the link-local one back.
    fn disable_ipv6_effects(&mut self, dev: &str, v: i32) {
        let ids: Vec<DevId> = self
            .ns
            .devices()
            .filter(|d| dev == "all" || d.name == dev)
            .map(|d| d.id)
            .collect();
        for id in ids {
            if v == 0 {
                self.came_up(id);
                continue;
            }
            if let Some(d) = self.ns.dev_mut(id) {
                d.addrs.retain(|a| a.net.is_ipv4());
            }
            self.ns
                .fib
                .retain(&|_, r| r.dst.is_ipv4() || !r.nexthops.iter().any(|n| n.dev == Some(id)));
        }
    }
}

fn v6_any() -> Ipv6Network {
    Ipv6Network::from(Ipv6Addr::UNSPECIFIED)
}

fn d_addr_gen(d: Option<&Device>) -> i32 {
    d.map_or(1, |d| d.conf6.addr_gen_mode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{NodeId, NsId};

    fn ns() -> NetNs {
        NetNs::new(NsId(0), "n1", NodeId(0))
    }

    fn spec(name: &str, kind: DeviceKind) -> LinkSpec {
        LinkSpec {
            name: name.into(),
            kind,
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            mtu: None,
            origin: Origin::Kernel,
        }
    }

    #[test]
    fn an_address_brings_its_routes_and_takes_them_away() {
        let mut ns = ns();
        let before = ns.epoch();
        let mut e = ns.edit();
        let d = e.link_add(spec("eth0", DeviceKind::Uplink)).unwrap();
        let a: IpNetwork = "10.0.0.5/24".parse().unwrap();
        e.addr_add(d, IfAddr::new(a, Origin::Kernel)).unwrap();
        assert!(
            e.route_output(None, "10.0.0.9".parse().unwrap(), None, 0, 0)
                .is_err(),
            "down: no subnet route"
        );
        e.set_up(d, true).unwrap();
        let f = e
            .route_output(None, "10.0.0.9".parse().unwrap(), None, 0, 0)
            .unwrap();
        assert_eq!(
            e.source_for(&f, "10.0.0.9".parse().unwrap()),
            Some("10.0.0.5".parse().unwrap())
        );
        assert!(e.is_local("10.0.0.5".parse().unwrap()));
        let via = Route::unicast(
            "0.0.0.0/0".parse().unwrap(),
            Some("10.0.0.1".parse().unwrap()),
            None,
            Origin::Kernel,
        );
        e.route_add(table::MAIN, via.clone(), AddMode::New).unwrap();
        assert_eq!(
            e.route_add(table::MAIN, via, AddMode::New),
            Err(FibEditError::Exists.into())
        );
        let bad = Route::unicast(
            "1.0.0.0/8".parse().unwrap(),
            Some("9.9.9.9".parse().unwrap()),
            None,
            Origin::Kernel,
        );
        assert_eq!(
            e.route_add(table::MAIN, bad, AddMode::New),
            Err(FibEditError::BadGateway.into())
        );
        e.addr_del(d, a).unwrap();
        assert!(!e.is_local("10.0.0.5".parse().unwrap()));
        drop(e);
        assert!(ns.epoch() > before);
    }

    #[test]
    fn a_bridge_follows_its_ports_until_set_by_hand() {
        let mut ns = ns();
        let mut e = ns.edit();
        let br = e
            .link_add(spec("cni0", DeviceKind::Bridge(Box::default())))
            .unwrap();
        let v = e
            .link_add(LinkSpec {
                mtu: Some(1400),
                mac: MacAddr([1, 2, 3, 4, 5, 6]),
                ..spec("veth1", DeviceKind::Veth)
            })
            .unwrap();
        e.set_master(v, Some(br)).unwrap();
        assert_eq!(
            (e.dev(br).unwrap().mtu, e.dev(br).unwrap().mac),
            (1400, MacAddr([1, 2, 3, 4, 5, 6]))
        );
        e.set_mtu(br, 1300).unwrap();
        e.set_mtu(v, 1200).unwrap();
        assert_eq!(e.dev(br).unwrap().mtu, 1300);
    }

    #[test]
    fn forwarding_for_all_reaches_every_device_but_rp_filter_does_not() {
        let mut ns = ns();
        let mut e = ns.edit();
        let d = e.link_add(spec("flannel.1", DeviceKind::Dummy)).unwrap();
        e.sysctl_set("net.ipv4.ip_forward", "1").unwrap();
        e.sysctl_set("net.ipv4.conf.all.rp_filter", "1").unwrap();
        assert!(e.forwards(d, true));
        assert_eq!(e.dev(d).unwrap().conf4.rp_filter, 0);
        assert_eq!(e.conf_max(d, |c| c.rp_filter), 1);
        assert!(e.sysctl_set("net.ipv4.conf.nope.rp_filter", "1").is_err());
    }
}
