//! The recordings' pcapng files: one section, one interface, little endian, enhanced packets with a
//! direction.
//!
//! Kept apart from the product's reader on purpose: the judge of the product must not share its faults.

/// One recorded frame.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Nanoseconds since the epoch.
    pub t_ns: u64,
    /// The bytes, from the link header on.
    pub data: Vec<u8>,
}

fn le32(b: &[u8], at: usize) -> Option<u32> {
    b.get(at..at.checked_add(4)?)?
        .try_into()
        .ok()
        .map(u32::from_le_bytes)
}

/// Every enhanced packet block of `b`, in file order; an error names the offset where the file stops making
/// sense.
pub fn read(b: &[u8]) -> Result<Vec<Packet>, String> {
    let mut out = Vec::new();
    let mut i = 0;
    while i + 12 <= b.len() {
        let bad = || format!("pcapng: broken block at byte {i}");
        let (kind, n) = (
            le32(b, i).ok_or_else(bad)?,
            le32(b, i + 4).ok_or_else(bad)? as usize,
        );
        if n < 12 || i + n > b.len() {
            return Err(bad());
        }
        if kind == 6 {
            let (hi, lo, cap) = (le32(b, i + 12), le32(b, i + 16), le32(b, i + 20));
            let (Some(hi), Some(lo), Some(cap)) = (hi, lo, cap) else {
                return Err(bad());
            };
            let data = b
                .get(i + 28..i + 28 + cap as usize)
                .ok_or_else(bad)?
                .to_vec();
            out.push(Packet {
                t_ns: u64::from(hi) << 32 | u64::from(lo),
                data,
            });
        }
        i += n;
    }
    if i == b.len() {
        Ok(out)
    } else {
        Err(format!(
            "pcapng: {} bytes after the last block",
            b.len() - i
        ))
    }
}
