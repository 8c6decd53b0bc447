//! The UDP and TCP checksum over a frame whose first line lies apart.
//!
//! Invariant: the same answer as conntrack's own (kernel: `nf_ip_checksum` in `udp_error` and `tcp_error`).

use crate::fast::key::{HEAD, Key, L4_V4, L4_V6, u16_at, u32_at};
use crate::wire::proto;

/// One's complement sum, in this machine's byte order, of bytes that begin at an even place.
#[inline(always)]
fn bytes(b: &[u8]) -> u64 {
    let (words, rest) = b.as_chunks::<4>();
    let sum: u64 = words
        .iter()
        .map(|w| u64::from(u32::from_ne_bytes(*w)))
        .sum();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    sum + u64::from(u32::from_ne_bytes(last))
}

#[inline(always)]
fn word(head: &[u8; HEAD], at: usize) -> u64 {
    u64::from_ne_bytes([
        head[at],
        head[at + 1],
        head[at + 2],
        head[at + 3],
        head[at + 4],
        head[at + 5],
        head[at + 6],
        head[at + 7],
    ])
}

/// One's complement addition of 64 bits: 0xffff divides their modulus, too.
#[inline(always)]
fn add(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    sum.wrapping_add(u64::from(carry))
}

/// One's complement sum of the first line from an IPv4 header's addresses on: they are the pseudo-header's,
/// too.
#[inline(always)]
fn line(head: &[u8; HEAD]) -> u64 {
    let last = u64::from(u32_at(head, 58)) + u64::from(u16_at(head, 62));
    let words = add(
        add(word(head, 26), word(head, 34)),
        add(word(head, 42), word(head, 50)),
    );
    add(words, last)
}

#[inline(always)]
fn pseudo(protocol: u8, len: u16) -> u64 {
    u64::from(u16::from_ne_bytes([0, protocol])) + u64::from(len.to_be())
}

/// The sum of the frame behind its first line, up to `end`.
#[inline(always)]
fn behind(frame: &[u8], end: usize) -> Option<u64> {
    match end > HEAD {
        true => frame.get(HEAD..end).map(bytes),
        false => Some(0),
    }
}

/// Whether a UDP datagram in an IPv4 packet of `total` bytes, all of the frame, has a checksum that conntrack
/// takes. A first line that is shorter than a line ends in zeroes.
#[inline(always)]
pub fn udp_fits(head: &[u8; HEAD], frame: &[u8], total: u16) -> bool {
    let len = total - 20;
    let Some(rest) = behind(frame, L4_V4 + usize::from(len)) else {
        return false;
    };
    let sum = add(line(head), pseudo(proto::UDP, len) + rest);
    sum.is_multiple_of(0xffff) | (u16_at(head, L4_V4 + 6) == 0)
}

/// The same of the other kinds of keys.
pub fn fits(key: &Key, head: &[u8; HEAD], frame: &[u8], total: u16) -> bool {
    let (addresses, l4, header) = match key.is_v6() {
        true => (22, L4_V6, 40),
        false => (26, L4_V4, 20),
    };
    let (Some(len), Some(summed)) = (total.checked_sub(header), frame.get(addresses..)) else {
        return false;
    };
    if key.protocol() == proto::UDP && u16_at(head, l4 + 6) == 0 {
        return true;
    }
    (bytes(summed) + pseudo(key.protocol(), len)).is_multiple_of(0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fast::{Pairs, first_line};
    use crate::wire::{ETH_P_IP, ETH_P_IPV6, Frame, MacAddr, build};
    use std::net::IpAddr;

    /// A right frame fits; with any bit of it flipped behind the addresses it does not.
    fn whole(ethertype: u16, a: IpAddr, b: IpAddr, protocol: u8, l4: &[u8]) {
        let packet = build::ip_packet(a, b, protocol, 64, 0, 0, false, l4);
        let mut f = Frame::ip(&packet);
        f.set_ethernet(MacAddr([2; 6]), MacAddr([4; 6]), ethertype);
        let check = |f: &[u8]| {
            let head = first_line(f);
            let (key, total) = Key::of(&head, f, 1, &mut Pairs::new(8))?;
            let general = fits(&key, &head, f, total);
            if key.is_udp4() {
                assert_eq!(general, udp_fits(&head, f, total));
            }
            Some(general)
        };
        let mut f = f.data().to_vec();
        assert_eq!(check(&f), Some(true));
        for at in f.len() - l4.len()..f.len() {
            for bit in 0..8 {
                f[at] ^= 1 << bit;
                assert_ne!(check(&f), Some(true), "byte {at}, bit {bit}");
                f[at] ^= 1 << bit;
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_found() {
        let v4 = ["10.0.0.1", "10.0.0.2"].map(|a| a.parse::<IpAddr>().unwrap());
        let v6 = ["fd00::1", "fd00::2"].map(|a| a.parse::<IpAddr>().unwrap());
        for payload in [0, 1, 2, 22, 23, 24, 25, 600] {
            let data = vec![0xa5; payload];
            for ([a, b], ethertype) in [(v4, ETH_P_IP), (v6, ETH_P_IPV6)] {
                let udp = build::udp(a, b, 1000, 53, &data);
                whole(ethertype, a, b, proto::UDP, &udp);
                let mut tcp = vec![0; 20];
                (tcp[12], tcp[13]) = (0x50, 0x10);
                tcp.extend(&data);
                let sum = crate::wire::checksum::pseudo(a, b, proto::TCP, tcp.len());
                let sum = !crate::wire::checksum::sum(&tcp, sum);
                tcp[16..18].copy_from_slice(&(sum as u16).to_be_bytes());
                whole(ethertype, a, b, proto::TCP, &tcp);
            }
        }
    }
}
