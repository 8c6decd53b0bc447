//! One ipset command as words, carried out.
//!
//! libipset ipset.c (`ipset_parse_argv`): command names, their short forms, options anywhere. Prints
//! nothing and
//! reads no file. Invariant: a command that fails changes nothing, but a range that meets an obstacle
//! keeps what
//! it had added before, as in the kernel.

use super::header::{Header, quoted};
use super::kind::Kind;
use super::member;
use super::options::{self, Options};
use super::sets::{Content, Set, Sets, UnknownSet};
use super::spec::{NoKeys, Spec};
use super::store::{Ask, Tested, check_ext};
use super::wrong::{Refused, Wrong};
use crate::base::Instant;

/// Longest name of a set (IPSET_MAXNAMELEN - 1).
const NAME_MAX: usize = 31;

/// What a command answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It was carried out.
    Done,
    /// `test`: whether the element is in the set.
    InSet(bool),
    /// `save`, `list`: text.
    Text(String),
}

/// A command that was carried out, and the words that were kept without being understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// The answer.
    pub answer: Answer,
    /// What was not understood.
    pub warnings: Vec<Wrong>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verb {
    Create,
    Add,
    Del,
    Test,
    Destroy,
    List,
    Save,
    Flush,
    Rename,
    Swap,
}

/// Long and short names; abbreviations find the first that they begin (ipset(8), COMMANDS).
const VERBS: &[(&str, &str, &str, Verb)] = &[
    ("create", "n", "N", Verb::Create),
    ("add", "a", "A", Verb::Add),
    ("del", "d", "D", Verb::Del),
    ("test", "t", "T", Verb::Test),
    ("destroy", "x", "X", Verb::Destroy),
    ("list", "l", "L", Verb::List),
    ("save", "s", "S", Verb::Save),
    ("flush", "f", "F", Verb::Flush),
    ("rename", "e", "E", Verb::Rename),
    ("swap", "w", "W", Verb::Swap),
    ("new", "n", "N", Verb::Create),
];

fn verb(word: &str) -> Option<Verb> {
    let long = word.trim_start_matches('-');
    let dashed = word.starts_with('-');
    let short = VERBS.iter().find(|v| match dashed {
        true => v.2 == long,
        false => v.1 == long,
    });
    let begins = || {
        VERBS
            .iter()
            .find(|v| !long.is_empty() && v.0.starts_with(long))
    };
    short.or_else(begins).map(|v| v.3)
}

/// Options of the tool itself.
#[derive(Clone, Copy, Default)]
struct Tool {
    exist: bool,
    terse: bool,
    names: bool,
    save: bool,
}

/// Takes the tool's options out; what is left keeps its places.
fn tool_options<'a>(words: &[&'a str]) -> (Tool, Vec<&'a str>, Vec<usize>) {
    let mut tool = Tool::default();
    let (mut left, mut places) = (Vec::new(), Vec::new());
    let mut value_of = "";
    for (at, word) in words.iter().enumerate() {
        match (value_of, *word) {
            ("-o", kind) => tool.save = kind == "save",
            ("-f", _) => {}
            ("comment", _) => {
                left.push(*word);
                places.push(at);
            }
            (_, "-!" | "-exist" | "--exist") => tool.exist = true,
            (_, "-t" | "-terse" | "--terse") => tool.terse = true,
            (_, "-n" | "-name" | "--name") => tool.names = true,
            (
                _,
                "-q" | "-quiet" | "--quiet" | "-s" | "-sorted" | "--sorted" | "-r" | "-resolve",
            ) => {}
            (_, "-o" | "-output" | "--output") => {
                value_of = "-o";
                continue;
            }
            (_, "-f" | "-file" | "--file") => {
                value_of = "-f";
                continue;
            }
            (_, word) => {
                left.push(word);
                places.push(at);
            }
        }
        value_of = match value_of {
            "comment" => "",
            _ if *word == "comment" => "comment",
            _ => "",
        };
    }
    (tool, left, places)
}

impl Sets {
    /// Carries out one command: `add NAME ELEMENT ...`; the word `ipset` may stand first.
    pub fn command(&mut self, words: &[&str], now: Instant) -> Result<Reply, Wrong> {
        let skip = usize::from(words.first() == Some(&"ipset"));
        let (tool, left, places) = tool_options(words.get(skip..).unwrap_or_default());
        let place = |at: usize| {
            let after = places.last().map_or(0, |p| p + 1);
            skip + places.get(at).copied().unwrap_or(after)
        };
        let moved = |wrong: Wrong| Wrong {
            word: place(wrong.word),
            ..wrong
        };
        match self.run(&left, tool, now) {
            Ok(reply) => Ok(Reply {
                warnings: reply.warnings.into_iter().map(moved).collect(),
                ..reply
            }),
            Err(wrong) => Err(moved(wrong)),
        }
    }

    fn run(&mut self, words: &[&str], tool: Tool, now: Instant) -> Result<Reply, Wrong> {
        let what = "a command: create, add, del, test, destroy, list, save, flush, rename or swap";
        let verb = words
            .first()
            .and_then(|w| verb(w))
            .ok_or_else(|| Wrong::expected(0, what))?;
        let most = match verb {
            Verb::Destroy | Verb::Flush | Verb::List | Verb::Save => 2,
            Verb::Rename | Verb::Swap => 3,
            _ => usize::MAX,
        };
        if words.len() > most {
            return Err(Wrong::expected(most, "nothing more"));
        }
        let one = words.get(1).copied();
        let refused = |e| Wrong::refused(1, e);
        let done = |r: Result<(), Wrong>| r.map(|()| Answer::Done);
        let mut warnings = Vec::new();
        let answer = match verb {
            Verb::Create => done(self.create_words(words, tool.exist, &mut warnings))?,
            Verb::Add => done(self.add_words(words, tool.exist, now, &mut warnings))?,
            Verb::Del => done(self.del_words(words, tool.exist, now))?,
            Verb::Test => Answer::InSet(self.test_words(words, now)?),
            Verb::Destroy => done(self.destroy(one).map_err(refused))?,
            Verb::Flush => done(self.flush(one, now).map_err(refused))?,
            Verb::Rename => {
                let to = name_at(words, 2)?;
                done(self.rename(name_at(words, 1)?, to).map_err(refused))?
            }
            Verb::Swap => {
                let to = name_at(words, 2)?;
                done(self.swap(name_at(words, 1)?, to).map_err(refused))?
            }
            Verb::List | Verb::Save => {
                let save = tool.save || verb == Verb::Save;
                Answer::Text(
                    self.text(one, save, tool, now)
                        .ok_or_else(|| refused(Refused::NoSuchSet))?,
                )
            }
        };
        Ok(Reply { answer, warnings })
    }

    fn text(&self, name: Option<&str>, save: bool, tool: Tool, now: Instant) -> Option<String> {
        match name {
            Some(name) if tool.names => self.get(name).map(|_| format!("{name}\n")),
            None if tool.names => Some(self.iter().map(|(name, _)| format!("{name}\n")).collect()),
            Some(name) if save => self.save_one(name, now),
            None if save => Some(self.save(now)),
            Some(name) => self.list_one(name, tool.terse, now),
            None => Some(self.list(tool.terse, now)),
        }
    }

    fn create_words(
        &mut self,
        words: &[&str],
        exist: bool,
        warnings: &mut Vec<Wrong>,
    ) -> Result<(), Wrong> {
        let name = name_at(words, 1)?;
        let kind = *words
            .get(2)
            .ok_or_else(|| Wrong::expected(2, "a set type, like hash:ip"))?;
        let rest = words.get(3..).unwrap_or_default();
        let set = match Kind::parse(kind) {
            Some(kind) => {
                let (header, unknown) = Header::read(kind, rest, 3)?;
                warnings.extend(
                    unknown
                        .into_iter()
                        .map(|at| kept(at, "an option of create")),
                );
                Set::new(header)
            }
            None => {
                warnings.push(kept(2, "a set type"));
                Set::unknown(UnknownSet {
                    kind: kind.into(),
                    options: join(rest),
                    lines: Vec::new(),
                })
            }
        };
        self.create(name, set, exist)
            .map_err(|e| Wrong::refused(1, e))
    }

    fn add_words(
        &mut self,
        words: &[&str],
        exist: bool,
        now: Instant,
        warnings: &mut Vec<Wrong>,
    ) -> Result<(), Wrong> {
        let name = name_at(words, 1)?;
        let element = element_at(words)?;
        let rest = words.get(3..).unwrap_or_default();
        let member = self.get(element).map(|s| s.kind());
        let set = self.sets.get_mut(name).ok_or_else(|| no_set(1))?;
        match &mut set.content {
            Content::Unknown(set) => {
                set.lines.push(join(words.get(2..).unwrap_or_default()));
                Ok(())
            }
            Content::List(header, members) => {
                let options = options::read(header.kind, rest, 3)?;
                warn(&options, warnings);
                check_ext(header, &options.ext).map_err(|e| Wrong::refused(3, e))?;
                let refused = |e| Wrong::refused(2, e);
                can_be_member(member)?;
                let (place, ext) = (options.place.as_ref(), &options.ext);
                member::add(members, header, element.into(), place, ext, exist, now)
                    .map_err(refused)
            }
            Content::Store(header, store) => {
                let spec = Spec::read(header, element).map_err(no_keys)?;
                let options = options::read(header.kind, rest, 3)?;
                warn(&options, warnings);
                check_ext(header, &options.ext).map_err(|e| Wrong::refused(3, e))?;
                for key in spec.keys(header, false).map_err(|e| Wrong::refused(2, e))? {
                    let added = store.add(header, key, spec.mac, &options.ext, exist, now);
                    added.map_err(|e| Wrong::refused(2, e))?;
                }
                Ok(())
            }
        }
    }

    fn del_words(&mut self, words: &[&str], exist: bool, now: Instant) -> Result<(), Wrong> {
        let name = name_at(words, 1)?;
        let element = element_at(words)?;
        let rest = words.get(3..).unwrap_or_default();
        let member = self.get(element).map(|s| s.kind());
        let set = self.sets.get_mut(name).ok_or_else(|| no_set(1))?;
        let refused = |e| Wrong::refused(2, e);
        match &mut set.content {
            Content::Unknown(set) => {
                let line = join(words.get(2..).unwrap_or_default());
                let at = set
                    .lines
                    .iter()
                    .position(|l| first_word(l) == first_word(&line));
                match at {
                    Some(at) => drop(set.lines.remove(at)),
                    None if exist => {}
                    None => return Err(refused(Refused::Missing)),
                }
                Ok(())
            }
            Content::List(header, members) => {
                let options = no_unknown(options::read(header.kind, rest, 3)?)?;
                can_be_member(member)?;
                match member::del(members, element, options.place.as_ref(), now) {
                    Err(Refused::Missing) if exist => Ok(()),
                    other => other.map_err(refused),
                }
            }
            Content::Store(header, store) => {
                let spec = Spec::read(header, element).map_err(no_keys)?;
                no_unknown(options::read(header.kind, rest, 3)?)?;
                for key in spec.keys(header, false).map_err(refused)? {
                    match store.del(header, &key, now) {
                        Err(Refused::Missing) if exist => {}
                        other => other.map_err(refused)?,
                    }
                }
                Ok(())
            }
        }
    }

    /// `ip_set_utest`: counters stay; with `nomatch` exceptions are what is in the set.
    fn test_words(&mut self, words: &[&str], now: Instant) -> Result<bool, Wrong> {
        let name = name_at(words, 1)?;
        let element = element_at(words)?;
        let rest = words.get(3..).unwrap_or_default();
        let member = self.get(element).map(|s| s.kind());
        let set = self.sets.get_mut(name).ok_or_else(|| no_set(1))?;
        let refused = |e| Wrong::refused(2, e);
        match &mut set.content {
            Content::Unknown(_) => Err(Wrong::refused(1, Refused::Unknown)),
            Content::List(header, members) => {
                let options = no_unknown(options::read(header.kind, rest, 3)?)?;
                can_be_member(member)?;
                Ok(member::test(members, element, options.place.as_ref(), now))
            }
            Content::Store(header, store) => {
                let spec = Spec::read(header, element).map_err(no_keys)?;
                spec.testable(header.kind)
                    .map_err(|what| Wrong::expected(2, what))?;
                let options = no_unknown(options::read(header.kind, rest, 3)?)?;
                let keys = spec.keys(header, true).map_err(refused)?;
                let Some(key) = keys.first() else {
                    return Ok(false);
                };
                Ok(
                    match store.test(header, key, spec.mac, &Ask::default(), now) {
                        Tested::Miss => false,
                        Tested::Incomplete(_) => true,
                        Tested::Hit(matched) => matched.nomatch == options.ext.nomatch,
                    },
                )
            }
        }
    }
}

fn name_at<'a>(words: &[&'a str], at: usize) -> Result<&'a str, Wrong> {
    let name = words.get(at).copied().unwrap_or_default();
    match name.is_empty() || name.len() > NAME_MAX || name.contains(char::is_whitespace) {
        true => Err(Wrong::expected(
            at,
            format!("a set's name of 1 to {NAME_MAX} characters"),
        )),
        false => Ok(name),
    }
}

fn element_at<'a>(words: &[&'a str]) -> Result<&'a str, Wrong> {
    let element = words.get(2).copied();
    element.ok_or_else(|| Wrong::expected(2, "an element"))
}

/// A member has to exist and be no list (ip_set_list_set.c `list_set_uadt`).
fn can_be_member(kind: Option<Option<Kind>>) -> Result<(), Wrong> {
    match kind {
        None => Err(Wrong::refused(2, Refused::NoMember)),
        Some(Some(Kind::ListSet)) => Err(Wrong::refused(2, Refused::Loop)),
        Some(_) => Ok(()),
    }
}

fn no_set(word: usize) -> Wrong {
    Wrong::refused(word, Refused::NoSuchSet)
}

fn no_keys(why: NoKeys) -> Wrong {
    match why {
        NoKeys::Expected(at, what) => Wrong {
            at,
            ..Wrong::expected(2, what)
        },
        NoKeys::Refused(e) => Wrong::refused(2, e),
    }
}

fn no_unknown(options: Options) -> Result<Options, Wrong> {
    match options.unknown.first() {
        Some(at) => Err(Wrong::expected(*at, "an option that is known")),
        None => Ok(options),
    }
}

fn kept(word: usize, what: &str) -> Wrong {
    Wrong {
        word,
        at: 0,
        message: format!("{what} that podpath does not know"),
    }
}

fn warn(options: &Options, warnings: &mut Vec<Wrong>) {
    let places = options.unknown.iter();
    warnings.extend(places.map(|at| kept(*at, "an option of an element")));
}

fn join(words: &[&str]) -> Box<str> {
    let words: Vec<String> = words.iter().map(|w| quoted(w)).collect();
    words.join(" ").into()
}

fn first_word(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
}
