//! Byte order of a file, and reads that answer None instead of running off the end.

/// The byte order a file (or pcapng section) was written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

impl Order {
    /// The 16 bits at `at`.
    pub(super) fn u16(self, b: &[u8], at: usize) -> Option<u16> {
        let raw = b.get(at..)?.first_chunk()?;
        Some(match self {
            Order::Little => u16::from_le_bytes(*raw),
            Order::Big => u16::from_be_bytes(*raw),
        })
    }

    /// The 32 bits at `at`.
    pub(super) fn u32(self, b: &[u8], at: usize) -> Option<u32> {
        let raw = b.get(at..)?.first_chunk()?;
        Some(match self {
            Order::Little => u32::from_le_bytes(*raw),
            Order::Big => u32::from_be_bytes(*raw),
        })
    }

    /// The 64 bits at `at`.
    pub(super) fn u64(self, b: &[u8], at: usize) -> Option<u64> {
        let raw = b.get(at..)?.first_chunk()?;
        Some(match self {
            Order::Little => u64::from_le_bytes(*raw),
            Order::Big => u64::from_be_bytes(*raw),
        })
    }
}
