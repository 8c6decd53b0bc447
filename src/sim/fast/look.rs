//! One frame walked on the side: nothing is compiled, and whoever asks sees the walk.
//!
//! Invariant: the world is afterwards as if the frame had come in a batch.

use crate::net::PortAt;
use crate::path::Observer;
use crate::sim::World;
use crate::sim::fast::engine::FastPath;
use crate::wire::Frame;

impl FastPath {
    /// Walks a frame that comes in by a port's number, watched; what came of it, in order.
    pub fn look<O: Observer>(
        &mut self,
        world: &mut World,
        ingress: u16,
        frame: &[u8],
        obs: &mut O,
    ) -> Vec<(PortAt, Frame)> {
        self.sync(world);
        let Some(at) = self.port_at(ingress) else {
            return Vec::new();
        };
        let edges = &self.edges;
        let edge = |ns: crate::base::NsId| edges.get(ns.0 as usize).copied().unwrap_or(false);
        let carried = world.carry(at, Frame::ethernet(frame), edge, obs);
        // Entries of connections that it ended or changed go.
        self.forget(world);
        carried.out.into_vec()
    }
}
