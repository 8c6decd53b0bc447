//! One set of addresses, ports, ...: adding, deleting, matching one key.
//!
//! Kernel: `mtype_add`, `mtype_del`, `mtype_test`, `mtype_test_cidrs` of ip_set_hash_gen.h and
//! ip_set_bitmap_gen.h,
//! and ip_set_bitmap_ipmac.c. Does not know where keys come from. Invariant: keys are masked by the caller.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use super::addr;
use super::element::{Element, Ext, ExtIn, Key, SkbInfo, Timeout};
use super::elements::Elements;
use super::header::Header;
use super::kind::{Dim, Kind, Method};
use super::wrong::Refused;
use crate::base::Instant;
use crate::base::limits::IPSET_ELEMENTS_MAX;
use crate::wire::MacAddr;

/// A comparison of an element's counter (`--packets-gt` ...; kernel: `enum` IPSET_COUNTER_*).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Compare {
    /// None asked for.
    #[default]
    Any,
    /// Equal.
    Eq(u64),
    /// Not equal.
    Ne(u64),
    /// Less.
    Lt(u64),
    /// Greater.
    Gt(u64),
}

impl Compare {
    /// ip_set_core.c `ip_set_match_counter`.
    fn holds(self, counter: u64) -> bool {
        match self {
            Compare::Any => true,
            Compare::Eq(n) => counter == n,
            Compare::Ne(n) => counter != n,
            Compare::Lt(n) => counter < n,
            Compare::Gt(n) => counter > n,
        }
    }
}

/// What a match does to the element's counters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Ask {
    /// Packets and bytes that are added.
    pub(super) update: Option<(u64, u64)>,
    /// Then compared: packets, bytes.
    pub(super) compare: Option<(Compare, Compare)>,
}

/// An element that matched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Matched {
    pub(super) key: Key,
    pub(super) mac: Option<MacAddr>,
    pub(super) nomatch: bool,
    pub(super) skb: Option<SkbInfo>,
    /// The element has options that are not known.
    pub(super) unknown: bool,
}

/// What asking for a key gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tested {
    Miss,
    Hit(Matched),
    /// bitmap:ip,mac: the element waits for its link-layer address (kernel: -EAGAIN).
    Incomplete(Key),
}

/// Matches extensions (ip_set_core.c `ip_set_match_extensions`): ended elements never match, counters are
/// updated and then compared.
pub(super) fn match_ext(ext: &mut Ext, header: &Header, ask: &Ask, now: Instant) -> bool {
    if !ext.timeout.live(now) {
        return false;
    }
    if header.counters {
        if let Some((packets, bytes)) = ask.update {
            ext.packets = ext.packets.wrapping_add(packets);
            ext.bytes = ext.bytes.wrapping_add(bytes);
        }
        if let Some((packets, bytes)) = ask.compare {
            return packets.holds(ext.packets) && bytes.holds(ext.bytes);
        }
    }
    true
}

/// Whether the set has the extensions that are given (ip_set_core.c `ip_set_get_extensions`).
pub(super) fn check_ext(header: &Header, ext: &ExtIn) -> Result<(), Refused> {
    let skb = ext.skb != SkbInfo::default();
    match () {
        () if ext.timeout.is_some() && header.timeout.is_none() => Err(Refused::NoTimeout),
        () if (ext.packets.is_some() || ext.bytes.is_some()) && !header.counters => {
            Err(Refused::NoCounters)
        }
        () if ext.comment.is_some() && !header.comment => Err(Refused::NoComment),
        () if skb && !header.skbinfo => Err(Refused::NoSkbinfo),
        () => Ok(()),
    }
}

/// The seconds that an element gets.
pub(super) fn seconds(header: &Header, ext: &ExtIn) -> u32 {
    match header.timeout {
        Some(default) => ext.timeout.unwrap_or(default),
        None => 0,
    }
}

/// Writes the extensions of a new or re-added element (ip_set.h `ip_set_init_counter` and its like).
pub(super) fn write_ext(to: &mut Ext, header: &Header, ext: &ExtIn, now: Instant) {
    if let (true, Some(packets)) = (header.counters, ext.packets) {
        to.packets = packets;
    }
    if let (true, Some(bytes)) = (header.counters, ext.bytes) {
        to.bytes = bytes;
    }
    if header.comment {
        to.comment = ext.comment.clone().filter(|c| !c.is_empty());
    }
    if header.skbinfo {
        to.skb = ext.skb;
    }
    to.timeout = Timeout::new(seconds(header, ext), now);
}

/// A hash's or bitmap's elements with what the set's type makes of them.
#[derive(Clone, Debug)]
pub(super) struct Store {
    pub(super) elements: Elements,
    /// A bitmap's counters survive deletion (ip_set_bitmap_gen.h `mtype_add` does not clear them).
    left_counters: BTreeMap<Key, (u64, u64)>,
}

impl Store {
    pub(super) fn new(kind: Kind) -> Self {
        Store {
            elements: Elements::new(kind),
            left_counters: BTreeMap::new(),
        }
    }

    /// The key of the element that `key` is the same as; a wildcard of hash:net,iface is the same as every
    /// interface that it begins (`hash_netiface4_data_equal`).
    fn same(&self, header: &Header, key: &Key) -> Option<Key> {
        if header.kind != Kind::HashNetIface {
            return self.elements.get(key).map(|e| e.key);
        }
        let names = self.elements.ifaces(key).iter();
        let mut keys = names.map(|name| Key {
            iface: *name,
            ..*key
        });
        keys.find(|k| self.elements.get(k).is_some_and(|e| fits(e, key)))
    }

    /// Adds an element, or gives an existing one new extensions with `exist`.
    pub(super) fn add(
        &mut self,
        header: &Header,
        key: Key,
        mac: Option<MacAddr>,
        ext: &ExtIn,
        exist: bool,
        now: Instant,
    ) -> Result<(), Refused> {
        if header.kind == Kind::BitmapIpMac {
            return self.add_ipmac(header, key, mac, ext, exist, now);
        }
        if let Some(same) = self.same(header, &key) {
            let Some(old) = self.elements.get_mut(&same) else {
                return Err(Refused::Missing);
            };
            if !exist && old.ext.timeout.live(now) {
                return Err(Refused::Exists);
            }
            old.nomatch = ext.nomatch;
            old.unknown = ext.unknown.clone();
            write_ext(&mut old.ext, header, ext, now);
            let timeout = old.ext.timeout;
            self.elements.ends(timeout);
            return Ok(());
        }
        self.room(header, now)?;
        self.put(header, key, None, ext, now);
        Ok(())
    }

    /// A new element.
    fn put(&mut self, header: &Header, key: Key, mac: Option<MacAddr>, ext: &ExtIn, now: Instant) {
        let mut element = Element {
            key,
            mac,
            nomatch: ext.nomatch,
            wildcard: ext.wildcard,
            unknown: ext.unknown.clone(),
            ..Element::default()
        };
        if let Some((packets, bytes)) = self.left_counters.remove(&key) {
            (element.ext.packets, element.ext.bytes) = (packets, bytes);
        }
        write_ext(&mut element.ext, header, ext, now);
        if header.kind == Kind::BitmapIpMac && mac.is_none() && header.timeout.is_some() {
            element.ext.timeout = Timeout::Stored(seconds(header, ext));
        }
        self.elements.insert(element);
    }

    /// Makes room in a full hash, or says that there is none.
    fn room(&mut self, header: &Header, now: Instant) -> Result<(), Refused> {
        let most = usize::try_from(header.maxelem).unwrap_or(usize::MAX);
        if header.kind.method() == Method::Hash && self.elements.len() >= most {
            self.elements.purge(now);
            if self.elements.len() >= most {
                if !header.forceadd || self.elements.len() == 0 {
                    return Err(Refused::Full);
                }
                self.elements.evict();
            }
        }
        match self.elements.len() < IPSET_ELEMENTS_MAX {
            true => Ok(()),
            false => Err(Refused::TooMany),
        }
    }

    /// ip_set_bitmap_ipmac.c `bitmap_ipmac_do_add` and `bitmap_ipmac_add_timeout`.
    fn add_ipmac(
        &mut self,
        header: &Header,
        key: Key,
        mac: Option<MacAddr>,
        ext: &ExtIn,
        exist: bool,
        now: Instant,
    ) -> Result<(), Refused> {
        let Some(old) = self.elements.get_mut(&key) else {
            self.put(header, key, mac, ext, now);
            return Ok(());
        };
        let (filled, live) = (old.mac.is_some(), old.ext.timeout.seems_live(now));
        let completes = !filled && mac.is_some();
        if live && !exist && !completes {
            return Err(Refused::Exists);
        }
        let stored = match old.ext.timeout {
            Timeout::Stored(secs) => Some(secs),
            _ => None,
        };
        if mac.is_some() && (exist || completes) {
            old.mac = mac;
        }
        write_ext(&mut old.ext, header, ext, now);
        if header.timeout.is_some() {
            let given = seconds(header, ext);
            old.ext.timeout = match (completes, mac, stored) {
                // A timeout that is the default counts as not given.
                (true, _, Some(secs)) if Some(given) == header.timeout => Timeout::new(secs, now),
                (_, None, _) if !filled => Timeout::Stored(given),
                // The kernel writes the bare seconds where a moment is read: the element ends at once.
                (_, None, _) if given > 0 => Timeout::Ended,
                _ => Timeout::new(given, now),
            };
        }
        let timeout = old.ext.timeout;
        self.elements.ends(timeout);
        Ok(())
    }

    /// Deletes an element.
    pub(super) fn del(&mut self, header: &Header, key: &Key, now: Instant) -> Result<(), Refused> {
        let same = self.same(header, key).ok_or(Refused::Missing)?;
        let old = self.elements.remove(&same).ok_or(Refused::Missing)?;
        if header.kind.method() == Method::Bitmap && header.counters {
            let left = (old.ext.packets, old.ext.bytes);
            self.left_counters.insert(same, left);
        }
        match old.ext.timeout.seems_live(now) {
            true => Ok(()),
            false => Err(Refused::Missing),
        }
    }

    /// Deletes every element.
    pub(super) fn flush(&mut self, header: &Header, now: Instant) {
        if header.kind.method() == Method::Bitmap && header.counters {
            let all = self.elements.sorted(true, now).into_iter();
            let left = all.map(|e| (e.key, (e.ext.packets, e.ext.bytes)));
            self.left_counters.extend(left);
        }
        self.elements.clear();
    }

    /// Looks for a key: a host in the networks there are, the longest prefix first; else exactly.
    pub(super) fn test(
        &mut self,
        header: &Header,
        key: &Key,
        mac: Option<MacAddr>,
        ask: &Ask,
        now: Instant,
    ) -> Tested {
        let host = addr::width(header.family);
        let [first, second] = header.kind.nets();
        let is_host = |second| key.addr(second).1 == host;
        let networks =
            (first || second) && (!first || is_host(false)) && (!second || is_host(true));
        if !networks {
            let (hit, _) = self.one(header, key, mac, ask, now);
            return hit;
        }
        let lengths = |s: &Self, used, second| -> SmallVec<[u8; 8]> {
            match used {
                true => s.elements.prefixes(second),
                false => SmallVec::from_slice(&[key.addr(second).1]),
            }
        };
        let outer = lengths(self, first, false);
        let inner = lengths(self, second, true);
        for a in &outer {
            for b in &inner {
                let mut probe = *key;
                for (second, used, prefix) in [(false, first, *a), (true, second, *b)] {
                    if used {
                        let ip = key.addr(second).0 & addr::mask(header.family, prefix);
                        probe.set_addr(second, ip, prefix);
                    }
                }
                let (hit, stop) = self.one(header, &probe, mac, ask, now);
                if hit != Tested::Miss || stop {
                    return hit;
                }
            }
        }
        Tested::Miss
    }

    /// Looks for exactly one key. The second result: a network of hash:net,iface is there, though not
    /// with this
    /// interface, so that shorter prefixes are not looked at (`multi` of `mtype_test_cidrs`).
    fn one(
        &mut self,
        header: &Header,
        key: &Key,
        mac: Option<MacAddr>,
        ask: &Ask,
        now: Instant,
    ) -> (Tested, bool) {
        if !header.kind.dims().contains(&Dim::Iface) {
            return (self.exact(header, key, mac, ask, now), false);
        }
        let names: SmallVec<[_; 4]> = self.elements.ifaces(key).iter().copied().collect();
        let mut multi = false;
        for name in names {
            let candidate = Key {
                iface: name,
                ..*key
            };
            let Some(element) = self.elements.get(&candidate) else {
                continue;
            };
            if !element.ext.timeout.live(now) {
                continue;
            }
            multi = true;
            if fits(element, key) {
                let hit = self.exact(header, &candidate, mac, ask, now);
                if hit != Tested::Miss {
                    return (hit, true);
                }
                multi = false;
            }
        }
        (Tested::Miss, multi)
    }

    fn exact(
        &mut self,
        header: &Header,
        key: &Key,
        mac: Option<MacAddr>,
        ask: &Ask,
        now: Instant,
    ) -> Tested {
        let Some(element) = self.elements.get_mut(key) else {
            return Tested::Miss;
        };
        if header.kind == Kind::BitmapIpMac {
            match (mac, element.mac) {
                (Some(a), Some(b)) if a == b => {}
                (Some(_), Some(_)) => return Tested::Miss,
                _ => return Tested::Incomplete(*key),
            }
        }
        if !match_ext(&mut element.ext, header, ask, now) {
            return Tested::Miss;
        }
        Tested::Hit(Matched {
            key: element.key,
            mac: element.mac,
            nomatch: element.nomatch,
            skb: header.skbinfo.then_some(element.ext.skb),
            unknown: element.unknown.is_some(),
        })
    }
}

/// Whether an element of the same network holds the interface that is looked for.
fn fits(element: &Element, key: &Key) -> bool {
    let name = &element.key.iface;
    match element.wildcard {
        true => name.begins(&key.iface),
        false => *name == key.iface,
    }
}
