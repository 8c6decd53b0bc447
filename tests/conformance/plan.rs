//! What has to be played and compared: inputs, expected frames, timed changes, and what podpath lacks.
//!
//! Times are nanoseconds from the first captured frame. Does not play; knows the wiring and the recording.
//! Nothing that cannot be played is left out silently: it becomes a lack or a note.

use serde_json::Value;
use std::collections::BTreeMap;

use super::ping::{self, Ping};
use super::scenario::{Dir, Exec, Recorded, Step, Trace};
use super::topo::{Port, Topo};
use podpath::base::Span;
use podpath::import::ipcmd::{Command, parse, parse_batch, split_script, sysctl_name};

/// Podpath may be this much later than the kernel with the last frame.
const SLACK_NS: u64 = 2_000_000;

/// A frame that an endpoint sent.
pub struct Input {
    /// When.
    pub t_ns: u64,
    /// The endpoint's interface.
    pub port: Port,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// A change of configuration.
#[derive(Debug)]
pub struct Change {
    /// When; `None` before the capture.
    pub t_ns: Option<u64>,
    /// In which namespace.
    pub ns: String,
    /// What.
    pub command: Command,
}

/// A packet that a process on an emulated node sends.
pub struct Send {
    /// When.
    pub t_ns: u64,
    /// In which namespace.
    pub ns: String,
    /// What.
    pub ping: Ping,
}

/// A whole recording, ready to be played.
#[derive(Default)]
pub struct Plan {
    /// Frames to put in, by time.
    pub inputs: Vec<Input>,
    /// Frames that have to come out, in the trace's order.
    pub expected: Vec<Recorded>,
    /// Changes, by time.
    pub changes: Vec<Change>,
    /// Packets of the nodes' own processes.
    pub sends: Vec<Send>,
    /// What podpath does not have.
    pub lacks: Vec<String>,
    /// Remarks.
    pub notes: Vec<String>,
    /// The recording's end: what podpath does later was not recorded.
    pub end: u64,
    /// A process on an emulated node talks HTTP and so may name its ephemeral port in a body.
    pub node_http: bool,
}

/// Makes the plan. `rules` finds the text of a rule set.
pub fn make(
    topo: &Topo<'_>,
    trace: &Trace,
    frames: &[Recorded],
    rules: &dyn Fn(&Value) -> Option<String>,
) -> Plan {
    let mut plan = Plan::default();
    split_frames(topo, frames, &mut plan);
    rule_sets(topo, rules, &mut plan);
    let s = topo.scenario;
    for step in &s.setup {
        changes(topo, step, None, true, frames, &mut plan);
    }
    let times = super::when::step_times(topo.scenario, trace, frames);
    let settle = s
        .rest
        .get("settle_ms")
        .and_then(Value::as_u64)
        .unwrap_or(300)
        * 1_000_000;
    let timed = s
        .steps
        .iter()
        .zip(&times)
        .filter(|(x, _)| x.at_ms.is_some())
        .filter_map(|(_, t)| *t)
        .max();
    plan.end = frames
        .iter()
        .map(|f| f.t_ns)
        .chain(timed.map(|t| t + settle))
        .max()
        .unwrap_or(0)
        + SLACK_NS;
    for (step, t) in s.steps.iter().zip(times) {
        changes(topo, step, t, false, frames, &mut plan);
    }
    plan.changes.sort_by_key(|c| c.t_ns);
    for k in s
        .netns
        .iter()
        .flat_map(|(n, x)| x.rest.keys().map(move |k| format!("netns.{n}.{k}")))
    {
        plan.notes
            .push(format!("scenario.json: {k} is not understood"));
    }
    plan
}

/// Endpoints' "out" frames are inputs; theirs "in" from an emulated peer and everything at emulated ones is
/// expected.
fn split_frames(topo: &Topo<'_>, frames: &[Recorded], plan: &mut Plan) {
    for f in frames {
        let Some((ns, dev)) = f.interface.split_once('.') else {
            continue;
        };
        let port = (ns.to_owned(), dev.to_owned());
        let peer = topo.peers.get(&port);
        let joined = peer.is_some_and(|p| topo.emulated(&p.0));
        if topo.emulated(ns) {
            plan.expected.push(f.clone());
            // An endpoint whose own interface was not captured is heard at the near end of its cable.
            if let Some(p) =
                peer.filter(|p| f.dir == Dir::In && !topo.emulated(&p.0) && !topo.captured(p))
            {
                plan.inputs.push(Input {
                    t_ns: f.t_ns,
                    port: p.clone(),
                    data: f.data.clone(),
                });
            }
        } else if joined && f.dir == Dir::In {
            plan.expected.push(f.clone());
        } else if joined {
            plan.inputs.push(Input {
                t_ns: f.t_ns,
                port,
                data: f.data.clone(),
            });
        }
    }
    plan.inputs.sort_by_key(|i| i.t_ns);
}

/// Rule sets of emulated namespaces: none can be loaded yet, each is counted.
fn rule_sets(topo: &Topo<'_>, text: &dyn Fn(&Value) -> Option<String>, plan: &mut Plan) {
    for (ns, sets) in topo
        .scenario
        .rules
        .iter()
        .filter(|(ns, _)| topo.emulated(ns))
    {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (key, value) in sets.iter().flatten() {
            // `legacy` and `flush` are flags.
            let Some(source) = value.as_str() else {
                continue;
            };
            let Some(text) = text(value) else {
                plan.lacks.push(format!(
                    "needs netfilter: {source} in {ns}, a file that is nowhere"
                ));
                continue;
            };
            let lines = |begins: &[&str]| {
                let hit = |l: &&str| begins.iter().any(|b| l.trim_start().starts_with(b));
                text.lines().filter(hit).count()
            };
            let (what, n) = match key.trim_end_matches("_text") {
                "iptables" => ("iptables rules", lines(&["-A", "-I"])),
                "ip6tables" => ("ip6tables rules", lines(&["-A", "-I"])),
                "nft" => ("lines of nft", text.lines().count()),
                "ipset" => ("ipset entries", lines(&["create", "add"])),
                "ipvs" => ("IPVS services and destinations", lines(&["-A", "-a"])),
                _ => ("lines of an unknown rule set", text.lines().count()),
            };
            *counts.entry(what).or_default() += n;
        }
        let list: Vec<String> = counts
            .iter()
            .filter(|(_, n)| **n > 0)
            .map(|(k, n)| format!("{n} {k}"))
            .collect();
        if !list.is_empty() {
            plan.lacks
                .push(format!("needs netfilter: {} in {ns}", list.join(", ")));
        }
    }
}

/// The configuration changes of one step, and what of it cannot be played.
fn changes(
    topo: &Topo<'_>,
    step: &Step,
    t: Option<u64>,
    setup: bool,
    frames: &[Recorded],
    plan: &mut Plan,
) {
    let push = |plan: &mut Plan, ns: &str, command| match (setup, t) {
        (true, _) => plan.changes.push(Change {
            t_ns: None,
            ns: ns.to_owned(),
            command,
        }),
        (false, Some(t)) => plan.changes.push(Change {
            t_ns: Some(t),
            ns: ns.to_owned(),
            command,
        }),
        (false, None) => plan
            .lacks
            .push(format!("the time of a change in {ns} is not known")),
    };
    for (ns, lines) in step.ip.iter().flatten() {
        for line in lines {
            match parse_batch(line, &Span::new("scenario.json", 0, 0)) {
                Ok(c) => push(plan, ns, c),
                Err(e) => plan.lacks.push(format!("{ns}: ip {line}: {}", e.message)),
            }
        }
    }
    for (ns, keys) in step.sysctl.iter().flatten() {
        for (k, v) in keys {
            push(
                plan,
                ns,
                Command::Sysctl {
                    key: sysctl_name(k),
                    value: plain(v),
                },
            );
        }
    }
    for ns in step
        .rules
        .iter()
        .flat_map(|r| r.keys())
        .filter(|ns| topo.emulated(ns))
    {
        plan.lacks
            .push(format!("needs netfilter: rules loaded in {ns} by a step"));
    }
    for k in step
        .rest
        .keys()
        .filter(|k| !matches!(k.as_str(), "wait_port" | "sleep_ms" | "note"))
    {
        plan.lacks
            .push(format!("a step says {k}, which is not understood"));
    }
    if let Some(e) = step.exec.as_ref().filter(|e| topo.emulated(&e.ns)) {
        for line in split_script(&e.line()) {
            match command(e, line, setup) {
                Does::Change(c) => push(plan, &e.ns, *c),
                Does::Nothing => {}
                Does::Ping(p) => send(e, p, t, frames, plan),
                Does::Note(n) => plan.notes.push(n),
                Does::Http(l) => {
                    plan.node_http = true;
                    plan.lacks.push(l);
                }
                Does::Lack(l) => plan.lacks.push(l),
            }
        }
    }
}

/// A request of a node: when it was recorded; one that never left, at its step's time.
fn send(e: &Exec, p: Ping, t: Option<u64>, frames: &[Recorded], plan: &mut Plan) {
    let after = plan
        .sends
        .iter()
        .filter(|s| s.ns == e.ns)
        .map(|s| s.t_ns + 1)
        .max();
    let after = after
        .max(t.map(|t| t.saturating_sub(SLACK_NS)))
        .unwrap_or(0);
    let seen = ping::find(frames, &e.ns, p.dst, after);
    match seen.map(|f| f.t_ns).or(t) {
        Some(t_ns) => {
            let ping = seen.map(|f| p.clone().with_recorded(f)).unwrap_or(p);
            plan.sends.push(Send {
                t_ns,
                ns: e.ns.clone(),
                ping,
            });
        }
        None => plan.lacks.push(format!(
            "the time of a process in {} is not known: {}",
            e.ns,
            e.line()
        )),
    }
}

/// A value of a JSON scenario as `sysctl` takes it.
pub fn plain(v: &Value) -> String {
    v.as_str().map_or_else(|| v.to_string(), str::to_owned)
}

/// What a command on an emulated node amounts to.
enum Does {
    Change(Box<Command>),
    Ping(Ping),
    Nothing,
    Note(String),
    Http(String),
    Lack(String),
}

fn command(e: &Exec, line: &str, setup: bool) -> Does {
    let words: Vec<&str> = line.split_whitespace().collect();
    let first = words.iter().find(|w| **w != "exec").copied().unwrap_or("");
    match first {
        "ip" | "bridge" | "sysctl" => match parse(line, &Span::new("scenario.json", 0, 0)) {
            Ok(Command::Show) => Does::Nothing,
            Ok(c) => Does::Change(Box::new(c)),
            Err(err) => Does::Lack(format!("{}: {line}: {}", e.ns, err.message)),
        },
        "true" | ":" | "sleep" | "echo" | "" => Does::Nothing,
        "conntrack" => Does::Note(format!(
            "{}: {line}: there is no connection tracking to change",
            e.ns
        )),
        "iptables" | "ip6tables" | "nft" | "ipset" | "ipvsadm" | "iptables-restore" => {
            Does::Lack(format!("needs netfilter: {line} in {}", e.ns))
        }
        _ if setup && first == "ping" => {
            Does::Note(format!("{}: {line}: what it warmed is inferred", e.ns))
        }
        "ping" => match ping::parse(line) {
            Ok(p) => Does::Ping(p),
            Err(err) => Does::Lack(format!(
                "needs a process on the node: {line} in {}: {err}",
                e.ns
            )),
        },
        "curl" => Does::Http(format!("needs a process on the node: {line} in {}", e.ns)),
        _ if line.contains("ppsrv.py http") => {
            Does::Http(format!("needs a process on the node: {line} in {}", e.ns))
        }
        _ => Does::Lack(format!("needs a process on the node: {line} in {}", e.ns)),
    }
}
