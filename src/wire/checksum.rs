//! Internet checksums: whole (RFC 1071) and incremental (RFC 1624).

use std::net::IpAddr;

/// One's complement sum of `data` folded to 16 bits, starting from `acc`. Not inverted.
pub fn sum(data: &[u8], acc: u32) -> u32 {
    let mut s = u64::from(acc);
    // Words of any even length have the same sum once it is folded.
    let (words, rest) = data.as_chunks::<8>();
    for w in words {
        let w = u64::from_be_bytes(*w);
        s += (w >> 32) + (w & 0xffff_ffff);
    }
    let (words, rest) = rest.as_chunks::<2>();
    for w in words {
        s += u64::from(u16::from_be_bytes(*w));
    }
    if let [b] = rest {
        s += u64::from(*b) << 8;
    }
    while s >> 16 != 0 {
        s = (s & 0xffff) + (s >> 16);
    }
    s as u32
}

/// The checksum field's value for `data` (its own field zeroed).
pub fn of(data: &[u8]) -> u16 {
    !(sum(data, 0) as u16)
}

/// Sum of the pseudo header for an upper-layer length of `len` (RFC 793, RFC 8200 section 8.1).
pub fn pseudo(src: IpAddr, dst: IpAddr, proto: u8, len: usize) -> u32 {
    let s = match (src, dst) {
        (IpAddr::V4(a), IpAddr::V4(b)) => sum(&b.octets(), sum(&a.octets(), 0)),
        (IpAddr::V6(a), IpAddr::V6(b)) => sum(&b.octets(), sum(&a.octets(), 0)),
        _ => 0,
    };
    let len = len as u32;
    sum(&[], s + u32::from(proto) + (len >> 16) + (len & 0xffff))
}

/// The upper-layer checksum over pseudo header and `l4` (its own field zeroed).
pub fn l4(src: IpAddr, dst: IpAddr, proto: u8, l4: &[u8]) -> u16 {
    !(sum(l4, pseudo(src, dst, proto, l4.len())) as u16)
}

/// `check` after a 16-bit field changed from `old` to `new`: HC' = ~(~HC + ~m + m') (RFC 1624 eqn. 3).
pub fn update(check: u16, old: u16, new: u16) -> u16 {
    let s = u32::from(!check) + u32::from(!old) + u32::from(new);
    let s = (s & 0xffff) + (s >> 16);
    !(((s & 0xffff) + (s >> 16)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn incremental_equals_whole(mut d in proptest::collection::vec(any::<u8>(), 4..64), new: u16) {
            d.truncate(d.len() & !1);
            let before = of(&d);
            let old = u16::from_be_bytes([d[2], d[3]]);
            d[2..4].copy_from_slice(&new.to_be_bytes());
            let whole = of(&d);
            let inc = update(before, old, new);
            // 0x0000 and 0xffff are the two forms of zero (RFC 1624 section 3).
            prop_assert!(whole == inc || (whole ^ inc) == 0xffff && (whole == 0 || inc == 0));
        }
    }
}
