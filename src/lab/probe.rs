//! A probe: one client's tries to reach a destination, and what it sees, when, why and where it was decided.
//!
//! Behaves as `ping`, `nc` or `curl --max-time` on Linux: errors of the route come at once, those of the
//! client's own link after the failed resolution, a connect goes on until the client's deadline.
//! Invariant: the result does not depend on who watches.

use super::client::{ClientEnd, ClientRef, ClientState};
use super::hop::{Ends, Hop};
use super::world::Lab;
use crate::base::{Instant, NsId, limits};
use crate::endpoint::{Errno, IcmpSeen, Outcome};
use crate::path::{Event, Observer, Tee, TraceBuilder};
use crate::wire::proto;
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
    /// The client's own port, or the echo request's id; `None`: a free one.
    pub sport: Option<u16>,
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
            sport: None,
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
            Err(refusal) => return failure(refusal.errno, refusal.hop.map(|h| *h)),
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
