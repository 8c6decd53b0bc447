//! L4: the world in virtual time: namespaces joined by cables, an event queue, faults.
//!
//! Sans-IO: the caller says how far time goes. Events are handled in a total order (time, class, sequence),
//! so the same input and seed give the same bytes out.

mod cable;
pub mod capture;
mod carry;
pub mod fast;
pub mod link;
pub mod shard;
pub mod world;

pub use capture::{Captured, Captures};
pub use link::{Block, Link};
pub use world::{Delivery, SendOptions, World};
