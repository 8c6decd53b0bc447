//! pcap (draft-ietf-opsawg-pcap): one header of 24 bytes, then a header of 16 bytes before each packet.

use super::order::Order;
use super::scale::TimeScale;
use super::{Interface, LinkType};
use crate::base::limits::{CAPTURE_BLOCK_MAX, CAPTURE_FRAME_MAX};

/// Bytes of the file header.
pub(super) const FILE_HEADER: usize = 24;
/// Bytes of a packet's header.
pub(super) const PACKET_HEADER: usize = 16;

/// How one pcap file is to be read.
pub(super) struct Classic {
    order: Order,
    nanos: bool,
    /// Before version 2.4 some writers had the two lengths the other way round.
    maybe_swapped: bool,
    /// The most bytes a packet of this file can have.
    pub(super) frame_max: usize,
}

/// A packet's header.
pub(super) struct PacketHead {
    /// Nanoseconds since 1970.
    pub(super) time_ns: u64,
    /// Bytes kept.
    pub(super) kept: usize,
    /// Bytes on the wire.
    pub(super) orig_len: u32,
}

impl Classic {
    /// Reads the file header. Err says what is wrong with it.
    pub(super) fn new(
        order: Order,
        nanos: bool,
        header: &[u8],
    ) -> Result<(Self, Interface), String> {
        let u16_at = |at| order.u16(header, at).unwrap_or_default();
        let u32_at = |at| order.u32(header, at).unwrap_or_default();
        let (major, minor) = (u16_at(4), u16_at(6));
        if major != 2 {
            return Err(format!(
                "byte 4: pcap version {major}.{minor}, version 2.x was expected"
            ));
        }
        let snaplen = u32_at(16);
        let network = u32_at(20);
        // "f" bit and FCS length in the top bits of the link type field, in units of 16 bits.
        let fcs_len = (network & 0x0400_0000 != 0).then_some(((network >> 28) * 2) as u8);
        let frame_max = usize::try_from(snaplen)
            .unwrap_or(usize::MAX)
            .clamp(CAPTURE_FRAME_MAX, CAPTURE_BLOCK_MAX);
        let interface = Interface {
            name: None,
            description: None,
            link: LinkType::from_code(network as u16),
            snaplen,
            fcs_len,
            section: 0,
            scale: if nanos {
                TimeScale::NANOS
            } else {
                TimeScale::MICROS
            },
        };
        Ok((
            Classic {
                order,
                nanos,
                maybe_swapped: minor < 4,
                frame_max,
            },
            interface,
        ))
    }

    /// Reads a packet's header.
    pub(super) fn packet_head(&self, header: &[u8]) -> Option<PacketHead> {
        let seconds = u64::from(self.order.u32(header, 0)?);
        let fraction = u64::from(self.order.u32(header, 4)?);
        let (mut kept, mut orig_len) = (self.order.u32(header, 8)?, self.order.u32(header, 12)?);
        if self.maybe_swapped && kept > orig_len {
            (kept, orig_len) = (orig_len, kept);
        }
        let fraction_ns = if self.nanos {
            fraction
        } else {
            fraction * 1_000
        };
        let time_ns = seconds * 1_000_000_000 + fraction_ns;
        let kept_len = usize::try_from(kept).unwrap_or(usize::MAX);
        Some(PacketHead {
            time_ns,
            kept: kept_len,
            orig_len: orig_len.max(kept),
        })
    }
}
