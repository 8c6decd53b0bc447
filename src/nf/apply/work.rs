//! One table while commands change it.
//!
//! Built-in chains stand in hook order and user chains by name, as both back ends list them (libiptc
//! `iptcc_insert_chain`, iptables nft-cache.c `nft_cache_add_chain`). Invariant: every jump of the
//! table leads to a user chain of it; who looks at its chains finds all built-in ones.

use super::Tool;
use super::command::{At, Line, Verb};
use super::list;
use super::ready::{Ready, named};
use super::refused::{No, Reason};
use super::verify;
use crate::base::Origin;
use crate::nf::netfilter::Backend;
use crate::nf::table::{Chain, Counters, Family, Policy, Rule, RuleSet, Table, TableName};
use crate::nf::{Match, Target};
use std::collections::{BTreeMap, BTreeSet};

/// A table taken out of its rule set.
#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) name: TableName,
    tool: Tool,
    /// Its index among the tables of the set, if it was there.
    at: Option<usize>,
    /// Line of a restore input that is carried out now; kept on its rules until they settle.
    pub(super) line: u32,
    /// Whether the commands are those of a restore input: rules are then held against the kernel's conditions
    /// by the caller, for the whole table.
    pub(super) batch: bool,
    /// What the kernel will refuse when the nft tool sends its batch, and at which line.
    pub(super) refused: Option<(u32, At)>,
    /// Whether something was done for which the nft tool makes a table.
    made: bool,
    /// Built-in chains whose policy was set.
    set: BTreeSet<String>,
    pub(super) builtin: Vec<Chain>,
    pub(super) user: BTreeMap<String, Chain>,
    /// Rules that jump to each chain; counted when first asked for.
    uses: Option<BTreeMap<String, usize>>,
}

impl Work {
    /// Takes the table out; one that is not there is opened as the kernel makes it, empty.
    pub(super) fn open(set: &mut RuleSet, name: TableName, tool: Tool) -> Self {
        let at = set.tables.iter().rposition(|t| t.name == name);
        let found = at.map(|i| set.tables.remove(i));
        Work::of(found, at, name, tool)
    }

    /// The same on a copy: what a restore input works on until its `COMMIT`.
    pub(super) fn copy(set: &RuleSet, name: TableName, tool: Tool) -> Self {
        let at = set.tables.iter().rposition(|t| t.name == name);
        Work {
            batch: true,
            ..Work::of(set.table(name).cloned(), at, name, tool)
        }
    }

    fn of(table: Option<Table>, at: Option<usize>, name: TableName, tool: Tool) -> Self {
        let mut user: BTreeMap<String, Chain> = table
            .map(|t| t.chains)
            .unwrap_or_default()
            .into_iter()
            .map(|c| (c.name.clone(), c))
            .collect();
        let uncounted = tool.backend == Backend::Nft;
        let builtin = |n: &&str| {
            let fresh = || Chain {
                uncounted,
                ..Chain::new(*n, Some(Policy::Accept))
            };
            let mut chain = user.remove(*n).unwrap_or_else(fresh);
            chain.policy.get_or_insert(Policy::Accept);
            chain
        };
        let builtin = name.builtin_chains().iter().map(builtin).collect();
        Work {
            name,
            tool,
            at,
            line: 0,
            batch: false,
            refused: None,
            made: false,
            set: BTreeSet::new(),
            builtin,
            user,
            uses: None,
        }
    }

    /// Forgets everything in it, as a restore without --noflush does.
    pub(super) fn clear(&mut self) {
        self.made = true;
        self.user.clear();
        self.uses = None;
        for chain in &mut self.builtin {
            chain.rules.clear();
            chain.counters = Counters::default();
            // Legacy policies stay until a `:CHAIN` line sets them; the nft tool deletes the whole table.
            if self.tool.backend == Backend::Nft {
                chain.policy = Some(Policy::Accept);
                chain.uncounted = true;
            }
        }
    }

    /// Puts the table back at the place its back end lists it: nft in a fixed order (nft.c
    /// `xtables_ipv4`), legacy the youngest first (kernel: `xt_register_table`).
    ///
    /// A table that was not there stays away unless something was made in it; the legacy kernel has it once
    /// the tool has read it.
    pub(super) fn close(mut self, set: &mut RuleSet, changed: bool) {
        let legacy = self.tool.backend == Backend::Legacy;
        if self.at.is_none() && !legacy && !(self.made && changed) {
            return;
        }
        if legacy && changed {
            // libiptc hands the kernel no policy counters for chains it read unchanged
            // (`TC_COMMIT`, COUNTER_MAP_NORMAL_MAP of a policy): they restart.
            self.restart_policies();
        }
        let mut table = Table::new(self.name);
        table.chains = self.builtin;
        table.chains.extend(self.user.into_values());
        let order = |n: TableName| match n {
            TableName::Mangle => 0,
            TableName::Security => 1,
            TableName::Raw => 2,
            TableName::Filter => 3,
            TableName::Nat => 4,
        };
        let at = match (legacy, self.at) {
            (true, at) => at.unwrap_or(0),
            (false, _) => {
                let mine = order(self.name);
                let before = |t: &Table| order(t.name) < mine;
                set.tables.iter().take_while(|t| before(t)).count()
            }
        };
        set.tables.retain(|t| t.name != table.name);
        let at = at.min(set.tables.len());
        set.tables.insert(at, table);
    }

    /// Puts a copy in place of the table it was made from.
    pub(super) fn commit(mut self, set: &mut RuleSet) {
        let chains = self.builtin.iter_mut().chain(self.user.values_mut());
        chains.flat_map(|c| &mut c.rules).for_each(|r| r.line = 0);
        set.tables.retain(|t| t.name != self.name);
        self.close(set, true);
    }

    fn restart_policies(&mut self) {
        for chain in &mut self.builtin {
            if !self.set.contains(&chain.name) {
                chain.counters = Counters::default();
            }
        }
    }

    /// Sets a built-in chain's policy.
    pub(super) fn set_policy(&mut self, name: &str, policy: Policy, counters: Option<Counters>) {
        self.made = true;
        if let Some(c) = self.chain_mut(name) {
            c.policy = Some(policy);
            c.counters = counters.unwrap_or_default();
            c.uncounted = false;
            self.set.insert(name.to_owned());
        }
    }

    /// Which tool's table it is.
    pub(super) fn backend(&self) -> Backend {
        self.tool.backend
    }

    /// A chain.
    pub(super) fn chain(&self, name: &str) -> Option<&Chain> {
        let builtin = self.builtin.iter().find(|c| c.name == name);
        builtin.or_else(|| self.user.get(name))
    }

    pub(super) fn chain_mut(&mut self, name: &str) -> Option<&mut Chain> {
        match self.builtin.iter().position(|c| c.name == name) {
            Some(i) => self.builtin.get_mut(i),
            None => self.user.get_mut(name),
        }
    }

    pub(super) fn is_builtin(&self, name: &str) -> bool {
        self.name.builtin_chains().contains(&name)
    }

    /// Every chain in listing order.
    pub(super) fn chains(&self) -> impl Iterator<Item = &Chain> {
        self.builtin.iter().chain(self.user.values())
    }

    /// How many rules jump to a chain.
    fn used(&mut self, name: &str) -> usize {
        if self.uses.is_none() {
            let mut uses = BTreeMap::new();
            for to in self.chains().flat_map(|c| &c.rules).filter_map(jump) {
                *uses.entry(to.to_owned()).or_insert(0) += 1;
            }
            self.uses = Some(uses);
        }
        let uses = self.uses.as_ref();
        uses.and_then(|u| u.get(name)).copied().unwrap_or(0)
    }

    fn count(&mut self, rules: &[Rule], more: bool) {
        let Some(uses) = &mut self.uses else { return };
        for to in rules.iter().filter_map(jump) {
            let n = uses.entry(to.to_owned()).or_insert(0);
            *n = if more { *n + 1 } else { n.saturating_sub(1) };
        }
    }

    /// Puts rules into a chain at a place from 0.
    pub(super) fn put(&mut self, chain: &str, at: usize, rules: Vec<Rule>) {
        self.made = true;
        self.count(&rules, true);
        if let Some(c) = self.chain_mut(chain) {
            let at = at.min(c.rules.len());
            c.rules.splice(at..at, rules);
        }
    }

    fn take(&mut self, chain: &str, range: core::ops::Range<usize>) -> Vec<Rule> {
        let Some(c) = self.chain_mut(chain) else {
            return Vec::new();
        };
        let end = range.end.min(c.rules.len());
        let gone: Vec<Rule> = c.rules.drain(range.start.min(end)..end).collect();
        self.count(&gone, false);
        gone
    }

    /// Empties a chain.
    pub(super) fn flush(&mut self, chain: &str) {
        self.made = true;
        self.take(chain, 0..usize::MAX);
    }

    /// Carries out one command; what it prints.
    pub(super) fn carry_out(&mut self, ready: &Ready, origin: &Origin) -> Result<String, At> {
        let line = &ready.line;
        match line.verb {
            Verb::Append | Verb::Insert | Verb::Replace | Verb::Delete | Verb::Check
                if line.takes_rule() =>
            {
                self.rule_command(ready, origin)
            }
            Verb::Delete => self.delete_at(line),
            Verb::List | Verb::ListRules | Verb::Zero => self.list_or_zero(line),
            _ => self.chain_command(ready),
        }
        .map_err(|(at, reason)| (if at == 0 { line.at } else { at }, reason))
    }

    fn list_or_zero(&mut self, line: &Line) -> Result<String, At> {
        let chain = line.chain.as_ref();
        if let Some(c) = chain.filter(|c| self.chain(&c.text).is_none()) {
            return Err((c.at, Reason::NoChain));
        }
        let text = match line.verb {
            Verb::ListRules => list::rules(
                self,
                chain.map(|c| c.text.as_str()),
                line.place.map(|p| p.1),
                line.verbose,
            ),
            _ => String::new(),
        };
        let absent = self.at.is_none() && !self.made && self.backend() == Backend::Nft;
        if let Some(c) = chain.filter(|_| line.verb == Verb::Zero && absent) {
            return Err((c.at, Reason::NoChain));
        }
        if line.zero {
            self.zero(
                chain.map(|c| c.text.as_str()),
                line.place.filter(|_| line.verb == Verb::Zero),
            )?;
        }
        Ok(text)
    }

    fn zero(&mut self, chain: Option<&str>, place: Option<(usize, usize)>) -> Result<(), At> {
        let legacy = self.tool.backend == Backend::Legacy;
        let mut known = place.is_none();
        for c in self.builtin.iter_mut().chain(self.user.values_mut()) {
            if chain.is_some_and(|n| n != c.name) {
                continue;
            }
            match place {
                None => {
                    c.counters = Counters::default();
                    c.uncounted = false;
                    let rules = c.rules.iter_mut();
                    rules.for_each(|r| r.counters = Counters::default());
                }
                Some((_, n)) => {
                    if let Some(rule) = c.rules.get_mut(n.saturating_sub(1)) {
                        rule.counters = Counters::default();
                        known = true;
                    }
                }
            }
        }
        match (known, place) {
            (false, Some((at, _))) if legacy => Err((at, Reason::CounterTooBig)),
            _ => Ok(()),
        }
    }

    fn delete_at(&mut self, line: &Line) -> Result<String, At> {
        let (name, at) = named(line);
        let len = self.chain(name).map(|c| c.rules.len());
        let len = len.ok_or((at, Reason::NoChain))?;
        let (place_at, place) = line.place.unwrap_or((at, 0));
        if place == 0 || place > len {
            return Err((place_at, Reason::DeletionTooBig));
        }
        self.take(name, place - 1..place);
        Ok(String::new())
    }

    fn chain_command(&mut self, ready: &Ready) -> Result<String, At> {
        let line = &ready.line;
        let (name, at) = named(line);
        let all = line.chain.is_none();
        let there = self.chain(name).is_some();
        match line.verb {
            Verb::New if there => return Err((at, Reason::ChainExists)),
            Verb::New => self.add_chain(name),
            Verb::Flush if all => {
                let names: Vec<String> = self.chains().map(|c| c.name.clone()).collect();
                let made = self.made;
                names.iter().for_each(|n| self.flush(n));
                self.made = made;
            }
            Verb::Flush | Verb::DeleteChain if !all && !there => {
                return Err((at, Reason::NoChain));
            }
            Verb::Flush => self.flush(name),
            Verb::DeleteChain => {
                let done = match all {
                    true => self.delete_all(at),
                    false => self.delete_chain(name, at),
                };
                if let Err(no) = done {
                    self.later(no, line)?;
                }
            }
            Verb::Rename => self.rename(line, name, at)?,
            Verb::Policy => self.policy(ready, name, at)?,
            _ => {}
        }
        Ok(String::new())
    }

    /// A new user chain.
    pub(super) fn add_chain(&mut self, name: &str) {
        self.made = true;
        self.user.insert(name.to_owned(), Chain::new(name, None));
    }

    fn busy(&self, name: &str, no: No) -> Reason {
        Reason::Kernel("CHAIN_DEL", format!("chain {name}"), no)
    }

    fn delete_chain(&mut self, name: &str, at: usize) -> Result<(), At> {
        let rules = self.chain(name).map_or(0, |c| c.rules.len());
        if self.is_builtin(name) {
            // The nft tool deletes an empty base chain and shows it as before; legacy never does.
            return match self.tool.backend {
                Backend::Nft if rules == 0 => Ok(()),
                Backend::Nft => Err((at, self.busy(name, No::NotEmpty))),
                Backend::Legacy => Err((at, self.busy(name, No::Invalid))),
            };
        }
        if self.used(name) > 0 {
            return Err((at, self.busy(name, No::Referenced)));
        }
        if rules > 0 {
            return Err((at, self.busy(name, No::NotEmpty)));
        }
        self.user.remove(name);
        Ok(())
    }

    /// `-X` without a name: all user chains go, or none if one cannot.
    fn delete_all(&mut self, at: usize) -> Result<(), At> {
        let names: Vec<String> = self.user.keys().cloned().collect();
        for name in &names {
            let rules = self.user.get(name).is_some_and(|c| !c.rules.is_empty());
            let no = match (self.used(name) > 0, rules) {
                (true, _) => No::Referenced,
                (_, true) => No::NotEmpty,
                _ => continue,
            };
            return Err((at, self.busy(name, no)));
        }
        self.user.clear();
        Ok(())
    }

    /// The nft tool goes on as if the chain were gone; the kernel's no comes with the batch.
    fn later(&mut self, no: At, line: &Line) -> Result<(), At> {
        if self.backend() == Backend::Legacy || !self.batch {
            return Err(no);
        }
        match &line.chain {
            Some(c) => drop(self.user.remove(&c.text)),
            None => self.user.clear(),
        }
        self.uses = None;
        self.refused.get_or_insert((self.line, no));
        Ok(())
    }

    fn rename(&mut self, line: &Line, name: &str, at: usize) -> Result<(), At> {
        let new = line.second.as_ref().ok_or((at, Reason::NoChain))?;
        if self.chain(&new.text).is_some() {
            return Err((new.at, Reason::FileExists));
        }
        // The nft tool renames a base chain and then lists it no more; not copied.
        let Some(mut chain) = self.user.remove(name) else {
            return Err((at, Reason::NoChain));
        };
        chain.name.clone_from(&new.text);
        self.user.insert(new.text.clone(), chain);
        let chains = self.builtin.iter_mut().chain(self.user.values_mut());
        for rule in chains.flat_map(|c| &mut c.rules) {
            if let Target::Jump(to) | Target::Goto(to) = &mut rule.target
                && to == name
            {
                to.clone_from(&new.text);
            }
        }
        self.uses = None;
        Ok(())
    }

    fn policy(&mut self, ready: &Ready, name: &str, at: usize) -> Result<(), At> {
        let word = ready.line.second.as_ref().ok_or((at, Reason::BadPolicy))?;
        if !self.is_builtin(name) {
            return Err((at, Reason::BadBuiltin));
        }
        let policy = Policy::parse(&word.text).ok_or((word.at, Reason::BadPolicy))?;
        self.set_policy(name, policy, ready.counters);
        Ok(())
    }

    fn rule_command(&mut self, ready: &Ready, origin: &Origin) -> Result<String, At> {
        let line = &ready.line;
        let (name, at) = named(line);
        let rules = self.rules(ready, origin)?;
        let asked = matches!(line.verb, Verb::Delete | Verb::Check);
        let chain = match self.chain(name) {
            Some(c) => c,
            None if asked => return Err((at, Reason::BadRule)),
            None => return Err((at, Reason::NoChain)),
        };
        let len = chain.rules.len();
        match line.verb {
            Verb::Check | Verb::Delete => {
                let mut left: Vec<(usize, &Rule)> = chain.rules.iter().enumerate().collect();
                let mut found = Vec::new();
                for r in &rules {
                    let same =
                        |x: &(usize, &Rule)| x.1.matches == r.matches && x.1.target == r.target;
                    let i = left.iter().position(same);
                    let i = i.ok_or_else(|| (line.at, self.missing(r)))?;
                    found.push(match line.verb {
                        Verb::Delete => left.remove(i).0,
                        _ => i,
                    });
                }
                if line.verb == Verb::Delete {
                    found.sort_unstable();
                    for i in found.into_iter().rev() {
                        self.take(name, i..i + 1);
                    }
                }
                return Ok(String::new());
            }
            _ => {}
        }
        let place = match (line.verb, line.place) {
            (Verb::Insert, None) => 0,
            (Verb::Insert, Some((at, n))) if n > len + 1 => {
                return Err((at, Reason::InsertionTooBig));
            }
            (Verb::Replace, Some((at, n))) if n > len => {
                return Err((at, Reason::ReplacementTooBig));
            }
            (_, Some((_, n))) => n.saturating_sub(1),
            _ => len,
        };
        let step = match line.verb {
            Verb::Append => "RULE_APPEND",
            Verb::Insert => "RULE_INSERT",
            _ => "RULE_REPLACE",
        };
        let count = rules.len();
        let old = match line.verb {
            Verb::Replace => self.take(name, place..place + 1),
            _ => Vec::new(),
        };
        match line.verb {
            // Each is put at the place: the last stands first.
            Verb::Insert => self.put(name, place, rules.into_iter().rev().collect()),
            _ => self.put(name, place, rules),
        }
        if self.batch {
            return Ok(String::new());
        }
        let Err((_, _, no)) = verify::table(self) else {
            return Ok(String::new());
        };
        let new = self.take(name, place..place + count);
        self.put(name, place, old.clone());
        if verify::table(self).is_err() {
            // The table came with a rule that the kernel would not have taken: that one is not to blame.
            self.take(name, place..place + old.len());
            self.put(name, place, new);
            return Ok(String::new());
        }
        let what = format!("rule in chain {name}");
        Err((line.at, Reason::Kernel(step, what, no)))
    }

    /// The legacy library says so of a rule with a jump (libiptc: the label lookup is its last step).
    fn missing(&self, rule: &Rule) -> Reason {
        match (self.tool.backend, jump(rule)) {
            (Backend::Legacy, Some(_)) => Reason::NoChain,
            _ => Reason::BadRule,
        }
    }

    /// The rules of a line, whose jump must lead to a chain that is there.
    fn rules(&self, ready: &Ready, origin: &Origin) -> Result<Vec<Rule>, At> {
        let line = &ready.line;
        let target = match &ready.target {
            // What looked like an extension may be a chain.
            Target::Unknown { name, args } if args.is_empty() && self.chain(name).is_some() => {
                Target::Jump(name.clone())
            }
            t => t.clone(),
        };
        if let Target::Jump(to) | Target::Goto(to) = &target
            && self.chain(to).is_none()
        {
            return Err((line.word_at(to), Reason::NoTarget(to.clone())));
        }
        // ip6tables-nft 1.8.9 takes counters and sets none.
        let lost = self.backend() == Backend::Nft && self.tool.family == Family::V6;
        let counters = ready.counters.filter(|_| !lost).unwrap_or_default();
        let one = |matches: &Vec<Match>| {
            let mut rule = Rule::new(matches.clone(), target.clone(), origin.clone());
            (rule.counters, rule.line) = (counters, self.line);
            rule
        };
        Ok(ready.matches.iter().map(one).collect())
    }
}

/// Where a rule jumps or goes.
pub(super) fn jump(rule: &Rule) -> Option<&str> {
    match &rule.target {
        Target::Jump(to) | Target::Goto(to) => Some(to),
        _ => None,
    }
}
