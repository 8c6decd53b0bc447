//! `transfer`: AXFR and IXFR of the zones of `kubernetes` and `file` (`plugin/transfer`).

use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RecordType};
use ipnetwork::IpNetwork;

use super::super::config::Reader;
use super::super::corefile::Line;
use super::super::engine::{Ctx, Job, Keep, Step};
use super::super::message::{Ended, Reply};
use super::super::names;
use super::file::Files;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Transfer {
    /// Zones and who may have them; an empty list is everyone.
    rules: Vec<(Vec<Name>, Vec<IpAddr>, bool)>,
    kube: Option<usize>,
    /// The zone files of the block.
    pub(in super::super) files: Files,
}

impl Transfer {
    pub(super) fn read(lines: &[&Line], reader: &mut Reader<'_>, kube: Option<usize>) -> Transfer {
        let mut out = Transfer {
            rules: Vec::new(),
            kube,
            files: Files::default(),
        };
        for line in lines {
            let zones = reader.zones_or_block(&line.args);
            let (mut hosts, mut everyone) = (Vec::new(), false);
            for option in &line.body {
                if option.name.text != "to" {
                    reader.unknown_option(option, "transfer");
                    continue;
                }
                for word in &option.args {
                    let bare = word
                        .text
                        .split_once("://")
                        .map_or(word.text.as_str(), |(_, rest)| rest);
                    let host = bare.parse::<std::net::SocketAddr>().map(|a| a.ip());
                    match host.or_else(|_| bare.parse::<IpNetwork>().map(|n| n.ip())) {
                        _ if bare == "*" => everyone = true,
                        Ok(ip) => hosts.push(ip),
                        Err(_) => reader.error(
                            word,
                            format!("`{bare}` is no address"),
                            "write * or an address",
                        ),
                    }
                }
            }
            if hosts.is_empty() && !everyone {
                reader.error(
                    &line.name,
                    "transfer needs `to`",
                    "write to * or to ADDRESS",
                );
            }
            out.rules.push((zones, hosts, everyone));
        }
        out
    }

    pub(super) fn serve(&self, job: &mut Job, ctx: &mut Ctx<'_>) -> Step {
        let kind = job.request.question.kind;
        if !matches!(kind, RecordType::AXFR | RecordType::IXFR) {
            return Step::Next;
        }
        job.keep = Keep::No;
        let name = job.request.name().clone();
        let rule = self
            .rules
            .iter()
            .filter_map(|rule| Some((names::labels(names::longest(&rule.0, &name)?), rule)));
        let Some((_, (_, hosts, everyone))) = rule.max_by_key(|(labels, _)| *labels) else {
            return Step::Next;
        };
        if !everyone && !hosts.contains(&job.request.source) {
            let source = job.request.source;
            job.decide(ctx, "transfer", || format!("{source} may not transfer"));
            return Step::Done(Ended::Code(ResponseCode::Refused));
        }
        let serial = (kind == RecordType::IXFR)
            .then_some(job.request.serial)
            .flatten();
        let kube = self.kube.and_then(|i| ctx.kubes.get(i));
        let cluster = kube.and_then(|k| k.transfer(&name, serial));
        let Some(records) = cluster.or_else(|| self.files.transfer(&name)) else {
            return Step::Next;
        };
        job.decide(ctx, "transfer", || format!("{} records", records.len()));
        let mut reply = Reply::to(&job.request, ResponseCode::NoError);
        reply.answer = records;
        Step::Done(Ended::reply(reply))
    }
}
