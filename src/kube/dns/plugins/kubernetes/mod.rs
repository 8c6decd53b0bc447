//! `kubernetes`: Services, endpoints and pods as records.
//!
//! What a name stands for is in `find`, the zone's own records and transfers in `zone`, what is known of
//! the cluster in `index`. Semantics: kubernetes/dns `docs/specification.md` 1.1.0 as CoreDNS plays it
//! (`plugin/kubernetes/handler.go`, `plugin/backend_lookup.go`), its quirks included. Not modelled:
//! multicluster zones; `endpoint`, `tls`, `kubeconfig` and API rates, which say how the API is reached.

mod find;
mod index;
mod options;
mod selector;
mod zone;

use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{CNAME, NS, PTR, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::super::cluster::Objects;
use super::super::engine::{Ctx, Frame, Job, Step};
use super::super::message::{Ended, Reply};
use super::super::names;
use super::address_record;
use crate::base::limits::DNS_CNAME_CHAIN_MAX;
use find::{Finds, Found, Host, NoSuchName};
use index::Index;

pub use options::{Options, PodMode};

/// The version of the specification, as `dns-version` says it.
const SCHEMA: &str = "1.1.0";

/// See the module.
#[derive(Clone, Debug)]
pub struct Kubernetes {
    /// As configured.
    pub options: Options,
    index: Index,
    /// Seconds of Unix time at the last change.
    serial: u32,
}

/// What addresses a name has.
enum Addresses {
    Records(Vec<Record>),
    /// The chain leaves the zone: CNAMEs so far, and where the last leads.
    Outside(Vec<Record>, Name),
}

/// What was found in all.
enum Answer {
    Sections(Vec<Record>, Vec<Record>),
    Outside(Vec<Record>, Name),
}

/// A query that waits for what an ExternalName stands for outside the zone.
#[derive(Clone, Debug)]
pub struct Chain {
    cnames: Vec<Record>,
    zone: Name,
    plugin: usize,
}

impl Kubernetes {
    /// A plugin that knows nothing of the cluster yet.
    pub fn new(options: Options) -> Kubernetes {
        Kubernetes {
            options,
            index: Index::default(),
            serial: 0,
        }
    }

    /// Learns the cluster as it is now.
    pub fn learn(&mut self, objects: &Objects, unix: u32) {
        self.index = Index::build(objects, &self.options);
        self.serial = unix;
    }

    /// Whether every list that the plugin needs has arrived; `/ready` waits for it.
    pub fn is_synced(&self) -> bool {
        self.index.synced
    }

    /// The namespace of the pod with an address: `autopath @kubernetes` asks.
    pub fn namespace_of(&self, ip: IpAddr) -> Option<&str> {
        let pods = (self.options.pods == PodMode::Verified).then(|| self.index.pods(ip))?;
        pods.first().map(|(namespace, _)| namespace.as_str())
    }

    /// Answers a query, or passes it on.
    pub(in super::super) fn serve(&self, job: &mut Job, ctx: &mut Ctx<'_>, plugin: usize) -> Step {
        let question = job.request.question.clone();
        let Some(zone) = names::longest(&self.options.zones, &question.name) else {
            return Step::Next;
        };
        // The zone in the case of the query: owners and targets are written so.
        let zone = names::suffix(&question.name, names::labels(zone));
        match self.answer(question.kind, &question.name, &zone) {
            Some(Ok(Answer::Sections(answer, extra))) => {
                let what = match (answer.len(), self.index.len()) {
                    (0, _) => "the name exists, without records of this type".to_owned(),
                    (n, known) => format!("{n} records, of {known} Services known"),
                };
                job.decide(ctx, "kubernetes", || what);
                Step::Done(self.reply(job, &zone, answer, extra, false))
            }
            Some(Ok(Answer::Outside(cnames, target))) => {
                job.decide(ctx, "kubernetes", || {
                    format!("an ExternalName: looking up {}", names::text(&target))
                });
                let request = job.request.look_up(target, question.kind);
                let chain = Chain {
                    cnames,
                    zone,
                    plugin,
                };
                job.look_up(Frame::Chain(chain), request)
            }
            Some(Err(NoSuchName)) => self.missing(job, ctx, &zone),
            None => {
                job.decide(ctx, "kubernetes", || {
                    "transfers are the transfer plugin's".to_owned()
                });
                Step::Done(Ended::Code(ResponseCode::Refused))
            }
        }
    }

    /// The look-up outside has ended: CNAMEs, then what it found (`b.Lookup`). Its rcode does not matter.
    pub(in super::super) fn resume(&self, chain: Chain, ended: Ended, job: &Job) -> Step {
        let (mut answer, mut tc) = (chain.cnames, false);
        if let Ended::Written(reply) = ended {
            tc = reply.tc;
            answer.extend(reply.answer);
        }
        Step::Done(self.reply(job, &chain.zone, answer, Vec::new(), tc))
    }

    /// The chain's plugin among those of the server.
    pub(in super::super) fn of_chain(chain: &Chain) -> usize {
        chain.plugin
    }

    fn missing(&self, job: &mut Job, ctx: &mut Ctx<'_>, zone: &Name) -> Step {
        if self.options.fallthrough.through(job.request.name()) {
            job.decide(ctx, "kubernetes", || {
                "no such name: falls through".to_owned()
            });
            return Step::Next;
        }
        let rcode = if self.index.synced {
            ResponseCode::NXDomain
        } else {
            ResponseCode::ServFail
        };
        job.decide(ctx, "kubernetes", || match rcode {
            ResponseCode::NXDomain => "no such name".to_owned(),
            _ => "no such name yet: the API's lists have not arrived".to_owned(),
        });
        let mut reply = Reply::to(&job.request, rcode);
        reply.aa = true;
        reply.authority.extend(self.soa(zone));
        Step::Done(Ended::reply(reply))
    }

    fn reply(
        &self,
        job: &Job,
        zone: &Name,
        answer: Vec<Record>,
        extra: Vec<Record>,
        tc: bool,
    ) -> Ended {
        let mut reply = Reply::to(&job.request, ResponseCode::NoError);
        reply.aa = true;
        if answer.is_empty() {
            reply.authority.extend(self.soa(zone));
            return Ended::reply(reply);
        }
        (reply.answer, reply.additional, reply.tc) = (answer, extra, tc);
        Ended::reply(reply)
    }

    /// None for transfers.
    fn answer(
        &self,
        kind: RecordType,
        name: &Name,
        zone: &Name,
    ) -> Option<Result<Answer, NoSuchName>> {
        let apex = names::labels(name) == names::labels(zone);
        // CoreDNS compares the lower-cased name with the zone as asked.
        let plain_apex = apex && names::is_lower(zone);
        let sections = |answer: Vec<Record>| Answer::Sections(answer, Vec::new());
        Some(match kind {
            RecordType::AXFR | RecordType::IXFR => return None,
            RecordType::A | RecordType::AAAA => self.chase(kind, name, zone),
            RecordType::TXT => self.txt(name, zone).map(sections),
            RecordType::CNAME => self.services_of(kind, name, zone).map(|found| {
                let first = found.first().and_then(|f| self.cname(name, f));
                sections(first.into_iter().map(|(record, _)| record).collect())
            }),
            RecordType::PTR => match names::reverse_address(name) {
                None => self.records(name, zone).map(|_| sections(Vec::new())),
                Some(ip) => {
                    let ttl = self.options.ttl;
                    let record =
                        |target| Record::from_rdata(name.clone(), ttl, RData::PTR(PTR(target)));
                    let found: Vec<Record> = self.reverse(ip).into_iter().map(record).collect();
                    if found.is_empty() {
                        Err(NoSuchName)
                    } else {
                        Ok(sections(found))
                    }
                }
            },
            RecordType::MX => self
                .services_of(kind, name, zone)
                .map(|_| sections(Vec::new())),
            RecordType::SRV => self
                .services_of(kind, name, zone)
                .map(|found| self.srv(name, &found)),
            RecordType::SOA => Ok(sections(
                self.soa(zone).filter(|_| apex).into_iter().collect(),
            )),
            RecordType::NS if plain_apex => Ok(self.ns(name, zone)),
            // A look-up of A tells a missing name from one without records of the type.
            _ => self
                .addresses(RecordType::A, name, zone, &[])
                .map(|_| sections(Vec::new())),
        })
    }

    /// `Services`: the servers' name stands for addresses, everything else is in the index.
    fn services_of(&self, kind: RecordType, name: &Name, zone: &Name) -> Finds {
        let under_zone = names::labels(name).saturating_sub(names::labels(zone));
        let mut first = name.iter().take(2);
        let is = |label: Option<&[u8]>, text: &str| {
            label.is_some_and(|l| l.eq_ignore_ascii_case(text.as_bytes()))
        };
        let servers = under_zone == 2 && is(first.next(), "ns") && is(first.next(), "dns");
        if servers && names::is_lower(zone) {
            let servers = self.servers(zone).into_iter();
            let family = |ip: &IpAddr| match kind {
                RecordType::A => ip.is_ipv4(),
                RecordType::AAAA => ip.is_ipv6(),
                _ => false,
            };
            let found = servers.filter(|(_, ip)| family(ip)).map(|(_, ip)| Found {
                host: Host::Ip(ip),
                port: Some(0),
                owner: name.clone(),
            });
            return Ok(found.collect());
        }
        self.records(name, zone)
    }

    fn chase(&self, kind: RecordType, name: &Name, zone: &Name) -> Result<Answer, NoSuchName> {
        self.addresses(kind, name, zone, &[])
            .map(|addresses| match addresses {
                Addresses::Records(records) => Answer::Sections(records, Vec::new()),
                Addresses::Outside(cnames, target) => Answer::Outside(cnames, target),
            })
    }

    /// `A` and `AAAA` of backend_lookup.go. `before` are the CNAMEs that led here.
    fn addresses(
        &self,
        kind: RecordType,
        name: &Name,
        zone: &Name,
        before: &[Record],
    ) -> Result<Addresses, NoSuchName> {
        let mut records: Vec<Record> = Vec::new();
        for found in self.services_of(kind, name, zone)? {
            if let Host::Ip(ip) = found.host {
                let fits = ip.is_ipv4() == (kind == RecordType::A);
                let record = address_record(name.clone(), self.options.ttl, ip);
                if fits && !records.contains(&record) {
                    records.push(record);
                }
                continue;
            }
            let Some((cname, target)) = self.cname(name, &found) else {
                continue;
            };
            // x CNAME x, and circles, are left out (`DuplicateCNAME`); so is what is too long.
            let circle = target == *name || before.iter().any(|b| b.data == cname.data);
            if circle || before.len() > DNS_CNAME_CHAIN_MAX {
                continue;
            }
            if !zone.zone_of(&target) {
                return Ok(Addresses::Outside(vec![cname], target));
            }
            let mut chain = before.to_vec();
            chain.push(cname.clone());
            let zone = names::suffix(&target, names::labels(zone));
            match self.addresses(kind, &target, &zone, &chain) {
                Ok(Addresses::Records(more)) if !more.is_empty() => {
                    records.push(cname);
                    records.extend(more);
                }
                Ok(Addresses::Outside(more, target)) => {
                    let chain = std::iter::once(cname).chain(more).collect();
                    return Ok(Addresses::Outside(chain, target));
                }
                Ok(Addresses::Records(_)) | Err(NoSuchName) => {}
            }
        }
        Ok(Addresses::Records(records))
    }

    fn cname(&self, owner: &Name, found: &Found) -> Option<(Record, Name)> {
        let Host::Name(text) = &found.host else {
            return None;
        };
        let target = names::parse(text)?;
        let data = RData::CNAME(CNAME(target.clone()));
        Some((
            Record::from_rdata(owner.clone(), self.options.ttl, data),
            target,
        ))
    }

    fn txt(&self, name: &Name, zone: &Name) -> Result<Vec<Record>, NoSuchName> {
        let mut left = name
            .iter()
            .take(names::labels(name).saturating_sub(names::labels(zone)));
        let first = left.next();
        if left.next().is_none() && first.is_some_and(|l| l.eq_ignore_ascii_case(b"dns-version")) {
            let data = RData::TXT(TXT::new(vec![SCHEMA.to_owned()]));
            return Ok(vec![Record::from_rdata(name.clone(), 28_800, data)]);
        }
        let found = self.records(name, zone);
        let zonal = found.is_ok() && self.is_zonal(name, zone);
        if zonal || found.is_ok_and(|f| !f.is_empty()) {
            Ok(Vec::new())
        } else {
            Err(NoSuchName)
        }
    }

    /// `SRV` of backend_lookup.go: the weight is shared by all that matched, before doubles are left out.
    fn srv(&self, name: &Name, found: &[Found]) -> Answer {
        let (mut answer, mut extra): (Vec<Record>, Vec<Record>) = (Vec::new(), Vec::new());
        let inside = || found.iter().filter(|f| matches!(f.host, Host::Ip(_)));
        let weight = u16::try_from(100 / inside().count().max(1))
            .unwrap_or(1)
            .max(1);
        let ttl = self.options.ttl;
        for found in inside() {
            let (Some(port), Host::Ip(ip)) = (found.port, &found.host) else {
                continue;
            };
            let data = RData::SRV(SRV::new(0, weight, port, found.owner.clone()));
            let record = Record::from_rdata(name.clone(), ttl, data);
            if !answer.contains(&record) {
                answer.push(record);
            }
            let address = address_record(found.owner.clone(), ttl, *ip);
            if !extra.contains(&address) {
                extra.push(address);
            }
        }
        Answer::Sections(answer, extra)
    }

    fn ns(&self, name: &Name, zone: &Name) -> Answer {
        let ttl = self.options.ttl;
        let (mut answer, mut extra): (Vec<Record>, Vec<Record>) = (Vec::new(), Vec::new());
        for (server, ip) in self.servers(zone) {
            extra.push(address_record(server.clone(), ttl, ip));
            let record = Record::from_rdata(name.clone(), ttl, RData::NS(NS(server)));
            if !answer.contains(&record) {
                answer.push(record);
            }
        }
        Answer::Sections(answer, extra)
    }
}
