//! What changes between batches: objects, rules, routes, neighbours, sysctls, connections, devices, cables.

use crate::plan::{self, Plan, pick};
use crate::side::Side;
use podpath::base::{NsId, Rng, Span};
use podpath::net::PortAt;
use std::time::Duration;

/// Lines that a node's operator types; `NODE`'s own devices and addresses are put in for capital words.
const LINES: [&str; 28] = [
    "iptables -I FORWARD -p udp --dport 7 -j ACCEPT",
    "iptables -D FORWARD -p udp --dport 7 -j ACCEPT",
    "iptables -A FORWARD -m conntrack --ctstatus ASSURED -j ACCEPT",
    "iptables -A FORWARD -p udp -m limit --limit 3/second -j ACCEPT",
    "iptables -A FORWARD -p udp -m length --length 0:60 -j ACCEPT",
    "iptables -A FORWARD -p tcp -m statistic --mode nth --every 3 --packet 0 -j ACCEPT",
    "iptables -t mangle -A PREROUTING -p udp -j MARK --set-xmark 0x10000/0x10000",
    "iptables -t mangle -A FORWARD -p udp -j CONNMARK --set-xmark 0x5/0xff",
    "iptables -t mangle -A FORWARD -m connmark --mark 0x5/0xff -j ACCEPT",
    "iptables -t mangle -F",
    "iptables -t raw -A PREROUTING -p udp --sport 4001 -j NOTRACK",
    "iptables -t raw -F",
    "ip6tables -I FORWARD -p tcp -j ACCEPT",
    "nft add rule inet watch fwd 'counter name all'",
    "nft add rule inet watch fwd 'meta l4proto udp counter last'",
    "nft add rule inet watch fwd 'update @seen { ip saddr }'",
    "nft add rule inet watch fwd 'ip daddr @seen counter accept'",
    "nft add rule inet watch fwd 'meta length 0-60 counter'",
    "nft add rule inet watch fwd 'ct mark set ct mark or 0x100'",
    "nft add rule inet watch fwd 'ip ttl 63 counter'",
    "nft add rule inet watch fwd 'tcp flags & (syn|ack) == ack counter'",
    "nft add rule inet watch fwd 'tcp window 61000-64000 counter'",
    "nft flush chain inet watch fwd",
    "sysctl -w net.ipv4.ip_forward=0",
    "sysctl -w net.ipv4.ip_forward=1",
    "sysctl -w net.netfilter.nf_conntrack_udp_timeout=7",
    "sysctl -w net.ipv4.vs.expire_nodest_conn=1",
    "sysctl -w net.netfilter.nf_conntrack_acct=1",
];

/// Lines that take back what others left.
const TIDY: [&str; 4] = [
    "iptables -t mangle -F",
    "iptables -t raw -F",
    "nft flush chain inet watch fwd",
    "sysctl -w net.ipv4.ip_forward=1",
];

/// A table beside kube-proxy's, on every node of half of the worlds.
const TABLE: [&str; 4] = [
    "nft add table inet watch",
    "nft add chain inet watch fwd '{ type filter hook forward priority 5 ; policy accept ; }'",
    "nft add set inet watch seen '{ type ipv4_addr ; flags dynamic,timeout ; timeout 5s ; counter ; }'",
    "nft add counter inet watch all",
];

/// Loads the table, or does not.
pub fn watch(rng: &mut Rng, sides: [&mut Side; 2]) {
    if rng.below(2) == 0 {
        return;
    }
    for side in sides {
        for (ns, _) in nodes(side) {
            for line in TABLE {
                assert!(side.command(ns, line), "{line}");
            }
        }
    }
}

fn nodes(side: &Side) -> Vec<(NsId, PortAt)> {
    let nodes = side.cluster.nodes.values();
    nodes.map(|n| (n.ns, n.uplink)).collect()
}

/// One edit, the same in both worlds; what it was.
pub fn edit(rng: &mut Rng, plan: Option<&Plan>, sides: [&mut Side; 2]) -> String {
    let drawn = rng.next_u64();
    let mut told = String::new();
    for side in sides {
        side.fast.sync(&mut side.cluster.lab.world);
        let mut rng = Rng::new(drawn);
        told = one(&mut rng, plan, side);
    }
    told
}

fn one(rng: &mut Rng, plan: Option<&Plan>, side: &mut Side) -> String {
    let all = nodes(side);
    let (ns, uplink) = pick(rng, &all);
    match rng.below(12) {
        0..=3 => {
            // What looks at each packet does not stay for long: nothing would be carried.
            let line = match rng.below(3) {
                0 => pick(rng, &TIDY),
                _ => pick(rng, &LINES),
            };
            format!("{line}: {}", side.command(ns, line))
        }
        4 | 5 => objects(rng, plan, side),
        6 => connections(rng, side, ns),
        7 => neighbours(rng, side, ns),
        8 => cable(rng, side, uplink),
        9 => device(rng, side, ns),
        10 => {
            let to = 1 + rng.below(200);
            let verb = pick(rng, &["add", "del", "replace"]);
            let line = format!("ip route {verb} blackhole 10.244.1.{to}/32");
            format!("{line}: {}", side.command(ns, &line))
        }
        _ => servers(rng, side, ns),
    }
}

/// A Service, its endpoints or a policy changes, and the controllers hear of it.
fn objects(rng: &mut Rng, plan: Option<&Plan>, side: &mut Side) -> String {
    let Some(plan) = plan else {
        return "nothing".into();
    };
    let object = match rng.below(3) {
        0 => plan::policy(rng, rng.clone().below(3)),
        _ => {
            let n = rng.below(plan.services());
            plan.service(rng, n)
        }
    };
    let findings = side.cluster.store.apply(&object, &Span::new("edit", 1, 1));
    side.cluster.objects_changed();
    format!("{object}: {findings:?}")
}

/// Connections are deleted, all or those of one protocol (`conntrack -F`, `-D -p udp`).
fn connections(rng: &mut Rng, side: &mut Side, ns: NsId) -> String {
    let protocol = pick(rng, &[None, Some(17), Some(6)]);
    if let Some(ns) = side.cluster.lab.world.ns_mut(ns) {
        let ct = &mut ns.nf_mut().ct;
        match protocol {
            None => ct.flush(),
            Some(p) => ct.delete(|c| c.tuple(podpath::nf::ct::Dir::Original).proto == p),
        };
    }
    format!("conntrack -D {protocol:?} in {ns:?}")
}

fn neighbours(rng: &mut Rng, side: &mut Side, ns: NsId) -> String {
    let known: Vec<String> = {
        let ns = side.cluster.lab.world.ns(ns).unwrap();
        let all = ns.neigh().iter();
        all.map(|(dev, ip, _)| format!("{ip} dev {}", ns.dev_name(dev)))
            .collect()
    };
    if known.is_empty() {
        return "no neighbour".into();
    }
    let at = &known[rng.below(known.len() as u64) as usize];
    let line = format!("ip neigh del {at}");
    format!("{line}: {}", side.command(ns, &line))
}

/// A cable delays, loses or cuts off long frames for a while, or does not any more.
fn cable(rng: &mut Rng, side: &mut Side, uplink: PortAt) -> String {
    let link = side.cluster.lab.world.link_mut(uplink);
    match rng.below(5) {
        0 => link.latency = Duration::from_micros(1 + rng.below(300)),
        1 => link.loss_ppm = 200_000,
        2 => link.mtu = Some(400),
        _ => *link = Default::default(),
    }
    format!("{uplink:?}: {link:?}")
}

/// A device's MTU changes, or it goes down and comes back with the next such edit.
fn device(rng: &mut Rng, side: &mut Side, ns: NsId) -> String {
    let names: Vec<String> = {
        let ns = side.cluster.lab.world.ns(ns).unwrap();
        let named = ns.devices().map(|d| d.name.clone());
        named
            .filter(|n| n != "lo" && !n.starts_with("eth"))
            .collect()
    };
    if names.is_empty() {
        return "no device".into();
    }
    let name = &names[rng.below(names.len() as u64) as usize];
    let what = pick(rng, &["mtu 1300", "mtu 1450", "up", "up", "down"]);
    let line = format!("ip link set {name} {what}");
    let done = side.command(ns, &line);
    if what == "down" {
        side.command(ns, &format!("ip link set {name} up"));
    }
    format!("{line}: {done}")
}

/// A real server of IPVS goes, or gets another weight.
fn servers(rng: &mut Rng, side: &mut Side, ns: NsId) -> String {
    let known: Vec<String> = {
        let ns = side.cluster.lab.world.ns(ns).unwrap();
        let Some(vs) = ns.ipvs() else {
            return "no IPVS".into();
        };
        let plain = podpath::report::show::ipvs::text(
            ns,
            podpath::report::show::ipvs::Listing::Save,
            side.cluster.lab.world.now(),
        );
        let _ = vs;
        plain
            .lines()
            .filter(|l| l.starts_with("-a"))
            .map(str::to_owned)
            .collect()
    };
    if known.is_empty() {
        return "no real server".into();
    }
    let line = &known[rng.below(known.len() as u64) as usize];
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, t, service, r, server, ..] = words.as_slice() else {
        return line.clone();
    };
    let line = match rng.below(3) {
        0 => format!("ipvsadm -d {t} {service} {r} {server}"),
        1 => format!("ipvsadm -e {t} {service} {r} {server} -m -w 0"),
        _ => "ipvsadm -Z".into(),
    };
    format!("{line}: {}", side.command(ns, &line))
}
