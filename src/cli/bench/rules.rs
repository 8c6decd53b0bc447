//! How many rules a Linux node evaluates for the first frame of a new flow.
//!
//! The walk's trace tells the rules that matched and how many were passed over before each; the rest is
//! where the trace went: a chain that was left for its caller was asked to its end. podpath itself asks an
//! index and visits few of them. Invariant: rules are counted in the order in which the kernel asks them,
//! one by one (`ipt_do_table`, `nft_do_chain`); maps and sets count with the rule that asks them.

use crate::net::NetNs;
use crate::nf::{Backend, Family, TableName};
use crate::path::{Observer, Place, RuleAt, Step};
use crate::wire::Frame;

/// Counts the rules of walks.
#[derive(Debug, Default)]
pub struct Visits {
    /// Rules so far.
    pub rules: u64,
    /// Chains that the evaluation is in, outermost first, and how many rules of each are behind it.
    stack: Vec<Level>,
    /// The table that it is about.
    table: (String, String),
}

#[derive(Debug)]
struct Level {
    chain: String,
    behind: u64,
    /// Rules it has.
    len: u64,
}

/// Where a rule's packets go next, as its text says.
enum Goes {
    Jump(String),
    Goto(String),
    /// Back to the caller.
    Return,
    On,
    /// Nowhere: the evaluation is over.
    Ends,
}

fn goes(at: &RuleAt) -> Goes {
    let mut words = at.text.split_ascii_whitespace();
    let native = at.tool == "nft";
    while let Some(word) = words.next() {
        let mut name = || words.next().unwrap_or_default().to_owned();
        match (native, word) {
            (false, "-g") | (true, "goto") => return Goes::Goto(name()),
            (true, "jump") => return Goes::Jump(name()),
            (_, "RETURN") | (true, "return") => return Goes::Return,
            (false, "-j") => match name().as_str() {
                "RETURN" => return Goes::Return,
                "ACCEPT" | "DROP" | "REJECT" | "DNAT" | "SNAT" | "MASQUERADE" | "REDIRECT"
                | "NOTRACK" => return Goes::Ends,
                other => return Goes::Jump(other.to_owned()),
            },
            (true, "accept" | "drop" | "reject" | "dnat" | "snat" | "masquerade") => {
                return Goes::Ends;
            }
            _ => {}
        }
    }
    Goes::On
}

/// Rules of a chain; `None` where it is a target, not a chain.
fn len(ns: &NetNs, at: &RuleAt, chain: &str) -> Option<u64> {
    let nf = ns.nf()?;
    if at.tool == "nft" {
        let tables = nf.nft().tables.values();
        let mut of_name =
            tables.filter(|t| format!("{} {}", t.family.as_str(), t.name) == at.table);
        return Some(of_name.next()?.chains.get(chain)?.rules.len() as u64);
    }
    let family = match at.tool.starts_with("ip6") {
        true => Family::V6,
        false => Family::V4,
    };
    let backend = match at.tool.ends_with("-legacy") {
        true => Backend::Legacy,
        false => Backend::Nft,
    };
    let table = TableName::parse(&at.table)?;
    let chain = nf
        .rules(family)
        .backend(backend)?
        .table(table)?
        .chain(chain)?;
    Some(chain.rules.len() as u64)
}

impl Visits {
    /// The innermost chain was asked to its end.
    fn leave(&mut self) {
        if let Some(level) = self.stack.pop() {
            self.rules += level.len.saturating_sub(level.behind);
        }
    }

    /// Chains are left until `chain` is the innermost; it is entered if it is none of them.
    fn be_in(&mut self, ns: &NetNs, at: &RuleAt) {
        let table = (at.tool.to_owned(), at.table.to_string());
        if self.table != table {
            (self.table, self.stack) = (table, Vec::new());
        }
        if !self.stack.iter().any(|l| l.chain == at.chain) {
            let len = len(ns, at, &at.chain).unwrap_or(0);
            self.stack.push(Level {
                chain: at.chain.clone(),
                behind: 0,
                len,
            });
        }
        while self.stack.last().is_some_and(|l| l.chain != at.chain) {
            self.leave();
        }
    }

    fn rule(&mut self, ns: &NetNs, at: &RuleAt, number: u64) {
        self.be_in(ns, at);
        if let Some(level) = self.stack.last_mut() {
            self.rules += number.saturating_sub(level.behind);
            level.behind = number;
        }
        // Anything else is a target of an extension.
        let enter = |visits: &mut Visits, chain: String| {
            if let Some(len) = len(ns, at, &chain) {
                visits.stack.push(Level {
                    chain,
                    behind: 0,
                    len,
                });
            }
        };
        match goes(at) {
            Goes::Jump(chain) => enter(self, chain),
            Goes::Goto(chain) => {
                self.stack.pop();
                enter(self, chain);
            }
            Goes::Return => {
                self.stack.pop();
            }
            Goes::Ends => self.stack.clear(),
            Goes::On => {}
        }
    }
}

impl Observer for Visits {
    const TRACING: bool = true;

    fn step(&mut self, at: Place<'_>, _: &Frame, step: Step) {
        match step {
            Step::Rule { at: rule, .. } => {
                let number = rule.number.unwrap_or(0);
                self.rule(at.ns, &rule, u64::from(number));
            }
            Step::Policy { at: rule, .. } => {
                self.be_in(at.ns, &rule);
                self.leave();
                self.stack.clear();
            }
            _ => {}
        }
    }
}
