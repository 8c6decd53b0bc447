//! Compares restore inputs: tables, chains and rules taken apart.
//!
//! Words of a rule are compared in the order in which kube-proxy writes them. Not compared: how a number is
//! written (`0x4000` and `0x00004000`), quotes around a word that needs none, the order of chain lines. In
//! KUBE-SERVICES and KUBE-NODEPORTS rules of different Services may come in any order (the vectors' README):
//! they are sorted by Service there, which keeps the order within one.

use std::collections::BTreeMap;

/// Chains by table and name; each rule as its words.
pub type Chains = BTreeMap<(String, String), Vec<Vec<String>>>;

/// Takes a restore input apart; `-X` lines become chains of their own with the name `-X CHAIN`.
pub fn parse(text: &str) -> Result<Chains, String> {
    let (mut out, mut table) = (Chains::new(), String::new());
    for line in text.lines() {
        let words = words(line)?;
        let Some(first) = words.first() else { continue };
        if let Some(name) = first.strip_prefix('*') {
            name.clone_into(&mut table);
        } else if let Some(chain) = first.strip_prefix(':') {
            out.entry((table.clone(), chain.to_owned())).or_default();
        } else if first == "-X" {
            out.insert((table.clone(), words.join(" ")), Vec::new());
        } else if let ("-A", Some(chain)) = (first.as_str(), words.get(1)) {
            let key = (table.clone(), chain.clone());
            let rules = out
                .get_mut(&key)
                .ok_or(format!("undeclared chain: {line}"))?;
            rules.push(words[2..].to_vec());
        } else if first != "COMMIT" {
            return Err(format!("not understood: {line}"));
        }
    }
    for ((_, chain), rules) in &mut out {
        if matches!(chain.as_str(), "KUBE-SERVICES" | "KUBE-NODEPORTS") {
            rules.sort_by_key(|rule| (is_last(rule), service(rule)));
        }
    }
    Ok(out)
}

/// What is there after `iptables-restore --noflush` of `text` over `before`: a declared chain is emptied.
pub fn restore(before: &Chains, text: &str) -> Result<Chains, String> {
    let mut out = before.clone();
    let written = parse(text)?;
    for ((table, chain), rules) in &written {
        if !chain.starts_with("-X ") {
            out.insert((table.clone(), chain.clone()), rules.clone());
        }
    }
    // A chain that goes is declared too.
    for (table, chain) in written.keys() {
        if let Some(gone) = chain.strip_prefix("-X ") {
            out.remove(&(table.clone(), gone.to_owned()));
        }
    }
    Ok(out)
}

/// What differs, a line each.
pub fn differences(expected: &Chains, found: &Chains) -> Vec<String> {
    let mut out = Vec::new();
    for (key, want) in expected {
        let chain = format!("{}/{}", key.0, key.1);
        let Some(have) = found.get(key) else {
            out.push(format!("{chain}: missing"));
            continue;
        };
        for i in 0..want.len().max(have.len()) {
            let show =
                |rule: Option<&Vec<String>>| rule.map_or("(none)".to_owned(), |r| r.join(" "));
            if want.get(i) != have.get(i) {
                out.push(format!("{chain} {i}: - {}", show(want.get(i))));
                out.push(format!("{chain} {i}: + {}", show(have.get(i))));
            }
        }
    }
    let extra = found.keys().filter(|key| !expected.contains_key(*key));
    out.extend(extra.map(|key| format!("{}/{}: not expected", key.0, key.1)));
    out
}

/// The comment's `namespace/name`.
fn service(rule: &[String]) -> String {
    let comment = rule.iter().skip_while(|w| *w != "--comment").nth(1);
    let name = comment.and_then(|c| c.split([' ', ':']).next());
    name.unwrap_or_default().to_owned()
}

fn is_last(rule: &[String]) -> bool {
    rule.iter().any(|w| w.contains("must be the last rule"))
}

/// A line's words, quotes taken off and hexadecimal numbers brought to one form.
fn words(line: &str) -> Result<Vec<String>, String> {
    let (mut out, mut rest) = (Vec::new(), line.trim());
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted
                .split_once('"')
                .ok_or(format!("open quote: {line}"))?,
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        let parts: Vec<String> = word.split('/').map(number).collect();
        out.push(parts.join("/"));
        rest = after.trim_start();
    }
    Ok(out)
}

fn number(word: &str) -> String {
    let hex = word.strip_prefix("0x").map(|h| u32::from_str_radix(h, 16));
    match hex {
        Some(Ok(n)) => format!("{n:#x}"),
        _ => word.to_owned(),
    }
}
