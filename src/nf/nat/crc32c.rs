//! CRC-32C, the checksum of SCTP (RFC 9260 appendix A).
//!
//! Invariant: equal to the kernel's `sctp_compute_cksum` over the same bytes with the field zeroed.

/// One step per byte of the reflected polynomial 0x1EDC6F41.
const TABLE: [u32; 256] = {
    let mut t = [0u32; 256];
    let mut i = 0;
    while i < 256 {
        let (mut v, mut bit) = (i as u32, 0);
        while bit < 8 {
            v = (v >> 1) ^ if v & 1 == 1 { 0x82f6_3b78 } else { 0 };
            bit += 1;
        }
        t[i] = v;
        i += 1;
    }
    t
};

/// The checksum of `data`; SCTP carries it least significant byte first.
pub fn of(data: &[u8]) -> u32 {
    !data
        .iter()
        .fold(!0u32, |c, b| (c >> 8) ^ TABLE[usize::from((c as u8) ^ b)])
}

#[cfg(test)]
mod tests {
    /// RFC 3720 appendix B.4.
    #[test]
    fn known_values() {
        assert_eq!(super::of(&[0; 32]), 0x8a91_36aa);
        assert_eq!(super::of(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(super::of(b"123456789"), 0xe306_9283);
    }
}
