//! What an entry stands for besides its own line: its class, and the connections of its flow.
//!
//! Kept in planes, one for each connection that a path meets, since most meet one and memory of a flow is
//! counted. Invariant: entry `n` has as many connections as its class has holders.

use crate::base::NsId;
use crate::sim::fast::class::Classes;
use crate::sim::fast::record::{Held, Kept};
use crate::wire::ConnId;
use smallvec::SmallVec;

/// What rules may ask of a connection: status bits and mark.
pub(super) type Stamp = (u32, u32);

/// A connection, and the number of what was known of it.
#[derive(Clone, Copy, Debug, Default)]
struct Tie {
    slot: u32,
    generation: u32,
    stamp: u32,
}

/// All entries' classes and connections.
#[derive(Debug)]
pub(super) struct Ties {
    classes: Vec<u32>,
    planes: Vec<Vec<Tie>>,
    /// Stamps by number; there are few.
    stamps: indexmap::IndexSet<Stamp>,
    entries: usize,
}

/// Puts a value at a place of a row that grows to its length at once: doubling would hold twice of it.
fn put<T: Copy + Default>(row: &mut Vec<T>, at: usize, whole: usize, value: T) {
    if row.len() <= at {
        row.reserve_exact(whole.max(at + 1) - row.len());
        row.resize(at + 1, T::default());
    }
    row[at] = value;
}

impl Ties {
    /// For a table of so many entries.
    pub fn new(entries: usize) -> Ties {
        Ties {
            classes: Vec::new(),
            planes: Vec::new(),
            stamps: indexmap::IndexSet::new(),
            entries: entries + 1,
        }
    }

    /// The class of an entry.
    pub fn class(&self, n: u32) -> u32 {
        self.classes.get(n as usize).copied().unwrap_or(u32::MAX)
    }

    /// Sets what an entry stands for.
    pub fn set(&mut self, n: u32, class: u32, conns: &[(Held, Stamp)]) {
        put(&mut self.classes, n as usize, self.entries, class);
        for (at, (held, stamp)) in conns.iter().enumerate() {
            let tie = Tie {
                slot: held.id.slot,
                generation: held.id.generation,
                stamp: self.stamps.insert_full(*stamp).0 as u32,
            };
            if self.planes.len() <= at {
                self.planes.push(Vec::new());
            }
            put(&mut self.planes[at], n as usize, self.entries, tie);
        }
    }

    /// An entry stands for nothing any more.
    pub fn clear(&mut self, n: u32) {
        if let Some(class) = self.classes.get_mut(n as usize) {
            *class = u32::MAX;
        }
    }

    /// The connections of an entry and what was known of them.
    pub fn of(&self, n: u32, classes: &Classes) -> SmallVec<[(Held, Stamp); 8]> {
        let holders = classes.holders(self.class(n)).zip(&self.planes);
        let tie = |((ns, kept, reply, extra), plane): ((NsId, Kept, bool, i32), &Vec<Tie>)| {
            let tie = plane.get(n as usize)?;
            let id = ConnId {
                slot: tie.slot,
                generation: tie.generation,
            };
            let stamp = self.stamps.get_index(tie.stamp as usize).copied()?;
            let held = Held {
                kept,
                extra,
                ns,
                id,
                reply,
            };
            Some((held, stamp))
        };
        holders.filter_map(tie).collect()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let ties: usize = self
            .planes
            .iter()
            .map(|p| p.capacity() * size_of::<Tie>())
            .sum();
        ties + self.classes.capacity() * size_of::<u32>()
    }
}
