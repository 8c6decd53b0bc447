//! `file`: zones of master files (`plugin/file`), for small zones: no DNSSEC, no wildcards below wildcards.
//!
//! RFC 1034 section 4.3.2: delegations, CNAMEs inside the zone, wildcards, NODATA and NXDOMAIN with the SOA.

use std::collections::BTreeMap;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::super::config::{Fallthrough, Reader};
use super::super::corefile::Line;
use super::super::engine::{Ctx, Job, Step};
use super::super::message::{Ended, Reply};
use super::super::{names, text};
use crate::base::limits::DNS_CNAME_CHAIN_MAX;

/// One zone's records.
#[derive(Clone, Debug)]
pub struct Zone {
    origin: Name,
    records: BTreeMap<String, Vec<Record>>,
    soa: Option<Record>,
    fallthrough: Fallthrough,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Files {
    zones: Vec<Zone>,
}

impl Files {
    pub(super) fn read(lines: &[&Line], reader: &mut Reader<'_>) -> Files {
        let mut out = Files::default();
        for line in lines {
            let Some(file) = line.args.first() else {
                reader.error(
                    &line.name,
                    "file needs a zone file",
                    "write file PATH [ZONES...]",
                );
                continue;
            };
            let origins = reader.zones_or_block(line.args.get(1..).unwrap_or_default());
            let mut fallthrough = Fallthrough::default();
            for option in &line.body {
                match option.name.text.as_str() {
                    "fallthrough" => fallthrough = reader.fallthrough(&option.args),
                    "reload" | "upstream" => {}
                    _ => reader.unknown_option(option, "file"),
                }
            }
            let Some(content) = reader.environment.around.files.get(&file.text).cloned() else {
                reader.error(
                    file,
                    format!("there is no file {}", file.text),
                    "hand it in with the Corefile",
                );
                continue;
            };
            for origin in origins {
                let (records, findings) = text::zone(&file.text, &content, &origin);
                reader.add(findings);
                let zone = Zone::new(origin, records, fallthrough.clone());
                if zone.soa.is_none() {
                    reader.error(
                        file,
                        "the zone file has no SOA record of its zone",
                        "begin it with @ IN SOA ...",
                    );
                }
                out.zones.push(zone);
            }
        }
        out
    }

    fn find(&self, name: &Name) -> Option<&Zone> {
        let fits = self.zones.iter().filter(|z| z.origin.zone_of(name));
        fits.max_by_key(|z| names::labels(&z.origin))
    }

    /// The whole zone, for the `transfer` plugin.
    pub(in super::super) fn transfer(&self, name: &Name) -> Option<Vec<Record>> {
        let zone = self.zones.iter().find(|z| z.origin == *name)?;
        let soa = zone.soa.clone()?;
        let others = zone
            .records
            .values()
            .flatten()
            .filter(|r| r.record_type() != RecordType::SOA);
        Some(
            std::iter::once(soa.clone())
                .chain(others.cloned())
                .chain([soa])
                .collect(),
        )
    }

    pub(super) fn serve(&self, job: &mut Job, ctx: &mut Ctx<'_>) -> Step {
        let Some(zone) = self.find(job.request.name()) else {
            return Step::Next;
        };
        let mut reply = Reply::to(&job.request, ResponseCode::NoError);
        reply.aa = true;
        let (name, kind) = (job.request.name().clone(), job.request.question.kind);
        if matches!(kind, RecordType::AXFR | RecordType::IXFR) {
            return Step::Done(Ended::Code(ResponseCode::Refused));
        }
        zone.answer(&name, kind, &mut reply);
        if reply.rcode == ResponseCode::NXDomain && zone.fallthrough.through(&name) {
            return Step::Next;
        }
        let count = reply.answer.len();
        job.decide(ctx, "file", || {
            format!(
                "{} from zone {}: {count} records",
                reply.rcode,
                names::text(&zone.origin)
            )
        });
        Step::Done(Ended::reply(reply))
    }
}

impl Zone {
    fn new(origin: Name, records: Vec<Record>, fallthrough: Fallthrough) -> Zone {
        let mut by_name: BTreeMap<String, Vec<Record>> = BTreeMap::new();
        let soa = records
            .iter()
            .find(|r| r.record_type() == RecordType::SOA && r.name == origin);
        let soa = soa.cloned();
        for record in records {
            by_name
                .entry(names::lower_text(&record.name))
                .or_default()
                .push(record);
        }
        Zone {
            origin,
            records: by_name,
            soa,
            fallthrough,
        }
    }

    fn at(&self, name: &Name) -> Option<&Vec<Record>> {
        self.records.get(&names::lower_text(name))
    }

    /// Whether a name exists: it has records, or a name below it has.
    fn exists(&self, name: &Name) -> bool {
        let below = format!(".{}", names::lower_text(name));
        self.at(name).is_some() || self.records.keys().any(|k| k.ends_with(&below))
    }

    /// The delegation above a name.
    fn delegation(&self, name: &Name) -> Option<&Vec<Record>> {
        let (all, own) = (names::labels(name), names::labels(&self.origin));
        (own + 1..=all).find_map(|count| {
            let records = self.at(&names::suffix(name, count))?;
            records
                .iter()
                .any(|r| r.record_type() == RecordType::NS)
                .then_some(records)
        })
    }

    fn answer(&self, name: &Name, kind: RecordType, reply: &mut Reply) {
        let mut name = name.clone();
        for _ in 0..=DNS_CNAME_CHAIN_MAX {
            if let Some(cut) = self.delegation(&name) {
                let servers = cut.iter().filter(|r| r.record_type() == RecordType::NS);
                reply.authority.extend(servers.cloned());
                reply.aa = !reply.answer.is_empty();
                self.glue(reply);
                return;
            }
            let found = match self.at(&name) {
                Some(records) => records.clone(),
                None if self.exists(&name) => Vec::new(),
                None => match self.wildcard(&name) {
                    Some(records) => records,
                    None => {
                        if reply.answer.is_empty() {
                            reply.rcode = ResponseCode::NXDomain;
                        }
                        reply.authority.extend(self.soa.clone());
                        return;
                    }
                },
            };
            let wanted = |r: &&Record| r.record_type() == kind || kind == RecordType::ANY;
            let answer: Vec<Record> = found.iter().filter(wanted).cloned().collect();
            if !answer.is_empty() {
                reply.answer.extend(answer);
                let own = self.at(&self.origin).into_iter().flatten();
                if kind != RecordType::NS && kind != RecordType::SOA {
                    reply
                        .authority
                        .extend(own.filter(|r| r.record_type() == RecordType::NS).cloned());
                }
                self.glue(reply);
                return;
            }
            let target = found.iter().find_map(|r| match &r.data {
                RData::CNAME(target) => Some((r.clone(), target.0.clone())),
                _ => None,
            });
            let Some((cname, target)) = target else {
                reply.authority.extend(self.soa.clone());
                return;
            };
            reply.answer.push(cname);
            if !self.origin.zone_of(&target) {
                return;
            }
            name = target;
        }
    }

    /// `*` of the closest name above that exists.
    fn wildcard(&self, name: &Name) -> Option<Vec<Record>> {
        let (all, own) = (names::labels(name), names::labels(&self.origin));
        let closest = (own..all)
            .rev()
            .map(|n| names::suffix(name, n))
            .find(|n| self.exists(n))?;
        let star = names::join(std::iter::once(&b"*"[..]), &closest)?;
        let owned = |r: &Record| Record::from_rdata(name.clone(), r.ttl, r.data.clone());
        self.at(&star)
            .map(|records| records.iter().map(owned).collect())
    }

    fn glue(&self, reply: &mut Reply) {
        let targets: Vec<Name> = reply
            .records()
            .filter_map(|r| match &r.data {
                RData::NS(n) => Some(n.0.clone()),
                RData::MX(mx) => Some(mx.exchange.clone()),
                RData::SRV(srv) => Some(srv.target.clone()),
                _ => None,
            })
            .collect();
        for target in targets {
            let records = self.at(&target).into_iter().flatten();
            for record in
                records.filter(|r| matches!(r.record_type(), RecordType::A | RecordType::AAAA))
            {
                if !reply.additional.contains(record) {
                    reply.additional.push(record.clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(name: &str, kind: RecordType) -> (ResponseCode, Vec<String>, usize) {
        let origin = names::parse("ex.test").unwrap();
        let text = "$TTL 60\n@ SOA ns h 1 1 1 1 1\n@ NS ns\nns A 10.0.0.1\nwww CNAME web\nweb A 10.0.0.2\n\
            *.w A 10.0.0.3\na.b.c A 10.0.0.4\nsub NS ns.sub\nns.sub A 10.0.0.5\nout CNAME x.other.\n";
        let (records, findings) = text::zone("db", text, &origin);
        assert_eq!(findings, []);
        let zone = Zone::new(origin, records, Fallthrough::default());
        let question = super::super::super::message::Question {
            name: names::parse(name).unwrap(),
            kind,
            class: hickory_proto::rr::DNSClass::IN,
        };
        let mut reply = Reply {
            rcode: ResponseCode::NoError,
            aa: true,
            ra: false,
            tc: false,
            ad: false,
            question,
            answer: vec![],
            authority: vec![],
            additional: vec![],
        };
        zone.answer(&names::parse(name).unwrap(), kind, &mut reply);
        (
            reply.rcode,
            reply.answer.iter().map(text::line).collect(),
            reply.authority.len(),
        )
    }

    #[test]
    fn a_zone_answers_as_rfc_1034_says() {
        use ResponseCode::{NXDomain, NoError};
        let one = |s: &str| vec![s.to_owned()];
        assert_eq!(
            ask("web.ex.test", RecordType::A),
            (NoError, one("web.ex.test. 60 IN A 10.0.0.2"), 1)
        );
        assert_eq!(ask("www.ex.test", RecordType::A).1.len(), 2);
        assert_eq!(
            ask("x.y.w.ex.test", RecordType::A).1,
            one("x.y.w.ex.test. 60 IN A 10.0.0.3")
        );
        assert_eq!(ask("b.c.ex.test", RecordType::A), (NoError, vec![], 1));
        assert_eq!(ask("nope.ex.test", RecordType::A), (NXDomain, vec![], 1));
        assert_eq!(ask("h.sub.ex.test", RecordType::A), (NoError, vec![], 1));
        assert_eq!(
            ask("out.ex.test", RecordType::A).1,
            one("out.ex.test. 60 IN CNAME x.other.")
        );
        assert_eq!(
            ask("ex.test", RecordType::NS).1,
            one("ex.test. 60 IN NS ns.ex.test.")
        );
    }
}
