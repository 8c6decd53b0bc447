//! Programs that handle their namespace's sockets themselves: DNS servers, stub resolvers.
//!
//! A [`Player`] lives in the lab and acts whenever something comes or its time has come; a talk
//! ([`super::Lab::begin_talk`]) is played from outside: its mail is read and its calls are made by the
//! caller. What is sent because of something that came carries its [`Cause`], so that a client's packets
//! are told from others' over any number of programs. Knows no protocol above UDP and TCP.
//! Invariant: players act in the order in which things happened, at the lab's present time.

use super::world::Trigger;
use crate::base::Instant;
use crate::endpoint::{Errno, IcmpSeen};
use crate::wire::Tuple;
use bytes::Bytes;
use core::any::Any;
use std::net::{IpAddr, SocketAddr};

/// A program in a lab.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PlayerId(pub u32);

/// Whose doing a thing is; [`Cause::default`]: nobody's but the program's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cause(pub(super) Option<Trigger>);

/// What a program is told. Its own sockets go by the number that it gave them.
#[derive(Clone, Debug)]
pub enum Incoming {
    /// A datagram.
    Datagram {
        /// On this socket; `None`: on one that listens.
        key: Option<u64>,
        /// To this own address.
        local: SocketAddr,
        /// From here.
        from: SocketAddr,
        /// What.
        data: Bytes,
        /// Because of what it came.
        cause: Cause,
    },
    /// Bytes on a connection that the program opened.
    Stream {
        /// Which.
        key: u64,
        /// What.
        data: Bytes,
        /// Because of what they came.
        cause: Cause,
    },
    /// The peer closed a connection that the program opened.
    Closed {
        /// Which.
        key: u64,
    },
    /// A call on a socket failed, or an ICMP error came.
    Failed {
        /// Which.
        key: u64,
        /// The error.
        errno: Errno,
        /// The ICMP error, if it was one.
        icmp: Option<IcmpSeen>,
    },
    /// Bytes on a connection that a listener accepted.
    Request {
        /// Which, as this end sends.
        conn: Tuple,
        /// What.
        data: Bytes,
        /// Because of what they came.
        cause: Cause,
    },
}

/// What a program does.
#[derive(Clone, Debug)]
pub enum Call {
    /// Opens a UDP socket, connected to `peer` or bound to a free port.
    UdpOpen {
        /// Its number from now on.
        key: u64,
        /// The only peer.
        peer: Option<SocketAddr>,
        /// IP_RECVERR.
        recverr: bool,
    },
    /// Sends a datagram from it.
    UdpSend {
        /// Which.
        key: u64,
        /// Where to.
        to: SocketAddr,
        /// What.
        data: Bytes,
        /// Because of what.
        cause: Cause,
    },
    /// Sends a datagram from a socket that listens.
    Answer {
        /// The own address that was asked.
        local: SocketAddr,
        /// Where to.
        to: SocketAddr,
        /// What.
        data: Bytes,
        /// Because of what.
        cause: Cause,
    },
    /// Connects and sends.
    TcpOpen {
        /// Its number from now on.
        key: u64,
        /// Where to.
        to: SocketAddr,
        /// What is sent once connected.
        request: Bytes,
        /// Because of what.
        cause: Cause,
    },
    /// Sends on an accepted connection.
    Write {
        /// Which.
        conn: Tuple,
        /// What.
        data: Bytes,
        /// Because of what.
        cause: Cause,
    },
    /// Listens, with what its other listeners have in common.
    Listen {
        /// On this address only, or on any.
        addr: Option<IpAddr>,
        /// TCP or UDP.
        proto: u8,
        /// The port.
        port: u16,
    },
    /// Listens there no longer.
    Unlisten {
        /// As it was.
        addr: Option<IpAddr>,
        /// TCP or UDP.
        proto: u8,
        /// The port.
        port: u16,
    },
    /// Closes a socket or connection of its own.
    Close {
        /// Which.
        key: u64,
    },
}

/// A program that lives in a lab.
pub trait Player: Send + Sync {
    /// Something came.
    fn incoming(&mut self, now: Instant, what: Incoming) -> Vec<Call>;
    /// When [`Player::tick`] has something to do.
    fn due(&self) -> Option<Instant>;
    /// Its time has come.
    fn tick(&mut self, now: Instant) -> Vec<Call>;
    /// Itself, for whoever put it there and knows what it is.
    fn as_any(&self) -> &dyn Any;
    /// The same, to change it; its due time is asked for anew.
    fn as_any_mut(&mut self) -> &mut dyn Any;
}
