//! A cluster of policy vectors' objects, and single connections tried in it with real frames.
//!
//! No sockets: the first packet of a connection is built, sent by the sender's namespace through the walker, and
//! answered by whoever got it; a connection is allowed when the answer comes back. Everything happens at one
//! moment of virtual time, so that a refused connection costs no timers.

use podpath::base::{Finding, NsId, Origin, Span};
use podpath::cluster::{Cluster, run_command};
use podpath::kube::manifest::Input;
use podpath::kube::store::{Name, Store};
use podpath::net::{Binding, SocketId};
use podpath::path::{Disposition, NoTrace, Observer, Place};
use podpath::wire::{Frame, IpHeader, build, proto};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The first client port; each connection takes the next one.
const CLIENT: u16 = 20_000;
/// The external host that has all addresses from outside.
const OUTSIDE: &str = "outside";

/// Who sends or gets.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum End {
    /// `ns/pod`, with the family wanted.
    Pod(String, String),
    /// A process of a node.
    Node(String),
    /// An address that nobody in the cluster has.
    Outside(IpAddr),
    /// A Service's ClusterIP.
    Service(String, String),
    /// A node's port.
    NodePort(String),
}

impl End {
    /// As a vector's row has it.
    pub fn read(text: &str) -> Result<End, String> {
        let two = |t: &str| {
            t.split_once('/')
                .map(|(a, b)| (a.to_owned(), b.to_owned()))
                .ok_or(format!("{text}: no name"))
        };
        if let Some(rest) = text.strip_prefix("svc:") {
            return two(rest).map(|(ns, name)| End::Service(ns, name));
        }
        if let Some(rest) = text.strip_prefix("nodeport:") {
            let node = rest.split(':').next().unwrap_or_default();
            return Ok(End::NodePort(node.to_owned()));
        }
        if let Some(rest) = text.strip_prefix("node:") {
            return Ok(End::Node(rest.to_owned()));
        }
        match text.parse() {
            Ok(ip) => Ok(End::Outside(ip)),
            Err(_) => two(text).map(|(ns, name)| End::Pod(ns, name)),
        }
    }
}

/// One connection that is tried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Try {
    /// Who opens it.
    pub from: End,
    /// Whom to.
    pub to: End,
    /// TCP, UDP or SCTP.
    pub proto: u8,
    /// The port as the client names it.
    pub port: u16,
    /// IPv6 instead of IPv4.
    pub v6: bool,
}

impl Try {
    /// A row of a vector's `expected`, and what it expects.
    pub fn read(row: &Value) -> Result<(Try, bool), String> {
        let end = |key: &str| End::read(row[key].as_str().unwrap_or_default());
        let proto = match row["protocol"].as_str() {
            Some("TCP") => proto::TCP,
            Some("UDP") => proto::UDP,
            Some("SCTP") => proto::SCTP,
            other => return Err(format!("protocol {other:?}")),
        };
        let port = row["port"].as_u64().and_then(|p| u16::try_from(p).ok());
        let allowed = row["allowed"].as_bool().ok_or("no verdict")?;
        let t = Try {
            from: end("from")?,
            to: end("to")?,
            proto,
            port: port.ok_or("no port")?,
            v6: row["family"] == 6,
        };
        Ok((t, allowed))
    }
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Came {
    /// The answer came back.
    Back,
    /// It ended there: namespace and how.
    Ended(String),
}

/// The world, its addresses, and which ports answer.
pub struct PolicyWorld {
    /// The cluster.
    pub cluster: Cluster,
    /// What building it said.
    pub findings: Vec<Finding>,
    bound: BTreeSet<(NsId, u8, u16)>,
    next: u16,
    serving: BTreeSet<(u8, u16)>,
}

/// Where frames ended that did not arrive.
#[derive(Default)]
struct Ends(Vec<String>);

impl Observer for Ends {
    const TRACING: bool = false;
    fn end(&mut self, at: Place<'_>, _: &Frame, how: &Disposition) {
        if !matches!(how, Disposition::Delivered(_)) {
            self.0.push(format!("{}: {how:?}", at.ns.name));
        }
    }
}

impl PolicyWorld {
    /// Builds the cluster of `manifests` under the Cluster document's `spec` (pod ranges and the host that
    /// stands for everything outside are added); `tries` say who is needed.
    pub fn build(manifests: &[Value], spec: &Value, tries: &[Try]) -> Result<PolicyWorld, String> {
        let text = objects(manifests, spec, tries);
        let (store, mut findings) = Store::load(&[Input::new("case.json", text)]);
        let (mut cluster, found) = Cluster::build(store, 1);
        findings.extend(found);
        route_outside(&mut cluster)?;
        cluster
            .lab
            .world
            .run_until(podpath::base::Instant::from_secs(1), &mut NoTrace);
        findings.extend(cluster.advance_proxies());
        cluster.lab.world.take_deliveries();
        let mut w = PolicyWorld {
            cluster,
            findings,
            bound: BTreeSet::new(),
            next: CLIENT,
            serving: BTreeSet::new(),
        };
        for t in tries {
            w.serve(t.proto, t.port);
        }
        for (proto, port) in listed(manifests) {
            w.serve(proto, port);
        }
        Ok(w)
    }

    /// Everybody answers on this port from now on.
    pub fn serve(&mut self, proto: u8, port: u16) {
        if !self.serving.insert((proto, port)) {
            return;
        }
        let all: BTreeSet<NsId> = self.everybody();
        for ns in all {
            self.bind(ns, proto, port);
        }
    }

    /// Leaves the port to programs of the lab.
    pub fn hand_over(&mut self, proto: u8, port: u16) {
        for ns in self.everybody() {
            self.unbind(ns, proto, port, true);
        }
    }

    fn everybody(&self) -> BTreeSet<NsId> {
        let c = &self.cluster;
        let pods = c.pods.values().map(|p| p.ns);
        let nodes = c.nodes.values().map(|n| n.ns);
        pods.chain(nodes).chain(c.hosts.values().copied()).collect()
    }

    fn bind(&mut self, ns: NsId, proto: u8, port: u16) {
        if !self.bound.insert((ns, proto, port)) {
            return;
        }
        let binding = Binding {
            proto,
            port,
            local: None,
            remote: None,
        };
        if let Some(space) = self.cluster.lab.world.ns_mut(ns) {
            // A socket that is there already answers as well.
            let _ = space.sockets_mut().bind(binding, SocketId(u32::from(port)));
        }
    }

    /// An end's namespace and address.
    pub fn place(&self, end: &End, v6: bool) -> Result<(NsId, IpAddr), String> {
        let c = &self.cluster;
        let of_family = |mut ips: &mut dyn Iterator<Item = IpAddr>| {
            Iterator::find(&mut ips, |ip| ip.is_ipv6() == v6)
        };
        match end {
            End::Pod(ns, name) => {
                let p = c.pods.get(&Name::new(ns.as_str(), name.as_str()));
                let p = p.ok_or(format!("no pod {ns}/{name}"))?;
                let ip = of_family(&mut p.ips.iter().copied());
                Ok((p.ns, ip.ok_or(format!("{ns}/{name} has no address"))?))
            }
            End::Node(name) | End::NodePort(name) => {
                let n = c.nodes.get(name).ok_or(format!("no node {name}"))?;
                let ip = of_family(&mut n.addresses.iter().map(|a| a.ip()));
                Ok((n.ns, ip.ok_or(format!("{name} has no address"))?))
            }
            End::Outside(ip) => Ok((*c.hosts.get(OUTSIDE).ok_or("no outside")?, *ip)),
            End::Service(ns, name) => {
                let s = c
                    .desired
                    .services
                    .get(&Name::new(ns.as_str(), name.as_str()));
                let s = s.ok_or(format!("no Service {ns}/{name}"))?;
                let ips = s.spec.iter().flat_map(|s| s.cluster_ips.iter().flatten());
                let ip = of_family(&mut ips.filter_map(|ip| ip.parse().ok()));
                let ip = ip.ok_or(format!("{ns}/{name} has no ClusterIP"))?;
                Ok((*c.hosts.get(OUTSIDE).ok_or("no outside")?, ip))
            }
        }
    }

    /// Tries one connection.
    pub fn attempt(&mut self, t: &Try) -> Result<Came, String> {
        self.serve(t.proto, t.port);
        // A row names a family, or an address of it.
        let outside = |e: &End| matches!(e, End::Outside(ip) if ip.is_ipv6());
        let v6 = t.v6 || outside(&t.from) || outside(&t.to);
        let (ns, src) = self.place(&t.from, v6)?;
        let (_, dst) = self.place(&t.to, v6)?;
        self.next = if self.next == u16::MAX {
            CLIENT
        } else {
            self.next + 1
        };
        let sport = self.next;
        self.bind(ns, t.proto, sport);
        let packet = opening(src, dst, t.proto, sport, t.port);
        let mut ends = Ends::default();
        let got = self.send(ns, &packet, &mut ends);
        self.unbind(ns, t.proto, sport, got.is_none());
        let Some((at, asked)) = got else {
            return Ok(Came::Ended(ends.0.join("; ")));
        };
        self.bind(ns, t.proto, sport);
        let back = answer(&asked).ok_or("an answer to nothing")?;
        let mut ends = Ends::default();
        let got = self.send(at, &back, &mut ends);
        self.unbind(ns, t.proto, sport, true);
        Ok(match got {
            Some((at, _)) if at == ns => Came::Back,
            Some((at, _)) => Came::Ended(format!("the answer went to {at:?}")),
            None => Came::Ended(format!("the answer: {}", ends.0.join("; "))),
        })
    }

    fn unbind(&mut self, ns: NsId, proto: u8, port: u16, really: bool) {
        if !really || !self.bound.remove(&(ns, proto, port)) {
            return;
        }
        let binding = Binding {
            proto,
            port,
            local: None,
            remote: None,
        };
        if let Some(space) = self.cluster.lab.world.ns_mut(ns) {
            space.sockets_mut().unbind(&binding);
        }
    }

    /// Sends, lets what follows at this moment happen, and says who got it.
    fn send(&mut self, ns: NsId, packet: &[u8], ends: &mut Ends) -> Option<(NsId, Vec<u8>)> {
        let world = &mut self.cluster.lab.world;
        if let Err(e) = world.send(ns, packet, None, ends).1 {
            ends.0.push(format!("{e:?}"));
        }
        let now = world.now();
        world.run_until(now, ends);
        let got = world.take_deliveries();
        got.into_iter()
            .find(|d| !is_icmp(d.packet.l3()))
            .map(|d| (d.ns, d.packet.l3().to_vec()))
    }
}

/// The outside knows every pod's node, as a router that hears the nodes' announcements does.
fn route_outside(cluster: &mut Cluster) -> Result<(), String> {
    let Some(outside) = cluster.hosts.get(OUTSIDE).copied() else {
        return Ok(());
    };
    let mut lines = Vec::new();
    for p in cluster.pods.values().filter(|p| !p.host_network) {
        let node = cluster.nodes.get(&p.node).ok_or("a pod without a node")?;
        for ip in &p.ips {
            let via = node.addresses.iter().find(|a| a.is_ipv4() == ip.is_ipv4());
            let (six, len) = if ip.is_ipv4() { ("", 32) } else { ("-6 ", 128) };
            let line = |via: IpAddr| format!("ip {six}route add {ip}/{len} via {via}");
            lines.extend(via.map(|via| line(via.ip())));
        }
    }
    let at = Span::new("outside", 0, 0);
    for line in lines {
        let origin = Origin::Scenario("outside".into());
        run_command(cluster, outside, &line, &at, origin).map_err(|f| f.to_string())?;
    }
    Ok(())
}

fn is_icmp(p: &[u8]) -> bool {
    let h = IpHeader::parse_lax(p);
    h.is_ok_and(|h| matches!(h.proto, proto::ICMP | proto::ICMPV6))
}

/// The ports that containers and Services name.
fn listed(manifests: &[Value]) -> BTreeSet<(u8, u16)> {
    let mut out = BTreeSet::new();
    let mut add = |port: &Value, key: &str| {
        let proto = match port["protocol"].as_str() {
            Some("UDP") => proto::UDP,
            Some("SCTP") => proto::SCTP,
            _ => proto::TCP,
        };
        let number = port[key].as_u64().and_then(|p| u16::try_from(p).ok());
        out.extend(number.map(|n| (proto, n)));
    };
    for m in manifests {
        for c in m["spec"]["containers"].as_array().into_iter().flatten() {
            for p in c["ports"].as_array().into_iter().flatten() {
                add(p, "containerPort");
            }
        }
        for p in m["spec"]["ports"].as_array().into_iter().flatten() {
            add(p, "targetPort");
            add(p, "port");
        }
    }
    out
}

/// The input: the objects, nodes that only pods name, and the Cluster document.
fn objects(manifests: &[Value], spec: &Value, tries: &[Try]) -> String {
    let mut items: Vec<Value> = manifests.to_vec();
    let kind = |v: &Value, k: &str| v["kind"] == k;
    let mut named: BTreeMap<String, bool> = BTreeMap::new();
    for m in manifests.iter().filter(|m| kind(m, "Pod")) {
        if let Some(n) = m["spec"]["nodeName"].as_str() {
            named.insert(n.to_owned(), false);
        }
    }
    for m in manifests.iter().filter(|m| kind(m, "Node")) {
        named.insert(
            m["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            true,
        );
    }
    for (name, there) in &named {
        if !there {
            items.push(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}));
        }
    }
    let six = |m: &Value| m["status"]["podIPs"].to_string().contains("::");
    let dual = items.iter().any(|m| kind(m, "Pod") && six(m));
    if dual {
        give_nodes_ipv6(&mut items);
    }
    let addresses = |m: &Value| -> Vec<String> {
        let all = m["status"]["podIPs"].as_array().into_iter().flatten();
        all.filter_map(|i| i["ip"].as_str().map(str::to_owned))
            .collect()
    };
    let pods = manifests
        .iter()
        .filter(|m| kind(m, "Pod") && m["spec"]["hostNetwork"] != true);
    let mut pools = BTreeSet::new();
    for ip in pods.flat_map(addresses) {
        let cidr = match ip.parse::<IpAddr>() {
            Ok(IpAddr::V4(a)) => format!("{}.{}.0.0/16", a.octets()[0], a.octets()[1]),
            Ok(IpAddr::V6(a)) => format!(
                "{:x}:{:x}:{:x}::/48",
                a.segments()[0],
                a.segments()[1],
                a.segments()[2]
            ),
            Err(_) => continue,
        };
        pools.insert(cidr);
    }
    let mut outside: BTreeSet<IpAddr> = BTreeSet::new();
    for t in tries {
        for end in [&t.from, &t.to] {
            if let End::Outside(ip) = end {
                outside.insert(*ip);
            }
        }
    }
    items.push(cluster_document(spec, &pools, &outside, manifests));
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

/// Nodes without an IPv6 address get one: a cluster with IPv6 pods has them.
fn give_nodes_ipv6(items: &mut [Value]) {
    let nodes = items.iter_mut().filter(|m| m["kind"] == "Node");
    for (n, node) in nodes.enumerate() {
        let mut all = node["status"]["addresses"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let v6 = |a: &Value| a["address"].as_str().is_some_and(|a| a.contains(':'));
        if all.is_empty() || all.iter().any(v6) {
            continue;
        }
        all.push(json!({"type": "InternalIP", "address": format!("fd01::{}", n + 2)}));
        node["status"]["addresses"] = json!(all);
    }
}

/// The Cluster document: pools with one address a block, so that an address that no pod has is not swallowed
/// by a block's blackhole route; the outside as one host that the underlay's router leads to.
fn cluster_document(
    spec: &Value,
    pools: &BTreeSet<String>,
    outside: &BTreeSet<IpAddr>,
    manifests: &[Value],
) -> Value {
    let mut spec = spec.clone();
    let pools_of = |p: &String| {
        let v6 = p.contains(':');
        json!({"cidr": p, "blockSize": if v6 { 122 } else { 32 }, "ipipMode": "Never"})
    };
    spec["cni"]["ipPools"] = pools.iter().map(pools_of).collect();
    let nodes = manifests.iter().filter(|m| m["kind"] == "Node");
    let node = nodes
        .flat_map(|n| {
            n["status"]["addresses"]
                .as_array()
                .cloned()
                .unwrap_or_default()
        })
        .filter_map(|a| a["address"].as_str().and_then(|a| a.parse::<IpAddr>().ok()))
        .find(|a| a.is_ipv4());
    let base = match node {
        Some(IpAddr::V4(a)) => [a.octets()[0], a.octets()[1], a.octets()[2]],
        _ => [192, 0, 2],
    };
    let net = format!("{}.{}.{}", base[0], base[1], base[2]);
    spec["underlay"]["cidr"] = json!(format!("{net}.0/24"));
    let mut host: Vec<String> = vec![format!("{net}.253/24"), "fd01::fd/64".to_owned()];
    host.extend(outside.iter().map(|ip| {
        if ip.is_ipv4() {
            format!("{ip}/32")
        } else {
            format!("{ip}/128")
        }
    }));
    spec["externalHosts"] = json!([{"name": OUTSIDE, "addresses": host, "gateway": format!("{net}.1"),
        "routes": []}]);
    let routes: Vec<String> = outside
        .iter()
        .map(|ip| match ip.is_ipv4() {
            true => format!("{ip}/32 via {net}.253"),
            false => format!("{ip}/128 via fd01::fd"),
        })
        .collect();
    spec["underlay"]["routes"] = json!(routes);
    json!({"apiVersion": "podpath.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "case"}, "spec": spec})
}

/// The first packet of a connection.
pub fn opening(src: IpAddr, dst: IpAddr, proto: u8, sport: u16, dport: u16) -> Vec<u8> {
    let ports = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
    let rest: Vec<u8> = match proto {
        proto::TCP => vec![0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xfa, 0xf0, 0, 0, 0, 0],
        proto::UDP => vec![0, 12, 0, 0, 1, 2, 3, 4],
        // INIT: tag 0, window, streams, sequence number.
        _ => [
            &[0; 8][..],
            &[1, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1],
        ]
        .concat(),
    };
    packet(src, dst, proto, [ports, rest].concat())
}

/// The answer to it: SYN and ACK, a datagram, INIT ACK.
pub fn answer(asked: &[u8]) -> Option<Vec<u8>> {
    let h = IpHeader::parse_lax(asked).ok()?;
    let l4 = h.payload(asked);
    let ports = [l4.get(2..4)?, l4.get(..2)?].concat();
    let rest: Vec<u8> = match h.proto {
        proto::TCP => vec![0, 0, 0, 9, 0, 0, 0, 2, 0x50, 0x12, 0xfa, 0xf0, 0, 0, 0, 0],
        proto::UDP => vec![0, 12, 0, 0, 4, 3, 2, 1],
        // INIT ACK under the tag that INIT named, with a cookie.
        _ => [
            &[0, 0, 0, 1, 0, 0, 0, 0][..],
            &[2, 0, 0, 28, 0, 0, 0, 2, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1],
            &[0, 7, 0, 8, 1, 2, 3, 4],
        ]
        .concat(),
    };
    Some(packet(h.dst, h.src, h.proto, [ports, rest].concat()))
}

/// An IP packet around an upper-layer packet whose checksum, or CRC-32c, is filled in.
pub fn packet(src: IpAddr, dst: IpAddr, proto: u8, mut l4: Vec<u8>) -> Vec<u8> {
    let at = match proto {
        proto::TCP => Some(16),
        proto::UDP => Some(6),
        _ => None,
    };
    match at {
        Some(at) => {
            let sum = pseudo(src, dst, proto, &l4);
            l4[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        None => {
            let sum = crc32c(&l4).to_le_bytes();
            l4[8..12].copy_from_slice(&sum);
        }
    }
    build::ip_packet(src, dst, proto, 64, 0, 1, true, &l4)
}

fn pseudo(src: IpAddr, dst: IpAddr, proto: u8, l4: &[u8]) -> u16 {
    let octets = |a: IpAddr| match a {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    };
    let all = [octets(src), octets(dst), l4.to_vec()].concat();
    let start = u32::from(proto) + l4.len() as u32;
    let mut sum = all.chunks(2).fold(start, |s, c| {
        s + u32::from(u16::from_be_bytes([c[0], *c.get(1).unwrap_or(&0)]))
    });
    while sum >> 16 != 0 {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    !(sum as u16)
}

fn crc32c(b: &[u8]) -> u32 {
    !b.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| {
            (c >> 1) ^ (0x82F6_3B78 & (c & 1).wrapping_neg())
        })
    })
}
