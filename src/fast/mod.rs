//! L3: the fast path's parts: what a frame is taken for, where its compiled path is kept, how it is applied.
//!
//! Does not walk and does not know namespaces: `sim::fast` compiles walks into entries and writes the
//! counters back. Invariant: an entry does to a frame what the walk it was compiled from did, or is not used.

mod apply;
mod batch;
pub mod cpu;
mod dirty;
mod door;
mod group;
mod key;
mod mem;
mod sum;
mod table;

pub use apply::apply;
pub use batch::{BATCH, Batch, Fate};
pub use dirty::Dirty;
pub use door::Doors;
pub use group::{GROUP, Group, Miss, When};
pub use key::{HEAD, Key};
pub use mem::{Lines, NoMemory};
pub use table::{Entry, Full, Table, View, flag};
