//! A packet as conntrack reads it: header, upper-layer bytes, tuple.
//!
//! Invariant: `l4` ends where the IP header says the packet ends.

use super::track::Env;
use super::tuple::CtTuple;
use crate::nf::{Counters, Hook};
use crate::wire::{IpHeader, checksum, proto};

/// Authentication header (RFC 4302), which conntrack passes over in IPv6.
const AH: u8 = 51;
/// IPv6 "no next header".
const NO_NEXT: u8 = 59;

/// A packet at a hook.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    /// Its IP header.
    pub h: IpHeader,
    /// Upper-layer protocol.
    pub proto: u8,
    /// Bytes from the upper-layer header on.
    pub l4: &'a [u8],
    /// The whole length, IP header included (`skb->len`).
    pub len: usize,
}

impl<'a> Packet<'a> {
    /// Reads a packet that was accepted by the IP layer, or one quoted in an ICMP error (kernel:
    /// `get_l4proto`). `None`: a later fragment, or no upper layer.
    pub fn parse(l3: &'a [u8]) -> Option<Packet<'a>> {
        let h = IpHeader::parse_lax(l3).ok()?;
        if h.frag_off != 0 {
            return None;
        }
        let end = h.total_len.min(l3.len());
        let (mut proto, mut at) = (h.proto, h.header_len);
        if !h.is_v4() {
            while proto == AH {
                let ext = l3.get(at..end).filter(|e| e.len() >= 2)?;
                proto = ext[0];
                at += (usize::from(ext[1]) + 2) * 4;
            }
            if matches!(proto, NO_NEXT | 0 | 43 | 44 | 60) {
                return None;
            }
        }
        Some(Packet {
            h,
            proto,
            l4: l3.get(at..end)?,
            len: end,
        })
    }

    /// What accounting adds for it.
    pub fn counted(&self) -> Counters {
        Counters {
            packets: 1,
            bytes: self.len as u64,
        }
    }

    /// Its tuple.
    pub fn tuple(&self) -> Option<CtTuple> {
        CtTuple::of(self.h.src, self.h.dst, self.proto, self.l4)
    }

    /// Whether its upper-layer checksum is looked at and wrong. Own packets' are not: hardware fills
    /// them in (kernel: `nf_checksum`, called in PREROUTING only).
    pub fn bad_checksum(&self, hook: Hook, sysctl: i32) -> bool {
        sysctl != 0 && hook == Hook::Prerouting && !self.checksum_ok()
    }

    /// The same for UDP-Lite, of which only `covered` bytes are summed up. The kernel takes UDP's number
    /// into the pseudo header (`udplite_error` asks for IPPROTO_UDP), so that what RFC 3828 calls right
    /// is wrong here.
    pub fn bad_lite_checksum(&self, covered: usize, env: &Env<'_>) -> bool {
        if env.sysctl.checksum == 0 || env.hook != Hook::Prerouting {
            return false;
        }
        let start = checksum::pseudo(self.h.src, self.h.dst, proto::UDP, self.l4.len());
        let covered = self.l4.get(..covered).unwrap_or(self.l4);
        checksum::sum(covered, start) != 0xffff
    }

    fn checksum_ok(&self) -> bool {
        let start = if self.proto == proto::ICMP {
            0
        } else {
            checksum::pseudo(self.h.src, self.h.dst, self.proto, self.l4.len())
        };
        checksum::sum(self.l4, start) == 0xffff
    }
}
