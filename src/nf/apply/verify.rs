//! Where a rule may stand: the kernel's conditions on tables, hooks and jumps.
//!
//! Tables and hooks of extensions are those of their registration (kernel: the `xt_target` and
//! `xt_match` structures of net/netfilter/xt_*.c, net/ipv4/netfilter/ipt_*.c; `xt_check_target`,
//! `xt_check_match`), jumps those of `mark_source_chains` (legacy) and `nft_chain_validate` (nft).
//! Invariant: only rules that a hook reaches are judged by hook, as the kernel does it.

use super::refused::No;
use super::work::{Work, jump};
use crate::base::limits::NF_CHAIN_DEPTH_MAX;
use crate::nf::netfilter::Backend;
use crate::nf::table::{Chain, Rule, TableName};
use crate::nf::target::RejectWith;
use crate::nf::{Match, Target};
use std::collections::BTreeMap;

const PRE: u8 = 1;
const IN: u8 = 2;
const FWD: u8 = 4;
const OUT: u8 = 8;
const POST: u8 = 16;
const ALL: u8 = 31;

fn hook(chain: &str) -> u8 {
    match chain {
        "PREROUTING" => PRE,
        "INPUT" => IN,
        "FORWARD" => FWD,
        "OUTPUT" => OUT,
        "POSTROUTING" => POST,
        _ => 0,
    }
}

/// Tables and hooks in which a target may stand.
fn target_place(target: &Target) -> (&'static [TableName], u8) {
    use TableName::*;
    const ANY: &[TableName] = &[Raw, Mangle, Nat, Filter, Security];
    match target {
        Target::Masquerade(_) => (&[Nat], POST),
        Target::Snat(_) => (&[Nat], POST | IN),
        Target::Dnat(_) | Target::Redirect(_) => (&[Nat], PRE | OUT),
        Target::Netmap(_) => (&[Nat], PRE | OUT | POST | IN),
        Target::Reject(_) => (&[Filter], IN | FWD | OUT),
        Target::Tproxy(_) => (&[Mangle], PRE),
        Target::Ct(_) | Target::Notrack(_) => (&[Raw], ALL),
        Target::Dscp(_) | Target::Tos(_) | Target::Ttl(_) | Target::Hl(_) | Target::Checksum(_) => {
            (&[Mangle], ALL)
        }
        Target::Classify(_) => (ANY, OUT | FWD | POST),
        Target::Tcpmss(t) if t.clamp => (ANY, FWD | OUT | POST),
        _ => (ANY, ALL),
    }
}

/// Tables and hooks in which a match may stand.
fn match_place(m: &Match) -> (Option<&'static [TableName]>, u8) {
    match m {
        Match::Owner(_) => (None, OUT | POST),
        Match::Rpfilter(_) => (Some(&[TableName::Mangle, TableName::Raw]), PRE),
        Match::Socket(_) => (None, PRE | IN),
        Match::AddrType(a) if a.iface_in => (None, PRE | IN | FWD),
        Match::AddrType(a) if a.iface_out => (None, FWD | OUT | POST),
        _ => (None, ALL),
    }
}

/// The rule's own protocol, if it names one.
fn protocol(matches: &[Match]) -> Option<u8> {
    matches.iter().find_map(|m| match m {
        Match::Protocol(p) if !p.not => Some(p.value.0),
        _ => None,
    })
}

/// What the tool itself refuses (libxt_NAT.c, libipt_MASQUERADE.c `x6_fcheck`).
pub(super) fn usage(matches: &[Match], target: &Target) -> Result<(), &'static str> {
    let ports = match target {
        Target::Dnat(d) => d.to.as_ref().is_some_and(|t| t.ports.is_some()),
        Target::Snat(s) => s.to.as_ref().is_some_and(|t| t.ports.is_some()),
        Target::Masquerade(m) => m.ports.is_some(),
        Target::Redirect(r) => r.ports.is_some(),
        _ => false,
    };
    let carries = matches!(protocol(matches), Some(6 | 17 | 33 | 132));
    match ports && !carries {
        true => Err("Need TCP, UDP, SCTP or DCCP with port specification"),
        false => Ok(()),
    }
}

/// A rule's own conditions, whatever hook reaches it.
fn own(rule: &Rule, table: TableName, backend: Backend) -> Result<(), No> {
    let tables = target_place(&rule.target).0;
    let matched = |m: &Match| match_place(m).0.is_none_or(|t| t.contains(&table));
    let proto = protocol(&rule.matches);
    let good = match &rule.target {
        Target::Reject(r) if r.with == Some(RejectWith::TcpReset) => proto == Some(6),
        Target::Tproxy(_) => matches!(proto, Some(6 | 17)),
        Target::Tcpmss(_) if backend == Backend::Legacy => proto == Some(6) && asks_syn(rule),
        Target::Tcpmss(_) => proto == Some(6),
        _ => true,
    };
    match good && tables.contains(&table) && rule.matches.iter().all(matched) {
        true => Ok(()),
        false => Err(No::Invalid),
    }
}

/// Kernel: `xt_TCPMSS.c` `find_syn_match`.
fn asks_syn(rule: &Rule) -> bool {
    rule.matches.iter().any(|m| match m {
        Match::Tcp(t) => t.flags.is_some_and(|f| !f.not && f.value.set.0 & 0b10 != 0),
        _ => false,
    })
}

/// The hooks it may be reached from.
fn hooks(rule: &Rule) -> u8 {
    let target = target_place(&rule.target).1;
    let matched = rule.matches.iter().map(|m| match_place(m).1);
    matched.fold(target, |a, b| a & b)
}

/// After such a rule the legacy kernel's walk goes no further (`mark_source_chains`: unconditional, with a
/// verdict).
fn ends(rule: &Rule, backend: Backend) -> bool {
    backend == Backend::Legacy
        && rule.matches.is_empty()
        && matches!(
            rule.target,
            Target::Accept | Target::Drop | Target::Return | Target::Queue
        )
}

/// Whether the whole table may stand so; else the chain and the rule's index in it, and why.
pub(super) fn table(work: &Work) -> Result<(), (String, usize, No)> {
    let backend = work.backend();
    for c in work.chains() {
        for (i, r) in c.rules.iter().enumerate() {
            let builtin = jump(r).is_some_and(|to| work.is_builtin(to));
            let said = match builtin {
                true => Err(No::Builtin),
                false => own(r, work.name, backend),
            };
            said.map_err(|no| (c.name.clone(), i, no))?;
        }
    }
    let builtin = work.name.builtin_chains();
    builtin.iter().try_for_each(|b| walk(work, b))
}

/// A chain on the way, its jumps not yet followed (rule index, chain), the longest way below it.
struct Step<'a> {
    name: &'a str,
    jumps: Vec<(usize, &'a str)>,
    below: usize,
}

/// Walks from a built-in chain: no jump leads back, none is too deep, every rule fits the hook.
fn walk<'a>(work: &'a Work, start: &'a str) -> Result<(), (String, usize, No)> {
    let bit = hook(start);
    let nft = work.backend() == Backend::Nft;
    // `None`: on the way now; else done with, and the longest way below.
    let mut seen: BTreeMap<&str, Option<usize>> = BTreeMap::from([(start, None)]);
    let mut stack = vec![step(work, start, bit)?];
    while let Some(here) = stack.last_mut() {
        let name = here.name;
        let Some((i, to)) = here.jumps.pop() else {
            let below = here.below;
            seen.insert(name, Some(below));
            stack.pop();
            if let Some(above) = stack.last_mut() {
                above.below = above.below.max(below + 1);
            }
            continue;
        };
        let no = |no: No| Err((name.to_owned(), i, no));
        let depth = stack.len();
        match seen.get(to) {
            Some(None) => return no(No::Loop),
            Some(Some(below)) if nft && depth + below >= NF_CHAIN_DEPTH_MAX => return no(No::Loop),
            Some(Some(below)) => {
                if let Some(here) = stack.last_mut() {
                    here.below = here.below.max(below + 1);
                }
            }
            None if nft && depth >= NF_CHAIN_DEPTH_MAX => return no(No::Loop),
            None => {
                seen.insert(to, None);
                stack.push(step(work, to, bit)?);
            }
        }
    }
    Ok(())
}

/// A chain's jumps in order of being followed last to first, its rules held against the hook.
fn step<'a>(work: &'a Work, name: &'a str, bit: u8) -> Result<Step<'a>, (String, usize, No)> {
    let backend = work.backend();
    let mut jumps = Vec::new();
    for (i, r) in work
        .chain(name)
        .into_iter()
        .flat_map(|c| followed(c, backend))
        .enumerate()
    {
        if bit & !hooks(r) != 0 {
            return Err((name.to_owned(), i, No::Invalid));
        }
        jumps.extend(jump(r).map(|to| (i, to)));
    }
    jumps.reverse();
    Ok(Step {
        name,
        jumps,
        below: 0,
    })
}

/// The rules of a chain that a packet may come to.
fn followed(chain: &Chain, backend: Backend) -> impl Iterator<Item = &Rule> {
    let end = chain.rules.iter().position(|r| ends(r, backend));
    let n = end.map_or(chain.rules.len(), |i| i + 1);
    chain.rules.iter().take(n)
}
