//! `podpath run`: every probe of a cluster, as a table.

use crate::cli::args::{Format, Global, RunArgs};
use crate::cli::{Exit, load, out};
use crate::cluster::{Checked, Scenario, disposition_name};
use crate::path::Disposition;
use crate::report::fork;
use crate::report::trace::{self, Style};
use serde_json::{Value, json};
use std::io::Write;

/// Runs the probes.
pub fn run(g: &Global, a: &RunArgs) -> anyhow::Result<Exit> {
    let inputs = load::inputs(g, a.topology.as_deref())?;
    let Some(mut s) = load::scenario(g, &inputs) else {
        return Ok(Exit::Failed);
    };
    if let Some(text) = &a.probe {
        select(&mut s, text)?;
    }
    let total = s.cluster.store.probes.len() as u64;
    let bar = if super::interactive() && total > 3 {
        indicatif::ProgressBar::new(total).with_message("probes")
    } else {
        indicatif::ProgressBar::hidden()
    };
    let (all, findings) = s.run_probes(&mut |_| bar.inc(1));
    bar.finish_and_clear();
    if out::findings(&findings, g.quiet) {
        return Ok(Exit::Failed);
    }
    match a.output {
        Format::Json => {
            let doc =
                json!({ "version": 1, "probes": all.iter().map(probe_json).collect::<Vec<_>>() });
            writeln!(
                anstream::stdout(),
                "{}",
                serde_json::to_string_pretty(&doc)?
            )?;
        }
        Format::Text => text(&s, &all, a.verbose)?,
    }
    let bad = all
        .iter()
        .any(|c| !c.mismatches.is_empty() || (c.result.is_err() && !c.expected));
    Ok(if bad { Exit::Findings } else { Exit::Clean })
}

/// Keeps the probes whose name contains `text`; none is a mistake, or a typing error would pass for success.
fn select(s: &mut Scenario, text: &str) -> anyhow::Result<()> {
    let probes = &mut s.cluster.store.probes;
    let mut names: Vec<String> = probes.keys().map(|n| n.name.clone()).collect();
    probes.retain(|n, _| n.name.contains(text));
    if !probes.is_empty() {
        return Ok(());
    }
    let more = if names.len() > NAMES { ", ..." } else { "" };
    names.truncate(NAMES);
    let help = match &names[..] {
        [] => "there are no probes here".to_owned(),
        names => format!("there are {}{more}", names.join(", ")),
    };
    Err(out::stop(
        &format!("--probe {text}"),
        "no probe's name contains this",
        help,
    ))
}

/// Names listed in a help line.
const NAMES: usize = 12;

fn text(s: &Scenario, all: &[Checked], verbose: bool) -> anyhow::Result<()> {
    let mut o = anstream::stdout();
    let c = &s.cluster;
    writeln!(
        o,
        "{}{}{}: {} nodes, {} pods, {} external hosts",
        out::BOLD,
        c.cni,
        out::RESET,
        c.nodes.len(),
        c.pods.len(),
        c.hosts.len()
    )?;
    if all.is_empty() {
        writeln!(o, "no probes; try: podpath trace FROM TO")?;
        return Ok(());
    }
    writeln!(o)?;
    let width = |f: &dyn Fn(&Checked) -> usize| all.iter().map(f).max().unwrap_or(0);
    let (wn, wq) = (
        width(&|c| c.name.chars().count()),
        width(&|c| c.question.chars().count()),
    );
    for c in all {
        let (mark, style) = match (&c.mismatches[..], c.expected) {
            ([], true) => ("✔", out::GREEN),
            ([], false) => ("·", out::DIM),
            _ => ("✘", out::RED),
        };
        writeln!(
            o,
            "{style}{mark}{} {:wn$}  {:wq$}  {}",
            out::RESET,
            c.name,
            c.question,
            answer(c)
        )?;
        for m in &c.mismatches {
            writeln!(
                o,
                "    {}{}: expected {}, found {}{}",
                out::RED,
                m.what,
                m.expected,
                m.found,
                out::RESET
            )?;
        }
        for line in c
            .fork
            .as_ref()
            .map(fork::text)
            .iter()
            .flat_map(|t| t.lines())
        {
            writeln!(o, "    {line}")?;
        }
        if verbose || !c.mismatches.is_empty() {
            for line in trace::text(&c.events, Style::default()).lines() {
                writeln!(o, "    {line}")?;
            }
        }
    }
    let (good, held) = (
        all.iter()
            .filter(|c| c.expected && c.mismatches.is_empty())
            .count(),
        all.iter().filter(|c| c.expected).count(),
    );
    writeln!(o)?;
    let style = if good == held { out::GREEN } else { out::RED };
    writeln!(o, "{style}{good} of {held} expectations met{}", out::RESET)?;
    Ok(())
}

/// Outcome, delay and where it was decided.
fn answer(c: &Checked) -> String {
    let r = match &c.result {
        Ok(r) => r,
        Err(e) => return format!("{}{e}{}", out::RED, out::RESET),
    };
    let style = if r.outcome == crate::endpoint::Outcome::Ok {
        out::GREEN
    } else {
        out::YELLOW
    };
    let mut s = format!(
        "{style}{:<15}{} {:>9}",
        r.outcome.to_string(),
        out::RESET,
        crate::report::time(r.delay)
    );
    if let Some(h) = &r.hop {
        let at = if h.device.is_empty() {
            h.ns_name.clone()
        } else {
            format!("{} {}", h.ns_name, h.device)
        };
        match &h.how {
            Disposition::Dropped { reason, detail, .. }
            | Disposition::Rejected { reason, detail, .. } => {
                s += &format!("  {at}: {reason}");
                if !detail.is_empty() {
                    s += &format!(" {}({detail}){}", out::DIM, out::RESET);
                }
            }
            how => {
                s += &format!(
                    "  {}{} at {at}{}",
                    out::DIM,
                    disposition_name(how),
                    out::RESET
                )
            }
        }
    }
    s
}

/// A probe's result for programs; documented in docs/json.md.
pub fn probe_json(c: &Checked) -> Value {
    let mut v = json!({ "name": c.name, "question": c.question, "met": c.mismatches.is_empty(), "expected": c.expected });
    let Some(o) = v.as_object_mut() else { return v };
    match &c.result {
        Err(e) => {
            o.insert("error".into(), e.clone().into());
        }
        Ok(r) => {
            o.insert("outcome".into(), r.outcome.to_string().into());
            o.insert("delay_us".into(), (r.delay.as_micros() as u64).into());
            o.insert("bytes".into(), r.bytes.into());
            if let Some(f) = &c.fork {
                o.insert("fork".into(), fork::json(f));
            }
            if let Some(h) = &r.hop {
                let reason = match &h.how {
                    Disposition::Dropped { reason, .. } | Disposition::Rejected { reason, .. } => {
                        Some(reason.name())
                    }
                    _ => None,
                };
                let hop = json!({ "namespace": h.ns_name, "device": h.device, "disposition": disposition_name(&h.how), "reason": reason });
                o.insert("hop".into(), hop);
            }
        }
    }
    let miss: Vec<Value> = c
        .mismatches
        .iter()
        .map(|m| json!({ "what": m.what, "expected": m.expected, "found": m.found }))
        .collect();
    o.insert("mismatches".into(), miss.into());
    v
}
