//! Names of priorities: which there are for a family and hook, and how a number is written.
//!
//! As nftables rule.c `std_prio_lookup` and `prio2str` do.

use super::model::{Family, HookName};

const INET: &[(&str, i32)] = &[
    ("raw", -300),
    ("mangle", -150),
    ("dstnat", -100),
    ("filter", 0),
    ("security", 50),
    ("srcnat", 100),
];
const BRIDGE: &[(&str, i32)] = &[
    ("dstnat", -300),
    ("filter", -200),
    ("out", 100),
    ("srcnat", 300),
];
const FILTER: &[(&str, i32)] = &[("filter", 0)];

fn names(family: Family, hook: HookName) -> impl Iterator<Item = &'static (&'static str, i32)> {
    let table = match (family, hook) {
        (Family::Bridge, _) => BRIDGE,
        (Family::Arp | Family::Netdev, _) | (_, HookName::Ingress | HookName::Egress) => FILTER,
        _ => INET,
    };
    table.iter().filter(move |n| match n.0 {
        "dstnat" => hook == HookName::Prerouting,
        "srcnat" => hook == HookName::Postrouting,
        "out" => hook == HookName::Output,
        _ => true,
    })
}

/// The number of a name.
pub fn read(family: Family, hook: HookName, word: &str) -> Option<i32> {
    names(family, hook).find(|n| n.0 == word).map(|n| n.1)
}

/// A number as nft prints it: a name if one is at most ten away.
pub fn show(family: Family, hook: HookName, priority: i32) -> String {
    let near = names(family, hook).find(|n| priority.abs_diff(n.1) <= 10);
    match near {
        Some((name, n)) if *n == priority => (*name).to_owned(),
        Some((name, n)) if priority > *n => format!("{name} + {}", priority - n),
        Some((name, n)) => format!("{name} - {}", n - priority),
        None => priority.to_string(),
    }
}
