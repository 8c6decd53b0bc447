//! Words of a Corefile: `caddyfile/lexer.go`.
//!
//! Blanks part words, quotes hold them together (over lines, too), `\"` is a quote in quotes, `#` at the
//! beginning of a word makes a comment. A word knows whether it begins a line.

use crate::base::Span;
use std::sync::Arc;

/// A word, a quoted word or a brace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Token {
    pub text: String,
    pub span: Span,
    /// No word stands before it in its line.
    pub first: bool,
    /// It was written in quotes: never a brace, never a comment.
    pub quoted: bool,
}

impl Token {
    pub(super) fn is(&self, text: &str) -> bool {
        !self.quoted && self.text == text
    }
}

/// All words; whether the last quote was closed.
pub(super) fn tokens(file: &Arc<str>, text: &str) -> (Vec<Token>, Option<Span>) {
    let mut out: Vec<Token> = Vec::new();
    let (mut line, mut column, mut first) = (1_u32, 0_u32, true);
    let mut chars = text.trim_start_matches('\u{feff}').chars().peekable();
    while let Some(c) = chars.next() {
        column = column.saturating_add(1);
        let span = Span::new(file.clone(), line, column);
        match c {
            '\n' => {
                (line, column, first) = (line.saturating_add(1), 0, true);
            }
            c if c.is_whitespace() => {}
            '#' => while chars.next_if(|c| *c != '\n').is_some() {},
            '"' => {
                let mut word = String::new();
                let mut closed = false;
                while let Some(c) = chars.next() {
                    column = column.saturating_add(1);
                    match c {
                        '"' => {
                            closed = true;
                            break;
                        }
                        '\\' if chars.peek() == Some(&'"') => {
                            word.extend(chars.next());
                            column = column.saturating_add(1);
                        }
                        '\n' => {
                            word.push(c);
                            (line, column) = (line.saturating_add(1), 0);
                        }
                        '\r' => {}
                        c => word.push(c),
                    }
                }
                let unclosed = (!closed).then(|| span.clone());
                out.push(Token {
                    text: word,
                    span,
                    first,
                    quoted: true,
                });
                first = false;
                if unclosed.is_some() {
                    return (out, unclosed);
                }
            }
            c => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
                    column = column.saturating_add(1);
                    word.push(c);
                }
                out.push(Token {
                    text: word,
                    span,
                    first,
                    quoted: false,
                });
                first = false;
            }
        }
    }
    (out, None)
}
