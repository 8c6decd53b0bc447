//! What happens to connections, told to whoever listens (`conntrack -E`).
//!
//! Events gather on a connection and are told at the confirm hook (kernel: nf_conntrack_ecache.c).
//! Invariant: without a listener nothing is kept; a full queue counts what it loses.

use super::conn::Conn;
use crate::base::{Instant, limits};
use std::collections::VecDeque;

/// What changed (kernel: `enum ip_conntrack_events`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EventBits(pub u16);

#[allow(missing_docs, reason = "the kernel's own names, IPCT_ left out")]
impl EventBits {
    pub const NEW: u16 = 1;
    pub const RELATED: u16 = 1 << 1;
    pub const DESTROY: u16 = 1 << 2;
    pub const REPLY: u16 = 1 << 3;
    pub const ASSURED: u16 = 1 << 4;
    pub const PROTOINFO: u16 = 1 << 5;
    pub const HELPER: u16 = 1 << 6;
    pub const MARK: u16 = 1 << 7;
    pub const SEQADJ: u16 = 1 << 8;
    pub const SECMARK: u16 = 1 << 9;
    pub const LABEL: u16 = 1 << 10;

    /// Adds bits.
    pub fn set(&mut self, bits: u16) {
        self.0 |= bits;
    }

    /// Whether any of `bits` is set.
    pub fn any(self, bits: u16) -> bool {
        self.0 & bits != 0
    }
}

/// The three kinds of messages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum EventKind {
    /// It entered the table.
    New,
    /// It changed.
    Update,
    /// It left the table.
    Destroy,
}

/// One message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// Which kind.
    pub kind: EventKind,
    /// When.
    pub at: Instant,
    /// The connection as it was then.
    pub conn: Box<Conn>,
}

/// The queue of a listener.
#[derive(Clone, Debug, Default)]
pub(super) struct Events {
    pub listening: bool,
    queue: VecDeque<Event>,
    lost: u64,
}

impl Events {
    /// Tells an event.
    pub fn tell(&mut self, kind: EventKind, at: Instant, conn: &Conn) {
        if !self.listening {
            return;
        }
        if self.queue.len() >= limits::CT_EVENTS_MAX {
            self.lost += 1;
            return;
        }
        self.queue.push_back(Event {
            kind,
            at,
            conn: Box::new(conn.clone()),
        });
    }

    /// Takes what was told so far, and how many were lost.
    pub fn take(&mut self) -> (Vec<Event>, u64) {
        let lost = core::mem::take(&mut self.lost);
        (self.queue.drain(..).collect(), lost)
    }
}
