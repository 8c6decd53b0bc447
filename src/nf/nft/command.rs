//! A command line of `nft` on a namespace's rules: `nft add rule ...`, `nft -f - <<EOF`, `nft list ruleset`.
//!
//! nft joins its words by blanks and reads them as a script; so does this. Invariant: one line is one
//! transaction, a refused one changes nothing.

use super::Script;
use crate::base::{Finding, Instant, Origin, Span};
use crate::nf::Netfilter;
use crate::nf::apply::shell;

/// What a line asks for.
enum Job {
    List,
    /// A script and at which line of the command it begins.
    Script(String, u32),
}

/// Whether a command line names nft.
pub fn is_line(line: &str) -> bool {
    let first = line.split_whitespace().next();
    first.is_some_and(|w| w.rsplit('/').next() == Some("nft"))
}

/// Whether a command line can be read: its words, not what they do.
///
/// # Errors
/// The place of what is wrong in it.
pub fn check_line(line: &str, at: &Span) -> Result<(), Finding> {
    read(line, at).map(|_| ())
}

fn read(line: &str, at: &Span) -> Result<Job, Finding> {
    let place = |offset: usize| Span {
        column: at
            .column
            .max(1)
            .saturating_add(u32::try_from(offset).unwrap_or(0)),
        ..at.clone()
    };
    let shell = shell::cut(line).map_err(|(i, what)| {
        let help = "write one simple command; a script for nft -f - goes below `<<EOF`";
        Finding::error(place(i), format!("expected {what}"), help)
    })?;
    let words: Vec<&str> = shell.words.iter().map(|w| w.text.as_str()).collect();
    match words.get(1..).unwrap_or_default() {
        ["list", "ruleset"] => Ok(Job::List),
        ["-f" | "--file", "-" | "/dev/stdin"] => match shell.input {
            Some((text, below)) => Ok(Job::Script(text, below)),
            None => Err(Finding::error(
                at.clone(),
                "expected a script below the line",
                "end the line with `<<EOF`",
            )),
        },
        [] => Err(Finding::error(at.clone(), "expected a command of nft", "")),
        [option, ..] if option.starts_with('-') => {
            let at = place(shell.words.get(1).map_or(0, |w| w.at));
            let text = format!("nft {option} is not understood");
            Err(Finding::error(at, text, "write `-f -` or a command"))
        }
        words => Ok(Job::Script(words.join(" "), 0)),
    }
}

/// Carries out a command line, what it prints; `at` is where it begins. New rules come from `origin`.
///
/// # Errors
/// The first thing that nft or the kernel would refuse, at its place in the script.
pub fn run_line(
    nf: &mut Netfilter,
    line: &str,
    at: &Span,
    now: Instant,
    origin: &Origin,
) -> Result<String, Finding> {
    let mut set = nf.nft_ruleset(now);
    let (text, below) = match read(line, at)? {
        Job::List => return Ok(set.to_text()),
        Job::Script(text, below) => (text, below),
    };
    let moved = |mut f: Finding| {
        match (at.line, below) {
            (0, _) => {}
            (_, 0) => f.span = at.clone(),
            (line, _) => f.span.line = f.span.line.saturating_add(line + below).saturating_sub(1),
        }
        f
    };
    let (script, findings) = Script::parse(&at.file, &text, &set);
    if let Some(f) = findings.into_iter().find(Finding::is_error) {
        return Err(moved(f));
    }
    set.apply(&script).map_err(moved)?;
    set.claim(|_, _| origin.clone());
    nf.set_nft(set, now);
    Ok(String::new())
}
