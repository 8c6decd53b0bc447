//! `forward`: asks other servers (`plugin/forward`, `plugin/pkg/proxy`, `plugin/pkg/up`).
//!
//! A query goes to the upstreams in the order of the policy until one answers: each has 2 s, all together 5 s
//! (looked at between tries, so one dead upstream is SERVFAIL after 6 s). An upstream that fails is checked
//! every 0.5 s until it answers anything, and is passed over once more than `max_fails` checks have failed;
//! when all are down one is asked nevertheless. Nothing is sent here: messages go to the caller, who says
//! what came of them. Not modelled: TLS, connections kept open (`expire`, `max_idle_conns`).

mod setup;

use std::net::SocketAddr;

use core::time::Duration;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{DNSClass, Name, RecordType};

use super::super::codec;
use super::super::corefile::Version;
use super::super::engine::{Ctx, Exchange, Job, Keep, Step, Timer};
use super::super::message::{Ended, Question, Reply, Request, Transport};
use super::log::rcode_name;
use super::simple::permutation;
use crate::base::Instant;

/// How long one upstream has.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// When no further upstream is tried.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long a health check waits.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// Which upstream is asked first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// Any.
    Random,
    /// The next one.
    RoundRobin,
    /// The first that is up.
    Sequential,
}

/// An upstream and how it is doing.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Where it is.
    pub address: SocketAddr,
    /// Health checks that failed in a row.
    pub fails: u32,
    checking: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Forward {
    from: Name,
    except: Vec<Name>,
    /// The upstreams in the order of the Corefile.
    pub upstreams: Vec<Upstream>,
    policy: Policy,
    max_fails: u32,
    force_tcp: bool,
    prefer_udp: bool,
    /// 0: no bound.
    max_concurrent: u64,
    max_attempts: Option<u32>,
    interval: Duration,
    check_name: Name,
    check_rd: bool,
    failfast: bool,
    failover: Vec<ResponseCode>,
    next: Vec<ResponseCode>,
    /// The next plugin is a forward, too: `next` works only then.
    pub(in super::super) before_forward: bool,
    concurrent: u64,
    robin: usize,
}

/// A query that is being forwarded.
#[derive(Clone, Debug)]
pub struct Attempt {
    list: Vec<usize>,
    at: usize,
    down: usize,
    deadline: Instant,
    tcp: bool,
    failures: u32,
    failovers: usize,
    upstream: usize,
    message: u16,
}

/// What came of a message to an upstream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// A message.
    Message(Vec<u8>),
    /// Nothing in time.
    Timeout,
    /// The connection or the port was refused, or broke.
    Broken,
}

impl Forward {
    pub(super) fn serve(&mut self, job: &mut Job, ctx: &mut Ctx<'_>) -> Step {
        let name = job.request.name();
        let excepted = *name != self.from && self.except.iter().any(|z| z.zone_of(name));
        if !self.from.zone_of(name) || excepted {
            return Step::Next;
        }
        job.keep = Keep::No;
        if self.max_concurrent > 0 && self.concurrent >= self.max_concurrent {
            job.decide(ctx, "forward", || {
                format!("{} queries are open: refused", self.concurrent)
            });
            return Step::Done(Ended::Code(ResponseCode::Refused));
        }
        self.concurrent += 1;
        job.forward = Some(Attempt {
            list: self.list(ctx),
            at: 0,
            down: 0,
            deadline: ctx.now + DEADLINE,
            tcp: self.force_tcp || (job.request.transport == Transport::Tcp && !self.prefer_udp),
            failures: 0,
            failovers: 0,
            upstream: 0,
            message: 0,
        });
        self.attempt(job, ctx)
    }

    fn list(&mut self, ctx: &mut Ctx<'_>) -> Vec<usize> {
        let count = self.upstreams.len();
        match self.policy {
            Policy::Sequential => (0..count).collect(),
            Policy::Random => permutation(&mut ctx.io.rng, count),
            Policy::RoundRobin => {
                self.robin = (self.robin + 1) % count.max(1);
                let first = self.robin;
                std::iter::once(first)
                    .chain((0..count).filter(|i| *i != first))
                    .collect()
            }
        }
    }

    fn is_down(&self, upstream: usize) -> bool {
        self.max_fails > 0
            && self
                .upstreams
                .get(upstream)
                .is_some_and(|u| u.fails > self.max_fails)
    }

    /// Asks the next upstream.
    fn attempt(&mut self, job: &mut Job, ctx: &mut Ctx<'_>) -> Step {
        let Some(mut attempt) = job.forward.take() else {
            return self.give_up(job, ctx);
        };
        let version = (ctx.version >= Version::V1_14)
            .then(|| 2 * u32::try_from(attempt.list.len()).unwrap_or(1));
        let most = self.max_attempts.or(version).filter(|most| *most > 0);
        if most.is_some_and(|most| attempt.failures >= most) {
            return self.give_up(job, ctx);
        }
        while ctx.now < attempt.deadline {
            if attempt.at >= attempt.list.len() {
                (attempt.at, attempt.down) = (0, 0);
            }
            let Some(&(mut upstream)) = attempt.list.get(attempt.at) else {
                break;
            };
            attempt.at += 1;
            if self.is_down(upstream) {
                attempt.down += 1;
                if attempt.down < self.upstreams.len() {
                    continue;
                }
                if self.failfast {
                    break;
                }
                // Perhaps the checks are wrong: any of them.
                upstream = permutation(&mut ctx.io.rng, self.upstreams.len())
                    .first()
                    .copied()
                    .unwrap_or(0);
            }
            attempt.upstream = upstream;
            return self.ask(attempt, job, ctx);
        }
        self.give_up(job, ctx)
    }

    fn ask(&mut self, mut attempt: Attempt, job: &mut Job, ctx: &mut Ctx<'_>) -> Step {
        let Some(upstream) = self.upstreams.get(attempt.upstream) else {
            return self.give_up(job, ctx);
        };
        let transport = if attempt.tcp {
            Transport::Tcp
        } else {
            Transport::Udp
        };
        let to = upstream.address;
        attempt.message = u16::try_from(ctx.io.rng.below(1 << 16)).unwrap_or(0);
        let bytes = codec::query(&job.request, attempt.message);
        let exchange = Exchange {
            job: Some(job.id),
            server: ctx.server,
            plugin: ctx.plugin,
            upstream: attempt.upstream,
            message: attempt.message,
            deadline: ctx.now + READ_TIMEOUT,
        };
        job.decide(ctx, "forward", || {
            format!("asks {to} over {}", transport.name())
        });
        ctx.io.send(exchange, to, transport, bytes);
        job.forward = Some(attempt);
        Step::Wait
    }

    fn give_up(&mut self, job: &mut Job, ctx: &mut Ctx<'_>) -> Step {
        self.concurrent = self.concurrent.saturating_sub(1);
        job.forward = None;
        job.decide(ctx, "forward", || "no upstream answered".to_owned());
        Step::Done(Ended::Code(ResponseCode::ServFail))
    }

    /// Something came of the message; none when it is not the reply (the id is another's) and waiting goes
    /// on.
    pub(in super::super) fn arrived(
        &mut self,
        arrival: &Arrival,
        job: &mut Job,
        ctx: &mut Ctx<'_>,
    ) -> Option<Step> {
        let Some(attempt) = job.forward.as_ref() else {
            return Some(self.give_up(job, ctx));
        };
        let Arrival::Message(bytes) = arrival else {
            let what = if *arrival == Arrival::Timeout {
                "no answer in 2 s"
            } else {
                "the connection failed"
            };
            return Some(self.failed(what, job, ctx));
        };
        let Some((id, reply)) = codec::reply(bytes) else {
            return Some(self.failed("the answer is no DNS message", job, ctx));
        };
        if id != attempt.message {
            return None;
        }
        Some(self.answered(reply, job, ctx))
    }

    fn failed(&mut self, what: &str, job: &mut Job, ctx: &mut Ctx<'_>) -> Step {
        let Some(attempt) = job.forward.as_mut() else {
            return self.give_up(job, ctx);
        };
        attempt.failures += 1;
        let (upstream, down) = (attempt.upstream, attempt.down);
        let address = self.upstreams.get(upstream).map(|u| u.address);
        job.decide(ctx, "forward", || match address {
            Some(address) => format!("{address}: {what}"),
            None => what.to_owned(),
        });
        if self.max_fails > 0 {
            self.check(upstream, ctx);
        }
        if down < self.upstreams.len() {
            self.attempt(job, ctx)
        } else {
            self.give_up(job, ctx)
        }
    }

    fn answered(&mut self, reply: Option<Reply>, job: &mut Job, ctx: &mut Ctx<'_>) -> Step {
        let Some(mut attempt) = job.forward.take() else {
            return self.give_up(job, ctx);
        };
        let reply = reply.filter(|r| r.question.matches(&job.request.question));
        let Some(mut reply) = reply else {
            self.concurrent = self.concurrent.saturating_sub(1);
            job.decide(ctx, "forward", || {
                "the answer is to another question".to_owned()
            });
            return Step::Done(Ended::reply(Reply::to(&job.request, ResponseCode::FormErr)));
        };
        if reply.tc && !attempt.tc_done() && self.prefer_udp && !self.force_tcp {
            attempt.tcp = true;
            return self.ask(attempt, job, ctx);
        }
        let count = reply.answer.len();
        job.decide(ctx, "forward", || {
            format!("answered {}, {count} records", rcode_name(reply.rcode))
        });
        if self.failover.contains(&reply.rcode) {
            attempt.failovers += 1;
            if attempt.failovers < self.upstreams.len() {
                job.forward = Some(attempt);
                return self.attempt(job, ctx);
            }
        }
        self.concurrent = self.concurrent.saturating_sub(1);
        if self.next.contains(&reply.rcode) && self.before_forward {
            job.decide(ctx, "forward", || "the next forward is asked".to_owned());
            return Step::Next;
        }
        reply.question = Question {
            name: reply.question.name,
            ..job.request.question.clone()
        };
        Step::Done(Ended::reply(reply))
    }

    /// Begins to check an upstream, if that is not under way.
    fn check(&mut self, upstream: usize, ctx: &mut Ctx<'_>) {
        if let Some(u) = self.upstreams.get_mut(upstream)
            && !std::mem::replace(&mut u.checking, true)
        {
            self.send_check(upstream, ctx);
        }
    }

    /// Sends a health check: `. NS` with RD.
    pub(in super::super) fn send_check(&mut self, upstream: usize, ctx: &mut Ctx<'_>) {
        let Some(to) = self.upstreams.get(upstream).map(|u| u.address) else {
            return;
        };
        let message = u16::try_from(ctx.io.rng.below(1 << 16)).unwrap_or(0);
        let transport = if self.force_tcp {
            Transport::Tcp
        } else {
            Transport::Udp
        };
        let request = Request {
            id: message,
            question: Question {
                name: self.check_name.clone(),
                kind: RecordType::NS,
                class: DNSClass::IN,
            },
            rd: self.check_rd,
            ad: false,
            cd: false,
            opcode: 0,
            edns: None,
            source: std::net::Ipv4Addr::UNSPECIFIED.into(),
            source_port: 0,
            port: 0,
            transport,
            serial: None,
        };
        let exchange = Exchange {
            job: None,
            server: ctx.server,
            plugin: ctx.plugin,
            upstream,
            message,
            deadline: ctx.now + CHECK_TIMEOUT,
        };
        ctx.io
            .send(exchange, to, transport, codec::query(&request, message));
    }

    /// What came of a health check: any reply is health.
    pub(in super::super) fn checked(
        &mut self,
        upstream: usize,
        arrival: &Arrival,
        ctx: &mut Ctx<'_>,
    ) {
        let healthy = matches!(arrival, Arrival::Message(bytes) if codec::reply(bytes).is_some());
        let interval = self.interval;
        let Some(u) = self.upstreams.get_mut(upstream) else {
            return;
        };
        if healthy {
            (u.fails, u.checking) = (0, false);
            return;
        }
        u.fails = u.fails.saturating_add(1);
        let (server, plugin) = (ctx.server, ctx.plugin);
        ctx.io.after(
            ctx.now,
            interval,
            Timer::Check {
                server,
                plugin,
                upstream,
            },
        );
    }
}

impl Attempt {
    /// Whether TCP was tried already.
    fn tc_done(&self) -> bool {
        self.tcp
    }
}
