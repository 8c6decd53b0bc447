//! Routing tables and policy rules (`ip route`, `ip rule`): lookup as `fib_lookup` does it.
//!
//! Does not know devices beyond their ids; the caller says which are alive. The longest prefix wins,
//! then TOS, then the lower metric, then the older route. A `throw` route ends its table, not the lookup.
//! Multipath next hops are chosen by weighted hash threshold; the hash is in `multipath`.

mod prefixes;
mod route;
mod rule;

pub use route::{NextHop, PROTO_BIRD, PROTO_BOOT, PROTO_KERNEL, PROTO_STATIC, Route, RouteKind};
pub use rule::{Flow, FlowL4, Multipath, PolicyRule, RuleAction};

use crate::base::{DevId, Origin};
use crate::net::addr::network_of;
use crate::net::multipath;
use ipnetwork::IpNetwork;
use prefixes::Prefixes;
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
    v4: Prefixes,
    v6: Prefixes,
}

impl RouteTable {
    fn leaf_mut(&mut self, dst: IpNetwork) -> &mut Vec<Arc<Route>> {
        match dst {
            IpNetwork::V4(_) => self.v4.leaf_mut(dst),
            IpNetwork::V6(_) => self.v6.leaf_mut(dst),
        }
    }

    fn family(&self, v4: bool) -> &Prefixes {
        if v4 { &self.v4 } else { &self.v6 }
    }

    /// The first route of the longest prefix that covers `dst`.
    fn longest(&self, dst: IpAddr) -> Option<&Arc<Route>> {
        let mut leaves = self.family(dst.is_ipv4()).covering(dst);
        leaves.find_map(|l| l.first())
    }

    /// All routes of one family, by prefix, in the order `ip route` lists them.
    pub fn routes(&self, v4: bool) -> Vec<&Arc<Route>> {
        self.family(v4).routes()
    }

    fn lookup(&self, f: &Flow<'_>, alive: &dyn Fn(DevId) -> bool) -> Option<(Arc<Route>, usize)> {
        for leaf in self.family(f.dst.is_ipv4()).covering(f.dst) {
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
    // Without a source, IPv6 wants the very device, even where the address is ours (`RT6_LOOKUP_F_IFACE` in
    // `ip6_route_output_flags_noref`).
    let strict = f.dst.is_ipv6() && f.src.is_none_or(|s| s.is_unspecified());
    let usable = |n: &NextHop| {
        // An address stays ours while its device is down.
        (r.kind == RouteKind::Local || n.dev.is_some_and(alive))
            && (f.oif.is_none() || f.oif == n.dev || r.kind == RouteKind::Local && !strict)
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
        let leaves = self.tables.values_mut().flat_map(|t| t.v6.leaves_mut());
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
            let leaves = t.v4.leaves_mut().chain(t.v6.leaves_mut());
            leaves.for_each(|l| l.retain(|r| keep(*id, r)));
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
        self.address_kind_on(ip, None)
    }

    /// The same as seen from one device: an address of another one is unicast (kernel:
    /// `inet_dev_addr_type`).
    pub fn address_kind_on(&self, ip: IpAddr, dev: Option<DevId>) -> RouteKind {
        if ip == IpAddr::V4(std::net::Ipv4Addr::BROADCAST) {
            return RouteKind::Broadcast;
        }
        if ip.is_multicast() {
            return RouteKind::Multicast;
        }
        let local = self.tables.get(&table::LOCAL);
        local
            .and_then(|t| t.longest(ip))
            .filter(|r| dev.is_none() || r.nexthops.first().and_then(|n| n.dev) == dev)
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
