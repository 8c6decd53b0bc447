//! A scene under traffic: every flow's first frames, then frames of random flows from a ring larger than the
//! caches.
//!
//! Frames are handed over in batches and taken back as the fast path left them. Invariant: a frame that
//! did not arrive ends the measurement, and so does a sampled one with a wrong byte, and a checked one whose
//! entry says otherwise than its walk.

use super::clock::cpu;
use super::plan::Plan;
use super::ring::Ring;
use super::sample::Sample;
use super::scene;
use super::tally::{CARRIED, Tally, Until, arrived, of_batch};
use super::traffic::{Traffic, answer, fragments, resolves};
use crate::cluster::Cluster;
use crate::fast::{BATCH, Batch, Fate, HEAD, first_line};
use crate::net::PortAt;
use crate::path::NoTrace;
use crate::sim::fast::FastPath;
use crate::wire::Frame;
use anyhow::{Context, bail, ensure};
use std::time::Duration;

/// First frames sent before their answers.
pub const FIRST: u64 = 4096;

/// A frame and the number of the port where it comes in.
pub type Sent = (u16, Vec<u8>);

/// A cluster, its fast path, and who sends.
pub struct Scene {
    /// The cluster.
    pub cluster: Cluster,
    /// The fast path over it.
    pub fast: FastPath,
    /// What is sent.
    pub traffic: Traffic,
    /// The clients' ports by number.
    ports: Vec<u16>,
    /// First lines of the answers to flows, where answers are sent too.
    answers: Vec<(u16, [u8; HEAD])>,
    /// The next flow that is new.
    fresh: u64,
}

impl Scene {
    /// Builds the cluster, with room for so many flows.
    pub fn new(plan: Plan, flows: u64, seed: u64) -> anyhow::Result<Scene> {
        let cluster = scene::build(&plan, seed)?;
        let clients = scene::clients(&plan, &cluster)?;
        let mut fast = FastPath::new(flows as usize * 2 + 1024, scene::edges(&cluster))?;
        let ports = clients.iter().map(|c| fast.port(c.port));
        let ports = ports.collect::<Option<Vec<_>>>().context("no ports left")?;
        let traffic = Traffic::new(plan, &cluster, clients);
        let mut scene = Scene {
            cluster,
            fast,
            traffic,
            ports,
            answers: Vec::new(),
            fresh: flows,
        };
        scene.prime()?;
        Ok(scene)
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.traffic.plan
    }

    /// A client's frame of a flow.
    pub fn frame(&self, n: u64, size: usize) -> Sent {
        let (client, frame) = self.traffic.frame(n, size);
        (self.ports[client], frame)
    }

    /// A frame of an open flow, of either direction where answers are sent too.
    pub fn any_frame(&self, n: u64, size: usize, answer: bool) -> Sent {
        let (port, mut frame) = self.frame(n, size);
        match self.answers.get(n as usize).filter(|_| answer) {
            Some((port, head)) => {
                let cut = HEAD.min(frame.len());
                frame[..cut].copy_from_slice(&head[..cut]);
                (*port, frame)
            }
            None => (port, frame),
        }
    }

    /// What the pod or host answers to a frame that reached it, and where that comes in; none where a
    /// bridge flooded what is for somebody else.
    pub fn answer(&mut self, to: PortAt, f: &[u8]) -> anyhow::Result<Option<Sent>> {
        let ns = self.cluster.lab.world.ns(to.ns);
        let dev = ns.and_then(|ns| ns.dev(to.dev));
        let dev = dev.context("a frame reached nobody who could answer")?;
        if f.get(..6) != Some(&dev.mac.0) {
            return Ok(None);
        }
        let port = dev
            .peer
            .context("a frame reached nobody who could answer")?;
        let number = self.fast.port(port).context("no ports left")?;
        Ok(Some((number, answer(f))))
    }

    /// Frames in, whatever becomes of them out; address resolution on the way is answered.
    pub fn send(&mut self, frames: &[Sent]) -> (Tally, Vec<(PortAt, Vec<u8>)>) {
        let mut batch = Batch::new();
        let mut out = Vec::new();
        let mut got = Vec::new();
        let mut tally = Tally::default();
        for part in frames.chunks(BATCH) {
            batch.clear();
            for (port, f) in part {
                batch.push(*port, f);
            }
            let world = &mut self.cluster.lab.world;
            self.fast.run(world, &mut batch, &mut out);
            tally.sent += part.len() as u64;
            tally.hits += take(&self.fast, &batch, &mut out, &mut got);
        }
        let (asked, got): (Vec<_>, Vec<_>) = got.into_iter().partition(|(_, f)| resolves(f));
        if !asked.is_empty() {
            let world = &mut self.cluster.lab.world;
            self.fast.sync(world);
            for (to, f) in asked {
                world.arrive(to, Frame::ethernet(&f), &mut NoTrace);
            }
            self.pass(Duration::from_millis(1));
        }
        tally.arrived = got.len() as u64;
        (tally, got)
    }

    /// Time passes.
    pub fn pass(&mut self, by: Duration) {
        let world = &mut self.cluster.lab.world;
        let until = world.now() + by;
        self.fast.advance(world, until, &mut NoTrace);
        world.take_deliveries();
    }

    /// Neighbours get to know each other.
    fn prime(&mut self) -> anyhow::Result<()> {
        let (all, size) = (self.plan().flows(), self.plan().size);
        for round in 0..6 {
            let first = (0..all.min(256)).map(|n| self.frame(all - 1 - n, size));
            let first: Vec<_> = first.collect();
            let (tally, got) = self.send(&first);
            let (back, _) = self.send_answers(&got)?;
            let whole = tally.arrived == tally.sent && back.arrived == tally.arrived;
            if round > 1 && whole {
                return Ok(());
            }
        }
        bail!(
            "{:?}: frames do not get through: {:?}",
            self.plan(),
            self.fast.why_slow()
        )
    }

    /// Sends an answer to each frame that arrived; gives the answers.
    fn send_answers(&mut self, got: &[(PortAt, Vec<u8>)]) -> anyhow::Result<(Tally, Vec<Sent>)> {
        let mut answers = Vec::with_capacity(got.len());
        for (to, f) in got {
            answers.extend(self.answer(*to, f)?);
        }
        let (tally, _) = self.send(&answers);
        Ok((tally, answers))
    }

    /// Sends the first frame of some flows and nothing else. One of each batch is held afterwards against
    /// what the walk of its flow's next frame leaves.
    pub fn connect(&mut self, flows: core::ops::Range<u64>) -> anyhow::Result<Tally> {
        let (size, mut from) = (self.plan().size, flows.start);
        let (mut all, mut out) = (Tally::default(), Vec::new());
        while from < flows.end {
            let to = (from + FIRST).min(flows.end);
            let frames: Vec<_> = (from..to).map(|n| self.frame(n, size)).collect();
            let mut batch = Batch::new();
            for part in frames.chunks(BATCH) {
                batch.clear();
                for (port, f) in part {
                    batch.push(*port, f);
                }
                let began = cpu();
                self.fast
                    .run(&mut self.cluster.lab.world, &mut batch, &mut out);
                let mut tally = of_batch(&batch, &out);
                tally.took = cpu().saturating_sub(began);
                self.all_arrived(&tally, "first frames")?;
                let at = from as usize % part.len();
                let (port, frame) = &part[at];
                self.sample(at, *port, frame)?
                    .check(&self.fast, &batch, &out)?;
                tally.sampled += 1;
                all.add(&tally);
                out.clear();
            }
            from = to;
        }
        Ok(all)
    }

    /// Sends the first frame of some flows, an answer to each, and second frames of both; gives the CPU time
    /// of the first frames. `each` sees what is sent.
    pub fn open(
        &mut self,
        flows: core::ops::Range<u64>,
        each: &mut dyn FnMut(&[Sent]) -> anyhow::Result<()>,
    ) -> anyhow::Result<Duration> {
        let mut took = Duration::ZERO;
        let (mut from, size) = (flows.start, self.plan().size);
        while from < flows.end {
            let to = (from + FIRST).min(flows.end);
            let frames: Vec<_> = (from..to).map(|n| self.frame(n, size)).collect();
            each(&frames)?;
            let began = cpu();
            let got = self.first(&frames)?;
            took += cpu().saturating_sub(began);
            let answers = self.settle(&frames, &got)?;
            each(&answers)?;
            each(&frames)?;
            if self.plan().both {
                let head = |(port, f): &Sent| (*port, first_line(f));
                self.answers.extend(answers.iter().map(head));
            }
            from = to;
        }
        Ok(took)
    }

    /// Sends first frames of flows, which all have to arrive; gives what did.
    pub fn first(&mut self, frames: &[Sent]) -> anyhow::Result<Vec<(PortAt, Vec<u8>)>> {
        let (tally, got) = self.send(frames);
        self.all_arrived(&tally, "first frames")?;
        Ok(got)
    }

    /// Answers what arrived of first frames, and sends these again: a path is compiled once its connection is
    /// there. Gives the answers.
    pub fn settle(
        &mut self,
        frames: &[Sent],
        got: &[(PortAt, Vec<u8>)],
    ) -> anyhow::Result<Vec<Sent>> {
        let (tally, answers) = self.send_answers(got)?;
        self.all_arrived(&tally, "answers")?;
        let (tally, _) = self.send(frames);
        self.all_arrived(&tally, "second frames")?;
        Ok(answers)
    }

    fn all_arrived(&self, t: &Tally, what: &str) -> anyhow::Result<()> {
        ensure!(
            t.arrived == t.sent,
            "{} of {} {what} arrived: {:?}",
            t.arrived,
            t.sent,
            self.fast.why_slow()
        );
        Ok(())
    }

    /// How many frames come of the first and of the second fragment of a frame.
    pub fn fragments_arrive(&mut self) -> anyhow::Result<[u32; 2]> {
        let (port, frame) = self.frame(0, self.plan().size);
        let mut arrive = [0; 2];
        for (part, n) in fragments(&frame).into_iter().zip(&mut arrive) {
            *n = self.send(&[(port, part)]).1.len() as u32;
        }
        ensure!(arrive != [0; 2], "a frame in fragments does not arrive");
        Ok(arrive)
    }

    /// A frame as its walk delivers it, to be looked for in batches.
    pub fn sample(&mut self, at: usize, port: u16, frame: &[u8]) -> anyhow::Result<Sample> {
        let world = &mut self.cluster.lab.world;
        let out = self.fast.look(world, port, frame, &mut NoTrace);
        let mut out = out.into_iter().filter(|(_, f)| !resolves(f.data()));
        let (port, frame) = out.next().context("a frame of an open flow was lost")?;
        Ok(Sample {
            at,
            port,
            frame: frame.data().to_vec(),
        })
    }

    /// Sends so many frames of the ring, in whole batches.
    pub fn carry(&mut self, ring: &mut Ring, frames: u64) -> anyhow::Result<Tally> {
        let batches = (frames as usize).div_ceil(BATCH);
        let mut next = self.fresh;
        let fresh = ring.fresh(self, &mut next, batches)?;
        self.fresh = next;
        let (mut tally, mut new) = (Tally::default(), 0);
        let (mut out, mut batch) = (Vec::new(), Batch::new());
        let mut at = ring.position();
        let (ring_len, lying) = (ring.len(), ring.frames());
        let began = cpu();
        for _ in 0..batches {
            let (slots, expected) = ring.batch(at);
            batch.clear();
            let mut bytes = 0;
            for (i, s) in slots.iter().enumerate() {
                lying.ask(at + i);
                let (port, frame) = match s.len {
                    0 => {
                        new += 1;
                        fresh.get(new - 1)
                    }
                    _ => (s.port, lying.get(s)),
                };
                bytes += frame.len() as u64;
                batch.push(port, frame);
            }
            let before = self.fast.stats().hits;
            let world = &mut self.cluster.lab.world;
            self.fast.run(world, &mut batch, &mut out);
            let hits = self.fast.stats().hits - before;
            let now = Tally {
                sent: batch.len() as u64,
                bytes,
                arrived: hits + arrived(&out),
                hits,
                ..Tally::default()
            };
            tally.add(&now);
            if let Some(sample) = &expected.sample {
                sample.check(&self.fast, &batch, &out)?;
                tally.sampled += 1;
            }
            // Batch by batch: a frame that is lost here must not be made up for there.
            ensure!(
                now.arrived == u64::from(expected.frames),
                "{} of {} frames of a batch arrived",
                now.arrived,
                expected.frames
            );
            out.clear();
            at = (at + BATCH) % ring_len;
        }
        let world = &mut self.cluster.lab.world;
        let until = world.now() + Duration::from_micros(100);
        self.fast.advance(world, until, &mut NoTrace);
        tally.took = cpu().saturating_sub(began);
        drop(batch);
        ring.set_position(at);
        Ok(tally)
    }

    /// One repetition.
    pub fn repetition(&mut self, ring: &mut Ring, until: Until) -> anyhow::Result<Tally> {
        let mut all = Tally::default();
        while let Some(frames) = until.next(&all) {
            all.add(&self.carry(ring, frames)?);
        }
        Ok(all)
    }

    /// Sends frames of the ring and holds every `every`th hit against its walk; how many were.
    pub fn verify(&mut self, ring: &mut Ring, every: u64) -> anyhow::Result<u64> {
        self.fast.verify(every);
        // At least some hundred checks, and no more than a few seconds.
        self.carry(ring, every.saturating_mul(256).clamp(CARRIED, CARRIED << 6))?;
        self.fast.verify(0);
        let v = self.fast.verified();
        ensure!(
            v.wrong == 0,
            "{} of {} frames fare otherwise when they are walked: {}",
            v.wrong,
            v.checked,
            v.differences.join("\n")
        );
        Ok(v.checked)
    }

    /// Bytes that the cache and the conntrack tables of all namespaces hold.
    pub fn bytes(&self) -> usize {
        let spaces = self.cluster.lab.world.spaces().iter();
        let tables = spaces.filter_map(|ns| ns.nf()).map(|nf| nf.ct.bytes());
        self.fast.bytes() + tables.sum::<usize>()
    }
}

/// What came of a batch, in order, into `got`; how many of it were hits.
fn take(
    fast: &FastPath,
    batch: &Batch<'_>,
    out: &mut Vec<(PortAt, Frame)>,
    got: &mut Vec<(PortAt, Vec<u8>)>,
) -> u64 {
    let mut hits = 0;
    let mut walked = out.drain(..);
    for i in 0..batch.len() {
        match batch.fates[i] {
            Fate::Sent(port) => {
                hits += 1;
                let to = fast.port_at(port);
                got.extend(to.map(|to| (to, batch.sent(i))));
            }
            Fate::Walked(n) => {
                let of_it = walked.by_ref().take(n as usize);
                got.extend(of_it.map(|(to, f)| (to, f.data().to_vec())));
            }
            Fate::Waiting => {}
        }
    }
    hits
}
