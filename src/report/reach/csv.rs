//! CSV (RFC 4180, lines end with a line feed): a line for each pair of groups and port.

use super::words::{verdict, why};
use super::{Shown, diff};
use crate::kube::policy::L4;

/// A field, in quotes where it needs them. What a spreadsheet would take for a formula gets a quote mark
/// before it.
fn field(text: &str) -> String {
    let safe = match text.chars().next() {
        Some('=' | '+' | '-' | '@' | '\t' | '\r') => format!("'{text}"),
        _ => text.to_owned(),
    };
    match safe.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", safe.replace('"', "\"\"")),
        false => safe,
    }
}

fn line(out: &mut String, fields: &[&str]) {
    let fields: Vec<String> = fields.iter().map(|text| field(text)).collect();
    out.push_str(&fields.join(","));
    out.push('\n');
}

fn split(l4: &L4) -> (String, String) {
    match l4 {
        L4::Port(protocol, number) => (
            number.to_string(),
            protocol.to_string().to_ascii_uppercase(),
        ),
        L4::Other => (String::new(), "other".into()),
    }
}

/// The lines, with a head.
pub fn csv(shown: &Shown<'_>) -> String {
    match (shown.is_change(), shown.paths) {
        (true, _) => changes(shown),
        (false, path) => pairs(shown, path.is_some()),
    }
}

fn pairs(shown: &Shown<'_>, path: bool) -> String {
    let mut out = String::new();
    let mut head = vec![
        "from", "to", "port", "protocol", "pairs", "open", "verdict", "why",
    ];
    if path {
        head.extend(["probes", "reached", "differ", "path"]);
    }
    line(&mut out, &head);
    for &from in &shown.reach.rows {
        for &to in &shown.reach.columns {
            for (at, port) in shown.reach.cell(from, to).iter().enumerate() {
                if port.pairs == 0 {
                    continue;
                }
                let (number, protocol) = split(&port.l4);
                let open = port.open.first().copied().unwrap_or_default();
                let reason = why(shown.reach, (from, to, at), 0, false);
                let numbers = [port.pairs.to_string(), open.to_string()];
                let [pairs, open] = &numbers;
                let mut fields = vec![
                    name(shown, from),
                    name(shown, to),
                    &number,
                    &protocol,
                    pairs,
                    open,
                    verdict(port, 0),
                    &reason,
                ];
                let found = shown.path(from, to, at).cloned().unwrap_or_default();
                let counts = [found.tried, found.reached, found.differ].map(|n| n.to_string());
                let because = because(shown, (from, to, at));
                if path {
                    fields.extend(counts.iter().map(String::as_str));
                    fields.push(&because);
                }
                line(&mut out, &fields);
            }
        }
    }
    out
}

/// Why path and policies differ in a port of a cell; empty when they do not.
pub(super) fn because(shown: &Shown<'_>, cell: (usize, usize, usize)) -> String {
    let differ = shown.paths.map(|p| p.differ.as_slice()).unwrap_or_default();
    let mut texts: Vec<String> = Vec::new();
    let start = differ.partition_point(|d| d.cell < cell);
    for one in differ.iter().skip(start).take_while(|d| d.cell == cell) {
        let why = one.why();
        if !texts.contains(&why) {
            texts.push(why);
        }
    }
    texts.join("; ")
}

fn name<'s>(shown: &'s Shown<'_>, group: usize) -> &'s str {
    shown.reach.groups.get(group).map_or("", |g| &g.name)
}

fn changes(shown: &Shown<'_>) -> String {
    let mut out = String::new();
    let head = [
        "from",
        "to",
        "port",
        "protocol",
        "pairs",
        "open_before",
        "open_after",
        "opened",
        "closed",
        "why_before",
        "why_after",
    ];
    line(&mut out, &head);
    for change in diff::changes(shown).0 {
        let (from, to, at) = change.cell;
        let group = shown.reach.groups.get(to);
        let l4 = group
            .and_then(|g| g.ports.get(at))
            .copied()
            .unwrap_or(L4::Other);
        let (number, protocol) = split(&l4);
        let [before, after] = change.open;
        let counts = [
            change.pairs,
            before,
            after,
            change.change.0,
            change.change.1,
        ];
        let counts = counts.map(|n| n.to_string());
        let reasons = [0, 1].map(|state| why(shown.reach, change.cell, state, false));
        let mut fields = vec![name(shown, from), name(shown, to), &number, &protocol];
        fields.extend(counts.iter().map(String::as_str));
        fields.extend(reasons.iter().map(String::as_str));
        line(&mut out, &fields);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn fields_stay_fields() {
        assert_eq!(field("a/b"), "a/b");
        assert_eq!(field("a,b"), "\"a,b\"");
        assert_eq!(field("say \"x\""), "\"say \"\"x\"\"\"");
        assert_eq!(field("=1+1"), "'=1+1");
    }
}
