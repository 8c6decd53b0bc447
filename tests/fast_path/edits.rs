//! What changes between batches: objects, rules, routes, neighbours, sysctls, connections, devices, cables.

use crate::plan::{self, Plan, pick};
use crate::side::Side;
use podpath::base::{NsId, Rng, Span};
use podpath::net::{PortAt, table};
use podpath::report::show::route_line;
use podpath::sim::Block;
use std::time::Duration;

/// Lines that a node's operator types.
const LINES: [&str; 79] = [
    "iptables -I FORWARD -p udp --dport 7 -j ACCEPT",
    "iptables -D FORWARD -p udp --dport 7 -j ACCEPT",
    "iptables -A FORWARD -m conntrack --ctstatus ASSURED -j ACCEPT",
    "iptables -I FORWARD -m conntrack --ctstatus SEEN_REPLY",
    "iptables -I FORWARD -m conntrack --ctstate SNAT,DNAT",
    "iptables -I FORWARD -m state --state NEW",
    "iptables -I FORWARD -p udp -m limit --limit 3/second -j ACCEPT",
    "iptables -I FORWARD -p udp -m length --length 0:60 -j ACCEPT",
    "iptables -I FORWARD -p tcp -m statistic --mode nth --every 3 --packet 0 -j ACCEPT",
    "iptables -I FORWARD -m ttl --ttl-eq 63",
    "iptables -I FORWARD -p tcp -m connbytes --connbytes 5: --connbytes-dir both --connbytes-mode packets",
    "iptables -I FORWARD -p tcp --syn -m connlimit --connlimit-above 2 -j REJECT --reject-with tcp-reset",
    "iptables -I FORWARD -p udp -m recent --name r --set",
    "iptables -I FORWARD -p tcp --tcp-flags PSH PSH",
    "iptables -I FORWARD -p tcp --tcp-flags SYN,ACK,FIN,RST ACK",
    "iptables -I FORWARD -p udp --sport 4002 -j DROP",
    "iptables -I FORWARD -p tcp --sport 4002 -j REJECT",
    "iptables -I FORWARD -m set --match-set hot src",
    "iptables -t mangle -A PREROUTING -m set ! --match-set hot dst -j MARK --set-xmark 0x20/0x20",
    "iptables -t mangle -A PREROUTING -p udp -j SET --add-set hot src --exist --timeout 4",
    "iptables -t mangle -A PREROUTING -p udp -j MARK --set-xmark 0x10000/0x10000",
    "iptables -t mangle -A FORWARD -p udp -j CONNMARK --set-xmark 0x5/0xff",
    "iptables -t mangle -A PREROUTING -j CONNMARK --restore-mark",
    "iptables -t mangle -A POSTROUTING -j CONNMARK --save-mark",
    "iptables -t mangle -A FORWARD -m connmark --mark 0x5/0xff -j ACCEPT",
    "iptables -t mangle -A FORWARD -p udp -j TOS --set-tos 0x10",
    "iptables -t mangle -A FORWARD -p tcp -j DSCP --set-dscp 8",
    "iptables -t mangle -A FORWARD -j TTL --ttl-set 9",
    "iptables -t mangle -A FORWARD -p tcp --syn -j TCPMSS --clamp-mss-to-pmtu",
    "iptables -t mangle -F",
    "iptables -t raw -A PREROUTING -p udp --sport 4001 -j NOTRACK",
    "iptables -t raw -A PREROUTING -p udp --sport 4000 -j CT --zone 7",
    "iptables -t raw -F",
    "iptables -t nat -I PREROUTING -p udp --dport 7 -s 10.244.1.10 -j REDIRECT --to-ports 9",
    "iptables -t nat -I POSTROUTING -p udp --dport 7 -j MASQUERADE --to-ports 2000-2009",
    "iptables -Z",
    "ip6tables -I FORWARD -p tcp -j ACCEPT",
    "ip6tables -t mangle -A FORWARD -p udp -j CONNMARK --set-xmark 0x5/0xff",
    "ip6tables -I FORWARD -m conntrack --ctstatus ASSURED",
    "ip6tables -I FORWARD -p udp --sport 4002 -j REJECT",
    "ipset add hot 10.244.1.10 timeout 3 -exist",
    "ipset add hot 10.244.2.11 timeout 0 -exist",
    "ipset del hot 10.244.1.10 -exist",
    "ipset flush hot",
    "nft add rule inet watch fwd 'counter name all'",
    "nft add rule inet watch fwd 'meta l4proto udp counter last'",
    "nft add rule inet watch fwd 'update @seen { ip saddr }'",
    "nft add rule inet watch fwd 'add @seen { ip saddr timeout 3s }'",
    "nft add rule inet watch fwd 'udp sport 4001 delete @seen { ip saddr }'",
    "nft add rule inet watch fwd 'update @pairs { ip saddr . ip daddr timeout 2s counter } counter'",
    "nft add rule inet watch fwd 'ip daddr @seen counter accept'",
    "nft add rule inet watch fwd 'ip saddr != @seen counter'",
    "nft add rule inet watch fwd 'meta length 0-60 counter'",
    "nft add rule inet watch fwd 'limit rate 5/second counter'",
    "nft add rule inet watch fwd 'quota over 2000 bytes counter'",
    "nft add rule inet watch fwd 'ct mark set ct mark or 0x100'",
    "nft add rule inet watch fwd 'ct state established counter'",
    "nft add rule inet watch fwd 'ct status assured counter'",
    "nft add rule inet watch fwd 'ct original packets > 4 counter'",
    "nft add rule inet watch fwd 'ct expiration > 20s counter'",
    "nft add rule inet watch fwd 'ip ttl 63 counter'",
    "nft add rule inet watch fwd 'ip dscp set cs1'",
    "nft add rule inet watch fwd 'meta mark set 0x7'",
    "nft add rule inet watch fwd 'tcp flags & (syn|ack) == ack counter'",
    "nft add rule inet watch fwd 'tcp window 61000-64000 counter'",
    "nft add rule inet watch fwd 'th sport vmap { 4000 : accept, 4002 : drop }'",
    "nft add rule inet watch fwd 'numgen inc mod 2 0 counter'",
    "nft add rule inet watch fwd 'th dport 7 counter name th sport map @named'",
    "nft add rule inet watch fwd 'ip6 daddr fd00:10:244::/56 counter'",
    "nft add element inet watch seen '{ 10.244.1.10 timeout 3s, 10.244.2.10 }'",
    "nft delete element inet watch seen '{ 10.244.1.10 }'",
    "nft flush set inet watch seen",
    "nft flush chain inet watch fwd",
    "sysctl -w net.ipv4.ip_forward=0",
    "sysctl -w net.ipv6.conf.all.forwarding=0",
    "sysctl -w net.ipv4.conf.all.rp_filter=1",
    "sysctl -w net.bridge.bridge-nf-call-iptables=0",
    "sysctl -w net.ipv4.conf.all.send_redirects=0",
    "sysctl -w net.ipv4.vs.expire_nodest_conn=1",
];

/// What conntrack does, for a while.
const CONNTRACK: [&str; 11] = [
    "udp_timeout=7",
    "udp_timeout_stream=11",
    "tcp_timeout_established=20",
    "tcp_timeout_unacknowledged=3",
    "tcp_be_liberal=1",
    "tcp_loose=0",
    "tcp_no_window_check=1",
    "max=24",
    "checksum=0",
    "checksum=1",
    "acct=1",
];

/// Lines that take back what others left.
const TIDY: [&str; 17] = [
    "iptables -t mangle -F",
    "iptables -t raw -F",
    "ip6tables -t mangle -F",
    "nft flush chain inet watch fwd",
    "sysctl -w net.ipv4.ip_forward=1",
    "sysctl -w net.ipv6.conf.all.forwarding=1",
    "sysctl -w net.ipv4.conf.all.rp_filter=0",
    "sysctl -w net.bridge.bridge-nf-call-iptables=1",
    "sysctl -w net.ipv4.conf.all.send_redirects=1",
    "sysctl -w net.netfilter.nf_conntrack_udp_timeout=30",
    "sysctl -w net.netfilter.nf_conntrack_udp_timeout_stream=120",
    "sysctl -w net.netfilter.nf_conntrack_tcp_timeout_established=432000",
    "sysctl -w net.netfilter.nf_conntrack_tcp_timeout_unacknowledged=300",
    "sysctl -w net.netfilter.nf_conntrack_tcp_be_liberal=0",
    "sysctl -w net.netfilter.nf_conntrack_tcp_loose=1",
    "sysctl -w net.netfilter.nf_conntrack_max=262144",
    "iptables -t nat -D POSTROUTING -p udp --dport 7 -j MASQUERADE --to-ports 2000-2009",
];

/// A table beside kube-proxy's, and a set, on every node of half of the worlds.
const TABLE: [&str; 8] = [
    "nft add table inet watch",
    "nft add chain inet watch fwd '{ type filter hook forward priority 5 ; policy accept ; }'",
    "nft add set inet watch seen '{ type ipv4_addr ; flags dynamic,timeout ; timeout 5s ; counter ; }'",
    "nft add set inet watch pairs '{ type ipv4_addr . ipv4_addr ; flags dynamic,timeout ; }'",
    "nft add counter inet watch all",
    "nft add map inet watch named '{ type inet_service : counter ; }'",
    "nft add element inet watch named '{ 4000 : \"all\", 4001 : \"all\" }'",
    "ipset create hot hash:ip timeout 9",
];

/// Loads the table, or does not.
pub fn watch(rng: &mut Rng, sides: [&mut Side; 2]) {
    if rng.below(2) == 0 {
        return;
    }
    sides.into_iter().for_each(load);
}

fn load(side: &mut Side) {
    for (ns, _) in nodes(side) {
        for line in TABLE {
            assert!(side.command(ns, line), "{line}");
        }
    }
}

#[test]
fn every_line_does_something() {
    let mut side = Side::new(Plan::draw(3).build(), true, 4);
    load(&mut side);
    let (ns, _) = nodes(&side)[0];
    let conntrack = CONNTRACK.map(|l| format!("sysctl -w net.netfilter.nf_conntrack_{l}"));
    let lines = LINES.into_iter().map(str::to_owned).chain(conntrack);
    let lines = lines.chain(TIDY.map(str::to_owned));
    let refused: Vec<_> = lines.filter(|line| !side.command(ns, line)).collect();
    assert!(refused.is_empty(), "{refused:#?}");
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
    match rng.below(22) {
        0..=5 => {
            let line = pick(rng, &LINES);
            if line.contains(" -I FORWARD ") {
                let back = line.replace(" -I ", " -D ");
                side.undo.push((ns, back));
            }
            format!("{line}: {}", side.command(ns, line))
        }
        6 => {
            let line = pick(rng, &CONNTRACK);
            let line = format!("sysctl -w net.netfilter.nf_conntrack_{line}");
            format!("{line}: {}", side.command(ns, &line))
        }
        7..=9 => objects(rng, plan, side),
        10 => connections(rng, side, ns),
        11 => neighbours(rng, side, ns),
        12 => cable(rng, side, uplink),
        13 => device(rng, side, ns),
        14 => routes(rng, side, ns),
        15 => addresses(rng, side, ns),
        16 => servers(rng, side, ns),
        17 | 18 => {
            let line = pick(rng, &TIDY);
            format!("{line}: {}", side.command(ns, line))
        }
        // What looks at each packet does not stay for long: nothing would be carried.
        _ => tidy(side),
    }
}

/// Everything is as it was at first, but for objects.
fn tidy(side: &mut Side) -> String {
    for (ns, uplink) in nodes(side) {
        for line in TIDY {
            side.command(ns, line);
        }
        *side.cluster.lab.world.link_mut(uplink) = Default::default();
    }
    let undo = std::mem::take(&mut side.undo);
    for (ns, line) in undo.into_iter().rev() {
        side.command(ns, &line);
    }
    "all taken back".into()
}

/// A route goes, gets another MTU, or some of what it leads to is a black hole.
fn routes(rng: &mut Rng, side: &mut Side, ns: NsId) -> String {
    let v4 = rng.below(3) > 0;
    if rng.below(3) == 0 {
        let to = 10 + rng.below(3);
        let (six, to) = match v4 {
            true => ("", format!("10.244.1.{to}/32")),
            false => ("-6 ", format!("fd00:10:244:1::{to}/128")),
        };
        let kind = pick(rng, &["blackhole", "unreachable", "prohibit"]);
        let line = format!("ip {six}route add {kind} {to}");
        side.undo.push((ns, line.replace(" add ", " del ")));
        return format!("{line}: {}", side.command(ns, &line));
    }
    let known: Vec<String> = {
        let ns = side.cluster.lab.world.ns(ns).unwrap();
        let all = ns
            .fib()
            .table(table::MAIN)
            .into_iter()
            .flat_map(|t| t.routes(v4));
        all.map(|r| route_line(ns, table::MAIN, r)).collect()
    };
    if known.is_empty() {
        return "no route".into();
    }
    let route = known[rng.below(known.len() as u64) as usize]
        .trim_end()
        .to_owned();
    let six = if v4 { "" } else { "-6 " };
    let line = match rng.below(2) {
        0 => {
            side.undo.push((ns, format!("ip {six}route add {route}")));
            format!("ip {six}route del {route}")
        }
        _ => {
            side.undo
                .push((ns, format!("ip {six}route replace {route}")));
            format!(
                "ip {six}route replace {route} mtu {}",
                pick(rng, &[600, 1280, 1400])
            )
        }
    };
    format!("{line}: {}", side.command(ns, &line))
}

/// A node has another address: perhaps a pod's.
fn addresses(rng: &mut Rng, side: &mut Side, ns: NsId) -> String {
    let name = device_name(rng, side, ns).unwrap_or("lo".into());
    let ip = match rng.below(3) {
        0 => format!("10.244.2.{}/32", 10 + rng.below(3)),
        1 => format!("192.168.60.{}/24", 1 + rng.below(9)),
        _ => format!("fd00:10:244:1::{}/128", 10 + rng.below(3)),
    };
    let line = format!("ip addr add {ip} dev {name}");
    side.undo.push((ns, line.replace(" add ", " del ")));
    format!("{line}: {}", side.command(ns, &line))
}

/// A Service, its endpoints or a policy changes, and the controllers hear of it.
fn objects(rng: &mut Rng, plan: Option<&Plan>, side: &mut Side) -> String {
    let Some(plan) = plan else {
        return "nothing".into();
    };
    let object = match rng.below(6) {
        0 | 1 => plan::policy(rng, rng.clone().below(3)),
        2 | 3 => plan.pod_again(rng),
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
    let line = match rng.below(4) {
        0 => format!("ip neigh del {at}"),
        1 => format!("ip neigh replace {at} lladdr 02:50:00:00:00:77 nud reachable"),
        2 => format!("ip neigh change {at} nud stale"),
        _ => format!("ip neigh change {at} nud failed"),
    };
    format!("{line}: {}", side.command(ns, &line))
}

/// A cable delays, loses, blocks or cuts off long frames for a while, or does not any more.
fn cable(rng: &mut Rng, side: &mut Side, uplink: PortAt) -> String {
    // Out of the node, or to it.
    let back = side
        .cluster
        .lab
        .world
        .ns(uplink.ns)
        .and_then(|ns| ns.dev(uplink.dev)?.peer);
    let from = back.filter(|_| rng.below(3) == 0).unwrap_or(uplink);
    let link = side.cluster.lab.world.link_mut(from);
    match rng.below(6) {
        0 => link.latency = Duration::from_micros(1 + rng.below(300)),
        1 => link.loss_ppm = 200_000,
        2 => link.mtu = Some(400),
        3 => {
            link.blocked = vec![Block {
                port: Some(7),
                ..Block::default()
            }]
        }
        _ => *link = Default::default(),
    }
    format!("{from:?}: {link:?}")
}

fn device_name(rng: &mut Rng, side: &Side, ns: NsId) -> Option<String> {
    let ns = side.cluster.lab.world.ns(ns)?;
    let named = ns.devices().map(|d| d.name.clone());
    let names: Vec<String> = named
        .filter(|n| n != "lo" && !n.starts_with("eth"))
        .collect();
    (!names.is_empty()).then(|| names[rng.below(names.len() as u64) as usize].clone())
}

/// A device's MTU, address or bridge changes, or it goes down, for a moment or longer.
fn device(rng: &mut Rng, side: &mut Side, ns: NsId) -> String {
    let Some(name) = device_name(rng, side, ns) else {
        return "no device".into();
    };
    let what = pick(
        rng,
        &[
            "mtu 1300",
            "mtu 1450",
            "mtu 1500",
            "up",
            "down",
            "down",
            "nomaster",
            "address 02:50:00:00:00:99",
        ],
    );
    let line = format!("ip link set {name} {what}");
    let done = side.command(ns, &line);
    if what == "down" {
        let up = format!("ip link set {name} up");
        match rng.below(2) {
            0 => _ = side.command(ns, &up),
            _ => side.undo.push((ns, up)),
        }
    }
    if what == "nomaster" {
        for bridge in ["cni0", "cbr0"] {
            side.undo
                .push((ns, format!("ip link set {name} master {bridge}")));
        }
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
