//! Commands as people and manifests write them: what they parse to, which word is refused, what they do.

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

/// Lines that look like commands.
const ANY_LINE: &str =
    "(ip|bridge|sysctl)?( [a-z]{2,7}| [0-9a-f.:/]{1,12}| dev| via| type| nexthop| '[a-z]*'?){0,8}";

proptest::proptest! {
    #[test]
    fn no_line_panics(line in ANY_LINE) {
        let _ = parse(&line, &Span::default());
        let _ = parse_batch(&line, &Span::default());
        let _ = split_script(&line);
    }
}

fn ns() -> crate::net::NetNs {
    crate::net::NetNs::new(crate::base::NsId(0), "n1", crate::base::NodeId(0))
}

fn run(ns: &mut crate::net::NetNs, line: &str) -> Result<Vec<String>, String> {
    let origin = crate::base::Origin::Scenario("test".into());
    let cmd = parse(line, &Span::default()).map_err(|e| e.to_string())?;
    apply(&cmd, &mut ns.edit(), crate::base::Instant::ZERO, &origin).map_err(|e| e.to_string())
}

fn routes(ns: &crate::net::NetNs, table: u32) -> Vec<String> {
    let t = ns
        .fib()
        .table(table)
        .map(|t| t.routes(true))
        .unwrap_or_default();
    t.iter()
        .map(|r| format!("{:?} {} {:?} {}", r.kind, r.dst, r.scope, r.metric))
        .collect()
}

#[test]
fn commands_change_the_namespace_and_their_opposites_change_it_back() {
    let mut n = ns();
    for line in [
        "ip link add d0 type dummy",
        "ip link set d0 up",
        "ip addr add 10.0.0.1/24 dev d0",
    ] {
        assert_eq!(run(&mut n, line), Ok(vec![]), "{line}");
    }
    let before = routes(&n, 254);
    assert_eq!(before, ["Unicast 10.0.0.0/24 Link 0"]);
    run(&mut n, "ip route add 10.9.0.0/16 via 10.0.0.2 metric 7").unwrap();
    run(&mut n, "ip route add blackhole 10.8.0.0/16 table 100").unwrap();
    assert_eq!(
        routes(&n, 254).last().map(String::as_str),
        Some("Unicast 10.9.0.0/16 Universe 7")
    );
    assert_eq!(routes(&n, 100), ["Blackhole 10.8.0.0/16 Universe 0"]);
    assert!(
        run(&mut n, "ip route add 10.9.0.0/16 via 10.0.0.3 metric 7").is_err(),
        "File exists"
    );
    assert!(
        run(&mut n, "ip route del 10.9.0.0/16 via 10.0.0.3").is_err(),
        "another gateway"
    );
    run(&mut n, "ip route del 10.9.0.0/16 via 10.0.0.2").unwrap();
    assert_eq!(routes(&n, 254), before);
    run(&mut n, "ip rule add from 10.0.0.0/8 lookup 100").unwrap();
    assert_eq!(
        n.fib().rules(true)[1].priority,
        32765,
        "one below the second rule"
    );
    run(&mut n, "ip rule del from 10.0.0.0/8 lookup 100").unwrap();
    assert_eq!(n.fib().rules(true).len(), 3);
}

#[test]
fn what_needs_more_than_podpath_has_is_refused_and_what_is_only_kept_is_said() {
    let mut n = ns();
    assert!(
        run(&mut n, "ip link add v0 type veth peer name v1")
            .unwrap_err()
            .contains("second namespace")
    );
    assert!(
        run(&mut n, "ip route add 10.0.0.0/8 via 10.0.0.1")
            .unwrap_err()
            .contains("invalid gateway")
    );
    assert!(
        run(&mut n, "ip link set nope up")
            .unwrap_err()
            .contains("Cannot find device")
    );
    assert_eq!(
        run(&mut n, "sysctl -w net.core.somaxconn=9"),
        Ok(vec!["sysctl net.core.somaxconn = 9".into()])
    );
    assert_eq!(
        run(&mut n, "ip link set lo txqueuelen 5"),
        Ok(vec!["txqueuelen 5".into()])
    );
    let high = "ip route add fd02::/64 via fe80::1 dev lo pref high";
    assert_eq!(run(&mut n, high), Ok(vec!["pref high".into()]));
}

#[test]
fn rules_by_protocol_and_port() {
    let mut n = ns();
    run(
        &mut n,
        "ip rule add pref 5 ipproto udp sport 7 dport 8000-8100 lookup 9",
    )
    .unwrap();
    let rule = n.fib().rules(true)[1].clone();
    assert_eq!(
        (rule.ipproto, rule.sport, rule.dport),
        (Some(17), Some((7, 7)), Some((8000, 8100)))
    );
    for bad in [
        "dport 0",
        "dport 9-8",
        "dport 5-65535",
        "sport x",
        "ipproto nope",
        "ipproto 0",
    ] {
        assert!(
            run(&mut n, &format!("ip rule add {bad} lookup 9")).is_err(),
            "{bad}"
        );
    }
    assert!(run(&mut n, "ip rule del pref 5 ipproto tcp lookup 9").is_err());
    run(&mut n, "ip rule del ipproto udp dport 8000-8100 lookup 9").unwrap();
    assert_eq!(n.fib().rules(true).len(), 3);
}

/// Checked against a kernel, 6.18.
#[test]
fn a_route_among_its_equals() {
    let mut n = ns();
    run(&mut n, "ip addr add 10.0.0.1/24 dev lo").unwrap();
    let mut to = |verb: &str, gw: u8| {
        let r = run(
            &mut n,
            &format!("ip route {verb} 10.8.0.0/16 via 10.0.0.{gw} dev lo onlink"),
        );
        let t = n.fib().table(254).unwrap();
        let via = |r: &&std::sync::Arc<crate::net::Route>| r.nexthops[0].via.unwrap().to_string();
        let eights = t
            .routes(true)
            .into_iter()
            .filter(|r| r.dst.prefix() == 16)
            .map(|r| via(&r));
        (
            r.is_ok(),
            eights.map(|v| v[7..].to_owned()).collect::<String>(),
        )
    };
    assert_eq!(to("add", 2), (true, "2".into()));
    assert_eq!(to("add", 3), (false, "2".into()));
    assert_eq!(to("prepend", 3), (true, "32".into()));
    assert_eq!(to("append", 4), (true, "324".into()));
    assert_eq!(to("prepend", 4), (false, "324".into()));
    assert_eq!(to("replace", 5), (true, "524".into()));
    assert_eq!(to("replace", 4), (false, "524".into()));
    assert_eq!(to("replace", 5), (true, "524".into()));
    let dead = run(&mut n, "ip route add blackhole 10.7.0.0/16 dev lo").unwrap_err();
    assert!(dead.contains("can not be specified"), "{dead}");
    run(&mut n, "ip -6 route add blackhole fd02::/64 dev lo").unwrap();
}
