//! Scripts: commands in order, as `nft -f` takes them; a listing is a script of blocks.
//!
//! Reads only: [`super::Ruleset::apply`] carries out. Invariant: every command has its place in the
//! text; what could
//! not be read is an error there and the next statement is read.

mod commands;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cursor::{Cursor, Read, SetTypes, Wrong};
use super::elements::Element;
use super::lex::{self, Lexed};
use super::model::*;
use crate::base::limits::NF_FINDINGS_MAX;
use crate::base::{Finding, Span};

/// A list of commands.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Script {
    /// The commands in order.
    pub commands: Vec<Command>,
    /// Whether something in the text could not be read: nft would carry out nothing.
    pub refused: bool,
}

/// What a command does with what it names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// Makes it if it is not there.
    Add,
    /// Makes it; it must not be there.
    Create,
    /// A rule before others.
    Insert,
    /// A rule in place of another.
    Replace,
    /// Takes it away; it must be there.
    Delete,
    /// Takes it away if it is there.
    Destroy,
    /// Empties it.
    Flush,
    /// Sets counters and quotas to zero.
    Reset,
}

/// One command.
#[derive(Clone, PartialEq, Debug)]
pub struct Command {
    /// What it does.
    pub verb: Verb,
    /// With what.
    pub what: What,
    /// The table's family.
    pub family: Family,
    /// The table's name; empty for `flush ruleset` and tables named by handle.
    pub table: Arc<str>,
    /// Where it stands.
    pub span: Span,
}

/// By what something is named.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ref {
    /// By name.
    Name(Arc<str>),
    /// By number.
    Handle(u64),
}

/// Where a rule goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
    /// At the end (add) or the start (insert).
    Edge,
    /// Behind (add) or before (insert) the rule with this handle; `replace` and `delete`: that rule.
    Handle(u64),
    /// The same by number, from 0.
    Index(usize),
}

/// What a command is about.
#[derive(Clone, PartialEq, Debug)]
pub enum What {
    /// Everything, or all of one family.
    Ruleset(Option<Family>),
    /// A table with its flags and comment.
    Table(Box<Table>),
    /// A table that is taken away or emptied.
    TableRef(Ref),
    /// A chain to make; `flush` and `delete` are with [`What::ChainRef`].
    Chain(Box<Chain>),
    /// A chain by name or handle.
    ChainRef(Ref),
    /// `rename chain`: old and new name.
    Rename(Arc<str>, Arc<str>),
    /// A rule of a chain.
    Rule(Arc<str>, At, Box<Rule>),
    /// A set or map without elements.
    Set(Box<Set>),
    /// A set or map by name or handle.
    SetRef(Ref),
    /// Elements of a set.
    Elements(Arc<str>, Vec<Element>),
    /// An object to make.
    Object(Box<Object>),
    /// An object by name or handle.
    ObjectRef(ObjectKind, Ref),
    /// A flow table to make.
    Flowtable(Box<Flowtable>),
    /// A flow table by name or handle.
    FlowtableRef(Ref),
}

/// What a block's statements become: rules behind everything that they may name.
#[derive(Default)]
pub(super) struct Block {
    pub chains: Vec<(Chain, u32)>,
    pub objects: Vec<(Object, u32)>,
    pub sets: Vec<(Set, u32)>,
    pub flowtables: Vec<(Flowtable, u32)>,
    pub elements: Vec<(Arc<str>, Vec<Element>, u32)>,
    pub rules: Vec<(Arc<str>, Rule, u32)>,
}

pub(super) struct Reader<'a> {
    pub lexed: &'a Lexed,
    pub file: Arc<str>,
    pub base: &'a Ruleset,
    pub known: BTreeMap<(Family, Arc<str>, Arc<str>), SetTypes>,
    pub lines: Vec<u32>,
    pub at: usize,
    pub commands: Vec<Command>,
    pub findings: Vec<Finding>,
    pub muted: usize,
}

impl Script {
    /// Reads a script that is meant for `base` (whose sets give the types of elements).
    pub fn parse(file: &str, text: &str, base: &Ruleset) -> (Script, Vec<Finding>) {
        let lexed = lex::lex(text);
        let mut lines = vec![0u32];
        lines.extend(
            text.bytes()
                .enumerate()
                .filter(|b| b.1 == b'\n')
                .map(|b| u32::try_from(b.0 + 1).unwrap_or(u32::MAX)),
        );
        let mut r = Reader {
            lexed: &lexed,
            file: file.into(),
            base,
            known: BTreeMap::new(),
            lines,
            at: 0,
            commands: Vec::new(),
            findings: Vec::new(),
            muted: 0,
        };
        for (at, message) in &lexed.wrong {
            r.error(&Wrong {
                at: *at,
                expected: message.clone(),
            });
        }
        r.all();
        if r.muted > 0 {
            let text = format!("{} more places could not be read", r.muted);
            r.findings
                .push(Finding::error(Span::new(r.file.clone(), 0, 0), text, ""));
        }
        let refused = r.findings.iter().any(Finding::is_error);
        (
            Script {
                commands: r.commands,
                refused,
            },
            r.findings,
        )
    }
}

impl Reader<'_> {
    pub(super) fn span(&self, byte: u32) -> Span {
        let line = self.lines.partition_point(|l| *l <= byte).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or(0);
        let before = self
            .lexed
            .text
            .get(start as usize..byte as usize)
            .unwrap_or_default();
        let n = |v: usize| u32::try_from(v).unwrap_or(u32::MAX);
        Span::new(self.file.clone(), n(line), n(before.chars().count() + 1))
    }

    pub(super) fn error(&mut self, w: &Wrong) {
        if self.findings.len() >= NF_FINDINGS_MAX {
            self.muted += 1;
            return;
        }
        let rest = self.lexed.text.get(w.at as usize..).unwrap_or_default();
        let line = rest.split('\n').next().unwrap_or_default().trim_end();
        let excerpt: String = line.chars().take(40).collect();
        let dots = if line.chars().count() > 40 { "..." } else { "" };
        let found = match excerpt.as_str() {
            "" => "the end of the line".to_owned(),
            e => format!("`{e}{dots}`"),
        };
        let help = "what stands here is kept where it can be, and has no effect";
        self.findings.push(Finding::error(
            self.span(w.at),
            format!("expected {}: {found}", w.expected),
            help,
        ));
    }

    /// Reads with a cursor of this table.
    pub(super) fn with<T>(
        &mut self,
        family: Family,
        table: &Arc<str>,
        f: impl FnOnce(&mut Cursor<'_>) -> T,
    ) -> T {
        let (known, base) = (&self.known, self.base);
        let sets = |name: &str| -> Option<SetTypes> {
            if let Some(t) = known.get(&(family, table.clone(), name.into())) {
                return Some(t.clone());
            }
            let set = base.tables.get(&(family, table.clone()))?.sets.get(name)?;
            Some((set.key.dtypes(), set.data.as_ref().map(SetType::dtypes)))
        };
        let mut c = Cursor {
            lexed: self.lexed,
            at: self.at,
            family,
            sets: &sets,
            depth: 0,
        };
        let out = f(&mut c);
        self.at = c.at;
        out
    }

    /// Reads with a cursor of no table.
    fn free<T>(&mut self, f: impl FnOnce(&mut Cursor<'_>) -> T) -> T {
        self.with(Family::Ip, &"".into(), f)
    }

    pub(super) fn push(
        &mut self,
        verb: Verb,
        family: Family,
        table: &Arc<str>,
        what: What,
        byte: u32,
    ) {
        let span = self.span(byte);
        self.commands.push(Command {
            verb,
            what,
            family,
            table: table.clone(),
            span,
        });
    }

    pub(super) fn learn(&mut self, family: Family, table: &Arc<str>, set: &Set) {
        let types = (set.key.dtypes(), set.data.as_ref().map(SetType::dtypes));
        self.known
            .insert((family, table.clone(), set.name.clone()), types);
    }

    fn all(&mut self) {
        loop {
            self.free(|c| c.separators());
            if self.at >= self.lexed.tokens.len() {
                return;
            }
            let before = self.at;
            if let Err(w) = self.command() {
                self.error(&w);
                self.at = before;
                self.free(|c| c.skip());
            } else {
                let end = self.free(|c| {
                    if c.ended() && c.peek() != "}" {
                        Ok(())
                    } else {
                        c.wrong("the end of the command")
                    }
                });
                if let Err(w) = end {
                    self.error(&w);
                    self.free(|c| c.skip());
                }
            }
            self.free(|c| c.handle());
            if self.at == before {
                self.at += 1;
            }
        }
    }

    fn command(&mut self) -> Read<()> {
        let (word, next) = self.free(|c| (c.peek().to_owned(), c.ahead(1).to_owned()));
        let verb = match word.as_str() {
            "add" => Verb::Add,
            "create" => Verb::Create,
            "insert" => Verb::Insert,
            "replace" => Verb::Replace,
            "delete" => Verb::Delete,
            "destroy" => Verb::Destroy,
            "flush" => Verb::Flush,
            "reset" => Verb::Reset,
            "rename" => return self.rename(),
            "include" => {
                return self
                    .free(|c| c.wrong("the included file's own text: `include` is not followed"));
            }
            "list" | "monitor" | "export" | "describe" => {
                self.free(|c| c.skip());
                return Ok(());
            }
            _ => Verb::Add,
        };
        if !word.is_empty() && matches!(verb, Verb::Add) && word != "add" {
            return self.object_command(Verb::Add);
        }
        self.at += 1;
        if next == "ruleset" {
            return self.ruleset(verb);
        }
        self.object_command(verb)
    }

    fn ruleset(&mut self, verb: Verb) -> Read<()> {
        let (byte, family) = self.free(|c| {
            let byte = c.byte();
            c.at += 1;
            let family = Family::parse(c.peek());
            if family.is_some() {
                c.at += 1;
            }
            (byte, family)
        });
        if verb != Verb::Flush {
            return self.free(|c| c.wrong("`flush ruleset`"));
        }
        self.push(verb, Family::Ip, &"".into(), What::Ruleset(family), byte);
        Ok(())
    }

    fn rename(&mut self) -> Read<()> {
        let byte = self.free(|c| c.byte());
        self.at += 1;
        self.free(|c| c.expect("chain"))?;
        let (family, table) = self.table_name()?;
        let (old, new) = self.free(|c| {
            Ok((
                c.name("a chain's name")?.into(),
                c.name("its new name")?.into(),
            ))
        })?;
        self.push(Verb::Add, family, &table, What::Rename(old, new), byte);
        Ok(())
    }

    /// `[family] name`.
    pub(super) fn table_name(&mut self) -> Read<(Family, Arc<str>)> {
        self.free(|c| {
            let family = Family::parse(c.peek());
            if family.is_some() {
                c.at += 1;
            }
            Ok((
                family.unwrap_or(Family::Ip),
                c.name("a table's name")?.into(),
            ))
        })
    }
}
