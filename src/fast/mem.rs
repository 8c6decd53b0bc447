//! Large arrays of plain records, as for the flow table: zeroed, aligned to huge pages, backed by them where
//! the system grants it.
//!
//! Knows nothing of flows. Invariant: `len` records from `from` lie inside the mapping.

use bytemuck::{AnyBitPattern, NoUninit};
use memmap2::{Advice, MmapMut};
use std::marker::PhantomData;

/// Size of a huge page on every system that has them by `madvise`.
pub const HUGE: usize = 2 << 20;

/// The system refused memory: how many bytes, and what it said.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no memory for a table of {0} bytes: {1}")]
pub struct NoMemory(usize, String);

/// An array of `T` in memory of its own.
#[derive(Debug)]
pub struct Lines<T> {
    map: MmapMut,
    from: usize,
    bytes: usize,
    of: PhantomData<T>,
}

impl<T: NoUninit + AnyBitPattern> Lines<T> {
    /// `len` records of zeroes. Small arrays (below one huge page) stay on ordinary pages.
    pub fn new(len: usize) -> Result<Lines<T>, NoMemory> {
        let bytes = len * size_of::<T>();
        let map = MmapMut::map_anon(bytes + HUGE).map_err(|e| NoMemory(bytes, e.to_string()))?;
        let address = map.as_ptr().addr();
        let from = address.next_multiple_of(HUGE) - address;
        #[cfg(target_os = "linux")]
        if bytes >= HUGE {
            // Refused where the system has none: ordinary pages do the same, more slowly.
            let _ = map.advise_range(Advice::HugePage, from, bytes);
        }
        Ok(Lines {
            map,
            from,
            bytes,
            of: PhantomData,
        })
    }

    /// The records.
    #[inline(always)]
    pub fn all(&self) -> &[T] {
        bytemuck::cast_slice(&self.map[self.from..self.from + self.bytes])
    }

    /// The records, to be changed.
    #[inline(always)]
    pub fn all_mut(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(&mut self.map[self.from..self.from + self.bytes])
    }

    /// Bytes taken.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
