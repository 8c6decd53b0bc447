//! What a look at devices tells: down, without carrier, sizes that do not fit one another.
//!
//! Not a diagnosis: no route and no neighbour is consulted. Invariant: a cluster as its CNI lays it is good.

use super::model::Health;
use crate::cluster::{Cluster, ClusterNode, ClusterPod};
use crate::net::{Device, DeviceKind};

/// Outer Ethernet, IP, UDP and VXLAN headers over IPv4 (RFC 7348 section 5).
const VXLAN4: u32 = 50;
/// The same over IPv6.
const VXLAN6: u32 = 70;
/// The outer IPv4 header (RFC 2003).
const IPIP: u32 = 20;

/// Why a device passes nothing, or that it does.
pub(super) fn state(d: &Device) -> &'static str {
    match (d.up, d.carrier) {
        (false, _) => "down",
        (true, false) => "no carrier",
        (true, true) => "up",
    }
}

/// Whether the device lacks carrier only because nothing hangs on it: a bridge before its first pod.
fn is_idle_bridge(c: &Cluster, n: &ClusterNode, d: &Device) -> bool {
    let ports = || {
        let all = c.lab.world.ns(n.ns).into_iter().flat_map(|s| s.devices());
        all.filter(|p| p.master.as_ref().is_some_and(|m| m.0 == d.id))
    };
    d.bridge().is_some() && d.up && ports().next().is_none()
}

/// What is wrong with a node's device.
pub(super) fn device(c: &Cluster, n: &ClusterNode, d: &Device) -> (Health, Option<String>) {
    if !d.is_running() && !is_idle_bridge(c, n, d) {
        let what = if d.up { "has no carrier" } else { "is down" };
        return (Health::Bad, Some(what.into()));
    }
    let wrong = match &d.kind {
        DeviceKind::Uplink => uplink(c, d),
        DeviceKind::Vxlan(v) => {
            let over = if v.local.is_some_and(|l| l.is_ipv6()) {
                VXLAN6
            } else {
                VXLAN4
            };
            tunnel(c, n, d, over)
        }
        DeviceKind::Ipip(_) => tunnel(c, n, d, IPIP),
        DeviceKind::Bridge(_) | DeviceKind::Veth | DeviceKind::Dummy | DeviceKind::Loopback => None,
    };
    match wrong {
        Some(w) => (Health::Warn, Some(w)),
        None => (Health::Good, None),
    }
}

/// An uplink that sends more than its switch takes.
fn uplink(c: &Cluster, d: &Device) -> Option<String> {
    let switch = c.lab.world.ns(d.peer?.ns)?;
    let takes = switch.devices().find(|b| b.bridge().is_some())?.mtu;
    (d.mtu > takes).then(|| format!("mtu {} is more than the underlay's {takes}", d.mtu))
}

/// A tunnel whose full packets do not fit the uplink once they are wrapped.
fn tunnel(c: &Cluster, n: &ClusterNode, d: &Device, over: u32) -> Option<String> {
    let up = c.lab.world.ns(n.uplink.ns)?.dev(n.uplink.dev)?;
    (d.mtu.saturating_add(over) > up.mtu).then(|| {
        format!(
            "mtu {} + {over} is more than {}'s {}",
            d.mtu, up.name, up.mtu
        )
    })
}

/// What is wrong with a pod's own link.
pub(super) fn pod(c: &Cluster, n: &ClusterNode, p: &ClusterPod) -> (Health, Option<String>) {
    let Some(own) = c.lab.world.ns(p.ns) else {
        return (Health::Bad, Some("no network".into()));
    };
    let links: Vec<&Device> = own
        .devices()
        .filter(|d| !matches!(d.kind, DeviceKind::Loopback))
        .collect();
    if links.is_empty() {
        return (Health::Bad, Some("no network device".into()));
    }
    if let Some(d) = links.iter().find(|d| !d.is_running()) {
        return (Health::Bad, Some(format!("{} {}", d.name, state(d))));
    }
    let node = c.lab.world.ns(n.ns);
    for d in links {
        let other = d.peer.and_then(|x| c.lab.world.ns(x.ns)?.dev(x.dev));
        if let Some(o) = other.filter(|o| o.mtu != d.mtu) {
            let text = format!("{} mtu {}, its other end {}", d.name, d.mtu, o.mtu);
            return (Health::Warn, Some(text));
        }
        let tunnels = node.into_iter().flat_map(|s| s.devices());
        let mut small = tunnels.filter(|t| {
            matches!(t.kind, DeviceKind::Vxlan(_) | DeviceKind::Ipip(_)) && t.mtu < d.mtu
        });
        if let Some(t) = small.next() {
            let text = format!(
                "{} mtu {} is more than {}'s {}",
                d.name, d.mtu, t.name, t.mtu
            );
            return (Health::Warn, Some(text));
        }
    }
    (Health::Good, None)
}
