//! ipvsadm's text: commands in (`-R`, command words), `-Sn`, `-Ln`, `-Lnc`, `--stats`, `--rate` out and in.
//!
//! Follows ipvsadm 1.31. Names of hosts and ports are not looked up: everything is numeric. Invariant:
//! what [`save`] prints, [`parse`] reads back to the same services and destinations.

mod command;
mod dump;
mod list;
mod listing;
mod rows;
mod sort;
mod words;

pub use command::{Command, List, Show};
pub use dump::{Dump, Numbers, load_dump, parse_dump};
pub use list::{list, save};
pub use listing::parse_listing;

use super::{Ipvs, Refused};
use crate::base::{Finding, Instant, Span, limits};
use std::sync::Arc;
use words::Words;

/// One command of a text, with its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placed {
    /// The command.
    pub command: Command,
    /// Where it stands.
    pub span: Span,
}

/// Reads ipvsadm lines (`ipvsadm -R`, the output of `ipvsadm -Sn`); a line that cannot be read is a finding.
pub fn parse(text: &str, file: impl Into<Arc<str>>) -> (Vec<Placed>, Vec<Finding>) {
    let file: Arc<str> = file.into();
    let (mut out, mut findings) = (Vec::new(), Vec::new());
    for (i, line) in text.lines().enumerate() {
        let n = i as u32 + 1;
        let words = split(line);
        if words.first().is_none_or(|(_, w)| w.starts_with('#')) {
            continue;
        }
        let texts: Vec<&str> = words.iter().map(|w| w.1).collect();
        let skip = usize::from(texts.first() == Some(&"ipvsadm"));
        match command(texts.get(skip..).unwrap_or_default()) {
            Ok(command) => {
                let column = words.first().map_or(1, |w| w.0);
                let span = Span::new(file.clone(), n, column);
                out.push(Placed { command, span });
            }
            Err((word, why)) => {
                let column = words
                    .get(word + skip)
                    .map_or(line.chars().count() as u32 + 1, |w| w.0);
                findings.push(finding(Span::new(file.clone(), n, column), why));
            }
        }
    }
    (out, findings)
}

pub(super) fn finding(span: Span, why: String) -> Finding {
    Finding::error(span, why, "the line is left out; see ipvsadm(8)")
}

/// A line's words with their columns, 1-based.
pub(super) fn split(line: &str) -> Vec<(u32, &str)> {
    let mut out = Vec::new();
    let mut rest = line;
    let mut column = 1u32;
    while out.len() < limits::IPVSADM_WORDS_MAX {
        let trimmed = rest.trim_start();
        let skipped = rest.len() - trimmed.len();
        column += rest.get(..skipped).map_or(0, |s| s.chars().count()) as u32;
        let end = trimmed.find(char::is_whitespace).unwrap_or(trimmed.len());
        let (word, behind) = trimmed.split_at(end);
        if word.is_empty() {
            break;
        }
        out.push((column, word));
        column += word.chars().count() as u32;
        rest = behind;
    }
    out
}

/// Reads the words behind `ipvsadm`; an error names the word it is about.
pub fn command(words: &[&str]) -> Result<Command, (usize, String)> {
    Words::read(words)?.command(words.len())
}

/// Carries out one command; what it prints.
pub fn run(vs: &mut Ipvs, c: &Command, now: Instant) -> Result<String, Refused> {
    vs.expire(now);
    match c {
        Command::AddService(s) => vs.add_service(s.clone())?,
        Command::EditService(s) => vs.edit_service(s.clone())?,
        Command::DelService(at) => vs.del_service(at)?,
        Command::Flush => vs.flush(),
        Command::Zero(at) => vs.zero(at.as_ref())?,
        Command::AddDest(at, d) => {
            vs.add_dest(at, *d)?;
        }
        Command::EditDest(at, d) => vs.edit_dest(at, *d)?,
        Command::DelDest(at, d) => vs.del_dest(at, d)?,
        Command::Timeouts(t) => {
            // 0 leaves a timeout as it is.
            let set = |old: &mut u32, new: u32| *old = if new == 0 { *old } else { new };
            set(&mut vs.timeouts.tcp, t.tcp);
            set(&mut vs.timeouts.tcp_fin, t.tcp_fin);
            set(&mut vs.timeouts.udp, t.udp);
        }
        Command::Restore => {}
        Command::Save => return Ok(save(vs)),
        Command::List(l) => return list(vs, l, now),
    }
    Ok(String::new())
}

/// Carries out a text's commands; what is refused is a finding. `dump`: the text is a listing or a dump,
/// which sorts destinations, so that their true order is not known.
pub fn load(vs: &mut Ipvs, commands: &[Placed], dump: bool, now: Instant) -> Vec<Finding> {
    let mut findings = Vec::new();
    for c in commands {
        if let Err(why) = run(vs, &c.command, now) {
            findings.push(finding(c.span.clone(), why.to_string()));
        }
        if let (Command::AddDest(at, _), true) = (&c.command, dump) {
            vs.order_unknown(at);
        }
    }
    findings
}

#[cfg(test)]
mod tests;
