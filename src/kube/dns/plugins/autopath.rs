//! `autopath`: walks the client's search list on the server (`plugin/autopath`).
//!
//! `@kubernetes`: the list is that of the pod with the source address, so pods must be `verified`. The first
//! reply that is not NXDOMAIN is given, under a CNAME from the name that was asked; else the first of all.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::CNAME;
use hickory_proto::rr::{Name, RData, Record};

use super::super::config::Reader;
use super::super::corefile::Line;
use super::super::engine::{Ctx, Frame, Job, Keep, Step};
use super::super::message::{Ended, Request};
use super::super::names;
use super::kubernetes::Kubernetes;

/// Where the list comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Source {
    Kubernetes(Option<usize>),
    File(Vec<Name>),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Autopath {
    zones: Vec<Name>,
    source: Source,
    /// The server's own search list: tried after the cluster's.
    own: Vec<Name>,
}

/// A walk over names.
#[derive(Clone, Debug)]
pub struct Walk {
    asked: Request,
    /// Names still to be tried, the next one last.
    left: Vec<Name>,
    first: Option<Ended>,
    /// The plugin behind autopath.
    next: usize,
}

impl Autopath {
    pub(super) fn read(line: &Line, reader: &mut Reader<'_>, kube: Option<usize>) -> Autopath {
        let search = &reader.environment.search;
        let own: Vec<Name> = search.iter().filter_map(|s| names::parse(s)).collect();
        let (last, zones) = match line.args.split_last() {
            Some((last, zones)) => (Some(last), zones),
            None => (None, line.args.as_slice()),
        };
        let source = match last.map(|w| w.text.as_str()) {
            Some("@kubernetes") => {
                if kube.is_none() {
                    reader.error(
                        &line.name,
                        "autopath @kubernetes needs kubernetes in its block",
                        "add kubernetes",
                    );
                }
                Source::Kubernetes(kube)
            }
            Some(file) if !file.starts_with('@') => {
                let text = reader
                    .environment
                    .around
                    .files
                    .get(file)
                    .cloned()
                    .unwrap_or_default();
                let mut lines = text
                    .lines()
                    .filter_map(|l| l.trim().strip_prefix("search "));
                let last = lines.next_back().unwrap_or_default();
                let mut list: Vec<Name> =
                    last.split_whitespace().filter_map(names::parse).collect();
                list.push(Name::root());
                Source::File(list)
            }
            _ => {
                reader.error(
                    &line.name,
                    "autopath needs a resolv.conf or @kubernetes",
                    "write autopath @kubernetes",
                );
                Source::Kubernetes(None)
            }
        };
        Autopath {
            zones: reader.zones_or_block(zones),
            source,
            own,
        }
    }

    fn list(&self, request: &Request, kubes: &[Kubernetes]) -> Option<Vec<Name>> {
        let kube = match &self.source {
            Source::File(list) => return Some(list.clone()),
            Source::Kubernetes(kube) => kubes.get((*kube)?)?,
        };
        let zone = names::longest(&kube.options.zones, request.name())?;
        let namespace = kube.namespace_of(request.source)?;
        let svc = names::under("svc", zone)?;
        let mut list = vec![names::under(namespace, &svc)?, svc, zone.clone()];
        list.extend(self.own.iter().cloned());
        list.push(Name::root());
        Some(list)
    }

    pub(super) fn serve(&self, job: &mut Job, ctx: &mut Ctx<'_>) -> Step {
        job.keep = Keep::No;
        if names::longest(&self.zones, job.request.name()).is_none() {
            return Step::Next;
        }
        let Some(list) = self.list(&job.request, ctx.kubes) else {
            return Step::Next;
        };
        let name = job.request.name();
        let Some(first) = list.first().filter(|first| first.zone_of(name)) else {
            return Step::Next;
        };
        let base: Vec<&[u8]> = name
            .iter()
            .take(names::labels(name) - names::labels(first))
            .collect();
        let tried = list
            .iter()
            .rev()
            .filter_map(|s| names::join(base.iter().copied(), s));
        let walk = Walk {
            left: tried.collect(),
            first: None,
            next: ctx.plugin + 1,
            asked: job.request.clone(),
        };
        job.decide(ctx, "autopath", || {
            format!("a search list of {} names is walked", walk.left.len())
        });
        walk.go(job)
    }
}

impl Walk {
    fn go(mut self, job: &mut Job) -> Step {
        let Some(name) = self.left.pop() else {
            job.request = self.asked;
            return Step::Done(self.first.unwrap_or(Ended::Code(ResponseCode::ServFail)));
        };
        job.request = self.asked.clone();
        job.request.question.name = name;
        let next = self.next;
        job.push(Frame::Autopath(self));
        Step::At(next)
    }

    /// One name has been answered.
    pub(in super::super) fn resume(
        mut self,
        ended: Ended,
        job: &mut Job,
        ctx: &mut Ctx<'_>,
    ) -> Step {
        let again = match &ended {
            Ended::Written(reply) => reply.rcode == ResponseCode::NXDomain,
            Ended::Code(_) => true,
            Ended::Dropped => false,
        };
        if again {
            self.first.get_or_insert(ended);
            return self.go(job);
        }
        let found = names::text(job.request.name());
        job.request = self.asked.clone();
        let Ended::Written(mut reply) = ended else {
            return Step::Done(ended);
        };
        job.decide(ctx, "autopath", || {
            format!("{found} is the first that exists")
        });
        let asked = self.asked.question;
        reply.question = asked.clone();
        // `cnamer`: a CNAME from what was asked to the owner of the first record, with its TTL.
        let first = reply.answer.iter().find(|r| r.name != asked.name);
        if let Some(first) = first {
            let data = RData::CNAME(CNAME(first.name.clone()));
            let cname = Record::from_rdata(asked.name, first.ttl, data);
            reply.answer.insert(0, cname);
        }
        Step::Done(Ended::Written(reply))
    }
}
