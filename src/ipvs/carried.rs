//! What a packet met in IPVS, for whoever compiles its walk, and what is brought along for packets that were
//! carried without asking.
//!
//! Invariant: a packet of which nothing is known met nothing; one that met no connection is a stranger, whose
//! compiled paths end when a connection is made that it might be of.

use super::conn::{Conn, ConnId, Key};
use super::hook::Packet;
use super::service::{DestId, Forward};
use super::{Ipvs, state};
use crate::base::{Instant, limits};
use crate::nf::Counters;
use crate::wire::proto;
use core::hash::{BuildHasher, Hash};
use foldhash::fast::FixedState;
use hashbrown::HashSet;

/// What a packet met at a hook.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Met {
    /// Nothing that could change by another packet.
    #[default]
    Nothing,
    /// No connection; the hash names those that it would be of.
    Stranger(u64),
    /// A settled connection.
    Conn {
        /// Which.
        id: ConnId,
        /// Its real server, where its packets are counted.
        dest: Option<DestId>,
        /// By the direction of replies.
        reply: bool,
    },
    /// Something that the next packet may meet otherwise.
    Other,
}

/// Packets that met no connection and whose paths were compiled.
#[derive(Clone, Debug, Default)]
pub(super) struct Strangers {
    known: HashSet<u64, FixedState>,
    /// Counts connections that may be theirs, and whatever else is over at once.
    surprises: u64,
}

fn hash_of(p: u8, src: (std::net::IpAddr, u16), dst: (std::net::IpAddr, u16)) -> u64 {
    let mut h = FixedState::default().build_hasher();
    (p, src, dst).hash(&mut h);
    core::hash::Hasher::finish(&h)
}

impl Packet {
    /// The hash of the connections that it would be of.
    pub(super) fn hash(&self) -> u64 {
        hash_of(
            self.h.proto,
            (self.h.src, self.sport),
            (self.h.dst, self.dport),
        )
    }
}

impl Ipvs {
    /// What the packet at hand met, once.
    pub fn take_met(&mut self) -> Met {
        core::mem::take(&mut self.met)
    }

    /// What a packet that found a connection in state `before` met there.
    pub(super) fn meets(&self, id: ConnId, before: Option<u8>, reply: bool) -> Met {
        let Some(c) = self.conns.get(id) else {
            return Met::Other;
        };
        let settled = match c.key.proto {
            proto::UDP => true,
            proto::TCP => c.state == state::tcp::ESTABLISHED,
            _ => false,
        };
        let plain = settled && before == Some(c.state) && !c.one_packet && !c.template;
        match c.fwd {
            Forward::Masq | Forward::Droute if plain => Met::Conn {
                id,
                dest: c.dest,
                reply,
            },
            _ => Met::Other,
        }
    }

    /// A path of packets that met no connection was compiled.
    pub fn remember(&mut self, stranger: u64) {
        if self.strangers.known.len() >= limits::IPVS_CONNS_MAX {
            self.surprised();
        }
        self.strangers.known.insert(stranger);
    }

    /// How often compiled paths had to end so far.
    pub fn surprises(&self) -> u64 {
        self.strangers.surprises + self.conns.crowded()
    }

    /// All compiled paths end.
    pub(super) fn surprised(&mut self) {
        self.strangers.known.clear();
        self.strangers.surprises += 1;
    }

    /// A connection was made.
    pub(super) fn made(&mut self, key: &Key, server: (std::net::IpAddr, u16)) {
        if self.strangers.known.is_empty() {
            return;
        }
        let client = (key.caddr, key.cport);
        let request = hash_of(key.proto, client, (key.vaddr, key.vport));
        let reply = hash_of(key.proto, server, client);
        let known = &self.strangers.known;
        if known.contains(&request) || known.contains(&reply) {
            self.surprised();
        }
    }

    /// Packets of a settled connection that were carried without asking, the last of them at `last`.
    pub fn carried(&mut self, id: ConnId, reply: bool, packets: u64, last: Instant) {
        let Some(c) = self.conns.get_mut(id) else {
            return;
        };
        if !reply {
            c.in_pkts += packets;
        }
        // Both directions are written back, in whichever order: the younger packet decides.
        let end = last + c.timeout;
        if end > c.expires {
            self.conns.set_expiry(id, end);
        }
    }

    /// Counts packets at a real server, its service and over all, as if they had been looked at.
    pub fn count(&mut self, dest: DestId, reply: bool, n: Counters) {
        self.counted_at(dest, |s| s.packets(reply, n));
    }
}

impl Conn {
    /// What of it decides how packets are treated.
    pub fn stamp(&self) -> (u32, u32) {
        (u32::from(self.state) | u32::from(self.nfct) << 8, 0)
    }
}

impl ConnId {
    /// As two halves.
    pub fn halves(self) -> (u32, u32) {
        (self.0 as u32, (self.0 >> 32) as u32)
    }

    /// Of its halves.
    pub fn of_halves((low, high): (u32, u32)) -> ConnId {
        ConnId(u64::from(low) | u64::from(high) << 32)
    }
}
