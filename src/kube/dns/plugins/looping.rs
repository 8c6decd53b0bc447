//! `loop`: finds that a server's queries come back to it, and ends the process (`plugin/loop`).
//!
//! At start it asks itself for HINFO of a random name in its zone. Seen more than twice: the query went
//! round. It stops looking two seconds after a reply came, or after 30 seconds. A loop that begins later is
//! not seen.

use core::time::Duration;

use hickory_proto::rr::{DNSClass, Name, RecordType};

use super::super::config::Reader;
use super::super::corefile::Line;
use super::super::engine::{Ctx, Job, Keep, Step, Timer};
use super::super::message::{Ended, Question, Request, Transport};
use super::super::names;
use crate::base::Instant;

/// How long it looks at all.
const LOOKS: Duration = Duration::from_secs(30);
/// How long after a reply it goes on.
const AFTER_REPLY: Duration = Duration::from_secs(2);
/// After a query without a reply.
const AGAIN: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Clone, Debug)]
pub struct Loop {
    zone: Name,
    /// The name it asks for; none when it no longer looks.
    asked: Option<Name>,
    seen: u32,
    until: Instant,
}

impl Loop {
    pub(super) fn read(_line: &Line, reader: &mut Reader<'_>) -> Loop {
        Loop {
            zone: reader.block_zones.first().cloned().unwrap_or_default(),
            asked: None,
            seen: 0,
            until: Instant::ZERO,
        }
    }

    /// The query that is sent at start, and again when none came back; none when time is over.
    pub(in super::super) fn probe(&mut self, ctx: &mut Ctx<'_>, first: bool) -> Option<Request> {
        if first {
            self.until = ctx.now + LOOKS;
            let mut random = || (ctx.io.rng.next_u64() >> 1).to_string();
            let labels = format!("{}.{}", random(), random());
            self.asked = names::under(&labels, &self.zone);
        }
        if ctx.now >= self.until {
            self.asked = None;
        }
        self.seen = 0;
        let name = self.asked.clone()?;
        Some(Request {
            id: u16::try_from(ctx.io.rng.below(1 << 16)).unwrap_or(0),
            question: Question {
                name,
                kind: RecordType::HINFO,
                class: DNSClass::IN,
            },
            rd: true,
            ad: false,
            cd: false,
            opcode: 0,
            edns: None,
            source: std::net::Ipv4Addr::LOCALHOST.into(),
            source_port: 0,
            port: 0,
            transport: Transport::Udp,
            serial: None,
        })
    }

    /// The query of [`Loop::probe`] has ended.
    pub(in super::super) fn ended(&self, ended: &Ended, ctx: &mut Ctx<'_>) {
        let (server, plugin) = (ctx.server, ctx.plugin);
        if self.asked.is_none() {
            return;
        }
        match ended {
            Ended::Dropped => ctx
                .io
                .after(ctx.now, AGAIN, Timer::Probe { server, plugin }),
            _ => ctx
                .io
                .after(ctx.now, AFTER_REPLY, Timer::ProbeDone { server, plugin }),
        }
    }

    /// It stops looking.
    pub(in super::super) fn stop(&mut self) {
        self.asked = None;
    }

    pub(super) fn serve(&mut self, job: &mut Job, ctx: &mut Ctx<'_>) -> Step {
        if job.request.question.kind != RecordType::HINFO {
            return Step::Next;
        }
        job.keep = Keep::No;
        if self.asked.as_ref() != Some(job.request.name()) {
            return Step::Next;
        }
        self.seen += 1;
        if self.seen > 2 {
            let line = format!(
                "Loop ({}:{} -> :{}) detected for zone \"{}\", see https://coredns.io/plugins/loop#troubleshooting. \
                 Query: \"HINFO {}\"",
                job.request.source,
                job.request.source_port,
                job.request.port,
                names::text(&self.zone),
                names::text(job.request.name()),
            );
            job.decide(ctx, "loop", || line.clone());
            ctx.io.log(format!("[FATAL] plugin/loop: {line}"));
            ctx.io.fatal = Some(line);
            return Step::Done(Ended::Dropped);
        }
        job.decide(ctx, "loop", || {
            format!("its own query, seen {} times", self.seen)
        });
        Step::Next
    }
}
