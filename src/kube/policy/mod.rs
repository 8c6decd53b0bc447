//! NetworkPolicy, ClusterNetworkPolicy and its predecessors: who may reach whom.
//!
//! [`crd`] are the objects as written, [`check`] and [`check_crd`] what the API server refuses, [`model`] the
//! policies as they act ([`Policies::of`] reads them from the store), [`pods`] the pods, nodes and addresses
//! they act on.
//!
//! A policy judges the opening packet of a connection, after destination translation and before source
//! translation. Nothing here carries packets.

pub mod check;
pub mod check_crd;
pub mod crd;
pub mod enforce;
pub mod field;
mod load;
mod load_crd;
pub mod model;
pub mod pods;
pub mod selector;

pub use load::Policies;
pub use model::{
    Action, Block, Direction, DomainName, Kind, NamespaceScope, Peer, PeerKind, Peers, Policy,
    PolicyKey, Port, PortKind, Ports, Rule, Subject, Tier,
};
pub use pods::{Inventory, NamedPort, Owner, PolicyNode, PolicyPod};
pub use selector::{Labels, Selector};
