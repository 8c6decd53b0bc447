//! Neighbour discovery messages (RFC 4861 sections 4.3, 4.4): read and build.

use crate::wire::{IpHeader, MacAddr, build, proto};
use std::net::{IpAddr, Ipv6Addr};

/// A neighbour solicitation or advertisement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ndp {
    /// Who has `target`?
    Solicit {
        /// The address asked for.
        target: Ipv6Addr,
        /// Source link-layer address option.
        lladdr: Option<MacAddr>,
    },
    /// `target` is at `lladdr`.
    Advert {
        /// The address told.
        target: Ipv6Addr,
        /// Target link-layer address option.
        lladdr: Option<MacAddr>,
        /// R flag.
        router: bool,
        /// S flag.
        solicited: bool,
        /// O flag.
        override_: bool,
    },
}

/// ICMPv6 type of a solicitation.
pub const NS: u8 = 135;
/// ICMPv6 type of an advertisement.
pub const NA: u8 = 136;

/// `ff02::1:ffXX:XXXX` of an address (RFC 4291 section 2.7.1).
pub fn solicited_node(a: Ipv6Addr) -> Ipv6Addr {
    let o = a.octets();
    Ipv6Addr::from([
        0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, o[13], o[14], o[15],
    ])
}

impl Ndp {
    /// Reads a message from a packet; `None` when it is not one or breaks RFC 4861 section 7.1
    /// (hop limit 255, code 0, length).
    pub fn parse(h: &IpHeader, packet: &[u8]) -> Option<Ndp> {
        let p = h.payload(packet);
        if h.proto != proto::ICMPV6 || h.ttl != 255 || p.len() < 24 || p[1] != 0 {
            return None;
        }
        let target = Ipv6Addr::from(*p[8..].first_chunk::<16>()?);
        if target.is_multicast() {
            return None;
        }
        match p[0] {
            NS => Some(Ndp::Solicit {
                target,
                lladdr: option(&p[24..], 1)?,
            }),
            NA => Some(Ndp::Advert {
                target,
                lladdr: option(&p[24..], 2)?,
                router: p[4] & 0x80 != 0,
                solicited: p[4] & 0x40 != 0,
                override_: p[4] & 0x20 != 0,
            }),
            _ => None,
        }
    }

    /// The message as an IPv6 packet with hop limit 255.
    pub fn packet(&self, src: Ipv6Addr, dst: Ipv6Addr) -> Vec<u8> {
        let (typ, flags, target, lladdr, opt) = match *self {
            Ndp::Solicit { target, lladdr } => (NS, 0, target, lladdr, 1),
            Ndp::Advert {
                target,
                lladdr,
                router,
                solicited,
                override_,
            } => {
                let f = (u8::from(router) << 7)
                    | (u8::from(solicited) << 6)
                    | (u8::from(override_) << 5);
                (NA, f, target, lladdr, 2)
            }
        };
        let mut m = vec![typ, 0, 0, 0, flags, 0, 0, 0];
        m.extend_from_slice(&target.octets());
        if let Some(mac) = lladdr {
            m.extend_from_slice(&[opt, 1]);
            m.extend_from_slice(&mac.0);
        }
        build::fill_icmp_checksum(&mut m, IpAddr::V6(src), IpAddr::V6(dst));
        build::ip_packet(
            IpAddr::V6(src),
            IpAddr::V6(dst),
            proto::ICMPV6,
            255,
            0,
            0,
            false,
            &m,
        )
    }
}

/// The link-layer address option of kind `want`: `None` when the options are malformed.
fn option(mut o: &[u8], want: u8) -> Option<Option<MacAddr>> {
    let mut found = None;
    while !o.is_empty() {
        let len = usize::from(*o.get(1)?) * 8;
        if len == 0 || len > o.len() {
            return None;
        }
        if o[0] == want {
            found = Some(MacAddr::from_slice(&o[2..]));
        }
        o = &o[len..];
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_cut() {
        let (a, b): (Ipv6Addr, Ipv6Addr) = ("fe80::1".parse().unwrap(), "fd00::2".parse().unwrap());
        let ns = Ndp::Solicit {
            target: b,
            lladdr: Some(MacAddr([1, 2, 3, 4, 5, 6])),
        };
        let na = Ndp::Advert {
            target: b,
            lladdr: None,
            router: true,
            solicited: true,
            override_: false,
        };
        for m in [ns, na] {
            let p = m.packet(a, solicited_node(b));
            let h = IpHeader::parse(&p).unwrap();
            assert_eq!(Ndp::parse(&h, &p), Some(m));
            for n in 0..p.len() {
                if let Ok(h) = IpHeader::parse_lax(&p[..n]) {
                    let _ = Ndp::parse(&h, &p[..n]);
                }
            }
        }
    }
}
