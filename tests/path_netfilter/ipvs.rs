//! IPVS in the walk: requests to real servers by every method, replies, errors, this host's own clients.

use crate::net::{Net, Tap, tcp, udp};
use podpath::ipvs::text;

const CLIENT: &str = "10.1.0.2";
const VIP: &str = "10.96.0.1";

/// A client, a director with the virtual address, and two real servers behind it.
fn director(rules: &str) -> Net {
    let mut n = Net::new();
    n.veth(("client", "eth0"), ("dir", "c0"));
    n.veth(("rs", "eth0"), ("dir", "r0"));
    n.run(
        "dir",
        "ip addr add 10.1.0.1/24 dev c0; ip addr add 10.2.0.1/24 dev r0
         ip link add vs0 type dummy; ip addr add 10.96.0.1/32 dev vs0
         sysctl -w net.ipv4.ip_forward=1; sysctl -w net.ipv4.conf.all.rp_filter=0",
    );
    n.run(
        "client",
        "ip addr add 10.1.0.2/24 dev eth0; ip route add default via 10.1.0.1",
    );
    n.run(
        "rs",
        "ip addr add 10.2.0.10/24 dev eth0; ip addr add 10.2.0.11/24 dev eth0
         ip route add default via 10.2.0.1",
    );
    let (commands, bad) = text::parse(rules, "rules");
    assert!(bad.is_empty(), "{bad:?}");
    let (id, now) = (n.id("dir"), n.world.now());
    let ns = n.world.ns_mut(id).unwrap();
    let refused = ns.ipvs_change(|vs| text::load(vs, &commands, false, now));
    assert!(refused.is_empty(), "{refused:?}");
    n
}

/// What passed a place, as lines without the place.
fn at(taps: &[Tap], place: &str) -> Vec<String> {
    let here = taps
        .iter()
        .filter(|t| t.at == place && t.frame.ethertype() != 0x0806);
    here.map(|t| t.line().replacen(&format!("{place} "), "", 1))
        .collect()
}

fn ask(n: &mut Net, from: (&str, u16), ns: &str) -> Vec<Tap> {
    n.send(ns, &udp(from, (VIP, 53), b"x")).unwrap();
    n.taps()
}

#[test]
fn a_request_is_translated_and_its_answer_comes_from_the_virtual_address() {
    let mut n = director("-A -u 10.96.0.1:53 -s rr\n-a -u 10.96.0.1:53 -r 10.2.0.10:5353 -m");
    let taps = ask(&mut n, (CLIENT, 1000), "client");
    assert_eq!(
        at(&taps, "dir r0 Out"),
        ["10.1.0.2 > 10.2.0.10 ttl 63 udp 1000 > 5353"]
    );
    n.send("rs", &udp(("10.2.0.10", 5353), (CLIENT, 1000), b"y"))
        .unwrap();
    let taps = n.taps();
    assert_eq!(
        at(&taps, "client eth0 In"),
        ["10.96.0.1 > 10.1.0.2 ttl 63 udp 53 > 1000"]
    );
}

#[test]
fn direct_routing_leaves_the_packet_and_a_tunnel_wraps_it() {
    let mut n = director("-A -u 10.96.0.1:53 -s rr\n-a -u 10.96.0.1:53 -r 10.2.0.10 -g");
    let taps = ask(&mut n, (CLIENT, 1000), "client");
    assert_eq!(
        at(&taps, "dir r0 Out"),
        ["10.1.0.2 > 10.96.0.1 ttl 63 udp 1000 > 53"]
    );
    let mut n = director("-A -u 10.96.0.1:53 -s rr\n-a -u 10.96.0.1:53 -r 10.2.0.10 -i");
    let taps = ask(&mut n, (CLIENT, 1000), "client");
    assert_eq!(
        at(&taps, "dir r0 Out"),
        ["10.2.0.1 > 10.2.0.10 ttl 63 proto 4"]
    );
}

#[test]
fn the_hosts_own_clients_are_served_too() {
    let mut n = director("-A -u 10.96.0.1:53 -s rr\n-a -u 10.96.0.1:53 -r 10.2.0.10:5353 -m");
    let taps = ask(&mut n, ("10.2.0.1", 1000), "dir");
    assert_eq!(
        at(&taps, "dir r0 Out"),
        ["10.2.0.1 > 10.2.0.10 ttl 63 udp 1000 > 5353"]
    );
}

#[test]
fn nobody_there_is_told_and_a_stray_segment_is_reset() {
    let mut n = director("-A -t 10.96.0.1:80 -s rr");
    n.send("client", &tcp((CLIENT, 1000), (VIP, 80), 1, 0, 2))
        .unwrap();
    let told = at(&n.taps(), "client eth0 In");
    assert!(told.len() == 1 && told[0].contains("icmp 3/3"), "{told:?}");
    n.send("client", &tcp((CLIENT, 1001), (VIP, 80), 1, 1, 16))
        .unwrap();
    let told = at(&n.taps(), "client eth0 In");
    assert!(told.len() == 1 && told[0].contains("flags 0x4"), "{told:?}");
}
