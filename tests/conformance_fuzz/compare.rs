//! What came of a round, the kernel's against podpath's.
//!
//! Compared: every frame out of every cable, in order, byte by byte; of the tables the round loaded every chain,
//! rule text and counter; every connection with its tuples, state, flags, mark and zone; every set with its
//! entries. Left out, since the kernel draws them:
//! - the IPv4 identification of ICMP messages and TCP resets, which the router may have made itself, and the
//!   flow label of the same in IPv6 (a header checksum that fits is then taken as such);
//! - `initval` and `bucketsize` of sets, and the order of their entries;
//! - the remaining time of a connection by one second: the kernel is asked some milliseconds after the end.

use super::conntrack::{self, Line};
use super::packet::{ICMP, RST, TCP, checksum};
use super::round::{Out, Outcome};
use std::collections::BTreeMap;

/// Everything that differs, a line or two for each.
pub fn differences(kernel: &Outcome, ours: &Outcome, rules: &str) -> Vec<String> {
    let mut out = frames(&kernel.out, &ours.out);
    out.extend(counters(&kernel.save, &ours.save, rules));
    out.extend(connections(&kernel.conntrack, &ours.conntrack));
    out.extend(sets(&kernel.sets, &ours.sets));
    out
}

fn frames(kernel: &[Out], ours: &[Out]) -> Vec<String> {
    let mut out = Vec::new();
    for cable in super::net::CABLES {
        let of = |list: &[Out]| -> Vec<Vec<u8>> {
            let here = list.iter().filter(|o| o.at == cable);
            here.map(|o| normal(&o.data)).collect()
        };
        let (a, b) = (of(kernel), of(ours));
        let first = (0..a.len().max(b.len())).find(|i| a.get(*i) != b.get(*i));
        if let Some(i) = first {
            let show = |f: Option<&Vec<u8>>| f.map_or("(none)".to_owned(), |f| hex(f));
            out.push(format!(
                "{cable} frame {i} of {} / {}\n  kernel  {}\n  podpath {}",
                a.len(),
                b.len(),
                show(a.get(i)),
                show(b.get(i))
            ));
        }
    }
    out
}

fn hex(b: &[u8]) -> String {
    b.iter().map(|x| format!("{x:02x}")).collect()
}

/// A frame with what the kernel draws put to zero.
fn normal(f: &[u8]) -> Vec<u8> {
    let mut f = f.to_vec();
    let Some(p) = f.get_mut(14..) else { return f };
    match p.first().map(|b| b >> 4) {
        Some(4) if p.len() >= 20 => {
            let end = (usize::from(p[0] & 15) * 4).min(p.len());
            let own =
                p[9] == ICMP || (p[9] == TCP && p.get(end + 13).is_some_and(|x| x & RST != 0));
            if own && checksum(&p[..end]) == 0 {
                p[4..6].fill(0);
                p[10..12].fill(0);
            }
        }
        Some(6) if p.len() >= 40 => {
            let reset = p[6] == TCP && p.get(53).is_some_and(|x| x & RST != 0);
            if p[6] == super::packet::ICMP6 || reset {
                p[1] &= 0xF0;
                p[2..4].fill(0);
            }
        }
        _ => {}
    }
    f
}

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

fn counters(kernel: &str, ours: &str, rules: &str) -> Vec<String> {
    let loaded: Vec<&str> = rules.lines().filter_map(|l| l.strip_prefix('*')).collect();
    let (a, b) = (chains(kernel), chains(ours));
    let mut keys: Vec<_> = a.keys().chain(b.keys()).collect();
    keys.sort();
    keys.dedup();
    let mut out = Vec::new();
    for key in keys
        .into_iter()
        .filter(|(t, _)| loaded.contains(&t.as_str()))
    {
        let none = Vec::new();
        let (x, y) = (a.get(key).unwrap_or(&none), b.get(key).unwrap_or(&none));
        for i in 0..x.len().max(y.len()) {
            if x.get(i) != y.get(i) {
                let show = |l: Option<&String>| l.map_or("(none)".to_owned(), String::clone);
                let (t, k, p) = (&key.0, show(x.get(i)), show(y.get(i)));
                out.push(format!("{t}\n  kernel  {k}\n  podpath {p}"));
            }
        }
    }
    out
}

fn connections(kernel: &[String], ours: &[String]) -> Vec<String> {
    let read = |lines: &[String]| {
        let mut all: Vec<Line> = lines.iter().filter_map(|l| conntrack::parse(l)).collect();
        all.sort_by(|a, b| a.rest.cmp(&b.rest));
        all
    };
    let (a, b) = (read(kernel), read(ours));
    let (mut i, mut j, mut out) = (0, 0, Vec::new());
    while let Some(order) = match (a.get(i), b.get(j)) {
        (Some(x), Some(y)) => Some(x.rest.cmp(&y.rest)),
        (Some(_), None) => Some(std::cmp::Ordering::Less),
        (None, Some(_)) => Some(std::cmp::Ordering::Greater),
        (None, None) => None,
    } {
        match order {
            std::cmp::Ordering::Less => {
                out.push(format!("conntrack, kernel only: {}", a[i].rest));
                i += 1;
            }
            std::cmp::Ordering::Greater => {
                out.push(format!("conntrack, podpath only: {}", b[j].rest));
                j += 1;
            }
            std::cmp::Ordering::Equal => {
                let (x, y) = (a[i].timeout, b[j].timeout);
                let near = x.zip(y).map_or(x == y, |(x, y)| (x - y).abs() <= 1);
                if !near {
                    out.push(format!("conntrack timeout {x:?} / {y:?}: {}", a[i].rest));
                }
                (i, j) = (i + 1, j + 1);
            }
        }
    }
    out
}

fn sets(kernel: &str, ours: &str) -> Vec<String> {
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
    out
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
