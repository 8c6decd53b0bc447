//! Who reaches whom, all pairs at once: one bit for each pair of classes, for one port.
//!
//! A class is an identity and what ipBlocks say of the pods' addresses, so that its pods have the same
//! verdicts. Each class's rules become rows of bits; the rows of the receiving side are turned and met with
//! those of the sending side. Pods that have only the other family are in no class. Invariant: equals the
//! filter's answer for every pair of pods that are not the same pod.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::bits::{BitSet, transpose};
use super::compile::{Compiled, CompiledPod, Entry, Filter, Holder};
use super::filter::{Other, has_port};
use super::identity::{Identity, IdentityId, Map, SetId};
use super::model::{Action, Direction};
use super::ranges::Ranges;
use super::update::Changes;
use super::verdict::{BaselineScope, BlockScope, L4};
use crate::kube::service::Family;
use crate::kube::store::Name;

/// Pods that policies cannot tell apart.
#[derive(Clone, Debug)]
pub struct Class {
    /// Their identity.
    pub identity: IdentityId,
    /// The address of one of them.
    pub address: IpAddr,
    /// Who they are; empty when all have gone since.
    pub pods: BTreeSet<Arc<Name>>,
    signature: u32,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Matrix {
    family: Family,
    l4: L4,
    classes: Vec<Class>,
    rows: Vec<BitSet>,
    numbers: Map<(IdentityId, u32), u32>,
    of_pods: BTreeMap<Arc<Name>, u32>,
    signatures: Signatures,
    free: BTreeSet<u32>,
}

/// What distinct blocks say of addresses: one number for each combination that a pod has.
#[derive(Clone, PartialEq, Debug, Default)]
struct Signatures {
    blocks: Vec<Ranges>,
    known: BTreeMap<Vec<bool>, u32>,
}

impl Signatures {
    fn new(compiled: &Compiled) -> Self {
        let mut blocks = BTreeSet::new();
        // Pods' addresses are held against blocks only in the default reading.
        if compiled.options.blocks == BlockScope::Every {
            for entry in compiled.entries() {
                if !entry.peers.blocks.is_empty() && !blocks.contains(&entry.peers.blocks) {
                    blocks.insert(entry.peers.blocks.clone());
                }
            }
        }
        Signatures {
            blocks: blocks.into_iter().collect(),
            known: BTreeMap::new(),
        }
    }

    fn of(&mut self, ip: IpAddr) -> u32 {
        let said: Vec<bool> = self.blocks.iter().map(|b| b.contains(ip)).collect();
        let next = u32::try_from(self.known.len()).unwrap_or(u32::MAX);
        *self.known.entry(said).or_insert(next)
    }
}

impl Compiled {
    /// Every rule of every filter, shared ones repeatedly.
    fn entries(&self) -> impl Iterator<Item = &Entry> {
        let filters = self.filters.iter().flatten();
        let lists = filters.flat_map(|f| [&f.admin, &f.allows, &f.baseline]);
        lists.flatten().map(|entry| &**entry)
    }
}

impl Matrix {
    /// Computes it.
    pub fn new(compiled: &Compiled, family: Family, l4: L4) -> Matrix {
        let mut matrix = Matrix {
            family,
            l4,
            classes: Vec::new(),
            rows: Vec::new(),
            numbers: Map::default(),
            of_pods: BTreeMap::new(),
            signatures: Signatures::new(compiled),
            free: BTreeSet::new(),
        };
        let mut pods: Vec<&CompiledPod> = compiled.pods().collect();
        pods.sort_by_key(|pod| pod.identity);
        for pod in pods {
            matrix.put(pod);
        }
        matrix.rows = Rows::new(compiled, &matrix).all();
        matrix
    }

    /// Puts a pod into its class; whether that is a new one.
    fn put(&mut self, pod: &CompiledPod) -> Option<(u32, bool)> {
        let family = self.family;
        let address = pod
            .addresses
            .iter()
            .copied()
            .find(|ip| Family::of(*ip) == family)?;
        let signature = self.signatures.of(address);
        let end = u32::try_from(self.classes.len()).unwrap_or(u32::MAX);
        let next = self.free.first().copied().unwrap_or(end);
        let number = *self
            .numbers
            .entry((pod.identity, signature))
            .or_insert(next);
        let fresh = number == next;
        if fresh {
            let class = Class {
                identity: pod.identity,
                address,
                pods: BTreeSet::new(),
                signature,
            };
            self.free.remove(&next);
            match self.classes.get_mut(next as usize) {
                Some(place) => *place = class,
                None => self.classes.push(class),
            }
        }
        if let Some(class) = self.classes.get_mut(number as usize) {
            class.pods.insert(pod.name.clone());
        }
        self.of_pods.insert(pod.name.clone(), number);
        Some((number, fresh))
    }

    /// The port it is about.
    pub fn l4(&self) -> L4 {
        self.l4
    }

    /// The classes; their numbers are those of [`Matrix::row`].
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// The class of a pod.
    pub fn class_of(&self, pod: &Name) -> Option<u32> {
        self.of_pods.get(pod).copied()
    }

    /// The classes that the pods of a class reach. Its own bit is about two different pods of it.
    pub fn row(&self, class: u32) -> Option<&BitSet> {
        self.rows.get(class as usize)
    }

    /// Whether a pod reaches another; itself always. None for pods without an address of the family.
    pub fn allowed(&self, from: &Name, to: &Name) -> Option<bool> {
        let (a, b) = (self.class_of(from)?, self.class_of(to)?);
        Some(from == to || self.row(a)?.has(b))
    }

    /// Pairs of different pods that reach each other, and all pairs.
    pub fn count(&self) -> (u64, u64) {
        let sizes: Vec<u64> = self.classes.iter().map(|c| c.pods.len() as u64).collect();
        let total: u64 = sizes.iter().sum();
        let mut allowed = 0;
        for ((number, size), row) in (0_u32..).zip(&sizes).zip(&self.rows) {
            let reached = row.iter().filter_map(|c| sizes.get(c as usize));
            allowed += size * reached.sum::<u64>();
            if row.has(number) {
                allowed -= size;
            }
        }
        (allowed, total * total.saturating_sub(1))
    }

    /// Follows an update of the compiled policies. What it touched is computed anew, by the filter.
    pub fn update(&mut self, compiled: &Compiled, changes: &Changes) {
        let rules = changes.pods.is_empty();
        if changes.all || (rules && Signatures::new(compiled).blocks != self.signatures.blocks) {
            *self = Matrix::new(compiled, self.family, self.l4);
            return;
        }
        let left: BTreeSet<u32> = changes
            .pods
            .iter()
            .filter_map(|name| self.take(name))
            .collect();
        for number in left {
            self.retire(number);
        }
        let mut touched = BTreeSet::new();
        for name in &changes.pods {
            let put = compiled.pod(name).and_then(|pod| self.put(pod));
            if let Some((number, true)) = put {
                touched.insert(number);
            }
        }
        self.rows.resize_with(self.classes.len(), BitSet::new);
        for (number, class) in (0_u32..).zip(&self.classes) {
            if !class.pods.is_empty() && changes.filters.contains(&class.identity) {
                touched.insert(number);
            }
        }
        self.recompute(compiled, &touched);
    }

    /// Takes a pod out of its class.
    fn take(&mut self, name: &Name) -> Option<u32> {
        let number = self.of_pods.remove(name)?;
        self.classes.get_mut(number as usize)?.pods.remove(name);
        Some(number)
    }

    /// Gives a class without pods back: its number gets another meaning.
    fn retire(&mut self, number: u32) {
        let class = self.classes.get(number as usize);
        let Some(class) = class.filter(|class| class.pods.is_empty()) else {
            return;
        };
        self.numbers.remove(&(class.identity, class.signature));
        if let Some(row) = self.rows.get_mut(number as usize) {
            *row = BitSet::new();
        }
        self.rows.iter_mut().for_each(|row| row.remove(number));
        self.free.insert(number);
    }

    fn recompute(&mut self, compiled: &Compiled, touched: &BTreeSet<u32>) {
        // Many at once: rows of bits are faster than pairs.
        if touched.len() > 64 {
            self.rows = Rows::new(compiled, self).all();
            return;
        }
        let count = u32::try_from(self.classes.len()).unwrap_or(u32::MAX);
        for one in touched {
            for other in 0..count {
                for (from, to) in [(*one, other), (other, *one)] {
                    let allowed = self.pair(compiled, from, to).unwrap_or_default();
                    if let Some(row) = self.rows.get_mut(from as usize) {
                        row.set(to, allowed);
                    }
                }
            }
        }
    }

    /// One pair of classes, by the filter.
    fn pair(&self, compiled: &Compiled, from: u32, to: u32) -> Option<bool> {
        let class = |n: u32| self.classes.get(n as usize).filter(|c| !c.pods.is_empty());
        let (from, to) = (class(from)?, class(to)?);
        let other = |class: &Class| Other {
            ip: class.address,
            holder: Some(Holder::Pod {
                identity: class.identity,
                node: super::compile::NodeId(0),
                serial: 0,
            }),
            names: &[],
        };
        let target = Some(to.identity);
        let judge = |own: &Class, direction, peer: &Class| {
            let other = other(peer);
            compiled
                .judge(own.identity, direction, &other, self.l4, target)
                .allowed
        };
        Some(judge(from, Direction::Egress, to) && judge(to, Direction::Ingress, from))
    }
}

/// The computation of all rows.
struct Rows<'m> {
    compiled: &'m Compiled,
    matrix: &'m Matrix,
    all: BitSet,
    /// The classes of each identity.
    of_identity: Vec<Vec<u32>>,
    /// The classes of each signature.
    of_signature: Vec<BitSet>,
    sets: Map<SetId, BitSet>,
    /// The classes that a rule means, by the rule's place in memory.
    peers: Map<usize, Arc<BitSet>>,
}

impl<'m> Rows<'m> {
    fn new(compiled: &'m Compiled, matrix: &'m Matrix) -> Self {
        let mut rows = Rows {
            compiled,
            matrix,
            all: BitSet::new(),
            of_identity: Vec::new(),
            of_signature: vec![BitSet::new(); matrix.signatures.known.len()],
            sets: Map::default(),
            peers: Map::default(),
        };
        for (number, class) in (0_u32..).zip(&matrix.classes) {
            if class.pods.is_empty() {
                continue;
            }
            rows.all.insert(number);
            let at = class.identity.0 as usize;
            if rows.of_identity.len() <= at {
                rows.of_identity.resize_with(at + 1, Vec::new);
            }
            if let Some(list) = rows.of_identity.get_mut(at) {
                list.push(number);
            }
            if let Some(set) = rows.of_signature.get_mut(class.signature as usize) {
                set.insert(number);
            }
        }
        rows
    }

    fn all(mut self) -> Vec<BitSet> {
        let count = self.matrix.classes.len();
        let mut by_identity: Map<IdentityId, [BitSet; 2]> = Map::default();
        let mut egress = Vec::with_capacity(count);
        let mut ingress = Vec::with_capacity(count);
        for class in &self.matrix.classes {
            if class.pods.is_empty() {
                egress.push(BitSet::new());
                ingress.push(BitSet::new());
                continue;
            }
            // Classes of one identity have the same rules.
            let id = class.identity;
            if !by_identity.contains_key(&id) {
                let both = [Direction::Egress, Direction::Ingress].map(|d| self.side(id, d));
                by_identity.insert(id, both);
            }
            if let Some([out, into]) = by_identity.get(&id) {
                egress.push(out.clone());
                ingress.push(into.clone());
            }
        }
        meet(&mut egress, &ingress);
        egress
    }

    /// The classes that an identity may send to, or may receive from.
    fn side(&mut self, id: IdentityId, direction: Direction) -> BitSet {
        let compiled = self.compiled;
        let (Some(filter), Some(own)) = (
            compiled.filter(id, direction),
            compiled.identities().get(id),
        ) else {
            return self.all.clone();
        };
        let mut allowed = BitSet::new();
        let mut open = self.all.clone();
        let passed = self.ordered(&filter.admin, own, direction, &mut open, &mut allowed);
        open.or(&passed);
        if !filter.isolating.is_empty() {
            for entry in &filter.allows {
                if let Some(peers) = self.meant(entry, own, direction) {
                    allowed.or_and(&open, &peers);
                }
            }
            return allowed;
        }
        if !self.skips_baseline(filter) {
            let passed = self.ordered(&filter.baseline, own, direction, &mut open, &mut allowed);
            open.or(&passed);
        }
        allowed.or(&open);
        allowed
    }

    fn skips_baseline(&self, filter: &Filter) -> bool {
        self.compiled.options.baseline == BaselineScope::PerPod && filter.selected
    }

    /// Takes out of `open` what an ordered tier decides; what it passes is given back.
    fn ordered(
        &mut self,
        entries: &[Arc<Entry>],
        own: &Identity,
        direction: Direction,
        open: &mut BitSet,
        allowed: &mut BitSet,
    ) -> BitSet {
        let mut passed = BitSet::new();
        for entry in entries {
            let Some(peers) = self.meant(entry, own, direction) else {
                continue;
            };
            match entry.action {
                Action::Accept => allowed.or_and(open, &peers),
                Action::Pass => passed.or_and(open, &peers),
                Action::Deny => {}
            }
            open.and_not(&peers);
        }
        passed
    }

    /// The classes that a rule means with the matrix' port; none where the port is another.
    fn meant(
        &mut self,
        entry: &Arc<Entry>,
        own: &Identity,
        side: Direction,
    ) -> Option<Arc<BitSet>> {
        if side == Direction::Ingress && !self.port_at(entry, own) {
            return None;
        }
        let numbers = side == Direction::Egress && entry.ports.named.is_empty();
        if numbers && !self.port_at(entry, own) {
            return None;
        }
        let place = Arc::as_ptr(entry) as usize;
        if let Some(known) = self.peers.get(&place) {
            return Some(known.clone());
        }
        let mut classes = self.peers_of(entry);
        if side == Direction::Egress && !numbers {
            let members: Vec<u32> = classes.iter().collect();
            for class in members {
                let to = self.matrix.classes.get(class as usize);
                let to = to.and_then(|c| self.compiled.identities().get(c.identity));
                if !to.is_some_and(|to| self.port_at(entry, to)) {
                    classes.remove(class);
                }
            }
        }
        let classes = Arc::new(classes);
        self.peers.insert(place, classes.clone());
        Some(classes)
    }

    /// Whether the matrix' port at a destination is one of the rule's.
    fn port_at(&self, entry: &Entry, to: &Identity) -> bool {
        let ports = &entry.ports;
        let L4::Port(protocol, number) = self.matrix.l4 else {
            return ports.all;
        };
        let named = |name: &String, own: &Option<_>| {
            to.ports.iter().any(|p| {
                p.name == *name
                    && p.number == number
                    && p.protocol == protocol
                    && own.is_none_or(|own| own == p.protocol)
            })
        };
        ports.all
            || has_port(&ports.ranges, protocol, number)
            || ports.named.iter().any(|(name, own)| named(name, own))
    }

    fn peers_of(&mut self, entry: &Entry) -> BitSet {
        let peers = &entry.peers;
        if peers.any {
            return self.all.clone();
        }
        let mut classes = BitSet::new();
        for set in &peers.sets {
            if !self.sets.contains_key(set) {
                let made = self.expand(*set);
                self.sets.insert(*set, made);
            }
            if let Some(known) = self.sets.get(set) {
                classes.or(known);
            }
        }
        if !peers.blocks.is_empty() {
            let blocks = &self.matrix.signatures.blocks;
            if let Ok(at) = blocks.binary_search(&peers.blocks) {
                for (said, number) in &self.matrix.signatures.known {
                    let has = said.get(at).copied().unwrap_or_default();
                    if let Some(set) = self.of_signature.get(*number as usize).filter(|_| has) {
                        classes.or(set);
                    }
                }
            }
        }
        classes
    }

    /// A set of identities as classes.
    fn expand(&self, set: SetId) -> BitSet {
        let identities = self.compiled.sets().get(set);
        let lists = identities.into_iter().flat_map(BitSet::iter);
        lists
            .filter_map(|id| self.of_identity.get(id as usize))
            .flatten()
            .copied()
            .collect()
    }
}

/// Keeps in `egress[a]` the `b` whose `ingress[b]` has `a`.
fn meet(egress: &mut [BitSet], ingress: &[BitSet]) {
    let words = egress.len().div_ceil(64);
    for band in 0..words {
        let receivers = ingress.chunks(64).nth(band).unwrap_or_default();
        for at in 0..words {
            let mut block = [0_u64; 64];
            for (word, row) in block.iter_mut().zip(receivers) {
                *word = row.word(at);
            }
            transpose(&mut block);
            let senders = egress.chunks_mut(64).nth(at).unwrap_or_default();
            for (row, word) in senders.iter_mut().zip(block) {
                row.set_word(band, row.word(band) & word);
            }
        }
    }
}
