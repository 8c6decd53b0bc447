//! Frames that are not of the common shape: pings, fragments, options, other TOS.

use podpath::base::Rng;
use podpath::wire::{build, checksum, proto};
use std::net::IpAddr;

/// The protocol of pings.
pub fn icmp(v6: bool) -> u8 {
    if v6 { proto::ICMPV6 } else { proto::ICMP }
}

/// An echo request.
pub fn echo(src: IpAddr, dst: IpAddr, id: u16, payload: usize) -> Vec<u8> {
    let kind = if src.is_ipv4() { 8 } else { 128 };
    let info = u32::from(id) << 16 | 1;
    build::icmp_message(src, dst, kind, 0, info, &vec![0x5a; payload])
}

/// Begin of the IPv4 header.
const IP: usize = 14;

fn fill_sum(f: &mut [u8], len: usize) {
    f[IP + 10..IP + 12].fill(0);
    let sum = !checksum::sum(&f[IP..IP + len], 0) as u16;
    f[IP + 10..IP + 12].copy_from_slice(&sum.to_be_bytes());
}

/// Puts an extension header without a meaning behind an IPv6 header: hop-by-hop or destination options of
/// eight bytes, all padding (RFC 8200 section 4.2).
fn extend(rng: &mut Rng, f: &mut Vec<u8>) {
    let behind = IP + 40;
    let next = std::mem::replace(&mut f[IP + 6], [0, 60][rng.below(2) as usize]);
    f.splice(behind..behind, [next, 0, 1, 4, 0, 0, 0, 0]);
    let len = (f.len() - behind) as u16;
    f[IP + 4..IP + 6].copy_from_slice(&len.to_be_bytes());
}

/// A datagram in two pieces, one of them sometimes missing, twice there or before its time.
pub fn pieces(rng: &mut Rng, f: &[u8]) -> Vec<Vec<u8>> {
    let v6 = f[12] == 0x86;
    let head = IP + if v6 { 40 } else { 20 };
    let cut = head + 8;
    if f.len() <= cut {
        return vec![f.to_vec()];
    }
    let id = rng.below(4) as u8;
    let piece = |from: usize, to: usize, more: bool| {
        let mut out = f[..head].to_vec();
        let units = ((from - head) / 8) as u16;
        if v6 {
            let field = (units << 3 | u16::from(more)).to_be_bytes();
            out.extend([f[IP + 6], 0, field[0], field[1], 0, 0, 0, id]);
            out[IP + 6] = 44;
        }
        out.extend(&f[from..to]);
        let len = (out.len() - if v6 { head } else { IP }) as u16;
        let at = IP + if v6 { 4 } else { 2 };
        out[at..at + 2].copy_from_slice(&len.to_be_bytes());
        if !v6 {
            let field = u16::from(more) << 13 | units;
            out[IP + 4..IP + 6].copy_from_slice(&[9, id]);
            out[IP + 6..IP + 8].copy_from_slice(&field.to_be_bytes());
            fill_sum(&mut out, 20);
        }
        out
    };
    let (a, b) = (piece(head, cut, true), piece(cut, f.len(), false));
    match rng.below(8) {
        0 => vec![a],
        1 => vec![b],
        2 => vec![b, a],
        3 => vec![a.clone(), a, b],
        _ => vec![a, b],
    }
}

/// Gives one frame in twenty another shape, its header's checksum right.
pub fn shape(rng: &mut Rng, f: &mut Vec<u8>) {
    if f[12..15] != [0x08, 0x00, 0x45] {
        match rng.below(120) {
            // Another flow label or traffic class.
            0..=2 if f[12] == 0x86 => f[IP + 1 + rng.below(3) as usize] ^= 1 << rng.below(4),
            3 | 4 if f[12] == 0x86 => extend(rng, f),
            _ => {}
        }
        return;
    }
    match rng.below(220) {
        // TOS: its bits for congestion among them.
        0..=3 => f[IP + 1] = [0x10, 0x08, 0x01, 0x03, 0xb8][rng.below(5) as usize],
        // First, middle and last fragments, and one that may not be cut.
        4 => f[IP + 6] |= 0x20,
        5 => f[IP + 6..IP + 8].copy_from_slice(&(0x2000 | rng.below(80) as u16).to_be_bytes()),
        6 => f[IP + 6..IP + 8].copy_from_slice(&(1 + rng.below(80) as u16).to_be_bytes()),
        7 => f[IP + 6] |= 0x40,
        8 => {
            // Router alert (RFC 2113), or nothing at all.
            let option = if rng.below(2) == 0 {
                [148, 4, 0, 0]
            } else {
                [1, 1, 1, 0]
            };
            for (i, b) in option.into_iter().enumerate() {
                f.insert(IP + 20 + i, b);
            }
            let total = (f.len() - IP) as u16;
            f[IP] = 0x46;
            f[IP + 2..IP + 4].copy_from_slice(&total.to_be_bytes());
            return fill_sum(f, 24);
        }
        9 => f[IP + 4] = rng.below(256) as u8,
        _ => return,
    }
    fill_sum(f, 20);
}
