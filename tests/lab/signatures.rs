//! What a Linux client sees, by the table of measured signatures (kernel 6.18): outcome, errno and delay, and
//! the place that decided. Names carry the ids of the failures they stand for.

use crate::judge::{BOTH, at, host_gw, is, no_route, ok, timeout, told, vxlan};
use crate::t2::{Backend, C, N1, N2, Options, S1, S2, T2, X, cable, ip};
use podpath::endpoint::{App, Errno, Outcome};
use podpath::lab::{Probe, Way};
use podpath::path::{Disposition, DropReason, Event, EventKind, Step};
use podpath::sim::Block;
use podpath::wire::proto;
use std::time::Duration;

#[test]
fn s02_closed_port_is_refused() {
    for b in BOTH {
        let mut t = T2::new(Options::new(b));
        for to in [S1, S2, N1, N2] {
            let p = Probe::tcp(t.c, ip(to), 9999);
            let r = t.go(p);
            is(&r, Outcome::Refused, Some(Errno::ConnRefused), 0);
            assert!(r.icmp.is_none());
            let p = Probe::udp(t.c, ip(to), 9999);
            let r = t.go(p);
            is(&r, Outcome::Refused, Some(Errno::ConnRefused), 0);
            told(&r, to, 3, 3);
        }
        let p = Probe::tcp(t.c, ip(S2), 9999);
        at(&t.go(p), "s2", "eth0", DropReason::NoSocket);
    }
}

#[test]
fn s05_bound_to_loopback_is_refused_from_outside() {
    let mut t = host_gw();
    t.lab
        .listen(t.s2, Some(ip("127.0.0.1")), proto::TCP, 81, App::Echo)
        .unwrap();
    t.lab
        .listen(t.s2, Some(ip("127.0.0.1")), proto::UDP, 81, App::Echo)
        .unwrap();
    let p = Probe::tcp(t.s2, ip("127.0.0.1"), 81).size(70_000);
    let r = t.go(p);
    ok(&r);
    let p = Probe::tcp(t.c, ip(S2), 81);
    is(&t.go(p), Outcome::Refused, Some(Errno::ConnRefused), 0);
    let p = Probe::udp(t.c, ip(S2), 81);
    let r = t.go(p);
    is(&r, Outcome::Refused, Some(Errno::ConnRefused), 0);
    told(&r, S2, 3, 3);
}

#[test]
fn n02_no_forwarding_drops_what_is_routed_only() {
    for b in BOTH {
        let mut t = T2::new(Options::new(b));
        t.run(t.n1, "sysctl -w net.ipv4.ip_forward=0");
        let r = t.tcp(t.c, S2);
        timeout(&r);
        at(&r, "n1", "cni0", DropReason::ForwardingOff);
        assert_eq!(r.delay, Duration::from_secs(30));
        timeout(&t.udp(t.c, S2));
        ok(&t.tcp(t.c, S1));
        ok(&t.tcp(t.n1, S1));
        ok(&t.tcp(t.c, N1));
    }
}

#[test]
fn o07_missing_route_without_default() {
    let mut t = host_gw();
    t.run(t.n1, "ip route del 10.244.2.0/24");
    let r = t.tcp(t.c, S2);
    is(&r, Outcome::NetUnreachable, Some(Errno::NetUnreach), 0);
    told(&r, "10.244.1.1", 3, 0);
    at(&r, "n1", "cni0", DropReason::NoRoute);
    let r = t.udp(t.c, S2);
    timeout(&r);
    at(&r, "n1", "cni0", DropReason::NoRoute);
    let r = t.tcp(t.n1, S2);
    is(&r, Outcome::NetUnreachable, Some(Errno::NetUnreach), 0);
    at(&r, "n1", "", DropReason::NoRoute);
}

#[test]
fn o07_missing_return_route() {
    let mut t = host_gw();
    t.run(t.n2, "ip route del 10.244.1.0/24");
    let r = t.tcp(t.c, S2);
    timeout(&r);
    at(&r, "n2", "cni0", DropReason::NoRoute);
    assert_eq!(r.hop.as_ref().unwrap().way, Way::Reply);
    let r = t.udp(t.c, S2);
    timeout(&r);
    at(&r, "n2", "cni0", DropReason::NoRoute);
}

#[test]
fn o07_missing_route_with_default_dies_at_the_gateway() {
    let mut t = T2::new(Options {
        gateway: true,
        ..Options::new(Backend::HostGw)
    });
    t.run(t.n1, "ip route del 10.244.2.0/24");
    // The gateway knows neither pods nor another way, and no way back to the client either.
    let r = t.tcp(t.c, S2);
    timeout(&r);
    at(&r, "gw", "eth0", DropReason::NoRoute);
}

#[test]
fn o07_loop_between_node_and_gateway() {
    let mut t = T2::new(Options {
        gateway: true,
        ..Options::new(Backend::HostGw)
    });
    t.run(t.n1, "ip route del 10.244.2.0/24");
    t.run(
        t.gw.unwrap(),
        "ip route add 10.244.0.0/16 via 192.168.56.11",
    );
    let r = t.tcp(t.c, S2);
    no_route(&r, 0);
    let i = r.icmp.unwrap();
    assert_eq!((i.typ, i.code), (11, 0));
    let hop = r.hop.unwrap();
    assert!(matches!(
        hop.how,
        Disposition::Rejected {
            reason: DropReason::TtlExpired,
            ..
        }
    ));
}

#[test]
fn o13_dead_end_routes_forwarded() {
    for (kind, code, why) in [
        ("unreachable", Some(1), DropReason::Unreachable),
        ("prohibit", Some(13), DropReason::Prohibit),
        ("blackhole", None, DropReason::Blackhole),
    ] {
        let mut t = host_gw();
        t.run(t.n2, &format!("ip route add {kind} 10.244.2.77/32"));
        let r = t.tcp(t.c, "10.244.2.77");
        at(&r, "n2", "eth0", why);
        match code {
            Some(code) => {
                no_route(&r, 0);
                told(&r, N2, 3, code);
            }
            None => timeout(&r),
        }
    }
}

#[test]
fn o13_dead_end_routes_local() {
    for (kind, errno) in [
        ("unreachable", Errno::HostUnreach),
        ("prohibit", Errno::Access),
        ("blackhole", Errno::Invalid),
    ] {
        let mut t = host_gw();
        t.run(t.n1, &format!("ip route add {kind} 10.9.9.0/24"));
        for r in [
            t.tcp(t.n1, "10.9.9.9"),
            t.udp(t.n1, "10.9.9.9"),
            t.ping(t.n1, "10.9.9.9"),
        ] {
            is(&r, Outcome::NoRoute, Some(errno), 0);
            assert_eq!(r.hop.unwrap().ns_name, "n1");
        }
    }
}

#[test]
fn o13_pod_address_answers_no_arp() {
    for b in BOTH {
        let mut t = T2::new(Options::new(b));
        let r = t.tcp(t.c, "10.244.2.77");
        no_route(&r, 3);
        // The node's address towards the client.
        told(
            &r,
            if b == Backend::HostGw {
                N2
            } else {
                "10.244.2.0"
            },
            3,
            1,
        );
        at(&r, "n2", "cni0", DropReason::NeighFailed);
        let r = t.udp(t.c, "10.244.2.78");
        timeout(&r);
        at(&r, "n2", "cni0", DropReason::NeighFailed);
        // On the client's own link, and from the node itself.
        let r = t.tcp(t.c, "10.244.1.77");
        no_route(&r, 3);
        at(&r, "c", "eth0", DropReason::NeighFailed);
        no_route(&t.tcp(t.n1, "10.244.1.78"), 3);
        no_route(&t.ping(t.c, "10.244.1.79"), 3);
    }
}

#[test]
fn o14_next_hop_answers_no_arp() {
    let mut t = host_gw();
    t.run(t.n1, "ip route replace 10.244.2.0/24 via 192.168.56.77");
    let r = t.tcp(t.c, S2);
    no_route(&r, 3);
    told(&r, "10.244.1.1", 3, 1);
    at(&r, "n1", "eth0", DropReason::NeighFailed);
    t.run(t.n1, "ip route replace 10.244.2.0/24 via 192.168.56.78");
    timeout(&t.udp(t.c, S2));
}

#[test]
fn o08_vtep_neighbour_missing() {
    let mut t = vxlan();
    t.run(t.n1, "ip neigh del 10.244.2.0 dev flannel.1");
    let r = t.tcp(t.c, S2);
    no_route(&r, 3);
    told(&r, "10.244.1.1", 3, 1);
    at(&r, "n1", "flannel.1", DropReason::NeighFailed);
    t.run(t.n1, "ip neigh flush dev flannel.1");
    timeout(&t.udp(t.c, S2));
}

#[test]
fn o08_fdb_missing() {
    let mut t = vxlan();
    let mac = T2::vtep_mac(2);
    t.run(
        t.n1,
        &format!("bridge fdb del {mac} dev flannel.1 dst {N2}"),
    );
    let r = t.tcp(t.c, S2);
    timeout(&r);
    at(&r, "n1", "flannel.1", DropReason::VxlanNoFdb);
    timeout(&t.udp(t.c, S2));
}

#[test]
fn o08_fdb_points_to_a_dead_node() {
    let mut t = vxlan();
    let mac = T2::vtep_mac(2);
    t.run(
        t.n1,
        &format!("bridge fdb replace {mac} dev flannel.1 dst 192.168.56.99"),
    );
    let r = t.tcp(t.c, S2);
    timeout(&r);
    at(&r, "n1", "eth0", DropReason::NeighFailed);
    timeout(&t.udp(t.c, S2));
}

#[test]
fn o01_vxlan_port_blocked_between_nodes() {
    let mut t = vxlan();
    let dev = t
        .lab
        .world
        .ns(t.n1)
        .unwrap()
        .dev_by_name("eth0")
        .unwrap()
        .id;
    let at_n1 = podpath::net::PortAt { ns: t.n1, dev };
    t.lab.world.link_mut(at_n1).blocked.push(Block {
        proto: Some(proto::UDP),
        port: Some(8472),
        ..Block::default()
    });
    let r = t.tcp(t.c, S2);
    timeout(&r);
    at(&r, "n1", "eth0", DropReason::LinkBlocked);
    ok(&t.tcp(t.n1, N2));
    ok(&t.tcp(t.c, S1));
    // The other direction: the answer is lost, be it a RST or (with a server) a SYN-ACK.
    for _ in 0..2 {
        let r = t.tcp(t.s2, C);
        timeout(&r);
        at(&r, "n1", "eth0", DropReason::LinkBlocked);
        assert_eq!(r.hop.unwrap().way, Way::Reply);
        let _ = t.lab.listen(t.c, None, proto::TCP, 8080, App::Echo);
    }
}

#[test]
fn o03_pod_mtu_above_the_tunnel_with_icmp() {
    let mut t = T2::new(Options {
        pod_mtu: Some(1500),
        ..Options::new(Backend::Vxlan)
    });
    let p = Probe::tcp(t.c, ip(S2), 8080).size(60_000);
    let (r, events) = t.lab.trace(&p);
    is(&r, Outcome::Ok, None, 0);
    assert_eq!(r.bytes, 60_000);
    let too_big = |node: &str| {
        let needed = |e: &&Event| {
            let EventKind::Step(Step::IcmpError { icmp, .. }) = &e.kind else {
                return false;
            };
            e.ns_name == node && (icmp.typ, icmp.code) == (3, 4)
        };
        events.iter().filter(needed).count()
    };
    // One for each segment of the first flight. (The measurement counts 1 to 2: its senders had segmentation
    // offload, and one super-segment earns one error.)
    for node in ["n1", "n2"] {
        assert!((1..=10).contains(&too_big(node)), "{}", too_big(node));
    }
    // A single datagram with DF is lost until the path MTU is known; then it is fragmented.
    let mut t = T2::new(Options {
        pod_mtu: Some(1500),
        ..Options::new(Backend::Vxlan)
    });
    let big = Probe::udp(t.c, ip(S2), 5353)
        .size(1440)
        .timeout(Duration::from_secs(6));
    let r = t.go(big.clone());
    assert_ne!(r.outcome, Outcome::Ok, "{r:#?}");
    at(&r, "n1", "cni0", DropReason::MtuExceeded);
    // The answer's own DF datagram is lost the same way once.
    let again: Vec<_> = (0..3).map(|_| t.go(big.clone()).outcome).collect();
    assert_eq!(again.last(), Some(&Outcome::Ok), "{again:?}");
    let p = Probe::udp(t.c, ip(S2), 5353).size(3000);
    ok(&t.go(p));
}

#[test]
fn o03_silent_mtu_black_hole() {
    let mut t = host_gw();
    let dev = t
        .lab
        .world
        .ns(t.n1)
        .unwrap()
        .dev_by_name("eth0")
        .unwrap()
        .id;
    t.lab
        .world
        .link_mut(podpath::net::PortAt { ns: t.n1, dev })
        .mtu = Some(1400);
    let p = Probe::tcp(t.c, ip(S2), 8080).size(10);
    ok(&t.go(p));
    let p = Probe::tcp(t.c, ip(S2), 8080).size(60_000);
    let r = t.go(p);
    timeout(&r);
    assert!(
        r.connected.is_some_and(|d| d < Duration::from_millis(100)),
        "{r:#?}"
    );
    at(&r, "n1", "eth0", DropReason::PeerMtu);
}

/// x has a second way to n1's pods, by a LAN that n1 does not use to answer.
fn asymmetric(t: &mut T2) {
    cable(&mut t.lab, (t.x, "eth1"), (t.n1, "eth1"));
    t.run(t.x, "ip addr add 192.168.57.50/24 dev eth1");
    t.run(t.n1, "ip addr add 192.168.57.11/24 dev eth1");
    t.run(
        t.x,
        &format!("ip route add 10.244.1.0/24 via 192.168.57.11 src {X}"),
    );
}

#[test]
fn n06_strict_reverse_path() {
    let mut t = host_gw();
    asymmetric(&mut t);
    ok(&t.tcp(t.x, S1));
    t.run(t.n1, "sysctl -w net.ipv4.conf.all.rp_filter=1");
    let r = t.tcp(t.x, S1);
    timeout(&r);
    at(&r, "n1", "eth1", DropReason::ReversePath);
    t.run(t.n1, "sysctl -w net.ipv4.conf.all.rp_filter=2");
    ok(&t.tcp(t.x, S1));
    t.run(t.n1, "sysctl -w net.ipv4.conf.all.rp_filter=0");
    t.run(t.n1, "sysctl -w net.ipv4.conf.eth1.rp_filter=1");
    timeout(&t.tcp(t.x, S1));
}

#[test]
fn a04_no_masquerade_to_an_external_host() {
    let mut t = host_gw();
    let r = t.tcp(t.c, X);
    timeout(&r);
    // The SYN arrives; the answer has no way back.
    at(&r, "x", "", DropReason::NoRoute);
    assert_eq!(r.hop.as_ref().unwrap().way, Way::Reply);
    timeout(&t.udp(t.c, X));
    ok(&t.tcp(t.n1, X));
    t.run(t.x, "ip route add 10.244.1.0/24 via 192.168.56.11");
    ok(&t.tcp(t.c, X));
}

#[test]
fn o09_overlapping_pod_cidrs() {
    // Both nodes own 10.244.1.0/24: a pod of the other node is asked for on the client's own link.
    let mut t = host_gw();
    t.run(t.s2, "ip addr del 10.244.2.2/24 dev eth0");
    t.run(t.s2, "ip addr add 10.244.1.9/24 dev eth0");
    t.run(t.s2, "ip route replace default via 10.244.1.1");
    t.run(t.n2, "ip addr del 10.244.2.1/24 dev cni0");
    t.run(t.n2, "ip addr add 10.244.1.1/24 dev cni0");
    no_route(&t.tcp(t.c, "10.244.1.9"), 3);
    no_route(&t.tcp(t.n1, "10.244.1.9"), 3);
}

#[test]
fn s40_no_ipv6_route() {
    let mut t = host_gw();
    let to = ip("2001:db8::1");
    for p in [
        Probe::tcp(t.c, to, 8080),
        Probe::udp(t.c, to, 5353),
        Probe::ping(t.c, to),
    ] {
        let r = t.go(p);
        is(&r, Outcome::NetUnreachable, Some(Errno::NetUnreach), 0);
    }
}

#[test]
fn n11_neighbour_table_full() {
    let mut t = host_gw();
    ok(&t.tcp(t.n1, S1));
    ok(&t.tcp(t.c, S2));
    t.run(t.n1, "sysctl -w net.ipv4.neigh.default.gc_thresh3=3");
    ok(&t.tcp(t.n1, S1));
    let r = t.tcp(t.c, X);
    timeout(&r);
    at(&r, "n1", "eth0", DropReason::NeighTableFull);
}

#[test]
fn o01_no_vxlan_device_on_the_other_node() {
    let mut t = vxlan();
    t.run(t.n2, "ip link del flannel.1");
    let r = t.tcp(t.c, S2);
    timeout(&r);
    // The outer packet's sender is told, which helps nobody.
    at(&r, "n2", "eth0", DropReason::NoSocket);
    let how = &r.hop.as_ref().unwrap().how;
    assert!(matches!(how, Disposition::Rejected { icmp, .. } if (icmp.typ, icmp.code) == (3, 3)));
}
