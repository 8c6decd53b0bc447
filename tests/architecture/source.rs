//! A Rust source file as the rules see it: code without comments and strings, the paths it names, its functions.
//!
//! No parser: a scanner that is right about comments, literals, `use` groups and braces, which is all the rules
//! need. Macros that build paths from pieces are beyond it. Invariant: offsets in `code` are offsets in the text.

/// A path such as `crate::net::NetNs` or `std::io::Read`, with the line that names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedPath {
    /// Its segments; a `use` group is one path for each of its leaves.
    pub segments: Vec<String>,
    /// 1-based.
    pub line: usize,
    /// The name a `use` makes of it: its last segment or what follows `as`.
    pub imported_as: Option<String>,
}

/// A function's place and length.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// 1-based line of `fn`.
    pub line: usize,
    /// Lines from `fn` to its closing brace.
    pub lines: usize,
}

/// A piece of code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Token<'a> {
    Word(&'a str),
    /// `::`
    Colons,
    Sign(char),
}

/// One scanned file.
pub struct Source {
    /// The text with comments, strings and characters blanked out.
    pub code: String,
    /// The same without items under `#[cfg(test)]`.
    pub shipped: String,
    /// Modules declared under `#[cfg(test)]` that live in files of their own.
    pub test_modules: Vec<String>,
}

impl Source {
    /// Scans a file.
    pub fn new(text: &str) -> Self {
        let code = blank(text);
        let (shipped, test_modules) = without_tests(&code);
        Source {
            code,
            shipped,
            test_modules,
        }
    }
}

/// Writes spaces over bytes, keeping line breaks.
fn wipe(out: &mut [u8], from: usize, to: usize) {
    let to = to.min(out.len());
    for b in &mut out[from.min(to)..to] {
        if *b != b'\n' {
            *b = b' ';
        }
    }
}

/// Comments, string and character literals become spaces.
fn blank(text: &str) -> String {
    let (src, mut out, mut i) = (text.as_bytes(), text.as_bytes().to_vec(), 0);
    while i < src.len() {
        let rest = &src[i..];
        let end = match rest {
            [b'/', b'/', ..] => i + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()),
            [b'/', b'*', ..] => i + block_comment(rest),
            [b'"', ..] => i + quoted(rest, b'"'),
            [b'r', b'"' | b'#', ..] if !is_word_before(src, i) => match raw_string(rest) {
                Some(n) => i + n,
                None => i,
            },
            [b'\'', b'\\', ..] => i + quoted(rest, b'\''),
            [b'\'', ..] => i + character(&text[i..]),
            _ => i,
        };
        if end > i {
            wipe(&mut out, i, end);
            i = end;
        } else {
            i += 1;
        }
    }
    // Only whole literals and comments were overwritten, by ASCII.
    String::from_utf8(out).expect("still UTF-8")
}

/// Whether a letter stands before: then `r"` is the end of a name or of `br"`, whose `b` does no harm.
fn is_word_before(src: &[u8], i: usize) -> bool {
    i > 0 && src[i - 1] != b'b' && (src[i - 1].is_ascii_alphanumeric() || src[i - 1] == b'_')
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut i) = (0, 0);
    while i < rest.len() {
        match &rest[i..] {
            [b'/', b'*', ..] => (depth, i) = (depth + 1, i + 2),
            [b'*', b'/', ..] => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            break;
        }
    }
    i
}

fn quoted(rest: &[u8], end: u8) -> usize {
    let mut i = 1;
    while i < rest.len() && rest[i] != end {
        i += if rest[i] == b'\\' { 2 } else { 1 };
    }
    i + 1
}

fn raw_string(rest: &[u8]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|b| **b == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return None; // a raw name: r#type
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let body = &rest[2 + hashes..];
    let at = body
        .windows(close.len())
        .position(|w| w == close.as_bytes());
    Some(at.map_or(rest.len(), |a| 2 + hashes + a + close.len()))
}

/// The length of a character literal, 0 for a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(2);
    match chars.next() {
        Some((at, '\'')) => at + 1,
        _ => 0,
    }
}

/// Blanks out what stands under `#[cfg(test)]`, and names the modules declared so with a semicolon.
fn without_tests(code: &str) -> (String, Vec<String>) {
    let (mut out, mut modules) = (code.as_bytes().to_vec(), Vec::new());
    let mut from = 0;
    while let Some(at) = code[from..].find("#[cfg(test)]").map(|a| a + from) {
        let item = at + "#[cfg(test)]".len();
        let end = item_end(&code[item..]) + item;
        let words: Vec<&str> = code[item..end].split_whitespace().collect();
        if let ["mod", name] = words[..] {
            modules.push(name.trim_end_matches(';').to_owned());
        }
        wipe(&mut out, at, end);
        from = end;
    }
    (String::from_utf8(out).expect("still UTF-8"), modules)
}

/// Where the item that begins here ends: after its `;`, or the brace that closes its first block.
fn item_end(code: &str) -> usize {
    let (mut inner, mut braces) = (0i32, 0i32);
    for (i, c) in code.char_indices() {
        match c {
            '(' | '[' => inner += 1,
            ')' | ']' => inner -= 1,
            '{' => braces += 1,
            '}' => {
                braces -= 1;
                if braces <= 0 {
                    return i + 1;
                }
            }
            ';' if inner == 0 && braces == 0 => return i + 1,
            _ => {}
        }
    }
    code.len()
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// Every token with its offset.
fn tokens(code: &str) -> Vec<(usize, Token<'_>)> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut out, mut i) = (Vec::new(), 0);
    while let Some(c) = code[i..].chars().next() {
        let rest = &code[i..];
        let n = if word(c) {
            let n = rest.find(|c| !word(c)).unwrap_or(rest.len());
            out.push((i, Token::Word(&rest[..n])));
            n
        } else if rest.starts_with("::") {
            out.push((i, Token::Colons));
            2
        } else {
            if !c.is_whitespace() {
                out.push((i, Token::Sign(c)));
            }
            c.len_utf8()
        };
        i += n;
    }
    out
}

/// Every path of two or more segments, `use` groups spread out, and what a plain `use name;` names.
pub fn paths(code: &str) -> Vec<NamedPath> {
    let all = tokens(code);
    let (mut found, mut i) = (Vec::new(), 0);
    while i < all.len() {
        let starts =
            matches!(all[i].1, Token::Word(_)) && (i == 0 || all[i - 1].1 != Token::Colons);
        let used = i > 0 && all[i - 1].1 == Token::Word("use");
        if starts && (used || matches!(all.get(i + 1), Some((_, Token::Colons)))) {
            let mut tree = Tree {
                code,
                all: &all,
                at: i,
                used,
                found: &mut found,
            };
            tree.read(&[]);
            i = tree.at.max(i + 1);
        } else {
            i += 1;
        }
    }
    found
}

/// A `use` tree (or a plain path, which is one without groups) being read.
struct Tree<'a, 'f> {
    code: &'a str,
    all: &'a [(usize, Token<'a>)],
    at: usize,
    used: bool,
    found: &'f mut Vec<NamedPath>,
}

impl Tree<'_, '_> {
    fn token(&self) -> Option<Token<'_>> {
        self.all.get(self.at).map(|t| t.1)
    }

    /// Reads one branch; `before` is what leads to it.
    fn read(&mut self, before: &[String]) {
        let mut segments = before.to_vec();
        let start = self.at;
        loop {
            match self.token() {
                Some(Token::Word(w)) => segments.push(w.to_owned()),
                Some(Token::Sign('*')) if self.at > start => segments.push("*".to_owned()),
                Some(Token::Sign('{')) if self.at > start => return self.group(&segments),
                _ => break,
            }
            self.at += 1;
            if self.token() != Some(Token::Colons) {
                break;
            }
            self.at += 1;
        }
        let offset = self.all.get(start).map_or(0, |t| t.0);
        let renamed = match (self.token(), self.all.get(self.at + 1)) {
            (Some(Token::Word("as")), Some((_, Token::Word(name)))) => Some((*name).to_owned()),
            _ => None,
        };
        if segments.len() > 1 {
            segments.pop_if(|s| s == "self");
        }
        let imported_as = renamed
            .or_else(|| segments.last().cloned())
            .filter(|_| self.used);
        self.found.push(NamedPath {
            segments,
            line: line_of(self.code, offset),
            imported_as,
        });
    }

    fn glob(&mut self, before: &[String]) {
        let offset = self.all.get(self.at).map_or(0, |t| t.0);
        let star = std::iter::once("*".to_owned());
        self.found.push(NamedPath {
            segments: before.iter().cloned().chain(star).collect(),
            line: line_of(self.code, offset),
            imported_as: None,
        });
        self.at += 1;
    }

    fn group(&mut self, before: &[String]) {
        self.at += 1;
        while let Some(t) = self.token() {
            match t {
                Token::Sign('}') => break,
                Token::Word(_) => self.read(before),
                Token::Sign('*') => self.glob(before),
                _ => self.at += 1,
            }
            // `as name` after a leaf is no path.
            if self.token() == Some(Token::Word("as")) {
                self.at += 2;
            }
        }
        self.at += 1;
    }
}

/// Every line that has this word.
pub fn lines_with(code: &str, word: &str) -> Vec<usize> {
    let is = |t: &(usize, Token<'_>)| t.1 == Token::Word(word);
    tokens(code)
        .iter()
        .filter(|t| is(t))
        .map(|t| line_of(code, t.0))
        .collect()
}

/// Every call of a macro of this name.
pub fn macro_calls(code: &str, name: &str) -> Vec<usize> {
    tokens(code)
        .windows(2)
        .filter(|w| w[0].1 == Token::Word(name) && w[1].1 == Token::Sign('!'))
        .map(|w| line_of(code, w[0].0))
        .collect()
}

/// Every function with a body.
pub fn functions(code: &str) -> Vec<Function> {
    let all = tokens(code);
    let mut out = Vec::new();
    for w in all.windows(2) {
        let ((at, Token::Word("fn")), (_, Token::Word(name))) = (w[0], w[1]) else {
            continue;
        };
        let body = &code[at..at + item_end(&code[at..])];
        out.push(Function {
            name: name.to_owned(),
            line: line_of(code, at),
            lines: body.matches('\n').count() + 1,
        });
    }
    out
}
