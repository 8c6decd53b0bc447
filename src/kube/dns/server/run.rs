//! A job's steps: through the plugins of the chosen server, and back through the frames they left.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RecordType};

use super::Responder;
use crate::base::Instant;
use crate::base::limits::DNS_STEPS_MAX;
use crate::kube::dns::config::Server;
use crate::kube::dns::engine::{Ctx, Frame, Job, Keep, Step};
use crate::kube::dns::message::{Ended, Reply, Request};
use crate::kube::dns::names;
use crate::kube::dns::plugins::kubernetes::Kubernetes;
use crate::kube::dns::plugins::{Plugin, header, log, simple};

impl Responder {
    /// Steps until a job has ended or waits.
    pub(super) fn run(
        &mut self,
        now: Instant,
        mut job: Job,
        mut step: Step,
    ) -> Option<(Job, Ended)> {
        for _ in 0..DNS_STEPS_MAX {
            step = match step {
                Step::Next => {
                    let at = job.at;
                    self.plugin(now, &mut job, at)
                }
                Step::At(at) => self.plugin(now, &mut job, at),
                Step::Root => self.enter(now, &mut job),
                Step::Wait => {
                    self.jobs.insert(job.id, job);
                    return None;
                }
                Step::Done(ended) => match job.pop() {
                    None => return Some((job, ended)),
                    Some(frame) => self.resume(now, frame, ended, &mut job),
                },
            };
        }
        Some((job, Ended::Code(ResponseCode::ServFail)))
    }

    /// Chooses the server block.
    fn enter(&mut self, now: Instant, job: &mut Job) -> Step {
        let request = &job.request;
        let chosen = choose(&self.servers, request);
        let text = || names::text(request.name());
        let decision = match chosen.and_then(|i| self.servers.get(i)) {
            None => format!("no server block for {}", text()),
            Some(server) => format!("block {} (port {})", server.key.text, server.port),
        };
        self.note(now, job, decision);
        match chosen {
            Some(server) => {
                if self
                    .servers
                    .get(server)
                    .is_some_and(|s| s.plugins.is_empty())
                {
                    return Step::Done(Ended::Code(ResponseCode::Refused));
                }
                (job.server, job.at) = (server, 0);
                Step::Next
            }
            None => Step::Done(Ended::Code(ResponseCode::Refused)),
        }
    }

    fn note(&mut self, now: Instant, job: &mut Job, what: String) {
        let ctx = Ctx {
            now,
            version: self.version,
            io: &mut self.io,
            kubes: &self.kubes,
            server: 0,
            plugin: 0,
        };
        job.decide(&ctx, "server", || what);
    }

    fn plugin(&mut self, now: Instant, job: &mut Job, at: usize) -> Step {
        job.at = at + 1;
        match self.plugin_at(now, job.server, at) {
            (Some(plugin), mut ctx) => plugin.serve(job, &mut ctx),
            // The chain fell off its end (`plugin.NextOrFailure`).
            (None, _) => Step::Done(Ended::Code(ResponseCode::ServFail)),
        }
    }

    /// Hands what came back to who waits for it.
    fn resume(&mut self, now: Instant, frame: Frame, ended: Ended, job: &mut Job) -> Step {
        let mut ctx = Ctx {
            now,
            version: self.version,
            io: &mut self.io,
            kubes: &self.kubes,
            server: job.server,
            plugin: job.at.saturating_sub(1),
        };
        match frame {
            Frame::Cache(fill) => {
                (ctx.server, ctx.plugin) = fill.place();
                let found = self
                    .servers
                    .get_mut(ctx.server)
                    .and_then(|s| s.plugins.get_mut(ctx.plugin));
                match found {
                    Some(Plugin::Cache(cache)) => cache.resume(fill, ended, job, &mut ctx),
                    _ => Step::Done(ended),
                }
            }
            Frame::Rewrite(undo) => undo.resume(ended, job),
            Frame::Cname(target) => target.resume(ended),
            Frame::Autopath(walk) => walk.resume(ended, job, &mut ctx),
            Frame::Header(rules) => {
                Step::Done(on_reply(ended, |reply| header::apply(&rules, reply)))
            }
            Frame::Minimal => Step::Done(on_reply(ended, simple::minimise)),
            Frame::Loadbalance => {
                if job.is_nearly_done() {
                    job.shuffle = true;
                    return Step::Done(ended);
                }
                job.keep = Keep::No;
                Step::Done(on_reply(ended, |reply| shuffle(reply, &mut ctx)))
            }
            Frame::Log(line) => {
                line.write(&ended, &mut ctx);
                Step::Done(ended)
            }
            Frame::Errors(subject) => {
                if let Ended::Code(rcode) = &ended {
                    let line = format!(
                        "[ERROR] plugin/errors: 2 {subject}: {}",
                        log::rcode_name(*rcode)
                    );
                    ctx.io.log(line);
                }
                Step::Done(ended)
            }
            Frame::Chain(chain) => match ctx.kubes.get(Kubernetes::of_chain(&chain)) {
                Some(kube) => {
                    job.keep = Keep::No;
                    kube.resume(chain, ended, job)
                }
                None => Step::Done(ended),
            },
            Frame::Probe { server, plugin } => {
                (ctx.server, ctx.plugin) = (server, plugin);
                let found = self
                    .servers
                    .get_mut(server)
                    .and_then(|s| s.plugins.get_mut(plugin));
                if let Some(Plugin::Loop(looping)) = found {
                    looping.ended(&ended, &mut ctx);
                }
                Step::Done(ended)
            }
        }
    }
}

/// The block with the longest zone; a DS question goes to the parent's block where there is one.
fn choose(servers: &[Server], request: &Request) -> Option<usize> {
    let name = request.name();
    let mut found: Vec<(usize, usize)> = Vec::new();
    for (i, server) in servers
        .iter()
        .enumerate()
        .filter(|(_, s)| s.port == request.port)
    {
        let best: Option<&Name> = names::longest(&server.zones, name);
        found.extend(best.map(|zone| (names::labels(zone), i)));
    }
    found.sort_by_key(|(labels, i)| (core::cmp::Reverse(*labels), *i));
    let first = found.first()?;
    if request.question.kind == RecordType::DS {
        return found.last().map(|(_, i)| *i);
    }
    Some(first.1)
}

fn on_reply(ended: Ended, act: impl FnOnce(&mut Reply)) -> Ended {
    match ended {
        Ended::Written(mut reply) => {
            act(&mut reply);
            Ended::Written(reply)
        }
        other => other,
    }
}

fn shuffle(reply: &mut Reply, ctx: &mut Ctx<'_>) {
    if simple::is_shuffled(reply) {
        for section in [
            &mut reply.answer,
            &mut reply.authority,
            &mut reply.additional,
        ] {
            simple::shuffle(section, &mut ctx.io.rng);
        }
    }
}
