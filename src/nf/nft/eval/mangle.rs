//! Writing into packets: header fields, TCP options, with their checksums.
//!
//! As `nft_payload_set_eval`, `nft_exthdr_tcp_set_eval`, `nft_exthdr_tcp_strip_eval`. Invariant:
//! checksums are
//! brought along incrementally (RFC 1624), so that a wrong one stays wrong.

use super::super::fields::{Base, ExtField};
use super::run::{After, Stop, Walk};
use crate::nf::Family;
use crate::nf::eval::packet::Pkt;
use crate::nf::nat::crc32c;
use crate::wire::{Frame, checksum, proto};

/// What stands for a checksum of 0 (kernel: include/net/checksum.h).
const CSUM_MANGLED_0: u16 = 0xffff;

fn word(b: &[u8], at: usize) -> u16 {
    match b.get(at..at + 2) {
        Some(w) => u16::from_be_bytes([w[0], w[1]]),
        None => b.get(at).map_or(0, |x| u16::from(*x) << 8),
    }
}

/// The checksum that a field's protocol has (nftables proto.c, `checksum_key` and `checksum_type`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sum {
    /// None: `th` is no protocol of its own, nor is `@th`.
    None,
    /// The IP header's own, if it has one, and that of the upper layer, which covers the addresses.
    Ip,
    /// The Internet checksum, so many bytes behind the header's beginning.
    Inet(usize),
    /// A CRC of the whole packet.
    Sctp,
}

impl Sum {
    /// Of a protocol by nft's name for it.
    pub(super) fn of(proto: &str) -> Sum {
        match proto {
            "ip" | "ip6" => Sum::Ip,
            "tcp" => Sum::Inet(16),
            "udp" | "udplite" => Sum::Inet(6),
            "icmp" | "icmpv6" | "igmp" => Sum::Inet(2),
            "sctp" => Sum::Sctp,
            _ => Sum::None,
        }
    }
}

/// Brings a checksum at `at` along after bytes `range` (even bounds, within the sum) changed from `old`.
fn follow(b: &mut [u8], at: usize, from: usize, old: &[u8]) {
    let mut check = word(b, at);
    for i in (0..old.len()).step_by(2) {
        check = checksum::update(check, word(old, i), word(b, from + i));
    }
    if let Some(w) = b.get_mut(at..at + 2) {
        w.copy_from_slice(&check.to_be_bytes());
    }
}

/// The same as `nft_csum_replace`, which never leaves it 0.
fn replace(b: &mut [u8], at: usize, from: usize, old: &[u8]) {
    follow(b, at, from, old);
    if word(b, at) == 0
        && let Some(w) = b.get_mut(at..at + 2)
    {
        w.copy_from_slice(&CSUM_MANGLED_0.to_be_bytes());
    }
}

/// Writes the low `bits` bits of a value from bit `first` on.
fn write_bits(b: &mut [u8], first: usize, bits: usize, value: u128) {
    for i in 0..bits.min(128) {
        let (bit, mask) = (
            value >> (bits - 1 - i) & 1 == 1,
            0x80u8 >> ((first + i) % 8),
        );
        if let Some(byte) = b.get_mut((first + i) / 8) {
            *byte = if bit { *byte | mask } else { *byte & !mask };
        }
    }
}

/// Sums an SCTP packet anew (`nft_payload_csum_sctp`); nothing if its header is cut.
fn sctp_sum(packet: Option<&mut [u8]>) -> Option<()> {
    let packet = packet?;
    packet.get_mut(8..12)?.fill(0);
    let sum = crc32c::of(packet);
    packet.get_mut(8..12)?.copy_from_slice(&sum.to_le_bytes());
    Some(())
}

/// What conntrack summed of an IPv6 packet fits no more once an address is written:
/// `nft_payload_l4csum_update` takes the change for one of the upper layer's alone (seen on 6.18: UDP is
/// dropped, `udp6_csum_init`).
fn summed_before(f: &mut Frame, from: usize, old: &[u8]) {
    let new = f
        .l3()
        .get(from..from + old.len())
        .map_or(0, |b| checksum::sum(b, 0));
    let change = checksum::sum(&new.to_be_bytes(), !checksum::sum(old, 0) & 0xffff);
    if let Some(head) = &mut f.summed {
        let first = checksum::sum(&head[..2], change) as u16;
        head[..2].copy_from_slice(&first.to_be_bytes());
    }
}

impl Walk<'_, '_, '_> {
    /// Where the upper layer keeps its checksum, if it covers the addresses and is there
    /// (`nft_payload_l4csum_offset`).
    fn l4_check(&self, f: &Frame) -> Option<usize> {
        let p = &self.env.pkt;
        if p.fragoff != 0 {
            return None;
        }
        let at = match p.proto.ok()? {
            proto::TCP => 16,
            proto::UDP | 136 => 6,
            proto::ICMPV6 => 2,
            _ => return None,
        };
        let there = f.l3().len() >= p.l4 + at + 2;
        let unused = p.proto == Ok(proto::UDP) && word(f.l3(), p.l4 + at) == 0;
        (there && !unused).then_some(p.l4 + at)
    }

    /// Writes a field; the checksum that it names follows (nftables `netlink_gen_payload_stmt`). The upper
    /// layer's is brought along whether UDP uses it or not, at that place of whatever packet it is (seen on
    /// 6.18).
    pub(super) fn set_payload(
        &mut self,
        (base, offset, bits): (Base, u16, u16),
        value: u128,
        sum: Sum,
        f: &mut Frame,
    ) -> Result<(), Stop> {
        let p = self.env.pkt;
        let start = match base {
            Base::Network => 0,
            Base::Transport if p.proto.is_ok() && p.fragoff == 0 => p.l4,
            Base::Transport => return Err(Stop::Break),
            Base::Link => return self.set_link((offset.into(), bits.into()), value, f),
            Base::Inner => return Err(Stop::Unknown),
        };
        let (first, bits) = (start * 8 + usize::from(offset), usize::from(bits));
        let (from, to) = (
            (first / 8) & !1,
            (first + bits).div_ceil(8).next_multiple_of(2),
        );
        if f.l3().len() < (first + bits).div_ceil(8) {
            return Err(Stop::Break);
        }
        let check = match (base, sum) {
            (Base::Transport, Sum::Inet(at)) => Some(start + at),
            _ => None,
        };
        if check.is_some_and(|at| f.l3().len() < at + 2) {
            return Err(Stop::Break);
        }
        let l4 = self.l4_check(f).filter(|_| sum == Sum::Ip);
        let b = f.l3_mut();
        let to = to.min(b.len());
        let old = b[from..to].to_vec();
        write_bits(b, first, bits, value);
        let v4 = p.family == Family::V4;
        let own = |at: usize| from <= at && at < to;
        if base == Base::Network {
            if v4 && sum == Sum::Ip && !own(10) {
                replace(b, 10, from, &old);
            }
            let addresses = if v4 { 12..20 } else { 8..40 };
            if let Some(at) = l4.filter(|_| addresses.contains(&from)) {
                replace(b, at, from, &old);
            }
        } else if let Some(at) = check.filter(|at| !own(*at)) {
            replace(b, at, from, &old);
        } else if sum == Sum::Sctp && p.proto == Ok(proto::SCTP) {
            sctp_sum(b.get_mut(start..)).ok_or(Stop::Break)?;
        }
        if base == Base::Network && !v4 && from >= 8 {
            summed_before(f, from, &old);
        }
        // `nft_pktinfo` is set up once for a chain: where headers are stays as it was.
        if let Some(new) = Pkt::native(f, p.family) {
            (self.env.pkt.src, self.env.pkt.dst) = (new.src, new.dst);
        }
        Ok(())
    }

    /// Writes into the link header, which has no sum.
    fn set_link(
        &mut self,
        (from, bits): (usize, usize),
        value: u128,
        f: &mut Frame,
    ) -> Result<(), Stop> {
        let there = self.env.at.input.is_some() || self.link.is_some();
        if !there || !f.has_eth() || f.len() < (from + bits).div_ceil(8) {
            return Err(Stop::Break);
        }
        write_bits(f.data_mut(), from, bits, value);
        Ok(())
    }

    /// `nft_tcp_header_pointer`: a whole TCP header, or the rule ends.
    fn tcp_there(&self, f: &Frame) -> Result<(), Stop> {
        let p = &self.env.pkt;
        let tcp = f.l3().get(p.l4..).filter(|_| p.fragoff == 0);
        let tcp = tcp
            .filter(|_| p.proto == Ok(proto::TCP))
            .ok_or(Stop::Break)?;
        let len = usize::from(tcp.get(12).ok_or(Stop::Break)? >> 4) * 4;
        match len >= 20 && tcp.len() >= len {
            true => Ok(()),
            false => Err(Stop::Break),
        }
    }

    /// `tcp option maxseg size set`: never more than it was.
    pub(super) fn set_option(
        &mut self,
        x: &ExtField,
        value: u32,
        f: &mut Frame,
    ) -> Result<(), Stop> {
        self.tcp_there(f)?;
        // An option that is not there is none to set.
        let Some((at, len)) = self.tcp_option_at(x.kind, f) else {
            return Ok(());
        };
        let (from, bytes) = (usize::from(x.offset) / 8, usize::from(x.bits) / 8);
        if !x.offset.is_multiple_of(8) || !matches!(bytes, 2 | 4) || from + bytes > len {
            return Err(Stop::Unknown);
        }
        let place = self.env.pkt.l4 + at + from;
        let l4 = self.env.pkt.l4;
        let b = f.l3_mut();
        let value = value.to_be_bytes();
        let new = value.get(4 - bytes..).unwrap_or(&value);
        let Some(field) = b.get_mut(place..place + bytes) else {
            return Err(Stop::Break);
        };
        if bytes == 2 && x.kind == 2 && word(field, 0) <= word(new, 0) {
            return Ok(());
        }
        let old = field.to_vec();
        field.copy_from_slice(new);
        // The kernel sums the option as if it stood at an even offset (`inet_proto_csum_replace2`).
        let mut check = word(b, l4 + 16);
        for i in (0..bytes).step_by(2) {
            check = checksum::update(check, word(&old, i), word(new, i));
        }
        if let Some(w) = b.get_mut(l4 + 16..l4 + 18) {
            w.copy_from_slice(&check.to_be_bytes());
        }
        Ok(())
    }

    /// `reset tcp option`: its bytes become no-operations.
    pub(super) fn reset_option(&mut self, kind: u8, f: &mut Frame) -> After {
        if self.tcp_there(f).is_err() {
            return After::Break;
        }
        let Some((at, len)) = self.tcp_option_at(kind, f) else {
            return After::Next;
        };
        let l4 = self.env.pkt.l4;
        let (from, to) = (l4 + (at & !1), l4 + (at + len).next_multiple_of(2));
        let b = f.l3_mut();
        let Some(old) = b.get(from..to).map(<[u8]>::to_vec) else {
            return After::Break;
        };
        if let Some(option) = b.get_mut(l4 + at..l4 + at + len) {
            option.fill(1);
        }
        follow(b, l4 + 16, from, &old);
        After::Next
    }
}
