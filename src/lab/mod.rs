//! L5: a [`crate::sim::World`] whose namespaces have real sockets, and probes that say what a client sees.
//!
//! [`Lab`] plays the sockets of every namespace ([`crate::endpoint::Stack`]) between the world's events, in
//! one total order, and remembers which client's doing each packet is; [`Probe`] is one client's try and
//! [`ProbeResult`] what came of it, why, and where; a [`Player`] is a program with sockets of its own.
//! Knows no Kubernetes and no files.
//! Invariant: same world, seed and calls: same frames, times and results; watching changes nothing.
//! Tests: tests/lab (what Linux was measured to do, determinism, whose frames are whose).

mod client;
mod hop;
mod lineage;
mod player;
mod players;
mod probe;
mod sockets;
mod start;
mod talk;
mod watch;
mod world;

pub use client::{ClientEnd, ClientRef, ClientState};
pub use hop::{Hop, Way};
pub use lineage::Lineage;
pub use player::{Call, Cause, Incoming, Player, PlayerId};
pub use probe::{Exchange, Probe, ProbeProtocol, ProbeResult};
pub use watch::Watch;
pub use world::Lab;
