//! All sets of a namespace: create, destroy, rename, swap, flush, and who refers to whom.
//!
//! Kernel: ip_set_core.c `ip_set_create` ... `ip_set_swap`. Reads no words. Invariant: every member of a
//! list:set
//! names a set that exists.

use std::sync::Arc;

use foldhash::fast::FixedState;
use indexmap::IndexMap;

use super::element::Element;
use super::header::Header;
use super::kind::{Kind, Method};
use super::member::Member;
use super::store::Store;
use super::wrong::Refused;
use crate::base::Instant;
use crate::base::limits::IPSET_SETS_MAX;
use crate::nf::Family;

/// A set whose type is not known: kept as it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnknownSet {
    /// The type's name.
    pub kind: Box<str>,
    /// The options, as they stood.
    pub options: Box<str>,
    /// What was added: the words after the set's name, as they stood.
    pub lines: Vec<Box<str>>,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Store(Header, Store),
    List(Header, Vec<Member>),
    Unknown(UnknownSet),
}

/// One set.
#[derive(Clone, Debug)]
pub struct Set {
    pub(super) content: Content,
    /// References of rules.
    held: u32,
}

impl Set {
    /// An empty set.
    pub(super) fn new(header: Header) -> Self {
        let content = match header.kind.method() {
            Method::List => Content::List(header, Vec::new()),
            _ => {
                let store = Store::new(header.kind);
                Content::Store(header, store)
            }
        };
        Set { content, held: 0 }
    }

    /// A set of a type that is not known.
    pub(super) fn unknown(set: UnknownSet) -> Self {
        Set {
            content: Content::Unknown(set),
            held: 0,
        }
    }

    /// Type and options; none if the type is not known.
    pub fn header(&self) -> Option<&Header> {
        match &self.content {
            Content::Store(header, _) | Content::List(header, _) => Some(header),
            Content::Unknown(_) => None,
        }
    }

    /// The type's name.
    pub fn type_name(&self) -> &str {
        match &self.content {
            Content::Unknown(set) => &set.kind,
            Content::Store(header, _) | Content::List(header, _) => header.kind.name(),
        }
    }

    /// The type; none if it is not known.
    pub fn kind(&self) -> Option<Kind> {
        self.header().map(|h| h.kind)
    }

    /// Family of its addresses, if it has one (the rule's must be the same).
    pub fn family(&self) -> Option<Family> {
        let header = self.header()?;
        (!header.kind.any_family()).then_some(header.family)
    }

    /// The elements there are at `now`, as they are listed: of a hash in order of arrival (the kernel's
    /// order is
    /// its hash's, which depends on a random seed), of a bitmap in the kernel's own.
    pub fn elements(&self, now: Instant) -> Vec<&Element> {
        match &self.content {
            Content::Store(header, store) => {
                let by_key = header.kind.method() == Method::Bitmap;
                store.elements.sorted(by_key, now)
            }
            _ => Vec::new(),
        }
    }

    /// The members of a list:set at `now`, in order.
    pub fn members(&self, now: Instant) -> impl Iterator<Item = &Member> {
        let all = match &self.content {
            Content::List(_, members) => members.as_slice(),
            _ => &[],
        };
        all.iter().filter(move |m| m.ext.timeout.live(now))
    }

    /// How many elements or members there are at `now`.
    pub fn len(&self, now: Instant) -> usize {
        match &self.content {
            Content::Store(..) => self.elements(now).len(),
            Content::List(..) => self.members(now).count(),
            Content::Unknown(set) => set.lines.len(),
        }
    }

    /// Whether there is nothing in it at `now`.
    pub fn is_empty(&self, now: Instant) -> bool {
        self.len(now) == 0
    }

    fn flush(&mut self, now: Instant) {
        match &mut self.content {
            Content::Store(header, store) => store.flush(header, now),
            Content::List(_, members) => members.clear(),
            Content::Unknown(set) => set.lines.clear(),
        }
    }
}

/// The sets of one namespace.
#[derive(Clone, Debug, Default)]
pub struct Sets {
    pub(super) sets: IndexMap<Arc<str>, Set, FixedState>,
}

impl Sets {
    /// None yet.
    pub fn new() -> Self {
        Sets::default()
    }

    /// The set of this name.
    pub fn get(&self, name: &str) -> Option<&Set> {
        self.sets.get(name)
    }

    /// Every set as `ipset save` orders them: by creation, list:set last (kernel: IPSET_DUMP_LAST).
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Set)> {
        let list = |s: &Set| s.kind() == Some(Kind::ListSet);
        let first = self.sets.iter().filter(move |(_, s)| !list(s));
        let last = self.sets.iter().filter(move |(_, s)| list(s));
        first.chain(last).map(|(name, set)| (&**name, set))
    }

    /// How many sets there are.
    pub fn len(&self) -> usize {
        self.sets.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// How many list:sets and rules refer to a set; `ipset list` prints it.
    pub fn references(&self, name: &str) -> u32 {
        let has = |s: &&Set| match &s.content {
            Content::List(_, members) => members.iter().any(|m| &*m.name == name),
            _ => false,
        };
        let lists = self.sets.values().filter(has).count();
        let held = self.sets.get(name).map_or(0, |s| s.held);
        held.saturating_add(u32::try_from(lists).unwrap_or(u32::MAX))
    }

    /// A rule refers to a set (kernel: `ip_set_nfnl_get_byindex`). False if there is none of this name:
    /// the rule
    /// cannot be added then.
    pub fn hold(&mut self, name: &str) -> bool {
        let set = self.sets.get_mut(name);
        set.map(|s| s.held = s.held.saturating_add(1)).is_some()
    }

    /// A rule that referred to a set is gone.
    pub fn release(&mut self, name: &str) {
        if let Some(set) = self.sets.get_mut(name) {
            set.held = set.held.saturating_sub(1);
        }
    }

    /// Creates a set; with `exist` an equal one that is there is left as it is.
    pub(super) fn create(&mut self, name: &str, set: Set, exist: bool) -> Result<(), Refused> {
        if let Some(old) = self.sets.get(name) {
            let same = match (old.header(), set.header()) {
                (Some(a), Some(b)) => a.same(b),
                (None, None) => old.type_name() == set.type_name(),
                _ => false,
            };
            return match exist && same {
                true => Ok(()),
                false => Err(Refused::SetExists),
            };
        }
        if self.sets.len() >= IPSET_SETS_MAX {
            return Err(Refused::TooMany);
        }
        self.sets.insert(name.into(), set);
        Ok(())
    }

    /// Destroys one set, or all: nothing is done if a rule or a list that stays refers to one of them.
    pub(super) fn destroy(&mut self, name: Option<&str>) -> Result<(), Refused> {
        let Some(name) = name else {
            if self.sets.values().any(|s| s.held > 0)
                || self.sets.keys().any(|n| self.references(n) > 0)
            {
                return Err(Refused::Busy);
            }
            self.sets.clear();
            return Ok(());
        };
        if !self.sets.contains_key(name) {
            return Err(Refused::NoSuchSet);
        }
        if self.references(name) > 0 {
            return Err(Refused::Busy);
        }
        self.sets.shift_remove(name);
        Ok(())
    }

    /// Empties one set, or all.
    pub(super) fn flush(&mut self, name: Option<&str>, now: Instant) -> Result<(), Refused> {
        match name {
            None => self.sets.values_mut().for_each(|s| s.flush(now)),
            Some(name) => {
                let set = self.sets.get_mut(name).ok_or(Refused::NoSuchSet)?;
                set.flush(now);
            }
        }
        Ok(())
    }

    /// Renames a set that nothing refers to.
    pub(super) fn rename(&mut self, from: &str, to: &str) -> Result<(), Refused> {
        let at = self.sets.get_index_of(from).ok_or(Refused::NoSuchSet)?;
        if self.references(from) > 0 {
            return Err(Refused::Referenced);
        }
        if self.sets.contains_key(to) {
            return Err(Refused::SetExists);
        }
        if let Some(set) = self.sets.shift_remove(from) {
            self.sets.shift_insert(at, to.into(), set);
        }
        Ok(())
    }

    /// Exchanges what is behind two names; references stay with the names.
    pub(super) fn swap(&mut self, a: &str, b: &str) -> Result<(), Refused> {
        let at = |n| self.sets.get_index_of(n).ok_or(Refused::NoSuchSet);
        let (a, b) = (at(a)?, at(b)?);
        let of = |at| {
            self.sets
                .get_index(at)
                .and_then(|(_, s): (_, &Set)| s.header())
        };
        let fits = match (of(a), of(b)) {
            (Some(x), Some(y)) => x.kind.same_features(y.kind) && x.family == y.family,
            _ => false,
        };
        if !fits {
            return Err(Refused::TypeMismatch);
        }
        if a != b
            && let Ok([(_, x), (_, y)]) = self.sets.get_disjoint_indices_mut([a, b])
        {
            core::mem::swap(&mut x.content, &mut y.content);
        }
        Ok(())
    }
}
