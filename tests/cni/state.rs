//! `ip addr`, `ip route`, `bridge -d link` and files after a step, against the namespaces.

use super::names::Names;
use super::replay::Report;
use podpath::kube::cni::host::{Namespaces, NodeNamespaces};
use podpath::net::{Device, NetNs, Route, RouteKind, Scope, table};
use podpath::nf::Family;
use serde_json::Value;
use std::collections::BTreeMap;

/// Compares every recorded namespace.
pub fn compare(at: &str, state: &Value, nss: &NodeNamespaces, names: &mut Names, r: &mut Report) {
    for (name, rec) in state
        .as_object()
        .expect("states")
        .iter()
        .filter(|(n, _)| *n != "ipam_files")
    {
        let id = if name == "node" {
            Some(nss.node())
        } else {
            nss.by_path(&format!("/var/run/netns/{name}"))
        };
        let ns = id
            .and_then(|i| nss.get(i))
            .unwrap_or_else(|| panic!("no namespace {name}"));
        let at = format!("{at} {name}");
        let lines = |k: &str| -> Vec<&str> {
            rec[k]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect()
        };
        links(&at, &lines("ip_addr"), ns, names, r);
        routes(
            &format!("{at} ip route"),
            &lines("ip_route"),
            ns,
            true,
            names,
            &mut r.differences,
        );
        routes(
            &format!("{at} ip -6 route"),
            &lines("ip6_route"),
            ns,
            false,
            names,
            &mut r.differences,
        );
        ports(&at, &lines("bridge_link"), ns, names, &mut r.differences);
        if lines("bridge_vlan").len() > 1 {
            r.differences
                .push(format!("{at}: VLANs are recorded but not compared"));
        }
        for (key, family) in [
            ("iptables_save", Family::V4),
            ("ip6tables_save", Family::V6),
        ] {
            rules(
                &format!("{at} {key}"),
                &lines(key),
                ns,
                family,
                &mut r.differences,
            );
        }
        if name == "node" {
            let ours = if ns.sysctl().all4.forwarding != 0 {
                "1"
            } else {
                "0"
            };
            let rec = rec["sysctl_ip_forward"]
                .as_array()
                .and_then(|a| a.first())
                .unwrap_or(&rec["sysctl_ip_forward"]);
            if rec != ours {
                r.differences
                    .push(format!("{at}: ip_forward recorded {rec}, ours {ours}"));
            }
        }
    }
}

/// What iptables-save printed without its comments, line by line.
fn rules(at: &str, recorded: &[&str], ns: &NetNs, family: Family, out: &mut Vec<String>) {
    let set = ns
        .nf()
        .and_then(|nf| nf.rule_set(family, podpath::nf::Backend::Nft));
    let text = set.map(|s| s.to_save(false)).unwrap_or_default();
    let ours: Vec<&str> = text.lines().collect();
    if ours != recorded {
        let first = recorded.iter().zip(&ours).position(|(r, o)| r != o);
        let i = first.unwrap_or(recorded.len().min(ours.len()));
        out.push(format!(
            "{at} line {}: recorded {:?}, ours {:?}",
            i + 1,
            recorded.get(i),
            ours.get(i)
        ));
    }
}

/// A device as `ip addr` shows it.
#[derive(Default, Debug)]
struct Shown {
    index: String,
    name: String,
    peer: String,
    flags: Vec<String>,
    mtu: String,
    master: String,
    mac: String,
    addrs: Vec<String>,
}

fn parse_links(lines: &[&str]) -> Vec<Shown> {
    let mut out: Vec<Shown> = Vec::new();
    for line in lines {
        let w: Vec<&str> = line.split_whitespace().collect();
        let after = |k: &str| {
            w.iter()
                .position(|x| *x == k)
                .and_then(|i| w.get(i + 1))
                .map_or("", |v| v)
                .to_owned()
        };
        if !line.starts_with(' ') {
            let (name, peer) = w[1]
                .trim_end_matches(':')
                .split_once('@')
                .unwrap_or((w[1].trim_end_matches(':'), ""));
            out.push(Shown {
                index: w[0].trim_end_matches(':').into(),
                name: name.into(),
                peer: peer.trim_start_matches("if").into(),
                flags: w[2]
                    .trim_matches(['<', '>'])
                    .split(',')
                    .map(str::to_owned)
                    .collect(),
                mtu: after("mtu"),
                master: after("master"),
                ..Shown::default()
            });
            continue;
        }
        let Some(d) = out.last_mut() else { continue };
        match w[0] {
            k if k.starts_with("link/") => d.mac = w[1].into(),
            "inet" | "inet6" => {
                let brd = after("brd");
                let brd = if brd.is_empty() {
                    String::new()
                } else {
                    format!(" brd {brd}")
                };
                d.addrs
                    .push(format!("{}{brd} scope {}", w[1], after("scope")));
            }
            _ => {}
        }
    }
    out
}

fn shown(ns: &NetNs, d: &Device) -> Shown {
    let brd =
        |a: &podpath::net::IfAddr| a.broadcast.map(|b| format!(" brd {b}")).unwrap_or_default();
    Shown {
        index: d.id.0.to_string(),
        name: d.name.clone(),
        peer: d.peer.map(|p| p.dev.0.to_string()).unwrap_or_default(),
        flags: if d.up { vec!["UP".into()] } else { Vec::new() },
        mtu: d.mtu.to_string(),
        master: d
            .master
            .as_ref()
            .map(|m| ns.dev_name(m.0).to_owned())
            .unwrap_or_default(),
        mac: d.mac.to_string(),
        addrs: d
            .addrs
            .iter()
            .map(|a| format!("{}{} scope {}", a.net, brd(a), a.scope.name()))
            .collect(),
    }
}

fn links(at: &str, lines: &[&str], ns: &NetNs, names: &mut Names, r: &mut Report) {
    let (rec, ours): (Vec<Shown>, Vec<Shown>) = (
        parse_links(lines),
        ns.devices().map(|d| shown(ns, d)).collect(),
    );
    let list = |v: &[Shown]| {
        v.iter()
            .map(|d| format!("{} {}", d.index, d.name))
            .collect::<Vec<_>>()
            .join(", ")
    };
    if rec.len() != ours.len() {
        return r.differences.push(format!(
            "{at}: links recorded {}, ours {}",
            list(&rec),
            list(&ours)
        ));
    }
    for (a, b) in rec.iter().zip(&ours) {
        let at = format!("{at} {}", a.name);
        for (what, x, y) in [
            ("name", &a.name, &b.name),
            ("index", &a.index, &b.index),
            ("peer", &a.peer, &b.peer),
            ("mtu", &a.mtu, &b.mtu),
            ("master", &a.master, &b.master),
            ("mac", &a.mac, &b.mac),
        ] {
            if !names.same(x, y) {
                r.differences
                    .push(format!("{at}: {what} recorded {x}, ours {y}"));
            }
        }
        let has = |f: &str| a.flags.iter().any(|x| x == f);
        if has("UP") != (b.flags.iter().any(|f| f == "UP")) {
            r.differences.push(format!(
                "{at}: flags recorded {:?}, ours {:?}",
                a.flags, b.flags
            ));
        }
        // The recorder sometimes looked before the kernel's link watch had run: then the flags contradict.
        let (down, lower) = (has("NO-CARRIER"), has("LOWER_UP"));
        let settled = down != lower;
        let running = ns.dev_by_name(&b.name).is_some_and(Device::is_running);
        if has("UP") && settled && running != lower && a.name != "lo" {
            r.differences
                .push(format!("{at}: running recorded {lower}, ours {running}"));
        }
        addresses(&at, a, b, settled, names, r);
    }
}

fn addresses(at: &str, a: &Shown, b: &Shown, settled: bool, names: &mut Names, r: &mut Report) {
    let mut rest: Vec<&String> = b.addrs.iter().collect();
    for rec in &a.addrs {
        let (ip, tail) = rec.split_once(' ').unwrap_or((rec, ""));
        let hit = rest.iter().position(|o| {
            let (oip, otail) = o.split_once(' ').unwrap_or((o, ""));
            tail == otail && names.same(ip, oip)
        });
        match hit {
            Some(i) => drop(rest.remove(i)),
            None => r
                .differences
                .push(format!("{at}: address {rec} missing; ours {:?}", b.addrs)),
        }
    }
    for o in rest {
        if !settled && o.starts_with("fe80:") {
            r.notes.push(format!(
                "{at}: recorded before the kernel had made the link-local address {o}"
            ));
        } else {
            r.differences
                .push(format!("{at}: extra address {o}; recorded {:?}", a.addrs));
        }
    }
}

fn render(ns: &NetNs, route: &Route) -> String {
    let dst = match (route.dst.prefix(), route.dst.is_ipv4()) {
        (0, _) => "default".to_owned(),
        (32, true) | (128, false) => route.dst.ip().to_string(),
        _ => route.dst.to_string(),
    };
    let mut s = if route.kind == RouteKind::Unicast {
        dst
    } else {
        format!("{} {dst}", route.kind.name())
    };
    for n in &route.nexthops {
        s += &n.via.map(|v| format!(" via {v}")).unwrap_or_default();
        s += &n
            .dev
            .map(|d| format!(" dev {}", ns.dev_name(d)))
            .unwrap_or_default();
    }
    if route.protocol == 2 {
        s += " proto kernel";
    }
    if route.dst.is_ipv4() && route.scope != Scope::Universe {
        s += &format!(" scope {}", route.scope.name());
    }
    s += &route
        .prefsrc
        .map(|p| format!(" src {p}"))
        .unwrap_or_default();
    if route.metric != 0 {
        s += &format!(" metric {}", route.metric);
    }
    s
}

fn routes(
    at: &str,
    lines: &[&str],
    ns: &NetNs,
    v4: bool,
    names: &mut Names,
    out: &mut Vec<String>,
) {
    let strip = |l: &&str| {
        let l = l
            .trim()
            .replace(" pref medium", "")
            .replace(" linkdown", "")
            .replace(" onlink", "");
        l.trim().to_owned()
    };
    let mut rec: Vec<String> = lines
        .iter()
        .map(strip)
        .map(|l| names.translate(&l))
        .collect();
    let table = ns
        .fib()
        .table(table::MAIN)
        .map(|t| t.routes(v4))
        .unwrap_or_default();
    let mut ours: Vec<String> = table.iter().map(|r| render(ns, r)).collect();
    rec.sort();
    ours.sort();
    if rec != ours {
        out.push(format!("{at}: recorded {rec:?}, ours {ours:?}"));
    }
}

fn ports(at: &str, lines: &[&str], ns: &NetNs, names: &mut Names, out: &mut Vec<String>) {
    let mut rec: BTreeMap<String, String> = BTreeMap::new();
    for pair in lines.chunks(2) {
        let name = pair[0]
            .split_whitespace()
            .nth(1)
            .unwrap_or("")
            .split('@')
            .next()
            .unwrap_or("");
        rec.insert(
            names.translate(name.trim_end_matches(':')),
            pair.get(1).unwrap_or(&"").trim().to_owned(),
        );
    }
    let mut ours: BTreeMap<String, String> = BTreeMap::new();
    for d in ns.devices() {
        let Some((_, p)) = &d.master else { continue };
        let on = |b: bool| if b { "on" } else { "off" };
        ours.insert(
            d.name.clone(),
            format!(
                "hairpin {} guard off root_block off fastleave off learning {} flood {} mcast_flood {} \
                 bcast_flood {} mcast_router 1 mcast_to_unicast off neigh_suppress off \
                 vlan_tunnel off isolated {} locked off",
                on(p.hairpin),
                on(p.learning),
                on(p.flood),
                on(p.mcast_flood),
                on(p.bcast_flood),
                on(p.isolated)
            ),
        );
    }
    if rec != ours {
        out.push(format!("{at} bridge link: recorded {rec:?}, ours {ours:?}"));
    }
}

/// Lease files. The recorder read them as text, so CR LF became LF.
pub fn files(at: &str, recorded: &Value, ours: &BTreeMap<String, String>, out: &mut Vec<String>) {
    let rec: BTreeMap<&str, &str> = recorded
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| (k.as_str(), v.as_str().unwrap_or("")))
        .collect();
    let kept: BTreeMap<&str, String> = ours
        .iter()
        .filter_map(|(k, v)| Some((k.strip_prefix("/var/lib/cni")?, v.replace("\r\n", "\n"))))
        .collect();
    let kept: BTreeMap<&str, &str> = kept.iter().map(|(k, v)| (*k, v.as_str())).collect();
    if rec != kept {
        out.push(format!("{at} files: recorded {rec:?}, ours {kept:?}"));
    }
}
