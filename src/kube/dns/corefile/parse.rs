//! Words to server blocks: `caddyfile/parse.go`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::lex::{Token, tokens};
use super::{Block, Corefile, Line, Surroundings, Word};
use crate::base::limits::{DNS_COREFILE_TOKENS_MAX, DNS_IMPORT_DEPTH_MAX};
use crate::base::{Finding, Span};

pub(super) fn parse(file: &str, text: &str, around: &Surroundings) -> (Corefile, Vec<Finding>) {
    let file: Arc<str> = file.into();
    let mut parser = Parser {
        around,
        snippets: BTreeMap::new(),
        findings: Vec::new(),
        budget: DNS_COREFILE_TOKENS_MAX,
    };
    let words = parser.words(&file, text);
    let mut corefile = Corefile::default();
    parser.top(words, 0, &mut corefile);
    (corefile, parser.findings)
}

struct Parser<'a> {
    around: &'a Surroundings,
    snippets: BTreeMap<String, Vec<Token>>,
    findings: Vec<Finding>,
    budget: usize,
}

/// Words with a place in them.
struct Cursor {
    words: Vec<Token>,
    at: usize,
}

impl Cursor {
    fn peek(&self) -> Option<&Token> {
        self.words.get(self.at)
    }

    fn next(&mut self) -> Option<Token> {
        let word = self.words.get(self.at).cloned()?;
        self.at += 1;
        Some(word)
    }

    /// The next word if it stands in the same line.
    fn same_line(&mut self) -> Option<Token> {
        self.peek().filter(|w| !w.first)?;
        self.next()
    }

    /// The words up to the brace that closes one just read, that brace taken too; whether it was there.
    fn braced(&mut self) -> (Vec<Token>, bool) {
        let (mut depth, from) = (1_u32, self.at);
        while let Some(word) = self.words.get(self.at) {
            self.at += 1;
            if word.is("{") {
                depth = depth.saturating_add(1);
            } else if word.is("}") {
                depth -= 1;
                if depth == 0 {
                    let inner = self.words.get(from..self.at - 1);
                    return (inner.unwrap_or_default().to_vec(), true);
                }
            }
        }
        (self.words.get(from..).unwrap_or_default().to_vec(), false)
    }
}

impl Parser<'_> {
    fn error(&mut self, span: &Span, message: impl Into<String>, help: &str) {
        self.findings
            .push(Finding::error(span.clone(), message, help));
    }

    fn words(&mut self, file: &Arc<str>, text: &str) -> Vec<Token> {
        let (mut words, unclosed) = tokens(file, text);
        if let Some(span) = unclosed {
            self.error(
                &span,
                "the quotation mark is never closed",
                "add the closing \"",
            );
        }
        if words.len() > self.budget {
            let span = Span::new(file.clone(), 0, 0);
            let message =
                format!("more than {DNS_COREFILE_TOKENS_MAX} words with what is imported");
            self.error(&span, message, "a snippet that imports itself?");
        }
        words.truncate(self.budget);
        self.budget -= words.len();
        words
    }

    /// Server blocks, snippets and imports of files.
    fn top(&mut self, words: Vec<Token>, depth: usize, out: &mut Corefile) {
        let mut cursor = Cursor { words, at: 0 };
        while cursor.peek().is_some() {
            if cursor.peek().is_some_and(|w| w.is("import")) {
                let word = cursor.next();
                for imported in word.map_or(Vec::new(), |w| self.import(&w, &mut cursor, depth)) {
                    self.top(imported, depth + 1, out);
                }
                continue;
            }
            let (keys, opened) = self.keys(&mut cursor);
            let inner = if opened {
                let (inner, closed) = cursor.braced();
                if let (false, Some(key)) = (closed, keys.first()) {
                    let message = format!("the block of {} is never closed", key.text);
                    self.error(&key.span, message, "add the closing }");
                }
                inner
            } else {
                // A file of one server needs no braces: the rest belongs to it.
                let rest = cursor.words.get(cursor.at..).unwrap_or_default().to_vec();
                cursor.at = cursor.words.len();
                rest
            };
            let Some(first) = keys.first() else {
                let span = inner.first().map_or(Span::default(), |w| w.span.clone());
                self.error(
                    &span,
                    "a block without a zone",
                    "write the zones before the {",
                );
                continue;
            };
            match snippet_name(&keys) {
                Some(name) if self.snippets.contains_key(name) => {
                    let message = format!("the snippet {name} is defined a second time");
                    self.error(&first.span, message, "give it another name");
                }
                Some(name) => {
                    self.snippets.insert(name.to_owned(), inner);
                }
                None => {
                    let directives = self.lines(inner, 0);
                    let keys = keys.iter().map(|key| self.word(key)).collect();
                    out.blocks.push(Block { keys, directives });
                }
            }
        }
    }

    /// The keys of a block; whether a brace follows.
    fn keys(&mut self, cursor: &mut Cursor) -> (Vec<Token>, bool) {
        let (mut keys, mut comma): (Vec<Token>, bool) = (Vec::new(), false);
        while let Some(word) = cursor.peek() {
            if word.is("{") {
                if comma {
                    let span = word.span.clone();
                    self.error(
                        &span,
                        "a zone was expected behind the comma",
                        "remove the comma",
                    );
                }
                cursor.at += 1;
                return (keys, true);
            }
            if word.first && !keys.is_empty() && !comma {
                return (keys, false);
            }
            let Some(word) = cursor.next() else { break };
            comma = word.text.ends_with(',');
            for part in word.text.split(',').filter(|part| !part.is_empty()) {
                keys.push(Token {
                    text: part.to_owned(),
                    ..word.clone()
                });
            }
        }
        (keys, false)
    }

    /// Directives, or the lines of a directive's block.
    fn lines(&mut self, words: Vec<Token>, depth: usize) -> Vec<Line> {
        let mut cursor = Cursor { words, at: 0 };
        let mut out = Vec::new();
        while let Some(word) = cursor.next() {
            if word.is("}") || word.is("{") {
                let message = format!(
                    "`{}` stands where a plugin or an option was expected",
                    word.text
                );
                self.error(&word.span, message, "remove it, or balance the braces");
                continue;
            }
            if word.is("import") {
                for imported in self.import(&word, &mut cursor, depth) {
                    out.extend(self.lines(imported, depth + 1));
                }
                continue;
            }
            let (mut args, mut body) = (Vec::new(), Vec::new());
            while let Some(arg) = cursor.same_line() {
                if arg.is("{") {
                    let (inner, closed) = cursor.braced();
                    if !closed {
                        let message = format!("the block of {} is never closed", word.text);
                        self.error(&word.span, message, "add the closing }");
                    }
                    if depth < DNS_IMPORT_DEPTH_MAX {
                        body = self.lines(inner, depth + 1);
                    }
                    break;
                }
                args.push(self.word(&arg));
            }
            let name = self.word(&word);
            out.push(Line { name, args, body });
        }
        out
    }

    /// What `import NAME` stands for.
    fn import(&mut self, word: &Token, cursor: &mut Cursor, depth: usize) -> Vec<Vec<Token>> {
        let Some(name) = cursor.same_line() else {
            self.error(
                &word.span,
                "import needs a snippet's name or a file",
                "write import NAME",
            );
            return Vec::new();
        };
        while let Some(extra) = cursor.same_line() {
            self.error(
                &extra.span,
                "import takes one name",
                "import each on a line of its own",
            );
        }
        let name = self.word(&name);
        if depth >= DNS_IMPORT_DEPTH_MAX {
            let message = format!("imports are nested deeper than {DNS_IMPORT_DEPTH_MAX}");
            self.error(&name.span, message, "a snippet that imports itself?");
            return Vec::new();
        }
        if let Some(tokens) = self.snippets.get(&name.text).cloned() {
            if tokens.len() > self.budget {
                self.error(
                    &name.span,
                    "the imports stand for too many words",
                    "import less",
                );
                return Vec::new();
            }
            self.budget -= tokens.len();
            return vec![tokens];
        }
        let files: Vec<(String, String)> = self
            .around
            .files
            .iter()
            .filter(|(path, _)| glob(&name.text, path))
            .map(|(path, text)| (path.clone(), text.clone()))
            .collect();
        if files.is_empty() && !name.text.contains(['*', '?', '[']) {
            let message = format!("there is neither a snippet nor a file {}", name.text);
            self.error(
                &name.span,
                message,
                "define (NAME) { } above, or hand the file in",
            );
        }
        let read = files.into_iter();
        read.map(|(path, text)| self.words(&path.as_str().into(), &text))
            .collect()
    }

    /// A word with environment variables filled in (`replaceEnvVars`).
    fn word(&self, token: &Token) -> Word {
        let mut text = token.text.clone();
        for (open, close) in [("{$", "}"), ("{%", "%}")] {
            text = fill(&text, open, close, &self.around.variables);
        }
        Word {
            text,
            span: token.span.clone(),
        }
    }
}

fn fill(text: &str, open: &str, close: &str, variables: &BTreeMap<String, String>) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once(open) {
        let Some((name, behind)) = after.split_once(close) else {
            break;
        };
        out.push_str(before);
        out.push_str(variables.get(name).map_or("", String::as_str));
        rest = behind;
    }
    out + rest
}

fn snippet_name(keys: &[Token]) -> Option<&str> {
    match keys {
        [one] if !one.quoted => one.text.strip_prefix('(')?.strip_suffix(')'),
        _ => None,
    }
}

/// `*` and `?` of Go's filepath.Glob inside one path element; a relative pattern fits any folder's end.
fn glob(pattern: &str, path: &str) -> bool {
    let relative = !pattern.starts_with('/') && path.len() > pattern.len();
    let elements = pattern.split('/').count();
    let path = if relative && path.starts_with('/') {
        let skip = path.split('/').count().saturating_sub(elements);
        path.splitn(skip + 1, '/').last().unwrap_or(path)
    } else {
        path
    };
    let mut parts = path.split('/');
    path.split('/').count() == elements
        && pattern.split('/').all(|p| {
            parts
                .next()
                .is_some_and(|part| matches(p.as_bytes(), part.as_bytes()))
        })
}

fn matches(pattern: &[u8], text: &[u8]) -> bool {
    // Greedy with one way back: linear times the pattern.
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || text.get(t) == Some(c) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern
        .get(p..)
        .is_some_and(|rest| rest.iter().all(|c| *c == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, around: &Surroundings) -> (Vec<String>, Vec<String>) {
        fn show(line: &Line) -> String {
            let words = line.args.iter().map(|a| a.text.as_str());
            let words: Vec<&str> = std::iter::once(line.name.text.as_str())
                .chain(words)
                .collect();
            let body: Vec<String> = line.body.iter().map(show).collect();
            match body.as_slice() {
                [] => words.join(" "),
                _ => format!("{} <{}>", words.join(" "), body.join("; ")),
            }
        }
        let (corefile, findings) = parse("Corefile", text, around);
        let blocks = corefile.blocks.iter().map(|b| {
            let keys: Vec<&str> = b.keys.iter().map(|k| k.text.as_str()).collect();
            let lines: Vec<String> = b.directives.iter().map(show).collect();
            format!("{} [{}]", keys.join("+"), lines.join(" | "))
        });
        (
            blocks.collect(),
            findings.iter().map(ToString::to_string).collect(),
        )
    }

    #[test]
    fn blocks_snippets_imports_and_variables() {
        let mut around = Surroundings::default();
        around.variables.insert("UP".into(), "10.0.0.1".into());
        around
            .files
            .insert("/etc/coredns/custom/a.override".into(), "log\n".into());
        around.files.insert(
            "/etc/coredns/custom/b.server".into(),
            "b.test { whoami }".into(),
        );
        let text = "(common) {\n errors # why\n cache 30 {\n  disable success a.b\n }\n}\n\
            a.test, b.test:54\n10.0.0.0/8 {\n import common\n import custom/*.override\n\
            forward . {$UP} {%UP%}:54\n template IN A \"x y\" {\n answer \"{{ .Name }} \\\"q\\\"\"\n }\n}\n\
            import custom/*.server\n";
        let (blocks, findings) = read(text, &around);
        assert_eq!(findings, Vec::<String>::new());
        // A comma goes over the end of a line, its absence does not: the third key begins a file of one
        // server.
        assert_eq!(blocks.len(), 1, "{blocks:?}");
        let text = text.replace("b.test:54\n", "b.test:54 ");
        let (blocks, findings) = read(&text, &around);
        assert_eq!(findings, Vec::<String>::new());
        assert_eq!(
            blocks,
            [
                "a.test+b.test:54+10.0.0.0/8 [errors | cache 30 <disable success a.b> | log | forward . 10.0.0.1 \
                 10.0.0.1:54 | template IN A x y <answer {{ .Name }} \"q\">]",
                "b.test [whoami]"
            ]
        );
    }

    #[test]
    fn one_server_needs_no_braces() {
        let (blocks, findings) = read(". {\n}\n", &Surroundings::default());
        assert_eq!((blocks, findings.len()), (vec![". []".to_owned()], 0));
        let (blocks, _) = read("ex.test\nwhoami\nlog\n", &Surroundings::default());
        assert_eq!(blocks, ["ex.test [whoami | log]"]);
    }

    #[test]
    fn mistakes_have_places() {
        let wrong = |text: &str| read(text, &Surroundings::default()).1;
        assert_eq!(wrong(".:53 {\n log\n").len(), 1);
        assert!(
            wrong(". {\n import nothing\n}")[0]
                .starts_with("Corefile:2:9: error: there is neither")
        );
        assert!(wrong("{\n log\n}")[0].contains("a block without a zone"));
        assert!(
            wrong(". {\n log \"x\n}")
                .iter()
                .any(|f| f.starts_with("Corefile:2:6: error: the quotation"))
        );
        let looped = wrong("(a) {\n import a\n}\n. {\n import a\n}");
        assert!(
            looped.iter().any(|f| f.contains("nested deeper")),
            "{looped:?}"
        );
        let wide = "(a) {\n x\n}\n(b) {\n import a\n import a\n}\n. {\n import b\n import b\n}\n";
        assert_eq!(wrong(wide), Vec::<String>::new());
    }
}
