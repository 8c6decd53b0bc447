//! `rewrite`: changes what is asked, and undoes or changes it in the reply (`plugin/rewrite`).
//!
//! Rules are tried in order; a fitting one ends the search unless it says `continue`. What each does to names
//! is text work on the lower-cased name, as in CoreDNS, its quirks included: `prefix` and `substring`
//! arguments get a final dot (`rules`). EDNS options are read but not carried: `edns0` only adds the OPT
//! record.

mod rules;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, Record};
use regex_lite::Regex;

use super::super::config::Reader;
use super::super::corefile::Line;
use super::super::engine::{Ctx, Frame, Job, Step};
use super::super::message::{Edns, Ended, Question, Reply, Request};
use super::super::names;
use rules::{Rule, What};

/// How a name is recognised.
#[derive(Clone, Debug)]
enum Match {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Substring(String),
    Regex(Regex),
}

/// How a text is changed.
#[derive(Clone, Debug)]
enum Change {
    /// A name and what is below it becomes another.
    Remap(String, String),
    /// An end becomes another.
    Suffix(String, String),
    /// What fits a pattern becomes another, with `{N}` for its groups.
    Regex(Regex, String),
}

/// What is done to a reply.
#[derive(Clone, Debug)]
enum Response {
    /// To the owners of records.
    Names(Change),
    /// To the names in their data.
    Values(Change),
    /// TTLs are brought between two.
    Ttl(u32, u32),
    /// One code becomes another.
    Rcode(ResponseCode, ResponseCode),
    /// The target of a CNAME is replaced and looked up.
    Cname(Match, String),
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Rewrite {
    rules: Vec<Rule>,
}

/// What a reply needs to fit the question that was asked.
#[derive(Clone, Debug)]
pub struct Undo {
    question: Question,
    edns: Option<Edns>,
    responses: Vec<Response>,
}

/// A reply that waits for the new target of its CNAME.
#[derive(Clone, Debug)]
pub struct CnameTarget {
    reply: Box<Reply>,
    /// How many records stay in front.
    kept: usize,
}

impl Rewrite {
    pub(super) fn read(lines: &[&Line], reader: &mut Reader<'_>) -> Rewrite {
        let mut rules: Vec<Rule> = Vec::new();
        for line in lines {
            if line.body.is_empty() {
                rules.extend(rules::read(line, &line.args, reader));
            }
            // `rewrite [continue|stop] { name ...; answer ... }`: one rule in several lines.
            let mut words = line.args.clone();
            for inner in &line.body {
                words.push(inner.name.clone());
                words.extend(inner.args.iter().cloned());
            }
            if !line.body.is_empty() {
                rules.extend(rules::read(line, &words, reader));
            }
        }
        Rewrite { rules }
    }

    pub(super) fn serve(&self, job: &mut Job, ctx: &mut Ctx<'_>) -> Step {
        let mut undo = Undo {
            question: job.request.question.clone(),
            edns: job.request.edns,
            responses: Vec::new(),
        };
        for rule in &self.rules {
            let Some(mut responses) = rule.apply(&mut job.request) else {
                continue;
            };
            if rule.invalid(&job.request) {
                job.request.question = undo.question;
                return Step::Done(Ended::Code(ResponseCode::ServFail));
            }
            undo.responses.append(&mut responses);
            if rule.stop {
                let now = &job.request.question;
                let text = format!("now {} {}", names::text(&now.name), now.kind);
                job.decide(ctx, "rewrite", || text);
                job.push(Frame::Rewrite(undo));
                return Step::Next;
            }
        }
        if !undo.responses.is_empty() {
            job.push(Frame::Rewrite(undo));
        }
        Step::Next
    }
}

impl Undo {
    /// The reply goes back: `ResponseReverter`.
    pub(in super::super) fn resume(self, ended: Ended, job: &mut Job) -> Step {
        let mut reply = match ended {
            Ended::Written(reply) => reply,
            Ended::Code(rcode) => Box::new(Reply::to(&job.request, rcode)),
            Ended::Dropped => return Step::Done(Ended::Dropped),
        };
        job.request.question = self.question.clone();
        job.request.edns = self.edns;
        reply.question = self.question;
        for response in self.responses.iter().rev() {
            if let Response::Rcode(from, to) = response
                && reply.rcode == *from
            {
                reply.rcode = *to;
            }
            for record in reply.records_mut() {
                response.apply(record);
            }
        }
        for response in &self.responses {
            if let Response::Cname(from, to) = response
                && let Some((kept, target)) = retarget(&mut reply, from, to)
            {
                let request = job.request.look_up(target, job.request.question.kind);
                return job.look_up(Frame::Cname(CnameTarget { reply, kept }), request);
            }
        }
        Step::Done(Ended::Written(reply))
    }
}

impl CnameTarget {
    /// The new target has been looked up.
    pub(in super::super) fn resume(mut self, ended: Ended) -> Step {
        if let Ended::Written(found) = ended {
            self.reply.answer.truncate(self.kept);
            self.reply.answer.extend(found.answer);
            self.reply.tc = found.tc;
        }
        Step::Done(Ended::Written(self.reply))
    }
}

/// The first CNAME whose target fits gets the new one; how many records stay.
fn retarget(reply: &mut Reply, from: &Match, to: &str) -> Option<(usize, Name)> {
    for (i, record) in reply.answer.iter_mut().enumerate() {
        let RData::CNAME(target) = &mut record.data else {
            continue;
        };
        let Some(text) = from.rewrite(&names::lower_text(&target.0), to) else {
            continue;
        };
        let name = names::parse(&text)?;
        target.0 = name.clone();
        return Some((i + 1, name));
    }
    None
}

impl Match {
    fn fits(&self, name: &str) -> bool {
        match self {
            Match::Exact(text) => name == text,
            Match::Prefix(text) => name.starts_with(text.as_str()),
            Match::Suffix(text) => name.ends_with(text.as_str()),
            Match::Substring(text) => name.contains(text.as_str()),
            Match::Regex(pattern) => pattern.is_match(name),
        }
    }

    /// The name with `to` in the place of what fits; none where nothing does.
    fn rewrite(&self, name: &str, to: &str) -> Option<String> {
        match self {
            Match::Exact(text) => (name == text).then(|| to.to_owned()),
            Match::Prefix(text) => name
                .strip_prefix(text.as_str())
                .map(|rest| format!("{to}{rest}")),
            Match::Suffix(text) => name
                .strip_suffix(text.as_str())
                .map(|rest| format!("{rest}{to}")),
            Match::Substring(text) => name
                .contains(text.as_str())
                .then(|| name.replace(text.as_str(), to)),
            Match::Regex(pattern) => groups(pattern, name, to),
        }
    }
}

/// `{N}` of `to` replaced by the groups of a match.
fn groups(pattern: &Regex, name: &str, to: &str) -> Option<String> {
    let found = pattern.captures(name)?;
    let mut out = to.to_owned();
    for i in 0..found.len() {
        let group = found.get(i).map_or("", |m| m.as_str());
        out = out.replace(&format!("{{{i}}}"), group);
    }
    Some(out)
}

impl Change {
    fn text(&self, text: &str) -> Option<String> {
        match self {
            Change::Remap(from, to) if text == from => Some(to.clone()),
            Change::Remap(from, to) => {
                let rest = text
                    .strip_suffix(from.as_str())
                    .filter(|rest| rest.ends_with('.'))?;
                Some(format!("{rest}{to}"))
            }
            Change::Suffix(from, to) => text
                .strip_suffix(from.as_str())
                .map(|rest| format!("{rest}{to}")),
            Change::Regex(pattern, to) => groups(pattern, text, to),
        }
    }

    fn name(&self, name: &mut Name) {
        let changed = self
            .text(&names::text(name))
            .and_then(|text| names::parse(&text));
        if let Some(changed) = changed {
            *name = changed;
        }
    }
}

impl Response {
    fn apply(&self, record: &mut Record) {
        match self {
            Response::Names(change) => change.name(&mut record.name),
            Response::Values(change) => match &mut record.data {
                RData::SRV(srv) => change.name(&mut srv.target),
                RData::MX(mx) => change.name(&mut mx.exchange),
                RData::CNAME(name) => change.name(&mut name.0),
                RData::NS(name) => change.name(&mut name.0),
                RData::PTR(name) => change.name(&mut name.0),
                RData::SOA(soa) => change.name(&mut soa.mname),
                _ => {}
            },
            Response::Ttl(least, most) => {
                record.ttl = record.ttl.max(*least).min((*most).max(*least))
            }
            Response::Rcode(..) | Response::Cname(..) => {}
        }
    }
}

impl Rule {
    /// Changes a request; what its reply needs then. None where the rule does not fit.
    fn apply(&self, request: &mut Request) -> Option<Vec<Response>> {
        let name = names::lower_text(request.name());
        match &self.what {
            What::Name {
                from,
                to,
                auto,
                answers,
            } => {
                let text = from.rewrite(&name, to)?;
                request.question.name = names::parse(&text).unwrap_or_else(Name::root);
                let mut responses = Vec::new();
                if *auto {
                    let (change, suffix) = match from {
                        Match::Suffix(old) => (Change::Suffix(to.clone(), old.clone()), true),
                        _ => (Change::Remap(text.clone(), name), false),
                    };
                    let _ = suffix;
                    responses = vec![Response::Names(change.clone()), Response::Values(change)];
                }
                responses.extend(answers.iter().cloned());
                Some(responses)
            }
            What::Type(from, to) => {
                (request.question.kind == *from).then(|| request.question.kind = *to)?;
                Some(Vec::new())
            }
            What::Class(from, to) => {
                (request.question.class == *from).then(|| request.question.class = *to)?;
                Some(Vec::new())
            }
            What::Response(from, response) => from.fits(&name).then(|| vec![response.clone()]),
            What::Always(response) => Some(vec![response.clone()]),
            What::Edns => {
                let plain = Edns {
                    payload: 4_096,
                    dnssec_ok: false,
                    version: 0,
                };
                request.edns.get_or_insert(plain);
                Some(Vec::new())
            }
        }
    }

    /// Whether a rewritten name is none.
    fn invalid(&self, request: &Request) -> bool {
        let empty = request.name().iter().next().is_none();
        empty && matches!(&self.what, What::Name { to, .. } if to != ".")
    }
}
