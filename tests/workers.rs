//! Several workers are one: the same frames delivered, in the same order, the same counters and connections.
//!
//! A mixed stream: pods to pods and to Services with one endpoint (DNAT, so that replies hash to another worker),
//! a host outside to node ports (masqueraded), answers to all of it right behind what they answer, odd shapes
//! and questions for addresses among them. One worker walks the same frames. Ports that NAT draws for masquerading
//! differ by nature (`--random-fully` draws; a worker draws until replies come to it): they are left out here.

#![allow(missing_docs, reason = "a test binary")]

use podpath::base::Rng;
use podpath::cli::workers::{Replica, Workers};
use podpath::cluster::Cluster;
use podpath::fast::BATCH;
use podpath::kube::manifest::Input;
use podpath::kube::store::Store;
use podpath::net::PortAt;
use podpath::path::NoTrace;
use podpath::sim::fast::FastPath;
use podpath::wire::{ETH_P_IP, Frame, MacAddr, build, proto};
use serde_json::json;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

const CLIENTS: u8 = 3;
const SERVERS: u8 = 4;
const TARGET: u16 = 7007;
const NODE_PORT: u16 = 30_007;
/// As the masquerading node is known.
const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 11);

/// Flannel's back end and kube-proxy's mode.
type Mode = (&'static str, &'static str);

/// Somebody who sends: where its frames come in and what they carry.
#[derive(Clone, Copy)]
struct End {
    ip: Ipv4Addr,
    mac: MacAddr,
    gateway: MacAddr,
    port: PortAt,
}

fn manifests((backend, proxy): Mode) -> String {
    let node = |n: u8| {
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("n{n}")},
            "spec": {"podCIDRs": [format!("10.244.{n}.0/24")]},
            "status": {"addresses": [{"type": "InternalIP", "address": format!("192.168.50.1{n}")}]}})
    };
    let pod = |app: &str, n: u8, ip: Ipv4Addr, node: u8| {
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("{app}-{n}"), "namespace": "default",
                "labels": {"app": app, "n": n.to_string()}},
            "spec": {"nodeName": format!("n{node}"), "containers": [{"name": "c", "image": "i"}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
                "podIP": ip, "podIPs": [{"ip": ip}]}})
    };
    let service = |n: u8| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("s{n}"), "namespace": "default"},
            "spec": {"type": "NodePort", "clusterIP": format!("10.96.0.{}", 10 + n),
                "clusterIPs": [format!("10.96.0.{}", 10 + n)], "selector": {"app": "server", "n": n.to_string()},
                "ports": [{"port": 7, "targetPort": TARGET, "protocol": "UDP",
                    "nodePort": NODE_PORT + u16::from(n)}]}})
    };
    let cluster = json!({"apiVersion": "podpath.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "t"},
        "spec": {"cni": {"plugin": "flannel", "backend": backend}, "podCIDRs": ["10.244.0.0/16"],
            "serviceCIDRs": ["10.96.0.0/16"], "proxy": {"mode": proxy},
            "underlay": {"cidr": "192.168.50.0/24"},
            "externalHosts": [{"name": "outside", "addresses": ["192.168.50.200/24"]}]}});
    let mut items = vec![cluster, node(1), node(2)];
    items.extend((0..CLIENTS).map(|n| pod("client", n, client(n), 1)));
    items.extend((0..SERVERS).map(|n| pod("server", n, server(n), 1 + n % 2)));
    items.extend((0..SERVERS).map(service));
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

fn client(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, 1, 10 + n)
}

fn server(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, 1 + n % 2, 100 + n)
}

fn cluster(mode: Mode) -> Cluster {
    let (store, findings) = Store::load(&[Input::new("t", manifests(mode))]);
    assert!(!findings.iter().any(|f| f.is_error()), "{findings:?}");
    Cluster::build(store, 7).0
}

fn end(c: &Cluster, ip: Ipv4Addr) -> End {
    let world = &c.lab.world;
    let ns = world.ns(c.owner_of(IpAddr::V4(ip)).unwrap()).unwrap();
    let eth = ns.devices().find(|d| d.name == "eth0").unwrap();
    let port = eth.peer.unwrap();
    let there = world.ns(port.ns).unwrap();
    let dev = there.dev(port.dev).unwrap();
    let node = world.spaces().iter().find(|n| n.name == "n1").unwrap();
    let gateway = match &dev.master {
        // The host outside sends to the node, by a bridge that joins the machines.
        _ if ip.octets()[0] == 192 => node.devices().find(|d| d.name == "eth0").unwrap().mac,
        Some((bridge, _)) => there.dev(*bridge).unwrap().mac,
        None => dev.mac,
    };
    End {
        ip,
        mac: eth.mac,
        gateway,
        port,
    }
}

fn ends(c: &Cluster) -> Vec<End> {
    let clients = (0..CLIENTS).map(client);
    let servers = (0..SERVERS).map(server);
    let all = clients
        .chain(servers)
        .chain([Ipv4Addr::new(192, 168, 50, 200)]);
    all.map(|ip| end(c, ip)).collect()
}

fn udp(from: &End, to: (Ipv4Addr, u16), sport: u16, payload: usize) -> Vec<u8> {
    let (a, b) = (IpAddr::V4(from.ip), IpAddr::V4(to.0));
    let l4 = build::udp(a, b, sport, to.1, &vec![0x5a; payload]);
    let packet = build::ip_packet(a, b, proto::UDP, 64, 0, 7, false, &l4);
    let mut f = Frame::ip(&packet);
    f.set_ethernet(from.gateway, from.mac, ETH_P_IP);
    f.data().to_vec()
}

/// The cluster with neighbours that know each other, and its fast path: every call gives the same.
fn built(mode: Mode) -> (Cluster, FastPath) {
    let mut c = cluster(mode);
    let ends = ends(&c);
    let world = &mut c.lab.world;
    // Each pod asks for its gateway and is asked for by its node; what is not answered at once is later.
    for round in 0..4u16 {
        for (i, a) in ends.iter().enumerate() {
            let to = ends[(i + 1) % ends.len()].ip;
            let far = ends[(i + 3) % ends.len()].ip;
            for (n, to) in [to, far].into_iter().enumerate() {
                let f = udp(a, (to, 9), 60_000 + round * 2 + n as u16, 4);
                world.arrive(a.port, Frame::ethernet(&f), &mut NoTrace);
                let until = world.now() + Duration::from_millis(20);
                world.run_until(until, &mut NoTrace);
            }
        }
    }
    world.take_deliveries();
    let edges = c
        .pods
        .values()
        .map(|p| p.ns)
        .chain(c.hosts.values().copied());
    let fast = FastPath::new(4096, edges).unwrap();
    (c, fast)
}

/// A frame that arrived: where, and its bytes.
type Got = (PortAt, Vec<u8>);

/// What was masqueraded: the node's own port, whatever it is, is no difference.
fn masqueraded(f: &[u8]) -> bool {
    f[14] == 0x45
        && f[23] == proto::UDP
        && (f[26..30] == NODE.octets() || f[26..30] == [10, 244, 1, 1])
        || f[26..30] == [10, 244, 1, 0]
}

fn plain(got: &[Got]) -> Vec<Got> {
    let clean = |(at, f): &Got| {
        let mut f = f.clone();
        if masqueraded(&f) {
            // The source port and the checksum over it.
            (f[34], f[35], f[40], f[41]) = (0, 0, 0, 0);
        }
        (*at, f)
    };
    got.iter().map(clean).collect()
}

/// A stream in steps; after each what arrived is answered by the next one.
struct Run {
    workers: Workers,
    ends: Vec<End>,
    rng: Rng,
    got: Vec<Got>,
}

impl Run {
    fn new(mode: Mode, of: u16) -> Run {
        let (c, _) = built(mode);
        let ends = ends(&c);
        let ports: Vec<PortAt> = ends.iter().map(|e| e.port).collect();
        let workers = Workers::start(of, &ports, Arc::new(move || Ok(built(mode)))).unwrap();
        Run {
            workers,
            ends,
            rng: Rng::new(5),
            got: Vec::new(),
        }
    }

    fn push(&mut self, from: usize, f: &[u8]) {
        let got = &mut self.got;
        let mut sink = |at: PortAt, f: &[u8]| got.push((at, f.to_vec()));
        self.workers.push(from as u16, f, &mut sink).unwrap();
    }

    fn flush(&mut self) {
        let got = &mut self.got;
        let mut sink = |at: PortAt, f: &[u8]| got.push((at, f.to_vec()));
        self.workers.flush(&mut sink).unwrap();
    }

    /// Frames of everybody; with `blind`, answers of servers come in the same window as what they answer.
    fn step(&mut self, frames: usize, blind: bool) {
        let outside = self.ends.len() - 1;
        for _ in 0..frames {
            let from = match self.rng.below(5) {
                0 => outside,
                n => n as usize % usize::from(CLIENTS),
            };
            let n = self.rng.below(SERVERS.into()) as u8;
            // Flows that NAT makes one would have to draw another port.
            let mut sport = 2000 + self.rng.below(40) as u16;
            let payload = self.rng.below(60) as usize;
            let client = self.ends[from];
            let (to, dnat) = match self.rng.below(4) {
                _ if from == outside => ((NODE, NODE_PORT + u16::from(n)), false),
                0 => {
                    sport += 1000;
                    ((server(n), TARGET), false)
                }
                _ => ((Ipv4Addr::new(10, 96, 0, 10 + n), 7), true),
            };
            let f = match self.rng.below(30) {
                0 => udp(&client, (server(n), 9), sport, payload)[..40].to_vec(),
                1 => asks(&client),
                _ => udp(&client, to, sport, payload),
            };
            for _ in 0..1 + self.rng.below(3) {
                self.push(from, &f);
            }
            if blind && dnat && f.len() >= 42 && f[23] == proto::UDP {
                let server = self.ends[usize::from(CLIENTS + n)];
                let answer = udp(&server, (client.ip, sport), TARGET, payload);
                self.push(usize::from(CLIENTS + n), &answer);
            }
        }
        self.flush();
    }

    /// Everybody answers what arrived; as many bytes.
    fn answer(&mut self) {
        for (at, f) in std::mem::take(&mut self.got) {
            let to = self
                .ends
                .iter()
                .position(|e| f.len() >= 42 && f[30..34] == e.ip.octets());
            let Some(i) = to.filter(|_| f[23] == proto::UDP) else {
                continue;
            };
            assert_ne!(at, self.ends[i].port);
            let word = |at: usize| u16::from_be_bytes([f[at], f[at + 1]]);
            let back = Ipv4Addr::new(f[26], f[27], f[28], f[29]);
            let answer = udp(&self.ends[i], (back, word(34)), word(36), f.len() - 42);
            self.push(i, &answer);
        }
        self.flush();
    }
}

/// A question for the gateway's address.
fn asks(from: &End) -> Vec<u8> {
    let gateway = Ipv4Addr::new(
        from.ip.octets()[0],
        from.ip.octets()[1],
        from.ip.octets()[2],
        1,
    );
    let mut f = vec![0xff; 6];
    f.extend(from.mac.0);
    f.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    f.extend(from.mac.0);
    f.extend(from.ip.octets());
    f.extend([0; 6]);
    f.extend(gateway.octets());
    f
}

/// The nodes' connections: the tuples of both directions, status, state and life, without the ports that NAT
/// drew.
fn connections(r: &mut Replica) -> Vec<(String, String)> {
    let world = &mut r.cluster.lab.world;
    r.fast.sync(world);
    let mut all = Vec::new();
    for ns in world.spaces() {
        let Some(nf) = ns.nf() else { continue };
        for (_, c) in nf.ct.iter() {
            let [mut orig, mut reply] = c.tuples();
            if orig.src == IpAddr::V4(NODE) {
                (orig.sport, reply.dport) = (0, 0);
            }
            if reply.dst != orig.src {
                reply.dport = 0;
            }
            let state = format!("{reply:?} {:?} {:?} {:?}", c.status, c.proto(), c.timeout());
            all.push((format!("{} {orig:?}", ns.name), state));
        }
    }
    all.sort();
    all
}

fn compare(mode: Mode, of: u16) {
    let (mut one, mut many) = (Run::new(mode, 1), Run::new(mode, of));
    // What was there before the workers began is in every replica.
    let before = one.workers.ask(connections).unwrap().remove(0);
    let before: BTreeSet<String> = before.into_iter().map(|(tuple, _)| tuple).collect();
    let made = |all: Vec<Vec<(String, String)>>| {
        let all = all
            .into_iter()
            .flatten()
            .filter(|(tuple, _)| !before.contains(tuple));
        let mut all: Vec<_> = all.collect();
        all.sort();
        all
    };
    for step in 0..12 {
        for run in [&mut one, &mut many] {
            run.step(3 * BATCH / 2, step % 3 == 2);
        }
        assert!(one.got.len() > BATCH);
        let at = plain(&one.got)
            .iter()
            .zip(&plain(&many.got))
            .position(|(a, b)| a != b);
        assert_eq!(
            at.map(|i| (&one.got[i], &many.got[i])),
            None,
            "{mode:?}, {of} workers, step {step}"
        );
        assert_eq!(one.got.len(), many.got.len());
        one.answer();
        many.answer();
        assert_eq!(
            plain(&one.got),
            plain(&many.got),
            "{mode:?}, {of} workers, answers of step {step}"
        );
        one.got.clear();
        many.got.clear();
    }
    if mode.0 == "vxlan" {
        // Nodes track what is between them: of two flows with one outer port the second is nothing new, unless
        // another worker has it. And the outer port follows from what NAT drew.
        return;
    }
    let (a, b) = (
        one.workers.counts().unwrap(),
        many.workers.counts().unwrap(),
    );
    let differ: Vec<_> = a
        .iter()
        .filter(|(ns, what, n)| b.get(*ns, what) != *n)
        .collect();
    let differ: Vec<_> = differ
        .iter()
        .map(|(ns, what, n)| (ns, what, *n, b.get(*ns, what)))
        .collect();
    assert!(
        differ.is_empty() && a == b,
        "{mode:?}, {of} workers: {differ:?}"
    );
    assert!(many.workers.exceptions() > 0);
    let own = made(one.workers.ask(connections).unwrap());
    let union = made(many.workers.ask(connections).unwrap());
    let at = own.iter().zip(&union).position(|(a, b)| a != b);
    assert_eq!(
        at.map(|i| (&own[i], &union[i])),
        None,
        "{mode:?}, {of} workers"
    );
    assert!(
        own.len() > 100 && own.len() == union.len(),
        "{} {}",
        own.len(),
        union.len()
    );
    let hits = many.workers.ask(|r| r.fast.stats().hits).unwrap();
    assert!(hits.iter().all(|h| *h > 0), "{hits:?}");
}

#[test]
fn two_workers_are_one() {
    compare(("host-gw", "iptables"), 2);
}

#[test]
fn three_workers_are_one() {
    compare(("host-gw", "iptables"), 3);
}

#[test]
fn workers_of_nftables_are_one() {
    compare(("host-gw", "nftables"), 2);
}

#[test]
fn workers_of_an_overlay_deliver_the_same() {
    compare(("vxlan", "iptables"), 2);
}

#[test]
fn a_worker_that_cannot_begin_is_an_error() {
    let build = || anyhow::bail!("no cluster today");
    let started = Workers::start(2, &[], Arc::new(build));
    assert_eq!(
        started.err().map(|e| e.to_string()).as_deref(),
        Some("no cluster today")
    );
}
