//! `show WHO iptables|ip6tables|nft|ipset|conntrack`: what iptables-save, nft list ruleset, ipset save and
//! conntrack print there.
//!
//! A namespace without any prints nothing, as the tools do. Invariant: rules and sets read back as what
//! they were printed from.

use crate::base::Instant;
use crate::net::NetNs;
use crate::nf::ct::text::{Style, list, stats_line};
use crate::nf::{Backend, Family, TableName};
use core::fmt::Write as _;

/// `iptables-save [-c] [-t TABLE]`; rules of the legacy back end below a line that says so.
pub fn rules(ns: &NetNs, family: Family, table: Option<TableName>, counters: bool) -> String {
    let mut out = String::new();
    for backend in [Backend::Nft, Backend::Legacy] {
        let Some(mut set) = ns.nf().and_then(|nf| nf.rule_set(family, backend)) else {
            continue;
        };
        set.tables
            .retain(|t| table.is_none_or(|wanted| t.name == wanted));
        if backend == Backend::Legacy && !set.tables.is_empty() {
            out.push_str("# iptables-legacy\n");
        }
        out.push_str(&set.to_save(counters));
    }
    out
}

/// `nft list ruleset`, or `nft -j list ruleset`: native tables, those of iptables-nft are not among them.
pub fn native(ns: &NetNs, now: Instant, json: bool) -> String {
    let set = ns.nf().map(|nf| nf.nft_ruleset(now)).unwrap_or_default();
    match json {
        true => format!("{}\n", set.to_json()),
        false => set.to_text(),
    }
}

/// `ipset save`
pub fn sets(ns: &NetNs, now: Instant) -> String {
    ns.nf().map(|nf| nf.sets.save(now)).unwrap_or_default()
}

/// `conntrack -L`, of the families that `wanted` takes (true: IPv4).
pub fn connections(ns: &NetNs, now: Instant, wanted: &dyn Fn(bool) -> bool) -> String {
    let Some(nf) = ns.nf() else {
        return String::new();
    };
    let mut out = String::new();
    for entry in list(&nf.ct, now, Style::Plain) {
        if wanted(entry.sides[0].tuple.src.is_ipv4()) {
            let _ = writeln!(out, "{entry}");
        }
    }
    out
}

/// `conntrack -S`
pub fn statistics(ns: &NetNs) -> String {
    let stats = ns.nf().map(|nf| *nf.ct.stats()).unwrap_or_default();
    format!("{}\n", stats_line(&stats))
}
