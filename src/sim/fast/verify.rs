//! A hit held against the walk: the frame is walked instead, and what the walk compiles to must be the entry
//! that would have carried it.
//!
//! Equal entries leave equal bytes, equal classes count the same things, equal ties reach the same
//! connections.
//! Invariant: a frame that is checked is carried once, by its walk.

use crate::fast::{Batch, Entry, HEAD, Key};
use crate::net::PortAt;
use crate::sim::World;
use crate::sim::fast::engine::FastPath;
use crate::sim::fast::record::Held;
use crate::wire::Frame;

/// Differences kept; further ones are counted.
const KEPT: usize = 16;

/// What was checked.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// Hits that were walked instead.
    pub checked: u64,
    /// Of them those whose walk says otherwise.
    pub wrong: u64,
    /// The first of these: the entry, and what its walk compiled to.
    pub differences: Vec<String>,
}

/// The parts of an entry that say what becomes of a frame.
fn says(e: &Entry) -> impl PartialEq + core::fmt::Debug + use<> {
    let to = (e.addrs, e.ports, e.macs, e.out);
    (e.key, to, e.ip_delta, e.l4_delta, e.cap, e.hops, e.flags)
}

impl FastPath {
    /// Walks a frame of a batch that an entry would carry, and compares; false if none would.
    pub(super) fn check(
        &mut self,
        world: &mut World,
        batch: &mut Batch<'_>,
        i: usize,
        out: &mut Vec<(PortAt, Frame)>,
    ) -> bool {
        let head: &[u8; HEAD] = &batch.heads[i].0;
        let door = self.doors.number(batch.ingress[i], head);
        let Some((key, total)) = Key::of(head, batch.frames[i], door, &mut self.pairs) else {
            return false;
        };
        let Some(was) = self.current(&key, total) else {
            return false;
        };
        self.walk(world, batch, i, key, total, out);
        self.verified.checked += 1;
        let is = self.current(&key, total);
        if is.as_ref() != Some(&was) {
            self.verified.wrong += 1;
            if self.verified.differences.len() < KEPT {
                let text = format!(
                    "{was}, but {}",
                    is.as_deref().unwrap_or("nothing was compiled")
                );
                self.verified.differences.push(text);
            }
        }
        true
    }

    /// What the entry for a packet of `total` bytes says, if there is one that holds now.
    fn current(&mut self, key: &Key, total: u16) -> Option<String> {
        let n = self.table.view().find(key.hash(), key);
        let e = self.table.get(n).filter(|_| n != 0)?;
        let holds = e.epoch == self.epoch && total <= e.cap;
        holds.then(|| {
            // Their stamps aside: the frame itself may make a connection assured, carried or walked.
            let ties = self.ties.of(n, &self.classes).into_iter();
            let ties: Vec<Held> = ties.map(|(held, _)| held).collect();
            format!("{:?} class {} {ties:?}", says(e), self.ties.class(n))
        })
    }
}
