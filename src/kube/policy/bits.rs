//! Sets of small numbers, a bit each.
//!
//! For identities, classes and nodes. Sets of different lengths combine; what is beyond the end is not in
//! the set. No operation but growing allocates.

/// A set of `u32`.
#[derive(Clone, Debug, Default)]
pub struct BitSet {
    words: Vec<u64>,
}

impl PartialEq for BitSet {
    /// By members: words behind the last member do not count.
    fn eq(&self, other: &BitSet) -> bool {
        let len = self.words.len().max(other.words.len());
        (0..len).all(|at| self.word(at) == other.word(at))
    }
}

impl Eq for BitSet {}

fn split(member: u32) -> (usize, u64) {
    ((member / 64) as usize, 1 << (member % 64))
}

impl BitSet {
    /// Nothing.
    pub fn new() -> Self {
        BitSet::default()
    }

    /// All of `0..count`.
    pub fn full(count: u32) -> Self {
        let mut words = vec![u64::MAX; (count / 64) as usize];
        if !count.is_multiple_of(64) {
            words.push((1 << (count % 64)) - 1);
        }
        BitSet { words }
    }

    /// 64 members from `64 * at` on.
    pub fn word(&self, at: usize) -> u64 {
        self.words.get(at).copied().unwrap_or_default()
    }

    /// Whether it has a member.
    pub fn has(&self, member: u32) -> bool {
        let (at, bit) = split(member);
        self.word(at) & bit != 0
    }

    /// Puts a member in.
    pub fn insert(&mut self, member: u32) {
        let (at, bit) = split(member);
        if self.words.len() <= at {
            self.words.resize(at + 1, 0);
        }
        if let Some(word) = self.words.get_mut(at) {
            *word |= bit;
        }
    }

    /// Takes a member out.
    pub fn remove(&mut self, member: u32) {
        let (at, bit) = split(member);
        if let Some(word) = self.words.get_mut(at) {
            *word &= !bit;
        }
    }

    /// Puts or takes.
    pub fn set(&mut self, member: u32, present: bool) {
        match present {
            true => self.insert(member),
            false => self.remove(member),
        }
    }

    /// Replaces 64 members from `64 * at` on, of a set that reaches so far.
    pub fn set_word(&mut self, at: usize, word: u64) {
        if self.words.len() <= at && word != 0 {
            self.words.resize(at + 1, 0);
        }
        if let Some(own) = self.words.get_mut(at) {
            *own = word;
        }
    }

    /// Adds what `other` has.
    pub fn or(&mut self, other: &BitSet) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (own, other) in self.words.iter_mut().zip(&other.words) {
            *own |= other;
        }
    }

    /// Adds what both others have.
    pub fn or_and(&mut self, a: &BitSet, b: &BitSet) {
        let len = a.words.len().min(b.words.len());
        if self.words.len() < len {
            self.words.resize(len, 0);
        }
        for ((own, a), b) in self.words.iter_mut().zip(&a.words).zip(&b.words) {
            *own |= a & b;
        }
    }

    /// Keeps what `other` has too.
    pub fn and(&mut self, other: &BitSet) {
        self.words.truncate(other.words.len());
        for (own, other) in self.words.iter_mut().zip(&other.words) {
            *own &= other;
        }
    }

    /// Takes out what `other` has.
    pub fn and_not(&mut self, other: &BitSet) {
        for (own, other) in self.words.iter_mut().zip(&other.words) {
            *own &= !other;
        }
    }

    /// Whether it has no member.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// How many members it has.
    pub fn count(&self) -> u64 {
        self.words
            .iter()
            .map(|word| u64::from(word.count_ones()))
            .sum()
    }

    /// Its lowest member.
    pub fn first(&self) -> Option<u32> {
        self.iter().next()
    }

    /// Its members, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0_u32..).zip(&self.words).flat_map(|(at, word)| {
            let mut left = *word;
            core::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(at * 64 + bit)
            })
        })
    }
}

impl FromIterator<u32> for BitSet {
    fn from_iter<I: IntoIterator<Item = u32>>(members: I) -> Self {
        let mut set = BitSet::new();
        members.into_iter().for_each(|member| set.insert(member));
        set
    }
}

/// Turns a block of 64 by 64 bits: bit `c` of word `r` becomes bit `r` of word `c`.
pub fn transpose(block: &mut [u64; 64]) {
    let (mut width, mut mask) = (32, 0x0000_0000_ffff_ffff_u64);
    while width != 0 {
        let mut row = 0;
        while row < 64 {
            // Rows whose `width` bit is clear, each with its partner `width` below.
            let other = row + width;
            if let Ok([a, b]) = block.get_disjoint_mut([row, other]) {
                let swap = ((*a >> width) ^ *b) & mask;
                *a ^= swap << width;
                *b ^= swap;
            }
            row = (other + 1) & !width;
        }
        width >>= 1;
        mask ^= mask << width;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_different_lengths_combine() {
        let mut a: BitSet = [1, 70, 200].into_iter().collect();
        let b: BitSet = [1, 64].into_iter().collect();
        let mut both = a.clone();
        both.and(&b);
        assert_eq!(both.iter().collect::<Vec<_>>(), [1]);
        a.and_not(&b);
        assert_eq!(a.iter().collect::<Vec<_>>(), [70, 200]);
        a.or(&b);
        assert_eq!((a.count(), a.has(64), a.has(4000)), (4, true, false));
        a.remove(200);
        a.remove(64);
        assert_eq!(a, [1, 70].into_iter().collect());
        assert_eq!(BitSet::full(130).count(), 130);
        assert!(!BitSet::full(130).has(130) && BitSet::full(0).is_empty());
    }

    #[test]
    fn a_block_turns() {
        let mut rng = crate::base::Rng::new(7);
        let before: [u64; 64] = core::array::from_fn(|_| rng.next_u64());
        let mut after = before;
        transpose(&mut after);
        for (r, row) in before.iter().enumerate() {
            for (c, column) in after.iter().enumerate() {
                assert_eq!(row >> c & 1, column >> r & 1, "{r} {c}");
            }
        }
    }
}
