//! Expressions and statements of rules.
//!
//! Data only. Invariant: a literal's type is that of the expression it is compared with or assigned to
//! ([`Expr::dtypes`]); what is not understood is [`Stmt::Unknown`] with its text, the rest of its
//! rule included.

pub use super::fib::{Fib, FibResult};
use smallvec::SmallVec;

use super::elements::Element;
use super::fields::{Base, CtKey, ExtField, Field, MetaKey};
use super::types::{Type, Value};

/// An expression: something that has a value, or a literal.
#[derive(Clone, PartialEq, Debug)]
pub enum Expr {
    /// A literal.
    Value(Value),
    /// `10.0.0.0/8`: value and prefix length.
    Prefix(Value, u8),
    /// `1-5`, both ends included.
    Range(Value, Value),
    /// `established,related`: any of these flags.
    Flags(Vec<Value>),
    /// `syn / fin,syn,rst,ack`: these of those are set and the others are not.
    Masked(u128, u128),
    /// `a . b . c`.
    Concat(Vec<Expr>),
    /// A named header field.
    Payload(&'static Field),
    /// A named field of the upper layer that is taken for there: what is at its place, whatever the
    /// packet is of.
    Unasked(&'static Field),
    /// `@th,16,16`: base, first bit, bits.
    Raw(Base, u16, u16),
    /// A field of an IPv6 extension header.
    Exthdr(&'static ExtField),
    /// Whether an IPv6 extension header is there: its name and next-header number.
    ExthdrExists(&'static str, u8),
    /// A field of a TCP option.
    TcpOption(&'static ExtField),
    /// Whether a TCP option is there: its kind.
    TcpOptionExists(u8),
    /// `tcp option @kind,offset,bits`.
    TcpOptionRaw(u8, u16, u16),
    /// A field of an IP option.
    IpOption(&'static ExtField),
    /// Whether an IP option is there: its name and number.
    IpOptionExists(&'static str, u8),
    /// A field of an SCTP chunk.
    SctpChunk(&'static ExtField),
    /// Whether an SCTP chunk is there: its name and type.
    SctpChunkExists(&'static str, u8),
    /// `meta ...`.
    Meta(MetaKey),
    /// `ct ...`.
    Ct(CtKey, Option<Direction>),
    /// `fib saddr . iif oif`.
    Fib(Fib),
    /// `rt ...`.
    Rt(RtKey),
    /// `socket ...`.
    Socket(SocketKey),
    /// `osf [ttl skip] name|version`.
    Osf {
        /// How the TTL is compared.
        ttl: Option<OsfTtl>,
        /// Whether the version is part of the answer.
        version: bool,
    },
    /// `numgen inc|random mod M offset O`.
    Numgen {
        /// `random` instead of `inc`.
        random: bool,
        /// Numbers from 0 to this, exclusive.
        modulus: u32,
        /// Added to the number.
        offset: u32,
    },
    /// `jhash EXPR mod M seed S offset O`.
    Jhash {
        /// What is hashed.
        of: Box<Expr>,
        /// Results from 0 to this, exclusive.
        modulus: u32,
        /// The seed; None: the kernel draws one.
        seed: Option<u32>,
        /// Added to the result.
        offset: u32,
    },
    /// `symhash mod M offset O`.
    Symhash {
        /// Results from 0 to this, exclusive.
        modulus: u32,
        /// Added to the result.
        offset: u32,
    },
    /// `ipsec in|out [spnum N] reqid|spi|ip saddr...`.
    Ipsec {
        /// `out` instead of `in`.
        out: bool,
        /// Which transformation.
        spnum: u8,
        /// What of it.
        key: IpsecKey,
    },
    /// `a & b` and the like.
    Binop(Op, Box<Expr>, Box<Expr>),
    /// An anonymous set or map: `{ ... }`.
    Set(Vec<Element>),
    /// `@name`.
    SetRef(Box<str>),
    /// `KEY map { ... }` or `KEY map @name`.
    Map(Box<Expr>, Box<Expr>),
}

/// An arithmetic operation on bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// `&`
    And,
    /// `|`
    Or,
    /// `^`
    Xor,
    /// `<<`
    Shl,
    /// `>>`
    Shr,
}

impl Op {
    /// How it is spelt.
    pub fn as_str(self) -> &'static str {
        match self {
            Op::And => "&",
            Op::Or => "|",
            Op::Xor => "^",
            Op::Shl => "<<",
            Op::Shr => ">>",
        }
    }
}

/// Whose half of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// `original`
    Original,
    /// `reply`
    Reply,
}

impl Direction {
    /// How it is spelt.
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::Original => "original",
            Direction::Reply => "reply",
        }
    }
}

/// What `rt` gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RtKey {
    /// `rt classid`
    ClassId,
    /// `rt ip nexthop`
    NexthopV4,
    /// `rt ip6 nexthop`
    NexthopV6,
    /// `rt mtu`: the TCP MSS that the route allows.
    Mtu,
    /// `rt ipsec`
    Ipsec,
}

/// What `socket` gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SocketKey {
    /// `socket transparent`
    Transparent,
    /// `socket mark`
    Mark,
    /// `socket wildcard`
    Wildcard,
    /// `socket cgroupv2 level N`
    CgroupV2(u8),
}

/// How `osf` treats the TTL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OsfTtl {
    /// `ttl loose`
    Loose,
    /// `ttl skip`
    Skip,
}

/// What `ipsec` gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IpsecKey {
    /// `reqid`
    Reqid,
    /// `spi`
    Spi,
    /// `ip saddr`
    Ip4Saddr,
    /// `ip daddr`
    Ip4Daddr,
    /// `ip6 saddr`
    Ip6Saddr,
    /// `ip6 daddr`
    Ip6Daddr,
}

/// How two sides are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RelOp {
    /// No operator: equality, membership, or "any of these bits" if the left side's type is flags.
    Implicit,
    /// `==`
    Eq,
    /// `!=`
    Ne,
    /// `!`: none of these bits.
    Not,
    /// `<`
    Lt,
    /// `>`
    Gt,
    /// `<=`
    Le,
    /// `>=`
    Ge,
}

impl RelOp {
    /// How it is spelt.
    pub fn as_str(self) -> &'static str {
        match self {
            RelOp::Implicit => "",
            RelOp::Eq => "==",
            RelOp::Ne => "!=",
            RelOp::Not => "!",
            RelOp::Lt => "<",
            RelOp::Gt => ">",
            RelOp::Le => "<=",
            RelOp::Ge => ">=",
        }
    }
}

/// What becomes of a packet.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum Verdict {
    /// `accept`: final in this base chain only.
    Accept,
    /// `drop`
    Drop,
    /// `continue`
    Continue,
    /// `return`
    Return,
    /// `jump CHAIN`
    Jump(Box<str>),
    /// `goto CHAIN`
    Goto(Box<str>),
}

/// One statement of a rule.
#[derive(Clone, PartialEq, Debug)]
pub enum Stmt {
    /// A comparison; the rule ends if it does not hold.
    Match {
        /// The left side.
        left: Expr,
        /// How it is compared.
        op: RelOp,
        /// The right side; literals are of the left side's type.
        right: Expr,
    },
    /// A verdict.
    Verdict(Verdict),
    /// `KEY vmap { ... }` or `KEY vmap @name`.
    Vmap(Expr, Expr),
    /// A statement with a state of its own.
    State(Stateful),
    /// `counter|quota|limit|synproxy|ct helper|... name`: the kind and the name, or a map that gives it.
    Object(super::model::ObjectKind, Expr),
    /// `log ...`.
    Log(Log),
    /// `reject ...`.
    Reject(Reject),
    /// `dnat`, `snat`, `masquerade`, `redirect`.
    Nat(Nat),
    /// `meta|ct|payload|exthdr set VALUE`.
    Set(Expr, Expr),
    /// `notrack`.
    Notrack,
    /// `tproxy [ip|ip6] to addr:port`.
    Tproxy(Tproxy),
    /// `queue ...`.
    Queue(Queue),
    /// `dup to ADDR [device DEV]`; in netdev the first is the device.
    Dup(Expr, Option<Expr>),
    /// `fwd to DEV` or `fwd ip to ADDR device DEV`.
    Fwd(Fwd),
    /// `add|update|delete @set { ... }`.
    SetOp(SetOp),
    /// `flow add @table`.
    Flow(Box<str>),
    /// `synproxy mss ... wscale ...`.
    Synproxy(Synproxy),
    /// `reset tcp option NAME`.
    ResetTcpOption(u8),
    /// `xt match|target "name"`: an iptables extension that nft can only name.
    Xt(Box<str>, Box<str>),
    /// What is not understood, as it stood, to the end of the rule.
    Unknown(Box<str>),
}

/// A statement that sets and set elements may carry too.
#[derive(Clone, PartialEq, Debug)]
pub enum Stateful {
    /// `counter packets P bytes B`.
    Counter(crate::nf::Counters),
    /// `limit rate ...`.
    Limit(Limit),
    /// `quota ...`.
    Quota(Quota),
    /// `ct count [over] N`.
    CtCount {
        /// Matches above the number instead of up to it.
        over: bool,
        /// Connections.
        count: u32,
    },
    /// `last used T|never`: milliseconds since.
    Last(Option<u64>),
}

/// A rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// `over`: matches above the rate instead of below it.
    pub over: bool,
    /// Packets or bytes per unit of time.
    pub rate: u64,
    /// The unit of time in seconds: 1, 60, 3600, 86400, 604800.
    pub per: u32,
    /// Whether bytes are counted instead of packets.
    pub bytes: bool,
    /// Packets or bytes of burst.
    pub burst: u32,
}

/// A quota.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quota {
    /// `over`: matches once the bytes are used up instead of before.
    pub over: bool,
    /// Bytes.
    pub bytes: u64,
    /// Bytes used.
    pub used: u64,
}

/// A log statement.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Log {
    /// Text in front.
    pub prefix: Option<Box<str>>,
    /// Syslog level; `warn` is the default.
    pub level: Option<Box<str>>,
    /// NFLOG group.
    pub group: Option<u16>,
    /// Bytes copied to user space.
    pub snaplen: Option<u32>,
    /// Packets queued before they are sent.
    pub threshold: Option<u16>,
    /// `flags` in the kernel's bits: 1 tcp sequence, 2 tcp options, 4 ip options, 8 skuid, 32 ether.
    pub flags: u8,
}

/// How a packet is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reject {
    /// `reject`: port unreachable of the packet's family.
    Default,
    /// `reject with tcp reset`.
    TcpReset,
    /// `reject with icmp CODE`.
    Icmp(u8),
    /// `reject with icmpv6 CODE`.
    Icmpv6(u8),
    /// `reject with icmpx CODE`: uapi enum nft_reject_inet_code.
    Icmpx(u8),
}

/// Which translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NatKind {
    /// `dnat`
    Dnat,
    /// `snat`
    Snat,
    /// `masquerade`
    Masquerade,
    /// `redirect`
    Redirect,
}

impl NatKind {
    /// How it is spelt.
    pub fn as_str(self) -> &'static str {
        match self {
            NatKind::Dnat => "dnat",
            NatKind::Snat => "snat",
            NatKind::Masquerade => "masquerade",
            NatKind::Redirect => "redirect",
        }
    }
}

/// Which IP version a statement is about in a table that holds both.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IpFamily {
    /// `ip`
    Ip,
    /// `ip6`
    Ip6,
}

impl IpFamily {
    /// How it is spelt.
    pub fn as_str(self) -> &'static str {
        match self {
            IpFamily::Ip => "ip",
            IpFamily::Ip6 => "ip6",
        }
    }

    /// The type of its addresses.
    pub fn dtype(self) -> Type {
        match self {
            IpFamily::Ip => Type::Ipv4,
            IpFamily::Ip6 => Type::Ipv6,
        }
    }
}

/// A translation.
#[derive(Clone, PartialEq, Debug)]
pub struct Nat {
    /// Which.
    pub kind: NatKind,
    /// The family that is written: None where the table's says it.
    pub family: Option<IpFamily>,
    /// `prefix to`: the network part is mapped, the host part kept.
    pub prefix: bool,
    /// The new address: value, range, prefix, or a map; with a concatenated map it gives the port too.
    pub addr: Option<Expr>,
    /// The new port.
    pub port: Option<Expr>,
    /// `random`
    pub random: bool,
    /// `fully-random`
    pub fully_random: bool,
    /// `persistent`
    pub persistent: bool,
}

/// A transparent proxy.
#[derive(Clone, PartialEq, Debug)]
pub struct Tproxy {
    /// The family that is written.
    pub family: Option<IpFamily>,
    /// The address, if not the packet's.
    pub addr: Option<Expr>,
    /// The port, if not the packet's.
    pub port: Option<Expr>,
}

/// A queue to user space.
#[derive(Clone, PartialEq, Debug)]
pub struct Queue {
    /// The number, range or expression; None is queue 0.
    pub to: Option<Expr>,
    /// `bypass`
    pub bypass: bool,
    /// `fanout`
    pub fanout: bool,
}

/// Forwarding to another device.
#[derive(Clone, PartialEq, Debug)]
pub struct Fwd {
    /// `ip` or `ip6` if an address is given.
    pub family: Option<IpFamily>,
    /// The neighbour's address.
    pub addr: Option<Expr>,
    /// The device.
    pub device: Expr,
}

/// What is done to a set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetVerb {
    /// `add`: fails silently if it is there.
    Add,
    /// `update`: its timeout starts again.
    Update,
    /// `delete`
    Delete,
}

impl SetVerb {
    /// How it is spelt.
    pub fn as_str(self) -> &'static str {
        match self {
            SetVerb::Add => "add",
            SetVerb::Update => "update",
            SetVerb::Delete => "delete",
        }
    }
}

/// A dynamic change of a set.
#[derive(Clone, PartialEq, Debug)]
pub struct SetOp {
    /// What is done.
    pub verb: SetVerb,
    /// To which set.
    pub set: Box<str>,
    /// `meter NAME size N`: the old spelling, with an anonymous set of its own.
    pub meter: Option<u32>,
    /// The element.
    pub key: Expr,
    /// Its timeout in milliseconds.
    pub timeout: Option<u64>,
    /// Its comment.
    pub comment: Option<Box<str>>,
    /// State that each element gets.
    pub state: SmallVec<[Stateful; 1]>,
    /// The data, if the set is a map.
    pub data: Option<Expr>,
}

/// A SYN proxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Synproxy {
    /// Maximum segment size.
    pub mss: Option<u16>,
    /// Window scale.
    pub wscale: Option<u8>,
    /// `timestamp`
    pub timestamp: bool,
    /// `sack-perm`
    pub sack_perm: bool,
}
