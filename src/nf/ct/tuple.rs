//! A connection's tuple in one direction, as conntrack keys it.
//!
//! Invariant: both addresses are of one family.

use crate::wire::proto;
use std::net::IpAddr;

/// UDP-Lite (RFC 3828).
pub const UDPLITE: u8 = 136;
/// GRE (RFC 2784).
pub const GRE: u8 = 47;

/// One of a connection's two directions (kernel: `enum ip_conntrack_dir`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
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

/// The type that answers an ICMP query, both ways round (kernel: `invmap` of nf_conntrack_proto_icmp.c
/// and _icmpv6.c). `None`: no query, conntrack makes no entry for it.
fn icmp_inverse(proto: u8, typ: u8) -> Option<u8> {
    Some(match (proto, typ) {
        (proto::ICMP, 0) => 8,
        (proto::ICMP, 8) => 0,
        (proto::ICMP, 13 | 15 | 17) | (proto::ICMPV6, 128) => typ + 1,
        (proto::ICMP, 14 | 16 | 18) | (proto::ICMPV6, 129) => typ - 1,
        // Node information (RFC 4620).
        (proto::ICMPV6, 139) => 140,
        (proto::ICMPV6, 140) => 139,
        _ => return None,
    })
}

impl CtTuple {
    /// The tuple of a packet whose upper-layer bytes are `l4` (kernel: `nf_ct_get_tuple`); `None` when
    /// too few are there.
    pub fn of(src: IpAddr, dst: IpAddr, proto: u8, l4: &[u8]) -> Option<CtTuple> {
        let be = |at: usize| {
            l4.get(at..at + 2)
                .map(|b| u16::from(b[0]) << 8 | u16::from(b[1]))
        };
        let (sport, dport) = match proto {
            proto::TCP | proto::UDP | proto::SCTP | UDPLITE => (be(0)?, be(2)?),
            proto::ICMP | proto::ICMPV6 => {
                l4.get(..8)?;
                (be(4)?, be(0)?)
            }
            GRE => (0, gre_key(l4)?),
            _ => (0, 0),
        };
        Some(CtTuple {
            proto,
            src,
            dst,
            sport,
            dport,
        })
    }

    /// The tuple of what answers it (kernel: `nf_ct_invert_tuple`); `None` for an ICMP type that asks
    /// nothing.
    pub fn invert(&self) -> Option<CtTuple> {
        let (sport, dport) = if self.is_icmp() {
            let (typ, code) = self.icmp();
            let typ = icmp_inverse(self.proto, typ)?;
            (self.sport, u16::from_be_bytes([typ, code]))
        } else {
            (self.dport, self.sport)
        };
        Some(CtTuple {
            proto: self.proto,
            src: self.dst,
            dst: self.src,
            sport,
            dport,
        })
    }

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

/// The call id of enhanced GRE (RFC 2637), 0 for any other GRE (kernel: `gre_pkt_to_tuple`).
fn gre_key(l4: &[u8]) -> Option<u16> {
    match l4 {
        [_, v, ..] if v & 7 != 1 => Some(0),
        [_, _, 0x88, 0x0b, _, _, a, b, ..] => Some(u16::from_be_bytes([*a, *b])),
        [_, _, _, _, _, _, _, _, ..] => None,
        _ => Some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_answers_an_answer_is_the_question() {
        let (a, b) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let echo = CtTuple::of(a, b, proto::ICMP, &[8, 0, 0, 0, 1, 2, 0, 1]).unwrap();
        assert_eq!((echo.sport, echo.icmp()), (0x0102, (8, 0)));
        let answer = echo.invert().unwrap();
        assert_eq!(
            (answer.src, answer.sport, answer.icmp()),
            (b, 0x0102, (0, 0))
        );
        assert_eq!(answer.invert(), Some(echo));
        let redirect = CtTuple::of(a, b, proto::ICMP, &[5; 8]).unwrap();
        assert_eq!(redirect.invert(), None);
        let tcp = CtTuple::of(a, b, proto::TCP, &[0, 1, 0, 2]).unwrap();
        assert_eq!(tcp.invert().and_then(|t| t.invert()), Some(tcp));
    }

    #[test]
    fn cut_headers_have_no_tuple() {
        let a = "10.0.0.1".parse().unwrap();
        let of = |p, l4: &[u8]| CtTuple::of(a, a, p, l4);
        assert!(of(proto::UDP, &[0; 3]).is_none() && of(proto::ICMP, &[8; 7]).is_none());
        assert!(of(99, &[]).is_some() && of(GRE, &[0, 1, 0x88, 0x0b]).is_some());
        assert!(
            of(GRE, &[0, 1, 8, 0, 0, 0, 0, 0]).is_none(),
            "version 1 is PPP"
        );
        assert_eq!(
            of(GRE, &[0, 1, 0x88, 0x0b, 0, 0, 1, 2]).unwrap().dport,
            0x0102
        );
    }
}
