//! Where the connections are, and how they are found: by either tuple, by their source, by their end.
//!
//! Invariant: an index entry names a live slot, and that slot says that it is in the index.

use super::alarms::{Alarms, GROUP};
use super::conn::{Conn, ticks};
use super::index::{Holders, Index};
use super::slots::{Slots, held_by};
use super::tuple::{CtTuple, Dir};
use super::tuples::{Key, hash_of, hash_of_source};
use crate::base::Instant;
use crate::wire::ConnId;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// The connections of a namespace.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    slots: Slots,
    /// By tuple; a holder is a slot and a direction.
    index: Index,
    /// By protocol, source address and source port of the original tuple; a holder is a slot.
    sources: Index,
    /// Those that are yet to be entered there, in order: most are never asked for.
    unsourced: Vec<ConnId>,
    alarms: Alarms,
    /// Not in the index: new or dead. Looked at when a walk ends.
    loose: Vec<ConnId>,
    /// How many packets wait somewhere and will come back to a connection.
    holds: HashMap<ConnId, u32, FixedState>,
    count: usize,
}

/// A slot and a direction as a holder of a tuple.
fn holder(slot: u32, dir: Dir) -> u32 {
    slot << 1 | dir.index() as u32
}

/// And back.
fn end_of(holder: u32) -> (u32, Dir) {
    let dir = match holder & 1 {
        0 => Dir::Original,
        _ => Dir::Reply,
    };
    (holder >> 1, dir)
}

fn bit(dir: Dir) -> u8 {
    match dir {
        Dir::Original => held_by::ORIGINAL,
        Dir::Reply => held_by::REPLY,
    }
}

fn has_tuple(slots: &Slots, holder: u32, t: &CtTuple) -> bool {
    let (slot, dir) = end_of(holder);
    slots.at(slot).is_some_and(|(_, c)| c.tuple(dir) == *t)
}

fn has_source(slots: &Slots, slot: u32, t: &CtTuple) -> bool {
    slots.at(slot).is_some_and(|(_, c)| {
        let own = c.tuple(Dir::Original);
        (own.proto, own.src, own.sport) == (t.proto, t.src, t.sport)
    })
}

/// Whether a connection is still there to be found by its source.
fn is_sourced(slots: &Slots, id: ConnId) -> bool {
    let slot = slots.slot(id.slot).filter(|_| slots.get(id).is_some());
    slot.is_some_and(|s| s.indexed & held_by::SOURCE != 0)
}

impl Table {
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let loose = self.loose.capacity() + self.unsourced.capacity();
        let loose = loose * size_of::<ConnId>();
        let indices = self.index.bytes() + self.sources.bytes();
        self.slots.bytes() + indices + self.alarms.bytes() + loose + self.holds.allocation_size()
    }

    pub fn get(&self, id: ConnId) -> Option<&Conn> {
        self.slots.get(id)
    }

    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.slots.get_mut(id)
    }

    /// Connections in slots, dead ones aside.
    pub fn count(&self) -> usize {
        self.count
    }

    pub fn iter(&self) -> impl Iterator<Item = (ConnId, &Conn)> {
        self.slots.iter()
    }

    /// The connection in a slot, if any: to pick some at random.
    pub fn at(&self, slot: usize) -> Option<(ConnId, &Conn)> {
        self.slots.at(u32::try_from(slot).ok()?)
    }

    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Everyone who has a tuple, in whichever zone, the newest first.
    pub fn with_tuple(&self, key: &Key) -> impl Iterator<Item = (ConnId, Dir, &Conn)> {
        let slots = &self.slots;
        let found = self
            .index
            .get(key.hash, |h| has_tuple(slots, h, &key.tuple));
        found.filter_map(|h| {
            let (slot, dir) = end_of(h);
            slots.at(slot).map(|(id, c)| (id, dir, c))
        })
    }

    /// Asks for the memory where a tuple's holders would be, ahead of looking for them.
    pub fn ahead(&self, t: &CtTuple) {
        self.index.ahead(hash_of(t));
    }

    /// Puts a connection into a slot without making it findable; `None` when all slots are taken.
    pub fn add(&mut self, conn: Conn) -> Option<ConnId> {
        let id = self.slots.add(conn)?;
        self.loose.push(id);
        self.count += 1;
        Some(id)
    }

    /// Says in a slot that it is in an index; true if it was not.
    fn enters(&mut self, id: ConnId, bit: u8) -> bool {
        let slot = self.slots.slot_mut(id.slot);
        slot.is_some_and(|s| {
            let new = s.indexed & bit == 0;
            s.indexed |= bit;
            new
        })
    }

    /// Makes a connection findable by `key`, the tuple of a direction, before all that have that tuple
    /// already: where a connection's two tuples are equal, its reply is found (kernel:
    /// `__nf_conntrack_hash_insert` puts each at its chain's head, the reply's last).
    pub fn index(&mut self, id: ConnId, dir: Dir, key: &Key) {
        if !self.enters(id, bit(dir)) {
            return;
        }
        let slots = &self.slots;
        self.index.add(key.hash, holder(id.slot, dir), |h| {
            has_tuple(slots, h, &key.tuple)
        });
    }

    /// Makes a connection unfindable; it stays in its slot until [`Table::reap`].
    pub fn take_out(&mut self, id: ConnId) {
        self.unindex(id);
        self.loose.push(id);
    }

    fn unindex(&mut self, id: ConnId) {
        let Some(tuples) = self.get(id).map(Conn::tuples) else {
            return;
        };
        self.count = self.count.saturating_sub(1);
        let Some(slot) = self.slots.slot_mut(id.slot) else {
            return;
        };
        let indexed = core::mem::take(&mut slot.indexed);
        let slots = &self.slots;
        for (t, dir) in tuples.iter().zip([Dir::Original, Dir::Reply]) {
            if indexed & bit(dir) != 0 {
                let has = |h| has_tuple(slots, h, t);
                self.index.remove(hash_of(t), holder(id.slot, dir), has);
            }
        }
        if indexed & held_by::SOURCE != 0 {
            let has = |h| has_source(slots, h, &tuples[0]);
            let hash = hash_of_source(&tuples[0]);
            self.sources.remove(hash, id.slot, has);
        }
    }

    /// Empties the slots of what is neither in the index nor held.
    pub fn reap(&mut self) {
        let mut kept = 0;
        for at in 0..self.loose.len() {
            let id = self.loose[at];
            match self.get(id) {
                None => {}
                Some(_) if !self.holds.is_empty() && self.holds.contains_key(&id) => {
                    self.loose[kept] = id;
                    kept += 1;
                }
                Some(c) if c.is_confirmed() && !c.is_dying() => {}
                Some(c) => {
                    if !c.is_dying() {
                        // Its source may be known already; forget that too.
                        self.unindex(id);
                    }
                    self.slots.remove(id);
                }
            }
        }
        self.loose.truncate(kept);
    }

    /// One more packet waits that belongs to a connection.
    pub fn hold(&mut self, id: ConnId) {
        if self.get(id).is_some() {
            let held = self.holds.entry(id).or_default();
            *held = held.saturating_add(1);
        }
    }

    /// One less.
    pub fn release(&mut self, id: ConnId) {
        if let Some(held) = self.holds.get_mut(&id) {
            *held -= 1;
            if *held == 0 {
                self.holds.remove(&id);
            }
        }
    }

    /// Remembers a connection by its source.
    pub fn add_by_source(&mut self, id: ConnId) {
        if self.get(id).is_none() || !self.enters(id, held_by::SOURCE) {
            return;
        }
        let len = self.unsourced.len();
        if len == self.unsourced.capacity() {
            if len > 2 * self.count {
                let slots = &self.slots;
                self.unsourced.retain(|id| is_sourced(slots, *id));
            }
            self.unsourced
                .reserve_exact(self.unsourced.len() / 4 + GROUP);
        }
        self.unsourced.push(id);
    }

    /// Who was remembered by the source that a tuple comes from, the newest first.
    pub fn by_source(&mut self, t: &CtTuple) -> impl Iterator<Item = (ConnId, &Conn)> {
        let slots = &self.slots;
        for id in self.unsourced.drain(..).filter(|id| is_sourced(slots, *id)) {
            let Some(own) = slots.get(id).map(|c| c.tuple(Dir::Original)) else {
                continue;
            };
            let has = |h| has_source(slots, h, &own);
            self.sources.add(hash_of_source(&own), id.slot, has);
        }
        let found: Holders<'_> = self
            .sources
            .get(hash_of_source(t), |h| has_source(slots, h, t));
        found.filter_map(|h| slots.at(h))
    }

    /// A connection has entered the table, or its life may have become shorter.
    pub fn alarm(&mut self, id: ConnId) {
        if let Some(c) = self.slots.get(id).filter(|c| c.is_confirmed()) {
            self.alarms.lower(id.slot, c.expires_tick());
        }
    }

    /// Whether a connection may be over.
    pub fn is_due(&self, now: Instant) -> bool {
        self.alarms.is_due(ticks(now))
    }

    /// Adds to `dead` what is over among the next neighbours that are due; false if none are.
    pub fn look(&mut self, now: Instant, dead: &mut Vec<ConnId>) -> bool {
        let Some(group) = self.alarms.due(ticks(now)) else {
            return false;
        };
        let mut next = None;
        for at in group * GROUP..(group + 1) * GROUP {
            let alive = |c: &Conn| c.is_confirmed() && !c.is_dying();
            match self.at(at).filter(|(_, c)| alive(c)) {
                Some((id, c)) if c.is_expired(now) => dead.push(id),
                Some((_, c)) => next = Some(c.expires_tick().min(next.unwrap_or(u64::MAX))),
                None => {}
            }
        }
        self.alarms.raise(group, next);
        true
    }
}
