//! Workers: threads with a replica of one world each, fed with batches of frames.
//!
//! The caller's thread names the worker of each frame ([`Steer`]) and hands frames over in loads; what left
//! is put back into the order of the frames it came of. Loads come back and are filled again: nothing is
//! allocated for one. Invariant: the caller gets what one worker would have given, frame after frame, but
//! for choices that draw on the world's randomness and ports that NAT chose for its worker.

use crate::base::Instant;
use crate::cluster::Cluster;
use crate::fast::{BATCH, Batch, Fate};
use crate::net::PortAt;
use crate::path::NoTrace;
use crate::sim::fast::FastPath;
use crate::sim::shard::{Counts, Exception, Shard, Steer, To, exception};
use crate::wire::Frame;
use anyhow::{Context, bail};
use crossbeam::channel::{Receiver, Sender, bounded};
use std::sync::Arc;
use std::thread::JoinHandle;

/// Frames of one load at most.
const LOAD: usize = 4 * BATCH;
/// Loads of a window for each worker, all of which may be under way.
const LOADS: usize = 16;

/// One worker's world.
pub struct Replica {
    /// The cluster, as every worker built it.
    pub cluster: Cluster,
    /// The fast path over it.
    pub fast: FastPath,
    /// Which worker this is.
    pub shard: Shard,
    /// What it had counted before it was a worker, and what it counted that another one counts too.
    base: Counts,
    /// Room for what is walked.
    out: Vec<(PortAt, Frame)>,
}

/// Builds the world of a worker; every call builds the same one.
pub type Build = dyn Fn() -> anyhow::Result<(Cluster, FastPath)> + Send + Sync;

/// Where the bytes of a frame are, which frame of the stream it is or came of, and its port.
#[derive(Clone, Copy, Debug)]
struct Slot<P> {
    at: usize,
    len: usize,
    seq: u64,
    port: P,
}

/// Frames in one piece of memory.
#[derive(Debug)]
struct Frames<P> {
    bytes: Vec<u8>,
    slots: Vec<Slot<P>>,
}

impl<P> Default for Frames<P> {
    fn default() -> Self {
        Frames {
            bytes: Vec::new(),
            slots: Vec::new(),
        }
    }
}

impl<P: Copy> Frames<P> {
    /// A frame in two parts, one after the other.
    fn push(&mut self, seq: u64, port: P, head: &[u8], rest: &[u8]) {
        let (at, len) = (self.bytes.len(), head.len() + rest.len());
        self.bytes.extend_from_slice(head);
        self.bytes.extend_from_slice(rest);
        self.slots.push(Slot { at, len, seq, port });
    }

    fn get(&self, i: usize) -> Option<(&Slot<P>, &[u8])> {
        let slot = self.slots.get(i)?;
        Some((slot, self.bytes.get(slot.at..slot.at + slot.len)?))
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.slots.clear();
    }
}

/// Frames on their way to a worker and back.
#[derive(Debug, Default)]
struct Load {
    came: Frames<u16>,
    left: Frames<PortAt>,
    learned: Vec<Exception>,
}

enum Order {
    Carry(Load),
    /// Every worker gets these frames.
    Know(Load),
    Ask(Box<dyn FnOnce(&mut Replica) + Send>),
}

/// One worker as the caller sees it.
struct Lane {
    orders: Sender<Order>,
    done: Receiver<Load>,
    filling: Load,
    under_way: usize,
    /// Loads that are back, in order.
    back: Vec<Load>,
    spare: Vec<Load>,
    thread: Option<JoinHandle<()>>,
}

/// All workers.
pub struct Workers {
    steer: Steer,
    lanes: Vec<Lane>,
    seq: u64,
    /// Frames of this window.
    window: usize,
}

/// Who gets the frames that leave: where each would be received, in order.
pub type Sink<'a> = dyn FnMut(PortAt, &[u8]) + 'a;

impl Workers {
    /// Starts so many workers. Frames come in by `ports`, numbered in this order.
    pub fn start(of: u16, ports: &[PortAt], build: Arc<Build>) -> anyhow::Result<Workers> {
        let steer = Steer::new(of);
        let of = steer.workers();
        let mut lanes = Vec::new();
        let mut ready = Vec::new();
        for me in 0..of {
            let (orders, todo) = bounded(LOADS + 2);
            let (back, done) = bounded(LOADS + 2);
            let (tell, told) = bounded(1);
            let (build, ports, shard) = (build.clone(), ports.to_vec(), Shard { me, of });
            let run = move || match replica(&*build, &ports, shard) {
                Ok(mut r) => {
                    let _ = tell.send(Ok(()));
                    work(&mut r, &todo, &back);
                }
                Err(e) => drop(tell.send(Err(e))),
            };
            let name = format!("worker {me}");
            let thread = std::thread::Builder::new().name(name).spawn(run)?;
            ready.push(told);
            lanes.push(Lane {
                orders,
                done,
                filling: Load::default(),
                under_way: 0,
                back: Vec::new(),
                spare: Vec::new(),
                thread: Some(thread),
            });
        }
        for told in ready {
            told.recv().context("a worker ended")??;
        }
        Ok(Workers {
            steer,
            lanes,
            seq: 0,
            window: 0,
        })
    }

    /// A frame comes in by a port. What left of earlier ones may come out.
    pub fn push(&mut self, port: u16, frame: &[u8], sink: &mut Sink<'_>) -> anyhow::Result<()> {
        let to = match self.steer.to(frame) {
            To::Later => {
                self.flush(sink)?;
                self.steer.to(frame)
            }
            to => to,
        };
        match to {
            To::Worker(worker) => {
                let Some(lane) = self.lanes.get_mut(usize::from(worker)) else {
                    bail!("no worker {worker}");
                };
                lane.filling.came.push(self.seq, port, frame, &[]);
                if lane.filling.came.slots.len() >= LOAD {
                    lane.send(Order::Carry)?;
                }
            }
            To::Everybody => {
                self.flush(sink)?;
                for lane in &mut self.lanes {
                    lane.filling.came.push(self.seq, port, frame, &[]);
                    lane.send(Order::Know)?;
                }
                self.flush(sink)?;
            }
            To::Later => bail!("a frame waits in an empty window"),
        }
        self.seq += 1;
        self.window += 1;
        if self.window >= LOAD * LOADS {
            self.flush(sink)?;
        }
        Ok(())
    }

    /// Waits for everything that is under way; what left comes out.
    pub fn flush(&mut self, sink: &mut Sink<'_>) -> anyhow::Result<()> {
        for lane in &mut self.lanes {
            if !lane.filling.came.slots.is_empty() {
                lane.send(Order::Carry)?;
            }
        }
        for lane in &mut self.lanes {
            while lane.under_way > 0 {
                lane.take()?;
            }
            for e in lane.back.iter().flat_map(|l| &l.learned) {
                self.steer.learn(e);
            }
        }
        self.merge(sink);
        for lane in &mut self.lanes {
            let back = lane.back.drain(..).map(|mut load| {
                load.came.clear();
                load.left.clear();
                load.learned.clear();
                load
            });
            lane.spare.extend(back);
        }
        self.steer.next_window();
        self.window = 0;
        Ok(())
    }

    /// Gives out what left, in the order of the frames it came of.
    fn merge(&self, sink: &mut Sink<'_>) {
        let mut at = vec![(0, 0); self.lanes.len()];
        loop {
            let mut first: Option<(u64, usize)> = None;
            for (n, (lane, (load, i))) in self.lanes.iter().zip(&mut at).enumerate() {
                while lane
                    .back
                    .get(*load)
                    .is_some_and(|l| *i >= l.left.slots.len())
                {
                    (*load, *i) = (*load + 1, 0);
                }
                let next = lane.back.get(*load).and_then(|l| l.left.slots.get(*i));
                if let Some(slot) = next
                    && first.is_none_or(|(seq, _)| slot.seq < seq)
                {
                    first = Some((slot.seq, n));
                }
            }
            let Some((_, n)) = first else { return };
            let (load, i) = &mut at[n];
            if let Some((slot, bytes)) = self.lanes[n].back[*load].left.get(*i) {
                sink(slot.port, bytes);
            }
            *i += 1;
        }
    }

    /// Asks every worker the same; answers in order of workers. Nothing may be under way: flush first.
    pub fn ask<R: Send + 'static>(
        &mut self,
        question: impl Fn(&mut Replica) -> R + Send + Sync + 'static,
    ) -> anyhow::Result<Vec<R>> {
        let question = Arc::new(question);
        let mut answers = Vec::new();
        for lane in &self.lanes {
            let (tell, told) = bounded(1);
            let question = question.clone();
            let ask = move |r: &mut Replica| drop(tell.send(question(r)));
            let sent = lane.orders.send(Order::Ask(Box::new(ask)));
            sent.ok().context("a worker ended")?;
            answers.push(told);
        }
        let answer = |told: Receiver<R>| told.recv().context("a worker ended");
        answers.into_iter().map(answer).collect()
    }

    /// Time passes in every world until `until`; nothing may be under way.
    pub fn advance(&mut self, until: Instant) -> anyhow::Result<()> {
        self.ask(move |r| {
            let world = &mut r.cluster.lab.world;
            r.fast.advance(world, until, &mut NoTrace);
            world.take_deliveries();
        })?;
        Ok(())
    }

    /// What all have counted together; nothing may be under way.
    pub fn counts(&mut self) -> anyhow::Result<Counts> {
        let all = self.ask(|r| (r.base.clone(), r.counts()))?;
        let mut sum = Counts::default();
        for (n, (base, now)) in all.iter().enumerate() {
            // All began with the same, which counts once.
            match n {
                0 => sum.add_since(&Counts::default(), now),
                _ => sum.add_since(base, now),
            }
        }
        Ok(sum)
    }

    /// Flows that go to another worker than their hash says.
    pub fn exceptions(&self) -> usize {
        self.steer.exceptions()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for lane in self.lanes.drain(..) {
            let Lane {
                orders,
                done,
                thread,
                ..
            } = lane;
            drop((orders, done));
            if let Some(thread) = thread {
                let _ = thread.join();
            }
        }
    }
}

impl Lane {
    fn send(&mut self, order: impl Fn(Load) -> Order) -> anyhow::Result<()> {
        // The channel holds a window's loads and is never full.
        let empty = self.spare.pop().unwrap_or_default();
        let load = std::mem::replace(&mut self.filling, empty);
        let sent = self.orders.send(order(load));
        sent.ok().context("a worker ended")?;
        self.under_way += 1;
        Ok(())
    }

    fn take(&mut self) -> anyhow::Result<()> {
        self.back.push(self.done.recv().context("a worker ended")?);
        self.under_way -= 1;
        Ok(())
    }
}

fn replica(build: &Build, ports: &[PortAt], shard: Shard) -> anyhow::Result<Replica> {
    let (mut cluster, mut fast) = build()?;
    for (n, at) in ports.iter().enumerate() {
        if fast.port(*at).map(usize::from) != Some(n) {
            bail!("port {n} has another number");
        }
    }
    cluster.lab.world.set_shard(Some(shard));
    let mut r = Replica {
        cluster,
        fast,
        shard,
        base: Counts::default(),
        out: Vec::new(),
    };
    r.base = r.counts();
    Ok(r)
}

fn work(r: &mut Replica, todo: &Receiver<Order>, back: &Sender<Load>) {
    for order in todo {
        let load = match order {
            Order::Ask(question) => {
                question(r);
                continue;
            }
            Order::Carry(mut load) => {
                r.carry(&mut load);
                load
            }
            Order::Know(mut load) => {
                let before = (r.shard.me > 0).then(|| r.counts());
                r.carry(&mut load);
                if let Some(before) = before {
                    // The first one's frames and counters stand for all.
                    load.left.clear();
                    let now = r.counts();
                    r.base.add_since(&before, &now);
                }
                load
            }
        };
        if back.send(load).is_err() {
            return;
        }
    }
}

impl Replica {
    /// What this world has counted.
    fn counts(&mut self) -> Counts {
        let world = &mut self.cluster.lab.world;
        self.fast.sync(world);
        Counts::of(world)
    }

    /// Carries the frames of a load.
    fn carry(&mut self, load: &mut Load) {
        let Load {
            came,
            left,
            learned,
        } = load;
        let mut batch = Batch::new();
        let mut from = 0;
        while from < came.slots.len() {
            let to = (from + BATCH).min(came.slots.len());
            batch.clear();
            for (slot, bytes) in (from..to).filter_map(|i| came.get(i)) {
                batch.push(slot.port, bytes);
            }
            let world = &mut self.cluster.lab.world;
            self.fast.run(world, &mut batch, &mut self.out);
            let mut walked = self.out.drain(..);
            for (slot, i) in came.slots[from..to].iter().zip(0..) {
                match batch.fates[i] {
                    Fate::Sent(port) => {
                        if let Some(at) = self.fast.port_at(port) {
                            let bytes = batch.frames[i];
                            let head = bytes.len().min(batch.heads[i].0.len());
                            left.push(slot.seq, at, &batch.heads[i].0[..head], &bytes[head..]);
                        }
                    }
                    Fate::Walked(n) => {
                        for (at, f) in walked.by_ref().take(n as usize) {
                            learned.extend(exception(self.shard, f.data()));
                            left.push(slot.seq, at, f.data(), &[]);
                        }
                    }
                    Fate::Waiting => {}
                }
            }
            drop(walked);
            from = to;
        }
    }
}
