//! NetworkPolicy, ClusterNetworkPolicy and its predecessors: who may reach whom.
//!
//! [`crd`] are the objects as written, [`check`] and [`check_crd`] what the API server refuses, [`model`]
//! the policies as they act ([`Policies::of`] reads them from the store), [`pods`] the pods, nodes and
//! addresses they act on, [`verdict`] questions and answers, [`eval`] the reference evaluator.
//!
//! A policy judges the opening packet of a connection, after destination translation and before source
//! translation. Nothing here carries packets.

pub mod bits;
pub mod check;
pub mod check_crd;
pub mod compile;
pub mod crd;
mod dump;
pub mod enforce;
pub mod eval;
pub mod explain;
pub mod field;
pub mod filter;
pub mod identity;
pub mod lint;
mod load;
mod load_crd;
pub mod matrix;
pub mod miss;
pub mod model;
pub mod pods;
pub mod ranges;
pub mod reach;
pub mod sample;
pub mod selector;
pub mod translate;
pub mod update;
pub mod verdict;

use crate::kube::service::Protocol;
pub use compile::Compiled;
pub use eval::Evaluator;
pub use load::Policies;
pub use matrix::Matrix;
pub use model::{
    Action, Block, Direction, DomainName, Kind, NamespaceScope, Peer, PeerKind, Peers, Policy,
    PolicyKey, Port, PortKind, Ports, Rule, Subject, Tier,
};
pub use pods::{Inventory, NamedPort, Owner, PolicyNode, PolicyPod};
pub use selector::{Labels, Selector};
pub use verdict::{
    BaselineScope, BlockScope, Decision, Hairpin, L4, Options, OwnNode, Query, RuleRef, Side, Why,
};
