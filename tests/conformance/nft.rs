//! Comparison of what `nft list ruleset` prints: every line, with its counters and elements.
//!
//! Only how much time elements have left may differ, by a few seconds.

/// Listings of `nft list ruleset`, line by line; `slack` is by how many seconds the remaining times of elements
/// may differ.
pub fn compare(kernel: &str, ours: &str, slack: i64) -> (usize, Vec<String>) {
    let (a, b): (Vec<&str>, Vec<&str>) = (kernel.lines().collect(), ours.lines().collect());
    let mut out = Vec::new();
    for i in 0..a.len().max(b.len()) {
        let (x, y) = (a.get(i).copied(), b.get(i).copied());
        let same = match (x.map(expiry), y.map(expiry)) {
            (Some((x, xs)), Some((y, ys))) => {
                let near = |(x, y): (&i64, &i64)| (x - y).abs() <= slack * 1000;
                x == y && xs.len() == ys.len() && xs.iter().zip(&ys).all(near)
            }
            _ => false,
        };
        if !same {
            let (k, p) = (x.unwrap_or("(none)"), y.unwrap_or("(none)"));
            out.push(format!("nft, line {}\n  kernel  {k}\n  podpath {p}", i + 1));
        }
    }
    (a.len().max(b.len()), out)
}

/// A line without the remaining times of its elements, and these, in milliseconds.
fn expiry(line: &str) -> (String, Vec<i64>) {
    let (mut text, mut times) = (String::new(), Vec::new());
    for (i, part) in line.split("expires ").enumerate() {
        let end = part.find(|c: char| !c.is_ascii_alphanumeric());
        let (time, rest) = part.split_at(if i == 0 { 0 } else { end.unwrap_or(part.len()) });
        if i > 0 {
            times.push(millis(time));
            text += "expires *";
        }
        text += rest;
    }
    (text, times)
}

/// `1h2m3s4ms` in milliseconds.
fn millis(time: &str) -> i64 {
    let (mut total, mut number, mut rest) = (0, 0, time);
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        let unit = match c {
            '0'..='9' => {
                number = number * 10 + i64::from(c as u32 - '0' as u32);
                continue;
            }
            'd' => 86_400_000,
            'h' => 3_600_000,
            'm' if rest.starts_with('s') => {
                rest = &rest[1..];
                1
            }
            'm' => 60_000,
            _ => 1000,
        };
        total += number * unit;
        number = 0;
    }
    total
}
