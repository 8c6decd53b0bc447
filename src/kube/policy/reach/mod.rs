//! Who reaches whom, all pairs: ends that behave alike in groups, and for each pair of groups and port how
//! many pairs of ends may open a connection; of one state of the cluster, or of two, to compare.
//!
//! [`Reach`] is computed from [`Question`] and [`State`]s: pods by the classes of [`super::matrix`], nodes by
//! labels and addresses, addresses outside by the blocks that policies name (`outside`), Services by their
//! endpoints. Ends of a namespace with the same answers everywhere are one [`Group`]. Nothing here carries
//! packets. Invariant: each count is what the reference evaluator says pair by pair (tests/reach_agree.rs).

mod base;
mod cell;
mod group;
mod judge;
mod members;
mod outside;
mod ports;
mod service;

use core::fmt;
use std::collections::BTreeMap;
use std::net::IpAddr;

use super::selector::Selector;
use super::verdict::L4;
use super::{Inventory, Policies};
use crate::kube::proxy::View;
use crate::kube::service::{Family, PortName, Protocol};
use crate::kube::store::{Name, Store};
use judge::{Judge, Spot};

pub use cell::{PortCell, Seen};
pub use ports::{Ports, text as port_text};

/// A state of the cluster.
#[derive(Clone, Copy, Debug)]
pub struct State<'s> {
    /// Its objects.
    pub store: &'s Store,
    /// Its policies.
    pub policies: &'s Policies,
    /// Its pods and nodes with their addresses.
    pub inventory: &'s Inventory,
    /// Its Services, by family.
    pub views: &'s [View; 2],
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// The family of addresses.
    pub family: Family,
    /// The ports; none: those that each destination declares.
    pub ports: Vec<L4>,
    /// Who sends.
    pub from: Ends,
    /// Who is meant.
    pub to: Ends,
    /// Every pod is a group of its own.
    pub by_pod: bool,
    /// Hosts outside that have a name.
    pub hosts: Vec<(String, IpAddr)>,
}

/// Some of the ends.
#[derive(Clone, Debug, Default)]
pub struct Ends {
    /// Any of these; all pods, nodes and addresses outside when none is given, or only pods when one of the
    /// other fields is.
    pub picks: Vec<Pick>,
    /// Pods of these namespaces only; of all when empty.
    pub namespaces: Vec<String>,
    /// Pods with these labels only.
    pub selectors: Vec<Selector>,
}

/// A choice of ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pick {
    /// All pods.
    Pods,
    /// The pods of a namespace.
    Namespace(String),
    /// A pod.
    Pod(Name),
    /// All nodes, with their hostNetwork pods.
    Nodes,
    /// A node.
    Node(String),
    /// All addresses outside.
    Outside,
    /// One of them.
    Address(IpAddr),
    /// All Services with a ClusterIP: destinations only.
    Services,
    /// A Service, or one of its ports by name or number.
    Service(Name, Option<String>),
}

/// What the ends of a group are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// Pods with a network of their own.
    Pods,
    /// Nodes, with their hostNetwork pods.
    Nodes,
    /// Addresses outside the cluster.
    Outside,
    /// A Service.
    Service,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Pods => "pods",
            Kind::Nodes => "nodes",
            Kind::Outside => "outside",
            Kind::Service => "service",
        })
    }
}

/// A pod, by its name in each state. Pods that came for others with the same labels are matched with them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Member {
    /// Its name in the last state that has it.
    pub name: Name,
    /// Its name in each state.
    pub names: Vec<Option<Name>>,
}

/// Ends that have the same answers everywhere.
#[derive(Clone, Debug)]
pub struct Group {
    /// What they are.
    pub kind: Kind,
    /// What to call them; no other group is called so.
    pub name: String,
    /// The namespace of pods and Services; else empty.
    pub namespace: String,
    /// How many ends there are: 1 for addresses outside.
    pub count: u64,
    /// Pods.
    pub pods: Vec<Member>,
    /// Nodes.
    pub nodes: Vec<String>,
    /// Ranges of addresses outside.
    pub ranges: Vec<String>,
    /// Whether these are all addresses outside that no rule tells apart.
    pub rest: bool,
    /// Labels that all its pods have in the last state.
    pub labels: BTreeMap<String, String>,
    /// hostNetwork pods on its nodes.
    pub host_pods: Vec<Name>,
    /// The ports asked of it as a destination.
    pub ports: Vec<L4>,
    /// In which states it exists.
    pub there: Vec<bool>,
    /// Whether it is a row, and a column.
    pub sends: bool,
    /// See `sends`.
    pub receives: bool,
    /// The Service port of each of `ports`, of a Service.
    pub service: Vec<PortName>,
    spots: Vec<Spot>,
    /// How many of its pods are on a node, in each state.
    placed: Vec<BTreeMap<String, u64>>,
}

/// What was left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Left {
    /// Pods without an address of the family.
    pub no_address: usize,
    /// Pods that share their node's network: they are part of its group.
    pub host_network: usize,
    /// Pods that have ended.
    pub finished: usize,
    /// Classes of addresses outside beyond the cap.
    pub outside: usize,
}

/// All pairs.
#[derive(Debug)]
pub struct Reach<'s> {
    /// The states.
    pub states: Vec<State<'s>>,
    /// The family of addresses.
    pub family: Family,
    /// Whether ports are those that destinations declare.
    pub declared: bool,
    /// The groups: pods by namespace, then nodes, addresses outside, Services.
    pub groups: Vec<Group>,
    /// Which of them send.
    pub rows: Vec<usize>,
    /// Which of them are destinations.
    pub columns: Vec<usize>,
    /// What was left out, of the last state.
    pub left: Left,
    judges: Vec<Judge>,
}

impl<'s> Reach<'s> {
    /// Computes all that cells are made of.
    pub fn new(states: &[State<'s>], question: &Question) -> Reach<'s> {
        base::reach(states, question)
    }

    /// Pods among the senders and receivers.
    pub fn pods(&self) -> u64 {
        let pods = self.groups.iter().filter(|g| g.kind == Kind::Pods);
        pods.map(|g| g.count).sum()
    }

    /// Cells of the table.
    pub fn cells(&self) -> usize {
        self.rows.len().saturating_mul(self.columns.len())
    }

    /// The group of a pod of a state.
    pub fn group_of(&self, pod: &Name, state: usize) -> Option<usize> {
        self.groups.iter().position(|g| {
            let mut names = g.pods.iter().filter_map(|m| m.names.get(state));
            names.any(|n| n.as_ref() == Some(pod))
        })
    }
}

/// The protocols' order in lists of ports.
fn order(l4: &L4) -> (u16, Protocol) {
    match l4 {
        L4::Port(protocol, number) => (*number, *protocol),
        L4::Other => (0, Protocol::Tcp),
    }
}
