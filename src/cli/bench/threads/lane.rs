//! One worker of a measurement: a replica of the scene, the flows that are its own, and frames of them.
//!
//! A frame that another one owns is handed over; what others hand over is carried. Invariant: every frame
//! arrives, by an entry or by its walk, or the measurement ends.

use super::hands::{Parcel, Post};
use crate::base::Rng;
use crate::cli::bench::clock::cpu;
use crate::cli::bench::drive::{FIRST, Scene, Sent};
use crate::cli::bench::plan::Plan;
use crate::cli::bench::ring::LINE;
use crate::cli::bench::tally::{Tally, of_batch};
use crate::fast::{BATCH, Batch, Lines};
use crate::net::PortAt;
use crate::path::NoTrace;
use crate::sim::shard::{Exception, Handed, Shard, exception};
use crate::wire::Frame;
use crate::wire::shard::{Belongs, belongs};
use anyhow::{Context, ensure};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Batches of a turn: between two looks at the clock and at what others handed over.
const TURN: usize = 16;
/// Parcels that may wait for a full queue before a worker stops taking frames in.
const LATE: usize = 32;

/// Which frames come to a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Frames {
    /// Of its own flows, from the client.
    Own,
    /// Of both directions, wherever their hash says: answers to what NAT changed are mostly another's.
    Hash,
}

/// Frames in the order in which they come.
struct Ring {
    bytes: Lines<u8>,
    slots: Vec<(u32, u16, u16)>,
    at: usize,
}

/// What a worker tells the others when its flows are open.
#[derive(Clone, Default)]
pub(super) struct Opened {
    /// Answers that come to each of the others by their hash.
    pub crossing: Vec<Vec<Sent>>,
    /// What it learned of them.
    pub exceptions: Vec<Exception>,
}

/// One worker.
pub(super) struct Lane {
    shard: Shard,
    scene: Scene,
    own: Vec<u64>,
    /// Answers to its own flows, and by their hash its own.
    answers: Vec<Sent>,
    handed: Handed,
    /// Frames may be another's: each is looked at. Where they come to whom they belong, none has to be.
    looks: bool,
    rings: Vec<(Frames, Ring)>,
    arrived: Vec<(usize, Parcel)>,
    out: Vec<(PortAt, Frame)>,
}

/// What a worker did in a repetition.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Done {
    /// What it carried.
    pub tally: Tally,
    /// Frames that it handed over.
    pub handed: u64,
}

/// Whose a frame is by its hash.
fn by_hash(frame: &[u8], of: u16) -> u16 {
    match belongs(frame) {
        Belongs::Flow(flow) => flow.key.owner(of),
        _ => 0,
    }
}

impl Lane {
    /// A worker's replica; the flows that are its own are open.
    pub fn new(plan: Plan, flows: u64, shard: Shard) -> anyhow::Result<(Lane, Opened)> {
        let room = flows / u64::from(shard.of) + flows / 16 + 1024;
        let mut scene = Scene::new(plan, room.min(flows), 1)?;
        // Every worker knows ports by the same numbers.
        for end in scene.cluster.pod_ends() {
            scene.fast.port(end.port).context("no ports left")?;
        }
        scene.cluster.lab.world.set_shard(Some(shard));
        let size = plan.size;
        let own = (0..flows).filter(|n| by_hash(&scene.frame(*n, size).1, shard.of) == shard.me);
        let mut lane = Lane {
            shard,
            own: own.collect(),
            scene,
            answers: Vec::new(),
            handed: Handed::default(),
            looks: false,
            rings: Vec::new(),
            arrived: Vec::new(),
            out: Vec::new(),
        };
        let opened = lane.open(size)?;
        Ok((lane, opened))
    }

    fn open(&mut self, size: usize) -> anyhow::Result<Opened> {
        let mut opened = Opened {
            crossing: vec![Vec::new(); self.shard.of.into()],
            ..Opened::default()
        };
        ensure!(!self.own.is_empty(), "too few flows for so many threads");
        for part in std::mem::take(&mut self.own).chunks(FIRST as usize) {
            let frames: Vec<Sent> = part.iter().map(|n| self.scene.frame(*n, size)).collect();
            let got = self.scene.first(&frames)?;
            let found = got.iter().flat_map(|(_, f)| exception(self.shard, f));
            opened.exceptions.extend(found);
            let answers = self.scene.settle(&frames, &got)?;
            self.own.extend(part);
            for answer in answers {
                let to = by_hash(&answer.1, self.shard.of);
                if to != self.shard.me {
                    opened.crossing[usize::from(to)].push(answer.clone());
                }
                self.answers.push(answer);
            }
        }
        Ok(opened)
    }

    /// Learns what the others tell: their answers that come here, and whose they are.
    pub fn learn(&mut self, others: &[Opened]) {
        let me = usize::from(self.shard.me);
        let of = self.shard.of;
        self.answers
            .retain(|(_, f)| by_hash(f, of) == self.shard.me);
        for (_, other) in others.iter().enumerate().filter(|(n, _)| *n != me) {
            self.answers
                .extend(other.crossing.get(me).into_iter().flatten().cloned());
            other.exceptions.iter().for_each(|e| self.handed.learn(e));
        }
    }

    /// Makes a ring of so many bytes of such frames.
    pub fn fill(&mut self, frames: Frames, bytes: usize) -> anyhow::Result<()> {
        let size = self.scene.plan().size;
        let stride = size.next_multiple_of(LINE);
        let count = (bytes / stride / BATCH).max(1) * BATCH;
        let mut rng = Rng::new(21 + u64::from(self.shard.me));
        let mut ring = Ring {
            bytes: Lines::new(count * stride)?,
            slots: Vec::with_capacity(count),
            at: 0,
        };
        for n in 0..count {
            let answer = frames == Frames::Hash && rng.below(2) == 1;
            let any = rng.below(self.own.len() as u64) as usize;
            let (port, frame) = match answer && !self.answers.is_empty() {
                true => self.answers[rng.below(self.answers.len() as u64) as usize].clone(),
                false => self.scene.frame(self.own[any], size),
            };
            ring.bytes.all_mut()[n * stride..n * stride + frame.len()].copy_from_slice(&frame);
            ring.slots
                .push(((n * stride / LINE) as u32, frame.len() as u16, port));
        }
        self.rings.push((frames, ring));
        Ok(())
    }

    /// One repetition: so much CPU time, then what the others hand over until all are done for the `round`th
    /// time.
    pub fn repetition(
        &mut self,
        frames: Frames,
        at_least: Duration,
        post: &mut Option<Post>,
        round: usize,
    ) -> anyhow::Result<Done> {
        let at = self.rings.iter().position(|(f, _)| *f == frames);
        let (_, mut ring) = self.rings.swap_remove(at.context("no such ring")?);
        self.looks = frames == Frames::Hash;
        let result = self.turns(&mut ring, at_least, post, round);
        self.rings.push((frames, ring));
        if let (Err(_), Some(post)) = (&result, post) {
            post.hands().failed.store(true, Ordering::Release);
        }
        result
    }

    fn turns(
        &mut self,
        ring: &mut Ring,
        at_least: Duration,
        post: &mut Option<Post>,
        round: usize,
    ) -> anyhow::Result<Done> {
        let mut done = Done::default();
        let began = cpu();
        while cpu().saturating_sub(began) < at_least {
            self.turn(ring, TURN, post, &mut done)?;
            while post.as_mut().is_some_and(|p| p.flush(false) > LATE) {
                let broken = post.as_ref().is_some_and(|p| p.hands().broken());
                ensure!(!broken, "another worker failed");
                std::thread::yield_now();
                self.turn(ring, 0, post, &mut done)?;
            }
        }
        done.tally.took = cpu().saturating_sub(began);
        let Some(of) = post.as_ref().map(|_| usize::from(self.shard.of)) else {
            return Ok(done);
        };
        // Waiting is not counted, carrying what comes is.
        let mut told = false;
        while let Some(p) = post.as_mut() {
            if p.flush(true) == 0 && !told {
                p.hands().done.fetch_add(1, Ordering::AcqRel);
                told = true;
            }
            ensure!(!p.hands().broken(), "another worker failed");
            let all = p.hands().done.load(Ordering::Acquire) >= of * round;
            let (before, began) = (done.tally.sent, cpu());
            self.turn(ring, 0, post, &mut done)?;
            if done.tally.sent > before {
                done.tally.took += cpu().saturating_sub(began);
            } else if all {
                break;
            } else {
                std::thread::yield_now();
            }
        }
        Ok(done)
    }

    /// So many batches of the ring, and what was handed over.
    fn turn(
        &mut self,
        ring: &mut Ring,
        batches: usize,
        post: &mut Option<Post>,
        done: &mut Done,
    ) -> anyhow::Result<()> {
        let mut arrived = std::mem::take(&mut self.arrived);
        if let Some(post) = post {
            post.arrived(&mut arrived);
        }
        if batches > 0 || !arrived.is_empty() {
            let mut batch = Batch::new();
            let bytes = ring.bytes.all();
            for _ in 0..batches {
                batch.clear();
                for (line, len, port) in &ring.slots[ring.at..ring.at + BATCH] {
                    let at = *line as usize * LINE;
                    let frame = &bytes[at..at + usize::from(*len)];
                    // Who is alone has nobody to hand over to.
                    if self.looks
                        && let Some(post) = &mut *post
                        && let Some(to) = self.handed.owner_of(frame)
                        && to != self.shard.me
                    {
                        post.hand(to, *port, frame);
                        done.handed += 1;
                    } else {
                        batch.push(*port, frame);
                    }
                }
                ring.at = (ring.at + BATCH) % ring.slots.len();
                self.carry(&mut batch, done)?;
            }
            for (_, parcel) in &arrived {
                batch.clear();
                for (port, frame) in parcel.frames() {
                    batch.push(port, frame);
                }
                self.carry(&mut batch, done)?;
            }
            let world = &mut self.scene.cluster.lab.world;
            let until = world.now() + Duration::from_micros(100);
            self.scene.fast.advance(world, until, &mut NoTrace);
        }
        if let Some(post) = post {
            post.give_back(&mut arrived);
        }
        self.arrived = arrived;
        Ok(())
    }

    fn carry(&mut self, batch: &mut Batch<'_>, done: &mut Done) -> anyhow::Result<()> {
        let world = &mut self.scene.cluster.lab.world;
        self.scene.fast.run(world, batch, &mut self.out);
        let now = of_batch(batch, &self.out);
        done.tally.add(&now);
        ensure!(
            now.arrived == now.sent,
            "{} of {} frames of a batch arrived",
            now.arrived,
            now.sent
        );
        self.out.clear();
        Ok(())
    }
}
