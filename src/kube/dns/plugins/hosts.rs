//! `hosts`: a hosts file and lines of the Corefile (`plugin/hosts`).
//!
//! A known name without records of the type is NODATA without SOA; an unknown one goes to the next plugin
//! with `fallthrough`, else SERVFAIL. Changes of the file come with a new configuration here.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::PTR;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::super::config::{Fallthrough, Reader};
use super::super::corefile::Line;
use super::super::engine::{Ctx, Job, Step};
use super::super::message::{Ended, Reply};
use super::super::names;
use super::address_record;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    zones: Vec<Name>,
    by_name: BTreeMap<String, Vec<IpAddr>>,
    by_address: BTreeMap<IpAddr, Vec<Name>>,
    ttl: u32,
    reverse: bool,
    fallthrough: Fallthrough,
}

impl Hosts {
    pub(super) fn read(line: &Line, reader: &mut Reader<'_>) -> Hosts {
        let file = line.args.first().map_or("/etc/hosts", |w| w.text.as_str());
        let zones = line.args.get(1..).unwrap_or_default();
        let mut out = Hosts {
            zones: reader.zones_or_block(zones),
            ttl: 3_600,
            reverse: true,
            ..Hosts::default()
        };
        match reader.environment.around.files.get(file) {
            Some(text) => {
                for line in text.lines() {
                    let line = line.split('#').next().unwrap_or_default();
                    let mut words = line.split_whitespace();
                    if let Some(ip) = words.next().and_then(|ip| ip.parse().ok()) {
                        out.add(ip, words);
                    }
                }
            }
            None if line.args.is_empty() => {}
            None => reader.warning(
                &line.name,
                format!("there is no file {file}: its names are unknown"),
                "",
            ),
        }
        // The file stands before the lines of the Corefile, whose flags hold for both.
        for option in &line.body {
            let words = || option.args.iter().map(|w| w.text.as_str());
            match option.name.text.as_str() {
                "fallthrough" => out.fallthrough = reader.fallthrough(&option.args),
                "no_reverse" => out.reverse = false,
                "ttl" => out.ttl = reader.number(option, 0).unwrap_or(out.ttl),
                "reload" => {}
                text => match text.parse() {
                    Ok(ip) => out.add(ip, words()),
                    Err(_) => reader.unknown_option(option, "hosts"),
                },
            }
        }
        out
    }

    fn add<'a>(&mut self, ip: IpAddr, words: impl Iterator<Item = &'a str>) {
        for name in words.filter_map(names::parse) {
            if names::longest(&self.zones, &name).is_none() {
                continue;
            }
            self.by_name
                .entry(names::lower_text(&name))
                .or_default()
                .push(ip);
            self.by_address.entry(ip).or_default().push(name);
        }
    }

    pub(super) fn serve(&self, job: &mut Job, ctx: &mut Ctx<'_>) -> Step {
        let question = &job.request.question;
        let name = question.name.clone();
        let reverse = names::reverse_address(&name);
        let mut reply = Reply::to(&job.request, ResponseCode::NoError);
        reply.aa = true;
        if question.kind == RecordType::PTR {
            let found = reverse
                .filter(|_| self.reverse)
                .and_then(|ip| self.by_address.get(&ip));
            let Some(found) = found else {
                return Step::Next;
            };
            for target in found {
                let data = RData::PTR(PTR(target.clone()));
                reply
                    .answer
                    .push(Record::from_rdata(name.clone(), self.ttl, data));
            }
        } else {
            if names::longest(&self.zones, &name).is_none() {
                return Step::Next;
            }
            let Some(found) = self.by_name.get(&names::lower_text(&name)) else {
                if self.fallthrough.through(&name) {
                    return Step::Next;
                }
                job.decide(ctx, "hosts", || "the name is not in the file".to_owned());
                return Step::Done(Ended::Code(ResponseCode::ServFail));
            };
            let fits = |ip: &&IpAddr| match question.kind {
                RecordType::A => ip.is_ipv4(),
                RecordType::AAAA => ip.is_ipv6(),
                _ => false,
            };
            let ips = found.iter().filter(fits);
            reply
                .answer
                .extend(ips.map(|ip| address_record(name.clone(), self.ttl, *ip)));
        }
        let count = reply.answer.len();
        job.decide(ctx, "hosts", || {
            format!("the name is in the file: {count} records")
        });
        Step::Done(Ended::reply(reply))
    }
}
