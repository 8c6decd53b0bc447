//! Connection tracking: the table of connections of one namespace.
//!
//! Invariant: both tuples of a confirmed connection are in the index, no tuple twice in a zone.

pub mod conn;
pub mod tuple;

pub use conn::{Conn, CtStatus, ProtoState};
pub use tuple::{CtTuple, Dir};

/// The table of one namespace (kernel: `struct netns_ct` and the part of `nf_conntrack_hash` that is its).
#[derive(Clone, Debug, Default)]
pub struct Conntrack {}
