//! A whole file: tables, chains, rules and commands, line by line.
//!
//! Carries out what iptables-restore would on an empty kernel (iptables-restore.c `ip46tables_restore_main`).
//! Invariant: a line that cannot be used is kept as a raw line with one finding, and the next line is read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::print::{chain_line, rule_line};
use super::rule::{self, Wrong};
use super::table::{
    Chain, Command, Counters, Family, Policy, RawLine, Rule, RuleSet, Table, TableName, Written,
};
use super::words::{self, Word};
use crate::base::limits::NF_FINDINGS_MAX;
use crate::base::{Finding, Origin, Span};

struct Parser {
    file: Arc<str>,
    set: RuleSet,
    findings: Vec<Finding>,
    muted: usize,
    open: bool,
    index: BTreeMap<String, usize>,
    gone: BTreeSet<usize>,
    line: u32,
}

impl RuleSet {
    /// Reads what iptables-save or ip6tables-save printed, or what is meant for iptables-restore.
    pub fn parse(file: &str, text: &str, family: Family) -> (RuleSet, Vec<Finding>) {
        let mut p = Parser {
            file: file.into(),
            set: RuleSet::new(family),
            findings: Vec::new(),
            muted: 0,
            open: false,
            index: BTreeMap::new(),
            gone: BTreeSet::new(),
            line: 0,
        };
        p.set.final_newline = text.ends_with('\n');
        let body = text.strip_suffix('\n').unwrap_or(text);
        if !text.is_empty() {
            for line in body.split('\n') {
                p.line = p.line.saturating_add(1);
                p.one(line);
            }
        }
        if p.open {
            p.finding(
                0,
                "the input ends before `COMMIT`; iptables-restore would change nothing".to_owned(),
            );
            p.close();
        }
        if p.muted > 0 {
            let span = Span::new(p.file.clone(), 0, 0);
            p.findings.push(Finding::error(
                span,
                format!("{} more lines could not be used", p.muted),
                "",
            ));
        }
        (p.set, p.findings)
    }
}

impl Parser {
    fn one(&mut self, line: &str) {
        let kept = match line.as_bytes().first() {
            None | Some(b'#') => Ok(Some(())),
            Some(b'*') => self.table(line).map(|()| None),
            _ if line == "COMMIT" && self.open => {
                self.commit();
                Ok(None)
            }
            _ if line.trim().is_empty() => Ok(Some(())),
            _ if !self.open => Err((0, "`*table` before its chains and rules".to_owned())),
            Some(b':') => self.chain(line).map(|()| None),
            _ => self.command(line),
        };
        match kept {
            Ok(None) => {}
            Ok(Some(())) => self.raw(self.line, line, false),
            Err((at, what)) => {
                self.finding(at, format!("expected {what}: `{}`", excerpt(line, at)));
                self.raw(self.line, line, true);
            }
        }
    }

    fn raw(&mut self, line: u32, text: &str, bad: bool) {
        self.set.raw.push(RawLine {
            line,
            text: text.into(),
            bad,
        });
    }

    fn finding(&mut self, at: usize, message: String) {
        if self.findings.len() >= NF_FINDINGS_MAX {
            self.muted += 1;
            return;
        }
        let column = u32::try_from(at).unwrap_or(u32::MAX).saturating_add(1);
        let span = Span::new(self.file.clone(), self.line, column);
        let help = "the line is kept as it stands and has no effect";
        self.findings.push(Finding::error(span, message, help));
    }

    fn table(&mut self, line: &str) -> Result<(), Wrong> {
        let name = line.get(1..).unwrap_or_default();
        let known = TableName::parse(name);
        let name = known.ok_or_else(|| {
            (
                1,
                "raw, mangle, nat, filter or security after `*`".to_owned(),
            )
        })?;
        if self.open {
            self.finding(0, "expected `COMMIT` before the next table".to_owned());
            self.close();
        }
        let mut table = Table::new(name);
        table.line = self.line;
        table.committed = false;
        self.set.tables.push(table);
        self.open = true;
        Ok(())
    }

    fn commit(&mut self) {
        let line = self.line;
        if let Some(table) = self.set.tables.last_mut() {
            table.committed = true;
            table.commit_line = line;
        }
        self.close();
    }

    /// Ends the open table: chains that were deleted leave it, their lines stay as raw lines.
    fn close(&mut self) {
        self.open = false;
        self.index.clear();
        let gone = core::mem::take(&mut self.gone);
        let Some(table) = self.set.tables.last_mut() else {
            return;
        };
        let mut raw = Vec::new();
        let mut at = 0;
        table.chains.retain(|chain| {
            at += 1;
            let keep = !gone.contains(&(at - 1));
            if !keep && chain.declared {
                let text = match &chain.written {
                    Written::As(text) => text.clone(),
                    _ => chain_line(chain).into(),
                };
                raw.push(RawLine {
                    line: chain.line,
                    text,
                    bad: false,
                });
            }
            keep
        });
        self.set.raw.extend(raw);
        self.set.raw.sort_by_key(|r| r.line);
    }

    /// `:CHAIN POLICY [packets:bytes]`.
    fn chain(&mut self, line: &str) -> Result<(), Wrong> {
        let words = words::split(line, 1).map_err(|at| (at, "a closing quote".to_owned()))?;
        let end = line.len();
        let name = words
            .first()
            .ok_or((1, "a chain's name after `:`".to_owned()))?;
        let policy = words.get(1).ok_or((end, "a policy or `-`".to_owned()))?;
        let value = match policy.text.as_str() {
            "-" => None,
            p => Some(Policy::parse(p).ok_or((policy.at, "ACCEPT, DROP or `-`".to_owned()))?),
        };
        let builtin = self
            .table_name()
            .is_some_and(|t| t.builtin_chains().contains(&name.text.as_str()));
        if value.is_some() && !builtin {
            return Err((
                policy.at,
                "`-`, as only built-in chains have a policy".to_owned(),
            ));
        }
        let counters = match words.get(2) {
            Some(w) => brackets(&w.text).ok_or((w.at, "[packets:bytes]".to_owned()))?,
            None => Counters::default(),
        };
        if let Some(extra) = words.get(3) {
            return Err((extra.at, "the end of the line".to_owned()));
        }
        chain_name(name)?;
        if self.index.contains_key(&name.text) {
            return Err((name.at, "a chain that was not declared before".to_owned()));
        }
        let mut chain = Chain::new(name.text.clone(), value);
        (chain.counters, chain.line) = (counters, self.line);
        if chain_line(&chain) != line {
            chain.written = Written::As(line.into());
        }
        self.add_chain(chain);
        Ok(())
    }

    fn add_chain(&mut self, chain: Chain) -> usize {
        let Some(table) = self.set.tables.last_mut() else {
            return 0;
        };
        self.index.insert(chain.name.clone(), table.chains.len());
        table.chains.push(chain);
        table.chains.len() - 1
    }

    fn table_name(&self) -> Option<TableName> {
        self.set.tables.last().map(|t| t.name)
    }

    /// `[p:b] -A CHAIN ...` and the other commands. `Some` if the line is to be kept as a raw line.
    fn command(&mut self, line: &str) -> Result<Option<()>, Wrong> {
        let (counters, from) = match line.strip_prefix('[').and_then(|l| l.split_once(']')) {
            Some((inner, _)) => {
                let end = inner.len() + 2;
                let c = brackets(line.get(..end).unwrap_or_default());
                (Some(c.ok_or((0, "[packets:bytes]".to_owned()))?), end)
            }
            None => (None, 0),
        };
        let words = words::split(line, from).map_err(|at| (at, "a closing quote".to_owned()))?;
        let expected = "-A, -I, -D, -N, -X, -F, -P, -Z, `:CHAIN`, `*table` or COMMIT";
        let first = words.first().ok_or((line.len(), expected.to_owned()))?;
        let rest = words.get(1..).unwrap_or_default();
        match first.text.as_str() {
            "-A" | "--append" => self.append(line, first.at, rest, counters).map(|()| None),
            "-I" | "--insert" => self.insert(line, first.at, rest, counters).map(|()| None),
            "-D" | "--delete" => self.delete(line.len(), rest).map(Some),
            "-N" | "--new-chain" | "-X" | "--delete-chain" | "-F" | "--flush" | "-P"
            | "--policy" | "-Z" | "--zero" => {
                self.chain_command(&first.text, line.len(), rest).map(Some)
            }
            _ => Err((first.at, expected.to_owned())),
        }
    }

    fn target_chain(&mut self, word: Option<&Word>, end: usize) -> Result<(usize, String), Wrong> {
        let word = word.ok_or((end, "a chain".to_owned()))?;
        if let Some(i) = self.index.get(&word.text) {
            return Ok((*i, word.text.clone()));
        }
        chain_name(word)?;
        // With --noflush the chain may be there already; a rule set that says so keeps the rule.
        let chain = Chain {
            declared: false,
            ..Chain::new(word.text.clone(), None)
        };
        Ok((self.add_chain(chain), word.text.clone()))
    }

    fn rules(
        &mut self,
        line: &str,
        from: usize,
        words: &[Word],
        counters: Option<Counters>,
        chain: &str,
    ) -> Result<Vec<Rule>, Wrong> {
        let index = &self.index;
        let parsed = rule::read(words, line.len(), self.set.family, &|name| {
            index.contains_key(name)
        })?;
        let origin = Origin::Dump {
            file: self.file.clone(),
            line: self.line,
        };
        let mut rules = Vec::new();
        for (i, matches) in parsed.matches.into_iter().enumerate() {
            let mut rule = Rule::new(matches, parsed.target.clone(), origin.clone());
            rule.counters = counters.or(parsed.counters).unwrap_or_default();
            rule.counted = counters.is_some();
            rule.line = self.line;
            rule.written = if i > 0 {
                Written::Continued
            } else {
                Written::Same
            };
            rules.push(rule);
        }
        let one = rules.len() == 1;
        if let Some(first) = rules.first_mut() {
            let text = line.get(from..).unwrap_or_default();
            let prefix = if first.counted {
                format!("{} ", first.counters)
            } else {
                String::new()
            };
            let exact = line.get(..from).unwrap_or_default() == prefix;
            if !exact {
                // Counters in another form than the printer's: they belong to the words then.
                (first.counted, first.written) = (false, Written::As(line.into()));
            } else if !one || rule_line(chain, first) != text {
                first.written = Written::As(text.into());
            }
        }
        Ok(rules)
    }

    fn append(
        &mut self,
        line: &str,
        from: usize,
        w: &[Word],
        c: Option<Counters>,
    ) -> Result<(), Wrong> {
        let name = w.first().map(|w| w.text.clone()).unwrap_or_default();
        let rules = self.rules(line, from, w.get(1..).unwrap_or_default(), c, &name)?;
        let (chain, _) = self.target_chain(w.first(), line.len())?;
        if let Some(chain) = self.chain_at(chain) {
            chain.rules.extend(rules);
        }
        Ok(())
    }

    fn insert(
        &mut self,
        line: &str,
        from: usize,
        w: &[Word],
        c: Option<Counters>,
    ) -> Result<(), Wrong> {
        let place = w.get(1).and_then(|w| w.text.parse::<usize>().ok());
        let words = w
            .get(if place.is_some() { 2 } else { 1 }..)
            .unwrap_or_default();
        let name = w.first().map(|w| w.text.clone()).unwrap_or_default();
        let rules = self.rules(line, from, words, c, &name)?;
        let (chain, name) = self.target_chain(w.first(), line.len())?;
        let place = place.unwrap_or(1);
        let at = w.get(1).map_or(line.len(), |w| w.at);
        let len = self.chain_at(chain).map_or(0, |c| c.rules.len());
        if place == 0 || place > len + 1 {
            return Err((at, format!("a place from 1 to {}", len + 1)));
        }
        if let Some(chain) = self.chain_at(chain) {
            chain.rules.splice(place - 1..place - 1, rules);
        }
        self.record(Command::Insert(name, place));
        Ok(())
    }

    fn delete(&mut self, end: usize, w: &[Word]) -> Result<(), Wrong> {
        let chain = w.first().ok_or((end, "a chain".to_owned()))?;
        let Some(index) = self.index.get(&chain.text).copied() else {
            return Err((chain.at, "a chain that is there".to_owned()));
        };
        let at = w.get(1).map_or(end, |w| w.at);
        let place = match w.get(1).map(|w| w.text.parse::<usize>()) {
            Some(Ok(n)) => n.checked_sub(1),
            _ => {
                let chains = &self.index;
                let words = w.get(1..).unwrap_or_default();
                let parsed = rule::read(words, end, self.set.family, &|n| chains.contains_key(n))?;
                let rules = self
                    .chain_at(index)
                    .map(|c| c.rules.as_slice())
                    .unwrap_or_default();
                let same = |r: &Rule| {
                    parsed.matches.first() == Some(&r.matches) && r.target == parsed.target
                };
                rules.iter().position(same)
            }
        };
        let name = chain.text.clone();
        let here = self.chain_at(index).map_or(0, |c| c.rules.len());
        match place.filter(|p| *p < here) {
            Some(place) => {
                self.remove(index, place..place + 1);
                self.record(Command::DeleteRule(name, place + 1));
                Ok(())
            }
            None => Err((at, "a rule that is there".to_owned())),
        }
    }

    /// Takes rules out of a chain; their lines stay as raw lines.
    fn remove(&mut self, chain: usize, range: core::ops::Range<usize>) {
        let Some(chain) = self.chain_at(chain) else {
            return;
        };
        let name = chain.name.clone();
        let removed: Vec<Rule> = chain.rules.drain(range).collect();
        for rule in removed {
            let text = match &rule.written {
                Written::Continued => continue,
                Written::As(text) => text.to_string(),
                Written::Same => rule_line(&name, &rule),
            };
            let prefix = if rule.counted {
                format!("{} ", rule.counters)
            } else {
                String::new()
            };
            self.raw(rule.line, &format!("{prefix}{text}"), false);
        }
    }

    fn chain_at(&mut self, index: usize) -> Option<&mut Chain> {
        self.set.tables.last_mut()?.chains.get_mut(index)
    }

    fn record(&mut self, command: Command) {
        let line = self.line;
        if let Some(table) = self.set.tables.last_mut() {
            table.commands.push((line, command));
        }
    }

    fn chain_command(&mut self, what: &str, end: usize, w: &[Word]) -> Result<(), Wrong> {
        let chain = w.first().map(|w| w.text.clone());
        let policy = matches!(what, "-P" | "--policy");
        if let Some(extra) = w.get(if policy { 2 } else { 1 }) {
            return Err((extra.at, "the end of the line".to_owned()));
        }
        let at = w.first().map_or(end, |w| w.at);
        let named = chain.as_deref().map(|c| self.index.get(c).copied());
        if what.starts_with("-N") || what == "--new-chain" {
            let name = w.first().ok_or((end, "a chain's name".to_owned()))?;
            chain_name(name)?;
            if let Some(Some(_)) = named {
                return Err((at, "a chain that is not there yet".to_owned()));
            }
            self.add_chain(Chain {
                declared: false,
                ..Chain::new(name.text.clone(), None)
            });
            self.record(Command::NewChain(name.text.clone()));
            return Ok(());
        }
        if policy {
            let value = w.get(1).and_then(|w| Policy::parse(&w.text));
            let value =
                value.ok_or((w.get(1).map_or(end, |w| w.at), "ACCEPT or DROP".to_owned()))?;
            let builtin = self
                .table_name()
                .map(TableName::builtin_chains)
                .unwrap_or_default();
            let name = chain.filter(|c| builtin.contains(&c.as_str()));
            let name = name.ok_or((at, "a built-in chain".to_owned()))?;
            let (index, _) = self.target_chain(w.first(), end)?;
            // A declared chain's own line keeps what it said.
            if let Some(c) = self.chain_at(index) {
                if c.declared && c.written == Written::Same {
                    c.written = Written::As(chain_line(c).into());
                }
                c.policy = Some(value);
            }
            self.record(Command::Policy(name, value));
            return Ok(());
        }
        match what {
            "-X" | "--delete-chain" => self.delete_chains(at, chain, named.flatten()),
            "-F" | "--flush" => {
                self.each(named, |p, i| {
                    let len = p.chain_at(i).map_or(0, |c| c.rules.len());
                    p.remove(i, 0..len);
                });
                self.record(Command::Flush(chain));
                Ok(())
            }
            _ => {
                self.record(Command::Zero(chain));
                Ok(())
            }
        }
    }

    fn each(&mut self, named: Option<Option<usize>>, mut act: impl FnMut(&mut Self, usize)) {
        match named {
            Some(one) => one.into_iter().for_each(|i| act(self, i)),
            None => {
                let all: Vec<usize> = self.index.values().copied().collect();
                all.into_iter().for_each(|i| act(self, i));
            }
        }
    }

    /// `-X CHAIN`; a chain that this input does not declare may be in the kernel.
    fn delete_chains(
        &mut self,
        at: usize,
        name: Option<String>,
        index: Option<usize>,
    ) -> Result<(), Wrong> {
        let builtin = self
            .table_name()
            .map(TableName::builtin_chains)
            .unwrap_or_default();
        let user = |n: &str| !builtin.contains(&n);
        if name.as_deref().is_some_and(|n| !user(n)) {
            return Err((at, "a user chain".to_owned()));
        }
        let targets: Vec<(String, usize)> = match (&name, index) {
            (Some(n), Some(i)) => vec![(n.clone(), i)],
            (Some(_), None) => Vec::new(),
            (None, _) => self
                .index
                .iter()
                .filter(|(n, _)| user(n))
                .map(|(n, i)| (n.clone(), *i))
                .collect(),
        };
        for (chain, i) in targets {
            match self.chain_at(i).is_some_and(|c| c.rules.is_empty()) {
                true => {
                    self.gone.insert(i);
                    self.index.remove(&chain);
                }
                false if name.is_some() => return Err((at, "a chain without rules".to_owned())),
                false => {}
            }
        }
        self.record(Command::DeleteChain(name));
        Ok(())
    }
}

/// `[packets:bytes]`.
pub(super) fn brackets(text: &str) -> Option<Counters> {
    let (packets, bytes) = text.strip_prefix('[')?.strip_suffix(']')?.split_once(':')?;
    Some(Counters {
        packets: packets.parse().ok()?,
        bytes: bytes.parse().ok()?,
    })
}

/// Chain names have at most 28 bytes (uapi x_tables.h XT_EXTENSION_MAXNAMELEN 29 with the closing zero).
fn chain_name(word: &Word) -> Result<(), Wrong> {
    let text = &word.text;
    let good = (1..29).contains(&text.len()) && !text.starts_with(['-', '!']);
    match good && !text.contains([' ', '\t', '"']) {
        true => Ok(()),
        false => Err((word.at, "a chain's name of 1 to 28 letters".to_owned())),
    }
}

/// What stands at the place, cut to a readable length.
fn excerpt(line: &str, at: usize) -> String {
    let from = line.get(at..).filter(|s| !s.is_empty()).unwrap_or(line);
    match from.char_indices().nth(48) {
        Some((end, _)) => format!("{}...", from.get(..end).unwrap_or_default()),
        None => from.to_owned(),
    }
}
