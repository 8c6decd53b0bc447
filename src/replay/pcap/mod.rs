//! Captures: pcap and pcapng, read as a stream and written back.
//!
//! [`CaptureReader`] takes any `std::io::Read` and lends one [`Record`] at a time out of one growing window,
//! so a file of any size passes through bounded memory and without an allocation per packet. [`PcapngWriter`]
//! and [`PcapWriter`] write to any `std::io::Write`. [`link::to_ethernet`] makes Ethernet frames of the other
//! link types.
//!
//! The formats are parsed here and not by the crate pcap-file, whose 2.0 reads timestamps as nanoseconds
//! whatever `if_tsresol` says, refuses a cut frame longer than the snapshot length, drops a packet whose
//! comment is not UTF-8 and a file with `if_tzone`, and cannot say at which byte a file is damaged.
//!
//! Sources: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng, <https://www.tcpdump.org/linktypes.html>.
//!
//! Invariants: a `Record`'s `orig_len` is never less than its data; a damaged file gives every packet before
//! the damage and then one finding; the same records written twice are the same bytes (no clock, no host
//! name).

mod classic;
mod input;
pub mod link;
mod linktype;
mod ng;
mod options;
mod order;
mod owned;
mod reader;
mod scale;
mod sniff;
mod writer;

use std::borrow::Cow;

pub use linktype::LinkType;
pub use owned::{Capture, OwnedRecord, OwnedRecords, read_all};
pub use reader::CaptureReader;
pub use writer::{PcapWriter, PcapngWriter};

/// Which way a packet passed the interface it was captured at (`epb_flags`, bits 0-1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Direction {
    /// Received by the interface.
    In,
    /// Sent by the interface.
    Out,
}

/// An interface of a capture. A plain pcap file has one, without a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// `if_name`, where the file gives one.
    pub name: Option<String>,
    /// `if_description`, where the file gives one.
    pub description: Option<String>,
    /// What its packets begin with.
    pub link: LinkType,
    /// Most bytes kept of a packet; 0 is no limit.
    pub snaplen: u32,
    /// Bytes of frame check sequence at the end of every untruncated packet, where the file says so.
    pub fcs_len: Option<u8>,
    /// The pcapng section that describes it, from 0.
    pub section: u32,
    /// How its timestamps are turned into nanoseconds.
    scale: scale::TimeScale,
}

impl Interface {
    /// An interface with nanosecond timestamps and no snapshot length, as the writers make them.
    pub fn new(name: impl Into<String>, link: LinkType) -> Self {
        Interface {
            name: Some(name.into()),
            description: None,
            link,
            snaplen: 0,
            fcs_len: None,
            section: 0,
            scale: scale::TimeScale::NANOS,
        }
    }
}

/// One captured packet, lent by a reader or handed to a writer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// Its place among the file's packets, from 1, as Wireshark numbers them; writers do not look at it.
    pub number: u64,
    /// Index into [`CaptureReader::interfaces`] (over all sections) or of the writer's own interfaces.
    pub interface: u32,
    /// Nanoseconds since 1970-01-01 UTC. None when the format keeps no time for it (a simple packet block) or
    /// the time is before 1970 or after 2554.
    pub time_ns: Option<u64>,
    /// The bytes kept, from the link-layer header on.
    pub data: &'a [u8],
    /// The packet's length on the wire, in bytes; never less than `data`.
    pub orig_len: u32,
    /// Which way it went, where the file says.
    pub direction: Option<Direction>,
    /// Its comments, several joined by a line break. Bytes that are not UTF-8 are replaced by U+FFFD.
    pub comment: Option<Cow<'a, str>>,
}

impl<'a> Record<'a> {
    /// A whole packet of `interface`, ready to be written.
    pub fn new(interface: u32, time_ns: u64, data: &'a [u8]) -> Self {
        let orig_len = u32::try_from(data.len()).unwrap_or(u32::MAX);
        Record {
            number: 0,
            interface,
            time_ns: Some(time_ns),
            data,
            orig_len,
            direction: None,
            comment: None,
        }
    }

    /// Whether the capture kept less than was on the wire.
    pub fn is_truncated(&self) -> bool {
        (self.data.len() as u64) < u64::from(self.orig_len)
    }
}
