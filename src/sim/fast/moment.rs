//! The moments at which batches ran, numbered, so that an entry remembers one in four bytes.
//!
//! Invariant: numbers grow with time; a number older than `base` has been written back.

use crate::base::Instant;
use core::time::Duration;
use std::collections::VecDeque;

/// Moments kept before everything is written back.
const KEPT: usize = 1 << 16;

/// Numbered moments.
#[derive(Debug, Default)]
pub(super) struct Moments {
    base: u32,
    times: VecDeque<Instant>,
    /// The oldest number that is not too long ago.
    young: u32,
}

impl Moments {
    /// The number of `now`; moments longer ago than `idle` are old from here on.
    pub fn at(&mut self, now: Instant, idle: Duration) -> u32 {
        if self.times.capacity() == 0 {
            // All the room at once: a hit that has to make some would be slow among many that are not.
            self.times.reserve_exact(KEPT + 1);
        }
        if self.times.back() != Some(&now) {
            self.times.push_back(now);
        }
        let last = self.base + self.times.len() as u32 - 1;
        while self.young < last && self.time(self.young).is_none_or(|t| now.since(t) >= idle) {
            self.young += 1;
        }
        last
    }

    /// Entries last used before this number may stand for a connection that is dead by now.
    pub fn young(&self) -> u32 {
        self.young
    }

    /// When a number was.
    pub fn time(&self, n: u32) -> Option<Instant> {
        self.times.get(n.checked_sub(self.base)? as usize).copied()
    }

    /// Whether it is time to write back and [`Moments::forget`].
    pub fn is_full(&self) -> bool {
        self.times.len() >= KEPT
    }

    /// Whether the numbers are used up: no entry may be older then.
    pub fn is_over(&self) -> bool {
        self.base >= u32::MAX - 2 * KEPT as u32
    }

    /// Forgets all moments that are old, once everything is written back.
    pub fn forget(&mut self) {
        while self.base < self.young && self.times.len() > 1 {
            self.times.pop_front();
            self.base += 1;
        }
        if self.is_full() {
            // Nothing is that old: entries last used before the latest moments are walked again.
            let n = self.times.len() as u32 - 1;
            self.times.drain(..n as usize);
            self.base += n;
            self.young = self.young.max(self.base);
        }
    }

    /// Starts anew.
    pub fn clear(&mut self) {
        *self = Moments::default();
    }
}
