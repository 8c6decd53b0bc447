//! Entries and the connections that they stand for: an entry goes when its connection dies or comes into
//! another state.
//!
//! Invariant: a connection names the entry of each direction, or that there are several; those end together.

use crate::base::Instant;
use crate::fast::{Follow, Key, flag};
use crate::ipvs;
use crate::net::NetNs;
use crate::nf::Counters;
use crate::nf::ct::{Conn, Dir, TcpStep};
use crate::sim::World;
use crate::sim::fast::class::{Classes, longer};
use crate::sim::fast::engine::{FastPath, MANY};
use crate::sim::fast::record::{Held, Kept};
use crate::sim::fast::ties::{Stamp, Ties};
use crate::wire::proto;
use core::time::Duration;
use smallvec::SmallVec;

impl FastPath {
    /// What rules may ask of a connection now; its life bounds how long an entry may rest.
    pub(super) fn stamp(&mut self, world: &World, held: &Held) -> Option<Stamp> {
        let life = match held.kept {
            Kept::Conntrack => conn(world, held)?.timeout(),
            Kept::Ipvs => vs_conn(world.ns(held.ns)?, held)?.timeout,
        };
        // Lives end on ticks of 4 ms: a little early is walked, and nothing lost.
        self.idle = self.idle.min(life.saturating_sub(Duration::from_millis(8)));
        stamp_in(world.ns(held.ns)?, held)
    }

    /// Tells the connections of an entry of it.
    pub(super) fn link(&mut self, world: &mut World, n: u32) {
        for (held, _) in &self.ties.of(n, &self.classes) {
            if let Some(path) = path_mut(world, held) {
                *path = if [0, n].contains(path) { n } else { MANY };
            }
        }
    }

    pub(super) fn unlink(&mut self, world: &mut World, n: u32) {
        for (held, _) in self.ties.of(n, &self.classes) {
            if let Some(path) = path_mut(world, &held).filter(|path| **path == n) {
                *path = 0;
            }
        }
        self.ties.clear(n);
    }

    pub(super) fn remove(&mut self, world: &mut World, n: u32) {
        self.unlink(world, n);
        self.table.remove(n);
    }

    /// Forgets the entries whose connections ended or came into another state, in walks of whichever frames.
    pub(super) fn forget(&mut self, world: &mut World) {
        for n in world.take_ended() {
            match n {
                MANY => self.next_epoch(),
                n => self.remove(world, n),
            }
        }
    }
}

fn stamp_of(conn: &Conn) -> Stamp {
    (conn.status.0, conn.mark)
}

/// What rules may ask of a connection, and IPVS of its own.
pub(super) fn stamp_in(ns: &NetNs, held: &Held) -> Option<Stamp> {
    match held.kept {
        Kept::Conntrack => ns.nf()?.ct.get(held.id).map(stamp_of),
        Kept::Ipvs => vs_conn(ns, held).map(ipvs::conn::Conn::stamp),
    }
}

/// The number of a connection of IPVS.
fn vs_id(held: &Held) -> ipvs::conn::ConnId {
    ipvs::conn::ConnId::of_halves((held.id.slot, held.id.generation))
}

fn vs_conn<'n>(ns: &'n NetNs, held: &Held) -> Option<&'n ipvs::conn::Conn> {
    ns.ipvs()?.conns().get(vs_id(held))
}

fn conn<'w>(world: &'w World, held: &Held) -> Option<&'w Conn> {
    match held.kept {
        Kept::Conntrack => world.ns(held.ns)?.nf()?.ct.get(held.id),
        Kept::Ipvs => None,
    }
}

/// Where a connection of conntrack names the entry of a direction.
fn path_mut<'w>(world: &'w mut World, held: &Held) -> Option<&'w mut u32> {
    let nf = world.space_mut(held.ns)?.nf.as_deref_mut()?;
    match held.kept {
        Kept::Conntrack => nf.ct.paths_mut(held.id)?.get_mut(usize::from(held.reply)),
        Kept::Ipvs => None,
    }
}

/// Tells a connection of the packets that were carried for it; whether that assured it.
pub(super) fn carried(world: &mut World, held: &Held, n: Counters, last: Instant) -> bool {
    let Some(ns) = world.space_mut(held.ns) else {
        return false;
    };
    match held.kept {
        Kept::Conntrack => {
            let dir = dir_of(held);
            let n = Counters {
                packets: n.packets,
                bytes: longer(n, held.extra),
            };
            let (nf, sysctl) = (ns.nf.as_deref_mut(), &ns.sysctl.ct);
            nf.is_some_and(|nf| nf.ct.carried(held.id, dir, n, last, sysctl))
        }
        Kept::Ipvs => {
            if let Some(vs) = ns.ipvs.as_deref_mut() {
                vs.carried(vs_id(held), held.reply, n.packets, last);
            }
            false
        }
    }
}

/// What the conntracks on the way look at in each packet.
pub(super) fn flags(world: &World, conns: &[Held], key: &Key) -> u8 {
    let sums = |h: &Held| {
        world
            .ns(h.ns)
            .is_some_and(|ns| ns.sysctl().ct.checksum != 0)
    };
    let sum = if conns.iter().any(sums) { flag::SUM } else { 0 };
    match key.protocol() == proto::TCP && !conns.is_empty() {
        true => sum | flag::WINDOW,
        false => sum,
    }
}

/// The TCP connections of entries, followed segment by segment.
pub(super) struct Followed<'a> {
    pub world: &'a mut World,
    pub ties: &'a Ties,
    pub classes: &'a Classes,
}

/// The same, but nothing moves: a segment is only judged.
pub(super) struct Judged<'a> {
    pub world: &'a World,
    pub ties: &'a Ties,
    pub classes: &'a Classes,
}

type Steps = SmallVec<[(Held, TcpStep); 8]>;

/// What a segment would move in the connections of an entry; `None` if it is no segment that may be carried.
fn steps(
    world: &World,
    (ties, classes): (&Ties, &Classes),
    entry: u32,
    segment: &[u8],
) -> Option<Steps> {
    let now = world.now();
    let mut steps = Steps::new();
    for (held, stamp) in ties.of(entry, classes) {
        let ns = world.ns(held.ns)?;
        if held.kept == Kept::Ipvs {
            if stamp_in(ns, &held) != Some(stamp) {
                return None;
            }
            continue;
        }
        let (ct, dir) = (&ns.nf()?.ct, dir_of(&held));
        let step = ct.step(held.id, dir, segment, now, &ns.sysctl().ct)?;
        steps.push((held, step));
    }
    Some(steps)
}

impl Follow for Judged<'_> {
    fn follow(&mut self, entry: u32, segment: &[u8]) -> bool {
        steps(self.world, (self.ties, self.classes), entry, segment).is_some()
    }
}

impl Follow for Followed<'_> {
    fn follow(&mut self, entry: u32, segment: &[u8]) -> bool {
        let Some(steps) = steps(self.world, (self.ties, self.classes), entry, segment) else {
            return false;
        };
        let now = self.world.now();
        for (held, step) in steps {
            let ns = self.world.space_mut(held.ns);
            if let Some(nf) = ns.and_then(|ns| ns.nf.as_deref_mut()) {
                nf.ct.take_step(held.id, step, now);
            }
        }
        true
    }
}

/// The direction in which an entry's packets go through a connection.
fn dir_of(held: &Held) -> Dir {
    match held.reply {
        true => Dir::Reply,
        false => Dir::Original,
    }
}
