//! Which rules of a chain can match a packet at all, found by hash instead of one by one.
//!
//! Every rule is filed under the rarest of the exact things it asks (address, prefix, interface, protocol
//! and port, mark, bridge port); a packet's candidates are the lists of its own values and the rules that
//! ask nothing exact, merged in the order of the chain. Lists are found by hash alone: that of another value
//! with the same hash is asked in vain, as without the index. Invariant: a rule that is passed over would
//! have failed before any of its matches could change state or drop. For that the packet is whole
//! ([`Index::fits`]).

use super::packet::Pkt;
use super::program::{Cond, PRule, name_bits};
use crate::net::NetNs;
use crate::nf::cells::Cells;
use crate::nf::field::Is;
use crate::nf::value::{AddrMask, IfName};
use crate::nf::{Family, Match};
use crate::wire::Frame;
use arrayvec::ArrayVec;
use core::hash::BuildHasher;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use smallvec::SmallVec;
use std::net::IpAddr;

/// Chains shorter than this are asked rule by rule.
const SHORTEST: usize = 8;
/// A kind of key under which fewer rules are filed is not worth its lookup.
const FEWEST: u32 = 4;
/// Lists that are merged at most; kinds beyond it go to the rules that are always asked.
const LISTS: usize = 24;

/// What a rule is filed under.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Kind {
    /// Destination, protocol and port.
    DstPort,
    Dst,
    Src,
    Port,
    Mark,
    PhysIn,
    PhysOut,
    In,
    Out,
    DstNet(u8),
    SrcNet(u8),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Key {
    kind: Kind,
    /// Protocol << 16 | port.
    port: u32,
    value: u128,
}

impl Key {
    /// Of a destination and a protocol's port.
    fn dst_port(port: u32, dst: IpAddr) -> Key {
        Key {
            kind: Kind::DstPort,
            port,
            value: bits(dst),
        }
    }
}

/// Marks a number that is a list's, not a rule's.
const LIST: u32 = 1 << 31;

/// The index of one chain.
#[derive(Clone, Debug)]
pub(super) struct Index {
    kinds: Vec<Kind>,
    /// By the hash of a key: where in `rules` the only rule stands, or which list.
    found: Cells,
    /// Where in `rules` a list begins, and where it has ended.
    lists: Vec<(u32, u32)>,
    rules: Vec<u32>,
    rest: Vec<u32>,
}

fn hash(key: &Key) -> u64 {
    FixedState::default().hash_one(key)
}

/// A packet's values of the things that are indexed.
struct Values<'a> {
    ns: &'a NetNs,
    pkt: &'a Pkt,
    port: Option<u32>,
    mark: u32,
    names: [Option<crate::base::DevId>; 4],
}

/// The candidates of a packet from one place of a chain on.
pub(super) struct Candidates<'p> {
    lists: SmallVec<[&'p [u32]; 4]>,
}

impl Candidates<'_> {
    /// The next rule.
    pub fn next(&mut self) -> Option<u32> {
        if let [only] = self.lists.as_mut_slice() {
            let (first, rest) = only.split_first()?;
            *only = rest;
            return Some(*first);
        }
        let (at, first) = self
            .lists
            .iter()
            .enumerate()
            .filter_map(|(i, l)| Some((i, *l.first()?)))
            .min_by_key(|(_, rule)| *rule)?;
        if let Some(list) = self.lists.get_mut(at) {
            *list = list.get(1..).unwrap_or_default();
            if list.is_empty() {
                self.lists.swap_remove(at);
            }
        }
        Some(first)
    }
}

impl Index {
    /// The index of a chain that is long enough and has enough exact rules.
    pub fn build(rules: &[PRule], conds: &[Cond]) -> Option<Index> {
        if rules.len() < SHORTEST {
            return None;
        }
        let of = |r: &PRule| {
            keys(
                conds
                    .get(r.from as usize..r.to as usize)
                    .unwrap_or_default(),
            )
        };
        let mut frequency: HashMap<Key, u32, FixedState> = HashMap::default();
        for key in rules.iter().flat_map(of) {
            *frequency.entry(key).or_default() += 1;
        }
        // The rarest key; of equals the first, which is the more telling one.
        let rarest = |r: &PRule| of(r).into_iter().min_by_key(|k| (frequency[k], k.kind));
        let chosen: Vec<Option<Key>> = rules.iter().map(rarest).collect();
        let kinds = worth_it(&chosen);
        if kinds.is_empty() {
            return None;
        }
        let mut rest = Vec::new();
        let mut filed = Vec::new();
        for (i, key) in chosen.iter().enumerate() {
            match key.filter(|k| kinds.contains(&k.kind)) {
                Some(key) => filed.push((hash(&key) >> 32, i as u32)),
                None => rest.push(i as u32),
            }
        }
        // Each list in the order of the rules.
        filed.sort_unstable();
        let (mut found, mut lists) = (Cells::default(), Vec::new());
        let mut start = 0;
        for list in filed.chunk_by(|a, b| a.0 == b.0) {
            let end = start + list.len() as u32;
            let number = match list {
                [_] => start,
                _ => {
                    lists.push((start, end));
                    (lists.len() as u32 - 1) | LIST
                }
            };
            let hash = list.first().map_or(0, |l| l.0);
            found.enter(hash << 32, number);
            start = end;
        }
        Some(Index {
            kinds,
            found,
            lists,
            rules: filed.into_iter().map(|(_, rule)| rule).collect(),
            rest,
        })
    }

    /// The hash by which rules of a destination and a port are filed, if there are any; asks for its memory.
    pub fn ahead(&self, dst: IpAddr, proto: u8, port: u16) -> Option<u64> {
        if !self.kinds.contains(&Kind::DstPort) {
            return None;
        }
        let hash = hash(&Key::dst_port(
            u32::from(proto) << 16 | u32::from(port),
            dst,
        ));
        self.found.ahead(hash);
        Some(hash)
    }

    /// The first rule of a hash.
    pub fn first(&self, hash: u64) -> Option<u32> {
        self.list(hash)?.first().copied()
    }

    /// The rules that are filed under a hash.
    fn list(&self, hash: u64) -> Option<&[u32]> {
        let (_, number) = self.found.find(hash, |_| true)?;
        let (start, end) = match number & LIST {
            0 => (number, number + 1),
            _ => *self.lists.get((number & !LIST) as usize)?,
        };
        self.rules.get(start as usize..end as usize)
    }

    /// Whether a packet's candidates can be looked up: no header is cut short, so that no match drops for
    /// it, and a bridged packet has its port (`physdev_mt` asks nothing of one that has none).
    pub fn fits(f: &Frame, pkt: &Pkt) -> bool {
        pkt.is_whole(f) && f.bridged.is_none_or(|b| b.physin.is_some())
    }

    /// The rules from `from` on that can match.
    pub fn candidates(
        &self,
        from: u32,
        ns: &NetNs,
        f: &Frame,
        pkt: &Pkt,
        at: &super::At,
    ) -> Candidates<'_> {
        let port = match (pkt.proto, pkt.fragoff) {
            (Ok(proto), 0) => pkt
                .ports(f)
                .map(|(_, d)| u32::from(proto) << 16 | u32::from(d)),
            _ => None,
        };
        let values = Values {
            ns,
            pkt,
            port,
            mark: f.mark,
            names: [
                super::chain::input(at),
                at.output,
                f.bridged.and_then(|b| b.physin),
                f.bridged.and_then(|b| b.physout),
            ],
        };
        let mut lists: SmallVec<[&[u32]; 4]> = SmallVec::new();
        let kinds = self.kinds.iter();
        let filed = kinds.filter_map(|kind| self.list(hash(&values.key(*kind)?)));
        for list in filed.chain([self.rest.as_slice()]) {
            let behind = match from {
                0 => 0,
                _ => list.partition_point(|r| *r < from),
            };
            let list = list.get(behind..).unwrap_or_default();
            // Keys of two kinds may have one hash: their list is one.
            let known = |l: &&[u32]| core::ptr::eq(l.as_ptr(), list.as_ptr());
            if !list.is_empty() && !lists.iter().any(known) {
                lists.push(list);
            }
        }
        Candidates { lists }
    }
}

/// Kinds that enough rules chose, commonest first.
fn worth_it(chosen: &[Option<Key>]) -> Vec<Kind> {
    let mut counts: std::collections::BTreeMap<Kind, u32> = std::collections::BTreeMap::new();
    for key in chosen.iter().flatten() {
        *counts.entry(key.kind).or_default() += 1;
    }
    let mut kinds: Vec<(Kind, u32)> = counts.into_iter().filter(|k| k.1 >= FEWEST).collect();
    kinds.sort_by_key(|k| core::cmp::Reverse(k.1));
    kinds.truncate(LISTS);
    kinds.into_iter().map(|k| k.0).collect()
}

impl Values<'_> {
    fn key(&self, kind: Kind) -> Option<Key> {
        let plain = |value| {
            Some(Key {
                kind,
                port: 0,
                value,
            })
        };
        let name = |at: usize| {
            let dev = self.names.get(at).copied().flatten();
            plain(name_bits(dev.map_or("", |d| self.ns.dev_name(d))))
        };
        match kind {
            Kind::DstPort => Some(Key::dst_port(self.port?, self.pkt.dst)),
            Kind::Port => Some(Key {
                kind,
                port: self.port?,
                value: 0,
            }),
            Kind::Dst => plain(bits(self.pkt.dst)),
            Kind::Src => plain(bits(self.pkt.src)),
            Kind::Mark => plain(u128::from(self.mark)),
            Kind::In => name(0),
            Kind::Out => name(1),
            Kind::PhysIn => name(2),
            Kind::PhysOut => name(3),
            Kind::DstNet(len) => plain(cut(bits(self.pkt.dst), len)),
            Kind::SrcNet(len) => plain(cut(bits(self.pkt.src), len)),
        }
    }
}

fn bits(a: IpAddr) -> u128 {
    match a {
        IpAddr::V4(a) => u128::from(u32::from(a)) << 96,
        IpAddr::V6(a) => u128::from(a),
    }
}

fn cut(bits: u128, len: u8) -> u128 {
    bits & u128::MAX
        .checked_shl(128 - u32::from(len.min(128)))
        .unwrap_or(0)
}

/// Everything exact that a rule asks before any of its matches has a side effect.
fn keys(conds: &[Cond]) -> ArrayVec<Key, 8> {
    let (mut keys, mut proto, mut dst) = (ArrayVec::new(), None, None);
    let mut add = |kind, port, value| {
        let _ = keys.try_push(Key { kind, port, value });
    };
    for cond in conds {
        match &cond.m {
            Match::Destination(is) => {
                if let Some((len, full)) = exact(is) {
                    let value = bits(is.value.addr);
                    dst = full.then_some(value);
                    add(if full { Kind::Dst } else { Kind::DstNet(len) }, 0, value);
                }
            }
            Match::Source(is) => {
                if let Some((len, full)) = exact(is) {
                    let kind = if full { Kind::Src } else { Kind::SrcNet(len) };
                    add(kind, 0, bits(is.value.addr));
                }
            }
            Match::InInterface(is) => {
                if let Some(value) = exact_name(is) {
                    add(Kind::In, 0, value);
                }
            }
            Match::OutInterface(is) => {
                if let Some(value) = exact_name(is) {
                    add(Kind::Out, 0, value);
                }
            }
            Match::Protocol(is) if !is.not && is.value.0 != 0 => proto = Some(is.value.0),
            Match::Mark(m) => {
                if let Some(is) = m.mark.filter(|m| !m.not && m.value.mask == u32::MAX) {
                    add(Kind::Mark, 0, u128::from(is.value.value));
                }
            }
            Match::Physdev(p) => {
                if let Some(value) = p.output.as_ref().and_then(exact_name) {
                    add(Kind::PhysOut, 0, value);
                }
                if let Some(value) = p.input.as_ref().and_then(exact_name) {
                    add(Kind::PhysIn, 0, value);
                }
            }
            m => {
                if let Some((port, proto)) = dport(m).zip(proto) {
                    let port = u32::from(proto) << 16 | u32::from(port);
                    match dst {
                        Some(value) => add(Kind::DstPort, port, value),
                        None => add(Kind::Port, port, 0),
                    }
                }
            }
        }
        if has_effect(&cond.m) {
            break;
        }
    }
    keys
}

/// Prefix length on 128 bits and whether it is a host's.
fn exact(is: &Is<AddrMask>) -> Option<(u8, bool)> {
    let len = is.value.prefix_len().filter(|l| *l > 0 && !is.not)?;
    let longest = match Family::of(is.value.addr) {
        Family::V4 => 32,
        Family::V6 => 128,
    };
    Some((len as u8, len >= longest))
}

fn exact_name(is: &Is<IfName>) -> Option<u128> {
    let name = &is.value.0;
    (!is.not && !name.ends_with('+') && name.len() < 16).then(|| name_bits(name))
}

/// The one destination port a match wants.
fn dport(m: &Match) -> Option<u16> {
    let ports = match m {
        Match::Tcp(t) => t.dport,
        Match::Udp(u) => u.dport,
        Match::Sctp(s) => s.dport,
        _ => None,
    };
    let one = ports.filter(|p| !p.not && p.value.min == p.value.max)?;
    Some(one.value.min)
}

/// Whether asking this match can change anything or drop a whole packet, so that nothing behind it may
/// decide alone.
pub(super) fn has_effect(m: &Match) -> bool {
    match m {
        Match::Tcp(t) => t.option.is_some(),
        Match::Sctp(s) => s.chunks.is_some(),
        Match::Statistic(_) | Match::Recent(_) | Match::Limit(_) | Match::Hashlimit(_) => true,
        Match::Nfacct(_) | Match::Set(_) | Match::Connlimit(_) | Match::Connlabel(_) => true,
        Match::Socket(_) | Match::Unknown { .. } => true,
        _ => false,
    }
}
