//! Numbers found by hash, in as few lines of memory as can be: sorted cells with gaps between.
//!
//! Cells stand in the order of their hashes, each as near to its own place as those before it allow (linear
//! probing kept sorted): what is looked for, or entered, is in one or two neighbouring lines, what is not
//! there is missed at once, and growing is a copy from front to back that asks nobody for a hash. Invariant:
//! cells are sorted, none is before its place, and no cell between a place and its cell is empty.

use crate::base::cpu;

/// A cell with no number in it.
const EMPTY: u64 = u64::MAX;
/// Places of the smallest table.
const SMALLEST: usize = 16;

/// Numbers below `u32::MAX` by hash; several may have one hash.
#[derive(Clone, Debug, Default)]
pub(in crate::nf) struct Cells {
    /// Hash and number; those that found no room in front stand behind `places`.
    cells: Vec<u64>,
    places: usize,
    used: usize,
}

fn hash_in(cell: u64) -> u32 {
    (cell >> 32) as u32
}

/// The half of a hash that a cell keeps: it orders the cells, so that the other would add nothing.
fn kept(hash: u64) -> u32 {
    (hash >> 32) as u32
}

fn cell(hash: u64, number: u32) -> u64 {
    u64::from(kept(hash)) << 32 | u64::from(number)
}

impl Cells {
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.cells.capacity() * size_of::<u64>()
    }

    /// Numbers there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.used
    }

    /// Where a hash belongs: places are as the hashes are.
    #[inline]
    fn place(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.places as u64) >> 32) as usize
    }

    /// Where the number of a hash is that `is` right, and which it is.
    #[inline]
    pub fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<(usize, u32)> {
        let hash = kept(hash);
        let from = self.place(hash);
        for (i, c) in self.cells.get(from..)?.iter().enumerate() {
            if hash_in(*c) > hash || *c == EMPTY {
                return None;
            }
            if hash_in(*c) == hash && is(*c as u32) {
                return Some((from + i, *c as u32));
            }
        }
        None
    }

    /// Asks for the memory of a hash ahead of its use.
    #[inline]
    pub fn ahead(&self, hash: u64) {
        if let Some(c) = self.cells.get(self.place(kept(hash))) {
            cpu::line(c);
        }
    }

    /// Puts another number in the place of one that was found.
    pub fn replace(&mut self, at: usize, number: u32) {
        if let Some(c) = self.cells.get_mut(at) {
            *c = *c >> 32 << 32 | u64::from(number);
        }
    }

    /// Enters a number behind those of its hash; cells behind it move on to the next gap.
    pub fn enter(&mut self, hash: u64, number: u32) {
        if self.used >= self.places / 6 * 5 {
            self.grow();
        }
        self.used += 1;
        let mut carried = cell(hash, number);
        let from = self.place(hash_in(carried));
        for c in self.cells.iter_mut().skip(from) {
            if *c == EMPTY {
                *c = carried;
                return;
            }
            if hash_in(*c) > hash_in(carried) {
                core::mem::swap(c, &mut carried);
            }
        }
        if self.cells.len() == self.cells.capacity() {
            self.cells.reserve_exact(SMALLEST);
        }
        self.cells.push(carried);
    }

    /// A fifth more places; cells keep their order, so both tables are gone through from front to back.
    fn grow(&mut self) {
        let more = (self.places / 5 * 6).next_multiple_of(SMALLEST);
        self.places = more.max(self.places + SMALLEST);
        let mut cells = Vec::with_capacity(self.places + SMALLEST);
        for c in self.cells.iter().filter(|c| **c != EMPTY) {
            let place = self.place(hash_in(*c));
            if cells.len() < place {
                cells.resize(place, EMPTY);
            }
            cells.push(*c);
        }
        if cells.len() < self.places {
            cells.resize(self.places, EMPTY);
        }
        self.cells = cells;
    }

    /// Takes out what was found; cells behind it that are not in their places move up.
    pub fn leave(&mut self, at: usize) {
        if self.cells.get(at).is_none_or(|c| *c == EMPTY) {
            return;
        }
        self.used -= 1;
        let mut gap = at;
        while let Some(c) = self.cells.get(gap + 1).copied()
            && c != EMPTY
            && self.place(hash_in(c)) <= gap
        {
            self.cells[gap] = c;
            gap += 1;
        }
        match gap >= self.places {
            // The last of those behind the places.
            true => self.cells.truncate(gap),
            false => self.cells[gap] = EMPTY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// What the search and the copy go by.
    fn check(t: &Cells) {
        let full = t.cells.iter().enumerate().filter(|(_, c)| **c != EMPTY);
        let full: Vec<(usize, u64)> = full.map(|(i, c)| (i, *c)).collect();
        assert!(full.windows(2).all(|w| hash_in(w[0].1) <= hash_in(w[1].1)));
        for (i, c) in &full {
            let place = t.place(hash_in(*c));
            assert!(place <= *i, "before its place");
            assert!(t.cells[place..*i].iter().all(|c| *c != EMPTY));
        }
        assert_eq!(full.len(), t.len());
        assert!(t.cells.len() >= t.places);
    }

    /// Hashes at both ends and beside each other, few of many numbers, and many.
    fn hash(n: u32, spread: u32) -> u64 {
        let ends = [u32::MAX, u32::MAX - 1, 0, 1, 1 << 31, 7];
        let kept = match spread {
            0 => ends[n as usize % 6],
            1 => n << 3,
            _ => n.wrapping_mul(0x9e37_79b9),
        };
        u64::from(kept) << 32
    }

    proptest! {
        #[test]
        fn cells_stay_in_order(
            steps in proptest::collection::vec((any::<bool>(), 0u32..120, 0u32..3), 0..400),
        ) {
            let mut table = Cells::default();
            let mut model = BTreeSet::new();
            for (add, n, spread) in steps {
                let (number, hash) = (n * 3 + spread, hash(n, spread));
                let found = table.find(hash, |m| m == number);
                prop_assert_eq!(found.map(|f| f.1), model.get(&number).copied());
                match found {
                    None if add => {
                        table.enter(hash, number);
                        model.insert(number);
                    }
                    Some((at, _)) if !add => {
                        table.leave(at);
                        model.remove(&number);
                    }
                    _ => {}
                }
                check(&table);
            }
            for n in &model {
                let at = table.find(hash(n / 3, n % 3), |m| m == *n);
                prop_assert!(at.is_some());
            }
        }
    }
}
