//! Errors a socket call returns, the ICMP errors behind them, and the closed list of probe outcomes.
//!
//! Invariant: the ICMP tables are the kernel's (`icmp_err_convert` in net/ipv4/icmp.c,
//! `icmpv6_err_convert` in net/ipv6/icmp.c), fatal flags included; nothing is guessed.

use core::fmt;

/// An error number as the kernel hands it to a socket call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Errno {
    /// EPERM: a netfilter verdict in OUTPUT dropped the packet of a UDP or raw socket.
    Perm,
    /// EAGAIN: a cap of ours is reached (see `base::limits`).
    Again,
    /// EACCES: a prohibit route, or ICMPv6 administratively prohibited.
    Access,
    /// EINVAL: a blackhole route, or an address no socket can use.
    Invalid,
    /// ENONET: ICMP source host isolated.
    NoNet,
    /// EPROTO: ICMP parameter problem.
    Proto,
    /// EMSGSIZE: larger than the path MTU and not to be fragmented.
    MsgSize,
    /// ENOPROTOOPT: ICMP protocol unreachable.
    NoProtoOpt,
    /// EOPNOTSUPP: ICMP source route failed.
    OpNotSupp,
    /// EADDRINUSE: the port is taken.
    AddrInUse,
    /// ENETUNREACH.
    NetUnreach,
    /// ECONNRESET.
    ConnReset,
    /// ETIMEDOUT.
    TimedOut,
    /// ECONNREFUSED.
    ConnRefused,
    /// EHOSTDOWN: ICMP destination host unknown.
    HostDown,
    /// EHOSTUNREACH.
    HostUnreach,
}

impl Errno {
    /// The constant's name in errno(3).
    pub const fn name(self) -> &'static str {
        match self {
            Errno::Perm => "EPERM",
            Errno::Again => "EAGAIN",
            Errno::Access => "EACCES",
            Errno::Invalid => "EINVAL",
            Errno::NoNet => "ENONET",
            Errno::Proto => "EPROTO",
            Errno::MsgSize => "EMSGSIZE",
            Errno::NoProtoOpt => "ENOPROTOOPT",
            Errno::OpNotSupp => "EOPNOTSUPP",
            Errno::AddrInUse => "EADDRINUSE",
            Errno::NetUnreach => "ENETUNREACH",
            Errno::ConnReset => "ECONNRESET",
            Errno::TimedOut => "ETIMEDOUT",
            Errno::ConnRefused => "ECONNREFUSED",
            Errno::HostDown => "EHOSTDOWN",
            Errno::HostUnreach => "EHOSTUNREACH",
        }
    }

    /// The outcome a client reports for this error. The closed list has no word for some of them
    /// (EACCES, EPERM, EMSGSIZE, ...): they say that the packet has no way out, and the errno stays
    /// beside the outcome.
    pub const fn outcome(self) -> Outcome {
        match self {
            Errno::ConnRefused | Errno::NoProtoOpt => Outcome::Refused,
            Errno::ConnReset => Outcome::Reset,
            Errno::NetUnreach => Outcome::NetUnreachable,
            Errno::TimedOut => Outcome::Timeout,
            Errno::Perm
            | Errno::Again
            | Errno::Access
            | Errno::Invalid
            | Errno::NoNet
            | Errno::Proto
            | Errno::MsgSize
            | Errno::OpNotSupp
            | Errno::AddrInUse
            | Errno::HostDown
            | Errno::HostUnreach => Outcome::NoRoute,
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a client sees: the closed list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Outcome {
    /// The exchange completed.
    Ok,
    /// RST to a SYN, or port-unreachable.
    Refused,
    /// The connection was cut after it was established.
    Reset,
    /// EHOSTUNREACH and the errors without a word of their own (see [`Errno::outcome`]).
    NoRoute,
    /// ENETUNREACH.
    NetUnreachable,
    /// Nothing came back in time.
    Timeout,
    /// The name did not resolve. Never produced by a socket.
    DnsError(DnsFailure),
    /// The verdict depends on something podpath cannot know. Never produced by a socket.
    Depends,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Ok => f.write_str("ok"),
            Outcome::Refused => f.write_str("refused"),
            Outcome::Reset => f.write_str("reset"),
            Outcome::NoRoute => f.write_str("no-route"),
            Outcome::NetUnreachable => f.write_str("net-unreachable"),
            Outcome::Timeout => f.write_str("timeout"),
            Outcome::DnsError(why) => write!(f, "dns-error({why})"),
            Outcome::Depends => f.write_str("depends"),
        }
    }
}

/// Why a name did not resolve.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DnsFailure {
    /// A server said so with this response code; 0: the name has no address.
    Rcode(u16),
    /// No server gave an answer.
    NoReply,
}

/// RFC 1035 section 4.1.1, by the names that dig prints.
const RCODES: [&str; 6] = [
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED",
];

impl fmt::Display for DnsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DnsFailure::Rcode(code) => match RCODES.get(usize::from(*code)) {
                Some(name) => f.write_str(name),
                None => write!(f, "RCODE{code}"),
            },
            DnsFailure::NoReply => f.write_str("no reply"),
        }
    }
}

/// What an ICMP error means to the socket whose packet it quotes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning {
    /// An error; `fatal` is the table's flag ("harderr"): a connected UDP socket reports only those.
    Error {
        /// The socket's error.
        errno: Errno,
        /// Hard rather than soft.
        fatal: bool,
    },
    /// The path MTU shrank to this many bytes; 0 when the router did not say.
    PathMtu(u32),
    /// The kernel ignores it (source quench, redirect, codes beyond the table).
    Ignored,
}

const fn soft(errno: Errno) -> Meaning {
    Meaning::Error {
        errno,
        fatal: false,
    }
}

const fn hard(errno: Errno) -> Meaning {
    Meaning::Error { errno, fatal: true }
}

/// An ICMP error's meaning (`tcp_v4_err`, `__udp4_lib_err`; `mtu` is the next-hop MTU field).
pub const fn icmp_meaning(typ: u8, code: u8, mtu: u32) -> Meaning {
    match (typ, code) {
        (3, 0 | 11) => soft(Errno::NetUnreach),
        (3, 1 | 12) => soft(Errno::HostUnreach),
        (3, 2) => hard(Errno::NoProtoOpt),
        (3, 3) => hard(Errno::ConnRefused),
        (3, 4) => Meaning::PathMtu(mtu),
        (3, 5) => soft(Errno::OpNotSupp),
        (3, 6 | 9) => hard(Errno::NetUnreach),
        (3, 7) => hard(Errno::HostDown),
        (3, 8) => hard(Errno::NoNet),
        (3, 10 | 13 | 14 | 15) => hard(Errno::HostUnreach),
        (11, _) => soft(Errno::HostUnreach),
        (12, _) => hard(Errno::Proto),
        _ => Meaning::Ignored,
    }
}

/// An ICMPv6 error's meaning (`icmpv6_err_convert`; `mtu` is the MTU field of packet-too-big).
pub const fn icmpv6_meaning(typ: u8, code: u8, mtu: u32) -> Meaning {
    match (typ, code) {
        (1, 0) => soft(Errno::NetUnreach),
        (1, 1 | 5 | 6) => hard(Errno::Access),
        (1, 2 | 3) => soft(Errno::HostUnreach),
        (1, 4) => hard(Errno::ConnRefused),
        (1, _) => hard(Errno::Proto),
        (2, _) => Meaning::PathMtu(mtu),
        (3, _) => soft(Errno::HostUnreach),
        (4, _) => hard(Errno::Proto),
        _ => Meaning::Ignored,
    }
}
