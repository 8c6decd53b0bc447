//! Routing tables and policy rules (`ip route`, `ip rule`): lookup as `fib_lookup` does it.
//!
//! Does not know devices beyond their ids; the caller says which are alive. The longest prefix wins,
//! then TOS, then the lower metric, then the older route. A `throw` route ends its table, not the lookup.
//! Multipath next hops are chosen by weighted hash threshold; the hash is in `multipath`.

use crate::base::{DevId, Origin};
use crate::net::addr::{Scope, network_of};
use crate::net::multipath;
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use prefix_trie::PrefixMap;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Table ids with names (`/etc/iproute2/rt_tables`).
pub mod table {
    /// `local`
    pub const LOCAL: u32 = 255;
    /// `main`
    pub const MAIN: u32 = 254;
    /// `default`
    pub const DEFAULT: u32 = 253;
}

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
    fn is_twin(&self, other: &Route) -> bool {
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

/// What a policy rule does when it matches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RuleAction {
    /// Look up this table.
    Table(u32),
    /// `blackhole`
    Blackhole,
    /// `unreachable`
    Unreachable,
    /// `prohibit`
    Prohibit,
    /// Go on at this priority.
    Goto(u32),
    /// Nothing.
    Nop,
}

/// An `ip rule`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PolicyRule {
    /// Priority; lower first.
    pub priority: u32,
    /// Invert the whole match (`not`).
    pub not: bool,
    /// Source prefix.
    pub from: Option<IpNetwork>,
    /// Destination prefix.
    pub to: Option<IpNetwork>,
    /// Input device name (`lo` for what this host sends itself).
    pub iif: Option<String>,
    /// Output device name.
    pub oif: Option<String>,
    /// Mark and mask.
    pub fwmark: Option<(u32, u32)>,
    /// TOS.
    pub tos: u8,
    /// IP protocol.
    pub ipproto: Option<u8>,
    /// Source ports, first and last.
    pub sport: Option<(u16, u16)>,
    /// Destination ports, first and last.
    pub dport: Option<(u16, u16)>,
    /// What to do.
    pub action: RuleAction,
    /// Refuse results whose prefix is this long or shorter.
    pub suppress_prefixlength: Option<u8>,
    /// Where it came from.
    pub origin: Origin,
}

impl PolicyRule {
    /// `from all lookup TABLE` at `priority`.
    pub fn lookup(priority: u32, table: u32, origin: Origin) -> Self {
        PolicyRule {
            priority,
            not: false,
            from: None,
            to: None,
            iif: None,
            oif: None,
            fwmark: None,
            tos: 0,
            ipproto: None,
            sport: None,
            dport: None,
            action: RuleAction::Table(table),
            suppress_prefixlength: None,
            origin,
        }
    }

    fn matches(&self, f: &Flow<'_>) -> bool {
        let m = self
            .from
            .is_none_or(|n| f.src.map_or(n.prefix() == 0, |s| n.contains(s)))
            && self.to.is_none_or(|n| n.contains(f.dst))
            && self.iif.as_deref().is_none_or(|i| f.iif_name == i)
            && self.oif.as_deref().is_none_or(|o| f.oif_name == Some(o))
            && self
                .fwmark
                .is_none_or(|(v, mask)| f.mark & mask == v & mask)
            && (self.tos == 0 || self.tos == f.tos & 0x1c)
            && self.ipproto.is_none_or(|p| f.l4.proto == p)
            && in_range(self.sport, f.l4.ports.map(|p| p.0))
            && in_range(self.dport, f.l4.ports.map(|p| p.1));
        m != self.not
    }
}

/// Whether a port is in a range; without a port only an absent range fits.
fn in_range(range: Option<(u16, u16)>, port: Option<u16>) -> bool {
    range.is_none_or(|(lo, hi)| port.is_some_and(|p| (lo..=hi).contains(&p)))
}

/// What a lookup knows of the layer above.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlowL4 {
    /// IP protocol, 0 when unknown.
    pub proto: u8,
    /// Source and destination port; none for fragments, even first ones.
    pub ports: Option<(u16, u16)>,
}

impl FlowL4 {
    /// From a packet (kernel: `fib4_rules_early_flow_dissect`).
    pub fn of(h: &crate::wire::IpHeader, packet: &[u8]) -> Self {
        FlowL4 {
            proto: h.proto,
            ports: if h.is_fragment() {
                None
            } else {
                h.ports(packet)
            },
        }
    }
}

/// How next hops of a multipath route are hashed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Multipath {
    /// `net.ipv4.fib_multipath_hash_policy`: 0 addresses, 1 addresses, protocol and ports.
    pub policy: i32,
    /// `net.ipv4.fib_multipath_hash_seed`; 0 is the kernel's own random one, which nobody can know.
    pub seed: u32,
}

/// What a lookup is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Flow<'a> {
    /// Source, where known.
    pub src: Option<IpAddr>,
    /// Destination.
    pub dst: IpAddr,
    /// Input device's name; `lo` for locally made packets.
    pub iif_name: &'a str,
    /// Required output device.
    pub oif: Option<DevId>,
    /// Required output device's name.
    pub oif_name: Option<&'a str>,
    /// Firewall mark.
    pub mark: u32,
    /// TOS.
    pub tos: u8,
    /// Protocol and ports.
    pub l4: FlowL4,
    /// How multipath routes hash.
    pub multipath: Multipath,
    /// Smallest scope the route must have (source validation asks for less than universe).
    pub scope: Scope,
}

/// A route that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its table.
    pub table: u32,
    /// Priority of the rule that led there.
    pub rule: u32,
    /// The route.
    pub route: Arc<Route>,
    /// Which of its next hops, an index into `route.nexthops`.
    pub hop: usize,
}

impl Found {
    /// The chosen next hop, if the route has any.
    pub fn nexthop(&self) -> Option<&NextHop> {
        self.route.nexthops.get(self.hop)
    }

    /// The output device.
    pub fn dev(&self) -> Option<DevId> {
        self.nexthop().and_then(|n| n.dev)
    }
}

/// Why there is no route.
#[derive(Clone, Debug)]
pub enum FibError {
    /// Nothing matched (`ENETUNREACH`).
    NoRoute,
    /// An unreachable route or rule (`EHOSTUNREACH`).
    Unreachable(Option<Arc<Route>>),
    /// A prohibit route or rule (`EACCES`).
    Prohibit(Option<Arc<Route>>),
    /// A blackhole route or rule (`EINVAL`).
    Blackhole(Option<Arc<Route>>),
}

/// One routing table, both families.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    v4: PrefixMap<Ipv4Network, Vec<Arc<Route>>>,
    v6: PrefixMap<Ipv6Network, Vec<Arc<Route>>>,
}

impl RouteTable {
    fn leaf_mut(&mut self, dst: IpNetwork) -> &mut Vec<Arc<Route>> {
        match dst {
            IpNetwork::V4(n) => self.v4.entry(n).or_default(),
            IpNetwork::V6(n) => self.v6.entry(n).or_default(),
        }
    }

    /// Leaves that cover `dst`, longest prefix first.
    fn covering(&self, dst: IpAddr) -> Vec<&[Arc<Route>]> {
        let mut v: Vec<&[Arc<Route>]> = match dst {
            IpAddr::V4(a) => self
                .v4
                .cover(&Ipv4Network::from(a))
                .map(|(_, l)| l.as_slice())
                .collect(),
            IpAddr::V6(a) => self
                .v6
                .cover(&Ipv6Network::from(a))
                .map(|(_, l)| l.as_slice())
                .collect(),
        };
        v.reverse();
        v
    }

    /// All routes of one family, by prefix, in the order `ip route` lists them.
    pub fn routes(&self, v4: bool) -> Vec<&Arc<Route>> {
        if v4 {
            self.v4.iter().flat_map(|(_, l)| l).collect()
        } else {
            self.v6.iter().flat_map(|(_, l)| l).collect()
        }
    }

    fn lookup(&self, f: &Flow<'_>, alive: &dyn Fn(DevId) -> bool) -> Option<(Arc<Route>, usize)> {
        for leaf in self.covering(f.dst) {
            for r in leaf {
                if (r.tos != 0 && r.tos != f.tos & 0x1c) || r.scope < f.scope {
                    continue;
                }
                if r.is_dead_end() {
                    return Some((r.clone(), 0));
                }
                if let Some(hop) = select(r, f, alive) {
                    return Some((r.clone(), hop));
                }
            }
        }
        None
    }
}

/// The live next hop for this flow: the first whose share of the hash's range reaches it
/// (kernel: `fib_rebalance`, `fib_select_multipath`).
fn select(r: &Route, f: &Flow<'_>, alive: &dyn Fn(DevId) -> bool) -> Option<usize> {
    let usable = |n: &NextHop| {
        // An address stays ours while its device is down.
        (r.kind == RouteKind::Local || n.dev.is_some_and(alive))
            && (f.oif.is_none() || f.oif == n.dev || r.kind == RouteKind::Local)
    };
    if let [only] = r.nexthops.as_slice() {
        return usable(only).then_some(0);
    }
    let total: u64 = r
        .nexthops
        .iter()
        .filter(|n| usable(n))
        .map(|n| u64::from(n.weight))
        .sum();
    let hash = u64::from(multipath::hash(f) >> 1);
    let mut weight = 0;
    for (i, n) in r.nexthops.iter().enumerate().filter(|(_, n)| usable(n)) {
        weight += u64::from(n.weight);
        // DIV_ROUND_CLOSEST_ULL(weight << 31, total) - 1
        let bound = ((weight << 31) + total / 2) / total - 1;
        if hash <= bound {
            return Some(i);
        }
    }
    None
}

/// All tables and rules of a namespace.
#[derive(Clone, Debug)]
pub struct Fib {
    tables: BTreeMap<u32, RouteTable>,
    rules_v4: Vec<PolicyRule>,
    rules_v6: Vec<PolicyRule>,
}

impl Default for Fib {
    /// The rules every namespace is born with (`fib_default_rules_init`, `fib6_rules_net_init`).
    fn default() -> Self {
        let k = || Origin::Kernel;
        Fib {
            tables: BTreeMap::new(),
            rules_v4: vec![
                PolicyRule::lookup(0, table::LOCAL, k()),
                PolicyRule::lookup(32766, table::MAIN, k()),
                PolicyRule::lookup(32767, table::DEFAULT, k()),
            ],
            rules_v6: vec![
                PolicyRule::lookup(0, table::LOCAL, k()),
                PolicyRule::lookup(32766, table::MAIN, k()),
            ],
        }
    }
}

/// Why a route change was refused; the words are `ip`'s.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FibEditError {
    /// The same prefix, TOS and metric is there already.
    #[error("File exists")]
    Exists,
    /// There is no such route or rule.
    #[error("No such process")]
    Missing,
    /// The gateway is not on a connected network.
    #[error("Nexthop has invalid gateway")]
    BadGateway,
    /// The device does not exist.
    #[error("Cannot find device")]
    NoDevice,
    /// A blackhole or its kin with a next hop.
    #[error("Gateway, device and multipath can not be specified for this route type")]
    DeadEndHop,
}

impl Fib {
    /// The rules of one family in order.
    pub fn rules(&self, v4: bool) -> &[PolicyRule] {
        if v4 { &self.rules_v4 } else { &self.rules_v6 }
    }

    pub(crate) fn rules_mut(&mut self, v4: bool) -> &mut Vec<PolicyRule> {
        if v4 {
            &mut self.rules_v4
        } else {
            &mut self.rules_v6
        }
    }

    /// Whether an operator changed the rules (kernel: `fib4_has_custom_rules`).
    pub fn has_custom_rules(&self, v4: bool) -> bool {
        self.rules(v4).iter().any(|r| r.origin != Origin::Kernel)
    }

    /// Adds a rule behind those of the same priority.
    pub(crate) fn add_rule(&mut self, v4: bool, rule: PolicyRule) {
        let rules = self.rules_mut(v4);
        let at = rules.partition_point(|r| r.priority <= rule.priority);
        rules.insert(at, rule);
    }

    /// The tables that hold anything, by id.
    pub fn tables(&self) -> impl Iterator<Item = (u32, &RouteTable)> {
        self.tables.iter().map(|(k, v)| (*k, v))
    }

    /// One table.
    pub fn table(&self, id: u32) -> Option<&RouteTable> {
        self.tables.get(&id)
    }

    /// Adds a route among those of its prefix, or refuses (kernel: `fib_table_insert`, `fib6_add_rt2node`).
    pub(crate) fn add(&mut self, id: u32, route: Route, mode: AddMode) -> Result<(), FibEditError> {
        let v4 = route.dst.is_ipv4();
        let leaf = self.tables.entry(id).or_default().leaf_mut(route.dst);
        let key = |r: &Route| (u8::MAX - r.tos, r.metric);
        let first = leaf.partition_point(|r| key(r) < key(&route));
        let end = leaf.partition_point(|r| key(r) <= key(&route));
        let equals = &leaf[first..end];
        let twin = equals.iter().position(|r| r.is_twin(&route));
        let at = match mode {
            AddMode::New if !equals.is_empty() => return Err(FibEditError::Exists),
            AddMode::Replace if !equals.is_empty() => match twin {
                Some(0) => return Ok(()),
                Some(_) if v4 => return Err(FibEditError::Exists),
                _ => {
                    leaf.remove(first);
                    first
                }
            },
            _ if twin.is_some() => return Err(FibEditError::Exists),
            AddMode::Prepend if v4 => first,
            _ => end,
        };
        leaf.insert(at, Arc::new(route));
        Ok(())
    }

    /// Takes a source address out of the IPv6 routes that prefer it.
    pub(crate) fn forget_source(&mut self, ip: IpAddr) {
        let leaves = self.tables.values_mut().flat_map(|t| t.v6.values_mut());
        for r in leaves.flatten().filter(|r| r.prefsrc == Some(ip)) {
            Arc::make_mut(r).prefsrc = None;
        }
    }

    /// Removes the first route of the prefix for which `which` holds.
    pub(crate) fn remove(
        &mut self,
        id: u32,
        dst: IpNetwork,
        which: &dyn Fn(&Route) -> bool,
    ) -> Result<Arc<Route>, FibEditError> {
        let t = self.tables.get_mut(&id).ok_or(FibEditError::Missing)?;
        let leaf = t.leaf_mut(network_of(dst));
        let i = leaf
            .iter()
            .position(|r| which(r))
            .ok_or(FibEditError::Missing)?;
        Ok(leaf.remove(i))
    }

    /// Removes every route for which `which` holds, from all tables.
    pub(crate) fn retain(&mut self, keep: &dyn Fn(u32, &Route) -> bool) {
        for (id, t) in &mut self.tables {
            t.v4.iter_mut()
                .for_each(|(_, l)| l.retain(|r| keep(*id, r)));
            t.v6.iter_mut()
                .for_each(|(_, l)| l.retain(|r| keep(*id, r)));
        }
    }

    /// Finds the route for a flow: rules by priority, each naming a table (kernel: `__fib_lookup`).
    pub fn lookup(&self, f: &Flow<'_>, alive: &dyn Fn(DevId) -> bool) -> Result<Found, FibError> {
        let mut from = 0;
        let rules = self.rules(f.dst.is_ipv4());
        let mut i = 0;
        while let Some(rule) = rules.get(i) {
            i += 1;
            if rule.priority < from || !rule.matches(f) {
                continue;
            }
            match rule.action {
                RuleAction::Table(id) => {
                    let Some((route, hop)) = self.tables.get(&id).and_then(|t| t.lookup(f, alive))
                    else {
                        continue;
                    };
                    if rule
                        .suppress_prefixlength
                        .is_some_and(|n| route.dst.prefix() <= n)
                    {
                        continue;
                    }
                    match route.kind {
                        RouteKind::Throw => continue,
                        RouteKind::Blackhole => return Err(FibError::Blackhole(Some(route))),
                        RouteKind::Unreachable => return Err(FibError::Unreachable(Some(route))),
                        RouteKind::Prohibit => return Err(FibError::Prohibit(Some(route))),
                        _ => {
                            return Ok(Found {
                                table: id,
                                rule: rule.priority,
                                route,
                                hop,
                            });
                        }
                    }
                }
                RuleAction::Blackhole => return Err(FibError::Blackhole(None)),
                // fib4_rule_action: FR_ACT_UNREACHABLE is -ENETUNREACH, unlike an unreachable route.
                RuleAction::Unreachable => return Err(FibError::NoRoute),
                RuleAction::Prohibit => return Err(FibError::Prohibit(None)),
                RuleAction::Goto(p) => from = p,
                RuleAction::Nop => {}
            }
        }
        Err(FibError::NoRoute)
    }

    /// What kind of address `ip` is to this host, looking in the local table (kernel: `inet_addr_type`).
    pub fn address_kind(&self, ip: IpAddr) -> RouteKind {
        if ip == IpAddr::V4(std::net::Ipv4Addr::BROADCAST) {
            return RouteKind::Broadcast;
        }
        if ip.is_multicast() {
            return RouteKind::Multicast;
        }
        let local = self.tables.get(&table::LOCAL);
        local
            .and_then(|t| t.covering(ip).into_iter().flatten().next())
            .map_or(RouteKind::Unicast, |r| r.kind)
    }
}

/// How `Fib::add` treats a route that is there already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddMode {
    /// `ip route add` (`NLM_F_CREATE|NLM_F_EXCL`): refused.
    New,
    /// `ip route replace` (`NLM_F_CREATE|NLM_F_REPLACE`): takes the place of the first equal one.
    Replace,
    /// `ip route append` (`NLM_F_CREATE|NLM_F_APPEND`): behind its equals.
    Append,
    /// `ip route prepend`, `RouteAddEcmp` of CNI plugins (`NLM_F_CREATE` alone): before its equals, of IPv6
    /// behind them.
    Prepend,
}
