//! `log`: a line for every query in the format of the Corefile; also what `errors` calls a query.
//!
//! Formats are text with labels in braces (CoreDNS `plugin/pkg/replacer`); a label that is none stays as it
//! is, metadata (`{/...}`) is `-`.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::Name;

use super::super::codec;
use super::super::config::Reader;
use super::super::corefile;
use super::super::engine::{Ctx, Frame, Job, Keep, Step};
use super::super::message::{Ended, Reply, Request};
use super::super::names;
use crate::base::Instant;
use std::net::IpAddr;
use std::sync::Arc;

/// Which replies are logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    All,
    Success,
    Denial,
    Error,
}

/// `log.CommonLogFormat`.
const COMMON: &str = "{remote}:{port} - {>id} \"{type} {class} {name} {proto} {size} {>do} {>bufsize}\" \
    {rcode} {>rflags} {rsize} {duration}";

/// See the module.
#[derive(Clone, Debug)]
pub struct Log {
    zones: Vec<Name>,
    classes: Vec<Class>,
    format: Arc<str>,
}

/// A query whose reply will be logged.
#[derive(Clone, Debug)]
pub struct Line {
    request: Request,
    began: Instant,
    classes: Vec<Class>,
    format: Arc<str>,
}

impl Log {
    /// `log [NAMES...] [FORMAT]`: the format is the last word where that has a brace.
    pub(super) fn read(line: &corefile::Line, reader: &mut Reader<'_>) -> Log {
        let mut zones = line.args.clone();
        let format = zones.pop_if(|w| w.text.contains('{'));
        let format = format.map_or(COMMON.to_owned(), |w| {
            let combined = format!("{COMMON} \"{{>opcode}}\"");
            w.text
                .replace("{common}", COMMON)
                .replace("{combined}", &combined)
        });
        let mut classes = Vec::new();
        for option in &line.body {
            for word in &option.args {
                classes.push(match word.text.as_str() {
                    "all" => Class::All,
                    "success" => Class::Success,
                    "denial" => Class::Denial,
                    "error" => Class::Error,
                    _ => {
                        reader.error(word, "class takes all, success, denial or error", "");
                        continue;
                    }
                });
            }
        }
        Log {
            zones: if zones.is_empty() {
                vec![Name::root()]
            } else {
                reader.zones(&zones)
            },
            classes: if classes.is_empty() {
                vec![Class::All]
            } else {
                classes
            },
            format: format.into(),
        }
    }

    pub(super) fn serve(&self, job: &mut Job, ctx: &mut Ctx<'_>) -> Step {
        if names::longest(&self.zones, job.request.name()).is_some() {
            job.keep = Keep::No;
            job.push(Frame::Log(Line {
                request: job.request.clone(),
                began: ctx.now,
                classes: self.classes.clone(),
                format: Arc::clone(&self.format),
            }));
        }
        Step::Next
    }
}

impl Line {
    /// Writes the line.
    pub(in super::super) fn write(&self, ended: &Ended, ctx: &mut Ctx<'_>) {
        let rcode = match ended {
            Ended::Written(reply) => reply.rcode,
            Ended::Code(rcode) => *rcode,
            Ended::Dropped => return,
        };
        let class = match rcode {
            ResponseCode::NoError => Class::Success,
            ResponseCode::NXDomain => Class::Denial,
            _ => Class::Error,
        };
        if !self.classes.iter().any(|c| *c == Class::All || *c == class) {
            return;
        }
        let reply = match ended {
            Ended::Written(reply) => Some(&**reply),
            _ => None,
        };
        let took = ctx.now.since(self.began).as_secs_f64();
        let (mut line, mut rest) = ("[INFO] ".to_owned(), &*self.format);
        while let Some((before, label, after)) = rest
            .split_once('{')
            .and_then(|(before, from)| Some((before, from.split_once('}')?)))
            .map(|(before, (label, after))| (before, label, after))
        {
            line.push_str(before);
            match label {
                "duration" => line.push_str(&format!("{took:.9}s")),
                "rcode" => line.push_str(&rcode_name(rcode)),
                _ => match self.label(label, reply) {
                    Some(value) => line.push_str(&value),
                    None => line.push_str(&format!("{{{label}}}")),
                },
            }
            rest = after;
        }
        line.push_str(rest);
        ctx.io.log(line);
    }

    /// What a label stands for.
    fn label(&self, label: &str, reply: Option<&Reply>) -> Option<String> {
        let (q, r) = (&self.request.question, &self.request);
        let written = |value: &dyn Fn(&Reply) -> String| reply.map_or("-".to_owned(), value);
        Some(match label {
            "type" => q.kind.to_string(),
            "class" => q.class.to_string(),
            "name" => names::text(&q.name),
            "proto" => r.transport.name().to_owned(),
            "remote" => match r.source {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("[{ip}]"),
            },
            "port" => r.source_port.to_string(),
            "size" => codec::query(r, r.id).len().to_string(),
            "rsize" => written(&|reply| codec::encode(reply, r, Vec::new()).0.len().to_string()),
            ">id" => r.id.to_string(),
            ">opcode" => r.opcode.to_string(),
            ">do" => r.dnssec_ok().to_string(),
            ">bufsize" => r.edns.map_or(512, |e| e.payload).to_string(),
            ">rflags" => written(&|reply| {
                let flags = [
                    (true, "qr"),
                    (reply.aa, "aa"),
                    (reply.tc, "tc"),
                    (r.rd, "rd"),
                    (reply.ra, "ra"),
                    (reply.ad, "ad"),
                    (r.cd, "cd"),
                ];
                let set = flags.iter().filter(|(on, _)| *on).map(|(_, name)| *name);
                set.collect::<Vec<_>>().join(",")
            }),
            _ if label.starts_with('/') => "-".to_owned(),
            _ => return None,
        })
    }
}

/// `name TYPE`, as `errors` begins its lines.
pub fn subject(request: &Request) -> String {
    format!(
        "{} {}",
        names::text(&request.question.name),
        request.question.kind
    )
}

/// A code as dig and CoreDNS write it.
pub fn rcode_name(rcode: ResponseCode) -> String {
    match rcode {
        ResponseCode::NoError => "NOERROR".to_owned(),
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        ResponseCode::NotAuth => "NOTAUTH".to_owned(),
        // 16 is BADSIG, too, in TSIG records only.
        other if u16::from(other) == 16 => "BADVERS".to_owned(),
        other => format!("RCODE{}", u16::from(other)),
    }
}

/// A code from its name.
pub fn rcode(text: &str) -> Option<ResponseCode> {
    (0..=23_u16)
        .map(|code| {
            ResponseCode::from(
                u8::try_from(code >> 4).unwrap_or(0),
                u8::try_from(code & 15).unwrap_or(0),
            )
        })
        .find(|code| rcode_name(*code).eq_ignore_ascii_case(text))
}
