//! JSON text to a tree: what `kubectl get -o json` prints, and streams of several values.
//!
//! A reader of its own because YAML parsers refuse legal JSON (tabs, long keys) and give poor messages
//! for a file that was cut off. RFC 8259; numbers keep their text. Iterative: nesting costs no stack.

use std::borrow::Cow;

use super::Documents;
use super::build::{Builder, Place, Stop};
use super::scalar;
use super::tree::Value;

/// Whether a text may be JSON: YAML's flow style begins with the same brackets.
pub(super) fn looks_like(text: &str) -> bool {
    text.trim_start().starts_with(['{', '['])
}

/// Whether it is meant to be JSON even if it does not parse.
pub(super) fn is_certain(text: &str) -> bool {
    let inside = text
        .trim_start()
        .trim_start_matches(['{', '['])
        .trim_start();
    inside.starts_with('"') && !text.trim_start().starts_with("{{")
}

/// Reads all values of `text`, one after another. After a syntax error the findings hold it.
pub(super) fn read<'a>(text: &'a str, builder: Builder<'a>) -> Documents<'a> {
    let open = Vec::new();
    let column = builder.base.column.saturating_add(1);
    let mut reader = Reader {
        text,
        at: 0,
        line: 1,
        marked: 0,
        column,
        open,
        builder,
    };
    // What stopped it is among the builder's findings.
    let _ = reader.values();
    reader.builder.finish()
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    /// Where `line` and `column` were counted up to.
    marked: usize,
    column: u32,
    open: Vec<(u8, Place)>,
    builder: Builder<'a>,
}

/// What may come next.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Want {
    Value,
    FirstItemOrEnd,
    FirstKeyOrEnd,
    Key,
    Colon,
    CommaOrEnd,
}

impl<'a> Reader<'a> {
    fn values(&mut self) -> Result<(), Stop> {
        self.skip_space();
        while self.at < self.text.len() {
            self.builder.document();
            self.value()?;
            self.skip_space();
        }
        Ok(())
    }

    fn value(&mut self) -> Result<(), Stop> {
        let mut want = Want::Value;
        loop {
            self.skip_space();
            let Some(byte) = self.peek() else {
                return Err(self.truncated());
            };
            want = match (want, byte) {
                (Want::Value | Want::FirstItemOrEnd, b'{') => {
                    self.enter(b'}', Want::FirstKeyOrEnd)?
                }
                (Want::Value | Want::FirstItemOrEnd, b'[') => {
                    self.enter(b']', Want::FirstItemOrEnd)?
                }
                (Want::FirstItemOrEnd, b']') | (Want::FirstKeyOrEnd, b'}') => self.leave()?,
                (Want::Value | Want::FirstItemOrEnd, b'"') => self.string(Want::CommaOrEnd)?,
                (Want::Value | Want::FirstItemOrEnd, _) => self.literal()?,
                (Want::Key | Want::FirstKeyOrEnd, b'"') => self.string(Want::Colon)?,
                (Want::Key | Want::FirstKeyOrEnd, _) => {
                    return Err(self.expected("a field name in quotes"));
                }
                (Want::Colon, b':') => self.step(Want::Value),
                (Want::Colon, _) => return Err(self.expected("`:`")),
                (Want::CommaOrEnd, b',') => {
                    let object = self.open.last().is_some_and(|(close, _)| *close == b'}');
                    self.step(if object { Want::Key } else { Want::Value })
                }
                (Want::CommaOrEnd, b'}' | b']')
                    if self.open.last().is_some_and(|(c, _)| *c == byte) =>
                {
                    self.leave()?
                }
                (Want::CommaOrEnd, _) => {
                    let close = self
                        .open
                        .last()
                        .map_or('}', |(close, _)| char::from(*close));
                    return Err(self.expected(&format!("`,` or `{close}`")));
                }
            };
            if want == Want::CommaOrEnd && self.open.is_empty() {
                return Ok(());
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn step(&mut self, want: Want) -> Want {
        self.at += 1;
        want
    }

    fn enter(&mut self, close: u8, want: Want) -> Result<Want, Stop> {
        let place = self.place();
        self.builder.open(place, close == b'}', 0)?;
        self.open.push((close, place));
        Ok(self.step(want))
    }

    fn leave(&mut self) -> Result<Want, Stop> {
        self.at += 1;
        self.open.pop();
        let end = self.offset(self.at);
        self.builder.close(Some(end))?;
        Ok(Want::CommaOrEnd)
    }

    fn skip_space(&mut self) {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        self.at += rest
            .iter()
            .take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r'))
            .count();
    }

    fn offset(&self, at: usize) -> u32 {
        self.builder
            .base
            .offset
            .saturating_add(u32::try_from(at).unwrap_or(u32::MAX))
    }

    /// The place of `self.at`; counts on from the last one asked for.
    fn place(&mut self) -> Place {
        let passed = self.text.get(self.marked..self.at).unwrap_or_default();
        let breaks = passed.bytes().filter(|b| *b == b'\n').count();
        let tail = passed
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .count();
        if breaks > 0 {
            self.column = 1;
        }
        self.line = self
            .line
            .saturating_add(u32::try_from(breaks).unwrap_or(u32::MAX));
        self.column = self
            .column
            .saturating_add(u32::try_from(tail).unwrap_or(u32::MAX));
        self.marked = self.at;
        let line = self.builder.base.line.saturating_add(self.line);
        Place {
            offset: self.offset(self.at),
            line,
            column: self.column,
        }
    }

    fn expected(&mut self, what: &str) -> Stop {
        let place = self.place();
        let found = self
            .text
            .get(self.at..)
            .and_then(|rest| rest.chars().next())
            .unwrap_or(' ');
        self.builder.stop(
            place,
            format!("not valid JSON: expected {what}, found `{found}`"),
            "",
        )
    }

    /// The text ended inside a value: name the bracket that is still open.
    fn truncated(&mut self) -> Stop {
        let place = self.place();
        let open = self.open.last().copied();
        let message = match open {
            Some((close, at)) => {
                let bracket = if close == b'}' { '{' } else { '[' };
                let (line, column) = (at.line, at.column);
                format!(
                    "the JSON is cut off: `{bracket}` from line {line}, column {column} is never closed"
                )
            }
            None => "the JSON is cut off".into(),
        };
        self.builder
            .stop(place, message, "fetch the whole file again")
    }

    /// true, false, null or a number.
    fn literal(&mut self) -> Result<Want, Stop> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let end =
            rest.find(|c: char| !matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '+' | '-' | '.'));
        let word = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        let value = match word {
            "true" | "false" | "null" => scalar::resolve(Cow::Borrowed(word)),
            _ if is_number(word) => scalar::resolve(Cow::Borrowed(word)),
            "" => return Err(self.expected("a value")),
            _ if end.is_none() => return Err(self.truncated()),
            _ => {
                let place = self.place();
                let message = format!("not valid JSON: expected a value, found `{word}`");
                return Err(self
                    .builder
                    .stop(place, message, "text needs double quotes in JSON"));
            }
        };
        let place = self.place();
        self.at += word.len();
        let end = self.offset(self.at);
        self.builder.scalar(place, end, value, 0)?;
        Ok(Want::CommaOrEnd)
    }

    fn string(&mut self, want: Want) -> Result<Want, Stop> {
        let place = self.place();
        let rest = self.text.get(self.at + 1..).unwrap_or_default();
        let Some(stop) = rest
            .bytes()
            .position(|b| matches!(b, b'"' | b'\\' | 0..0x20))
        else {
            self.at = self.text.len();
            return Err(self.truncated());
        };
        let plain = rest.get(..stop).unwrap_or_default();
        let text = if rest.as_bytes().get(stop) == Some(&b'"') {
            self.at += stop + 2;
            Cow::Borrowed(plain)
        } else {
            self.at += stop + 1;
            Cow::Owned(self.escaped(plain)?)
        };
        let end = self.offset(self.at);
        self.builder.scalar(place, end, Value::Str(text), 0)?;
        Ok(want)
    }

    /// The rest of a string with escapes, from its first special character on.
    fn escaped(&mut self, plain: &str) -> Result<String, Stop> {
        let mut text = plain.to_owned();
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let Some(stop) = rest
                .bytes()
                .position(|b| matches!(b, b'"' | b'\\' | 0..0x20))
            else {
                self.at = self.text.len();
                return Err(self.truncated());
            };
            text.push_str(rest.get(..stop).unwrap_or_default());
            self.at += stop;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => text.push(self.escape()?),
                _ => {
                    let place = self.place();
                    let message = "not valid JSON: a control character inside a string";
                    return Err(self.builder.stop(
                        place,
                        message,
                        "write it as an escape such as \\n",
                    ));
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, Stop> {
        let code = self.text.as_bytes().get(self.at + 1).copied();
        let simple = match code {
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(c),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            Some(_) => return Err(self.expected("an escape such as \\n or \\u0041")),
            None => {
                self.at = self.text.len();
                return Err(self.truncated());
            }
        };
        self.at += 2;
        Ok(simple)
    }

    /// `\uXXXX`, or a pair of surrogates; half a pair becomes U+FFFD as in Go's encoding/json.
    fn unicode(&mut self) -> Result<char, Stop> {
        let hex = |at: usize| {
            let digits = self.text.get(at..at + 6)?.strip_prefix("\\u")?;
            digits
                .bytes()
                .all(|b| b.is_ascii_hexdigit())
                .then(|| u16::from_str_radix(digits, 16).ok())?
        };
        let (first, second) = (hex(self.at), hex(self.at + 6));
        let Some(first) = first else {
            return Err(self.expected("four hexadecimal digits after \\u"));
        };
        let pair = second
            .filter(|low| (0xdc00..0xe000).contains(low) && (0xd800..0xdc00).contains(&first));
        self.at += if pair.is_some() { 12 } else { 6 };
        let units = [Some(first), pair];
        let decoded = char::decode_utf16(units.into_iter().flatten()).next();
        Ok(decoded
            .and_then(Result::ok)
            .unwrap_or(char::REPLACEMENT_CHARACTER))
    }
}

/// RFC 8259 section 6.
fn is_number(word: &str) -> bool {
    let unsigned = word.strip_prefix('-').unwrap_or(word);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (
            mantissa,
            exponent.strip_prefix(['-', '+']).unwrap_or(exponent),
        ),
        None => (unsigned, "0"),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    digits(whole)
        && digits(fraction)
        && digits(exponent)
        && (whole == "0" || !whole.starts_with('0'))
}
