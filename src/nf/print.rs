//! A rule set as text: as it was written, as the kernel's tools print it, or in the form for comparing.
//!
//! Invariant: for a rule set as [`RuleSet::parse`] gave it, [`RuleSet::to_text`] is the input, byte for byte.

use core::fmt::Write as _;

use super::Match;
use super::rule;
use super::table::{Chain, Rule, RuleSet, Table, Written};
use crate::base::Origin;

/// A chain's line as iptables-save prints it.
pub(super) fn chain_line(chain: &Chain) -> String {
    let policy = chain.policy.map_or("-", |p| p.as_str());
    format!(":{} {policy} {}", chain.name, chain.counters)
}

/// A rule's line as iptables-save prints it, counters left out.
pub(super) fn rule_line(chain: &str, rule: &Rule) -> String {
    let mut out = format!("-A {chain}");
    rule::print(&rule.matches, &rule.target, &mut out);
    out
}

fn with_counters(rule: &Rule, text: &str) -> String {
    match rule.counted {
        true => format!("{} {text}", rule.counters),
        false => text.to_owned(),
    }
}

impl Rule {
    /// The rule as iptables-save prints it in a chain, counters left out.
    pub fn text(&self, chain: &str) -> String {
        rule_line(chain, self)
    }
}

impl RuleSet {
    /// The rule set as it was written: every line in its place and in its words. Rules that no file had
    /// follow the rule before them.
    pub fn to_text(&self) -> String {
        let mut lines: Vec<(u32, String)> = Vec::new();
        let raw = self.raw.iter().map(|r| (r.line, r.text.to_string()));
        lines.extend(raw);
        let mut last = 0;
        for table in &self.tables {
            last = table_lines(table, last, &mut lines);
        }
        lines.sort_by_key(|l| l.0);
        let mut out = String::new();
        for (i, (_, text)) in lines.iter().enumerate() {
            out.push_str(if i > 0 { "\n" } else { "" });
            out.push_str(text);
        }
        if self.final_newline && !lines.is_empty() {
            out.push('\n');
        }
        out
    }

    /// The rule set as iptables-save prints it, without its comments; `counters` as with `-c`.
    pub fn to_save(&self, counters: bool) -> String {
        let mut out = String::new();
        for table in &self.tables {
            let _ = writeln!(out, "*{}", table.name);
            for chain in &table.chains {
                out.push_str(&chain_line(chain));
                out.push('\n');
            }
            for chain in &table.chains {
                for rule in &chain.rules {
                    if counters {
                        let _ = write!(out, "{} ", rule.counters);
                    }
                    out.push_str(&rule_line(&chain.name, rule));
                    out.push('\n');
                }
            }
            out.push_str("COMMIT\n");
        }
        out
    }

    /// The form for comparing: what was written and what the kernel prints for it have one canonical form.
    ///
    /// Counters, origins, spellings and raw lines are gone; chains are sorted; protocol matches without
    /// an option are left out. The order of rules and of the matches in a rule stays, as the kernel
    /// keeps it.
    pub fn canonical(&self) -> RuleSet {
        let mut set = RuleSet::new(self.family);
        for table in &self.tables {
            let mut plain = Table::new(table.name);
            for chain in &table.chains {
                let mut c = Chain::new(chain.name.clone(), chain.policy);
                let rule =
                    |r: &Rule| Rule::new(asking(&r.matches), r.target.clone(), Origin::Kernel);
                c.rules = chain.rules.iter().map(rule).collect();
                plain.chains.push(c);
            }
            plain.chains.sort_by(|a, b| a.name.cmp(&b.name));
            set.tables.push(plain);
        }
        set.tables.sort_by_key(|t| t.name);
        set
    }
}

/// The matches but those that ask nothing beyond the protocol that stands there already.
fn asking(matches: &[Match]) -> Vec<Match> {
    let protocol = matches.iter().find_map(|m| match m {
        Match::Protocol(p) if !p.not => Some(p.value.0),
        _ => None,
    });
    let empty = |m: &&Match| match m {
        Match::Tcp(t) => protocol == Some(6) && **t == Default::default(),
        Match::Udp(u) => protocol == Some(17) && **u == Default::default(),
        Match::Sctp(s) => protocol == Some(132) && **s == Default::default(),
        _ => false,
    };
    matches.iter().filter(|m| !empty(m)).cloned().collect()
}

/// Adds a table's lines; what has no place of its own follows what was added before it.
fn table_lines(table: &Table, before: u32, lines: &mut Vec<(u32, String)>) -> u32 {
    let start = if table.line == 0 { before } else { table.line };
    lines.push((start, format!("*{}", table.name)));
    let (mut last, mut max) = (start, start);
    for chain in table.chains.iter().filter(|c| c.declared) {
        last = if chain.line == 0 { last } else { chain.line };
        max = max.max(last);
        let text = match &chain.written {
            Written::As(text) => text.to_string(),
            _ => chain_line(chain),
        };
        lines.push((last, text));
    }
    for chain in &table.chains {
        for rule in &chain.rules {
            last = if rule.line == 0 { last } else { rule.line };
            max = max.max(last);
            match &rule.written {
                Written::Same => {
                    lines.push((last, with_counters(rule, &rule_line(&chain.name, rule))))
                }
                Written::As(text) => lines.push((last, with_counters(rule, text))),
                Written::Continued => {}
            }
        }
    }
    if table.committed {
        max = max.max(table.commit_line);
        lines.push((max, "COMMIT".to_owned()));
    }
    max
}
