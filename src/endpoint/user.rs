//! Sockets that the caller plays: what comes in is told, what goes out is the caller's to say.
//!
//! For programs with a life of their own above the stack: DNS servers, stub resolvers. UDP sockets are bound
//! or connected; a TCP server's connections are told apart by their tuple. TCP clients are the stack's own
//! ([`super::TcpRequest`], [`super::Reply::UntilClose`]).
//! Invariant: what is told is bounded by [`limits::ENDPOINT_QUEUE_MAX`]; more is lost as in a full buffer.

use super::errno::{Errno, Meaning};
use super::icmp::{IcmpError, IcmpSeen};
use super::sockets::{Changes, SocketChange, SocketInfo};
use crate::base::limits;
use crate::wire::{Tuple, proto};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

/// A UDP socket of a [`super::Stack`] that the caller plays.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct UserSock(pub u32);

/// What happened on sockets that the caller plays.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UserEvent {
    /// A datagram came.
    Datagram {
        /// The socket; `None`: one that listens ([`super::App::User`]).
        sock: Option<UserSock>,
        /// The address it came to.
        local: SocketAddr,
        /// Who sent it.
        from: SocketAddr,
        /// What.
        data: Bytes,
    },
    /// An ICMP error, or the kernel's refusal to send (connected sockets only).
    Failed {
        /// The socket; it stays open.
        sock: UserSock,
        /// What a call on it returns.
        errno: Errno,
        /// The ICMP error that did it, if one did.
        icmp: Option<IcmpSeen>,
    },
    /// Bytes came on an accepted connection.
    Stream {
        /// The connection, as this end sends.
        conn: Tuple,
        /// What.
        data: Bytes,
    },
}

#[derive(Clone, Copy, Debug)]
struct Open {
    local: SocketAddr,
    peer: Option<SocketAddr>,
    /// IP_RECVERR: told of every ICMP error, not of hard ones only.
    recverr: bool,
}

impl Open {
    fn info(&self) -> SocketInfo {
        SocketInfo {
            proto: proto::UDP,
            addr: Some(self.local.ip()).filter(|ip| !ip.is_unspecified()),
            port: self.local.port(),
            peer: self.peer,
            state: if self.peer.is_some() {
                "ESTAB"
            } else {
                "UNCONN"
            },
        }
    }

    /// The tuple it sends along, if it is connected.
    fn tuple(&self) -> Option<Tuple> {
        self.peer.map(|p| Tuple {
            proto: proto::UDP,
            src: self.local.ip(),
            dst: p.ip(),
            sport: self.local.port(),
            dport: p.port(),
        })
    }
}

/// All of a stack's.
#[derive(Debug, Default)]
pub(super) struct Users {
    next: u32,
    open: BTreeMap<UserSock, Open>,
    connected: BTreeMap<Tuple, UserSock>,
    /// Unconnected ones by port.
    bound: BTreeMap<u16, UserSock>,
    events: VecDeque<UserEvent>,
}

impl Users {
    /// Opens a socket. EADDRINUSE when the tuple or port is taken, EAGAIN when there are too many.
    pub(super) fn open(
        &mut self,
        local: SocketAddr,
        peer: Option<SocketAddr>,
        recverr: bool,
        changes: &mut Changes,
    ) -> Result<UserSock, Errno> {
        let open = Open {
            local,
            peer,
            recverr,
        };
        let taken = match open.tuple() {
            Some(t) => self.connected.contains_key(&t),
            None => self.bound.contains_key(&local.port()),
        };
        if taken {
            return Err(Errno::AddrInUse);
        }
        if self.open.len() >= limits::ENDPOINT_CLIENTS_MAX {
            return Err(Errno::Again);
        }
        let sock = UserSock(self.next);
        self.next = self.next.wrapping_add(1);
        match open.tuple() {
            Some(t) => drop(self.connected.insert(t, sock)),
            None => drop(self.bound.insert(local.port(), sock)),
        }
        self.open.insert(sock, open);
        changes.push(SocketChange::Opened(open.info()));
        Ok(sock)
    }

    /// Closes a socket; what is not open stays so.
    pub(super) fn close(&mut self, sock: UserSock, changes: &mut Changes) {
        let Some(open) = self.open.remove(&sock) else {
            return;
        };
        match open.tuple() {
            Some(t) => drop(self.connected.remove(&t)),
            None => drop(self.bound.remove(&open.local.port())),
        }
        changes.push(SocketChange::Closed(open.info()));
    }

    /// A socket's own port, and its address if it has one.
    pub(super) fn local(&self, sock: UserSock) -> Option<SocketAddr> {
        self.open.get(&sock).map(|o| o.local)
    }

    /// The socket for a datagram; `t` as that socket sends.
    pub(super) fn of(&self, t: &Tuple) -> Option<UserSock> {
        let connected = self.connected.get(t);
        let here = |sock: &&UserSock| {
            let own = self.open.get(sock).map(|o| o.local.ip());
            own.is_some_and(|ip| ip.is_unspecified() || ip == t.src)
        };
        connected
            .or_else(|| self.bound.get(&t.sport).filter(here))
            .copied()
    }

    /// A datagram for a socket, or (`None`) for a listener; `t` as this end sends.
    pub(super) fn datagram(&mut self, sock: Option<UserSock>, t: &Tuple, data: &[u8]) {
        self.tell(UserEvent::Datagram {
            sock,
            local: SocketAddr::new(t.src, t.sport),
            from: SocketAddr::new(t.dst, t.dport),
            data: Bytes::copy_from_slice(data),
        });
    }

    /// Bytes of an accepted connection.
    pub(super) fn stream(&mut self, conn: Tuple, data: Vec<u8>) {
        let data = Bytes::from(data);
        self.tell(UserEvent::Stream { conn, data });
    }

    fn tell(&mut self, event: UserEvent) {
        if self.events.len() < limits::ENDPOINT_QUEUE_MAX {
            self.events.push_back(event);
        }
    }

    /// Whether an ICMP error is about a connected socket.
    pub(super) fn owns(&self, t: &Tuple) -> bool {
        self.connected.contains_key(t)
    }

    /// An ICMP error about a connected socket (`__udp4_lib_err`).
    pub(super) fn icmp(&mut self, e: &IcmpError) {
        let Some(sock) = self.connected.get(&e.tuple).copied() else {
            return;
        };
        let recverr = self.open.get(&sock).is_some_and(|o| o.recverr);
        let errno = match e.meaning {
            Meaning::Error { errno, fatal } if fatal || recverr => errno,
            Meaning::PathMtu(_) => Errno::MsgSize,
            _ => return,
        };
        let icmp = Some(e.seen);
        self.tell(UserEvent::Failed { sock, errno, icmp });
    }

    /// The kernel refused to send along `t`; true when a connected socket was told.
    pub(super) fn refused(&mut self, t: &Tuple, errno: Errno) -> bool {
        let Some(sock) = self.connected.get(t).copied() else {
            return false;
        };
        let icmp = None;
        self.tell(UserEvent::Failed { sock, errno, icmp });
        true
    }

    /// What happened since the last call.
    pub(super) fn events(&mut self) -> Vec<UserEvent> {
        self.events.drain(..).collect()
    }

    /// Every socket.
    pub(super) fn infos(&self) -> impl Iterator<Item = SocketInfo> + '_ {
        self.open.values().map(Open::info)
    }
}
