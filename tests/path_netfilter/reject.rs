//! REJECT: what its sender is told. Seen on Linux 6.18 with the same rules and packets.

use crate::net::{Net, echo, ip, routed, tcp, udp};
use podpath::path::{Disposition, DropReason, Errno};
use podpath::wire::{IpHeader, build};

const CLIENT: (&str, u16) = ("10.1.0.10", 1000);
const SERVER: (&str, u16) = ("10.2.0.10", 9);

fn answers(n: &mut Net, packet: &[u8]) -> Vec<String> {
    n.send("client", packet).unwrap();
    n.lines_at("client eth0 In")
}

#[test]
fn icmp_of_every_kind() {
    let kinds = [
        ("icmp-net-unreachable", 0),
        ("icmp-host-unreachable", 1),
        ("icmp-proto-unreachable", 2),
        ("icmp-port-unreachable", 3),
        ("icmp-net-prohibited", 9),
        ("icmp-host-prohibited", 10),
        ("icmp-admin-prohibited", 13),
    ];
    for (kind, code) in kinds {
        let mut n = routed();
        n.iptables(
            "router",
            &format!("filter; -A FORWARD -j REJECT --reject-with {kind}"),
        );
        let want = format!(
            "10.1.0.1 > 10.1.0.10 ttl 64 icmp 3/{code} 0 [10.1.0.10 > 10.2.0.10 ttl 63 udp 1000 > 9]"
        );
        assert_eq!(answers(&mut n, &udp(CLIENT, SERVER, b"x")), [want]);
        match n.end_in("router") {
            Some(Disposition::Rejected { icmp, reason, .. }) => {
                assert_eq!((icmp.code, reason), (code, DropReason::NetfilterReject));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn icmpv6_of_every_kind() {
    let kinds = [
        ("icmp6-no-route", 0),
        ("icmp6-adm-prohibited", 1),
        ("icmp6-addr-unreachable", 3),
        ("icmp6-port-unreachable", 4),
        ("icmp6-policy-fail", 5),
        ("icmp6-reject-route", 6),
    ];
    for (kind, code) in kinds {
        let mut n = routed();
        n.ip6tables(
            "router",
            &format!("filter; -A FORWARD -j REJECT --reject-with {kind}"),
        );
        let want = format!(
            "fd00:1::1 > fd00:1::10 ttl 64 icmp 1/{code} 0 [fd00:1::10 > fd00:2::10 ttl 63 udp 1000 > 9]"
        );
        let packet = udp(("fd00:1::10", 1000), ("fd00:2::10", 9), b"x");
        assert_eq!(answers(&mut n, &packet), [want]);
    }
}

#[test]
fn tcp_resets_answer_as_the_other_end_would() {
    let mut n = routed();
    n.iptables(
        "router",
        "filter; -A FORWARD -p tcp -j REJECT --reject-with tcp-reset",
    );
    let to_syn = "10.2.0.10 > 10.1.0.10 ttl 64 DF tcp 9 > 1000 seq 0 ack 101 flags 0x14";
    assert_eq!(answers(&mut n, &tcp(CLIENT, SERVER, 100, 0, 2)), [to_syn]);
    let to_ack = "10.2.0.10 > 10.1.0.10 ttl 64 DF tcp 9 > 1000 seq 500 ack 0 flags 0x4";
    assert_eq!(
        answers(&mut n, &tcp(CLIENT, SERVER, 100, 500, 16)),
        [to_ack]
    );
    assert!(
        answers(&mut n, &tcp(CLIENT, SERVER, 100, 500, 4)).is_empty(),
        "none for a RST"
    );
    n.ip6tables(
        "router",
        "filter; -A FORWARD -p tcp -j REJECT --reject-with tcp-reset",
    );
    let v6 = tcp(("fd00:1::10", 1000), ("fd00:2::10", 9), 100, 0, 2);
    let want = "fd00:2::10 > fd00:1::10 ttl 64 tcp 9 > 1000 seq 0 ack 101 flags 0x14";
    assert_eq!(answers(&mut n, &v6), [want]);
}

#[test]
fn at_input_the_address_asked_answers() {
    let mut n = routed();
    n.iptables("router", "filter; -A INPUT -j REJECT");
    for asked in ["10.1.0.1", "10.2.0.1"] {
        let want = format!(
            "{asked} > 10.1.0.10 ttl 64 icmp 3/3 0 [10.1.0.10 > {asked} ttl 64 udp 1000 > 9]"
        );
        assert_eq!(answers(&mut n, &udp(CLIENT, (asked, 9), b"x")), [want]);
    }
}

#[test]
fn some_packets_are_not_answered() {
    let mut n = routed();
    n.iptables("router", "filter; -A FORWARD -j REJECT");
    let mut bad = udp(CLIENT, SERVER, b"x");
    bad[26] ^= 1;
    assert!(answers(&mut n, &bad).is_empty(), "wrong checksum");
    let odd = build::ip_packet(ip(CLIENT.0), ip(SERVER.0), 253, 64, 0, 1, false, b"abcd");
    assert!(
        answers(&mut n, &odd).is_empty(),
        "no known checksum: summed up all the same"
    );
    assert_eq!(answers(&mut n, &echo(CLIENT.0, SERVER.0, 5)).len(), 1);
    n.send("client", &udp(CLIENT, SERVER, &[0; 3000])).unwrap();
    let got = n.lines_at("client eth0 In");
    assert!(
        got.is_empty(),
        "a first fragment's checksum is wrong, later ones never: {got:?}"
    );
    let ends = n.ends();
    let dropped = |e: &&(String, Disposition)| matches!(e.1, Disposition::Dropped { .. });
    assert!(ends.iter().filter(dropped).count() >= 3, "{ends:?}");
}

#[test]
fn own_packets_are_refused_and_told_of() {
    let mut n = routed();
    n.iptables("client", "filter; -A OUTPUT -p udp -j REJECT");
    let sent = n.send("client", &udp(CLIENT, SERVER, b"x"));
    assert_eq!(sent, Err(Errno::Perm));
    let want =
        "10.1.0.10 > 10.1.0.10 ttl 64 icmp 3/3 0 [10.1.0.10 > 10.2.0.10 ttl 64 udp 1000 > 9]";
    assert_eq!(n.lines_at("client lo In"), [want]);
}

#[test]
fn a_reset_of_a_bridged_packet_leaves_by_the_port_it_came_in() {
    let mut n = Net::new();
    n.run(
        "node",
        "ip link add br0 type bridge; ip link set br0 up; ip addr add 10.1.0.1/24 dev br0",
    );
    for (pod, addr) in [("a", "10.1.0.10"), ("b", "10.1.0.11")] {
        n.veth((pod, "eth0"), ("node", &format!("v{pod}")));
        n.run("node", &format!("ip link set v{pod} master br0"));
        n.run(pod, &format!("ip addr add {addr}/24 dev eth0"));
    }
    n.send("a", &echo("10.1.0.10", "10.1.0.11", 1)).unwrap();
    n.taps();
    n.iptables(
        "node",
        "filter; -A FORWARD -p tcp -j REJECT --reject-with tcp-reset",
    );
    n.send("a", &tcp(("10.1.0.10", 1000), ("10.1.0.11", 9), 100, 0, 2))
        .unwrap();
    let taps = n.at("a eth0 In");
    let [reset] = &taps[..] else {
        panic!("{taps:?}")
    };
    let b_mac = podpath::import::ipcmd::derived_mac("b", "eth0");
    assert_eq!(reset.frame.src_mac(), b_mac, "as if b had sent it");
    assert_eq!(
        IpHeader::parse(reset.frame.l3()).unwrap().src,
        ip("10.1.0.11")
    );
}
