//! Who has a key: eight bytes for each of the many that one connection has, a list where several have one.
//!
//! The keys themselves lie in the connections; whoever asks says how to compare a holder. Invariant: the
//! holders of a key stand newest first, and none twice.

use crate::nf::cells::Cells;
use std::collections::{VecDeque, vec_deque};

/// Marks an entry that is the number of a list, not a holder.
const LIST: u32 = 1 << 31;

/// Key to holders, numbers below 2^31.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    cells: Cells,
    lists: Vec<VecDeque<u32>>,
    /// Numbers of lists that are not in use.
    spare: Vec<u32>,
}

/// The holders of a key, newest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Holders<'a> {
    one: Option<u32>,
    several: vec_deque::Iter<'a, u32>,
}

impl Iterator for Holders<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        self.one.take().or_else(|| self.several.next().copied())
    }
}

/// A holder that has an entry's key.
#[inline]
fn first(lists: &[VecDeque<u32>], entry: u32) -> u32 {
    match entry & LIST {
        0 => entry,
        _ => *lists
            .get((entry & !LIST) as usize)
            .and_then(VecDeque::front)
            .unwrap_or(&!LIST),
    }
}

impl Index {
    /// The holders of the key with that hash that `has` tells of a holder.
    #[inline]
    pub fn get(&self, hash: u64, has: impl Fn(u32) -> bool) -> Holders<'_> {
        let lists = &self.lists;
        match self.cells.find(hash, |e| has(first(lists, e))) {
            None => Holders::default(),
            Some((_, e)) if e & LIST == 0 => Holders {
                one: Some(e),
                several: vec_deque::Iter::default(),
            },
            Some((_, e)) => Holders {
                one: None,
                several: lists
                    .get((e & !LIST) as usize)
                    .map(VecDeque::iter)
                    .unwrap_or_default(),
            },
        }
    }

    /// Asks for the memory of a hash ahead of its use.
    pub fn ahead(&self, hash: u64) {
        self.cells.ahead(hash);
    }

    /// Adds a holder that the key does not have yet, before all others.
    pub fn add(&mut self, hash: u64, holder: u32, has: impl Fn(u32) -> bool) {
        let lists = &self.lists;
        let Some((at, known)) = self.cells.find(hash, |e| has(first(lists, e))) else {
            return self.cells.enter(hash, holder);
        };
        if known & LIST != 0 {
            if let Some(list) = self.lists.get_mut((known & !LIST) as usize) {
                list.push_front(holder);
            }
            return;
        }
        let both = VecDeque::from([holder, known]);
        let len = self.lists.len();
        let n = match self.spare.pop().filter(|n| (*n as usize) < len) {
            Some(n) => {
                self.lists[n as usize] = both;
                n
            }
            None => {
                self.lists.push(both);
                // As many lists as holders at most: below 2^31.
                len as u32
            }
        };
        self.cells.replace(at, n | LIST);
    }

    /// Takes a holder out; `has` tells the key of a holder.
    pub fn remove(&mut self, hash: u64, holder: u32, has: impl Fn(u32) -> bool) {
        let lists = &self.lists;
        let found = self
            .cells
            .find(hash, |e| e == holder || has(first(lists, e)));
        let Some((at, known)) = found else { return };
        if known == holder {
            return self.cells.leave(at);
        }
        let Some(list) = self
            .lists
            .get_mut((known & !LIST) as usize)
            .filter(|_| known & LIST != 0)
        else {
            return;
        };
        // The oldest go first as a rule.
        if let Some(behind) = list.iter().rev().position(|h| *h == holder) {
            list.remove(list.len() - 1 - behind);
        }
        if list.len() == 1 {
            let last = list.front().copied().unwrap_or(holder);
            *list = VecDeque::new();
            self.cells.replace(at, last);
            self.spare.push(known & !LIST);
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let lists: usize = self.lists.iter().map(VecDeque::capacity).sum();
        let heads = self.lists.capacity() * size_of::<VecDeque<u32>>();
        let numbers = lists + self.spare.capacity();
        self.cells.bytes() + heads + numbers * size_of::<u32>()
    }

    /// Keys there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.cells.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Holder `n` has key `n % 5`; hashes collide on purpose.
        #[test]
        fn holders_stand_newest_first(steps in proptest::collection::vec((any::<bool>(), 0u32..40), 0..200)) {
            let mut index = Index::default();
            let mut model: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
            for (add, holder) in steps {
                let key = holder % 5;
                let has = |h: u32| h % 5 == key;
                let hash = |k: u32| u64::from(k % 2) << 32;
                let known = model.entry(key).or_default();
                if add && !known.contains(&holder) {
                    known.insert(0, holder);
                    index.add(hash(key), holder, has);
                } else if !add && known.contains(&holder) {
                    known.retain(|h| *h != holder);
                    index.remove(hash(key), holder, has);
                }
                for key in 0..5 {
                    let found: Vec<u32> = index.get(hash(key), |h| h % 5 == key).collect();
                    prop_assert_eq!(&found, model.entry(key).or_default());
                }
            }
            prop_assert_eq!(index.len(), model.values().filter(|l| !l.is_empty()).count());
            let lists = model.values().filter(|l| l.len() > 1).count();
            prop_assert_eq!(index.lists.len() - index.spare.len(), lists);
        }
    }
}
