//! Frames on their way through the fast path together.
//!
//! Only a frame's first line is copied; the rest stays where it came from. Invariant: `fates[i]` is of frame
//! `i`, and frames keep their order.

use crate::fast::key::HEAD;

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

/// Frames with one way in.
#[derive(Debug)]
pub struct Batch<'a> {
    /// First lines.
    pub heads: Box<[Head]>,
    /// Whole lengths.
    pub lens: Box<[u32]>,
    /// The frames as they came, for their payload.
    pub frames: Vec<&'a [u8]>,
    /// Where they came in.
    pub ingress: u16,
    /// What became of each.
    pub fates: Box<[Fate]>,
}

impl<'a> Batch<'a> {
    /// An empty batch for frames that come in by a port.
    pub fn new(ingress: u16) -> Batch<'a> {
        Batch {
            heads: vec![Head([0; HEAD]); BATCH].into(),
            lens: vec![0; BATCH].into(),
            frames: Vec::with_capacity(BATCH),
            ingress,
            fates: vec![Fate::Waiting; BATCH].into(),
        }
    }

    /// Frames in it.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.frames.clear();
    }

    /// Takes a frame in; false when the batch is full.
    #[inline(always)]
    pub fn push(&mut self, frame: &'a [u8]) -> bool {
        let i = self.frames.len();
        if i >= BATCH {
            return false;
        }
        let head = &mut self.heads[i].0;
        match frame.first_chunk::<HEAD>() {
            Some(first) => *head = *first,
            None => {
                *head = [0; HEAD];
                head[..frame.len()].copy_from_slice(frame);
            }
        }
        self.lens[i] = frame.len() as u32;
        self.fates[i] = Fate::Waiting;
        self.frames.push(frame);
        true
    }

    /// A frame that was sent, as it left.
    pub fn sent(&self, i: usize) -> Vec<u8> {
        let mut out = self.frames[i].to_vec();
        let n = out.len().min(HEAD);
        out[..n].copy_from_slice(&self.heads[i].0[..n]);
        out
    }
}
