//! A rule in each chain, and what the packet's end says.

use crate::net::{Net, echo, routed, udp};
use podpath::path::{Disposition, DropReason, Errno};
use podpath::wire::proto;

fn dropped_by(n: &mut Net, ns: &str) -> String {
    match n.end_in(ns) {
        Some(Disposition::Dropped {
            reason: DropReason::Netfilter,
            detail,
            ..
        }) => detail,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_rule_drops_in_each_chain() {
    let to_server = || udp(("10.1.0.10", 1000), ("10.2.0.10", 9), b"x");
    let to_router = || udp(("10.1.0.10", 1000), ("10.1.0.1", 9), b"x");
    let cases = [
        ("raw", "PREROUTING", to_server(), "10.2.0.10"),
        ("mangle", "PREROUTING", to_server(), "10.2.0.10"),
        ("filter", "FORWARD", to_server(), "10.2.0.10"),
        ("mangle", "FORWARD", to_server(), "10.2.0.10"),
        ("mangle", "POSTROUTING", to_server(), "10.2.0.10"),
        ("filter", "INPUT", to_router(), "10.1.0.1"),
        ("mangle", "INPUT", to_router(), "10.1.0.1"),
    ];
    for (table, chain, packet, dst) in cases {
        let mut n = routed();
        n.iptables(
            "router",
            &format!("{table}; -A {chain} -d 10.9.9.9; -A {chain} -d {dst} -j DROP"),
        );
        n.send("client", &packet).unwrap();
        let want = format!("iptables {table} {chain} rule 2: -A {chain} -d {dst}/32 -j DROP");
        assert_eq!(dropped_by(&mut n, "router"), want);
        assert!(n.at("router e2 Out").is_empty());
    }
}

#[test]
fn a_policy_drops_and_says_so() {
    let mut n = routed();
    n.iptables("router", "filter; :FORWARD DROP [0:0]");
    n.send("client", &udp(("10.1.0.10", 1000), ("10.2.0.10", 9), b"x"))
        .unwrap();
    assert_eq!(
        dropped_by(&mut n, "router"),
        "iptables filter FORWARD: policy DROP"
    );
}

#[test]
fn output_and_postrouting_of_own_packets() {
    let mut n = routed();
    n.iptables(
        "client",
        "filter; -A OUTPUT -p udp -j DROP\nmangle; -A POSTROUTING -p icmp -j DROP",
    );
    let sent = n.send("client", &udp(("10.1.0.10", 1000), ("10.2.0.10", 9), b"x"));
    assert_eq!(sent, Err(Errno::Perm), "sendto: Operation not permitted");
    assert!(dropped_by(&mut n, "client").contains("filter OUTPUT rule 1"));
    n.send("client", &echo("10.1.0.10", "10.2.0.10", 5))
        .unwrap();
    assert!(dropped_by(&mut n, "client").contains("mangle POSTROUTING rule 1"));
    assert!(n.lines().is_empty());
}

#[test]
fn ipv6_has_the_same_places() {
    for (chain, dst) in [("FORWARD", "fd00:2::10"), ("INPUT", "fd00:1::1")] {
        let mut n = routed();
        n.ip6tables("router", &format!("filter; -A {chain} -p udp -j DROP"));
        n.send("client", &udp(("fd00:1::10", 1000), (dst, 9), b"x"))
            .unwrap();
        assert_eq!(
            dropped_by(&mut n, "router"),
            format!("ip6tables filter {chain} rule 1: -A {chain} -p udp -j DROP")
        );
    }
}

#[test]
fn neighbour_discovery_passes_output() {
    // Kernel: ndisc_send_skb goes through NF_INET_LOCAL_OUT; a closed OUTPUT cuts a host off.
    let mut n = routed();
    n.run("client", "ip -6 neigh del fd00:1::1 dev eth0");
    n.ip6tables(
        "client",
        "filter; -A OUTPUT -p ipv6-icmp -m icmp6 --icmpv6-type 135 -j DROP",
    );
    let _ = n.send(
        "client",
        &udp(("fd00:1::10", 1000), ("fd00:2::10", 9), b"x"),
    );
    assert!(dropped_by(&mut n, "client").contains("--icmpv6-type 135"));
    assert!(n.seen.taps.is_empty());
}

#[test]
fn forward_sees_both_devices_and_the_lowered_ttl() {
    let mut n = routed();
    n.iptables(
        "router",
        "filter; -A FORWARD -i e2 -j DROP; -A FORWARD -i e1 -o e2 -m ttl --ttl-eq 63 -j DROP",
    );
    n.send("client", &udp(("10.1.0.10", 1000), ("10.2.0.10", 9), b"x"))
        .unwrap();
    assert!(dropped_by(&mut n, "router").contains("rule 2"));
}

#[test]
fn a_broadcast_passes_input_and_dies_there() {
    let mut n = routed();
    n.iptables("router", "filter; -A INPUT -d 10.1.0.255 -j DROP");
    n.send("client", &udp(("10.1.0.10", 1000), ("10.1.0.255", 9), b"x"))
        .unwrap();
    assert!(dropped_by(&mut n, "router").contains("INPUT rule 1"));
}

#[test]
fn loopback_keeps_its_connection_and_is_not_tracked_twice() {
    let mut n = routed();
    n.iptables(
        "client",
        "filter; -A OUTPUT -m conntrack --ctstate NEW
         -A INPUT -m conntrack --ctstate NEW -j ACCEPT; -A INPUT -j DROP",
    );
    n.bind("client", proto::UDP, 9);
    n.send("client", &udp(("127.0.0.1", 1000), ("127.0.0.1", 9), b"x"))
        .unwrap();
    assert_eq!(n.delivered().len(), 1);
    assert_eq!(n.connections("client"), 1);
    let states: Vec<_> = n
        .seen
        .steps
        .iter()
        .filter(|s| format!("{s:?}").contains("Conntrack"))
        .collect();
    assert_eq!(states.len(), 2, "{states:#?}");
}

#[test]
fn a_rule_that_nothing_decides_ends_in_depends() {
    let mut n = routed();
    n.iptables(
        "router",
        "filter; -A FORWARD -m bpf --bytecode \"1,6 0 0 0\" -j DROP",
    );
    n.send("client", &udp(("10.1.0.10", 1000), ("10.2.0.10", 9), b"x"))
        .unwrap();
    assert!(matches!(
        n.end_in("router"),
        Some(Disposition::Unknown { .. })
    ));
    let met = n.world.take_undecided();
    assert_eq!(met.len(), 1);
    for (matches, arrives) in [(true, 0), (false, 1)] {
        n.world.assume(met[0].0, met[0].1, matches);
        n.send("client", &udp(("10.1.0.10", 1000), ("10.2.0.10", 9), b"x"))
            .unwrap();
        assert_eq!(n.at("server eth0 In").len(), arrives);
    }
}
