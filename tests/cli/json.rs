//! What programs read: version 1, and exactly the keys that docs/json.md names.

use crate::start::{Folder, capture, podpath, root, vxlan};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

type Keys = BTreeSet<String>;

/// What stands between backquotes.
fn quoted(text: &str) -> Keys {
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// The rows of the tables under a heading of docs/json.md: first cell, second cell.
fn rows(heading: &str) -> Vec<(Keys, Keys)> {
    let doc = std::fs::read_to_string(root().join("docs/json.md")).expect("docs/json.md");
    let (_, rest) = doc
        .split_once(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("{heading:?} in docs/json.md"));
    let section = rest.split("\n## ").next().unwrap_or_default();
    let section = section.split("\n### ").next().unwrap_or_default();
    let table = section.lines().filter(|l| l.starts_with("| `"));
    table
        .map(|l| {
            let mut cells = l.split('|').skip(1);
            let mut cell = || quoted(cells.next().unwrap_or_default());
            (cell(), cell())
        })
        .collect()
}

fn documented(heading: &str) -> Keys {
    rows(heading).into_iter().flat_map(|r| r.0).collect()
}

fn keys(v: &Value) -> Keys {
    v.as_object()
        .map(|o| o.keys().cloned().collect())
        .unwrap_or_default()
}

fn keys_of_all<'a>(all: impl IntoIterator<Item = &'a Value>) -> Keys {
    all.into_iter().flat_map(keys).collect()
}

fn array(v: &Value) -> &[Value] {
    v.as_array().map_or(&[], |a| a)
}

/// A run with a met, an unmet, an unasked and an impossible probe.
fn probes() -> Value {
    let folder = Folder::new();
    let manifests =
        std::fs::read_to_string(format!("{}/manifests.yaml", vxlan())).expect("manifests");
    let probe = |name: &str, spec: &str| {
        format!(
            "---\napiVersion: podpath.dev/v1alpha1\nkind: Probe\nmetadata: {{name: {name}}}\nspec:\n  \
             from: default/a1\n  to: default/b1\n  protocol: icmp\n{spec}"
        )
    };
    folder.file("all/manifests.yaml", manifests).file(
        "all/probes.yaml",
        [
            probe("met", "  expect: {outcome: ok}\n"),
            probe("unmet", "  ttl: 1\n  expect: {outcome: ok}\n"),
            probe("unasked", ""),
            probe("impossible", "  family: ipv6\n"),
        ]
        .concat(),
    );
    folder
        .podpath(&["run", "all", "-o", "json"])
        .exits(1)
        .json()
}

#[test]
fn run() {
    let doc = probes();
    assert_eq!(doc["version"], 1);
    assert_eq!(keys(&doc), documented("## `run -o json`, version 1"));
    let all = array(&doc["probes"]);
    let by: BTreeMap<&str, &Value> = all
        .iter()
        .map(|p| (p["name"].as_str().unwrap_or_default(), p))
        .collect();
    assert_eq!(by.len(), 4, "{doc:#}");
    let flags = |n: &str| (by[n]["met"] == true, by[n]["expected"] == true);
    assert_eq!(flags("met"), (true, true));
    assert_eq!(flags("unmet"), (false, true));
    assert_eq!(flags("unasked"), (true, false));
    assert!(
        by["impossible"]["error"].is_string(),
        "{:#}",
        by["impossible"]
    );
    assert_eq!(by["unmet"]["outcome"], "no-route");
    assert_eq!(by["unmet"]["hop"]["reason"], "ttl-expired");
    assert_eq!(by["met"]["hop"]["reason"], Value::Null);
    let result = documented("### A probe's result");
    let absent: Keys = ["fork".to_owned()].into();
    assert_eq!(&keys_of_all(all) | &absent, result);
    let hops = all.iter().map(|p| &p["hop"]);
    assert_eq!(keys_of_all(hops), documented("### A probe's `hop`"));
    let misses = all.iter().flat_map(|p| array(&p["mismatches"]));
    assert_eq!(
        keys_of_all(misses),
        documented("### A probe's `mismatches`")
    );
}

fn of_topology(args: &[&str], name: &str) -> Value {
    let folder = format!("{}/topologies/{name}", env!("CARGO_MANIFEST_DIR"));
    let args: Vec<&str> = args.iter().copied().chain(["-t", &folder]).collect();
    Folder::new().podpath(&args).exits(0).json()
}

#[test]
fn forks() {
    let doc = of_topology(
        &["run", "-o", "json"],
        "services-vxlan-broken-unknown-match",
    );
    let all = array(&doc["probes"]);
    let forks: Vec<&Value> = all.iter().filter_map(|p| p.get("fork")).collect();
    assert_eq!(forks.len(), 1, "{doc:#}");
    assert_eq!(keys(forks[0]), documented("### A probe's `fork`"));
    let branches = array(&forks[0]["branches"]);
    let outcomes: Vec<&Value> = branches.iter().map(|b| &b["outcome"]).collect();
    assert_eq!(outcomes, ["timeout", "ok"]);
    assert_eq!(keys_of_all(branches), documented("### A branch"));
    let assumed = branches.iter().flat_map(|b| array(&b["assumed"]));
    let of_servers: Keys = ["virtual", "server", "of"].map(str::to_owned).into();
    assert_eq!(
        &keys_of_all(assumed) | &of_servers,
        documented("### An assumption")
    );
}

/// A dump does not say which real server is next: the answer rests on one of two.
#[test]
fn undecided() {
    let folder = Folder::new();
    let manifests =
        std::fs::read_to_string(format!("{}/manifests.yaml", vxlan())).expect("manifests");
    let dump = "ipvsadm -R <<EOF\n\
        TCP  10.96.0.77:80 rr\n\
        -> 10.244.2.99:8080 Masq 1 0 0\n\
        -> 10.244.2.10:8080 Masq 1 0 0\nEOF";
    let dump = dump.replacen("EOF\n", "EOF\nProt LocalAddress:Port Scheduler Flags\n", 1);
    let more = format!(
        "---\napiVersion: podpath.dev/v1alpha1\nkind: Fault\nmetadata: {{name: director}}\nspec:\n  node: n1\n  \
         commands:\n  - ip link add vip type dummy\n  - ip addr add 10.96.0.77/32 dev vip\n  - |\n{}\n\
         ---\napiVersion: podpath.dev/v1alpha1\nkind: Probe\nmetadata: {{name: vip}}\nspec:\n  from: default/a1\n  \
         to: 10.96.0.77:80\n  protocol: tcp\n",
        dump.lines()
            .map(|l| format!("    {l}\n"))
            .collect::<String>()
    );
    folder
        .file("all/manifests.yaml", manifests)
        .file("all/more.yaml", more);
    let ran = folder.podpath(&["run", "all", "--probe", "vip", "-o", "json"]);
    let doc = ran.json();
    let branches = array(&doc["probes"][0]["fork"]["branches"]);
    let assumed = branches.iter().flat_map(|b| array(&b["assumed"]));
    let of_servers: Keys = ["namespace", "virtual", "server", "of"]
        .map(str::to_owned)
        .into();
    assert_eq!(keys_of_all(assumed.clone()), of_servers, "{doc:#}");
    let servers: Vec<&Value> = assumed.map(|a| &a["server"]).collect();
    // The second one is not there: what the client sees depends on who is next.
    assert_eq!(servers, ["10.244.2.10:8080", "10.244.2.99:8080"]);
    let outcomes: Vec<&Value> = branches.iter().map(|b| &b["outcome"]).collect();
    assert_eq!(outcomes, ["ok", "no-route"]);
    assert_eq!(doc["probes"][0]["outcome"], "depends");
    let text = folder.podpath(&["run", "all", "--probe", "vip", "-v"]).out;
    assert!(
        text.contains(
            "1. n1: the dump does not say which of 2 real servers of -t 10.96.0.77:80 is next"
        ),
        "{text}"
    );
    assert!(text.contains("if 1. is 10.244.2.10:8080  ok"), "{text}");
    let shown = folder
        .podpath(&["show", "n1", "ipvs", "-f", "all", "--after-probes"])
        .exits(0)
        .out;
    assert!(
        shown.contains(
            "# -t 10.96.0.77:80 -s rr: the dump does not say which of 2 real servers is next"
        ),
        "{shown}"
    );
}

#[test]
fn all_endpoints() {
    let ask = [
        "trace",
        "client",
        "svc/web:http",
        "--all-endpoints",
        "-o",
        "json",
    ];
    let doc = of_topology(&ask, "services-vxlan");
    assert_eq!(
        keys(&doc),
        documented("## `trace --all-endpoints -o json`, version 1")
    );
    let runs = array(&doc["endpoints"]);
    let chances: Vec<&Value> = runs.iter().map(|r| &r["chance"]).collect();
    assert_eq!(chances, [0.5, 0.5]);
    assert_eq!(keys_of_all(runs), documented("### An endpoint's run"));
}

#[test]
fn compare() {
    let ask = ["proxy", "compare", "--classes", "-o", "json"];
    let doc = of_topology(&ask, "services-vxlan");
    assert_eq!(
        keys(&doc),
        documented("## `proxy compare -o json`, version 1")
    );
    assert_eq!(doc["classes"], array(&doc["listed"]).len());
    let all = || {
        array(&doc["listed"])
            .iter()
            .chain(array(&doc["differences"]))
    };
    assert_eq!(keys_of_all(all()), documented("### A class of packets"));
    let modes = ["iptables", "nftables", "ipvs"];
    let verdicts = all().flat_map(|c| modes.map(|mode| &c[mode]));
    assert_eq!(
        keys_of_all(verdicts),
        documented("### What becomes of a class")
    );
    let caused = array(&doc["listed"])
        .iter()
        .filter(|c| c["cause"].is_string());
    assert_eq!(caused.count(), array(&doc["differences"]).len());
}

/// Every event has the common keys, its kind's own, and no others.
fn check_events(events: &[Value], seen: &mut Keys) {
    let common = documented("## Traces, version 1");
    let (steps, ends) = (rows("### Steps"), rows("### Ends"));
    let further = |table: &[(Keys, Keys)], what: &Value, e: &Value| -> Keys {
        let what = what.as_str().unwrap_or_default();
        let row = table.iter().find(|r| r.0.contains(what));
        row.unwrap_or_else(|| panic!("{what:?} is not in docs/json.md: {e}"))
            .1
            .clone()
    };
    for e in events {
        let own: Keys = match e["kind"].as_str() {
            Some("tap") => ["direction".to_owned()].into(),
            Some("step") => further(&steps, &e["step"], e),
            Some("end") => further(&ends, &e["disposition"], e),
            _ => panic!("{e}"),
        };
        let kind = ["step", "disposition"].map(str::to_owned);
        let allowed: Keys = common.iter().chain(&own).chain(&kind).cloned().collect();
        let unknown: Vec<_> = keys(e).difference(&allowed).cloned().collect();
        assert!(unknown.is_empty(), "{unknown:?} are not documented: {e}");
        let needed = common.iter().filter(|k| *k != "summary");
        let missing: Vec<_> = needed.filter(|k| e.get(*k).is_none()).collect();
        assert!(missing.is_empty(), "{missing:?} are missing: {e}");
        seen.extend(
            [&e["step"], &e["disposition"]]
                .into_iter()
                .filter_map(|v| v.as_str())
                .map(str::to_owned),
        );
    }
}

#[test]
fn trace() {
    let mut seen = Keys::new();
    let asked: &[&[&str]] = &[
        &["b1:8080"],
        &["b1:81"],
        &["b1", "--ttl", "2"],
        &["b2:7", "-p", "udp", "--size", "3000"],
        &["10.244.2.77", "--timeout", "4s"],
    ];
    for more in asked {
        let t = vxlan();
        let args = [&["trace", "a1"], *more, &["-t", &t, "-o", "json"]].concat();
        let doc = podpath(&args).json();
        assert_eq!(doc["version"], 1);
        assert_eq!(doc["trace"]["version"], 1);
        assert_eq!(keys(&doc), documented("## `trace -o json`, version 1"));
        let result = documented("### A probe's result");
        assert!(keys(&doc["probe"]).is_subset(&result), "{}", doc["probe"]);
        check_events(array(&doc["trace"]["events"]), &mut seen);
    }
    let ask = ["trace", "client", "svc/far:http", "-o", "json"];
    let service = of_topology(&ask, "services-vxlan");
    check_events(array(&service["trace"]["events"]), &mut seen);
    for step in [
        "rule",
        "policy",
        "conntrack",
        "nat-setup",
        "nat",
        "route",
        "encap",
        "decap",
        "fragment",
        "reassembled",
        "rejected",
        "delivered",
    ] {
        assert!(seen.contains(step), "{step} was not seen: {seen:?}");
    }
}

#[test]
fn replay() {
    let (mut packets, mut seen) = (Keys::new(), Keys::new());
    let (mut fates, known) = (Keys::new(), documented("### A packet's `fate`"));
    for name in [
        "ping-paths.pcap",
        "vxlan-outer.pcapng",
        "vxlan-snaplen-96.pcapng",
    ] {
        let doc = podpath(&["replay", &capture(name), "-t", &vxlan(), "-o", "json"]).json();
        assert_eq!(doc["version"], 1);
        assert_eq!(keys(&doc), documented("## `replay -o json`, version 1"));
        for p in array(&doc["packets"]) {
            packets.extend(keys(p));
            fates.extend(p["fate"].as_str().map(str::to_owned));
            check_events(array(&p["trace"]["events"]), &mut seen);
        }
    }
    assert_eq!(packets, documented("### A packet"));
    assert_eq!(fates, known);
}

#[test]
fn bench() {
    let folder = Folder::new();
    let size = ["--flows", "64", "--repetitions", "1", "--ring", "1"];
    let of = |words: &[&str]| {
        let packets: &[&str] = &["--packets", "512", "-o", "json"];
        let ran = folder.podpath(&[&["bench"], words, &size, packets].concat());
        ran.exits(0).json()
    };
    let doc = of(&[
        "service", "connect", "churn", "replay", "--make", "x.pcap", "--bytes", "200k",
    ]);
    assert_eq!(doc["version"], 1);
    assert_eq!(keys(&doc), documented("## `bench -o json`, version 1"));
    let all = array(&doc["scenarios"]);
    assert_eq!(keys_of_all(all), documented("### A scenario"));
    let headings = [
        "### A row of established flows",
        "### A row of `connect`",
        "### A row of `churn`",
        "### A row of `replay`",
    ];
    assert_eq!(all.len(), headings.len());
    for (scenario, heading) in all.iter().zip(headings) {
        assert_eq!(
            keys_of_all(array(&scenario["rows"])),
            documented(heading),
            "{heading}"
        );
    }
}

#[test]
fn show() {
    for what in ["addr", "link", "route", "rule", "neigh", "fdb", "bridge"] {
        let doc = podpath(&["show", "n1", what, "-j", "-t", &vxlan()])
            .exits(0)
            .json();
        assert!(
            doc.as_array().is_some_and(|a| !a.is_empty()),
            "{what}: {doc}"
        );
    }
}
