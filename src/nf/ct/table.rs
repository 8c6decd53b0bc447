//! Slots, generations and indices of the table.
//!
//! Invariant: an index entry names a live slot; a slot that is given away again has a new generation.

use super::conn::Conn;
use super::tuple::{CtTuple, Dir};
use crate::base::limits;
use crate::wire::ConnId;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use smallvec::SmallVec;
use std::net::IpAddr;

#[derive(Clone, Debug, Default)]
struct Slot {
    generation: u32,
    conn: Option<Box<Conn>>,
}

type Holders = SmallVec<[(ConnId, Dir); 1]>;
type SourceKey = (u8, IpAddr, u16);

/// Where the connections are.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    index: HashMap<CtTuple, Holders, FixedState>,
    sources: HashMap<SourceKey, Vec<ConnId>, FixedState>,
    /// Not in the index: new or dead. Looked at when a walk ends.
    loose: Vec<ConnId>,
    count: usize,
}

fn source_key(t: &CtTuple) -> SourceKey {
    (t.proto, t.src, t.sport)
}

impl Table {
    pub fn get(&self, id: ConnId) -> Option<&Conn> {
        let slot = self.slots.get(id.slot as usize)?;
        (slot.generation == id.generation).then_some(slot.conn.as_deref()?)
    }

    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        (slot.generation == id.generation).then_some(slot.conn.as_deref_mut()?)
    }

    /// Connections in slots, dead ones aside.
    pub fn count(&self) -> usize {
        self.count
    }

    pub fn iter(&self) -> impl Iterator<Item = (ConnId, &Conn)> {
        self.slots.iter().zip(0u32..).filter_map(|(slot, at)| {
            let id = ConnId {
                slot: at,
                generation: slot.generation,
            };
            Some((id, slot.conn.as_deref()?))
        })
    }

    /// The connection in a slot, if any: to pick some at random.
    pub fn at(&self, slot: usize) -> Option<(ConnId, &Conn)> {
        let s = self.slots.get(slot)?;
        let id = ConnId {
            slot: u32::try_from(slot).ok()?,
            generation: s.generation,
        };
        Some((id, s.conn.as_deref()?))
    }

    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Everyone who has a tuple, in whichever zone.
    pub fn with_tuple(&self, t: &CtTuple) -> &[(ConnId, Dir)] {
        self.index.get(t).map_or(&[], |h| h.as_slice())
    }

    /// Puts a connection into a slot without making it findable; `None` when all slots are taken.
    pub fn add(&mut self, conn: Conn) -> Option<ConnId> {
        let at = match self.free.pop() {
            Some(at) => at,
            None if self.slots.len() < limits::CT_SLOTS_MAX => {
                self.slots.push(Slot::default());
                u32::try_from(self.slots.len() - 1).ok()?
            }
            None => return None,
        };
        let slot = self.slots.get_mut(at as usize)?;
        slot.conn = Some(Box::new(conn));
        let id = ConnId {
            slot: at,
            generation: slot.generation,
        };
        self.loose.push(id);
        self.count += 1;
        Some(id)
    }

    /// Makes a connection findable by the tuple of a direction, before all that have that tuple already:
    /// where a connection's two tuples are equal, its reply is found (kernel: `__nf_conntrack_hash_insert`
    /// puts each at its chain's head, the reply's last).
    pub fn index(&mut self, id: ConnId, dir: Dir) {
        let Some(tuple) = self.get(id).map(|c| *c.tuple(dir)) else {
            return;
        };
        let holders = self.index.entry(tuple).or_default();
        if !holders.contains(&(id, dir)) {
            holders.insert(0, (id, dir));
        }
    }

    /// Makes a connection unfindable; it stays in its slot until [`Table::reap`].
    pub fn take_out(&mut self, id: ConnId) {
        let Some(tuples) = self.get(id).map(|c| c.tuples) else {
            return;
        };
        for t in &tuples {
            if let Some(holders) = self.index.get_mut(t) {
                holders.retain(|(other, _)| *other != id);
                if holders.is_empty() {
                    self.index.remove(t);
                }
            }
        }
        let key = source_key(&tuples[0]);
        if let Some(ids) = self.sources.get_mut(&key) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.sources.remove(&key);
            }
        }
        self.count = self.count.saturating_sub(1);
        self.loose.push(id);
    }

    /// Empties the slots of what is neither in the index nor held.
    pub fn reap(&mut self) {
        for id in core::mem::take(&mut self.loose) {
            match self.get(id) {
                None => {}
                Some(c) if c.held > 0 => self.loose.push(id),
                Some(c) if c.is_confirmed() && !c.is_dying() => {}
                Some(c) => {
                    if !c.is_dying() {
                        // Its source may be known already; forget that too.
                        self.take_out(id);
                    }
                    self.empty(id);
                }
            }
        }
    }

    fn empty(&mut self, id: ConnId) {
        if let Some(slot) = self.slots.get_mut(id.slot as usize)
            && slot.generation == id.generation
            && slot.conn.take().is_some()
        {
            slot.generation = slot.generation.wrapping_add(1);
            self.free.push(id.slot);
        }
    }

    pub fn add_by_source(&mut self, id: ConnId) {
        if let Some(key) = self.get(id).map(|c| source_key(&c.tuples[0])) {
            let ids = self.sources.entry(key).or_default();
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
    }

    pub fn by_source(&self, t: &CtTuple) -> &[ConnId] {
        self.sources.get(&source_key(t)).map_or(&[], Vec::as_slice)
    }
}
