//! The scenario's wiring: interfaces, cables, bridges, and who shares a link with whom.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::scenario::{Device, End, Scenario};
use podpath::wire::MacAddr;

/// An interface: namespace and device.
pub type Port = (String, String);

/// Roles whose kernels are not emulated: their frames are the recording's.
const ENDPOINTS: [&str; 3] = ["pod", "host", "router"];

/// The wiring of one scenario.
pub struct Topo<'a> {
    /// The scenario.
    pub scenario: &'a Scenario,
    /// Every interface's common part.
    pub ends: BTreeMap<Port, &'a End>,
    /// Cables, both ways.
    pub peers: BTreeMap<Port, Port>,
    /// Bridges, tunnels, dummies by interface.
    pub devices: BTreeMap<Port, &'a Device>,
    /// Link addresses, from the scenario or, where it names none, from the recording's dumps.
    pub macs: BTreeMap<Port, MacAddr>,
}

/// A neighbour on a link.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Member {
    /// Its address.
    pub ip: IpAddr,
    /// Its link address.
    pub mac: MacAddr,
}

fn port(e: &End) -> Port {
    (e.ns.clone(), e.dev.clone())
}

impl<'a> Topo<'a> {
    /// Reads the wiring; `dump` finds the text of `dumps/NS/ip-addr.txt`.
    pub fn new(scenario: &'a Scenario, dump: impl Fn(&str) -> Option<String>) -> Self {
        let mut t = Topo {
            scenario,
            ends: BTreeMap::new(),
            peers: BTreeMap::new(),
            devices: BTreeMap::new(),
            macs: BTreeMap::new(),
        };
        for l in &scenario.links {
            t.ends.insert(port(&l.a), &l.a);
            t.ends.insert(port(&l.b), &l.b);
            t.peers.insert(port(&l.a), port(&l.b));
            t.peers.insert(port(&l.b), port(&l.a));
        }
        for d in &scenario.devices {
            t.ends.insert(port(&d.end), &d.end);
            t.devices.insert(port(&d.end), d);
        }
        for (p, e) in &t.ends {
            let named = e.mac.as_ref().and_then(|m| m.parse().ok());
            let dumped = || dump(&p.0).and_then(|text| dumped_mac(&text, &p.1));
            if let Some(mac) = named.or_else(dumped) {
                t.macs.insert(p.clone(), mac);
            }
        }
        t
    }

    /// Whether the namespace's kernel is emulated.
    pub fn emulated(&self, ns: &str) -> bool {
        !self
            .scenario
            .netns
            .get(ns)
            .is_some_and(|n| ENDPOINTS.contains(&n.role.as_str()))
    }

    /// Whether the recording has the frames of an interface (`capture` of the scenario).
    pub fn captured(&self, p: &Port) -> bool {
        let name = format!("{}.{}", p.0, p.1);
        match self.scenario.rest.get("capture") {
            Some(serde_json::Value::Array(list)) => list.iter().any(|v| v.as_str() == Some(&name)),
            Some(v) => {
                let skipped = v
                    .get("exclude")
                    .and_then(|e| e.as_array())
                    .into_iter()
                    .flatten();
                !skipped
                    .filter_map(|x| x.as_str())
                    .any(|x| name.starts_with(x))
            }
            None => true,
        }
    }

    /// The ports of a bridge.
    pub fn ports(&self, bridge: &Port) -> Vec<Port> {
        let of =
            |(p, e): &(&Port, &&End)| p.0 == bridge.0 && e.master.as_deref() == Some(&bridge.1);
        self.ends
            .iter()
            .filter(of)
            .map(|(p, _)| p.clone())
            .collect()
    }

    /// Everybody else on the link of a layer 3 interface.
    pub fn members(&self, of: &Port) -> BTreeSet<Member> {
        let (mut seen, mut todo, mut out) =
            (BTreeSet::from([of.clone()]), Vec::new(), BTreeSet::new());
        self.neighbours(of, &mut todo);
        while let Some(p) = todo.pop() {
            if seen.insert(p.clone()) {
                out.extend(self.own(&p));
                self.neighbours(&p, &mut todo);
            }
        }
        out
    }

    /// The link addresses reachable out of a bridge port.
    pub fn behind(&self, at: &Port) -> BTreeSet<MacAddr> {
        let (mut seen, mut out) = (BTreeSet::from([at.clone()]), BTreeSet::new());
        let mut todo: Vec<Port> = self.peers.get(at).cloned().into_iter().collect();
        while let Some(p) = todo.pop() {
            if seen.insert(p.clone()) {
                out.extend(self.macs.get(&p));
                self.neighbours(&p, &mut todo);
            }
        }
        out
    }

    /// What is one step away at layer 2: cable, bridge, bridge ports, the same VXLAN network.
    fn neighbours(&self, p: &Port, todo: &mut Vec<Port>) {
        todo.extend(self.peers.get(p).cloned());
        if let Some(master) = self.ends.get(p).and_then(|e| e.master.clone()) {
            todo.push((p.0.clone(), master));
        }
        match self.devices.get(p) {
            Some(d) if d.kind == "bridge" => todo.extend(self.ports(p)),
            Some(d) if d.kind == "vxlan" => {
                let same = |(_, x): &(&Port, &&Device)| x.kind == "vxlan" && x.id == d.id;
                todo.extend(self.devices.iter().filter(same).map(|(p, _)| p.clone()));
            }
            _ => {}
        }
    }

    /// A namespace's own addresses, the loopback ones included.
    pub fn addresses(&self, ns: &str) -> Vec<IpAddr> {
        let here = self.ends.keys().filter(|p| p.0 == ns);
        let own = here.flat_map(|p| self.own(p)).map(|m| m.ip);
        let loopback = [
            IpAddr::from([127, 0, 0, 1]),
            IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        ];
        own.chain(loopback).collect()
    }

    /// An interface's own addresses: configured ones, those added by `ip` lines, and the link-local one.
    fn own(&self, p: &Port) -> Vec<Member> {
        let (Some(mac), Some(end)) = (self.macs.get(p), self.ends.get(p)) else {
            return Vec::new();
        };
        let ns = self.scenario.netns.get(&p.0);
        let lines = ns.into_iter().flat_map(|n| &n.ip).filter_map(|l| {
            let mut w = l.split_whitespace();
            let add = w.next()? == "addr" && w.next()? == "add";
            let net = w.next()?;
            (add && l.contains(&format!("dev {}", p.1))).then_some(net)
        });
        let nets = end.addr.iter().map(String::as_str).chain(lines);
        let ips = nets.filter_map(|a| a.split('/').next()?.parse::<IpAddr>().ok());
        let local = ns
            .is_some_and(|n| n.ipv6)
            .then(|| IpAddr::V6(mac.link_local()));
        ips.chain(local)
            .map(|ip| Member { ip, mac: *mac })
            .collect()
    }
}

/// The link address of a device in the output of `ip addr`.
fn dumped_mac(text: &str, dev: &str) -> Option<MacAddr> {
    let mut lines = text.lines().skip_while(|l| {
        let name = l.split(": ").nth(1).and_then(|n| n.split('@').next());
        l.starts_with(' ') || name != Some(dev)
    });
    lines.next()?;
    let link = lines.next()?.trim_start().strip_prefix("link/ether ")?;
    link.split_whitespace().next()?.parse().ok()
}
