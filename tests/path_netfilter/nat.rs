//! Connections translated by a router, both ways, and errors about them. Seen on Linux 6.18.

use crate::net::{Net, routed, tcp, told, udp};
use podpath::wire::{Frame, IpHeader, build, proto};

const DNAT: &str = "nat; -A PREROUTING -d 10.96.0.1 -p udp -j DNAT --to-destination 10.2.0.10:9
    -A PREROUTING -d 10.96.0.1 -p tcp -j DNAT --to-destination 10.2.0.10:9";

fn service() -> Net {
    let mut n = routed();
    n.iptables("router", DNAT);
    n
}

/// The server answers what it got.
pub fn answer(n: &mut Net, ns: &str, got: &Frame) {
    let h = IpHeader::parse(got.l3()).unwrap();
    let (s, d) = h.ports(got.l3()).unwrap();
    let data = h.payload(got.l3())[8..].to_vec();
    let u = build::udp(h.dst, h.src, d, s, &data);
    let p = build::ip_packet(h.dst, h.src, proto::UDP, 64, 0, 5, false, &u);
    n.send(ns, &p).unwrap();
}

#[test]
fn there_and_back_through_a_destination_mapping() {
    let mut n = service();
    n.bind("server", proto::UDP, 9);
    n.send("client", &udp(("10.1.0.10", 1000), ("10.96.0.1", 80), b"x"))
        .unwrap();
    let got = n.delivered();
    assert_eq!(
        told(got[0].l3()),
        "10.1.0.10 > 10.2.0.10 ttl 63 udp 1000 > 9"
    );
    answer(&mut n, "server", &got[0]);
    assert_eq!(
        n.lines_at("client eth0 In"),
        ["10.96.0.1 > 10.1.0.10 ttl 63 udp 80 > 1000"]
    );
    assert_eq!(n.connections("router"), 1);
}

#[test]
fn a_masquerading_router_hides_its_clients() {
    let mut n = routed();
    n.iptables("router", "nat; -A POSTROUTING -o e2 -j MASQUERADE");
    n.bind("server", proto::UDP, 9);
    n.send("client", &udp(("10.1.0.10", 1000), ("10.2.0.10", 9), b"x"))
        .unwrap();
    let got = n.delivered();
    assert_eq!(
        told(got[0].l3()),
        "10.2.0.1 > 10.2.0.10 ttl 63 udp 1000 > 9"
    );
    answer(&mut n, "server", &got[0]);
    assert_eq!(
        n.lines_at("client eth0 In"),
        ["10.2.0.10 > 10.1.0.10 ttl 63 udp 9 > 1000"]
    );
}

#[test]
fn errors_come_from_the_service_and_quote_what_was_sent() {
    let quoted = |port| format!("[10.1.0.10 > 10.96.0.1 ttl 63 udp {port} > 80]");
    let mut n = service();
    n.send("client", &udp(("10.1.0.10", 1000), ("10.96.0.1", 80), b"x"))
        .unwrap();
    let want = format!("10.96.0.1 > 10.1.0.10 ttl 63 icmp 3/3 0 {}", quoted(1000));
    assert_eq!(n.lines_at("client eth0 In"), [want], "a closed port");

    let mut p = udp(("10.1.0.10", 1001), ("10.96.0.1", 80), b"x");
    p[8] = 1;
    podpath::wire::ip::fill_v4_checksum(&mut p);
    n.send("client", &p).unwrap();
    let want =
        "10.96.0.1 > 10.1.0.10 ttl 64 icmp 11/0 0 [10.1.0.10 > 10.96.0.1 ttl 1 udp 1001 > 80]";
    assert_eq!(
        n.lines_at("client eth0 In"),
        [want],
        "expired at the router itself"
    );

    n.iptables(
        "router",
        &format!("{DNAT}\nfilter; -A FORWARD -d 10.2.0.10 -p udp -j REJECT"),
    );
    n.send("client", &udp(("10.1.0.10", 1002), ("10.96.0.1", 80), b"x"))
        .unwrap();
    let want = format!("10.96.0.1 > 10.1.0.10 ttl 64 icmp 3/3 0 {}", quoted(1002));
    assert_eq!(n.lines_at("client eth0 In"), [want], "rejected on the way");
    assert_eq!(
        n.connections("router"),
        1,
        "only the delivered one was confirmed"
    );
}

#[test]
fn a_reset_of_a_translated_segment_is_translated_back() {
    let mut n = service();
    n.iptables(
        "router",
        &format!("{DNAT}\nfilter; -A FORWARD -p tcp -j REJECT --reject-with tcp-reset"),
    );
    n.send(
        "client",
        &tcp(("10.1.0.10", 1003), ("10.96.0.1", 80), 100, 0, 2),
    )
    .unwrap();
    let want = "10.96.0.1 > 10.1.0.10 ttl 64 DF tcp 80 > 1003 seq 0 ack 101 flags 0x14";
    assert_eq!(n.lines_at("client eth0 In"), [want]);
}

#[test]
fn too_big_for_the_way_behind_the_mapping() {
    let mut n = service();
    n.run("router", "ip link set e2 mtu 1000");
    let mut p = udp(("10.1.0.10", 1004), ("10.96.0.1", 80), &[b'y'; 1200]);
    p[6] = 0x40;
    podpath::wire::ip::fill_v4_checksum(&mut p);
    n.send("client", &p).unwrap();
    let want = "10.96.0.1 > 10.1.0.10 ttl 64 icmp 3/4 1000 [10.1.0.10 > 10.96.0.1 ttl 64 DF udp 1004 > 80]";
    assert_eq!(n.lines_at("client eth0 In"), [want]);
}

#[test]
fn nobody_behind_the_mapping() {
    let mut n = routed();
    n.iptables(
        "router",
        "nat; -A PREROUTING -d 10.96.0.1 -p udp -j DNAT --to-destination 10.2.0.77:9",
    );
    n.send("client", &udp(("10.1.0.10", 1005), ("10.96.0.1", 80), b"x"))
        .unwrap();
    n.wait(4);
    let want =
        "10.96.0.1 > 10.1.0.10 ttl 64 icmp 3/1 0 [10.1.0.10 > 10.96.0.1 ttl 63 udp 1005 > 80]";
    assert_eq!(n.lines_at("client eth0 In"), [want]);
}
