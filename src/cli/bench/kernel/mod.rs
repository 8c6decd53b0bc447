//! `podpath bench kernel`: the same paths through this machine's kernel and through podpath, in turns.
//!
//! Needs root and the oracle's programs. Both sides count frames that arrived and divide by CPU time. The
//! kernel's side has one client, one server and the last of its Services; podpath's all of a scene's.
//! Invariant: repetitions alternate, so that whatever slows the machine slows both.

mod net;
mod tools;

use super::args::{BenchArgs, Scenario};
use super::clock::Timing;
use super::drive::Scene;
use super::figures::{Row, Section};
use super::path::Ready;
use super::plan::Plan;
use super::tally::Until;
use anyhow::ensure;
use indicatif::ProgressBar;
use net::{Net, Oracle, Rules, Way};
pub(super) use tools::{VARIABLE, shared};

/// Flows that the kernel's sender has: its source ports from 10,000 on.
const FLOWS_MAX: u64 = 55_000;
/// Frames of new flows of one repetition.
const NEW: u64 = 40_000;
/// The same of all repetitions, through podpath.
const NEW_MAX: u64 = 4_000_000;
/// TCP connections of one repetition.
const CONNECTIONS: u64 = 2_000;
/// The kernel tries every rule of a chain: fewer of them where there are many Services.
const MANY: u32 = 5_000;

/// A path through both.
struct Pair {
    name: &'static str,
    way: Way,
    rules: Rules,
    /// What podpath builds.
    cni: (&'static str, &'static str),
    proxy: &'static str,
    policies: u32,
}

const PAIRS: [Pair; 6] = [
    pair("same node, iptables-legacy", Way::Same, Rules::Legacy),
    pair("same node, iptables-nft", Way::Same, Rules::Nft),
    Pair {
        proxy: "nftables",
        ..pair("same node, nftables", Way::Same, Rules::Nftables)
    },
    // The scenario `service`: podpath's side has Calico and a policy, the kernel's neither.
    Pair {
        cni: ("calico", "none"),
        policies: 1,
        ..pair("service, policy on", Way::Same, Rules::Legacy)
    },
    pair("across nodes, vxlan", Way::Vxlan, Rules::Legacy),
    Pair {
        cni: ("flannel", "host-gw"),
        ..pair("across nodes, host-gw", Way::HostGw, Rules::Legacy)
    },
];

const fn pair(name: &'static str, way: Way, rules: Rules) -> Pair {
    Pair {
        name,
        way,
        rules,
        cni: ("flannel", "vxlan"),
        proxy: "iptables",
        policies: 0,
    }
}

impl Pair {
    fn plan(&self, services: u32, flows: u64, a: &BenchArgs) -> Plan {
        Plan {
            cni: self.cni,
            proxy: self.proxy,
            far: self.way != Way::Same,
            policies: self.policies,
            ..Plan::of(Scenario::Service, services, flows, a)
        }
    }
}

/// Measures all paths.
pub(super) fn run(a: &BenchArgs, bar: &ProgressBar) -> anyhow::Result<Vec<Section>> {
    let oracle = Oracle::new()?;
    let (mut established, mut opened) = (Vec::new(), Vec::new());
    let mut notes = vec![
        format!("kernel {}, {}", release(), "one pinned CPU: thread and ksoftirqd time"),
        "kernel: one client, the last of the Services; podpath: flows of all clients to all Services"
            .to_owned(),
    ];
    bar.set_length((PAIRS.len() * a.services.len() * (a.flows.len() + 1)) as u64);
    for services in &a.services {
        for pair in &PAIRS {
            bar.set_message(format!("{}, {services} Services", pair.name));
            let net = oracle.up(pair.way, pair.rules, *services)?;
            let mut side = Side {
                pair,
                services: *services,
                net: &net,
                a,
            };
            let mut done = Vec::new();
            for flows in a.flows.iter().map(|f| (*f).min(FLOWS_MAX)) {
                if !done.contains(&flows) {
                    established.push(side.established(flows)?);
                    done.push(flows);
                }
                bar.inc(1);
            }
            opened.push(side.new_flows()?);
            bar.inc(1);
        }
    }
    if a.flows.iter().any(|f| *f > FLOWS_MAX) {
        notes.push(format!("the kernel's sender has {FLOWS_MAX} flows at most"));
    }
    let section = |name: &str, title: &str, rows, notes| Section {
        name: name.to_owned(),
        title: title.to_owned(),
        rows,
        notes,
    };
    Ok(vec![
        section(
            "kernel",
            "frames of established flows, the kernel's and podpath's in turns",
            established,
            notes,
        ),
        section(
            "kernel-connect",
            "first frames of flows (UDP), and the kernel's TCP connections",
            opened,
            Vec::new(),
        ),
    ])
}

fn release() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    text.trim().to_owned()
}

/// One path, both sides ready.
struct Side<'a> {
    pair: &'a Pair,
    services: u32,
    net: &'a Net<'a>,
    a: &'a BenchArgs,
}

impl Side<'_> {
    fn row(&self) -> Row {
        Row::of("path", self.pair.name).count("services", self.services.into())
    }

    /// Frames that take the kernel about four times the CPU time of a repetition.
    fn frames(&self) -> u64 {
        ((self.a.seconds.as_secs_f64() * 2e6) as u64).clamp(20_000, 2_000_000)
    }

    fn established(&mut self, flows: u64) -> anyhow::Result<Row> {
        let (size, until) = (self.a.size, Until::of(self.a));
        let plan = self.pair.plan(self.services, flows, self.a);
        let ready = Ready::new(plan, flows, self.a, || ())?;
        let (mut scene, mut ring) = (ready.scene, ready.ring);
        self.net.establish(flows, size)?;
        let (mut theirs, mut ours, mut hits, mut all) = (Vec::new(), Vec::new(), 0, 0);
        for _ in 0..self.a.repetitions {
            let taken = self.net.established(flows, self.frames(), size)?;
            ensure!(
                taken.done >= taken.sent,
                "{} of {} frames arrived through the kernel",
                taken.done,
                taken.sent
            );
            theirs.push(taken.each());
            let tally = scene.repetition(&mut ring, until)?;
            ours.push(tally.each());
            hits += tally.hits;
            all += tally.arrived;
        }
        let (theirs, ours) = (Timing::of(theirs), Timing::of(ours));
        Ok(self
            .row()
            .count("flows", flows)
            .count("size", size.into())
            .wide()
            .number("kernel_ns", theirs.least(), 0)
            .number("kernel_median", theirs.median(), 0)
            .wide()
            .number("podpath_ns", ours.least(), 1)
            .number("podpath_median", ours.median(), 1)
            .wide()
            .number("times_kernel", theirs.least() / ours.least(), 1)
            .number("of_medians", theirs.median() / ours.median(), 1)
            .number("hit_percent", hits as f64 * 100.0 / all.max(1) as f64, 2))
    }

    fn new_flows(&mut self) -> anyhow::Result<Row> {
        let slow = self.services >= MANY && self.pair.rules != Rules::Nftables;
        let part = if slow { 8 } else { 1 };
        let size = self.a.size;
        let rounds = u64::from(self.a.repetitions);
        let each = NEW.min(NEW_MAX / rounds.max(1));
        let plan = self.pair.plan(self.services, each * rounds, self.a);
        let mut scene = Scene::new(plan, each * rounds, 1)?;
        let (mut theirs, mut tcp, mut ours, mut lost) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for round in 0..rounds {
            let taken = self.net.new_flows(NEW / part, size)?;
            ensure!(taken.done > 0, "no first frame arrived through the kernel");
            lost += taken.sent.saturating_sub(taken.done);
            theirs.push(taken.each());
            let tally = scene.connect(round * each..(round + 1) * each)?;
            ours.push(tally.each());
            let taken = self.net.connections(CONNECTIONS / part)?;
            ensure!(taken.done > 0, "no connection was made through the kernel");
            tcp.push(taken.each());
        }
        let (theirs, tcp, ours) = (Timing::of(theirs), Timing::of(tcp), Timing::of(ours));
        Ok(self
            .row()
            .number("kernel_flows_s", 1e9 / theirs.least(), 0)
            .number("podpath_flows_s", 1e9 / ours.least(), 0)
            .number("times_kernel", theirs.least() / ours.least(), 1)
            .number("of_medians", theirs.median() / ours.median(), 1)
            .wide()
            .count("kernel_lost", lost)
            .number("kernel_tcp_s", 1e9 / tcp.least(), 0))
    }
}
