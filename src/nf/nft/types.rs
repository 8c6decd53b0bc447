//! Datatypes: how wide a value is, how it is written and read.
//!
//! A literal has no type of its own: the expression or set it stands with gives it (nftables datatype.c).
//! Invariant: a value that [`Type::show`] prints is read back equal by [`Type::read`].

use core::fmt::Write as _;
use core::net::{Ipv4Addr, Ipv6Addr};

use super::symbols::{self as sym, Table};
use super::time;

/// What a value means.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Type {
    /// A number of this many bits, printed in decimal.
    Integer(u16),
    /// A number of a raw payload, printed in hexadecimal.
    Hex(u16),
    /// A bit mask of this many bits without words.
    Bitmask(u16),
    /// A text of at most this many bytes.
    Text(u16),
    /// `ipv4_addr`.
    Ipv4,
    /// `ipv6_addr`.
    Ipv6,
    /// `ether_addr`.
    Ether,
    /// `ether_type`.
    EtherType,
    /// `inet_proto`.
    InetProto,
    /// `inet_service`.
    InetService,
    /// `icmp_type`.
    IcmpType,
    /// `icmp_code`.
    IcmpCode,
    /// `icmpv6_type`.
    Icmpv6Type,
    /// `icmpv6_code`.
    Icmpv6Code,
    /// `icmpx_code`.
    IcmpxCode,
    /// `igmp_type`.
    IgmpType,
    /// `mark`.
    Mark,
    /// `iface_index`; written as the device's name.
    IfIndex,
    /// `ifname`.
    IfName,
    /// `iface_type`.
    IfType,
    /// `uid`.
    Uid,
    /// `gid`.
    Gid,
    /// `realm`.
    Realm,
    /// `classid`.
    ClassId,
    /// `ct_state`.
    CtState,
    /// `ct_status`.
    CtStatus,
    /// `ct_dir`.
    CtDir,
    /// `ct_event`.
    CtEvent,
    /// `ct_label`.
    CtLabel,
    /// `tcp_flag`.
    TcpFlag,
    /// `dscp`.
    Dscp,
    /// `ecn`.
    Ecn,
    /// `pkt_type`.
    PktType,
    /// `nf_proto`.
    NfProto,
    /// `fib_addrtype`.
    FibAddrType,
    /// `boolean`.
    Boolean,
    /// Relative time in milliseconds (`ct expiration`).
    Relative,
    /// `time`: nanoseconds since 1970.
    Time,
    /// `day`.
    Day,
    /// `hour`: seconds since midnight UTC.
    Hour,
    /// `devgroup`.
    DevGroup,
    /// `arp_op`.
    ArpOp,
    /// `mh_type`.
    MhType,
    /// `dccp_pkttype`.
    DccpType,
    /// `cgroupsv2`.
    CgroupV2,
    /// `verdict`: data of a verdict map.
    Verdict,
    /// The name of an object of this kind: data of an object map.
    Object(super::model::ObjectKind),
}

/// One literal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Value {
    /// A number, an address, a MAC, a mark: as the number that its bytes are in network order.
    Num(u128),
    /// A name, with whether it ends in a wildcard (`"eth*"`, the `*` is not in the text).
    Text(Box<str>, bool),
}

impl Value {
    /// The number, if it is one.
    pub fn num(&self) -> Option<u128> {
        match self {
            Value::Num(n) => Some(*n),
            Value::Text(..) => None,
        }
    }
}

use super::model::ObjectKind;

/// The types that `type` and `describe` name.
const NAMED: &[(&str, Type)] = &[
    ("ipv4_addr", Type::Ipv4),
    ("ipv6_addr", Type::Ipv6),
    ("ether_addr", Type::Ether),
    ("ether_type", Type::EtherType),
    ("inet_proto", Type::InetProto),
    ("inet_service", Type::InetService),
    ("icmp_type", Type::IcmpType),
    ("icmp_code", Type::IcmpCode),
    ("icmpv6_type", Type::Icmpv6Type),
    ("icmpv6_code", Type::Icmpv6Code),
    ("icmpx_code", Type::IcmpxCode),
    ("igmp_type", Type::IgmpType),
    ("mark", Type::Mark),
    ("iface_index", Type::IfIndex),
    ("ifname", Type::IfName),
    ("iface_type", Type::IfType),
    ("uid", Type::Uid),
    ("gid", Type::Gid),
    ("realm", Type::Realm),
    ("classid", Type::ClassId),
    ("ct_state", Type::CtState),
    ("ct_status", Type::CtStatus),
    ("ct_dir", Type::CtDir),
    ("ct_event", Type::CtEvent),
    ("ct_label", Type::CtLabel),
    ("tcp_flag", Type::TcpFlag),
    ("dscp", Type::Dscp),
    ("ecn", Type::Ecn),
    ("pkt_type", Type::PktType),
    ("nf_proto", Type::NfProto),
    ("fib_addrtype", Type::FibAddrType),
    ("boolean", Type::Boolean),
    ("time", Type::Time),
    ("day", Type::Day),
    ("hour", Type::Hour),
    ("devgroup", Type::DevGroup),
    ("arp_op", Type::ArpOp),
    ("mh_type", Type::MhType),
    ("dccp_pkttype", Type::DccpType),
    ("cgroupsv2", Type::CgroupV2),
    ("verdict", Type::Verdict),
    // nft has no sets of these but by `typeof`; its JSON names them so, and has lost the width.
    ("integer", Type::Integer(32)),
    ("string", Type::Text(16)),
    ("bitmask", Type::Bitmask(32)),
    ("counter", Type::Object(ObjectKind::Counter)),
    ("quota", Type::Object(ObjectKind::Quota)),
    ("limit", Type::Object(ObjectKind::Limit)),
    ("synproxy", Type::Object(ObjectKind::Synproxy)),
    ("secmark", Type::Object(ObjectKind::Secmark)),
];

impl Type {
    /// The type that is spelt so in `type NAME`.
    pub fn named(name: &str) -> Option<Self> {
        NAMED.iter().find(|n| n.0 == name).map(|n| n.1)
    }

    /// How `type` spells it; numbers without a name are `integer`.
    pub fn name(self) -> &'static str {
        match self {
            Type::Integer(_) | Type::Hex(_) => "integer",
            Type::Bitmask(_) => "bitmask",
            Type::Text(_) => "string",
            Type::Relative => "time",
            _ => NAMED.iter().find(|n| n.1 == self).map_or("", |n| n.0),
        }
    }

    /// Width in bits.
    pub fn bits(self) -> u16 {
        match self {
            Type::Integer(b) | Type::Hex(b) | Type::Bitmask(b) => b,
            Type::Text(bytes) => bytes.saturating_mul(8),
            Type::Ipv6 | Type::IfName | Type::CtLabel => 128,
            Type::Ether => 48,
            Type::Time | Type::CgroupV2 => 64,
            Type::EtherType | Type::InetService | Type::IfType | Type::ArpOp => 16,
            Type::Dscp => 6,
            Type::DccpType => 4,
            Type::Ecn => 2,
            Type::InetProto
            | Type::IcmpType
            | Type::IcmpCode
            | Type::Icmpv6Type
            | Type::Icmpv6Code
            | Type::IcmpxCode
            | Type::IgmpType
            | Type::CtDir
            | Type::TcpFlag
            | Type::PktType
            | Type::NfProto
            | Type::Boolean
            | Type::Day
            | Type::MhType => 8,
            _ => 32,
        }
    }

    /// Width in whole bytes, as a set's key holds it.
    pub fn bytes(self) -> usize {
        usize::from(self.bits()).div_ceil(8)
    }

    /// The largest number it holds.
    pub fn max(self) -> u128 {
        match self.bits() {
            b if b >= 128 => u128::MAX,
            b => (1u128 << b) - 1,
        }
    }

    /// Whether a bare value asks "any of these bits" instead of equality (basetype bitmask).
    pub fn is_flags(self) -> bool {
        matches!(
            self,
            Type::CtState
                | Type::CtStatus
                | Type::CtEvent
                | Type::CtLabel
                | Type::TcpFlag
                | Type::Bitmask(_)
        )
    }

    /// Whether its values are texts.
    pub fn is_text(self) -> bool {
        matches!(self, Type::IfName | Type::Text(_))
    }

    /// Whether the kernel holds it in the machine's byte order (little endian on what we compare with):
    /// it decides the order in which elements of concatenations are listed.
    pub fn host_order(self) -> bool {
        matches!(
            self,
            Type::Mark
                | Type::IfIndex
                | Type::IfName
                | Type::Uid
                | Type::Gid
                | Type::Realm
                | Type::ClassId
                | Type::CtState
                | Type::CtStatus
                | Type::CtEvent
                | Type::FibAddrType
                | Type::DevGroup
                | Type::IfType
                | Type::Relative
                | Type::Time
                | Type::Hour
        )
    }

    /// Its words.
    pub fn symbols(self) -> Table {
        match self {
            Type::EtherType => sym::ETHER_TYPE,
            Type::InetProto => sym::INET_PROTO,
            Type::IcmpType => sym::ICMP_TYPE,
            Type::IcmpCode => sym::ICMP_CODE,
            Type::Icmpv6Type => sym::ICMPV6_TYPE,
            Type::Icmpv6Code => sym::ICMPV6_CODE,
            Type::IcmpxCode => sym::ICMPX_CODE,
            Type::IgmpType => sym::IGMP_TYPE,
            Type::IfType => sym::IFACE_TYPE,
            Type::CtState => sym::CT_STATE,
            Type::CtStatus => sym::CT_STATUS,
            Type::CtDir => sym::CT_DIR,
            Type::CtEvent => sym::CT_EVENT,
            Type::TcpFlag => sym::TCP_FLAG,
            Type::Dscp => sym::DSCP,
            Type::Ecn => sym::ECN,
            Type::PktType => sym::PKTTYPE,
            Type::NfProto => sym::NF_PROTO,
            Type::FibAddrType => sym::FIB_ADDRTYPE,
            Type::Boolean => sym::BOOLEAN,
            Type::Day => sym::DAY,
            Type::DevGroup => sym::DEVGROUP,
            Type::ArpOp => sym::ARP_OP,
            Type::MhType => sym::MH_TYPE,
            Type::DccpType => sym::DCCP_TYPE,
            _ => &[],
        }
    }

    /// Reads one word. `quoted` says that it stood in quotes. `Err` says what was expected.
    pub fn read(self, word: &str, quoted: bool) -> Result<Value, String> {
        if self.is_text() {
            return self.read_text(word);
        }
        if let Some(s) = self
            .symbols()
            .iter()
            .find(|s| s.0.eq_ignore_ascii_case(word))
        {
            return Ok(Value::Num(s.1));
        }
        let special = match self {
            Type::Ipv4 => word
                .parse::<Ipv4Addr>()
                .ok()
                .map(|a| u128::from(u32::from(a))),
            Type::Ipv6 => word.parse::<Ipv6Addr>().ok().map(u128::from),
            Type::Ether => mac(word),
            Type::ClassId => classid(word),
            Type::InetService => sym::SERVICE.iter().find(|s| s.0 == word).map(|s| s.1),
            Type::Relative => time::read(word).map(u128::from),
            Type::Time => time::read_date(word),
            Type::Hour => time::read_hour(word),
            Type::Uid | Type::Gid if word == "root" => Some(0),
            _ => None,
        };
        if let Some(n) = special {
            return Ok(Value::Num(n));
        }
        let plain = !matches!(self, Type::Ipv4 | Type::Ether | Type::Time | Type::Relative);
        match number(word) {
            Some(n) if plain && !quoted && n <= self.max() => return Ok(Value::Num(n)),
            Some(_) if plain && !quoted => {
                return Err(format!("a number of {} bits", self.bits()));
            }
            _ => {}
        }
        if self == Type::IfIndex || (self == Type::CgroupV2 && quoted) {
            return self.read_text(word);
        }
        Err(self.expected())
    }

    fn read_text(self, word: &str) -> Result<Value, String> {
        let (text, wild) = match word.strip_suffix("\\*") {
            Some(t) => (format!("{t}*"), false),
            None => match word.strip_suffix('*') {
                Some(t) if self == Type::IfName => (t.to_owned(), true),
                _ => (word.to_owned(), false),
            },
        };
        let most = if self.is_text() { self.bytes() } else { 256 };
        if text.len() >= most.max(1) {
            return Err(format!("a name shorter than {most} bytes"));
        }
        Ok(Value::Text(text.into(), wild))
    }

    fn expected(self) -> String {
        match self {
            Type::Ipv4 => "an IPv4 address".into(),
            Type::Ipv6 => "an IPv6 address".into(),
            Type::Ether => "a MAC address".into(),
            Type::InetService => "a port (0 to 65535)".into(),
            Type::InetProto => "a protocol's name or number".into(),
            Type::Verdict => "a verdict".into(),
            _ => match self.symbols() {
                [] => format!("a value of type {}", self.name()),
                words => {
                    let words: Vec<_> = words.iter().map(|w| w.0).collect();
                    format!("a number or one of {}", words.join(", "))
                }
            },
        }
    }

    /// Prints one value.
    pub fn show(self, value: &Value, out: &mut String) {
        let n = match value {
            Value::Text(text, wild) => {
                let star = match (wild, text.ends_with('*') && self == Type::IfName) {
                    (true, _) => "*",
                    (false, true) => {
                        return ignore(write!(out, "\"{}\\*\"", text.trim_end_matches('*')));
                    }
                    _ => "",
                };
                return ignore(write!(out, "\"{text}{star}\""));
            }
            Value::Num(n) => *n,
        };
        if let Some(s) = self.symbols().iter().find(|s| s.1 == n) {
            let quote = matches!(self, Type::Day | Type::DevGroup);
            let q = if quote { "\"" } else { "" };
            return ignore(write!(out, "{q}{}{q}", s.0));
        }
        let _ = match self {
            Type::Ipv4 => write!(out, "{}", Ipv4Addr::from(n as u32)),
            // glibc inet_ntop writes `::a.b.c.d` where exactly the first 96 bits are zero.
            Type::Ipv6 if n >> 32 == 0 && n >> 16 != 0 => {
                write!(out, "::{}", Ipv4Addr::from(n as u32))
            }
            Type::Ipv6 => write!(out, "{}", Ipv6Addr::from(n)),
            Type::Ether => {
                let b = n.to_be_bytes();
                let b: Vec<_> = b[10..].iter().map(|b| format!("{b:02x}")).collect();
                write!(out, "{}", b.join(":"))
            }
            Type::Mark => write!(out, "0x{n:08x}"),
            Type::Hex(_) | Type::TcpFlag | Type::CtState | Type::CtStatus | Type::CtEvent => {
                self.show_flags(n, out)
            }
            Type::Bitmask(_) => write!(out, "0x{n:x}"),
            Type::Dscp | Type::Ecn => write!(out, "0x{n:02x}"),
            Type::EtherType => write!(out, "0x{n:04x}"),
            Type::ClassId => write_classid(n, out),
            Type::Relative => {
                time::show(u64::try_from(n).unwrap_or(u64::MAX), out);
                Ok(())
            }
            Type::Time => time::show_date(n, out),
            Type::Hour => time::show_hour(n, out),
            _ => write!(out, "{n}"),
        };
    }

    /// A combination of flags: `syn | ack`; in hexadecimal when a bit has no word (bitmask_type datatypes).
    fn show_flags(self, n: u128, out: &mut String) -> core::fmt::Result {
        let (mut rest, mut words) = (n, Vec::new());
        let mut table: Vec<_> = self.symbols().to_vec();
        table.sort_by_key(|s| s.1);
        for s in &table {
            if rest & s.1 != 0 {
                rest &= !s.1;
                words.push(s.0);
            }
        }
        if rest != 0 || words.is_empty() {
            return write!(out, "0x{n:x}");
        }
        out.push_str(&words.join(" | "));
        Ok(())
    }

    /// Appends the value's bytes as a set's key holds them: numbers in network order, texts NUL padded.
    pub fn key(self, value: &Value, out: &mut Vec<u8>) {
        match value {
            Value::Num(n) => {
                let all = n.to_be_bytes();
                let width = self.bytes().min(16);
                out.extend_from_slice(all.get(16 - width..).unwrap_or(&all));
            }
            Value::Text(text, _) => {
                let width = if self.is_text() { self.bytes() } else { 16 };
                out.extend(text.bytes().chain(core::iter::repeat(0)).take(width));
            }
        }
    }
}

/// A number in decimal or `0x` hexadecimal (a leading 0 is no octal in nft).
pub fn number(word: &str) -> Option<u128> {
    match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(hex) => u128::from_str_radix(hex, 16).ok(),
        None if word.bytes().all(|b| b.is_ascii_digit()) => word.parse().ok(),
        None => None,
    }
}

/// A MAC address as a number.
pub fn mac(word: &str) -> Option<u128> {
    let mut n = 0u128;
    let mut count = 0;
    for part in word.split(':') {
        if part.is_empty() || part.len() > 2 {
            return None;
        }
        n = n << 8 | u128::from(u8::from_str_radix(part, 16).ok()?);
        count += 1;
    }
    (count == 6).then_some(n)
}

/// `none`, `root` or `MAJOR:MINOR` in hexadecimal (tchandle_type).
fn classid(word: &str) -> Option<u128> {
    match word {
        "none" => Some(0),
        "root" => Some(0xffff_ffff),
        _ => {
            let (major, minor) = word.split_once(':')?;
            let half = |s: &str| {
                if s.is_empty() {
                    Ok(0)
                } else {
                    u16::from_str_radix(s, 16)
                }
            };
            Some(u128::from(half(major).ok()?) << 16 | u128::from(half(minor).ok()?))
        }
    }
}

fn write_classid(n: u128, out: &mut String) -> core::fmt::Result {
    match (n, n >> 16, n & 0xffff) {
        (0, ..) => out.write_str("none"),
        (0xffff_ffff, ..) => out.write_str("root"),
        (_, major, minor) => write!(out, "{major:x}:{minor:x}"),
    }
}

/// Writing to a `String` cannot fail.
fn ignore(_: core::fmt::Result) {}
