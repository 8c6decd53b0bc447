//! Where frames come in: a port and the pair of MAC addresses, as one number for the key.
//!
//! A pod sends to a handful of addresses, so the last one is nearly always the next. Invariant: two frames
//! with one number came in by one port with the same addresses.

use crate::fast::key::HEAD;
use std::collections::BTreeMap;

/// Slots of the quick look, a power of two.
const QUICK: usize = 1024;

#[derive(Clone, Copy, Debug, Default)]
struct Door {
    port: u16,
    macs: [u8; 12],
    number: u16,
}

/// All ways in.
#[derive(Debug)]
pub struct Doors {
    quick: Box<[Door; QUICK]>,
    known: BTreeMap<(u16, [u8; 12]), u16>,
}

impl Default for Doors {
    fn default() -> Self {
        Doors {
            quick: Box::new([Door::default(); QUICK]),
            known: BTreeMap::new(),
        }
    }
}

impl Doors {
    /// The number of a frame's way in; 0 when all 65,535 are given away.
    #[inline(always)]
    pub fn number(&mut self, port: u16, head: &[u8; HEAD]) -> u16 {
        let mut macs = [0; 12];
        macs.copy_from_slice(&head[..12]);
        let low = u64::from_ne_bytes([
            macs[0], macs[1], macs[2], macs[3], macs[4], macs[5], macs[6], macs[7],
        ]);
        let high = u32::from_ne_bytes([macs[8], macs[9], macs[10], macs[11]]);
        let a = u128::from(low ^ 0xa076_1d64_78bd_642f);
        let b = u128::from((u64::from(high) | u64::from(port) << 32) ^ 0xe703_7ed1_a0b4_28db);
        let mixed = a * b;
        let slot = ((mixed ^ mixed >> 64) as usize) % QUICK;
        let d = &self.quick[slot];
        if (d.macs == macs) & (d.port == port) & (d.number != 0) {
            return d.number;
        }
        self.learn(slot, port, macs)
    }

    #[cold]
    fn learn(&mut self, slot: usize, port: u16, macs: [u8; 12]) -> u16 {
        let next = u16::try_from(self.known.len() + 1).unwrap_or(0);
        let number = match self.known.get(&(port, macs)) {
            Some(n) => *n,
            None if next == 0 => return 0,
            None => {
                self.known.insert((port, macs), next);
                next
            }
        };
        self.quick[slot] = Door { port, macs, number };
        number
    }

    /// Whether no further number can be given away.
    pub fn is_full(&self) -> bool {
        self.known.len() >= usize::from(u16::MAX)
    }

    /// Forgets them all: no entry made with one may be used any more.
    pub fn clear(&mut self) {
        *self = Doors::default();
    }
}
