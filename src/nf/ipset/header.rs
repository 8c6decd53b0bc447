//! A set's create options: read, checked, printed.
//!
//! libipset's `create` argument tables (lib/ipset_*.c) and the kernel's `*_create` functions. Does not hold
//! elements. Invariant: options are printed in the order they were read when none of those that `ipset save`
//! always prints was missing; else in ipset 7.17's own order, with the kernel's defaults filled in.

use core::fmt::Write as _;

use super::addr;
use super::kind::{Dim, Kind, Method};
use super::wrong::{Refused, Wrong};
use crate::nf::Family;

/// IPSET_MAX_TIMEOUT, in seconds.
pub(super) const TIMEOUT_MAX: u32 = 2_147_483;
/// IPSET_BITMAP_MAX_RANGE + 1.
const BITMAP_MAX: u128 = 65_536;

/// One create option.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CreateOption {
    /// `family inet|inet6`.
    Family(Family),
    /// `markmask`.
    Markmask(u32),
    /// `range`: first and last, both included.
    Range(u128, u128),
    /// `size` of a list:set; the kernel ignores it.
    Size(u32),
    /// `hashsize`, a power of two.
    Hashsize(u32),
    /// `maxelem`.
    Maxelem(u32),
    /// `netmask`.
    Netmask(u8),
    /// `bitmask`.
    Bitmask(u128),
    /// `timeout`: the default, in seconds.
    Timeout(u32),
    /// `counters`.
    Counters,
    /// `comment`.
    Comment,
    /// `skbinfo`.
    Skbinfo,
    /// `forceadd`.
    Forceadd,
    /// `bucketsize`.
    Bucketsize(u8),
    /// `initval`.
    Initval(u32),
    /// An option that is not known, with its words, as it stood.
    Unknown(Box<str>),
}

/// Names of the options that are known, and how many words follow.
const NAMES: &[(&str, usize)] = &[
    ("family", 1),
    ("markmask", 1),
    ("range", 1),
    ("size", 1),
    ("hashsize", 1),
    ("maxelem", 1),
    ("netmask", 1),
    ("bitmask", 1),
    ("timeout", 1),
    ("counters", 0),
    ("comment", 0),
    ("skbinfo", 0),
    ("forceadd", 0),
    ("bucketsize", 1),
    ("initval", 1),
    ("probes", 1),
    ("resize", 1),
    ("gc", 1),
];

/// A set's type and options.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Type.
    pub kind: Kind,
    /// Family of the addresses; V4 where the type has none.
    pub family: Family,
    /// The options as they are printed.
    pub options: Vec<CreateOption>,
    /// Default timeout; `None`: elements have none.
    pub timeout: Option<u32>,
    /// Elements count packets.
    pub counters: bool,
    /// Elements have comments.
    pub comment: bool,
    /// Elements map packets.
    pub skbinfo: bool,
    /// A full set drops an element for a new one.
    pub forceadd: bool,
    /// Most elements of a hash.
    pub maxelem: u32,
    /// Bits of addresses that are stored.
    pub mask: u128,
    /// Addresses between two networks of the netmask's size.
    pub step: u128,
    /// Bits of marks that are stored.
    pub markmask: u32,
    /// First and last of a bitmap.
    pub range: (u128, u128),
}

/// An option's name without `--` (libipset parse.c `ipset_match_option`).
pub(super) fn bare(word: &str) -> &str {
    word.strip_prefix("--").unwrap_or(word)
}

/// A word with quotes if it needs them.
pub(super) fn quoted(word: &str) -> String {
    if word.is_empty() || word.contains(char::is_whitespace) {
        format!("\"{word}\"")
    } else {
        word.to_owned()
    }
}

impl Header {
    /// A header without options.
    fn new(kind: Kind, family: Family) -> Self {
        Header {
            kind,
            family,
            options: Vec::new(),
            timeout: None,
            counters: false,
            comment: false,
            skbinfo: false,
            forceadd: false,
            maxelem: 65_536,
            mask: addr::full(family),
            step: 1,
            markmask: u32::MAX,
            range: (0, 0),
        }
    }

    /// Reads the words after the type's name; `base` is the first one's place in the command.
    /// The second result are places of options that are not known and were kept.
    pub(super) fn read(
        kind: Kind,
        words: &[&str],
        base: usize,
    ) -> Result<(Header, Vec<usize>), Wrong> {
        let family = family_of(kind, words, base)?;
        let mut header = Header::new(kind, family);
        let mut unknown = Vec::new();
        let mut seen: Vec<&str> = Vec::new();
        let mut at = 0;
        while let Some(word) = words.get(at) {
            let place = base + at;
            at += 1;
            let Some((name, values)) = NAMES.iter().find(|n| n.0 == bare(word)) else {
                unknown.push(place);
                let is_name = |w: &&str| NAMES.iter().any(|n| n.0 == bare(w));
                let rest = words.get(at..).unwrap_or_default();
                let more = rest.iter().take_while(|w| !is_name(w)).count();
                let all = words.get(at - 1..at + more).unwrap_or_default();
                let text: Vec<String> = all.iter().map(|w| quoted(w)).collect();
                header
                    .options
                    .push(CreateOption::Unknown(text.join(" ").into()));
                at += more;
                continue;
            };
            let value = match (values, words.get(at)) {
                (0, _) => "",
                (_, Some(value)) => value,
                (_, None) => return Err(Wrong::expected(place, format!("a value after `{name}`"))),
            };
            at += values;
            if *values > 0 && seen.contains(name) {
                return Err(Wrong::expected(place, format!("`{name}` once")));
            }
            seen.push(name);
            if !allowed(kind, name) {
                let what = format!("an option of {}; it has no `{name}`", kind.name());
                return Err(Wrong::expected(place, what));
            }
            let option = read_option(name, value, kind, family)
                .map_err(|e| Wrong::expected(place + 1, e))?;
            header.options.extend(option);
        }
        header.derive(base)?;
        header.fill();
        Ok((header, unknown))
    }

    /// Sets the fields that the options stand for; the last of two equal options counts.
    fn derive(&mut self, base: usize) -> Result<(), Wrong> {
        let mut masks = 0;
        let mut ranged = false;
        let mut prefix = None;
        for option in &self.options {
            match option {
                CreateOption::Markmask(m) => self.markmask = *m,
                CreateOption::Range(a, b) => (self.range, ranged) = ((*a, *b), true),
                CreateOption::Maxelem(n) => self.maxelem = *n,
                CreateOption::Netmask(p) => {
                    masks += 1;
                    prefix = Some(*p);
                    self.mask = addr::mask(self.family, *p);
                }
                CreateOption::Bitmask(m) => {
                    masks += 1;
                    self.mask = *m;
                }
                CreateOption::Timeout(t) => self.timeout = Some(*t),
                CreateOption::Counters => self.counters = true,
                CreateOption::Comment => self.comment = true,
                CreateOption::Skbinfo => self.skbinfo = true,
                CreateOption::Forceadd => self.forceadd = true,
                _ => {}
            }
        }
        if masks > 1 {
            return Err(Wrong::expected(base, "one of `netmask` and `bitmask`"));
        }
        if let Some(p) = prefix {
            let free = u32::from(addr::width(self.family).saturating_sub(p));
            self.step = 1u128.checked_shl(free).unwrap_or(u128::MAX);
        }
        if self.kind.method() == Method::Bitmap {
            if !ranged {
                return Err(Wrong::expected(base, "`range FROM-TO`"));
            }
            self.bitmap(prefix).map_err(|e| Wrong::refused(base, e))?;
        }
        Ok(())
    }

    /// The range of a bitmap, widened to whole networks (ip_set_bitmap_ip.c `bitmap_ip_create`).
    fn bitmap(&mut self, prefix: Option<u8>) -> Result<(), Refused> {
        let (mut first, mut last) = self.range;
        if let Some(p) = prefix {
            first &= self.mask;
            last |= addr::full(self.family) & !self.mask;
            let common = (first ^ last).leading_zeros().saturating_sub(128 - 32);
            if u32::from(p) <= common {
                return Err(Refused::Range);
            }
        }
        self.range = (first, last);
        if (last - first) / self.step + 1 > BITMAP_MAX {
            return Err(Refused::RangeSize);
        }
        for option in &mut self.options {
            if let CreateOption::Range(a, b) = option {
                (*a, *b) = (first, last);
            }
        }
        Ok(())
    }

    /// Adds what `ipset save` always prints.
    fn fill(&mut self) {
        let always: &[CreateOption] = match self.kind.method() {
            Method::Hash => &[
                CreateOption::Family(self.family),
                CreateOption::Markmask(u32::MAX),
                CreateOption::Hashsize(1024),
                CreateOption::Maxelem(65_536),
            ],
            Method::Bitmap => &[],
            Method::List => &[CreateOption::Size(8)],
        };
        let mut missing = false;
        for option in always {
            let there = self
                .options
                .iter()
                .any(|o| rank(self.kind, o) == rank(self.kind, option));
            let of_type = allowed(self.kind, name_of(option));
            if of_type && !there {
                missing = true;
                self.options.push(option.clone());
            }
        }
        if missing {
            let kind = self.kind;
            self.options.sort_by_key(|o| rank(kind, o));
        }
    }

    /// Whether an option is not known, so that what the set holds may mean something else.
    pub fn has_unknown(&self) -> bool {
        self.options
            .iter()
            .any(|o| matches!(o, CreateOption::Unknown(_)))
    }

    /// Whether `create -exist` accepts a second creation (kernel: `same_set` of each type).
    pub(super) fn same(&self, other: &Header) -> bool {
        let of = |h: &Header| {
            let flags = (h.counters, h.comment, h.skbinfo, h.forceadd);
            let size = h
                .options
                .iter()
                .find(|o| matches!(o, CreateOption::Size(_)))
                .cloned();
            // The family is compared only where the mask shows it (`mtype_same_set`).
            let shown = h.kind == Kind::HashIp || h.mask != addr::full(h.family);
            let mask = shown.then_some(h.mask);
            (
                (h.kind, h.timeout, flags),
                (h.maxelem, mask, h.markmask, h.range),
                size,
            )
        };
        of(self) == of(other)
    }

    /// The options as `ipset save` prints them, a space before each.
    pub(super) fn show(&self, out: &mut String) {
        for option in &self.options {
            out.push(' ');
            show_option(option, self.kind, self.family, out);
        }
    }
}

/// The family has to be known before addresses are read.
fn family_of(kind: Kind, words: &[&str], base: usize) -> Result<Family, Wrong> {
    let mut family = Family::V4;
    for (at, pair) in words.windows(2).enumerate() {
        if let [name, value] = pair
            && bare(name) == "family"
            && allowed(kind, "family")
        {
            family = match *value {
                "inet" | "ipv4" | "-4" => Family::V4,
                "inet6" | "ipv6" | "-6" => Family::V6,
                _ => {
                    return Err(Wrong::expected(
                        base + at + 1,
                        "inet or inet6 after `family`",
                    ));
                }
            };
        }
    }
    Ok(family)
}

/// Whether a type has an option.
fn allowed(kind: Kind, name: &str) -> bool {
    let hash = kind.method() == Method::Hash;
    match name {
        "timeout" | "counters" | "comment" | "skbinfo" => true,
        "family" => hash && kind != Kind::HashMac,
        "hashsize" | "maxelem" | "bucketsize" | "initval" | "forceadd" | "probes" | "resize" => {
            hash
        }
        "gc" => true,
        "netmask" => matches!(
            kind,
            Kind::HashIp | Kind::HashIpPort | Kind::HashNetNet | Kind::BitmapIp
        ),
        "bitmask" => matches!(kind, Kind::HashIp | Kind::HashIpPort | Kind::HashNetNet),
        "markmask" => kind == Kind::HashIpMark,
        "range" => kind.method() == Method::Bitmap,
        "size" => kind == Kind::ListSet,
        _ => false,
    }
}

fn u32_in(text: &str, min: u32, max: u32) -> Result<u32, String> {
    let n = addr::uint(text).and_then(|n| u32::try_from(n).ok());
    n.filter(|n| (min..=max).contains(n))
        .ok_or_else(|| format!("a number from {min} to {max}"))
}

fn read_option(
    name: &str,
    value: &str,
    kind: Kind,
    family: Family,
) -> Result<Option<CreateOption>, String> {
    Ok(Some(match name {
        "family" => CreateOption::Family(family),
        "markmask" => CreateOption::Markmask(u32_in(value, 1, u32::MAX)?),
        "range" => read_range(value, kind)?,
        "size" => CreateOption::Size(u32_in(value, 0, u32::MAX)?),
        "hashsize" => {
            let n = u32_in(value, 0, u32::MAX)?.max(64);
            CreateOption::Hashsize(n.checked_next_power_of_two().unwrap_or(1 << 31))
        }
        "maxelem" => CreateOption::Maxelem(u32_in(value, 0, u32::MAX)?),
        "netmask" => {
            let prefix = u32_in(value, 1, u32::from(addr::width(family)))?;
            CreateOption::Netmask(u8::try_from(prefix).unwrap_or(u8::MAX))
        }
        "bitmask" => match addr::read(family, value) {
            Some(m) if m != 0 => CreateOption::Bitmask(m),
            _ => return Err("an address that is the mask".to_owned()),
        },
        "timeout" => CreateOption::Timeout(u32_in(value, 0, TIMEOUT_MAX)?),
        "counters" => CreateOption::Counters,
        "comment" => CreateOption::Comment,
        "skbinfo" => CreateOption::Skbinfo,
        "forceadd" => CreateOption::Forceadd,
        "bucketsize" => {
            // ip_set_hash_gen.h: AHASH_INIT_SIZE 2, AHASH_MAX_SIZE 12, rounded up to an even number.
            let n = u32_in(value, 0, 255)?.clamp(2, 12).next_multiple_of(2);
            CreateOption::Bucketsize(u8::try_from(n).unwrap_or(12))
        }
        "initval" => CreateOption::Initval(u32_in(value, 0, u32::MAX)?),
        _ => return Ok(None), // probes, resize, gc: accepted and ignored by ipset
    }))
}

fn read_range(text: &str, kind: Kind) -> Result<CreateOption, String> {
    let port = kind.dims() == [Dim::Port];
    let what = || match port {
        true => "a range of ports FROM-TO".to_owned(),
        false => "a range of addresses FROM-TO or a network".to_owned(),
    };
    let one = |t: &str| match port {
        true => {
            let t = t
                .strip_prefix("tcp:")
                .or_else(|| t.strip_prefix("udp:"))
                .unwrap_or(t);
            crate::nf::value::port(t).map(u128::from)
        }
        false => addr::read(Family::V4, t),
    };
    if let Some((from, to)) = text.split_once('-') {
        let (from, to) = one(from).zip(one(to)).ok_or_else(what)?;
        return Ok(CreateOption::Range(from.min(to), from.max(to)));
    }
    let (net, prefix) = text.split_once('/').ok_or_else(what)?;
    let prefix = addr::uint(prefix).and_then(|p| u8::try_from(p).ok());
    let prefix = prefix.filter(|p| *p <= 32 && !port).ok_or_else(what)?;
    let net = one(net).ok_or_else(what)?;
    let mask = addr::mask(Family::V4, prefix);
    let last = net | (addr::full(Family::V4) & !mask);
    Ok(CreateOption::Range(net & mask, last))
}

fn name_of(option: &CreateOption) -> &'static str {
    match option {
        CreateOption::Family(_) => "family",
        CreateOption::Markmask(_) => "markmask",
        CreateOption::Size(_) => "size",
        CreateOption::Hashsize(_) => "hashsize",
        _ => "maxelem",
    }
}

/// ipset 7.17's order of printing; the masks of the types that got them last come last.
fn rank(kind: Kind, option: &CreateOption) -> u8 {
    match option {
        CreateOption::Family(_) | CreateOption::Range(..) | CreateOption::Size(_) => 0,
        CreateOption::Markmask(_) => 1,
        CreateOption::Hashsize(_) => 2,
        CreateOption::Maxelem(_) => 3,
        CreateOption::Netmask(_) if matches!(kind, Kind::HashIp | Kind::BitmapIp) => 4,
        CreateOption::Bitmask(_) if kind == Kind::HashIp => 5,
        CreateOption::Timeout(_) => 6,
        CreateOption::Counters => 7,
        CreateOption::Comment => 8,
        CreateOption::Forceadd => 9,
        CreateOption::Skbinfo => 10,
        CreateOption::Bucketsize(_) => 11,
        CreateOption::Initval(_) => 12,
        CreateOption::Bitmask(_) => 13,
        CreateOption::Netmask(_) => 14,
        CreateOption::Unknown(_) => 15,
    }
}

fn show_option(option: &CreateOption, kind: Kind, family: Family, out: &mut String) {
    let _ = match option {
        CreateOption::Family(Family::V4) => write!(out, "family inet"),
        CreateOption::Family(Family::V6) => write!(out, "family inet6"),
        CreateOption::Markmask(m) => write!(out, "markmask 0x{m:08x}"),
        CreateOption::Range(a, b) if kind == Kind::BitmapPort => write!(out, "range {a}-{b}"),
        CreateOption::Range(a, b) => {
            let show = |ip| addr::show(Family::V4, ip);
            write!(out, "range {}-{}", show(*a), show(*b))
        }
        CreateOption::Size(n) => write!(out, "size {n}"),
        CreateOption::Hashsize(n) => write!(out, "hashsize {n}"),
        CreateOption::Maxelem(n) => write!(out, "maxelem {n}"),
        CreateOption::Netmask(n) => write!(out, "netmask {n}"),
        CreateOption::Bitmask(m) => write!(out, "bitmask {}", addr::show(family, *m)),
        CreateOption::Timeout(n) => write!(out, "timeout {n}"),
        CreateOption::Counters => write!(out, "counters"),
        CreateOption::Comment => write!(out, "comment"),
        CreateOption::Skbinfo => write!(out, "skbinfo"),
        CreateOption::Forceadd => write!(out, "forceadd"),
        CreateOption::Bucketsize(n) => write!(out, "bucketsize {n}"),
        CreateOption::Initval(n) => write!(out, "initval 0x{n:08x}"),
        CreateOption::Unknown(text) => write!(out, "{text}"),
    };
}
