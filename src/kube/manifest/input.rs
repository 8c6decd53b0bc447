//! One text to read: its name and its characters, decoded from bytes where they come from outside.
//!
//! Does not open files. Invariant: the text has no byte order mark at its start and is shorter than 4
//! GiB, so a `u32` holds every offset.

use std::sync::Arc;

use crate::base::{Finding, Span};

/// A named text. Cheap to clone: both halves are shared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Input {
    /// The file as the user named it; `-` for standard input.
    pub name: Arc<str>,
    /// The whole text. Objects keep slices of it, never copies.
    pub text: Arc<str>,
}

impl Input {
    /// An input from a text. A byte order mark at its start is removed.
    pub fn new(name: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> Self {
        let text: Arc<str> = text.into();
        let text = match text.strip_prefix('\u{feff}') {
            Some(rest) => Arc::from(rest),
            None => text,
        };
        Input {
            name: name.into(),
            text,
        }
    }

    /// An input from bytes: UTF-8, or UTF-16 when it starts with a byte order mark (the encodings YAML
    /// 1.2 section 5.2 requires, less UTF-32).
    ///
    /// # Errors
    /// A finding with the line and column of the first byte that is not text, or that the input is too long.
    pub fn from_bytes(name: impl Into<Arc<str>>, bytes: &[u8]) -> Result<Self, Finding> {
        let name = name.into();
        if u32::try_from(bytes.len()).is_err() {
            let message = "the input is longer than 4 GiB";
            return Err(Finding::error(
                Span::new(name, 0, 0),
                message,
                "split it into several files",
            ));
        }
        let utf16 = match bytes {
            [0xff, 0xfe, rest @ ..] => Some(decode_utf16(rest, u16::from_le_bytes)),
            [0xfe, 0xff, rest @ ..] => Some(decode_utf16(rest, u16::from_be_bytes)),
            _ => None,
        };
        let text = match utf16 {
            Some(text) => text.ok_or_else(|| {
                let message = "the byte order mark says UTF-16 but the bytes are not";
                Finding::error(
                    Span::new(name.clone(), 0, 0),
                    message,
                    "save the file as UTF-8",
                )
            })?,
            None => match core::str::from_utf8(bytes) {
                Ok(text) => text.to_owned(),
                Err(e) => return Err(not_utf8(name, bytes, e.valid_up_to())),
            },
        };
        Ok(Input::new(name, text))
    }
}

fn decode_utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Option<String> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let units = pairs.iter().map(|pair| unit(*pair));
    let text: Result<String, _> = char::decode_utf16(units).collect();
    text.ok().filter(|_| rest.is_empty())
}

/// The finding for the first byte that is not UTF-8.
fn not_utf8(name: Arc<str>, bytes: &[u8], at: usize) -> Finding {
    let before = bytes.get(..at).unwrap_or_default();
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let tail = before.rsplit(|b| *b == b'\n').next().unwrap_or_default();
    let column = String::from_utf8_lossy(tail).chars().count() + 1;
    let found = bytes.get(at).copied().unwrap_or_default();
    let span = Span::new(
        name,
        u32::try_from(line).unwrap_or(0),
        u32::try_from(column).unwrap_or(0),
    );
    let message = format!("expected UTF-8 text, found the byte 0x{found:02x}");
    Finding::error(
        span,
        message,
        "is this a Kubernetes manifest? save it as UTF-8",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_marks_and_utf16() {
        let utf16: Vec<u8> = "\u{feff}kind: Pod"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        for bytes in [b"kind: Pod".as_slice(), b"\xef\xbb\xbfkind: Pod", &utf16] {
            assert_eq!(&*Input::from_bytes("f", bytes).unwrap().text, "kind: Pod");
        }
        assert!(Input::from_bytes("f", &[0xff, 0xfe, 0x00]).is_err());
    }

    #[test]
    fn a_bad_byte_has_a_place() {
        let finding = Input::from_bytes("f.yaml", b"a: 1\nb: \xc3\xa9\xff\n").unwrap_err();
        assert_eq!(finding.span, Span::new("f.yaml", 2, 5));
        assert!(finding.message.contains("0xff"));
    }
}
