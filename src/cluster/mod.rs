//! L5: a cluster: the world that the objects of a [`Store`] describe.
//!
//! [`Cluster::build`] gives nodes their addresses and pod ranges, joins them by an underlay, lets the CNI
//! plugin and its node agent lay what the real ones lay, attaches every pod, and applies what the Cluster
//! document says of single nodes. Present status is believed and checked; missing status is allocated.
//! Does not read files and does not send packets. Invariant: same store and seed, same world.

mod agents;
mod build;
mod change;
mod choices;
mod controllers;
pub mod dns;
mod ends;
mod faults;
mod fork;
mod health;
pub mod kube_proxy;
mod node;
mod pods;
pub mod policy;
mod proxy_steps;
pub mod reach;
mod scenario;
mod services;
mod underlay;

pub use change::run_command;
pub use choices::EndpointRun;
pub use ends::End;
pub use fork::{Assumed, Assumption, Branch, Fork};
pub use kube_proxy::NodeProxy;
pub use policy::PolicyAgents;
pub use scenario::{Checked, Mismatch, Scenario, disposition_name};
pub use services::protocol as service_protocol;

use crate::base::{Finding, NodeId, NsId, Origin};
use crate::kube::cni::CniState;
use crate::kube::cni::calico::Ipam;
use crate::kube::cni::list::Results;
use crate::kube::controllers::Desired;
use crate::kube::listen::Port;
use crate::kube::podpath_v1alpha1::ProxyMode;
use crate::kube::store::{Name, Store};
use crate::lab::Lab;
use crate::net::PortAt;
use ipnetwork::IpNetwork;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A node of the cluster.
#[derive(Debug)]
pub struct ClusterNode {
    /// Its name.
    pub name: String,
    /// The machine.
    pub id: NodeId,
    /// Its own namespace.
    pub ns: NsId,
    /// Its uplink.
    pub uplink: PortAt,
    /// The uplink's name.
    pub iface: String,
    /// Addresses on the underlay, with prefix.
    pub addresses: Vec<IpNetwork>,
    /// Pod ranges.
    pub pod_cidrs: Vec<IpNetwork>,
    /// What its plugins keep.
    pub cni: CniState,
    /// The last ADD results of its pods.
    pub results: Results,
    /// Its kube-proxy, where one in iptables mode runs or is to run.
    pub proxy: Option<NodeProxy>,
    /// Its document.
    pub origin: Origin,
}

/// A pod of the cluster.
#[derive(Clone, Debug)]
pub struct ClusterPod {
    /// `namespace/name`.
    pub name: Name,
    /// Its namespace, the node's own for `hostNetwork`.
    pub ns: NsId,
    /// Its node.
    pub node: String,
    /// Its addresses; a hostNetwork pod has its node's.
    pub ips: Vec<IpAddr>,
    /// It shares the node's namespace.
    pub host_network: bool,
}

/// Something that listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listening {
    /// In which namespace.
    pub ns: NsId,
    /// On this address only, or on any.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: Port,
    /// Who: `default/web` or `host/x`.
    pub who: String,
}

/// A cluster as a world, and who is who in it.
pub struct Cluster {
    /// Its objects.
    pub store: Store,
    /// The world, with its sockets.
    pub lab: Lab,
    /// Nodes by name.
    pub nodes: BTreeMap<String, ClusterNode>,
    /// Pods by name.
    pub pods: BTreeMap<Name, ClusterPod>,
    /// External hosts by name.
    pub hosts: BTreeMap<String, NsId>,
    /// Who listens where.
    pub listening: Vec<Listening>,
    /// Calico's allocations, where Calico runs.
    pub calico: Option<Ipam>,
    /// What the CNI is, in words.
    pub cni: String,
    /// Services and EndpointSlices as controllers left them.
    pub desired: Desired,
    /// How kube-proxy carries out Services.
    pub proxy_mode: ProxyMode,
    /// Who enforces policies.
    pub policies: PolicyAgents,
    /// Its DNS servers, once a [`Scenario`] has started them.
    pub dns: Vec<dns::DnsServer>,
    seed: u64,
}

impl Cluster {
    /// Builds the world of a store. What could not be built is in the findings; the rest stands.
    pub fn build(store: Store, seed: u64) -> (Cluster, Vec<Finding>) {
        build::build(store, seed)
    }

    /// The seed it was built with.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The namespace that has an address: a pod's, a node's or a host's.
    pub fn owner_of(&self, ip: IpAddr) -> Option<NsId> {
        self.lab
            .world
            .spaces()
            .iter()
            .find(|n| {
                n.devices()
                    .any(|d| d.addrs.iter().any(|a| a.ip() == ip && !ip.is_loopback()))
            })
            .map(|n| n.id)
    }

    /// The addresses of a namespace that others may use, IPv4 first.
    pub fn addresses(&self, ns: NsId) -> Vec<IpAddr> {
        use crate::net::Scope;
        let all = self
            .lab
            .world
            .ns(ns)
            .into_iter()
            .flat_map(|n| n.devices())
            .flat_map(|d| &d.addrs);
        let mut v: Vec<IpAddr> = all
            .filter(|a| a.scope == Scope::Universe)
            .map(|a| a.ip())
            .collect();
        v.sort_by_key(|a| a.is_ipv6());
        v
    }
}
