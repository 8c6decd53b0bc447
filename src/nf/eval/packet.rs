//! One read of a packet's headers for matching, as `ipt_do_table` and `ip6t_do_table` see them.
//!
//! Offsets only: the bytes stay in the frame, since targets change them. Invariant: what is kept here does
//! not change while one table runs (a mapping ends its table, nothing else moves addresses or headers).

use crate::nf::Family;
use crate::wire::{Frame, proto};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where the headers of one packet are.
#[derive(Clone, Copy, Debug)]
pub(in crate::nf) struct Pkt {
    pub family: Family,
    pub src: IpAddr,
    pub dst: IpAddr,
    /// Upper-layer protocol; `Err(true)` drops the packet, `Err(false)` matches no `-p` (IPv6).
    pub proto: Result<u8, bool>,
    /// Offset of the upper-layer header.
    pub l4: usize,
    /// Fragment offset as `par->fragoff`: units of 8 bytes in IPv4, bytes in IPv6; 0 for a first fragment.
    pub fragoff: u16,
    /// `skb->len` in the IP hooks: from the network header on.
    pub len: usize,
}

impl Pkt {
    /// Reads a frame; `None` if it does not even hold the fixed header of the family.
    pub fn of(f: &Frame, family: Family) -> Option<Pkt> {
        Self::read(f.l3(), family, true)
    }

    /// The same as nf_tables sees it, to which an authentication header is the upper layer
    /// (`nft_set_pktinfo_ipv6`, `IP6_FH_F_AUTH`).
    pub fn native(f: &Frame, family: Family) -> Option<Pkt> {
        Self::read(f.l3(), family, false)
    }

    fn read(b: &[u8], family: Family, past_auth: bool) -> Option<Pkt> {
        match family {
            Family::V4 => Self::v4(b),
            Family::V6 => Self::v6(b, past_auth),
        }
    }

    fn v4(b: &[u8]) -> Option<Pkt> {
        let h: &[u8; 20] = b.first_chunk()?;
        let addr = |at: usize| IpAddr::V4(Ipv4Addr::new(h[at], h[at + 1], h[at + 2], h[at + 3]));
        Some(Pkt {
            family: Family::V4,
            src: addr(12),
            dst: addr(16),
            proto: Ok(h[9]),
            l4: usize::from(h[0] & 15) * 4,
            fragoff: u16::from_be_bytes([h[6], h[7]]) & 0x1fff,
            len: b.len(),
        })
    }

    fn v6(b: &[u8], past_auth: bool) -> Option<Pkt> {
        let h: &[u8; 40] = b.first_chunk()?;
        let addr = |at: usize| {
            let mut a = [0u8; 16];
            a.copy_from_slice(&h[at..at + 16]);
            IpAddr::V6(Ipv6Addr::from(a))
        };
        let mut pkt = Pkt {
            family: Family::V6,
            src: addr(8),
            dst: addr(24),
            proto: Ok(h[6]),
            l4: 40,
            fragoff: 0,
            len: b.len(),
        };
        pkt.find_header(b, h[6], past_auth);
        Some(pkt)
    }

    /// Follows extension headers to the upper layer (kernel: `ipv6_find_hdr` with target -1).
    fn find_header(&mut self, b: &[u8], mut next: u8, past_auth: bool) {
        const NONE: u8 = 59;
        const AH: u8 = 51;
        let is_ext = |n: u8| matches!(n, 0 | 43 | 44 | AH | NONE | 60);
        while is_ext(next) && next != NONE && (past_auth || next != AH) {
            let Some(ext) = b.get(self.l4..).filter(|e| e.len() >= 2) else {
                self.proto = Err(true);
                return;
            };
            let len = match next {
                44 => {
                    let Some(off) = ext.get(2..4) else {
                        self.proto = Err(true);
                        return;
                    };
                    let off = u16::from_be_bytes([off[0], off[1]]) & !7;
                    if off != 0 {
                        // Behind a later fragment's header there is payload: only its own name counts.
                        self.fragoff = off;
                        self.proto = match is_ext(ext[0]) && ext[0] != NONE {
                            true => Err(false),
                            false => Ok(ext[0]),
                        };
                        return;
                    }
                    8
                }
                AH => (usize::from(ext[1]) + 2) * 4,
                _ => (usize::from(ext[1]) + 1) * 8,
            };
            next = ext[0];
            self.l4 += len;
        }
        self.proto = Ok(next);
    }

    /// `n` bytes at an offset from the upper-layer header (kernel: `skb_header_pointer`).
    pub fn l4<'a>(&self, f: &'a Frame, at: usize, n: usize) -> Option<&'a [u8]> {
        let start = self.l4.checked_add(at)?;
        f.l3().get(start..start.checked_add(n)?)
    }

    /// The two ports as `multiport` reads them: any first four bytes of the upper layer.
    pub fn ports(&self, f: &Frame) -> Option<(u16, u16)> {
        let p = self.l4(f, 0, 4)?;
        Some((
            u16::from_be_bytes([p[0], p[1]]),
            u16::from_be_bytes([p[2], p[3]]),
        ))
    }

    /// Whether no extension can drop this packet for a header that is cut short, nor take a later fragment's
    /// payload for one; only then may rules be passed over without asking them.
    pub fn is_whole(&self, f: &Frame) -> bool {
        let need = match self.proto {
            Ok(proto::TCP) => 20,
            Ok(proto::SCTP) => 12,
            Ok(_) => 8,
            Err(_) => return false,
        };
        self.fragoff == 0 && self.l4(f, 0, need).is_some()
    }
}

/// TOS or traffic class.
pub(in crate::nf) fn dsfield(f: &Frame) -> u8 {
    match f.l3() {
        [v, tos, ..] if v >> 4 == 4 => *tos,
        [a, b, ..] => a << 4 | b >> 4,
        _ => 0,
    }
}

/// TTL or hop limit.
pub(super) fn ttl(f: &Frame, family: Family) -> u8 {
    let at = if family == Family::V4 { 8 } else { 7 };
    f.l3().get(at).copied().unwrap_or_default()
}
