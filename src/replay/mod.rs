//! L5 replay: captures in and out.
//!
//! [`pcap`] reads and writes the files. Attaching a capture to a device, scheduling its frames and comparing
//! what came out are [`replay`]'s. Knows nothing of terminals and opens no files: readers and writers are
//! handed in.

pub mod pcap;
mod run;

pub use run::{Attach, Fate, Replayed, ends_at, replay};
