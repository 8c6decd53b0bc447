//! Batches handed from worker to worker: bounded queues without locks, one for each pair and direction.
//!
//! Parcels go back empty to where they came from, so that none is allocated once there are enough. Invariant:
//! parcels of one sender arrive in the order in which they were sent.

use crate::fast::BATCH;
use crossbeam::queue::ArrayQueue;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Parcels that may wait for one worker from one other.
const WAITING: usize = 64;

/// Frames for another worker.
#[derive(Debug, Default)]
pub(super) struct Parcel {
    bytes: Vec<u8>,
    frames: Vec<(usize, usize, u16)>,
}

impl Parcel {
    /// Takes a frame in that came by a port; true when it is full.
    #[inline]
    pub fn push(&mut self, port: u16, frame: &[u8]) -> bool {
        self.frames.push((self.bytes.len(), frame.len(), port));
        self.bytes.extend_from_slice(frame);
        self.frames.len() >= BATCH
    }

    /// Its frames and their ports.
    pub fn frames(&self) -> impl Iterator<Item = (u16, &[u8])> {
        let bytes = &self.bytes;
        self.frames
            .iter()
            .map(move |(at, len, port)| (*port, &bytes[*at..at + len]))
    }

    /// How many frames it has.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.frames.clear();
    }
}

/// Full parcels from one to another, and empty ones back.
type Queue = (ArrayQueue<Parcel>, ArrayQueue<Parcel>);

/// What all workers share.
#[derive(Debug)]
pub(super) struct Hands {
    of: usize,
    /// Of every pair, both ways.
    queues: Vec<Queue>,
    /// Workers that send nothing more in this repetition, over all repetitions.
    pub done: AtomicUsize,
    /// One of them failed: nobody waits for it.
    pub failed: AtomicBool,
}

impl Hands {
    /// For so many workers.
    pub fn new(of: u16) -> Arc<Hands> {
        let of = usize::from(of);
        let pair = |_| (ArrayQueue::new(WAITING), ArrayQueue::new(2 * WAITING));
        Arc::new(Hands {
            of,
            queues: (0..of * of).map(pair).collect(),
            done: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
        })
    }

    /// Whether somebody failed.
    pub fn broken(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }
}

/// One worker's ends of the queues.
#[derive(Debug)]
pub(super) struct Post {
    hands: Arc<Hands>,
    me: usize,
    filling: Vec<Parcel>,
    /// What found a full queue.
    late: Vec<VecDeque<Parcel>>,
}

impl Post {
    /// A worker's.
    pub fn new(hands: Arc<Hands>, me: u16) -> Post {
        let of = hands.of;
        Post {
            hands,
            me: me.into(),
            filling: (0..of).map(|_| Parcel::default()).collect(),
            late: (0..of).map(|_| VecDeque::new()).collect(),
        }
    }

    /// What all share.
    pub fn hands(&self) -> &Hands {
        &self.hands
    }

    fn queue(&self, from: usize, to: usize) -> &Queue {
        &self.hands.queues[from * self.hands.of + to]
    }

    /// Hands a frame over.
    #[inline]
    pub fn hand(&mut self, to: u16, port: u16, frame: &[u8]) {
        let to = usize::from(to);
        if self.filling[to].push(port, frame) {
            self.send(to);
        }
    }

    fn send(&mut self, to: usize) {
        let empty = self.queue(self.me, to).1.pop().unwrap_or_default();
        let full = std::mem::replace(&mut self.filling[to], empty);
        self.late[to].push_back(full);
        self.hurry(to);
    }

    /// Sends what waits here as far as there is room; how many parcels wait still.
    fn hurry(&mut self, to: usize) -> usize {
        while let Some(parcel) = self.late[to].pop_front() {
            if let Err(parcel) = self.queue(self.me, to).0.push(parcel) {
                self.late[to].push_front(parcel);
                break;
            }
        }
        self.late[to].len()
    }

    /// Sends what waits as far as there is room; with `all`, also what is not full. How many parcels wait.
    pub fn flush(&mut self, all: bool) -> usize {
        let mut wait = 0;
        for to in 0..self.hands.of {
            if all && self.filling[to].len() > 0 {
                self.send(to);
            }
            wait += self.hurry(to);
        }
        wait
    }

    /// Parcels that arrived, with their senders.
    pub fn arrived(&self, into: &mut Vec<(usize, Parcel)>) {
        for from in 0..self.hands.of {
            while let Some(parcel) = self.queue(from, self.me).0.pop() {
                into.push((from, parcel));
            }
        }
    }

    /// Gives empty parcels back.
    pub fn give_back(&self, parcels: &mut Vec<(usize, Parcel)>) {
        for (from, mut parcel) in parcels.drain(..) {
            parcel.clear();
            // With enough of them there, this one goes.
            let _ = self.queue(from, self.me).1.push(parcel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_over_arrives_in_order_and_parcels_come_back() {
        let hands = Hands::new(2);
        let (mut a, b) = (Post::new(hands.clone(), 0), Post::new(hands, 1));
        let total = BATCH * (WAITING + 3) + 5;
        (0..total).for_each(|n| a.hand(1, 7, &(n as u32).to_be_bytes()));
        assert_eq!(a.flush(true), 4, "the queue holds so many");
        let (mut got, mut parcels) = (Vec::new(), Vec::new());
        loop {
            b.arrived(&mut parcels);
            if parcels.is_empty() {
                break;
            }
            for (from, p) in &parcels {
                assert_eq!(*from, 0);
                got.extend(p.frames().map(|(port, f)| (port, f.to_vec())));
            }
            b.give_back(&mut parcels);
            a.flush(true);
        }
        let expected = (0..total as u32).map(|n| (7, n.to_be_bytes().to_vec()));
        assert!(got.into_iter().eq(expected));
        assert!(a.queue(0, 1).1.len() > WAITING / 2);
    }
}
