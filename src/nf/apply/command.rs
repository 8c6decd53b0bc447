//! The words of one command: which verb, on which chain and place, and the words of its rule.
//!
//! Options may stand in any order and short ones in one word, as getopt takes them (iptables: xshared.c
//! `do_parse`). Invariant: words of the rule keep their order and their offsets.

use super::refused::Reason;
use crate::nf::rule::{self, Parsed};
use crate::nf::table::{Family, TableName};
use crate::nf::words::Word;

/// What is wrong, and at which offset.
pub(super) type At = (usize, Reason);

/// What a command does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verb {
    Append,
    Insert,
    Delete,
    Replace,
    Check,
    New,
    DeleteChain,
    Rename,
    Policy,
    Flush,
    Zero,
    List,
    ListRules,
}

const VERBS: [(&str, &str, Verb); 13] = [
    ("-A", "--append", Verb::Append),
    ("-I", "--insert", Verb::Insert),
    ("-D", "--delete", Verb::Delete),
    ("-R", "--replace", Verb::Replace),
    ("-C", "--check", Verb::Check),
    ("-N", "--new-chain", Verb::New),
    ("-X", "--delete-chain", Verb::DeleteChain),
    ("-E", "--rename-chain", Verb::Rename),
    ("-P", "--policy", Verb::Policy),
    ("-F", "--flush", Verb::Flush),
    ("-Z", "--zero", Verb::Zero),
    ("-L", "--list", Verb::List),
    ("-S", "--list-rules", Verb::ListRules),
];

/// One command.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub verb: Verb,
    /// Where the verb stands.
    pub at: usize,
    pub table: Option<Word>,
    pub chain: Option<Word>,
    /// Place in the chain, from 1.
    pub place: Option<(usize, usize)>,
    /// New name of `-E`, policy of `-P`.
    pub second: Option<Word>,
    /// The rule's words.
    pub rule: Vec<Word>,
    /// `-Z` beside `-L` or `-S`.
    pub zero: bool,
    /// `-v`.
    pub verbose: bool,
    end: usize,
    family: Family,
}

/// The next word if it is no option.
fn value(words: &[Word], next: &mut usize) -> Option<Word> {
    let word = words.get(*next)?;
    if word.text.starts_with('-') && word.text.len() > 1 || word.text == "!" {
        return None;
    }
    *next += 1;
    Some(word.clone())
}

fn usage(at: usize, text: impl Into<String>) -> At {
    (at, Reason::Usage(text.into()))
}

impl Line {
    /// Reads the words after the program's name.
    pub(super) fn parse(words: Vec<Word>, family: Family) -> Result<Self, At> {
        let words = unbundle(words);
        let end = words.last().map_or(0, |w| w.end);
        let mut line = Line {
            verb: Verb::ListRules,
            at: end,
            table: None,
            chain: None,
            place: None,
            second: None,
            rule: Vec::new(),
            zero: false,
            verbose: false,
            end,
            family,
        };
        let (mut seen, mut next) = (None, 0);
        while let Some(word) = words.get(next) {
            next += 1;
            line.word(word, &words, &mut next, &mut seen)?;
        }
        match seen {
            Some(verb) => line.verb = verb,
            None if line.zero => line.verb = Verb::Zero,
            None => return Err(usage(end, "no command specified")),
        }
        line.complete()?;
        Ok(line)
    }

    fn word(
        &mut self,
        word: &Word,
        words: &[Word],
        next: &mut usize,
        seen: &mut Option<Verb>,
    ) -> Result<(), At> {
        let text = word.text.as_str();
        match text {
            "-t" | "--table" => {
                let name = words.get(*next).cloned();
                let name = name.ok_or_else(|| needs_argument(word))?;
                *next += 1;
                self.table = Some(name);
                return Ok(());
            }
            "-w" | "--wait" | "-W" | "--wait-interval" => {
                let number = |w: &Word| w.text.bytes().all(|b| b.is_ascii_digit());
                *next += usize::from(words.get(*next).is_some_and(number));
                return Ok(());
            }
            "-v" | "--verbose" => {
                self.verbose = true;
                return Ok(());
            }
            "-n" | "--numeric" | "-x" | "--exact" | "--line-numbers" => return Ok(()),
            _ => {}
        }
        if let Some((short, _, verb)) = VERBS.iter().find(|v| v.0 == text || v.1 == text) {
            return self.verb(*verb, short, word, words, next, seen);
        }
        self.rule.push(word.clone());
        // A value that may look like an option stays a value.
        let takes_text = [
            "--comment",
            "--log-prefix",
            "--nflog-prefix",
            "--string",
            "--hex-string",
            "--match",
            "-m",
            "--jump",
            "-j",
            "--goto",
            "-g",
        ];
        if takes_text.contains(&text)
            && let Some(w) = words.get(*next)
        {
            self.rule.push(w.clone());
            *next += 1;
        }
        Ok(())
    }

    fn verb(
        &mut self,
        verb: Verb,
        short: &str,
        word: &Word,
        words: &[Word],
        next: &mut usize,
        seen: &mut Option<Verb>,
    ) -> Result<(), At> {
        if let Some(before) = *seen
            && !(lists(before) && verb == Verb::Zero)
            && !(before == Verb::Zero && lists(verb))
        {
            let other = VERBS.iter().find(|v| v.2 == before).map_or("", |v| v.0);
            return Err(usage(word.at, format!("Cannot use {short} with {other}")));
        }
        self.zero |= verb == Verb::Zero;
        if !(verb == Verb::Zero && seen.is_some()) {
            *seen = Some(verb);
            self.at = word.at;
        }
        let optional = matches!(
            verb,
            Verb::DeleteChain | Verb::Flush | Verb::Zero | Verb::List | Verb::ListRules
        );
        let chain = match optional {
            true => value(words, next),
            false => {
                *next += 1;
                let at = next.saturating_sub(1);
                let needed = words.get(at).cloned();
                Some(needed.ok_or_else(|| needs_argument(word))?)
            }
        };
        self.chain = chain.or(self.chain.take());
        self.more(verb, words, next)
    }

    /// What may follow the chain.
    fn more(&mut self, verb: Verb, words: &[Word], next: &mut usize) -> Result<(), At> {
        match verb {
            Verb::Rename => {
                let missing = "-E requires old-chain-name and new-chain-name";
                let found = value(words, next);
                self.second = Some(found.ok_or_else(|| usage(self.end, missing))?);
            }
            Verb::Policy => {
                let found = value(words, next);
                self.second =
                    Some(found.ok_or_else(|| usage(self.end, "-P requires a chain and a policy"))?);
            }
            Verb::Insert
            | Verb::Delete
            | Verb::Replace
            | Verb::Zero
            | Verb::ListRules
            | Verb::List
                if self.chain.is_some() =>
            {
                let number = words.get(*next).and_then(|w| {
                    let digits = w.text.bytes().all(|b| b.is_ascii_digit());
                    (digits && !w.text.is_empty()).then_some(w)
                });
                if let Some(w) = number {
                    *next += 1;
                    let n = w.text.parse().unwrap_or(0);
                    if n == 0 {
                        return Err(usage(w.at, format!("Invalid rule number `{}'", w.text)));
                    }
                    self.place = Some((w.at, n));
                } else if verb == Verb::Replace {
                    return Err(usage(self.end, "-R requires a rule number"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What only the whole line tells.
    fn complete(&self) -> Result<(), At> {
        if let Some(stray) = self.stray() {
            return Err((stray.at, Reason::BadArgument(stray.text.clone())));
        }
        let counts = |w: &&Word| matches!(w.text.as_str(), "-c" | "--set-counters");
        let counted = matches!(
            self.verb,
            Verb::Append | Verb::Insert | Verb::Replace | Verb::Policy
        );
        let first = self
            .rule
            .first()
            .filter(|w| !self.takes_rule() && !counts(w));
        let counters = self.rule.iter().find(counts).filter(|_| !counted);
        if let Some(w) = first.or(counters) {
            let text = format!("Illegal option `{}' with this command", w.text);
            return Err(usage(w.at, text));
        }
        match (self.verb, &self.chain, &self.second) {
            (Verb::New, Some(name), _) | (Verb::Rename, _, Some(name)) => chain_name(name),
            _ => Ok(()),
        }
    }

    /// A word that belongs to nothing: where the rule's words should begin.
    fn stray(&self) -> Option<&Word> {
        self.rule
            .first()
            .filter(|w| !w.text.starts_with('-') && w.text != "!")
    }

    /// Whether the words of a rule may follow.
    pub(super) fn takes_rule(&self) -> bool {
        match self.verb {
            Verb::Append | Verb::Insert | Verb::Replace | Verb::Check => true,
            Verb::Delete => self.place.is_none(),
            _ => false,
        }
    }

    /// Whether a success may have changed something.
    pub(super) fn changes(&self) -> bool {
        match self.verb {
            Verb::Check => false,
            Verb::List | Verb::ListRules => self.zero,
            _ => true,
        }
    }

    /// The table; filter when none is named.
    pub(super) fn table_name(&self) -> Result<TableName, At> {
        match &self.table {
            None => Ok(TableName::Filter),
            Some(w) => {
                TableName::parse(&w.text).ok_or_else(|| (w.at, Reason::NoTable(w.text.clone())))
            }
        }
    }

    /// Where a word of the rule stands.
    pub(super) fn word_at(&self, text: &str) -> usize {
        let found = self.rule.iter().find(|w| w.text == text);
        found.map_or(self.at, |w| w.at)
    }

    /// The rule's words read.
    pub(super) fn read(&self, is_chain: &dyn Fn(&str) -> bool) -> Result<Parsed, At> {
        rule::read(&self.rule, self.end, self.family, is_chain).map_err(|(at, what)| {
            match what.strip_prefix("an option, not `") {
                Some(w) => (at, Reason::BadArgument(w.trim_end_matches('`').to_owned())),
                None => usage(at, format!("expected {what}")),
            }
        })
    }
}

fn lists(verb: Verb) -> bool {
    matches!(verb, Verb::List | Verb::ListRules)
}

fn needs_argument(word: &Word) -> At {
    let text = format!("option \"{}\" requires an argument", word.text);
    usage(word.end, text)
}

/// Names a chain must not have (xshared.c `assert_valid_chain_name`).
pub(super) fn chain_name(word: &Word) -> Result<(), At> {
    let name = word.text.as_str();
    let first = name.chars().next().filter(|c| matches!(c, '-' | '!'));
    if let Some(c) = first {
        return Err(usage(
            word.at,
            format!("chain name not allowed to start with `{c}'"),
        ));
    }
    if name.len() > 28 {
        let text = format!("chain name `{name}' too long (must be under 29 chars)");
        return Err(usage(word.at, text));
    }
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(usage(word.at, "Invalid chain name"));
    }
    Ok(())
}

/// `-tnat`, `-nvL`, `-SPOSTROUTING` and `--table=nat` as single words.
fn unbundle(words: Vec<Word>) -> Vec<Word> {
    let mut out: Vec<Word> = Vec::new();
    for word in words {
        let literal = out.last().is_some_and(|w| {
            matches!(
                w.text.as_str(),
                "--comment" | "--log-prefix" | "--nflog-prefix" | "--string" | "-m" | "-j" | "-N"
            )
        });
        let text = word.text.as_str();
        let long = text
            .split_once('=')
            .filter(|(k, _)| ["--table", "--wait"].contains(k));
        if let Some((k, v)) = long.filter(|_| !literal) {
            let cut = word.at + k.len();
            out.push(piece(k, word.at, cut));
            out.push(piece(v, cut + 1, word.end));
            continue;
        }
        let short = text.strip_prefix('-').filter(|t| !t.starts_with('-'));
        match short.filter(|t| t.len() > 1 && !literal) {
            Some(letters) => bundle(letters, &word, &mut out),
            None if text == "--" && !literal => {}
            None => out.push(word),
        }
    }
    out
}

fn piece(text: &str, at: usize, end: usize) -> Word {
    Word {
        text: text.to_owned(),
        at,
        end,
    }
}

/// Letters after one dash: flags up to the first that takes the rest as its value.
fn bundle(letters: &str, word: &Word, out: &mut Vec<Word>) {
    for (i, c) in letters.char_indices() {
        let rest = letters.get(i + c.len_utf8()..).unwrap_or_default();
        let at = word.at + 1 + i;
        out.push(piece(&format!("-{c}"), at, at + 1));
        if !matches!(c, 'n' | 'v' | 'x' | '4' | '6' | 'f') {
            if !rest.is_empty() {
                out.push(piece(rest, at + 1, word.end));
            }
            return;
        }
    }
}
