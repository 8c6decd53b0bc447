//! The words of one command line, each with its column.

use crate::base::{Finding, Span};
use core::str::FromStr;
use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// A cursor over the words of a line.
pub(super) struct Words<'a> {
    words: Vec<(usize, &'a str)>,
    next: usize,
    at: &'a Span,
    end: usize,
}

impl<'a> Words<'a> {
    /// Cuts at blanks; one pair of quotes around a whole word is taken off.
    pub(super) fn new(line: &'a str, at: &'a Span) -> Result<Self, Finding> {
        let mut words = Vec::new();
        let mut rest = line;
        let mut column = 0;
        loop {
            let trimmed = rest.trim_start();
            column += rest.len() - trimmed.len();
            let Some(first) = trimmed.chars().next() else {
                break;
            };
            let (word, used) = match first {
                '\'' | '"' => {
                    let inner = &trimmed[1..];
                    let end = inner.find(first).ok_or_else(|| {
                        Finding::error(place(at, column), "a quote is not closed", "close it")
                    })?;
                    (&inner[..end], end + 2)
                }
                _ => {
                    let end = trimmed.find(char::is_whitespace).unwrap_or(trimmed.len());
                    (&trimmed[..end], end)
                }
            };
            words.push((column, word));
            column += used;
            rest = &trimmed[used..];
        }
        Ok(Words {
            words,
            next: 0,
            at,
            end: line.len(),
        })
    }

    /// The next word; `what` names it when it is missing.
    pub(super) fn next(&mut self, what: &str) -> Result<&'a str, Finding> {
        let found = self.words.get(self.next).map(|(_, w)| *w);
        self.next += 1;
        found.ok_or_else(|| {
            let message = format!("the command ends where {what} is expected");
            Finding::error(place(self.at, self.end), message, "complete the command")
        })
    }

    /// The next word, left where it is.
    pub(super) fn peek(&self) -> Option<&'a str> {
        self.words.get(self.next).map(|(_, w)| *w)
    }

    /// Passes a word that was peeked at.
    pub(super) fn skip(&mut self) {
        self.next += 1;
    }

    /// Takes the next word if it is `word`.
    pub(super) fn take(&mut self, word: &str) -> bool {
        let yes = self.peek() == Some(word);
        self.next += usize::from(yes);
        yes
    }

    /// An error at the word read last.
    pub(super) fn bad(&self, word: &str, expected: &str) -> Finding {
        let column = self
            .words
            .get(self.next.wrapping_sub(1))
            .map_or(self.end, |(c, _)| *c);
        Finding::error(
            place(self.at, column),
            format!("{word:?} where {expected} is expected"),
            "",
        )
    }

    /// An error at the next word: nothing may follow.
    pub(super) fn extra(&mut self) -> Finding {
        let word = self.peek().unwrap_or("");
        self.skip();
        self.bad(word, "the end of the command")
    }

    /// The next word as a value.
    pub(super) fn value<T: FromStr>(&mut self, what: &str) -> Result<T, Finding> {
        let word = self.next(what)?;
        word.parse().map_err(|_| self.bad(word, what))
    }

    /// The next word as a number, decimal or `0x` hexadecimal.
    pub(super) fn number(&mut self, what: &str) -> Result<u32, Finding> {
        let word = self.next(what)?;
        number(word).ok_or_else(|| self.bad(word, what))
    }

    /// `on` or `off`.
    pub(super) fn on_off(&mut self) -> Result<bool, Finding> {
        match self.next("on or off")? {
            "on" | "1" => Ok(true),
            "off" | "0" => Ok(false),
            other => Err(self.bad(other, "on or off")),
        }
    }

    /// A prefix: `default` and `any` need the family, a bare address is a host.
    pub(super) fn prefix(&mut self, v6: Option<bool>) -> Result<IpNetwork, Finding> {
        let word = self.next("a prefix")?;
        prefix(word, v6).ok_or_else(|| self.bad(word, "an address or a prefix"))
    }

    /// An address; a family word before it (`inet`, `inet6`) is passed.
    pub(super) fn address(&mut self) -> Result<IpAddr, Finding> {
        if matches!(self.peek(), Some("inet" | "inet6")) {
            self.skip();
        }
        self.value("an IP address")
    }
}

fn place(at: &Span, offset: usize) -> Span {
    let offset = u32::try_from(offset).unwrap_or(u32::MAX);
    Span {
        column: at.column.max(1).saturating_add(offset),
        ..at.clone()
    }
}

/// A number, decimal or `0x` hexadecimal.
pub(super) fn number(word: &str) -> Option<u32> {
    match word.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => word.parse().ok(),
    }
}

/// A prefix; `default`, `all` and `any` are the family's zero prefix (IPv4 when nothing says otherwise).
pub(super) fn prefix(word: &str, v6: Option<bool>) -> Option<IpNetwork> {
    match word {
        "default" | "all" | "any" => Some(crate::net::addr::default_net(v6 != Some(true))),
        _ => {
            let net: IpNetwork = word.parse().ok()?;
            (v6.is_none_or(|six| six == net.is_ipv6())).then_some(net)
        }
    }
}
