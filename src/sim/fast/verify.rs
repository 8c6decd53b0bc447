//! A hit held against the walk: the frame is walked instead, and what the walk compiles to must be the entry
//! that would have carried it.
//!
//! Equal entries leave equal bytes, equal classes count the same things, equal ties reach the same
//! connections.
//! Invariant: a frame that is checked is carried once, by its walk.

use crate::base::NsId;
use crate::fast::{Batch, Entry, HEAD, Key, Miss, Other};
use crate::net::PortAt;
use crate::sim::World;
use crate::sim::fast::conns::Judged;
use crate::sim::fast::engine::{FastPath, Why};
use crate::sim::fast::record::{Held, Share};
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

/// An entry and its connections as text, and its class.
type Current = (String, u32);

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
        let miss = Miss { at: i, key, total };
        if !self.would_carry(world, &miss, head, batch.frames[i]) {
            return false;
        }
        let Some(was) = self.current(&key, total) else {
            return false;
        };
        let compiled = self.walk(world, batch, i, key, total, out);
        self.verified.checked += 1;
        let is = self.current(&key, total);
        if is.as_ref() != Some(&was) {
            self.verified.wrong += 1;
            if self.verified.differences.len() < KEPT {
                let text = self.difference(&was, is.as_ref(), compiled.err());
                self.verified.differences.push(text);
            }
        }
        true
    }

    /// Two entries, and what of their classes is not the same; or why there is only one.
    fn difference(&self, was: &Current, is: Option<&Current>, why: Option<Why>) -> String {
        let Some(is) = is else {
            return format!("{}, but nothing holds now: {why:?}", was.0);
        };
        let shares = [was.1, is.1].map(|class| self.classes.shares(class));
        let only = |a: &[(NsId, Share)], b: &[(NsId, Share)]| {
            let own = a.iter().filter(|s| !b.contains(s)).collect::<Vec<_>>();
            format!("{own:?} of {}", a.len())
        };
        format!(
            "{} counts {}, but {} counts {}",
            was.0,
            only(shares[0], shares[1]),
            is.0,
            only(shares[1], shares[0])
        )
    }

    fn would_carry(&mut self, world: &World, of: &Miss, head: &[u8; HEAD], frame: &[u8]) -> bool {
        let n = self.table.view().find(of.key.hash(), &of.key);
        let Some(e) = self.table.get(n).filter(|_| n != 0) else {
            return false;
        };
        let mut other = Other {
            pairs: &self.pairs,
            conns: Judged {
                world,
                ties: &self.ties,
                classes: &self.classes,
            },
        };
        other.would_carry((n, e), of, &self.when(), head, frame)
    }

    /// What the entry for a packet of `total` bytes says, if there is one that holds now.
    fn current(&mut self, key: &Key, total: u16) -> Option<Current> {
        let n = self.table.view().find(key.hash(), key);
        let e = self.table.get(n).filter(|_| n != 0)?;
        let holds = e.epoch == self.epoch && total <= e.cap;
        holds.then(|| {
            // Their stamps aside: the frame itself may make a connection assured, carried or walked.
            let ties = self.ties.of(n, &self.classes).into_iter();
            let ties: Vec<Held> = ties.map(|(held, _)| held).collect();
            (format!("{:?} {ties:?}", says(e)), self.ties.class(n))
        })
    }
}
