//! One of two equal worlds, and everything that is to be equal in them.

use crate::traffic;
use podpath::base::{NsId, Span};
use podpath::cluster::{Cluster, run_command};
use podpath::fast::{Batch, Fate};
use podpath::ipvs::text::Show;
use podpath::net::{NetNs, PortAt};
use podpath::nf::Family;
use podpath::path::NoTrace;
use podpath::report::show::{ipvs, netfilter};
use podpath::sim::fast::FastPath;
use podpath::wire::{ETH_P_ARP, Frame, MacAddr};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// A sender as the fast path sees it: a pod, or a host outside.
#[derive(Clone)]
pub struct End {
    pub ns: NsId,
    pub ip: Ipv4Addr,
    pub v6: Option<Ipv6Addr>,
    pub mac: MacAddr,
    /// Where its frames come in.
    pub host: PortAt,
    /// The MAC of its gateway.
    pub gateway: MacAddr,
    /// Its node's other pods are on the same bridge.
    pub bridged: bool,
    /// It is a host outside: it knows the nodes' MACs.
    pub outside: bool,
}

pub struct Side {
    pub cluster: Cluster,
    pub fast: FastPath,
    pub ends: Vec<End>,
    /// Frames carried by entries, by protocol.
    pub hits: BTreeMap<String, u64>,
    /// Frames that reached pods, in order.
    pub got: Vec<(NsId, Vec<u8>)>,
    /// Lines that take back what edits did.
    pub undo: Vec<(NsId, String)>,
}

fn v4_of(ips: &[IpAddr]) -> Option<Ipv4Addr> {
    ips.iter().find_map(|ip| match ip {
        IpAddr::V4(ip) => Some(*ip),
        IpAddr::V6(_) => None,
    })
}

fn v6_of(ips: &[IpAddr]) -> Option<Ipv6Addr> {
    ips.iter().find_map(|ip| match ip {
        IpAddr::V6(ip) => Some(*ip),
        IpAddr::V4(_) => None,
    })
}

/// All pods, and the hosts outside.
pub fn ends(c: &Cluster) -> Vec<End> {
    let world = &c.lab.world;
    let own = c.pod_ends().into_iter().filter_map(|e| {
        Some(End {
            ns: e.ns,
            ip: v4_of(&e.ips)?,
            v6: v6_of(&e.ips),
            mac: e.mac,
            host: e.port,
            gateway: e.gateway,
            bridged: e.bridged,
            outside: false,
        })
    });
    let mut ends: Vec<End> = own.collect();
    let first = c.nodes.values().next().map(|n| n.uplink);
    let mac = |at: PortAt| world.ns(at.ns).unwrap().dev(at.dev).unwrap().mac;
    for ns in c.hosts.values() {
        let devices = world.ns(*ns).unwrap().devices();
        let Some(eth) = devices.into_iter().find(|d| d.peer.is_some()) else {
            continue;
        };
        let own = c.addresses(*ns);
        let (Some(ip), Some(node)) = (v4_of(&own), first) else {
            continue;
        };
        ends.push(End {
            ns: *ns,
            ip,
            v6: own.iter().find_map(|ip| match ip {
                IpAddr::V6(ip) if !ip.is_unicast_link_local() => Some(*ip),
                _ => None,
            }),
            mac: eth.mac,
            host: eth.peer.unwrap(),
            gateway: mac(node),
            bridged: false,
            outside: true,
        });
    }
    ends
}

/// The cache's own, hints of when to look again, room to work in, and numbers of frames.
const OWN: [&str; 14] = [
    "paths: [",
    "stack: [",
    "soonest: ",
    "now: ",
    "ended: [",
    "id: FrameId(",
    "root: FrameId(",
    "parent: ",
    "noted: {",
    "met: ",
    "strangers: Strangers {",
    "known: {",
    "surprises: ",
    "recall: ",
];

impl Side {
    pub fn new(cluster: Cluster, compiled: bool, flows: usize) -> Side {
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
            undo: Vec::new(),
        }
    }

    /// Sends frames of one pod.
    pub fn send(&mut self, from: usize, frames: &[Vec<u8>]) {
        let all: Vec<_> = frames.iter().map(|f| (from, f.clone())).collect();
        self.send_all(&all);
    }

    /// Sends frames of several, in one batch.
    pub fn send_all(&mut self, frames: &[(usize, Vec<u8>)]) {
        let mut batch = Batch::new();
        for (from, f) in frames {
            let port = self.fast.port(self.ends[*from].host).unwrap();
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

    /// Time passes; frames that were on their way arrive.
    pub fn pass(&mut self, by: Duration) {
        let world = &mut self.cluster.lab.world;
        let until = world.now() + by;
        self.fast.advance(world, until, &mut NoTrace);
        for d in world.take_deliveries() {
            self.got.push((d.ns, d.packet.data().to_vec()));
        }
        if self.cluster.next_sync().is_some_and(|t| t <= until) {
            self.fast.sync(&mut self.cluster.lab.world);
            self.cluster.advance_proxies();
        }
    }

    /// Runs a command line in a namespace; the kernel may refuse it, in both worlds alike.
    pub fn command(&mut self, ns: NsId, line: &str) -> bool {
        self.fast.sync(&mut self.cluster.lab.world);
        let at = Span::new("edit", 1, 1);
        if line.starts_with("ipset ") {
            let world = &mut self.cluster.lab.world;
            let (words, now) = (line.split(' ').collect::<Vec<_>>(), world.now());
            let done = world.edit(ns, |e| e.netfilter().sets.command(&words, now));
            return done.is_some_and(|done| done.is_ok());
        }
        let done = run_command(&mut self.cluster, ns, line, &at, Default::default());
        if let (Err(e), Some(_)) = (&done, std::env::var_os("PODPATH_TALK")) {
            println!("{e:?}");
        }
        done.is_ok()
    }

    /// Everything that the namespaces hold.
    pub fn state(&mut self) -> Vec<String> {
        let world = &mut self.cluster.lab.world;
        self.fast.sync(world);
        let now = world.now();
        let show = |ns: &NetNs| {
            let mut ns = ns.clone();
            if ns.ipvs().is_some() {
                // Its timers run when a packet comes by; those of packets that were carried had none to run.
                let dropped = ns.ipvs_change(|vs| {
                    vs.expire(now);
                    vs.take_dropped()
                });
                let ct = &mut ns.nf_mut().ct;
                for tuple in dropped {
                    let found = ct.find(&tuple, 0).map(|(id, _)| id);
                    found.into_iter().for_each(|id| ct.kill(id));
                }
                ct.end_walk();
            }
            let mut text = without_own(&format!("{ns:#?}"));
            for family in [Family::V4, Family::V6] {
                text += &netfilter::rules(&ns, family, None, true);
            }
            text += &netfilter::native(&ns, now, false);
            text += &netfilter::sets(&ns, now);
            text += &netfilter::connections(&ns, now, &|_| true);
            for show in [Show::Stats, Show::Rate, Show::Conns] {
                text += &ipvs::text(&ns, ipvs::Listing::Show(show), now);
            }
            text
        };
        world.spaces().iter().map(show).collect()
    }
}

fn without_own(all: &str) -> String {
    let (mut text, mut until) = (String::new(), None);
    for line in all.lines() {
        let l = line.trim_start();
        let indent = line.len() - l.len();
        if let Some(end) = until {
            if indent == end && matches!(l, "]," | ")," | "},") {
                until = None;
            }
        } else if OWN.iter().any(|w| l.starts_with(w)) {
            until = l.ends_with(['[', '(', '{']).then_some(indent);
        } else {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// Both hold the same.
pub fn same(fast: &mut Side, slow: &mut Side, at: &str) {
    for (a, b) in fast.state().iter().zip(&slow.state()) {
        if a != b {
            let lines = a.lines().zip(b.lines());
            let line = lines.clone().position(|(x, y)| x != y).unwrap_or(0);
            let part = |s: &str| {
                let lines = s.lines().skip(line.saturating_sub(30)).take(40);
                lines.collect::<Vec<_>>().join("\n")
            };
            let name = a.lines().nth(2).unwrap_or("");
            panic!("{at}: {name}\nfast\n{}\nslow\n{}", part(a), part(b));
        }
    }
}

/// Both got the same, in order.
pub fn same_frames(fast: &Side, slow: &Side, at: &str) {
    let differs = fast.got.iter().zip(&slow.got).position(|(a, b)| a != b);
    let differs = differs.map(|i| (i, hex(&fast.got[i]), hex(&slow.got[i])));
    assert_eq!(differs, None, "{at}");
    assert_eq!(fast.got.len(), slow.got.len(), "{at}");
}

fn hex((ns, f): &(NsId, Vec<u8>)) -> String {
    let bytes: Vec<String> = f.iter().take(74).map(|b| format!("{b:02x}")).collect();
    format!("{ns:?} {} bytes {}", f.len(), bytes.join(""))
}
