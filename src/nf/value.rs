//! The values of options: addresses with masks, interface patterns, port ranges, marks, protocols.
//!
//! Each reads the words iptables accepts and prints what iptables-save prints. Invariant: a value that
//! was read is in range; printing and reading it gives it back.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use super::field::Value;
use super::table::Family;
use super::words;
use crate::wire::MacAddr;

/// The first word of an option.
fn first<'a>(w: &[&'a str]) -> &'a str {
    w.first().copied().unwrap_or_default()
}

/// A number in decimal, `0x` hexadecimal or `0` octal, as strtoul(3) with base 0.
pub fn number(text: &str) -> Option<u64> {
    let digits = |t: &str, radix| match t.starts_with(|c: char| c.is_ascii_hexdigit()) {
        true => u64::from_str_radix(t, radix).ok(),
        false => None,
    };
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => digits(hex, 16),
        None if text.len() > 1 && text.starts_with('0') => digits(text, 8),
        None => digits(text, 10),
    }
}

macro_rules! numbers {
    ($($ty:ty)*) => { $(
        impl Value for $ty {
            fn read(_: &str, w: &[&str], _: Family) -> Result<Self, String> {
                let value = number(first(w)).and_then(|n| <$ty>::try_from(n).ok());
                value.ok_or_else(|| format!("a number from 0 to {}", <$ty>::MAX))
            }
            fn text(&self, out: &mut String) {
                out.push_str(&self.to_string());
            }
        }
    )* };
}
numbers!(u8 u16 u32 u64);

/// A number printed in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Hex(pub u32);

impl Value for Hex {
    fn read(o: &str, w: &[&str], f: Family) -> Result<Self, String> {
        u32::read(o, w, f).map(Hex)
    }
    fn text(&self, out: &mut String) {
        out.push_str(&format!("{:#x}", self.0));
    }
}

/// Words of a fixed list, by Rust name and by the text that stands for it.
macro_rules! choices {
    ($($(#[$meta:meta])* $name:ident {
        $($(#[$vmeta:meta])* $v:ident = $text:literal $(| $alias:literal)*,)+
    })+) => { $(
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum $name { $($(#[$vmeta])* #[doc = concat!("`", $text, "`")] $v,)+ }

        impl $crate::nf::field::Value for $name {
            fn read(_: &str, w: &[&str], _: $crate::nf::table::Family) -> Result<Self, String> {
                match w.first().copied().unwrap_or_default().to_ascii_lowercase().as_str() {
                    $(t if t == $text.to_ascii_lowercase() $(|| t == $alias)* => Ok($name::$v),)+
                    _ => Err(["one of" $(, $text)+].join(" ")),
                }
            }
            fn text(&self, out: &mut String) {
                out.push_str(match self { $($name::$v => $text,)+ });
            }
        }
    )+ };
}
pub(super) use choices;

/// Like [`choices!`], but the option's own name is the choice (`--set`, `--rcheck`) and no word follows.
macro_rules! option_choices {
    ($($(#[$meta:meta])* $name:ident { $($v:ident = $text:literal,)+ })+) => { $(
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum $name { $(#[doc = concat!("`", $text, "`")] $v,)+ }

        impl $crate::nf::field::Value for $name {
            const WORDS: usize = 0;
            fn read(o: &str, _: &[&str], _: $crate::nf::table::Family) -> Result<Self, String> {
                match o {
                    $($text => Ok($name::$v),)+
                    _ => Err(["one of" $(, $text)+].join(" ")),
                }
            }
            fn show(&self, _: &str, out: &mut String) {
                out.push(' ');
                self.text(out);
            }
            fn text(&self, out: &mut String) {
                out.push_str(match self { $($name::$v => $text,)+ });
            }
        }
    )+ };
}
pub(super) use option_choices;

/// Text that is quoted where it has to be.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Text(pub String);

impl Value for Text {
    fn read(_: &str, w: &[&str], _: Family) -> Result<Self, String> {
        Ok(Text(first(w).to_owned()))
    }
    fn text(&self, out: &mut String) {
        words::quote(&self.0, out);
    }
}

/// Text that is always printed in quotes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Quoted(pub String);

impl Value for Quoted {
    fn read(_: &str, w: &[&str], _: Family) -> Result<Self, String> {
        Ok(Quoted(first(w).to_owned()))
    }
    fn text(&self, out: &mut String) {
        words::always_quote(&self.0, out);
    }
}

/// A name without blanks that is never quoted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Name(pub String);

impl Value for Name {
    fn read(_: &str, w: &[&str], _: Family) -> Result<Self, String> {
        let text = first(w);
        match text.is_empty() || text.contains([' ', '\t', '"']) {
            true => Err("a name without blanks".to_owned()),
            false => Ok(Name(text.to_owned())),
        }
    }
    fn text(&self, out: &mut String) {
        out.push_str(&self.0);
    }
}

/// An interface name, or with `+` at its end every name that begins so.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct IfName(pub String);

impl IfName {
    /// Whether a device of this name matches.
    pub fn matches(&self, device: &str) -> bool {
        match self.0.strip_suffix('+') {
            Some(prefix) => device.starts_with(prefix),
            None => device == self.0,
        }
    }
}

impl Value for IfName {
    /// IFNAMSIZ is 16 with the closing zero.
    fn read(_: &str, w: &[&str], _: Family) -> Result<Self, String> {
        let text = first(w);
        let good = (1..16).contains(&text.len()) && !text.contains([' ', '\t', '"', '/']);
        match good {
            true => Ok(IfName(text.to_owned())),
            false => Err("an interface name of 1 to 15 letters".to_owned()),
        }
    }
    fn text(&self, out: &mut String) {
        out.push_str(&self.0);
    }
}

/// An address and the bits of it that count; the mask may have holes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct AddrMask {
    /// The address, bits outside the mask zero.
    pub addr: IpAddr,
    /// The mask, of the same family.
    pub mask: IpAddr,
}

fn bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(a) => u128::from(u32::from(a)) << 96,
        IpAddr::V6(a) => u128::from(a),
    }
}

fn from_bits(bits: u128, family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from((bits >> 96) as u32)),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(bits)),
    }
}

/// The mask of a prefix length.
pub fn prefix_mask(len: u32, family: Family) -> IpAddr {
    from_bits(
        u128::MAX.checked_shl(128 - len.min(128)).unwrap_or(0),
        family,
    )
}

impl AddrMask {
    /// One address.
    pub fn host(addr: IpAddr) -> Self {
        let mask = prefix_mask(128, Family::of(addr));
        AddrMask { addr, mask }
    }

    /// A network; bits of `addr` beyond `len` are cleared.
    pub fn net(addr: IpAddr, len: u8) -> Self {
        Self::masked(addr, prefix_mask(u32::from(len), Family::of(addr)))
    }

    fn masked(addr: IpAddr, mask: IpAddr) -> Self {
        let addr = from_bits(bits(addr) & bits(mask), Family::of(addr));
        AddrMask { addr, mask }
    }

    /// Whether an address is in it. One of the other family never is.
    pub fn contains(&self, addr: IpAddr) -> bool {
        Family::of(addr) == Family::of(self.addr) && bits(addr) & bits(self.mask) == bits(self.addr)
    }

    /// The prefix length, `None` if the mask has holes.
    pub fn prefix_len(&self) -> Option<u32> {
        let mask = bits(self.mask);
        let len = mask.leading_ones();
        (mask.count_ones() == len).then_some(len)
    }

    /// Whether every address is in it, which the tools leave out.
    pub fn is_any(&self) -> bool {
        bits(self.mask) == 0
    }
}

/// Reads an address of the family; hostnames are not looked up.
pub fn address(text: &str, family: Family) -> Result<IpAddr, String> {
    match (IpAddr::from_str(text), family) {
        (Ok(a @ IpAddr::V4(_)), Family::V4) | (Ok(a @ IpAddr::V6(_)), Family::V6) => Ok(a),
        (_, Family::V4) => Err("an IPv4 address".to_owned()),
        (_, Family::V6) => Err("an IPv6 address".to_owned()),
    }
}

impl Value for AddrMask {
    fn read(_: &str, w: &[&str], family: Family) -> Result<Self, String> {
        let (addr, mask) = match first(w).split_once('/') {
            Some((a, m)) => (a, Some(m)),
            None => (first(w), None),
        };
        let addr = match addr.parse::<u8>() {
            // iptables reads `0/0` and `10/8` as addresses with their tail left out.
            Ok(n) if family == Family::V4 => IpAddr::V4(Ipv4Addr::new(n, 0, 0, 0)),
            _ => address(addr, family)?,
        };
        let longest = if family == Family::V4 { 32 } else { 128 };
        let mask = match mask.map(|m| (m, m.parse::<u32>())) {
            None => prefix_mask(longest, family),
            Some((_, Ok(len))) if len <= longest => prefix_mask(len, family),
            Some((m, Err(_))) => address(m, family).map_err(|e| format!("{e} as mask"))?,
            Some(_) => return Err(format!("a prefix length from 0 to {longest}")),
        };
        Ok(Self::masked(addr, mask))
    }
    fn text(&self, out: &mut String) {
        out.push_str(&match self.prefix_len() {
            Some(len) => format!("{}/{len}", self.addr),
            None => format!("{}/{}", self.addr, self.mask),
        });
    }
}

/// An address with a mask that is printed only if it is not a host's (conntrack's `--ctorigsrc`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct HostOrNet(pub AddrMask);

impl Value for HostOrNet {
    fn read(o: &str, w: &[&str], f: Family) -> Result<Self, String> {
        AddrMask::read(o, w, f).map(HostOrNet)
    }
    fn text(&self, out: &mut String) {
        match self.0 == AddrMask::host(self.0.addr) {
            true => out.push_str(&self.0.addr.to_string()),
            false => self.0.text(out),
        }
    }
}

impl Value for IpAddr {
    fn read(_: &str, w: &[&str], family: Family) -> Result<Self, String> {
        address(first(w), family)
    }
    fn text(&self, out: &mut String) {
        out.push_str(&self.to_string());
    }
}

/// Addresses from one to another, both included.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct AddrRange {
    /// The lowest.
    pub from: IpAddr,
    /// The highest.
    pub to: IpAddr,
}

impl Value for AddrRange {
    fn read(_: &str, w: &[&str], family: Family) -> Result<Self, String> {
        let (from, to) = first(w).split_once('-').unwrap_or((first(w), first(w)));
        let (from, to) = (address(from, family)?, address(to, family)?);
        match from <= to {
            true => Ok(AddrRange { from, to }),
            false => Err("a range that ends after it begins".to_owned()),
        }
    }
    fn text(&self, out: &mut String) {
        out.push_str(&format!("{}-{}", self.from, self.to));
    }
}

/// Numbers from one to another, both included; `N`, `N:M`, `:M`, `N:` (ports may be service names).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Range<T> {
    /// The lowest.
    pub min: T,
    /// The highest.
    pub max: T,
}

impl<T: Copy + PartialOrd> Range<T> {
    /// One number.
    pub fn one(n: T) -> Self {
        Range { min: n, max: n }
    }

    /// Whether `n` is in it.
    pub fn contains(&self, n: T) -> bool {
        self.min <= n && n <= self.max
    }
}

/// Service names that rule sets use; the rest of /etc/services is not on every machine either.
const SERVICES: [(&str, u16); 16] = [
    ("ftp-data", 20),
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("domain", 53),
    ("bootps", 67),
    ("bootpc", 68),
    ("tftp", 69),
    ("http", 80),
    ("pop3", 110),
    ("ntp", 123),
    ("imap2", 143),
    ("snmp", 161),
    ("https", 443),
    ("mdns", 5353),
];

/// A port's number or service name.
pub fn port(text: &str) -> Option<u16> {
    let named = || Some(SERVICES.iter().find(|s| s.0 == text)?.1);
    number(text)
        .and_then(|n| u16::try_from(n).ok())
        .or_else(named)
}

macro_rules! ranges {
    ($($ty:ty, $sep:literal, $one:expr, $what:literal;)+) => { $(
        impl Value for Range<$ty> {
            fn read(_: &str, w: &[&str], _: Family) -> Result<Self, String> {
                let one = |t: &str, default: $ty| if t.is_empty() { Some(default) } else { $one(t) };
                let text = first(w);
                let range = match text.split_once($sep) {
                    Some((a, b)) => one(a, 0).zip(one(b, <$ty>::MAX)),
                    None => $one(text).map(|n| (n, n)),
                };
                match range {
                    Some((min, max)) if min <= max => Ok(Range { min, max }),
                    _ => Err($what.to_owned()),
                }
            }
            fn text(&self, out: &mut String) {
                out.push_str(&match self.min == self.max {
                    true => self.min.to_string(),
                    false => format!("{}{}{}", self.min, $sep, self.max),
                });
            }
        }
    )+ };
}
ranges! {
    u16, ":", port, "a port or a range N:M";
    u32, "-", |t| number(t).and_then(|n| u32::try_from(n).ok()), "a number or a range N-M";
    u64, ":", number, "a number or a range N:M";
}

/// A port range as options use it.
pub type PortRange = Range<u16>;

/// A value and the bits of a packet's mark that are compared with it; printed without a full mask.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct MarkMask {
    /// The value.
    pub value: u32,
    /// The mask.
    pub mask: u32,
}

impl Value for MarkMask {
    fn read(o: &str, w: &[&str], f: Family) -> Result<Self, String> {
        let (value, mask) = match first(w).split_once('/') {
            Some((v, m)) => (v, u32::read(o, &[m], f)?),
            None => (first(w), u32::MAX),
        };
        let value = u32::read(o, &[value], f)?;
        Ok(MarkMask { value, mask })
    }
    fn text(&self, out: &mut String) {
        out.push_str(&match self.mask {
            u32::MAX => format!("{:#x}", self.value),
            _ => format!("{:#x}/{:#x}", self.value, self.mask),
        });
    }
}

impl Value for MacAddr {
    fn read(_: &str, w: &[&str], _: Family) -> Result<Self, String> {
        first(w)
            .parse()
            .map_err(|_| "a MAC address such as 02:00:00:00:00:01".to_owned())
    }
    fn text(&self, out: &mut String) {
        out.push_str(&self.to_string());
    }
}

/// An IP protocol by number; 0 is every protocol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Protocol(pub u8);

/// Names that iptables-save prints (iptables: xshared.c `xtables_chain_protos`), then /etc/protocols.
const PROTOCOLS: [(&str, u8); 15] = [
    ("tcp", 6),
    ("sctp", 132),
    ("udp", 17),
    ("udplite", 136),
    ("icmp", 1),
    ("ipv6-icmp", 58),
    ("esp", 50),
    ("ah", 51),
    ("ipv6-mh", 135),
    ("igmp", 2),
    ("ipencap", 4),
    ("dccp", 33),
    ("gre", 47),
    ("ipv6", 41),
    ("vrrp", 112),
];

impl Protocol {
    /// The name as printed, if it has one.
    pub fn name(self) -> Option<&'static str> {
        Some(PROTOCOLS.iter().find(|p| p.1 == self.0)?.0)
    }
}

impl Value for Protocol {
    fn read(_: &str, w: &[&str], _: Family) -> Result<Self, String> {
        let text = first(w).to_ascii_lowercase();
        let named = match text.as_str() {
            "all" => Some(0),
            "icmpv6" => Some(58),
            "mh" => Some(135),
            t => PROTOCOLS.iter().find(|p| p.0 == t).map(|p| p.1),
        };
        let value = named.or_else(|| number(&text).and_then(|n| u8::try_from(n).ok()));
        value
            .map(Protocol)
            .ok_or_else(|| "a protocol's name or number".to_owned())
    }
    fn text(&self, out: &mut String) {
        match self.name() {
            Some(name) => out.push_str(name),
            None => out.push_str(&self.0.to_string()),
        }
    }
}
