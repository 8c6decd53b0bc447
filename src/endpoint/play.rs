//! A stack's calls for sockets that its caller plays ([`super::user`]).

use super::datagram;
use super::errno::Errno;
use super::event::ClientId;
use super::sockets::unicast;
use super::stack::Stack;
use super::user::{UserEvent, UserSock};
use crate::base::Instant;
use crate::wire::{Tuple, proto};
use std::net::SocketAddr;

impl Stack {
    /// Opens a UDP socket that the caller plays: connected to `peer`, or bound. `recverr`: IP_RECVERR.
    /// EADDRINUSE, EAGAIN, or EINVAL for port 0.
    pub fn udp_open(
        &mut self,
        local: SocketAddr,
        peer: Option<SocketAddr>,
        recverr: bool,
    ) -> Result<UserSock, Errno> {
        if local.port() == 0 || peer.is_some_and(|p| p.port() == 0) {
            return Err(Errno::Invalid);
        }
        self.users.open(local, peer, recverr, &mut self.changes)
    }

    /// Closes it.
    pub fn udp_close(&mut self, sock: UserSock) {
        self.users.close(sock, &mut self.changes);
    }

    /// A socket's own address (unspecified, if it is bound to none) and port.
    pub fn udp_local(&self, sock: UserSock) -> Option<SocketAddr> {
        self.users.local(sock)
    }

    /// Sends a datagram from an own address and port, of a socket opened or of a listener.
    /// EMSGSIZE beyond 65507 bytes, EINVAL for addresses no datagram can have.
    pub fn udp_send(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        data: &[u8],
    ) -> Result<(), Errno> {
        if data.len() > datagram::payload_max(from.is_ipv4()) {
            return Err(Errno::MsgSize);
        }
        let usable = from.is_ipv4() == to.is_ipv4() && unicast(from.ip()) && unicast(to.ip());
        if !usable || to.port() == 0 {
            return Err(Errno::Invalid);
        }
        let t = Tuple {
            proto: proto::UDP,
            src: from.ip(),
            dst: to.ip(),
            sport: from.port(),
            dport: to.port(),
        };
        let path_mtu = self.path_mtu(now, t.dst, None);
        let id = self.rng.next_u64() as u16;
        let packet = datagram::udp(&self.config, &t, id, path_mtu, data);
        self.out.packet(packet);
        Ok(())
    }

    /// Sends on an accepted connection whose server the caller plays; false when it is gone.
    pub fn tcp_write(&mut self, now: Instant, conn: &Tuple, data: &[u8]) -> bool {
        let Some(slot) = self.conns.get_mut(conn) else {
            return false;
        };
        let written = slot.conn.write(now, data, &mut self.out);
        self.settle(now, *conn);
        written
    }

    /// A TCP client has what it came for: it closes its connection and is told no more.
    pub fn hang_up(&mut self, now: Instant, client: ClientId) {
        let of = |slot: &super::stack::Slot| slot.conn.client() == Some(client);
        let Some(t) = self.conns.iter().find(|(_, s)| of(s)).map(|(t, _)| *t) else {
            return;
        };
        if let Some(slot) = self.conns.get_mut(&t) {
            slot.conn.hang_up(now, &mut self.out);
            self.settle(now, t);
        }
    }

    /// What happened on sockets that the caller plays since the last call.
    pub fn user_events(&mut self) -> Vec<UserEvent> {
        self.users.events()
    }

    /// Tells what came in on an accepted connection.
    pub(super) fn unread(&mut self, t: Tuple) {
        let data = match self.conns.get_mut(&t) {
            Some(slot) => slot.conn.take_inbox(),
            None => return,
        };
        if !data.is_empty() {
            self.users.stream(t, data);
        }
    }
}
