//! What the recorder dumped of each node at the end, against podpath's state: rule counters, connections, sets.
//!
//! Rules: every chain's policy and every rule, text and both counters; native rule sets line by line, elements and
//! counters included. Connections: tuples, state, flags, mark and
//! zone exactly; the remaining time may be up to [`SLACK`] seconds less than podpath's, since the nodes were
//! dumped one after the other, some time after the last frame. The outer source port of a VXLAN connection is the
//! kernel's flow hash under a secret: it is left out, the number of such connections is not.

use super::conntrack::Line;
use super::play::Player;
use super::recordings::Recording;
use super::topo::Topo;
use super::{engine, nft, tables};
use podpath::nf::{Backend, Family};
use std::collections::BTreeMap;

/// Seconds.
const SLACK: i64 = 5;

/// What the tools print of one namespace.
#[derive(Debug)]
pub struct State {
    /// `iptables-save -c`, `ip6tables-save -c`; of nf_tables' tools, or of the legacy ones where only they have
    /// rules.
    pub save: [Result<String, String>; 2],
    connections: Result<Vec<String>, String>,
    sets: Result<String, String>,
    /// `nft list ruleset`
    nft: String,
}

/// What was compared and what differs.
#[derive(Debug, Default)]
pub struct Compared {
    /// How many of what.
    pub counts: Vec<(usize, &'static str)>,
    /// In words.
    pub differences: Vec<String>,
}

/// Reads the state of every emulated node.
pub fn read(p: &mut Player<'_, '_>) {
    let nodes: Vec<_> = p.ns.iter().map(|(n, id)| (n.clone(), *id)).collect();
    for (name, ns) in nodes.into_iter().filter(|(n, _)| p.topo.emulated(n)) {
        let legacy = p.topo.scenario.rules.get(&name).into_iter().flatten();
        let legacy = legacy
            .into_iter()
            .any(|r| r.get("legacy") == Some(&true.into()));
        let backend = if legacy {
            Backend::Legacy
        } else {
            Backend::Nft
        };
        let save = [Family::V4, Family::V6].map(|f| engine::save(&p.world, ns, f, backend));
        let mut all = Vec::new();
        let mut failed = None;
        for f in [Family::V4, Family::V6] {
            match engine::connections(&mut p.world, ns, f) {
                Ok(l) => all.extend(l),
                Err(e) => failed = Some(e),
            }
        }
        let state = State {
            save,
            connections: failed.map_or(Ok(all), Err),
            sets: engine::save_sets(&mut p.world, ns),
            nft: engine::list_nft(&p.world, ns),
        };
        p.out.states.insert(name, state);
    }
}

/// Compares the nodes of a recording that has rules.
pub fn compare(r: &Recording<'_>, topo: &Topo<'_>, states: &BTreeMap<String, State>) -> Compared {
    let mut out = Compared::default();
    let (mut rules, mut connections, mut sets) = (0, 0, 0);
    for (ns, ours) in states
        .iter()
        .filter(|(ns, _)| topo.scenario.rules.contains_key(*ns))
    {
        let text = |file: &str| r.text(&format!("dumps/{ns}/{file}"));
        let mut add = |count: &mut usize, c: Result<tables::Compared, String>| match c {
            Ok((n, d)) => {
                *count += n;
                out.differences
                    .extend(d.into_iter().map(|d| format!("{ns}: {d}")));
            }
            Err(e) => out.differences.push(format!("{ns}: {e}")),
        };
        for (i, file) in ["iptables-save.txt", "ip6tables-save.txt"]
            .iter()
            .enumerate()
        {
            let Some(kernel) = text(file) else { continue };
            let all = |_: &str| true;
            let found = ours.save[i]
                .as_ref()
                .map(|s| tables::counters(&kernel, s, &all));
            add(&mut rules, found.map_err(Clone::clone));
        }
        if let Some(kernel) = text("nft-ruleset.txt") {
            add(&mut rules, Ok(nft::compare(&kernel, &ours.nft, SLACK)));
        }
        if let Some(kernel) = text("conntrack.txt") {
            let kernel: Vec<String> = kernel.lines().map(str::to_owned).collect();
            let found = ours.connections.as_ref().map(|c| {
                let (a, b) = (tables::lines(&kernel), tables::lines(c));
                tables::connections(&plain(a), &plain(b), SLACK)
            });
            add(&mut connections, found.map_err(Clone::clone));
        }
        if let Some(kernel) = text("ipset-save.txt") {
            let found = ours.sets.as_ref().map(|s| tables::sets(&kernel, s));
            add(&mut sets, found.map_err(Clone::clone));
        }
    }
    out.counts = vec![
        (rules, "rules"),
        (connections, "connections"),
        (sets, "set lines"),
    ];
    out
}

/// Connections without the outer source port of tunnels.
fn plain(mut lines: Vec<Line>) -> Vec<Line> {
    for l in &mut lines {
        if l.proto != 17 || l.number(0, "dport") != Some(8472) {
            continue;
        }
        if let Some(port) = l.number(0, "sport") {
            let words = l.rest.split(' ').map(|w| match w {
                w if w == format!("sport={port}") || w == format!("dport={port}") => "port=*",
                w => w,
            });
            l.rest = words.collect::<Vec<_>>().join(" ");
        }
    }
    lines
}
