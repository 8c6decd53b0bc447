//! A parsed document: nodes in one arena, each with its place.
//!
//! Flat on purpose: building, dropping and walking never recurse, aliases share the node that they
//! name, and 20 MB of Pods cost one allocation per table. Strings borrow from the input where no escape
//! forces a copy. Invariant: the graph has no cycle and no path longer than `DOCUMENT_DEPTH_MAX` (the
//! builder sees to both).

use core::ops::Range;
use std::borrow::Cow;
use std::sync::Arc;

use crate::base::Span;

use super::path;

/// The index of a node in its tree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct NodeId(pub(super) u32);

/// One value and where it stands.
#[derive(Clone, Debug)]
pub struct Node<'a> {
    /// 1-based line of the file.
    pub line: u32,
    /// 1-based column, in characters.
    pub column: u32,
    /// Byte offset of its first character in the file.
    pub start: u32,
    /// Byte offset behind its last character.
    pub end: u32,
    /// The value.
    pub value: Value<'a>,
}

/// What a node is, after YAML's scalar resolution.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// `null`, `~` or nothing.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer that fits.
    Int(i64),
    /// An integer that fits only without a sign.
    Uint(u64),
    /// Any other number.
    Float(f64),
    /// A string.
    Str(Cow<'a, str>),
    /// A list; the range is private to the tree, see [`Tree::items`].
    Seq(Range<u32>),
    /// An object; see [`Tree::entries`].
    Map(Range<u32>),
}

/// A key and its value. The key's node is always a string.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The key's node.
    pub key: NodeId,
    /// The value's node.
    pub value: NodeId,
}

/// The nodes of the documents of one piece of text.
#[derive(Debug)]
pub struct Tree<'a> {
    /// The file as the user named it.
    pub file: Arc<str>,
    /// The text that `start` and `end` count in.
    pub(super) text: &'a str,
    pub(super) nodes: Vec<Node<'a>>,
    pub(super) items: Vec<NodeId>,
    pub(super) entries: Vec<Entry>,
    pub(super) roots: Vec<NodeId>,
}

/// Stands in for an id of another tree.
const NONE: Node<'static> = Node {
    line: 0,
    column: 0,
    start: 0,
    end: 0,
    value: Value::Null,
};

impl<'a> Tree<'a> {
    /// The documents of this piece, in order.
    pub fn roots(&self) -> &[NodeId] {
        &self.roots
    }

    /// Every node, in the order of the text.
    pub(crate) fn all(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)).map(NodeId)
    }

    /// A node. An id of another tree gives a null without a place.
    pub fn node(&self, id: NodeId) -> &Node<'a> {
        self.nodes.get(id.0 as usize).unwrap_or(&NONE)
    }

    /// The value of a node.
    pub fn value(&self, id: NodeId) -> &Value<'a> {
        &self.node(id).value
    }

    /// The items of a list; none for anything else.
    pub fn items(&self, id: NodeId) -> &[NodeId] {
        match self.value(id) {
            Value::Seq(range) => slice(&self.items, range),
            _ => &[],
        }
    }

    /// The entries of an object in the order written; none for anything else.
    pub fn entries(&self, id: NodeId) -> &[Entry] {
        match self.value(id) {
            Value::Map(range) => slice(&self.entries, range),
            _ => &[],
        }
    }

    /// The string of a node.
    pub fn str(&self, id: NodeId) -> Option<&str> {
        match self.value(id) {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The entry of an object under `key`.
    pub fn entry(&self, id: NodeId, key: &str) -> Option<Entry> {
        self.entries(id)
            .iter()
            .copied()
            .find(|e| self.str(e.key) == Some(key))
    }

    /// The value of an object under `key`.
    pub fn get(&self, id: NodeId, key: &str) -> Option<NodeId> {
        self.entry(id, key).map(|e| e.value)
    }

    /// The node at a path such as `spec.podCIDRs[0]` or `metadata.annotations["a.b/c"]`, or the deepest
    /// node on the way to it that exists.
    pub fn lookup(&self, root: NodeId, path: &str) -> NodeId {
        self.try_lookup(root, path)
            .unwrap_or_else(|deepest| deepest)
    }

    /// As [`Tree::lookup`], telling whether the whole path exists.
    pub(crate) fn try_lookup(&self, root: NodeId, path: &str) -> Result<NodeId, NodeId> {
        let mut here = root;
        for segment in path::segments(path) {
            let next = match segment {
                path::Segment::Key(key) => self.get(here, key),
                path::Segment::Index(index) => self.items(here).get(index).copied(),
            };
            here = next.ok_or(here)?;
        }
        Ok(here)
    }

    /// The place of a node.
    pub fn span(&self, id: NodeId) -> Span {
        let node = self.node(id);
        Span::new(self.file.clone(), node.line, node.column)
    }

    /// The text of a node as written.
    pub fn source(&self, id: NodeId) -> &'a str {
        let node = self.node(id);
        self.text
            .get(node.start as usize..node.end as usize)
            .unwrap_or("")
    }

    /// What a node is, for "found ..." in a message.
    pub fn describe(&self, id: NodeId) -> String {
        match self.value(id) {
            Value::Null => "null".into(),
            Value::Bool(value) => match self.source(id) {
                "true" | "false" => format!("the boolean {value}"),
                // YAML 1.1's yes/no/on/off surprise people; show what became of them.
                written => format!("`{written}`, which YAML reads as the boolean {value}"),
            },
            Value::Int(_) | Value::Uint(_) => format!("the integer {}", self.source(id)),
            Value::Float(_) => format!("the number {}", self.source(id)),
            Value::Str(text) => format!("the string \"{}\"", shorten(text)),
            Value::Seq(_) => "a list".into(),
            Value::Map(_) => "an object".into(),
        }
    }
}

fn slice<'t, T>(table: &'t [T], range: &Range<u32>) -> &'t [T] {
    table
        .get(range.start as usize..range.end as usize)
        .unwrap_or_default()
}

/// The start of a text, on one line.
pub(super) fn shorten(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let mut short: String = text.chars().take(CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short.escape_debug().to_string().replace("\\'", "'")
}
