//! Where pods and hosts are plugged in: what one needs to send frames for them.
//!
//! Looks only. Invariant: a frame from [`End::mac`] to [`End::gateway`] that arrives at [`End::port`] is as
//! if the end had sent it to somebody who is not its neighbour.

use crate::base::NsId;
use crate::cluster::Cluster;
use crate::net::{PortAt, Scope};
use crate::wire::MacAddr;
use std::net::IpAddr;

/// A pod or host by its `eth0`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct End {
    /// Its namespace.
    pub ns: NsId,
    /// Its addresses there that others may use.
    pub ips: Vec<IpAddr>,
    /// The MAC of its `eth0`.
    pub mac: MacAddr,
    /// Where its frames arrive: the other end of its veth or cable.
    pub port: PortAt,
    /// The MAC of whoever is there; of a bridge's port the bridge's.
    pub gateway: MacAddr,
    /// A bridge joins it to its neighbours.
    pub bridged: bool,
}

impl Cluster {
    /// A namespace as an end; `None` where it has no `eth0` that is plugged in.
    pub fn end(&self, ns: NsId) -> Option<End> {
        let world = &self.lab.world;
        let eth = world.ns(ns)?.devices().find(|d| d.name == "eth0")?;
        let port = eth.peer?;
        let there = world.ns(port.ns)?;
        let dev = there.dev(port.dev)?;
        let gateway = match &dev.master {
            Some((bridge, _)) => there.dev(*bridge)?.mac,
            None => dev.mac,
        };
        let usable = eth.addrs.iter().filter(|a| a.scope == Scope::Universe);
        Some(End {
            ns,
            ips: usable.map(|a| a.ip()).collect(),
            mac: eth.mac,
            port,
            gateway,
            bridged: dev.master.is_some(),
        })
    }

    /// Every pod with a network of its own, by name.
    pub fn pod_ends(&self) -> Vec<End> {
        let own = self.pods.values().filter(|p| !p.host_network);
        own.filter_map(|p| self.end(p.ns)).collect()
    }
}
