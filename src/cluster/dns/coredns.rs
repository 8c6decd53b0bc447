//! A CoreDNS process in a pod (or NodeLocal DNSCache on a node): the [`Responder`] behind real sockets.
//!
//! Queries to upstreams leave from sockets of the process's own and carry the cause of the query they are
//! for. A process that `loop` ended is restarted as the kubelet does, after 10 s, 20 s, 40 s ... up to five
//! minutes (CrashLoopBackOff, kubernetes pkg/kubelet/kubelet.go `MaxContainerBackOff`). Overload is a rate:
//! what exceeds it finds the socket's buffer full. A changed Corefile is in the pod a minute later; a
//! process with `reload` takes it then when it looks, any other when it starts. Not modelled: memory,
//! probes' own traffic. Invariant: a process that is down answers nothing and its ports are closed.

use super::zone::{framed, next_message};
use crate::base::{Instant, limits};
use crate::kube::dns::{
    Arrival, Client, Corefile, Decision, Environment, Objects, Outcome, Responder, Transport,
};
use crate::kube::podpath_v1alpha1::DnsServerState;
use crate::lab::{Call, Cause, Incoming, Player};
use crate::wire::{Tuple, proto};
use core::any::Any;
use core::time::Duration;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// The kubelet's first back-off and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
/// How long until a changed ConfigMap is a changed file in the pod: the kubelet's `syncFrequency`.
const SYNC: Duration = Duration::from_secs(60);
/// An upstream's socket that nobody has heard of for so long is closed.
const IDLE: Duration = Duration::from_secs(10);

/// To whom a late reply goes.
#[derive(Clone, Copy, Debug)]
enum Asker {
    Udp { local: SocketAddr, from: SocketAddr },
    Tcp(Tuple),
}

/// A query of somebody's.
#[derive(Clone, Copy, Debug)]
struct Query {
    asker: Asker,
    cause: Cause,
}

/// One query as the server saw it, for traces.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When.
    pub at: Instant,
    /// Who asked.
    pub from: SocketAddr,
    /// The query.
    pub query: Vec<u8>,
    /// What each plugin decided.
    pub decisions: Vec<Decision>,
}

/// The process.
pub(super) struct CoreDns {
    corefile: Corefile,
    environment: Environment,
    objects: Objects,
    responder: Responder,
    listen: Vec<(Option<IpAddr>, u8, u16)>,
    tickets: BTreeMap<u64, (Query, usize)>,
    upstreams: BTreeMap<u64, (Cause, Transport, Instant)>,
    streams: BTreeMap<Tuple, Vec<u8>>,
    replies: BTreeMap<u64, Vec<u8>>,
    state: DnsServerState,
    /// Queries a second that it can take.
    rate: Option<u32>,
    second: (u64, u32),
    up: bool,
    restarts: u32,
    restart: Option<Instant>,
    /// The process is to be started at the next opportunity.
    fresh: bool,
    /// A changed Corefile: when it is in the pod, and when `reload` looks, if it does.
    changed: Option<(Instant, Option<Instant>, Corefile, Environment)>,
    /// Why it ended last.
    pub(super) ended: Option<String>,
    pub(super) seen: Vec<Seen>,
}

impl CoreDns {
    pub(super) fn new(
        corefile: Corefile,
        environment: Environment,
        listen: Vec<(Option<IpAddr>, u8, u16)>,
    ) -> (CoreDns, Vec<crate::base::Finding>) {
        let (responder, findings) = Responder::new(&corefile, &environment);
        let process = CoreDns {
            corefile,
            environment,
            objects: Objects::default(),
            responder,
            listen,
            tickets: BTreeMap::new(),
            upstreams: BTreeMap::new(),
            streams: BTreeMap::new(),
            replies: BTreeMap::new(),
            state: DnsServerState::Running,
            rate: None,
            second: (0, 0),
            up: true,
            restarts: 0,
            restart: None,
            fresh: true,
            changed: None,
            ended: None,
            seen: Vec::new(),
        };
        (process, findings)
    }

    /// The ports of its Corefile.
    pub(super) fn ports(&self) -> Vec<u16> {
        self.responder.ports()
    }

    /// Where it listens.
    pub(super) fn listens(&mut self, listen: Vec<(Option<IpAddr>, u8, u16)>) {
        self.listen = listen;
    }

    /// Another Corefile: what is wrong with it.
    pub(super) fn configure(
        &mut self,
        now: Instant,
        corefile: Corefile,
        environment: Environment,
    ) -> Vec<crate::base::Finding> {
        let (_, findings) = Responder::new(&corefile, &environment);
        let there = now + SYNC;
        let looks = self.responder.care().find_map(|c| c.reload);
        let looks = looks.map(|(every, _)| there + every);
        self.changed = Some((there, looks, corefile, environment));
        findings
    }

    /// `reload` looks: with an error in the file the old one goes on.
    fn reload(&mut self, now: Instant) -> Vec<Call> {
        let Some((there, _, corefile, environment)) = self.changed.take() else {
            return Vec::new();
        };
        let findings = self.responder.reload(&corefile, &environment);
        if findings.iter().any(crate::base::Finding::is_error) {
            // The file stays; whoever starts anew reads it.
            self.changed = Some((there, None, corefile, environment));
            return Vec::new();
        }
        (self.corefile, self.environment) = (corefile, environment);
        self.tickets.clear();
        self.responder.learn(now, &self.objects);
        self.responder.start(now);
        let mut calls = self.rebind();
        calls.extend(self.after(now, Cause::default()));
        calls
    }

    /// Listens on the ports of the Corefile as it is now.
    fn rebind(&mut self) -> Vec<Call> {
        let mut addresses: Vec<Option<IpAddr>> = self.listen.iter().map(|l| l.0).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let ports = self.responder.ports();
        let each = addresses.iter();
        let now: Vec<_> = each
            .flat_map(|addr| ports.iter().flat_map(|port| both(*addr, *port)))
            .collect();
        let gone = self.listen.iter().filter(|l| !now.contains(l));
        let mut calls: Vec<Call> = gone
            .map(|(addr, proto, port)| Call::Unlisten {
                addr: *addr,
                proto: *proto,
                port: *port,
            })
            .collect();
        let new = now.iter().filter(|l| !self.listen.contains(l));
        calls.extend(new.map(|(addr, proto, port)| Call::Listen {
            addr: *addr,
            proto: *proto,
            port: *port,
        }));
        self.listen = now;
        calls
    }

    /// Whether `/ready` would say so.
    pub(super) fn ready(&self) -> bool {
        self.up && self.state == DnsServerState::Running && self.responder.unready().is_empty()
    }

    /// The cluster as it is now.
    pub(super) fn learn(&mut self, now: Instant, objects: &Objects) {
        self.objects = objects.clone();
        self.responder.learn(now, objects);
    }

    /// Whether decisions are kept.
    pub(super) fn trace(&mut self, wanted: bool) {
        self.responder.trace(wanted);
        self.seen.clear();
    }

    /// A Fault: another state, a rate.
    pub(super) fn set(&mut self, now: Instant, state: Option<DnsServerState>, rate: Option<u32>) {
        self.rate = rate.or(self.rate);
        let Some(state) = state else { return };
        self.state = state;
        match state {
            DnsServerState::Crashed => self.restart = Some(now),
            _ if !self.up => self.restart = Some(now),
            _ => {}
        }
    }

    fn overloaded(&mut self, now: Instant) -> bool {
        let Some(rate) = self.rate else { return false };
        let second = now.as_nanos() / 1_000_000_000;
        if self.second.0 != second {
            self.second = (second, 0);
        }
        self.second.1 += 1;
        self.second.1 > rate
    }

    fn query(&mut self, now: Instant, query: Query, bytes: &[u8]) -> Vec<Call> {
        if !self.up || self.state == DnsServerState::Hanging || self.overloaded(now) {
            return Vec::new();
        }
        let (from, local, transport) = match query.asker {
            Asker::Udp { local, from } => (from, local.port(), Transport::Udp),
            Asker::Tcp(t) => (SocketAddr::new(t.dst, t.dport), t.sport, Transport::Tcp),
        };
        let client = Client {
            from,
            port: local,
            transport,
        };
        let outcome = self.responder.query(now, &client, bytes);
        let decisions = self.responder.decisions().to_vec();
        let at = self.seen.len();
        if self.seen.len() < limits::DNS_ASKED_MAX {
            self.seen.push(Seen {
                at: now,
                from,
                query: bytes.to_vec(),
                decisions,
            });
        }
        let mut calls = match outcome {
            Outcome::Reply(m) => reply(query, &[m]),
            Outcome::Transfer(all) => reply(query, &all),
            Outcome::Silence => Vec::new(),
            Outcome::Pending(ticket) => {
                self.tickets.insert(ticket, (query, at));
                Vec::new()
            }
        };
        calls.extend(self.after(now, query.cause));
        calls
    }

    /// What the responder wants sent, and its end.
    fn after(&mut self, now: Instant, cause: Cause) -> Vec<Call> {
        let mut calls = Vec::new();
        while let Some(send) = self.responder.next_send() {
            let key = send.exchange;
            let until = now + IDLE;
            self.upstreams.insert(key, (cause, send.transport, until));
            match send.transport {
                Transport::Udp => {
                    calls.push(Call::UdpOpen {
                        key,
                        peer: Some(send.to),
                        recverr: false,
                    });
                    calls.push(Call::UdpSend {
                        key,
                        to: send.to,
                        data: send.bytes.into(),
                        cause,
                    });
                }
                Transport::Tcp => calls.push(Call::TcpOpen {
                    key,
                    to: send.to,
                    request: framed(&send.bytes),
                    cause,
                }),
            }
        }
        while let Some(answer) = self.responder.next_answer() {
            if let Some((query, at)) = self.tickets.remove(&answer.ticket) {
                calls.extend(reply(query, &answer.messages));
                if let Some(seen) = self
                    .seen
                    .get_mut(at)
                    .filter(|_| !answer.decisions.is_empty())
                {
                    seen.decisions = answer.decisions;
                }
            }
        }
        if let Some(why) = self.responder.fatal().map(str::to_owned) {
            self.ended = Some(why);
            calls.extend(self.down(now));
        }
        calls
    }

    /// The process ends: its ports and sockets close.
    fn down(&mut self, now: Instant) -> Vec<Call> {
        self.up = false;
        let factor = 1u32 << self.restarts.min(5);
        self.restarts += 1;
        self.restart = (self.state != DnsServerState::Crashed)
            .then(|| now + (BACKOFF.0 * factor).min(BACKOFF.1));
        let keys = core::mem::take(&mut self.upstreams).into_keys();
        let mut calls: Vec<Call> = keys.map(|key| Call::Close { key }).collect();
        self.tickets.clear();
        self.streams.clear();
        self.replies.clear();
        let ports = self.listen.iter();
        calls.extend(ports.map(|(addr, proto, port)| Call::Unlisten {
            addr: *addr,
            proto: *proto,
            port: *port,
        }));
        calls
    }

    fn start(&mut self, now: Instant) -> Vec<Call> {
        self.fresh = false;
        let again = !self.up;
        self.up = true;
        self.restart = None;
        if let Some((_, _, corefile, environment)) = self.changed.take_if(|c| c.0 <= now) {
            (self.corefile, self.environment) = (corefile, environment);
        }
        let (responder, findings) = Responder::new(&self.corefile, &self.environment);
        self.responder = responder;
        if let Some(wrong) = findings.iter().find(|f| f.is_error()) {
            self.ended = Some(wrong.to_string());
            return self.down(now);
        }
        self.responder.learn(now, &self.objects);
        self.responder.start(now);
        let ports = self.listen.iter().filter(|_| again);
        let mut calls: Vec<Call> = ports
            .map(|(addr, proto, port)| Call::Listen {
                addr: *addr,
                proto: *proto,
                port: *port,
            })
            .collect();
        calls.extend(self.after(now, Cause::default()));
        calls
    }

    fn arrived(
        &mut self,
        now: Instant,
        key: u64,
        cause: Option<Cause>,
        what: Arrival,
    ) -> Vec<Call> {
        let Some((own, ..)) = self.upstreams.remove(&key) else {
            return Vec::new();
        };
        self.replies.remove(&key);
        self.responder.upstream_reply(now, key, what);
        let mut calls = vec![Call::Close { key }];
        calls.extend(self.after(now, cause.unwrap_or(own)));
        calls
    }

    fn heard(&mut self, now: Instant, what: Incoming) -> Vec<Call> {
        match what {
            Incoming::Datagram {
                key: None,
                local,
                from,
                data,
                cause,
            } => {
                let asker = Asker::Udp { local, from };
                self.query(now, Query { asker, cause }, &data)
            }
            Incoming::Datagram {
                key: Some(key),
                data,
                cause,
                ..
            } => self.arrived(now, key, Some(cause), Arrival::Message(data.to_vec())),
            Incoming::Request { conn, data, cause } => {
                let mut buffer = self.streams.remove(&conn).unwrap_or_default();
                buffer.extend_from_slice(&data);
                let mut calls = Vec::new();
                let asker = Asker::Tcp(conn);
                while let Some(m) = next_message(&mut buffer) {
                    calls.extend(self.query(now, Query { asker, cause }, &m));
                }
                if !buffer.is_empty() && self.streams.len() < limits::LAB_MAIL_MAX {
                    self.streams.insert(conn, buffer);
                }
                calls
            }
            Incoming::Stream { key, data, cause } => {
                let buffer = self.replies.entry(key).or_default();
                buffer.extend_from_slice(&data);
                match next_message(buffer) {
                    Some(m) => self.arrived(now, key, Some(cause), Arrival::Message(m)),
                    None => Vec::new(),
                }
            }
            Incoming::Closed { key } | Incoming::Failed { key, .. } => {
                self.arrived(now, key, None, Arrival::Broken)
            }
        }
    }

    /// Whose query is waiting, when it is one alone.
    fn waiting(&self) -> Cause {
        match self.tickets.len() {
            1 => self.tickets.values().next().map(|(q, _)| q.cause),
            _ => None,
        }
        .unwrap_or_default()
    }
}

impl Player for CoreDns {
    fn incoming(&mut self, now: Instant, what: Incoming) -> Vec<Call> {
        let mut calls = match self.fresh {
            true => self.start(now), // a query of the very first moment
            false => Vec::new(),
        };
        calls.extend(self.heard(now, what));
        calls
    }

    fn due(&self) -> Option<Instant> {
        if self.fresh {
            return Some(Instant::ZERO);
        }
        let own = self.responder.next_deadline().filter(|_| self.up);
        let idle = self.upstreams.values().map(|(.., until)| *until).min();
        let looks = self.changed.as_ref().and_then(|c| c.1).filter(|_| self.up);
        let all = [own, self.restart, idle, looks];
        all.into_iter().flatten().min()
    }

    fn tick(&mut self, now: Instant) -> Vec<Call> {
        if self.fresh {
            return self.start(now);
        }
        if self.restart.is_some_and(|at| at <= now) {
            self.restart = None;
            return match (self.up, self.state) {
                (true, DnsServerState::Crashed) => self.down(now),
                (false, DnsServerState::Crashed) | (true, _) => Vec::new(),
                (false, _) => self.start(now),
            };
        }
        let looks = self.changed.as_ref().and_then(|c| c.1);
        if self.up && looks.is_some_and(|at| at <= now) {
            return self.reload(now);
        }
        let cause = self.waiting();
        if self.up {
            self.responder.tick(now);
        }
        let mut calls = self.after(now, cause);
        let old = self.upstreams.iter().filter(|(_, (.., t))| *t <= now);
        let old: Vec<u64> = old.map(|(key, _)| *key).collect();
        for key in old {
            self.upstreams.remove(&key);
            self.replies.remove(&key);
            calls.push(Call::Close { key });
        }
        calls
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

fn reply(query: Query, messages: &[Vec<u8>]) -> Vec<Call> {
    let cause = query.cause;
    let each = messages.iter().map(|m| match query.asker {
        Asker::Udp { local, from } => Call::Answer {
            local,
            to: from,
            data: m.clone().into(),
            cause,
        },
        Asker::Tcp(conn) => Call::Write {
            conn,
            data: framed(m),
            cause,
        },
    });
    each.collect()
}

/// Both transports of a port.
pub(super) fn both(addr: Option<IpAddr>, port: u16) -> [(Option<IpAddr>, u8, u16); 2] {
    [(addr, proto::UDP, port), (addr, proto::TCP, port)]
}
