//! `podpath proxy compare`'s output: a line for each cause with an example, or for every class that differs.

use core::fmt::Write;

use serde_json::{Value, json};

use crate::kube::proxy::compare::{Difference, Report};

/// Endpoints that a line shows of a verdict.
const SHOWN: usize = 3;

/// The text; with `all` every difference, otherwise the first of each cause.
pub fn text(report: &Report, all: bool) -> String {
    let mut out = String::new();
    let causes = report.by_cause();
    let _ = writeln!(
        out,
        "{} classes of packets in iptables, nftables and ipvs mode: {} differ, for {} {}",
        report.classes,
        report.differences.len(),
        causes.len(),
        if causes.len() == 1 { "cause" } else { "causes" },
    );
    for (cause, list) in causes {
        let _ = writeln!(out, "\n{cause}: {} classes", list.len());
        let shown = if all { list.len() } else { 1 };
        for difference in list.into_iter().take(shown) {
            let _ = writeln!(out, "  {}", class(difference));
            for (mode, verdict) in ["iptables", "nftables", "ipvs"]
                .iter()
                .zip(&difference.verdicts)
            {
                let mut parts: Vec<String> =
                    verdict.to_string().split(',').map(str::to_owned).collect();
                let more = parts.len().saturating_sub(SHOWN);
                if more > 0 && !all {
                    parts.truncate(SHOWN);
                    parts.push(format!("and {more} more"));
                }
                let _ = writeln!(out, "    {mode:<8}  {}", parts.join(", "));
            }
        }
    }
    out
}

/// `n1: outside, in the source ranges -> default/web:http load balancer 1.2.3.4:80/tcp`.
fn class(d: &Difference) -> String {
    let c = &d.class;
    let ranges = match c.in_ranges {
        None => "",
        Some(true) => ", in the source ranges",
        Some(false) => ", not in the source ranges",
    };
    let name = c
        .service
        .as_ref()
        .map_or_else(String::new, |s| format!("{s} "));
    let (target, to, protocol) = (c.target, c.to, c.protocol);
    let (node, source) = (&d.node, c.source);
    format!("{node}: {source}{ranges} -> {name}{target} {to}/{protocol}")
}

/// The JSON: version 1, every difference.
pub fn json(report: &Report) -> Value {
    let one = |d: &Difference| {
        let [iptables, nftables, ipvs] = d.verdicts.each_ref().map(|v| {
            let endpoints: Vec<String> = v.endpoints.iter().map(ToString::to_string).collect();
            json!({"endpoints": endpoints, "reject": v.refused, "drop": v.dropped,
                "node": v.host, "routed": v.routed})
        });
        json!({
            "node": d.node,
            "family": d.class.family.name(),
            "source": d.class.source.to_string(),
            "inSourceRanges": d.class.in_ranges,
            "target": d.class.target.to_string(),
            "service": d.class.service.as_ref().map(ToString::to_string),
            "to": d.class.to.to_string(),
            "protocol": d.class.protocol.to_string(),
            "iptables": iptables,
            "nftables": nftables,
            "ipvs": ipvs,
            "cause": d.cause.to_string(),
        })
    };
    json!({
        "version": 1,
        "classes": report.classes,
        "differences": report.differences.iter().map(one).collect::<Vec<_>>(),
    })
}
