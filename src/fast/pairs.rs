//! Pairs of IPv6 addresses as numbers: source and destination take 32 bytes, a key has room for 8.
//!
//! Two hosts talk in many flows, so that the last pair is often the next. Invariant: two frames with one
//! number have the same addresses; number 0 is nobody's.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// Source and destination, as they lie in the header.
pub type Pair = [u8; 32];

/// Slots of the quick look, a power of two.
const QUICK: usize = 1024;

/// All pairs seen.
#[derive(Debug)]
pub struct Pairs {
    quick: Box<[u32; QUICK]>,
    /// Asked by name only: the order inside reaches nobody.
    known: HashMap<Pair, u32, FixedState>,
    all: Vec<Pair>,
    most: usize,
}

#[inline(always)]
fn slot(pair: &Pair) -> usize {
    let (words, _) = pair.as_chunks::<8>();
    let word = |i: usize| u64::from_ne_bytes(words[i]);
    let a = u128::from(word(0) ^ word(3).rotate_left(17) ^ 0xa076_1d64_78bd_642f);
    let b = u128::from(word(1) ^ word(2).rotate_left(29) ^ 0xe703_7ed1_a0b4_28db);
    let m = a * b;
    ((m ^ m >> 64) as usize) % QUICK
}

impl Pairs {
    /// Room for so many.
    pub fn new(most: usize) -> Pairs {
        Pairs {
            quick: Box::new([0; QUICK]),
            known: HashMap::default(),
            all: vec![[0; 32]],
            most,
        }
    }

    /// The number of a pair; `None` when all are given away.
    #[inline(always)]
    pub fn number(&mut self, pair: &Pair) -> Option<u32> {
        let slot = slot(pair);
        let n = self.quick[slot];
        if n != 0 && self.all.get(n as usize) == Some(pair) {
            return Some(n);
        }
        self.learn(slot, pair)
    }

    #[cold]
    fn learn(&mut self, slot: usize, pair: &Pair) -> Option<u32> {
        let n = match self.known.get(pair) {
            Some(n) => *n,
            None if self.is_full() => return None,
            None => {
                let n = self.all.len() as u32;
                self.all.push(*pair);
                self.known.insert(*pair, n);
                n
            }
        };
        self.quick[slot] = n;
        Some(n)
    }

    /// The pair of a number.
    #[inline(always)]
    pub fn get(&self, n: u32) -> Option<&Pair> {
        self.all.get(n as usize)
    }

    /// Whether no further number can be given away.
    pub fn is_full(&self) -> bool {
        self.all.len() > self.most
    }

    /// Forgets them all: no entry made with one may be used any more.
    pub fn clear(&mut self) {
        *self = Pairs::new(self.most);
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.all.capacity() * size_of::<Pair>() + self.known.allocation_size()
    }
}
