//! ARP for Ethernet and IPv4 (RFC 826): read and build.

use crate::wire::{ETH_P_ARP, Frame, MacAddr};
use smoltcp::wire::{ArpHardware, ArpOperation, ArpPacket, EthernetProtocol};
use std::net::Ipv4Addr;

/// Request or reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArpOp {
    /// who-has
    Request,
    /// is-at
    Reply,
}

/// An ARP message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arp {
    /// Request or reply.
    pub op: ArpOp,
    /// Sender hardware address.
    pub sha: MacAddr,
    /// Sender protocol address.
    pub spa: Ipv4Addr,
    /// Target hardware address.
    pub tha: MacAddr,
    /// Target protocol address.
    pub tpa: Ipv4Addr,
}

impl Arp {
    /// Reads the message behind the link header; `None` for anything but Ethernet/IPv4 requests and replies.
    pub fn parse(b: &[u8]) -> Option<Arp> {
        let p = ArpPacket::new_checked(b).ok()?;
        // Ethernet, or IEEE 802 (6), which `arp_process` accepts on Ethernet too.
        if !matches!(
            p.hardware_type(),
            ArpHardware::Ethernet | ArpHardware::Unknown(6)
        ) || p.protocol_type() != EthernetProtocol::Ipv4
            || (p.hardware_len(), p.protocol_len()) != (6, 4)
        {
            return None;
        }
        let op = match p.operation() {
            ArpOperation::Request => ArpOp::Request,
            ArpOperation::Reply => ArpOp::Reply,
            ArpOperation::Unknown(_) => return None,
        };
        let ip = |b: &[u8]| b.first_chunk::<4>().map(|c| Ipv4Addr::from(*c));
        Some(Arp {
            op,
            sha: MacAddr::from_slice(p.source_hardware_addr()),
            spa: ip(p.source_protocol_addr())?,
            tha: MacAddr::from_slice(p.target_hardware_addr()),
            tpa: ip(p.target_protocol_addr())?,
        })
    }

    /// The message as a frame from `self.sha` to `dst`.
    pub fn frame(&self, dst: MacAddr) -> Frame {
        let mut b = [0u8; 28];
        let mut p = ArpPacket::new_unchecked(&mut b[..]);
        p.set_hardware_type(ArpHardware::Ethernet);
        p.set_protocol_type(EthernetProtocol::Ipv4);
        p.set_hardware_len(6);
        p.set_protocol_len(4);
        p.set_operation(match self.op {
            ArpOp::Request => ArpOperation::Request,
            ArpOp::Reply => ArpOperation::Reply,
        });
        p.set_source_hardware_addr(&self.sha.0);
        p.set_source_protocol_addr(&self.spa.octets());
        p.set_target_hardware_addr(&self.tha.0);
        p.set_target_protocol_addr(&self.tpa.octets());
        let mut f = Frame::ip(&b);
        f.set_ethernet(dst, self.sha, ETH_P_ARP);
        f
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let a = Arp {
            op: ArpOp::Request,
            sha: MacAddr([1, 2, 3, 4, 5, 6]),
            spa: Ipv4Addr::new(10, 0, 0, 1),
            tha: MacAddr::ZERO,
            tpa: Ipv4Addr::new(10, 0, 0, 2),
        };
        let f = a.frame(MacAddr::BROADCAST);
        assert_eq!((f.len(), f.ethertype()), (42, ETH_P_ARP));
        assert_eq!(Arp::parse(f.l3()), Some(a));
        for n in 0..28 {
            assert_eq!(Arp::parse(&f.l3()[..n]), None);
        }
    }
}
