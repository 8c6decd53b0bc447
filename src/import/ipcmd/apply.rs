//! A parsed command's effect on one namespace, as `ip`, `bridge` and `sysctl` have it.
//!
//! What needs a second namespace (a veth pair, `netns`) is refused with [`ApplyError::NeedsWorld`].
//! Invariant: a refused command changes nothing but what came before the refused word in a `link set`.

use super::types::*;
use crate::base::{DevId, Instant, Origin, Span};
use crate::net::edit::{Edit, EditError, LinkSpec};
use crate::net::fib::{self, AddMode, NextHop, PolicyRule, Route, RouteKind, table};
use crate::net::neigh::NudState;
use crate::net::sysctl::SetSysctl;
use crate::net::{Bridge, DeviceKind, IfAddr, Ipip, Scope, Vxlan};
use crate::nf;
use crate::wire::MacAddr;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Why a command was not carried out.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ApplyError {
    /// The kernel would have refused it.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// iptables or nft would have refused it, in its words.
    #[error("{0}")]
    Iptables(String),
    /// ipvsadm would have refused it, in its words.
    #[error("{0}")]
    Ipvsadm(String),
    /// It concerns more than one namespace.
    #[error("{0} needs a second namespace")]
    NeedsWorld(&'static str),
    /// Linux does it, podpath does not.
    #[error("{0} is not modelled")]
    NotModelled(String),
}

/// Carries `cmd` out. Says what of it podpath keeps without acting on it (an unknown sysctl, a queue length).
pub fn apply(
    cmd: &Command,
    e: &mut Edit<'_>,
    now: Instant,
    origin: &Origin,
) -> Result<Vec<String>, ApplyError> {
    let mut kept = Vec::new();
    match cmd {
        Command::LinkSet { dev, changes } => {
            let id = e.find(dev)?;
            for c in changes {
                link_change(e, id, c, &mut kept)?;
            }
        }
        Command::LinkAdd { dev, kind, changes } => {
            link_add(e, dev, kind, changes, origin, &mut kept)?
        }
        Command::LinkDel { dev } => {
            let id = e.find(dev)?;
            e.link_del(id)?;
        }
        Command::Addr { op, addr } => address(e, *op, addr, origin)?,
        Command::AddrFlush { dev } => {
            let id = e.find(dev)?;
            while let Some(net) = e.dev(id).and_then(|d| d.addrs.first()).map(|a| a.net) {
                e.addr_del(id, net)?;
            }
        }
        Command::Route { op, route } => {
            self::route(e, *op, route, origin)?;
            match route.pref {
                RoutePref::Medium => {}
                RoutePref::Low => kept.push("pref low".to_owned()),
                RoutePref::High => kept.push("pref high".to_owned()),
            }
        }
        Command::RouteFlush { route } => {
            let which = matcher(e, route)?;
            let id = table_of(route);
            e.route_flush(&|t, r| t == id && r.dst == route.dst && which(r));
        }
        Command::RouteFlushCache => {
            return Err(ApplyError::NotModelled("ip route flush cache".to_owned()));
        }
        Command::Rule {
            op,
            v6,
            priority,
            rule,
        } => self::rule(e, *op, !v6, *priority, rule, origin)?,
        Command::Neigh { op, neigh } => self::neigh(e, *op, neigh, origin)?,
        Command::NeighFlush { dev } => {
            let all = e
                .devices()
                .filter(|d| dev.as_ref().is_none_or(|n| *n == d.name));
            let ids: Vec<DevId> = all.map(|d| d.id).collect();
            ids.into_iter().for_each(|id| e.neigh_flush(id));
        }
        Command::Fdb { op, fdb } => self::fdb(e, *op, fdb, now)?,
        Command::BridgeLink { dev, changes } => {
            let id = e.find(dev)?;
            for c in changes {
                port_change(e, id, *c)?;
            }
        }
        Command::Sysctl { key, value } => {
            if e.sysctl_set(key, value)? == SetSysctl::NotModelled {
                kept.push(format!("sysctl {key} = {value}"));
            }
        }
        Command::Iptables { line } => {
            let done = nf::apply::run_line(e.netfilter(), line, &Span::default(), origin);
            done.map_err(|f| ApplyError::Iptables(f.message))?;
        }
        Command::Nft { line } => {
            let at = Span::default();
            let done = nf::nft::command::run_line(e.netfilter(), line, &at, now, origin);
            done.map_err(|f| ApplyError::Iptables(f.message))?;
        }
        Command::Ipvsadm { line } => {
            let done = super::ipvsadm::run(e, line, now, origin);
            kept.extend(done.map_err(ApplyError::Ipvsadm)?);
        }
        Command::Show => {}
    }
    Ok(kept)
}

fn link_change(
    e: &mut Edit<'_>,
    id: DevId,
    c: &LinkChange,
    kept: &mut Vec<String>,
) -> Result<(), ApplyError> {
    match c {
        LinkChange::Up(up) => e.set_up(id, *up)?,
        LinkChange::Mtu(mtu) => e.set_mtu(id, *mtu)?,
        LinkChange::Mac(mac) => e.set_mac(id, *mac)?,
        LinkChange::Master(None) => e.set_master(id, None)?,
        LinkChange::Master(Some(name)) => {
            let bridge = e.find(name)?;
            e.set_master(id, Some(bridge))?;
        }
        LinkChange::Name(name) => e.rename(id, name)?,
        LinkChange::Promisc(on) => e.set_promisc(id, *on)?,
        LinkChange::Arp(true) => {}
        LinkChange::Arp(false) => return Err(ApplyError::NotModelled("arp off".to_owned())),
        LinkChange::Netns(_) => return Err(ApplyError::NeedsWorld("ip link set netns")),
        LinkChange::Port(p) => port_change(e, id, *p)?,
        LinkChange::Ageing(t) => e.bridge(id)?.ageing = *t,
        LinkChange::GroupFwdMask(m) => e.bridge(id)?.group_fwd_mask = *m,
        LinkChange::VlanFiltering(on) => e.bridge(id)?.vlan_filtering = *on,
        LinkChange::Ignored(k, v) => kept.push(format!("{k} {v}")),
    }
    Ok(())
}

fn port_change(e: &mut Edit<'_>, id: DevId, c: PortChange) -> Result<(), EditError> {
    let p = e.port(id)?;
    match c.flag {
        PortFlag::Hairpin => p.hairpin = c.on,
        PortFlag::Learning => p.learning = c.on,
        PortFlag::Flood => p.flood = c.on,
        PortFlag::McastFlood => p.mcast_flood = c.on,
        PortFlag::BcastFlood => p.bcast_flood = c.on,
        PortFlag::Isolated => p.isolated = c.on,
    }
    Ok(())
}

fn link_add(
    e: &mut Edit<'_>,
    dev: &str,
    kind: &NewLink,
    changes: &[LinkChange],
    origin: &Origin,
    kept: &mut Vec<String>,
) -> Result<(), ApplyError> {
    let mtu = |c: &LinkChange| match c {
        LinkChange::Mtu(n) => Some(*n),
        _ => None,
    };
    let kind = match kind {
        NewLink::Dummy => DeviceKind::Dummy,
        NewLink::Bridge => DeviceKind::Bridge(Box::<Bridge>::default()),
        NewLink::Veth { .. } => return Err(ApplyError::NeedsWorld("a veth pair")),
        NewLink::Vxlan {
            vni,
            port,
            local,
            under,
            learning,
            ttl,
            udp_csum,
        } => DeviceKind::Vxlan(Box::new(Vxlan {
            vni: *vni,
            port: *port,
            local: *local,
            lower: under.as_deref().map(|u| e.find(u)).transpose()?,
            learning: *learning,
            ttl: *ttl,
            udp_csum: *udp_csum || matches!(local, Some(IpAddr::V6(_))),
            fdb: BTreeMap::new(),
        })),
        NewLink::Ipip {
            local,
            remote,
            ttl,
            pmtudisc,
        } => DeviceKind::Ipip(Box::new(Ipip {
            local: *local,
            remote: *remote,
            ttl: *ttl,
            pmtudisc: *pmtudisc,
        })),
    };
    let mac = match kind {
        DeviceKind::Ipip(_) => MacAddr::ZERO,
        _ => derived_mac(&e.name, dev),
    };
    let id = e.link_add(LinkSpec {
        name: dev.to_owned(),
        kind,
        mac,
        mtu: changes.iter().rev().find_map(mtu),
        origin: origin.clone(),
    })?;
    // The MTU is part of the creation; a later change of it would be one by hand.
    let mut rest = changes.iter().filter(|c| mtu(c).is_none());
    rest.try_for_each(|c| link_change(e, id, c, kept))
}

/// A locally administered address for a device whose command names none. The kernel draws one
/// (`eth_hw_addr_random`); ours depends on the names alone, so that equal inputs stay equal.
pub fn derived_mac(ns: &str, dev: &str) -> MacAddr {
    let mut h = 0xcbf2_9ce4_8422_2325_u64;
    for b in ns.bytes().chain([0]).chain(dev.bytes()) {
        h = (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3);
    }
    let b = h.to_be_bytes();
    MacAddr([b[0] & 0xfc | 0x02, b[1], b[2], b[3], b[4], b[5]])
}

fn address(e: &mut Edit<'_>, op: Op, a: &AddrSpec, origin: &Origin) -> Result<(), ApplyError> {
    let id = e.find(&a.dev)?;
    if a.no_prefix_route {
        return Err(ApplyError::NotModelled("noprefixroute".to_owned()));
    }
    match op {
        Op::Del => e.addr_del(id, a.net)?,
        Op::Change | Op::Replace
            if e.dev(id)
                .is_some_and(|d| d.addrs.iter().any(|x| x.net == a.net)) => {}
        _ => {
            let mut new = IfAddr::new(a.net, origin.clone());
            new.peer = a.peer;
            new.broadcast = a.broadcast;
            new.scope = a.scope.unwrap_or(new.scope);
            e.addr_add(id, new)?;
        }
    }
    Ok(())
}

/// The table a route command means (iproute2: `iproute_modify`).
fn table_of(r: &RouteSpec) -> u32 {
    let local = matches!(
        r.kind,
        Some(RouteKind::Local | RouteKind::Broadcast | RouteKind::Anycast)
    );
    r.table
        .unwrap_or(if local { table::LOCAL } else { table::MAIN })
}

fn route(e: &mut Edit<'_>, op: Op, r: &RouteSpec, origin: &Origin) -> Result<(), ApplyError> {
    let mode = match op {
        Op::Del => {
            let which = matcher(e, r)?;
            return Ok(e.route_del(table_of(r), r.dst, &which)?);
        }
        Op::Add => AddMode::New,
        Op::Append => AddMode::Append,
        Op::Prepend => AddMode::Prepend,
        Op::Replace | Op::Change => AddMode::Replace,
    };
    let kind = r.kind.unwrap_or(RouteKind::Unicast);
    let via = r.hops.iter().any(|h| h.via.is_some());
    // iproute2 guesses the scope of an IPv4 route from its type and gateway.
    let scope = r.scope.unwrap_or(match kind {
        _ if r.dst.is_ipv6() => Scope::Universe,
        RouteKind::Local => Scope::Host,
        RouteKind::Unicast | RouteKind::Broadcast | RouteKind::Multicast if !via => Scope::Link,
        _ => Scope::Universe,
    });
    let mut nexthops = Vec::new();
    for h in &r.hops {
        let dev = h.dev.as_deref().map(|d| e.find(d)).transpose()?;
        nexthops.push(NextHop {
            dev,
            via: h.via,
            weight: h.weight,
            onlink: h.onlink,
        });
    }
    let mut route = Route::unicast(r.dst, None, None, origin.clone());
    route.tos = r.tos.unwrap_or(0);
    route.metric = r.metric.unwrap_or(route.metric);
    (route.kind, route.scope, route.nexthops) = (kind, scope, nexthops);
    route.protocol = r.protocol.unwrap_or(fib::PROTO_BOOT);
    (route.prefsrc, route.mtu, route.mtu_lock) = (r.src, r.mtu, r.mtu_lock);
    Ok(e.route_add(table_of(r), route, mode)?)
}

/// Which routes of the prefix a deletion means: those that agree in everything it names.
fn matcher(e: &Edit<'_>, r: &RouteSpec) -> Result<impl Fn(&Route) -> bool + 'static, EditError> {
    let mut hops = Vec::new();
    for h in &r.hops {
        hops.push((h.via, h.dev.as_deref().map(|d| e.find(d)).transpose()?));
    }
    let r = r.clone();
    Ok(move |x: &Route| {
        let hop = |n: &NextHop, (via, dev): &(Option<IpAddr>, Option<DevId>)| {
            via.is_none_or(|v| n.via == Some(v)) && dev.is_none_or(|d| n.dev == Some(d))
        };
        r.kind.is_none_or(|k| x.kind == k)
            && r.tos.unwrap_or(0) == x.tos
            && r.metric.is_none_or(|m| x.metric == m)
            && r.protocol.is_none_or(|p| x.protocol == p)
            && r.scope.is_none_or(|s| x.scope == s)
            && r.src.is_none_or(|s| x.prefsrc == Some(s))
            && hops.iter().all(|h| x.nexthops.iter().any(|n| hop(n, h)))
    })
}

fn rule(
    e: &mut Edit<'_>,
    op: Op,
    v4: bool,
    priority: Option<u32>,
    rule: &PolicyRule,
    origin: &Origin,
) -> Result<(), ApplyError> {
    if op == Op::Del {
        let wanted = rule.clone();
        return Ok(e.rule_del(v4, &move |r| {
            priority.is_none_or(|p| r.priority == p)
                && (wanted.from.is_none() || r.from == wanted.from)
                && (wanted.to.is_none() || r.to == wanted.to)
                && (wanted.iif.is_none() || r.iif == wanted.iif)
                && (wanted.oif.is_none() || r.oif == wanted.oif)
                && (wanted.fwmark.is_none() || r.fwmark == wanted.fwmark)
                && (wanted.ipproto.is_none() || r.ipproto == wanted.ipproto)
                && (wanted.sport.is_none() || r.sport == wanted.sport)
                && (wanted.dport.is_none() || r.dport == wanted.dport)
                && (priority.is_some() || r.action == wanted.action)
        })?);
    }
    // Without a priority: one less than the second rule's (kernel: `fib_default_rule_pref`).
    let second = e
        .fib()
        .rules(v4)
        .get(1)
        .map_or(0, |r| r.priority.saturating_sub(1));
    e.rule_add(
        v4,
        PolicyRule {
            priority: priority.unwrap_or(second),
            origin: origin.clone(),
            ..rule.clone()
        },
    );
    Ok(())
}

fn neigh(e: &mut Edit<'_>, op: Op, n: &NeighSpec, origin: &Origin) -> Result<(), ApplyError> {
    let id = e.find(&n.dev)?;
    match (op, n.proxy) {
        (Op::Del, true) => return Ok(e.proxy_del(id, n.ip)?),
        (Op::Del, false) => return Ok(e.neigh_del(id, n.ip)?),
        (_, true) => return Ok(e.proxy_add(id, n.ip, origin.clone())?),
        _ => {}
    }
    let state = match n.state {
        NudWord::Permanent => NudState::Permanent,
        NudWord::Reachable => NudState::Reachable,
        NudWord::Stale => NudState::Stale,
        NudWord::NoArp => NudState::Noarp,
        NudWord::Delay => NudState::Delay,
        NudWord::Probe => NudState::Probe,
        NudWord::Failed => NudState::Failed,
        NudWord::Incomplete => NudState::Incomplete,
        NudWord::None => return Err(ApplyError::NotModelled("nud none".to_owned())),
    };
    Ok(e.neigh_set(
        id,
        n.ip,
        n.mac.unwrap_or(MacAddr::ZERO),
        state,
        origin.clone(),
    )?)
}

fn fdb(e: &mut Edit<'_>, op: Op, f: &FdbSpec, now: Instant) -> Result<(), ApplyError> {
    let id = e.find(&f.dev)?;
    let vlan = f.vlan.unwrap_or(0);
    let kind = e.dev(id).map(|d| d.kind.name()).unwrap_or_default();
    match (f.own, kind, op, f.dst) {
        (false, ..) => {}
        (true, "vxlan", Op::Del, dst) => e.vxlan_fdb_del(id, f.mac, dst)?,
        (true, "vxlan", _, Some(dst)) => {
            e.vxlan_fdb_add(id, f.mac, dst, matches!(op, Op::Replace | Op::Change))?
        }
        (true, "bridge", Op::Del, None) => e.fdb_del(id, vlan, f.mac)?,
        (true, "bridge", _, None) => e.fdb_set(id, vlan, f.mac, true, now)?,
        (true, kind, ..) => {
            return Err(ApplyError::NotModelled(format!(
                "fdb self on a {kind} device"
            )));
        }
    }
    if f.master {
        match (op, f.life) {
            (Op::Del, _) => e.fdb_del(id, vlan, f.mac)?,
            // `master` with the default `permanent` makes a local entry: frames to it go up.
            (_, FdbLife::Permanent) => {
                return Err(ApplyError::NotModelled(
                    "a local entry on a port (say static)".to_owned(),
                ));
            }
            (_, life) => e.fdb_set(id, vlan, f.mac, life == FdbLife::Static, now)?,
        }
    }
    Ok(())
}
