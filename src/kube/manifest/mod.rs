//! Documents with spans: YAML or JSON text to a tree whose every node knows its line and column, and
//! from there to any serde type with findings instead of a bare error.
//!
//! Reads what `kubectl` reads, the way it reads it: documents are split at `---` lines (apimachinery
//! `pkg/util/yaml/decoder.go`, `YAMLReader.Read`), scalars are resolved by go-yaml v2's YAML 1.1 rules
//! (`sigs.k8s.io/yaml/goyaml.v2/resolve.go`), field names are case-sensitive and values are not coerced
//! (the API server's strict JSON decoding). Does not know any kind. Invariant: no input panics, and
//! work is linear in the text plus the alias cap.

mod build;
mod de;
mod error;
mod input;
mod json;
mod path;
mod scalar;
mod split;
mod suggest;
mod tree;
mod typed;
mod yaml;

pub use input::Input;
pub use suggest::closest;
pub use tree::{Entry, Node, NodeId, Tree, Value};
pub use typed::{parse, typed};

use crate::base::Finding;
use split::Chunk;

/// What one piece of text between two `---` lines holds.
#[derive(Debug)]
pub struct Documents<'a> {
    /// The documents' nodes; [`Tree::roots`] lists them.
    pub tree: Tree<'a>,
    /// What is wrong with the text. Documents after the first syntax error of this piece are missing.
    pub findings: Vec<Finding>,
    /// What aliases of the input so far stand for, against `ALIAS_NODES_MAX`.
    expanded: u64,
}

/// Reads an input piece by piece, so that one bad document does not stop the others and only one
/// piece's tree is in memory.
pub fn documents<'a>(input: &'a Input) -> impl Iterator<Item = Documents<'a>> + 'a {
    let mut expanded = 0;
    split::split(&input.text).map(move |chunk| {
        let documents = read_chunk(input, chunk, expanded);
        expanded = documents.expanded;
        documents
    })
}

/// Reads a text that is known to be one piece, and that begins at `line` and `column` (1-based) of its file.
pub(crate) fn document_at(input: &Input, line: u32, column: u32) -> Documents<'_> {
    let (line, column) = (line.saturating_sub(1), column.saturating_sub(1));
    let base = split::Base {
        offset: 0,
        line,
        column,
    };
    read_chunk(input, Chunk::whole(&input.text, base), 0)
}

/// One piece, as JSON if it looks like JSON and as YAML otherwise (or if the JSON is really flow-style
/// YAML).
fn read_chunk<'a>(input: &'a Input, chunk: Chunk<'a>, expanded: u64) -> Documents<'a> {
    let builder = || build::Builder::new(&input.name, &input.text, chunk.base, expanded);
    let mut documents = if json::looks_like(chunk.text) {
        let json = json::read(chunk.text, builder());
        if json.findings.iter().any(Finding::is_error) && !json::is_certain(chunk.text) {
            yaml::read(chunk.text, builder())
        } else {
            json
        }
    } else {
        yaml::read(chunk.text, builder())
    };
    documents
        .findings
        .extend(chunk.separator_finding(&input.name));
    documents
}
