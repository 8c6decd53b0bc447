//! Clients of a lab: what each asked for and what it has been told so far.
//!
//! Invariant: a client that ended never changes again.

use crate::base::{Instant, NsId, limits};
use crate::endpoint::{ClientEvent, ClientId, Errno, IcmpSeen, Outcome};
use crate::wire::Tuple;
use std::collections::BTreeMap;

/// One client of a lab, whatever namespace it is in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientRef(pub u64);

/// How a client ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientEnd {
    /// When.
    pub at: Instant,
    /// What it saw.
    pub outcome: Outcome,
    /// What the socket call returned; `None`: success, or the client's own deadline.
    pub errno: Option<Errno>,
    /// The ICMP error that told.
    pub icmp: Option<IcmpSeen>,
}

/// A client and what it has been told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientState {
    /// Where it runs.
    pub ns: NsId,
    /// The tuple it sends along.
    pub tuple: Tuple,
    /// When it began.
    pub start: Instant,
    /// When its TCP handshake completed.
    pub connected: Option<Instant>,
    /// Bytes it received.
    pub bytes: u64,
    /// The first of them, up to [`limits::LAB_REPLY_BYTES`].
    pub reply: Vec<u8>,
    /// How it ended, if it has.
    pub end: Option<ClientEnd>,
}

/// All clients that nobody has asked the result of yet.
#[derive(Debug, Default)]
pub(super) struct Clients {
    next: u64,
    all: BTreeMap<ClientRef, ClientState>,
    by_stack: BTreeMap<(NsId, ClientId), ClientRef>,
}

impl Clients {
    /// The reference the next client gets.
    pub(super) fn upcoming(&self) -> ClientRef {
        ClientRef(self.next)
    }

    /// Adds a client that a stack runs.
    pub(super) fn add(&mut self, id: ClientId, state: ClientState) -> ClientRef {
        let r = ClientRef(self.next);
        self.next += 1;
        self.by_stack.insert((state.ns, id), r);
        self.all.insert(r, state);
        r
    }

    /// Adds a client whose sockets are played from outside.
    pub(super) fn add_plain(&mut self, state: ClientState) -> ClientRef {
        let r = ClientRef(self.next);
        self.next += 1;
        self.all.insert(r, state);
        r
    }

    /// A client sends along `t` from now on.
    pub(super) fn sends(&mut self, r: ClientRef, t: Tuple) {
        if let Some(c) = self.all.get_mut(&r) {
            c.tuple = t;
        }
    }

    /// A client ended.
    pub(super) fn end(&mut self, r: ClientRef, end: ClientEnd) {
        if let Some(c) = self.all.get_mut(&r) {
            c.end = Some(end);
        }
    }

    /// A client.
    pub(super) fn get(&self, r: ClientRef) -> Option<&ClientState> {
        self.all.get(&r)
    }

    /// Forgets a client.
    pub(super) fn remove(&mut self, r: ClientRef) -> Option<ClientState> {
        self.by_stack.retain(|_, x| *x != r);
        self.all.remove(&r)
    }

    /// Takes an event of a stack.
    pub(super) fn event(&mut self, ns: NsId, id: ClientId, event: ClientEvent) {
        let known = self.by_stack.get(&(ns, id)).copied();
        let Some(c) = known.and_then(|r| self.all.get_mut(&r)) else {
            return;
        };
        match event {
            ClientEvent::Connected { at } => c.connected = Some(at),
            ClientEvent::Data { data, .. } => {
                c.bytes += data.len() as u64;
                let room = limits::LAB_REPLY_BYTES.saturating_sub(c.reply.len());
                c.reply.extend(data.iter().take(room));
            }
            ClientEvent::Done { at } => {
                c.end = Some(ClientEnd {
                    at,
                    outcome: Outcome::Ok,
                    errno: None,
                    icmp: None,
                });
                self.by_stack.remove(&(ns, id));
            }
            ClientEvent::Failed {
                outcome,
                errno,
                icmp,
                at,
            } => {
                c.end = Some(ClientEnd {
                    at,
                    outcome,
                    errno,
                    icmp,
                });
                self.by_stack.remove(&(ns, id));
            }
        }
    }
}
