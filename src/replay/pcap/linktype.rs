//! The link types we take, by their numbers in the tcpdump.org registry.

use core::fmt;

/// What a captured packet begins with. Numbers: <https://www.tcpdump.org/linktypes.html>.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LinkType {
    /// 0: four bytes of address family in the byte order of the capturing machine, then IP (BSD loopback).
    Null,
    /// 1: Ethernet II or 802.3.
    Ethernet,
    /// 101, and 12 and 14 as files of some systems have it: IPv4 or IPv6 by the version field.
    Raw,
    /// 108: as `Null`, but the family in network byte order (OpenBSD loopback).
    Loop,
    /// 113: Linux "cooked" v1, what `tcpdump -i any` of older releases wrote.
    LinuxSll,
    /// 228: IPv4.
    Ipv4,
    /// 229: IPv6.
    Ipv6,
    /// 276: Linux "cooked" v2, with the interface index.
    LinuxSll2,
    /// Any other: kept, but [`super::link::to_ethernet`] refuses it.
    Other(u16),
}

impl LinkType {
    /// The link type of a number as it stands in a file.
    pub const fn from_code(code: u16) -> Self {
        match code {
            0 => LinkType::Null,
            1 => LinkType::Ethernet,
            12 | 14 | 101 => LinkType::Raw,
            108 => LinkType::Loop,
            113 => LinkType::LinuxSll,
            228 => LinkType::Ipv4,
            229 => LinkType::Ipv6,
            276 => LinkType::LinuxSll2,
            n => LinkType::Other(n),
        }
    }

    /// The number to write into a file.
    pub const fn code(self) -> u16 {
        match self {
            LinkType::Null => 0,
            LinkType::Ethernet => 1,
            LinkType::Raw => 101,
            LinkType::Loop => 108,
            LinkType::LinuxSll => 113,
            LinkType::Ipv4 => 228,
            LinkType::Ipv6 => 229,
            LinkType::LinuxSll2 => 276,
            LinkType::Other(n) => n,
        }
    }
}

impl fmt::Display for LinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            LinkType::Null => "NULL (0)",
            LinkType::Ethernet => "Ethernet (1)",
            LinkType::Raw => "raw IP (101)",
            LinkType::Loop => "LOOP (108)",
            LinkType::LinuxSll => "Linux cooked v1 (113)",
            LinkType::Ipv4 => "raw IPv4 (228)",
            LinkType::Ipv6 => "raw IPv6 (229)",
            LinkType::LinuxSll2 => "Linux cooked v2 (276)",
            LinkType::Other(n) => return write!(f, "link type {n}"),
        };
        f.write_str(name)
    }
}
