//! One read of an IP header, both versions, and the setters the walk needs.
//!
//! IPv6 extension headers are walked to the upper-layer protocol (RFC 8200 section 4).

use crate::wire::{checksum, proto};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IP version of a packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Why a header could not be read; the names are the kernel's counters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// Version, header length or truncated header (`InHdrErrors`).
    Header,
    /// Header checksum (`InCsumErrors`).
    Checksum,
    /// Total length beyond the frame or inside the header (`InTruncatedPkts`).
    Truncated,
}

/// The fields of an IP header that decide a packet's way. Lengths in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IpHeader {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// TOS or traffic class.
    pub tos: u8,
    /// Upper-layer protocol, behind any IPv6 extension headers.
    pub proto: u8,
    /// Network header length: IHL, or 40 plus extension headers.
    pub header_len: usize,
    /// Total length of the packet, network header included.
    pub total_len: usize,
    /// Identification (IPv6: of the fragment header).
    pub id: u32,
    /// Don't fragment. Always true for IPv6.
    pub df: bool,
    /// More fragments follow.
    pub mf: bool,
    /// Fragment offset in bytes.
    pub frag_off: usize,
    /// IPv4 options or IPv6 hop-by-hop options are present.
    pub options: bool,
    /// Offset of the IPv6 "next header" byte that names `proto` (for parameter problems); 9 in IPv4.
    pub proto_at: usize,
    /// Offset of the IPv6 fragment header, if any.
    pub frag_at: Option<usize>,
}

impl IpHeader {
    /// Reads the header at the start of `b` as `ip_rcv_core` / `ip6_rcv_core` do, checksum included.
    pub fn parse(b: &[u8]) -> Result<IpHeader, Malformed> {
        let h = Self::parse_lax(b)?;
        if h.total_len > b.len() {
            return Err(Malformed::Truncated);
        }
        if h.is_v4() && checksum::sum(&b[..h.header_len], 0) != 0xffff {
            return Err(Malformed::Checksum);
        }
        Ok(h)
    }

    /// Reads a header that may be quoted or cut: no checksum, the payload need not be there.
    pub fn parse_lax(b: &[u8]) -> Result<IpHeader, Malformed> {
        match b.first().map(|v| v >> 4) {
            Some(4) => Self::parse_v4(b),
            Some(6) => Self::parse_v6(b),
            _ => Err(Malformed::Header),
        }
    }

    fn parse_v4(b: &[u8]) -> Result<IpHeader, Malformed> {
        let h: &[u8; 20] = b.first_chunk().ok_or(Malformed::Header)?;
        let ihl = usize::from(h[0] & 15) * 4;
        if ihl < 20 || b.len() < ihl {
            return Err(Malformed::Header);
        }
        let total_len = usize::from(u16::from_be_bytes([h[2], h[3]]));
        if total_len < ihl {
            return Err(Malformed::Truncated);
        }
        let frag = u16::from_be_bytes([h[6], h[7]]);
        Ok(IpHeader {
            src: Ipv4Addr::new(h[12], h[13], h[14], h[15]).into(),
            dst: Ipv4Addr::new(h[16], h[17], h[18], h[19]).into(),
            ttl: h[8],
            tos: h[1],
            proto: h[9],
            header_len: ihl,
            total_len,
            id: u32::from(u16::from_be_bytes([h[4], h[5]])),
            df: frag & 0x4000 != 0,
            mf: frag & 0x2000 != 0,
            frag_off: usize::from(frag & 0x1fff) * 8,
            options: ihl > 20,
            proto_at: 9,
            frag_at: None,
        })
    }

    fn parse_v6(b: &[u8]) -> Result<IpHeader, Malformed> {
        let h: &[u8; 40] = b.first_chunk().ok_or(Malformed::Header)?;
        let addr = |at: usize| {
            let mut a = [0u8; 16];
            a.copy_from_slice(&h[at..at + 16]);
            IpAddr::V6(Ipv6Addr::from(a))
        };
        let mut out = IpHeader {
            src: addr(8),
            dst: addr(24),
            ttl: h[7],
            tos: (h[0] << 4) | (h[1] >> 4),
            proto: h[6],
            header_len: 40,
            total_len: 40 + usize::from(u16::from_be_bytes([h[4], h[5]])),
            id: 0,
            df: true,
            mf: false,
            frag_off: 0,
            options: false,
            proto_at: 6,
            frag_at: None,
        };
        out.walk_extensions(b);
        Ok(out)
    }

    /// Follows hop-by-hop (0), routing (43), fragment (44) and destination options (60) headers.
    fn walk_extensions(&mut self, b: &[u8]) {
        let end = self.total_len.min(b.len());
        while let 0 | 43 | 44 | 60 = self.proto {
            let at = self.header_len;
            let Some(ext) = b.get(at..end).filter(|e| e.len() >= 8) else {
                return;
            };
            let len = if self.proto == 44 {
                8
            } else {
                (usize::from(ext[1]) + 1) * 8
            };
            if at + len > end {
                return;
            }
            self.options |= self.proto == 0;
            if self.proto == 44 {
                let off = u16::from_be_bytes([ext[2], ext[3]]);
                self.frag_off = usize::from(off & 0xfff8);
                self.mf = off & 1 == 1;
                self.id = u32::from_be_bytes([ext[4], ext[5], ext[6], ext[7]]);
                self.frag_at = Some(at);
            }
            self.proto_at = at;
            self.proto = ext[0];
            self.header_len = at + len;
            if self.frag_off > 0 {
                return; // what follows is payload of a later fragment
            }
        }
    }

    /// Whether this is IPv4.
    pub fn is_v4(&self) -> bool {
        self.src.is_ipv4()
    }

    /// The version.
    pub fn version(&self) -> IpVersion {
        if self.is_v4() {
            IpVersion::V4
        } else {
            IpVersion::V6
        }
    }

    /// Whether it is a fragment (first, middle or last).
    pub fn is_fragment(&self) -> bool {
        self.mf || self.frag_off > 0
    }

    /// The upper-layer bytes of `packet`, whose header this is; empty when cut off.
    pub fn payload<'a>(&self, packet: &'a [u8]) -> &'a [u8] {
        packet
            .get(self.header_len..self.total_len.min(packet.len()))
            .unwrap_or(&[])
    }

    /// Source and destination port of TCP, UDP and SCTP in an unfragmented packet or a first fragment.
    pub fn ports(&self, packet: &[u8]) -> Option<(u16, u16)> {
        let p = self.payload(packet);
        match self.proto {
            proto::TCP | proto::UDP | proto::SCTP if self.frag_off == 0 && p.len() >= 4 => Some((
                u16::from_be_bytes([p[0], p[1]]),
                u16::from_be_bytes([p[2], p[3]]),
            )),
            _ => None,
        }
    }

    /// ICMP or ICMPv6 type and code.
    pub fn icmp(&self, packet: &[u8]) -> Option<(u8, u8)> {
        let p = self.payload(packet);
        match self.proto {
            proto::ICMP | proto::ICMPV6 if self.frag_off == 0 && p.len() >= 2 => Some((p[0], p[1])),
            _ => None,
        }
    }

    /// Whether the packet is an ICMP error (RFC 1122 section 3.2.2; ICMPv6 types below 128).
    pub fn is_icmp_error(&self, packet: &[u8]) -> bool {
        // Each is looked for in its own family only (`__icmp_send`, `is_ineligible`).
        let other = if self.is_v4() {
            proto::ICMPV6
        } else {
            proto::ICMP
        };
        match (self.proto, self.icmp(packet)) {
            (p, _) if p == other => false,
            // Types beyond the kernel's table count as errors: none is sent about them (`__icmp_send`).
            (proto::ICMP, Some((t, _))) => matches!(t, 3 | 4 | 5 | 11 | 12) || t > 18,
            (proto::ICMPV6, Some((t, _))) => t < 128,
            _ => false,
        }
    }
}

/// Lowers TTL or hop limit by one, IPv4 checksum kept right (RFC 1624; kernel: `ip_decrease_ttl`).
pub fn decrease_ttl(packet: &mut [u8]) {
    match packet.first().map(|b| b >> 4) {
        Some(4) if packet.len() >= 20 => {
            let old = u16::from_be_bytes([packet[8], packet[9]]);
            packet[8] = packet[8].wrapping_sub(1);
            let new = u16::from_be_bytes([packet[8], packet[9]]);
            let c = checksum::update(u16::from_be_bytes([packet[10], packet[11]]), old, new);
            packet[10..12].copy_from_slice(&c.to_be_bytes());
        }
        Some(6) if packet.len() >= 40 => packet[7] = packet[7].wrapping_sub(1),
        _ => {}
    }
}

/// Forbids to fragment an IPv4 packet; its checksum is computed anew.
pub fn set_df(packet: &mut [u8]) {
    if packet.first().is_some_and(|b| b >> 4 == 4) && packet.len() >= 20 {
        packet[6] |= 0x40;
        fill_v4_checksum(packet);
    }
}

/// Sets TOS or traffic class, IPv4 checksum kept right.
pub fn set_tos(packet: &mut [u8], tos: u8) {
    match packet.first().map(|b| b >> 4) {
        Some(4) if packet.len() >= 20 => {
            packet[1] = tos;
            fill_v4_checksum(packet);
        }
        Some(6) if packet.len() >= 40 => {
            packet[0] = 0x60 | (tos >> 4);
            packet[1] = (packet[1] & 0x0f) | (tos << 4);
        }
        _ => {}
    }
}

/// Recomputes the IPv4 header checksum.
pub fn fill_v4_checksum(packet: &mut [u8]) {
    let ihl = packet.first().map_or(0, |b| usize::from(b & 15) * 4);
    if ihl < 20 || packet.len() < ihl {
        return;
    }
    packet[10..12].fill(0);
    let c = checksum::of(&packet[..ihl]);
    packet[10..12].copy_from_slice(&c.to_be_bytes());
}
