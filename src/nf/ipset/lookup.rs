//! Sets and packets: `-m set` and `-j SET`.
//!
//! Kernel: ip_set_core.c `ip_set_test`, `ip_set_add`, `ip_set_del`; ip_set_list_set.c `list_set_ktest`
//! and its like;
//! xt_set.c. Does not invert, does not write marks. Invariant: no lookup of one key walks a set.

use std::sync::Arc;

use super::element::{ExtIn, Key, SkbInfo, show_key};
use super::header::Header;
use super::kind::Dim;
use super::packet::{For, Packet, key};
use super::sets::{Content, Set, Sets};
use super::store::{Ask, Compare, Matched, Store, Tested, match_ext};
use super::wrong::Refused;
use crate::base::Instant;
use crate::nf::compound::SetRef;
use crate::nf::field::{Flag, Is};
use crate::nf::matches;
use crate::wire::MacAddr;

/// How a rule asks (`-m set`'s options; kernel: `struct ip_set_adt_opt`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TestFlags {
    /// `--return-nomatch`: an exception is what matches.
    pub return_nomatch: bool,
    /// `! --update-counters`.
    pub keep_counters: bool,
    /// `! --update-subcounters`.
    pub keep_subcounters: bool,
    /// Interfaces are bridge ports (no option of iptables sets it; IPSET_FLAG_PHYSDEV).
    pub physdev: bool,
    /// `--packets-eq` ...
    pub packets: Compare,
    /// `--bytes-eq` ...
    pub bytes: Compare,
}

impl From<&matches::Set> for TestFlags {
    fn from(m: &matches::Set) -> Self {
        let compare = |eq: Option<Is<u64>>, lt: Option<u64>, gt: Option<u64>| match (eq, lt, gt) {
            (Some(Is { not: false, value }), _, _) => Compare::Eq(value),
            (Some(Is { not: true, value }), _, _) => Compare::Ne(value),
            (_, Some(n), _) => Compare::Lt(n),
            (_, _, Some(n)) => Compare::Gt(n),
            _ => Compare::Any,
        };
        let kept = |o: Option<Is<Flag>>| o.is_some_and(|is| is.not);
        TestFlags {
            return_nomatch: m.return_nomatch,
            keep_counters: kept(m.update_counters),
            keep_subcounters: kept(m.update_subcounters),
            physdev: false,
            packets: compare(m.packets_eq, m.packets_lt, m.packets_gt),
            bytes: compare(m.bytes_eq, m.bytes_lt, m.bytes_gt),
        }
    }
}

/// The element that decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hit {
    /// The set that holds it: a member if a list:set was asked.
    pub set: Arc<str>,
    /// Its key; [`Sets::hit_text`] writes it.
    pub key: Key,
    /// Link-layer address of bitmap:ip,mac.
    pub mac: Option<MacAddr>,
    /// It is an exception.
    pub nomatch: bool,
    /// For `--map-set`, if the set has it: of the list:set itself when one was asked that has it.
    pub skb: Option<SkbInfo>,
}

/// The answer to a lookup.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// Whether the packet is in the set, `--return-nomatch` taken into account; before `!`.
    pub matched: bool,
    /// The element that decided, also when it is an exception and the packet is therefore not in the set.
    pub hit: Option<Hit>,
    /// Why there was nothing to look up (the packet has no ports, ...).
    pub why_not: Option<Refused>,
}

/// The set cannot be asked: the trace has to fork.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unknown {
    /// There is no set of this name (a kernel would not have accepted the rule).
    #[error("there is no set `{0}`")]
    NoSuchSet(String),
    /// Its type, an option of it or an option of the element that decided is not known.
    #[error("set `{0}` has a type or option that podpath does not know")]
    Type(String),
}

impl Unknown {
    fn of(name: &str) -> Self {
        Unknown::Type(name.to_owned())
    }
}

impl Sets {
    /// Whether a lookup leaves the set as it was and the next one finds the same: it counts nothing and
    /// nothing in it ages.
    pub fn is_plain(&self, set: &SetRef) -> bool {
        self.plain(&set.name, true)
    }

    /// Whether a lookup asks a packet for its addresses, its destination port, its mark and its devices at
    /// most.
    pub fn asks_no_source_port(&self, set: &SetRef) -> bool {
        let fine = |(dim, src): (&Dim, &bool)| match dim {
            Dim::Port => !src,
            Dim::Ip | Dim::Net | Dim::Mark | Dim::Iface => true,
            Dim::Mac | Dim::Set => false,
        };
        let header = self.sets.get(&*set.name).and_then(Set::header);
        header.is_some_and(|h| h.kind.dims().iter().zip(&set.src).all(fine))
    }

    fn plain(&self, name: &str, lists: bool) -> bool {
        let plain = |h: &Header| h.timeout.is_none() && !h.counters;
        match self.sets.get(name).map(|s| &s.content) {
            Some(Content::Store(header, _)) => plain(header),
            Some(Content::List(header, members)) => {
                lists && plain(header) && members.iter().all(|m| self.plain(&m.name, false))
            }
            _ => false,
        }
    }

    /// Looks a packet up (`-m set --match-set NAME src,dst`) and counts it.
    pub fn test(
        &mut self,
        set: &SetRef,
        packet: &Packet<'_>,
        flags: &TestFlags,
        now: Instant,
    ) -> Result<Found, Unknown> {
        let members = match self.sets.get_full(&*set.name) {
            None => return Err(Unknown::NoSuchSet(set.name.clone())),
            Some((_, _, list)) => match &list.content {
                Content::List(_, members) => members.len(),
                _ => return self.test_one(&set.name, &set.src, packet, flags, now),
            },
        };
        self.test_list(set, members, packet, flags, now)
    }

    /// `list_set_ktest`: the first member that has the packet decides; counters of the list are its own.
    fn test_list(
        &mut self,
        set: &SetRef,
        members: usize,
        packet: &Packet<'_>,
        flags: &TestFlags,
        now: Instant,
    ) -> Result<Found, Unknown> {
        let inner = TestFlags {
            keep_counters: flags.keep_counters || flags.keep_subcounters,
            packets: Compare::Any,
            bytes: Compare::Any,
            ..*flags
        };
        let ask = ask(flags, packet);
        for at in 0..members {
            let list = self.sets.get(&*set.name).map(|s| &s.content);
            let Some(Content::List(header, all)) = list else {
                break;
            };
            if header.has_unknown() {
                return Err(Unknown::of(&set.name));
            }
            let Some(member) = all.get(at).filter(|m| m.ext.timeout.live(now)) else {
                continue;
            };
            if set.src.is_empty() {
                break;
            }
            let name = member.name.clone();
            let mut found = self.test_one(&name, &set.src, packet, &inner, now)?;
            let list = self.sets.get_mut(&*set.name).map(|s| &mut s.content);
            let Some(Content::List(header, all)) = list else {
                break;
            };
            let Some(member) = all.get_mut(at).filter(|_| found.matched) else {
                continue;
            };
            if member.unknown.is_some() {
                return Err(Unknown::of(&set.name));
            }
            if match_ext(&mut member.ext, header, &ask, now) {
                if let (Some(hit), true) = (&mut found.hit, header.skbinfo) {
                    hit.skb = Some(member.ext.skb);
                }
                return Ok(found);
            }
        }
        Ok(Found::default())
    }

    /// `ip_set_test` on a set that is no list.
    fn test_one(
        &mut self,
        name: &str,
        src: &[bool],
        packet: &Packet<'_>,
        flags: &TestFlags,
        now: Instant,
    ) -> Result<Found, Unknown> {
        let Some((_, shared, set)) = self.sets.get_full_mut(name) else {
            return Err(Unknown::NoSuchSet(name.to_owned()));
        };
        let Content::Store(header, store) = &mut set.content else {
            return Err(Unknown::of(name));
        };
        if header.has_unknown() {
            return Err(Unknown::of(name));
        }
        let dims = header.kind.dims().len();
        let key = match src.len() < dims {
            true => Err(Refused::NotInPacket),
            false => key(header, store, packet, src, flags.physdev, For::Test),
        };
        let (key, mac) = match key {
            Ok(found) => found,
            Err(why) => {
                return Ok(Found {
                    why_not: Some(why),
                    ..Found::default()
                });
            }
        };
        let matched = match store.test(header, &key, mac, &ask(flags, packet), now) {
            Tested::Miss => return Ok(Found::default()),
            Tested::Hit(matched) => matched,
            Tested::Incomplete(key) => {
                // The kernel fills the link-layer address in (`ip_set_test` on -EAGAIN); an error
                // changes nothing.
                let _ = store.add(header, key, mac, &of_packet(packet, None), false, now);
                Matched {
                    key,
                    mac,
                    nomatch: false,
                    skb: None,
                    unknown: false,
                }
            }
        };
        if matched.unknown {
            return Err(Unknown::of(name));
        }
        let inverted = flags.return_nomatch && header.kind.has_nomatch();
        Ok(Found {
            matched: matched.nomatch == inverted,
            hit: Some(Hit {
                set: shared.clone(),
                key: matched.key,
                mac: matched.mac,
                nomatch: matched.nomatch,
                skb: matched.skb,
            }),
            why_not: None,
        })
    }

    /// Adds what the packet has (`-j SET --add-set`): networks with the longest prefix in the set. Of a
    /// list:set, to
    /// the first member that takes it. `timeout` in seconds; with `exist` an element that is there
    /// starts anew.
    pub fn add(
        &mut self,
        set: &SetRef,
        packet: &Packet<'_>,
        timeout: Option<u32>,
        exist: bool,
        now: Instant,
    ) -> Result<(), Refused> {
        let timeout = timeout.map(|t| t.min(super::header::TIMEOUT_MAX));
        self.change(set, &mut |header, store| {
            let (key, mac) = change_key(header, store, packet, &set.src)?;
            let ext = of_packet(packet, timeout);
            store.add(header, key, mac, &ext, exist, now)
        })
    }

    /// Deletes what the packet has (`-j SET --del-set`).
    pub fn del(&mut self, set: &SetRef, packet: &Packet<'_>, now: Instant) -> Result<(), Refused> {
        self.change(set, &mut |header, store| {
            let (key, _) = change_key(header, store, packet, &set.src)?;
            store.del(header, &key, now)
        })
    }

    /// Changes a set, or the first member of a list that can be changed (`list_set_kadd`, `list_set_kdel`).
    fn change(
        &mut self,
        set: &SetRef,
        change: &mut dyn FnMut(&Header, &mut Store) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let mut one = |sets: &mut Sets, name: &str| {
            let set = sets.sets.get_mut(name).ok_or(Refused::NoSuchSet)?;
            match &mut set.content {
                Content::Store(header, _) if header.has_unknown() => Err(Refused::Unknown),
                Content::Store(header, store) => change(header, store),
                _ => Err(Refused::Unknown),
            }
        };
        let list = self.sets.get(&*set.name).map(|s| &s.content);
        let Some(Content::List(_, members)) = list else {
            return one(self, &set.name);
        };
        let names: Vec<Arc<str>> = members.iter().map(|m| m.name.clone()).collect();
        let mut last = Err(Refused::NotInPacket);
        for name in names {
            last = one(self, &name);
            if last.is_ok() {
                break;
            }
        }
        last
    }

    /// The element that decided, as `ipset save` writes it.
    pub fn hit_text(&self, hit: &Hit) -> String {
        let mut out = String::new();
        if let Some(header) = self.get(&hit.set).and_then(|s| s.header()) {
            show_key(header.kind, header.family, &hit.key, hit.mac, &mut out);
        }
        out
    }
}

fn change_key(
    header: &Header,
    store: &Store,
    packet: &Packet<'_>,
    src: &[bool],
) -> Result<(Key, Option<MacAddr>), Refused> {
    match src.len() < header.kind.dims().len() {
        true => Err(Refused::NotInPacket),
        false => key(header, store, packet, src, false, For::Change),
    }
}

/// IP_SET_INIT_KEXT: a packet that is added is counted.
fn of_packet(packet: &Packet<'_>, timeout: Option<u32>) -> ExtIn {
    ExtIn {
        timeout,
        packets: Some(1),
        bytes: Some(u64::from(packet.len)),
        ..ExtIn::default()
    }
}

fn ask(flags: &TestFlags, packet: &Packet<'_>) -> Ask {
    let compared = (flags.packets, flags.bytes);
    Ask {
        update: (!flags.keep_counters).then_some((1, u64::from(packet.len))),
        compare: (compared != (Compare::Any, Compare::Any)).then_some(compared),
    }
}
