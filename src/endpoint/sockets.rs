//! What the kernel model has to know of a stack's sockets: which there are, and what changed.
//!
//! Invariant: applying the changes in order to what was listed before gives what is listed now.

use super::errno::Errno;
use crate::base::limits;
use crate::wire::{Tuple, proto};
use std::net::{IpAddr, SocketAddr};

/// One bound or connected socket, as `ss -tuan` lists it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SocketInfo {
    /// IP protocol number.
    pub proto: u8,
    /// Local address; `None`: any.
    pub addr: Option<IpAddr>,
    /// Local port, or echo id.
    pub port: u16,
    /// The peer, if connected (echo: the id stands as its port).
    pub peer: Option<SocketAddr>,
    /// State as `ss` prints it.
    pub state: &'static str,
}

impl SocketInfo {
    /// The connected socket that sends along `t`.
    pub(super) fn connected(t: &Tuple, state: &'static str) -> Self {
        SocketInfo {
            proto: t.proto,
            addr: Some(t.src),
            port: t.sport,
            peer: Some(SocketAddr::new(t.dst, t.dport)),
            state,
        }
    }
}

/// A socket came or went. A connection that enters TIME-WAIT has not gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SocketChange {
    /// Packets for it are to be delivered from now on.
    Opened(SocketInfo),
    /// Its port is closed (to this peer).
    Closed(SocketInfo),
}

/// The changes nobody has read yet.
#[derive(Debug, Default)]
pub(super) struct Changes {
    list: Vec<SocketChange>,
    lost: bool,
}

impl Changes {
    pub(super) fn push(&mut self, change: SocketChange) {
        if self.list.len() >= limits::ENDPOINT_QUEUE_MAX {
            self.lost = true;
            self.list = Vec::new();
        }
        if !self.lost {
            self.list.push(change);
        }
    }

    pub(super) fn opened(&mut self, t: &Tuple) {
        self.push(SocketChange::Opened(SocketInfo::connected(t, "ESTAB")));
    }

    pub(super) fn closed(&mut self, t: &Tuple) {
        self.push(SocketChange::Closed(SocketInfo::connected(t, "UNCONN")));
    }

    pub(super) fn take(&mut self) -> Option<Vec<SocketChange>> {
        let list = core::mem::take(&mut self.list);
        (!core::mem::take(&mut self.lost)).then_some(list)
    }
}

/// Whether an address can be an end of a connection.
pub(super) fn unicast(a: IpAddr) -> bool {
    match a {
        IpAddr::V4(v4) => !v4.is_broadcast() && !a.is_multicast() && !a.is_unspecified(),
        IpAddr::V6(_) => !a.is_multicast() && !a.is_unspecified(),
    }
}

/// The tuple a client sends along; EINVAL when no socket can.
pub(super) fn endpoints(proto: u8, local: SocketAddr, remote: SocketAddr) -> Result<Tuple, Errno> {
    let usable = local.is_ipv4() == remote.is_ipv4() && unicast(local.ip()) && unicast(remote.ip());
    if !usable || local.port() == 0 || remote.port() == 0 {
        return Err(Errno::Invalid);
    }
    Ok(Tuple {
        proto,
        src: local.ip(),
        dst: remote.ip(),
        sport: local.port(),
        dport: remote.port(),
    })
}

/// The tuple of echo requests; the id stands as both ports.
pub(super) fn echo_tuple(local: IpAddr, remote: IpAddr, id: u16) -> Tuple {
    let proto = if local.is_ipv4() {
        proto::ICMP
    } else {
        proto::ICMPV6
    };
    Tuple {
        proto,
        src: local,
        dst: remote,
        sport: id,
        dport: id,
    }
}
