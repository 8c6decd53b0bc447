//! One transaction: the lines that are handed to `nft -f -`, as kube-proxy's library writes them.
//!
//! kubernetes-sigs/knftables `objects.go` (writeOperation of each object): one command a line,
//! semicolons with
//! blanks around them, priorities as numbers. Nothing is checked here.

use core::fmt::{Display, Write};

use crate::kube::service::Family;

/// The only table.
const TABLE: &str = "kube-proxy";

/// A set or a map of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// `set`.
    Set,
    /// `map`.
    Map,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Set => "set",
            Kind::Map => "map",
        }
    }
}

/// An element of a set or map.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'e> {
    /// The parts of the key, joined.
    pub key: &'e str,
    /// What a map has for it; empty in sets.
    pub value: &'e str,
    /// Shown with it.
    pub comment: Option<&'e str>,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Tx {
    /// `ip` or `ip6`.
    family: &'static str,
    text: String,
}

impl Tx {
    pub fn new(family: Family) -> Tx {
        let family = match family {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        };
        let text = String::new();
        Tx { family, text }
    }

    /// What was written.
    pub fn into_text(self) -> String {
        self.text
    }

    /// Whether nothing was.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    fn line(&mut self, verb: &str, what: &str, rest: &dyn Display) {
        let family = self.family;
        let _ = writeln!(self.text, "{verb} {what} {family} {TABLE}{rest}");
    }

    /// `add table`.
    pub fn add_table(&mut self, comment: &str) {
        self.line(
            "add",
            "table",
            &format_args!(" {{ comment \"{comment}\" ; }}"),
        );
    }

    /// `add chain`, a regular one.
    pub fn add_chain(&mut self, name: &str, comment: Option<&str>) {
        match comment {
            None => self.line("add", "chain", &format_args!(" {name}")),
            Some(comment) => {
                let rest = format_args!(" {name} {{ comment \"{comment}\" ; }}");
                self.line("add", "chain", &rest);
            }
        }
    }

    /// `add chain`, one that a hook runs.
    pub fn add_base_chain(&mut self, name: &str, kind: &str, hook: &str, priority: i32) {
        let rest = format_args!(" {name} {{ type {kind} hook {hook} priority {priority} ; }}");
        self.line("add", "chain", &rest);
    }

    /// `flush chain`.
    pub fn flush_chain(&mut self, name: &str) {
        self.line("flush", "chain", &format_args!(" {name}"));
    }

    /// `delete chain`.
    pub fn delete_chain(&mut self, name: &str) {
        self.line("delete", "chain", &format_args!(" {name}"));
    }

    /// `add rule`.
    pub fn add_rule(&mut self, chain: &str, rule: &str, comment: Option<&str>) {
        match comment {
            None => self.line("add", "rule", &format_args!(" {chain} {rule}")),
            Some(comment) => {
                let rest = format_args!(" {chain} {rule} comment \"{comment}\"");
                self.line("add", "rule", &rest);
            }
        }
    }

    /// `add set` or `add map`; `body` stands between the braces.
    pub fn add_container(&mut self, kind: Kind, name: &str, body: &str) {
        let rest = format_args!(" {name} {{ {body} ; }}");
        self.line("add", kind.word(), &rest);
    }

    /// `flush set`, `flush map`.
    pub fn flush_container(&mut self, kind: Kind, name: &str) {
        self.line("flush", kind.word(), &format_args!(" {name}"));
    }

    /// `delete set`.
    pub fn delete_set(&mut self, name: &str) {
        self.line("delete", "set", &format_args!(" {name}"));
    }

    /// `add element`.
    pub fn add_element(&mut self, container: &str, e: Element<'_>) {
        let mut body = e.key.to_owned();
        if let Some(comment) = e.comment {
            let _ = write!(body, " comment \"{comment}\"");
        }
        if !e.value.is_empty() {
            let _ = write!(body, " : {}", e.value);
        }
        let rest = format_args!(" {container} {{ {body} }}");
        self.line("add", "element", &rest);
    }

    /// `delete element`: the key says which.
    pub fn delete_element(&mut self, container: &str, key: &str) {
        let rest = format_args!(" {container} {{ {key} }}");
        self.line("delete", "element", &rest);
    }
}
