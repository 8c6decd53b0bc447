//! A stub resolver or dig in a namespace of the lab: its sockets are real ones, its queries packets.
//!
//! Carries [`Action`]s to the lab and what comes back to the resolver, TCP's lengths put on and off; keeps
//! what was asked and answered, the packets' events, and where a failure was decided. Decides nothing itself.
//! Invariant: the result does not depend on who watches; sockets are closed at the end.

use crate::base::{Instant, NsId, limits};
use crate::cluster::dns::zone::{framed, next_message};
use crate::endpoint::{Errno, Outcome};
use crate::kube::dns::client::message::Head;
use crate::kube::dns::client::{Action, Event as DnsEvent, Resolver, Sock};
use crate::lab::{Call, Cause, Hop, Incoming, Lab, Watch};
use crate::path::{Event, NoTrace};
use core::time::Duration;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// One query that was sent, and what came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// When, after the beginning.
    pub at: Duration,
    /// From which socket.
    pub sock: Sock,
    /// To whom.
    pub server: SocketAddr,
    /// By TCP.
    pub tcp: bool,
    /// The query.
    pub query: Vec<u8>,
    /// The first reply to it, and when it came.
    pub reply: Option<(Duration, Vec<u8>)>,
    /// The error that its socket was told, and when.
    pub error: Option<(Duration, Errno)>,
}

/// All that a resolver did.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its queries in order, up to [`limits::DNS_ASKED_MAX`].
    pub asked: Vec<Asked>,
    /// When it began.
    pub began: Instant,
    /// How long it took.
    pub took: Duration,
    /// Events of its packets and of those sent because of them.
    pub events: Vec<Event>,
    /// Where what it saw was decided.
    pub hop: Option<Hop>,
}

/// How long a resolver may take: beyond every libc's and every TCP's own end.
const LONGEST: Duration = Duration::from_secs(3_600);

struct Run<'l> {
    lab: &'l mut Lab,
    asked: Vec<Asked>,
    began: Instant,
    streams: BTreeMap<u64, Vec<u8>>,
}

/// Runs a resolver to its end. `outcome` says what its client saw.
pub fn run<R: Resolver>(
    lab: &mut Lab,
    ns: NsId,
    resolver: &mut R,
    outcome: impl Fn(&R) -> Outcome,
) -> Record {
    let (id, client) = lab.begin_talk(ns);
    let mut watch = Watch::new(client);
    let began = lab.now();
    let mut r = Run {
        lab,
        asked: Vec::new(),
        began,
        streams: BTreeMap::new(),
    };
    loop {
        for call in r.calls(resolver.actions()) {
            r.lab
                .perform_watched(id, vec![call], &mut watch, &mut NoTrace);
        }
        let mail = r.lab.mail(id);
        if !mail.is_empty() {
            mail.into_iter().for_each(|what| r.mail(resolver, what));
            continue;
        }
        if resolver.ended().is_some() {
            break;
        }
        let now = r.lab.now();
        let due = resolver.due().unwrap_or(began + LONGEST);
        if due <= now {
            resolver.tick(now);
        } else if !r.lab.step_watched(due, &mut watch, &mut NoTrace) {
            // Nothing happens before it is due, or the moment has no end.
            r.lab.run_until(due, &mut NoTrace);
            if r.lab.now() < due || due >= began + LONGEST {
                break;
            }
        }
    }
    let asked = core::mem::take(&mut r.asked);
    lab.end_talk(id, client, outcome(resolver));
    let hop = watch.hop(lab, client);
    lab.finish(client);
    Record {
        asked,
        began,
        took: lab.now().since(began),
        events: watch.events,
        hop,
    }
}

impl Run<'_> {
    fn calls(&mut self, actions: Vec<Action>) -> Vec<Call> {
        let mut calls = Vec::new();
        for action in actions {
            let cause = Cause::default();
            calls.push(match action {
                Action::Udp { sock, server } => Call::UdpOpen {
                    key: u64::from(sock.0),
                    peer: server,
                    recverr: server.is_some(),
                },
                Action::Send { sock, to, message } => {
                    self.note(sock, to, false, &message);
                    Call::UdpSend {
                        key: u64::from(sock.0),
                        to,
                        data: message.into(),
                        cause,
                    }
                }
                Action::Tcp {
                    sock,
                    server,
                    messages,
                } => {
                    messages
                        .iter()
                        .for_each(|m| self.note(sock, server, true, m));
                    let all: Vec<u8> = messages.iter().flat_map(|m| framed(m)).collect();
                    Call::TcpOpen {
                        key: u64::from(sock.0),
                        to: server,
                        request: all.into(),
                        cause,
                    }
                }
                Action::Close { sock } => Call::Close {
                    key: u64::from(sock.0),
                },
            });
        }
        calls
    }

    fn note(&mut self, sock: Sock, server: SocketAddr, tcp: bool, query: &[u8]) {
        if self.asked.len() < limits::DNS_ASKED_MAX {
            self.asked.push(Asked {
                at: self.lab.now().since(self.began),
                sock,
                server,
                tcp,
                query: query.to_vec(),
                reply: None,
                error: None,
            });
        }
    }

    fn mail<R: Resolver>(&mut self, resolver: &mut R, what: Incoming) {
        let now = self.lab.now();
        match what {
            Incoming::Datagram {
                key: Some(key),
                from,
                data,
                ..
            } => {
                let sock = Sock(key as u32);
                self.replied(sock, &data);
                let message = &data;
                resolver.event(
                    now,
                    DnsEvent::Datagram {
                        sock,
                        from,
                        message,
                    },
                );
            }
            Incoming::Stream { key, data, .. } => {
                let sock = Sock(key as u32);
                let mut buffer = self.streams.remove(&key).unwrap_or_default();
                buffer.extend_from_slice(&data);
                while let Some(message) = next_message(&mut buffer) {
                    self.replied(sock, &message);
                    let message = &message;
                    resolver.event(now, DnsEvent::Message { sock, message });
                }
                self.streams.insert(key, buffer);
            }
            Incoming::Closed { key } => {
                let sock = Sock(key as u32);
                resolver.event(now, DnsEvent::Closed { sock });
            }
            Incoming::Failed { key, errno, .. } => {
                let (sock, at) = (Sock(key as u32), now.since(self.began));
                let open =
                    |a: &&mut Asked| a.sock == sock && a.reply.is_none() && a.error.is_none();
                for a in self.asked.iter_mut().filter(open) {
                    a.error = Some((at, errno));
                }
                resolver.event(now, DnsEvent::Failed { sock, errno });
            }
            Incoming::Datagram { key: None, .. } | Incoming::Request { .. } => {}
        }
    }

    /// Keeps a reply beside its query: the last one with its id from that socket.
    fn replied(&mut self, sock: Sock, m: &[u8]) {
        let at = self.lab.now().since(self.began);
        let Some(id) = Head::of(m).map(|h| h.id) else {
            return;
        };
        let of = |a: &&mut Asked| {
            a.sock == sock && a.reply.is_none() && Head::of(&a.query).is_some_and(|h| h.id == id)
        };
        if let Some(a) = self.asked.iter_mut().rev().find(of) {
            a.reply = Some((at, m.to_vec()));
        }
    }
}
