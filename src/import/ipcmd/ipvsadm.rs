//! Lines of `ipvsadm`: commands, and `ipvsadm -R <<EOF` with its input below.
//!
//! The words are [`crate::ipvs::text`]'s. The input of `-R` may also hold what `ipvsadm` lists (`-Ln`,
//! `-Lnc`, `--stats`...): then it is a dump, and the state that it shows is taken over. Invariant: a line
//! that passes [`check`] is refused by [`run`] only for what is there already, or is not.

use crate::base::{Finding, Instant, Origin, Span};
use crate::ipvs::text::{self, Command, Dump};
use crate::net::edit::Edit;

/// Whether a line is one of `ipvsadm`.
pub(super) fn is_line(line: &str) -> bool {
    line.split_whitespace().next() == Some("ipvsadm")
}

/// The words of the first line behind `ipvsadm`, and the input below.
fn split(line: &str) -> (Vec<&str>, Option<String>) {
    let (first, rest) = line.split_once('\n').unwrap_or((line, ""));
    let (first, mark) = match first.split_once("<<") {
        Some((first, mark)) => (first, Some(mark.trim_start_matches('-').trim())),
        None => (first, None),
    };
    let words = first.split_whitespace().skip(1).collect();
    let input = mark.map(|mark| {
        let mark = mark.trim_matches(['\'', '"']);
        let lines = rest.lines().take_while(|l| l.trim() != mark);
        lines.fold(String::new(), |all, l| all + l + "\n")
    });
    (words, input)
}

/// Whether a line can be read; `at` is where it begins.
pub(super) fn check(line: &str, at: &Span) -> Result<(), Finding> {
    let (words, input) = split(line);
    let help = "see ipvsadm(8)";
    let column = |word: usize| {
        let places = text_columns(line);
        let column = places.get(word + 1).copied().unwrap_or_default();
        Span::new(at.file.clone(), at.line, at.column.saturating_add(column))
    };
    let command = text::command(&words);
    let command = command.map_err(|(word, why)| Finding::error(column(word), why, help))?;
    if command != Command::Restore {
        return Ok(());
    }
    let Some(input) = input else {
        let why = "`ipvsadm -R` reads its commands from its input";
        return Err(Finding::error(
            at.clone(),
            why,
            "put them below: ipvsadm -R <<EOF",
        ));
    };
    let (_, findings) = text::parse_dump(&input, at.file.clone());
    let Some(mut first) = findings.into_iter().find(Finding::is_error) else {
        return Ok(());
    };
    // The input begins one line below.
    first.span.line = first.span.line.saturating_add(at.line);
    Err(first)
}

/// Where the words of the first line begin, in characters from its start.
fn text_columns(line: &str) -> Vec<u32> {
    let first = line.lines().next().unwrap_or_default();
    let mut out = Vec::new();
    let mut blank = true;
    for (i, c) in first.chars().enumerate() {
        if blank && !c.is_whitespace() {
            out.push(i as u32);
        }
        blank = c.is_whitespace();
    }
    out
}

/// Carries a line out; what podpath keeps of it without acting on it, or ipvsadm's complaint.
pub(super) fn run(
    e: &mut Edit<'_>,
    line: &str,
    now: Instant,
    origin: &Origin,
) -> Result<Vec<String>, String> {
    let (words, input) = split(line);
    let command = text::command(&words).map_err(|(_, why)| why)?;
    let nfct = e.sysctl().vs.conntrack != 0;
    e.ipvs_change(|vs| {
        let before: Vec<_> = vs.services().map(|s| s.spec.at).collect();
        let done = match (&command, input) {
            (Command::Restore, Some(input)) => {
                let (dump, mut findings) = text::parse_dump(&input, "ipvsadm");
                findings.extend(match is_listing(&dump) {
                    true => text::load_dump(vs, &dump, nfct, now),
                    false => text::load(vs, &dump.saved, false, now),
                });
                match findings.iter().find(|f| f.is_error()) {
                    Some(f) => Err(f.message.clone()),
                    None => Ok(findings.into_iter().map(|f| f.message).collect()),
                }
            }
            _ => match text::run(vs, &command, now) {
                Ok(_) => Ok(Vec::new()),
                Err(why) => Err(why.to_string()),
            },
        };
        let all: Vec<_> = vs.services().map(|s| s.spec.at).collect();
        for at in all.iter().filter(|at| !before.contains(at)) {
            vs.set_origin(at, origin.clone());
        }
        done
    })
}

/// Whether a text shows a state, and not commands alone.
fn is_listing(dump: &Dump) -> bool {
    !dump.listed.is_empty() || !dump.numbers.is_empty() || dump.conns.is_some()
}
