//! Identities: pods that no selector and no port name can tell apart share one.
//!
//! An identity is a namespace (by its labels), a set of pod labels and a set of named ports. Memory and
//! time of compiled policies follow identities, not pods. An index from labels to identities answers
//! selectors with a few set operations. Invariant: a number is taken exactly while a pod has the identity;
//! numbers are reused, the lowest first.

use std::sync::Arc;

use hashbrown::HashMap;

use super::bits::BitSet;
use super::model::NamespaceScope;
use super::pods::{METADATA_NAME, NamedPort, PolicyPod};
use super::selector::{Labels, Op, Requirement, Selector};

/// Hash maps without a per-run seed; their order never shows.
pub(super) type Map<K, V> = HashMap<K, V, foldhash::fast::FixedState>;

/// The number of an identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct IdentityId(pub u32);

/// What pods of one identity have in common.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Identity {
    /// Their namespace.
    pub namespace: String,
    /// Its labels.
    pub namespace_labels: Arc<Labels>,
    /// Their labels.
    pub labels: Arc<Labels>,
    /// Their named ports.
    pub ports: Vec<NamedPort>,
}

impl Identity {
    /// A pod's.
    pub fn of(pod: &PolicyPod) -> Identity {
        Identity {
            namespace: pod.name.namespace.clone(),
            namespace_labels: pod.namespace_labels.clone(),
            labels: pod.labels.clone(),
            ports: pod.ports.clone(),
        }
    }
}

/// Namespaces of a set of identities, independent of whoever asks.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Scope {
    /// Those whose labels match.
    Matching(Selector),
    /// This one.
    Named(String),
    /// Those that have all these labels, at least one with another value than this.
    Differing(Vec<(String, Option<String>)>),
    /// None.
    Nothing,
}

impl Scope {
    /// The namespaces that a peer or subject means for a pod of a namespace with the labels `relative_to`.
    pub fn of(scope: &NamespaceScope, relative_to: &Labels) -> Scope {
        let own = |key: &String| relative_to.get(key).cloned();
        match scope {
            NamespaceScope::Own(namespace) => Scope::Named(namespace.clone()),
            NamespaceScope::Matching(selector) => Scope::Matching(selector.clone()),
            // A label that the subject's namespace lacks is one whose value nobody shares.
            NamespaceScope::SameLabels(keys) => {
                let pairs: Option<Vec<_>> = keys
                    .iter()
                    .map(|key| Some((key.clone(), own(key)?)))
                    .collect();
                match pairs.filter(|pairs| !pairs.is_empty()) {
                    Some(pairs) => Scope::Matching(Selector::equal(pairs)),
                    None => Scope::Nothing,
                }
            }
            NamespaceScope::NotSameLabels(keys) => {
                Scope::Differing(keys.iter().map(|key| (key.clone(), own(key))).collect())
            }
        }
    }

    /// Whether what is meant depends on who asks.
    pub fn is_relative(scope: &NamespaceScope) -> bool {
        matches!(
            scope,
            NamespaceScope::SameLabels(_) | NamespaceScope::NotSameLabels(_)
        )
    }

    fn has(&self, identity: &Identity) -> bool {
        let labels = &identity.namespace_labels;
        match self {
            Scope::Matching(selector) => selector.matches(labels),
            Scope::Named(name) => identity.namespace == *name,
            Scope::Differing(pairs) => {
                pairs.iter().all(|(key, _)| labels.contains_key(key))
                    && pairs
                        .iter()
                        .any(|(key, value)| labels.get(key) != value.as_ref())
            }
            Scope::Nothing => false,
        }
    }
}

/// A set of identities by description.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SetKey {
    /// Their namespaces.
    pub scope: Scope,
    /// Their labels.
    pub pods: Selector,
}

impl SetKey {
    /// Whether an identity is in the set.
    pub fn has(&self, identity: &Identity) -> bool {
        self.scope.has(identity) && self.pods.matches(&identity.labels)
    }
}

/// Which identities have a label.
#[derive(Clone, Debug, Default)]
struct Index {
    keys: Map<String, Key>,
}

#[derive(Clone, Debug, Default)]
struct Key {
    any: BitSet,
    values: Map<String, BitSet>,
}

impl Index {
    fn add(&mut self, labels: &Labels, id: u32) {
        for (key, value) in labels {
            let entry = self.keys.entry_ref(key).or_default();
            entry.any.insert(id);
            entry.values.entry_ref(value).or_default().insert(id);
        }
    }

    fn remove(&mut self, labels: &Labels, id: u32) {
        for (key, value) in labels {
            let Some(entry) = self.keys.get_mut(key) else {
                continue;
            };
            entry.any.remove(id);
            if let Some(set) = entry.values.get_mut(value) {
                set.remove(id);
                if set.is_empty() {
                    entry.values.remove(value);
                }
            }
            if entry.any.is_empty() {
                self.keys.remove(key);
            }
        }
    }

    fn narrow(&self, requirement: &Requirement, set: &mut BitSet) {
        let key = self.keys.get(&requirement.key);
        let with = |values: &[String]| {
            let mut union = BitSet::new();
            for found in values.iter().filter_map(|value| key?.values.get(value)) {
                union.or(found);
            }
            union
        };
        match (&requirement.op, key) {
            (Op::In(values), _) => set.and(&with(values)),
            (Op::NotIn(values), _) => set.and_not(&with(values)),
            (Op::Exists, Some(key)) => set.and(&key.any),
            (Op::Exists, None) => *set = BitSet::new(),
            (Op::DoesNotExist, Some(key)) => set.and_not(&key.any),
            (Op::DoesNotExist, None) => {}
        }
    }

    fn narrow_all(&self, selector: &Selector, set: &mut BitSet) {
        selector
            .requirements()
            .iter()
            .for_each(|r| self.narrow(r, set));
    }
}

#[derive(Clone, Debug)]
struct Slot {
    identity: Arc<Identity>,
    pods: u32,
}

/// All identities that pods have.
#[derive(Clone, Debug, Default)]
pub struct Identities {
    slots: Vec<Option<Slot>>,
    numbers: Map<Arc<Identity>, IdentityId>,
    live: BitSet,
    free: BitSet,
    of_pods: Index,
    of_namespaces: Index,
}

impl Identities {
    /// One more pod has the identity; whether nobody had it before.
    pub(super) fn acquire(&mut self, identity: Identity) -> (IdentityId, bool) {
        if let Some(id) = self.numbers.get(&identity) {
            if let Some(Some(slot)) = self.slots.get_mut(id.0 as usize) {
                slot.pods += 1;
            }
            return (*id, false);
        }
        let number = match self.free.first() {
            Some(number) => number,
            None => {
                self.slots.push(None);
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.free.remove(number);
        self.live.insert(number);
        self.of_pods.add(&identity.labels, number);
        self.of_namespaces.add(&identity.namespace_labels, number);
        let identity = Arc::new(identity);
        self.numbers.insert(identity.clone(), IdentityId(number));
        if let Some(slot) = self.slots.get_mut(number as usize) {
            *slot = Some(Slot { identity, pods: 1 });
        }
        (IdentityId(number), true)
    }

    /// One pod less has it; whether it was the last.
    pub(super) fn release(&mut self, id: IdentityId) -> bool {
        let Some(place) = self.slots.get_mut(id.0 as usize) else {
            return false;
        };
        let Some(slot) = place else { return false };
        slot.pods = slot.pods.saturating_sub(1);
        if slot.pods > 0 {
            return false;
        }
        let identity = slot.identity.clone();
        *place = None;
        self.numbers.remove(&identity);
        self.live.remove(id.0);
        self.free.insert(id.0);
        self.of_pods.remove(&identity.labels, id.0);
        self.of_namespaces.remove(&identity.namespace_labels, id.0);
        true
    }

    /// One identity.
    pub fn get(&self, id: IdentityId) -> Option<&Identity> {
        let slot = self.slots.get(id.0 as usize)?.as_ref()?;
        Some(&slot.identity)
    }

    /// All, by number.
    pub fn iter(&self) -> impl Iterator<Item = (IdentityId, &Identity)> {
        let live = self.live.iter().map(IdentityId);
        live.filter_map(|id| Some((id, self.get(id)?)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// The identities of a set, by the index.
    pub(super) fn select(&self, key: &SetKey) -> BitSet {
        let mut set = self.live.clone();
        let spaces = &self.of_namespaces;
        match &key.scope {
            Scope::Nothing => return BitSet::new(),
            Scope::Matching(selector) => spaces.narrow_all(selector, &mut set),
            Scope::Named(name) => {
                let own = vec![(METADATA_NAME.to_owned(), name.clone())];
                spaces.narrow_all(&Selector::equal(own), &mut set);
            }
            Scope::Differing(pairs) => {
                let mut same = set.clone();
                for (key, value) in pairs {
                    let exists = Requirement {
                        key: key.clone(),
                        op: Op::Exists,
                    };
                    spaces.narrow(&exists, &mut set);
                    let op = Op::In(value.iter().cloned().collect());
                    let key = key.clone();
                    spaces.narrow(&Requirement { key, op }, &mut same);
                }
                set.and_not(&same);
            }
        }
        self.of_pods.narrow_all(&key.pods, &mut set);
        set
    }
}

/// Sets of identities that rules mean, each once, kept while a rule needs it.
#[derive(Clone, Debug, Default)]
pub struct Sets {
    slots: Vec<SetSlot>,
    numbers: Map<SetKey, SetId>,
    free: BitSet,
}

/// The number of a set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SetId(pub u32);

#[derive(Clone, Debug)]
struct SetSlot {
    key: SetKey,
    uses: u32,
    bits: BitSet,
}

impl Sets {
    pub(super) fn acquire(&mut self, key: SetKey, identities: &Identities) -> SetId {
        if let Some(id) = self.numbers.get(&key) {
            if let Some(slot) = self.slots.get_mut(id.0 as usize) {
                slot.uses += 1;
            }
            return *id;
        }
        let bits = identities.select(&key);
        let (uses, kept) = (1, key.clone());
        let slot = SetSlot { key, uses, bits };
        let number = match self.free.first() {
            Some(number) => {
                self.free.remove(number);
                if let Some(place) = self.slots.get_mut(number as usize) {
                    *place = slot;
                }
                number
            }
            None => {
                self.slots.push(slot);
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.numbers.insert(kept, SetId(number));
        SetId(number)
    }

    pub(super) fn release(&mut self, id: SetId) {
        let Some(slot) = self.slots.get_mut(id.0 as usize) else {
            return;
        };
        slot.uses = slot.uses.saturating_sub(1);
        if slot.uses == 0 {
            slot.bits = BitSet::new();
            self.numbers.remove(&slot.key);
            self.free.insert(id.0);
        }
    }

    /// An identity came: the sets that it belongs to get it.
    pub(super) fn add(&mut self, id: IdentityId, identity: &Identity) {
        for slot in self.slots.iter_mut().filter(|slot| slot.uses > 0) {
            if slot.key.has(identity) {
                slot.bits.insert(id.0);
            }
        }
    }

    /// An identity went.
    pub(super) fn forget(&mut self, id: IdentityId) {
        self.slots
            .iter_mut()
            .for_each(|slot| slot.bits.remove(id.0));
    }

    /// The identities of a set.
    pub fn get(&self, id: SetId) -> Option<&BitSet> {
        self.slots.get(id.0 as usize).map(|slot| &slot.bits)
    }

    /// What a set is.
    pub fn key(&self, id: SetId) -> Option<&SetKey> {
        self.slots.get(id.0 as usize).map(|slot| &slot.key)
    }

    /// Whether a set has an identity.
    pub fn has(&self, id: SetId, identity: IdentityId) -> bool {
        self.get(id).is_some_and(|bits| bits.has(identity.0))
    }

    /// The sets that are in use.
    pub fn ids(&self) -> impl Iterator<Item = SetId> + '_ {
        let used = self.slots.iter().enumerate().filter(|(_, s)| s.uses > 0);
        used.filter_map(|(at, _)| u32::try_from(at).ok().map(SetId))
    }

    /// How many sets are in use.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }
}
