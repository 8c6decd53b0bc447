//! Corefiles: text to server blocks of directives, each word with its place.
//!
//! The grammar is that of the Caddyfile 1 parser CoreDNS uses (coredns/caddy `caddyfile/lexer.go`,
//! `parse.go`): several keys, snippets `(name) { }`, `import`, `{$VAR}` and `{%VAR%}`, quotes, comments.
//! Which plugins there are and what their words mean is not known here ([`super::config`]). Keeps going after
//! a mistake and reports each with file, line and column. Invariant: no text panics or loops; snippets that
//! import themselves end at `DNS_IMPORT_DEPTH_MAX`.

mod key;
mod lex;
pub mod order;
mod parse;

use std::collections::BTreeMap;

use crate::base::{Finding, Span};

pub use key::{ServerKey, zones};
pub use order::Version;

/// A word and its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Word {
    /// Without quotes, environment variables filled in.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

/// One line inside a directive's braces, with braces of its own perhaps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// The first word.
    pub name: Word,
    /// The others.
    pub args: Vec<Word>,
    /// Lines in braces behind it.
    pub body: Vec<Line>,
}

/// A server block: keys and directives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// Zones as written.
    pub keys: Vec<Word>,
    /// Plugins with their arguments, in the order of the file.
    pub directives: Vec<Line>,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Corefile {
    /// Server blocks in the order of the file.
    pub blocks: Vec<Block>,
}

/// What a Corefile refers to: files that it imports, variables of the environment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Surroundings {
    /// Texts by path; zone files, hosts files and resolv.conf too.
    pub files: BTreeMap<String, String>,
    /// Environment variables.
    pub variables: BTreeMap<String, String>,
}

impl Corefile {
    /// Reads a Corefile. What could not be understood is left out and reported.
    pub fn parse(file: &str, text: &str, around: &Surroundings) -> (Corefile, Vec<Finding>) {
        parse::parse(file, text, around)
    }
}
