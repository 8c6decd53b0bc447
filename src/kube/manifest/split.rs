//! Where one document ends and the next begins: at lines that start with `---`.
//!
//! Splitting before parsing keeps a bad document from taking the rest of the file with it. YAML forbids
//! such lines inside any scalar (YAML 1.2 `c-forbidden`), so this never cuts one in two. Invariant: the
//! chunks' texts are slices of the input, in order.

use std::sync::Arc;

use crate::base::{Finding, Span};

/// Where a chunk starts in its file.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Base {
    /// Bytes before it.
    pub offset: u32,
    /// Lines before it.
    pub line: u32,
    /// Characters before it on its first line.
    pub column: u32,
}

/// A piece of text that is parsed by itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk<'a> {
    /// The text, without the `---` line that opened it.
    pub text: &'a str,
    /// Where the text starts.
    pub base: Base,
    /// What stood behind `---` on its line.
    trailing: &'a str,
}

impl<'a> Chunk<'a> {
    /// A text that is not split.
    pub fn whole(text: &'a str, base: Base) -> Self {
        Chunk {
            text,
            base,
            trailing: "",
        }
    }

    /// An error when the `---` line has more than a comment on it, as kubectl says it
    /// (apimachinery `pkg/util/yaml/decoder.go`: "invalid Yaml document separator").
    pub fn separator_finding(&self, file: &Arc<str>) -> Option<Finding> {
        let text = self.trailing.trim();
        if text.is_empty() || text.starts_with('#') {
            return None;
        }
        let column = 4 + self
            .trailing
            .chars()
            .take_while(|c| c.is_whitespace())
            .count();
        let span = Span::new(
            file.clone(),
            self.base.line,
            u32::try_from(column).unwrap_or(0),
        );
        let message =
            format!("invalid document separator: expected only `---`, found `--- {text}`");
        Some(Finding::error(
            span,
            message,
            "put the text on a line of its own, or behind a `#`",
        ))
    }
}

/// The pieces of a text. Leading pieces of comments and directives belong to the document that follows.
pub(super) fn split(text: &str) -> impl Iterator<Item = Chunk<'_>> {
    let mut next = Some(Chunk::whole(text, Base::default()));
    core::iter::from_fn(move || {
        let chunk = next.take()?;
        let Some((length, marker, lines)) = find_separator(chunk.text) else {
            return Some(chunk);
        };
        let (body, rest) = chunk
            .text
            .split_at_checked(length)
            .unwrap_or((chunk.text, ""));
        let (line, rest_text) = rest.split_at_checked(marker).unwrap_or((rest, ""));
        let skipped = u32::try_from(length + marker).unwrap_or(u32::MAX);
        let base = Base {
            offset: chunk.base.offset.saturating_add(skipped),
            line: chunk.base.line.saturating_add(lines),
            column: 0,
        };
        next = Some(Chunk {
            text: rest_text,
            base,
            trailing: line.get(3..).unwrap_or(""),
        });
        Some(Chunk {
            text: body,
            ..chunk
        })
    })
}

/// The next separating line: bytes before it, its own length with its line break, and lines up to its
/// end.
fn find_separator(text: &str) -> Option<(usize, usize, u32)> {
    let mut before = 0;
    let mut lines = 0_u32;
    let mut directive = false;
    let mut content = false;
    for line in text.split_inclusive('\n') {
        lines = lines.saturating_add(1);
        let separator = line.strip_prefix("---").is_some_and(|rest| {
            rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_whitespace())
        });
        // `%YAML 1.2` stands before the `---` of the document that it is about.
        if separator && (content || !directive) {
            return Some((before, line.len(), lines));
        }
        directive |= !content && line.starts_with('%');
        content |=
            separator || !matches!(line.trim_start().bytes().next(), None | Some(b'#' | b'%'));
        before += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> Vec<(&str, u32, u32)> {
        split(text)
            .map(|c| (c.text, c.base.offset, c.base.line))
            .collect()
    }

    #[test]
    fn splits_at_markers_only() {
        assert_eq!(pieces("a: 1"), [("a: 1", 0, 0)]);
        assert_eq!(
            pieces("a: 1\n---\nb: |\n  ---\n--- # x\r\nc"),
            [("a: 1\n", 0, 0), ("b: |\n  ---\n", 9, 2), ("c", 29, 5),]
        );
        assert_eq!(pieces("----\n---x\n"), [("----\n---x\n", 0, 0)]);
        assert_eq!(pieces("%YAML 1.2\n---\na: 1\n---\n").len(), 2);
        assert_eq!(pieces("---"), [("", 0, 0), ("", 3, 1)]);
    }

    #[test]
    fn trailing_text_is_named() {
        let last = split("a: 1\n---  web\nb: 2\n").last().unwrap();
        let finding = last.separator_finding(&"f".into()).unwrap();
        assert_eq!(finding.span, Span::new("f", 2, 6));
        assert!(split("---\t# web\n").all(|c| c.separator_finding(&"f".into()).is_none()));
    }
}
