//! Where the parts of a compiled table lie: chains one behind the other as jumps lead from one to the next.
//!
//! A Service's chain stands before those of its endpoints, so that what a packet asks on its way is a few
//! neighbouring lines of memory in a table of any size. Invariant: every chain has one place, and rules and
//! counters are numbered alike.

use super::index::Index;
use super::program::{Act, Cond, Name, PChain, PRule, PTable, Test};
use super::state::Slot;
use crate::nf::field::Is;
use crate::nf::matches::{Mark, Statistic, StatisticMode, Tcp, Udp};
use crate::nf::value::{AddrMask, IfName};
use crate::nf::{Match, Policy, Table, nat};
use std::net::IpAddr;

/// A table whose chains stand as in the rule set.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// Rules by chain; `from` and `to` are conditions of `conds`, jumps lead to the rule set's numbers.
    pub chains: Vec<Vec<PRule>>,
    pub conds: Vec<Cond>,
    pub slots: Vec<Slot>,
}

impl Draft {
    /// The chains as they follow one another: each with what it jumps to behind it.
    fn order(&self, entry: &[Option<u32>; 5]) -> Vec<u32> {
        let mut order = Vec::with_capacity(self.chains.len());
        let mut placed = vec![false; self.chains.len()];
        let mut stack: Vec<(u32, usize)> = Vec::new();
        let hooks = entry.iter().copied().flatten();
        for start in hooks.chain(0..self.chains.len() as u32) {
            stack.push((start, 0));
            while let Some((chain, next)) = stack.pop() {
                let at = chain as usize;
                let Some(known) = placed.get_mut(at) else {
                    continue;
                };
                if next == 0 && !core::mem::replace(known, true) {
                    order.push(chain);
                } else if next == 0 {
                    continue;
                }
                let rest = self.chains[at].get(next..).unwrap_or_default();
                let jump = rest.iter().enumerate().find_map(|(i, r)| match r.act {
                    Act::Jump(to) | Act::Goto(to) => Some((next + i + 1, to)),
                    _ => None,
                });
                if let Some((next, to)) = jump {
                    stack.extend([(chain, next), (to, 0)]);
                }
            }
        }
        order
    }

    /// The table, laid out.
    pub fn lay_out(self, table: &Table, entry: [Option<u32>; 5]) -> PTable {
        let order = self.order(&entry);
        let mut out = PTable {
            places: vec![0; order.len()],
            ..PTable::default()
        };
        for (place, number) in order.iter().enumerate() {
            out.places[*number as usize] = place as u32;
        }
        out.entry = entry.map(|e| e.and_then(|n| out.places.get(n as usize).copied()));
        for number in order {
            self.chain(table, number, &mut out);
        }
        out.slots = self.slots;
        out
    }

    fn chain(&self, table: &Table, number: u32, out: &mut PTable) {
        let at = number as usize;
        let (Some(rules), Some(text)) = (self.chains.get(at), table.chains.get(at)) else {
            return;
        };
        out.chains.push(PChain {
            base: out.rules.len() as u32,
            len: rules.len() as u32,
            number,
            policy: text.policy.unwrap_or(Policy::Accept),
            counted: !text.uncounted,
            index: Index::build(rules, &self.conds).map(Box::new),
        });
        let place = |to: u32, out: &PTable| out.places.get(to as usize).copied().unwrap_or(to);
        for (r, text) in rules.iter().zip(&text.rules) {
            let from = out.tests.len() as u32;
            let conds = self.conds.get(r.from as usize..r.to as usize);
            for cond in conds.unwrap_or_default() {
                let test = test(cond, out);
                out.tests.push(test);
            }
            let act = match r.act {
                Act::Jump(to) => Act::Jump(place(to, out)),
                Act::Goto(to) => Act::Goto(place(to, out)),
                Act::Ext(_) => match nat::range_of(text.target()) {
                    Some(range) => {
                        out.ranges.push(range);
                        Act::Nat(out.ranges.len() as u32 - 1)
                    }
                    None => {
                        out.targets.push(text.target().clone());
                        Act::Ext(out.targets.len() as u32 - 1)
                    }
                },
                other => other,
            };
            let to = out.tests.len() as u32;
            out.rules.push(PRule { from, to, act });
        }
        let end = out.tests.len() as u32;
        out.rules.push(PRule {
            from: end,
            to: end,
            act: Act::None,
        });
    }
}

/// The short form of a condition, if it has one.
fn test(cond: &Cond, out: &mut PTable) -> Test {
    match short(&cond.m, &mut out.names) {
        Some(test) => test,
        None => {
            out.conds.push(cond.clone());
            Test::Cond(out.conds.len() as u32 - 1)
        }
    }
}

fn short(m: &Match, names: &mut Vec<Name>) -> Option<Test> {
    Some(match m {
        Match::Source(is) => {
            let (addr, mask) = v4(is)?;
            let not = is.not;
            Test::Src4 { addr, mask, not }
        }
        Match::Destination(is) => {
            let (addr, mask) = v4(is)?;
            let not = is.not;
            Test::Dst4 { addr, mask, not }
        }
        Match::Protocol(is) => Test::Proto {
            proto: is.value.0,
            not: is.not,
        },
        Match::InInterface(is) => Test::In {
            name: name(is, names)?,
            not: is.not,
        },
        Match::OutInterface(is) => Test::Out {
            name: name(is, names)?,
            not: is.not,
        },
        Match::Tcp(t) => {
            let is = t.dport?;
            let alone = Tcp {
                dport: t.dport,
                ..Tcp::default()
            };
            (**t == alone).then_some(())?;
            let (min, max, not) = (is.value.min, is.value.max, is.not);
            Test::TcpDst { min, max, not }
        }
        Match::Udp(u) => {
            let is = u.dport?;
            let alone = Udp {
                dport: u.dport,
                ..Udp::default()
            };
            (**u == alone).then_some(())?;
            let (min, max, not) = (is.value.min, is.value.max, is.not);
            Test::UdpDst { min, max, not }
        }
        Match::Mark(mark) => {
            let Mark { mark: Some(is) } = **mark else {
                return None;
            };
            let (value, mask, not) = (is.value.value, is.value.mask, is.not);
            Test::Mark { value, mask, not }
        }
        Match::Statistic(s) => {
            let is = s.probability?;
            let alone = Statistic {
                mode: Some(StatisticMode::Random),
                probability: s.probability,
                ..Statistic::default()
            };
            (**s == alone).then_some(())?;
            let (chance, not) = (is.value.0, is.not);
            Test::Random { chance, not }
        }
        _ => return None,
    })
}

fn v4(is: &Is<AddrMask>) -> Option<(u32, u32)> {
    match (is.value.addr, is.value.mask) {
        (IpAddr::V4(addr), IpAddr::V4(mask)) => Some((addr.to_bits(), mask.to_bits())),
        _ => None,
    }
}

/// A name's number.
fn name(is: &Is<IfName>, names: &mut Vec<Name>) -> Option<u32> {
    let own = Name::of(&is.value)?;
    // Names are few, or come in the order of the rules that ask for them: the latest are looked at first.
    let known = names.iter().rev().take(64).position(|n| *n == own);
    Some(match known {
        Some(back) => (names.len() - 1 - back) as u32,
        None => {
            names.push(own);
            names.len() as u32 - 1
        }
    })
}
