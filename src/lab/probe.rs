//! A probe: one client's tries to reach a destination, and what it sees, when, why and where it was decided.
//!
//! Behaves as `ping`, `nc` or `curl --max-time` on Linux: errors of the route come at once, those of the
//! client's own link after the failed resolution, a connect goes on until the client's deadline.
//! Invariant: the result does not depend on who watches.

use super::client::{ClientEnd, ClientRef, ClientState};
use super::hop::{Ends, Hop, Way};
use super::lineage::Shape;
use super::world::Lab;
use crate::base::{FrameId, Instant, NsId, limits};
use crate::endpoint::{Errno, IcmpSeen, Outcome, PingRequest, Reply, TcpRequest, UdpRequest};
use crate::net::RouteKind;
use crate::net::fib::FibError;
use crate::path::{self, Disposition, DropReason, Event, Observer, Tee, TraceBuilder};
use crate::wire::{Tuple, proto};
use bytes::Bytes;
use core::time::Duration;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// With what a probe probes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ProbeProtocol {
    /// An echo request.
    Icmp,
    /// A TCP connection.
    Tcp,
    /// A UDP datagram from a connected socket.
    Udp,
}

/// What a TCP probe does once connected, if its size is not 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Exchange {
    /// Sends `size` bytes and waits for as many (an echo server).
    #[default]
    Echo,
    /// Sends `size` bytes and waits until they are acknowledged.
    Send,
    /// Sends `size` bytes and reads until the server closes.
    UntilClose,
    /// Sends a `GET` of at least `size` bytes and reads until the server closes.
    Http,
}

/// One client's wish.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probe {
    /// Where the client runs.
    pub from: NsId,
    /// Whom it wants; its family is the probe's.
    pub to: IpAddr,
    /// With what.
    pub protocol: ProbeProtocol,
    /// Destination port; not used by ICMP.
    pub port: u16,
    /// Payload bytes: of an echo request or datagram, or what a TCP client sends (0: it only connects).
    pub size: u32,
    /// What a TCP client does with them.
    pub exchange: Exchange,
    /// Don't fragment: always or never; `None`: the kernel's default, path MTU discovery.
    pub df: Option<bool>,
    /// TTL or hop limit; `None`: the kernel's.
    pub ttl: Option<u8>,
    /// Tries, one after the other; echo requests a second apart.
    pub count: u32,
    /// How long each try waits.
    pub timeout: Duration,
}

impl Probe {
    fn new(from: NsId, to: IpAddr, protocol: ProbeProtocol, port: u16, size: u32) -> Self {
        Probe {
            from,
            to,
            protocol,
            port,
            size,
            exchange: Exchange::Echo,
            df: None,
            ttl: None,
            count: 1,
            timeout: limits::PROBE_TIMEOUT,
        }
    }

    /// `ping -c 1`: 56 bytes.
    pub fn ping(from: NsId, to: IpAddr) -> Self {
        Probe::new(from, to, ProbeProtocol::Icmp, 0, 56)
    }

    /// `nc -z`: a connection that is opened and closed.
    pub fn tcp(from: NsId, to: IpAddr, port: u16) -> Self {
        Probe::new(from, to, ProbeProtocol::Tcp, port, 0)
    }

    /// An empty datagram that wants an answer.
    pub fn udp(from: NsId, to: IpAddr, port: u16) -> Self {
        Probe::new(from, to, ProbeProtocol::Udp, port, 0)
    }

    /// With this payload size.
    pub fn size(self, size: u32) -> Self {
        Probe { size, ..self }
    }

    /// Waiting this long.
    pub fn timeout(self, timeout: Duration) -> Self {
        Probe { timeout, ..self }
    }
}

/// What came of a probe. Of several tries: the first that failed, else the first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProbeResult {
    /// What the client saw.
    pub outcome: Outcome,
    /// Virtual time from the call to the outcome.
    pub delay: Duration,
    /// What the socket call returned; `None`: success, or the client's own deadline.
    pub errno: Option<Errno>,
    /// The ICMP error that told.
    pub icmp: Option<IcmpSeen>,
    /// Where it was decided: the drop or rejection that explains a failure, or where the request arrived;
    /// `None` when no frame of it has ended. `detail` inside is filled only by [`Lab::trace`].
    pub hop: Option<Hop>,
    /// Bytes received.
    pub bytes: u64,
    /// The first of them, up to [`limits::LAB_REPLY_BYTES`].
    pub reply: Bytes,
    /// When the TCP handshake was complete, after the call.
    pub connected: Option<Duration>,
    /// Tries made.
    pub attempts: u32,
    /// Tries that ended `ok`.
    pub succeeded: u32,
}

/// A try that could not even start: what connect(2) or sendto(2) says at once.
struct Refusal {
    errno: Errno,
    hop: Option<Hop>,
}

/// What the route lookup of connect(2) gives a client.
struct Start {
    src: IpAddr,
    mtu: u32,
    ttl: u8,
}

impl Lab {
    /// Starts one try of a probe; it runs with [`Lab::run_until`], and [`Lab::finish`] has its result. Err:
    /// what the socket call returns at once.
    pub fn start<O: Observer>(&mut self, p: &Probe, obs: &mut O) -> Result<ClientRef, Errno> {
        self.begin(p, 1, obs).map_err(|r| r.errno)
    }

    /// Runs a probe to its end.
    pub fn probe<O: Observer>(&mut self, p: &Probe, obs: &mut O) -> ProbeResult {
        self.run_probe(p, obs, &mut |_, _, _| {})
    }

    /// Runs a probe to its end and returns every event of its frames too, in time order: those of the
    /// packets it sent, of all that was sent because of them, and of the ARP and ND they needed.
    pub fn trace(&mut self, p: &Probe) -> (ProbeResult, Vec<Event>) {
        let mut events: Vec<Event> = Vec::new();
        let mut builder = TraceBuilder::default();
        let result = self.run_probe(p, &mut builder, &mut |lab, own, b: &mut TraceBuilder| {
            let mine = |e: &Event| lab.client_of(e.root).is_some_and(|c| own.contains(&c));
            let room = limits::TRACE_STEPS_MAX.saturating_sub(events.len());
            events.extend(b.take().into_iter().filter(mine).take(room));
        });
        (result, events)
    }

    fn run_probe<O: Observer>(
        &mut self,
        p: &Probe,
        obs: &mut O,
        each: &mut dyn FnMut(&Lab, &BTreeSet<ClientRef>, &mut O),
    ) -> ProbeResult {
        let mut ends = Ends::default();
        let mut own = BTreeSet::new();
        let mut first: Option<ProbeResult> = None;
        let (mut attempts, mut succeeded) = (0, 0);
        for n in 0..p.count.clamp(1, limits::LAB_ATTEMPTS_MAX) {
            let seq = n as u16 + 1;
            let start = self.now();
            own.insert(self.clients.upcoming());
            let result = self.attempt(p, seq, &own, &mut ends, obs, each);
            attempts += 1;
            succeeded += u32::from(result.outcome == Outcome::Ok);
            let worse = |f: &ProbeResult| f.outcome == Outcome::Ok && result.outcome != Outcome::Ok;
            if first.as_ref().is_none_or(worse) {
                first = Some(result);
            }
            if p.protocol == ProbeProtocol::Icmp && n + 1 < p.count {
                let next = start + Duration::from_secs(1); // ping -i 1
                while self.step(next, &mut Tee(&mut ends, &mut *obs)) {
                    ends.sort(self, &own);
                    each(self, &own, obs);
                }
                self.world.run_until(next, obs);
            }
        }
        let result = first.unwrap_or_else(|| failure(Errno::Invalid, None));
        ProbeResult {
            attempts,
            succeeded,
            ..result
        }
    }

    fn attempt<O: Observer>(
        &mut self,
        p: &Probe,
        seq: u16,
        own: &BTreeSet<ClientRef>,
        ends: &mut Ends,
        obs: &mut O,
        each: &mut dyn FnMut(&Lab, &BTreeSet<ClientRef>, &mut O),
    ) -> ProbeResult {
        let r = match self.begin(p, seq, &mut Tee(&mut *ends, &mut *obs)) {
            Ok(r) => r,
            Err(refusal) => return failure(refusal.errno, refusal.hop),
        };
        ends.sort(self, own);
        each(self, own, obs);
        let deadline = self.now() + p.timeout;
        let mut until = deadline;
        while self.now() <= until && !self.settled(r, &mut until) {
            if !self.step(until, &mut Tee(&mut *ends, &mut *obs)) {
                break;
            }
            ends.sort(self, own);
            each(self, own, obs);
        }
        let Some(c) = self.clients.get(r) else {
            return failure(Errno::Invalid, None);
        };
        let hop = ends.decisive(self, r, c);
        self.finish(r).map_or_else(
            || failure(Errno::Invalid, None),
            |c| conclude(c, p.timeout, hop),
        )
    }

    /// Whether nothing more is to come: a client that failed is done; one that succeeded still closes its
    /// connection, for at most a second, so that a trace shows the end of it.
    fn settled(&self, r: ClientRef, until: &mut Instant) -> bool {
        let Some(c) = self.clients.get(r) else {
            return true;
        };
        let Some(end) = c.end else { return false };
        if end.outcome != Outcome::Ok || c.tuple.proto != proto::TCP {
            return true;
        }
        *until = (*until).min(end.at + Duration::from_secs(1));
        let state = self.stacks.get(&c.ns).and_then(|s| {
            let of_client = |i: &crate::endpoint::SocketInfo| {
                (i.port, i.addr) == (c.tuple.sport, Some(c.tuple.src))
                    && i.peer == Some(SocketAddr::new(c.tuple.dst, c.tuple.dport))
            };
            s.sockets().into_iter().find(of_client).map(|i| i.state)
        });
        matches!(state, None | Some("TIME-WAIT"))
    }

    /// Asks the route as connect(2) does and starts the client in its namespace's stack.
    fn begin<O: Observer>(
        &mut self,
        p: &Probe,
        seq: u16,
        obs: &mut O,
    ) -> Result<ClientRef, Refusal> {
        let start = self.route_out(p)?;
        let plain = |errno| Refusal { errno, hop: None };
        if p.protocol != ProbeProtocol::Tcp && p.df == Some(true) {
            let head = if p.to.is_ipv4() { 28 } else { 48 };
            if p.size.saturating_add(head) > start.mtu {
                return Err(plain(Errno::MsgSize)); // `__ip_append_data`: ip_local_error
            }
        }
        let t = self.free_tuple(p, start.src).ok_or(plain(Errno::Again))?;
        let (now, mtu) = (self.now(), start.mtu);
        let stack = self.ensure_stack(p.from).ok_or(plain(Errno::Invalid))?;
        stack.set_mtu(mtu);
        let (local, remote) = (
            SocketAddr::new(t.src, t.sport),
            SocketAddr::new(t.dst, t.dport),
        );
        let deadline = now + p.timeout;
        let id = match p.protocol {
            ProbeProtocol::Tcp => {
                let (request, reply) = tcp_exchange(p);
                stack.connect_tcp(
                    now,
                    TcpRequest {
                        local,
                        remote,
                        request,
                        reply,
                        deadline,
                        path_mtu: Some(mtu),
                    },
                )
            }
            ProbeProtocol::Udp => stack.send_udp(
                now,
                UdpRequest {
                    local,
                    remote,
                    payload: payload(p.size),
                    expects_reply: true,
                    deadline,
                    path_mtu: Some(mtu),
                },
            ),
            ProbeProtocol::Icmp => stack.ping(PingRequest {
                local: t.src,
                remote: t.dst,
                id: t.sport,
                seq,
                payload: payload(p.size),
                ttl: p.ttl.unwrap_or(start.ttl),
                // IP_PMTUDISC_WANT, as every socket's default: DF while it fits.
                df: p.df.unwrap_or(p.size.saturating_add(28) <= mtu),
                deadline,
            }),
        };
        let id = id.map_err(plain)?;
        let r = self.clients.add(
            id,
            ClientState {
                ns: p.from,
                tuple: t,
                start: now,
                connected: None,
                bytes: 0,
                reply: Vec::new(),
                end: None,
            },
        );
        let shape = Shape {
            ttl: p.ttl,
            df: p.df,
        };
        self.lineages.open(p.from, t, r, shape);
        self.flush_new(p.from, obs);
        Ok(r)
    }

    /// Route and source address (`ip_route_connect`, `ip6_dst_lookup_flow`).
    fn route_out(&self, p: &Probe) -> Result<Start, Refusal> {
        let plain = |errno| Refusal { errno, hop: None };
        let space = self.world.ns(p.from).ok_or(plain(Errno::Invalid))?;
        let found = space.route_output(None, p.to, None, 0, 0);
        let found = found.map_err(|e| self.no_way_out(p, &e))?;
        let src = space
            .source_for(&found, p.to)
            .ok_or(plain(Errno::Invalid))?;
        let mtu = match found.route.kind {
            RouteKind::Local => 65_535,
            _ => u32::try_from(space.path_mtu(p.to, &found, self.now())).unwrap_or(65_535),
        };
        let ttl = u8::try_from(space.sysctl().ip_default_ttl).unwrap_or(64);
        Ok(Start { src, mtu, ttl })
    }

    /// The route says no: no packet is ever made, yet the place is known.
    fn no_way_out(&self, p: &Probe, e: &FibError) -> Refusal {
        let (errno, reason, route) = match e {
            FibError::NoRoute => (path::Errno::NetUnreach, DropReason::NoRoute, None),
            FibError::Unreachable(r) => (
                path::Errno::HostUnreach,
                DropReason::Unreachable,
                r.as_ref(),
            ),
            FibError::Prohibit(r) => (path::Errno::Access, DropReason::Prohibit, r.as_ref()),
            FibError::Blackhole(r) => (path::Errno::Inval, DropReason::Blackhole, r.as_ref()),
        };
        let hop = self.world.ns(p.from).map(|ns| Hop {
            time: self.now(),
            ns: ns.id,
            ns_name: ns.name.clone(),
            dev: None,
            device: String::new(),
            frame: FrameId::default(),
            root: FrameId::default(),
            way: Way::Forward,
            how: Disposition::Dropped {
                reason,
                detail: match route {
                    Some(r) => format!("{} matches {}", p.to, path::route_text(ns, r)),
                    None => p.to.to_string(),
                },
                origin: route.map(|r| r.origin.clone()).unwrap_or_default(),
            },
        });
        Refusal {
            errno: super::world::errno(errno),
            hop,
        }
    }

    /// A tuple with a port of net.ipv4.ip_local_port_range that no socket holds; echo: an id.
    fn free_tuple(&mut self, p: &Probe, src: IpAddr) -> Option<Tuple> {
        for _ in 0..limits::LAB_PORT_TRIES {
            let (proto, sport, dport) = match p.protocol {
                ProbeProtocol::Icmp => {
                    let id = self.rng.range(1, 65_535) as u16;
                    let v4 = p.to.is_ipv4();
                    (if v4 { proto::ICMP } else { proto::ICMPV6 }, id, id)
                }
                ProbeProtocol::Tcp => (proto::TCP, self.rng.range(32_768, 60_999) as u16, p.port),
                ProbeProtocol::Udp => (proto::UDP, self.rng.range(32_768, 60_999) as u16, p.port),
            };
            let t = Tuple {
                proto,
                src,
                dst: p.to,
                sport,
                dport,
            };
            if self
                .world
                .ns(p.from)?
                .sockets()
                .lookup(&t.reply())
                .is_none()
            {
                return Some(t);
            }
        }
        None
    }
}

/// `size` bytes, none of them alike to its neighbours, so that a misplaced one shows.
fn payload(size: u32) -> Bytes {
    (0..size)
        .map(|i| (i % 251) as u8)
        .collect::<Vec<_>>()
        .into()
}

fn tcp_exchange(p: &Probe) -> (Bytes, Reply) {
    if p.size == 0 && p.exchange != Exchange::Http {
        return (Bytes::new(), Reply::Len(0));
    }
    match p.exchange {
        Exchange::Echo => (payload(p.size), Reply::Len(p.size as usize)),
        Exchange::Send => (payload(p.size), Reply::Len(0)),
        Exchange::UntilClose => (payload(p.size), Reply::UntilClose),
        Exchange::Http => {
            let mut head = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", p.to);
            let room = (p.size as usize).saturating_sub(head.len() + 2 + "X-Pad: \r\n".len());
            if room > 0 {
                head.push_str(&format!("X-Pad: {}\r\n", "a".repeat(room)));
            }
            head.push_str("\r\n");
            (head.into(), Reply::UntilClose)
        }
    }
}

fn failure(errno: Errno, hop: Option<Hop>) -> ProbeResult {
    ProbeResult {
        outcome: errno.outcome(),
        delay: Duration::ZERO,
        errno: Some(errno),
        icmp: None,
        hop,
        bytes: 0,
        reply: Bytes::new(),
        connected: None,
        attempts: 1,
        succeeded: 0,
    }
}

fn conclude(c: ClientState, timeout: Duration, hop: Option<Hop>) -> ProbeResult {
    // A client whose stack never spoke again (its namespace went, the moment had no end) waited in vain.
    let end = c.end.unwrap_or(ClientEnd {
        at: c.start + timeout,
        outcome: Outcome::Timeout,
        errno: None,
        icmp: None,
    });
    ProbeResult {
        outcome: end.outcome,
        delay: end.at.since(c.start),
        errno: end.errno,
        icmp: end.icmp,
        hop,
        bytes: c.bytes,
        reply: c.reply.into(),
        connected: c.connected.map(|t| t.since(c.start)),
        attempts: 1,
        succeeded: 0,
    }
}
