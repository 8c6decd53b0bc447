//! `-S`: a table's chains and rules as commands.

use super::work::Work;
use crate::nf::rule;
use crate::nf::table::{Chain, Rule};
use crate::nf::{Match, Target};
use core::fmt::Write as _;

/// All of a table, one chain of it, or one rule (iptables: iptables.c `list_rules`, `print_rule4`).
pub(super) fn rules(
    work: &Work,
    chain: Option<&str>,
    place: Option<usize>,
    verbose: bool,
) -> String {
    let mut out = String::new();
    let wanted = |c: &&Chain| chain.is_none_or(|n| n == c.name);
    if place.is_none() {
        for c in work.chains().filter(wanted) {
            let _ = match c.policy {
                Some(p) => write!(out, "-P {} {p}", c.name),
                None => write!(out, "-N {}", c.name),
            };
            if verbose && c.policy.is_some() {
                let _ = write!(out, " -c {} {}", c.counters.packets, c.counters.bytes);
            }
            out.push('\n');
        }
    }
    for c in work.chains().filter(wanted) {
        for (i, r) in c.rules.iter().enumerate() {
            if place.is_none_or(|n| n == i + 1) {
                one(c, r, verbose, &mut out);
            }
        }
    }
    out
}

fn one(chain: &Chain, r: &Rule, verbose: bool, out: &mut String) {
    let _ = write!(out, "-A {}", chain.name);
    rule::print(&r.matches, &Target::None, out);
    if verbose {
        let _ = write!(out, " -c {} {}", r.counters.packets, r.counters.bytes);
    }
    rule::print(&[] as &[Match], &r.target, out);
    out.push('\n');
}
