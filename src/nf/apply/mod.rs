//! Rule sets changed as `iptables` and `iptables-restore` change them, with the tools' answers.
//!
//! [`run`] carries out one command in words, [`restore`] a whole input; both work on one [`RuleSet`]
//! that stands for the kernel's tables of one [`Backend`]. Judge: iptables 1.8.9 on a kernel 6.18
//! (`tests/iptables_commands.rs`). Nothing is evaluated here. Invariant: a refused command, and a
//! table of a restore input that is refused or not committed, changes nothing.

mod cli;
mod command;
mod list;
mod ready;
mod refused;
mod restore;
pub(in crate::nf) mod shell;
mod verify;
mod work;

#[cfg(test)]
mod tests;

pub use cli::{check_line, is_line, on_netns, run_line, usual_backend};
pub use refused::Refused;
pub use restore::{Restore, restore, restore_set};

use super::netfilter::Backend;
use super::words::Word;
use super::{Family, RuleSet};
use crate::base::{Origin, Span};
use command::Line;
use ready::Ready;
use refused::Reason;
use work::Work;

/// Which program is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tool {
    /// iptables or ip6tables.
    pub family: Family,
    /// Its back end.
    pub backend: Backend,
}

impl Tool {
    /// As it names itself in its messages.
    pub fn name(self) -> &'static str {
        match self.family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        }
    }
}

/// What a command that was carried out has to say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// What it prints: `-S` its rules. The table that `-L` draws is not printed.
    pub stdout: String,
    /// Whether a table or chain may be another now.
    pub changed: bool,
}

/// Carries out one command; `args` are the words after the program's name.
///
/// # Errors
/// What the tool would print, and its exit status; `-C` and `-D` of a rule that is not there are such
/// (status 1). Findings of these have the place 0:0, as words have none.
pub fn run(
    set: &mut RuleSet,
    tool: Tool,
    args: &[&str],
    origin: &Origin,
) -> Result<Outcome, Refused> {
    let mut at = 0;
    let words: Vec<Word> = args
        .iter()
        .map(|a| {
            let from = at;
            at += a.len() + 1;
            Word {
                text: (*a).to_owned(),
                at: from,
                end: from + a.len(),
            }
        })
        .collect();
    run_words(set, tool, words, origin).map_err(|r| Refused::new(tool, r, Span::default()))
}

/// Carries out one command given as a line, quoted as iptables-save quotes.
///
/// # Errors
/// As [`run`]; a quote without its end is a wrong word too.
pub fn run_text(
    set: &mut RuleSet,
    tool: Tool,
    line: &str,
    origin: &Origin,
) -> Result<Outcome, Refused> {
    let args = super::words::split(line, 0).unwrap_or_default();
    let args: Vec<&str> = args.iter().map(|w| w.text.as_str()).collect();
    run(set, tool, &args, origin)
}

/// Whether `-C` finds the rule.
///
/// # Errors
/// As [`run`], for commands that are wrong and not only unanswered.
pub fn check(set: &mut RuleSet, tool: Tool, args: &[&str]) -> Result<bool, Refused> {
    match run(set, tool, args, &Origin::Kernel) {
        Ok(_) => Ok(true),
        Err(r) if r.status == 1 => Ok(false),
        Err(r) => Err(r),
    }
}

fn run_words(
    set: &mut RuleSet,
    tool: Tool,
    words: Vec<Word>,
    origin: &Origin,
) -> Result<Outcome, (usize, Reason)> {
    let line = Line::parse(words, tool.family)?;
    let name = line.table_name()?;
    let ready = Ready::new(line, name)?;
    let mut work = Work::open(set, name, tool);
    let done = work.carry_out(&ready, origin);
    let changed = done.is_ok() && ready.line.changes();
    work.close(set, changed);
    done.map(|stdout| Outcome { stdout, changed })
}
