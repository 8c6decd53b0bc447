//! A scene under traffic: every flow's first frames, then frames of random flows from a ring larger than the
//! caches.
//!
//! Frames are handed over in batches and taken back as the fast path left them. Invariant: a frame that
//! did not arrive ends the measurement, and so does a checked one whose entry says otherwise than its walk.

use super::clock::{cpu, repetition};
use super::scene::{Client, Plan, To, clients};
use crate::base::{NsId, Rng};
use crate::cluster::Cluster;
use crate::fast::{BATCH, Batch, Fate, Lines, NoMemory};
use crate::net::PortAt;
use crate::path::NoTrace;
use crate::sim::fast::FastPath;
use crate::wire::{ETH_P_ARP, ETH_P_IP, Frame, MacAddr, build, proto};
use anyhow::{Context, bail, ensure};
use std::net::IpAddr;
use std::time::Duration;

/// Frames between two looks at the clock.
const CARRIED: u64 = if cfg!(debug_assertions) {
    1 << 10
} else {
    1 << 16
};
/// Ethernet, IPv4 and UDP header.
const HEADERS: usize = 42;

/// A frame of the ring: where it lies, how long it is, and where it comes in.
#[derive(Clone, Copy)]
struct Slot {
    at: u32,
    len: u16,
    port: u16,
}

/// Frames of random flows, in the order in which they come.
pub struct Ring {
    bytes: Lines<u8>,
    slots: Vec<Slot>,
    next: usize,
}

/// A cluster, its fast path, and who sends.
pub struct Scene {
    /// What it was made from.
    pub plan: Plan,
    /// The cluster.
    pub cluster: Cluster,
    /// The fast path over it.
    pub fast: FastPath,
    clients: Vec<Client>,
    ports: Vec<u16>,
    /// MAC addresses of neighbours by the last byte of their addresses, where a bridge joins them.
    neighbours: Vec<Option<MacAddr>>,
    size: usize,
}

/// What happened to some frames.
#[derive(Clone, Copy, Default, Debug)]
pub struct Tally {
    /// Frames that arrived.
    pub arrived: u64,
    /// Of them by an entry.
    pub hits: u64,
    /// Frames that were walked.
    pub walked: u64,
}

impl Scene {
    /// Builds the cluster, with room for so many flows, for frames of `size` bytes.
    pub fn new(plan: Plan, flows: u64, size: usize, seed: u64) -> anyhow::Result<Scene> {
        let cluster = plan.build(seed)?;
        let clients = clients(&cluster)?;
        let pods: Vec<NsId> = cluster.pods.values().map(|p| p.ns).collect();
        let mut fast = FastPath::new(flows as usize * 2 + 1024, pods)?;
        let ports = clients.iter().map(|c| fast.port(c.port));
        let ports = ports.collect::<Option<Vec<_>>>().context("no ports left")?;
        let mut scene = Scene {
            plan,
            cluster,
            fast,
            clients,
            ports,
            neighbours: vec![None; 256],
            size,
        };
        scene.find_neighbours();
        scene.prime()?;
        Ok(scene)
    }

    fn find_neighbours(&mut self) {
        if self.plan.to != To::Pod || self.plan.far {
            return;
        }
        let world = &self.cluster.lab.world;
        for pod in self.cluster.pods.values() {
            let Some(eth) = world
                .ns(pod.ns)
                .and_then(|ns| ns.devices().find(|d| d.name == "eth0"))
            else {
                continue;
            };
            let node = eth.peer.and_then(|p| world.ns(p.ns)?.dev(p.dev));
            for ip in pod
                .ips
                .iter()
                .filter(|_| node.is_some_and(|d| d.master.is_some()))
            {
                if let IpAddr::V4(ip) = ip {
                    self.neighbours[usize::from(ip.octets()[3])] = Some(eth.mac);
                }
            }
        }
    }

    /// The first frame of a flow.
    fn frame(&self, n: u64, size: usize) -> (u16, Vec<u8>) {
        let flow = self.plan.flow(n);
        let client = &self.clients[flow.client];
        let (dst, dport) = flow.to;
        let neighbour = self.neighbours[usize::from(dst.octets()[3])];
        let mac = neighbour
            .filter(|_| self.plan.to == To::Pod)
            .unwrap_or(client.gateway);
        let (src, dst) = (IpAddr::V4(client.ip), IpAddr::V4(dst));
        let payload = vec![n as u8; size - HEADERS];
        let l4 = build::udp(src, dst, flow.sport, dport, &payload);
        let packet = build::ip_packet(src, dst, proto::UDP, 64, 0, n as u16, true, &l4);
        let mut f = Frame::ip(&packet);
        f.set_ethernet(mac, client.mac, ETH_P_IP);
        (self.ports[flow.client], f.data().to_vec())
    }

    /// What a server answers to a frame that reached it.
    fn answer(&mut self, to: PortAt, f: &[u8]) -> anyhow::Result<(u16, Vec<u8>)> {
        let ns = self
            .cluster
            .lab
            .world
            .ns(to.ns)
            .context("no such namespace")?;
        let port = ns.dev(to.dev).and_then(|d| d.peer).context("no port")?;
        let number = self.fast.port(port).context("no ports left")?;
        let mut a = f.to_vec();
        a[..6].copy_from_slice(&f[6..12]);
        a[6..12].copy_from_slice(&f[..6]);
        a[26..30].copy_from_slice(&f[30..34]);
        a[30..34].copy_from_slice(&f[26..30]);
        a[34..36].copy_from_slice(&f[36..38]);
        a[36..38].copy_from_slice(&f[34..36]);
        // Sums do not mind the order; the TTL begins anew.
        a[22] = 64;
        [a[24], a[25]] = [0, 0];
        let sum = crate::wire::checksum::of(&a[14..34]);
        a[24..26].copy_from_slice(&sum.to_be_bytes());
        Ok((number, a))
    }

    /// Frames in, whatever becomes of them out; address resolution on the way is answered.
    fn send(&mut self, frames: &[(u16, Vec<u8>)]) -> (Tally, Vec<(PortAt, Vec<u8>)>) {
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
            let mut walked = out.drain(..);
            for i in 0..batch.len() {
                match batch.fates[i] {
                    Fate::Sent(port) => {
                        tally.hits += 1;
                        if let Some(to) = self.fast.port_at(port) {
                            got.push((to, batch.sent(i)));
                        }
                    }
                    Fate::Walked(n) => {
                        tally.walked += 1;
                        for (to, f) in walked.by_ref().take(n as usize) {
                            got.push((to, f.data().to_vec()));
                        }
                    }
                    Fate::Waiting => {}
                }
            }
        }
        let (asked, got): (Vec<_>, Vec<_>) = got
            .into_iter()
            .partition(|(_, f)| f.get(12..14) == Some(&ETH_P_ARP.to_be_bytes()[..]));
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
    fn pass(&mut self, by: Duration) {
        let world = &mut self.cluster.lab.world;
        let until = world.now() + by;
        self.fast.advance(world, until, &mut NoTrace);
        world.take_deliveries();
    }

    /// Neighbours get to know each other.
    fn prime(&mut self) -> anyhow::Result<()> {
        let all = self.plan.flows();
        for round in 0..6 {
            let first: Vec<_> = (0..all.min(256))
                .map(|n| self.frame(all - 1 - n, self.size))
                .collect();
            let (tally, got) = self.send(&first);
            let mut answers = Vec::new();
            for (to, f) in &got {
                answers.push(self.answer(*to, f)?);
            }
            let (back, _) = self.send(&answers);
            let whole = tally.arrived == first.len() as u64 && back.arrived == tally.arrived;
            if round > 1 && whole {
                return Ok(());
            }
        }
        bail!(
            "{:?}: frames do not get through: {:?}",
            self.plan,
            self.fast.why_slow()
        )
    }

    /// Sends the first frame of some flows, and if asked to an answer to each and a second frame; gives
    /// the CPU
    /// time of the first frames alone.
    pub fn open(
        &mut self,
        flows: core::ops::Range<u64>,
        answered: bool,
    ) -> anyhow::Result<Duration> {
        let mut took = Duration::ZERO;
        let mut from = flows.start;
        while from < flows.end {
            let to = (from + 4096).min(flows.end);
            let frames: Vec<_> = (from..to).map(|n| self.frame(n, self.size)).collect();
            let began = cpu();
            let (tally, got) = self.send(&frames);
            took += cpu().saturating_sub(began);
            ensure!(
                tally.arrived == frames.len() as u64,
                "{} of {} first frames arrived: {:?}",
                tally.arrived,
                frames.len(),
                self.fast.why_slow(),
            );
            if answered {
                let mut answers = Vec::with_capacity(got.len());
                for (to, f) in &got {
                    answers.push(self.answer(*to, f)?);
                }
                let (tally, _) = self.send(&answers);
                ensure!(tally.arrived == answers.len() as u64, "answers were lost");
                // A path is compiled once its connection is there.
                let (tally, _) = self.send(&frames);
                ensure!(
                    tally.arrived == frames.len() as u64,
                    "second frames were lost"
                );
            }
            from = to;
        }
        Ok(took)
    }

    /// A ring of so many bytes of frames of random flows.
    pub fn ring(&self, flows: u64, bytes: usize) -> Result<Ring, NoMemory> {
        let stride = self.size.next_multiple_of(64);
        let frames = (bytes / stride / BATCH * BATCH).max(BATCH);
        let mut rng = Rng::new(21);
        let mut ring = Ring {
            bytes: Lines::new(frames * stride)?,
            slots: Vec::with_capacity(frames),
            next: 0,
        };
        for i in 0..frames {
            let (port, f) = self.frame(rng.below(flows), self.size);
            let at = i * stride;
            ring.bytes.all_mut()[at..at + f.len()].copy_from_slice(&f);
            ring.slots.push(Slot {
                at: at as u32,
                len: f.len() as u16,
                port,
            });
        }
        Ok(ring)
    }

    /// Sends so many frames of the ring.
    pub fn carry(&mut self, ring: &mut Ring, frames: u64) -> Tally {
        let mut tally = Tally::default();
        let mut out = Vec::new();
        let mut batch = Batch::new();
        for _ in 0..frames / BATCH as u64 {
            batch.clear();
            let slots = &ring.slots[ring.next..ring.next + BATCH];
            let bytes = ring.bytes.all();
            for s in slots {
                let at = s.at as usize;
                batch.push(s.port, &bytes[at..at + usize::from(s.len)]);
            }
            ring.next = (ring.next + BATCH) % ring.slots.len();
            self.fast
                .run(&mut self.cluster.lab.world, &mut batch, &mut out);
            let sent = batch.fates[..batch.len()].iter();
            let hits = sent.filter(|f| matches!(f, Fate::Sent(_))).count() as u64;
            tally.hits += hits;
            tally.walked += batch.len() as u64 - hits;
            tally.arrived += hits + out.len() as u64;
            out.clear();
        }
        let world = &mut self.cluster.lab.world;
        let until = world.now() + Duration::from_micros(100);
        self.fast.advance(world, until, &mut NoTrace);
        tally
    }

    /// One repetition: nanoseconds for a frame, and what happened.
    pub fn repetition(
        &mut self,
        ring: &mut Ring,
        at_least: Duration,
    ) -> anyhow::Result<(f64, Tally)> {
        let mut all = Tally::default();
        let mut sent = 0;
        let each = repetition(at_least, || {
            let t = self.carry(ring, CARRIED);
            all.hits += t.hits;
            all.walked += t.walked;
            all.arrived += t.arrived;
            sent += CARRIED;
            CARRIED
        });
        ensure!(
            all.arrived == sent,
            "{} of {sent} frames arrived",
            all.arrived
        );
        Ok((each, all))
    }

    /// Sends frames of the ring and holds every `every`th hit against its walk; how many were.
    pub fn verify(&mut self, ring: &mut Ring, every: u64) -> anyhow::Result<u64> {
        self.fast.verify(every);
        // At least some hundred checks, and no more than a few seconds.
        self.carry(ring, every.saturating_mul(256).clamp(CARRIED, CARRIED << 6));
        self.fast.verify(0);
        let v = self.fast.verified();
        ensure!(
            v.wrong == 0,
            "{} of {} frames fare otherwise when they are walked: {}",
            v.wrong,
            v.checked,
            v.differences.join("\n")
        );
        ensure!(
            v.checked > 0,
            "no frame was held against its walk: none was carried by an entry"
        );
        Ok(v.checked)
    }
}
