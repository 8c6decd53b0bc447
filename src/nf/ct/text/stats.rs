//! The line of `conntrack -S`.
//!
//! Invariant: one line per CPU is read, their sum kept; podpath prints one CPU.

use super::parse::{Words, is_noise, push};
use crate::base::Finding;
use crate::nf::ct::CtStats;

/// As `conntrack -S` prints one CPU.
pub fn stats_line(s: &CtStats) -> String {
    format!(
        "cpu=0   \tfound={} invalid={} insert={} insert_failed={} drop={} early_drop={} error={} \
         search_restart={} clash_resolve={} chaintoolong={} \n",
        s.found,
        s.invalid,
        s.insert,
        s.insert_failed,
        s.drop,
        s.early_drop,
        s.error,
        s.search_restart,
        s.clash_resolve,
        s.chaintoolong
    )
}

/// Reads `conntrack -S`: the sum over its lines.
pub fn parse_stats(file: &str, text: &str) -> (CtStats, Vec<Finding>) {
    let mut sum = CtStats::default();
    let mut findings = Vec::new();
    for (line, number) in text.lines().zip(1u32..) {
        if is_noise(line) {
            continue;
        }
        let mut w = Words::new(line);
        while !w.peek().is_empty() {
            let word = w.peek();
            let pair = word
                .split_once('=')
                .and_then(|(k, v)| Some((k, v.parse::<u64>().ok()?)));
            let slot = pair.and_then(|(k, _)| slot(&mut sum, k));
            match (pair, slot) {
                (Some((_, n)), Some(slot)) => *slot = slot.saturating_add(n),
                (Some(("cpu", _)), None) => {}
                _ => {
                    let expected = "a counter of conntrack -S, such as drop=0";
                    if let Err(wrong) = w.wrong::<()>(expected) {
                        push(&mut findings, wrong.finding(file, number));
                    }
                }
            }
            w.next();
        }
    }
    (sum, findings)
}

fn slot<'a>(s: &'a mut CtStats, key: &str) -> Option<&'a mut u64> {
    Some(match key {
        "found" => &mut s.found,
        "invalid" => &mut s.invalid,
        "ignore" => &mut s.ignore,
        "insert" => &mut s.insert,
        "insert_failed" => &mut s.insert_failed,
        "drop" => &mut s.drop,
        "early_drop" => &mut s.early_drop,
        "error" => &mut s.error,
        "search_restart" => &mut s.search_restart,
        "clash_resolve" => &mut s.clash_resolve,
        "chaintoolong" => &mut s.chaintoolong,
        _ => return None,
    })
}
