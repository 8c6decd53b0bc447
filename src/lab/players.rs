//! The book of a lab's programs: whose socket is whose, who has mail, who is due when.
//!
//! Passes on what stacks tell. Invariant: a program's sockets are in its slot and in the indexes, or in none.

use super::client::ClientRef;
use super::player::{Cause, Incoming, Player, PlayerId};
use super::world::Trigger;
use crate::base::{Instant, NsId, limits};
use crate::endpoint::{ClientEvent, ClientId, Errno, UserEvent, UserSock};
use crate::wire::proto;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

/// A socket of a program's own.
#[derive(Clone, Copy, Debug)]
pub(super) enum Handle {
    Udp(UserSock),
    Tcp(ClientId),
}

/// One program.
pub(super) struct Slot {
    pub(super) ns: NsId,
    pub(super) player: Option<Box<dyn Player>>,
    pub(super) client: Option<ClientRef>,
    pub(super) sockets: BTreeMap<u64, Handle>,
    pub(super) mail: VecDeque<Incoming>,
    pub(super) due: Option<Instant>,
}

/// All programs.
#[derive(Default)]
pub(super) struct Players {
    pub(super) next: u32,
    pub(super) all: BTreeMap<PlayerId, Slot>,
    pub(super) udp: BTreeMap<(NsId, UserSock), (PlayerId, u64)>,
    pub(super) tcp: BTreeMap<(NsId, ClientId), (PlayerId, u64)>,
    pub(super) listening: BTreeMap<(NsId, u8, u16, Option<IpAddr>), PlayerId>,
    pub(super) due: BTreeSet<(Instant, PlayerId)>,
    pub(super) poked: BTreeSet<PlayerId>,
    /// Players of the lab's own that have mail.
    pub(super) waiting: VecDeque<PlayerId>,
}

impl Players {
    pub(super) fn add(&mut self, ns: NsId, player: Option<Box<dyn Player>>) -> PlayerId {
        let id = PlayerId(self.next);
        self.next = self.next.wrapping_add(1);
        let slot = Slot {
            ns,
            player,
            client: None,
            sockets: BTreeMap::new(),
            mail: VecDeque::new(),
            due: None,
        };
        self.all.insert(id, slot);
        self.plan(id, None);
        id
    }

    /// Keeps exactly one due time per player, not before `earliest`.
    pub(super) fn plan(&mut self, id: PlayerId, earliest: Option<Instant>) {
        let Some(slot) = self.all.get_mut(&id) else {
            return;
        };
        let want = slot.player.as_ref().and_then(|p| p.due());
        let want = want.map(|at| at.max(earliest.unwrap_or(at)));
        if let Some(old) = core::mem::replace(&mut slot.due, want) {
            self.due.remove(&(old, id));
        }
        self.due.extend(want.map(|at| (at, id)));
    }

    /// The next moment at which a player wants to act; with mail: at once.
    pub(super) fn next_due(&self) -> Option<Instant> {
        match self.waiting.is_empty() {
            false => Some(Instant::ZERO),
            true => self.due.first().map(|(at, _)| *at),
        }
    }

    /// A player is asked at once when its time is: somebody changed it.
    pub(super) fn poke(&mut self, id: PlayerId) {
        self.poked.insert(id);
    }

    /// Asks those anew that were changed from outside.
    pub(super) fn plan_poked(&mut self) {
        while let Some(id) = self.poked.pop_first() {
            self.plan(id, None);
        }
    }

    pub(super) fn post(&mut self, id: PlayerId, what: Incoming) {
        let Some(slot) = self.all.get_mut(&id) else {
            return;
        };
        if slot.mail.len() < limits::LAB_MAIL_MAX {
            slot.mail.push_back(what);
            if slot.player.is_some() {
                self.waiting.push_back(id);
            }
        }
    }

    /// Passes on what happened on a socket of a namespace.
    pub(super) fn user_event(&mut self, ns: NsId, event: UserEvent, cause: Option<Trigger>) {
        let cause = Cause(cause);
        match event {
            UserEvent::Datagram {
                sock,
                local,
                from,
                data,
            } => {
                let own = match sock {
                    Some(sock) => self.udp.get(&(ns, sock)).map(|(p, k)| (*p, Some(*k))),
                    None => self
                        .listener(ns, proto::UDP, local.ip(), local.port())
                        .map(|p| (p, None)),
                };
                if let Some((player, key)) = own {
                    let what = Incoming::Datagram {
                        key,
                        local,
                        from,
                        data,
                        cause,
                    };
                    self.post(player, what);
                }
            }
            UserEvent::Failed { sock, errno, icmp } => {
                if let Some((player, key)) = self.udp.get(&(ns, sock)).copied() {
                    self.post(player, Incoming::Failed { key, errno, icmp });
                }
            }
            UserEvent::Stream { conn, data } => {
                if let Some(player) = self.listener(ns, proto::TCP, conn.src, conn.sport) {
                    self.post(player, Incoming::Request { conn, data, cause });
                }
            }
        }
    }

    /// Passes on what happened to a TCP client; false when it is nobody's here.
    pub(super) fn client_event(
        &mut self,
        ns: NsId,
        id: ClientId,
        event: &ClientEvent,
        cause: Option<Trigger>,
    ) -> bool {
        let Some((player, key)) = self.tcp.get(&(ns, id)).copied() else {
            return false;
        };
        let cause = Cause(cause);
        let what = match event {
            ClientEvent::Connected { .. } => return true,
            ClientEvent::Data { data, .. } => Incoming::Stream {
                key,
                data: data.clone(),
                cause,
            },
            ClientEvent::Done { .. } => Incoming::Closed { key },
            ClientEvent::Failed { errno, icmp, .. } => Incoming::Failed {
                key,
                errno: errno.unwrap_or(Errno::TimedOut),
                icmp: *icmp,
            },
        };
        self.post(player, what);
        true
    }

    fn listener(&self, ns: NsId, proto: u8, ip: IpAddr, port: u16) -> Option<PlayerId> {
        let at = |addr| self.listening.get(&(ns, proto, port, addr)).copied();
        at(Some(ip)).or_else(|| at(None))
    }
}
