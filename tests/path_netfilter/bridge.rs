//! Bridged packets before the IP hooks: what Linux 6.18 did with the same bridge, rules and packets.

use crate::net::{Net, Tap, echo, tcp, told, udp};
use podpath::wire::{MacAddr, print};

const A: &str = "10.244.1.2";
const DNAT: &str = "nat; -A PREROUTING -d 10.96.0.1 -p udp -j DNAT --to-destination 10.244.1.3:9
    -A PREROUTING -d 10.96.0.1 -p tcp -j DNAT --to-destination 10.244.1.3:9
    -A PREROUTING -d 10.96.0.2 -p udp -j DNAT --to-destination 10.244.1.77:9
    -A PREROUTING -d 10.96.0.3 -p udp -j DNAT --to-destination 192.168.0.9:9
    -A PREROUTING -d 10.96.0.4 -p udp -j DNAT --to-destination 10.244.1.2:9
    -A PREROUTING -d 10.96.0.5 -p udp -j DNAT --to-destination 10.250.1.2:9
    -A POSTROUTING -s 10.244.1.2 -d 10.244.1.2 -j MASQUERADE
    -A POSTROUTING -s 10.244.0.0/16 ! -d 10.244.0.0/16 -j MASQUERADE";

fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

/// Pods a and b on cni0 of a node, which also has a way out by e0.
pub fn node(rules: &str) -> Net {
    let mut n = Net::new();
    n.run(
        "node",
        "ip link add cni0 type bridge; ip link set cni0 address 02:00:00:00:00:01
         ip link set cni0 up; ip addr add 10.244.1.1/24 dev cni0
         sysctl -w net.bridge.bridge-nf-call-iptables=1
         sysctl -w net.ipv4.ip_forward=1; sysctl -w net.ipv4.conf.all.rp_filter=0
         sysctl -w net.ipv4.conf.all.send_redirects=0; sysctl -w net.ipv4.conf.cni0.send_redirects=0",
    );
    for (pod, host, last) in [("a", 2, 0x0a), ("b", 3, 0x0b)] {
        n.veth((pod, "eth0"), ("node", &format!("v{pod}")));
        n.run("node", &format!("ip link set v{pod} master cni0"));
        n.run(
            pod,
            &format!(
                "ip link set eth0 address 02:00:00:00:00:{last:02x}
                 ip addr add 10.244.1.{host}/24 dev eth0; ip route add default via 10.244.1.1"
            ),
        );
    }
    n.veth(("out", "eth0"), ("node", "e0"));
    n.run(
        "out",
        "ip addr add 192.168.0.9/24 dev eth0; ip route add default via 192.168.0.1",
    );
    n.run("node", "ip addr add 192.168.0.1/24 dev e0");
    n.iptables("node", rules);
    n.send("a", &echo(A, "10.244.1.1", 1)).unwrap();
    n.taps();
    n
}

fn ask(n: &mut Net, port: u16, vip: &str) -> Vec<Tap> {
    n.send("a", &udp((A, port), (vip, 80), b"x")).unwrap();
    n.taps()
}

fn at<'t>(taps: &'t [Tap], place: &str) -> Vec<&'t Tap> {
    taps.iter().filter(|t| t.at == place).collect()
}

#[test]
fn a_service_on_the_same_node_is_bridged_with_its_ttl_and_source_mac() {
    let mut n = node(DNAT);
    // b is not known yet: its address is asked for, and the frame passes cni0 once.
    for (round, through_cni0) in [(0, 1), (1, 0)] {
        let taps = ask(&mut n, 1000 + round, "10.96.0.1");
        assert_eq!(
            at(&taps, "node cni0 Out").len(),
            through_cni0,
            "round {round}"
        );
        assert!(at(&taps, "node cni0 In").is_empty());
        let out = at(&taps, "node vb Out")[0];
        assert_eq!(
            (out.frame.src_mac(), out.frame.dst_mac()),
            (mac(0x0a), mac(0x0b))
        );
        let want = format!("{A} > 10.244.1.3 ttl 64 udp {} > 9", 1000 + round);
        assert_eq!(told(out.frame.l3()), want);
        // The error about the closed port is bridged back and translated.
        let back = at(&taps, "node va Out")[0];
        assert_eq!(
            (back.frame.src_mac(), back.frame.dst_mac()),
            (mac(0x0b), mac(0x0a))
        );
        let port = 1000 + round;
        let want =
            format!("10.96.0.1 > {A} ttl 64 icmp 3/3 0 [{A} > 10.96.0.1 ttl 64 udp {port} > 80]");
        assert_eq!(told(back.frame.l3()), want);
    }
    assert_eq!(
        n.connections("node"),
        3,
        "the ping, and two that were confirmed"
    );
}

#[test]
fn a_neighbour_that_is_not_confirmed_takes_the_way_through_the_bridge_device() {
    let mut n = node(DNAT);
    ask(&mut n, 1000, "10.96.0.1");
    for state in ["stale", "reachable"] {
        n.run(
            "node",
            &format!("ip neigh replace 10.244.1.3 lladdr 02:00:00:00:00:0b dev cni0 nud {state}"),
        );
        let taps = ask(&mut n, 1001, "10.96.0.1");
        assert_eq!(at(&taps, "node vb Out").len(), 1);
        if let Some(through) = at(&taps, "node cni0 Out").first() {
            assert_eq!(state, "stale");
            assert_eq!(
                through.frame.src_mac(),
                mac(1),
                "as the neighbour layer sends it"
            );
        }
    }
    // A new permanent entry has no cached header yet.
    n.run("node", "ip neigh del 10.244.1.3 dev cni0");
    n.run(
        "node",
        "ip neigh add 10.244.1.3 lladdr 02:00:00:00:00:0b dev cni0 nud permanent",
    );
    for through in [1, 0] {
        let taps = ask(&mut n, 1003, "10.96.0.1");
        assert_eq!(at(&taps, "node cni0 Out").len(), through);
    }
}

#[test]
fn a_reject_of_a_translated_packet_comes_from_the_service() {
    let mut n = node(&format!(
        "{DNAT}\nfilter; -A FORWARD -d 10.244.1.3 -p udp -j REJECT
        -A FORWARD -d 10.244.1.3 -p tcp -j REJECT --reject-with tcp-reset"
    ));
    ask(&mut n, 1000, "10.96.0.9");
    let taps = ask(&mut n, 1004, "10.96.0.1");
    let want = format!("10.96.0.1 > {A} ttl 64 icmp 3/3 0 [{A} > 10.96.0.1 ttl 64 udp 1004 > 80]");
    assert_eq!(told(at(&taps, "a eth0 In")[0].frame.l3()), want);
    assert_eq!(
        at(&taps, "node cni0 Out").len(),
        2,
        "the frame that finds b's address, the error"
    );
    assert_eq!(
        n.connections("node"),
        1,
        "the ping; what was rejected was not confirmed"
    );

    // The reset does not pass the stack: it stays as the endpoint would have sent it.
    n.send("a", &tcp((A, 1005), ("10.96.0.1", 80), 100, 0, 2))
        .unwrap();
    let taps = n.taps();
    let reset = at(&taps, "a eth0 In")[0];
    let want = format!("10.244.1.3 > {A} ttl 64 DF tcp 9 > 1005 seq 0 ack 101 flags 0x14");
    assert_eq!(told(reset.frame.l3()), want);
    assert_eq!(reset.frame.src_mac(), mac(0x0b));
    assert!(at(&taps, "node cni0 Out").is_empty());
}

#[test]
fn nobody_there_is_told_as_from_the_service() {
    let mut n = node(DNAT);
    assert!(at(&ask(&mut n, 1006, "10.96.0.2"), "a eth0 In").is_empty());
    n.wait(4);
    let taps = n.taps();
    let want = format!("10.96.0.2 > {A} ttl 64 icmp 3/1 0 [{A} > 10.96.0.2 ttl 64 udp 1006 > 80]");
    assert_eq!(told(at(&taps, "a eth0 In")[0].frame.l3()), want);
}

#[test]
fn to_the_outside_it_goes_up_translated_and_is_masqueraded() {
    let mut n = node(DNAT);
    let taps = ask(&mut n, 1007, "10.96.0.3");
    let up = at(&taps, "node cni0 In")[0];
    assert_eq!(
        told(up.frame.l3()),
        format!("{A} > 192.168.0.9 ttl 64 udp 1007 > 9")
    );
    assert_eq!(
        (up.frame.src_mac(), up.frame.dst_mac()),
        (mac(0x0a), mac(1))
    );
    let out = at(&taps, "node e0 Out")[0];
    assert_eq!(
        told(out.frame.l3()),
        "192.168.0.1 > 192.168.0.9 ttl 63 udp 1007 > 9"
    );
    let want = format!("10.96.0.3 > {A} ttl 63 icmp 3/3 0 [{A} > 10.96.0.3 ttl 63 udp 1007 > 80]");
    assert_eq!(told(at(&taps, "a eth0 In")[0].frame.l3()), want);
}

#[test]
fn to_itself_only_with_hairpin() {
    let mut n = node(DNAT);
    assert!(at(&ask(&mut n, 1008, "10.96.0.4"), "node va Out").is_empty());
    n.run("node", "bridge link set dev va hairpin on");
    let taps = ask(&mut n, 1010, "10.96.0.4");
    let seen: Vec<_> = at(&taps, "a eth0 In");
    let lines: Vec<_> = seen.iter().map(|t| told(t.frame.l3())).collect();
    let error = format!("10.96.0.4 > {A} ttl 64 icmp 3/3 0 [{A} > 10.96.0.4 ttl 64 udp 1010 > 80]");
    assert_eq!(
        lines,
        [format!("10.244.1.1 > {A} ttl 64 udp 1010 > 9"), error]
    );
    for t in seen {
        assert_eq!(
            (t.frame.src_mac(), t.frame.dst_mac()),
            (mac(0x0a), mac(0x0a))
        );
    }
}

#[test]
fn without_a_way_the_host_drops_it() {
    let mut n = node(DNAT);
    let taps = ask(&mut n, 1012, "10.96.0.5");
    assert_eq!(
        told(at(&taps, "node cni0 In")[0].frame.l3()),
        format!("{A} > 10.250.1.2 ttl 64 udp 1012 > 9")
    );
    let want = format!("10.96.0.5 > {A} ttl 64 icmp 3/0 0 [{A} > 10.96.0.5 ttl 64 udp 1012 > 80]");
    assert_eq!(told(at(&taps, "a eth0 In")[0].frame.l3()), want);
    n.run("node", "sysctl -w net.ipv4.ip_forward=0");
    let taps = ask(&mut n, 1011, "10.96.0.1");
    assert_eq!(at(&taps, "node cni0 In").len(), 1);
    assert!(at(&taps, "node vb Out").is_empty());
    assert!(at(&taps, "a eth0 In").is_empty(), "silently");
}

#[test]
fn a_broadcast_is_masqueraded_for_the_others_and_not_for_the_host() {
    let mut n = node(DNAT);
    n.run("a", "ip route add 255.255.255.255 dev eth0");
    n.send("a", &udp((A, 1068), ("255.255.255.255", 67), b"hi"))
        .unwrap();
    let taps = n.taps();
    let line = |p: &str| told(at(&taps, p)[0].frame.l3());
    assert_eq!(
        line("node vb Out"),
        "10.244.1.1 > 255.255.255.255 ttl 64 udp 1068 > 67"
    );
    assert_eq!(
        line("node cni0 In"),
        format!("{A} > 255.255.255.255 ttl 64 udp 1068 > 67")
    );
    assert_eq!(n.connections("node"), 2);
}

#[test]
fn with_the_sysctl_off_it_is_routed_and_the_reply_is_not_translated() {
    let mut n = node(DNAT);
    n.run("node", "sysctl -w net.bridge.bridge-nf-call-iptables=0");
    let taps = ask(&mut n, 1013, "10.96.0.1");
    let out = at(&taps, "node vb Out")[0];
    assert_eq!(
        told(out.frame.l3()),
        format!("{A} > 10.244.1.3 ttl 63 udp 1013 > 9")
    );
    assert_eq!(
        (out.frame.src_mac(), out.frame.dst_mac()),
        (mac(1), mac(0x0b))
    );
    let want = format!("10.244.1.3 > {A} ttl 64 icmp 3/3 0 [{A} > 10.244.1.3 ttl 63 udp 1013 > 9]");
    assert_eq!(told(at(&taps, "a eth0 In")[0].frame.l3()), want);
}

#[test]
fn rules_see_the_ports() {
    let mut n = node(
        "filter; -A FORWARD -m physdev --physdev-in va --physdev-out vb --physdev-is-bridged -j DROP",
    );
    n.send("a", &udp((A, 1000), ("10.244.1.3", 9), b"x"))
        .unwrap();
    let taps = n.taps();
    let lines: Vec<_> = taps.iter().map(|t| print::summary(&t.frame)).collect();
    assert!(
        at(&taps, "b eth0 In")
            .iter()
            .all(|t| t.line().contains("ARP")),
        "{lines:#?}"
    );
}
