//! The fast path of a world: frames in batches, each flow walked once and carried by its entry afterwards.
//!
//! [`FastPath::run`] looks frames up, applies what it finds and walks the rest; [`FastPath::sync`] writes
//! back what hits counted. Whole paths are compiled, from the port where a frame comes in to the edge that
//! it reaches. Invariant: after `sync` the world is as if every frame had been walked.

mod ahead;
mod class;
mod compile;
mod conns;
mod engine;
mod look;
mod moment;
mod record;
mod servers;
mod ties;
mod verify;

pub use engine::{FastPath, Stats, Why};
pub use verify::Verified;
