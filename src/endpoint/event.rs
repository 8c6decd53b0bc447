//! What clients ask for and what they are told.

use super::errno::{Errno, Outcome};
use super::icmp::IcmpSeen;
use crate::base::{Instant, limits};
use bytes::Bytes;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

/// One client of a [`super::Stack`]: a TCP connection, a connected UDP socket or an echo request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientId(pub u32);

/// When a TCP client has what it came for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// After this many bytes; 0: once connected and every request byte is acknowledged.
    Len(usize),
    /// When the server closes.
    UntilClose,
}

/// A TCP client.
#[derive(Clone, Debug)]
pub struct TcpRequest {
    /// Own address and port; the address is the kernel model's choice of source.
    pub local: SocketAddr,
    /// Where to.
    pub remote: SocketAddr,
    /// Bytes to send once connected.
    pub request: Bytes,
    /// What to wait for.
    pub reply: Reply,
    /// When the client gives up (`curl --max-time`).
    pub deadline: Instant,
    /// The route's path MTU if it is known to be smaller than the device's.
    pub path_mtu: Option<u32>,
}

/// A connected UDP client that sends one datagram.
#[derive(Clone, Debug)]
pub struct UdpRequest {
    /// Own address and port.
    pub local: SocketAddr,
    /// Where to.
    pub remote: SocketAddr,
    /// The datagram; up to 65507 bytes.
    pub payload: Bytes,
    /// Whether to wait for an answer; otherwise it is done when sent.
    pub expects_reply: bool,
    /// When the client gives up.
    pub deadline: Instant,
    /// As in [`TcpRequest::path_mtu`].
    pub path_mtu: Option<u32>,
}

/// One echo request, as `ping -c 1`.
#[derive(Clone, Debug)]
pub struct PingRequest {
    /// Own address.
    pub local: IpAddr,
    /// Where to.
    pub remote: IpAddr,
    /// Echo id.
    pub id: u16,
    /// Echo sequence number.
    pub seq: u16,
    /// Data.
    pub payload: Bytes,
    /// TTL or hop limit, at least 1.
    pub ttl: u8,
    /// Don't fragment (IPv4; `ping -M do`).
    pub df: bool,
    /// When the client gives up.
    pub deadline: Instant,
}

/// What happened to a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientEvent {
    /// TCP: the handshake completed.
    Connected {
        /// When.
        at: Instant,
    },
    /// Bytes came in: a piece of the stream, a datagram, or an echo reply's data.
    Data {
        /// Them.
        data: Bytes,
        /// When.
        at: Instant,
    },
    /// The exchange completed: outcome `ok`. The last event of a client.
    Done {
        /// When.
        at: Instant,
    },
    /// It did not. The last event of a client.
    Failed {
        /// Why, in the closed list.
        outcome: Outcome,
        /// What the socket call returned; `None`: the client's own deadline, or the server closed before
        /// the reply was complete.
        errno: Option<Errno>,
        /// The ICMP error that did it, if one did.
        icmp: Option<IcmpSeen>,
        /// When.
        at: Instant,
    },
}

/// What a stack has for its caller: packets to send and events to read.
#[derive(Debug, Default)]
pub(super) struct Out {
    /// IP packets for the kernel model's OUTPUT path, in order.
    pub packets: VecDeque<Vec<u8>>,
    /// Events in order.
    pub events: VecDeque<(ClientId, ClientEvent)>,
}

impl Out {
    /// Queues a packet; beyond the cap it is lost, as in a full transmit queue.
    pub(super) fn packet(&mut self, packet: Vec<u8>) {
        if self.packets.len() < limits::ENDPOINT_QUEUE_MAX {
            self.packets.push_back(packet);
        }
    }

    /// Queues an event. Beyond the cap data are lost (a caller that never reads), endings are not.
    pub(super) fn event(&mut self, id: ClientId, event: ClientEvent) {
        let last = matches!(event, ClientEvent::Done { .. } | ClientEvent::Failed { .. });
        if last || self.events.len() < limits::ENDPOINT_QUEUE_MAX {
            self.events.push_back((id, event));
        }
    }

    /// Queues a failure.
    pub(super) fn failed(
        &mut self,
        id: ClientId,
        at: Instant,
        errno: Errno,
        icmp: Option<IcmpSeen>,
    ) {
        let event = ClientEvent::Failed {
            outcome: errno.outcome(),
            errno: Some(errno),
            icmp,
            at,
        };
        self.event(id, event);
    }

    /// Queues the end of a client whose own deadline passed.
    pub(super) fn deadline(&mut self, id: ClientId, at: Instant) {
        let event = ClientEvent::Failed {
            outcome: Outcome::Timeout,
            errno: None,
            icmp: None,
            at,
        };
        self.event(id, event);
    }
}
