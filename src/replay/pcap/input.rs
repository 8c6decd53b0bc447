//! The window on the file: bytes are read in large pieces into one buffer and used in place.
//!
//! The buffer grows only as bytes arrive, so a length field that lies costs no memory.

use std::io::{self, ErrorKind, Read};
use std::ops::Range;

use crate::base::limits::CAPTURE_WINDOW;

/// A reader with a window of bytes not yet used.
pub(super) struct Input<R> {
    inner: R,
    buf: Vec<u8>,
    start: usize,
    end: usize,
    offset: u64,
}

impl<R: Read> Input<R> {
    pub(super) fn new(inner: R) -> Self {
        Input {
            inner,
            buf: Vec::new(),
            start: 0,
            end: 0,
            offset: 0,
        }
    }

    /// The bytes at hand.
    pub(super) fn bytes(&self) -> &[u8] {
        self.buf.get(self.start..self.end).unwrap_or_default()
    }

    /// The place in the file of the first byte at hand.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads until `want` bytes are at hand; false when the file ends before.
    pub(super) fn have(&mut self, want: usize) -> io::Result<bool> {
        while self.end - self.start < want {
            if self.start == self.end {
                (self.start, self.end) = (0, 0);
            }
            if self.start + want > self.buf.len() && self.start > 0 {
                self.buf.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            }
            if self.end == self.buf.len() {
                self.buf.resize((self.buf.len() * 2).max(CAPTURE_WINDOW), 0);
            }
            let room = self.buf.get_mut(self.end..).unwrap_or_default();
            let most = room.len();
            match self.inner.read(room) {
                Ok(0) => return Ok(false),
                // A reader that claims more than it was given room for is held to the room.
                Ok(n) => self.end += n.min(most),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    /// Uses up `n` bytes at hand and says where they stay readable (with [`Input::at`]) until the next
    /// `have`.
    pub(super) fn consume(&mut self, n: usize) -> Range<usize> {
        let from = self.start;
        self.start = (from + n).min(self.end);
        self.offset += (self.start - from) as u64;
        from..self.start
    }

    /// The bytes of a range `consume` gave.
    pub(super) fn at(&self, range: Range<usize>) -> &[u8] {
        self.buf.get(range).unwrap_or_default()
    }

    /// All bytes that are readable until the next `have`, in the places that `consume` gives.
    pub(super) fn window(&self) -> &[u8] {
        &self.buf
    }

    /// Passes over `n` bytes without keeping them; false when the file ends before.
    pub(super) fn skip(&mut self, mut n: u64) -> io::Result<bool> {
        while n > 0 {
            if !self.have(1)? {
                return Ok(false);
            }
            let step = usize::try_from(n)
                .unwrap_or(usize::MAX)
                .min(self.bytes().len());
            self.consume(step);
            n -= step as u64;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time and is interrupted before each.
    struct Drip<'a>(&'a [u8], bool);

    impl Read for Drip<'_> {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(ErrorKind::Interrupted.into());
            }
            let n = room.len().min(1);
            self.0.read(&mut room[..n])
        }
    }

    #[test]
    fn a_dripping_reader_gives_the_same_bytes() {
        let mut input = Input::new(Drip(b"abcdefgh", false));
        assert!(input.have(3).unwrap());
        let abc = input.consume(3);
        assert_eq!(input.at(abc), b"abc");
        assert!(input.skip(2).unwrap());
        assert_eq!(input.offset(), 5);
        assert!(input.have(3).unwrap());
        assert!(!input.have(4).unwrap());
        assert_eq!(input.bytes(), b"fgh");
    }

    #[test]
    fn the_window_moves_on_and_grows_only_by_what_arrives() {
        let file: Vec<u8> = (0..CAPTURE_WINDOW * 3).map(|i| i as u8).collect();
        let mut input = Input::new(&file[..]);
        for at in (0..file.len()).step_by(1_024) {
            assert!(input.have(1_024).unwrap());
            let piece = input.consume(1_024);
            assert_eq!(input.at(piece), &file[at..at + 1_024]);
        }
        assert_eq!(input.buf.len(), CAPTURE_WINDOW);
        assert!(!input.have(1 << 30).unwrap());
        assert_eq!(input.buf.len(), CAPTURE_WINDOW);
    }
}
