//! The responder: octets of a query in, a reply out or queries to upstreams, in virtual time.
//!
//! CoreDNS `core/dnsserver/server.go`: what is no query gets FORMERR, NOTIMP or nothing; a class other than
//! IN REFUSED; an EDNS version other than 0 BADVERS; the server block with the longest zone answers, none is
//! REFUSED; a chain that ends without a reply is SERVFAIL. The caller carries [`Send`]s to upstreams, tells
//! [`Responder::upstream_reply`] what came, calls [`Responder::tick`] when [`Responder::next_deadline`] has
//! come, and takes late replies from [`Responder::next_answer`]. Invariant: every query that is not ignored
//! ends in one reply or, after the caps of `base::limits`, in none.

mod run;

use std::collections::{BTreeMap, VecDeque};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{DNSClass, RecordType};

use super::cluster::Objects;
use super::codec;
use super::config::{self, Care, Environment, Server};
use super::corefile::{Corefile, Version};
use super::engine::{Ctx, Decision, Exchange, Frame, Io, Job, Keep, Send, Step, Timer, coded};
use super::hot::{self, Hot, Life};
use super::message::{Client, Ended, Reply, Request, Transport};
use super::plugins::forward::Arrival;
use super::plugins::kubernetes::Kubernetes;
use super::plugins::{Plugin, simple};
use super::receive::{self, Received};
use crate::base::limits::{DNS_JOBS_MAX, DNS_STEPS_MAX};
use crate::base::{Finding, Instant};

/// What became of a query at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The reply.
    Reply(Vec<u8>),
    /// The messages of a zone transfer, over TCP.
    Transfer(Vec<Vec<u8>>),
    /// An upstream was asked: the reply comes with this ticket from [`Responder::next_answer`].
    Pending(u64),
    /// No reply.
    Silence,
}

/// A late reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Which query's.
    pub ticket: u64,
    /// What is sent: one message, several for a transfer, none for silence.
    pub messages: Vec<Vec<u8>>,
    /// What plugins decided, where decisions are wanted.
    pub decisions: Vec<Decision>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Responder {
    servers: Vec<Server>,
    kubes: Vec<Kubernetes>,
    version: Version,
    unix: u32,
    io: Io,
    jobs: BTreeMap<u64, Job>,
    answers: VecDeque<Answer>,
    hot: Hot,
    epoch: u64,
    was_ready: bool,
    tracing: bool,
    decisions: Vec<Decision>,
}

/// Records of one message of a transfer (`plugin/transfer`).
const TRANSFER_RECORDS: usize = 500;

impl Responder {
    /// A server of a Corefile; what is wrong with the file is told, and the rest of it answers.
    pub fn new(corefile: &Corefile, environment: &Environment) -> (Responder, Vec<Finding>) {
        let (built, findings) = config::build(corefile, environment);
        let mut servers = built.servers;
        for server in &mut servers {
            mark_forwards(&mut server.plugins);
        }
        let responder = Responder {
            servers,
            kubes: built.kubes,
            version: environment.version,
            unix: environment.unix,
            io: Io::new(environment.seed),
            jobs: BTreeMap::new(),
            answers: VecDeque::new(),
            hot: Hot::default(),
            epoch: 0,
            was_ready: false,
            tracing: false,
            decisions: Vec::new(),
        };
        (responder, findings)
    }

    /// Begins what runs without queries: `loop`'s look for loops.
    pub fn start(&mut self, now: Instant) {
        for server in 0..self.servers.len() {
            let plugins = self.servers.get(server).map_or(0, |s| s.plugins.len());
            for plugin in 0..plugins {
                self.probe(now, server, plugin, true);
            }
        }
        self.housekeep(now);
    }

    /// Learns the cluster as it is now.
    pub fn learn(&mut self, now: Instant, objects: &Objects) {
        let seconds = u32::try_from(now.as_nanos() / 1_000_000_000).unwrap_or(u32::MAX);
        for kube in &mut self.kubes {
            kube.learn(objects, self.unix.saturating_add(seconds));
        }
        self.was_ready |= self.kubes.iter().all(Kubernetes::is_synced);
        self.epoch += 1;
    }

    /// Takes another Corefile, as `reload` does: with an error in it the old one goes on. Caches are empty
    /// then, upstreams are up, and the cluster is to be learned anew; what waits gets no reply.
    pub fn reload(&mut self, corefile: &Corefile, environment: &Environment) -> Vec<Finding> {
        let (mut other, findings) = Responder::new(corefile, environment);
        if !findings.iter().any(Finding::is_error) {
            other.io.continue_from(&self.io);
            (other.tracing, other.epoch) = (self.tracing, self.epoch + 1);
            *self = other;
        }
        findings
    }

    /// Whether decisions are kept: [`Responder::decisions`], [`Answer::decisions`].
    pub fn trace(&mut self, wanted: bool) {
        self.tracing = wanted;
    }

    /// What plugins decided about the last query that was answered at once.
    pub fn decisions(&self) -> &[Decision] {
        &self.decisions
    }

    /// Why the process has ended (`loop`); a server that has ended answers nothing.
    pub fn fatal(&self) -> Option<&str> {
        self.io.fatal.as_deref()
    }

    /// The oldest line of the log that was not taken.
    pub fn next_log(&mut self) -> Option<String> {
        self.io.logs.pop_front()
    }

    /// Plugins that are not ready, as `/ready` lists them; empty: 200 OK. What was ready once stays so unless
    /// the block says `monitor continuously`.
    pub fn unready(&self) -> Vec<&'static str> {
        let again = self.servers.iter().any(|s| s.care.ready_again);
        let waits = self.kubes.iter().any(|k| !k.is_synced());
        if waits && (again || !self.was_ready) {
            vec!["kubernetes"]
        } else {
            Vec::new()
        }
    }

    /// `health`, `ready` and `reload` of the blocks.
    pub fn care(&self) -> impl Iterator<Item = &Care> {
        self.servers.iter().map(|s| &s.care)
    }

    /// Ports that are listened on.
    pub fn ports(&self) -> Vec<u16> {
        let mut ports: Vec<u16> = self.servers.iter().map(|s| s.port).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// Answers given from kept octets.
    pub fn hot_hits(&self) -> u64 {
        self.hot.hits()
    }

    /// Queries that wait.
    pub fn open(&self) -> usize {
        self.jobs.len()
    }

    /// The next message for an upstream.
    pub fn next_send(&mut self) -> Option<Send> {
        self.io.sends.pop_front()
    }

    /// The next late reply.
    pub fn next_answer(&mut self) -> Option<Answer> {
        self.answers.pop_front()
    }

    /// When [`Responder::tick`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.io.timers.keys().next().map(|(at, _)| *at)
    }

    /// Answers a query.
    pub fn query(&mut self, now: Instant, client: &Client, bytes: &[u8]) -> Outcome {
        let mut out = Vec::new();
        if self.quick(now, client, bytes, &mut out) {
            return Outcome::Reply(out);
        }
        self.slow(now, client, bytes)
    }

    /// Answers a query from kept octets into `out`, if it can be; nothing else happens then. With `false`
    /// [`Responder::query`] must be asked.
    pub fn quick(
        &mut self,
        now: Instant,
        client: &Client,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> bool {
        if self.tracing || client.transport == Transport::Tcp || self.io.fatal.is_some() {
            return false;
        }
        let Some(asked) = hot::asked(bytes) else {
            return false;
        };
        self.hot
            .answer(&asked, client.port, now, self.epoch, &mut self.io.rng, out)
    }

    fn slow(&mut self, now: Instant, client: &Client, bytes: &[u8]) -> Outcome {
        self.decisions.clear();
        if self.io.fatal.is_some() {
            return Outcome::Silence;
        }
        let request = match receive::receive(bytes, client) {
            Received::Ignored => return Outcome::Silence,
            Received::Refused(reply) => return Outcome::Reply(reply),
            Received::Query(request) => *request,
        };
        if self.jobs.len() >= DNS_JOBS_MAX {
            return Outcome::Silence;
        }
        // `classChaos` is the listener's: one block with chaos or forward allows any class on its port.
        let mut here = self.servers.iter().filter(|s| s.port == request.port);
        if request.question.class != DNSClass::IN && !here.any(|s| s.any_class) {
            let refused = coded(&request, ResponseCode::Refused);
            return Outcome::Reply(codec::encode(&refused, &request, Vec::new()).0);
        }
        if request.edns.is_some_and(|e| e.version != 0) {
            return Outcome::Reply(codec::bad_version(&request, Vec::new()));
        }
        let id = self.io.number();
        let mut job = Job::new(id, request, true);
        job.trace = self.tracing.then(Vec::new);
        let done = self.run(now, job, Step::Root);
        let outcome = match done {
            None => Outcome::Pending(id),
            Some((job, ended)) => self.finish(job, ended, Some(bytes)),
        };
        self.housekeep(now);
        outcome
    }

    /// Something came from an upstream, or did not.
    pub fn upstream_reply(&mut self, now: Instant, exchange: u64, arrival: Arrival) {
        let Some(about) = self.io.exchanges.remove(&exchange) else {
            return;
        };
        let timer = (about.deadline, exchange);
        self.io.timers.remove(&timer);
        self.arrived(now, exchange, about, &arrival);
        if self.io.exchanges.contains_key(&exchange) {
            // It was not the reply: the time for it goes on.
            self.io.timers.insert(timer, Timer::Timeout(exchange));
        }
        self.housekeep(now);
    }

    /// Lets time pass: timeouts, health checks.
    pub fn tick(&mut self, now: Instant) {
        for _ in 0..DNS_STEPS_MAX {
            let Some(entry) = self.io.timers.first_entry().filter(|e| e.key().0 <= now) else {
                break;
            };
            let at = entry.key().0;
            match entry.remove() {
                Timer::Timeout(exchange) => {
                    if let Some(about) = self.io.exchanges.remove(&exchange) {
                        self.arrived(at, exchange, about, &Arrival::Timeout);
                    }
                }
                Timer::Check {
                    server,
                    plugin,
                    upstream,
                } => {
                    self.with_forward(at, server, plugin, |forward, ctx| {
                        forward.send_check(upstream, ctx)
                    });
                }
                Timer::Probe { server, plugin } => self.probe(at, server, plugin, false),
                Timer::ProbeDone { server, plugin } => {
                    if let Some(Plugin::Loop(l)) = self
                        .servers
                        .get_mut(server)
                        .and_then(|s| s.plugins.get_mut(plugin))
                    {
                        l.stop();
                    }
                }
            }
            self.housekeep(at);
        }
    }

    /// Messages that an event brought about: refreshes that plugins began, kept replies that are stale.
    fn housekeep(&mut self, now: Instant) {
        for _ in 0..DNS_STEPS_MAX {
            let Some(job) = self.io.spawned.pop_front() else {
                break;
            };
            if self.jobs.len() >= DNS_JOBS_MAX {
                continue;
            }
            let at = job.at;
            if let Some((job, ended)) = self.run(now, job, Step::At(at)) {
                self.finish(job, ended, None);
            }
        }
        if self.io.fatal.is_some() {
            // A process that has ended holds nothing, and nobody waits for it.
            self.jobs.clear();
            self.io.timers.clear();
            self.io.exchanges.clear();
            self.io.sends.clear();
            self.answers.clear();
        }
        for key in std::mem::take(&mut self.io.touched) {
            self.hot.forget(&key);
        }
    }

    /// A plugin, if there is one, and what it works with.
    fn plugin_at(
        &mut self,
        now: Instant,
        server: usize,
        plugin: usize,
    ) -> (Option<&mut Plugin>, Ctx<'_>) {
        let ctx = Ctx {
            now,
            version: self.version,
            io: &mut self.io,
            kubes: &self.kubes,
            server,
            plugin,
        };
        let servers = self.servers.get_mut(server);
        (servers.and_then(|s| s.plugins.get_mut(plugin)), ctx)
    }

    fn probe(&mut self, now: Instant, server: usize, plugin: usize, first: bool) {
        let port = self.servers.get(server).map_or(53, |s| s.port);
        let (found, mut ctx) = self.plugin_at(now, server, plugin);
        let Some(Plugin::Loop(looping)) = found else {
            return;
        };
        let Some(mut request) = looping.probe(&mut ctx, first) else {
            return;
        };
        request.port = port;
        let id = self.io.number();
        let mut job = Job::new(id, request, false);
        job.push(Frame::Probe { server, plugin });
        if let Some((job, ended)) = self.run(now, job, Step::Root) {
            self.finish(job, ended, None);
        }
    }

    fn with_forward(
        &mut self,
        now: Instant,
        server: usize,
        plugin: usize,
        act: impl FnOnce(&mut super::plugins::forward::Forward, &mut Ctx<'_>),
    ) {
        let (found, mut ctx) = self.plugin_at(now, server, plugin);
        if let Some(Plugin::Forward(forward)) = found {
            act(forward, &mut ctx);
        }
    }

    fn arrived(&mut self, now: Instant, number: u64, about: Exchange, arrival: &Arrival) {
        let Some(id) = about.job else {
            self.with_forward(now, about.server, about.plugin, |f, ctx| {
                f.checked(about.upstream, arrival, ctx)
            });
            return;
        };
        let Some(mut job) = self.jobs.remove(&id) else {
            return;
        };
        let mut step = None;
        self.with_forward(now, about.server, about.plugin, |forward, ctx| {
            step = forward.arrived(arrival, &mut job, ctx);
        });
        let Some(step) = step else {
            // Another's message: waiting goes on, and so does the time for it.
            self.io.exchanges.insert(number, about);
            self.jobs.insert(id, job);
            return;
        };
        if let Some((job, ended)) = self.run(now, job, step) {
            self.finish(job, ended, None);
        }
    }

    /// Sends what a job ended with. `raw` is the query when it is answered at once.
    fn finish(&mut self, job: Job, ended: Ended, raw: Option<&[u8]>) -> Outcome {
        let Some(request) = &job.client else {
            return Outcome::Silence;
        };
        let decisions = job.trace.clone().unwrap_or_default();
        let messages = match ended {
            Ended::Dropped => Vec::new(),
            Ended::Code(rcode) => {
                let reply = coded(request, rcode);
                vec![codec::encode(&reply, request, Vec::new()).0]
            }
            Ended::Written(reply) => self.encode(&job, request, *reply, raw),
        };
        if raw.is_none() {
            self.answers.push_back(Answer {
                ticket: job.id,
                messages,
                decisions,
            });
            return Outcome::Silence;
        }
        self.decisions = decisions;
        let mut messages = messages;
        match (messages.pop(), messages.is_empty()) {
            (Some(one), true) => Outcome::Reply(one),
            (Some(last), false) => {
                messages.push(last);
                Outcome::Transfer(messages)
            }
            (None, _) => Outcome::Silence,
        }
    }

    fn encode(
        &mut self,
        job: &Job,
        request: &Request,
        mut reply: Reply,
        raw: Option<&[u8]>,
    ) -> Vec<Vec<u8>> {
        let transfer = matches!(request.question.kind, RecordType::AXFR | RecordType::IXFR);
        if transfer && request.transport == Transport::Tcp && reply.answer.len() > TRANSFER_RECORDS
        {
            let records = std::mem::take(&mut reply.answer);
            let part = |records: &[hickory_proto::rr::Record]| {
                let part = Reply {
                    answer: records.to_vec(),
                    ..reply.clone()
                };
                codec::encode(&part, request, Vec::new()).0
            };
            return records.chunks(TRANSFER_RECORDS).map(part).collect();
        }
        let shuffled = job.shuffle && simple::is_shuffled(&reply);
        self.keep(job, request, &reply, shuffled, raw);
        if shuffled {
            for section in [
                &mut reply.answer,
                &mut reply.authority,
                &mut reply.additional,
            ] {
                simple::shuffle(section, &mut self.io.rng);
            }
        }
        vec![codec::encode(&reply, request, Vec::new()).0]
    }

    /// Keeps a reply for the next same question if nothing but the question decided it.
    fn keep(
        &mut self,
        job: &Job,
        request: &Request,
        reply: &Reply,
        shuffled: bool,
        raw: Option<&[u8]>,
    ) {
        let life = match job.keep {
            Keep::Steady => Life::Steady { epoch: self.epoch },
            Keep::Aging { stored, ttl } => Life::Aging { stored, ttl },
            Keep::No => return,
        };
        let Some(asked) = raw.and_then(hot::asked) else {
            return;
        };
        if request.transport != Transport::Udp || self.tracing {
            return;
        }
        let bare = Request {
            edns: None,
            ..request.clone()
        };
        let (bytes, layout) = codec::encode(reply, &bare, Vec::new());
        self.hot
            .keep(&asked, request.port, &bytes, &layout, shuffled, life);
    }
}

/// `next` of a forward works only where the next plugin is a forward.
fn mark_forwards(plugins: &mut [Plugin]) {
    let mut behind = false;
    for plugin in plugins.iter_mut().rev() {
        let is = matches!(plugin, Plugin::Forward(_));
        if let Plugin::Forward(forward) = plugin {
            forward.before_forward = behind;
        }
        behind = is;
    }
}
