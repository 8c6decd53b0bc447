//! What happened to frames, and how long a repetition goes on.
//!
//! Counts only. Invariant: what was sent is what arrived, or something was lost or became several.

use super::args::BenchArgs;
use super::traffic::resolves;
use crate::fast::{Batch, Fate};
use crate::net::PortAt;
use crate::wire::Frame;
use std::time::Duration;

/// Frames between two looks at the clock.
pub const CARRIED: u64 = if cfg!(debug_assertions) {
    1 << 10
} else {
    1 << 16
};

/// What happened to some frames.
#[derive(Clone, Copy, Default, Debug)]
pub struct Tally {
    /// Frames that were sent.
    pub sent: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames that arrived.
    pub arrived: u64,
    /// Of those sent by an entry.
    pub hits: u64,
    /// Delivered frames that were looked at byte by byte.
    pub sampled: u64,
    /// CPU time.
    pub took: Duration,
}

impl Tally {
    /// Both together.
    pub fn add(&mut self, t: &Tally) {
        self.sent += t.sent;
        self.bytes += t.bytes;
        self.arrived += t.arrived;
        self.hits += t.hits;
        self.sampled += t.sampled;
        self.took += t.took;
    }

    /// Nanoseconds for a frame.
    pub fn each(&self) -> f64 {
        self.took.as_nanos() as f64 / self.sent.max(1) as f64
    }
}

/// How long a repetition goes on.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// So much CPU time.
    Time(Duration),
    /// So many frames.
    Frames(u64),
}

impl Until {
    /// As the arguments say.
    pub fn of(a: &BenchArgs) -> Until {
        a.packets.map_or(Until::Time(a.seconds), Until::Frames)
    }

    /// Frames to send next; none when it is over.
    pub fn next(&self, t: &Tally) -> Option<u64> {
        match *self {
            Until::Time(at_least) => (t.took < at_least).then_some(CARRIED),
            Until::Frames(n) => Some(n.saturating_sub(t.sent).min(CARRIED)).filter(|n| *n > 0),
        }
    }
}

/// How many frames arrived by walks.
pub fn arrived(out: &[(PortAt, Frame)]) -> u64 {
    out.iter().filter(|(_, f)| !resolves(f.data())).count() as u64
}

/// What became of a batch; address resolution is nobody's frame.
pub fn of_batch(batch: &Batch<'_>, out: &[(PortAt, Frame)]) -> Tally {
    let fates = batch.fates[..batch.len()].iter();
    let hits = fates.filter(|f| matches!(f, Fate::Sent(_))).count() as u64;
    let frames = batch.frames[..batch.len()].iter();
    Tally {
        sent: batch.len() as u64,
        bytes: frames.map(|f| f.len() as u64).sum(),
        arrived: hits + arrived(out),
        hits,
        ..Tally::default()
    }
}
