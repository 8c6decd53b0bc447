//! L3: the fast path's parts: what a frame is taken for, where its compiled path is kept, how it is applied.
//!
//! Does not walk and does not know namespaces: `sim::fast` compiles walks into entries and writes the
//! counters back. Invariant: an entry does to a frame what the walk it was compiled from did, or is not used.

mod apply;
mod batch;
mod dirty;
mod door;
mod group;
mod key;
mod mem;
mod pairs;
mod sum;
mod table;

pub use apply::{TAIL, apply, apply_v6, has_tail};
pub use batch::{BATCH, Batch, Fate};
pub use dirty::Dirty;
pub use door::Doors;
pub use group::{Follow, GROUP, Group, Miss, Other, When};
pub use key::{HEAD, Key, first_line};
pub use mem::{HUGE, Lines, NoMemory};
pub use pairs::{Pair, Pairs};
pub use table::{Entry, Full, Table, View, flag};
