//! `log`: a line for every query, in the common format of CoreDNS; also what `errors` calls a query.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::Name;

use super::super::config::Reader;
use super::super::corefile;
use super::super::engine::{Ctx, Frame, Job, Keep, Step};
use super::super::message::{Ended, Request};
use super::super::names;
use crate::base::Instant;

/// Which replies are logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    All,
    Success,
    Denial,
    Error,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Log {
    zones: Vec<Name>,
    classes: Vec<Class>,
}

/// A query whose reply will be logged.
#[derive(Clone, Debug)]
pub struct Line {
    request: Request,
    began: Instant,
    classes: Vec<Class>,
}

impl Log {
    pub(super) fn read(line: &corefile::Line, reader: &mut Reader<'_>) -> Log {
        let zones: Vec<_> = line
            .args
            .iter()
            .filter(|w| !w.text.contains('{'))
            .cloned()
            .collect();
        if zones.len() != line.args.len() {
            reader.warning(
                &line.name,
                "formats of log are not modelled: the common format is used",
                "",
            );
        }
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
        }
    }

    pub(super) fn serve(&self, job: &mut Job, ctx: &mut Ctx<'_>) -> Step {
        if names::longest(&self.zones, job.request.name()).is_some() {
            job.keep = Keep::No;
            job.push(Frame::Log(Line {
                request: job.request.clone(),
                began: ctx.now,
                classes: self.classes.clone(),
            }));
        }
        Step::Next
    }
}

impl Line {
    /// Writes the line (`{remote}:{port} - {>id} "{type} {class} {name} {proto} {size} {>do} {>bufsize}"
    /// {rcode} {>rflags} {rsize} {duration}`), without the octets of either message.
    pub(in super::super) fn write(&self, ended: &Ended, ctx: &mut Ctx<'_>) {
        let (rcode, flags) = match ended {
            Ended::Written(reply) => {
                let flags = [
                    (true, "qr"),
                    (reply.aa, "aa"),
                    (reply.tc, "tc"),
                    (self.request.rd, "rd"),
                    (reply.ra, "ra"),
                ];
                let set = flags.iter().filter(|(on, _)| *on).map(|(_, name)| *name);
                (reply.rcode, set.collect::<Vec<_>>().join(","))
            }
            Ended::Code(rcode) => (*rcode, "-".to_owned()),
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
        let (q, r) = (&self.request.question, &self.request);
        let took = ctx.now.since(self.began).as_secs_f64();
        ctx.io.log(format!(
            "[INFO] {}:{} - {} \"{} {} {} {} {} {}\" {} {flags} {took:.9}s",
            r.source,
            r.source_port,
            r.id,
            q.kind,
            q.class,
            names::text(&q.name),
            r.transport.name(),
            r.dnssec_ok(),
            r.edns.map_or(512, |e| e.payload),
            rcode_name(rcode),
        ));
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
