//! One query as dig sends it: no search list, one server, one type.
//!
//! Source: dig(1) of BIND 9.18: EDNS with 1232 bytes unless told otherwise, three tries of 5 s, TCP after a
//! truncated answer, SERVFAIL tried again at the next server only (there is none here).
//! Invariant: it ends after its tries.

use super::message::{self, Head, answers_question};
use super::{Action, Event, Resolver, Sock};
use crate::base::{Instant, Rng};
use crate::endpoint::Errno;
use core::time::Duration;
use std::net::SocketAddr;

/// What is asked, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// The name.
    pub name: String,
    /// The type.
    pub qtype: u16,
    /// The server.
    pub server: SocketAddr,
    /// `+tcp`.
    pub tcp: bool,
    /// `+ignore`: a truncated answer is good enough.
    pub ignore: bool,
    /// `+bufsize=N`; `None`: `+noedns`.
    pub edns: Option<u16>,
    /// `+recurse`.
    pub recurse: bool,
    /// `+tries=N`.
    pub tries: u32,
    /// `+time=N`.
    pub timeout: Duration,
}

impl Question {
    /// As plain dig asks.
    pub fn new(name: &str, qtype: u16, server: SocketAddr) -> Self {
        Question {
            name: name.to_owned(),
            qtype,
            server,
            tcp: false,
            ignore: false,
            edns: Some(1232),
            recurse: true,
            tries: 3,
            timeout: Duration::from_secs(5),
        }
    }
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// A reply.
    Reply {
        /// The message.
        message: Vec<u8>,
        /// It came by TCP.
        tcp: bool,
        /// From the query it answers.
        took: Duration,
    },
    /// `connection refused` and the like.
    Failed(Errno),
    /// `connection timed out; no servers could be reached`.
    NoReply,
    /// The name is none.
    BadName,
}

/// One dig.
#[derive(Clone, Debug)]
pub struct Dig {
    question: Question,
    query: Vec<u8>,
    sock: Sock,
    tcp: bool,
    tried: u32,
    sent: Instant,
    error: Option<Errno>,
    out: Vec<Action>,
    found: Option<(Found, Instant)>,
}

impl Dig {
    /// Begins.
    pub fn start(now: Instant, question: Question, seed: u64) -> Self {
        let id = Rng::new(seed ^ 0x0064_6967).next_u64() as u16;
        let query = message::query(&question.name, question.qtype, id, question.edns, true);
        let mut dig = Dig {
            tcp: question.tcp || question.qtype == 252,
            query: query.unwrap_or_default(),
            question,
            sock: Sock(0),
            tried: 0,
            sent: now,
            error: None,
            out: Vec::new(),
            found: None,
        };
        match dig.query.get_mut(2) {
            None => dig.found = Some((Found::BadName, now)),
            Some(flags) => {
                *flags = u8::from(dig.question.recurse);
                dig.send(now);
            }
        }
        dig
    }

    /// The result, once there is one.
    pub fn found(&self) -> Option<&Found> {
        self.found.as_ref().map(|(f, _)| f)
    }

    /// The query.
    pub fn query(&self) -> &[u8] {
        &self.query
    }

    fn send(&mut self, now: Instant) {
        self.sock = Sock(self.sock.0 + 1);
        (self.sent, self.tried) = (now, self.tried + 1);
        let (sock, server, message) = (self.sock, self.question.server, self.query.clone());
        if self.tcp {
            let messages = vec![message];
            self.out.push(Action::Tcp {
                sock,
                server,
                messages,
            });
            return;
        }
        self.out.push(Action::Udp {
            sock,
            server: Some(server),
        });
        self.out.push(Action::Send {
            sock,
            to: server,
            message,
        });
    }

    fn end(&mut self, now: Instant, found: Found) {
        self.out.push(Action::Close { sock: self.sock });
        self.found = Some((found, now));
    }

    fn again(&mut self, now: Instant, error: Option<Errno>) {
        self.error = error.or(self.error);
        if self.tried < self.question.tries {
            self.out.push(Action::Close { sock: self.sock });
            return self.send(now);
        }
        let found = self.error.map_or(Found::NoReply, Found::Failed);
        self.end(now, found);
    }

    fn reply(&mut self, now: Instant, m: &[u8]) {
        let (own, head) = (Head::of(&self.query), Head::of(m));
        let same = own.zip(head).filter(|(q, r)| q.id == r.id && r.response());
        let Some((_, head)) = same else { return };
        // A server that could not read the question does not repeat it.
        if head.counts[0] != 0 && !answers_question(&self.query, m) {
            return;
        }
        if head.tc() && !self.tcp && !self.question.ignore {
            self.tcp = true;
            self.tried = 0;
            self.out.push(Action::Close { sock: self.sock });
            return self.send(now);
        }
        let (message, tcp, took) = (m.to_vec(), self.tcp, now.since(self.sent));
        self.end(now, Found::Reply { message, tcp, took });
    }
}

impl Resolver for Dig {
    fn actions(&mut self) -> Vec<Action> {
        core::mem::take(&mut self.out)
    }

    fn due(&self) -> Option<Instant> {
        let open = self.found.is_none();
        open.then(|| self.sent + self.question.timeout)
    }

    fn tick(&mut self, now: Instant) {
        if self.due().is_some_and(|at| at <= now) {
            self.again(now, None);
        }
    }

    fn event(&mut self, now: Instant, event: Event<'_>) {
        if self.found.is_some() {
            return;
        }
        match event {
            Event::Datagram { sock, message, .. } | Event::Message { sock, message }
                if sock == self.sock =>
            {
                self.reply(now, message);
            }
            Event::Failed { sock, errno } if sock == self.sock => self.again(now, Some(errno)),
            Event::Closed { sock } if sock == self.sock => self.again(now, None),
            _ => {}
        }
    }

    fn ended(&self) -> Option<Instant> {
        self.found.as_ref().map(|(_, at)| *at)
    }
}
