//! A rule set as it is run: chains numbered, targets resolved, conditions in the order they are asked.
//!
//! Compiled once per load, never changed; counters and what stateful matches remember are kept beside it
//! in [`super::load::Live`]. What one packet reads lies together: chains follow one another as jumps lead
//! from one to the next, and with them their rules, their counters and their conditions, the usual ones of
//! which take 12 bytes. Invariant: every jump leads to a chain of the same table, and no chain reaches itself
//! (`mark_source_chains` refuses that with ELOOP; here the closing jump is cut off and said).

use super::index::Index;
use super::lay;
use super::state::Slot;
use crate::base::{Finding, Origin, Span, limits};
use crate::nf::matches::StatisticMode;
use crate::nf::nat::{Manip, NatTarget};
use crate::nf::netfilter::Backend;
use crate::nf::value::IfName;
use crate::nf::{Hook, Match, Policy, Rule, RuleSet, Table, TableName, Target};
use hashbrown::HashMap;

/// One condition of a rule.
#[derive(Clone, Debug)]
pub(super) struct Cond {
    pub m: Match,
    /// Where its state is, for matches that have one of their own.
    pub slot: u32,
}

/// An interface name of a rule: a device's has these `bits` where `mask` says ([`name_bits`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Name {
    pub bits: u128,
    pub mask: u128,
}

impl Name {
    /// `eth0`, `cali+`; `None` for one that is longer than any device's.
    pub fn of(is: &IfName) -> Option<Name> {
        let (text, whole) = match is.0.strip_suffix('+') {
            Some(start) => (start, 0),
            None => (is.0.as_str(), u128::MAX),
        };
        (text.len() < IFNAMSIZ).then(|| Name {
            bits: name_bits(text),
            mask: whole | !(u128::MAX >> (8 * text.len())),
        })
    }
}

/// Room for an interface's name and the zero behind it.
pub(super) const IFNAMSIZ: usize = 16;

/// An interface's name as a number, its first byte the highest.
pub(super) fn name_bits(name: &str) -> u128 {
    let mut b = [0u8; IFNAMSIZ];
    b.iter_mut().zip(name.bytes()).for_each(|(to, c)| *to = c);
    u128::from_be_bytes(b)
}

/// One condition as it is asked: what most rules ask is all here. Interface names are numbers in
/// [`PTable::names`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Test {
    Src4 {
        addr: u32,
        mask: u32,
        not: bool,
    },
    Dst4 {
        addr: u32,
        mask: u32,
        not: bool,
    },
    Proto {
        proto: u8,
        not: bool,
    },
    In {
        name: u32,
        not: bool,
    },
    Out {
        name: u32,
        not: bool,
    },
    TcpDst {
        min: u16,
        max: u16,
        not: bool,
    },
    UdpDst {
        min: u16,
        max: u16,
        not: bool,
    },
    Mark {
        value: u32,
        mask: u32,
        not: bool,
    },
    /// `--mode random`: the chance in 1/2^31.
    Random {
        chance: u32,
        not: bool,
    },
    /// Any other: a number in [`PTable::conds`].
    Cond(u32),
}

const _: () = assert!(size_of::<Test>() <= 12 && size_of::<PRule>() <= 16);

/// What a rule does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Act {
    /// Only counts.
    None,
    Accept,
    Drop,
    Return,
    /// To a chain of [`PTable::chains`].
    Jump(u32),
    Goto(u32),
    /// DNAT or SNAT to one of [`PTable::ranges`].
    Nat(u32),
    /// Another extension, of [`PTable::targets`].
    Ext(u32),
    /// Not understood, or a jump that cannot be followed.
    Unknown,
}

/// A rule.
#[derive(Clone, Copy, Debug)]
pub(super) struct PRule {
    /// Its conditions in [`PTable::tests`].
    pub from: u32,
    pub to: u32,
    pub act: Act,
}

/// A chain.
#[derive(Clone, Debug)]
pub(super) struct PChain {
    /// Number of its first rule, and of that rule's counter; the policy's come behind the last rule's.
    pub base: u32,
    /// How many rules it has.
    pub len: u32,
    /// Its number in the rule set.
    pub number: u32,
    pub policy: Policy,
    /// Whether its policy counts ([`crate::nf::Chain::uncounted`]).
    pub counted: bool,
    /// For chains that are long enough.
    pub index: Option<Box<Index>>,
}

/// A table.
#[derive(Clone, Debug, Default)]
pub(super) struct PTable {
    /// In the order of [`super::lay`].
    pub chains: Vec<PChain>,
    /// Where a chain of the rule set is among `chains`.
    pub places: Vec<u32>,
    /// Of all chains, one without conditions behind each chain's for its policy.
    pub rules: Vec<PRule>,
    pub tests: Vec<Test>,
    pub conds: Vec<Cond>,
    pub targets: Vec<Target>,
    pub ranges: Vec<(NatTarget, Manip)>,
    pub names: Vec<Name>,
    /// Built-in chains by hook.
    pub entry: [Option<u32>; 5],
    /// Fresh state for every slot.
    pub slots: Vec<Slot>,
}

impl PTable {
    /// The conditions of a rule.
    pub fn tests(&self, r: &PRule) -> &[Test] {
        self.tests
            .get(r.from as usize..r.to as usize)
            .unwrap_or_default()
    }

    /// Those of them that may have state of their own.
    pub fn conds(&self, r: &PRule) -> impl Iterator<Item = &Cond> {
        self.tests(r).iter().filter_map(|t| match t {
            Test::Cond(n) => self.conds.get(*n as usize),
            _ => None,
        })
    }

    /// A chain by its number in the rule set.
    pub fn chain(&self, number: u32) -> Option<&PChain> {
        let place = self.places.get(number as usize)?;
        self.chains.get(*place as usize)
    }

    /// A rule of a chain.
    pub fn rule(&self, chain: &PChain, r: u32) -> Option<&PRule> {
        let own = (r < chain.len).then(|| chain.base + r)?;
        self.rules.get(own as usize)
    }
}

/// All tables of one rule set, by [`TableName`].
#[derive(Clone, Debug, Default)]
pub(super) struct Program {
    pub tables: [Option<PTable>; 5],
}

impl Program {
    /// Compiles; what cannot be run as it stands is said and behaves as if not understood.
    pub fn compile(set: &RuleSet, backend: Backend) -> (Program, Vec<Finding>) {
        let (mut program, mut findings) = (Program::default(), Vec::new());
        for table in &set.tables {
            // With several of one name the last counts, as `RuleSet::table` has it.
            let compiled = Compiler::new(table, backend, &mut findings).table();
            if let Some(slot) = program.tables.get_mut(table.name as usize) {
                *slot = Some(compiled);
            }
        }
        (program, findings)
    }

    /// A table.
    pub fn table(&self, name: TableName) -> Option<&PTable> {
        self.tables.get(name as usize)?.as_ref()
    }
}

struct Compiler<'a> {
    table: &'a Table,
    backend: Backend,
    names: HashMap<&'a str, u32, foldhash::fast::FixedState>,
    findings: &'a mut Vec<Finding>,
    out: lay::Draft,
}

impl<'a> Compiler<'a> {
    fn new(table: &'a Table, backend: Backend, findings: &'a mut Vec<Finding>) -> Self {
        let mut names = HashMap::default();
        for (i, c) in table.chains.iter().enumerate() {
            names.entry(c.name.as_str()).or_insert(i as u32);
        }
        let out = lay::Draft::default();
        Compiler {
            table,
            backend,
            names,
            findings,
            out,
        }
    }

    fn table(mut self) -> PTable {
        let mut entry = [None; 5];
        for (i, chain) in self.table.chains.iter().enumerate() {
            let rules = chain.rules.iter().map(|r| self.rule(r)).collect();
            let hook = Hook::of_chain(&chain.name);
            let built_in = self.table.name.builtin_chains().contains(&&*chain.name);
            if let Some(hook) = hook.filter(|_| built_in) {
                entry[hook as usize] = Some(i as u32);
            }
            self.out.chains.push(rules);
        }
        self.cut_loops(&entry);
        self.out.lay_out(self.table, entry)
    }

    fn rule(&mut self, r: &Rule) -> PRule {
        let from = self.out.conds.len() as u32;
        let rank = |m: &Match| match m {
            Match::Source(_) | Match::Destination(_) => 0,
            Match::InInterface(_) | Match::OutInterface(_) | Match::Fragment(_) => 0,
            // Last of the header: `ip6_packet_match` looks for the protocol when all else fits.
            Match::Protocol(_) => 1,
            _ => 2,
        };
        for wanted in 0..3 {
            for m in r.matches().iter().filter(|m| rank(m) == wanted) {
                if matches!(m, Match::Comment(_)) {
                    continue;
                }
                let slot = self.slot(m);
                self.out.conds.push(Cond { m: m.clone(), slot });
            }
        }
        PRule {
            from,
            to: self.out.conds.len() as u32,
            act: self.act(r),
        }
    }

    fn slot(&mut self, m: &Match) -> u32 {
        let fresh = match m {
            Match::Limit(l) => Slot::limit(l),
            Match::Statistic(s) if s.mode == Some(StatisticMode::Nth) => Slot::nth(s),
            Match::Connlimit(_) => Slot::Connlimit(Vec::new()),
            _ => return u32::MAX,
        };
        self.out.slots.push(fresh);
        self.out.slots.len() as u32 - 1
    }

    fn act(&mut self, r: &Rule) -> Act {
        let (name, goto) = match r.target() {
            Target::None => return Act::None,
            Target::Accept => return Act::Accept,
            Target::Drop => return Act::Drop,
            Target::Return => return Act::Return,
            Target::Unknown { .. } => return Act::Unknown,
            Target::Jump(name) => (name, false),
            Target::Goto(name) => (name, true),
            // Which, is known when all have their places.
            _ => return Act::Ext(u32::MAX),
        };
        match self.names.get(name.as_str()) {
            Some(&to) if self.is_built_in(to) => {
                self.say(
                    r,
                    format!("`{name}` is a built-in chain; no rule leads there"),
                );
                Act::Unknown
            }
            Some(&to) if goto => Act::Goto(to),
            Some(&to) => Act::Jump(to),
            None => {
                self.say(r, format!("no chain `{name}` in table {}", self.table.name));
                Act::Unknown
            }
        }
    }

    fn is_built_in(&self, chain: u32) -> bool {
        let chain = self.table.chains.get(chain as usize);
        chain.is_some_and(|c| self.table.name.builtin_chains().contains(&&*c.name))
    }

    fn say(&mut self, r: &Rule, message: String) {
        if self.findings.len() >= limits::NF_FINDINGS_MAX {
            return;
        }
        let span = match &r.origin {
            Origin::Dump { file, line } => Span::new(file.clone(), *line, 0),
            Origin::Manifest { file, line, column } => Span::new(file.clone(), *line, *column),
            other => Span::new(other.to_string(), r.line, 0),
        };
        let help = "the kernel refuses such a table; correct the rule's -j or -g";
        self.findings.push(Finding::error(span, message, help));
    }

    /// Walks the chains as `mark_source_chains` does, cuts what closes a loop or nests too deep.
    fn cut_loops(&mut self, entry: &[Option<u32>; 5]) {
        let n = self.out.chains.len();
        let mut walk = Walk {
            colour: vec![Colour::White; n],
            below: vec![0; n],
            bad: Vec::new(),
            deepest: match self.backend {
                Backend::Legacy => limits::NF_CALL_DEPTH_MAX,
                // NFT_JUMP_STACK_SIZE: a further level is refused with EMLINK.
                Backend::Nft => 16,
            },
        };
        let hooks = entry.iter().copied().flatten();
        // x_tables only looks at what a hook reaches; nf_tables at every chain.
        let rest = match self.backend {
            Backend::Legacy => 0..0,
            Backend::Nft => 0..n as u32,
        };
        for start in hooks.chain(rest) {
            walk.from(&self.out.chains, start);
        }
        for (chain, rule, message) in walk.bad {
            let at = self.table.chains.get(chain as usize);
            if let Some(r) = at.and_then(|c| c.rules.get(rule as usize)) {
                self.say(
                    r,
                    format!(
                        "{message} (chain {})",
                        self.table.chains[chain as usize].name
                    ),
                );
            }
            let cut = self.out.chains.get_mut(chain as usize);
            if let Some(r) = cut.and_then(|c| c.get_mut(rule as usize)) {
                r.act = Act::Unknown;
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Colour {
    White,
    Grey,
    Black,
}

/// A depth-first walk over chains.
struct Walk {
    colour: Vec<Colour>,
    /// Chains on the longest way down from a chain, itself included.
    below: Vec<u32>,
    bad: Vec<(u32, u32, &'static str)>,
    deepest: u32,
}

impl Walk {
    fn from(&mut self, chains: &[Vec<PRule>], start: u32) {
        let mut stack: Vec<(u32, u32)> = Vec::new();
        self.enter(start, &mut stack);
        while let Some((c, r)) = stack.last_mut() {
            let (c, rule) = (*c, *r);
            let Some(next) = chains.get(c as usize).and_then(|x| x.get(rule as usize)) else {
                stack.pop();
                self.leave(c, stack.last().map(|p| p.0));
                continue;
            };
            *r += 1;
            let (Act::Jump(to) | Act::Goto(to)) = next.act else {
                continue;
            };
            match self.colour.get(to as usize) {
                Some(Colour::White) if stack.len() as u32 >= self.deepest => {
                    self.bad.push((c, rule, "chains nest too deep here"));
                }
                Some(Colour::White) => self.enter(to, &mut stack),
                Some(Colour::Grey) => self.bad.push((c, rule, "this closes a loop of chains")),
                Some(Colour::Black) => self.join(c, rule, to, stack.len() as u32),
                None => {}
            }
        }
    }

    fn enter(&mut self, chain: u32, stack: &mut Vec<(u32, u32)>) {
        if let Some(colour) = self.colour.get_mut(chain as usize)
            && *colour == Colour::White
        {
            *colour = Colour::Grey;
            self.below[chain as usize] = 1;
            stack.push((chain, 0));
        }
    }

    fn leave(&mut self, chain: u32, caller: Option<u32>) {
        self.colour[chain as usize] = Colour::Black;
        let depth = self.below[chain as usize] + 1;
        if let Some(up) = caller.and_then(|c| self.below.get_mut(c as usize)) {
            *up = (*up).max(depth);
        }
    }

    fn join(&mut self, chain: u32, rule: u32, to: u32, depth: u32) {
        let below = self.below[to as usize];
        if depth + below > self.deepest {
            self.bad.push((chain, rule, "chains nest too deep here"));
            return;
        }
        let mine = &mut self.below[chain as usize];
        *mine = (*mine).max(below + 1);
    }
}
