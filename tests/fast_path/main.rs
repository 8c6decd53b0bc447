//! The fast path against the walk: the same frames through two equal worlds, one with compiled paths and one
//! that walks every frame, leave the same frames in the same order and the same state.
//!
//! Frames are drawn from a seed: pods to pods and Services, UDP and TCP, both families, odd shapes among them, while
//! time passes and the
//! configuration changes. What is compared is everything that a namespace holds.

#![allow(missing_docs, reason = "a test binary")]

mod traffic;

use podpath::base::{NsId, Rng};
use podpath::cluster::Cluster;
use podpath::fast::{BATCH, Batch, Fate};
use podpath::kube::manifest::Input;
use podpath::kube::store::Store;
use podpath::net::PortAt;
use podpath::path::NoTrace;
use podpath::sim::fast::FastPath;
use podpath::wire::{ETH_P_ARP, Frame, MacAddr};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use traffic::draw;

/// A pod as the fast path sees it.
#[derive(Clone)]
struct End {
    ns: NsId,
    ip: Ipv4Addr,
    v6: Option<Ipv6Addr>,
    mac: MacAddr,
    /// Where its frames come in.
    host: PortAt,
    /// The MAC of its gateway.
    gateway: MacAddr,
    /// Its node's other pods are on the same bridge.
    bridged: bool,
}

struct Side {
    cluster: Cluster,
    fast: FastPath,
    ends: Vec<End>,
    /// Frames carried by entries, by protocol.
    hits: BTreeMap<String, u64>,
    /// Frames that reached pods, in order.
    got: Vec<(NsId, Vec<u8>)>,
}

fn cluster(topology: &str) -> Cluster {
    let dir = format!("{}/topologies/{topology}", env!("CARGO_MANIFEST_DIR"));
    let inputs = ["podpath.yaml", "manifests.yaml"].map(|name| {
        let text = std::fs::read_to_string(format!("{dir}/{name}")).expect(name);
        // A whole path is compiled where no cable delays.
        let text = text.replace("latency: 200us", "latency: 0s");
        Input::from_bytes(name, text.as_bytes()).expect(name)
    });
    let (store, _) = Store::load(&inputs);
    Cluster::build(store, 7).0
}

fn ends(c: &Cluster) -> Vec<End> {
    let v4 = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => Some(*ip),
        IpAddr::V6(_) => None,
    };
    let v6 = |ip: &IpAddr| match ip {
        IpAddr::V6(ip) => Some(*ip),
        IpAddr::V4(_) => None,
    };
    let end = |e: &podpath::cluster::End| {
        Some(End {
            ns: e.ns,
            ip: e.ips.iter().find_map(v4)?,
            v6: e.ips.iter().find_map(v6),
            mac: e.mac,
            host: e.port,
            gateway: e.gateway,
            bridged: e.bridged,
        })
    };
    c.pod_ends().iter().filter_map(end).collect()
}

impl Side {
    fn new(topology: &str, compiled: bool, flows: usize) -> Side {
        let cluster = cluster(topology);
        let ends = ends(&cluster);
        let mut fast = FastPath::new(flows, ends.iter().map(|e| e.ns)).unwrap();
        match compiled {
            true => fast.verify(9),
            false => fast.only_walk(),
        }
        Side {
            cluster,
            fast,
            ends,
            hits: BTreeMap::new(),
            got: Vec::new(),
        }
    }

    /// Sends frames of one pod.
    fn send(&mut self, from: usize, frames: &[Vec<u8>]) {
        let host = self.ends[from].host;
        let port = self.fast.port(host).unwrap();
        let mut batch = Batch::new();
        for f in frames {
            assert!(batch.push(port, f));
        }
        let mut out = Vec::new();
        let world = &mut self.cluster.lab.world;
        self.fast.run(world, &mut batch, &mut out);
        let mut walked = out.into_iter();
        let mut asked = Vec::new();
        for i in 0..batch.len() {
            match batch.fates[i] {
                Fate::Sent(port) => {
                    let to = self.fast.port_at(port).unwrap();
                    let f = batch.frames[i];
                    let kind = match (f[12], f[20], f[23]) {
                        (0x86, protocol, _) => format!("IPv6 {protocol}"),
                        (_, _, protocol) => format!("IPv4 {protocol}"),
                    };
                    *self.hits.entry(kind).or_default() += 1;
                    self.got.push((to.ns, batch.sent(i)));
                }
                Fate::Walked(n) => {
                    for (to, f) in walked.by_ref().take(n as usize) {
                        if f.ethertype() == ETH_P_ARP || traffic::solicits(f.data()) {
                            asked.push((to, f));
                        } else {
                            self.got.push((to.ns, f.data().to_vec()));
                        }
                    }
                }
                Fate::Waiting => panic!("frame {i} was left"),
            }
        }
        if asked.is_empty() {
            return;
        }
        self.fast.sync(world);
        for (to, f) in asked {
            world.arrive(to, Frame::ethernet(f.data()), &mut NoTrace);
        }
        let now = world.now();
        world.run_until(now, &mut NoTrace);
    }

    /// Time passes.
    fn pass(&mut self, by: Duration) {
        let world = &mut self.cluster.lab.world;
        self.fast.sync(world);
        let until = world.now() + by;
        world.run_until(until, &mut NoTrace);
        world.take_deliveries();
    }

    /// Everything that the namespaces hold.
    fn state(&mut self) -> Vec<String> {
        let world = &mut self.cluster.lab.world;
        self.fast.sync(world);
        // The cache's own, hints of when to look again, and room to work in.
        const OWN: [&str; 8] = [
            "paths: [",
            "stack: [",
            "soonest: ",
            "now: ",
            "ended: [",
            "id: FrameId(",
            "root: FrameId(",
            "parent: ",
        ];
        let show = |ns: &podpath::net::NetNs| {
            let all = format!("{ns:#?}");
            let (mut text, mut until) = (String::new(), None);
            for line in all.lines() {
                let l = line.trim_start();
                let indent = line.len() - l.len();
                if let Some(end) = until {
                    if indent == end && matches!(l, "]," | "),") {
                        until = None;
                    }
                } else if OWN.iter().any(|w| l.starts_with(w)) {
                    until = l.ends_with(['[', '(']).then_some(indent);
                } else {
                    text.push_str(line);
                    text.push('\n');
                }
            }
            text
        };
        world.spaces().iter().map(show).collect()
    }
}

const TOPOLOGIES: [&str; 6] = [
    "two-node-vxlan",
    "two-node-host-gw",
    "services-vxlan",
    "calico-ipip-blocks",
    "services-calico",
    "services-dual-stack",
];

#[test]
fn hits_and_walks_leave_the_same() {
    let (rounds, size) = if cfg!(debug_assertions) {
        (900, 40)
    } else {
        (4_000, 60)
    };
    for topology in TOPOLOGIES {
        let mut fast = Side::new(topology, true, 512);
        let mut slow = Side::new(topology, false, 4);
        let mut rng = Rng::new(11);
        let services = services(&fast.cluster);
        let rounds = rounds / TOPOLOGIES.len();
        for round in 0..rounds {
            let from = rng.below(fast.ends.len() as u64) as usize;
            let n = 1 + rng.below(size) as usize;
            let mut frames: Vec<Vec<u8>> = Vec::new();
            while frames.len() < n.min(BATCH) {
                let f = draw(&mut rng, &fast.ends, from, &services);
                // A flow's frames come together.
                frames.extend(vec![f; 1 + rng.below(12) as usize]);
            }
            frames.truncate(BATCH);
            fast.send(from, &frames);
            slow.send(from, &frames);
            let at = fast.got.iter().zip(&slow.got).position(|(a, b)| a != b);
            let at = at.map(|i| (i, hex(&fast.got[i]), hex(&slow.got[i])));
            assert_eq!(at, None, "{topology} round {round}");
            assert_eq!(fast.got.len(), slow.got.len(), "{topology} round {round}");
            answer(&mut rng, &mut fast, &mut slow);
            fast.got.clear();
            slow.got.clear();
            if rng.below(8) == 0 {
                let by = [
                    Duration::from_millis(3),
                    Duration::from_millis(700),
                    Duration::from_secs(9),
                    Duration::from_secs(40),
                ][rng.below(4) as usize];
                fast.pass(by);
                slow.pass(by);
            }
            if rng.below(20) == 0 || round + 1 == rounds {
                same(&mut fast, &mut slow, &format!("{topology} round {round}"));
            }
        }
        let s = fast.fast.stats();
        println!(
            "{topology}: {s:?}, {} entries, {:?}",
            fast.fast.len(),
            fast.fast.why_slow()
        );
        let v = fast.fast.verified();
        assert!(v.checked > 0 && v.wrong == 0, "{topology}: {v:#?}");
        for (kind, hits) in &fast.hits {
            println!("{topology}: {hits} frames of {kind} by an entry");
        }
        assert_eq!(
            fast.hits.len(),
            if topology.ends_with("dual-stack") {
                4
            } else {
                2
            }
        );
        assert!(
            s.hits > s.walks / 4,
            "{topology}: {s:?} {:?}",
            fast.fast.why_slow()
        );
    }
}

fn services(c: &Cluster) -> Vec<(IpAddr, u16)> {
    let mut all = Vec::new();
    for s in c.desired.services.values() {
        let Some(spec) = &s.body.spec else { continue };
        for ip in spec
            .cluster_ips
            .iter()
            .flatten()
            .filter_map(|ip| ip.parse().ok())
        {
            let ports = spec.ports.iter().flatten();
            all.extend(ports.map(|p| (ip, p.port as u16)));
        }
    }
    all
}

/// Pods answer some of what they got.
fn answer(rng: &mut Rng, fast: &mut Side, slow: &mut Side) {
    let got = std::mem::take(&mut fast.got);
    slow.got.clear();
    for (i, end) in fast.ends.clone().iter().enumerate() {
        let mut frames = Vec::new();
        for (ns, f) in &got {
            if *ns == end.ns && frames.len() < BATCH && rng.below(2) == 0 {
                frames.extend(traffic::answer(rng, end, f));
            }
        }
        fast.send(i, &frames);
        slow.send(i, &frames);
    }
    let at = fast.got.iter().zip(&slow.got).position(|(a, b)| a != b);
    assert_eq!(at, None);
    assert_eq!(fast.got.len(), slow.got.len());
}

fn same(fast: &mut Side, slow: &mut Side, at: &str) {
    for (a, b) in fast.state().iter().zip(&slow.state()) {
        if a != b {
            let line = a
                .lines()
                .zip(b.lines())
                .position(|(x, y)| x != y)
                .unwrap_or(0);
            let part = |s: &str| {
                s.lines()
                    .skip(line.saturating_sub(12))
                    .take(20)
                    .collect::<Vec<_>>()
                    .join("\n")
            };
            panic!(
                "{at}: {}\nfast\n{}\nslow\n{}",
                a.lines().nth(2).unwrap_or(""),
                part(a),
                part(b)
            );
        }
    }
}

fn hex((ns, f): &(NsId, Vec<u8>)) -> String {
    let bytes: Vec<String> = f.iter().take(64).map(|b| format!("{b:02x}")).collect();
    format!("{ns:?} {} bytes {}", f.len(), bytes.join(""))
}
