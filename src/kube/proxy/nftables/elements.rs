//! What kube-proxy remembers of a set's or map's elements, to write only what differs.
//!
//! kubernetes `pkg/proxy/nftables/proxier.go` (nftElementStorage). Invariant: after [`Elements::end`] the
//! elements are those that were asked for since the last one.

use std::collections::{BTreeMap, BTreeSet};

use super::tx::{Element, Kind, Tx};

/// The elements of one set or map.
#[derive(Clone, Debug)]
pub(super) struct Elements {
    kind: Kind,
    name: &'static str,
    /// Key to value.
    held: BTreeMap<String, String>,
    /// Keys that this sync has not asked for yet.
    left_over: BTreeSet<String>,
}

impl Elements {
    pub fn new(kind: Kind, name: &'static str) -> Self {
        Elements {
            kind,
            name,
            held: BTreeMap::new(),
            left_over: BTreeSet::new(),
        }
    }

    /// Empties it, there and here.
    pub fn reset(&mut self, tx: &mut Tx) {
        self.held.clear();
        self.left_over.clear();
        tx.flush_container(self.kind, self.name);
    }

    /// Has to be there after this sync.
    pub fn ensure(&mut self, tx: &mut Tx, e: Element<'_>) {
        self.left_over.remove(e.key);
        match self.held.get(e.key) {
            Some(value) if value == e.value => return,
            // A key cannot be given another value.
            Some(_) => tx.delete_element(self.name, e.key),
            None => {}
        }
        tx.add_element(self.name, e);
        self.held.insert(e.key.to_owned(), e.value.to_owned());
    }

    /// Deletes what this sync did not ask for.
    pub fn end(&mut self, tx: &mut Tx) {
        for key in core::mem::take(&mut self.left_over) {
            tx.delete_element(self.name, &key);
            self.held.remove(&key);
        }
        self.left_over = self.held.keys().cloned().collect();
    }
}
