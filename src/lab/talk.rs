//! What programs and talks do in a lab: they come and go, and their calls become packets.
//!
//! Invariant: a call that fails is told to its program as the failure of that socket.

use super::client::{ClientEnd, ClientRef, ClientState};
use super::lineage::Shape;
use super::player::{Call, Cause, Incoming, Player, PlayerId};
use super::players::Handle;
use super::probe::{Probe, ProbeProtocol};
use super::world::Lab;
use crate::base::{NsId, limits};
use crate::endpoint::{App, Errno, Outcome, Reply, TcpRequest};
use crate::path::Observer;
use crate::wire::{Tuple, proto};
use bytes::Bytes;
use core::time::Duration;
use std::net::{IpAddr, SocketAddr};

impl Lab {
    /// Puts a program into a namespace, listening on these addresses (`None`: any), protocols and ports.
    ///
    /// # Errors
    /// As [`Lab::listen`]; then nothing listens.
    pub fn add_player(
        &mut self,
        ns: NsId,
        player: Box<dyn Player>,
        listen: &[(Option<IpAddr>, u8, u16)],
    ) -> Result<PlayerId, Errno> {
        for (i, (addr, proto, port)) in listen.iter().enumerate() {
            if let Err(e) = self.listen(ns, *addr, *proto, *port, App::User) {
                let done = listen.iter().take(i);
                done.for_each(|(addr, proto, port)| {
                    self.unlisten(ns, *addr, *proto, *port);
                });
                return Err(e);
            }
        }
        let id = self.players.add(ns, Some(player));
        for (addr, proto, port) in listen {
            self.players
                .listening
                .insert((ns, *proto, *port, *addr), id);
        }
        Ok(id)
    }

    /// A program that lives here.
    pub fn player(&self, id: PlayerId) -> Option<&dyn Player> {
        self.players.all.get(&id)?.player.as_deref()
    }

    /// The same, to change it: it acts at once if its time has come by that.
    pub fn player_mut(&mut self, id: PlayerId) -> Option<&mut dyn Player> {
        self.players.poke(id);
        let slot = self.players.all.get_mut(&id)?;
        Some(slot.player.as_mut()?.as_mut())
    }

    /// Ends a program: its ports are closed, what it had open is forgotten. False when there is none.
    pub fn remove_player(&mut self, id: PlayerId) -> bool {
        let Some(slot) = self.players.all.remove(&id) else {
            return false;
        };
        if let Some(at) = slot.due {
            self.players.due.remove(&(at, id));
        }
        let of = |(k, p): (&(NsId, u8, u16, Option<IpAddr>), &PlayerId)| (*p == id).then_some(*k);
        let ports: Vec<_> = self.players.listening.iter().filter_map(of).collect();
        for key in ports {
            self.players.listening.remove(&key);
            self.unlisten(key.0, key.3, key.1, key.2);
        }
        for handle in slot.sockets.into_values() {
            self.close_handle(slot.ns, handle);
        }
        true
    }

    /// Begins a conversation that the caller plays: all its packets are those of one client.
    pub fn begin_talk(&mut self, ns: NsId) -> (PlayerId, ClientRef) {
        let nowhere = IpAddr::from([0, 0, 0, 0]);
        let client = self.clients.add_plain(ClientState {
            ns,
            tuple: Tuple {
                proto: proto::UDP,
                src: nowhere,
                dst: nowhere,
                sport: 0,
                dport: 0,
            },
            start: self.now(),
            connected: None,
            bytes: 0,
            reply: Vec::new(),
            end: None,
        });
        let id = self.players.add(ns, None);
        if let Some(slot) = self.players.all.get_mut(&id) {
            slot.client = Some(client);
        }
        (id, client)
    }

    /// What came for a talk since the last call.
    pub fn mail(&mut self, id: PlayerId) -> Vec<Incoming> {
        let slot = self.players.all.get_mut(&id);
        slot.map(|s| s.mail.drain(..).collect()).unwrap_or_default()
    }

    /// The tuple that a talk's socket sends along.
    pub fn talk_tuple(&self, client: ClientRef) -> Option<Tuple> {
        self.clients.get(client).map(|c| c.tuple)
    }

    /// Ends a talk with what its client saw.
    pub fn end_talk(&mut self, id: PlayerId, client: ClientRef, outcome: Outcome) {
        self.remove_player(id);
        let at = self.now();
        self.clients.end(
            client,
            ClientEnd {
                at,
                outcome,
                errno: None,
                icmp: None,
            },
        );
    }

    /// Makes a talk's calls.
    pub fn perform<O: Observer>(&mut self, id: PlayerId, calls: Vec<Call>, obs: &mut O) {
        for call in calls {
            let Some((ns, client)) = self.players.all.get(&id).map(|s| (s.ns, s.client)) else {
                return;
            };
            let key = match &call {
                Call::UdpOpen { key, .. } | Call::UdpSend { key, .. } => Some(*key),
                Call::TcpOpen { key, .. } => Some(*key),
                _ => None,
            };
            if let (Err(errno), Some(key)) = (self.call(id, ns, client, call, obs), key) {
                let icmp = None;
                self.players.post(id, Incoming::Failed { key, errno, icmp });
            }
        }
    }

    fn call<O: Observer>(
        &mut self,
        id: PlayerId,
        ns: NsId,
        client: Option<ClientRef>,
        call: Call,
        obs: &mut O,
    ) -> Result<(), Errno> {
        let now = self.now();
        match call {
            Call::UdpOpen { key, peer, recverr } => {
                self.udp_open(id, ns, client, key, peer, recverr)
            }
            Call::UdpSend {
                key,
                to,
                data,
                cause,
            } => self.udp_send(id, client, key, to, &data, cause, obs),
            Call::Answer {
                local,
                to,
                data,
                cause,
            } => {
                let mtu = self.path_mtu(ns, local.ip(), to.ip());
                let stack = self.ensure_stack(ns).ok_or(Errno::Invalid)?;
                mtu.into_iter().for_each(|m| stack.set_mtu(m));
                stack.udp_send(now, local, to, &data)?;
                self.flush(ns, cause.0, obs);
                Ok(())
            }
            Call::TcpOpen {
                key,
                to,
                request,
                cause,
            } => self.tcp_open(id, client, key, to, request, cause, obs),
            Call::Write { conn, data, cause } => {
                if let Some(stack) = self.stacks.get_mut(&ns) {
                    stack.tcp_write(now, &conn, &data);
                }
                self.flush(ns, cause.0, obs);
                Ok(())
            }
            Call::Listen { addr, proto, port } => {
                self.listen(ns, addr, proto, port, App::User)?;
                self.players.listening.insert((ns, proto, port, addr), id);
                Ok(())
            }
            Call::Unlisten { addr, proto, port } => {
                self.players.listening.remove(&(ns, proto, port, addr));
                self.unlisten(ns, addr, proto, port);
                Ok(())
            }
            Call::Close { key } => {
                let slot = self.players.all.get_mut(&id);
                if let Some(handle) = slot.and_then(|s| s.sockets.remove(&key)) {
                    self.close_handle(ns, handle);
                    self.flush(ns, None, obs);
                }
                Ok(())
            }
        }
    }

    fn close_handle(&mut self, ns: NsId, handle: Handle) {
        let now = self.now();
        match handle {
            Handle::Udp(sock) => {
                self.players.udp.remove(&(ns, sock));
                if let Some(stack) = self.stacks.get_mut(&ns) {
                    stack.udp_close(sock);
                }
            }
            Handle::Tcp(client) => {
                self.players.tcp.remove(&(ns, client));
                if let Some(stack) = self.stacks.get_mut(&ns) {
                    stack.hang_up(now, client);
                }
            }
        }
    }

    fn udp_open(
        &mut self,
        id: PlayerId,
        ns: NsId,
        client: Option<ClientRef>,
        key: u64,
        peer: Option<SocketAddr>,
        recverr: bool,
    ) -> Result<(), Errno> {
        let any: IpAddr = [0, 0, 0, 0].into();
        let (local, mtu) = match peer {
            Some(p) => {
                let (t, mtu) = self.way_to(ns, ProbeProtocol::Udp, p)?;
                (SocketAddr::new(t.src, t.sport), Some(mtu))
            }
            None => {
                // A free port is one that a connection to nowhere could have.
                let p = Probe::udp(ns, any, 0);
                let t = self.free_tuple(&p, any).ok_or(Errno::Again)?;
                (SocketAddr::new(any, t.sport), None)
            }
        };
        let stack = self.ensure_stack(ns).ok_or(Errno::Invalid)?;
        mtu.into_iter().for_each(|m| stack.set_mtu(m));
        let sock = stack.udp_open(local, peer, recverr)?;
        if let (Some(client), Some(peer)) = (client, peer) {
            self.belongs(ns, client, udp_tuple(local, peer));
        }
        self.players.udp.insert((ns, sock), (id, key));
        if let Some(slot) = self.players.all.get_mut(&id) {
            slot.sockets.insert(key, Handle::Udp(sock));
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)] // a call's particulars
    fn udp_send<O: Observer>(
        &mut self,
        id: PlayerId,
        client: Option<ClientRef>,
        key: u64,
        to: SocketAddr,
        data: &[u8],
        cause: Cause,
        obs: &mut O,
    ) -> Result<(), Errno> {
        let now = self.now();
        let slot = self.players.all.get(&id).ok_or(Errno::Invalid)?;
        let ns = slot.ns;
        let Some(Handle::Udp(sock)) = slot.sockets.get(&key).copied() else {
            return Ok(()); // closed meanwhile, or never opened: that was told
        };
        let stack = self.stacks.get(&ns).ok_or(Errno::Invalid)?;
        let mut from = stack.udp_local(sock).ok_or(Errno::Invalid)?;
        if from.ip().is_unspecified() {
            let Ok((t, _)) = self.way_to(ns, ProbeProtocol::Udp, to) else {
                return Ok(()); // sendto(2) says so; who sends unconnected here does not look
            };
            from.set_ip(t.src);
            if let Some(client) = client {
                self.belongs(ns, client, udp_tuple(from, to));
            }
        }
        if let Some(mtu) = self.path_mtu(ns, from.ip(), to.ip())
            && let Some(stack) = self.stacks.get_mut(&ns)
        {
            stack.set_mtu(mtu);
        }
        let stack = self.stacks.get_mut(&ns).ok_or(Errno::Invalid)?;
        stack.udp_send(now, from, to, data)?;
        self.flush(ns, cause.0, obs);
        Ok(())
    }

    #[allow(clippy::too_many_arguments)] // a call's particulars
    fn tcp_open<O: Observer>(
        &mut self,
        id: PlayerId,
        client: Option<ClientRef>,
        key: u64,
        to: SocketAddr,
        request: Bytes,
        cause: Cause,
        obs: &mut O,
    ) -> Result<(), Errno> {
        let now = self.now();
        let ns = self.players.all.get(&id).ok_or(Errno::Invalid)?.ns;
        let (t, mtu) = self.way_to(ns, ProbeProtocol::Tcp, to)?;
        let stack = self.ensure_stack(ns).ok_or(Errno::Invalid)?;
        stack.set_mtu(mtu);
        let tcp = stack.connect_tcp(
            now,
            TcpRequest {
                local: SocketAddr::new(t.src, t.sport),
                remote: to,
                request,
                reply: Reply::UntilClose,
                deadline: now + limits::LAB_TCP_TIMEOUT,
                path_mtu: Some(mtu),
            },
        )?;
        if let Some(client) = client {
            self.belongs(ns, client, t);
        }
        self.players.tcp.insert((ns, tcp), (id, key));
        if let Some(slot) = self.players.all.get_mut(&id) {
            slot.sockets.insert(key, Handle::Tcp(tcp));
        }
        self.flush(ns, cause.0, obs);
        Ok(())
    }

    /// Source address, a free port, and the path MTU.
    fn way_to(
        &mut self,
        ns: NsId,
        protocol: ProbeProtocol,
        to: SocketAddr,
    ) -> Result<(Tuple, u32), Errno> {
        let p = match protocol {
            ProbeProtocol::Tcp => Probe::tcp(ns, to.ip(), to.port()),
            ProbeProtocol::Udp | ProbeProtocol::Icmp => Probe::udp(ns, to.ip(), to.port()),
        };
        let start = self.route_out(&p).map_err(|r| r.errno)?;
        let t = self.free_tuple(&p, start.src).ok_or(Errno::Again)?;
        Ok((t, start.mtu))
    }

    /// What is sent along `t` is a talk's client's.
    fn belongs(&mut self, ns: NsId, client: ClientRef, t: Tuple) {
        self.lineages.open(ns, t, client, Shape::default());
        self.clients.sends(client, t);
    }

    /// Lets one player act: one that has mail, or whose time has come. False when there is none.
    pub(super) fn play<O: Observer>(&mut self, obs: &mut O) -> bool {
        let now = self.now();
        let id = match self.players.waiting.pop_front() {
            Some(id) => id,
            None => match self.players.due.first().copied() {
                Some((at, id)) if at <= now => id,
                _ => return false,
            },
        };
        let Some(slot) = self.players.all.get_mut(&id) else {
            return true;
        };
        let Some(player) = slot.player.as_mut() else {
            return true;
        };
        let calls = match slot.mail.pop_front() {
            Some(what) => player.incoming(now, what),
            None => player.tick(now),
        };
        // A player whose time does not go on would stop the clock.
        self.players.plan(id, Some(now + Duration::from_micros(1)));
        self.perform(id, calls, obs);
        true
    }
}

fn udp_tuple(from: SocketAddr, to: SocketAddr) -> Tuple {
    Tuple {
        proto: proto::UDP,
        src: from.ip(),
        dst: to.ip(),
        sport: from.port(),
        dport: to.port(),
    }
}
