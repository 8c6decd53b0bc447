//! Elements of sets and maps, and finding them.
//!
//! Exact keys are found by hash of their bytes, intervals of one field by binary search,
//! concatenations with
//! intervals by trying those in turn. Knows no clock: whether an element has timed out is the
//! caller's to say.
//! Invariant: no two elements of a set have the same key; listing order is nft's (netlink.c, segtree.c).

use std::collections::BTreeMap;

use indexmap::IndexMap;
use smallvec::SmallVec;

use super::expr::{Stateful, Verdict};
use super::types::{Type, Value};

/// The bytes of a key: each field in network order, texts NUL padded, one after the other.
pub type Key = SmallVec<[u8; 24]>;

/// One field of an element's key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    /// One value.
    Value(Value),
    /// A prefix.
    Prefix(Value, u8),
    /// A range, both ends included.
    Range(Value, Value),
    /// `a | b` of an anonymous set, kept for printing as one number.
    Any,
}

/// What an element maps to.
#[derive(Clone, PartialEq, Debug)]
pub enum Data {
    /// A verdict.
    Verdict(Verdict),
    /// Values, one per field of the map's data type.
    Values(SmallVec<[Part; 1]>),
    /// An object's name.
    Object(Box<str>),
}

/// One element.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Element {
    /// The key, field by field; one [`Part::Any`] is the catch-all `*`.
    pub key: SmallVec<[Part; 1]>,
    /// Its own timeout in milliseconds.
    pub timeout: Option<u64>,
    /// Milliseconds left when it was listed.
    pub expires: Option<u64>,
    /// Its comment.
    pub comment: Option<Box<str>>,
    /// Its counter and the like.
    pub state: SmallVec<[Stateful; 1]>,
    /// What it maps to.
    pub data: Option<Data>,
}

impl Part {
    /// The lowest and the highest value as bytes of type `t`; None for the catch-all.
    pub fn bounds(&self, t: Type) -> Option<(Key, Key)> {
        let bytes = |v: &Value| {
            let mut out = Vec::new();
            t.key(v, &mut out);
            Key::from_vec(out)
        };
        match self {
            Part::Any => None,
            Part::Value(Value::Text(text, true)) => {
                let mut low = bytes(&Value::Text(text.clone(), false));
                let mut high = low.clone();
                low.iter_mut().skip(text.len()).for_each(|b| *b = 0);
                high.iter_mut().skip(text.len()).for_each(|b| *b = 0xff);
                Some((low, high))
            }
            Part::Value(v) => Some((bytes(v), bytes(v))),
            Part::Range(a, b) => Some((bytes(a), bytes(b))),
            Part::Prefix(v, len) => {
                let n = v.num()?;
                let host = u32::from(t.bits()).saturating_sub(u32::from(*len));
                let mask = 1u128.checked_shl(host).map_or(u128::MAX, |m| m - 1);
                Some((bytes(&Value::Num(n & !mask)), bytes(&Value::Num(n | mask))))
            }
        }
    }

    /// Whether it stands for exactly one value.
    pub fn is_exact(&self) -> bool {
        matches!(self, Part::Value(Value::Num(_) | Value::Text(_, false)))
    }
}

impl Element {
    /// An element with this key only.
    pub fn new(key: impl IntoIterator<Item = Part>) -> Self {
        Element {
            key: key.into_iter().collect(),
            ..Element::default()
        }
    }

    /// Whether it is the catch-all `*`.
    pub fn is_any(&self) -> bool {
        matches!(self.key.as_slice(), [Part::Any])
    }

    fn bounds(&self, types: &[Type]) -> Option<(Key, Key)> {
        let (mut low, mut high) = (Key::new(), Key::new());
        for (part, t) in self.key.iter().zip(types) {
            let (a, b) = part.bounds(*t)?;
            low.extend_from_slice(&a);
            high.extend_from_slice(&b);
        }
        (self.key.len() == types.len()).then_some((low, high))
    }
}

/// The lowest and highest bytes of every field of an element.
type Bounds = SmallVec<[(Key, Key); 4]>;

/// The elements of one set.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Elements {
    types: SmallVec<[Type; 4]>,
    exact: IndexMap<Key, Element, foldhash::fast::FixedState>,
    intervals: BTreeMap<Key, (Key, Element)>,
    boxes: Vec<(Bounds, Element)>,
    any: Option<Element>,
}

impl Elements {
    /// None yet, of a set whose key has these types.
    pub fn new(types: &[Type]) -> Self {
        Elements {
            types: types.iter().copied().collect(),
            ..Elements::default()
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.exact.len() + self.intervals.len() + self.boxes.len() + usize::from(self.any.is_some())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The key's types.
    pub fn types(&self) -> &[Type] {
        &self.types
    }

    /// The bytes of a key from its values.
    pub fn key_of(&self, values: &[Value]) -> Key {
        let mut out = Vec::with_capacity(24);
        for (v, t) in values.iter().zip(&self.types) {
            t.key(v, &mut out);
        }
        Key::from_vec(out)
    }

    /// The element that a packet's key falls into; the catch-all if none does (nft_set_lookup_catchall).
    pub fn find(&self, key: &[u8]) -> Option<&Element> {
        if let Some(e) = self.exact.get(key) {
            return Some(e);
        }
        let mut below = self
            .intervals
            .range::<[u8], _>((core::ops::Bound::Unbounded, core::ops::Bound::Included(key)));
        if let Some((_, (high, e))) = below.next_back()
            && key <= high.as_slice()
        {
            return Some(e);
        }
        self.find_box(key).or(self.any.as_ref())
    }

    fn find_box(&self, key: &[u8]) -> Option<&Element> {
        let inside = |fields: &[(Key, Key)]| {
            let mut at = 0usize;
            fields.iter().all(|(low, high)| {
                let part = key.get(at..at + low.len());
                at += low.len();
                part.is_some_and(|p| low.as_slice() <= p && p <= high.as_slice())
            })
        };
        self.boxes.iter().find(|b| inside(&b.0)).map(|b| &b.1)
    }

    /// The element with exactly this key (the key as it was given, not one it falls into), for changes.
    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut Element> {
        if self.exact.contains_key(key) {
            return self.exact.get_mut(key);
        }
        self.intervals
            .get_mut(key)
            .filter(|(high, _)| high.as_slice() == key)
            .map(|(_, e)| e)
    }

    /// Puts an element in. `Err` gives it back if its key is there already or overlaps another's
    /// (kernel: EEXIST); the caller says whether that is an error.
    pub fn insert(&mut self, element: Element) -> Result<(), Box<Element>> {
        if element.is_any() {
            return match self.any {
                Some(_) => Err(Box::new(element)),
                None => {
                    self.any = Some(element);
                    Ok(())
                }
            };
        }
        let Some((low, high)) = element.bounds(&self.types) else {
            return Err(Box::new(element));
        };
        if low == high {
            return self.insert_exact(low, element);
        }
        if self.types.len() > 1 {
            return self.insert_box(element);
        }
        let last = self.intervals.range(..=high.clone()).next_back();
        if last.is_some_and(|(_, (end, _))| *end >= low) {
            return Err(Box::new(element));
        }
        self.intervals.insert(low, (high, element));
        Ok(())
    }

    fn insert_exact(&mut self, key: Key, element: Element) -> Result<(), Box<Element>> {
        if self.exact.contains_key(&key) {
            return Err(Box::new(element));
        }
        self.exact.insert(key, element);
        Ok(())
    }

    fn insert_box(&mut self, element: Element) -> Result<(), Box<Element>> {
        let fields: Option<SmallVec<_>> = element
            .key
            .iter()
            .zip(&self.types)
            .map(|(p, t)| p.bounds(*t))
            .collect();
        match fields {
            Some(f) if !self.boxes.iter().any(|b| b.0 == f) => {
                self.boxes.push((f, element));
                Ok(())
            }
            _ => Err(Box::new(element)),
        }
    }

    /// The element with the same key as `like`.
    pub fn same(&self, like: &Element) -> Option<&Element> {
        if like.is_any() {
            return self.any.as_ref();
        }
        let (low, high) = like.bounds(&self.types)?;
        if low == high {
            return self.exact.get(&low);
        }
        if self.types.len() > 1 {
            return self
                .boxes
                .iter()
                .map(|b| &b.1)
                .find(|e| e.bounds(&self.types).as_ref() == Some(&(low.clone(), high.clone())));
        }
        self.intervals
            .get(&low)
            .filter(|i| i.0 == high)
            .map(|i| &i.1)
    }

    /// Takes the element with the same key as `like` out.
    pub fn remove(&mut self, like: &Element) -> Option<Element> {
        if like.is_any() {
            return self.any.take();
        }
        let (low, high) = like.bounds(&self.types)?;
        if low == high {
            return self.exact.swap_remove(&low);
        }
        if self.types.len() > 1 {
            let types = self.types.clone();
            let at = self
                .boxes
                .iter()
                .position(|b| b.1.bounds(&types).as_ref() == Some(&(low.clone(), high.clone())))?;
            return Some(self.boxes.remove(at).1);
        }
        if self.intervals.get(&low).is_none_or(|i| i.0 != high) {
            return None;
        }
        self.intervals.remove(&low).map(|i| i.1)
    }

    /// All out.
    pub fn clear(&mut self) {
        self.exact.clear();
        self.intervals.clear();
        self.boxes.clear();
        self.any = None;
    }

    /// Joins intervals that touch (`auto-merge`); elements with options stay as they are.
    pub(super) fn merge(&mut self) {
        let [t] = self.types.as_slice() else { return };
        let t = *t;
        let mut parts = Vec::new();
        let plain = |e: &Element| {
            e.timeout.is_none() && e.comment.is_none() && e.state.is_empty() && e.data.is_none()
        };
        for e in self.iter().filter(|e| plain(e) && !e.is_any()) {
            if let Some((low, high)) = e.bounds(&self.types) {
                let number = |k: &[u8]| k.iter().fold(0u128, |n, b| n << 8 | u128::from(*b));
                parts.push((number(&low), number(&high)));
            }
        }
        let before = parts.len();
        super::normal::join(&mut parts);
        if parts.len() == before || t.is_text() {
            return;
        }
        self.retain(|e| !plain(e) || e.is_any());
        for (low, high) in parts {
            let _ = self.insert(Element::new([super::normal::interval(t, low, high)]));
        }
    }

    /// Takes an element in that overlaps others, all of them joined.
    pub(super) fn absorb(&mut self, element: Element) {
        let Some((low, high)) = element.bounds(&self.types) else {
            return;
        };
        let types = self.types.clone();
        let mut ends = (low, high);
        let mut hit = Vec::new();
        for e in self.iter() {
            if let Some((a, b)) = e.bounds(&types)
                && a <= ends.1
                && ends.0 <= b
            {
                hit.push(e.clone());
            }
        }
        for e in hit {
            if let Some((a, b)) = e.bounds(&types) {
                ends = (ends.0.min(a), ends.1.max(b));
            }
            self.remove(&e);
        }
        let number = |k: &[u8]| k.iter().fold(0u128, |n, b| n << 8 | u128::from(*b));
        if let [t] = types.as_slice() {
            let _ = self.insert(Element::new([super::normal::interval(
                *t,
                number(&ends.0),
                number(&ends.1),
            )]));
        }
    }

    /// All of them in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &Element> {
        self.exact
            .values()
            .chain(self.intervals.values().map(|i| &i.1))
            .chain(self.boxes.iter().map(|b| &b.1))
            .chain(self.any.as_ref())
    }

    /// All of them, for changes of their state; keys must stay.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Element> {
        self.exact
            .values_mut()
            .chain(self.intervals.values_mut().map(|i| &mut i.1))
            .chain(self.boxes.iter_mut().map(|b| &mut b.1))
            .chain(self.any.as_mut())
    }

    /// Keeps those that `keep` says.
    pub fn retain(&mut self, mut keep: impl FnMut(&Element) -> bool) {
        self.exact.retain(|_, e| keep(e));
        self.intervals.retain(|_, i| keep(&i.1));
        self.boxes.retain(|b| keep(&b.1));
        if self.any.as_ref().is_some_and(|e| !keep(e)) {
            self.any = None;
        }
    }

    /// In the order in which `nft list` prints them.
    pub fn listed(&self) -> Vec<&Element> {
        let mut all: Vec<_> = self.iter().collect();
        match self.types.as_slice() {
            // Names with wildcards are intervals, and those are sorted as texts.
            [t] if t.is_text() && !self.intervals.is_empty() => {
                all.sort_by_cached_key(|e| e.bounds(&self.types))
            }
            types => sort(types, &mut all),
        }
        all
    }
}

/// Sorts as nft does before printing (mergesort.c): one field by value; concatenations as one
/// number whose least
/// significant byte is the first in memory; the catch-all last.
pub fn sort(types: &[Type], elements: &mut [&Element]) {
    elements.sort_by_cached_key(|e| sort_key(types, e));
}

/// What elements are sorted by.
pub fn sort_key(types: &[Type], e: &Element) -> (bool, Vec<u8>, Vec<u8>) {
    let mut key = Vec::new();
    let mut width = Vec::new();
    for (part, t) in e.key.iter().zip(types) {
        let Some((low, high)) = part.bounds(*t) else {
            return (true, Vec::new(), Vec::new());
        };
        let swap = t.host_order();
        let as_is = |b: &[u8]| -> Vec<u8> {
            if swap {
                b.iter().rev().copied().collect()
            } else {
                b.to_vec()
            }
        };
        key.extend(as_is(&low));
        width.extend(as_is(&high));
    }
    if let [t] = types
        && t.is_flags()
        && let [Part::Value(Value::Num(n))] = e.key.as_slice()
    {
        // A combination is sorted by its first flag, in front of that flag alone
        // (`expr_msort_value` of a binop).
        let low = n & n.wrapping_neg();
        return (false, low.to_be_bytes().to_vec(), vec![u8::from(low == *n)]);
    }
    let text = matches!(types, [Type::IfName | Type::Text(_)]);
    let number = types.first().is_some_and(|t| t.host_order()) && !text;
    if types.len() > 1 || number {
        key.reverse();
        width.reverse();
    }
    (false, key, width)
}
