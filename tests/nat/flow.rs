//! Whole connections through a router's hooks: there and back, errors, clashes, devices that change.

use crate::router::{Router, ip, reply_of, tcp_flags, udp, unreachable};
use podpath::nf::ct::{CtStatus, Dir};
use podpath::nf::nat::{NoNat, masquerade};
use podpath::wire::{IpHeader, Tuple, proto};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn ends(p: &[u8]) -> String {
    let h = IpHeader::parse_lax(p).unwrap();
    Tuple::of(&h, p).to_string()
}

/// A Service's address, both sides translated, and back: recording hairpin-on.
#[test]
fn both_sides_are_translated_and_back() {
    let mut r = Router::new("-j DNAT --to-destination 10.62.0.2:5353", "-j MASQUERADE");
    let sent = udp("10.61.0.2", 4000, "10.99.0.1", 53);
    let out = r.forward(&sent).unwrap();
    assert_eq!(ends(&out), "udp 10.62.0.1:4000 > 10.62.0.2:5353");
    let back = r.backward(&reply_of(&out)).unwrap();
    assert_eq!(ends(&back), "udp 10.99.0.1:53 > 10.61.0.2:4000");
    // Checksums of the way back are those that the client computes itself.
    assert_eq!(back, reply_of(&sent));
    let again = r.forward(&sent).unwrap();
    assert_eq!(again, out);
    assert_eq!(r.asked, 2, "only the first packet is shown to the rules");
}

/// The endpoint refuses: the client sees the Service in the quote (recording closed-ports).
#[test]
fn errors_come_back_as_if_from_the_service() {
    let mut r = Router::new("-j DNAT --to-destination 10.62.0.2:5353", "-j MASQUERADE");
    let sent = udp("10.61.0.2", 4000, "10.99.0.1", 53);
    let out = r.forward(&sent).unwrap();
    let error = unreachable("10.62.0.2", "10.62.0.1", &out);
    let seen = r.backward(&error).unwrap();
    assert_eq!(seen, unreachable("10.99.0.1", "10.61.0.2", &sent));
    // And the other way: the client refuses an answer.
    let answer = r.backward(&reply_of(&out)).unwrap();
    let error = unreachable("10.61.0.2", "10.99.0.1", &answer);
    let seen = r.forward(&error).unwrap();
    assert_eq!(seen, unreachable("10.62.0.1", "10.62.0.2", &reply_of(&out)));
}

#[test]
fn no_rule_leaves_packets_as_they_are_and_binds_them() {
    let mut r = Router::new("", "");
    let sent = udp("10.61.0.2", 4000, "10.62.0.2", 53);
    assert_eq!(r.forward(&sent).unwrap(), sent);
    let (_, c) = r.nf.ct.iter().next().unwrap();
    assert!(!c.status.any(CtStatus::NAT_MASK));
    assert_eq!(
        c.status.0 & CtStatus::NAT_DONE_MASK,
        CtStatus::NAT_DONE_MASK
    );
}

/// Cases of the kernel's router: REDIRECT and NETMAP, SNAT to a range of ports.
#[test]
fn targets_map_as_the_kernel_did() {
    let cases = [
        (
            "-p udp -j REDIRECT --to-ports 7000-7003",
            "",
            53,
            "udp 10.61.0.2:4000 > 10.61.0.1:7000",
        ),
        (
            "-p udp -j REDIRECT --to-ports 7000-7003",
            "",
            7002,
            "udp 10.61.0.2:4000 > 10.61.0.1:7002",
        ),
        (
            "-j NETMAP --to 10.62.0.0/24",
            "-j NETMAP --to 10.63.0.0/24",
            53,
            "udp 10.63.0.2:4000 > 10.62.0.3:53",
        ),
        (
            "-j DNAT --to-destination 10.62.0.2",
            "-p udp -j MASQUERADE --to-ports 5000",
            53,
            "udp 10.62.0.1:5000 > 10.62.0.2:53",
        ),
        (
            "-p udp -j DNAT --to-destination :99",
            "-j SNAT --to-source 10.62.0.77",
            53,
            "udp 10.62.0.77:4000 > 10.99.0.3:99",
        ),
        (
            "-p udp -j DNAT --to-destination 10.62.0.2:8000-8100/50",
            "",
            53,
            "udp 10.61.0.2:4000 > 10.62.0.2:8003",
        ),
    ];
    for (dst, src, dport, got) in cases {
        let mut r = Router::new(dst, src);
        let out = r
            .forward(&udp("10.61.0.2", 4000, "10.99.0.3", dport))
            .unwrap();
        assert_eq!(ends(&out), got, "{dst} {src}");
    }
}

/// Own packets: REDIRECT goes to the loopback address.
#[test]
fn own_packets_are_redirected_to_the_loopback() {
    let mut r = Router::new("-p udp -j REDIRECT --to-ports 7000", "");
    let out = r.output(&udp("10.62.0.1", 4000, "10.99.0.3", 53)).unwrap();
    assert_eq!(ends(&out), "udp 10.62.0.1:4000 > 127.0.0.1:7000");
}

/// The kernel's list of IPv6 addresses has the newest of a scope first, IPv4's the oldest.
#[test]
fn ipv6_is_redirected_to_the_newest_address() {
    let mut r = Router::v6("-p udp -j REDIRECT --to-ports 7000", "");
    r.add(r.inside, "fd61::aa/64");
    r.add(r.inside, "fd61::bb/64");
    let out = r.forward(&udp("fd61::2", 4000, "fd99::1", 53)).unwrap();
    assert_eq!(ends(&out), "udp [fd61::2]:4000 > [fd61::bb]:7000");
    let own = r.output(&udp("fd62::1", 4000, "fd99::1", 53)).unwrap();
    assert_eq!(ends(&own), "udp [fd62::1]:4000 > [::1]:7000");
}

/// Which of a device's addresses masquerades, as the kernel chose: one of the next hop's subnet, else the
/// first.
#[test]
fn masquerade_looks_at_the_next_hop() {
    let cases = [
        ("10.70.0.1", Some("10.64.0.5"), "10.64.0.1"),
        ("10.71.0.1", Some("10.62.0.2"), "10.62.0.1"),
        ("10.72.0.1", None, "10.62.0.1"),
        ("10.64.0.9", None, "10.64.0.1"),
    ];
    for (dst, gateway, got) in cases {
        let mut r = Router::new("", "-j MASQUERADE");
        r.add(r.outside, "10.64.0.1/24");
        r.add(r.outside, "10.62.0.77/24");
        r.gateway = gateway.map(ip);
        let out = r.forward(&udp("10.61.0.2", 4000, dst, 53)).unwrap();
        assert_eq!(ends(&out), format!("udp {got}:4000 > {dst}:53"));
    }
}

#[test]
fn ipv6_is_masqueraded_and_back() {
    let mut r = Router::v6(
        "-d fd99::/64 -j DNAT --to-destination fd62::2",
        "-j MASQUERADE",
    );
    let sent = udp("fd61::2", 4000, "fd99::1", 53);
    let out = r.forward(&sent).unwrap();
    assert_eq!(ends(&out), "udp [fd62::1]:4000 > [fd62::2]:53");
    assert_eq!(r.backward(&reply_of(&out)).unwrap(), reply_of(&sent));
}

#[test]
fn a_dhcp_client_is_not_masqueraded() {
    let mut r = Router::new("", "-j MASQUERADE");
    let sent = udp("0.0.0.0", 68, "255.255.255.255", 67);
    assert_eq!(r.forward(&sent).unwrap(), sent);
}

#[test]
fn a_device_without_addresses_eats_the_packet() {
    let mut r = Router::new("", "-j MASQUERADE");
    let net = "10.62.0.1/24".parse().unwrap();
    r.ns.edit().addr_del(r.outside, net).unwrap();
    for (dev, net) in [(r.inside, "10.61.0.1/24"), (r.inside, "10.61.0.100/24")] {
        let _ = r.ns.edit().addr_del(dev, net.parse().unwrap());
    }
    let sent = udp("10.61.0.2", 4000, "10.62.0.2", 53);
    assert_eq!(r.forward(&sent), Err(None), "the rule drops it");
}

/// A masqueraded connection that leaves by another device is ended (kernel: `nf_nat_oif_changed`).
#[test]
fn masqueraded_connections_keep_to_their_device() {
    let mut r = Router::new("", "-j MASQUERADE");
    let sent = udp("10.61.0.2", 4000, "10.62.0.2", 53);
    r.forward(&sent).unwrap();
    core::mem::swap(&mut r.inside, &mut r.outside);
    assert_eq!(r.forward(&sent), Err(Some(NoNat::OifChanged)));
    assert_eq!(r.nf.ct.count(), 0);
    // SNAT does not mind.
    let mut r = Router::new("", "-j SNAT --to-source 10.62.0.1");
    r.forward(&sent).unwrap();
    core::mem::swap(&mut r.inside, &mut r.outside);
    r.forward(&sent).unwrap();
}

#[test]
fn masqueraded_connections_go_with_address_and_device() {
    let mut r = Router::new("", "-j MASQUERADE");
    r.forward(&udp("10.61.0.2", 4000, "10.62.0.2", 53)).unwrap();
    let (dev, other) = (r.outside, r.inside);
    assert_eq!(masquerade::device_down(&mut r.nf.ct, other), 0);
    assert_eq!(
        masquerade::address_removed(&mut r.nf.ct, dev, ip("10.62.0.9")),
        0
    );
    assert_eq!(
        masquerade::address_removed(&mut r.nf.ct, dev, ip("10.62.0.1")),
        1
    );
    r.forward(&udp("10.61.0.2", 4000, "10.62.0.2", 53)).unwrap();
    assert_eq!(masquerade::device_down(&mut r.nf.ct, dev), 1);
}

/// One port for two clients: the second is dropped where it would enter the table, as in the kernel.
#[test]
fn an_exhausted_range_drops_at_confirm() {
    let mut r = Router::new("", "-p udp -j SNAT --to-source 10.62.0.1:5000");
    r.forward(&udp("10.61.0.2", 4000, "10.62.0.2", 53)).unwrap();
    assert_eq!(
        r.forward(&udp("10.61.0.3", 4000, "10.62.0.2", 53)),
        Err(None)
    );
    assert_eq!(r.nf.ct.stats().insert_failed, 1);
}

/// A range whose ports are all in use by closed connections: a SYN beyond the old one's last byte takes
/// its port, another does not (kernel: `nf_nat_used_tuple_harder`).
#[test]
fn closed_connections_give_their_port_to_a_later_syn() {
    for (seq, taken) in [(5_000u32, true), (10, false)] {
        let mut r = Router::new("", "-p tcp -j SNAT --to-source 10.62.0.1:5000-5001");
        for client in ["10.61.0.2", "10.61.0.3"] {
            let from_client = |at, flags| tcp_flags(client, 4000, "10.62.0.2", 80, at, flags);
            let out = r.forward(&from_client((1000, 0), "S")).unwrap();
            let port = Tuple::of(&IpHeader::parse_lax(&out).unwrap(), &out).sport;
            let answer = tcp_flags("10.62.0.2", 80, "10.62.0.1", port, (2000, 1001), "SA");
            r.backward(&answer).unwrap();
            r.forward(&from_client((1001, 2001), "A")).unwrap();
            r.forward(&from_client((1001, 2001), "RA")).unwrap();
        }
        let syn = tcp_flags("10.61.0.4", 4000, "10.62.0.2", 80, (seq, 0), "S");
        let out = r.forward(&syn);
        assert_eq!(out.is_ok(), taken, "{seq}");
        assert_eq!(r.nf.ct.count(), 2);
    }
}

fn any_target(chain: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(chain)
}

const DST: &[&str] = &[
    "",
    "-j DNAT --to-destination 10.62.0.2",
    "-j DNAT --to-destination 10.62.0.2-10.62.0.5",
    "-p udp -j DNAT --to-destination 10.62.0.2:80-82",
    "-p udp -j DNAT --to-destination 10.62.0.2-10.62.0.3:80-82 --random",
    "-j DNAT --to-destination 10.62.0.2-10.62.0.5 --persistent",
    "-j NETMAP --to 10.62.0.0/29",
];
const SRC: &[&str] = &[
    "",
    "-j MASQUERADE",
    "-j MASQUERADE --random-fully",
    "-p udp -j MASQUERADE --to-ports 700-703",
    "-j SNAT --to-source 10.62.0.10-10.62.0.11",
    "-p udp -j SNAT --to-source 10.62.0.10-10.62.0.11:900-901",
    "-j NETMAP --to 10.63.0.0/30",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    /// What is answered comes back to whoever asked, as if from where it asked; and no two live connections
    /// share a reply tuple.
    #[test]
    fn replies_find_their_way(
        dst in any_target(DST),
        src in any_target(SRC),
        flows in proptest::collection::vec((0u8..4, 0u8..4, 4000u16..4003, 80u16..83), 1..24),
    ) {
        let mut r = Router::new(dst, src);
        for (client, server, sport, dport) in flows {
            let sent = udp(&format!("10.61.0.{}", client + 2), sport, &format!("10.62.0.{}", server + 2), dport);
            let Ok(out) = r.forward(&sent) else { continue };
            let back = r.backward(&reply_of(&out)).unwrap();
            prop_assert_eq!(back, reply_of(&sent));
        }
        let tuples: Vec<_> = r.nf.ct.iter().map(|(_, c)| c.tuple(Dir::Reply)).collect();
        let distinct: BTreeSet<_> = tuples.iter().collect();
        prop_assert_eq!(distinct.len(), tuples.len());
        prop_assert!(tuples.iter().all(|t| t.proto == proto::UDP));
    }
}
