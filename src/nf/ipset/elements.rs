//! The elements of a hash or a bitmap: found in constant time, printed in order of arrival.
//!
//! Kernel: the bucket arrays of ip_set_hash_gen.h and their `nets` counts; here a map by key. Knows no rule
//! about what may be added. Invariants: `nets` counts the prefix lengths of what is in the map; `ifaces`
//! holds, per network, the interfaces of the map's elements in order of arrival.

use std::collections::BTreeMap;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use indexmap::IndexMap;
use smallvec::SmallVec;

use super::element::{Element, IfaceName, Key, Timeout};
use super::kind::{Dim, Kind};
use crate::base::Instant;

/// Elements of one set.
#[derive(Clone, Debug)]
pub(super) struct Elements {
    map: IndexMap<Key, Element, FixedState>,
    next: u64,
    is_net: [bool; 2],
    by_iface: bool,
    nets: [BTreeMap<u8, usize>; 2],
    ifaces: HashMap<Key, Vec<IfaceName>, FixedState>,
    /// No element ends before this.
    earliest: Option<Instant>,
}

impl Elements {
    /// None yet.
    pub(super) fn new(kind: Kind) -> Self {
        Elements {
            map: IndexMap::default(),
            next: 0,
            is_net: kind.nets(),
            by_iface: kind.dims().contains(&Dim::Iface),
            nets: Default::default(),
            ifaces: HashMap::default(),
            earliest: None,
        }
    }

    /// How many there are, ended ones included.
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Element> {
        self.map.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut Element> {
        self.map.get_mut(key)
    }

    /// Adds one whose key is not there.
    pub(super) fn insert(&mut self, mut element: Element) {
        element.seq = self.next;
        self.next += 1;
        self.ends(element.ext.timeout);
        let key = element.key;
        for second in [false, true] {
            if self.is_net[usize::from(second)] {
                let count = self.nets[usize::from(second)].entry(key.addr(second).1);
                *count.or_insert(0) += 1;
            }
        }
        if self.by_iface {
            let names = self.ifaces.entry(key.without_iface()).or_default();
            names.push(key.iface);
        }
        self.map.insert(key, element);
    }

    /// An element's end was set.
    pub(super) fn ends(&mut self, timeout: Timeout) {
        if let Timeout::Until(end) = timeout {
            self.earliest = Some(self.earliest.map_or(end, |e| e.min(end)));
        }
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<Element> {
        let element = self.map.swap_remove(key)?;
        for second in [false, true] {
            let (_, prefix) = key.addr(second);
            let nets = &mut self.nets[usize::from(second)];
            if self.is_net[usize::from(second)]
                && let Some(count) = nets.get_mut(&prefix)
            {
                *count -= 1;
                if *count == 0 {
                    nets.remove(&prefix);
                }
            }
        }
        let network = key.without_iface();
        if self.by_iface
            && let Some(names) = self.ifaces.get_mut(&network)
        {
            names.retain(|n| *n != key.iface);
            if names.is_empty() {
                self.ifaces.remove(&network);
            }
        }
        Some(element)
    }

    /// Removes what has ended (kernel: `mtype_gc_do`).
    pub(super) fn purge(&mut self, now: Instant) {
        if self.earliest.is_none_or(|e| now <= e) {
            return;
        }
        let ended = self.map.values().filter(|e| !e.ext.timeout.live(now));
        let ended: Vec<Key> = ended.map(|e| e.key).collect();
        for key in ended {
            self.remove(&key);
        }
        self.earliest = None;
        let left: Vec<Timeout> = self.map.values().map(|e| e.ext.timeout).collect();
        for timeout in left {
            self.ends(timeout);
        }
    }

    /// Removes one to make room; the kernel takes one of the new element's bucket, which depends on its seed.
    pub(super) fn evict(&mut self) {
        let at = usize::try_from(self.next % self.map.len().max(1) as u64).unwrap_or(0);
        if let Some((key, _)) = self.map.get_index(at) {
            let key = *key;
            self.remove(&key);
        }
    }

    pub(super) fn clear(&mut self) {
        self.map.clear();
        self.ifaces.clear();
        self.nets = Default::default();
        self.earliest = None;
    }

    /// Prefix lengths of one of the two networks, the longest first.
    pub(super) fn prefixes(&self, second: bool) -> SmallVec<[u8; 8]> {
        let nets = &self.nets[usize::from(second)];
        nets.keys().rev().copied().collect()
    }

    /// The longest prefix length of one of the two networks.
    pub(super) fn longest(&self, second: bool) -> Option<u8> {
        let nets = &self.nets[usize::from(second)];
        nets.last_key_value().map(|(p, _)| *p)
    }

    /// Interfaces of the elements of a network.
    pub(super) fn ifaces(&self, key: &Key) -> &[IfaceName] {
        self.ifaces
            .get(&key.without_iface())
            .map_or(&[], Vec::as_slice)
    }

    /// What is there at `now`: of a bitmap by key, of a hash in order of arrival.
    pub(super) fn sorted(&self, by_key: bool, now: Instant) -> Vec<&Element> {
        let live = self.map.values().filter(|e| e.ext.timeout.live(now));
        let mut all: Vec<&Element> = live.collect();
        if by_key {
            all.sort_by_key(|e| e.key);
        } else {
            all.sort_by_key(|e| e.seq);
        }
        all
    }
}
