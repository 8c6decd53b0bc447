//! A network namespace: all the state one kernel network stack has.
//!
//! Does not move frames (that is `path`). Read access is free; configuration changes only through
//! [`NetNs::edit`]. Learned state (FDB, neighbours, PMTU, counters) changes without a new epoch.

use crate::base::{DevId, Instant, NodeId, NsId, Origin, limits};
use crate::ipvs::Ipvs;
use crate::net::SharedInfo;
use crate::net::addr::{Scope, is_group};
use crate::net::device::{Device, DeviceKind};
use crate::net::edit::Edit;
use crate::net::fib::{Fib, FibError, Flow, FlowL4, Found, Route, RouteKind};
use crate::net::frag::FragTable;
use crate::net::icmp_limit::IcmpLimiter;
use crate::net::neigh::NeighTable;
use crate::net::socket::SocketTable;
use crate::net::sysctl::Sysctl;
use crate::nf::Netfilter;
use ipnetwork::IpNetwork;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// A learned path MTU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathMtu {
    /// Bytes.
    pub mtu: u32,
    /// Forgotten then.
    pub expires: Instant,
}

/// Counters of the IP layer that people look at first (`nstat`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Snmp {
    /// IpForwDatagrams
    pub forwarded: u64,
    /// IpInAddrErrors
    pub in_addr_errors: u64,
    /// IpExtInNoRoutes
    pub in_no_routes: u64,
    /// TcpExtIPReversePathFilter
    pub rp_filter: u64,
    /// IpInHdrErrors
    pub in_hdr_errors: u64,
    /// IpReasmOKs
    pub reasm_ok: u64,
    /// IpFragCreates
    pub frag_creates: u64,
}

/// A network namespace.
#[derive(Clone, Debug)]
pub struct NetNs {
    /// Its place in the world.
    pub id: NsId,
    /// Its name as people say it: the node's, or `namespace/pod`.
    pub name: String,
    /// The machine whose kernel runs it.
    pub node: NodeId,
    pub(crate) devices: Vec<Option<Device>>,
    pub(crate) fib: Fib,
    pub(crate) neigh: NeighTable,
    pub(crate) sysctl: Sysctl,
    pub(crate) sockets: SocketTable,
    pub(crate) frags: FragTable,
    pub(crate) pmtu: BTreeMap<IpAddr, PathMtu>,
    pub(crate) icmp: IcmpLimiter,
    pub(crate) redirects: BTreeMap<IpAddr, (u32, Instant)>,
    pub(crate) ip_id: u16,
    pub(crate) frag_id: u32,
    pub(crate) epoch: u64,
    pub(crate) snmp: Snmp,
    pub(crate) proxy_queue: Vec<(Instant, DevId, crate::wire::Frame)>,
    pub(crate) nf: Option<Box<Netfilter>>,
    pub(crate) ipvs: Option<Box<Ipvs>>,
    /// A bridged, translated frame may be waiting for a neighbour: its connection must outlive the walk.
    pub(crate) bridge_waits: bool,
    /// What bridged frames and their copies have in common.
    pub(crate) bridge_shared: SharedInfo,
}

impl NetNs {
    /// A new namespace with `lo`, down, as `ip netns add` leaves it.
    pub fn new(id: NsId, name: impl Into<String>, node: NodeId) -> Self {
        let mut ns = NetNs {
            id,
            name: name.into(),
            node,
            devices: Vec::new(),
            fib: Fib::default(),
            neigh: NeighTable::default(),
            sysctl: Sysctl::default(),
            sockets: SocketTable::default(),
            frags: FragTable::default(),
            pmtu: BTreeMap::new(),
            icmp: IcmpLimiter::default(),
            redirects: BTreeMap::new(),
            ip_id: 1,
            frag_id: 1,
            epoch: 0,
            snmp: Snmp::default(),
            proxy_queue: Vec::new(),
            nf: None,
            ipvs: None,
            bridge_waits: false,
            bridge_shared: SharedInfo::default(),
        };
        ns.edit().add_loopback();
        ns
    }

    /// Opens the namespace for configuration; dropping the guard makes a new epoch.
    pub fn edit(&mut self) -> Edit<'_> {
        Edit::new(self)
    }

    /// Counts configuration changes; whatever was compiled before is stale when it differs.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// A device by its index.
    pub fn dev(&self, id: DevId) -> Option<&Device> {
        self.devices.get((id.0 as usize).checked_sub(1)?)?.as_ref()
    }

    pub(crate) fn dev_mut(&mut self, id: DevId) -> Option<&mut Device> {
        self.devices
            .get_mut((id.0 as usize).checked_sub(1)?)?
            .as_mut()
    }

    /// A device by name.
    pub fn dev_by_name(&self, name: &str) -> Option<&Device> {
        self.devices().find(|d| d.name == name)
    }

    /// All devices by index.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.devices.iter().flatten()
    }

    /// A device's name, for people.
    pub fn dev_name(&self, id: DevId) -> &str {
        self.dev(id).map_or("?", |d| d.name.as_str())
    }

    /// Routing tables and rules.
    pub fn fib(&self) -> &Fib {
        &self.fib
    }

    /// Neighbours.
    pub fn neigh(&self) -> &NeighTable {
        &self.neigh
    }

    /// Sysctls.
    pub fn sysctl(&self) -> &Sysctl {
        &self.sysctl
    }

    /// Sockets.
    pub fn sockets(&self) -> &SocketTable {
        &self.sockets
    }

    /// Sockets, to bind and close. Opening a port is no configuration change: it makes no epoch.
    pub fn sockets_mut(&mut self) -> &mut SocketTable {
        &mut self.sockets
    }

    /// Netfilter: rules, sets, connections. `None` while nothing was ever loaded.
    pub fn nf(&self) -> Option<&Netfilter> {
        self.nf.as_deref()
    }

    /// Netfilter, made on first use: to load rules and to change sets and connections.
    pub fn nf_mut(&mut self) -> &mut Netfilter {
        self.epoch += 1;
        self.nf.get_or_insert_default()
    }

    /// IPVS: services and connections. `None` while nothing was ever configured.
    pub fn ipvs(&self) -> Option<&Ipvs> {
        self.ipvs.as_deref()
    }

    /// IPVS changed, made on first use; its hooks come and go with its services.
    pub fn ipvs_change<R>(&mut self, change: impl FnOnce(&mut Ipvs) -> R) -> R {
        let vs = self.ipvs.get_or_insert_default();
        let result = change(vs);
        let hooked = [vs.hooked(false), vs.hooked(true)];
        self.nf_mut().set_ipvs(hooked);
        result
    }

    /// IP counters.
    pub fn snmp(&self) -> &Snmp {
        &self.snmp
    }

    /// Learned path MTUs by destination.
    pub fn path_mtus(&self) -> &BTreeMap<IpAddr, PathMtu> {
        &self.pmtu
    }

    /// The earliest moment at which something happens by itself.
    pub fn next_timer(&self) -> Option<Instant> {
        let proxy = self.proxy_queue.iter().map(|p| p.0).min();
        [self.neigh.next_timer(), self.frags.next_expiry(), proxy]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether a device's routes may be used.
    pub(crate) fn route_alive(&self, dev: DevId) -> bool {
        self.dev(dev).is_some_and(|d| {
            d.up && (d.carrier || !self.conf_or(dev, |c| c.ignore_routes_with_linkdown))
        })
    }

    /// Looks up a route.
    pub fn route(&self, f: &Flow<'_>) -> Result<Found, FibError> {
        self.fib.lookup(f, &|d| self.route_alive(d))
    }

    /// Looks up the route of a packet this host sends itself.
    pub fn route_output(
        &self,
        src: Option<IpAddr>,
        dst: IpAddr,
        oif: Option<DevId>,
        mark: u32,
        tos: u8,
    ) -> Result<Found, FibError> {
        self.route_output_l4(src, dst, oif, mark, tos, FlowL4::default())
    }

    /// The same for a packet whose protocol and ports are known, for rules and multipath that look at them.
    pub fn route_output_l4(
        &self,
        src: Option<IpAddr>,
        dst: IpAddr,
        oif: Option<DevId>,
        mark: u32,
        tos: u8,
        l4: FlowL4,
    ) -> Result<Found, FibError> {
        let group = match oif {
            None => self.group_device(src, dst),
            Some(_) => None,
        };
        if group.is_none() && oif.is_none() && self.strange_to_groups(src, dst) {
            return Err(FibError::NoRoute);
        }
        if let Some(dev) = group {
            // No table is asked (`make_route`).
            let route = Route::unicast(IpNetwork::from(dst), None, Some(dev), Origin::Kernel);
            return Ok(Found {
                table: 0,
                rule: 0,
                route: Arc::new(route),
                hop: 0,
            });
        }
        self.route(&Flow {
            src,
            dst,
            iif_name: "lo",
            oif,
            oif_name: oif.map(|d| self.dev_name(d)),
            mark,
            tos,
            l4,
            multipath: self.sysctl.multipath(),
            scope: Scope::Universe,
        })
    }

    /// Where a group or everybody is spoken to by one of our addresses: at the device that has it (kernel:
    /// `ip_route_output_key_hash_rcu` with a source and no device).
    fn group_device(&self, src: Option<IpAddr>, dst: IpAddr) -> Option<DevId> {
        match (src, dst) {
            (Some(IpAddr::V4(src)), IpAddr::V4(d)) if d.is_multicast() || d.is_broadcast() => self
                .devices()
                .find(|dev| dev.addrs4().any(|(_, ip)| ip == src))
                .map(|dev| dev.id),
            _ => None,
        }
    }

    /// Whether a source that is not ours is to speak to a group or everybody without naming a device:
    /// -ENETUNREACH
    /// (kernel: `ip_route_output_key_hash_rcu`, `__ip_dev_find`). A TEE copy that rules route anew is one.
    fn strange_to_groups(&self, src: Option<IpAddr>, dst: IpAddr) -> bool {
        let group = matches!(dst, IpAddr::V4(d) if d.is_multicast() || d.is_broadcast());
        group && src.is_some_and(|s| !s.is_unspecified() && !self.is_local(s))
    }

    /// Whether an address is one of ours (kernel: `inet_addr_type` is `RTN_LOCAL`, `ipv6_chk_addr`).
    pub fn is_local(&self, ip: IpAddr) -> bool {
        self.fib.address_kind(ip) == RouteKind::Local
    }

    /// The source address for a packet to `dst` along a route: its `src`, else one of the output
    /// device's (kernel: `fib_result_prefsrc`, `ipv6_dev_get_saddr`).
    pub fn source_for(&self, found: &Found, dst: IpAddr) -> Option<IpAddr> {
        if let Some(p) = found.route.prefsrc {
            return Some(p);
        }
        if found.route.kind == RouteKind::Local {
            return Some(dst);
        }
        let dev = found.dev()?;
        match dst {
            IpAddr::V4(d) => {
                let towards = match found.nexthop().and_then(|n| n.via) {
                    Some(IpAddr::V4(gw)) => gw,
                    _ => d,
                };
                self.select_addr4(dev, Some(towards), found.route.scope)
                    .map(IpAddr::V4)
            }
            IpAddr::V6(d) => self.select_addr6(dev, d).map(IpAddr::V6),
        }
    }

    /// An IPv4 address of `dev` (or, failing that, of any device) of at least `scope`, preferably in
    /// `towards`'s subnet (kernel: `inet_select_addr`).
    pub fn select_addr4(
        &self,
        dev: DevId,
        towards: Option<Ipv4Addr>,
        scope: Scope,
    ) -> Option<Ipv4Addr> {
        let localnet = Scope::Host; // an address of host scope is not announced
        let mut first = None;
        for (a, ip) in self.dev(dev).into_iter().flat_map(Device::addrs4) {
            if a.secondary || a.scope.min(localnet) > scope {
                continue;
            }
            if towards.is_none_or(|t| a.subnet().contains(IpAddr::V4(t))) {
                return Some(ip);
            }
            first = first.or(Some(ip));
        }
        first.or_else(|| {
            self.devices().flat_map(Device::addrs4).find_map(|(a, ip)| {
                (a.scope != Scope::Link && a.scope <= scope && !a.secondary).then_some(ip)
            })
        })
    }

    /// A source address for `dst` leaving by `dev`: same scope first, then the outgoing device, then the
    /// longest common prefix (RFC 6724 rules 2, 5, 8).
    pub fn select_addr6(&self, dev: DevId, dst: Ipv6Addr) -> Option<Ipv6Addr> {
        let want = if dst.is_multicast() {
            multicast_scope(dst)
        } else {
            Scope::of(IpAddr::V6(dst))
        };
        let mut best: Option<((bool, bool, u32), Ipv6Addr)> = None;
        for d in self.devices().filter(|d| d.up) {
            for (a, ip) in d.addrs6() {
                // Rule 1 of RFC 6724: the destination itself.
                if ip == dst && (d.id == dev || a.scope != Scope::Link) {
                    return Some(ip);
                }
                if d.id != dev && (want == Scope::Link || a.scope == Scope::Link) {
                    continue;
                }
                if a.scope == Scope::Host && want != Scope::Host {
                    continue;
                }
                let common = (u128::from(ip) ^ u128::from(dst)).leading_zeros();
                let rank = (a.scope == want, d.id == dev, common);
                if best.as_ref().is_none_or(|(r, _)| rank > *r) {
                    best = Some((rank, ip));
                }
            }
        }
        best.map(|b| b.1)
    }

    /// Whether `ip` is on a subnet of `dev` (kernel: `inet_addr_onlink`).
    pub(crate) fn on_link(&self, dev: DevId, a: IpAddr, b: IpAddr) -> bool {
        self.dev(dev).is_some_and(|d| {
            d.addrs
                .iter()
                .any(|i| !i.secondary && i.subnet().contains(a) && i.subnet().contains(b))
        })
    }

    /// The MTU of a path for packets this host sends: a learned one while it lasts, else the route's, else
    /// the device's.
    pub fn path_mtu(&self, dst: IpAddr, found: &Found, now: Instant) -> usize {
        let dev = self.route_mtu(found);
        match self.pmtu.get(&dst) {
            Some(p) if p.expires > now => dev.min(p.mtu as usize),
            _ => dev,
        }
    }

    /// The MTU of a route for forwarded packets: the route's metric, else the device's.
    pub fn route_mtu(&self, found: &Found) -> usize {
        let dev = found
            .dev()
            .and_then(|d| self.dev(d))
            .map_or(65_535, |d| d.mtu as usize);
        match found.route.mtu {
            // IPv4 takes the metric as it is, even above the device's MTU (`ip_dst_mtu_maybe_forward`);
            // IPv6 never exceeds the device (`ip6_mtu`).
            Some(m) if found.route.dst.is_ipv4() => (m as usize).min(65_535),
            Some(m) => dev.min(m as usize),
            None => dev.min(65_535),
        }
    }

    /// Remembers a path MTU (kernel: `__ip_rt_update_pmtu`, `rt6_do_update_pmtu`).
    pub(crate) fn learn_pmtu(&mut self, dst: IpAddr, mtu: u32, current: usize, now: Instant) {
        // A larger value than the present one is not believed, nor one below IPv6's minimum.
        if mtu as usize > current || (dst.is_ipv6() && mtu < 1280) {
            return;
        }
        let (low, life) = match dst {
            IpAddr::V4(_) => (self.sysctl.min_pmtu.max(68) as u32, self.sysctl.mtu_expires),
            IpAddr::V6(_) => (1280, self.sysctl.mtu_expires6),
        };
        if self.pmtu.len() >= limits::PMTU_CACHE_MAX {
            self.pmtu.retain(|_, p| p.expires > now);
            if self.pmtu.len() >= limits::PMTU_CACHE_MAX {
                self.pmtu.pop_first();
            }
        }
        let expires = now + core::time::Duration::from_secs(life.max(0) as u64);
        self.pmtu.insert(
            dst,
            PathMtu {
                mtu: mtu.max(low),
                expires,
            },
        );
    }

    /// The next identification for a packet of our own.
    pub(crate) fn next_ip_id(&mut self) -> u16 {
        self.ip_id = self.ip_id.wrapping_add(1);
        self.ip_id
    }

    /// Whether frames may be addressed to `ip` at the link layer by resolution (not a group).
    pub(crate) fn needs_resolution(&self, dev: &Device, ip: IpAddr) -> bool {
        !is_group(ip)
            && !dev.is_layer3()
            && !matches!(dev.kind, DeviceKind::Loopback | DeviceKind::Dummy)
    }

    /// The value of a `conf` key for a device where the larger of `all` and the device's counts.
    pub(crate) fn conf_max(
        &self,
        dev: DevId,
        f: impl Fn(&crate::net::sysctl::Ipv4Conf) -> i32,
    ) -> i32 {
        f(&self.sysctl.all4).max(self.dev(dev).map_or(0, |d| f(&d.conf4)))
    }

    /// Whether a `conf` key is set for `all` or for the device.
    pub(crate) fn conf_or(
        &self,
        dev: DevId,
        f: impl Fn(&crate::net::sysctl::Ipv4Conf) -> i32,
    ) -> bool {
        f(&self.sysctl.all4) != 0 || self.dev(dev).is_some_and(|d| f(&d.conf4) != 0)
    }

    /// Whether packets that came in by `dev` are routed on.
    pub fn forwards(&self, dev: DevId, v4: bool) -> bool {
        self.dev(dev).is_some_and(|d| {
            if v4 {
                d.conf4.forwarding != 0
            } else {
                d.conf6.forwarding != 0
            }
        })
    }

    /// Origin of an address of ours, for traces.
    pub fn addr_origin(&self, ip: IpAddr) -> Origin {
        self.devices()
            .flat_map(|d| &d.addrs)
            .find(|a| a.ip() == ip)
            .map(|a| a.origin.clone())
            .unwrap_or_default()
    }
}

/// The scope of an IPv6 group (RFC 4291 section 2.7).
fn multicast_scope(a: Ipv6Addr) -> Scope {
    match a.segments()[0] & 0xf {
        1 => Scope::Host,
        2 => Scope::Link,
        5 => Scope::Site,
        _ => Scope::Universe,
    }
}
