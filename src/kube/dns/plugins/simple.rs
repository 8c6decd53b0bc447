//! Plugins of a few lines: `any`, `chaos`, `whoami`, `local`, `bufsize`, `loadbalance`'s shuffle and
//! `minimal`.

use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{HINFO, SRV, TXT};
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};

use super::super::config::Reader;
use super::super::corefile::Line;
use super::super::engine::{Ctx, Job, Keep, Step};
use super::super::message::{Ended, Reply, Transport};
use super::super::names;
use super::{Plugin, address_record};
use crate::base::Rng;

fn done(reply: Reply) -> Step {
    Step::Done(Ended::reply(reply))
}

/// RFC 8482: one HINFO record instead of all types.
pub(super) fn any(job: &mut Job, ctx: &mut Ctx<'_>) -> Step {
    if job.request.question.kind != RecordType::ANY {
        return Step::Next;
    }
    job.decide(ctx, "any", || {
        "ANY is answered with HINFO (RFC 8482)".to_owned()
    });
    let mut reply = Reply::to(&job.request, ResponseCode::NoError);
    reply.aa = true;
    let data = HINFO::new("ANY obsoleted".to_owned(), "See RFC 8482".to_owned());
    let name = job.request.name().clone();
    reply
        .answer
        .push(Record::from_rdata(name, 8_482, RData::HINFO(data)));
    done(reply)
}

/// `chaos [VERSION] [AUTHORS...]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chaos {
    version: String,
    authors: Vec<String>,
}

impl Chaos {
    pub(super) fn read(line: &Line) -> Chaos {
        let mut words = line.args.iter().map(|w| w.text.clone());
        Chaos {
            version: words.next().unwrap_or_else(|| "CoreDNS".to_owned()),
            authors: words.collect(),
        }
    }

    pub(super) fn serve(&self, job: &mut Job, ctx: &mut Ctx<'_>) -> Step {
        let question = &job.request.question;
        if question.class != DNSClass::CH || question.kind != RecordType::TXT {
            return Step::Next;
        }
        let texts = match names::lower_text(&question.name).as_str() {
            "version.bind." | "version.server." => vec![self.version.clone()],
            "authors.bind." => self.authors.clone(),
            "hostname.bind." | "id.server." => vec!["localhost".to_owned()],
            _ => return Step::Next,
        };
        job.decide(ctx, "chaos", || "answers about itself".to_owned());
        let mut reply = Reply::to(&job.request, ResponseCode::NoError);
        for text in texts {
            let data = RData::TXT(TXT::new(vec![text]));
            let mut record = Record::from_rdata(job.request.name().clone(), 0, data);
            record.dns_class = DNSClass::CH;
            reply.answer.push(record);
        }
        done(reply)
    }
}

/// Address and port of the client, in the additional section.
pub(super) fn whoami(job: &mut Job, ctx: &mut Ctx<'_>) -> Step {
    job.keep = Keep::No;
    job.decide(ctx, "whoami", || "tells the client its address".to_owned());
    let request = &job.request;
    let mut reply = Reply::to(request, ResponseCode::NoError);
    reply.aa = true;
    reply
        .additional
        .push(address_record(request.name().clone(), 0, request.source));
    let owner = names::under(&format!("_{}", request.transport.name()), request.name());
    if let Some(owner) = owner {
        let data = SRV::new(
            0,
            0,
            request.source_port,
            names::parse(".").unwrap_or_default(),
        );
        reply
            .additional
            .push(Record::from_rdata(owner, 0, RData::SRV(data)));
    }
    done(reply)
}

/// localhost, its addresses and the zones that no server should ask others about (RFC 6303).
pub(super) fn local(job: &mut Job, ctx: &mut Ctx<'_>) -> Step {
    let question = job.request.question.clone();
    let text = names::lower_text(&question.name);
    let zones = [
        "localhost.",
        "0.in-addr.arpa.",
        "127.in-addr.arpa.",
        "255.in-addr.arpa.",
    ];
    let inside = zones
        .iter()
        .any(|z| text == *z || text.ends_with(&format!(".{z}")));
    let loopback: IpAddr = match question.kind {
        RecordType::AAAA => std::net::Ipv6Addr::LOCALHOST.into(),
        _ => std::net::Ipv4Addr::LOCALHOST.into(),
    };
    let below = text.starts_with("localhost.") && text != "localhost.";
    if !inside && !below {
        return Step::Next;
    }
    job.decide(ctx, "local", || "a name of the machine itself".to_owned());
    let mut reply = Reply::to(&job.request, ResponseCode::NoError);
    reply.aa = true;
    let host = text.starts_with("localhost.");
    if host && matches!(question.kind, RecordType::A | RecordType::AAAA) {
        reply
            .answer
            .push(address_record(question.name, 604_800, loopback));
        return done(reply);
    }
    if text == "1.0.0.127.in-addr.arpa." && question.kind == RecordType::PTR {
        let target = names::parse("localhost").unwrap_or_default();
        let data = RData::PTR(hickory_proto::rr::rdata::PTR(target));
        reply
            .answer
            .push(Record::from_rdata(question.name, 604_800, data));
        return done(reply);
    }
    if !host {
        reply.rcode = ResponseCode::NXDomain;
    }
    let soa = "localhost. 604800 IN SOA localhost. root.localhost. 1 604800 86400 2419200 604800";
    reply.authority.extend(super::super::text::parse(soa));
    done(reply)
}

/// Lowers the size a UDP client advertised.
pub(super) fn bufsize(job: &mut Job, size: u16) -> Step {
    if let Some(edns) = job
        .request
        .edns
        .as_mut()
        .filter(|_| job.request.transport == Transport::Udp)
    {
        edns.payload = edns.payload.min(size);
    }
    Step::Next
}

/// `loadbalance [round_robin]`; `weighted` reads a file of weights, which is not modelled.
pub(super) fn loadbalance(line: &Line, reader: &mut Reader<'_>) -> Option<Plugin> {
    match line.args.first().map(|w| w.text.as_str()) {
        None | Some("round_robin") => {}
        Some("weighted") => {
            reader.warning(
                &line.name,
                "loadbalance weighted is not modelled: addresses are shuffled",
                "",
            );
        }
        Some(_) => reader.error(&line.name, "loadbalance takes round_robin or weighted", ""),
    }
    Some(Plugin::Loadbalance)
}

/// A permutation of `0..count`: the order in which things are taken.
pub(in super::super) fn permutation(rng: &mut Rng, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        let bound = u64::try_from(last + 1).unwrap_or(1);
        order.swap(last, usize::try_from(rng.below(bound)).unwrap_or(0));
    }
    order
}

/// CNAMEs first, then others, then addresses, then MX, the last two shuffled (`plugin/loadbalance`).
pub(in super::super) fn shuffle(records: &mut Vec<Record>, rng: &mut Rng) {
    let (mut cnames, mut others, mut addresses, mut mx) = (vec![], vec![], vec![], vec![]);
    for record in records.drain(..) {
        match record.record_type() {
            RecordType::CNAME => cnames.push(record),
            RecordType::A | RecordType::AAAA => addresses.push(record),
            RecordType::MX => mx.push(record),
            _ => others.push(record),
        }
    }
    for group in [&mut addresses, &mut mx] {
        let order = permutation(rng, group.len());
        *group = order
            .iter()
            .filter_map(|i| group.get(*i).cloned())
            .collect();
    }
    records.extend(cnames.into_iter().chain(others).chain(addresses).chain(mx));
}

/// Whether a reply's sections are shuffled at all.
pub(in super::super) fn is_shuffled(reply: &Reply) -> bool {
    let kind = reply.question.kind;
    reply.rcode == ResponseCode::NoError && !matches!(kind, RecordType::AXFR | RecordType::IXFR)
}

/// `minimal`: only what was asked for (`plugin/minimal`).
pub(in super::super) fn minimise(reply: &mut Reply) {
    let delegation = reply.answer.is_empty()
        && reply.rcode == ResponseCode::NoError
        && !reply
            .authority
            .iter()
            .any(|r| r.record_type() == RecordType::SOA);
    if reply.rcode == ResponseCode::NoError && !delegation && !reply.answer.is_empty() {
        reply.authority.clear();
        reply.additional.clear();
    }
}
