//! Text for XML and dot: escaped, measured without a font, cut where it would not fit.

use core::fmt::Write as _;

/// For XML content and attributes. Characters that XML forbids become U+FFFD.
pub(in crate::report) fn escape(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 8);
    for c in s.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A double-quoted dot string; a line break stays one.
pub(in crate::report) fn quoted(s: &str) -> String {
    let mut out = String::from("\"");
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => {
                let _ = write!(out, "\u{fffd}");
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// How a text is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::report) enum Face {
    Sans,
    Bold,
    Mono,
}

/// Width of one character, in thousandths of the font size; of the widest usual system fonts, so that what
/// fits here fits everywhere.
fn advance(c: char, face: Face) -> i32 {
    let sans = match c {
        'i' | 'j' | 'l' | '|' | '\'' => 290,
        '.' | ',' | ':' | ';' | '!' | ' ' => 320,
        'f' | 't' | 'r' | '(' | ')' | '/' | '-' | '[' | ']' => 400,
        'm' | 'w' | 'M' | 'W' | '@' | '%' | '…' | '→' | '⚠' => 960,
        'A'..='Z' => 700,
        '·' => 330,
        c if (c as u32) > 0x2e80 => 1000,
        _ => 620,
    };
    match face {
        Face::Sans => sans,
        Face::Bold => sans + 70,
        Face::Mono if (c as u32) > 0x2e80 => 1204,
        Face::Mono => 605,
    }
}

/// Width of a text, in px, rounded up.
pub(in crate::report) fn width(s: &str, size: i32, face: Face) -> i32 {
    let sum: i64 = s.chars().map(|c| i64::from(advance(c, face))).sum();
    i32::try_from((sum * i64::from(size) + 999) / 1000).unwrap_or(i32::MAX)
}

/// The text, or its beginning and `…`, within `room` px.
pub(in crate::report) fn fit(s: &str, size: i32, face: Face, room: i32) -> String {
    if width(s, size, face) <= room {
        return s.to_owned();
    }
    let mut out = String::new();
    let mut used = width("…", size, face);
    for c in s.chars() {
        used += width(c.encode_utf8(&mut [0; 4]), size, face);
        if used > room {
            break;
        }
        out.push(c);
    }
    out.trim_end().to_owned() + "…"
}

/// As many words as fit, then `+ n`.
pub(in crate::report) fn fit_list(words: &[String], size: i32, face: Face, room: i32) -> String {
    let mut out = String::new();
    for (i, w) in words.iter().enumerate() {
        let left = words.len() - i - 1;
        let gap = if out.is_empty() { "" } else { "  " };
        let tail = if left > 0 {
            format!("  +{left}")
        } else {
            String::new()
        };
        if !out.is_empty() && width(&format!("{out}{gap}{w}{tail}"), size, face) > room {
            return format!("{out}  +{}", left + 1);
        }
        out.push_str(gap);
        out.push_str(w);
    }
    fit(&out, size, face, room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_out_of_xml_or_dot() {
        assert_eq!(
            escape("<a b=\"c\">&'\u{1}"),
            "&lt;a b=&quot;c&quot;&gt;&amp;&#39;\u{fffd}"
        );
        assert_eq!(quoted("a\"b\\\n"), "\"a\\\"b\\\\\\n\"");
    }

    #[test]
    fn what_does_not_fit_is_cut() {
        assert_eq!(fit("short", 12, Face::Sans, 100), "short");
        let cut = fit("a-very-long-name-of-a-pod", 12, Face::Mono, 80);
        assert!(
            cut.ends_with('…') && width(&cut, 12, Face::Mono) <= 80,
            "{cut}"
        );
        let ports: Vec<String> = (1..9).map(|i| format!("80{i}/tcp")).collect();
        let line = fit_list(&ports, 10, Face::Mono, 150);
        assert!(
            line.ends_with("+6") && width(&line, 10, Face::Mono) <= 150,
            "{line}"
        );
    }
}
