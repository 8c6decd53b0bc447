//! What docs/json.md promises: the keys that its tables name, for tests that hold output against them.

use std::collections::BTreeSet;

/// What stands between backquotes in the first cells of the tables under a heading of docs/json.md.
pub fn documented(heading: &str) -> BTreeSet<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/json.md");
    let doc = std::fs::read_to_string(path).expect("docs/json.md");
    let (_, rest) = doc.split_once(&format!("\n{heading}\n")).expect(heading);
    let section = rest
        .split("\n## ")
        .next()
        .and_then(|s| s.split("\n### ").next());
    let rows = section
        .unwrap_or_default()
        .lines()
        .filter(|l| l.starts_with("| `"));
    let cells = rows.filter_map(|l| l.split('|').nth(1));
    let words = cells.flat_map(|c| {
        c.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    });
    words.collect()
}
