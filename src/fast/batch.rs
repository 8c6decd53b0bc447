//! Frames on their way through the fast path together.
//!
//! Only a frame's first line is copied (and what else of it is rewritten); the rest stays where it came
//! from. Invariant: `fates[i]` is of frame `i`, and frames keep their order.

use crate::fast::apply::{TAIL, has_tail};
use crate::fast::key::{HEAD, first_line};

/// Frames of one batch at most.
pub const BATCH: usize = 256;

/// The first line of a frame, alone in its cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub struct Head(pub [u8; HEAD]);

/// What became of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Fate {
    /// Not looked at yet.
    #[default]
    Waiting,
    /// It left by this port, rewritten in place.
    Sent(u16),
    /// It was walked: so many frames came of it.
    Walked(u32),
}

/// Frames and where each came in.
#[derive(Debug)]
pub struct Batch<'a> {
    /// First lines.
    pub heads: Box<[Head; BATCH]>,
    /// What is rewritten behind the first line; see [`has_tail`].
    pub tails: Box<[[u8; TAIL]; BATCH]>,
    /// The frames as they came, for their payload.
    pub frames: Box<[&'a [u8]; BATCH]>,
    /// Where each came in: numbers of ports.
    pub ingress: Box<[u16; BATCH]>,
    /// What became of each, once the batch was carried.
    pub fates: Box<[Fate; BATCH]>,
    len: usize,
}

/// The first line of a frame that has no whole one. Apart, so that the other way stays a copy of one line.
#[cold]
#[inline(never)]
fn short(frame: &[u8]) -> Head {
    Head(first_line(frame))
}

impl Default for Batch<'_> {
    fn default() -> Self {
        Batch::new()
    }
}

impl<'a> Batch<'a> {
    /// An empty batch.
    pub fn new() -> Batch<'a> {
        Batch {
            heads: Box::new([Head([0; HEAD]); BATCH]),
            tails: Box::new([[0; TAIL]; BATCH]),
            frames: Box::new([&[]; BATCH]),
            len: 0,
            ingress: Box::new([0; BATCH]),
            fates: Box::new([Fate::Waiting; BATCH]),
        }
    }

    /// Frames in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Takes a frame in that came by a port; false when the batch is full.
    #[inline(always)]
    pub fn push(&mut self, ingress: u16, frame: &'a [u8]) -> bool {
        let i = self.len;
        if i >= BATCH {
            return false;
        }
        match frame.first_chunk::<HEAD>() {
            Some(first) => self.heads[i] = Head(*first),
            None => self.heads[i] = short(frame),
        }
        self.ingress[i] = ingress;
        self.frames[i] = frame;
        self.len = i + 1;
        true
    }

    /// A frame that was sent, as it left.
    pub fn sent(&self, i: usize) -> Vec<u8> {
        let mut out = self.frames[i].to_vec();
        let n = out.len().min(HEAD);
        out[..n].copy_from_slice(&self.heads[i].0[..n]);
        if has_tail(&self.heads[i].0)
            && let Some(rest) = out.get_mut(HEAD..HEAD + TAIL)
        {
            rest.copy_from_slice(&self.tails[i]);
        }
        out
    }
}
