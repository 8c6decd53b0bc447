//! Which address and port a connection gets: cases as Linux 6.18 decided them, and the search's bounds.

use podpath::base::Rng;
use podpath::nf::ct::CtTuple;
use podpath::nf::nat::unique::{Mappings, Wish, choose};
use podpath::nf::nat::{Manip, NatTarget, inverse};
use podpath::wire::proto;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// A table of connections: their original and reply tuples, the oldest first.
#[derive(Default)]
struct Table {
    conns: Vec<(CtTuple, CtTuple)>,
    asked: u32,
}

impl Mappings for Table {
    fn taken(&mut self, reply: &CtTuple) -> bool {
        self.asked += 1;
        self.conns.iter().any(|(o, r)| r == reply || o == reply)
    }

    fn of_source(&mut self, t: &CtTuple, fits: &dyn Fn(&CtTuple) -> bool) -> Option<CtTuple> {
        let same = |o: &CtTuple| (o.proto, o.src, o.sport) == (t.proto, t.src, t.sport);
        let mut newest_first = self.conns.iter().rev();
        let found = newest_first.find(|(o, r)| same(o) && fits(r));
        found.map(|(_, r)| *r)
    }
}

impl Table {
    /// A packet of a new connection passes both mappings; a `None` is a null binding.
    fn flow(&mut self, t: CtTuple, dst: Option<&NatTarget>, src: Option<&NatTarget>) -> CtTuple {
        let mut rng = Rng::new(self.conns.len() as u64);
        let mut now = t;
        for (manip, range) in [(Manip::Dst, dst), (Manip::Src, src)] {
            let null = NatTarget::to(manip.addr(&now));
            let wish = Wish {
                current: now,
                range: range.unwrap_or(&null),
                manip,
                zone: 0,
                expected: false,
                forced: None,
            };
            now = choose(&wish, self, &mut rng);
        }
        // As `nf_conntrack_confirm`: a tuple that is taken does not enter the table.
        if !self.taken(&inverse(&now)) {
            self.conns.push((t, inverse(&now)));
        }
        now
    }
}

fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

fn udp(src: &str, sport: u16, dst: &str, dport: u16) -> CtTuple {
    CtTuple {
        proto: proto::UDP,
        src: ip(src),
        dst: ip(dst),
        sport,
        dport,
    }
}

fn addrs(a: &str, b: &str) -> NatTarget {
    NatTarget {
        addrs: Some((ip(a), ip(b))),
        ..NatTarget::default()
    }
}

fn ports(to: &str, min: u16, max: u16) -> NatTarget {
    NatTarget {
        ports: Some((min, max)),
        ..NatTarget::to(ip(to))
    }
}

/// SNAT to 10.62.0.100-10.62.0.199: later flows of a client keep the address although the hash also takes
/// in the destination, for they find the mapping of the first.
#[test]
fn source_ranges_as_the_kernel_chose() {
    let range = addrs("10.62.0.100", "10.62.0.199");
    let mut t = Table::default();
    for (client, got) in [(2, 110), (3, 153), (4, 104), (5, 169)] {
        for server in 2..5 {
            let flow = udp(
                &format!("10.61.0.{client}"),
                4000,
                &format!("10.62.0.{server}"),
                53,
            );
            let out = t.flow(flow, None, Some(&range));
            assert_eq!((out.src, out.sport), (ip(&format!("10.62.0.{got}")), 4000));
        }
    }
}

#[test]
fn persistent_source_ranges_as_the_kernel_chose() {
    let range = NatTarget {
        persistent: true,
        ..addrs("10.62.0.100", "10.62.0.199")
    };
    for (client, got) in [(2, 120), (3, 163), (4, 195), (5, 106)] {
        for server in [2, 3] {
            let flow = udp(
                &format!("10.61.0.{client}"),
                4000,
                &format!("10.62.0.{server}"),
                53,
            );
            // Each in an empty table: without another mapping to find, the hash alone is the same.
            let out = Table::default().flow(flow, None, Some(&range));
            assert_eq!(out.src, ip(&format!("10.62.0.{got}")));
        }
    }
}

#[test]
fn ipv6_ranges_as_the_kernel_chose() {
    let narrow = addrs("fd62::100", "fd62::1ff");
    let wide = addrs("fd62::", "fd62:0:0:3::ffff");
    let cases = [
        (2, "fd62::1a1", "fd62::2:a1e7:7d09:a1e7:7d09"),
        (3, "fd62::1a9", "fd62::2:a968:9165:a968:9165"),
        (4, "fd62::15c", "fd62::1:5cb3:85e1:5cb3:85e1"),
        (5, "fd62::182", "fd62::2:8217:a7ad:8217:a7ad"),
    ];
    for (client, in_narrow, in_wide) in cases {
        let flow = udp(&format!("fd61::{client}"), 4000, "fd62::2", 53);
        let out = Table::default().flow(flow, None, Some(&narrow));
        assert_eq!(out.src, ip(in_narrow));
        let out = Table::default().flow(flow, None, Some(&wide));
        assert_eq!(out.src, ip(in_wide));
    }
}

#[test]
fn destination_ranges_as_the_kernel_chose() {
    let v4 = addrs("10.62.0.2", "10.62.0.9");
    let cases = [
        (2, 2, 8),
        (2, 3, 5),
        (3, 2, 3),
        (3, 3, 7),
        (4, 2, 5),
        (4, 3, 3),
        (5, 2, 4),
        (5, 3, 8),
    ];
    for (client, dst, got) in cases {
        let flow = udp(
            &format!("10.61.0.{client}"),
            4000,
            &format!("10.99.0.{dst}"),
            53,
        );
        let out = Table::default().flow(flow, Some(&v4), None);
        assert_eq!(out.dst, ip(&format!("10.62.0.{got}")));
    }
    let v6 = addrs("fd62::2", "fd62::1:9");
    let cases = [
        (2, 2, "fd62::a1ee"),
        (2, 3, "fd62::1623"),
        (3, 2, "fd62::a96f"),
        (3, 3, "fd62::627d"),
        (4, 2, "fd62::5cb8"),
        (4, 3, "fd62::c117"),
        (5, 2, "fd62::821d"),
        (5, 3, "fd62::debf"),
    ];
    for (client, dst, got) in cases {
        let flow = udp(
            &format!("fd61::{client}"),
            4000,
            &format!("fd99::{dst}"),
            53,
        );
        let out = Table::default().flow(flow, Some(&v6), None);
        assert_eq!(out.dst, ip(got));
    }
}

/// DNAT to ports 8000-8005: a port in the range is kept, others get the first free one, in order.
#[test]
fn destination_ports_as_the_kernel_chose() {
    let range = ports("10.62.0.2", 8000, 8005);
    let mut t = Table::default();
    let cases = [
        (2, 53, 8000),
        (3, 53, 8000),
        (2, 8003, 8003),
        (2, 54, 8001),
        (2, 8000, 8002),
    ];
    for (client, dport, got) in cases {
        let flow = udp(&format!("10.61.0.{client}"), 4000, "10.99.0.1", dport);
        assert_eq!(t.flow(flow, Some(&range), None).dport, got);
    }
}

/// DNAT to 8000-8100/80: the port keeps its distance from the base, around the end of the range.
#[test]
fn shifted_ports_as_the_kernel_chose() {
    let range = NatTarget {
        base: Some(80),
        ..ports("10.62.0.2", 8000, 8100)
    };
    for (dport, got) in [
        (80, 8000),
        (85, 8005),
        (181, 8000),
        (79, 8087),
        (8000, 8042),
    ] {
        let flow = udp("10.61.0.2", 4000, "10.99.0.1", dport);
        assert_eq!(Table::default().flow(flow, Some(&range), None).dport, got);
    }
}

/// On a clash the port moves within its class, and the moved port is used to another destination too,
/// although the flow's own would be free there (recording raw-snat-collision).
#[test]
fn a_clash_moves_the_port_within_its_class_and_stays_with_the_source() {
    let masquerade = NatTarget::to(ip("10.62.0.1"));
    let classes = [
        (68, 1..=511),
        (511, 1..=511),
        (512, 600..=1023),
        (1023, 600..=1023),
        (1024, 1024..=65_535),
    ];
    for (port, class) in classes {
        let mut t = Table::default();
        let first = t.flow(
            udp("10.61.0.2", port, "10.62.0.2", 53),
            None,
            Some(&masquerade),
        );
        assert_eq!(first.sport, port);
        let second = t.flow(
            udp("10.61.0.3", port, "10.62.0.2", 53),
            None,
            Some(&masquerade),
        );
        assert!(
            second.sport != port && class.contains(&second.sport),
            "{second:?}"
        );
        let third = t.flow(
            udp("10.61.0.3", port, "10.62.0.3", 53),
            None,
            Some(&masquerade),
        );
        assert_eq!(third.sport, second.sport);
    }
}

/// Two addresses that lead to one endpoint: nobody translates the source, yet its port must change.
#[test]
fn a_null_binding_moves_a_port_that_clashes() {
    let to = NatTarget::to(ip("10.62.0.2"));
    let mut t = Table::default();
    let one = t.flow(udp("10.61.0.2", 4000, "10.99.0.1", 53), Some(&to), None);
    let two = t.flow(udp("10.61.0.2", 4000, "10.99.0.2", 53), Some(&to), None);
    let three = t.flow(udp("10.61.0.2", 4000, "10.62.0.2", 53), None, None);
    assert_eq!(one.sport, 4000);
    for moved in [two, three] {
        assert_eq!(moved.src, ip("10.61.0.2"));
        assert!(moved.sport >= 1024 && moved.sport != 4000);
    }
    assert_eq!(t.conns.len(), 3);
}

/// The search ends with the last port it tried, which the table then refuses; a single port is not searched.
#[test]
fn exhausted_ranges_end_at_the_table() {
    for (max, fit) in [(5000, 1), (5001, 2)] {
        let range = ports("10.62.0.1", 5000, max);
        let mut t = Table::default();
        for client in 2..6 {
            let flow = udp(&format!("10.61.0.{client}"), 4000, "10.62.0.2", 53);
            let out = t.flow(flow, None, Some(&range));
            assert!((5000..=max).contains(&out.sport));
        }
        assert_eq!(t.conns.len(), fit);
    }
}

/// A table in which everything is taken.
struct Full(u32);

impl Mappings for Full {
    fn taken(&mut self, _: &CtTuple) -> bool {
        self.0 += 1;
        true
    }
    fn of_source(&mut self, _: &CtTuple, _: &dyn Fn(&CtTuple) -> bool) -> Option<CtTuple> {
        None
    }
}

#[test]
fn the_search_halves_its_rounds() {
    let mut full = Full(0);
    let range = NatTarget::to(ip("10.62.0.1"));
    let wish = Wish {
        current: udp("10.61.0.2", 4000, "10.62.0.2", 53),
        range: &range,
        manip: Manip::Src,
        zone: 0,
        expected: false,
        forced: None,
    };
    choose(&wish, &mut full, &mut Rng::new(1));
    // Its own port once, then 128 + 64 + 32 + 16 + 8.
    assert_eq!(full.0, 1 + 248);
}

#[test]
fn what_is_forced_is_taken_if_it_is_free_and_allowed() {
    let range = ports("10.62.0.1", 5000, 6000);
    let wish = |port| Wish {
        current: udp("10.61.0.2", 4000, "10.62.0.2", 53),
        range: &range,
        manip: Manip::Src,
        zone: 0,
        expected: false,
        forced: Some((ip("10.62.0.1"), port)),
    };
    let mut t = Table::default();
    let mut rng = Rng::new(7);
    assert_eq!(choose(&wish(5432), &mut t, &mut rng).sport, 5432);
    assert!((5000..=6000).contains(&choose(&wish(7000), &mut t, &mut rng).sport));
    let other = udp("10.61.0.9", 1, "10.62.0.2", 53);
    let reply = inverse(&udp("10.62.0.1", 5432, "10.62.0.2", 53));
    t.conns.push((other, reply));
    assert_ne!(choose(&wish(5432), &mut t, &mut rng).sport, 5432);
}

fn any_range(v4: bool) -> impl Strategy<Value = NatTarget> {
    let addr = (0u8..4, 0u8..4).prop_map(move |(a, b)| {
        let one = |n: u8| {
            ip(&if v4 {
                format!("192.0.2.{n}")
            } else {
                format!("fd::{n}")
            })
        };
        (one(a.min(b)), one(a.max(b)))
    });
    let port = (1000u16..1040, 0u16..60).prop_map(|(a, n)| (a, a + n));
    (
        proptest::option::of(addr),
        proptest::option::of(port),
        proptest::option::of(1000u16..1100),
        any::<[bool; 3]>(),
    )
        .prop_map(
            |(addrs, ports, base, [random, random_fully, persistent])| NatTarget {
                addrs,
                base: ports.and(base),
                ports,
                random,
                random_fully,
                persistent,
                netmap: false,
            },
        )
}

proptest! {
    /// No two connections share a reply tuple, each keeps to its ranges, and its reply is the inverse of what
    /// leaves.
    #[test]
    fn live_connections_never_share_a_reply(
        v4: bool,
        ranges in (any_range(true), any_range(true), any_range(false), any_range(false)),
        flows in proptest::collection::vec((0u8..4, 0u8..3, 1000u16..1004, prop::sample::select(
            vec![proto::TCP, proto::UDP, proto::SCTP, proto::ICMP, 47, 136, 99])), 1..60),
    ) {
        let (dst, src) = if v4 { (ranges.0, ranges.1) } else { (ranges.2, ranges.3) };
        let mut t = Table::default();
        for (client, server, port, number) in flows {
            let (a, b) = if v4 {
                (format!("10.0.0.{client}"), format!("10.0.1.{server}"))
            } else {
                (format!("fc::{client}"), format!("fc::1:{server}"))
            };
            let icmp = number == proto::ICMP;
            let number = if icmp && !v4 { proto::ICMPV6 } else { number };
            let (sport, dport) = match number {
                proto::ICMP => (port, 8 << 8),
                proto::ICMPV6 => (port, 128 << 8),
                99 => (0, 0),
                _ => (port, 80),
            };
            let flow = CtTuple { proto: number, sport, dport, ..udp(&a, 0, &b, 0) };
            if t.conns.iter().any(|(o, r)| *o == flow || *r == flow) {
                continue; // it belongs to a connection already
            }
            let before = t.conns.len();
            let out = t.flow(flow, Some(&dst), Some(&src));
            prop_assert_eq!(inverse(&inverse(&out)), out);
            prop_assert_eq!(out.proto, flow.proto);
            if let Some((min, max)) = src.addrs {
                prop_assert!((min..=max).contains(&out.src) || !v4);
            }
            if t.conns.len() > before && matches!(number, proto::TCP | proto::UDP) {
                prop_assert!(src.ports.is_none_or(|(a, b)| (a..=b).contains(&out.sport)));
                prop_assert!(dst.ports.is_none_or(|(a, b)| (a..=b).contains(&out.dport)));
            }
        }
        let replies: BTreeSet<CtTuple> = t.conns.iter().map(|c| c.1).collect();
        prop_assert_eq!(replies.len(), t.conns.len());
    }
}
