//! The fast path against the walk: the same frames through two equal worlds, one with compiled paths and one
//! that walks every frame, leave the same frames in the same order and the same state.
//!
//! Clusters, frames (UDP and TCP conversations of both families, pings, fragments, odd flags and numbers, wrong
//! checksums; pods to pods, Services and ports of nodes, hosts outside, several senders in a batch), edits
//! between batches and faults are drawn from a seed, while time passes. What is compared is everything that a
//! namespace holds, and what the tools would list.
//! PODPATH_PACKETS says how many frames are played, PODPATH_SEED from which seed on, PODPATH_EACH how many of
//! each; with PODPATH_TALK the edits are printed.

#![allow(missing_docs, reason = "a test binary")]

mod edits;
mod listed;
mod odd;
mod pinned;
mod plan;
mod side;
mod traffic;

use plan::{Plan, pick};
use podpath::base::Rng;
use podpath::cluster::Cluster;
use podpath::fast::BATCH;
use podpath::kube::manifest::Input;
use podpath::kube::store::Store;
use side::{Side, same, same_frames};
use std::collections::BTreeMap;
use std::time::Duration;
use traffic::{Flow, Target};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn topology(name: &str, mode: &str) -> Cluster {
    let dir = format!("{}/topologies/{name}", env!("CARGO_MANIFEST_DIR"));
    let inputs = ["podpath.yaml", "manifests.yaml"].map(|name| {
        let text = std::fs::read_to_string(format!("{dir}/{name}")).expect(name);
        // A whole path is compiled where no cable delays.
        let text = text.replace("latency: 200us", "latency: 0s");
        let text = text.replace("mode: iptables", &format!("mode: {mode}"));
        Input::from_bytes(name, text.as_bytes()).expect(name)
    });
    let (store, _) = Store::load(&inputs);
    Cluster::build(store, 7).0
}

/// Services' addresses, and their ports on every node.
fn targets(c: &Cluster) -> Vec<Target> {
    let mut all = Vec::new();
    for s in c.desired.services.values() {
        let Some(spec) = &s.body.spec else { continue };
        let ips = spec.cluster_ips.iter().flatten();
        let ips: Vec<std::net::IpAddr> = ips.filter_map(|ip| ip.parse().ok()).collect();
        for p in spec.ports.iter().flatten() {
            all.extend(ips.iter().map(|ip| Target {
                ip: *ip,
                port: p.port as u16,
                mac: None,
            }));
            for node in c.nodes.values().filter(|_| p.node_port.is_some()) {
                let ns = c.lab.world.ns(node.uplink.ns);
                let mac = ns.and_then(|ns| ns.dev(node.uplink.dev)).map(|d| d.mac);
                all.extend(node.addresses.iter().map(|a| Target {
                    ip: a.ip(),
                    port: p.node_port.unwrap_or(0) as u16,
                    mac,
                }));
            }
        }
    }
    all
}

/// Two worlds and what is played in them.
struct Play {
    fast: Side,
    slow: Side,
    rng: Rng,
    plan: Option<Plan>,
    /// Frames played.
    packets: u64,
    /// What was edited last, for whoever reads of a difference.
    edits: Vec<String>,
    /// Flows sent before: most come again.
    usual: Vec<Flow>,
}

impl Play {
    fn new(build: impl Fn() -> Cluster, plan: Option<Plan>, seed: u64) -> Play {
        let mut rng = Rng::new(seed);
        // Small tables are full, and let go of entries.
        let flows = pick(&mut rng, &[24, 512, 4096]);
        Play {
            fast: Side::new(build(), true, flows),
            slow: Side::new(build(), false, 4),
            rng,
            plan,
            packets: 0,
            edits: Vec::new(),
            usual: Vec::new(),
        }
    }

    fn at(&self, round: u64) -> String {
        let last = self.edits.iter().rev().take(6).collect::<Vec<_>>();
        let now = self.fast.cluster.lab.world.now();
        format!("{:?} round {round} at {now:?}, edits {last:#?}", self.plan)
    }

    fn round(&mut self, round: u64, edits: bool) {
        let targets = targets(&self.fast.cluster);
        let mut frames: Vec<(usize, Vec<u8>)> = Vec::new();
        for _ in 0..1 + self.rng.below(8) {
            self.burst(&targets, &mut frames);
        }
        if self.rng.below(3) == 0 {
            // Each flow's frames in their order, but the flows' mixed.
            frames.sort_by_cached_key(|(from, _)| (*from as u64 * 7 + round) % 5);
            let half = frames.len() / 2;
            let late = frames.split_off(half);
            let pairs = frames.into_iter().zip(late);
            frames = pairs.flat_map(|(a, b)| [a, b]).collect();
        }
        frames.truncate(BATCH);
        self.send_all(&frames, round);
        self.answer(round);
        let calm = self.plan.as_ref().map_or(7, |p| p.calm);
        if self.rng.below(calm.min(20)) == 0 {
            let by = pick(
                &mut self.rng,
                &[3, 700, 2100, 2100, 9000, 9000, 40_000, 130_000],
            );
            self.pass(Duration::from_millis(by), round);
        }
        if edits && self.rng.below(calm) == 0 {
            let sides = [&mut self.fast, &mut self.slow];
            let told = edits::edit(&mut self.rng, self.plan.as_ref(), sides);
            self.edits.push(told);
        }
        if self.rng.below(20) == 0 {
            self.compare(round);
        }
    }

    /// Some frames of a flow, together.
    fn burst(&mut self, targets: &[Target], frames: &mut Vec<(usize, Vec<u8>)>) {
        let ends = &self.fast.ends;
        let at = match self.rng.below(4) {
            // As many as an entry's worth of flows each: the oldest make room.
            0 => {
                let from = self.rng.below(ends.len() as u64) as usize;
                let flow = Flow::draw(&mut self.rng, ends, from, targets);
                let known = self.usual.iter().position(|f| f.is_like(&flow));
                known.unwrap_or_else(|| {
                    if self.usual.len() >= 40 {
                        self.usual.remove(0);
                    }
                    self.usual.push(flow);
                    self.usual.len() - 1
                })
            }
            _ if self.usual.is_empty() => return,
            _ => self.rng.below(self.usual.len() as u64) as usize,
        };
        let flow = &mut self.usual[at];
        // The answer to a handshake's first segment comes before its third.
        let many = if flow.is_open() {
            self.rng.below(14)
        } else {
            0
        };
        let mut last = flow.frames(&mut self.rng, ends);
        for _ in 0..=many {
            frames.extend(last.iter().map(|f| (flow.from, f.clone())));
            if self.rng.below(3) > 0 {
                last = flow.frames(&mut self.rng, ends);
            }
        }
    }

    fn compare(&mut self, round: u64) {
        let at = self.at(round);
        same(&mut self.fast, &mut self.slow, &at);
    }

    fn pass(&mut self, by: Duration, round: u64) {
        self.fast.pass(by);
        self.slow.pass(by);
        self.same_frames(round);
        self.fast.got.clear();
        self.slow.got.clear();
    }

    fn same_frames(&self, round: u64) {
        if self.fast.got != self.slow.got {
            same_frames(&self.fast, &self.slow, &self.at(round));
        }
    }

    fn send(&mut self, from: usize, frames: &[Vec<u8>], round: u64) {
        let all: Vec<_> = frames.iter().map(|f| (from, f.clone())).collect();
        self.send_all(&all, round);
    }

    fn send_all(&mut self, frames: &[(usize, Vec<u8>)], round: u64) {
        self.fast.send_all(frames);
        self.slow.send_all(frames);
        self.packets += frames.len() as u64;
        self.same_frames(round);
    }

    /// Pods answer some of what they got.
    fn answer(&mut self, round: u64) {
        let got = std::mem::take(&mut self.fast.got);
        self.slow.got.clear();
        let mut answers = Vec::new();
        for (ns, f) in &got {
            let Some(i) = self.fast.ends.iter().position(|e| e.ns == *ns) else {
                continue;
            };
            if traffic::opens(f) || self.rng.below(2) == 0 {
                let answer = traffic::answer(&mut self.rng, &self.fast.ends[i], f);
                answers.extend(answer.map(|f| (i, f)));
            }
        }
        for some in answers.chunks(BATCH) {
            self.send_all(some, round);
        }
        for (ns, f) in &self.fast.got {
            let ends = &self.fast.ends;
            let flows = self.usual.iter_mut().filter(|u| ends[u.from].ns == *ns);
            flows.for_each(|u| u.heard(&mut self.rng, f));
        }
        self.fast.got.clear();
        self.slow.got.clear();
    }

    /// The last word: all is the same, and every hit that was checked was right.
    fn end(&mut self, hits: &mut BTreeMap<String, u64>) {
        self.compare(u64::MAX);
        let (s, v) = (self.fast.fast.stats(), self.fast.fast.verified());
        let why = self.fast.fast.why_slow();
        if std::env::var_os("PODPATH_TALK").is_some() {
            println!("{:#?}", self.edits);
        }
        println!(
            "{:?}: {} frames, {s:?}, {} checked, {why:?}",
            self.plan, self.packets, v.checked
        );
        assert!(v.wrong == 0, "{}: {v:#?}", self.at(0));
        for (kind, n) in &self.fast.hits {
            *hits.entry(kind.clone()).or_default() += n;
        }
    }
}

#[test]
fn hits_and_walks_leave_the_same() {
    let debug = cfg!(debug_assertions);
    let all = number("PODPATH_PACKETS").unwrap_or(if debug { 9_000 } else { 60_000 });
    let each = number("PODPATH_EACH").unwrap_or(if debug { 1_500 } else { 12_000 });
    let first = number("PODPATH_SEED").unwrap_or(1);
    let (mut played, mut hits) = (0, BTreeMap::new());
    for seed in first.. {
        if played >= all {
            break;
        }
        let plan = Plan::draw(seed);
        let mut play = Play::new(|| plan.build(), Some(plan.clone()), seed);
        edits::watch(&mut play.rng, [&mut play.fast, &mut play.slow]);
        let mut round = 0;
        while play.packets < each.min(all - played) {
            round += 1;
            play.round(round, true);
        }
        play.end(&mut hits);
        played += play.packets;
    }
    println!("{played} frames, by entries {hits:?}");
    let carried: u64 = hits.values().sum();
    // Some plans alone have little that can be carried.
    assert!(carried > played / 8 || all <= each, "{hits:?}");
}

#[test]
fn the_topologies_too() {
    let scenes = [
        ("two-node-vxlan", "iptables"),
        ("two-node-host-gw", "iptables"),
        ("services-vxlan", "nftables"),
        ("services-vxlan", "ipvs"),
        ("calico-ipip-blocks", "iptables"),
        ("services-calico", "iptables"),
        ("services-dual-stack", "iptables"),
        ("services-dual-stack", "nftables"),
        ("services-dual-stack", "ipvs"),
        ("policy-calico", "iptables"),
    ];
    let packets = if cfg!(debug_assertions) { 700 } else { 8_000 };
    let (mut checked, mut kinds) = (0, BTreeMap::new());
    for (name, mode) in scenes {
        let mut play = Play::new(|| topology(name, mode), None, 11);
        let mut round = 0;
        while play.packets < packets {
            round += 1;
            play.round(round, false);
        }
        let mut hits = BTreeMap::new();
        play.end(&mut hits);
        checked += play.fast.fast.verified().checked;
        assert!(!hits.is_empty(), "{name} {mode}");
        kinds.extend(hits);
    }
    assert!(checked > 0);
    assert_eq!(kinds.len(), 4, "UDP and TCP of both families: {kinds:?}");
}
