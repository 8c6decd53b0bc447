//! Which file is judged by what, and how many cases there are in those that nothing judges yet.

use crate::recordings::Source;
use crate::{Part, dns, dns_client, kube_proxy, network_policy, policy, proxy_modes};
use serde_json::Value;

/// Judges one file's cases; names are without the suite.
type Judge = fn(&Value) -> Vec<(String, Result<(), String>)>;

/// The suites that are judged.
const JUDGES: &[(&str, Judge)] = &[
    ("kube-proxy/names", kube_proxy::names),
    ("kube-proxy/topology", kube_proxy::topology),
    ("kube-proxy/iptables", kube_proxy::iptables),
    ("kube-proxy/iptables-incremental", kube_proxy::incremental),
    ("kube-proxy/conntrack", kube_proxy::conntrack),
    ("kube-proxy/kernel-dumps", kube_proxy::kernel_dumps),
    ("kube-proxy/nftables", proxy_modes::nftables),
    ("kube-proxy/ipvs", proxy_modes::ipvs),
    ("dns/stub-resolver", dns_client::stub_resolver),
    ("dns/pod-resolv-conf", dns_client::pod_resolv_conf),
];

/// Areas where a file is a case, which is judged in parts.
const FILE_JUDGES: &[(&str, Judge)] = &[("networkpolicy", policy::case), ("dns", dns::case)];

/// Every suite by name with its parts: those that are judged first, as in the table. Parts that are not
/// `wanted`, and suites of areas that are not, may be left out.
pub fn all(
    source: &Source,
    wanted: &dyn Fn(&str) -> bool,
    area_wanted: &dyn Fn(&str) -> bool,
) -> Result<Vec<(String, Vec<Part>)>, String> {
    let mut out = Vec::new();
    for (suite, judge) in JUDGES.iter().filter(|(suite, _)| area_wanted(suite)) {
        let value = read(source, &format!("{suite}.json"))?;
        let parts = judge(&value).into_iter().map(|(name, outcome)| Part {
            name: format!("{suite}/{name}"),
            outcome,
        });
        out.push(((*suite).to_owned(), parts.collect()));
    }
    for (area, judge) in FILE_JUDGES {
        let mut parts = Vec::new();
        for file in source.list(area) {
            let Some(stem) = file.strip_suffix(".json") else {
                continue;
            };
            let value = read(source, &format!("{area}/{file}"))?;
            let named = judge(&value).into_iter().map(|(name, outcome)| Part {
                name: format!("{area}/{stem}/{name}"),
                outcome,
            });
            parts.extend(named);
            if *area == "networkpolicy" {
                parts.extend(network_policy::parts(
                    &format!("{area}/{stem}"),
                    &value,
                    wanted,
                ));
            }
        }
        out.push(((*area).to_owned(), parts));
    }
    let judged = |area: &String| FILE_JUDGES.iter().any(|(name, _)| name == area);
    for area in source.list("").into_iter().filter(|area| !judged(area)) {
        let mut waiting: Vec<(String, Vec<Part>)> = Vec::new();
        for file in source.list(&area) {
            let Some(stem) = file.strip_suffix(".json") else {
                continue;
            };
            let full = format!("{area}/{stem}");
            if JUDGES.iter().any(|(suite, _)| *suite == full) {
                continue;
            }
            let part = |name: String| Part {
                name,
                outcome: Err("needs a judge".to_owned()),
            };
            let ids = ids(&read(source, &format!("{full}.json"))?);
            if ids.is_empty() {
                // A file that is a case: they are one suite together.
                match waiting.iter_mut().find(|(suite, _)| *suite == area) {
                    Some((_, parts)) => parts.push(part(full)),
                    None => waiting.push((area.clone(), vec![part(full)])),
                }
            } else {
                let parts = ids.iter().map(|id| part(format!("{full}/{id}")));
                waiting.push((full.clone(), parts.collect()));
            }
        }
        out.extend(waiting);
    }
    Ok(out)
}

/// A file's JSON.
fn read(source: &Source, name: &str) -> Result<Value, String> {
    let at = format!("{}: {name}", source.label);
    let bytes = source.read(name).ok_or(format!("{at}: no such file"))?;
    serde_json::from_slice(&bytes).map_err(|e| format!("{at}: {e}"))
}

/// The ids of a file's `cases`, or their numbers.
fn ids(value: &Value) -> Vec<String> {
    let cases = value.get("cases").and_then(Value::as_array);
    let name = |(i, case): (usize, &Value)| {
        let id = case.get("id").and_then(Value::as_str);
        id.map_or_else(|| i.to_string(), str::to_owned)
    };
    cases.into_iter().flatten().enumerate().map(name).collect()
}
