//! Real `dig` against `podpath dns serve`: every query of the DNS vectors, over UDP and over TCP, compared with what
//! CoreDNS answered there.
//!
//! `make dns-dig` runs it. It installs dig (Debian's bind9-dnsutils) where it may; where there is no dig it says
//! that it was skipped and passes. Upstreams of a case are sockets of this test. Left out are the cases whose API
//! server is unreachable or forbids something: `dns serve` has manifests, and no API server that could.

#[path = "common/dns_outside.rs"]
mod dns_outside;
#[path = "common/dns_process.rs"]
#[allow(dead_code, reason = "shared with the other tests of the server")]
mod dns_process;
#[path = "common/dns_upstream.rs"]
mod dns_upstream;
#[path = "conformance/recordings.rs"]
#[allow(dead_code, reason = "only a folder or an archive is needed of it")]
mod recordings;

use dns_outside::Outside;
use dns_process::Server;
use recordings::Source;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

const OURS: &str = r#"{"apiVersion": "v1", "kind": "List", "items": [
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
    {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "cart", "namespace": "shop"},
     "spec": {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00::7"], "ipFamilies": ["IPv4", "IPv6"],
       "ipFamilyPolicy": "RequireDualStack", "ports": [{"name": "http", "port": 80}]}},
    {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "out", "namespace": "shop"},
     "spec": {"type": "ExternalName", "externalName": "www.example.net"}}]}"#;

/// Whether there is a dig; where not, Debian's is installed if that is allowed.
fn dig_is_there() -> bool {
    let there = || Command::new("dig").arg("-v").output().is_ok();
    if !there() {
        let install = ["install", "-y", "--no-install-recommends", "bind9-dnsutils"];
        let _ = Command::new("apt-get").args(install).output();
    }
    if !there() {
        eprintln!(
            "SKIPPED: there is no dig, and `apt-get install bind9-dnsutils` does not work here"
        );
    }
    there()
}

/// What dig printed.
#[derive(Debug, Default)]
struct Dug {
    status: String,
    flags: Vec<String>,
    /// Version, flags and size of OPT.
    edns: Option<(u64, bool, u64)>,
    /// Records of `ANSWER` and so on; those of a transfer, which has no sections, under `""`.
    sections: BTreeMap<String, Vec<String>>,
    text: String,
}

impl Dug {
    fn section(&self, name: &str) -> &[String] {
        self.sections.get(name).map_or(&[], Vec::as_slice)
    }
}

fn dig(at: SocketAddr, words: &[&str]) -> Dug {
    let mut command = Command::new("dig");
    command
        .arg(format!("@{}", at.ip()))
        .arg("-p")
        .arg(at.port().to_string());
    let out = command
        .args(["+time=8", "+tries=2"])
        .args(words)
        .output()
        .expect("dig runs");
    let mut dug = Dug {
        text: String::from_utf8_lossy(&out.stdout).into_owned(),
        ..Dug::default()
    };
    let mut section = String::new();
    for line in dug.text.clone().lines() {
        let after = |mark: &str| line.split_once(mark).map(|(_, rest)| rest);
        if let Some(rest) = after(" status: ") {
            dug.status = rest.split(',').next().unwrap_or("").to_owned();
        } else if let Some(rest) = line.strip_prefix(";; flags: ") {
            let flags = rest.split(';').next().unwrap_or("");
            dug.flags = flags.split(' ').map(str::to_owned).collect();
        } else if let Some(rest) = line.strip_prefix("; EDNS: version: ") {
            let numbers: Vec<u64> = rest
                .split([',', ' '])
                .filter_map(|w| w.parse().ok())
                .collect();
            dug.edns = Some((
                numbers[0],
                rest.contains("flags: do"),
                *numbers.last().expect("a size"),
            ));
        } else if let Some(name) = line.strip_suffix(" SECTION:") {
            section = name.trim_start_matches(";; ").to_owned();
        } else if !line.is_empty() && !line.starts_with(';') {
            dug.sections
                .entry(section.clone())
                .or_default()
                .push(record(line));
        }
    }
    dug
}

/// A record as the vectors write it: one blank between words, serials are 1.
fn record(line: &str) -> String {
    let mut words: Vec<&str> = line.split_whitespace().collect();
    if words.get(3) == Some(&"SOA") && words.len() > 6 {
        words[6] = "1";
    }
    words.join(" ")
}

/// dig's words for a query of the vectors.
fn words(query: &Value, tcp: bool) -> Vec<String> {
    let text = |key: &str, default: &str| query[key].as_str().unwrap_or(default).to_owned();
    let mut out: Vec<String> = [
        "-q".into(),
        text("qname", ""),
        "-t".into(),
        text("qtype", "A").replace("IXFR", "IXFR=1"),
    ]
    .into();
    out.extend([
        "-c".into(),
        text("qclass", "IN"),
        "+noadflag".into(),
        "+nocookie".into(),
        "+ignore".into(),
    ]);
    out.push(if tcp { "+tcp" } else { "+notcp" }.into());
    out.push(
        if query["no_rd"] == true {
            "+norec"
        } else {
            "+rec"
        }
        .into(),
    );
    if let Some(client) = query["client"].as_str() {
        out.extend(["-b".into(), client.to_owned()]);
    }
    match query["edns"].as_object() {
        None => out.push("+noedns".into()),
        Some(edns) => {
            out.push(format!(
                "+edns={}",
                edns.get("version").and_then(Value::as_u64).unwrap_or(0)
            ));
            out.push("+noednsneg".into());
            let size = edns.get("payload").and_then(Value::as_u64).unwrap_or(1232);
            out.push(format!("+bufsize={size}"));
            out.extend((edns.get("do") == Some(&Value::Bool(true))).then(|| "+dnssec".into()));
            for option in edns
                .get("options")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                out.push(format!(
                    "+ednsopt={}:{}",
                    option["code"],
                    option["data"].as_str().unwrap_or("")
                ));
            }
        }
    }
    out
}

fn strings(value: &Value) -> Vec<String> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

fn sorted(lines: &[String]) -> Vec<String> {
    let mut lines = lines.to_vec();
    lines.sort();
    lines
}

/// What differs between a query's expectation and what dig saw.
fn compare(at: SocketAddr, query: &Value, tcp: bool) -> Vec<String> {
    let words = words(query, tcp);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (got, expect) = (dig(at, &words), &query["expect"]);
    let mut wrong = Vec::new();
    // A class that is not the record's is what CoreDNS answers to CH, and dig remarks on it.
    let chaos = query["qclass"] == "CH";
    for bad in [
        ";; Warning",
        "parser",
        "Got bad packet",
        ";; WARNING: Message",
        "mismatch",
    ] {
        if got.text.contains(bad) && !chaos {
            wrong.push(format!("dig says {bad}"));
        }
    }
    if query["qtype"] == "AXFR" || query["qtype"] == "IXFR" {
        let (have, want) = (got.section(""), strings(&expect["answer"]));
        let refused = got.text.contains("; Transfer failed.");
        if refused != (expect["rcode"] != "NOERROR") || sorted(have) != sorted(&want) {
            wrong.push(format!(
                "transfer: {} records, expected {}",
                have.len(),
                want.len()
            ));
        }
        if have.first() != want.first() || have.last() != want.last() {
            wrong.push("a transfer begins and ends with the SOA".into());
        }
    } else {
        wrong.extend(compare_message(at, &words, &got, expect, tcp));
    }
    if !wrong.is_empty() {
        let head: Vec<&str> = got.text.lines().take(30).collect();
        wrong.push(format!("dig {}\n{}", words.join(" "), head.join("\n")));
    }
    wrong
}

fn compare_message(
    at: SocketAddr,
    words: &[&str],
    got: &Dug,
    expect: &Value,
    tcp: bool,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut differ = |what: &str, have: &dyn std::fmt::Debug, want: &dyn std::fmt::Debug| {
        let (have, want) = (format!("{have:?}"), format!("{want:?}"));
        if have != want {
            wrong.push(format!("{what}: {have}, expected {want}"));
        }
    };
    differ(
        "status",
        &got.status,
        &expect["rcode"].as_str().unwrap_or(""),
    );
    // Cut to the client's size over UDP only.
    let cut = expect["counts"].is_object();
    for flag in ["aa", "ra", "tc"] {
        let want = match (flag, cut && tcp) {
            ("tc", true) => Some(false),
            _ => expect[flag].as_bool(),
        };
        if let Some(want) = want {
            differ(flag, &got.flags.iter().any(|f| f == flag), &want);
        }
    }
    let edns = expect["edns"].as_object().map(|e| {
        let number = |key: &str| e[key].as_u64().unwrap_or(0);
        (number("version"), e["do"] == true, number("payload"))
    });
    differ("OPT", &got.edns, &edns);
    for (name, key) in [
        ("ANSWER", "answer"),
        ("AUTHORITY", "authority"),
        ("ADDITIONAL", "additional"),
    ] {
        let have = got.section(name);
        match (cut, tcp) {
            (true, false) => differ(
                name,
                &have.len(),
                &expect["counts"][key].as_u64().unwrap_or(0),
            ),
            (true, true) => differ(
                name,
                &(have.len() as u64 >= expect["counts"][key].as_u64().unwrap_or(0)),
                &true,
            ),
            _ => differ(name, &sorted(have), &sorted(&strings(&expect[key]))),
        }
    }
    if cut && !tcp && expect["tc"] == true {
        // Without +ignore dig comes back over TCP, and the whole is there.
        let again: Vec<&str> = words.iter().copied().filter(|w| *w != "+ignore").collect();
        let whole = dig(at, &again);
        let said = whole.text.contains(";; Truncated, retrying in TCP mode.");
        let more = whole.section("ANSWER").len() > got.section("ANSWER").len();
        differ(
            "falls back to TCP",
            &(said, more, whole.flags.iter().any(|f| f == "tc")),
            &(true, true, false),
        );
    }
    wrong
}

/// A case's clients as loopback addresses, so that dig can be one.
fn on_loopback(case: &Value) -> Value {
    let mut text = case.to_string();
    for query in case["queries"].as_array().into_iter().flatten() {
        if let Some(client) = query["client"].as_str() {
            text = text.replace(client, &client.replacen("10.244", "127.24", 1));
        }
    }
    let mut case: Value = serde_json::from_str(&text).expect("JSON still");
    // The stand-in API server let a Service without ports in, which no API server does and podpath refuses.
    let invalid = |m: &Value| {
        let spec = &m["spec"];
        m["kind"] == "Service"
            && spec["clusterIP"].as_str().is_some_and(|ip| ip != "None")
            && spec["ports"].is_null()
    };
    let manifests = case["manifests"].as_array_mut().expect("manifests");
    let names = manifests
        .iter()
        .filter(|m| invalid(m))
        .map(|m| m["metadata"]["name"].clone());
    let names: Vec<Value> = names.collect();
    manifests.retain(|m| !names.contains(&m["metadata"]["name"]));
    let queries = case["queries"].as_array_mut().expect("queries");
    queries.retain(|q| {
        let asked = q["qname"].as_str().unwrap_or("");
        !names
            .iter()
            .filter_map(Value::as_str)
            .any(|n| asked.contains(&format!("{n}.")))
    });
    // dig advertises no such size: it sends its default instead.
    queries.retain(|q| {
        q["edns"]["payload"]
            .as_u64()
            .is_none_or(|size| size <= 4096)
    });
    case
}

fn cases() -> Vec<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let beside = root.join("../shared/vectors");
    let source = match beside.is_dir() {
        true => Source::folder(&beside),
        false => Source::archive(&root.join("tests/recordings/vectors.tar.gz"), false),
    };
    let source = source.expect("the vectors");
    let names = source
        .list("dns")
        .into_iter()
        .filter(|n| n.ends_with(".json"));
    let read = |name: String| source.read(&format!("dns/{name}")).expect("a file");
    names
        .map(|n| serde_json::from_slice(&read(n)).expect("JSON"))
        .collect()
}

#[test]
#[ignore = "asks with dig, which it may install: make dns-dig"]
fn dig_sees_what_coredns_answered() {
    if !dig_is_there() {
        return;
    }
    let (mut asked, mut left_out, mut wrong) = (0, Vec::new(), Vec::new());
    let all = cases();
    for case in all.iter().filter(|c| c["queries"].is_array()) {
        let name = case["name"].as_str().unwrap_or("");
        if case["api_available"] == false || !strings(&case["forbidden"]).is_empty() {
            left_out.push(name);
            continue;
        }
        let case = on_loopback(case);
        for tcp in [false, true] {
            let outside = Outside::start(&case);
            let mut more: Vec<String> = Vec::new();
            more.extend(
                strings(&case["server_ips"])
                    .into_iter()
                    .flat_map(|ip| ["--address".into(), ip]),
            );
            let version = if name == "k8s-zonal" {
                "1.14.0"
            } else {
                "1.13.2"
            };
            more.extend(["--coredns".into(), version.into()]);
            let more: Vec<&str> = more.iter().map(String::as_str).collect();
            let list =
                serde_json::json!({"apiVersion": "v1", "kind": "List", "items": case["manifests"]});
            let corefile = outside.corefile(case["corefile"].as_str().unwrap_or(""));
            let server = Server::start(&corefile, &list.to_string(), &more);
            for query in case["queries"].as_array().into_iter().flatten() {
                let own = query["transport"] == "tcp"
                    || ["AXFR", "IXFR"].iter().any(|t| query["qtype"] == *t);
                if own && !tcp {
                    continue;
                }
                asked += 1;
                let found = compare(server.at, query, tcp);
                if !found.is_empty() {
                    let over = if tcp { "TCP" } else { "UDP" };
                    wrong.push(format!(
                        "{name} {} over {over}: {}",
                        query["id"],
                        found.join("\n  ")
                    ));
                }
            }
        }
    }
    println!(
        "{asked} questions asked with dig, left out: {}",
        left_out.join(", ")
    );
    assert!(asked > 700, "{asked} questions");
    assert!(
        wrong.is_empty(),
        "{} of {asked}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// dig as people call it: with a cookie and AD, without a word about EDNS; each kind of record.
#[test]
#[ignore = "asks with dig, which it may install: make dns-dig"]
fn dig_without_options_understands_every_kind_of_record() {
    if !dig_is_there() {
        return;
    }
    let corefile = "cluster.local in-addr.arpa ip6.arpa {\n errors\n kubernetes cluster.local in-addr.arpa ip6.arpa {\n\
        pods insecure\n ttl 30\n }\n cache 30\n loadbalance\n transfer cluster.local {\n  to *\n }\n}\n";
    let server = Server::start(corefile, OURS, &["--address", "10.244.0.2"]);
    for (words, status, expected) in [
        (
            "cart.shop.svc.cluster.local A",
            "NOERROR",
            "cart.shop.svc.cluster.local. 30 IN A 10.96.0.7",
        ),
        (
            "cart.shop.svc.cluster.local AAAA",
            "NOERROR",
            "cart.shop.svc.cluster.local. 30 IN AAAA fd00::7",
        ),
        (
            "_http._tcp.cart.shop.svc.cluster.local SRV",
            "NOERROR",
            "0 50 80 cart.shop.svc.cluster.local.",
        ),
        (
            "-x 10.96.0.7",
            "NOERROR",
            "7.0.96.10.in-addr.arpa. 30 IN PTR cart.shop.svc.cluster.local.",
        ),
        (
            "-x fd00::7",
            "NOERROR",
            "IN PTR cart.shop.svc.cluster.local.",
        ),
        (
            "out.shop.svc.cluster.local CNAME",
            "NOERROR",
            "out.shop.svc.cluster.local. 30 IN CNAME www.example.net.",
        ),
        (
            "dns-version.cluster.local TXT",
            "NOERROR",
            "dns-version.cluster.local. 30 IN TXT \"1.1.0\"",
        ),
        (
            "cluster.local SOA",
            "NOERROR",
            "IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 30",
        ),
        (
            "cluster.local NS",
            "NOERROR",
            "cluster.local. 30 IN NS ns.dns.cluster.local.",
        ),
        (
            "10-1-2-3.shop.pod.cluster.local A",
            "NOERROR",
            "10-1-2-3.shop.pod.cluster.local. 30 IN A 10.1.2.3",
        ),
        (
            "cluster.local AXFR",
            "",
            "cart.shop.svc.cluster.local. 5 IN AAAA fd00::7",
        ),
        (
            "cart.shop.svc.cluster.local MX",
            "NOERROR",
            "hostmaster.cluster.local. 1 7200 1800 86400 30",
        ),
        (
            "nope.shop.svc.cluster.local A",
            "NXDOMAIN",
            "hostmaster.cluster.local. 1 7200 1800 86400 30",
        ),
        ("www.example.net A", "REFUSED", ""),
    ] {
        for transport in ["+notcp", "+tcp"] {
            // Twice: from the cache, or from kept octets, it is the same.
            for _ in 0..2 {
                let all: Vec<&str> = [transport].into_iter().chain(words.split(' ')).collect();
                let got = dig(server.at, &all);
                let transfer = words.ends_with("AXFR") && transport == "+notcp";
                let lines = got.sections.values().flatten();
                let found = expected.is_empty() || lines.into_iter().any(|l| l.ends_with(expected));
                assert!(
                    transfer || got.status == status && found,
                    "{words} {transport}: {}",
                    got.text
                );
                assert!(
                    !got.text.contains(";; Warning") && !got.text.contains("parser"),
                    "{}",
                    got.text
                );
            }
        }
    }
}
