//! What works in a healthy cluster and how a client's options show: sizes, TTL, DF, families, counts.

use crate::judge::{BOTH, host_gw, is, no_route, ok, told, vxlan};
use crate::t2::{C, N1, N2, Options, S1, S2, T2, ip};
use podpath::endpoint::{App, Errno, Outcome};
use podpath::lab::{Exchange, Probe, Way};
use podpath::path::{Direction, Event, EventKind};
use podpath::sim::Captures;
use podpath::wire::proto;
use std::time::Duration;

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
