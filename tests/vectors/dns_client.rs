//! The client half of DNS: what getaddrinfo(3) asks, and the resolv.conf that a pod gets.

use crate::dns_servers::{Behaviour, Rule, Servers, run};
use podpath::base::Instant;
use podpath::kube::dns::client::resolv_conf::{DnsEvent, Kubelet, PodDns};
use podpath::kube::dns::client::text::type_number;
use podpath::kube::dns::client::{Family, Libc, Lookup};
use podpath::kube::manifest::{Input, parse};
use serde_json::{Value, json};
use std::collections::BTreeSet;

type Judged = Vec<(String, Result<(), String>)>;

fn text<'a>(v: &'a Value, key: &str) -> &'a str {
    v.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn list(v: &Value, key: &str) -> Vec<String> {
    let all = v.get(key).and_then(Value::as_array).into_iter().flatten();
    all.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn cases(file: &Value) -> &[Value] {
    file.get("cases")
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// `stub-resolver`: a part for each libc of each case.
pub fn stub_resolver(file: &Value) -> Judged {
    let mut out = Vec::new();
    for case in cases(file) {
        for expect in case
            .get("expect")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let name = format!("{}/{}", text(case, "id"), text(expect, "libc"));
            out.push((name, one_lookup(case, expect)));
        }
    }
    out
}

fn one_lookup(case: &Value, expect: &Value) -> Result<(), String> {
    let libc: Libc = text(expect, "libc").parse()?;
    let mut servers = servers(case)?;
    let family = match text(case, "family") {
        "A" => Family::V4,
        "AAAA" => Family::V6,
        _ => Family::Any,
    };
    let (conf, name) = (text(case, "resolv_conf"), text(case, "name"));
    let mut lookup = Lookup::start(Instant::ZERO, libc, conf, name, family, 7);
    let (answer, seen) = run(&mut lookup, &mut servers);
    let result = answer.error.map_or("ok", |e| libc.error_text(e));
    same("result", &text(expect, "result"), &result)?;
    let found: BTreeSet<String> = answer.addresses.iter().map(ToString::to_string).collect();
    same(
        "addresses",
        &list(expect, "addresses").into_iter().collect(),
        &found,
    )?;
    let ms = (answer.at.as_secs_f64() * 10.0).round() as u64 * 100;
    same(
        "elapsed",
        &expect["elapsed_ms_about"].as_u64().unwrap_or(u64::MAX),
        &ms,
    )?;
    let (mut wanted, mut lines) = (
        list(expect, "queries"),
        seen.iter().map(|s| s.line()).collect::<Vec<_>>(),
    );
    // The two of a pair may arrive in either order; sockets and times keep everything else in order.
    wanted.sort();
    lines.sort();
    same("queries", &wanted, &lines)
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, wanted: &T, found: &T) -> Result<(), String> {
    match wanted == found {
        true => Ok(()),
        false => Err(format!(
            "{what} differs\nexpected {wanted:#?}\nfound {found:#?}"
        )),
    }
}

fn servers(case: &Value) -> Result<Servers, String> {
    let mut s = Servers {
        truncate: case["udp_truncates"] == json!(true),
        ..Servers::default()
    };
    list(case, "records").iter().for_each(|r| s.record(r));
    let behaviours = case.get("server_behaviour").and_then(Value::as_object);
    for (server, rules) in behaviours.into_iter().flatten() {
        for (which, what) in rules.as_object().into_iter().flatten() {
            let (name, qtype) = which.split_once(' ').unwrap_or((which, ""));
            let what = what.as_str().unwrap_or_default();
            let (verb, times) = what.split_once(':').unwrap_or((what, "1000000"));
            s.rules.push(Rule {
                server: server.parse().ok(),
                name: name.to_owned(),
                qtype: type_number(qtype),
                what: match verb {
                    "drop" => Behaviour::Drop,
                    "servfail" => Behaviour::Rcode(2),
                    "refused" => Behaviour::Rcode(5),
                    other => return Err(format!("unknown behaviour {other}")),
                },
                times: times.parse().map_err(|_| format!("times {times}"))?,
            });
        }
    }
    Ok(s)
}

/// `pod-resolv-conf`.
pub fn pod_resolv_conf(file: &Value) -> Judged {
    let each = |case: &Value| (text(case, "id").to_owned(), one_pod(case));
    cases(file).iter().map(each).collect()
}

fn one_pod(case: &Value) -> Result<(), String> {
    let k = &case["kubelet"];
    let kubelet = Kubelet {
        cluster_dns: list(k, "clusterDNS"),
        cluster_domain: text(k, "clusterDomain").to_owned(),
        resolv_conf: k["resolvConf"].as_str().map(str::to_owned),
        node_ips: list(k, "nodeIPs")
            .iter()
            .filter_map(|ip| ip.parse().ok())
            .collect(),
    };
    let (mut metadata, mut spec) = (json!({}), json!({"containers": []}));
    for (key, value) in case["pod"].as_object().into_iter().flatten() {
        match key.as_str() {
            "namespace" => metadata[key] = value.clone(),
            _ => spec[key] = value.clone(),
        }
    }
    let manifest = json!({"metadata": metadata, "spec": spec}).to_string();
    let (pod, findings) = parse(&Input::new("case", manifest));
    let pod = pod.ok_or(format!("the pod was refused: {findings:?}"))?;
    let dns = PodDns::of(&kubelet, &pod);
    let e = &case["expect"];
    same("nameservers", &list(e, "nameservers"), &dns.nameservers)?;
    same("searches", &list(e, "searches"), &dns.searches)?;
    let set = |all: Vec<String>| all.into_iter().collect::<BTreeSet<_>>();
    same(
        "options",
        &set(list(e, "options")),
        &set(dns.options.clone()),
    )?;
    let event = |e: &DnsEvent| match e {
        DnsEvent::MissingClusterDns => e.reason().to_owned(),
        DnsEvent::NameserversCut => format!("{} (nameservers)", e.reason()),
        DnsEvent::SearchCut => format!("{} (search)", e.reason()),
    };
    same(
        "events",
        &list(e, "events"),
        &dns.events.iter().map(event).collect(),
    )
}
