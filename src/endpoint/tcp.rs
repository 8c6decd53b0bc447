//! One TCP connection: a smoltcp socket made to behave, seen from the network, like Linux's.
//!
//! smoltcp runs the state machine, reassembly and buffers. Ours are: when to retransmit and give up
//! ([`super::timer`], [`trouble`]), how much may be in flight ([`super::sender`]), the path MTU, the
//! meaning of ICMP errors, header fields ([`super::segment`]) and the application's side. Not modelled:
//! TLP and RACK, SACK-based recovery, delayed acknowledgements, urgent data.
//! Invariant: after every call all that smoltcp wanted to send is in `Out`, and a timer runs iff smoltcp
//! waits for one.

mod trouble;

use super::app::Session;
use super::config::{Config, TcpSysctl};
use super::device::Machine;
use super::errno::{Errno, Outcome};
use super::event::{ClientEvent, ClientId, Out, Reply, TcpRequest};
use super::segment;
use super::sender::Sender;
use super::timer::{TIMEWAIT, Wheel};
use crate::base::{Instant, limits};
use crate::wire::{IpHeader, Tuple, build, proto};
use bytes::{Buf, Bytes};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::tcp::State;
use smoltcp::wire::{TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

/// Rounds of application and socket in one step: both buffers, byte by byte, would end before.
const PUMP_ROUNDS_MAX: usize = 1 << 17;

/// A client's side of a connection.
#[derive(Debug)]
struct Client {
    id: ClientId,
    request: Bytes,
    reply: Reply,
    got: usize,
    deadline: Instant,
    connected: bool,
}

#[derive(Debug)]
enum Role {
    Client(Client),
    Server(Session),
    /// The application is gone (an orphan, as the kernel calls it): the socket finishes alone.
    Orphan,
}

/// What is left of a connection after a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// It goes on.
    Alive,
    /// Nothing is left.
    Gone,
    /// TIME-WAIT: the buffers can go, the tuple stays.
    TimeWait,
}

/// A TCP connection.
pub(super) struct Conn {
    tuple: Tuple,
    machine: Machine,
    role: Role,
    sysctl: TcpSysctl,
    ttl: u8,
    wheel: Wheel,
    start: Instant,
    sender: Sender,
    /// MTU of the device: what the MSS option says.
    mtu: usize,
    /// MTU of the path as far as known.
    path_mtu: usize,
    peer_mss: usize,
    /// The window last shown to smoltcp.
    shown: u16,
    /// The peer's window shift; `None` unless both sides scale.
    peer_shift: Option<u8>,
    timestamps: bool,
    ts_offset: u32,
    ip_id: u16,
    rcv_nxt: u32,
    timer: Option<Instant>,
    fired: Instant,
    linger: Option<Instant>,
    soft_error: Option<Errno>,
    dead: bool,
    /// The last acknowledgement sent in TIME-WAIT, sent again when the peer repeats its FIN.
    pub(super) last_ack: Vec<u8>,
}

impl Conn {
    /// Begins a connect and sends the SYN. EINVAL for an address no connection can have.
    pub(super) fn connect(
        now: Instant,
        config: &Config,
        seed: u64,
        id: ClientId,
        request: TcpRequest,
        path_mtu: u32,
        out: &mut Out,
    ) -> Result<Conn, Errno> {
        let (local, remote) = (request.local, request.remote);
        let tuple = Tuple {
            proto: proto::TCP,
            src: local.ip(),
            dst: remote.ip(),
            sport: local.port(),
            dport: remote.port(),
        };
        let role = Role::Client(Client {
            id,
            reply: request.reply,
            got: 0,
            deadline: request.deadline,
            connected: false,
            request: request.request,
        });
        let mut conn = Conn::new(now, config, seed, tuple, role, path_mtu);
        if !conn
            .machine
            .connect((remote.ip(), remote.port()), (local.ip(), local.port()))
        {
            return Err(Errno::Invalid);
        }
        conn.step(now, out);
        Ok(conn)
    }

    /// A connection for a SYN that a listener takes; the SYN itself follows by [`Conn::input`].
    pub(super) fn accept(
        now: Instant,
        config: &Config,
        seed: u64,
        tuple: Tuple,
        session: Session,
        path_mtu: u32,
    ) -> Option<Conn> {
        let role = Role::Server(session);
        let mut conn = Conn::new(now, config, seed, tuple, role, path_mtu);
        let listening = conn.machine.socket().listen((tuple.src, tuple.sport));
        listening.ok().map(|()| conn)
    }

    fn new(
        now: Instant,
        config: &Config,
        seed: u64,
        tuple: Tuple,
        role: Role,
        path_mtu: u32,
    ) -> Conn {
        // Smaller paths than these leave no room for a segment, or are not IPv6's (RFC 8200 section 5).
        let floor = if tuple.src.is_ipv4() { 88 } else { 1280 };
        let clamp = |mtu: u32| (mtu as usize).clamp(floor, 65_535);
        let (mtu, path_mtu) = (clamp(config.mtu), clamp(config.mtu.min(path_mtu)));
        let tx = match &role {
            Role::Client(c) => c.request.len().clamp(1, limits::ENDPOINT_BUFFER),
            Role::Server(s) => s.send_buffer(),
            Role::Orphan => 1,
        };
        let rx = initial_window(mtu, &tuple, false).max(initial_window(mtu, &tuple, true));
        Conn {
            machine: Machine::new(now, seed, tuple.src, path_mtu, usize::from(rx), tx),
            tuple,
            role,
            sysctl: config.tcp,
            ttl: config.ttl,
            wheel: Wheel::new(now),
            start: now,
            sender: Sender::default(),
            mtu,
            path_mtu,
            peer_mss: 536,
            shown: 0,
            peer_shift: None,
            timestamps: false,
            ts_offset: (seed >> 32) as u32,
            ip_id: seed as u16,
            rcv_nxt: 0,
            timer: None,
            fired: now,
            linger: None,
            soft_error: None,
            dead: false,
            last_ack: Vec::new(),
        }
    }

    /// The state's name as `ss` prints it.
    pub(super) fn state_name(&self) -> &'static str {
        match self.machine.state() {
            State::Closed => "UNCONN",
            State::Listen => "LISTEN",
            State::SynSent => "SYN-SENT",
            State::SynReceived => "SYN-RECV",
            State::Established => "ESTAB",
            State::FinWait1 => "FIN-WAIT-1",
            State::FinWait2 => "FIN-WAIT-2",
            State::CloseWait => "CLOSE-WAIT",
            State::Closing => "CLOSING",
            State::LastAck => "LAST-ACK",
            State::TimeWait => "TIME-WAIT",
        }
    }

    /// What is left of the connection.
    pub(super) fn fate(&self) -> Fate {
        match self.machine.state() {
            _ if self.dead => Fate::Gone,
            State::Closed | State::Listen => Fate::Gone,
            State::TimeWait => Fate::TimeWait,
            _ => Fate::Alive,
        }
    }

    /// When [`Conn::fire`] wants to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let client = match &self.role {
            Role::Client(c) => Some(c.deadline),
            Role::Server(_) | Role::Orphan => None,
        };
        [self.timer, self.linger, client]
            .into_iter()
            .flatten()
            .min()
    }

    /// What came in for a caller that plays this server.
    pub(super) fn take_inbox(&mut self) -> Vec<u8> {
        match &mut self.role {
            Role::Server(s) => s.take_inbox(),
            Role::Client(_) | Role::Orphan => Vec::new(),
        }
    }

    /// Sends for a caller that plays this server; false when there is no server any more.
    pub(super) fn write(&mut self, now: Instant, data: &[u8], out: &mut Out) -> bool {
        let Role::Server(s) = &mut self.role else {
            return false;
        };
        s.write(data);
        self.machine.advance(now);
        self.step(now, out);
        true
    }

    /// A client has all it came for before the server closed: closes, and is told no more.
    pub(super) fn hang_up(&mut self, now: Instant, out: &mut Out) {
        if !matches!(self.role, Role::Client(_)) {
            return;
        }
        self.machine.advance(now);
        self.role = Role::Orphan;
        self.machine.socket().close();
        self.step(now, out);
    }

    /// Whose connection it is.
    pub(super) fn client(&self) -> Option<ClientId> {
        match &self.role {
            Role::Client(c) => Some(c.id),
            Role::Server(_) | Role::Orphan => None,
        }
    }

    /// Takes a packet of this connection (header `h`, checksum verified).
    pub(super) fn input(&mut self, now: Instant, h: &IpHeader, packet: &[u8], out: &mut Out) {
        let Some(mut r) = segment::parse(h.src, h.dst, h.payload(packet)) else {
            return;
        };
        self.machine.advance(now);
        let before = self.machine.state();
        if before == State::SynReceived && r.control == TcpControl::Syn && r.ack_number.is_none() {
            self.machine.expire(); // the peer repeats its SYN: so do we (`tcp_check_req`)
            return self.step(now, out);
        }
        if r.control == TcpControl::Syn && matches!(before, State::Listen | State::SynSent) {
            self.learn(&r);
        }
        if r.control != TcpControl::Rst {
            let shift = match r.control {
                TcpControl::Syn => 0,
                _ => self.peer_shift.unwrap_or(0),
            };
            self.sender.window = usize::from(r.window_len) << shift;
            let handshake = matches!(before, State::SynSent | State::SynReceived);
            if let Some(ack) = r.ack_number
                && self.sender.acked(now, ack.0 as u32, handshake)
            {
                self.timer = None; // RFC 6298 section 5.3: restarted below
            }
            r.window_len = self.show();
            r.window_scale = r.window_scale.map(|_| 0);
        }
        self.machine.ingress(self.packet_in(&r));
        if r.control == TcpControl::Rst && self.machine.state() == State::Closed {
            let errno = match before {
                State::SynSent => Errno::ConnRefused,
                _ => Errno::ConnReset, // `tcp_reset`; EPIPE in CLOSE-WAIT is a reset to a person, too
            };
            self.die(now, Some(errno), None, out);
        }
        self.step(now, out);
    }

    /// The peer's options, from its SYN.
    fn learn(&mut self, syn: &TcpRepr<'_>) {
        self.peer_mss = syn.max_seg_size.filter(|m| *m > 0).map_or(536, usize::from);
        self.peer_shift = syn.window_scale.map(|s| s.min(14));
        self.timestamps = syn.timestamp.is_some();
        self.set_mss();
    }

    fn set_mss(&mut self) {
        let mss = self.peer_mss.min(self.path_mtu - headers(&self.tuple));
        let options = if self.timestamps { 12 } else { 0 };
        self.sender.set_mss(mss.saturating_sub(options));
    }

    /// `r` as an IP packet from the peer, for smoltcp.
    fn packet_in(&self, r: &TcpRepr<'_>) -> Vec<u8> {
        let (src, dst) = (self.tuple.dst, self.tuple.src);
        let mut l4 = vec![0; r.buffer_len()];
        r.emit(
            &mut TcpPacket::new_unchecked(&mut l4[..]),
            &src.into(),
            &dst.into(),
            &ChecksumCapabilities::ignored(),
        );
        build::ip_packet(src, dst, proto::TCP, 64, 0, 0, true, &l4)
    }

    /// Runs socket and application until neither has anything to say, then sets the timers.
    fn step(&mut self, now: Instant, out: &mut Out) {
        for _ in 0..PUMP_ROUNDS_MAX {
            for packet in self.machine.egress() {
                self.emit(now, &packet, out);
            }
            if self.dead || !self.pump(now, out) {
                break;
            }
        }
        if !self.machine.waits() {
            self.timer = None;
        } else if self.timer.is_none() {
            self.timer = Some(self.wheel.fires(now, self.timeout()));
        }
        let alone = matches!(self.role, Role::Orphan);
        if alone && self.timer.is_none() && self.linger.is_none() {
            self.linger = Some(now + TIMEWAIT); // tcp_fin_timeout: in FIN-WAIT-2 nothing else ends it
        }
    }

    fn timeout(&self) -> core::time::Duration {
        let backoff = match self.machine.state() {
            // tcp_syn_linear_timeouts (`tcp_retransmit_timer`: no back-off up to that many)
            State::SynSent => self
                .sender
                .retransmits
                .saturating_sub(self.sysctl.syn_linear_timeouts),
            _ => self.sender.backoff,
        };
        self.sender.rto.after(backoff)
    }

    /// Sends what smoltcp made, in Linux's form.
    fn emit(&mut self, now: Instant, packet: &[u8], out: &mut Out) {
        let Ok(h) = IpHeader::parse_lax(packet) else {
            return;
        };
        let Some(mut r) = segment::parse(h.src, h.dst, h.payload(packet)) else {
            return;
        };
        if r.control == TcpControl::Syn {
            let server = r.ack_number.is_some();
            r.max_seg_size = u16::try_from(self.mtu - headers(&self.tuple)).ok();
            r.window_scale = r.window_scale.map(|_| self.sysctl.window_scale);
            r.window_len = initial_window(self.mtu, &self.tuple, server && r.timestamp.is_some());
        } else if self.peer_shift.is_some() {
            r.window_len >>= self.sysctl.window_scale;
        }
        if let Some(ts) = &mut r.timestamp {
            let ms = now.since(self.start).as_millis() as u32;
            ts.tsval = self.ts_offset.wrapping_add(ms);
        }
        if r.segment_len() == 0 && r.control == TcpControl::None {
            // smoltcp rewinds on a timeout; a peer beyond that would not take the acknowledgement
            // (`tcp_acceptable_seq`: always snd_nxt).
            r.seq_number = TcpSeqNumber(self.sender.nxt as i32);
        }
        let probe = self.sender.presented() == 0 && self.sender.flight() == 0;
        if !(probe && r.control != TcpControl::Syn) {
            let seq = r.seq_number.0 as u32;
            if self.sender.sent(now, seq, r.segment_len() as u32) && self.fired != now {
                self.sender.repeated();
            }
        }
        self.rcv_nxt = r.ack_number.map_or(self.rcv_nxt, |a| a.0 as u32);
        let l4 = segment::encode(h.src, h.dst, &r);
        self.ip_id = self.ip_id.wrapping_add(1);
        let (ttl, id) = (self.ttl, self.ip_id);
        let packet = build::ip_packet(h.src, h.dst, proto::TCP, ttl, 0, id, true, &l4);
        if self.machine.state() == State::TimeWait {
            self.last_ack.clone_from(&packet);
        }
        out.packet(packet);
    }

    /// Lets the application read and write; true when the socket may have something to send.
    fn pump(&mut self, now: Instant, out: &mut Out) -> bool {
        use State::{Closed, Listen, SynReceived, SynSent};
        if matches!(
            self.machine.state(),
            Closed | Listen | SynSent | SynReceived
        ) {
            return false;
        }
        match &mut self.role {
            Role::Client(_) => self.pump_client(now, out),
            Role::Server(_) => self.pump_server(),
            Role::Orphan => {
                // Data nobody will read: Linux resets (`tcp_rcv_state_process`, RCV_SHUTDOWN).
                let socket = self.machine.socket();
                let unread = socket.can_recv();
                if unread {
                    socket.abort();
                }
                unread
            }
        }
    }

    fn pump_client(&mut self, now: Instant, out: &mut Out) -> bool {
        let Role::Client(c) = &mut self.role else {
            return false;
        };
        if !c.connected {
            c.connected = true;
            out.event(c.id, ClientEvent::Connected { at: now });
        }
        let socket = self.machine.socket();
        let mut moved = false;
        if !c.request.is_empty() && socket.can_send() {
            let n = socket.send_slice(&c.request).unwrap_or(0);
            c.request.advance(n);
            moved = n > 0;
        }
        while let Ok(data) = socket.recv(|b| (b.len(), Bytes::copy_from_slice(b))) {
            if data.is_empty() {
                break;
            }
            c.got += data.len();
            moved = true;
            out.event(c.id, ClientEvent::Data { data, at: now });
        }
        let peer_closed = !socket.may_recv();
        let sent = c.request.is_empty() && (c.got > 0 || socket.send_queue() == 0);
        let complete = match c.reply {
            Reply::Len(n) => c.got >= n && sent,
            Reply::UntilClose => peer_closed,
        };
        if complete {
            out.event(c.id, ClientEvent::Done { at: now });
        } else if peer_closed {
            let event = ClientEvent::Failed {
                outcome: Outcome::Reset,
                errno: None,
                icmp: None,
                at: now,
            };
            out.event(c.id, event);
        } else {
            return moved;
        }
        socket.close();
        self.role = Role::Orphan;
        true
    }

    fn pump_server(&mut self) -> bool {
        let Role::Server(s) = &mut self.role else {
            return false;
        };
        let socket = self.machine.socket();
        let mut moved = false;
        if !s.out.is_empty() && socket.can_send() {
            let n = socket.send_slice(&s.out).unwrap_or(0);
            s.out.advance(n);
            moved = n > 0;
        }
        if s.wants() > 0
            && socket.can_recv()
            && let Ok(data) = socket.recv(|b| (b.len(), b.to_vec()))
        {
            s.data(&data);
            moved = true;
        }
        let peer_closed = !socket.may_recv();
        if s.out.is_empty() && s.closes(peer_closed) {
            socket.close();
            self.role = Role::Orphan;
            return true;
        }
        moved
    }
}

/// Length of IP and TCP header without options.
fn headers(t: &Tuple) -> usize {
    if t.src.is_ipv4() { 40 } else { 60 }
}

/// The window a SYN announces: 64 KiB in whole segments (`tcp_select_initial_window`).
fn initial_window(mtu: usize, t: &Tuple, timestamps: bool) -> u16 {
    let mss = (mtu - headers(t))
        .saturating_sub(if timestamps { 12 } else { 0 })
        .max(1);
    u16::try_from(65_535 / mss * mss).unwrap_or(u16::MAX)
}
