//! Comparison of what the tools print of a namespace: rule counters, connections, sets.
//!
//! Each gives how many things were compared and what differs, a line or two for each difference, the kernel's
//! first. Texts are compared as the kernel's tools print them.

use super::conntrack::{self, Line};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// How many things were compared, and what differs.
pub type Compared = (usize, Vec<String>);

/// Lines of a save by table and chain: the chain's own first, then its rules.
fn chains(save: &str) -> BTreeMap<(String, String), Vec<String>> {
    let (mut out, mut table) = (BTreeMap::new(), String::new());
    for line in save.lines() {
        let rule = line.split_once("-A ").map(|(_, r)| r);
        let chain = rule.or_else(|| line.strip_prefix(':'));
        let name = chain.and_then(|c| c.split(' ').next());
        if let Some(t) = line.strip_prefix('*') {
            t.clone_into(&mut table);
        } else if let Some(name) = name {
            let key = (table.clone(), name.to_owned());
            let list: &mut Vec<String> = out.entry(key).or_default();
            list.push(line.to_owned());
        }
    }
    out
}

/// Every chain with its policy, rules and counters, of the tables that are `loaded`.
pub fn counters(kernel: &str, ours: &str, loaded: &dyn Fn(&str) -> bool) -> Compared {
    let (a, b) = (chains(kernel), chains(ours));
    let mut keys: Vec<_> = a.keys().chain(b.keys()).collect();
    keys.sort();
    keys.dedup();
    let (mut count, mut out, none) = (0, Vec::new(), Vec::new());
    for key in keys.into_iter().filter(|(table, _)| loaded(table)) {
        let (x, y) = (a.get(key).unwrap_or(&none), b.get(key).unwrap_or(&none));
        for i in 0..x.len().max(y.len()) {
            count += 1;
            if x.get(i) != y.get(i) {
                let show = |l: Option<&String>| l.map_or("(none)".to_owned(), String::clone);
                let (table, k, p) = (&key.0, show(x.get(i)), show(y.get(i)));
                out.push(format!("{table}\n  kernel  {k}\n  podpath {p}"));
            }
        }
    }
    (count, out)
}

/// Connections, as multisets; `slack` is by how many seconds their remaining time may differ.
pub fn connections(kernel: &[Line], ours: &[Line], slack: i64) -> Compared {
    let sorted = |lines: &[Line]| {
        let mut all = lines.to_vec();
        all.sort_by(|a, b| (&a.rest, a.timeout).cmp(&(&b.rest, b.timeout)));
        all
    };
    let (a, b) = (sorted(kernel), sorted(ours));
    let (mut i, mut j, mut out) = (0, 0, Vec::new());
    loop {
        let order = match (a.get(i), b.get(j)) {
            (Some(x), Some(y)) => x.rest.cmp(&y.rest),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return (a.len().max(b.len()), out),
        };
        match order {
            Ordering::Less => out.push(format!("conntrack, kernel only: {}", a[i].rest)),
            Ordering::Greater => out.push(format!("conntrack, podpath only: {}", b[j].rest)),
            Ordering::Equal => {
                let (x, y) = (a[i].timeout, b[j].timeout);
                let near = x.zip(y).map_or(x == y, |(x, y)| (x - y).abs() <= slack);
                if !near {
                    out.push(format!("conntrack timeout {x:?} / {y:?}: {}", a[i].rest));
                }
            }
        }
        i += usize::from(order != Ordering::Greater);
        j += usize::from(order != Ordering::Less);
    }
}

/// Lines of `conntrack -L`; what cannot be read is a line that nothing equals.
pub fn lines(text: &[String]) -> Vec<Line> {
    let read = |l: &String| {
        let (timeout, proto, fields) = (None, 0, Default::default());
        conntrack::parse(l).unwrap_or_else(|| Line {
            rest: format!("not understood: {l}"),
            timeout,
            proto,
            fields,
        })
    };
    text.iter()
        .filter(|l| !l.trim().is_empty())
        .map(read)
        .collect()
}

/// Sets with their entries, in any order.
pub fn sets(kernel: &str, ours: &str) -> Compared {
    let read = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(set_line).collect();
        lines.sort();
        lines
    };
    let (a, b) = (read(kernel), read(ours));
    let only = |who: &str, x: &[String], y: &[String]| -> Vec<String> {
        let missing = x.iter().filter(|l| !y.contains(l));
        missing.map(|l| format!("ipset, {who} only: {l}")).collect()
    };
    let mut out = only("kernel", &a, &b);
    out.extend(only("podpath", &b, &a));
    (a.len().max(b.len()), out)
}

/// A line of `ipset save` without what the kernel draws.
fn set_line(line: &str) -> String {
    let mut out = Vec::new();
    let mut words = line.split_whitespace();
    while let Some(w) = words.next() {
        match w {
            "initval" | "bucketsize" => drop(words.next()),
            w => out.push(w),
        }
    }
    out.join(" ")
}
