//! Command lines of the programs on a namespace's netfilter: `iptables`, `ip6tables`, with `-nft` or
//! `-legacy`, and their `-save` and `-restore`.
//!
//! Without a back end in its name, a program is the nft one, unless only legacy rules are there (as
//! kubernetes-sigs/iptables-wrappers chooses). Invariant: as of [`super`].

use super::refused::Reason;
use super::restore::{Restore, restore};
use super::shell::{self, Shell};
use super::{Outcome, Refused, Tool, run_words};
use crate::base::{Finding, Origin, Span};
use crate::nf::netfilter::{Backend, Netfilter};
use crate::nf::table::TableName;
use crate::nf::words::Word;
use crate::nf::{Family, RuleSet};

/// What a program does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Job {
    Command,
    Save,
    Restore,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Program {
    family: Family,
    backend: Option<Backend>,
    job: Job,
}

impl Program {
    fn named(word: &str) -> Option<Self> {
        let name = word.rsplit('/').next()?;
        let (family, rest) = match (
            name.strip_prefix("iptables"),
            name.strip_prefix("ip6tables"),
        ) {
            (Some(rest), _) => (Family::V4, rest),
            (_, Some(rest)) => (Family::V6, rest),
            _ => return None,
        };
        let (backend, rest) = match (rest.strip_prefix("-nft"), rest.strip_prefix("-legacy")) {
            (Some(rest), _) => (Some(Backend::Nft), rest),
            (_, Some(rest)) => (Some(Backend::Legacy), rest),
            _ => (None, rest),
        };
        let job = match rest {
            "" => Job::Command,
            "-save" => Job::Save,
            "-restore" => Job::Restore,
            _ => return None,
        };
        Some(Program {
            family,
            backend,
            job,
        })
    }
}

/// Whether a command line names one of these programs.
pub fn is_line(line: &str) -> bool {
    let first = line.split_whitespace().next();
    first.and_then(Program::named).is_some()
}

/// Whether a command line can be read: its words, not what they do.
///
/// # Errors
/// The place of what is wrong in it.
pub fn check_line(line: &str, at: &Span) -> Result<(), Finding> {
    read(line, at).map(|_| ())
}

fn read(line: &str, at: &Span) -> Result<(Program, Shell), Finding> {
    let shell = shell::cut(line).map_err(|(i, what)| {
        let help = "write one simple command; text for iptables-restore goes below `<<EOF`";
        Finding::error(place(at, i), format!("expected {what}"), help)
    })?;
    let program = shell.words.first().and_then(|w| Program::named(&w.text));
    match program {
        Some(p) => Ok((p, shell)),
        None => Err(Finding::error(
            at.clone(),
            "expected iptables or ip6tables",
            "with -nft or -legacy, -save or -restore after it",
        )),
    }
}

/// Carries out a command line; `at` is where it begins.
///
/// # Errors
/// What the tool would print, at the word that is wrong.
pub fn run_line(
    nf: &mut Netfilter,
    line: &str,
    at: &Span,
    origin: &Origin,
) -> Result<Outcome, Finding> {
    let (program, shell) = read(line, at)?;
    let usual = usual_backend(Some(nf), program.family);
    let tool = Tool {
        family: program.family,
        backend: program.backend.unwrap_or(usual),
    };
    let words: Vec<Word> = shell.words.iter().skip(1).cloned().collect();
    on_netns(nf, tool, |set| match program.job {
        Job::Command => run_words(set, tool, words, origin)
            .map_err(|e| Refused::new(tool, e, at.clone()).into()),
        Job::Save => save(set, &words, at),
        Job::Restore => {
            let options = restore_options(&words, at)?;
            let (text, below) = shell.input.clone().unwrap_or_default();
            restore(set, tool, options, &at.file, &text, Some(origin)).map_err(|r| {
                let mut f = r.finding;
                if at.line > 0 {
                    f.span.line = f
                        .span
                        .line
                        .saturating_add(at.line + below)
                        .saturating_sub(1);
                }
                f
            })?;
            Ok(Outcome {
                stdout: String::new(),
                changed: true,
            })
        }
    })
}

/// The back end of a program that does not name one.
pub fn usual_backend(nf: Option<&Netfilter>, family: Family) -> Backend {
    match nf.map(|n| n.rules(family)) {
        Some(r) if r.backend(Backend::Nft).is_some() => Backend::Nft,
        Some(r) if r.backend(Backend::Legacy).is_some() => Backend::Legacy,
        _ => Backend::Nft,
    }
}

/// Gives `act` the rule set of a back end; an untouched one that stays empty is not kept.
pub fn on_netns<T>(nf: &mut Netfilter, tool: Tool, act: impl FnOnce(&mut RuleSet) -> T) -> T {
    let (family, backend) = (tool.family, tool.backend);
    let before = nf.rule_set(family, backend);
    let mut set = before.clone().unwrap_or_else(|| RuleSet::new(family));
    let done = act(&mut set);
    match before {
        Some(b) if b == set => {}
        Some(_) if set.tables.is_empty() => nf.clear_rules(family, backend),
        None if set.tables.is_empty() => {}
        _ => {
            // The tools refuse what could not be loaded before it comes to this.
            let _ = nf.set_rules(family, backend, set);
        }
    }
    done
}

fn place(at: &Span, offset: usize) -> Span {
    Span {
        column: (at.column.max(1)).saturating_add(u32::try_from(offset).unwrap_or(0)),
        ..at.clone()
    }
}

fn unknown(word: &Word, at: &Span) -> Finding {
    Finding::error(
        place(at, word.at),
        format!("unknown option \"{}\"", word.text),
        "",
    )
}

/// `-t TABLE`, `-c`.
fn save(set: &RuleSet, words: &[Word], at: &Span) -> Result<Outcome, Finding> {
    let (mut counters, mut only) = (false, None);
    let mut rest = words.iter();
    while let Some(w) = rest.next() {
        match w.text.as_str() {
            "-c" | "--counters" => counters = true,
            "-t" | "--table" => only = Some(table_word(rest.next(), w, at)?),
            _ => return Err(unknown(w, at)),
        }
    }
    let mut shown = RuleSet::new(set.family);
    let wanted = set
        .tables
        .iter()
        .filter(|t| only.is_none_or(|n| n == t.name));
    shown.tables = wanted.cloned().collect();
    Ok(Outcome {
        stdout: shown.to_save(counters),
        changed: false,
    })
}

fn restore_options(words: &[Word], at: &Span) -> Result<Restore, Finding> {
    let mut options = Restore::default();
    let mut rest = words.iter().peekable();
    while let Some(w) = rest.next() {
        match w.text.as_str() {
            "-n" | "--noflush" => options.noflush = true,
            "-c" | "--counters" => options.counters = true,
            "-T" | "--table" => options.table = Some(table_word(rest.next(), w, at)?),
            "-w" | "--wait" | "-W" | "--wait-interval" => {
                rest.next_if(|n| n.text.bytes().all(|b| b.is_ascii_digit()));
            }
            "-v" | "--verbose" => {}
            _ => return Err(unknown(w, at)),
        }
    }
    Ok(options)
}

fn table_word(word: Option<&Word>, option: &Word, at: &Span) -> Result<TableName, Finding> {
    let word = word.unwrap_or(option);
    TableName::parse(&word.text).ok_or_else(|| {
        let tool = Tool {
            family: Family::V4,
            backend: Backend::Nft,
        };
        let said = Reason::NoTable(word.text.clone()).sentence(tool);
        Finding::error(
            place(at, word.at),
            said,
            "raw, mangle, nat, filter or security",
        )
    })
}
