//! `acl`: who may ask for what. `allow|block|filter|drop [type TYPES...] [net CIDRS...]`, the first that
//! fits.

use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RecordType};
use ipnetwork::IpNetwork;

use super::super::config::Reader;
use super::super::corefile::Line;
use super::super::engine::{Ctx, Job, Keep, Step};
use super::super::message::{Ended, Reply};
use super::super::{names, text};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    Allow,
    Block,
    Filter,
    Drop,
}

#[derive(Clone, Debug)]
struct Policy {
    action: Action,
    /// Empty: all.
    kinds: Vec<RecordType>,
    /// Empty: all.
    nets: Vec<IpNetwork>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Acl {
    rules: Vec<(Vec<Name>, Vec<Policy>)>,
}

impl Acl {
    pub(super) fn read(lines: &[&Line], reader: &mut Reader<'_>) -> Acl {
        let mut out = Acl::default();
        for line in lines {
            let zones = reader.zones_or_block(&line.args);
            let policies = line.body.iter().filter_map(|l| policy(l, reader)).collect();
            out.rules.push((zones, policies));
        }
        out
    }

    pub(super) fn serve(&self, job: &mut Job, ctx: &mut Ctx<'_>) -> Step {
        job.keep = Keep::No;
        for (zones, policies) in &self.rules {
            if names::longest(zones, job.request.name()).is_none() {
                continue;
            }
            let (source, kind) = (job.request.source, job.request.question.kind);
            let fits = |p: &&Policy| p.fits(source, kind);
            let Some(policy) = policies.iter().find(fits) else {
                continue;
            };
            job.decide(ctx, "acl", || {
                format!("{:?} {source} {kind}", policy.action).to_lowercase()
            });
            match policy.action {
                Action::Allow => return Step::Next,
                Action::Drop => return Step::Done(Ended::Dropped),
                Action::Block => {
                    return Step::Done(Ended::reply(Reply::to(
                        &job.request,
                        ResponseCode::Refused,
                    )));
                }
                Action::Filter => {
                    return Step::Done(Ended::reply(Reply::to(
                        &job.request,
                        ResponseCode::NoError,
                    )));
                }
            }
        }
        Step::Next
    }
}

impl Policy {
    fn fits(&self, source: IpAddr, kind: RecordType) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&kind))
            && (self.nets.is_empty() || self.nets.iter().any(|n| n.contains(source)))
    }
}

fn policy(line: &Line, reader: &mut Reader<'_>) -> Option<Policy> {
    let action = match line.name.text.as_str() {
        "allow" => Action::Allow,
        "block" => Action::Block,
        "filter" => Action::Filter,
        "drop" => Action::Drop,
        _ => {
            reader.unknown_option(line, "acl");
            return None;
        }
    };
    let (mut kinds, mut nets, mut section) = (Vec::new(), Vec::new(), "");
    for word in &line.args {
        match (word.text.as_str(), section) {
            (word @ ("type" | "net"), _) => section = word,
            ("*", "type") => kinds.clear(),
            ("*", "net") => nets.clear(),
            (kind, "type") => match text::kind(kind) {
                Some(found) => kinds.push(found),
                None => reader.error(
                    word,
                    format!("`{kind}` is no record type"),
                    "write A, AAAA, PTR ...",
                ),
            },
            (text, "net") => match text.parse() {
                Ok(net) => nets.push(net),
                Err(_) => reader.error(word, format!("`{text}` is no CIDR"), "write 10.0.0.0/8"),
            },
            (text, _) => reader.error(word, format!("`{text}`: type or net was expected"), ""),
        }
    }
    Some(Policy {
        action,
        kinds,
        nets,
    })
}
