//! L0: what every layer shares: ids, virtual time, seeded randomness, origins, findings and every cap.
//!
//! Knows nothing above it, and no clock, file or socket.
//! Invariant: nothing here reads the outside world, so equal inputs stay equal.

pub mod cpu;
pub mod finding;
pub mod id;
pub mod limits;
pub mod origin;
pub mod rng;
pub mod time;

pub use finding::{Finding, Severity, Span};
pub use id::{DevId, FrameId, NodeId, NsId};
pub use origin::Origin;
pub use rng::Rng;
pub use time::Instant;
