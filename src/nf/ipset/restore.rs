//! The text of `ipset save`, and what `ipset restore` accepts, line by line.
//!
//! libipset ipset.c `ipset_parse_stream`, `build_argv`. Carries lines out with [`Sets::command`].
//! Invariant: a line
//! that cannot be used gives one finding with its place and changes nothing; the next line is read.

use std::sync::Arc;

use super::command::Answer;
use super::sets::Sets;
use super::wrong::Wrong;
use crate::base::limits::NF_FINDINGS_MAX;
use crate::base::{Finding, Instant, Span};

/// A word, without its quotes, and where it begins.
struct Word<'a> {
    text: &'a str,
    at: usize,
}

/// Splits a line; a quote that is not closed is an error at its place.
fn split(line: &str) -> Result<Vec<Word<'_>>, usize> {
    let mut out = Vec::new();
    let mut at = 0;
    loop {
        let rest = line.get(at..).unwrap_or_default();
        let skipped = rest.len() - rest.trim_start().len();
        at += skipped;
        let rest = line.get(at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(out);
        }
        let (text, from, used) = match rest.strip_prefix('"') {
            Some(inside) => {
                let end = inside.find('"').ok_or(at)?;
                (inside.get(..end).unwrap_or_default(), at + 1, end + 2)
            }
            None => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                (rest.get(..end).unwrap_or_default(), at, end)
            }
        };
        out.push(Word { text, at: from });
        at += used;
    }
}

struct Findings {
    file: Arc<str>,
    all: Vec<Finding>,
    muted: usize,
}

impl Findings {
    fn push(&mut self, line: u32, text: &str, at: usize, message: &str, warning: bool) {
        if self.all.len() >= NF_FINDINGS_MAX {
            self.muted += 1;
            return;
        }
        let before = text.get(..at).map_or(0, |t| t.chars().count());
        let column = u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1);
        let span = Span::new(self.file.clone(), line, column);
        let message = format!("{message}: `{}`", excerpt(text, at));
        self.all.push(match warning {
            true => Finding::warning(
                span,
                message,
                "it is kept; a rule that needs it is answered with `depends`",
            ),
            false => Finding::error(span, message, "the line has no effect; the others are used"),
        });
    }
}

/// Up to 40 characters from `at`.
fn excerpt(text: &str, at: usize) -> String {
    let rest = text.get(at..).filter(|r| !r.is_empty()).unwrap_or(text);
    let mut out: String = rest.chars().take(40).collect();
    if rest.chars().count() > 40 {
        out.push_str("...");
    }
    out
}

impl Sets {
    /// Reads what `ipset save` printed, or what is meant for `ipset restore`, into new sets. Timeouts
    /// begin at `now`.
    pub fn parse(file: &str, text: &str, now: Instant) -> (Sets, Vec<Finding>) {
        let mut sets = Sets::new();
        let findings = sets.restore(file, text, now);
        (sets, findings)
    }

    /// Carries out the lines of a restore file on these sets. The tool stops at the first error; here
    /// the other lines
    /// are still used.
    pub fn restore(&mut self, file: &str, text: &str, now: Instant) -> Vec<Finding> {
        let mut findings = Findings {
            file: file.into(),
            all: Vec::new(),
            muted: 0,
        };
        let mut number = 0u32;
        for line in text.lines() {
            number = number.saturating_add(1);
            let body = line.trim();
            if body.is_empty() || body.starts_with('#') || body == "COMMIT" {
                continue;
            }
            if body == "quit" {
                break;
            }
            self.line(number, line, now, &mut findings);
        }
        if findings.muted > 0 {
            let span = Span::new(findings.file.clone(), 0, 0);
            let message = format!("{} more lines were not understood", findings.muted);
            findings.all.push(Finding::error(span, message, ""));
        }
        findings.all
    }

    fn line(&mut self, number: u32, line: &str, now: Instant, findings: &mut Findings) {
        let words = match split(line) {
            Ok(words) => words,
            Err(at) => return findings.push(number, line, at, "expected a closing `\"`", false),
        };
        let texts: Vec<&str> = words.iter().map(|w| w.text).collect();
        let place = |wrong: &Wrong| {
            words
                .get(wrong.word)
                .map_or(line.len(), |w| w.at + wrong.at)
        };
        match self.command(&texts, now) {
            Ok(reply) => {
                for wrong in &reply.warnings {
                    findings.push(number, line, place(wrong), &wrong.message, true);
                }
                if reply.answer == Answer::InSet(false) {
                    let at = words.get(2).map_or(0, |w| w.at);
                    findings.push(number, line, at, "the element is not in the set", false);
                }
            }
            Err(wrong) => findings.push(number, line, place(&wrong), &wrong.message, false),
        }
    }
}
