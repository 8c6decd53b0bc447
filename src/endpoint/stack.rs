//! A namespace's sockets: which packet is whose, what is due when.
//!
//! The kernel model asks first ([`Stack::receive`] says `NoSocket`) and answers with RST or port-unreachable
//! itself; nothing here does. Invariants: a stack without connections and clients owns no buffer; sockets,
//! timers and output are in one fixed order for equal input and seed.

use super::app::{self, App, Session};
use super::config::Config;
use super::datagram::{self, Waiting};
use super::errno::{Errno, Meaning};
use super::event::{ClientEvent, ClientId, Out, PingRequest, TcpRequest, UdpRequest};
use super::icmp::{self, IcmpError};
use super::sockets::{Changes, SocketChange, SocketInfo, echo_tuple, endpoints, unicast};
use super::tcp::{Conn, Fate};
use super::timer::TIMEWAIT;
use super::user::Users;
use crate::base::{Instant, Rng, limits};
use crate::wire::{IpHeader, Tuple, build, proto};
use bytes::Bytes;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// Kernel: net.ipv4.route.mtu_expires.
const PMTU_EXPIRES: Duration = Duration::from_secs(600);

/// What became of a packet given to [`Stack::receive`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// A socket took it (or dropped it for its own reasons).
    Taken,
    /// No socket: TCP deserves a RST, UDP a port-unreachable; ICMP nothing.
    NoSocket,
    /// Header or checksum is wrong; dropped.
    Malformed,
}

/// What a timer belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Timer {
    Conn(Tuple),
    TimeWait(Tuple),
    Udp(Tuple),
    Ping(Tuple, u16),
}

#[derive(Debug)]
struct TimeWait {
    until: Instant,
    last_ack: Vec<u8>,
}

pub(super) struct Slot {
    pub(super) conn: Box<Conn>,
    at: Option<Instant>,
}

#[derive(Debug)]
struct Listener {
    proto: u8,
    addr: Option<IpAddr>,
    port: u16,
    app: App,
}

impl Listener {
    fn info(&self) -> SocketInfo {
        let tcp = self.proto == proto::TCP;
        SocketInfo {
            proto: self.proto,
            addr: self.addr,
            port: self.port,
            peer: None,
            state: if tcp { "LISTEN" } else { "UNCONN" },
        }
    }
}

/// The sockets of one network namespace.
pub struct Stack {
    pub(super) config: Config,
    pub(super) rng: Rng,
    next: u32,
    listeners: Vec<Listener>,
    /// By tuple as we send: source is our end.
    pub(super) conns: BTreeMap<Tuple, Slot>,
    time_wait: BTreeMap<Tuple, TimeWait>,
    udp: BTreeMap<Tuple, Waiting>,
    pings: BTreeMap<(Tuple, u16), Waiting>,
    path_mtus: BTreeMap<IpAddr, (u32, Instant)>,
    timers: BTreeSet<(Instant, Timer)>,
    pub(super) out: Out,
    pub(super) changes: Changes,
    pub(super) users: Users,
}

impl Stack {
    /// A stack without sockets.
    pub fn new(config: Config) -> Self {
        Stack {
            rng: Rng::new(config.seed),
            config,
            next: 0,
            listeners: Vec::new(),
            conns: BTreeMap::new(),
            time_wait: BTreeMap::new(),
            udp: BTreeMap::new(),
            pings: BTreeMap::new(),
            path_mtus: BTreeMap::new(),
            timers: BTreeSet::new(),
            out: Out::default(),
            changes: Changes::default(),
            users: Users::default(),
        }
    }

    /// The device's MTU changed; connections keep theirs.
    pub fn set_mtu(&mut self, mtu: u32) {
        self.config.mtu = mtu;
    }

    /// Binds a TCP server; `addr` `None`: any address. EADDRINUSE when the port is taken.
    pub fn listen_tcp(&mut self, addr: Option<IpAddr>, port: u16, app: App) -> Result<(), Errno> {
        self.listen(proto::TCP, addr, port, app)
    }

    /// Binds a UDP server; as [`Stack::listen_tcp`].
    pub fn listen_udp(&mut self, addr: Option<IpAddr>, port: u16, app: App) -> Result<(), Errno> {
        self.listen(proto::UDP, addr, port, app)
    }

    fn listen(&mut self, p: u8, addr: Option<IpAddr>, port: u16, app: App) -> Result<(), Errno> {
        if port == 0 {
            return Err(Errno::Invalid);
        }
        let clash = |l: &Listener| {
            let overlap = l.addr.is_none() || addr.is_none() || l.addr == addr;
            l.proto == p && l.port == port && overlap
        };
        if self.listeners.iter().any(clash) {
            return Err(Errno::AddrInUse);
        }
        let listener = Listener {
            proto: p,
            addr,
            port,
            app,
        };
        self.changes.push(SocketChange::Opened(listener.info()));
        self.listeners.push(listener);
        Ok(())
    }

    /// Closes a server's listening socket (its connections go on). False when there was none.
    pub fn unlisten(&mut self, p: u8, addr: Option<IpAddr>, port: u16) -> bool {
        let at = |l: &Listener| (l.proto, l.addr, l.port) == (p, addr, port);
        let Some(index) = self.listeners.iter().position(at) else {
            return false;
        };
        let listener = self.listeners.remove(index);
        self.changes.push(SocketChange::Closed(listener.info()));
        true
    }

    fn listener(&self, p: u8, addr: IpAddr, port: u16) -> Option<&App> {
        self.listeners
            .iter()
            .find(|l| (l.proto, l.port) == (p, port) && l.addr.is_none_or(|a| a == addr))
            .map(|l| &l.app)
    }

    /// Starts a TCP client; the SYN is in the next [`Stack::poll`].
    pub fn connect_tcp(&mut self, now: Instant, r: TcpRequest) -> Result<ClientId, Errno> {
        let t = endpoints(proto::TCP, r.local, r.remote)?;
        if self.conns.contains_key(&t) || self.time_wait.contains_key(&t) {
            return Err(Errno::AddrInUse);
        }
        if self.conns.len() >= limits::ENDPOINT_CONNECTIONS_MAX {
            return Err(Errno::Again);
        }
        let path_mtu = self.path_mtu(now, t.dst, r.path_mtu);
        let (id, seed) = (self.next_id(), self.rng.next_u64());
        let conn = Conn::connect(now, &self.config, seed, id, r, path_mtu, &mut self.out)?;
        self.insert(t, conn);
        Ok(id)
    }

    /// Sends one datagram from a connected UDP socket.
    pub fn send_udp(&mut self, now: Instant, r: UdpRequest) -> Result<ClientId, Errno> {
        let t = endpoints(proto::UDP, r.local, r.remote)?;
        if r.payload.len() > datagram::payload_max(t.src.is_ipv4()) {
            return Err(Errno::MsgSize);
        }
        if self.udp.contains_key(&t) {
            return Err(Errno::AddrInUse);
        }
        if self.udp.len() >= limits::ENDPOINT_CLIENTS_MAX {
            return Err(Errno::Again);
        }
        let id = self.next_id();
        let path_mtu = self.path_mtu(now, t.dst, r.path_mtu);
        let ip_id = self.rng.next_u64() as u16;
        let packet = datagram::udp(&self.config, &t, ip_id, path_mtu, &r.payload);
        self.out.packet(packet);
        if r.expects_reply {
            let deadline = r.deadline;
            self.udp.insert(t, Waiting { id, deadline });
            self.changes.opened(&t);
            self.timers.insert((deadline, Timer::Udp(t)));
        } else {
            self.out.event(id, ClientEvent::Done { at: now });
        }
        Ok(id)
    }

    /// Sends one echo request.
    pub fn ping(&mut self, r: PingRequest) -> Result<ClientId, Errno> {
        if r.local.is_ipv4() != r.remote.is_ipv4() || !unicast(r.local) {
            return Err(Errno::Invalid);
        }
        if r.payload.len() > datagram::payload_max(r.local.is_ipv4()) {
            return Err(Errno::MsgSize);
        }
        let key = (echo_tuple(r.local, r.remote, r.id), r.seq);
        if self.pings.contains_key(&key) {
            return Err(Errno::AddrInUse);
        }
        if self.pings.len() >= limits::ENDPOINT_CLIENTS_MAX {
            return Err(Errno::Again);
        }
        let id = self.next_id();
        let ip_id = self.rng.next_u64() as u16;
        self.out.packet(datagram::echo_request(&r, ip_id));
        let deadline = r.deadline;
        if !self.pinging(&key.0) {
            self.changes.opened(&key.0);
        }
        self.pings.insert(key, Waiting { id, deadline });
        self.timers.insert((deadline, Timer::Ping(key.0, key.1)));
        Ok(id)
    }

    fn next_id(&mut self) -> ClientId {
        let id = ClientId(self.next);
        self.next = self.next.wrapping_add(1);
        id
    }

    pub(super) fn path_mtu(&mut self, now: Instant, dst: IpAddr, told: Option<u32>) -> u32 {
        let learned = self.path_mtus.get(&dst).filter(|(_, until)| *until > now);
        let mtu = self.config.mtu.min(told.unwrap_or(u32::MAX));
        learned.map_or(mtu, |(m, _)| mtu.min(*m))
    }

    /// Takes an IP packet that the kernel model delivered here (whole: reassembled, to an own address).
    pub fn receive(&mut self, now: Instant, packet: &[u8]) -> Delivery {
        let Ok(h) = IpHeader::parse(packet) else {
            return Delivery::Malformed;
        };
        if h.is_fragment() || !build::l4_checksum_ok(&h, packet) {
            return Delivery::Malformed;
        }
        match h.proto {
            proto::TCP => self.receive_tcp(now, &h, packet),
            proto::UDP => self.receive_udp(now, &h, packet),
            proto::ICMP | proto::ICMPV6 => self.receive_icmp(now, &h, packet),
            _ => Delivery::NoSocket,
        }
    }

    fn receive_tcp(&mut self, now: Instant, h: &IpHeader, packet: &[u8]) -> Delivery {
        let t = Tuple::of(h, packet).reply();
        let Some(flags) = h.payload(packet).get(13).copied() else {
            return Delivery::Malformed;
        };
        if let Some(slot) = self.conns.get_mut(&t) {
            slot.conn.input(now, h, packet, &mut self.out);
            self.unread(t);
            self.settle(now, t);
            return Delivery::Taken;
        }
        let (syn, rst, ack) = (flags & 2 != 0, flags & 4 != 0, flags & 16 != 0);
        let opens = syn && !rst && !ack;
        if self.time_wait.contains_key(&t)
            && !(opens && self.listener(t.proto, t.src, t.sport).is_some())
        {
            self.receive_time_wait(now, t, flags);
            return Delivery::Taken;
        }
        let Some(app) = self.listener(t.proto, t.src, t.sport).filter(|_| opens) else {
            return Delivery::NoSocket;
        };
        if !unicast(t.src) || !unicast(t.dst) || t.dport == 0 {
            return Delivery::Taken; // `tcp_v4_conn_request` drops broadcasts; nobody answers
        }
        let session = Session::new(app.clone(), SocketAddr::new(t.dst, t.dport));
        self.end_time_wait(t);
        if self.conns.len() >= limits::ENDPOINT_CONNECTIONS_MAX {
            return Delivery::Taken; // TCPReqQFullDrop
        }
        let path_mtu = self.path_mtu(now, t.dst, None);
        let seed = self.rng.next_u64();
        if let Some(mut conn) = Conn::accept(now, &self.config, seed, t, session, path_mtu) {
            conn.input(now, h, packet, &mut self.out);
            self.insert(t, conn);
            self.settle(now, t);
        }
        Delivery::Taken
    }

    /// A segment for a connection in TIME-WAIT (`tcp_timewait_state_process`): RST ends it, FIN or data are
    /// acknowledged again.
    fn receive_time_wait(&mut self, now: Instant, t: Tuple, flags: u8) {
        if flags & 4 != 0 {
            return self.end_time_wait(t);
        }
        let Some(tw) = self.time_wait.get_mut(&t).filter(|_| flags & 1 != 0) else {
            return;
        };
        self.out.packet(tw.last_ack.clone());
        self.timers.remove(&(tw.until, Timer::TimeWait(t)));
        tw.until = now + TIMEWAIT;
        self.timers.insert((tw.until, Timer::TimeWait(t)));
    }

    fn end_time_wait(&mut self, t: Tuple) {
        if let Some(tw) = self.time_wait.remove(&t) {
            self.changes.closed(&t);
            self.timers.remove(&(tw.until, Timer::TimeWait(t)));
        }
    }

    fn receive_udp(&mut self, now: Instant, h: &IpHeader, packet: &[u8]) -> Delivery {
        let t = Tuple::of(h, packet).reply();
        let Some(payload) = datagram::udp_payload(h, packet) else {
            return Delivery::Malformed;
        };
        if let Some(w) = self.end_udp(&t) {
            let data = Bytes::copy_from_slice(payload);
            self.out.event(w.id, ClientEvent::Data { data, at: now });
            self.out.event(w.id, ClientEvent::Done { at: now });
            return Delivery::Taken;
        }
        if let Some(sock) = self.users.of(&t) {
            self.users.datagram(Some(sock), &t, payload);
            return Delivery::Taken;
        }
        let Some(app) = self.listener(proto::UDP, t.src, t.sport) else {
            return Delivery::NoSocket;
        };
        if *app == App::User {
            self.users.datagram(None, &t, payload);
            return Delivery::Taken;
        }
        let answer = app::datagram(app, SocketAddr::new(t.dst, t.dport), payload);
        // A datagram to a broadcast or multicast address is read, but its answer needs a source address
        // only the kernel model can choose: none is sent.
        if let Some(answer) = answer.filter(|_| unicast(t.src) && t.dport != 0) {
            let path_mtu = self.path_mtu(now, t.dst, None);
            let id = self.rng.next_u64() as u16;
            let max = datagram::payload_max(t.src.is_ipv4()).min(answer.len());
            let packet = datagram::udp(&self.config, &t, id, path_mtu, &answer[..max]);
            self.out.packet(packet);
        }
        Delivery::Taken
    }

    fn receive_icmp(&mut self, now: Instant, h: &IpHeader, packet: &[u8]) -> Delivery {
        if let Some((id, seq, data)) = datagram::echo_reply(h, packet) {
            let Some(w) = self.end_ping(&(echo_tuple(h.dst, h.src, id), seq)) else {
                return Delivery::NoSocket;
            };
            let data = Bytes::copy_from_slice(data);
            self.out.event(w.id, ClientEvent::Data { data, at: now });
            self.out.event(w.id, ClientEvent::Done { at: now });
            return Delivery::Taken;
        }
        match icmp::parse(h, packet) {
            Some(e) if self.owns(&e) => {
                self.icmp_error(now, &e);
                Delivery::Taken
            }
            _ => Delivery::NoSocket,
        }
    }

    fn owns(&self, e: &IcmpError) -> bool {
        match e.tuple.proto {
            proto::TCP => self.conns.contains_key(&e.tuple),
            proto::UDP => self.udp.contains_key(&e.tuple) || self.users.owns(&e.tuple),
            _ => self.pings.contains_key(&(e.tuple, e.seq as u16)),
        }
    }

    fn icmp_error(&mut self, now: Instant, e: &IcmpError) {
        if let Meaning::PathMtu(mtu) = e.meaning {
            let floor = if e.tuple.dst.is_ipv4() { 552 } else { 1280 };
            let room = self.path_mtus.len() < limits::ENDPOINT_PMTU_MAX;
            if room || self.path_mtus.contains_key(&e.tuple.dst) {
                let entry = (mtu.max(floor), now + PMTU_EXPIRES);
                self.path_mtus.insert(e.tuple.dst, entry);
            }
        }
        match e.tuple.proto {
            proto::TCP => {
                if let Some(slot) = self.conns.get_mut(&e.tuple) {
                    slot.conn.icmp(now, e, &mut self.out);
                    self.settle(now, e.tuple);
                }
            }
            proto::UDP => {
                self.users.icmp(e);
                if let Some(errno) = datagram::udp_error(e.meaning)
                    && let Some(w) = self.end_udp(&e.tuple)
                {
                    self.out.failed(w.id, now, errno, Some(e.seen));
                }
            }
            _ => {
                if let Some(errno) = datagram::ping_error(e.meaning)
                    && let Some(w) = self.end_ping(&(e.tuple, e.seq as u16))
                {
                    self.out.failed(w.id, now, errno, Some(e.seen));
                }
            }
        }
    }

    /// The kernel model refused to send a packet of ours: `tuple` as it was sent (echo: the id as both
    /// ports).
    pub fn local_error(&mut self, now: Instant, tuple: Tuple, errno: Errno) {
        match tuple.proto {
            proto::TCP => {
                if let Some(slot) = self.conns.get_mut(&tuple) {
                    slot.conn.local_error(now, errno, &mut self.out);
                    self.settle(now, tuple);
                }
            }
            proto::UDP if self.users.refused(&tuple, errno) => {}
            proto::UDP => {
                if let Some(w) = self.end_udp(&tuple) {
                    self.out.failed(w.id, now, errno, None);
                }
            }
            _ => {
                // sendmsg(2) fails for the request just sent: the newest of this id.
                let of_id = (tuple, 0)..=(tuple, u16::MAX);
                let newest = self
                    .pings
                    .range(of_id)
                    .max_by_key(|(_, w)| w.id)
                    .map(|(k, _)| *k);
                if let Some(w) = newest.and_then(|key| self.end_ping(&key)) {
                    self.out.failed(w.id, now, errno, None);
                }
            }
        }
    }

    fn end_udp(&mut self, t: &Tuple) -> Option<Waiting> {
        let w = self.udp.remove(t)?;
        self.changes.closed(t);
        self.timers.remove(&(w.deadline, Timer::Udp(*t)));
        Some(w)
    }

    fn end_ping(&mut self, key: &(Tuple, u16)) -> Option<Waiting> {
        let w = self.pings.remove(key)?;
        self.timers.remove(&(w.deadline, Timer::Ping(key.0, key.1)));
        if !self.pinging(&key.0) {
            self.changes.closed(&key.0);
        }
        Some(w)
    }

    /// Whether an echo socket (one per id and peer, for all its sequence numbers) is open.
    fn pinging(&self, t: &Tuple) -> bool {
        self.pings.range((*t, 0)..=(*t, u16::MAX)).next().is_some()
    }

    fn insert(&mut self, t: Tuple, conn: Conn) {
        let at = conn.deadline();
        self.timers.extend(at.map(|at| (at, Timer::Conn(t))));
        let conn = Box::new(conn);
        self.changes.opened(&t);
        self.conns.insert(t, Slot { conn, at });
    }

    /// Follows a connection's timer, or its end.
    pub(super) fn settle(&mut self, now: Instant, t: Tuple) {
        let Some(slot) = self.conns.get_mut(&t) else {
            return;
        };
        let (fate, at) = (slot.conn.fate(), slot.conn.deadline());
        if fate == Fate::Alive && at == slot.at {
            return;
        }
        if let Some(old) = slot.at.take() {
            self.timers.remove(&(old, Timer::Conn(t)));
        }
        if fate == Fate::Alive {
            slot.at = at;
            self.timers.extend(at.map(|at| (at, Timer::Conn(t))));
            return;
        }
        let last_ack = core::mem::take(&mut slot.conn.last_ack);
        self.conns.remove(&t);
        if fate == Fate::TimeWait && self.time_wait.len() < limits::ENDPOINT_TIMEWAIT_MAX {
            let until = now + TIMEWAIT;
            self.time_wait.insert(t, TimeWait { until, last_ack });
            self.timers.insert((until, Timer::TimeWait(t)));
        } else {
            self.changes.closed(&t);
        }
    }

    /// Does what is due at `now` and returns the packets to send, in order.
    pub fn poll(&mut self, now: Instant) -> Vec<Vec<u8>> {
        while let Some((at, timer)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, timer));
            match timer {
                Timer::Conn(t) => {
                    if let Some(slot) = self.conns.get_mut(&t) {
                        slot.at = None;
                        slot.conn.fire(now, &mut self.out);
                        self.unread(t);
                        self.settle(now, t);
                    }
                }
                Timer::TimeWait(t) => self.end_time_wait(t),
                Timer::Udp(t) => {
                    if let Some(w) = self.end_udp(&t) {
                        self.out.deadline(w.id, now);
                    }
                }
                Timer::Ping(t, seq) => {
                    if let Some(w) = self.end_ping(&(t, seq)) {
                        self.out.deadline(w.id, now);
                    }
                }
            }
        }
        self.out.packets.drain(..).collect()
    }

    /// When [`Stack::poll`] has something to do; a moment in the past: at once.
    pub fn poll_at(&self) -> Option<Instant> {
        if !self.out.packets.is_empty() {
            return Some(Instant::ZERO);
        }
        self.timers.first().map(|(at, _)| *at)
    }

    /// What happened to the clients since the last call, in order.
    pub fn events(&mut self) -> Vec<(ClientId, ClientEvent)> {
        self.out.events.drain(..).collect()
    }

    /// Which sockets came and went since the last call, in order; `None`: too many to keep, read
    /// [`Stack::sockets`] instead.
    pub fn changes(&mut self) -> Option<Vec<SocketChange>> {
        self.changes.take()
    }

    /// Every bound or connected socket, listeners first, in a fixed order.
    pub fn sockets(&self) -> Vec<SocketInfo> {
        let listening = self.listeners.iter().map(Listener::info);
        let connected = SocketInfo::connected;
        let conns = self
            .conns
            .iter()
            .map(|(t, s)| connected(t, s.conn.state_name()));
        let waits = self.time_wait.keys().map(|t| connected(t, "TIME-WAIT"));
        let udp = self.udp.keys().map(|t| connected(t, "ESTAB"));
        let mut ids: Vec<Tuple> = self.pings.keys().map(|(t, _)| *t).collect();
        ids.dedup(); // one socket for all sequence numbers of an id
        let pings = ids.iter().map(|t| connected(t, "ESTAB"));
        listening
            .chain(conns)
            .chain(waits)
            .chain(udp)
            .chain(pings)
            .chain(self.users.infos())
            .collect()
    }
}
