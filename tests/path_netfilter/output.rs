//! Own packets: rules that change their route, copies, sockets for others' packets.

use crate::bridge;
use crate::nat::answer;
use crate::net::{Net, routed, told, udp};
use podpath::net::SocketId;
use podpath::path::{Disposition, DropReason, Errno};
use podpath::wire::proto;

#[test]
fn a_translated_destination_is_routed_anew() {
    let mut n =
        bridge::node("nat; -A OUTPUT -d 10.96.0.1 -p udp -j DNAT --to-destination 10.244.1.3:9");
    n.run("node", "ip route add default via 192.168.0.9");
    n.bind("b", proto::UDP, 9);
    n.bind("node", proto::UDP, 4000);
    n.run(
        "b",
        "ip addr del 10.244.1.3/24 dev eth0; ip addr add 10.244.1.3/24 dev eth0",
    );
    n.run("b", "ip route add default via 10.244.1.1");
    n.send(
        "node",
        &udp(("192.168.0.1", 4000), ("10.96.0.1", 80), b"hi"),
    )
    .unwrap();
    let got = n.delivered();
    assert_eq!(
        told(got[0].l3()),
        "192.168.0.1 > 10.244.1.3 ttl 64 udp 4000 > 9"
    );
    assert!(
        n.at("node e0 Out").is_empty(),
        "the route of 10.96.0.1 is not its route"
    );
    answer(&mut n, "b", &got[0]);
    let back = n.delivered();
    assert_eq!(
        told(back[0].l3()),
        "10.96.0.1 > 192.168.0.1 ttl 64 udp 80 > 4000"
    );
}

fn marked() -> Net {
    let mut n = bridge::node(
        "mangle; -A OUTPUT -d 10.77.0.1 -j MARK --set-mark 7
         filter; -A OUTPUT -o cni0 -d 10.77.0.1 -j DROP",
    );
    n.run(
        "node",
        "ip route add default via 192.168.0.9; ip rule add fwmark 7 table 7
         ip route add 10.77.0.1 via 10.244.1.3 table 7",
    );
    n
}

#[test]
fn a_new_mark_is_routed_anew_and_filter_still_sees_the_old_device() {
    let mut n = marked();
    n.send("node", &udp(("192.168.0.1", 1), ("10.77.0.1", 5), b"hi"))
        .unwrap();
    assert_eq!(
        n.lines_at("node vb Out"),
        ["192.168.0.1 > 10.77.0.1 ttl 64 udp 1 > 5"]
    );
}

#[test]
fn a_new_route_that_is_none_drops_it() {
    let mut n = marked();
    n.run(
        "node",
        "ip route del 10.77.0.1 table 7; ip route add unreachable 10.77.0.1 table 7",
    );
    let sent = n.send("node", &udp(("192.168.0.1", 1), ("10.77.0.1", 5), b"hi"));
    assert_eq!(sent, Err(Errno::HostUnreach));
    match n.end_in("node") {
        Some(Disposition::Dropped { reason, .. }) => assert_eq!(reason, DropReason::Unreachable),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_copy_goes_its_own_way() {
    let mut n = routed();
    n.iptables(
        "router",
        "mangle; -A PREROUTING -p udp -j TEE --gateway 10.2.0.10",
    );
    n.run("server", "sysctl -w net.ipv4.ip_forward=1");
    n.send("client", &udp(("10.1.0.10", 1000), ("10.9.9.9", 9), b"x"))
        .unwrap();
    // Kernel: nf_dup_ipv4 sets DF, lowers the TTL in PREROUTING, sends to the gateway as it is.
    assert_eq!(
        n.lines_at("router e2 Out")[0],
        "10.1.0.10 > 10.9.9.9 ttl 63 DF udp 1000 > 9"
    );
}

#[test]
fn tproxy_gives_others_packets_to_a_local_socket() {
    let mut n = routed();
    let proxy = n.bind("router", proto::UDP, 5000);
    n.transparent("router", proxy);
    n.iptables(
        "router",
        "mangle; -A PREROUTING -p udp --dport 9 -j TPROXY --on-port 5000 --on-ip 10.1.0.1 --tproxy-mark 1/1",
    );
    n.run(
        "router",
        "ip rule add fwmark 1 table 100; ip route add local 0.0.0.0/0 dev lo table 100",
    );
    n.send("client", &udp(("10.1.0.10", 1000), ("10.2.0.10", 9), b"x"))
        .unwrap();
    let ends = n.ends();
    let to: Vec<SocketId> = ends
        .iter()
        .filter_map(|e| match e.1 {
            Disposition::Delivered(s) => Some(s),
            _ => None,
        })
        .collect();
    assert_eq!(to, [proxy], "{ends:?}");
    let got = n.delivered();
    assert_eq!(
        told(got[0].l3()),
        "10.1.0.10 > 10.2.0.10 ttl 64 udp 1000 > 9",
        "untouched"
    );
}

#[test]
fn a_tunnels_outer_packets_pass_output_and_are_connections_of_their_own() {
    let mut n = routed();
    n.run(
        "router",
        "ip link add vx type vxlan id 7 dstport 4789 local 10.2.0.1; ip link set vx up
         bridge fdb append 00:00:00:00:00:00 dev vx dst 10.2.0.10
         ip addr add 10.9.0.1/24 dev vx; ip neigh add 10.9.0.10 lladdr 02:00:00:00:00:99 dev vx nud permanent",
    );
    n.iptables("router", "filter; -A FORWARD -m conntrack --ctstate NEW");
    n.send("client", &udp(("10.1.0.10", 1000), ("10.9.0.10", 9), b"x"))
        .unwrap();
    assert_eq!(n.connections("router"), 2, "inner and outer");
    n.iptables("router", "filter; -A OUTPUT -p udp --dport 4789 -j DROP");
    n.send("client", &udp(("10.1.0.10", 1000), ("10.9.0.10", 9), b"x"))
        .unwrap();
    assert!(matches!(
        n.end_in("router"),
        Some(Disposition::Dropped {
            reason: DropReason::Netfilter,
            ..
        })
    ));
}
