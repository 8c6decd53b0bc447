//! A rule set: tables, chains and rules with their counters, where each came from and how it was written.
//!
//! State only: reading is [`RuleSet::parse`], evaluation is not here. Invariant: a rule keeps its own
//! text only where the kernel's form of it differs, and its matches and target cannot change without
//! dropping that text.

use core::fmt;
use core::net::IpAddr;
use std::sync::Arc;

use super::{Match, Target};
use crate::base::Origin;

/// Which of the two: iptables or ip6tables.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(addr: IpAddr) -> Self {
        if addr.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        }
    }
}

macro_rules! names {
    ($($(#[$meta:meta])* $name:ident { $($v:ident = $text:literal,)+ })+) => { $(
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $name { $(#[doc = concat!("`", $text, "`")] $v,)+ }

        impl $name {
            /// The one that is spelt so.
            pub fn parse(text: &str) -> Option<Self> {
                match text {
                    $($text => Some($name::$v),)+
                    _ => None,
                }
            }

            /// How it is spelt.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$v => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )+ };
}

names! {
    /// A table, in the order in which one hook runs them.
    TableName { Raw = "raw", Mangle = "mangle", Nat = "nat", Filter = "filter", Security = "security", }
    /// What happens at the end of a built-in chain.
    Policy { Accept = "ACCEPT", Drop = "DROP", }
}

impl TableName {
    /// The chains that belong to hooks (kernel: `iptable_*.c` valid_hooks).
    pub fn builtin_chains(self) -> &'static [&'static str] {
        match self {
            TableName::Raw => &["PREROUTING", "OUTPUT"],
            TableName::Mangle => &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"],
            TableName::Nat => &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"],
            TableName::Filter | TableName::Security => &["INPUT", "FORWARD", "OUTPUT"],
        }
    }
}

/// What a rule or a policy has counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Packets.
    pub packets: u64,
    /// Bytes, from the IP header on.
    pub bytes: u64,
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}:{}]", self.packets, self.bytes)
    }
}

/// How a line stood in its file, where the kernel's form of it differs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) enum Written {
    /// As the printer writes it.
    #[default]
    Same,
    /// In these words (without `[packets:bytes]`).
    As(Arc<str>),
    /// Not at all: it came from the line of the rule before (`-s a,b` is two rules).
    Continued,
}

/// One rule.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rule {
    pub(super) matches: Vec<Match>,
    pub(super) target: Target,
    /// What it has counted.
    pub counters: Counters,
    /// Where it came from.
    pub origin: Origin,
    pub(super) counted: bool,
    pub(super) line: u32,
    pub(super) written: Written,
}

impl Rule {
    /// A rule that no file has; matches in the order in which they are asked.
    pub fn new(matches: Vec<Match>, target: Target, origin: Origin) -> Self {
        Rule {
            matches,
            target,
            origin,
            ..Rule::default()
        }
    }

    /// What it asks: the IP header first, then the extensions in order.
    pub fn matches(&self) -> &[Match] {
        &self.matches
    }

    /// What it does.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The text of its first comment.
    pub fn comment(&self) -> Option<&str> {
        self.matches.iter().find_map(|m| match m {
            Match::Comment(c) => c.text.as_ref().map(|t| t.0.as_str()),
            _ => None,
        })
    }

    /// Whether all of it is understood.
    pub fn is_known(&self) -> bool {
        !matches!(self.target, Target::Unknown { .. })
            && !self
                .matches
                .iter()
                .any(|m| matches!(m, Match::Unknown { .. }))
    }
}

/// A chain.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// Only built-in chains have one.
    pub policy: Option<Policy>,
    /// What the policy has counted; for user chains, what the file said.
    pub counters: Counters,
    /// Its rules in order.
    pub rules: Vec<Rule>,
    /// Whether the input had a `:CHAIN` line for it; restoring with --noflush empties such a user chain.
    pub declared: bool,
    /// A base chain of nf_tables that a rule made: its policy counts nothing until a `:CHAIN` line, `-P` or
    /// `-Z` gives it counters (iptables-nft: `nft_chain_builtin_add` adds none).
    pub uncounted: bool,
    pub(super) line: u32,
    pub(super) written: Written,
}

impl Chain {
    /// An empty chain.
    pub fn new(name: impl Into<String>, policy: Option<Policy>) -> Self {
        Chain {
            name: name.into(),
            policy,
            declared: true,
            uncounted: false,
            ..Chain::default()
        }
    }
}

/// What a restore input commands besides chains and appended rules, with its line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// `-X CHAIN` or `-X`: the chain, or every empty user chain, goes.
    DeleteChain(Option<String>),
    /// `-F CHAIN` or `-F`: the rules of a chain, or of all, go.
    Flush(Option<String>),
    /// `-N CHAIN`.
    NewChain(String),
    /// `-P CHAIN POLICY`.
    Policy(String, Policy),
    /// `-I CHAIN N`: the rule was put at this place, from 1.
    Insert(String, usize),
    /// `-D CHAIN N` or `-D CHAIN rule`: the rule at this place went, from 1.
    DeleteRule(String, usize),
    /// `-Z CHAIN` or `-Z`: counters to zero.
    Zero(Option<String>),
}

/// A table: chains in file order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    /// Which.
    pub name: TableName,
    /// Its chains.
    pub chains: Vec<Chain>,
    /// Commands that were carried out on it while it was read, for a restore with --noflush to repeat.
    pub commands: Vec<(u32, Command)>,
    /// Whether `COMMIT` closed it; without, restore changes nothing.
    pub committed: bool,
    pub(super) line: u32,
    pub(super) commit_line: u32,
}

impl Table {
    /// An empty table.
    pub fn new(name: TableName) -> Self {
        let (chains, commands) = (Vec::new(), Vec::new());
        Table {
            name,
            chains,
            commands,
            committed: true,
            line: 0,
            commit_line: 0,
        }
    }

    /// A chain by name.
    pub fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|c| c.name == name)
    }

    /// A chain by name, to change it.
    pub fn chain_mut(&mut self, name: &str) -> Option<&mut Chain> {
        self.chains.iter_mut().find(|c| c.name == name)
    }
}

/// A line that is no chain, rule or table: a comment, a blank line, a command, or one that was not
/// understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RawLine {
    /// 1-based line.
    pub line: u32,
    /// As it stood.
    pub text: Arc<str>,
    /// Whether a finding says that it could not be used.
    pub bad: bool,
}

/// All rules of one family in one namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleSet {
    /// IPv4 or IPv6.
    pub family: Family,
    /// In file order.
    pub tables: Vec<Table>,
    /// Lines beside the rules.
    pub raw: Vec<RawLine>,
    pub(super) final_newline: bool,
}

impl RuleSet {
    /// No tables.
    pub fn new(family: Family) -> Self {
        RuleSet {
            family,
            tables: Vec::new(),
            raw: Vec::new(),
            final_newline: true,
        }
    }

    /// A table by name; the last one if the file has several.
    pub fn table(&self, name: TableName) -> Option<&Table> {
        self.tables.iter().rev().find(|t| t.name == name)
    }

    /// How many rules it has.
    pub fn rule_count(&self) -> usize {
        self.tables
            .iter()
            .flat_map(|t| &t.chains)
            .map(|c| c.rules.len())
            .sum()
    }
}
