//! A TCP header as conntrack reads it, and sequence arithmetic.
//!
//! Invariant: a `Header` comes from a whole header with a legal combination of flags.

use super::table::Kind;
use super::{Side, flag};
use crate::nf::ct::packet::Packet;
use crate::nf::ct::track::Env;

/// Whether `a` stands before `b` (kernel: `before`).
pub(super) fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// Whether `a` stands after `b`.
pub(super) fn after(a: u32, b: u32) -> bool {
    before(b, a)
}

/// Highest window scale (RFC 7323 section 2.3).
const SCALE_MAX: u8 = 14;

/// A segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header<'a> {
    pub seq: u32,
    pub ack: u32,
    pub window: u16,
    pub syn: bool,
    pub fin: bool,
    pub rst: bool,
    pub has_ack: bool,
    options: &'a [u8],
    data: u32,
    /// By how much NAT shifted what is acknowledged.
    shift: u32,
}

impl<'a> Header<'a> {
    /// The same with what is acknowledged numbered as its sender did, before NAT shifted it (kernel:
    /// `receiver_offset` in `tcp_in_window`).
    pub fn unshifted(self, by: i32) -> Header<'a> {
        Header {
            ack: self.ack.wrapping_sub(by as u32),
            shift: by as u32,
            ..self
        }
    }

    /// Reads it; `None`: short, a wrong data offset, a wrong checksum, or flags that no segment has
    /// (kernel: `tcp_error`, `tcp_valid_flags`).
    pub fn checked(p: &Packet<'a>, env: &Env<'_>) -> Option<Header<'a>> {
        let h = Header::read(p.l4)?;
        (!p.bad_checksum(env.hook, env.sysctl.checksum)).then_some(h)
    }

    /// The same without a look at the checksum.
    pub fn read(l4: &'a [u8]) -> Option<Header<'a>> {
        let h: &[u8; 20] = l4.first_chunk()?;
        let len = usize::from(h[12] >> 4) * 4;
        if len < 20 || l4.len() < len {
            return None;
        }
        let [fin, syn, rst, has_ack, urg] = [1, 2, 4, 16, 32].map(|bit| h[13] & bit != 0);
        let valid = match (syn, rst, fin, has_ack) {
            (true, false, false, false) => true,
            (true, false, false, true) | (false, true, false, _) => !urg,
            (false, false, true, true) | (false, false, false, true) => true,
            _ => false,
        };
        if !valid {
            return None;
        }
        let be = |at: usize| u32::from_be_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]]);
        Some(Header {
            seq: be(4),
            ack: be(8),
            window: u16::from_be_bytes([h[14], h[15]]),
            syn,
            fin,
            rst,
            has_ack,
            options: l4.get(20..len)?,
            data: u32::try_from(l4.len() - len).unwrap_or(u32::MAX),
            shift: 0,
        })
    }

    /// Kernel: `get_conntrack_index`.
    pub fn kind(&self) -> Kind {
        if self.rst {
            Kind::Rst
        } else if self.syn && self.has_ack {
            Kind::SynAck
        } else if self.syn {
            Kind::Syn
        } else if self.fin {
            Kind::Fin
        } else if self.has_ack {
            Kind::Ack
        } else {
            Kind::None
        }
    }

    /// Sequence number behind it (kernel: `segment_seq_plus_len`).
    pub fn end(&self) -> u32 {
        let flags = u32::from(self.syn) + u32::from(self.fin);
        self.seq.wrapping_add(self.data).wrapping_add(flags)
    }

    /// Takes window scale and SACK over from a SYN's options; without any option nothing changes
    /// (kernel: `tcp_options`).
    pub fn syn_options(&self, side: &mut Side) {
        if self.options.is_empty() {
            return;
        }
        side.scale = 0;
        side.flags &= flag::BE_LIBERAL;
        for (kind, body) in Options(self.options) {
            match (kind, body) {
                (4, []) => side.flags |= flag::SACK_PERM,
                (3, [scale]) => {
                    side.scale = (*scale).min(SCALE_MAX);
                    side.flags |= flag::WINDOW_SCALE;
                }
                _ => {}
            }
        }
    }

    /// The highest right edge of its SACK blocks, or its acknowledgement (kernel: `tcp_sack`).
    pub fn sack(&self) -> u32 {
        let sack = Options(self.options)
            .find(|(kind, body)| *kind == 5 && body.len() >= 8 && body.len() % 8 == 0);
        let edges = sack.map_or(&[][..], |(_, body)| body).chunks_exact(8);
        edges
            .map(|b| u32::from_be_bytes([b[4], b[5], b[6], b[7]]).wrapping_sub(self.shift))
            .fold(
                self.ack,
                |max, edge| if after(edge, max) { edge } else { max },
            )
    }
}

/// The options, up to the end mark or the first one that is cut off.
struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.0 {
                [1, rest @ ..] => self.0 = rest,
                [kind, len, ..] if *kind != 0 && *len >= 2 => {
                    let (kind, len) = (*kind, usize::from(*len));
                    let body = self.0.get(2..len)?;
                    self.0 = self.0.get(len..)?;
                    return Some((kind, body));
                }
                _ => return None,
            }
        }
    }
}
