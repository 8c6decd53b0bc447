//! From a node to a typed value, reporting every wrong field and not only the first.
//!
//! serde stops at the first error, so an object with errors is read again with the refused field left
//! out, up to `FIELD_ERRORS_MAX` times. Objects without errors are read once.

use std::cell::RefCell;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::base::Finding;
use crate::base::limits::FIELD_ERRORS_MAX;

use super::de::{De, Pass};
use super::error::{Error, Mismatch};
use super::tree::{NodeId, Tree, Value};
use super::{Input, documents};

/// Reads a node as a `T`. Wrong fields are errors and left out of the result where `T` can do without
/// them; unknown fields are warnings.
pub fn typed<'de, T: Deserialize<'de>>(
    tree: &'de Tree<'de>,
    id: NodeId,
) -> (Option<T>, Vec<Finding>) {
    let mut pass = Pass {
        tree,
        refused: Vec::new(),
        warnings: RefCell::default(),
    };
    let mut errors: Vec<Finding> = Vec::new();
    let value = loop {
        pass.warnings.borrow_mut().clear();
        match T::deserialize(De {
            pass: &pass,
            id,
            path: None,
            quantity: false,
        }) {
            Ok(value) => break Some(value),
            Err(Error(mismatch)) => {
                let at = mismatch.at.unwrap_or(id);
                let again = at == id || pass.refused.contains(&at);
                if !is_consequence(tree, &pass.refused, at, &mismatch) {
                    errors.push(finding(tree, at, &mismatch));
                }
                if again || pass.refused.len() >= FIELD_ERRORS_MAX {
                    break None;
                }
                pass.refused.push(at);
            }
        }
    };
    if errors.len() >= FIELD_ERRORS_MAX {
        let message = format!("{FIELD_ERRORS_MAX} wrong fields in one object; more are not shown");
        errors.push(Finding::error(tree.span(id), message, ""));
    }
    let mut findings: Vec<Finding> = pass.warnings.into_inner().into_values().collect();
    findings.append(&mut errors);
    findings.sort_by_key(|finding| (finding.span.line, finding.span.column));
    (value, findings)
}

/// A missing field that is missing because it was refused.
fn is_consequence(tree: &Tree<'_>, refused: &[NodeId], at: NodeId, mismatch: &Mismatch) -> bool {
    mismatch.missing
        && tree
            .entries(at)
            .iter()
            .any(|entry| refused.contains(&entry.value))
}

fn finding(tree: &Tree<'_>, at: NodeId, mismatch: &Mismatch) -> Finding {
    let message = match mismatch.path.as_str() {
        "" => mismatch.message.clone(),
        path => format!("{path}: {}", mismatch.message),
    };
    Finding::error(tree.span(at), message, mismatch.help.clone())
}

/// Reads an input's only document as a `T`: for configuration inside ConfigMaps and for our own files.
pub fn parse<T: DeserializeOwned>(input: &Input) -> (Option<T>, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut result = None;
    for mut documents in documents(input) {
        findings.append(&mut documents.findings);
        for &root in documents.tree.roots() {
            if *documents.tree.value(root) == Value::Null {
                continue;
            }
            if result.is_some() {
                let message = "expected one document, found another";
                findings.push(Finding::error(
                    documents.tree.span(root),
                    message,
                    "remove one of them",
                ));
                continue;
            }
            let (value, mut more) = typed(&documents.tree, root);
            findings.append(&mut more);
            result = Some(value);
        }
    }
    (result.flatten(), findings)
}
