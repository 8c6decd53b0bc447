//! Lookup, hit and miss.

use crate::base::{Instant, NsId};
use crate::fast::{
    Batch, Dirty, Doors, Entry, Fate, GROUP, Group, Key, NoMemory, Other, Pairs, Table, When,
};
use crate::net::PortAt;
use crate::nf::Counters;
use crate::path::{Observer, Varies};
use crate::sim::World;
use crate::sim::carry::Carried;
use crate::sim::fast::class::{Classes, Shares};
use crate::sim::fast::compile;
use crate::sim::fast::conns::{Followed, carried, flags};
use crate::sim::fast::moment::Moments;
use crate::sim::fast::record::Recorder;
use crate::sim::fast::ties::Ties;
use crate::sim::fast::verify::Verified;
use crate::wire::Frame;
use core::time::Duration;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};

/// `Conn::paths` of a connection with several entries in one direction.
pub(super) const MANY: u32 = u32::MAX;

/// Why a flow has no entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Why {
    /// The frame's shape: fragment, options, other protocol, wrong header.
    Shape,
    /// The walk said so.
    Varies(Varies),
    /// It ended on the way: dropped, answered, delivered to a socket, kept for a neighbour.
    Ended,
    /// It, or a part of it, is still on its way: on a cable with properties, in a queue.
    Strayed,
    /// Several frames came of it.
    Several,
    /// No room for a further port or connection.
    Full,
    /// It drew a random number.
    Random,
    /// What the walk did to the frame is no rewrite of addresses, ports and hops.
    Rewrite,
}

impl core::fmt::Display for Why {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let text = match self {
            Why::Shape => {
                "another shape than the common one (fragment, options, protocol, wrong header)"
            }
            Why::Varies(Varies::Connection) => {
                "the connection was new, or its state was about to change"
            }
            Why::Varies(Varies::Ipvs) => {
                "IPVS made a connection, or looks at each packet of its own"
            }
            Why::Varies(Varies::Neighbour) => "a neighbour was not confirmed",
            Why::Varies(Varies::Learned) => "a bridge learned an address",
            Why::Varies(Varies::TunnelLearned) => "a tunnel learned an address",
            Why::Varies(Varies::Redirect) => "an ICMP redirect was due",
            Why::Varies(Varies::Rule(rule)) => {
                return write!(f, "a rule looks at more than the flow: {rule:?}");
            }
            Why::Ended => "it ended on the way: dropped, answered, delivered, kept for a neighbour",
            Why::Strayed => "it waited on the way: a cable with properties, a queue",
            Why::Several => "several frames came of it",
            Why::Full => "no room for a further port or connection",
            Why::Random => "it drew a random number",
            Why::Rewrite => "the frame was changed in another way than addresses, ports and TTL",
        };
        f.write_str(text)
    }
}

/// What happened to frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Carried by an entry.
    pub hits: u64,
    /// Walked.
    pub walks: u64,
    /// Entries made.
    pub compiled: u64,
}

/// The cache and what it needs to keep the world true.
#[derive(Debug)]
pub struct FastPath {
    pub(super) table: Table,
    pub(super) ties: Ties,
    pub(super) classes: Classes,
    pub(super) doors: Doors,
    pub(super) pairs: Pairs,
    ports: Vec<PortAt>,
    numbers: BTreeMap<PortAt, u16>,
    pub(super) edges: Vec<bool>,
    pub(super) epoch: u16,
    version: (u64, u64),
    until: Instant,
    /// Namespaces whose IPVS counts packets of entries, and when their estimators look next.
    pub(super) servers: BTreeSet<NsId>,
    pub(super) tick: Instant,
    /// Entries with hits that were not written back.
    dirty: Dirty,
    pub(super) group: Group,
    room: Shares,
    moments: Moments,
    moment: u32,
    /// Time after which a connection may have died unseen.
    pub(super) idle: Duration,
    hand: u32,
    walks_only: bool,
    /// Every so many frames one is checked; 0 for none.
    verify: u64,
    due: u64,
    pub(super) verified: Verified,
    stats: Stats,
    why: BTreeMap<Why, u64>,
}

impl FastPath {
    /// A cache of at most `flows` entries; frames that reach a namespace of `edges` leave the fast path.
    pub fn new(flows: usize, edges: impl IntoIterator<Item = NsId>) -> Result<FastPath, NoMemory> {
        let mut marks = Vec::new();
        for ns in edges {
            let at = ns.0 as usize;
            if marks.len() <= at {
                marks.resize(at + 1, false);
            }
            marks[at] = true;
        }
        Ok(FastPath {
            table: Table::new(flows)?,
            ties: Ties::new(flows),
            classes: Classes::default(),
            doors: Doors::default(),
            pairs: Pairs::new(flows.max(1024)),
            ports: Vec::new(),
            numbers: BTreeMap::new(),
            edges: marks,
            epoch: 1,
            version: (0, 0),
            until: Instant::ZERO,
            servers: BTreeSet::new(),
            tick: Instant::from_nanos(u64::MAX),
            dirty: Dirty::new(flows),
            group: Group::default(),
            room: Shares::new(),
            moments: Moments::default(),
            moment: 0,
            idle: Duration::MAX,
            hand: 1,
            walks_only: false,
            verify: 0,
            due: 0,
            verified: Verified::default(),
            stats: Stats::default(),
            why: BTreeMap::new(),
        })
    }

    /// The number of a port; `None` when there are 65,536 already.
    pub fn port(&mut self, at: PortAt) -> Option<u16> {
        if let Some(n) = self.numbers.get(&at) {
            return Some(*n);
        }
        let n = u16::try_from(self.ports.len()).ok()?;
        self.ports.push(at);
        self.numbers.insert(at, n);
        Some(n)
    }

    /// The port of a number.
    pub fn port_at(&self, n: u16) -> Option<PortAt> {
        self.ports.get(usize::from(n)).copied()
    }

    /// Walks every frame: what the fast path is compared with.
    pub fn only_walk(&mut self) {
        self.walks_only = true;
    }

    /// What happened so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Why walks were not compiled, and how often.
    pub fn why_slow(&self) -> &BTreeMap<Why, u64> {
        &self.why
    }

    /// Bytes of the cache: table, and what its entries stand for.
    pub fn bytes(&self) -> usize {
        self.table.bytes() + self.ties.bytes() + self.dirty.bytes() + self.pairs.bytes()
    }

    /// Entries in the cache.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Carries a batch: frames that are sent are rewritten in place, what comes of the others is put
    /// into `out`, in order.
    pub fn run(
        &mut self,
        world: &mut World,
        batch: &mut Batch<'_>,
        out: &mut Vec<(PortAt, Frame)>,
    ) {
        self.refresh(world);
        self.moment = self.moments.at(world.now(), self.idle);
        let mut from = usize::from(self.is_due(batch.len()) && self.check(world, batch, 0, out));
        while from < batch.len() {
            let to = (from + GROUP).min(batch.len());
            self.group(world, batch, from, to, out);
            from = to;
        }
    }

    /// From now on walks one frame of every `every` that an entry would carry, and compares; 0 for none.
    pub fn verify(&mut self, every: u64) {
        (self.verify, self.due) = (every, every);
    }

    /// What was compared so far.
    pub fn verified(&self) -> &Verified {
        &self.verified
    }

    /// Whether one of the next `frames` is to be checked.
    fn is_due(&mut self, frames: usize) -> bool {
        if self.verify == 0 || frames == 0 {
            return false;
        }
        let due = self.due <= frames as u64;
        self.due = match due {
            true => self.verify,
            false => self.due - frames as u64,
        };
        due
    }

    /// Lets go of what was compiled for a state of the world that is no more.
    fn refresh(&mut self, world: &mut World) {
        if self.doors.is_full() || self.pairs.is_full() {
            self.sync(world);
            self.doors.clear();
            self.pairs.clear();
            self.next_epoch();
        }
        if self.moments.is_full() {
            self.sync(world);
            self.moments.forget();
            if self.moments.is_over() {
                self.moments.clear();
                self.next_epoch();
            }
        }
        if world.now() >= self.tick {
            self.estimate(world);
        }
        self.forget(world);
        if world.version() == self.version && world.now() < self.until {
            return;
        }
        self.sync(world);
        self.version = world.version();
        self.until = Instant::from_nanos(u64::MAX);
        self.next_epoch();
    }

    pub(super) fn next_epoch(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        if self.epoch == 0 {
            // An entry of 65,535 states ago must not look fresh.
            self.epoch = 1;
            for e in self.table.view().entries.iter_mut() {
                e.epoch = 0;
            }
        }
    }

    pub(super) fn when(&self) -> When {
        When {
            epoch: self.epoch,
            moment: self.moment,
            young: self.moments.young(),
        }
    }

    fn group(
        &mut self,
        world: &mut World,
        batch: &mut Batch<'_>,
        from: usize,
        to: usize,
        out: &mut Vec<(PortAt, Frame)>,
    ) {
        let (doors, pairs) = (&mut self.doors, &mut self.pairs);
        self.group
            .look_up(&self.table.view(), doors, pairs, batch, from, to);
        let (mut at, mut ahead) = (from, from);
        loop {
            let when = self.when();
            let mut other = Other {
                pairs: &self.pairs,
                conns: Followed {
                    world,
                    ties: &self.ties,
                    classes: &self.classes,
                },
            };
            let (view, dirty) = (&mut self.table.view(), &mut self.dirty);
            match self.group.hits(view, batch, at, &when, dirty, &mut other) {
                None => {
                    self.stats.hits += (to - at) as u64;
                    return;
                }
                Some(miss) => {
                    self.stats.hits += (miss.at - at) as u64;
                    if miss.at >= ahead {
                        ahead = self.look_ahead(world, batch, miss.at);
                    }
                    _ = self.walk(world, batch, miss.at, miss.key, miss.total, out);
                    at = miss.at + 1;
                }
            }
        }
    }

    /// Walks a frame and compiles the walk, or says why not.
    #[inline(never)]
    pub(super) fn walk(
        &mut self,
        world: &mut World,
        batch: &mut Batch<'_>,
        i: usize,
        key: Key,
        total: u16,
        out: &mut Vec<(PortAt, Frame)>,
    ) -> Result<(), Why> {
        self.sync(world);
        self.stats.walks += 1;
        let Some(at) = self.port_at(batch.ingress[i]) else {
            batch.fates[i] = Fate::Walked(0);
            return Err(Why::Full);
        };
        let came = batch.frames[i];
        let mut rec = Recorder::new(usize::from(total), std::mem::take(&mut self.room));
        let rng = world.rng().clone();
        let edges = &self.edges;
        let edge = |ns: NsId| edges.get(ns.0 as usize).copied().unwrap_or(false);
        let f = Frame::ethernet(came);
        let carried = match self.walks_only {
            true => world.carry(at, f, edge, &mut rec),
            false => world.carry_recalling(at, f, edge, &mut rec),
        };
        let random = *world.rng() != rng;
        self.forget(world);
        if world.version() != self.version {
            self.version = world.version();
            self.next_epoch();
        }
        let compiled = self.compile(world, key, total, came, &carried, &rec, random);
        match compiled {
            Ok(()) => self.stats.compiled += 1,
            Err(why) => *self.why.entry(why).or_default() += 1,
        }
        self.room = rec.shares;
        batch.fates[i] = Fate::Walked(carried.out.len() as u32);
        out.extend(carried.out);
        compiled
    }

    #[allow(clippy::too_many_arguments, reason = "what one walk left behind")]
    fn compile(
        &mut self,
        world: &mut World,
        key: Key,
        total: u16,
        came: &[u8],
        carried: &Carried,
        rec: &Recorder,
        random: bool,
    ) -> Result<(), Why> {
        if total == 0 || self.walks_only {
            return Err(Why::Shape);
        }
        if let Some(v) = rec.varies {
            return Err(Why::Varies(v));
        }
        if carried.strayed {
            return Err(Why::Strayed);
        }
        let [(to, left)] = carried.out.as_slice() else {
            return Err(if carried.out.is_empty() {
                Why::Ended
            } else {
                Why::Several
            });
        };
        if rec.ended {
            return Err(Why::Several);
        }
        if random {
            return Err(Why::Random);
        }
        let entry = compile::entry(key, came, left.data(), &mut self.pairs).ok_or(Why::Rewrite)?;
        let port = self.port(*to).ok_or(Why::Full)?;
        let mut conns = SmallVec::<[_; 8]>::new();
        for (held, before) in rec.conns.iter().zip(&rec.stamps) {
            let stamp = self.stamp(world, held).ok_or(Why::Full)?;
            if *before != Some(stamp) {
                // The next packet finds another mark than this one found.
                return Err(Why::Varies(Varies::Connection));
            }
            conns.push((*held, stamp));
        }
        let entry = Entry {
            out: port,
            epoch: self.epoch,
            cap: rec.cap.min(usize::from(u16::MAX)) as u16,
            flags: flags(world, &rec.conns, &key),
            seen: self.moment,
            ..entry
        };
        for (ns, hash) in &rec.strangers {
            if let Some(vs) = world.space_mut(*ns).and_then(|ns| ns.ipvs.as_deref_mut()) {
                vs.remember(*hash);
            }
        }
        self.watch(world.now(), &rec.conns);
        self.until = self.until.min(rec.until);
        let class = self.classes.of(&rec.shares);
        let n = self.put(world, entry);
        self.ties.set(n, class, &conns);
        self.link(world, n);
        Ok(())
    }

    /// Puts an entry into the table, in place of an old one where it is full.
    fn put(&mut self, world: &mut World, entry: Entry) -> u32 {
        loop {
            let old = self.table.view().find(entry.key.hash(), &entry.key);
            if old != 0 {
                self.unlink(world, old);
            }
            if let Ok(n) = self.table.insert(entry) {
                return n;
            }
            let victim = self.victim();
            self.remove(world, victim);
        }
    }

    /// Of the next few entries the one that was idle for longest.
    fn victim(&mut self) -> u32 {
        let view = self.table.view();
        let len = view.entries.len() as u32;
        let mut best = (u32::MAX, 1);
        for _ in 0..8 {
            self.hand = if self.hand + 1 >= len {
                1
            } else {
                self.hand + 1
            };
            let e = &view.entries[self.hand as usize];
            if e.key != Key::default() && e.seen < best.0 {
                best = (e.seen, self.hand);
            }
        }
        best.1
    }

    /// Lets time pass in the world until `until`; what hits counted is written back before anything happens
    /// in it.
    pub fn advance<O: Observer>(&mut self, world: &mut World, until: Instant, obs: &mut O) {
        if world.next_event().is_some_and(|t| t <= until) {
            self.sync(world);
        }
        world.run_until(until, obs);
    }

    /// One entry's part of [`FastPath::sync`]; an entry whose connection came into another state is added to
    /// `assured`.
    fn write_back(&mut self, world: &mut World, n: u32, assured: &mut Vec<u32>) {
        let Some(e) = self.table.view().entries.get_mut(n as usize) else {
            return;
        };
        if e.hits == 0 {
            return;
        }
        let (packets, bytes) = (u64::from(e.hits), u64::from(e.bytes));
        (e.hits, e.bytes) = (0, 0);
        let last = self.moments.time(e.seen).unwrap_or(world.now());
        let n_of = Counters { packets, bytes };
        self.classes.add(self.ties.class(n), n_of, last);
        for (held, _) in &self.ties.of(n, &self.classes) {
            if carried(world, held, n_of, last) {
                assured.push(n);
            }
        }
    }

    /// Writes into the world what hits counted since the last time.
    pub fn sync(&mut self, world: &mut World) {
        if self.dirty.is_empty() {
            return;
        }
        let mut assured = Vec::new();
        let (list, over) = self.dirty.take();
        match over {
            false => list
                .iter()
                .for_each(|n| self.write_back(world, *n, &mut assured)),
            true => {
                let all = self.table.view().entries.len() as u32;
                (1..all).for_each(|n| self.write_back(world, n, &mut assured));
            }
        }
        self.dirty.give_back(list);
        self.classes.write(world);
        for n in assured {
            self.remove(world, n);
        }
    }
}
