//! `podpath replay PCAP`: what becomes of every packet of a capture.

use crate::base::{DevId, FrameId, NsId};
use crate::cli::args::{Format, Global, ReplayArgs};
use crate::cli::{Exit, load, out, show};
use crate::cluster::{Cluster, Scenario, disposition_name};
use crate::net::PortAt;
use crate::path::{Direction, Disposition, Event, Observer, Place, Step, TraceBuilder};
use crate::replay::pcap::{self, Capture, Interface, LinkType, PcapngWriter, Record, read_all};
use crate::replay::{Attach, Fate, Replayed, replay as play};
use crate::report::trace::{self, Style};
use crate::sim::Captures;
use crate::wire::{Frame, print as line};
use anyhow::{Context, bail};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

/// Packets up to which every step is kept; longer captures keep frames and ends only.
const TRACED: usize = 500;

/// What is kept of a replay.
pub struct Watch {
    trace: Option<TraceBuilder>,
    frames: Captures,
}

impl Watch {
    /// For a capture of so many packets.
    pub fn new(packets: usize) -> Self {
        Watch {
            trace: (packets <= TRACED).then(TraceBuilder::default),
            frames: Captures::all(),
        }
    }

    fn events(&self) -> &[Event] {
        self.trace.as_ref().map_or(&[], TraceBuilder::events)
    }
}

impl Observer for Watch {
    const TRACING: bool = true;
    fn tap(&mut self, at: Place<'_>, dir: Direction, f: &Frame) {
        self.frames.tap(at, dir, f);
        if let Some(t) = &mut self.trace {
            t.tap(at, dir, f);
        }
    }
    fn step(&mut self, at: Place<'_>, f: &Frame, s: Step) {
        if let Some(t) = &mut self.trace {
            t.step(at, f, s);
        }
    }
    fn end(&mut self, at: Place<'_>, f: &Frame, how: &Disposition) {
        self.frames.end(at, f, how);
        if let Some(t) = &mut self.trace {
            t.end(at, f, how);
        }
    }
}

/// Replays.
pub fn run(g: &Global, a: &ReplayArgs) -> anyhow::Result<Exit> {
    let file = open(&a.capture)?;
    let inputs = load::inputs(g, None)?;
    if let Some(dir) = &a.write {
        folder(dir)?;
    }
    let name = a.capture.display().to_string();
    let (mut capture, findings) = read_all(&name, BufReader::new(file));
    let damaged = out::findings(&findings, g.quiet);
    if capture.records.is_empty() && damaged {
        return Ok(Exit::Failed);
    }
    if let Some(n) = a.count {
        capture.records.truncate(n);
    }
    let Some(mut s) = load::scenario(g, &inputs) else {
        return Ok(Exit::Failed);
    };
    let attach = attach(g, &s, a, &capture)?;
    let mut watch = Watch::new(capture.records.len());
    let all = play(&mut s.cluster.lab.world, &capture, &attach, &mut watch);
    print(&s.cluster, &capture, &all, &watch, a.verbose, a.output)?;
    if let Some(dir) = &a.write {
        let n = write(&s.cluster, &watch, dir)?;
        if a.output == Format::Text {
            writeln!(
                anstream::stdout(),
                "wrote {n} captures to {}",
                dir.display()
            )?;
        }
    }
    let bad = all
        .iter()
        .any(|p| p.fate == Fate::Missing || matches!(&p.end, Some((_, d)) if is_bad(d)));
    // Part of the input could not be read: whatever became of the rest, this is not the whole answer.
    Ok(match (damaged, bad) {
        (true, _) => Exit::Failed,
        (_, true) => Exit::Findings,
        _ => Exit::Clean,
    })
}

fn open(capture: &Path) -> anyhow::Result<File> {
    const EXPECTED: &str = "a capture (pcap or pcapng)";
    if capture.is_dir() {
        return Err(out::stop(
            &capture.display().to_string(),
            format!("this is a folder; expected {EXPECTED}"),
            "a folder of manifests is named with -t",
        ));
    }
    File::open(capture).map_err(|e| load::unreadable(capture, &e, EXPECTED))
}

/// Makes the folder for what is written.
fn folder(dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).map_err(|e| {
        out::stop(
            &dir.display().to_string(),
            format!("the folder cannot be made: {e}"),
            "name one that can be written with -w",
        )
    })
}

fn is_bad(d: &Disposition) -> bool {
    matches!(
        d,
        Disposition::Dropped { .. } | Disposition::Rejected { .. } | Disposition::Loop
    )
}

fn attach(g: &Global, s: &Scenario, a: &ReplayArgs, capture: &Capture) -> anyhow::Result<Attach> {
    if !a.map.is_empty() {
        let mut map = BTreeMap::new();
        for m in &a.map {
            let typed = format!("--map {m}");
            let (name, place) = m
                .split_once('=')
                .ok_or_else(|| out::stop(&typed, "expected NAME=NODE/DEV", ""))?;
            let i = capture
                .interfaces
                .iter()
                .position(|i| i.name.as_deref() == Some(name));
            let i = i.ok_or_else(|| {
                out::stop(
                    &typed,
                    format!("the capture has no interface {name:?}"),
                    interface_names(capture),
                )
            })?;
            map.insert(i as u32, device(g, s, place)?);
        }
        return Ok(Attach::Interfaces(map));
    }
    match &a.at {
        Some(place) => Ok(Attach::At(device(g, s, place)?)),
        None => Ok(Attach::ByAddress),
    }
}

fn interface_names(c: &Capture) -> String {
    let names: Vec<String> = c.interfaces.iter().filter_map(|i| i.name.clone()).collect();
    if names.is_empty() {
        return "its interfaces have no names (pcap keeps none): use --at NODE/DEV".into();
    }
    format!("it has {}", names.join(", "))
}

/// `NODE/DEV`, `NAMESPACE/POD/DEV` or `host/NAME/DEV`.
fn device(g: &Global, s: &Scenario, place: &str) -> anyhow::Result<PortAt> {
    let (who, dev) = place
        .rsplit_once('/')
        .ok_or_else(|| out::stop(place, "expected NODE/DEV or NAMESPACE/POD/DEV", ""))?;
    let ns = show::find(g, s, who)?;
    match ns.dev_by_name(dev) {
        Some(d) => Ok(PortAt {
            ns: ns.id,
            dev: d.id,
        }),
        None => {
            let names: Vec<&str> = ns.devices().map(|d| d.name.as_str()).collect();
            Err(out::stop(
                place,
                format!("{who} has no device {dev:?}"),
                format!("it has {}", names.join(", ")),
            ))
        }
    }
}

/// Prints what became of every packet.
pub fn print(
    c: &Cluster,
    capture: &Capture,
    all: &[Replayed],
    w: &Watch,
    verbose: bool,
    f: Format,
) -> anyhow::Result<()> {
    let mut o = anstream::stdout();
    if f == Format::Json {
        let packets: Vec<Value> = all.iter().map(|p| packet_json(capture, p, w)).collect();
        writeln!(
            o,
            "{}",
            serde_json::to_string_pretty(&json!({ "version": 1, "packets": packets }))?
        )?;
        return Ok(());
    }
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for p in all {
        let text = capture
            .records
            .get(p.number as usize - 1)
            .map(|r| summary(capture, r))
            .unwrap_or_default();
        let (mark, style, verdict, key) = verdict(p);
        *counts.entry(key).or_default() += 1;
        writeln!(
            o,
            "{}{:>3}{} {:>11}  {text}",
            out::BOLD,
            p.number,
            out::RESET,
            crate::report::time(p.at)
        )?;
        let id = match p.fate {
            Fate::Injected(id) => Some(id),
            _ => None,
        };
        if let Some(way) = id.map(|id| way(w, c, id)).filter(|s| !s.is_empty()) {
            writeln!(o, "    {}{way}{}", out::DIM, out::RESET)?;
        }
        if let (true, Some(id)) = (verbose, id) {
            let events: Vec<Event> = w
                .events()
                .iter()
                .filter(|e| e.root == id)
                .cloned()
                .collect();
            for l in trace::text(
                &events,
                Style {
                    width: 110,
                    ..Style::default()
                },
            )
            .lines()
            {
                writeln!(o, "{}", format!("      {l}").trim_end())?;
            }
        }
        let padded = if p.padded {
            " (cut when captured: filled up)"
        } else {
            ""
        };
        writeln!(o, "    {style}{mark} {verdict}{}{padded}", out::RESET)?;
    }
    let parts: Vec<String> = counts.iter().map(|(k, n)| format!("{n} {k}")).collect();
    writeln!(o, "\n{} packets: {}", all.len(), parts.join(", "))?;
    Ok(())
}

fn summary(capture: &Capture, r: &pcap::OwnedRecord) -> String {
    let link = capture
        .interfaces
        .get(r.interface as usize)
        .map_or(LinkType::Ethernet, |i| i.link);
    match pcap::link::to_ethernet(link, &r.data, r.orig_len) {
        Ok(e) => line::ethernet(&e.frame, 0),
        Err(e) => e.to_string(),
    }
}

fn verdict(p: &Replayed) -> (&'static str, anstyle::Style, String, String) {
    let of = |d: &Disposition, ns: &str| match d {
        Disposition::Delivered(_) => (
            "✔",
            out::GREEN,
            format!("delivered in {ns}"),
            "delivered".to_owned(),
        ),
        Disposition::Consumed(what) => (
            "✔",
            out::GREEN,
            format!("{what}, taken by {ns}"),
            "delivered".to_owned(),
        ),
        Disposition::LeftTheCluster => (
            "→",
            out::YELLOW,
            format!("left the cluster by {ns}"),
            "left".to_owned(),
        ),
        Disposition::Dropped {
            reason,
            detail,
            origin,
        } => {
            let more = if detail.is_empty() {
                String::new()
            } else {
                format!(" ({detail})")
            };
            let text = format!(
                "dropped in {ns}: {reason}{more} [{}; {origin}]",
                reason.kernel()
            );
            ("✘", out::RED, text, "dropped".to_owned())
        }
        Disposition::Rejected { reason, icmp, .. } => {
            let name = line::icmp_name(icmp.v6, icmp.typ, icmp.code);
            (
                "✘",
                out::RED,
                format!("rejected by {ns}: {reason}; answered with {name}"),
                "rejected".to_owned(),
            )
        }
        Disposition::Loop => (
            "✘",
            out::RED,
            "went in circles".to_owned(),
            "looped".to_owned(),
        ),
        Disposition::Unknown { origin } => (
            "?",
            out::YELLOW,
            format!("depends on {origin}"),
            "unknown".to_owned(),
        ),
    };
    match (&p.fate, &p.end) {
        (Fate::Skipped(why), _) => ("·", out::DIM, format!("not sent: {why}"), "not sent".into()),
        (Fate::Missing, _) => (
            "≠",
            out::YELLOW,
            "recorded, but no emulated kernel gave this answer".into(),
            "not as recorded".into(),
        ),
        (Fate::Produced(_), Some((ns, _))) => (
            "=",
            out::GREEN,
            format!("as recorded: the emulated kernel had sent it, it reached {ns}"),
            "as recorded".into(),
        ),
        (Fate::Produced(_), None) => (
            "=",
            out::GREEN,
            "as recorded: the emulated kernel had sent it".into(),
            "as recorded".into(),
        ),
        (Fate::Injected(_), Some((ns, d))) => of(d, ns),
        (Fate::Injected(_), None) => (
            "✔",
            out::GREEN,
            "became other frames (fragments, copies or a tunnel's)".into(),
            "delivered".into(),
        ),
    }
}

/// The devices that a packet and what it became passed, in order, by namespace.
fn way(w: &Watch, c: &Cluster, root: FrameId) -> String {
    let mut out = String::new();
    let mut last: Option<(NsId, DevId)> = None;
    let mut here: Option<NsId> = None;
    for f in w
        .frames
        .frames()
        .iter()
        .filter(|f| f.root == root && f.frame == root)
    {
        if last == Some((f.ns, f.dev)) {
            continue;
        }
        last = Some((f.ns, f.dev));
        let Some(ns) = c.lab.world.ns(f.ns) else {
            continue;
        };
        if here != Some(f.ns) {
            out += &format!("{}{}:", if here.is_some() { " ▸ " } else { "" }, ns.name);
            here = Some(f.ns);
        }
        out += &format!(" {}", ns.dev_name(f.dev));
    }
    out
}

fn packet_json(capture: &Capture, p: &Replayed, w: &Watch) -> Value {
    let text = capture
        .records
        .get(p.number as usize - 1)
        .map(|r| summary(capture, r))
        .unwrap_or_default();
    let (fate, id) = match p.fate {
        Fate::Injected(id) => ("injected", Some(id)),
        Fate::Produced(id) => ("produced", Some(id)),
        Fate::Missing => ("missing", None),
        Fate::Skipped(_) => ("skipped", None),
    };
    let mut v = json!({ "number": p.number, "at_us": p.at.as_micros() as u64, "packet": text, "fate": fate });
    if let (Some(o), Some((ns, d))) = (v.as_object_mut(), &p.end) {
        o.insert("namespace".into(), ns.clone().into());
        o.insert("disposition".into(), disposition_name(d).into());
        if let Disposition::Dropped { reason, .. } | Disposition::Rejected { reason, .. } = d {
            o.insert("reason".into(), reason.name().into());
        }
    }
    if let (Some(o), Fate::Skipped(why)) = (v.as_object_mut(), &p.fate) {
        o.insert("why".into(), (*why).into());
    }
    let events: Vec<Event> = w
        .events()
        .iter()
        .filter(|e| Some(e.root) == id)
        .cloned()
        .collect();
    if let (Some(o), false) = (v.as_object_mut(), events.is_empty()) {
        o.insert("trace".into(), trace::json(&events));
    }
    v
}

/// Files waiting for a writer.
const WRITE_QUEUE: usize = 64;
/// Threads that write captures.
const WRITERS: usize = 2;

/// One pcapng per device that saw a frame; each frame's end is its comment. Files are written side by side:
/// what is in each does not depend on which thread took it.
fn write(c: &Cluster, w: &Watch, dir: &Path) -> anyhow::Result<usize> {
    let mut by_dev: BTreeMap<(NsId, DevId), Vec<usize>> = BTreeMap::new();
    for (i, f) in w.frames.frames().iter().enumerate() {
        by_dev.entry((f.ns, f.dev)).or_default().push(i);
    }
    let (jobs, todo) = crossbeam::channel::bounded::<(NsId, DevId, &[usize])>(WRITE_QUEUE);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                let todo = todo.clone();
                scope.spawn(move || {
                    todo.iter()
                        .try_for_each(|(ns, dev, f)| write_one(c, w, dir, (ns, dev), f))
                })
            })
            .collect();
        // A writer that failed stops taking; the receivers' end then refuses what is left.
        drop(todo);
        for ((ns, dev), frames) in &by_dev {
            if jobs.send((*ns, *dev, frames)).is_err() {
                break;
            }
        }
        drop(jobs);
        writers.into_iter().try_for_each(|t| {
            t.join()
                .unwrap_or_else(|_| bail!("a writer thread stopped"))
        })
    })?;
    Ok(by_dev.len())
}

fn write_one(
    c: &Cluster,
    w: &Watch,
    dir: &Path,
    at: (NsId, DevId),
    frames: &[usize],
) -> anyhow::Result<()> {
    let Some((n, d)) = c
        .lab
        .world
        .ns(at.0)
        .and_then(|n| n.dev(at.1).map(|d| (n, d)))
    else {
        return Ok(());
    };
    let name = format!("{}.{}", n.name.replace('/', "_"), d.name);
    let path = dir.join(format!("{name}.pcapng"));
    let file = File::create(&path).with_context(|| format!("{}", path.display()))?;
    let mut out = PcapngWriter::new(BufWriter::new(file), "podpath")?;
    let link = if d.is_layer3() {
        LinkType::Raw
    } else {
        LinkType::Ethernet
    };
    let i = out.add_interface(&Interface::new(name, link))?;
    for f in frames.iter().filter_map(|k| w.frames.frames().get(*k)) {
        let comment = comment(w, f.frame, f.root);
        let mut r = Record::new(i, f.time.as_nanos(), &f.data);
        let inward = f.dir == Direction::In;
        r.direction = Some(if inward {
            pcap::Direction::In
        } else {
            pcap::Direction::Out
        });
        r.comment = Some(comment.into());
        out.write(&r)?;
    }
    out.finish()?.flush()?;
    Ok(())
}

fn comment(w: &Watch, frame: FrameId, root: FrameId) -> String {
    let of = if frame == root {
        format!("frame {frame}")
    } else {
        format!("frame {frame}, because of {root}")
    };
    match w.frames.ends().get(&frame) {
        Some((ns, Disposition::Dropped { reason, detail, .. })) => {
            format!("{of}: dropped in {ns}: {reason} {detail}")
                .trim_end()
                .to_owned()
        }
        Some((ns, Disposition::Rejected { reason, detail, .. })) => {
            format!("{of}: rejected by {ns}: {reason} {detail}")
                .trim_end()
                .to_owned()
        }
        Some((ns, d)) => format!("{of}: {} in {ns}", disposition_name(d)),
        None => of,
    }
}
