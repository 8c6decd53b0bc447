//! A place in the tokens, and what the grammar's parts have in common.
//!
//! Invariant: reading never goes back behind a place that the caller did not keep; every error has a byte.

use super::lex::{Kind, Lexed, Token};
use super::model::Family;
use super::types::Type;
use smallvec::SmallVec;

/// What was wrong: the byte and what was expected there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wrong {
    /// Byte in the text.
    pub at: u32,
    /// What was expected.
    pub expected: String,
}

/// The result of reading something.
pub type Read<T> = Result<T, Wrong>;

/// Types of a set's key and, if it is a map, of its data.
pub type SetTypes = (SmallVec<[Type; 4]>, Option<SmallVec<[Type; 4]>>);

/// Reads tokens one after the other.
pub struct Cursor<'a> {
    /// The text.
    pub lexed: &'a Lexed,
    /// The next token.
    pub at: usize,
    /// The family of the table whose rules are read.
    pub family: Family,
    /// The types of a set of this table, if it is known.
    pub sets: &'a dyn Fn(&str) -> Option<SetTypes>,
    /// How deep braces and brackets of expressions are nested.
    pub depth: usize,
}

impl<'a> Cursor<'a> {
    /// The next token.
    pub fn token(&self) -> Option<Token> {
        self.lexed.tokens.get(self.at).copied()
    }

    /// The text of the token that is `ahead` of the next.
    pub fn ahead(&self, ahead: usize) -> &'a str {
        self.lexed
            .tokens
            .get(self.at + ahead)
            .map_or("", |t| match t.kind {
                Kind::Quoted | Kind::Newline | Kind::Handle => "",
                _ => self.lexed.get(t),
            })
    }

    /// The next token's text; empty at ends of lines and for texts in quotes.
    pub fn peek(&self) -> &'a str {
        self.ahead(0)
    }

    /// Whether the next token is of this kind.
    pub fn is(&self, kind: Kind) -> bool {
        self.token().is_some_and(|t| t.kind == kind)
    }

    /// Byte of the next token, or of the text's end.
    pub fn byte(&self) -> u32 {
        let end = u32::try_from(self.lexed.text.len()).unwrap_or(u32::MAX);
        self.token().map_or(end, |t| t.start)
    }

    /// An error here.
    pub fn wrong<T>(&self, expected: impl Into<String>) -> Read<T> {
        Err(Wrong {
            at: self.byte(),
            expected: expected.into(),
        })
    }

    /// Takes the next token if it is this word or sign.
    pub fn take(&mut self, word: &str) -> bool {
        let hit = self.peek() == word && !word.is_empty();
        if hit {
            self.at += 1;
        }
        hit
    }

    /// Takes one of these words.
    pub fn take_any(&mut self, words: &[&str]) -> bool {
        words.iter().any(|w| self.take(w))
    }

    /// Takes this word or fails.
    pub fn expect(&mut self, word: &str) -> Read<()> {
        if self.take(word) {
            Ok(())
        } else {
            self.wrong(format!("`{word}`"))
        }
    }

    /// Takes a word, or a text in quotes, whatever it is.
    pub fn any_word(&mut self, what: &str) -> Read<&'a str> {
        match self.token() {
            Some(t) if matches!(t.kind, Kind::Word | Kind::Quoted) => {
                self.at += 1;
                Ok(self.lexed.get_static(&t))
            }
            _ => self.wrong(what),
        }
    }

    /// Takes a text in quotes.
    pub fn quoted(&mut self, what: &str) -> Read<&'a str> {
        if self.is(Kind::Quoted) {
            self.any_word(what)
        } else {
            self.wrong(what)
        }
    }

    /// Takes a name.
    pub fn name(&mut self, what: &str) -> Read<&'a str> {
        // Within quotes nothing may stand that cannot stand without (scanner.l, `string`).
        let bare = |c: char| c.is_ascii_alphanumeric() || "/\\_.-".contains(c);
        if let Some(t) = self.token().filter(|t| t.kind == Kind::Quoted) {
            let text = self.lexed.get_static(&t);
            if text.is_empty() || !text.chars().all(bare) {
                return self.wrong(what);
            }
        }
        self.any_word(what)
    }

    /// Takes a number that fits.
    pub fn number<T: TryFrom<u128>>(&mut self, what: &str) -> Read<T> {
        let n = super::types::number(self.peek()).and_then(|n| T::try_from(n).ok());
        match n {
            Some(n) if self.is(Kind::Word) => {
                self.at += 1;
                Ok(n)
            }
            _ => self.wrong(what),
        }
    }

    /// Takes a time, in milliseconds.
    pub fn time(&mut self) -> Read<u64> {
        match super::time::read(self.peek()) {
            Some(ms) => {
                self.at += 1;
                Ok(ms)
            }
            None => self.wrong("a time such as 30s or 1h20m"),
        }
    }

    /// Takes ends of lines.
    pub fn newlines(&mut self) {
        while self.is(Kind::Newline) {
            self.at += 1;
        }
    }

    /// Takes ends of lines and of statements.
    pub fn separators(&mut self) {
        while self.is(Kind::Newline) || self.take(";") {
            if self.is(Kind::Newline) {
                self.at += 1;
            }
        }
    }

    /// Takes `# handle N`.
    pub fn handle(&mut self) -> u64 {
        match self.token() {
            Some(t) if t.kind == Kind::Handle => {
                self.at += 1;
                self.lexed.get(&t).parse().unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// Whether a statement ends here.
    pub fn ended(&self) -> bool {
        match self.token() {
            None => true,
            Some(t) => match t.kind {
                Kind::Newline | Kind::Handle => true,
                Kind::Sign => matches!(self.peek(), ";" | "}"),
                _ => false,
            },
        }
    }

    /// Goes to the end of the statement, over balanced braces.
    pub fn skip(&mut self) {
        let mut depth = 0usize;
        while let Some(t) = self.token() {
            let sign = t.kind == Kind::Sign;
            match self.peek() {
                "{" if sign => depth += 1,
                "}" if sign && depth == 0 => return,
                "}" if sign => depth -= 1,
                ";" if sign && depth == 0 => return,
                _ if matches!(t.kind, Kind::Newline | Kind::Handle) && depth == 0 => return,
                _ => {}
            }
            self.at += 1;
        }
    }

    /// The text between two tokens, ends of lines as spaces.
    pub fn between(&self, from: usize, to: usize) -> String {
        let (Some(a), Some(b)) = (
            self.lexed.tokens.get(from),
            to.checked_sub(1).and_then(|i| self.lexed.tokens.get(i)),
        ) else {
            return String::new();
        };
        let quote = |t: &Token| usize::from(t.kind == Kind::Quoted);
        let start = (a.start as usize).saturating_sub(quote(a));
        let end = (b.end as usize + quote(b)).min(self.lexed.text.len());
        match self.lexed.text.get(start..end) {
            Some(text) if !text.contains('\n') => text.to_owned(),
            _ => self.joined(from, to),
        }
    }

    /// Tokens one by one, where they do not stand on one line (variables, long sets).
    fn joined(&self, from: usize, to: usize) -> String {
        let mut out = String::new();
        for t in self.lexed.tokens.get(from..to).unwrap_or_default() {
            let word = self.lexed.get(t);
            let gap = if out.is_empty() { "" } else { " " };
            match t.kind {
                Kind::Newline | Kind::Handle => {}
                Kind::Quoted => out.push_str(&format!("{gap}\"{word}\"")),
                _ => out.push_str(&format!("{gap}{word}")),
            }
        }
        out
    }
}

impl Lexed {
    /// A token's text, as long-lived as the text itself.
    pub fn get_static<'a>(&'a self, t: &Token) -> &'a str {
        self.get(t)
    }
}
