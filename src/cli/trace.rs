//! `podpath trace FROM TO`: one exchange, step by step, there and back.

use crate::cli::args::{CtMode, Format, Global, Protocol, TraceArgs};
use crate::cli::{Exit, load, out, run, show};
use crate::cluster::{Scenario, service_protocol};
use crate::endpoint::Outcome;
use crate::kube::podpath_v1alpha1::{Family, Peer, ProbeProtocol, ProbeSpec, Target};
use crate::report::fork;
use crate::report::trace::{self, Style};
use crate::wire::print as line;
use serde_json::json;
use std::io::Write;
use std::net::SocketAddr;

/// Traces.
pub fn run(g: &Global, a: &TraceArgs) -> anyhow::Result<Exit> {
    let mut spec = spec(g, a)?;
    let inputs = load::inputs(g, None)?;
    let Some(mut s) = load::scenario(g, &inputs) else {
        return Ok(Exit::Failed);
    };
    for t in [&spec.from, &spec.to] {
        // Anybody may be asked for by address; who has none is told by the packet's way.
        let anybody = matches!(t.peer, Peer::Ip(_) | Peer::Service { .. } | Peer::Name(_));
        if !(anybody && std::ptr::eq(t, &spec.to)) && s.namespace(t).is_err() {
            return Err(show::nobody(&s, &t.peer.to_string()));
        }
    }
    if let (None, Some(p)) = (a.protocol, service_protocol(&s.cluster, &spec.to)) {
        spec.protocol = p;
    }
    if a.all_endpoints {
        let help = "`podpath dns NAME --from POD --trace` shows where that is decided";
        spec = s
            .with_address(&spec)
            .map_err(|e| out::stop(&a.to, e, help))?;
        return every_endpoint(&s, &spec, a);
    }
    let c = match a.ct {
        CtMode::New => s.run_probe("trace", &spec),
        CtMode::Established => s.run_established(&spec),
    };
    let r = match &c.result {
        Ok(r) => r,
        Err(e) => {
            let help = if a.ipv4 || a.ipv6 {
                "leave out -4 and -6"
            } else {
                ""
            };
            return Err(out::stop("", e, help));
        }
    };
    let mut o = anstream::stdout();
    match a.output {
        Format::Json => {
            let doc = json!({ "version": 1, "probe": run::probe_json(&c), "trace": trace::json(&c.events) });
            writeln!(o, "{}", serde_json::to_string_pretty(&doc)?)?;
        }
        Format::Text => {
            writeln!(o, "{}{}{}", out::BOLD, c.question, out::RESET)?;
            writeln!(o)?;
            write!(
                o,
                "{}",
                trace::text(
                    &c.events,
                    Style {
                        verbose: a.verbose,
                        ..Style::default()
                    }
                )
            )?;
            writeln!(o)?;
            if let Some(f) = &c.fork {
                writeln!(o, "{}", fork::text(f))?;
            }
            let style = if r.outcome == Outcome::Ok {
                out::GREEN
            } else {
                out::RED
            };
            let icmp = r.icmp.map(|i| {
                format!(
                    ", told by {} with {}",
                    i.from,
                    line::icmp_name(i.from.is_ipv6(), i.typ, i.code)
                )
            });
            let icmp = icmp.unwrap_or_default();
            writeln!(
                o,
                "{style}{}{} after {}{icmp}",
                r.outcome,
                out::RESET,
                crate::report::time(r.delay)
            )?;
        }
    }
    Ok(if r.outcome == Outcome::Ok {
        Exit::Clean
    } else {
        Exit::Findings
    })
}

/// Every endpoint that could be chosen: a table, or with `--verbose` each way in full.
fn every_endpoint(s: &Scenario, spec: &ProbeSpec, a: &TraceArgs) -> anyhow::Result<Exit> {
    let runs = s.every_endpoint(spec);
    if runs.is_empty() {
        let help = "trace it without --all-endpoints to see its way";
        return Err(out::stop(
            &a.to,
            "no rule chooses among endpoints on the way there",
            help,
        ));
    }
    let mut o = anstream::stdout();
    let good = runs.iter().all(|r| r.result.outcome == Outcome::Ok);
    if a.output == Format::Json {
        let each = runs.iter().map(|r| {
            json!({
                "endpoint": SocketAddr::from(r.endpoint).to_string(),
                "chance": r.chance,
                "outcome": r.result.outcome.to_string(),
                "delay_us": r.result.delay.as_micros() as u64,
                "trace": trace::json(&r.events),
            })
        });
        let doc = json!({ "version": 1, "endpoints": each.collect::<Vec<_>>() });
        writeln!(o, "{}", serde_json::to_string_pretty(&doc)?)?;
    } else {
        writeln!(
            o,
            "{:<24} {:>7}  {:<15} DELAY",
            "ENDPOINT", "CHANCE", "OUTCOME"
        )?;
        for r in &runs {
            let (to, chance) = (SocketAddr::from(r.endpoint).to_string(), r.chance * 100.0);
            let style = if r.result.outcome == Outcome::Ok {
                out::GREEN
            } else {
                out::RED
            };
            let outcome = format!("{style}{:<15}{}", r.result.outcome.to_string(), out::RESET);
            writeln!(
                o,
                "{to:<24} {chance:>6.1}%  {outcome} {}",
                crate::report::time(r.result.delay)
            )?;
            if a.verbose {
                writeln!(o, "\n{}", trace::text(&r.events, Style::default()))?;
            }
        }
    }
    Ok(if good { Exit::Clean } else { Exit::Findings })
}

/// A target as typed; a pod without a namespace is in `-n`'s.
pub fn target(g: &Global, text: &str) -> anyhow::Result<Target> {
    if let Some(name) = text.strip_prefix("svc/").filter(|n| !n.contains('/')) {
        return target(g, &format!("svc/{}/{name}", g.namespace()));
    }
    let bare = !text.contains('/')
        && !text.contains('.')
        && text.parse::<std::net::IpAddr>().is_err()
        && text.parse::<std::net::SocketAddr>().is_err();
    let full = if bare {
        format!("{}/{text}", g.namespace())
    } else {
        text.to_owned()
    };
    let port = text.rsplit_once(':').map(|(_, p)| p);
    let digits = port.is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    full.parse().map_err(|_: String| match port {
        Some(p) if digits && p.parse::<u16>().is_err() => {
            out::stop(text, format!("expected a port up to 65535, found {p}"), "")
        }
        _ => out::stop(
            text,
            "expected NAMESPACE/POD, node/NAME, host/NAME, svc/NAMESPACE/NAME or an address, \
             with or without :PORT",
            "",
        ),
    })
}

fn spec(g: &Global, a: &TraceArgs) -> anyhow::Result<ProbeSpec> {
    let (from, to) = (target(g, &a.from)?, target(g, &a.to)?);
    let protocol = match a.protocol {
        Some(Protocol::Icmp) => ProbeProtocol::Icmp,
        Some(Protocol::Udp) => ProbeProtocol::Udp,
        Some(Protocol::Tcp) => ProbeProtocol::Tcp,
        None if to.port.is_some() || matches!(to.peer, Peer::Service { .. }) => ProbeProtocol::Tcp,
        None => ProbeProtocol::Icmp,
    };
    let named = matches!(&to.peer, Peer::Service { port: Some(_), .. });
    if protocol == ProbeProtocol::Icmp && (to.port.is_some() || named) {
        return Err(out::stop(
            &a.to,
            "ICMP has no ports",
            "leave out the port, or -p icmp",
        ));
    }
    let family = match (a.ipv4, a.ipv6) {
        (true, _) => Some(Family::Ipv4),
        (_, true) => Some(Family::Ipv6),
        _ => None,
    };
    let (size, df, ttl, count, timeout) = (a.size, a.df, a.ttl, a.count, a.timeout);
    Ok(ProbeSpec {
        from,
        to,
        protocol,
        port: None,
        source_port: None,
        size,
        df,
        ttl,
        family,
        count,
        timeout,
        libc: None,
        at: None,
        expect: None,
    })
}
