//! Builds a tree from the events of a reader (YAML or JSON).
//!
//! Here live the rules that both share: nesting and alias caps, keys become strings, a duplicate key is
//! an error, `<<` merges. A loop of references cannot be built, and an alias bomb is refused before it
//! can expand. Invariant: [`Builder::finish`] returns whole documents only; one that was cut off is
//! dropped.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::limits::{ALIAS_NODES_MAX, DOCUMENT_DEPTH_MAX};
use crate::base::{Finding, Span};

use super::Documents;
use super::split::Base;
use super::tree::{Entry, Node, NodeId, Tree, Value};

/// A place in the reader's text, absolute in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Byte offset.
    pub offset: u32,
    /// 1-based line.
    pub line: u32,
    /// 1-based column.
    pub column: u32,
}

/// Tells the reader to stop; the reason is already a finding.
#[derive(Debug)]
pub(super) struct Stop;

/// A list or an object that is still open.
#[derive(Debug)]
struct Frame {
    id: NodeId,
    is_map: bool,
    /// Where its children start in `scratch`.
    children: usize,
    anchor: usize,
    weight: Weight,
    end: u32,
}

/// How deep and how large a node is once its aliases are followed.
#[derive(Clone, Copy, Debug)]
struct Weight {
    height: usize,
    size: u64,
}

#[derive(Clone, Copy, Debug)]
enum Anchor {
    Open,
    Done(NodeId, Weight),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Builder<'a> {
    tree: Tree<'a>,
    /// Where the reader's text starts in the file.
    pub base: Base,
    open: Vec<Frame>,
    scratch: Vec<NodeId>,
    anchors: BTreeMap<usize, Anchor>,
    /// Nodes that aliases stand for beyond those written.
    expanded: u64,
    findings: Vec<Finding>,
}

impl<'a> Builder<'a> {
    /// `expanded` is what earlier pieces of the same input have used up of the alias cap.
    pub fn new(file: &Arc<str>, text: &'a str, base: Base, expanded: u64) -> Self {
        let (nodes, items, entries, roots) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let tree = Tree {
            file: file.clone(),
            text,
            nodes,
            items,
            entries,
            roots,
        };
        let (open, scratch, anchors, findings) =
            (Vec::new(), Vec::new(), BTreeMap::new(), Vec::new());
        Builder {
            tree,
            base,
            open,
            scratch,
            anchors,
            expanded,
            findings,
        }
    }

    /// The span of a place.
    pub fn span(&self, at: Place) -> Span {
        Span::new(self.tree.file.clone(), at.line, at.column)
    }

    /// Notes something that does not stop the reading.
    pub fn note(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Notes an error that does.
    pub fn stop(&mut self, at: Place, message: impl Into<String>, help: impl Into<String>) -> Stop {
        self.findings
            .push(Finding::error(self.span(at), message, help));
        Stop
    }

    /// A new document begins: anchors do not cross.
    pub fn document(&mut self) {
        self.anchors.clear();
    }

    /// Whether the next scalar is a key.
    fn at_key(&self) -> bool {
        self.open
            .last()
            .is_some_and(|f| f.is_map && (self.scratch.len() - f.children).is_multiple_of(2))
    }

    fn push_node(&mut self, at: Place, end: u32, value: Value<'a>) -> Result<NodeId, Stop> {
        let Ok(id) = u32::try_from(self.tree.nodes.len()) else {
            return Err(self.stop(
                at,
                "the document has more than 4 billion values",
                "split it",
            ));
        };
        let Place {
            offset: start,
            line,
            column,
        } = at;
        self.tree.nodes.push(Node {
            line,
            column,
            start,
            end,
            value,
        });
        Ok(NodeId(id))
    }

    /// A scalar; `anchor` 0 is none.
    pub fn scalar(
        &mut self,
        at: Place,
        end: u32,
        value: Value<'a>,
        anchor: usize,
    ) -> Result<(), Stop> {
        let value = if self.at_key() {
            self.key(at, end, value)?
        } else {
            value
        };
        let id = self.push_node(at, end, value)?;
        let weight = Weight { height: 0, size: 1 };
        if anchor != 0 {
            self.anchors.insert(anchor, Anchor::Done(id, weight));
        }
        self.attach(id, weight, end);
        Ok(())
    }

    /// Keys are strings in JSON; others become what sigs.k8s.io/yaml makes of them
    /// (`yaml.go`, `convertToJSONableObject`).
    fn key(&mut self, at: Place, end: u32, value: Value<'a>) -> Result<Value<'a>, Stop> {
        let text = match value {
            Value::Str(_) => return Ok(value),
            Value::Bool(value) => {
                let written = self
                    .tree
                    .text
                    .get(at.offset as usize..end as usize)
                    .unwrap_or_default();
                if written != "true" && written != "false" {
                    let message =
                        format!("the key `{written}` is a boolean in YAML and becomes \"{value}\"");
                    let help = format!("write \"{written}\" in quotes to keep it");
                    self.findings
                        .push(Finding::warning(self.span(at), message, help));
                }
                value.to_string()
            }
            Value::Int(value) => value.to_string(),
            Value::Uint(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            Value::Null | Value::Seq(_) | Value::Map(_) => {
                let message = "expected a field name, found null";
                return Err(self.stop(at, message, "write the name in front of the `:`"));
            }
        };
        Ok(Value::Str(Cow::Owned(text)))
    }

    /// A list or an object opens.
    pub fn open(&mut self, at: Place, is_map: bool, anchor: usize) -> Result<(), Stop> {
        if self.at_key() {
            return Err(self.stop(at, "expected a field name, found a list or an object", ""));
        }
        if self.open.len() >= DOCUMENT_DEPTH_MAX {
            return Err(self.too_deep(at));
        }
        let id = self.push_node(at, at.offset, Value::Null)?;
        if anchor != 0 {
            self.anchors.insert(anchor, Anchor::Open);
        }
        let (children, weight) = (self.scratch.len(), Weight { height: 1, size: 1 });
        self.open.push(Frame {
            id,
            is_map,
            children,
            anchor,
            weight,
            end: at.offset,
        });
        Ok(())
    }

    fn too_deep(&mut self, at: Place) -> Stop {
        self.stop(
            at,
            format!("nested deeper than {DOCUMENT_DEPTH_MAX} levels"),
            "no Kubernetes object is",
        )
    }

    /// The last opened list or object closes; `end` is where its bracket does, if it has one.
    pub fn close(&mut self, end: Option<u32>) -> Result<(), Stop> {
        let Some(frame) = self.open.pop() else {
            return Ok(());
        };
        let children = self.scratch.split_off(frame.children);
        let value = if frame.is_map {
            self.map(&children)?
        } else {
            self.seq(&children)
        };
        let end = end.unwrap_or(frame.end);
        if let Some(node) = self.tree.nodes.get_mut(frame.id.0 as usize) {
            node.value = value;
            node.end = end;
        }
        if frame.anchor != 0 {
            self.anchors
                .insert(frame.anchor, Anchor::Done(frame.id, frame.weight));
        }
        self.attach(frame.id, frame.weight, end);
        Ok(())
    }

    /// A reference to an anchored node.
    pub fn alias(&mut self, at: Place, end: u32, anchor: usize, written: &str) -> Result<(), Stop> {
        let (id, weight) = match self.anchors.get(&anchor) {
            Some(Anchor::Done(id, weight)) => (*id, *weight),
            Some(Anchor::Open) => {
                let message =
                    format!("a loop of references: `{written}` stands inside the value it names");
                return Err(self.stop(at, message, "remove the alias, or name a value outside"));
            }
            None => return Err(self.unknown_alias(at, written)),
        };
        self.expanded = self.expanded.saturating_add(weight.size);
        if self.expanded > ALIAS_NODES_MAX {
            let message =
                format!("aliases expand to more than {ALIAS_NODES_MAX} values at `{written}`");
            return Err(self.stop(
                at,
                message,
                "this looks like an alias bomb; write the values out",
            ));
        }
        if self.open.len() + weight.height > DOCUMENT_DEPTH_MAX {
            return Err(self.too_deep(at));
        }
        if self.at_key() && self.tree.str(id).is_none() {
            return Err(self.stop(
                at,
                format!("expected a field name, found the alias `{written}`"),
                "",
            ));
        }
        self.attach(id, weight, end);
        Ok(())
    }

    /// An alias whose anchor was not seen.
    pub fn unknown_alias(&mut self, at: Place, written: &str) -> Stop {
        let name = written.trim_start_matches('*');
        self.stop(
            at,
            format!("no anchor `&{name}` before the alias `*{name}`"),
            "anchors do not cross `---`",
        )
    }

    /// Gives a finished node to what it stands in.
    fn attach(&mut self, id: NodeId, weight: Weight, end: u32) {
        let Some(frame) = self.open.last_mut() else {
            self.tree.roots.push(id);
            return;
        };
        frame.weight.height = frame.weight.height.max(weight.height + 1);
        frame.weight.size = frame.weight.size.saturating_add(weight.size);
        frame.end = frame.end.max(end);
        self.scratch.push(id);
    }

    fn seq(&mut self, children: &[NodeId]) -> Value<'a> {
        let start = self.tree.items.len() as u32;
        self.tree.items.extend_from_slice(children);
        Value::Seq(start..self.tree.items.len() as u32)
    }

    fn map(&mut self, children: &[NodeId]) -> Result<Value<'a>, Stop> {
        let (pairs, _) = children.as_chunks::<2>();
        let start = self.tree.entries.len();
        self.tree
            .entries
            .extend(pairs.iter().map(|[key, value]| Entry {
                key: *key,
                value: *value,
            }));
        self.refuse_duplicates(start);
        self.merge(start)?;
        Ok(Value::Map(start as u32..self.tree.entries.len() as u32))
    }

    /// kubectl refuses a key that is set twice (`yaml: key "x" already set in map`); so do we, naming
    /// both.
    fn refuse_duplicates(&mut self, start: usize) {
        const LINEAR_MAX: usize = 12;
        let entries = self.tree.entries.get(start..).unwrap_or_default();
        let keys = entries
            .iter()
            .map(|e| self.tree.str(e.key).unwrap_or_default());
        let unique = if entries.len() <= LINEAR_MAX {
            keys.clone()
                .enumerate()
                .all(|(i, key)| keys.clone().skip(i + 1).all(|other| other != key))
        } else {
            keys.clone().collect::<BTreeSet<_>>().len() == entries.len()
        };
        if unique {
            return;
        }
        let mut first: BTreeMap<&str, NodeId> = BTreeMap::new();
        let mut findings = Vec::new();
        for (entry, key) in entries.iter().zip(keys) {
            if let Some(before) = first.get(key) {
                let message = format!(
                    "the key `{key}` is already set at {}",
                    self.tree.span(*before)
                );
                let help = "remove one of the two; until then the first one is used";
                findings.push(Finding::error(self.tree.span(entry.key), message, help));
            } else {
                first.insert(key, entry.key);
            }
        }
        self.findings.extend(findings);
    }

    /// YAML 1.1 merge keys (yaml.org/type/merge.html): `<<: *base` adds the base's fields that are not
    /// set here.
    fn merge(&mut self, start: usize) -> Result<(), Stop> {
        let own = self.tree.entries.get(start..).unwrap_or_default();
        let is_merge =
            |e: &Entry| self.tree.str(e.key) == Some("<<") && self.tree.source(e.key) == "<<";
        let Some(position) = own.iter().position(is_merge) else {
            return Ok(());
        };
        let merged = self.tree.entries.remove(start + position);
        let bases: Vec<NodeId> = match self.tree.value(merged.value) {
            Value::Seq(_) => self.tree.items(merged.value).to_vec(),
            _ => vec![merged.value],
        };
        if let Some(base) = bases
            .iter()
            .find(|id| !matches!(self.tree.value(**id), Value::Map(_)))
        {
            let node = self.tree.node(merged.key);
            let at = Place {
                offset: node.start,
                line: node.line,
                column: node.column,
            };
            let message = format!(
                "expected an object to merge with `<<`, found {}",
                self.tree.describe(*base)
            );
            return Err(self.stop(at, message, ""));
        }
        let own = self.tree.entries.get(start..).unwrap_or_default();
        let mut set: BTreeSet<&str> = own.iter().filter_map(|e| self.tree.str(e.key)).collect();
        let all = bases.iter().flat_map(|base| self.tree.entries(*base));
        // An earlier base wins over a later one, the object itself over both.
        let new = |e: &&Entry| self.tree.str(e.key).is_some_and(|key| set.insert(key));
        let added: Vec<Entry> = all.filter(new).copied().collect();
        self.tree.entries.extend(added);
        Ok(())
    }

    /// The documents that are whole, and what was wrong.
    pub fn finish(self) -> Documents<'a> {
        Documents {
            tree: self.tree,
            findings: self.findings,
            expanded: self.expanded,
        }
    }
}
