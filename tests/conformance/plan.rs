//! What has to be played and compared: inputs, expected frames, timed changes, and what podpath lacks.
//!
//! Times are nanoseconds from the first captured frame. Does not play; knows the wiring and the recording.
//! Nothing that cannot be played is left out silently: it becomes a lack or a note.

use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;

use super::confirm::Senders;
use super::hashes::Hashes;
use super::ping::{self, Ping};
use super::process::{self, Local, Unheard};
use super::scenario::{Dir, Exec, Recorded, Step, Trace};
use super::script;
use super::topo::{Port, Topo};
use podpath::base::Span;
use podpath::import::ipcmd::{Command, parse, parse_batch, split_script, sysctl_name};
use podpath::net::Binding;

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
    /// Its sender's TCP had just got on (`confirm.rs`).
    pub confirm: bool,
}

/// A change of configuration.
#[derive(Debug)]
pub struct Change {
    /// When; `None` before the capture.
    pub t_ns: Option<u64>,
    /// In which namespace.
    pub ns: String,
    /// What.
    pub what: What,
}

/// A change of a namespace.
#[derive(Debug)]
pub enum What {
    /// `ip`, `bridge`, `sysctl`.
    Command(Box<Command>),
    /// A rule set.
    Load(Load),
    /// A shell script of `iptables`, `ipset`, `conntrack`.
    Script(String),
    /// Multicast listeners' reports that nobody recorded.
    Reports(Reports),
    /// Before the capture an endpoint pinged somebody, who answered.
    Ping(IpAddr),
}

/// MLD reports of one node and its pods that were counted and not captured.
#[derive(Debug, Clone)]
pub struct Reports {
    /// Copies of pods' reports that were bridged.
    pub copies: u64,
    /// The node's own, by their number of records.
    pub own: Vec<u64>,
}

/// A rule set to load.
#[derive(Debug)]
pub struct Load {
    /// Which tool reads it.
    pub tool: RuleTool,
    /// Its input.
    pub text: String,
    /// The tool of x_tables and not of nf_tables.
    pub legacy: bool,
    /// Tables it names are emptied first.
    pub flush: bool,
}

/// What reads a rule set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RuleTool {
    /// `iptables-restore`
    Iptables,
    /// `ip6tables-restore`
    Ip6tables,
    /// `ipset restore`
    Ipset,
    /// `ipvsadm -R`
    Ipvs,
    /// `nft -f -`
    Nft,
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
    /// Pings of the nodes' own.
    pub sends: Vec<Send>,
    /// What other processes on nodes said.
    pub local: Vec<Local>,
    /// Their sockets, by node.
    pub sockets: Vec<(String, Binding)>,
    /// Connections of theirs that never left, and when they were tried.
    pub unheard: Vec<(u64, Unheard)>,
    /// What podpath does not have.
    pub lacks: Vec<String>,
    /// Remarks.
    pub notes: Vec<String>,
    /// The recording's end: what podpath does later was not recorded.
    pub end: u64,
    /// When tables and connections were dumped.
    pub dumped: u64,
    /// Flow hashes of senders' sockets.
    pub hashes: Hashes,
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
    plan.hashes = Hashes::read(topo, trace, frames);
    rule_sets(topo, rules, &mut plan);
    (plan.local, plan.sockets) = process::packets(topo, trace, frames);
    let s = topo.scenario;
    let cx = Cx {
        topo,
        trace,
        frames,
        rules,
    };
    let last = frames.iter().map(|f| f.t_ns).max();
    for step in &s.setup {
        changes(&cx, step, None, true, &mut plan);
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
        let t = t.or(last);
        changes(&cx, step, t, false, &mut plan);
    }
    let waited = plan.unheard.iter().map(|(t, u)| t + u.syns * 1_000_000_000);
    plan.dumped = plan.end.max(waited.max().unwrap_or(0)) + settle;
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
    let mut senders = Senders::default();
    for f in frames {
        let confirm = senders.confirms(f);
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
                    confirm: false,
                });
            }
        } else if joined && f.dir == Dir::In {
            plan.expected.push(f.clone());
        } else if joined {
            plan.inputs.push(Input {
                t_ns: f.t_ns,
                port,
                data: f.data.clone(),
                confirm,
            });
        }
    }
    plan.inputs.sort_by_key(|i| i.t_ns);
}

/// What the parts of a plan are made of.
struct Cx<'a> {
    topo: &'a Topo<'a>,
    trace: &'a Trace,
    frames: &'a [Recorded],
    rules: &'a dyn Fn(&Value) -> Option<String>,
}

/// Rule sets of emulated namespaces.
fn rule_sets(topo: &Topo<'_>, text: &dyn Fn(&Value) -> Option<String>, plan: &mut Plan) {
    for (ns, sets) in topo
        .scenario
        .rules
        .iter()
        .filter(|(ns, _)| topo.emulated(ns))
    {
        for set in sets {
            for what in loads(ns, set, text, plan) {
                let (t_ns, ns) = (None, ns.clone());
                plan.changes.push(Change { t_ns, ns, what });
            }
        }
    }
}

/// What one entry of `rules` loads, in the recorder's order; what cannot be loaded is lacking.
fn loads(
    ns: &str,
    set: &BTreeMap<String, Value>,
    text: &dyn Fn(&Value) -> Option<String>,
    plan: &mut Plan,
) -> Vec<What> {
    let flag = |key: &str| set.get(key).and_then(Value::as_bool) == Some(true);
    let (legacy, flush) = (flag("legacy"), flag("flush"));
    let mut out = Vec::new();
    for (name, tool) in [
        ("ipset", RuleTool::Ipset),
        ("iptables", RuleTool::Iptables),
        ("ip6tables", RuleTool::Ip6tables),
        ("nft", RuleTool::Nft),
        ("ipvs", RuleTool::Ipvs),
    ] {
        for key in [name.to_owned(), format!("{name}_text")] {
            let Some(value) = set.get(&key) else { continue };
            match text(value) {
                Some(text) => out.push(What::Load(Load {
                    tool,
                    text,
                    legacy,
                    flush,
                })),
                None => plan
                    .lacks
                    .push(format!("{ns}: {key} names a file that is nowhere: {value}")),
            }
        }
    }
    out
}

/// The configuration changes of one step, and what of it cannot be played.
fn changes(cx: &Cx<'_>, step: &Step, t: Option<u64>, setup: bool, plan: &mut Plan) {
    let topo = cx.topo;
    let push = |plan: &mut Plan, ns: &str, what| match (setup, t) {
        (true, _) => plan.changes.push(Change {
            t_ns: None,
            ns: ns.to_owned(),
            what,
        }),
        (false, Some(t)) => plan.changes.push(Change {
            t_ns: Some(t),
            ns: ns.to_owned(),
            what,
        }),
        (false, None) => plan
            .lacks
            .push(format!("the time of a change in {ns} is not known")),
    };
    for (ns, lines) in step.ip.iter().flatten() {
        for line in lines {
            match parse_batch(line, &Span::new("scenario.json", 0, 0)) {
                Ok(c) => push(plan, ns, What::Command(Box::new(c))),
                Err(e) => plan.lacks.push(format!("{ns}: ip {line}: {}", e.message)),
            }
        }
    }
    for (ns, keys) in step.sysctl.iter().flatten() {
        for (k, v) in keys {
            let (key, value) = (sysctl_name(k), plain(v));
            push(
                plan,
                ns,
                What::Command(Box::new(Command::Sysctl { key, value })),
            );
        }
    }
    for (ns, value) in step
        .rules
        .iter()
        .flatten()
        .filter(|(ns, _)| topo.emulated(ns))
    {
        let sets: Vec<BTreeMap<String, Value>> =
            serde_json::from_value(value.clone()).unwrap_or_default();
        if sets.is_empty() {
            plan.lacks
                .push(format!("the rules of a step in {ns} are not understood"));
        }
        for set in &sets {
            for what in loads(ns, set, cx.rules, plan) {
                push(plan, ns, what);
            }
        }
    }
    for k in step
        .rest
        .keys()
        .filter(|k| !matches!(k.as_str(), "wait_port" | "sleep_ms" | "note"))
    {
        plan.lacks
            .push(format!("a step says {k}, which is not understood"));
    }
    let Some(e) = step.exec.as_ref() else { return };
    if !topo.emulated(&e.ns) {
        // Before the capture only: what is sent later is in the recording.
        if let Some(p) = ping::parse(&e.line()).ok().filter(|_| setup) {
            push(plan, &e.ns, What::Ping(p.dst));
        }
        return;
    }
    if is_firewall(&e.line()) {
        return push(plan, &e.ns, What::Script(e.line()));
    }
    for line in split_script(&e.line()) {
        match command(e, line, setup) {
            Does::Change(c) => push(plan, &e.ns, What::Command(c)),
            Does::Nothing => {}
            Does::Ping(p) => send(e, p, t, cx.frames, plan),
            Does::Note(n) => plan.notes.push(n),
            Does::Http => {
                plan.node_http = true;
                let unheard = process::unheard(e, cx.trace).zip(t);
                plan.unheard.extend(unheard.map(|(u, t)| (t, u)));
            }
            Does::Lack(l) => plan.lacks.push(l),
        }
    }
}

/// Whether a script is made of commands of netfilter's tools.
pub fn is_firewall(script: &str) -> bool {
    const TOOLS: [&str; 5] = ["iptables", "ip6tables", "ipset", "ipvsadm", "conntrack"];
    let first = |part: &str| {
        let words = part.split_once("=$(").map_or(part, |(_, words)| words);
        words.split_whitespace().next().map(str::to_owned)
    };
    script::parts(script)
        .into_iter()
        .all(|p| first(p).is_some_and(|w| TOOLS.iter().any(|t| w.starts_with(t))))
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
    Http,
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
        "nft" => Does::Lack(format!("needs {first}: {line} in {}", e.ns)),
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
        "curl" => Does::Http,
        _ if line.contains("ppsrv.py http") => Does::Http,
        _ => Does::Lack(format!("needs a process on the node: {line} in {}", e.ns)),
    }
}
