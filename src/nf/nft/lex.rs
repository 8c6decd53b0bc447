//! Words and signs of nft's language, as its scanner cuts them (nftables scanner.l).
//!
//! Every token is a place in the text. `define` and `$name` are carried out here: what the parser
//! sees has no
//! variables. Invariant: lexing never fails; a byte that starts nothing is a token of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::types;
use crate::base::limits::{NFT_DEFINE_DEPTH_MAX, NFT_TOKENS_MAX};

/// What a token is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A name, number, address or time.
    Word,
    /// A text in quotes; the place is without them.
    Quoted,
    /// One or two signs.
    Sign,
    /// The end of a line.
    Newline,
    /// `# handle N`: the place is that of N.
    Handle,
}

/// A piece of the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// First byte.
    pub start: u32,
    /// Behind its last byte.
    pub end: u32,
}

/// A text cut into tokens.
#[derive(Clone, Debug, Default)]
pub struct Lexed {
    /// The text.
    pub text: Arc<str>,
    /// Its tokens; variables replaced.
    pub tokens: Vec<Token>,
    /// What was wrong: byte and message.
    pub wrong: Vec<(u32, String)>,
}

fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'/' | b'.')
}

struct Lexer<'a> {
    bytes: &'a [u8],
    text: &'a str,
    at: usize,
    out: Vec<Token>,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn push(&mut self, kind: Kind, start: usize, end: usize) {
        let n = |v: usize| u32::try_from(v).unwrap_or(u32::MAX);
        self.out.push(Token {
            kind,
            start: n(start),
            end: n(end),
        });
    }

    fn run(&self, ok: impl Fn(u8) -> bool) -> usize {
        self.bytes
            .get(self.at..)
            .unwrap_or_default()
            .iter()
            .take_while(|b| ok(**b))
            .count()
    }

    /// An IPv6 address, MAC address or class id here: its length.
    fn colons(&self) -> Option<usize> {
        let hex = |b: u8| b.is_ascii_hexdigit() || b == b':' || b == b'.';
        let mut len = self.run(hex).min(64);
        let rest = self.text.get(self.at..)?;
        while len > 0 {
            let word = rest.get(..len)?;
            let next = self.peek(len);
            let apart = !(next.is_ascii_alphanumeric() || next == b'_');
            if apart && word.contains(':') {
                let class = word.split_once(':').is_some_and(|(a, b)| {
                    let half = |s: &str| {
                        (1..=4).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_hexdigit())
                    };
                    half(a) && half(b)
                });
                let v6 = word.parse::<core::net::Ipv6Addr>().is_ok();
                if v6 || class || types::mac(word).is_some() {
                    return Some(len);
                }
            }
            len = word.rfind(':')?;
        }
        None
    }

    fn word(&mut self) -> bool {
        let first = self.peek(0);
        if (first.is_ascii_hexdigit() || (first == b':' && self.peek(1) == b':'))
            && let Some(len) = self.colons()
        {
            let start = self.at;
            self.at += len;
            self.push(Kind::Word, start, self.at);
            return true;
        }
        let len = if first.is_ascii_digit() {
            let dotted = self.run(|b| b.is_ascii_digit() || b == b'.');
            let v4 = self.text.get(self.at..self.at + dotted);
            if v4.is_some_and(|w| w.parse::<core::net::Ipv4Addr>().is_ok()) {
                dotted
            } else {
                self.run(|b| b.is_ascii_alphanumeric())
            }
        } else if first.is_ascii_alphabetic()
            || first == b'_'
            || (first == b'.' && self.peek(1).is_ascii_alphabetic())
        {
            let n = self.run(is_word);
            match (self.peek(n), self.peek(n + 1)) {
                (b'*', _) => n + 1,
                (b'\\', b'*') => n + 2,
                _ => n,
            }
        } else {
            0
        };
        if len > 0 {
            let start = self.at;
            self.at += len;
            self.push(Kind::Word, start, self.at);
        }
        len > 0
    }

    fn comment(&mut self) {
        let len = self.run(|b| b != b'\n');
        let text = self.text.get(self.at..self.at + len).unwrap_or_default();
        let number = text.strip_prefix("# handle ").map(|n| n.trim_end());
        if let Some(n) = number.filter(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())) {
            let start = self.at + "# handle ".len();
            self.push(Kind::Handle, start, start + n.len());
        }
        self.at += len;
    }

    fn sign(&mut self) {
        let two = matches!(
            (self.peek(0), self.peek(1)),
            (b'=' | b'!' | b'<' | b'>', b'=') | (b'<', b'<') | (b'>', b'>')
        );
        let mut len = if two { 2 } else { 1 };
        while !self.text.is_char_boundary(self.at + len) {
            len += 1;
        }
        self.push(Kind::Sign, self.at, self.at + len);
        self.at += len;
    }

    fn all(&mut self) {
        while self.at < self.bytes.len() {
            match self.peek(0) {
                b'\n' => {
                    self.push(Kind::Newline, self.at, self.at + 1);
                    self.at += 1;
                }
                b' ' | b'\t' | b'\r' => self.at += 1,
                b'\\' if self.peek(1) == b'\n' => self.at += 2,
                b'#' => self.comment(),
                b'"' => {
                    let start = self.at + 1;
                    self.at = start;
                    let len = self.run(|b| b != b'"' && b != b'\n');
                    self.push(Kind::Quoted, start, start + len);
                    self.at = start + len + usize::from(self.peek(len) == b'"');
                }
                _ => {
                    if !self.word() {
                        self.sign();
                    }
                }
            }
        }
    }
}

/// Cuts a text, and replaces `$name` by what `define name = ...` said.
pub fn lex(text: &str) -> Lexed {
    let text: Arc<str> = text.into();
    let mut l = Lexer {
        bytes: text.as_bytes(),
        text: &text,
        at: 0,
        out: Vec::new(),
    };
    l.all();
    let raw = l.out;
    let mut lexed = Lexed {
        text,
        tokens: Vec::new(),
        wrong: Vec::new(),
    };
    if raw
        .iter()
        .any(|t| lexed.get(t) == "$" && t.kind == Kind::Sign)
        || raw.iter().any(|t| lexed.get(t) == "define")
    {
        expand(&mut lexed, &raw);
    } else {
        lexed.tokens = raw;
    }
    lexed
}

impl Lexed {
    /// A token's text.
    pub fn get(&self, t: &Token) -> &str {
        self.text
            .get(t.start as usize..t.end as usize)
            .unwrap_or_default()
    }
}

/// Replaces variables. Scopes (a `define` inside a block is seen in it only) are not kept apart:
/// the last one wins.
fn expand(lexed: &mut Lexed, raw: &[Token]) {
    let mut defined: BTreeMap<String, Vec<Token>> = BTreeMap::new();
    let mut at = 0;
    let mut start = true;
    while let Some(t) = raw.get(at) {
        let word = lexed.get(t).to_owned();
        if start
            && t.kind == Kind::Word
            && matches!(word.as_str(), "define" | "redefine" | "undefine")
        {
            at = define(lexed, raw, at, &word, &mut defined);
            continue;
        }
        start = t.kind == Kind::Newline
            || (t.kind == Kind::Sign && matches!(word.as_str(), ";" | "{" | "}"));
        at += 1;
        if t.kind == Kind::Sign && word == "$" {
            at += substitute(lexed, raw, at, &defined, &mut None, 0);
        } else {
            lexed.tokens.push(*t);
        }
        if lexed.tokens.len() > NFT_TOKENS_MAX {
            lexed.wrong.push((
                t.start,
                "fewer tokens: the variables stand for too many".into(),
            ));
            return;
        }
    }
}

/// Puts what `$name` stands for into `into`, or into the tokens themselves; how many tokens of
/// `raw` it took.
fn substitute(
    lexed: &mut Lexed,
    raw: &[Token],
    at: usize,
    defined: &BTreeMap<String, Vec<Token>>,
    into: &mut Option<Vec<Token>>,
    depth: usize,
) -> usize {
    let Some(name) = raw.get(at) else { return 0 };
    let (word, place) = (lexed.get(name).to_owned(), name.start);
    match defined.get(&word) {
        Some(tokens) if depth < NFT_DEFINE_DEPTH_MAX => match into {
            Some(list) => list.extend(tokens),
            None => lexed.tokens.extend(tokens),
        },
        _ => lexed.wrong.push((
            place,
            format!("a variable that is defined before it is used, not `${word}`"),
        )),
    }
    1
}

/// Carries out one `define`; gives the place behind it.
fn define(
    lexed: &mut Lexed,
    raw: &[Token],
    at: usize,
    verb: &str,
    defined: &mut BTreeMap<String, Vec<Token>>,
) -> usize {
    let Some(name) = raw.get(at + 1).map(|t| lexed.get(t).to_owned()) else {
        return at + 1;
    };
    if verb == "undefine" {
        defined.remove(&name);
        return at + 2;
    }
    let equals = raw.get(at + 2).is_some_and(|t| lexed.get(t) == "=");
    if !equals {
        lexed.wrong.push((
            raw.get(at).map_or(0, |t| t.start),
            "`define NAME = VALUE`".into(),
        ));
        return at + 2;
    }
    let (mut i, mut depth, mut value) = (at + 3, 0usize, Some(Vec::new()));
    while let Some(t) = raw.get(i) {
        let word = lexed.get(t).to_owned();
        let sign = t.kind == Kind::Sign;
        match word.as_str() {
            _ if t.kind == Kind::Newline && depth == 0 => break,
            _ if t.kind == Kind::Newline => {}
            ";" | "}" if sign && depth == 0 => break,
            "$" if sign => i += substitute(lexed, raw, i + 1, defined, &mut value, 0),
            _ => {
                depth = match word.as_str() {
                    "{" if sign => depth + 1,
                    "}" if sign => depth - 1,
                    _ => depth,
                };
                value.iter_mut().for_each(|v| v.push(*t));
            }
        }
        i += 1;
        if value.as_ref().is_some_and(|v| v.len() > NFT_TOKENS_MAX) {
            lexed.wrong.push((
                t.start,
                "fewer tokens: the variables stand for too many".into(),
            ));
            break;
        }
    }
    defined.insert(name, value.unwrap_or_default());
    i
}
