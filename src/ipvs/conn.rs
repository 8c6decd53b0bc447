//! The connection table (kernel: ip_vs_conn.c).
//!
//! Holds connections and templates and their timers; counting at destinations is `super::bind`'s.
//! Invariant: every connection is in `by_key` under its present key and in `timers` under its present
//! expiry; of equal keys the one hashed last comes first, as in the kernel's chains.

use super::service::{DestId, Forward};
use crate::base::Instant;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What makes a packet one of a connection (`struct ip_vs_conn_param`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Key {
    /// Protocol; 0 for the template of a service by mark.
    pub proto: u8,
    /// The client.
    pub caddr: IpAddr,
    /// Its port; 0 for a template.
    pub cport: u16,
    /// The virtual address; a mark, written as an address, for the template of a service by mark.
    pub vaddr: IpAddr,
    /// The virtual port.
    pub vport: u16,
}

/// A connection or template.
#[derive(Clone, Debug)]
pub struct Conn {
    /// Client and virtual address.
    pub key: Key,
    /// The real server's address.
    pub daddr: IpAddr,
    /// And port.
    pub dport: u16,
    /// How packets get there.
    pub fwd: Forward,
    /// The real server as configured; none for `cache_bypass`.
    pub dest: Option<DestId>,
    /// It stands for a client of a persistent service.
    pub template: bool,
    /// It counts as inactive.
    pub inactive: bool,
    /// Answers were never seen (`IP_VS_CONN_F_NOOUTPUT`).
    pub no_output: bool,
    /// It dies with its first packet.
    pub one_packet: bool,
    /// conntrack keeps an entry for it (`IP_VS_CONN_F_NFCT`).
    pub nfct: bool,
    /// Its state, by its protocol; for a template 1 once it is assured.
    pub state: u8,
    /// How long it lives without a packet.
    pub timeout: Duration,
    /// When it goes.
    pub expires: Instant,
    /// Its template.
    pub control: Option<ConnId>,
    /// Connections of which it is the template.
    pub controls: u32,
    /// Packets towards the real server.
    pub in_pkts: u64,
    /// Of how many real servers it got one without its being known which was next; 0 where it is known.
    pub open: u32,
}

/// A connection's place; never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnId(pub(super) u64);

/// All connections of a namespace.
#[derive(Clone, Debug, Default)]
pub struct Conns {
    all: BTreeMap<ConnId, Conn>,
    by_key: BTreeMap<(bool, Key), Vec<ConnId>>,
    by_server: BTreeMap<(u8, IpAddr, u16, IpAddr, u16), Vec<ConnId>>,
    timers: BTreeSet<(Instant, ConnId)>,
    next: u64,
    /// How often a connection took another's packets by an equal key, or gave them back.
    crowded: u64,
}

impl Conns {
    /// A connection.
    pub fn get(&self, id: ConnId) -> Option<&Conn> {
        self.all.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.all.get_mut(&id)
    }

    /// All, in the order they were made.
    pub fn iter(&self) -> impl Iterator<Item = (ConnId, &Conn)> {
        self.all.iter().map(|(id, c)| (*id, c))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The connection of a packet towards a virtual service (`ip_vs_conn_in_get`).
    pub fn find_in(&self, key: &Key) -> Option<ConnId> {
        self.by_key.get(&(false, *key))?.first().copied()
    }

    /// A template (`ip_vs_ct_in_get`).
    pub fn find_template(&self, key: &Key) -> Option<ConnId> {
        self.by_key.get(&(true, *key))?.first().copied()
    }

    /// The connection of a packet from a real server, or from the virtual address where nothing is
    /// translated (`ip_vs_conn_out_get`).
    pub fn find_out(
        &self,
        proto: u8,
        src: IpAddr,
        sport: u16,
        dst: IpAddr,
        dport: u16,
    ) -> Option<ConnId> {
        let at = (proto, src, sport, dst, dport);
        self.by_server.get(&at)?.first().copied()
    }

    fn server_key(c: &Conn) -> (u8, IpAddr, u16, IpAddr, u16) {
        let (ip, port) = match c.fwd {
            Forward::Masq => (c.daddr, c.dport),
            _ => (c.key.vaddr, c.key.vport),
        };
        (c.key.proto, ip, port, c.key.caddr, c.key.cport)
    }

    pub(super) fn insert(&mut self, c: Conn) -> ConnId {
        let id = ConnId(self.next);
        self.next += 1;
        self.hash(id, &c);
        self.timers.insert((c.expires, id));
        self.all.insert(id, c);
        id
    }

    fn hash(&mut self, id: ConnId, c: &Conn) {
        let chain = self.by_key.entry((c.template, c.key)).or_default();
        let others = !chain.is_empty();
        chain.insert(0, id);
        if !c.template {
            let chain = self.by_server.entry(Self::server_key(c)).or_default();
            self.crowded += u64::from(others || !chain.is_empty());
            chain.insert(0, id);
        }
    }

    /// How often a connection took another's packets by an equal key, or gave them back.
    pub(super) fn crowded(&self) -> u64 {
        self.crowded
    }

    fn unhash(&mut self, id: ConnId, c: &Conn) {
        let a = unchain(&mut self.by_key, &(c.template, c.key), id);
        let b = unchain(&mut self.by_server, &Self::server_key(c), id);
        self.crowded += u64::from(!c.template && (a || b));
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, id: ConnId) -> Option<Conn> {
        let c = self.all.remove(&id)?;
        self.unhash(id, &c);
        self.timers.remove(&(c.expires, id));
        Some(c)
    }

    /// Makes a template one that no packet finds (`ip_vs_check_template`).
    pub(super) fn spoil(&mut self, id: ConnId) {
        let Some(old) = self.all.get(&id).cloned() else {
            return;
        };
        if old.key.vport == 0xffff {
            return;
        }
        self.unhash(id, &old);
        let mut new = old;
        (new.key.cport, new.key.vport, new.dport) = (0, 0xffff, 0xffff);
        self.hash(id, &new);
        self.all.insert(id, new);
    }

    /// Sets when one goes.
    pub(super) fn set_expiry(&mut self, id: ConnId, at: Instant) {
        if let Some(c) = self.all.get_mut(&id) {
            self.timers.remove(&(c.expires, id));
            c.expires = at;
            self.timers.insert((at, id));
        }
    }

    /// The next to go, if its time has come.
    pub(super) fn due(&self, now: Instant) -> Option<ConnId> {
        let (at, id) = self.timers.first()?;
        (*at <= now).then_some(*id)
    }

    /// When the next goes.
    pub fn next_timer(&self) -> Option<Instant> {
        self.timers.first().map(|t| t.0)
    }
}

/// Takes one out; whether others of its key are left.
fn unchain<K: Ord>(map: &mut BTreeMap<K, Vec<ConnId>>, key: &K, id: ConnId) -> bool {
    if let Some(chain) = map.get_mut(key) {
        chain.retain(|c| *c != id);
        if chain.is_empty() {
            map.remove(key);
            return false;
        }
        return true;
    }
    false
}
