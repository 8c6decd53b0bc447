//! Every target: what a rule does with a packet that matches.
//!
//! Option names and printing order are those of the iptables 1.8.9 extensions. Invariant: the spellings
//! of one effect are one value: `--or-mark 4` and `--set-xmark 0x4/0x4` read alike.

use core::net::IpAddr;

use super::compound::{Dscp, SetRef, Tos};
use super::field::{Module, Value, options};
use super::table::Family;
use super::value::*;

pub use super::flags::CtEvents;

options! {
    /// `REJECT`.
    Reject {
        /// The answer.
        with: Option<RejectWith> = "--reject-with",
    }
    /// `LOG`; the packet goes on.
    Log {
        /// Before every line.
        prefix: Option<Text> = "--log-prefix",
        /// Syslog level; `None` is 4, warning.
        level: Option<LogLevel> = "--log-level",
        /// Log sequence numbers.
        tcp_sequence: bool = "--log-tcp-sequence",
        /// Log TCP options.
        tcp_options: bool = "--log-tcp-options",
        /// Log IP options.
        ip_options: bool = "--log-ip-options",
        /// Log the socket's user.
        uid: bool = "--log-uid",
        /// Take the link header apart.
        macdecode: bool = "--log-macdecode",
    }
    /// `NFLOG`; the packet goes on.
    Nflog {
        /// In every message.
        prefix: Option<Text> = "--nflog-prefix",
        /// Netlink group.
        group: Option<u16> = "--nflog-group",
        /// Bytes copied (without effect in the kernel).
        range: Option<u32> = "--nflog-range",
        /// Bytes copied.
        size: Option<u32> = "--nflog-size",
        /// Messages queued.
        threshold: Option<u16> = "--nflog-threshold",
    }
    /// `MARK`: the mark's bits of the mask are cleared, then the value is XORed in.
    MarkTarget {
        /// Value and mask.
        xmark: Option<XMark> = "--set-xmark" "--set-mark" "--and-mark" "--or-mark" "--xor-mark",
    }
    /// `CONNMARK`: a new connection mark, or the mark copied one way or the other.
    ConnmarkTarget {
        /// Change of the connection's mark.
        xmark: Option<XMark> = "--set-xmark" "--set-mark" "--and-mark" "--or-mark" "--xor-mark",
        /// Copy.
        copy: Option<MarkCopy> = "--save-mark" "--restore-mark",
        /// Bits of the packet's mark.
        nfmask: Option<Hex> = "--nfmask",
        /// Bits of the connection's mark.
        ctmask: Option<Hex> = "--ctmask",
        /// Both masks, as read; moved into the two.
        mask: Option<Hex> = "--mask",
    }
    /// `DNAT`.
    Dnat {
        /// New destination.
        to: Option<NatRange> = "--to-destination",
        /// Random port.
        random: bool = "--random",
        /// One client always gets one address.
        persistent: bool = "--persistent",
    }
    /// `SNAT`.
    Snat {
        /// New source.
        to: Option<NatRange> = "--to-source",
        /// Port chosen by hash.
        random: bool = "--random",
        /// Port chosen at random.
        random_fully: bool = "--random-fully",
        /// One client always gets one address.
        persistent: bool = "--persistent",
    }
    /// `MASQUERADE`.
    Masquerade {
        /// Ports of the new source.
        ports: Option<PortSpan> = "--to-ports",
        /// Port chosen by hash.
        random: bool = "--random",
        /// Port chosen at random.
        random_fully: bool = "--random-fully",
    }
    /// `REDIRECT`: to this machine.
    Redirect {
        /// Ports.
        ports: Option<PortSpan> = "--to-ports",
        /// Random port.
        random: bool = "--random",
    }
    /// `NETMAP`: the network part is replaced.
    Netmap {
        /// The new network.
        to: Option<AddrMask> = "--to",
    }
    /// `TPROXY`.
    Tproxy {
        /// Port of the local socket; 0 keeps the packet's.
        port: Option<u16> = "--on-port",
        /// Address of the local socket.
        ip: Option<IpAddr> = "--on-ip",
        /// The packet's new mark.
        mark: Option<FullMark> = "--tproxy-mark",
    }
    /// `CT`.
    Ct {
        /// The packet is not tracked.
        notrack: bool = "--notrack",
        /// Helper.
        helper: Option<Name> = "--helper",
        /// Timeout policy.
        timeout: Option<Name> = "--timeout",
        /// Events that are sent.
        ctevents: Option<CtEvents> = "--ctevents",
        /// Events of expectations that are sent.
        expevents: Option<CtEvents> = "--expevents",
        /// Zone of the original direction.
        zone_orig: Option<Zone> = "--zone-orig",
        /// Zone of replies.
        zone_reply: Option<Zone> = "--zone-reply",
        /// Zone of both.
        zone: Option<Zone> = "--zone",
    }
    /// `TCPMSS`.
    Tcpmss {
        /// The new value.
        mss: Option<u16> = "--set-mss",
        /// The path MTU less the headers.
        clamp: bool = "--clamp-mss-to-pmtu",
    }
    /// `DSCP`.
    DscpTarget {
        /// The six bits.
        dscp: Option<Dscp> = "--set-dscp" "--set-dscp-class",
    }
    /// `TOS`: bits of the mask are cleared, then the value is XORed in.
    TosTarget {
        /// Value and mask.
        tos: Option<XTos> = "--set-tos" "--and-tos" "--or-tos" "--xor-tos",
    }
    /// `TTL`; one of the three.
    TtlTarget {
        /// New value.
        set: Option<u8> = "--ttl-set",
        /// Less.
        dec: Option<u8> = "--ttl-dec",
        /// More.
        inc: Option<u8> = "--ttl-inc",
    }
    /// `HL`, IPv6's hop limit; one of the three.
    HlTarget {
        /// New value.
        set: Option<u8> = "--hl-set",
        /// Less.
        dec: Option<u8> = "--hl-dec",
        /// More.
        inc: Option<u8> = "--hl-inc",
    }
    /// `CLASSIFY`.
    Classify {
        /// Traffic class.
        class: Option<TcClass> = "--set-class",
    }
    /// `SET`: changes an ipset.
    SetTarget {
        /// Add what the packet has.
        add: Option<SetRef> = "--add-set",
        /// Delete it.
        del: Option<SetRef> = "--del-set",
        /// Take mark, priority, queue from the element.
        map: Option<SetRef> = "--map-set",
        /// A present element gets a new timeout.
        exist: bool = "--exist",
        /// Its timeout in seconds.
        timeout: Option<u32> = "--timeout",
        /// Map the mark.
        map_mark: bool = "--map-mark",
        /// Map the priority.
        map_prio: bool = "--map-prio",
        /// Map the queue.
        map_queue: bool = "--map-queue",
    }
    /// `TEE`: a copy goes to another machine.
    Tee {
        /// The next hop.
        gateway: Option<IpAddr> = "--gateway",
        /// Through this device.
        oif: Option<IfName> = "--oif",
    }
    /// `CHECKSUM`.
    Checksum {
        /// Fill in what an offload left out.
        fill: bool = "--checksum-fill",
    }
    /// `NFQUEUE`.
    Nfqueue {
        /// One queue.
        num: Option<u16> = "--queue-num",
        /// Several, by flow.
        balance: Option<PortRange> = "--queue-balance",
        /// Without a listener the packet goes on.
        bypass: bool = "--queue-bypass",
        /// By CPU instead of flow.
        fanout: bool = "--queue-cpu-fanout",
    }
    /// `AUDIT`.
    Audit {
        /// What the record says.
        kind: Option<AuditKind> = "--type",
    }
    /// `NOTRACK`.
    Notrack {}
}

choices! {
    /// Answers of `REJECT`; those of IPv6 begin with `icmp6-`.
    RejectWith {
        NetUnreachable = "icmp-net-unreachable" | "net-unreach", HostUnreachable = "icmp-host-unreachable" | "host-unreach",
        ProtoUnreachable = "icmp-proto-unreachable" | "proto-unreach",
        PortUnreachable = "icmp-port-unreachable" | "port-unreach",
        NetProhibited = "icmp-net-prohibited" | "net-prohib", HostProhibited = "icmp-host-prohibited" | "host-prohib",
        AdminProhibited = "icmp-admin-prohibited" | "admin-prohib", TcpReset = "tcp-reset" | "tcp-rst",
        V6NoRoute = "icmp6-no-route" | "no-route", V6AdmProhibited = "icmp6-adm-prohibited" | "adm-prohibited",
        V6AddrUnreachable = "icmp6-addr-unreachable" | "addr-unreach",
        V6PortUnreachable = "icmp6-port-unreachable", V6PolicyFail = "icmp6-policy-fail" | "policy-fail",
        V6RejectRoute = "icmp6-reject-route" | "reject-route",
    }
    /// `AUDIT --type`.
    AuditKind { Accept = "accept", Drop = "drop", Reject = "reject", }
}

option_choices! {
    /// Which way `CONNMARK` copies.
    MarkCopy { Save = "--save-mark", Restore = "--restore-mark", }
}

/// A syslog level by number or name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogLevel(pub u8);

const LEVELS: [&str; 8] = [
    "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug",
];

impl Value for LogLevel {
    fn read(_: &str, w: &[&str], _: Family) -> Result<Self, String> {
        let text = w.first().copied().unwrap_or_default().to_ascii_lowercase();
        let alias = match text.as_str() {
            "panic" => "emerg",
            "error" => "err",
            "warn" => "warning",
            t => t,
        };
        let named = LEVELS.iter().position(|l| *l == alias).map(|i| i as u64);
        match named.or_else(|| number(&text)) {
            Some(n @ 0..=7) => Ok(LogLevel(n as u8)),
            _ => Err("a syslog level, 0 to 7 or its name".to_owned()),
        }
    }
    fn text(&self, out: &mut String) {
        self.0.text(out);
    }
}

/// `(mark & !mask) ^ value`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct XMark {
    /// XORed in.
    pub value: u32,
    /// Cleared before.
    pub mask: u32,
}

impl Value for XMark {
    fn read(o: &str, w: &[&str], f: Family) -> Result<Self, String> {
        let m = MarkMask::read(o, w, f)?;
        let masked = w.first().is_some_and(|t| t.contains('/'));
        let (value, mask) = match o {
            "--set-mark" => (m.value, m.mask | m.value),
            "--set-xmark" => (m.value, m.mask),
            _ if masked => return Err("a value without a mask".to_owned()),
            "--and-mark" => (0, !m.value),
            "--or-mark" => (m.value, m.value),
            _ => (m.value, 0),
        };
        Ok(XMark { value, mask })
    }
    fn show(&self, _: &str, out: &mut String) {
        out.push_str(" --set-xmark ");
        self.text(out);
    }
    fn text(&self, out: &mut String) {
        out.push_str(&format!("{:#x}/{:#x}", self.value, self.mask));
    }
}

/// `(tos & !mask) ^ value`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct XTos {
    /// XORed in.
    pub value: u8,
    /// Cleared before.
    pub mask: u8,
}

impl Value for XTos {
    fn read(o: &str, w: &[&str], f: Family) -> Result<Self, String> {
        let t = Tos::read(o, w, f)?;
        let (value, mask) = match o {
            "--set-tos" => (t.value, t.mask),
            "--and-tos" => (0, !t.value),
            "--or-tos" => (t.value, t.value),
            _ => (t.value, 0),
        };
        Ok(XTos { value, mask })
    }
    fn show(&self, _: &str, out: &mut String) {
        out.push_str(" --set-tos ");
        self.text(out);
    }
    fn text(&self, out: &mut String) {
        out.push_str(&format!("{:#04x}/{:#04x}", self.value, self.mask));
    }
}

/// A mark whose mask is always printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FullMark(pub MarkMask);

impl Value for FullMark {
    fn read(o: &str, w: &[&str], f: Family) -> Result<Self, String> {
        MarkMask::read(o, w, f).map(FullMark)
    }
    fn text(&self, out: &mut String) {
        out.push_str(&format!("{:#x}/{:#x}", self.0.value, self.0.mask));
    }
}

/// Ports `N` or `N-M`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortSpan(pub PortRange);

impl PortSpan {
    fn parse(text: &str) -> Result<Self, String> {
        let (a, b) = text.split_once('-').unwrap_or((text, text));
        match port(a).zip(port(b)) {
            Some((min, max)) if min <= max => Ok(PortSpan(Range { min, max })),
            _ => Err("a port or ports N-M".to_owned()),
        }
    }
}

impl Value for PortSpan {
    fn read(_: &str, w: &[&str], _: Family) -> Result<Self, String> {
        PortSpan::parse(w.first().copied().unwrap_or_default())
    }
    fn text(&self, out: &mut String) {
        out.push_str(&match self.0.min == self.0.max {
            true => self.0.min.to_string(),
            false => format!("{}-{}", self.0.min, self.0.max),
        });
    }
}

/// Where NAT may translate to: addresses, ports, or both.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NatRange {
    /// Addresses; `None` keeps the packet's.
    pub addrs: Option<AddrRange>,
    /// Ports; `None` keeps the packet's where possible.
    pub ports: Option<PortSpan>,
    /// The port that the first of a shifted range stands for (`80-90/1000`).
    pub base: Option<u16>,
}

impl Value for NatRange {
    fn read(_: &str, w: &[&str], family: Family) -> Result<Self, String> {
        let text = w.first().copied().unwrap_or_default();
        let (addrs, ports) = match (family, text.strip_prefix('[')) {
            (Family::V6, Some(inner)) => match inner.split_once(']') {
                Some((a, "")) => (a, None),
                Some((a, p)) => (a, Some(p.strip_prefix(':').ok_or("`:` after `]`")?)),
                None => return Err("`]` after the address".to_owned()),
            },
            (Family::V6, None) if text.starts_with(':') && !text.starts_with("::") => {
                ("", text.get(1..))
            }
            (Family::V6, None) => (text, None),
            (Family::V4, _) => text
                .split_once(':')
                .map_or((text, None), |(a, p)| (a, Some(p))),
        };
        let addrs = match addrs {
            "" => None,
            a => Some(AddrRange::read("", &[a], family)?),
        };
        let (span, base) =
            match ports.map(|p| p.split_once('/').map_or((p, None), |(p, b)| (p, Some(b)))) {
                None => (None, None),
                Some((p, b)) => (
                    Some(PortSpan::parse(p)?),
                    b.map(|b| port(b).ok_or("a base port")).transpose()?,
                ),
            };
        match (addrs, span) {
            (None, None) => Err("an address, `:port` or both".to_owned()),
            (addrs, ports) => Ok(NatRange { addrs, ports, base }),
        }
    }
    fn text(&self, out: &mut String) {
        if let Some(AddrRange { from, to }) = self.addrs {
            let span = if from == to {
                from.to_string()
            } else {
                format!("{from}-{to}")
            };
            out.push_str(&match from.is_ipv6() && self.ports.is_some() {
                true => format!("[{span}]"),
                false => span,
            });
        }
        if let Some(ports) = self.ports {
            out.push(':');
            ports.text(out);
        }
        if let Some(base) = self.base {
            out.push_str(&format!("/{base}"));
        }
    }
}

/// A conntrack zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Zone {
    /// By number.
    Id(u16),
    /// The packet's mark.
    Mark,
}

impl Value for Zone {
    fn read(o: &str, w: &[&str], f: Family) -> Result<Self, String> {
        match w.first() {
            Some(&"mark") => Ok(Zone::Mark),
            _ => u16::read(o, w, f).map(Zone::Id),
        }
    }
    fn text(&self, out: &mut String) {
        match self {
            Zone::Id(id) => id.text(out),
            Zone::Mark => out.push_str("mark"),
        }
    }
}

/// A traffic class `major:minor`, both hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcClass {
    /// The qdisc.
    pub major: u16,
    /// The class.
    pub minor: u16,
}

impl Value for TcClass {
    fn read(_: &str, w: &[&str], _: Family) -> Result<Self, String> {
        let half = |t: &str| {
            u16::from_str_radix(t, 16)
                .ok()
                .filter(|_| !t.starts_with('+'))
        };
        let pair = w.first().and_then(|t| t.split_once(':'));
        match pair.and_then(|(a, b)| half(a).zip(half(b))) {
            Some((major, minor)) => Ok(TcClass { major, minor }),
            None => Err("a class such as 1:a".to_owned()),
        }
    }
    fn text(&self, out: &mut String) {
        out.push_str(&format!("{:04x}:{:04x}", self.major, self.minor));
    }
}

macro_rules! targets {
    ($($variant:ident($ty:ty) = $name:literal,)+) => {
        /// What a rule does.
        #[derive(Clone, PartialEq, Eq, Debug, Default)]
        #[allow(missing_docs, reason = "each extension is documented at its struct")]
        pub enum Target {
            /// No target: the rule counts and the packet goes on.
            #[default]
            None,
            Accept,
            Drop,
            /// Back to the calling chain, or the policy.
            Return,
            /// To a user-space queue.
            Queue,
            /// To a user chain and back.
            Jump(String),
            /// To a user chain; its end returns to the caller's caller.
            Goto(String),
            $($variant(Box<$ty>),)+
            /// An extension that is not known: its name and its words as they stood.
            Unknown { name: String, args: Vec<String> },
        }

        impl Target {
            /// The word after `-j` or `-g`; empty for none.
            pub fn name(&self) -> &str {
                match self {
                    Target::None => "",
                    Target::Accept => "ACCEPT",
                    Target::Drop => "DROP",
                    Target::Return => "RETURN",
                    Target::Queue => "QUEUE",
                    Target::Jump(chain) | Target::Goto(chain) => chain,
                    $(Target::$variant(_) => $name,)+
                    Target::Unknown { name, .. } => name,
                }
            }

            /// The target of this name that is not a chain, no option set yet.
            pub(super) fn new(name: &str) -> Option<Self> {
                Some(match name {
                    "ACCEPT" => Target::Accept,
                    "DROP" => Target::Drop,
                    "RETURN" => Target::Return,
                    "QUEUE" => Target::Queue,
                    $($name => Target::$variant(Box::default()),)+
                    _ => return None,
                })
            }

            pub(super) fn module(&self) -> Option<&dyn Module> {
                match self {
                    $(Target::$variant(m) => Some(m.as_ref()),)+
                    _ => None,
                }
            }

            pub(super) fn module_mut(&mut self) -> Option<&mut dyn Module> {
                match self {
                    $(Target::$variant(m) => Some(m.as_mut()),)+
                    _ => None,
                }
            }
        }
    };
}

targets! {
    Reject(Reject) = "REJECT", Log(Log) = "LOG", Nflog(Nflog) = "NFLOG", Mark(MarkTarget) = "MARK",
    Connmark(ConnmarkTarget) = "CONNMARK", Dnat(Dnat) = "DNAT", Snat(Snat) = "SNAT",
    Masquerade(Masquerade) = "MASQUERADE", Redirect(Redirect) = "REDIRECT", Netmap(Netmap) = "NETMAP",
    Tproxy(Tproxy) = "TPROXY", Ct(Ct) = "CT", Notrack(Notrack) = "NOTRACK", Tcpmss(Tcpmss) = "TCPMSS",
    Dscp(DscpTarget) = "DSCP", Tos(TosTarget) = "TOS", Ttl(TtlTarget) = "TTL", Hl(HlTarget) = "HL",
    Classify(Classify) = "CLASSIFY", Set(SetTarget) = "SET", Tee(Tee) = "TEE", Checksum(Checksum) = "CHECKSUM",
    Nfqueue(Nfqueue) = "NFQUEUE", Audit(Audit) = "AUDIT",
}
