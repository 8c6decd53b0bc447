//! What of a dump is compared.
//!
//! Left out: what only a kernel with bridge VLAN filtering says of a bridge that does not filter, ifindexes and
//! the `@ifN` of other ends (`tunl0` and its like shift them), queueing disciplines, queue and segmentation
//! limits, the garbage timer, neighbours and bridge entries that traffic made, and the order of what the kernel
//! keeps in hash tables.

use podpath::report::show::{RouteTables, ShowWhat};

/// A dump of the recordings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dump {
    Addr,
    Link,
    Route,
    Neigh,
    Fdb,
    BridgeLink,
}

impl Dump {
    pub const ALL: [Dump; 6] = [
        Dump::Addr,
        Dump::Link,
        Dump::Route,
        Dump::Neigh,
        Dump::Fdb,
        Dump::BridgeLink,
    ];

    pub fn file(self) -> &'static str {
        match self {
            Dump::Addr => "ip-addr.txt",
            Dump::Link => "ip-link.txt",
            Dump::Route => "ip-route.txt",
            Dump::Neigh => "ip-neigh.txt",
            Dump::Fdb => "bridge-fdb.txt",
            Dump::BridgeLink => "bridge-link.txt",
        }
    }

    pub fn what(self) -> ShowWhat {
        match self {
            Dump::Addr => ShowWhat::Addr,
            Dump::Link => ShowWhat::Link,
            Dump::Route => ShowWhat::Route {
                table: RouteTables::All,
            },
            Dump::Neigh => ShowWhat::Neigh,
            Dump::Fdb => ShowWhat::Fdb,
            Dump::BridgeLink => ShowWhat::BridgeLink,
        }
    }

    pub fn details(self) -> bool {
        matches!(self, Dump::Link | Dump::BridgeLink)
    }
}

/// The lines that count, in order.
pub fn lines(dump: Dump, text: &str) -> Vec<String> {
    let mut out: Vec<String> = match dump {
        Dump::Addr | Dump::Link => links(text),
        Dump::BridgeLink => text.lines().map(head).collect(),
        Dump::Route => text.lines().map(str::to_owned).collect(),
        Dump::Neigh => text
            .lines()
            .filter(|l| l.contains("PERMANENT"))
            .map(str::to_owned)
            .collect(),
        Dump::Fdb => text
            .lines()
            .filter(|l| fixed_entry(l))
            .map(str::to_owned)
            .collect(),
    };
    match dump {
        Dump::Neigh => out.sort(),
        // Devices in order, what hangs on one of them sorted.
        Dump::Fdb => sort_within(&mut out, |l| {
            l.split(" dev ")
                .nth(1)
                .and_then(|r| r.split(' ').next())
                .unwrap_or("")
                .to_owned()
        }),
        _ => {}
    }
    out
}

/// What was configured. Traffic moves even static entries of a bridge; a kernel with VLAN filtering compiled in
/// lists local entries per VLAN too, and some recordings are of such a kernel.
fn fixed_entry(l: &str) -> bool {
    l.ends_with("permanent") && !l.contains(" vlan 1 master ")
}

fn sort_within(lines: &mut Vec<String>, group: impl Fn(&str) -> String) {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for l in lines.drain(..) {
        let g = group(&l);
        match groups.last_mut() {
            Some((name, list)) if *name == g => list.push(l),
            _ => groups.push((g, vec![l])),
        }
    }
    for (_, mut list) in groups {
        list.sort();
        lines.append(&mut list);
    }
}

/// Devices of `ip addr` and `ip link` without those a kernel makes by itself (`tunl0`).
fn links(text: &str) -> Vec<String> {
    let (mut out, mut skip) = (Vec::new(), false);
    for l in text.lines() {
        if !l.starts_with(' ') {
            skip = l.contains(": tunl0@NONE: <NOARP> ");
        }
        if !skip {
            out.push(cut(&head(l)));
        }
    }
    out
}

/// `2: eth0@if4: ` becomes `eth0@if: `.
fn head(l: &str) -> String {
    if l.starts_with(' ') {
        return l.to_owned();
    }
    let Some((_, rest)) = l.split_once(": ") else {
        return l.to_owned();
    };
    let Some((name, rest)) = rest.split_once(": ") else {
        return rest.to_owned();
    };
    let name = match name.split_once("@if") {
        Some((n, _)) => format!("{n}@if"),
        None => name.to_owned(),
    };
    format!("{name}: {rest}")
}

fn cut(l: &str) -> String {
    let mut words: Vec<&str> = l.split(' ').collect();
    for (word, n) in [
        ("qdisc", 2),
        ("vlan_protocol", 2),
        ("vlan_default_pvid", 2),
        ("vlan_stats_enabled", 2),
        ("vlan_stats_per_port", 2),
        ("addrgenmode", usize::MAX),
        ("numtxqueues", usize::MAX),
    ] {
        if let Some(i) = words.iter().position(|w| *w == word) {
            let end = words.len().min(i.saturating_add(n));
            words.drain(i..end);
        }
    }
    if let Some(i) = words.iter().position(|w| *w == "gc_timer") {
        let end = i + 1 + words[i + 1..].iter().take_while(|w| w.is_empty()).count() + 1;
        words.drain(i..end.min(words.len()));
    }
    words.join(" ")
}

/// What one list has and the other has not, as a longest-common-subsequence difference.
pub fn diff(theirs: &[String], ours: &[String]) -> Vec<String> {
    let (n, m) = (theirs.len(), ours.len());
    let mut best = vec![vec![0usize; m + 1]; n + 1];
    for i in (0..n).rev() {
        for j in (0..m).rev() {
            best[i][j] = if theirs[i] == ours[j] {
                best[i + 1][j + 1] + 1
            } else {
                best[i + 1][j].max(best[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, Vec::new());
    while i < n || j < m {
        if i < n && j < m && theirs[i] == ours[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == m || (i < n && best[i + 1][j] >= best[i][j + 1]) {
            out.push(format!("-{}", theirs[i]));
            i += 1;
        } else {
            out.push(format!("+{}", ours[j]));
            j += 1;
        }
    }
    out
}
