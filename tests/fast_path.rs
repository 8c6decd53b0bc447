//! The fast path against the walk: the same frames through two equal worlds, one with compiled paths and one
//! that walks every frame, leave the same frames in the same order and the same state.
//!
//! Frames are drawn from a seed: pods to pods and Services, odd shapes among them, while time passes and the
//! configuration changes. What is compared is everything that a namespace holds.

#![allow(missing_docs, reason = "a test binary")]

use podpath::base::{NsId, Rng};
use podpath::cluster::Cluster;
use podpath::fast::{BATCH, Batch, Fate};
use podpath::kube::manifest::Input;
use podpath::kube::store::Store;
use podpath::net::PortAt;
use podpath::path::NoTrace;
use podpath::sim::fast::FastPath;
use podpath::wire::{ETH_P_ARP, ETH_P_IP, Frame, MacAddr, build, proto};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// A pod as the fast path sees it.
#[derive(Clone)]
struct End {
    ns: NsId,
    ip: Ipv4Addr,
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
    let world = &c.lab.world;
    let mut ends = Vec::new();
    for pod in c.pods.values().filter(|p| !p.host_network) {
        let ns = world.ns(pod.ns).unwrap();
        let Some(eth) = ns.devices().find(|d| d.name == "eth0" && d.peer.is_some()) else {
            continue;
        };
        let host = eth.peer.unwrap();
        let node = world.ns(host.ns).unwrap();
        let veth = node.dev(host.dev).unwrap();
        let gateway = match &veth.master {
            Some((bridge, _)) => node.dev(*bridge).unwrap().mac,
            None => veth.mac,
        };
        let Some(IpAddr::V4(ip)) = pod.ips.iter().copied().find(IpAddr::is_ipv4) else {
            continue;
        };
        ends.push(End {
            ns: pod.ns,
            ip,
            mac: eth.mac,
            host,
            gateway,
            bridged: veth.master.is_some(),
        });
    }
    ends
}

impl Side {
    fn new(topology: &str, compiled: bool, flows: usize) -> Side {
        let cluster = cluster(topology);
        let ends = ends(&cluster);
        let mut fast = FastPath::new(flows, ends.iter().map(|e| e.ns)).unwrap();
        match compiled {
            true => fast.verify(40),
            false => fast.only_walk(),
        }
        Side {
            cluster,
            fast,
            ends,
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
                    self.got.push((to.ns, batch.sent(i)));
                }
                Fate::Walked(n) => {
                    for (to, f) in walked.by_ref().take(n as usize) {
                        if f.ethertype() == ETH_P_ARP {
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
        const OWN: [&str; 5] = ["paths: [", "stack: [", "soonest: ", "now: ", "ended: ["];
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

fn udp(
    src: &End,
    dst: Ipv4Addr,
    mac: MacAddr,
    ports: (u16, u16),
    payload: usize,
    ttl: u8,
) -> Vec<u8> {
    let (a, b) = (IpAddr::V4(src.ip), IpAddr::V4(dst));
    let data = vec![0x5a; payload];
    let l4 = build::udp(a, b, ports.0, ports.1, &data);
    let packet = build::ip_packet(a, b, proto::UDP, ttl, 0, 7, false, &l4);
    let mut f = Frame::ip(&packet);
    f.set_ethernet(mac, src.mac, ETH_P_IP);
    f.data().to_vec()
}

const TOPOLOGIES: [&str; 5] = [
    "two-node-vxlan",
    "two-node-host-gw",
    "services-vxlan",
    "calico-ipip-blocks",
    "services-calico",
];

#[test]
fn hits_and_walks_leave_the_same() {
    let (rounds, size) = if cfg!(debug_assertions) {
        (400, 40)
    } else {
        (4_000, 60)
    };
    for topology in TOPOLOGIES {
        let mut fast = Side::new(topology, true, 512);
        let mut slow = Side::new(topology, false, 4);
        let mut rng = Rng::new(11);
        let services: Vec<(Ipv4Addr, u16)> = services(&fast.cluster);
        let rounds = rounds / TOPOLOGIES.len();
        for round in 0..rounds {
            let from = rng.below(fast.ends.len() as u64) as usize;
            let n = 1 + rng.below(size) as usize;
            let mut frames: Vec<Vec<u8>> = Vec::new();
            while frames.len() < n.min(BATCH) {
                let f = draw(&mut rng, &fast.ends, from, &services);
                // A flow's frames come together.
                frames.extend(vec![f; 1 + rng.below(6) as usize]);
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
        let v = fast.fast.verified();
        assert!(v.checked > 0 && v.wrong == 0, "{topology}: {v:#?}");
        let s = fast.fast.stats();
        println!(
            "{topology}: {s:?}, {} entries, {:?}",
            fast.fast.len(),
            fast.fast.why_slow()
        );
        assert!(
            s.hits > s.walks,
            "{topology}: {s:?} {:?}",
            fast.fast.why_slow()
        );
    }
}

fn services(c: &Cluster) -> Vec<(Ipv4Addr, u16)> {
    let mut all = Vec::new();
    for s in c.desired.services.values() {
        let s = &s.body;
        let Some(spec) = &s.spec else { continue };
        for ip in spec.cluster_ips.iter().flatten() {
            if let Ok(IpAddr::V4(ip)) = ip.parse() {
                let ports = spec.ports.iter().flatten();
                let ports = ports.filter(|p| p.protocol.as_deref() == Some("UDP"));
                all.extend(ports.map(|p| (ip, p.port as u16)));
            }
        }
    }
    all
}

/// A frame of a pod: mostly ordinary, now and then not.
fn draw(rng: &mut Rng, ends: &[End], from: usize, services: &[(Ipv4Addr, u16)]) -> Vec<u8> {
    let src = &ends[from];
    let mut to = rng.below(ends.len() as u64) as usize;
    if to == from && rng.below(20) > 0 {
        to = (to + 1) % ends.len();
    }
    let to = &ends[to];
    let ttl = if rng.below(100) == 0 {
        rng.below(4) as u8
    } else {
        64
    };
    let payload = match rng.below(40) {
        0 => rng.below(1600) as usize,
        1 => 1400 + rng.below(80) as usize,
        _ => rng.below(60) as usize,
    };
    let sport = 4000 + rng.below(3) as u16;
    let mut f = match rng.below(3) {
        0 if !services.is_empty() => {
            let (ip, port) = services[rng.below(services.len() as u64) as usize];
            udp(src, ip, src.gateway, (sport, port), payload, ttl)
        }
        _ if src.bridged
            && to.host.ns == src.host.ns
            && to.host != src.host
            && rng.below(20) > 0 =>
        {
            udp(src, to.ip, to.mac, (sport, 7), payload, ttl)
        }
        _ => udp(src, to.ip, src.gateway, (sport, 7), payload, ttl),
    };
    match rng.below(60) {
        0 => {
            let at = rng.below(f.len() as u64) as usize;
            f[at] ^= 1 << rng.below(8);
        }
        1 => f.truncate(rng.below(f.len() as u64) as usize),
        2 => f.extend([0; 9]),
        3 => (f[40], f[41]) = (0, 0),
        _ => {}
    }
    f
}

/// Pods answer some of what they got.
fn answer(rng: &mut Rng, fast: &mut Side, slow: &mut Side) {
    let got = std::mem::take(&mut fast.got);
    slow.got.clear();
    for (i, end) in fast.ends.clone().iter().enumerate() {
        let mut frames = Vec::new();
        for (ns, f) in &got {
            if *ns != end.ns
                || f.len() < 42
                || f[14] != 0x45
                || f[23] != proto::UDP
                || rng.below(2) == 0
            {
                continue;
            }
            let ip = |at: usize| Ipv4Addr::new(f[at], f[at + 1], f[at + 2], f[at + 3]);
            let port = |at: usize| u16::from_be_bytes([f[at], f[at + 1]]);
            if ip(30) == end.ip && frames.len() < BATCH {
                frames.push(udp(
                    end,
                    ip(26),
                    end.gateway,
                    (port(36), port(34)),
                    rng.below(50) as usize,
                    64,
                ));
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
