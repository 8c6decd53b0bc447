//! nftables text against recordings of the kernel and nft 1.0.6 (kernel 6.18): listings come back byte for byte,
//! scripts give the kernel's listing. As root with `PODPATH_NFT=1` the recordings are made anew and compared.

#![allow(missing_docs, reason = "a test binary")]

use podpath::nf::nft::{Ruleset, Script};
use serde_json::Value;

#[path = "nft_text/kernel.rs"]
mod kernel;
#[path = "nft_text/messages.rs"]
mod messages;
#[path = "nft_text/round.rs"]
mod round;

/// A packed recording.
fn data(name: &str) -> Vec<Value> {
    let path = format!("{}/tests/data/nft/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn text<'a>(v: &'a Value, key: &str) -> &'a str {
    v[key].as_str().unwrap_or_else(|| panic!("no {key} in {v}"))
}

/// The first line that differs.
fn differs(want: &str, got: &str) -> Option<String> {
    let (mut w, mut g) = (want.lines(), got.lines());
    for n in 1.. {
        match (w.next(), g.next()) {
            (None, None) => return (want != got).then(|| "line ends".to_owned()),
            (a, b) if a == b => {}
            (a, b) => return Some(format!("line {n}\n  kernel  {a:?}\n  podpath {b:?}")),
        }
    }
    None
}

fn apply(script: &str) -> Result<Ruleset, String> {
    let mut set = Ruleset::default();
    let (script, findings) = Script::parse("script", script, &set);
    if let Some(f) = findings.first() {
        return Err(f.to_string());
    }
    set.apply(&script).map_err(|f| f.to_string())?;
    Ok(set)
}

fn none(bad: Vec<String>) {
    assert!(bad.is_empty(), "{} differ\n{}", bad.len(), bad.join("\n"));
}

#[test]
fn listings_come_back_byte_for_byte() {
    let mut bad = Vec::new();
    let scripts = data("scripts");
    let scripts = scripts
        .iter()
        .map(|s| (text(s, "name"), text(s, "listing")));
    let dumps = data("listings");
    let dumps = dumps.iter().map(|d| (text(d, "name"), text(d, "text")));
    for (name, want) in scripts.chain(dumps) {
        // Scripts in one line per statement are listings of the same model, but not nft's spelling.
        let (set, findings) = Ruleset::parse(name, want);
        bad.extend(findings.iter().map(|f| format!("{name}: {f}")));
        let again = set.to_text();
        let (set, _) = Ruleset::parse(name, &again);
        let other = if name.starts_with("rules ") {
            &again
        } else {
            want
        };
        bad.extend(differs(other, &set.to_text()).map(|d| format!("{name}: {d}")));
    }
    none(bad);
}

#[test]
fn listings_with_handles_come_back() {
    let mut bad = Vec::new();
    for s in data("scripts") {
        let (set, findings) = Ruleset::parse("handles", text(&s, "handles"));
        bad.extend(
            findings
                .iter()
                .map(|f| format!("{}: {f}", text(&s, "name"))),
        );
        bad.extend(
            differs(text(&s, "handles"), &set.to_text_with_handles())
                .map(|d| format!("{}: {d}", text(&s, "name"))),
        );
    }
    none(bad);
}

#[test]
fn scripts_give_the_kernels_listing() {
    let mut bad = Vec::new();
    for s in data("scripts") {
        let name = text(&s, "name");
        match apply(text(&s, "script")) {
            Ok(set) => {
                // Time goes on between loading and listing.
                let want: String = still(text(&s, "listing"));
                bad.extend(differs(&want, &still(&set.to_text())).map(|d| format!("{name}: {d}")));
            }
            Err(e) => bad.push(format!("{name}: {e}")),
        }
    }
    none(bad);
}

/// Without what remains of timeouts.
fn still(listing: &str) -> String {
    let mut out = String::new();
    let mut words = listing.split(' ').peekable();
    while let Some(w) = words.next() {
        if w == "expires" {
            words.next();
            continue;
        }
        out.push_str(w);
        out.push(' ');
    }
    out
}

/// The listed form of one rule, and the rule that is read from it, print the same.
#[test]
fn every_rule_is_listed_as_the_kernel_lists_it() {
    let mut bad = Vec::new();
    for r in data("rules") {
        let (rule, want) = (text(&r, "rule"), text(&r, "listed"));
        let got = kernel::listed(text(&r, "table"), rule);
        if got.as_deref() != Ok(want) {
            bad.push(format!(
                "{} | {rule}\n  kernel  {want:?}\n  podpath {got:?}",
                text(&r, "table")
            ));
        }
        let again = kernel::listed(text(&r, "table"), want);
        if again.as_deref() != Ok(want) {
            bad.push(format!(
                "{} again | {want:?}\n  podpath {again:?}",
                text(&r, "table")
            ));
        }
    }
    none(bad);
}
