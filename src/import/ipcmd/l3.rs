//! `ip addr`, `ip route`, `ip rule`, `ip neigh`.

use super::is;
use super::link::end;
use super::types::*;
use super::words::{Words, number, prefix};
use crate::base::{Finding, Origin};
use crate::net::addr::Scope;
use crate::net::fib::{self, PolicyRule, RouteKind, RuleAction, table};
use crate::wire::proto;
use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// Whether the next word only asks to show something.
fn shows(w: &Words<'_>) -> bool {
    w.peek().is_none_or(|c| {
        is(c, "show") || is(c, "list") || is(c, "get") || is(c, "save") || c == "ls"
    })
}

fn op(w: &mut Words<'_>) -> Result<Op, Finding> {
    match w.next("add, replace or del")? {
        c if is(c, "add") => Ok(Op::Add),
        c if is(c, "append") => Ok(Op::Append),
        c if is(c, "prepend") => Ok(Op::Prepend),
        c if is(c, "change") || c == "chg" => Ok(Op::Change),
        c if is(c, "replace") => Ok(Op::Replace),
        c if is(c, "delete") => Ok(Op::Del),
        c => Err(w.bad(c, "add, append, prepend, replace, change or del")),
    }
}

/// `ip addr` behind the object's name.
pub(super) fn addr(w: &mut Words<'_>) -> Result<Command, Finding> {
    if shows(w) {
        return Ok(Command::Show);
    }
    if w.peek().is_some_and(|c| is(c, "flush")) {
        w.skip();
        w.take("dev");
        let dev = w.next("a device")?.to_owned();
        end(w)?;
        return Ok(Command::AddrFlush { dev });
    }
    let op = op(w)?;
    let mut addr = AddrSpec {
        net: w.prefix(None)?,
        peer: None,
        broadcast: None,
        scope: None,
        dev: String::new(),
        no_prefix_route: false,
    };
    while let Some(word) = w.peek() {
        w.skip();
        match word {
            "dev" => addr.dev = w.next("a device")?.to_owned(),
            "peer" | "remote" => addr.peer = Some(w.prefix(None)?),
            "brd" | "broadcast" if w.take("+") => {
                addr.broadcast = match addr.net {
                    IpNetwork::V4(n) => Some(n.broadcast()),
                    IpNetwork::V6(_) => None,
                }
            }
            "brd" | "broadcast" => addr.broadcast = Some(w.value("an IPv4 address")?),
            "scope" => addr.scope = Some(scope(w)?),
            "noprefixroute" => addr.no_prefix_route = true,
            // Duplicate detection is not modelled, so leaving it out changes nothing.
            "nodad" | "home" | "mngtmpaddr" => {}
            "label" | "valid_lft" | "preferred_lft" | "metric" | "proto" => {
                w.next("a value").map(|_| ())?
            }
            other => return Err(w.bad(other, "dev, peer, brd, scope, nodad or noprefixroute")),
        }
    }
    if addr.dev.is_empty() {
        return Err(w.bad("", "dev DEVICE"));
    }
    Ok(Command::Addr { op, addr })
}

fn scope(w: &mut Words<'_>) -> Result<Scope, Finding> {
    match w.next("a scope")? {
        "global" | "universe" | "0" => Ok(Scope::Universe),
        "site" | "200" => Ok(Scope::Site),
        "link" | "253" => Ok(Scope::Link),
        "host" | "254" => Ok(Scope::Host),
        "nowhere" | "255" => Ok(Scope::Nowhere),
        other => Err(w.bad(other, "global, site, link or host")),
    }
}

/// `/etc/iproute2/rt_tables`.
fn table_id(w: &mut Words<'_>) -> Result<u32, Finding> {
    match w.next("a table")? {
        "local" => Ok(table::LOCAL),
        "main" => Ok(table::MAIN),
        "default" => Ok(table::DEFAULT),
        word => number(word).ok_or_else(|| w.bad(word, "a table number, local, main or default")),
    }
}

/// `/etc/iproute2/rt_protos`.
fn protocol(w: &mut Words<'_>) -> Result<u8, Finding> {
    match w.next("a routing protocol")? {
        "kernel" => Ok(fib::PROTO_KERNEL),
        "boot" => Ok(fib::PROTO_BOOT),
        "static" => Ok(fib::PROTO_STATIC),
        "bird" => Ok(fib::PROTO_BIRD),
        word => word
            .parse()
            .map_err(|_| w.bad(word, "a protocol number, kernel, boot, static or bird")),
    }
}

fn route_kind(word: &str) -> Option<RouteKind> {
    use RouteKind::*;
    [
        Unicast,
        Local,
        Broadcast,
        Anycast,
        Multicast,
        Blackhole,
        Unreachable,
        Prohibit,
        Throw,
    ]
    .into_iter()
    .find(|k| k.name() == word)
}

/// `ip route` behind the object's name.
pub(super) fn route(w: &mut Words<'_>, v6: Option<bool>) -> Result<Command, Finding> {
    if shows(w) {
        return Ok(Command::Show);
    }
    if w.peek().is_some_and(|c| is(c, "flush")) {
        w.skip();
        if w.take("cache") {
            end(w)?;
            return Ok(Command::RouteFlushCache);
        }
        return Ok(Command::RouteFlush {
            route: route_spec(w, v6)?,
        });
    }
    let op = op(w)?;
    Ok(Command::Route {
        op,
        route: route_spec(w, v6)?,
    })
}

fn route_spec(w: &mut Words<'_>, mut v6: Option<bool>) -> Result<RouteSpec, Finding> {
    let kind = w.peek().and_then(route_kind);
    if kind.is_some() {
        w.skip();
    }
    w.take("to");
    let to = w.next("a destination")?;
    let any = matches!(to, "default" | "all" | "any");
    let mut dst = prefix(to, v6).ok_or_else(|| w.bad(to, "a destination prefix"))?;
    if !any {
        v6 = Some(dst.is_ipv6());
    }
    let mut r = RouteSpec {
        kind,
        dst,
        table: None,
        tos: None,
        metric: None,
        protocol: None,
        scope: None,
        src: None,
        mtu: None,
        mtu_lock: false,
        pref: RoutePref::Medium,
        hops: Vec::new(),
    };
    let mut first = HopSpec {
        weight: 1,
        ..HopSpec::default()
    };
    while let Some(word) = w.peek() {
        w.skip();
        match word {
            "nexthop" => {
                let hop = nexthop(w)?;
                r.hops.push(hop);
            }
            "table" => r.table = Some(table_id(w)?),
            "tos" | "dsfield" => {
                r.tos = Some(
                    w.number("a TOS")?
                        .try_into()
                        .map_err(|_| w.bad("", "a TOS"))?,
                )
            }
            "metric" | "preference" => r.metric = Some(w.number("a metric")?),
            "proto" | "protocol" => r.protocol = Some(protocol(w)?),
            "scope" => r.scope = Some(scope(w)?),
            "src" => r.src = Some(w.address()?),
            "mtu" => {
                r.mtu_lock = w.take("lock");
                r.mtu = Some(w.number("an MTU")?);
            }
            "pref" => r.pref = preference(w)?,
            other => hop_word(w, &mut first, other)?,
        }
    }
    if first.via.is_some() || first.dev.is_some() || first.onlink {
        r.hops.insert(0, first);
    }
    // `default via fd00::1` is an IPv6 route without saying so.
    let gateway = r.hops.iter().find_map(|h| h.via);
    if any && v6.is_none() && gateway.is_some_and(|g: IpAddr| g.is_ipv6()) {
        dst = crate::net::addr::default_net(false);
    }
    Ok(RouteSpec { dst, ..r })
}

fn preference(w: &mut Words<'_>) -> Result<RoutePref, Finding> {
    match w.next("low, medium or high")? {
        "low" => Ok(RoutePref::Low),
        "medium" => Ok(RoutePref::Medium),
        "high" => Ok(RoutePref::High),
        other => Err(w.bad(other, "low, medium or high")),
    }
}

fn nexthop(w: &mut Words<'_>) -> Result<HopSpec, Finding> {
    let mut hop = HopSpec {
        weight: 1,
        ..HopSpec::default()
    };
    while let Some(word) = w.peek() {
        if word == "nexthop" {
            break;
        }
        w.skip();
        match word {
            "weight" => hop.weight = w.number("a weight")?.max(1),
            other => hop_word(w, &mut hop, other)?,
        }
    }
    Ok(hop)
}

fn hop_word(w: &mut Words<'_>, hop: &mut HopSpec, word: &str) -> Result<(), Finding> {
    match word {
        "via" => hop.via = Some(w.address()?),
        "dev" | "oif" => hop.dev = Some(w.next("a device")?.to_owned()),
        "onlink" => hop.onlink = true,
        other => {
            return Err(w.bad(
                other,
                "via, dev, onlink, table, metric, proto, scope, src, mtu, pref or nexthop",
            ));
        }
    }
    Ok(())
}

/// `ip rule` behind the object's name.
pub(super) fn rule(w: &mut Words<'_>, v6: Option<bool>) -> Result<Command, Finding> {
    if shows(w) {
        return Ok(Command::Show);
    }
    let op = op(w)?;
    let mut priority = None;
    let mut r = PolicyRule::lookup(0, table::MAIN, Origin::Kernel);
    let mut six = v6;
    while let Some(word) = w.peek() {
        w.skip();
        match word {
            "not" => r.not = true,
            "from" => r.from = rule_prefix(w, &mut six)?,
            "to" => r.to = rule_prefix(w, &mut six)?,
            "iif" | "dev" => r.iif = Some(w.next("a device")?.to_owned()),
            "oif" => r.oif = Some(w.next("a device")?.to_owned()),
            "fwmark" => r.fwmark = Some(fwmark(w)?),
            "tos" | "dsfield" => {
                r.tos = w
                    .number("a TOS")?
                    .try_into()
                    .map_err(|_| w.bad("", "a TOS"))?
            }
            "ipproto" => r.ipproto = Some(ip_protocol(w)?),
            "sport" => r.sport = Some(ports(w)?),
            "dport" => r.dport = Some(ports(w)?),
            "priority" | "pref" | "order" => priority = Some(w.number("a priority")?),
            "lookup" | "table" => r.action = RuleAction::Table(table_id(w)?),
            "goto" => r.action = RuleAction::Goto(w.number("a priority")?),
            "suppress_prefixlength" | "sup_pl" => {
                r.suppress_prefixlength = Some(w.value("a prefix length")?)
            }
            "blackhole" => r.action = RuleAction::Blackhole,
            "unreachable" => r.action = RuleAction::Unreachable,
            "prohibit" => r.action = RuleAction::Prohibit,
            "nop" => r.action = RuleAction::Nop,
            "type" => {}
            other => {
                return Err(w.bad(
                    other,
                    "from, to, iif, oif, fwmark, tos, ipproto, sport, dport, pref, lookup or an action",
                ));
            }
        }
    }
    Ok(Command::Rule {
        op,
        v6: six == Some(true),
        priority,
        rule: Box::new(r),
    })
}

/// A name of `/etc/protocols` that an operator writes, or a number (iproute2: `inet_proto_a2n`).
fn ip_protocol(w: &mut Words<'_>) -> Result<u8, Finding> {
    match w.next("an IP protocol")? {
        "icmp" => Ok(proto::ICMP),
        "tcp" => Ok(proto::TCP),
        "udp" => Ok(proto::UDP),
        "ipv6-icmp" | "icmpv6" => Ok(proto::ICMPV6),
        "igmp" => Ok(2),
        "gre" => Ok(47),
        "esp" => Ok(50),
        "ah" => Ok(51),
        "sctp" => Ok(132),
        word => {
            let number = word.strip_prefix("ipproto-").unwrap_or(word).parse().ok();
            let number = number.filter(|n| *n != 0);
            number.ok_or_else(|| {
                w.bad(
                    word,
                    "tcp, udp, icmp, another protocol's name or its number",
                )
            })
        }
    }
}

/// `PORT` or `FIRST-LAST`; neither port 0 nor a range that ends before it begins (kernel:
/// `fib_rule_port_range_valid`).
fn ports(w: &mut Words<'_>) -> Result<(u16, u16), Finding> {
    let word = w.next("a port or a range of ports")?;
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    let both = first.parse().ok().zip(last.parse().ok());
    both.filter(|(a, b): &(u16, u16)| *a != 0 && a <= b && *b < u16::MAX)
        .ok_or_else(|| w.bad(word, "a port or a range of ports, PORT or FIRST-LAST"))
}

/// `all` matches everything and is no match at all.
fn rule_prefix(w: &mut Words<'_>, six: &mut Option<bool>) -> Result<Option<IpNetwork>, Finding> {
    if matches!(w.peek(), Some("all" | "any" | "default")) {
        w.skip();
        return Ok(None);
    }
    let net = w.prefix(*six)?;
    *six = Some(net.is_ipv6());
    Ok(Some(net))
}

fn fwmark(w: &mut Words<'_>) -> Result<(u32, u32), Finding> {
    let word = w.next("a mark")?;
    let (value, mask) = word
        .split_once('/')
        .map_or((word, None), |(v, m)| (v, Some(m)));
    let both = number(value).zip(mask.map_or(Some(u32::MAX), number));
    both.ok_or_else(|| w.bad(word, "MARK[/MASK]"))
}

/// `ip neigh` behind the object's name.
pub(super) fn neigh(w: &mut Words<'_>) -> Result<Command, Finding> {
    if shows(w) {
        return Ok(Command::Show);
    }
    if w.peek().is_some_and(|c| is(c, "flush")) {
        w.skip();
        let dev = if w.take("dev") {
            Some(w.next("a device")?.to_owned())
        } else {
            None
        };
        w.take("all");
        end(w)?;
        return Ok(Command::NeighFlush { dev });
    }
    let op = op(w)?;
    let mut proxy = w.take("proxy");
    w.take("to");
    let ip = w.value("an IP address")?;
    let mut n = NeighSpec {
        ip,
        mac: None,
        dev: String::new(),
        state: NudWord::Permanent,
        proxy,
    };
    while let Some(word) = w.peek() {
        w.skip();
        match word {
            "lladdr" => n.mac = Some(w.value("a MAC address")?),
            "dev" => n.dev = w.next("a device")?.to_owned(),
            "nud" => n.state = nud(w)?,
            "proxy" => proxy = true,
            "router" | "use" | "managed" | "extern_learn" => {}
            other => return Err(w.bad(other, "lladdr, dev, nud or proxy")),
        }
    }
    if n.dev.is_empty() {
        return Err(w.bad("", "dev DEVICE"));
    }
    Ok(Command::Neigh {
        op,
        neigh: NeighSpec { proxy, ..n },
    })
}

fn nud(w: &mut Words<'_>) -> Result<NudWord, Finding> {
    Ok(match w.next("a neighbour state")? {
        "permanent" => NudWord::Permanent,
        "reachable" => NudWord::Reachable,
        "stale" => NudWord::Stale,
        "noarp" => NudWord::NoArp,
        "incomplete" => NudWord::Incomplete,
        "delay" => NudWord::Delay,
        "probe" => NudWord::Probe,
        "failed" => NudWord::Failed,
        "none" => NudWord::None,
        other => return Err(w.bad(other, "permanent, reachable, stale, noarp, ...")),
    })
}
