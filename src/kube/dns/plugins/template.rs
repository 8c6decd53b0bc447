//! `template`: answers made of patterns and Go templates (`plugin/template`).
//!
//! Of Go's templates: `{{ .Name }}`, `.Zone`, `.Type`, `.Class`, `.Regex`, `.Remote`, `.Group.NAME`,
//! `.Question.Name`, `index .Match N`, `index .Group "NAME"`, `parseInt .X BASE BITS` and pipes into nothing;
//! others are an error where they stand.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};
use regex_lite::Regex;

use super::super::config::{Fallthrough, Reader};
use super::super::corefile::{Line, Word};
use super::super::engine::{Ctx, Job, Keep, Step};
use super::super::message::{Ended, Reply};
use super::super::{names, text};
use super::log;

/// A piece of a Go template.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Text(String),
    Name,
    Zone,
    Type,
    Class,
    Remote,
    Regex,
    Match(usize),
    Group(String),
    ParseInt(Box<Piece>, u32),
}

/// One `template` directive.
#[derive(Clone, Debug)]
struct Template {
    zones: Vec<Name>,
    class: Option<DNSClass>,
    kind: Option<RecordType>,
    patterns: Vec<Regex>,
    answer: Vec<Vec<Piece>>,
    authority: Vec<Vec<Piece>>,
    additional: Vec<Vec<Piece>>,
    rcode: ResponseCode,
    fallthrough: Fallthrough,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Templates {
    templates: Vec<Template>,
}

impl Templates {
    pub(super) fn read(lines: &[&Line], reader: &mut Reader<'_>) -> Templates {
        Templates {
            templates: lines
                .iter()
                .filter_map(|line| template(line, reader))
                .collect(),
        }
    }

    pub(super) fn serve(&self, job: &mut Job, ctx: &mut Ctx<'_>) -> Step {
        for template in &self.templates {
            let question = job.request.question.clone();
            let Some(zone) = names::longest(&template.zones, &question.name) else {
                continue;
            };
            let any = |kind: RecordType| kind == RecordType::ANY;
            if template
                .class
                .is_some_and(|c| c != question.class && question.class != DNSClass::ANY)
                || template
                    .kind
                    .is_some_and(|k| k != question.kind && !any(question.kind))
            {
                continue;
            }
            let name = names::lower_text(&question.name);
            let Some(found) = template
                .patterns
                .iter()
                .find_map(|p| Some((p, p.captures(&name)?)))
            else {
                if template.fallthrough.through(&question.name) {
                    continue;
                }
                job.decide(ctx, "template", || {
                    "no pattern fits, and no fallthrough".to_owned()
                });
                return Step::Done(Ended::Code(ResponseCode::ServFail));
            };
            job.keep = Keep::No;
            job.decide(ctx, "template", || {
                format!("the pattern {} fits", found.0.as_str())
            });
            if template.rcode == ResponseCode::ServFail {
                return Step::Done(Ended::Code(template.rcode));
            }
            let facts = Facts {
                name: &name,
                zone: names::text(zone),
                kind: question.kind.to_string(),
                class: question.class.to_string(),
                remote: job.request.source.to_string(),
                pattern: found.0,
                groups: &found.1,
            };
            let mut reply = Reply::to(&job.request, template.rcode);
            reply.aa = true;
            let mut ok = true;
            for (from, to) in [
                (&template.answer, &mut reply.answer),
                (&template.authority, &mut reply.authority),
                (&template.additional, &mut reply.additional),
            ] {
                for pieces in from {
                    match facts.record(pieces) {
                        Some(record) => to.push(record),
                        None => ok = false,
                    }
                }
            }
            if !ok {
                job.decide(ctx, "template", || {
                    "what the template makes is no record".to_owned()
                });
                return Step::Done(Ended::Code(ResponseCode::ServFail));
            }
            return Step::Done(Ended::reply(reply));
        }
        Step::Next
    }
}

/// What the pieces stand for.
struct Facts<'a> {
    name: &'a str,
    zone: String,
    kind: String,
    class: String,
    remote: String,
    pattern: &'a Regex,
    groups: &'a regex_lite::Captures<'a>,
}

impl Facts<'_> {
    fn text(&self, piece: &Piece) -> Option<String> {
        Some(match piece {
            Piece::Text(text) => text.clone(),
            Piece::Name => self.name.to_owned(),
            Piece::Zone => self.zone.clone(),
            Piece::Type => self.kind.clone(),
            Piece::Class => self.class.clone(),
            Piece::Remote => self.remote.clone(),
            Piece::Regex => self.pattern.as_str().to_owned(),
            Piece::Match(i) => self.groups.get(*i).map_or("", |m| m.as_str()).to_owned(),
            Piece::Group(name) => {
                let found = match name.parse() {
                    Ok(i) => self.groups.get(i),
                    Err(_) => self.groups.name(name),
                };
                found.map_or("", |m| m.as_str()).to_owned()
            }
            Piece::ParseInt(inner, base) => u64::from_str_radix(&self.text(inner)?, *base)
                .ok()?
                .to_string(),
        })
    }

    fn record(&self, pieces: &[Piece]) -> Option<Record> {
        let line: Option<String> = pieces.iter().map(|p| self.text(p)).collect();
        text::parse(&line?)
    }
}

fn template(line: &Line, reader: &mut Reader<'_>) -> Option<Template> {
    let [class, kind, zones @ ..] = line.args.as_slice() else {
        reader.error(
            &line.name,
            "template needs a class and a type",
            "write template IN A [ZONES...]",
        );
        return None;
    };
    let class = match class.text.to_ascii_uppercase().as_str() {
        "ANY" => None,
        "IN" => Some(DNSClass::IN),
        "CH" => Some(DNSClass::CH),
        _ => {
            reader.error(class, "this is no class", "write IN or ANY");
            return None;
        }
    };
    let kind = match kind.text.to_ascii_uppercase().as_str() {
        "ANY" => None,
        name => match text::kind(name) {
            Some(kind) => Some(kind),
            None => {
                reader.error(kind, "this is no record type", "write A, AAAA ... or ANY");
                return None;
            }
        },
    };
    let mut out = Template {
        zones: reader.zones_or_block(zones),
        class,
        kind,
        patterns: Vec::new(),
        answer: Vec::new(),
        authority: Vec::new(),
        additional: Vec::new(),
        rcode: ResponseCode::NoError,
        fallthrough: Fallthrough::default(),
    };
    for option in &line.body {
        match option.name.text.as_str() {
            "match" => out
                .patterns
                .extend(option.args.iter().filter_map(|w| pattern(w, reader))),
            "answer" => out
                .answer
                .extend(option.args.iter().filter_map(|w| pieces(w, reader))),
            "authority" => out
                .authority
                .extend(option.args.iter().filter_map(|w| pieces(w, reader))),
            "additional" => out
                .additional
                .extend(option.args.iter().filter_map(|w| pieces(w, reader))),
            "rcode" => match option.args.first().and_then(|w| log::rcode(&w.text)) {
                Some(rcode) => out.rcode = rcode,
                None => reader.error(
                    &option.name,
                    "this is no response code",
                    "write NXDOMAIN, REFUSED ...",
                ),
            },
            "fallthrough" => out.fallthrough = reader.fallthrough(&option.args),
            "upstream" => {}
            "ederror" => reader.warning(&option.name, "extended errors are not written", ""),
            _ => reader.unknown_option(option, "template"),
        }
    }
    if out.patterns.is_empty() {
        out.patterns.extend(Regex::new(".*").ok());
    }
    Some(out)
}

/// A pattern of Go's RE2; what this machine's does not read is an error at its place.
pub(super) fn pattern(word: &Word, reader: &mut Reader<'_>) -> Option<Regex> {
    match Regex::new(&word.text) {
        Ok(pattern) => Some(pattern),
        Err(e) => {
            reader.error(
                word,
                format!("this pattern cannot be read: {e}"),
                "patterns are those of Go's regexp",
            );
            None
        }
    }
}

fn pieces(word: &Word, reader: &mut Reader<'_>) -> Option<Vec<Piece>> {
    let (mut out, mut rest) = (Vec::new(), word.text.as_str());
    while let Some((before, after)) = rest.split_once("{{") {
        out.push(Piece::Text(before.to_owned()));
        let (action, behind) = after.split_once("}}")?;
        let action = action.trim().trim_matches('-').trim();
        let words: Vec<&str> = action.split_whitespace().collect();
        match piece(&words) {
            Some(piece) => out.push(piece),
            None => {
                let message = format!("`{action}` of a Go template is not modelled");
                reader.error(
                    word,
                    message,
                    "modelled: .Name .Zone .Type .Class .Remote .Group.NAME, index .Match N",
                );
                return None;
            }
        }
        rest = behind;
    }
    out.push(Piece::Text(rest.to_owned()));
    Some(out)
}

fn piece(words: &[&str]) -> Option<Piece> {
    Some(match words {
        [".Name"] | [".Question.Name"] => Piece::Name,
        [".Zone"] => Piece::Zone,
        [".Type"] => Piece::Type,
        [".Class"] => Piece::Class,
        [".Remote"] => Piece::Remote,
        [".Regex"] => Piece::Regex,
        ["index", ".Match", n] => Piece::Match(n.parse().ok()?),
        ["index", ".Group", name] => Piece::Group(name.trim_matches('"').to_owned()),
        ["parseInt", inner @ .., base, _bits] => {
            let base = base.parse().ok().filter(|b| (2..=36).contains(b))?;
            Piece::ParseInt(Box::new(piece(inner)?), base)
        }
        [one] => Piece::Group(one.strip_prefix(".Group.")?.to_owned()),
        _ => return None,
    })
}
