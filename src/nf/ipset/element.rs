//! One element: its key, its extensions, its text.
//!
//! Kernel: the `*_elem` structs and `struct ip_set_ext` (include/linux/netfilter/ipset/ip_set.h). Does
//! not find
//! elements. Invariant: the key is what makes two elements the same; everything else can be changed by
//! `-exist`.

use core::fmt::Write as _;
use core::time::Duration;

use super::kind::{Dim, Kind};
use super::{addr, names};
use crate::base::Instant;
use crate::nf::Family;
use crate::wire::MacAddr;

/// An interface's name, zero-padded (IFNAMSIZ).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct IfaceName([u8; 16]);

impl IfaceName {
    /// Longest name, in bytes.
    pub const MAX: usize = 15;

    /// The name, cut to what the kernel keeps (strscpy to IFNAMSIZ).
    pub fn new(name: &str) -> Self {
        let mut out = [0; 16];
        let kept = name.as_bytes().iter().take(Self::MAX);
        for (to, from) in out.iter_mut().zip(kept) {
            *to = *from;
        }
        IfaceName(out)
    }

    fn bytes(&self) -> &[u8] {
        let end = self.0.iter().position(|b| *b == 0).unwrap_or(16);
        self.0.get(..end).unwrap_or_default()
    }

    /// Whether there is no name.
    pub fn is_empty(&self) -> bool {
        self.0[0] == 0
    }

    /// Whether this name begins the other.
    pub fn begins(&self, other: &IfaceName) -> bool {
        other.bytes().starts_with(self.bytes())
    }
}

impl core::fmt::Display for IfaceName {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.bytes()))
    }
}

impl core::fmt::Debug for IfaceName {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{self}")
    }
}

/// What an element is found by. Fields that a set's type does not have are zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Key {
    /// First address, masked.
    pub ip: u128,
    /// Second address, masked.
    pub ip2: u128,
    /// Prefix length of the first address.
    pub cidr: u8,
    /// Prefix length of the second address.
    pub cidr2: u8,
    /// Protocol.
    pub proto: u8,
    /// Port, or ICMP type and code.
    pub port: u16,
    /// Link-layer address of hash types.
    pub mac: MacAddr,
    /// Packet mark.
    pub mark: u32,
    /// Interface.
    pub iface: IfaceName,
    /// The interface is a bridge port.
    pub physdev: bool,
}

impl Key {
    /// The address and prefix length of one of the two places.
    pub(super) fn addr(&self, second: bool) -> (u128, u8) {
        if second {
            (self.ip2, self.cidr2)
        } else {
            (self.ip, self.cidr)
        }
    }

    /// Sets the address and prefix length of one of the two places.
    pub(super) fn set_addr(&mut self, second: bool, ip: u128, cidr: u8) {
        let place = if second {
            (&mut self.ip2, &mut self.cidr2)
        } else {
            (&mut self.ip, &mut self.cidr)
        };
        (*place.0, *place.1) = (ip, cidr);
    }

    /// The key of all elements of one network, whatever their interface.
    pub(super) fn without_iface(mut self) -> Key {
        self.iface = IfaceName::default();
        self
    }
}

/// When an element ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Timeout {
    /// Never.
    #[default]
    Never,
    /// It is there until this moment, which included.
    Until(Instant),
    /// Its time begins when its link-layer address is filled in (bitmap:ip,mac); seconds.
    Stored(u32),
    /// It has ended, but its place still knows it (bitmap:ip,mac).
    Ended,
}

impl Timeout {
    /// `secs` from `now`; 0 is for ever (ip_set_timeout.h `ip_set_timeout_set`).
    pub fn new(secs: u32, now: Instant) -> Self {
        match secs {
            0 => Timeout::Never,
            s => Timeout::Until(now + Duration::from_secs(u64::from(s))),
        }
    }

    /// Whether the element is there (kernel: `ip_set_timeout_expired`).
    pub fn live(self, now: Instant) -> bool {
        match self {
            Timeout::Until(end) => now <= end,
            Timeout::Ended => false,
            Timeout::Never | Timeout::Stored(_) => true,
        }
    }

    /// Whether adding and deleting take the element for one that is there. Where the time of
    /// bitmap:ip,mac has not
    /// begun, ip_set_bitmap_gen.h compares the stored seconds with the clock and finds the element ended.
    pub(super) fn seems_live(self, now: Instant) -> bool {
        match self {
            Timeout::Stored(secs) => secs == 0,
            other => other.live(now),
        }
    }

    /// Seconds left as they are listed: 0 is for ever, the last second is 1 (`ip_set_timeout_get`).
    pub fn left(self, now: Instant) -> u64 {
        match self {
            Timeout::Never | Timeout::Ended => 0,
            Timeout::Until(end) => (end - now).as_secs().max(1),
            Timeout::Stored(secs) => u64::from(secs),
        }
    }
}

/// What `--map-set` gives to a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SkbInfo {
    /// Mark.
    pub mark: u32,
    /// Bits of the mark that are set.
    pub mask: u32,
    /// Class, `major << 16 | minor`.
    pub prio: u32,
    /// Hardware queue.
    pub queue: u16,
}

/// An element's extensions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ext {
    /// When it ends.
    pub timeout: Timeout,
    /// Packets that matched.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Comment.
    pub comment: Option<Box<str>>,
    /// For `--map-set`.
    pub skb: SkbInfo,
}

/// What a command or a packet says about extensions (kernel: IP_SET_INIT_UEXT, IP_SET_INIT_KEXT).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ExtIn {
    /// Seconds; `None` is the set's default.
    pub timeout: Option<u32>,
    /// Packets; `None` leaves the counter.
    pub packets: Option<u64>,
    /// Bytes; `None` leaves the counter.
    pub bytes: Option<u64>,
    /// Comment.
    pub comment: Option<Box<str>>,
    /// For `--map-set`.
    pub skb: SkbInfo,
    /// The element is an exception.
    pub nomatch: bool,
    /// The interface's name is a beginning.
    pub wildcard: bool,
    /// Option words that are not known, as they stood.
    pub unknown: Option<Box<str>>,
}

/// One element.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Element {
    /// What it is found by.
    pub key: Key,
    /// Extensions.
    pub ext: Ext,
    /// An exception: what it matches is not in the set.
    pub nomatch: bool,
    /// The interface's name is a beginning.
    pub wildcard: bool,
    /// Link-layer address of bitmap:ip,mac, once known.
    pub mac: Option<MacAddr>,
    /// Option words that are not known, as they stood.
    pub unknown: Option<Box<str>>,
    /// Order of arrival.
    pub(super) seq: u64,
}

fn show_mac(mac: MacAddr, out: &mut String) {
    for (i, b) in mac.0.iter().enumerate() {
        let _ = write!(out, "{}{b:02X}", if i > 0 { ":" } else { "" });
    }
}

/// Writes a key as `ipset save` does.
pub(super) fn show_key(
    kind: Kind,
    family: Family,
    key: &Key,
    mac: Option<MacAddr>,
    out: &mut String,
) {
    let mut second = false;
    for (i, dim) in kind.dims().iter().enumerate() {
        let comma = if i > 0 { "," } else { "" };
        match dim {
            Dim::Mac if kind == Kind::BitmapIpMac && mac.is_none() => continue,
            _ => out.push_str(comma),
        }
        match dim {
            Dim::Ip | Dim::Net => {
                let (ip, cidr) = key.addr(second);
                out.push_str(&addr::show(family, ip));
                if *dim == Dim::Net && cidr != addr::width(family) {
                    let _ = write!(out, "/{cidr}");
                }
                second = true;
            }
            Dim::Port if kind == Kind::BitmapPort => out.push_str(&key.port.to_string()),
            Dim::Port => names::show_port(key.proto, key.port, family, out),
            Dim::Mac => show_mac(mac.unwrap_or(key.mac), out),
            Dim::Mark => {
                let _ = write!(out, "0x{:08x}", key.mark);
            }
            Dim::Iface => {
                let _ = write!(
                    out,
                    "{}{}",
                    if key.physdev { "physdev:" } else { "" },
                    key.iface
                );
            }
            Dim::Set => {}
        }
    }
}
