//! Connection tracking: the table of connections of one namespace, frame by frame as Linux 6.18.
//!
//! [`Conntrack::track`] finds or makes a packet's connection, [`Conntrack::confirm`] puts a new one
//! into the table, [`Conntrack::end_walk`] forgets those that never got there. [`text`] reads and
//! prints what `conntrack` prints. Translates nothing (that is `nf::nat`) and reassembles nothing.
//! Invariant: both tuples of a confirmed connection are in the index, no tuple twice in a zone and
//! direction; the reply tuple alone of one that clashed.

pub mod conn;
pub mod event;
pub mod expect;
pub mod filter;
pub mod helper;
pub mod sctp;
pub mod seqadj;
pub mod stats;
pub mod sysctl;
pub mod tcp;
pub mod text;
pub mod tuple;

mod alarms;
mod confirm;
mod icmp;
mod index;
mod more;
mod packet;
mod room;
mod slots;
mod table;
mod track;
mod tuples;
mod udp;

pub use confirm::Confirmed;
pub use conn::{Conn, CtStatus, Zones};
pub use event::{Event, EventBits, EventKind};
pub use expect::{ExpectNat, Expectation};
pub use filter::Filter;
pub use helper::{Announcement, FtpCommand, Helped};
pub use more::ProtoState;
pub use seqadj::SeqAdj;
pub use stats::CtStats;
pub use sysctl::CtSysctl;
pub use tcp::TcpStep;
pub use track::{Template, Tracked};
pub use tuple::{CtTuple, Dir};

use crate::base::Instant;
use crate::nf::Counters;
use crate::wire::ConnId;
use tuples::Key;

/// Why conntrack drops a packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum CtDrop {
    /// `nf_conntrack: table full, dropping packet`
    TableFull,
    /// Another connection took one of its tuples first (`insert_failed`).
    Clash,
    /// A packet ends in the middle of an ftp command that announces a connection (`partial PORT`).
    PartialFtp,
    /// The connection it announces cannot be waited for (`nf_ct_expect_related` failed).
    Expectation,
    /// Its connection was deleted before it was confirmed (`insert_failed`).
    Dying,
}

/// The table of one namespace (kernel: `struct netns_ct` and the part of `nf_conntrack_hash` that is its).
#[derive(Clone, Debug, Default)]
pub struct Conntrack {
    table: table::Table,
    expects: expect::Expects,
    templates: Vec<(Template, Conn)>,
    events: event::Events,
    stats: CtStats,
    /// Compiled paths of connections that died or came into another state.
    ended: Vec<u32>,
    /// Connections with compiled paths that this walk may have changed, as they were before: status and mark.
    changing: Vec<(ConnId, CtStatus, u32)>,
    /// A rule asked for counters (`nf_ct_set_acct`); they stay on.
    accounts: bool,
    /// The last moment it was asked.
    now: Instant,
    /// For [`Conntrack::expire`], to keep its room.
    dead: Vec<ConnId>,
    /// A kernel before 5.6: of two packets of one tuple that were translated differently before either was
    /// confirmed, the second is dropped (`nf_ct_resolve_clash_harder` came with "allow insertion of
    /// clashing entries", commit 6a757c07e51f).
    pub drops_clashes: bool,
    /// Of several workers that share a namespace's traffic, the one whose connections these are.
    pub shard: Option<crate::wire::shard::Shard>,
}

impl Conntrack {
    /// From now on new connections count packets and bytes, whatever `nf_conntrack_acct` says: `-m connbytes`
    /// sets it when it is loaded.
    pub fn account_all(&mut self) {
        self.accounts = true;
    }

    /// A connection; also one that left the table, until the walk in which it did so ends.
    pub fn get(&self, id: ConnId) -> Option<&Conn> {
        self.table.get(id)
    }

    /// A connection, to be changed. Tuples of a confirmed one must not be. What rules can ask of it is
    /// compared when the walk ends: its compiled paths end with another answer.
    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        let conn = self.table.get_mut(id)?;
        if conn.paths != [0; 2] && !self.changing.iter().any(|c| c.0 == id) {
            self.changing.push((id, conn.status, conn.mark));
        }
        Some(conn)
    }

    /// The compiled paths of a connection, by direction.
    pub fn paths_mut(&mut self, id: ConnId) -> Option<&mut [u32; 2]> {
        self.table.get_mut(id).map(|conn| &mut conn.paths)
    }

    /// Number of connections, confirmed or not (`nf_conntrack_count`).
    pub fn count(&self) -> usize {
        self.table.count()
    }

    /// Bytes that the table holds, but for what few connections have besides: helpers, labels, accounts.
    pub fn bytes(&self) -> usize {
        self.table.bytes()
    }

    /// Confirmed connections, in the order of their slots.
    pub fn iter(&self) -> impl Iterator<Item = (ConnId, &Conn)> {
        self.table
            .iter()
            .filter(|(_, c)| c.is_confirmed() && !c.is_dying())
    }

    /// The connection that `tuple` belongs to in a zone, and in which direction (kernel:
    /// `nf_conntrack_find_get`). What has expired is not found.
    pub fn find(&self, tuple: &CtTuple, zone: u16) -> Option<(ConnId, Dir)> {
        self.lookup_ref(tuple, Zones::both(zone))
    }

    /// The same with zones by direction.
    pub fn find_zones(&self, tuple: &CtTuple, zones: Zones) -> Option<(ConnId, Dir)> {
        self.lookup_ref(tuple, zones)
    }

    /// Asks for the memory that looking a tuple up will need.
    pub fn ahead(&self, tuple: &CtTuple) {
        self.table.ahead(tuple);
    }

    pub(crate) fn lookup_ref(&self, tuple: &CtTuple, zones: Zones) -> Option<(ConnId, Dir)> {
        self.lookup_key(&Key::new(*tuple), zones)
    }

    fn lookup_key(&self, key: &Key, zones: Zones) -> Option<(ConnId, Dir)> {
        let first = self.hashed(key, zones, zones.orig);
        let other = || self.hashed(key, zones, zones.reply);
        first.or_else(|| (zones.orig != zones.reply).then(other).flatten())
    }

    /// Who has a tuple in the hash chains of a zone: a direction of a connection stands in those of that
    /// direction's zone, and must have it in common with `zones` (kernel: `nf_ct_key_equal`).
    fn hashed(&self, key: &Key, zones: Zones, chain: u16) -> Option<(ConnId, Dir)> {
        let now = self.now;
        let mut holders = self.table.with_tuple(key);
        let found = holders.find(|(_, dir, c)| {
            let zone = c.zones().of(*dir);
            zone == zones.of(*dir) && zone == chain && !c.is_expired(now)
        });
        found.map(|(id, dir, _)| (id, dir))
    }

    /// Kernel: `__nf_conntrack_find_get`, which takes out what has expired on the way.
    fn lookup(&mut self, key: &Key, zones: Zones) -> Option<(ConnId, Dir)> {
        self.forget_expired(key);
        self.lookup_key(key, zones)
    }

    fn forget_expired(&mut self, key: &Key) {
        let now = self.now;
        if !self.table.is_due(now) {
            return;
        }
        let expired = |ct: &Conntrack| {
            let mut holders = ct.table.with_tuple(key);
            let found = holders.find(|(.., c)| c.is_expired(now) && !c.is_dying());
            found.map(|(id, ..)| id)
        };
        // Each that is killed is no longer there to be found.
        while let Some(id) = expired(self) {
            self.kill(id);
        }
    }

    /// Who stands in the way of two tuples (kernel: the two chains `__nf_conntrack_confirm` looks into).
    fn in_the_way(&mut self, keys: &[Key; 2], zones: Zones) -> Option<(ConnId, Dir)> {
        keys.iter().for_each(|k| self.forget_expired(k));
        let [orig, reply] = keys;
        let first = self.hashed(orig, zones, zones.orig);
        first.or_else(|| self.hashed(reply, zones, zones.reply))
    }

    /// Whether another connection has a *reply* tuple, so that `ignored` cannot take it (kernel:
    /// `nf_conntrack_tuple_taken`). Connections of the same original tuple do not count: they are the
    /// same flow, and confirm will sort it out.
    pub fn tuple_taken(&self, reply: &CtTuple, ignored: ConnId) -> bool {
        self.holder_of(reply, ignored).is_some()
    }

    /// Who has it: see [`Conntrack::tuple_taken`].
    pub fn holder_of(&self, reply: &CtTuple, ignored: ConnId) -> Option<(ConnId, Dir)> {
        let own = self.get(ignored)?;
        let now = self.now;
        let (orig, zones) = (own.tuple(Dir::Original), own.zones());
        let key = Key::new(*reply);
        let mut holders = self.table.with_tuple(&key);
        let found = holders.find(|(id, dir, c)| {
            let same_flow = c.tuple(Dir::Original) == orig && c.zones().orig == zones.orig;
            let zone = c.zones().of(*dir);
            // Only the chain of the reply's zone is searched.
            let here = zone == zones.of(*dir) && zone == zones.reply;
            *id != ignored && here && !c.is_expired(now) && !same_flow
        });
        found.map(|(id, dir, _)| (id, dir))
    }

    /// Gives a connection that is not yet confirmed another reply tuple (kernel:
    /// `nf_conntrack_alter_reply`). False if there is none or it is confirmed.
    pub fn alter_reply(&mut self, id: ConnId, reply: CtTuple) -> bool {
        // Whether it is free is asked at the end of the packet's way.
        self.table.ahead(&reply);
        match self.get_mut(id).filter(|c| !c.is_confirmed()) {
            Some(conn) => {
                conn.set_reply(reply);
                true
            }
            None => false,
        }
    }

    /// Remembers by its source a connection whose source was mapped (kernel: `nf_nat_bysource`,
    /// `nf_nat_setup_info`).
    pub fn add_by_source(&mut self, id: ConnId) {
        self.table.add_by_source(id);
    }

    /// Connections whose source was mapped and whose original tuple has the protocol, address and port
    /// that `tuple` comes from, the newest first (kernel: `find_appropriate_src`).
    pub fn by_source(
        &mut self,
        tuple: &CtTuple,
        zone: u16,
    ) -> impl Iterator<Item = (ConnId, &Conn)> {
        let found = self.table.by_source(tuple);
        found.filter(move |(_, c)| c.zones().orig == zone)
    }

    /// Takes a connection out of the table; packets on their way keep it until the walk ends (kernel:
    /// `nf_ct_kill`).
    pub fn kill(&mut self, id: ConnId) {
        let now = self.now;
        let Some(conn) = self.table.get_mut(id).filter(|c| !c.is_dying()) else {
            return;
        };
        conn.status.set(CtStatus::DYING);
        let paths = core::mem::take(&mut conn.paths);
        self.ended.extend(paths.iter().filter(|p| **p != 0));
        let Some(conn) = self.table.get_mut(id) else {
            return;
        };
        let seen = conn.is_confirmed();
        if seen && self.events.listening {
            let conn = conn.clone();
            self.events.tell(EventKind::Destroy, now, &conn);
        }
        self.expects.remove_of(id);
        self.table.take_out(id);
    }

    /// Keeps a connection through [`Conntrack::end_walk`] because a packet waits (for a neighbour, in
    /// a bridge) and will come back to it. Each call is undone by one [`Conntrack::release`].
    pub fn hold(&mut self, id: ConnId) {
        self.table.hold(id);
    }

    /// Undoes [`Conntrack::hold`].
    pub fn release(&mut self, id: ConnId) {
        self.table.release(id);
    }

    /// A walk has ended: forgets connections that were not confirmed in it, and those that died; compiled
    /// paths of those that came into another state end.
    pub fn end_walk(&mut self) {
        for (id, status, mark) in self.changing.drain(..) {
            let conn = self.table.get_mut(id);
            if let Some(conn) = conn.filter(|c| (c.status, c.mark) != (status, mark)) {
                let paths = core::mem::take(&mut conn.paths);
                self.ended.extend(paths.iter().filter(|p| **p != 0));
            }
        }
        self.table.reap();
    }

    /// Takes out what has expired (kernel: `gc_worker`); lookups never find it anyway.
    pub fn expire(&mut self, now: Instant) {
        if self.collect(now) {
            self.table.reap();
        }
    }

    /// The same in the midst of a walk, whose end empties the slots; whether something may have been over.
    fn collect(&mut self, now: Instant) -> bool {
        self.now = self.now.max(now);
        self.expects.expire(now);
        if !self.table.is_due(now) {
            return false;
        }
        let mut dead = core::mem::take(&mut self.dead);
        while self.table.look(now, &mut dead) {
            dead.drain(..).for_each(|id| self.kill(id));
        }
        self.dead = dead;
        true
    }

    /// Puts a connection with its time left into the table, as `conntrack -I` does and a dump asks for;
    /// `None` if one of its tuples is taken (kernel: `nf_conntrack_hash_check_insert`).
    pub fn insert(&mut self, mut conn: Conn, now: Instant) -> Option<ConnId> {
        self.now = self.now.max(now);
        let (keys, zones) = (conn.tuples().map(Key::new), conn.zones());
        if keys.iter().any(|k| self.lookup(k, zones).is_some()) {
            self.stats.insert_failed += 1;
            return None;
        }
        conn.status.set(CtStatus::CONFIRMED);
        let id = self.table.add(conn)?;
        self.index_both(id, &keys);
        self.stats.insert += 1;
        Some(id)
    }

    /// Takes out every connection that `which` names; returns how many.
    pub fn delete(&mut self, which: impl Fn(&Conn) -> bool) -> usize {
        let ids = self.ids(|c| !c.is_expired(self.now) && which(c));
        let n = ids.len();
        ids.into_iter().for_each(|id| self.kill(id));
        n
    }

    /// Takes labels from every connection that `which` names (kernel: `nf_connlabels_replace`) and says how
    /// many had one. What was compiled of their packets ends.
    pub fn unlabel(&mut self, labels: u128, which: impl Fn(&Conn) -> bool) -> usize {
        let has = |c: &Conn| c.labels() & labels != 0 && !c.is_expired(self.now) && which(c);
        let ids = self.ids(has);
        for id in &ids {
            if let Some(conn) = self.table.get_mut(*id) {
                conn.drop_labels(labels);
                let paths = core::mem::take(&mut conn.paths);
                self.ended.extend(paths.iter().filter(|p| **p != 0));
            }
        }
        ids.len()
    }

    /// `conntrack -F`: empties the table.
    pub fn flush(&mut self) -> usize {
        self.delete(|_| true)
    }

    fn ids(&self, which: impl Fn(&Conn) -> bool) -> Vec<ConnId> {
        let found = self.iter().filter(|(_, c)| which(c));
        found.map(|(id, _)| id).collect()
    }

    /// Counters as `conntrack -S` shows them.
    pub fn stats(&self) -> &CtStats {
        &self.stats
    }

    /// Packets of a settled connection that were carried without asking the table: what they would have done
    /// to it. Whether the connection came into another state by it.
    pub fn carried(
        &mut self,
        id: ConnId,
        dir: Dir,
        n: Counters,
        last: Instant,
        sysctl: &CtSysctl,
    ) -> bool {
        let conn = self.table.get_mut(id);
        let changed = conn.is_some_and(|conn| udp::carried(conn, dir, n, last, sysctl));
        if changed {
            self.now = self.now.max(last);
            self.tell(id);
        }
        self.table.alarm(id);
        changed
    }

    /// What a segment in the middle of a settled TCP connection would change; `None` if it may not be carried
    /// without asking the table. Its checksum was looked at.
    pub fn step(
        &self,
        id: ConnId,
        dir: Dir,
        segment: &[u8],
        now: Instant,
        sysctl: &CtSysctl,
    ) -> Option<TcpStep> {
        let conn = self.get(id).filter(|c| !c.is_expired(now))?;
        tcp::step_of(conn, dir, segment, sysctl)
    }

    /// Carries that out.
    pub fn take_step(&mut self, id: ConnId, step: TcpStep, now: Instant) {
        if let Some(conn) = self.table.get_mut(id) {
            tcp::take_step(conn, step, now);
        }
        // A shorter life may have begun.
        self.table.alarm(id);
    }

    /// Whether further packets of a connection may be carried without asking the table. While somebody
    /// listens, events have their moments: what is yet to become assured is walked.
    pub fn is_settled(&self, id: ConnId) -> bool {
        let open = |c: &Conn| {
            let replied = c.status.any(CtStatus::SEEN_REPLY);
            replied && !c.status.any(CtStatus::ASSURED)
        };
        self.get(id)
            .is_some_and(|c| c.is_settled() && !(self.events.listening && open(c)))
    }

    /// Whether compiled paths ended with their connections since the last call of
    /// [`Conntrack::take_ended`].
    pub fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// Compiled paths that ended with their connections since the last call.
    pub fn take_ended(&mut self) -> Vec<u32> {
        core::mem::take(&mut self.ended)
    }

    /// Begins or stops to keep events (`conntrack -E`).
    pub fn listen(&mut self, on: bool) {
        self.events.listening = on;
    }

    /// Events since the last call, and how many did not fit the queue.
    pub fn take_events(&mut self) -> (Vec<Event>, u64) {
        self.events.take()
    }

    /// Expectations, to be added to by helpers and looked at by `-m conntrack`.
    pub fn expectations(&self) -> impl Iterator<Item = &Expectation> {
        self.expects.iter()
    }
}
