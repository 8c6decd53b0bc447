//! Frames in the order in which they come: of random flows, more of them than caches hold.
//!
//! Beside every batch lies what has to come of it: how many frames, and one of them byte by byte, as its walk
//! left it. Invariant: a ring is a number of whole batches.

use super::drive::Scene;
use super::sample::Sample;
use super::traffic::{fragments, with_options};
use crate::base::Rng;
use crate::base::cpu;
use crate::fast::{BATCH, Lines};
use anyhow::ensure;

/// Sizes of IMIX, and how many of twelve frames have each. (1,518 bytes on the wire have a checksum of four.)
const IMIX: [(usize, u64); 3] = [(64, 7), (594, 4), (1514, 1)];
/// Of a mix one of so many frames is of a new flow.
const NEW: usize = 10;
/// Slots begin at multiples of this.
pub const LINE: usize = 64;
/// Lines of the longest frame, options included, in bytes.
const ROOM: usize = 1536;

/// A frame: where it lies, in lines; how long it is, 0 for the first frame of a new flow; where it comes in.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    at: u32,
    /// Bytes.
    pub len: u16,
    /// The port's number.
    pub port: u16,
}

/// What has to come of a batch.
#[derive(Debug)]
pub struct Expected {
    /// Frames.
    pub frames: u32,
    /// One of them.
    pub sample: Option<Sample>,
}

/// Frames of random flows.
pub struct Ring {
    bytes: Lines<u8>,
    /// Bytes that are used.
    used: usize,
    slots: Vec<Slot>,
    expected: Vec<Expected>,
    next: usize,
}

/// A ring's frames where they lie.
#[derive(Clone, Copy, Debug)]
pub struct Frames<'a> {
    bytes: &'a [u8],
    slots: &'a [Slot],
}

impl<'a> Frames<'a> {
    /// The bytes of a slot.
    #[inline(always)]
    pub fn get(&self, s: &Slot) -> &'a [u8] {
        let at = s.at as usize * LINE;
        &self.bytes[at..at + usize::from(s.len)]
    }

    /// Asks for the first line of the frame that is `AHEAD` of a place: a ring lies in memory, and a card
    /// would have put it into the cache (DDIO).
    #[inline(always)]
    pub fn ask(&self, at: usize) {
        const AHEAD: usize = 16;
        let line = |s: &Slot| self.bytes.get(s.at as usize * LINE);
        if let Some(line) = self.slots.get(at + AHEAD).and_then(line) {
            cpu::line(line);
        }
    }
}

/// First frames of new flows, made before they are needed.
#[derive(Debug, Default)]
pub struct Fresh {
    bytes: Vec<u8>,
    frames: Vec<(usize, usize, u16)>,
}

impl Fresh {
    /// A frame and its port, by number.
    pub fn get(&self, n: usize) -> (u16, &[u8]) {
        let (at, len, port) = self.frames[n];
        (port, &self.bytes[at..at + len])
    }
}

/// A size by lot.
fn size(scene: &Scene, rng: &mut Rng) -> usize {
    if !scene.traffic.plan.mix {
        return scene.traffic.plan.size;
    }
    let mut lot = rng.below(IMIX.iter().map(|i| i.1).sum());
    for (size, share) in IMIX {
        match lot.checked_sub(share) {
            None => return size,
            Some(rest) => lot = rest,
        }
    }
    LINE
}

impl Ring {
    /// A ring of so many bytes of frames of the first `flows` flows, which are open.
    pub fn new(scene: &mut Scene, flows: u64, bytes: usize) -> anyhow::Result<Ring> {
        let mut rng = Rng::new(21);
        let mut ring = Ring {
            // The last batch may go beyond.
            bytes: Lines::new(bytes + BATCH * ROOM)?,
            used: 0,
            slots: Vec::with_capacity(bytes / LINE),
            expected: Vec::new(),
            next: 0,
        };
        let (odd, mix) = (scene.traffic.plan.odd as usize, scene.traffic.plan.mix);
        let pair = match odd {
            0 => [0; 2],
            _ => scene.fragments_arrive()?,
        };
        while ring.used < bytes || ring.slots.is_empty() {
            let mut frames = 0;
            let mut plain = Vec::new();
            let until = ring.slots.len() + BATCH;
            while ring.slots.len() < until {
                let (n, size) = (rng.below(flows), size(scene, &mut rng));
                let at = ring.slots.len();
                let (port, frame) = scene.any_frame(n, size, rng.below(2) == 1);
                let turn = match odd {
                    0 => None,
                    odd => (at % odd == odd - 1).then_some(at / odd % 2),
                };
                match turn {
                    Some(0) => ring.push(port, &with_options(&frame)),
                    // Both fragments are in one batch.
                    Some(_) if at + 1 < until => {
                        for (part, arrive) in fragments(&frame).iter().zip(pair) {
                            ring.push(port, part);
                            frames += arrive;
                        }
                        continue;
                    }
                    _ if mix && at % NEW == NEW - 1 => ring.slots.push(Slot {
                        at: size as u32,
                        len: 0,
                        port,
                    }),
                    _ => {
                        plain.push((at % BATCH, port, frame.clone()));
                        ring.push(port, &frame);
                    }
                }
                frames += 1;
            }
            let any = rng.below(plain.len().max(1) as u64) as usize;
            let sample = match plain.get(any) {
                Some((at, port, frame)) => Some(scene.sample(*at, *port, frame)?),
                None => None,
            };
            ring.expected.push(Expected { frames, sample });
        }
        ensure!(
            ring.used / LINE < u32::MAX as usize,
            "the ring is too large"
        );
        Ok(ring)
    }

    fn push(&mut self, port: u16, frame: &[u8]) {
        self.slots.push(Slot {
            at: (self.used / LINE) as u32,
            len: frame.len() as u16,
            port,
        });
        let at = self.used;
        self.bytes.all_mut()[at..at + frame.len()].copy_from_slice(frame);
        self.used += frame.len().next_multiple_of(LINE);
    }

    /// The frames, to be taken one after another.
    pub fn frames(&self) -> Frames<'_> {
        Frames {
            bytes: self.bytes.all(),
            slots: &self.slots,
        }
    }

    /// Where the next batch begins.
    pub fn position(&self) -> usize {
        self.next
    }

    /// Goes on there.
    pub fn set_position(&mut self, at: usize) {
        self.next = at;
    }

    /// The slots of the batch at a place, and what has to come of it.
    pub fn batch(&self, at: usize) -> (&[Slot], &Expected) {
        (&self.slots[at..at + BATCH], &self.expected[at / BATCH])
    }

    /// The same for whoever spoils it.
    #[cfg(test)]
    pub fn expected_mut(&mut self) -> &mut [Expected] {
        &mut self.expected
    }

    /// Slots there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// The first frames of new flows that the next `batches` want, from flow `next` on.
    pub fn fresh(&self, scene: &Scene, next: &mut u64, batches: usize) -> anyhow::Result<Fresh> {
        let mut fresh = Fresh::default();
        if !scene.traffic.plan.mix {
            return Ok(fresh);
        }
        for batch in 0..batches {
            let at = (self.next + batch * BATCH) % self.slots.len();
            for s in self.batch(at).0.iter().filter(|s| s.len == 0) {
                ensure!(
                    *next < scene.traffic.plan.flows(),
                    "all flows have been used: give fewer --flows, more --services or less time"
                );
                let (port, frame) = scene.frame(*next, s.at as usize);
                *next += 1;
                fresh.frames.push((fresh.bytes.len(), frame.len(), port));
                fresh.bytes.extend_from_slice(&frame);
            }
        }
        Ok(fresh)
    }
}
