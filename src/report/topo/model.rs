//! What is drawn, before anybody says where: nodes with chips and pods, segments, hosts, tunnels, trouble.
//!
//! Reads the world, never changes it. Large clusters are thinned here, so that dot and SVG show the same.

use super::{Options, check, tunnels, way};
use crate::base::{DevId, NsId};
use crate::cluster::{Cluster, ClusterNode, ClusterPod};
use crate::net::addr::network_of;
use crate::net::{Device, DeviceKind, NetNs, Scope};
use ipnetwork::IpNetwork;
use std::collections::{BTreeMap, BTreeSet};

/// Clusters with more nodes show single nodes as tiles.
const DETAIL_NODES: usize = 24;
/// Nodes of a trace that are drawn whole in a large cluster.
const FOCUS_NODES: usize = 4;
/// Hosts drawn per segment; the rest are counted.
pub(super) const HOSTS_SHOWN: usize = 12;
/// Chips drawn per node.
const CHIPS_SHOWN: usize = 6;

/// How well something is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) enum Health {
    /// Nothing to say.
    #[default]
    Good,
    /// It works, but sizes do not fit.
    Warn,
    /// It passes nothing.
    Bad,
}

/// What a chip stands for; its colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ChipKind {
    Bridge,
    Tunnel,
    Uplink,
    Other,
}

/// A device of a node.
#[derive(Clone, Debug)]
pub(super) struct Chip {
    pub dev: Option<DevId>,
    pub name: String,
    pub kind: ChipKind,
    /// `vxlan · mtu 1450`
    pub detail: String,
    pub addresses: Vec<String>,
    pub health: Health,
    pub tip: String,
}

/// A pod.
#[derive(Clone, Debug)]
pub(super) struct PodView {
    pub ns: NsId,
    pub namespace: String,
    pub name: String,
    pub ips: Vec<String>,
    pub ports: Vec<String>,
    pub host_network: bool,
    pub health: Health,
    /// What is wrong with it, in few words.
    pub trouble: Option<String>,
}

/// A node.
#[derive(Clone, Debug)]
pub(super) struct NodeView {
    pub ns: NsId,
    pub name: String,
    pub addresses: Vec<String>,
    pub cidrs: Vec<String>,
    /// What pods are attached to: their bridge, or the node's routes.
    pub bar: Chip,
    /// Other devices; tunnels first, uplinks last.
    pub chips: Vec<Chip>,
    /// The pods that are drawn.
    pub pods: Vec<PodView>,
    /// How many are not.
    pub more: usize,
    /// All of them.
    pub pod_count: usize,
    pub health: Health,
    /// Drawn with its insides, not as a tile.
    pub whole: bool,
}

/// An external host.
#[derive(Clone, Debug)]
pub(super) struct HostView {
    pub ns: NsId,
    pub name: String,
    pub addresses: Vec<String>,
    pub ports: Vec<String>,
    pub health: Health,
}

/// A switch and what is plugged into it.
#[derive(Clone, Debug, Default)]
pub(super) struct Segment {
    pub switch: Option<NsId>,
    pub name: String,
    pub nets: Vec<String>,
    pub mtu: u32,
    pub nodes: Vec<NodeView>,
    pub hosts: Vec<HostView>,
}

/// The router between segments and to the outside.
#[derive(Clone, Debug)]
pub(super) struct GatewayView {
    pub ns: NsId,
    pub addresses: Vec<String>,
}

/// Everything that is drawn.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    pub title: String,
    /// CNI and counts in one line.
    pub subtitle: String,
    pub segments: Vec<Segment>,
    pub gateway: Option<GatewayView>,
    pub overlay: tunnels::Overlay,
    /// What is wrong, one line each.
    pub problems: Vec<(Health, String)>,
    pub legs: Vec<way::Leg>,
}

impl Picture {
    /// The picture of a cluster.
    pub fn of(c: &Cluster, o: &Options<'_>) -> Picture {
        let legs = o.path.map(|e| way::legs(e, c)).unwrap_or_default();
        let seen: BTreeSet<NsId> = legs
            .iter()
            .flat_map(|l| l.stops.iter().map(|s| s.ns))
            .collect();
        let mut problems = Vec::new();
        let mut segments = segments(c);
        let gateway = gateway(c, &segments);
        nodes(c, &seen, &mut segments, &mut problems);
        hosts(c, &mut segments, &mut problems);
        segments.retain(|s| !s.nodes.is_empty() || !s.hosts.is_empty());
        segments.sort_by_key(|s| (s.nodes.is_empty(), s.switch));
        problems.sort_by_key(|p| core::cmp::Reverse(p.0));
        for (leg, (_, why)) in legs.iter().filter_map(|l| Some((l, l.failed.as_ref()?))) {
            let which = if leg.reply { "answer" } else { "request" };
            problems.insert(0, (Health::Bad, format!("{which} lost: {why}")));
        }
        let named = c.store.cluster().map(|k| k.name.to_string());
        Picture {
            title: named.unwrap_or_else(|| "cluster".into()),
            subtitle: subtitle(c),
            segments,
            gateway,
            overlay: tunnels::find(c),
            problems,
            legs,
        }
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeView> {
        self.segments.iter().flat_map(|s| &s.nodes)
    }
}

fn plural(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn subtitle(c: &Cluster) -> String {
    let mut parts = vec![plural(c.nodes.len(), "node"), plural(c.pods.len(), "pod")];
    if !c.hosts.is_empty() {
        parts.push(plural(c.hosts.len(), "external host"));
    }
    if !c.cni.is_empty() {
        parts.insert(0, c.cni.clone());
    }
    parts.join(" · ")
}

/// A switch per segment, found where the uplinks end.
fn segments(c: &Cluster) -> Vec<Segment> {
    let mut out: BTreeMap<NsId, Segment> = BTreeMap::new();
    let ends = c
        .nodes
        .values()
        .map(|n| n.ns)
        .chain(c.hosts.values().copied());
    for ns in ends.filter_map(|n| c.lab.world.ns(n)) {
        let cabled = ns
            .devices()
            .filter(|d| matches!(d.kind, DeviceKind::Uplink));
        for switch in cabled.filter_map(|d| d.peer).map(|p| p.ns) {
            let Some(s) = c.lab.world.ns(switch) else {
                continue;
            };
            out.entry(switch).or_insert_with(|| Segment {
                switch: Some(switch),
                name: s.name.clone(),
                mtu: s
                    .devices()
                    .find(|d| d.bridge().is_some())
                    .map_or(0, |d| d.mtu),
                ..Segment::default()
            });
        }
    }
    if out.is_empty() {
        return vec![Segment::default()];
    }
    out.into_values().collect()
}

/// Whoever else is plugged into a switch routes between them.
fn gateway(c: &Cluster, segments: &[Segment]) -> Option<GatewayView> {
    let known: BTreeSet<NsId> = c
        .nodes
        .values()
        .map(|n| n.ns)
        .chain(c.hosts.values().copied())
        .collect();
    let switches = segments.iter().filter_map(|s| c.lab.world.ns(s.switch?));
    let mut peers = switches.flat_map(|s| s.devices().filter_map(|d| d.peer));
    let ns = peers.find(|p| !known.contains(&p.ns))?.ns;
    let devices = c.lab.world.ns(ns)?.devices();
    let inner = devices.filter(|d| d.peer.is_some());
    Some(GatewayView {
        ns,
        addresses: inner.flat_map(addresses).collect(),
    })
}

/// The addresses of a device that others may use.
fn addresses(d: &Device) -> Vec<String> {
    let wide = d.addrs.iter().filter(|a| a.scope == Scope::Universe);
    wide.map(|a| a.net.to_string()).collect()
}

/// The switch an end is plugged into.
fn switch_of(ns: Option<&NetNs>) -> Option<NsId> {
    let mut ends = ns?
        .devices()
        .filter(|d| matches!(d.kind, DeviceKind::Uplink));
    ends.find_map(|d| d.peer).map(|p| p.ns)
}

/// What the drawing of every node needs.
struct Whole<'a> {
    c: &'a Cluster,
    /// Namespaces that the trace passed.
    seen: &'a BTreeSet<NsId>,
    /// Who listens where: ports by pod.
    ports: BTreeMap<&'a str, Vec<String>>,
    /// Pods drawn per node.
    shown: usize,
}

fn nodes(
    c: &Cluster,
    seen: &BTreeSet<NsId>,
    segments: &mut [Segment],
    problems: &mut Vec<(Health, String)>,
) {
    let mut by_node: BTreeMap<&str, Vec<&ClusterPod>> = BTreeMap::new();
    for p in c.pods.values() {
        by_node.entry(p.node.as_str()).or_default().push(p);
    }
    let mut ports: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for l in &c.listening {
        let word = match l.address {
            Some(ip) => format!("{ip}:{}", l.port),
            None => l.port.to_string(),
        };
        ports.entry(l.who.as_str()).or_default().push(word);
    }
    let shown = match c.nodes.len() {
        0 | 1 => 48,
        2 => 20,
        3 | 4 => 12,
        5..=9 => 8,
        10..=DETAIL_NODES => 4,
        _ => 3,
    };
    let w = Whole {
        c,
        seen,
        ports,
        shown,
    };
    let many = c.nodes.len() > DETAIL_NODES;
    let mut focus = 0;
    for n in c.nodes.values() {
        let pods = by_node.get(n.name.as_str()).map_or(&[][..], Vec::as_slice);
        let visited = seen.contains(&n.ns) || pods.iter().any(|p| seen.contains(&p.ns));
        let whole = !many || (visited && focus < FOCUS_NODES);
        focus += usize::from(whole && many);
        let view = node(&w, n, pods, whole, problems);
        let nets: Vec<String> = n
            .addresses
            .iter()
            .map(|a| network_of(*a).to_string())
            .collect();
        let at = switch_of(c.lab.world.ns(n.ns));
        let i = segments.iter().position(|s| s.switch == at).unwrap_or(0);
        if let Some(s) = segments.get_mut(i) {
            for net in nets {
                if !s.nets.contains(&net) {
                    s.nets.push(net);
                }
            }
            s.nodes.push(view);
        }
    }
    for s in segments.iter_mut() {
        // What is drawn whole stands next to the switch, below the tiles.
        s.nodes.sort_by_key(|n| n.whole);
    }
}

fn node(
    w: &Whole<'_>,
    n: &ClusterNode,
    pods: &[&ClusterPod],
    whole: bool,
    problems: &mut Vec<(Health, String)>,
) -> NodeView {
    let (c, seen, shown) = (w.c, w.seen, w.shown);
    let mut note = |h: Health, text: String| problems.push((h, format!("{}: {text}", n.name)));
    let (bar, chips) = chips(c, n, &mut note);
    let mut views: Vec<PodView> = Vec::new();
    for p in pods {
        let v = pod(c, n, p, &w.ports);
        if let Some(t) = &v.trouble {
            note(v.health, format!("pod {}: {t}", p.name));
        }
        views.push(v);
    }
    let health = chips.iter().chain([&bar]).map(|x| x.health);
    let health = health.chain(views.iter().map(|p| p.health)).max();
    let pod_count = views.len();
    // The trace's pods and sick ones are shown first, hostNetwork pods last; within that, by name.
    views.sort_by_key(|p| {
        let wanted = seen.contains(&p.ns) && !p.host_network;
        (!wanted, core::cmp::Reverse(p.health), p.host_network)
    });
    let keep = if pod_count <= shown {
        pod_count
    } else {
        shown.saturating_sub(1)
    };
    let wanted = views
        .iter()
        .filter(|p| seen.contains(&p.ns) && !p.host_network)
        .count();
    views.truncate(if whole { keep.max(wanted) } else { 0 });
    views.sort_by(|a, b| {
        (a.host_network, &a.namespace, &a.name).cmp(&(b.host_network, &b.namespace, &b.name))
    });
    let mut cidrs: Vec<String> = n.pod_cidrs.iter().map(IpNetwork::to_string).collect();
    if let Some(ipam) = &c.calico {
        // Calico gives addresses from blocks, whatever the Node object says.
        let own = ipam.blocks().filter(|b| b.node == n.name);
        cidrs = own.map(|b| b.cidr.to_string()).collect();
    }
    NodeView {
        ns: n.ns,
        name: n.name.clone(),
        addresses: n.addresses.iter().map(IpNetwork::to_string).collect(),
        cidrs,
        bar,
        chips,
        more: pod_count - views.len(),
        pods: views,
        pod_count,
        health: health.unwrap_or_default(),
        whole,
    }
}

/// The bar pods hang on, and the node's other devices.
fn chips(c: &Cluster, n: &ClusterNode, note: &mut dyn FnMut(Health, String)) -> (Chip, Vec<Chip>) {
    let pod_spaces: BTreeSet<NsId> = c
        .pods
        .values()
        .filter(|p| p.node == n.name && !p.host_network)
        .map(|p| p.ns)
        .collect();
    let ns = c.lab.world.ns(n.ns);
    let devices: Vec<&Device> = ns.into_iter().flat_map(NetNs::devices).collect();
    let to_pod = |d: &&&Device| d.peer.is_some_and(|p| pod_spaces.contains(&p.ns));
    let attached = devices.iter().filter(to_pod).count();
    let mut masters = devices
        .iter()
        .filter(to_pod)
        .filter_map(|d| d.master.as_ref());
    let bridge = masters.next().map(|m| m.0).or_else(|| {
        let first = devices.iter().find(|d| d.bridge().is_some());
        first.filter(|_| attached == 0).map(|d| d.id)
    });
    let mut bar = Chip {
        dev: None,
        name: if attached > 0 {
            "routed veths"
        } else {
            "no pods attached"
        }
        .into(),
        kind: if attached > 0 {
            ChipKind::Bridge
        } else {
            ChipKind::Other
        },
        detail: if attached > 0 { "no bridge" } else { "" }.into(),
        addresses: Vec::new(),
        health: Health::Good,
        tip: match attached {
            0 => format!("{}: no pod is attached by veth", n.name),
            _ => format!("{}: pods are reached by routes to their veths", n.name),
        },
    };
    let mut out = Vec::new();
    for d in &devices {
        let hidden = matches!(d.kind, DeviceKind::Loopback) || to_pod(&d);
        if hidden {
            continue;
        }
        let (health, why) = check::device(c, n, d);
        let chip = chip(d, health, &why);
        if let Some(w) = why {
            note(health, format!("{} {w}", d.name));
        }
        if bridge == Some(d.id) {
            bar = chip;
        } else {
            out.push(chip);
        }
    }
    out.sort_by_key(|c| match c.kind {
        ChipKind::Tunnel => 0,
        ChipKind::Bridge => 1,
        ChipKind::Other => 2,
        ChipKind::Uplink => 3,
    });
    while out.len() > CHIPS_SHOWN {
        // Uplinks stay: the last that is none goes.
        let at = out.iter().rposition(|c| c.kind != ChipKind::Uplink);
        out.remove(at.unwrap_or(out.len() - 1));
    }
    (bar, out)
}

fn chip(d: &Device, health: Health, why: &Option<String>) -> Chip {
    let (kind, extra) = match &d.kind {
        DeviceKind::Vxlan(v) => (
            ChipKind::Tunnel,
            format!(", vni {}, port {}", v.vni, v.port),
        ),
        DeviceKind::Ipip(_) => (ChipKind::Tunnel, String::new()),
        DeviceKind::Bridge(_) => (ChipKind::Bridge, String::new()),
        DeviceKind::Uplink => (ChipKind::Uplink, String::new()),
        DeviceKind::Veth | DeviceKind::Dummy | DeviceKind::Loopback => {
            (ChipKind::Other, String::new())
        }
    };
    let addresses = addresses(d);
    let state = match why {
        Some(w) => format!("\n{w}"),
        None => String::new(),
    };
    Chip {
        dev: Some(d.id),
        name: d.name.clone(),
        kind,
        detail: match health {
            Health::Bad => check::state(d).to_owned(),
            _ => format!("{} · mtu {}", d.kind.name(), d.mtu),
        },
        tip: format!(
            "{}: {}{extra}, mtu {}, {}\n{}{state}",
            d.name,
            d.kind.name(),
            d.mtu,
            d.mac,
            addresses.join(", ")
        ),
        addresses,
        health,
    }
}

fn pod(
    c: &Cluster,
    n: &ClusterNode,
    p: &ClusterPod,
    ports: &BTreeMap<&str, Vec<String>>,
) -> PodView {
    let (health, trouble) = if p.host_network {
        (Health::Good, None)
    } else {
        check::pod(c, n, p)
    };
    PodView {
        ns: p.ns,
        namespace: p.name.namespace.clone(),
        name: p.name.name.clone(),
        ips: p.ips.iter().map(ToString::to_string).collect(),
        ports: ports
            .get(p.name.to_string().as_str())
            .cloned()
            .unwrap_or_default(),
        host_network: p.host_network,
        health,
        trouble,
    }
}

fn hosts(c: &Cluster, segments: &mut [Segment], problems: &mut Vec<(Health, String)>) {
    for (name, id) in &c.hosts {
        let ns = c.lab.world.ns(*id);
        let devices = || ns.into_iter().flat_map(NetNs::devices);
        let down = devices().any(|d| d.peer.is_some() && !d.is_running());
        if down {
            problems.push((Health::Bad, format!("host {name}: its link is down")));
        }
        let listens = c.listening.iter().filter(|l| l.ns == *id);
        let view = HostView {
            ns: *id,
            name: name.clone(),
            addresses: devices().flat_map(addresses).collect(),
            ports: listens.map(|l| l.port.to_string()).collect(),
            health: if down { Health::Bad } else { Health::Good },
        };
        let at = switch_of(ns);
        let i = segments.iter().position(|s| s.switch == at).unwrap_or(0);
        if let Some(s) = segments.get_mut(i) {
            s.hosts.push(view);
        }
    }
}
