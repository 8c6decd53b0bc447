//! `podpath show` against what real kernels said: every dump of every recording under tests/recordings.
//!
//! Each scenario is built in podpath by the commands the recorder gave, all of its namespaces, endpoints too; then
//! the printed text is compared with `ip` and `bridge` of that namespace line by line. What is left out of the
//! comparison, and why, is in `show/norm.rs`; what podpath's kernel model still lacks is pinned in `show/lacks.rs`.

#![allow(
    dead_code,
    missing_docs,
    reason = "shares the conformance runner's modules, of which it uses a part"
)]

#[path = "conformance/build.rs"]
mod build;
#[path = "conformance/confirm.rs"]
mod confirm;
#[path = "common/conntrack.rs"]
mod conntrack;
#[path = "conformance/decode.rs"]
mod decode;
#[path = "conformance/hashes.rs"]
mod hashes;
#[path = "conformance/pcapng.rs"]
mod pcapng;
#[path = "conformance/ping.rs"]
mod ping;
#[path = "conformance/plan.rs"]
mod plan;
#[path = "conformance/process.rs"]
mod process;
#[path = "conformance/recordings.rs"]
mod recordings;
#[path = "conformance/scenario.rs"]
mod scenario;
#[path = "conformance/script.rs"]
mod script;
#[path = "conformance/sha256.rs"]
mod sha256;
#[path = "conformance/topo.rs"]
mod topo;

#[path = "show/lacks.rs"]
mod lacks;
#[path = "show/norm.rs"]
mod norm;
#[path = "conformance/when.rs"]
mod when;
#[path = "show/world.rs"]
mod world;

use norm::Dump;
use podpath::base::{Instant, Origin, Span};
use podpath::import::ipcmd::{ApplyError, Command, apply, parse};
use podpath::net::fib::FibEditError;
use podpath::net::{EditError, NetNs, Route, table};
use podpath::report::show::{Ctx, Family, RouteTables, ShowWhat, json, route_line, text};
use recordings::{Kind, Recordings};
use std::collections::BTreeMap;
use std::path::PathBuf;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every difference: recording, namespace, dump, line (`-` the kernel's, `+` ours).
fn differences() -> (usize, Vec<String>) {
    let all = Recordings::find(&root(), None).expect("recordings");
    let (mut compared, mut out) = (0, Vec::new());
    for r in all.all().iter().filter(|r| r.kind == Kind::Captures) {
        let built = world::build(r);
        for ns in built.world.spaces() {
            for dump in Dump::ALL {
                let file = format!("dumps/{}/{}", ns.name, dump.file());
                let Some(real) = r.text(&file) else { continue };
                let cx = Ctx {
                    now: built.world.now(),
                    details: dump.details(),
                    ..Ctx::default()
                };
                let ours = text(ns, dump.what(), &cx);
                let (theirs, ours) = (norm::lines(dump, &real), norm::lines(dump, &ours));
                compared += theirs.len();
                for d in norm::diff(&theirs, &ours) {
                    out.push(format!("{} {} {}: {d}", r.label(), ns.name, dump.file()));
                }
            }
        }
    }
    (compared, out)
}

#[test]
fn every_dump_of_the_recordings_is_printed_alike() {
    let (compared, all) = differences();
    let mut used: BTreeMap<&str, usize> = BTreeMap::new();
    let mut out = Vec::new();
    for line in all {
        match lacks::PINNED.iter().find(|p| (p.is)(&line)) {
            Some(p) => *used.entry(p.what).or_default() += 1,
            None => out.push(line),
        }
    }
    if let Ok(path) = std::env::var("SHOW_DIFF") {
        std::fs::write(path, out.join("\n")).expect("writable");
    }
    assert!(
        compared > 17_000,
        "{compared} lines are not all the recordings'"
    );
    let shown = out[..out.len().min(40)].join("\n");
    assert!(
        out.is_empty(),
        "{} differences in {compared} lines:\n{shown}",
        out.len()
    );
    for p in lacks::PINNED {
        assert!(
            used.contains_key(p.what),
            "no longer lacking, take it out of show/lacks.rs: {}",
            p.what
        );
    }
}

/// The routes of a namespace with their tables.
fn routes(ns: &NetNs) -> Vec<(u32, Route)> {
    let tables = ns.fib().tables();
    let both = |(id, t): (u32, &podpath::net::fib::RouteTable)| {
        let all: Vec<(u32, Route)> = [true, false]
            .iter()
            .flat_map(|v4| t.routes(*v4))
            .map(|r| (id, (**r).clone()))
            .collect();
        all
    };
    tables.flat_map(both).collect()
}

/// What `ip route` prints is what `ip route add` takes: added back to a table without routes it is the same route.
/// `dead` and `linkdown` are what `ip` says of a route, not words it reads.
#[test]
fn printed_routes_read_back_as_the_same_routes() {
    let all = Recordings::find(&root(), None).expect("recordings");
    let (mut read, mut unreachable) = (0, Vec::new());
    for r in all.all().iter().filter(|r| r.kind == Kind::Captures) {
        for ns in world::build(r).world.spaces() {
            let mut again = ns.clone();
            for (t, route) in routes(ns).iter().filter(|(t, _)| *t != table::LOCAL) {
                match round_trip(&mut again, *t, route) {
                    Ok(()) => read += 1,
                    // The address that made its gateway reachable was taken away after it.
                    Err(ApplyError::Edit(EditError::Fib(FibEditError::BadGateway))) => unreachable
                        .push(format!(
                            "{} {}: {}",
                            r.label(),
                            ns.name,
                            route_line(ns, *t, route)
                        )),
                    Err(e) => panic!("{} {}: {route:?}: {e}", r.label(), ns.name),
                }
            }
        }
    }
    assert!(
        read > 1700 && unreachable.len() < 20,
        "{read} read back, not: {unreachable:#?}"
    );
}

/// Takes a route away, reads its printed line and expects the same route in its place.
fn round_trip(ns: &mut NetNs, t: u32, route: &Route) -> Result<(), ApplyError> {
    let line = route_line(ns, t, route);
    let words: Vec<&str> = line
        .split_whitespace()
        .filter(|w| !matches!(*w, "dead" | "linkdown"))
        .collect();
    let line = format!("ip route append {}", words.join(" "));
    let c = parse(&line, &Span::new("show", 1, 1)).expect(&line);
    assert!(matches!(c, Command::Route { .. }), "{line}");
    let mut e = ns.edit();
    e.route_del(t, route.dst, &|r| r == route)?;
    apply(&c, &mut e, Instant::ZERO, &route.origin)?;
    drop(e);
    let back = routes(ns);
    assert!(
        back.iter().any(|(id, r)| *id == t && r == route),
        "{line}: {route:?}"
    );
    Ok(())
}

/// A namespace with one of everything.
fn rich() -> NetNs {
    let mut ns = NetNs::new(podpath::base::NsId(0), "n1", podpath::base::NodeId(0));
    for line in [
        "ip link set lo up",
        "ip link add cni0 address 0a:58:0a:f4:01:01 type bridge",
        "ip link add d0 address 02:00:00:00:00:01 type dummy",
        "ip link set d0 master cni0",
        "ip link set d0 up",
        "ip addr add 10.1.0.1/24 brd + dev cni0",
        "ip addr add 10.1.0.2/24 dev cni0",
        "ip addr add fd00::1/64 dev cni0",
        "ip link set cni0 up",
        "ip route add 0.0.0.0/1 via 10.1.0.9",
        "ip route add default via 10.1.0.9 mtu 1400",
        "ip route add blackhole 10.9.0.0/16 proto 80",
        "ip -6 route add default via fd00::9",
        "ip route add 10.7.0.0/16 table 100 nexthop via 10.1.0.8 weight 2 nexthop via 10.1.0.9 weight 1",
        "ip rule add not from 10.2.0.0/16 fwmark 0x1/0xff lookup 100 pref 50",
        "ip rule add iif gone prohibit pref 60",
        "ip neigh replace 10.1.0.9 lladdr 02:00:00:00:00:09 dev cni0 nud permanent",
        "bridge fdb add 02:00:00:00:00:77 dev d0 master static",
    ] {
        let c = parse(line, &Span::new("rich", 1, 1)).expect(line);
        apply(&c, &mut ns.edit(), Instant::ZERO, &Origin::Kernel).expect(line);
    }
    ns
}

#[test]
fn both_forms_of_one_namespace() {
    let ns = rich();
    let all = RouteTables::All;
    let plain = Ctx::default();
    let detailed = Ctx {
        details: true,
        ..plain
    };
    let six = Ctx {
        family: Family::V6,
        ..plain
    };
    let main = RouteTables::Main;
    for (name, what, cx) in [
        ("addr", ShowWhat::Addr, plain),
        ("link", ShowWhat::Link, detailed),
        ("route", ShowWhat::Route { table: main }, plain),
        ("route6", ShowWhat::Route { table: main }, six),
        ("route-all", ShowWhat::Route { table: all }, plain),
        ("rule", ShowWhat::Rule, plain),
        ("neigh", ShowWhat::Neigh, plain),
        ("fdb", ShowWhat::Fdb, plain),
        ("bridge-link", ShowWhat::BridgeLink, detailed),
    ] {
        let value = json(&ns, what, &cx);
        let rows: Vec<String> = value
            .as_array()
            .into_iter()
            .flatten()
            .map(|v| v.to_string())
            .collect();
        insta::assert_snapshot!(
            format!("show-{name}"),
            format!("{}\n{}", text(&ns, what, &cx), rows.join("\n"))
        );
    }
}
