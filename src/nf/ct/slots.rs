//! Where connections lie: slots in blocks of one size, so that growing copies nothing and doubles nothing.
//!
//! Invariant: a slot that is given away again has a new generation; the slot freed last is the first to be
//! used again.

use super::conn::Conn;
use crate::base::limits;
use crate::wire::ConnId;

/// Slots of a block; only the first block grows by doubling, for the many namespaces with few connections.
const BLOCK: usize = 1024;
/// No slot.
const NONE: u32 = u32::MAX;

#[derive(Clone, Debug)]
enum Content {
    /// Free, with the slot that was freed before it.
    Free(u32),
    Conn(Conn),
}

/// Which indices hold a slot's connection.
pub(super) mod held_by {
    pub const ORIGINAL: u8 = 1;
    pub const REPLY: u8 = 2;
    pub const SOURCE: u8 = 4;
}

#[derive(Clone, Debug)]
pub(super) struct Slot {
    content: Content,
    generation: u32,
    /// Bits of [`held_by`].
    pub indexed: u8,
}

impl Slot {
    pub fn conn(&self) -> Option<&Conn> {
        match &self.content {
            Content::Conn(c) => Some(c),
            Content::Free(_) => None,
        }
    }

    fn conn_mut(&mut self) -> Option<&mut Conn> {
        match &mut self.content {
            Content::Conn(c) => Some(c),
            Content::Free(_) => None,
        }
    }
}

/// All slots.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    blocks: Vec<Vec<Slot>>,
    free: u32,
}

impl Default for Slots {
    fn default() -> Self {
        Slots {
            blocks: Vec::new(),
            free: NONE,
        }
    }
}

impl Slots {
    /// Slots there are, free or not.
    pub fn len(&self) -> usize {
        let full = self.blocks.len().saturating_sub(1) * BLOCK;
        full + self.blocks.last().map_or(0, Vec::len)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let slots: usize = self.blocks.iter().map(Vec::capacity).sum();
        slots * size_of::<Slot>() + self.blocks.capacity() * size_of::<Vec<Slot>>()
    }

    pub fn slot(&self, at: u32) -> Option<&Slot> {
        let at = at as usize;
        self.blocks.get(at / BLOCK)?.get(at % BLOCK)
    }

    pub fn slot_mut(&mut self, at: u32) -> Option<&mut Slot> {
        let at = at as usize;
        self.blocks.get_mut(at / BLOCK)?.get_mut(at % BLOCK)
    }

    pub fn get(&self, id: ConnId) -> Option<&Conn> {
        let slot = self.slot(id.slot)?;
        (slot.generation == id.generation).then_some(slot.conn()?)
    }

    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        let slot = self.slot_mut(id.slot)?;
        (slot.generation == id.generation).then_some(slot.conn_mut()?)
    }

    /// The connection in a slot.
    pub fn at(&self, at: u32) -> Option<(ConnId, &Conn)> {
        let slot = self.slot(at)?;
        let id = ConnId {
            slot: at,
            generation: slot.generation,
        };
        Some((id, slot.conn()?))
    }

    /// All connections, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (ConnId, &Conn)> {
        self.blocks
            .iter()
            .flatten()
            .zip(0u32..)
            .filter_map(|(slot, at)| {
                let id = ConnId {
                    slot: at,
                    generation: slot.generation,
                };
                Some((id, slot.conn()?))
            })
    }

    /// Puts a connection into a slot; `None` when all are taken.
    pub fn add(&mut self, conn: Conn) -> Option<ConnId> {
        let at = self.free;
        if let Some(slot) = self.slot_mut(at)
            && let Content::Free(next) = slot.content
        {
            slot.content = Content::Conn(conn);
            let generation = slot.generation;
            self.free = next;
            return Some(ConnId {
                slot: at,
                generation,
            });
        }
        let at = self.len();
        if at >= limits::CT_SLOTS_MAX {
            return None;
        }
        if at.is_multiple_of(BLOCK) {
            let room = if at == 0 { 0 } else { BLOCK };
            self.blocks.push(Vec::with_capacity(room));
        }
        self.blocks.last_mut()?.push(Slot {
            content: Content::Conn(conn),
            generation: 0,
            indexed: 0,
        });
        Some(ConnId {
            slot: u32::try_from(at).ok()?,
            generation: 0,
        })
    }

    /// Empties a slot.
    pub fn remove(&mut self, id: ConnId) {
        let free = self.free;
        if let Some(slot) = self.slot_mut(id.slot)
            && slot.generation == id.generation
            && slot.conn().is_some()
        {
            slot.content = Content::Free(free);
            slot.generation = slot.generation.wrapping_add(1);
            slot.indexed = 0;
            self.free = id.slot;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nf::ct::{CtTuple, Zones};

    /// What a flow costs before its two places in the index (see tests/conntrack_speed.rs).
    #[test]
    fn a_slot_is_small() {
        assert!(size_of::<Slot>() <= 88, "{}", size_of::<Slot>());
    }

    #[test]
    fn what_was_freed_last_comes_first() {
        let ip = "10.0.0.1".parse().unwrap();
        let t = CtTuple::of(ip, ip, 99, &[]).unwrap();
        let conn = || Conn::new(t, t, Zones::default());
        let mut slots = Slots::default();
        let ids: Vec<ConnId> = (0..3000).map(|_| slots.add(conn()).unwrap()).collect();
        assert_eq!((slots.len(), slots.iter().count()), (3000, 3000));
        for at in [7, 2048, 1023] {
            slots.remove(ids[at]);
            slots.remove(ids[at]);
            assert!(slots.get(ids[at]).is_none());
        }
        for at in [1023, 2048, 7] {
            let id = slots.add(conn()).unwrap();
            assert_eq!((id.slot, id.generation), (at, 1));
        }
        assert_eq!(slots.add(conn()).unwrap().slot, 3000);
    }
}
