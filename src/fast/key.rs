//! What the flow cache takes a frame for: the fields that a compiled path may depend on, exactly.
//!
//! A frame whose shape is not the common one (fragments, IP options, extension headers, other protocols, a
//! TCP segment that opens or closes, a header that is not right) has no key and is walked. Invariant: two
//! frames with one key differ in nothing that a compiled path consulted but TTL, length and what lies
//! behind the ports, which the entry guards.

use crate::fast::pairs::Pairs;
use crate::wire::{ETH_HLEN, ETH_P_IP, ETH_P_IPV6, proto};
use bytemuck::{Pod, Zeroable};

/// Bytes of a frame that the key is made from: one cache line. (The flags of TCP over IPv6 lie behind it.)
pub const HEAD: usize = 64;

/// Where the upper-layer header begins behind an IPv4 header without options.
pub(super) const L4_V4: usize = ETH_HLEN + 20;
/// The same behind an IPv6 header.
pub(super) const L4_V6: usize = ETH_HLEN + 40;

/// Set in the protocol's byte of [`Key::rest`]: IPv6.
const V6: u8 = 0x80;

/// Key of a frame: addresses; ports, protocol, TOS, and the door it came in by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Key {
    /// IPv4: source and destination, as they lie in the header. IPv6: the number of the pair of addresses
    /// (32 bits) and the flow label.
    pub addrs: u64,
    /// Ports as they lie in the header (32 bits), protocol and family (8), TOS (8), door (16).
    pub rest: u64,
}

/// The first line of a frame, filled up with zeroes.
pub fn first_line(frame: &[u8]) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    let n = frame.len().min(HEAD);
    head[..n].copy_from_slice(&frame[..n]);
    head
}

#[inline(always)]
pub(super) fn u16_at(head: &[u8; HEAD], at: usize) -> u16 {
    u16::from_ne_bytes([head[at], head[at + 1]])
}

#[inline(always)]
pub(super) fn u32_at(head: &[u8; HEAD], at: usize) -> u32 {
    u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
}

/// Whether the IPv4 header's checksum is right: its one's complement sum is 0xffff, so that its words,
/// added up, are a multiple of it, and not 0.
#[inline(always)]
fn header_fits(head: &[u8; HEAD]) -> bool {
    let words = [14, 18, 22, 26, 30];
    let sum: u64 = words.iter().map(|at| u64::from(u32_at(head, *at))).sum();
    sum.is_multiple_of(0xffff)
}

/// The protocol's byte of a segment in the middle of a connection; 0 if it opens, closes or is urgent.
/// What PSH and congestion flags say nobody on the way asks (kernel: `nf_conntrack_tcp_packet`), but for
/// rules, which then say that they vary.
#[inline(always)]
fn segment(flags: u8) -> u8 {
    const ACK: u8 = 0x10;
    const JUDGED: u8 = 0x37;
    match flags & JUDGED {
        ACK => proto::TCP,
        _ => 0,
    }
}

/// The protocol of a datagram whose own length is one that conntrack takes in a payload of `len` bytes
/// (kernel: `udp_error`), whether or not it looks at sums.
#[inline(always)]
fn datagram(head: &[u8; HEAD], l4: usize, len: u16) -> u8 {
    let said = u16::from_be(u16_at(head, l4 + 4));
    match (said >= L4_MIN) & (said <= len) {
        true => proto::UDP,
        false => 0,
    }
}

/// Length of a packet's smallest upper-layer header: UDP's.
const L4_MIN: u16 = 8;
/// The same of TCP.
const TCP_MIN: u16 = 20;

impl Key {
    /// The key of an Ethernet frame that came in by `door`, and its IP length; `None` sends it to the
    /// walker. Padded frames are walked: their length is not their packet's. `frame` is the whole of it,
    /// `head` its first line, filled up with zeroes.
    #[inline(always)]
    pub fn of(head: &[u8; HEAD], frame: &[u8], door: u16, pairs: &mut Pairs) -> Option<(Key, u16)> {
        match u16_at(head, 12) {
            V4_TYPE => Key::v4(head, frame.len(), door),
            V6_TYPE => Key::v6(head, frame, door, pairs),
            _ => None,
        }
    }

    #[inline(always)]
    fn v4(head: &[u8; HEAD], len: usize, door: u16) -> Option<(Key, u16)> {
        let total = u16::from_be(u16_at(head, 16));
        let fragment = u16::from_be(u16_at(head, 20)) & 0x3fff;
        let (protocol, least) = match head[23] {
            proto::UDP => (datagram(head, L4_V4, total.wrapping_sub(20)), 20 + L4_MIN),
            proto::TCP => (segment(head[L4_V4 + 13]), 20 + TCP_MIN),
            _ => (0, 0),
        };
        let common = (head[14] == 0x45)
            & (fragment == 0)
            & (head[22] > 1)
            & (total >= least)
            & (usize::from(total) + ETH_HLEN == len)
            & (protocol != 0)
            & (door != 0)
            & header_fits(head);
        if !common {
            return None;
        }
        let addrs = u64::from(u32_at(head, 26)) | u64::from(u32_at(head, 30)) << 32;
        let key = Key::new(addrs, u32_at(head, L4_V4), protocol, head[15], door);
        Some((key, total))
    }

    #[inline(never)]
    fn v6(head: &[u8; HEAD], frame: &[u8], door: u16, pairs: &mut Pairs) -> Option<(Key, u16)> {
        let first = u32::from_be(u32_at(head, 14));
        let payload = u16::from_be(u16_at(head, 18));
        let (protocol, least) = match head[20] {
            proto::UDP => (datagram(head, L4_V6, payload), L4_MIN),
            proto::TCP => (segment(*frame.get(L4_V6 + 13)?), TCP_MIN),
            _ => (0, 0),
        };
        let total = payload.checked_add(40)?;
        let common = (first >> 28 == 6)
            & (head[21] > 1)
            & (payload >= least)
            & (usize::from(total) + ETH_HLEN == frame.len())
            & (protocol != 0)
            & (door != 0);
        if !common {
            return None;
        }
        let pair = pairs.number(head[22..L4_V6].first_chunk()?)?;
        let addrs = u64::from(pair) | u64::from(first & 0xf_ffff) << 32;
        let tos = (first >> 20) as u8;
        let key = Key::new(addrs, u32_at(head, L4_V6), protocol | V6, tos, door);
        Some((key, total))
    }

    #[inline(always)]
    fn new(addrs: u64, ports: u32, protocol: u8, tos: u8, door: u16) -> Key {
        let rest = u64::from(ports)
            | u64::from(protocol) << 32
            | u64::from(tos) << 40
            | u64::from(door) << 48;
        Key { addrs, rest }
    }

    #[inline(always)]
    fn kind(&self) -> u8 {
        (self.rest >> 32) as u8
    }

    /// Whether it is of UDP over IPv4, the commonest.
    #[inline(always)]
    pub fn is_udp4(&self) -> bool {
        self.kind() == proto::UDP
    }

    /// Whether it is of IPv6.
    #[inline(always)]
    pub fn is_v6(&self) -> bool {
        self.kind() & V6 != 0
    }

    /// The upper layer's protocol.
    #[inline(always)]
    pub fn protocol(&self) -> u8 {
        self.kind() & !V6
    }

    /// A hash with every bit mixed in order: neither direction nor neighbouring ports collide.
    #[inline(always)]
    pub fn hash(&self) -> u64 {
        let a = u128::from(self.addrs ^ 0xa076_1d64_78bd_642f);
        let b = u128::from(self.rest ^ 0xe703_7ed1_a0b4_28db);
        let m = a * b;
        (m as u64) ^ (m >> 64) as u64
    }
}

/// Ethertypes as they lie in the frame.
const V4_TYPE: u16 = ETH_P_IP.to_be();
pub(super) const V6_TYPE: u16 = ETH_P_IPV6.to_be();

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Frame, MacAddr, build};

    fn frame(flow_label: u8, flags: u8) -> Vec<u8> {
        let (a, b) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        let mut segment = [0; 20];
        (segment[12], segment[13]) = (0x50, flags);
        let mut packet = build::ip_packet(a, b, proto::TCP, 64, 0, 0, false, &segment);
        packet[3] = flow_label;
        let mut f = Frame::ip(&packet);
        f.set_ethernet(MacAddr([2; 6]), MacAddr([4; 6]), ETH_P_IPV6);
        f.data().to_vec()
    }

    fn key(f: &[u8]) -> Option<(Key, u16)> {
        Key::of(f.first_chunk().unwrap(), f, 1, &mut Pairs::new(8))
    }

    #[test]
    fn datagrams_that_claim_a_wrong_length_have_no_key() {
        for (a, b) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
            let datagram = build::udp(a, b, 1000, 53, &[0; 20]);
            let mut packet = build::ip_packet(a, b, proto::UDP, 64, 0, 0, false, &datagram);
            let at = packet.len() - datagram.len() + 4;
            let ethertype = [ETH_P_IP, ETH_P_IPV6][usize::from(packet[0] >> 4 == 6)];
            // One that is too short for the packet is as good as one that fits.
            for (said, known) in [(28, true), (27, true), (8, true), (7, false), (29, false)] {
                packet[at + 1] = said;
                let mut f = Frame::ip(&packet);
                f.set_ethernet(MacAddr([2; 6]), MacAddr([4; 6]), ethertype);
                let head = first_line(f.data());
                let key = Key::of(&head, f.data(), 1, &mut Pairs::new(8));
                assert_eq!(key.is_some(), known, "{a} {said}");
            }
        }
    }

    #[test]
    fn segments_that_open_or_close_have_no_key() {
        let (ack, total) = key(&frame(0, 0x10)).unwrap();
        assert_eq!((total, ack.is_v6(), ack.protocol()), (60, true, proto::TCP));
        let (labelled, _) = key(&frame(9, 0x10)).unwrap();
        assert_ne!(ack, labelled);
        for flags in [0x18, 0x50, 0x90, 0xd8] {
            assert_eq!(key(&frame(0, flags)), Some((ack, 60)), "{flags:#x}");
        }
        for flags in [0x00, 0x02, 0x12, 0x11, 0x14, 0x30, 0x08, 0xc0] {
            assert_eq!(key(&frame(0, flags)), None, "{flags:#x}");
        }
    }
}
