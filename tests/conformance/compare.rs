//! Comparison of what the kernel recorded with what podpath produced, interface by interface, in order.
//!
//! As `oracle diff` does: the n-th frame of an interface against the n-th, direction and normalised layers,
//! order kept within an interface and not between them. Tokens (ports, echo ids) are handed out in the
//! recording's frame order on both sides: the n-th emulated frame of an interface is shown to its
//! normaliser when the n-th recorded one is, so a different interleaving of interfaces is no difference,
//! and frames beyond the recorded number come last. Both a missing and a surplus frame count as compared
//! and not equal.
//!
//! Two things are the recorder's and the machine's, not the kernel's behaviour:
//! - Podpath takes no time, the kernel some tens of microseconds for each hop: frames of opposite directions that
//!   pass an interface within [`SWAP_NS`] may swap. The order within a direction is always kept.
//! - The recorder's ring cut long frames: podpath's is cut to the recorded length where the recorded packet says
//!   that it was longer.

use std::collections::BTreeMap;

use super::decode::{Layers, decode, is_neighbour_discovery, summary};
use super::norm::Normaliser;
use super::scenario::{Dir, Recorded};

/// So close in time frames of opposite directions may swap.
const SWAP_NS: u64 = 1_000_000;

/// What is left out of a comparison, and which ports are known.
pub struct Rules {
    /// Keep ARP, IPv6 neighbour discovery and multicast listener frames.
    pub arp: bool,
    /// Payloads by hash, not only by length.
    pub payload: bool,
    /// Ports that keep their numbers.
    pub fixed_ports: Vec<u16>,
}

/// One frame podpath produced.
#[derive(Clone, Debug)]
pub struct Emulated {
    /// `NS.DEV`.
    pub interface: String,
    /// Direction as the interface sees it.
    pub dir: Dir,
    /// Virtual time, nanoseconds since the first recorded frame.
    pub t_ns: u64,
    /// Without Ethernet header.
    pub l3: bool,
    /// The bytes.
    pub data: Vec<u8>,
}

/// The first place where the two differ, in the recording's order.
#[derive(Debug)]
pub struct Difference {
    /// `NS.DEV`.
    pub interface: String,
    /// Index among the interface's compared frames, from 0.
    pub index: usize,
    /// The kernel's frame as one line; absent when podpath's is surplus.
    pub recorded: Option<String>,
    /// Podpath's frame as one line; absent when it is missing.
    pub emulated: Option<String>,
    /// The normalised layers that differ, recorded against emulated.
    pub layers: Vec<String>,
    /// When the differing frame was sent: of the emulated frame where there is one.
    pub t_ns: u64,
}

/// The result for one recording.
#[derive(Debug, Default)]
pub struct Tally {
    /// Frames compared: of each interface the larger of the two numbers.
    pub compared: usize,
    /// Of them equal.
    pub equal: usize,
    /// The first difference.
    pub first: Option<Difference>,
}

/// One frame ready for comparison.
struct Item<'f> {
    dir: Dir,
    t_ns: u64,
    layers: Layers,
    /// The recorder cut it to so many bytes.
    cut: Option<usize>,
    data: &'f [u8],
    l3: bool,
}

impl Item<'_> {
    fn line(&self) -> String {
        let arrow = if self.dir == Dir::In { "in " } else { "out" };
        format!(
            "{}.{:06}s {arrow} {}",
            self.t_ns / 1_000_000_000,
            self.t_ns / 1000 % 1_000_000,
            summary(&self.layers)
        )
    }
}

/// Whether a frame takes part in the comparison.
pub fn kept(layers: &Layers, rules: &Rules) -> bool {
    rules.arp || !(layers.contains_key("arp") || is_neighbour_discovery(layers))
}

/// Compares the two lists; `recorded` holds only what podpath has to produce.
pub fn compare(recorded: &[Recorded], emulated: &[Emulated], rules: &Rules) -> Tally {
    let mut theirs: BTreeMap<&str, Vec<Item<'_>>> = BTreeMap::new();
    let mut ours: BTreeMap<&str, Vec<Item<'_>>> = BTreeMap::new();
    let mut order: Vec<(&str, usize)> = Vec::new();
    for f in recorded {
        let item = Item {
            dir: f.dir,
            t_ns: f.t_ns,
            layers: decode(&f.data, 0, f.l3),
            cut: cut(&f.data, f.l3),
            data: &f.data,
            l3: f.l3,
        };
        if kept(&item.layers, rules) {
            let list = theirs.entry(&f.interface).or_default();
            order.push((&f.interface, list.len()));
            list.push(item);
        }
    }
    for f in emulated {
        let item = Item {
            dir: f.dir,
            t_ns: f.t_ns,
            layers: decode(&f.data, 0, f.l3),
            cut: None,
            data: &f.data,
            l3: f.l3,
        };
        if kept(&item.layers, rules) {
            ours.entry(&f.interface).or_default().push(item);
        }
    }
    for (interface, list) in &mut ours {
        let recorded = theirs.get(interface).map_or(&[][..], Vec::as_slice);
        order.extend((recorded.len()..list.len()).map(|i| (*interface, i)));
        align(recorded, list);
    }
    let mut tally = Tally::default();
    let (mut left, mut right) = (
        Normaliser::new(&rules.fixed_ports, rules.payload),
        Normaliser::new(&rules.fixed_ports, rules.payload),
    );
    for (interface, index) in order {
        let (a, b) = (
            theirs.get(interface).and_then(|l| l.get(index)),
            ours.get(interface).and_then(|l| l.get(index)),
        );
        let (na, nb) = (
            a.map(|i| left.norm(&i.layers)),
            b.map(|i| right.norm(&i.layers)),
        );
        tally.compared += 1;
        if na == nb && a.map(|i| i.dir) == b.map(|i| i.dir) {
            tally.equal += 1;
        } else if tally.first.is_none() {
            tally.first = Some(Difference {
                interface: interface.to_owned(),
                index,
                recorded: a.map(Item::line),
                emulated: b.map(Item::line),
                layers: differing(na.as_ref(), nb.as_ref()),
                t_ns: b.or(a).map_or(0, |i| i.t_ns),
            });
        }
    }
    tally
}

/// The length of a frame that the recorder cut: its IP packet says that it is longer.
fn cut(data: &[u8], l3: bool) -> Option<usize> {
    let p = if l3 { data } else { data.get(14..)? };
    let two = |at: usize| {
        Some(usize::from(u16::from_be_bytes([
            *p.get(at)?,
            *p.get(at + 1)?,
        ])))
    };
    let says = match p.first()? >> 4 {
        4 if l3 || data.get(12..14) == Some(&[8, 0]) => two(2)?,
        6 if l3 || data.get(12..14) == Some(&[0x86, 0xdd]) => two(4)? + 40,
        _ => return None,
    };
    (says > p.len()).then_some(data.len())
}

/// Brings podpath's frames into the recording's order of directions where they are close, and cuts them where
/// the recorder did.
fn align(recorded: &[Item<'_>], ours: &mut [Item<'_>]) {
    for (i, theirs) in recorded.iter().enumerate() {
        let Some(first) = ours.get(i) else { return };
        // The frame that makes way has to have a place of its own there, as near.
        let room = recorded[i..]
            .iter()
            .take_while(|r| r.t_ns.abs_diff(theirs.t_ns) < SWAP_NS)
            .any(|r| r.dir == first.dir);
        let here = ours.iter().skip(i).position(|o| o.dir == theirs.dir);
        let near = here.filter(|n| room && ours[i + n].t_ns.abs_diff(first.t_ns) < SWAP_NS);
        if let Some(n) = near {
            ours[i..=i + n].rotate_right(1);
        }
        let Some(len) = theirs.cut else { continue };
        if let Some(short) = ours[i].data.get(..len) {
            ours[i].layers = decode(short, 0, ours[i].l3);
        }
    }
}

/// The top-level layers that differ, one line each.
fn differing(a: Option<&Layers>, b: Option<&Layers>) -> Vec<String> {
    let (Some(a), Some(b)) = (a, b) else {
        return Vec::new();
    };
    let mut names: Vec<&String> = a.keys().collect();
    names.extend(b.keys().filter(|k| !a.contains_key(*k)));
    let show = |l: &Layers, k: &str| l.get(k).map_or("absent".to_owned(), ToString::to_string);
    let differ = names.into_iter().filter(|k| a.get(*k) != b.get(*k));
    differ
        .map(|k| format!("{k}: {} / {}", show(a, k), show(b, k)))
        .collect()
}
