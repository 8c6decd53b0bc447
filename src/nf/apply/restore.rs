//! `iptables-restore` and `ip6tables-restore`: a whole input on the tables of one back end.
//!
//! Lines are carried out in order on a copy of their table, which replaces the table at `COMMIT`
//! (iptables-restore.c `ip46tables_restore_main`, xtables-restore.c `xtables_restore_parse`). The first
//! mistake ends the input, as it ends the tool. Invariant: tables committed before it stay committed, the one
//! it stands in is as it was.

use super::command::{At, Line, chain_name};
use super::ready::Ready;
use super::refused::{Reason, Refused};
use super::verify;
use super::work::Work;
use super::{Outcome, Tool};
use crate::base::{Finding, Origin, Span};
use crate::nf::RuleSet;
use crate::nf::netfilter::Backend;
use crate::nf::parse::brackets;
use crate::nf::table::{Counters, Policy, TableName};
use crate::nf::words::{self, Word};
use std::sync::Arc;

/// Options of the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Restore {
    /// `-n`: tables keep what the input does not name.
    pub noflush: bool,
    /// `-c`: counters are taken from the input.
    pub counters: bool,
    /// `-T`: only this table.
    pub table: Option<TableName>,
}

struct Input<'a> {
    set: &'a mut RuleSet,
    tool: Tool,
    options: Restore,
    file: Arc<str>,
    origin: Option<&'a Origin>,
    open: Option<Work>,
    skipping: bool,
    /// What the nft tool has read and does at `COMMIT`, with its line.
    pending: Vec<(u32, Step)>,
    line: u32,
    /// Where the nft tool was when it did what it had read.
    commit: u32,
}

/// A line that was read.
enum Step {
    Chain(ChainLine),
    Command(Box<Ready>),
}

/// `:CHAIN POLICY [packets:bytes]`.
struct ChainLine {
    name: Word,
    policy: Word,
    counters: Option<Counters>,
}

/// Carries out an input. Rules come from `origin`, or else from their lines of `file`.
///
/// # Errors
/// What the tool would print, with the place in `file`.
pub fn restore(
    set: &mut RuleSet,
    tool: Tool,
    options: Restore,
    file: &str,
    text: &str,
    origin: Option<&Origin>,
) -> Result<Outcome, Refused> {
    let mut input = Input {
        set,
        tool,
        options,
        file: file.into(),
        origin,
        open: None,
        skipping: false,
        pending: Vec::new(),
        line: 0,
        commit: 0,
    };
    let done = text.lines().try_for_each(|line| {
        input.line = input.line.saturating_add(1);
        input.one(line)
    });
    let done = match done {
        Ok(()) if input.open.is_some() => {
            input.line = input.line.saturating_add(1);
            Err((0, Reason::CommitExpected))
        }
        other => other,
    };
    if tool.backend == Backend::Legacy
        && let Some(work) = input.open.take()
    {
        // The legacy kernel has a table from the moment it was read.
        Work::open(input.set, work.name, tool).close(input.set, false);
    }
    let outcome = Outcome {
        stdout: String::new(),
        changed: true,
    };
    done.map(|()| outcome).map_err(|(at, reason)| {
        let nft = tool.backend == Backend::Nft;
        let said = match &reason {
            Reason::NoTarget(_) if nft => input.commit,
            _ => input.line,
        };
        let (status, stderr) = reason.restore_text(tool, said);
        let column = u32::try_from(at).unwrap_or(u32::MAX).saturating_add(1);
        let span = Span::new(input.file.clone(), input.line, column);
        let message = format!("{}-restore: {}", tool.name(), reason.sentence(tool));
        let help = "the tables committed before this line are changed, this one is not";
        Refused {
            status,
            stderr,
            finding: Finding::error(span, message, help),
        }
    })
}

/// Carries out a parsed input: its text is what was read.
///
/// # Errors
/// As [`restore`].
pub fn restore_set(
    set: &mut RuleSet,
    tool: Tool,
    options: Restore,
    file: &str,
    input: &RuleSet,
    origin: Option<&Origin>,
) -> Result<Outcome, Refused> {
    restore(set, tool, options, file, &input.to_text(), origin)
}

impl Input<'_> {
    fn one(&mut self, line: &str) -> Result<(), At> {
        let trimmed = line.trim_end();
        let wanted = |n: TableName| self.options.table.is_none_or(|t| t == n);
        match (line.as_bytes().first(), self.open.is_some()) {
            (None | Some(b'#'), _) => Ok(()),
            _ if trimmed.is_empty() => Ok(()),
            (Some(b'*'), false) => {
                let word = trimmed.get(1..).unwrap_or_default();
                let name = TableName::parse(word);
                let name = name.ok_or_else(|| (1, self.no_table(word)))?;
                self.skipping = !wanted(name);
                let mut work = Work::copy(self.set, name, self.tool);
                if !self.options.noflush {
                    work.clear();
                }
                self.open = Some(work);
                Ok(())
            }
            _ if trimmed == "COMMIT" && self.open.is_some() => self.commit(),
            (_, false) => Err((0, Reason::Outside)),
            _ if self.skipping => Ok(()),
            (Some(b':'), true) => self.chain(trimmed),
            _ => self.command(trimmed),
        }
    }

    fn no_table(&self, word: &str) -> Reason {
        let name = format!("{}-restore", self.tool.name());
        Reason::Usage(match self.tool.backend {
            Backend::Nft => format!("{name}: line {} table name '{word}' invalid", self.line),
            Backend::Legacy => format!("{name}: unable to initialize table '{word}'"),
        })
    }

    /// `:CHAIN POLICY [packets:bytes]`.
    fn chain(&mut self, line: &str) -> Result<(), At> {
        let words = words::split(line, 1).map_err(|at| (at, unclosed()))?;
        let invalid = |what: &str| {
            let name = format!("{}-restore", self.tool.name());
            Reason::Usage(format!("{name}: line {} {what} invalid", self.line))
        };
        let name = words.first().ok_or_else(|| (1, invalid("chain name")))?;
        let policy = words
            .get(1)
            .ok_or_else(|| (line.len(), invalid("policy")))?;
        let counters = words.get(2).filter(|_| self.options.counters);
        let counters = match counters.map(|w| (w.at, brackets(&w.text))) {
            Some((at, None)) => return Err((at, invalid("policy counters"))),
            Some((_, c)) => c,
            None => None,
        };
        chain_name(name)?;
        self.step(Step::Chain(ChainLine {
            name: name.clone(),
            policy: policy.clone(),
            counters,
        }))
    }

    /// The legacy tool does each line as it reads it, nft all of them at `COMMIT` (nft-cmd.c, nft.c
    /// `nft_action`): a mistake in a later line's words comes before one that only the table shows.
    fn step(&mut self, step: Step) -> Result<(), At> {
        match self.tool.backend {
            Backend::Nft => {
                self.pending.push((self.line, step));
                Ok(())
            }
            Backend::Legacy => self.carry_out(step),
        }
    }

    fn carry_out(&mut self, step: Step) -> Result<(), At> {
        let from_line = Origin::Dump {
            file: self.file.clone(),
            line: self.line,
        };
        let origin = self.origin.unwrap_or(&from_line);
        let Some(work) = self.open.as_mut() else {
            return Ok(());
        };
        work.line = self.line;
        match step {
            Step::Command(ready) => work.carry_out(&ready, origin).map(|_| ()),
            Step::Chain(chain) => declare(work, &chain, self.options.noflush),
        }
    }

    /// `[packets:bytes] -A ...` and the other commands.
    fn command(&mut self, line: &str) -> Result<(), At> {
        let (counters, from) = match line.strip_prefix('[').and_then(|l| l.split_once(']')) {
            Some((inner, _)) => {
                let end = inner.len() + 2;
                let text = line.get(..end).unwrap_or_default();
                let read = brackets(text);
                let wrong = || Reason::Usage(format!("line {}: bad counters {text}", self.line));
                (Some(read.ok_or_else(|| (0, wrong()))?), end)
            }
            None => (None, 0),
        };
        let mut words = words::split(line, from).map_err(|at| (at, unclosed()))?;
        if let Some(w) = words.first().filter(|w| !w.text.starts_with('-')) {
            return Err((w.at, Reason::BadArgument(w.text.clone())));
        }
        if let Some(c) = counters.filter(|_| self.options.counters) {
            if let Some(w) = words.iter().find(|w| w.text == "-c") {
                return Err((
                    w.at,
                    Reason::Usage("multiple -c flags not allowed".to_owned()),
                ));
            }
            words.extend(counter_words(c, line.len()));
        }
        let line = Line::parse(words, self.set.family)?;
        if let Some(t) = &line.table {
            let text = format!(
                "The -t option cannot be used in {}-restore.\n",
                self.tool.name()
            );
            return Err((t.at, Reason::Usage(text)));
        }
        let Some(table) = self.open.as_ref().map(|w| w.name) else {
            return Ok(());
        };
        let ready = Ready::new(line, table)?;
        self.step(Step::Command(Box::new(ready)))
    }

    fn commit(&mut self) -> Result<(), At> {
        let here = self.line;
        self.commit = here;
        for (line, step) in core::mem::take(&mut self.pending) {
            self.line = line;
            self.carry_out(step)?;
        }
        self.line = here;
        let Some(work) = self.open.take() else {
            return Ok(());
        };
        if self.skipping {
            self.skipping = false;
            return Ok(());
        }
        if let Some((line, no)) = work.refused {
            self.line = line;
            return Err(no);
        }
        if let Err((chain, i, no)) = verify::table(&work) {
            let fresh = work.chain(&chain).and_then(|c| c.rules.get(i));
            let line = fresh.map(|r| r.line).filter(|l| *l > 0);
            let before = Work::copy(self.set, work.name, self.tool);
            let old = line.is_none() && verify::table(&before).is_err();
            if !old {
                self.line = line.unwrap_or(self.line);
                self.open = Some(work);
                let what = format!("rule in chain {chain}");
                return Err((0, Reason::Kernel("RULE_APPEND", what, no)));
            }
        }
        work.commit(self.set);
        Ok(())
    }
}

/// Makes or empties a user chain, or sets a built-in chain's policy.
fn declare(work: &mut Work, line: &ChainLine, noflush: bool) -> Result<(), At> {
    let (name, legacy) = (&line.name, work.backend() == Backend::Legacy);
    if !work.is_builtin(&name.text) {
        if legacy && line.policy.text != "-" {
            return Err((line.policy.at, Reason::BadBuiltin));
        }
        if work.chain(&name.text).is_none() {
            work.add_chain(&name.text);
        } else if noflush || !legacy {
            work.flush(&name.text);
        } else {
            return Err((name.at, Reason::ChainExists));
        }
        return Ok(());
    }
    if line.policy.text == "-" {
        return Ok(());
    }
    let policy = Policy::parse(&line.policy.text);
    let policy = policy.ok_or((line.policy.at, Reason::BadPolicy))?;
    work.set_policy(&name.text, policy, line.counters);
    Ok(())
}

fn unclosed() -> Reason {
    Reason::Usage("expected a closing quote".to_owned())
}

fn counter_words(c: Counters, at: usize) -> [Word; 3] {
    ["-c".to_owned(), c.packets.to_string(), c.bytes.to_string()].map(|text| Word {
        text,
        at,
        end: at,
    })
}
