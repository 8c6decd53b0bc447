//! The types of what expressions give.
//!
//! Invariant: a literal has none of its own; it takes that of what it is compared with.

use super::expr::*;
use super::types::Type;
use smallvec::SmallVec;

impl Expr {
    /// The types of its value, one per part of a concatenation. Empty: the expression has no
    /// type of its own
    /// (a literal).
    pub fn dtypes(&self) -> SmallVec<[Type; 4]> {
        match self {
            Expr::Concat(parts) => parts.iter().flat_map(Expr::dtypes).collect(),
            other => other.dtype().into_iter().collect(),
        }
    }

    /// The type of its value; None of a literal or a concatenation.
    pub fn dtype(&self) -> Option<Type> {
        Some(match self {
            Expr::Payload(f) | Expr::Unasked(f) => f.dtype,
            Expr::Raw(_, _, bits) => Type::Hex(*bits),
            Expr::TcpOptionRaw(_, _, bits) => Type::Hex(*bits),
            Expr::Exthdr(f) | Expr::TcpOption(f) | Expr::IpOption(f) | Expr::SctpChunk(f) => {
                f.dtype
            }
            Expr::ExthdrExists(..)
            | Expr::TcpOptionExists(_)
            | Expr::IpOptionExists(..)
            | Expr::SctpChunkExists(..) => Type::Boolean,
            Expr::Meta(k) => k.dtype(),
            Expr::Ct(k, _) => k.dtype(),
            Expr::Fib(f) => match f.result {
                _ if f.exists => Type::Boolean,
                FibResult::Oif => Type::IfIndex,
                FibResult::OifName => Type::IfName,
                FibResult::Type => Type::FibAddrType,
            },
            Expr::Rt(k) => match k {
                RtKey::ClassId => Type::Realm,
                RtKey::NexthopV4 => Type::Ipv4,
                RtKey::NexthopV6 => Type::Ipv6,
                RtKey::Mtu => Type::Integer(16),
                RtKey::Ipsec => Type::Boolean,
            },
            Expr::Socket(k) => match k {
                SocketKey::Transparent | SocketKey::Wildcard => Type::Integer(8),
                SocketKey::Mark => Type::Mark,
                SocketKey::CgroupV2(_) => Type::CgroupV2,
            },
            Expr::Osf { .. } => Type::Text(32),
            Expr::Numgen { .. } | Expr::Jhash { .. } | Expr::Symhash { .. } => Type::Integer(32),
            Expr::Ipsec { key, .. } => match key {
                IpsecKey::Reqid | IpsecKey::Spi => Type::Integer(32),
                IpsecKey::Ip4Saddr | IpsecKey::Ip4Daddr => Type::Ipv4,
                IpsecKey::Ip6Saddr | IpsecKey::Ip6Daddr => Type::Ipv6,
            },
            Expr::Binop(_, left, right) => left.dtype().or_else(|| right.dtype())?,
            _ => return None,
        })
    }
}
