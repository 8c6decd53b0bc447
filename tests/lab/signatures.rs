//! What a Linux client sees, by the table of measured signatures (kernel 6.18): outcome, errno and delay, and
//! the place that decided. Names carry the ids of the failures they stand for.

use crate::t2::{Backend, C, N1, N2, Options, S1, S2, T2, X, cable, ip};
use podpath::endpoint::{App, Errno, Outcome};
use podpath::lab::{Exchange, Probe, ProbeResult, Way};
use podpath::path::{Direction, Disposition, DropReason, Event, EventKind, Step};
use podpath::sim::{Block, Captures};
use podpath::wire::proto;
use std::time::Duration;

const BOTH: [Backend; 2] = [Backend::HostGw, Backend::Vxlan];

fn host_gw() -> T2 {
    T2::new(Options::new(Backend::HostGw))
}

fn vxlan() -> T2 {
    T2::new(Options::new(Backend::Vxlan))
}

/// Asserts outcome, errno and delay: `0`: at once, `3`: failed resolution, otherwise that many seconds.
#[track_caller]
fn is(r: &ProbeResult, outcome: Outcome, errno: Option<Errno>, seconds: u64) {
    assert_eq!((r.outcome, r.errno), (outcome, errno), "{r:#?}");
    let (ms, want) = (r.delay.as_millis() as u64, seconds * 1000);
    assert!(ms >= want && ms <= want + 150, "{ms} ms: {r:#?}");
}

#[track_caller]
fn ok(r: &ProbeResult) {
    is(r, Outcome::Ok, None, 0);
}

#[track_caller]
fn timeout(r: &ProbeResult) {
    assert_eq!((r.outcome, r.errno), (Outcome::Timeout, None), "{r:#?}");
    assert!(r.icmp.is_none(), "{r:#?}");
}

#[track_caller]
fn no_route(r: &ProbeResult, seconds: u64) {
    is(r, Outcome::NoRoute, Some(Errno::HostUnreach), seconds);
}

/// Asserts where it was decided, and why.
#[track_caller]
fn at(r: &ProbeResult, ns: &str, dev: &str, why: DropReason) {
    let hop = r.hop.as_ref().expect("a place");
    let reason = match &hop.how {
        Disposition::Dropped { reason, .. } | Disposition::Rejected { reason, .. } => *reason,
        how => panic!("{how:?} at {} {}", hop.ns_name, hop.device),
    };
    let got = (hop.ns_name.as_str(), hop.device.as_str(), reason);
    assert_eq!(got, (ns, dev, why), "{r:#?}");
}

#[track_caller]
fn told(r: &ProbeResult, from: &str, typ: u8, code: u8) {
    let i = r.icmp.expect("an ICMP error");
    assert_eq!((i.from, i.typ, i.code), (ip(from), typ, code), "{r:#?}");
}

#[test]
fn healthy_everyone_reaches_everyone() {
    for b in BOTH {
        for gateway in [false, true] {
            let mut t = T2::new(Options {
                gateway,
                ..Options::new(b)
            });
            for (from, to) in [
                (t.c, S1),
                (t.c, S2),
                (t.n1, S1),
                (t.n1, S2),
                (t.s2, S1),
                (t.c, N1),
                (t.c, N2),
            ] {
                ok(&t.tcp(from, to));
                ok(&t.udp(from, to));
                ok(&t.ping(from, to));
            }
            let p = Probe::tcp(t.c, ip(S2), 8080).size(100_000);
            let r = t.go(p);
            ok(&r);
            assert_eq!(r.bytes, 100_000);
            let p = Probe::udp(t.c, ip(S2), 5353).size(3000);
            let r = t.go(p);
            ok(&r);
            assert_eq!(r.bytes, 3000);
        }
    }
}

#[test]
fn healthy_names_where_the_request_arrived() {
    let mut t = vxlan();
    for r in [t.tcp(t.c, S2), t.udp(t.c, S2), t.ping(t.c, S2)] {
        let hop = r.hop.expect("a place");
        assert_eq!((hop.ns_name.as_str(), hop.device.as_str()), ("s2", "eth0"));
        assert_eq!(hop.way, Way::Forward);
    }
}

#[test]
fn healthy_http_says_who_asked() {
    let mut t = host_gw();
    let app = App::Http { name: "web".into() };
    t.lab.listen(t.s2, None, proto::TCP, 80, app).unwrap();
    let p = Probe {
        exchange: Exchange::Http,
        ..Probe::tcp(t.c, ip(S2), 80).size(3000)
    };
    let r = t.go(p);
    ok(&r);
    let text = String::from_utf8_lossy(&r.reply).into_owned();
    assert!(
        text.starts_with("HTTP/1.1 200 OK") && text.contains(&format!("web sees {C}:")),
        "{text}"
    );
}

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
        proto: Some(17),
        port: Some(8472),
        from: Vec::new(),
        to: Vec::new(),
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
fn ttl_expires_on_the_way() {
    let mut t = host_gw();
    let p = Probe {
        ttl: Some(1),
        ..Probe::ping(t.c, ip(S2))
    };
    let r = t.go(p);
    no_route(&r, 0);
    told(&r, "10.244.1.1", 11, 0);
    for p in [
        Probe::ping(t.c, ip(S2)),
        Probe::tcp(t.c, ip(S2), 8080),
        Probe::udp(t.c, ip(S2), 5353),
    ] {
        let r = t.go(Probe { ttl: Some(3), ..p });
        ok(&r);
    }
    let p = Probe {
        ttl: Some(2),
        ..Probe::tcp(t.c, ip(S2), 8080)
    };
    let r = t.go(p);
    no_route(&r, 0);
    told(&r, N2, 11, 0);
}

#[test]
fn dont_fragment_is_refused_at_once_when_too_large() {
    let mut t = host_gw();
    let p = Probe {
        df: Some(true),
        ..Probe::ping(t.c, ip(S2)).size(1473)
    };
    let r = t.go(p.clone());
    is(&r, Outcome::NoRoute, Some(Errno::MsgSize), 0);
    ok(&t.go(p.size(1472)));
    let p = Probe::ping(t.c, ip(S2)).size(5000);
    ok(&t.go(p));
}

#[test]
fn pings_are_counted() {
    let mut t = host_gw();
    let p = Probe {
        count: 3,
        ..Probe::ping(t.c, ip(S2))
    };
    let before = t.lab.now();
    let r = t.go(p);
    assert_eq!((r.attempts, r.succeeded), (3, 3));
    assert_eq!(t.lab.now().since(before).as_secs(), 2);
}

#[test]
fn a_namespace_without_visitors_has_no_stack() {
    let mut t = host_gw();
    assert!(t.lab.stack(t.s2).is_none());
    ok(&t.tcp(t.c, S2));
    assert!(t.lab.stack(t.s2).is_some() && t.lab.stack(t.s1).is_none());
    assert!(t.lab.unlisten(t.s2, None, proto::TCP, 8080));
    let r = t.tcp(t.c, S2);
    is(&r, Outcome::Refused, Some(Errno::ConnRefused), 0);
    let busy = t
        .lab
        .listen(t.s1, Some(ip(S1)), proto::TCP, 8080, App::Sink);
    assert_eq!(busy, Err(Errno::AddrInUse));
}

/// A second family on the LAN.
fn ipv6(t: &mut T2) {
    t.run(t.n1, "ip addr add fd00::11/64 dev eth0");
    t.run(t.x, "ip addr add fd00::50/64 dev eth0");
    let later = t.lab.now() + Duration::from_secs(10);
    t.lab.run_until(later, &mut podpath::path::NoTrace);
}

#[test]
fn ipv6_is_the_same_machine() {
    let mut t = host_gw();
    ipv6(&mut t);
    let p = Probe::tcp(t.n1, ip("fd00::50"), 8080).size(100_000);
    ok(&t.go(p));
    let p = Probe::udp(t.n1, ip("fd00::50"), 5353).size(3000);
    let r = t.go(p);
    ok(&r);
    assert_eq!(r.bytes, 3000);
    ok(&t.ping(t.n1, "fd00::50"));
    let p = Probe::tcp(t.n1, ip("fd00::50"), 9999);
    is(&t.go(p), Outcome::Refused, Some(Errno::ConnRefused), 0);
    let p = Probe::udp(t.n1, ip("fd00::50"), 9999);
    let r = t.go(p);
    is(&r, Outcome::Refused, Some(Errno::ConnRefused), 0);
    told(&r, "fd00::50", 1, 4);
    no_route(&t.tcp(t.n1, "fd00::77"), 3);
    // A path MTU is learned from packet-too-big only on a way with routers; here the size just fits.
    let p = Probe::ping(t.n1, ip("fd00::50")).size(1452);
    ok(&t.go(p));
}

#[test]
fn a_segment_without_a_connection_is_reset() {
    // The port listens, so the kernel's table finds a socket; the segment opens no connection.
    let mut t = host_gw();
    let (c, s2) = (ip(C), ip(S2));
    let mut ack = vec![
        0x9c, 0x40, 0x1f, 0x90, 0, 0, 0, 9, 0, 0, 0, 77, 0x50, 0x10, 1, 0, 0, 0, 0, 0,
    ];
    let sum = podpath::wire::checksum::l4(c, s2, proto::TCP, &ack);
    ack[16..18].copy_from_slice(&sum.to_be_bytes());
    let packet = podpath::wire::build::ip_packet(c, s2, proto::TCP, 64, 0, 1, true, &ack);
    let mut seen = Captures::all();
    let (_, sent) = t.lab.world.send(t.c, &packet, None, &mut seen);
    assert_eq!(sent, Ok(()));
    let later = t.lab.now() + Duration::from_secs(1);
    assert!(t.lab.run_until(later, &mut seen));
    let resets = seen.frames().iter().filter(|f| {
        // Ethernet, IPv4, TCP: RST alone, its sequence number the segment's acknowledgement.
        f.ns == t.c && f.data.get(47) == Some(&0x04) && f.data.get(38..42) == Some(&[0, 0, 0, 77])
    });
    assert_eq!(resets.count(), 1);
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

#[test]
fn syns_are_repeated_at_the_measured_times() {
    let mut t = host_gw();
    t.run(t.n2, "ip route add blackhole 10.244.2.77/32");
    let start = t.lab.now();
    let (_, events) = t.lab.trace(&Probe::tcp(t.c, ip("10.244.2.77"), 8080));
    let syn = |e: &&Event| {
        e.ns_name == "c" && e.kind == EventKind::Tap(Direction::Out) && e.summary.contains("[S]")
    };
    let times: Vec<String> = events
        .iter()
        .filter(syn)
        .map(|e| format!("{:.1}", e.time.since(start).as_secs_f64()))
        .collect();
    assert_eq!(
        times,
        [
            "0.0", "1.0", "2.1", "3.1", "4.1", "5.1", "7.1", "11.2", "19.4"
        ]
    );
}
