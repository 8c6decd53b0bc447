//! A query's way through plugins and back, as a machine that can wait.
//!
//! CoreDNS nests calls: each plugin calls the next and sees the reply on the way back. Here a plugin that
//! wants to see the reply leaves a [`Frame`]; when the chain has ended, frames are taken from the top. A
//! look-up of another name (ExternalName, autopath) is a frame with the place to come back to. So a query
//! that waits for an upstream is a value ([`Job`]), not a stack. Invariant: one event makes at most
//! `DNS_STEPS_MAX` steps and a query holds at most `DNS_LOOK_UP_DEPTH_MAX` look-ups.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use core::time::Duration;
use hickory_proto::op::ResponseCode;

use super::corefile::Version;
use super::message::{Ended, Reply, Request, Transport};
use super::plugins::{autopath, cache, header, kubernetes, log, rewrite};
use crate::base::limits::{DNS_DECISIONS_MAX, DNS_LOG_MAX, DNS_LOOK_UP_DEPTH_MAX};
use crate::base::{Instant, Rng};

/// What a plugin decided, for traces.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision {
    /// When.
    pub at: Instant,
    /// The plugin, or `server`.
    pub plugin: &'static str,
    /// One sentence.
    pub what: String,
}

/// Where a query goes from here.
pub(super) enum Step {
    /// To the next plugin.
    Next,
    /// To a plugin of the same server, by place.
    At(usize),
    /// To the server that the request's name chooses.
    Root,
    /// Back.
    Done(Ended),
    /// Nowhere: an upstream was asked.
    Wait,
}

/// What waits for a reply.
#[derive(Clone, Debug)]
pub(super) enum Frame {
    Cache(cache::Fill),
    Rewrite(rewrite::Undo),
    Autopath(autopath::Walk),
    Header(header::Rules),
    Loadbalance,
    Minimal,
    Log(log::Line),
    Errors(String),
    Chain(kubernetes::Chain),
    /// A server's own query: a `rewrite cname`'s target.
    Cname(rewrite::CnameTarget),
    /// The query that `loop` sends at start.
    Probe {
        server: usize,
        plugin: usize,
    },
}

/// A frame and where to come back to.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub frame: Frame,
    pub saved: Option<Saved>,
}

/// A place in a chain, and the request there.
#[derive(Clone, Debug)]
pub(super) struct Saved {
    request: Request,
    server: usize,
    at: usize,
}

/// How a job's reply may be kept for the next same question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Keep {
    /// Not: it depends on more than the question.
    No,
    /// Until the cluster or the configuration changes.
    Steady,
    /// While this cache entry lives.
    Aging { stored: Instant, ttl: u32 },
}

/// A query on its way.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// Its ticket.
    pub id: u64,
    /// The query as it came; none for the server's own.
    pub client: Option<Request>,
    pub request: Request,
    /// Which server, and which of its plugins is next.
    pub server: usize,
    pub at: usize,
    pub frames: Vec<Entry>,
    /// Decisions, when they are wanted.
    pub trace: Option<Vec<Decision>>,
    pub keep: Keep,
    /// Addresses are shuffled when the reply is sent.
    pub shuffle: bool,
    pub forward: Option<super::plugins::forward::Attempt>,
}

impl Job {
    pub(super) fn new(id: u64, request: Request, client: bool) -> Job {
        Job {
            id,
            client: client.then(|| request.clone()),
            request,
            server: 0,
            at: 0,
            frames: Vec::new(),
            trace: None,
            keep: if client { Keep::Steady } else { Keep::No },
            shuffle: false,
            forward: None,
        }
    }

    /// Notes a decision; the text is made only when it is wanted.
    pub(super) fn decide(
        &mut self,
        ctx: &Ctx<'_>,
        plugin: &'static str,
        what: impl FnOnce() -> String,
    ) {
        if let Some(trace) = self.trace.as_mut().filter(|t| t.len() < DNS_DECISIONS_MAX) {
            trace.push(Decision {
                at: ctx.now,
                plugin,
                what: what(),
            });
        }
    }

    /// Wants to see the reply.
    pub(super) fn push(&mut self, frame: Frame) {
        self.frames.push(Entry { frame, saved: None });
    }

    /// Looks another name up from the top; `frame` gets what came of it.
    pub(super) fn look_up(&mut self, frame: Frame, request: Request) -> Step {
        let depth = self.frames.iter().filter(|e| e.saved.is_some()).count();
        if depth >= DNS_LOOK_UP_DEPTH_MAX {
            self.push(frame);
            return Step::Done(Ended::Code(ResponseCode::ServFail));
        }
        let saved = Saved {
            request: std::mem::replace(&mut self.request, request),
            server: self.server,
            at: self.at,
        };
        self.frames.push(Entry {
            frame,
            saved: Some(saved),
        });
        Step::Root
    }

    /// Takes the top frame and goes back to where it was left.
    pub(super) fn pop(&mut self) -> Option<Frame> {
        let entry = self.frames.pop()?;
        if let Some(saved) = entry.saved {
            (self.request, self.server, self.at) = (saved.request, saved.server, saved.at);
        }
        Some(entry.frame)
    }

    /// Whether the frames that are left change no reply.
    pub(super) fn is_nearly_done(&self) -> bool {
        self.client.is_some()
            && self
                .frames
                .iter()
                .all(|e| matches!(e.frame, Frame::Errors(_)))
    }
}

/// A message for an upstream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Send {
    /// Names the exchange in [`super::Responder::upstream_reply`].
    pub exchange: u64,
    /// The upstream.
    pub to: SocketAddr,
    /// How.
    pub transport: Transport,
    /// The message, without TCP's length.
    pub bytes: Vec<u8>,
}

/// A message that was sent and not answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Exchange {
    /// The job that waits; none for a health check.
    pub job: Option<u64>,
    pub server: usize,
    pub plugin: usize,
    pub upstream: usize,
    pub message: u16,
    pub deadline: Instant,
}

/// What happens at a time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Timer {
    /// An upstream has not answered.
    Timeout(u64),
    /// The next health check of an upstream.
    Check {
        server: usize,
        plugin: usize,
        upstream: usize,
    },
    /// `loop` sends its query, again perhaps.
    Probe { server: usize, plugin: usize },
    /// `loop` stops looking.
    ProbeDone { server: usize, plugin: usize },
}

/// What goes out of a server, and what it waits for.
#[derive(Clone, Debug)]
pub(super) struct Io {
    pub rng: Rng,
    pub sends: VecDeque<Send>,
    pub exchanges: BTreeMap<u64, Exchange>,
    pub timers: BTreeMap<(Instant, u64), Timer>,
    pub logs: VecDeque<String>,
    /// Jobs that plugins began: refreshes.
    pub spawned: VecDeque<Job>,
    /// Keys of cache entries that changed: kept replies of them are stale.
    pub touched: Vec<cache::Key>,
    /// Why the process ended.
    pub fatal: Option<String>,
    next: u64,
}

impl Io {
    pub(super) fn new(seed: u64) -> Io {
        Io {
            rng: Rng::new(seed),
            sends: VecDeque::new(),
            exchanges: BTreeMap::new(),
            timers: BTreeMap::new(),
            logs: VecDeque::new(),
            spawned: VecDeque::new(),
            touched: Vec::new(),
            fatal: None,
            next: 0,
        }
    }

    /// Goes on counting and drawing where another left off: no exchange is taken for an older one.
    pub(super) fn continue_from(&mut self, other: &Io) {
        self.next = other.next;
        self.rng = other.rng.clone();
        self.logs = other.logs.clone();
    }

    /// A number that was not given before.
    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn after(&mut self, now: Instant, delay: Duration, timer: Timer) {
        let number = self.number();
        self.timers.insert((now + delay, number), timer);
    }

    pub(super) fn log(&mut self, line: String) {
        if self.logs.len() >= DNS_LOG_MAX {
            self.logs.pop_front();
        }
        self.logs.push_back(line);
    }

    /// Sends to an upstream and sets the time to wait for it.
    pub(super) fn send(
        &mut self,
        exchange: Exchange,
        to: SocketAddr,
        transport: Transport,
        bytes: Vec<u8>,
    ) {
        let number = self.number();
        self.timers
            .insert((exchange.deadline, number), Timer::Timeout(number));
        self.exchanges.insert(number, exchange);
        self.sends.push_back(Send {
            exchange: number,
            to,
            transport,
            bytes,
        });
    }
}

/// What a plugin may use.
pub(super) struct Ctx<'a> {
    pub now: Instant,
    pub version: Version,
    pub io: &'a mut Io,
    pub kubes: &'a [kubernetes::Kubernetes],
    /// Which server and plugin this is.
    pub server: usize,
    pub plugin: usize,
}

/// The reply that answers a job that ended with a code.
pub(super) fn coded(request: &Request, rcode: ResponseCode) -> Reply {
    Reply::to(request, rcode)
}
