//! pcapng options: (code, length, value padded to four bytes), ended by code 0 or the end of the block.

use std::borrow::Cow;

use super::order::Order;

/// `opt_endofopt`
pub(super) const END: u16 = 0;
/// `opt_comment`, in every block
pub(super) const COMMENT: u16 = 1;
/// `if_name`
pub(super) const IF_NAME: u16 = 2;
/// `if_description`
pub(super) const IF_DESCRIPTION: u16 = 3;
/// `if_tsresol`
pub(super) const IF_TSRESOL: u16 = 9;
/// `if_fcslen`
pub(super) const IF_FCSLEN: u16 = 13;
/// `if_tsoffset`
pub(super) const IF_TSOFFSET: u16 = 14;
/// `epb_flags`, and `pack_flags` of the obsolete packet block
pub(super) const PACKET_FLAGS: u16 = 2;
/// `shb_userappl`
pub(super) const SHB_USERAPPL: u16 = 4;

/// Walks the options of a block. Ends early, with `damaged` set, at one that reaches past the block.
pub(super) struct Options<'a> {
    order: Order,
    rest: &'a [u8],
    /// Whether what followed could not be read.
    pub(super) damaged: bool,
}

impl<'a> Options<'a> {
    pub(super) fn new(order: Order, bytes: &'a [u8]) -> Self {
        Options {
            order,
            rest: bytes,
            damaged: false,
        }
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let head = self
            .order
            .u16(self.rest, 0)
            .zip(self.order.u16(self.rest, 2));
        let found = head.and_then(|(code, len)| {
            let len = usize::from(len);
            let value = self.rest.get(4..4 + len)?;
            // The last value's padding may be missing: nothing is lost by it.
            let next = self
                .rest
                .get(4 + len.next_multiple_of(4)..)
                .unwrap_or_default();
            Some((code, value, next))
        });
        let Some((code, value, next)) = found else {
            (self.damaged, self.rest) = (true, &[]);
            return None;
        };
        self.rest = next;
        if code == END {
            self.rest = &[];
            return None;
        }
        Some((code, value))
    }
}

/// All comments among `options`; borrowed when there is one and it is UTF-8.
pub(super) fn comments(order: Order, options: &[u8]) -> Option<Cow<'_, str>> {
    let mut all: Option<Cow<'_, str>> = None;
    for (code, value) in Options::new(order, options) {
        if code != COMMENT {
            continue;
        }
        let text = String::from_utf8_lossy(value);
        all = Some(match all {
            None => text,
            Some(before) => Cow::Owned(format!("{before}\n{text}")),
        });
    }
    all
}

/// Appends one option, little-endian. A value too long for the 16-bit length is cut by the caller.
pub(super) fn push(block: &mut Vec<u8>, code: u16, value: &[u8]) {
    let len = u16::try_from(value.len()).unwrap_or(u16::MAX);
    let value = value.get(..usize::from(len)).unwrap_or_default();
    block.extend_from_slice(&code.to_le_bytes());
    block.extend_from_slice(&len.to_le_bytes());
    block.extend_from_slice(value);
    block.resize(block.len().next_multiple_of(4), 0);
}

/// Appends a text option. More than 65,535 bytes end in "…", at a character's border.
pub(super) fn push_text(block: &mut Vec<u8>, code: u16, text: &str) {
    const ELLIPSIS: &str = "…";
    let most = usize::from(u16::MAX);
    if text.len() <= most {
        return push(block, code, text.as_bytes());
    }
    let mut cut = most - ELLIPSIS.len();
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    let text = format!("{}{ELLIPSIS}", text.get(..cut).unwrap_or_default());
    push(block, code, text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        let mut block = Vec::new();
        push_text(&mut block, COMMENT, &"é".repeat(40_000));
        let all: Vec<_> = Options::new(Order::Little, &block).collect();
        let text = core::str::from_utf8(all[0].1).unwrap();
        assert!(text.len() >= 65_533 && text.ends_with("é…"));
    }

    #[test]
    fn an_option_past_the_block_is_damage_and_the_ones_before_stay() {
        let mut block = Vec::new();
        push(&mut block, 7, b"abc");
        block.extend_from_slice(&[1, 0, 200, 0, b'x']);
        let mut options = Options::new(Order::Little, &block);
        assert_eq!(options.next(), Some((7, &b"abc"[..])));
        assert_eq!(options.next(), None);
        assert!(options.damaged);
    }

    #[test]
    fn several_comments_are_joined_and_bad_utf8_is_kept_readable() {
        let mut block = Vec::new();
        push(&mut block, COMMENT, b"one");
        push(&mut block, PACKET_FLAGS, &[1, 0, 0, 0]);
        push(&mut block, COMMENT, b"t\xffo");
        assert_eq!(comments(Order::Little, &block).unwrap(), "one\nt\u{fffd}o");
        assert_eq!(comments(Order::Little, &[]), None);
    }
}
