//! What an agent wants in a node's tables: chains, jumps from the built-in ones, ipsets, nftables; and the
//! input that makes a node so.
//!
//! What is restored is only what differs from what the agent wrote before. Nothing is
//! carried out here. Invariant: applying the difference from A to B after A gives what B alone gives.

use core::fmt::Write;
use std::collections::{BTreeMap, BTreeSet};

use crate::base::Origin;

/// One rule as `iptables-restore` reads it, without `-A CHAIN`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleLine {
    /// Matches and target.
    pub text: String,
    /// From what it was made; empty for fixed rules.
    pub from: Option<Origin>,
}

impl RuleLine {
    /// A rule that follows from no object.
    pub fn fixed(text: impl Into<String>) -> Self {
        RuleLine {
            text: text.into(),
            from: None,
        }
    }

    /// A rule made from an object.
    pub fn of(text: impl Into<String>, origin: &Origin) -> Self {
        RuleLine {
            text: text.into(),
            from: Some(origin.clone()),
        }
    }
}

/// A rule of the agent in a built-in chain of `filter`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HookRule {
    /// `INPUT`, `FORWARD`, `OUTPUT`.
    pub chain: &'static str,
    /// At the head of the chain, not at its end.
    pub first: bool,
    /// The rule.
    pub text: String,
}

/// One family's `filter` table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// The agent's own chains.
    pub chains: BTreeMap<String, Vec<RuleLine>>,
    /// Its rules in built-in chains; those with `first` come to stand in the reverse order.
    pub hooks: Vec<HookRule>,
}

/// An ipset.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetText {
    /// Type and options, as behind `create NAME`.
    pub kind: String,
    /// Members, with their options.
    pub members: BTreeSet<String>,
}

/// All that one agent wants on one node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Layout {
    /// IPv4 and IPv6.
    pub filter: [Filter; 2],
    /// ipsets by name.
    pub sets: BTreeMap<String, SetText>,
    /// A script for `nft -f`, whole.
    pub nft: String,
}

impl Layout {
    /// Input of `ipset restore` before the rules: new sets, new and gone members.
    pub fn sets_before(&self, was: &Layout) -> String {
        let mut out = String::new();
        for (name, set) in &self.sets {
            let old = was.sets.get(name).filter(|old| old.kind == set.kind);
            if old.is_none() {
                let _ = writeln!(out, "create {name} {}", set.kind);
            }
            let empty = BTreeSet::new();
            let members = old.map_or(&empty, |old| &old.members);
            for gone in members.difference(&set.members) {
                let bare = gone.split(' ').next().unwrap_or_default();
                let _ = writeln!(out, "del {name} {bare}");
            }
            for new in set.members.difference(members) {
                let _ = writeln!(out, "add {name} {new}");
            }
        }
        out
    }

    /// Input of `ipset restore` after the rules: sets that nothing asks any more.
    pub fn sets_after(&self, was: &Layout) -> String {
        let gone = was
            .sets
            .keys()
            .filter(|name| !self.sets.contains_key(*name));
        gone.map(|name| format!("destroy {name}\n")).collect()
    }
}

impl Filter {
    /// Input of `iptables-restore --noflush`; empty when nothing differs.
    pub fn restore(&self, was: &Filter) -> String {
        let mut heads = String::new();
        let mut rules = String::new();
        let mut tail = String::new();
        for (name, lines) in &self.chains {
            if was.chains.get(name) == Some(lines) {
                continue;
            }
            let _ = writeln!(heads, ":{name} - [0:0]");
            for line in lines {
                let _ = writeln!(rules, "-A {name} {}", line.text);
            }
        }
        for gone in was.hooks.iter().filter(|h| !self.hooks.contains(h)) {
            let _ = writeln!(tail, "-D {} {}", gone.chain, gone.text);
        }
        for new in self.hooks.iter().filter(|h| !was.hooks.contains(h)) {
            let op = if new.first { "-I" } else { "-A" };
            let _ = writeln!(rules, "{op} {} {}", new.chain, new.text);
        }
        let gone = was.chains.keys().filter(|c| !self.chains.contains_key(*c));
        for name in gone {
            let _ = writeln!(heads, ":{name} - [0:0]");
            let _ = writeln!(tail, "-X {name}");
        }
        if heads.is_empty() && rules.is_empty() && tail.is_empty() {
            return String::new();
        }
        format!("*filter\n{heads}{rules}{tail}COMMIT\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(chains: &[(&str, &[&str])]) -> Filter {
        let lines = |rules: &[&str]| rules.iter().map(|r| RuleLine::fixed(*r)).collect();
        Filter {
            chains: chains
                .iter()
                .map(|(n, r)| ((*n).to_owned(), lines(r)))
                .collect(),
            hooks: Vec::new(),
        }
    }

    #[test]
    fn only_what_differs_is_written() {
        let a = filter(&[("A", &["-j ACCEPT"]), ("B", &["-j DROP"]), ("C", &[])]);
        let b = filter(&[("A", &["-j ACCEPT"]), ("B", &["-j RETURN"]), ("D", &[])]);
        assert_eq!(a.restore(&a), "");
        let text = "*filter\n:B - [0:0]\n:D - [0:0]\n:C - [0:0]\n-A B -j RETURN\n-X C\nCOMMIT\n";
        assert_eq!(b.restore(&a), text);
    }

    #[test]
    fn members_come_and_go() {
        let layout = |members: &[&str]| Layout {
            sets: BTreeMap::from([(
                "s".to_owned(),
                SetText {
                    kind: "hash:ip".to_owned(),
                    members: members.iter().map(|m| (*m).to_owned()).collect(),
                },
            )]),
            ..Layout::default()
        };
        let (a, b) = (
            layout(&["10.0.0.1", "10.0.0.2 nomatch"]),
            layout(&["10.0.0.3"]),
        );
        let none = Layout::default();
        let text = "create s hash:ip\nadd s 10.0.0.1\nadd s 10.0.0.2 nomatch\n";
        assert_eq!(a.sets_before(&none), text);
        assert_eq!(
            b.sets_before(&a),
            "del s 10.0.0.1\ndel s 10.0.0.2\nadd s 10.0.0.3\n"
        );
        assert_eq!(none.sets_after(&a), "destroy s\n");
    }
}
