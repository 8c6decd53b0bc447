//! One world's traffic shared by several workers, each with a replica of it.
//!
//! A flow is one worker's, by the hash of its ends, so that its connections are in one replica. NAT gives
//! replies other ends: a source port is chosen so that they come to the same worker; where none is to be
//! chosen (a Service's DNAT), the worker tells the others whose they are ([`exception`]) and they are handed
//! over ([`Steer`]). What the replicas counted is added up when it is read ([`Counts`]). No threads here.
//! Invariant: every frame of a flow and its replies go to one worker, in the order in which they came.

mod count;
mod steer;

pub use crate::wire::shard::Shard;
pub use count::{Counter, Counts};
pub use steer::{Exception, Handed, Steer, To, exception};

use crate::sim::World;

impl World {
    /// Makes this world one worker's replica: NAT chooses ports such that replies come to it. Namespaces that
    /// get their first rule later are not told.
    pub fn set_shard(&mut self, shard: Option<Shard>) {
        for i in 0..self.spaces().len() {
            let ns = crate::base::NsId(i as u32);
            if let Some(nf) = self.space_mut(ns).and_then(|n| n.nf.as_deref_mut()) {
                nf.ct.shard = shard;
            }
        }
    }
}
