//! A connection's tuple in one direction, as conntrack keys it.
//!
//! Invariant: both addresses are of one family.

use crate::wire::proto;
use std::net::IpAddr;

/// One of a connection's two directions (kernel: `enum ip_conntrack_dir`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Dir {
    /// As the first packet went.
    Original,
    /// Back.
    Reply,
}

impl Dir {
    /// 0 or 1, for arrays.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The other one.
    pub fn other(self) -> Dir {
        match self {
            Dir::Original => Dir::Reply,
            Dir::Reply => Dir::Original,
        }
    }
}

/// Protocol, addresses and the two 16-bit parts (kernel: `struct nf_conntrack_tuple`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CtTuple {
    /// IP protocol number.
    pub proto: u8,
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Source port; the id of an ICMP query; the key of a GRE call.
    pub sport: u16,
    /// Destination port; type << 8 | code of an ICMP message.
    pub dport: u16,
}

impl CtTuple {
    /// Whether the two 16-bit parts are ICMP's id, type and code.
    pub fn is_icmp(&self) -> bool {
        matches!(self.proto, proto::ICMP | proto::ICMPV6)
    }

    /// ICMP type and code.
    pub fn icmp(&self) -> (u8, u8) {
        let [typ, code] = self.dport.to_be_bytes();
        (typ, code)
    }
}
