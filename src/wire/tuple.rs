//! The tuple that names a flow in one direction.

use crate::wire::{IpHeader, proto};
use core::fmt;
use std::net::IpAddr;

/// Protocol, addresses and ports (ICMP echo: the id stands on both ports' places, as in conntrack).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tuple {
    /// IP protocol number.
    pub proto: u8,
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Source port, or echo id.
    pub sport: u16,
    /// Destination port, or echo id.
    pub dport: u16,
}

impl Tuple {
    /// The tuple of `packet`, whose header is `h`. Ports are 0 where the protocol has none.
    pub fn of(h: &IpHeader, packet: &[u8]) -> Tuple {
        let (sport, dport) = h.ports(packet).unwrap_or_else(|| {
            let p = h.payload(packet);
            match (h.icmp(packet), p.get(4..6)) {
                (Some((0 | 8 | 128 | 129, _)), Some(id)) => {
                    let id = u16::from_be_bytes([id[0], id[1]]);
                    (id, id)
                }
                _ => (0, 0),
            }
        });
        Tuple {
            proto: h.proto,
            src: h.src,
            dst: h.dst,
            sport,
            dport,
        }
    }

    /// The other direction.
    pub fn reply(self) -> Tuple {
        Tuple {
            src: self.dst,
            dst: self.src,
            sport: self.dport,
            dport: self.sport,
            ..self
        }
    }
}

/// The protocol's name as `/etc/protocols` and conntrack print it.
pub fn proto_name(p: u8) -> &'static str {
    match p {
        proto::ICMP => "icmp",
        proto::IPIP => "ipip",
        proto::TCP => "tcp",
        proto::UDP => "udp",
        proto::ICMPV6 => "icmpv6",
        proto::SCTP => "sctp",
        _ => "ip",
    }
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = proto_name(self.proto);
        match self.proto {
            proto::TCP | proto::UDP | proto::SCTP => {
                let (s, d) = (
                    std::net::SocketAddr::new(self.src, self.sport),
                    std::net::SocketAddr::new(self.dst, self.dport),
                );
                write!(f, "{name} {s} > {d}")
            }
            _ => write!(f, "{name} {} > {}", self.src, self.dst),
        }
    }
}
