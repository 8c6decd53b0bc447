//! `header`: sets or clears aa, ra and rd of queries and responses.

use super::super::config::Reader;
use super::super::corefile::Line;
use super::super::engine::{Frame, Job, Step};
use super::super::message::Reply;

/// One flag and what it becomes.
type Rule = (char, bool);
/// What is done to replies.
pub type Rules = Vec<Rule>;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Header {
    query: Rules,
    response: Rules,
}

impl Header {
    pub(super) fn read(lines: &[&Line], reader: &mut Reader<'_>) -> Header {
        let mut out = Header::default();
        for line in lines.iter().flat_map(|l| &l.body) {
            let mut words: Vec<&str> = std::iter::once(&line.name)
                .chain(&line.args)
                .map(|w| w.text.as_str())
                .collect();
            let query = match words.first() {
                Some(&("query" | "response")) => words.remove(0) == "query",
                _ => false,
            };
            let value = match words.first() {
                Some(&"set") => true,
                Some(&"clear") => false,
                _ => {
                    reader.unknown_option(line, "header");
                    continue;
                }
            };
            for flag in words.iter().skip(1) {
                let rule = match *flag {
                    "aa" => ('a', value),
                    "ra" => ('r', value),
                    "rd" => ('d', value),
                    _ => {
                        reader.error(
                            &line.name,
                            format!("`{flag}` is no flag"),
                            "write aa, ra or rd",
                        );
                        continue;
                    }
                };
                if query {
                    out.query.push(rule)
                } else {
                    out.response.push(rule)
                }
            }
        }
        out
    }

    pub(super) fn serve(&self, job: &mut Job) -> Step {
        for (flag, value) in &self.query {
            if *flag == 'd' {
                job.request.rd = *value;
            }
        }
        job.push(Frame::Header(self.response.clone()));
        Step::Next
    }
}

/// Applies rules to a reply. RD is always the query's: it is set there.
pub(in super::super) fn apply(rules: &[Rule], reply: &mut Reply) {
    for (flag, value) in rules {
        match flag {
            'a' => reply.aa = *value,
            'r' => reply.ra = *value,
            _ => {}
        }
    }
}
