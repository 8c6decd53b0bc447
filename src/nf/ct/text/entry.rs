//! One connection as it is printed, field by field (libnetfilter_conntrack
//! src/conntrack/snprintf_default.c).
//!
//! Invariant: a field that was not printed is `None` and is not printed.

use crate::nf::Counters;
use crate::nf::ct::sctp::SctpState;
use crate::nf::ct::tcp::TcpState;
use crate::nf::ct::tuple::{CtTuple, GRE, UDPLITE};
use crate::wire::proto;
use core::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// DCCP, which kernels before 6.16 tracked.
const DCCP: u8 = 33;

/// A direction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Side {
    /// Tuple.
    pub tuple: CtTuple,
    /// `zone-orig=`, `zone-reply=`
    pub zone: Option<u16>,
    /// `packets= bytes=`
    pub counters: Option<Counters>,
}

/// A protocol's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// TCP.
    Tcp(TcpState),
    /// SCTP.
    Sctp(SctpState),
}

impl State {
    /// As printed.
    pub fn name(self) -> &'static str {
        match self {
            State::Tcp(s) => s.name(),
            State::Sctp(s) => s.name(),
        }
    }

    /// The state of that name, in a protocol that has states.
    pub fn of_name(protocol: u8, name: &str) -> Option<State> {
        match protocol {
            proto::TCP => TcpState::of_name(name).map(State::Tcp),
            proto::SCTP => SctpState::of_name(name).map(State::Sctp),
            _ => None,
        }
    }
}

/// The one mark in brackets behind the tuples.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// `[ASSURED]`
    Assured,
    /// `[OFFLOAD]`
    Offload,
    /// `[HW_OFFLOAD]`
    HwOffload,
}

impl Mode {
    /// All.
    pub const ALL: [Mode; 3] = [Mode::Assured, Mode::Offload, Mode::HwOffload];

    /// As printed.
    pub fn word(self) -> &'static str {
        match self {
            Mode::Assured => "[ASSURED]",
            Mode::Offload => "[OFFLOAD]",
            Mode::HwOffload => "[HW_OFFLOAD]",
        }
    }
}

/// One printed connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Whether the line begins with the network layer's name (`-o extended`, /proc).
    pub layer3: bool,
    /// IPv6 addresses in full, as /proc has them.
    pub full_v6: bool,
    /// Seconds left.
    pub timeout: Option<u64>,
    /// State.
    pub state: Option<State>,
    /// GRE's two timeouts in /proc, seconds.
    pub gre: Option<(u64, u64)>,
    /// Directions.
    pub sides: [Side; 2],
    /// `[UNREPLIED]`
    pub unreplied: bool,
    /// `[ASSURED]` and the like.
    pub mode: Option<Mode>,
    /// `mark=`
    pub mark: Option<u32>,
    /// `secmark=`
    pub secmark: Option<u32>,
    /// `secctx=`
    pub secctx: Option<String>,
    /// `zone=`
    pub zone: Option<u16>,
    /// `delta-time=`, seconds.
    pub delta_time: Option<u64>,
    /// `[start=...]` as printed.
    pub start: Option<String>,
    /// `[stop=...]` as printed.
    pub stop: Option<String>,
    /// `helper=`
    pub helper: Option<String>,
    /// `use=`
    pub uses: Option<u32>,
    /// `id=`
    pub id: Option<u32>,
    /// `labels=` as printed.
    pub labels: Option<String>,
}

/// The name `conntrack` gives a protocol.
pub(super) fn proto_name(p: u8) -> &'static str {
    match p {
        proto::TCP => "tcp",
        proto::UDP => "udp",
        UDPLITE => "udplite",
        proto::ICMP => "icmp",
        proto::ICMPV6 => "icmpv6",
        proto::SCTP => "sctp",
        GRE => "gre",
        DCCP => "dccp",
        _ => "unknown",
    }
}

/// Whether a protocol's tuple has ports.
pub(super) fn has_ports(p: u8) -> bool {
    matches!(p, proto::TCP | proto::UDP | UDPLITE | proto::SCTP | DCCP)
}

struct FullV6(Ipv6Addr);

impl fmt::Display for FullV6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.0.segments().into_iter().enumerate() {
            let colon = if i == 0 { "" } else { ":" };
            write!(f, "{colon}{part:04x}")?;
        }
        Ok(())
    }
}

impl Entry {
    /// The two tuples.
    pub fn tuples(&self) -> [CtTuple; 2] {
        [self.sides[0].tuple, self.sides[1].tuple]
    }

    fn write_side(&self, f: &mut fmt::Formatter<'_>, at: usize) -> fmt::Result {
        let side = &self.sides[at];
        let t = &side.tuple;
        for (key, a) in [("src", t.src), ("dst", t.dst)] {
            match a {
                IpAddr::V6(a) if self.full_v6 => write!(f, " {key}={}", FullV6(a))?,
                a => write!(f, " {key}={a}")?,
            }
        }
        if has_ports(t.proto) {
            write!(f, " sport={} dport={}", t.sport, t.dport)?;
        } else if t.is_icmp() {
            let (typ, code) = t.icmp();
            write!(f, " type={typ} code={code} id={}", t.sport)?;
        } else if t.proto == GRE {
            write!(f, " srckey=0x{:x} dstkey=0x{:x}", t.sport, t.dport)?;
        }
        if let Some(z) = side.zone {
            let key = if at == 0 { "zone-orig" } else { "zone-reply" };
            write!(f, " {key}={z}")?;
        }
        if let Some(c) = side.counters {
            write!(f, " packets={} bytes={}", c.packets, c.bytes)?;
        }
        Ok(())
    }

    fn write_tail(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = |f: &mut fmt::Formatter<'_>, key: &str, v: Option<u64>| match v {
            Some(v) => write!(f, " {key}={v}"),
            None => Ok(()),
        };
        numbers(f, "mark", self.mark.map(u64::from))?;
        numbers(f, "secmark", self.secmark.map(u64::from))?;
        if let Some(s) = &self.secctx {
            write!(f, " secctx={s}")?;
        }
        numbers(f, "zone", self.zone.map(u64::from))?;
        numbers(f, "delta-time", self.delta_time)?;
        if let Some(s) = &self.start {
            write!(f, " [start={s}]")?;
        }
        if let Some(s) = &self.stop {
            write!(f, " [stop={s}]")?;
        }
        if let Some(s) = &self.helper {
            write!(f, " helper={s}")?;
        }
        numbers(f, "use", self.uses.map(u64::from))?;
        numbers(f, "id", self.id.map(u64::from))?;
        if let Some(s) = &self.labels {
            write!(f, " labels={s}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = &self.sides[0].tuple;
        if self.layer3 {
            let (name, number) = if t.src.is_ipv4() {
                ("ipv4", 2)
            } else {
                ("ipv6", 10)
            };
            write!(f, "{name:<8} {number} ")?;
        }
        write!(f, "{:<8} {}", proto_name(t.proto), t.proto)?;
        if let Some(s) = self.timeout {
            write!(f, " {s}")?;
        }
        if let Some(s) = self.state {
            write!(f, " {}", s.name())?;
        }
        if let Some((short, long)) = self.gre {
            write!(f, " timeout={short}, stream_timeout={long}")?;
        }
        self.write_side(f, 0)?;
        if self.unreplied {
            f.write_str(" [UNREPLIED]")?;
        }
        self.write_side(f, 1)?;
        if let Some(m) = self.mode {
            write!(f, " {}", m.word())?;
        }
        self.write_tail(f)
    }
}
