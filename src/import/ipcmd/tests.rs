use super::*;
use crate::net::fib::{RouteKind, RuleAction};

fn ok(line: &str) -> Command {
    parse(line, &Span::new("t", 3, 5)).unwrap_or_else(|e| panic!("{line}: {e}"))
}

fn column(line: &str) -> u32 {
    parse(line, &Span::new("t", 3, 5)).unwrap_err().span.column
}

#[test]
fn links() {
    let set = ok("ip link set vetha1 mtu 1450 up");
    assert_eq!(
        set,
        Command::LinkSet {
            dev: "vetha1".into(),
            changes: vec![LinkChange::Mtu(1450), LinkChange::Up(true)]
        }
    );
    let Command::LinkSet { changes, .. } =
        ok("ip link set p1 type bridge_slave isolated off hairpin on")
    else {
        panic!()
    };
    assert_eq!(
        changes.last(),
        Some(&LinkChange::Port(PortChange {
            flag: PortFlag::Hairpin,
            on: true
        }))
    );
    let Command::LinkSet { changes, .. } =
        ok("ip l set br0 type bridge group_fwd_mask 0x4008 ageing_time 200")
    else {
        panic!()
    };
    let two_seconds = core::time::Duration::from_secs(2);
    assert_eq!(
        changes,
        [
            LinkChange::GroupFwdMask(0x4008),
            LinkChange::Ageing(two_seconds)
        ]
    );
    let add = ok(
        "ip link add flannel.1 type vxlan id 1 local 192.0.2.1 dev eth0 dstport 8472 nolearning",
    );
    assert!(matches!(
        add,
        Command::LinkAdd {
            kind: NewLink::Vxlan {
                vni: 1,
                learning: false,
                ..
            },
            ..
        }
    ));
}

#[test]
fn routes_infer_their_family_and_keep_every_word() {
    let Command::Route { op: Op::Add, route } =
        ok("ip route add 10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink")
    else {
        panic!()
    };
    assert_eq!(route.hops.len(), 1);
    assert!(route.hops[0].onlink && route.kind.is_none());
    let Command::Route { route, .. } = ok("ip route add default via fd00::1") else {
        panic!()
    };
    assert_eq!(route.dst.to_string(), "::/0");
    let Command::Route { route, .. } = ok("ip -6 route del default") else {
        panic!()
    };
    assert!(route.dst.is_ipv6());
    let Command::Route { route, .. } = ok("ip r add blackhole 10.9.0.0/16 table 100 metric 5")
    else {
        panic!()
    };
    assert_eq!(
        (route.kind, route.table, route.metric),
        (Some(RouteKind::Blackhole), Some(100), Some(5))
    );
    let many = "ip route add 10.5.0.0/16 nexthop via 10.1.0.1 weight 2 nexthop via 10.2.0.1 dev e2";
    let Command::Route { route, .. } = ok(many) else {
        panic!()
    };
    assert_eq!(
        route.hops.iter().map(|h| h.weight).collect::<Vec<_>>(),
        [2, 1]
    );
    assert_eq!(ok("ip route get 10.244.2.10"), Command::Show);
    assert_eq!(ok("ip route flush cache"), Command::RouteFlushCache);
}

#[test]
fn rules_neighbours_and_forwarding_entries() {
    let Command::Rule {
        priority,
        rule,
        v6: false,
        ..
    } = ok("ip rule add from 10.1.0.0/16 fwmark 0x1/0xff lookup 100 pref 50")
    else {
        panic!()
    };
    assert_eq!(
        (priority, rule.fwmark, rule.action),
        (Some(50), Some((1, 0xff)), RuleAction::Table(100))
    );
    let Command::Neigh { neigh, .. } =
        ok("ip neigh replace 10.0.0.1 lladdr 02:00:00:00:00:01 dev e1 nud stale")
    else {
        panic!()
    };
    assert_eq!(neigh.state, NudWord::Stale);
    let Command::Neigh { neigh, .. } = ok("ip neigh add proxy 10.3.0.7 dev e1") else {
        panic!()
    };
    assert!(neigh.proxy && neigh.mac.is_none());
    let Command::Fdb { op: Op::Del, fdb } =
        ok("bridge fdb del 02:56:00:00:00:02 dev flannel.1 dst 192.168.50.12")
    else {
        panic!()
    };
    assert!(fdb.own && !fdb.master && fdb.dst.is_some());
    let Command::Fdb { fdb, .. } = ok("bridge fdb append 02:56:00:00:00:02 dev p1 master static")
    else {
        panic!()
    };
    assert!(fdb.master && !fdb.own && fdb.life == FdbLife::Static);
    assert!(matches!(
        ok("bridge link set dev vetha1 hairpin off"),
        Command::BridgeLink { .. }
    ));
}

#[test]
fn sysctls_by_either_separator() {
    let dots = ok("sysctl -w net.ipv4.conf.flannel.1.rp_filter=0");
    assert_eq!(dots, ok("sysctl -qw net/ipv4/conf/flannel.1/rp_filter=0"));
    let range = ok("sysctl -w net.ipv4.ip_local_port_range='1024 2000'");
    assert_eq!(
        range,
        Command::Sysctl {
            key: "net.ipv4.ip_local_port_range".into(),
            value: "1024 2000".into()
        }
    );
}

#[test]
fn errors_point_at_the_word() {
    assert_eq!(column("ip link set eth0 mtu many"), 5 + 21);
    assert_eq!(column("ip route add 10.0.0.0/8 via"), 5 + 27);
    assert_eq!(column("ip tunnel add x"), 5 + 3);
    assert_eq!(column("bridge link set dev p1 sparkle on"), 5 + 23);
}

#[test]
fn scripts_are_cut_outside_quotes() {
    let s = split_script(
        "ip link set a up; echo 'x; y' && ip r del default\nping -c1 h || true; a | b",
    );
    assert_eq!(
        s,
        [
            "ip link set a up",
            "echo 'x; y'",
            "ip r del default",
            "ping -c1 h",
            "true",
            "a | b"
        ]
    );
}

proptest::proptest! {
    #[test]
    fn no_line_panics(line in "(ip|bridge|sysctl)?( [a-z]{2,7}| [0-9a-f.:/]{1,12}| dev| via| type| nexthop| '[a-z]*'?){0,8}") {
        let _ = parse(&line, &Span::default());
        let _ = parse_batch(&line, &Span::default());
        let _ = split_script(&line);
    }
}
