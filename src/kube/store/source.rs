//! Where an object stands, and from there the place of any of its fields.
//!
//! Trees are dropped after typing. The few fields that traces point at are remembered (12 bytes each,
//! listed per kind in `kinds.rs`); any other field's place is found by parsing the object's own text
//! again, which costs tens of microseconds and no memory. Invariant: `text` is a slice of the input,
//! never a copy.

use core::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::base::{Finding, Origin, Span};
use crate::kube::manifest::{self, Documents, Input, NodeId, Tree, Value};

/// A remembered field: its index in the kind's list, line and column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Point {
    field: u32,
    line: u32,
    column: u32,
}

/// An object's place in an input, and a hold on its text.
#[derive(Clone)]
pub struct Source {
    input: Input,
    line: u32,
    column: u32,
    start: u32,
    end: u32,
    fields: &'static [&'static str],
    points: Box<[Point]>,
}

impl Source {
    /// The source of the object at `id`; the places of `fields` are remembered.
    pub(super) fn new(
        input: &Input,
        tree: &Tree<'_>,
        id: NodeId,
        fields: &'static [&'static str],
    ) -> Self {
        let node = tree.node(id);
        let point = |(field, path): (u32, &&str)| {
            let found = tree.node(tree.try_lookup(id, path).ok()?);
            Some(Point {
                field,
                line: found.line,
                column: found.column,
            })
        };
        let points = (0..).zip(fields).filter_map(point).collect();
        let (line, column, start, end) = (node.line, node.column, node.start, node.end);
        Source {
            input: input.clone(),
            line,
            column,
            start,
            end,
            fields,
            points,
        }
    }

    /// The object's first character.
    pub fn span(&self) -> Span {
        Span::new(self.input.name.clone(), self.line, self.column)
    }

    /// The object's text as written.
    pub fn text(&self) -> &str {
        self.input
            .text
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }

    /// The place of the object as an origin.
    pub fn origin(&self) -> Origin {
        origin(self.span())
    }

    /// The place of a field such as `spec.podCIDRs[0]` or `data["net-conf.json"]`; of the nearest
    /// enclosing one if it is not written.
    pub fn origin_of(&self, path: &str) -> Origin {
        origin(self.span_of(path))
    }

    /// As [`Source::origin_of`], for findings.
    pub fn span_of(&self, path: &str) -> Span {
        let known = self
            .points
            .iter()
            .find(|p| self.fields.get(p.field as usize) == Some(&path));
        if let Some(point) = known {
            return Span::new(self.input.name.clone(), point.line, point.column);
        }
        self.with_tree(|tree, id| tree.span(tree.lookup(id, path)))
            .unwrap_or_else(|| self.span())
    }

    /// The places of several fields, for the price of one: the text is parsed once.
    pub fn origins_of(&self, paths: &[String]) -> Vec<Origin> {
        let places = self.with_tree(|tree, id| {
            let place = |path: &String| origin(tree.span(tree.lookup(id, path)));
            paths.iter().map(place).collect()
        });
        places.unwrap_or_else(|| paths.iter().map(|_| self.origin()).collect())
    }

    /// Whether an object without any field is written at `path`.
    pub(crate) fn is_written_empty(&self, path: &str) -> bool {
        let empty = |tree: &Tree<'_>, id| match tree.try_lookup(id, path) {
            Ok(node) => matches!(tree.value(node), Value::Map(_)) && tree.entries(node).is_empty(),
            Err(_) => false,
        };
        self.with_tree(empty).unwrap_or_default()
    }

    /// Reads the object's text as a `T`: for kinds that the store keeps raw.
    pub fn parse<T: DeserializeOwned>(&self) -> (Option<T>, Vec<Finding>) {
        self.with_tree(|tree, id| manifest::typed(tree, id))
            .unwrap_or_default()
    }

    /// Parses the object's text again. Aliases may point out of it; then the whole file is read.
    fn with_tree<R>(&self, read: impl Fn(&Tree<'_>, NodeId) -> R) -> Option<R> {
        let (text, column) = if self.text().starts_with('{') {
            (Arc::from(self.text()), self.column)
        } else {
            // The first line's own indentation makes a block inside a list a document by itself.
            let indent = " ".repeat(self.column.saturating_sub(1) as usize);
            (Arc::from(indent + self.text()), 1)
        };
        let alone = Input {
            name: self.input.name.clone(),
            text,
        };
        let Documents { tree, findings, .. } = manifest::document_at(&alone, self.line, column);
        if let (Some(root), false) = (tree.roots().first(), findings.iter().any(Finding::is_error))
        {
            return Some(read(&tree, *root));
        }
        manifest::documents(&self.input).find_map(|Documents { tree, .. }| {
            let is_this = |id: &NodeId| {
                let node = tree.node(*id);
                matches!(node.value, Value::Map(_))
                    && (node.start, node.end) == (self.start, self.end)
            };
            let id = tree.all().find(is_this)?;
            Some(read(&tree, id))
        })
    }
}

impl fmt::Debug for Source {
    /// The place only: the text is a whole file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({})", self.span())
    }
}

fn origin(span: Span) -> Origin {
    Origin::Manifest {
        file: span.file,
        line: span.line,
        column: span.column,
    }
}
