//! The scenario's networks as `ip` commands, in the order in which the recorder gives them.
//!
//! Emulated namespaces get everything. Endpoints get their interfaces with link address, MTU and state, and
//! neither an address nor IPv6: their kernels stay silent, what they send is the recording's.

use super::scenario::{Device, End};
use super::topo::Topo;

/// One command for one namespace.
pub type Line = (String, String);

/// What has to happen, in order; veth pairs are made between `first` and `then`.
#[derive(Default)]
pub struct Build {
    /// Before the cables: IPv6 settings, bridges, dummies.
    pub first: Vec<Line>,
    /// Cables: both ends' namespace and device, link address where known.
    pub cables: Vec<[End; 2]>,
    /// After them.
    pub then: Vec<Line>,
    /// What has no counterpart.
    pub lacks: Vec<String>,
}

/// The commands of a scenario.
pub fn commands(topo: &Topo<'_>) -> Build {
    let mut b = Build::default();
    let s = topo.scenario;
    for (ns, n) in &s.netns {
        let off = u8::from(!(n.ipv6 && topo.emulated(ns)));
        for which in ["all", "default"] {
            b.first.push((
                ns.clone(),
                format!("sysctl -w net.ipv6.conf.{which}.disable_ipv6={off}"),
            ));
        }
        b.first.push((
            ns.clone(),
            "sysctl -w net.ipv6.conf.default.accept_dad=0".to_owned(),
        ));
        b.first.push((ns.clone(), "ip link set lo up".to_owned()));
    }
    let emulated: Vec<&Device> = s
        .devices
        .iter()
        .filter(|d| topo.emulated(&d.end.ns))
        .collect();
    for d in emulated
        .iter()
        .filter(|d| matches!(d.kind.as_str(), "bridge" | "dummy"))
    {
        let filter = if d.vlan_filtering {
            " vlan_filtering 1"
        } else {
            ""
        };
        let bridge = format!("bridge stp_state 0 forward_delay 0 mcast_snooping 0{filter}");
        let kind = if d.kind == "bridge" {
            bridge.as_str()
        } else {
            "dummy"
        };
        b.first.push((
            d.end.ns.clone(),
            format!("ip link add {} type {kind}", d.end.dev),
        ));
    }
    b.cables
        .extend(s.links.iter().map(|l| [l.a.clone(), l.b.clone()]));
    for ns in s.netns.keys() {
        for d in emulated
            .iter()
            .filter(|d| matches!(d.kind.as_str(), "bridge" | "dummy") && d.end.ns == *ns)
        {
            finish(topo, &d.end, &mut b);
        }
        for e in s
            .links
            .iter()
            .flat_map(|l| [&l.a, &l.b])
            .filter(|e| e.ns == *ns)
        {
            finish(topo, e, &mut b);
        }
    }
    for d in &emulated {
        tunnel(topo, d, &mut b);
    }
    port_flags(topo, &mut b);
    for ns in s.netns.keys().filter(|ns| topo.emulated(ns)) {
        configuration(topo, ns, &mut b);
    }
    for (ns, n) in s.netns.iter().filter(|(ns, _)| !topo.emulated(ns)) {
        b.then.extend(
            n.ip.iter()
                .filter(|l| l.starts_with("link set "))
                .map(|l| (ns.clone(), format!("ip {l}"))),
        );
    }
    b
}

/// Address, MTU, bridge, addresses, state: the recorder's `finish`.
fn finish(topo: &Topo<'_>, e: &End, b: &mut Build) {
    let mut line = |words: String| b.then.push((e.ns.clone(), format!("ip {words}")));
    let emulated = topo.emulated(&e.ns);
    if let Some(mac) = topo.macs.get(&(e.ns.clone(), e.dev.clone())) {
        line(format!("link set {} address {mac}", e.dev));
    }
    if let Some(mtu) = e.mtu {
        line(format!("link set {} mtu {mtu}", e.dev));
    }
    if let Some(master) = e.master.as_ref().filter(|_| emulated) {
        line(format!("link set {} master {master}", e.dev));
    }
    for a in e.addr.iter().filter(|_| emulated) {
        line(format!("addr add {a} dev {}", e.dev));
    }
    line(format!(
        "link set {} {}",
        e.dev,
        if e.down { "down" } else { "up" }
    ));
}

fn tunnel(topo: &Topo<'_>, d: &Device, b: &mut Build) {
    let dev = &d.end.dev;
    let local = d
        .local
        .as_deref()
        .map_or(String::new(), |l| format!(" local {l}"));
    let kind = match d.kind.as_str() {
        "bridge" | "dummy" => return,
        "vxlan" => {
            let under = d
                .under
                .as_deref()
                .map_or(String::new(), |u| format!(" dev {u}"));
            let learning = if d.nolearning.unwrap_or(true) {
                " nolearning"
            } else {
                ""
            };
            let (id, port) = (d.id.unwrap_or(0), d.dstport.unwrap_or(8472));
            format!("vxlan id {id}{local}{under} dstport {port}{learning}")
        }
        "ipip" => format!("ipip{local} ttl inherit nopmtudisc"),
        other => {
            b.lacks.push(format!(
                "needs a device of kind {other}: {dev} in {}",
                d.end.ns
            ));
            return;
        }
    };
    b.then
        .push((d.end.ns.clone(), format!("ip link add {dev} type {kind}")));
    finish(topo, &d.end, b);
}

fn port_flags(topo: &Topo<'_>, b: &mut Build) {
    for ((ns, dev), e) in topo.ends.iter().filter(|(p, _)| topo.emulated(&p.0)) {
        for (flag, on) in [
            ("hairpin", e.hairpin),
            ("isolated", e.isolated),
            ("learning", e.learning),
        ] {
            if let Some(on) = on {
                let on = if on { "on" } else { "off" };
                b.then
                    .push((ns.clone(), format!("bridge link set dev {dev} {flag} {on}")));
            }
        }
    }
}

/// Settings, routes, neighbours, forwarding entries, `ip` lines: in the recorder's order.
fn configuration(topo: &Topo<'_>, ns: &str, b: &mut Build) {
    let Some(n) = topo.scenario.netns.get(ns) else {
        return;
    };
    let mut line = |words: String| b.then.push((ns.to_owned(), words));
    for (k, v) in &n.sysctl {
        line(format!("sysctl -w {k}='{}'", super::plan::plain(v)));
    }
    for r in &n.routes {
        line(format!("ip route add {r}"));
    }
    for x in &n.neigh {
        line(format!(
            "ip neigh replace {} lladdr {} dev {} nud permanent",
            x.ip, x.mac, x.dev
        ));
    }
    for x in &n.fdb {
        let op = x.op.as_deref().unwrap_or("append");
        let rest = match (&x.dst, &x.args) {
            (Some(dst), _) => format!("dst {dst} self permanent"),
            (None, Some(args)) => args.join(" "),
            (None, None) => "master static".to_owned(),
        };
        line(format!("bridge fdb {op} {} dev {} {rest}", x.mac, x.dev));
    }
    for l in &n.ip {
        line(format!("ip {l}"));
    }
}
