//! Where the objects of `nft -j` JSON stand in their text, also where the text is no JSON as a whole.
//!
//! A scan for brackets outside of strings; serde_json reads the objects. Invariant: objects come in order,
//! and the scan ends with the text.

use serde_json::Value as Json;

use crate::base::Span;

/// One object of the list `nftables`.
pub(super) struct Placed<'t> {
    /// Where it begins.
    pub span: Span,
    /// The text from there on.
    pub text: &'t str,
}

impl Placed<'_> {
    /// The object, if it is one of its own.
    pub fn read(&self) -> Result<Json, serde_json::Error> {
        let mut all = serde_json::Deserializer::from_str(self.text).into_iter();
        all.next().unwrap_or(Ok(Json::Null))
    }

    /// Its beginning, for people.
    pub fn excerpt(&self) -> String {
        const MOST: usize = 48;
        let line = self.text.lines().next().unwrap_or_default();
        match line.char_indices().nth(MOST) {
            Some((end, _)) => format!("`{}...`", &line[..end]),
            None => format!("`{line}`"),
        }
    }
}

/// The objects of the list `nftables`, as far as the text goes.
pub(super) fn objects<'t>(file: &str, text: &'t str) -> Vec<Placed<'t>> {
    let mut out = Vec::new();
    let (mut depth, mut list, mut key) = (0u32, None, "");
    let (mut quoted, mut escaped) = (None, false);
    let (mut line, mut from) = (1u32, 0);
    for (i, c) in text.char_indices() {
        if c == '\n' {
            (line, from) = (line.saturating_add(1), i + 1);
        }
        if let Some(start) = quoted {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => {
                    key = text.get(start..i).unwrap_or_default();
                    quoted = None;
                }
                _ => {}
            }
            continue;
        }
        match c {
            '"' => quoted = Some(i + 1),
            '{' | '[' => {
                if list == Some(depth) {
                    let column = text.get(from..i).map_or(0, |t| t.chars().count());
                    let column = u32::try_from(column + 1).unwrap_or(u32::MAX);
                    out.push(Placed {
                        span: Span::new(file, line, column),
                        text: text.get(i..).unwrap_or_default(),
                    });
                }
                depth = depth.saturating_add(1);
                if c == '[' && depth == 2 && key == "nftables" && list.is_none() {
                    list = Some(depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                if list.is_some_and(|l| depth < l) {
                    return out;
                }
            }
            _ => {}
        }
    }
    out
}
