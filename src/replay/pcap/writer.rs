//! Writing captures: pcapng with names, directions and comments, or plain pcap with nanoseconds.
//!
//! Always little-endian and nothing but what is handed in, so equal input is equal bytes.

use std::io::{self, ErrorKind, Write};

use super::{Direction, Interface, LinkType, Record, ng, options};
use crate::base::limits::{CAPTURE_BLOCK_MAX, CAPTURE_FRAME_MAX};

/// Writes one section of pcapng, nanosecond stamps throughout.
pub struct PcapngWriter<W> {
    out: W,
    block: Vec<u8>,
    interfaces: u32,
}

impl<W: Write> PcapngWriter<W> {
    /// Begins a file written by `application` (`shb_userappl`, shown by `capinfos`).
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(out: W, application: &str) -> io::Result<Self> {
        let mut writer = PcapngWriter {
            out,
            block: Vec::new(),
            interfaces: 0,
        };
        writer.begin(ng::SECTION);
        writer.u32(ng::BYTE_ORDER_MAGIC);
        writer.block.extend_from_slice(&[1, 0, 0, 0]);
        // Section length -1: not given, so that the file can be streamed.
        writer.block.extend_from_slice(&(-1i64).to_le_bytes());
        options::push_text(&mut writer.block, options::SHB_USERAPPL, application);
        options::push(&mut writer.block, options::END, &[]);
        writer.end()?;
        Ok(writer)
    }

    /// Describes an interface and gives the number its records carry.
    ///
    /// # Errors
    /// Those of the output.
    pub fn add_interface(&mut self, interface: &Interface) -> io::Result<u32> {
        self.begin(ng::INTERFACE);
        self.u32(u32::from(interface.link.code()));
        self.u32(interface.snaplen);
        if let Some(name) = &interface.name {
            options::push_text(&mut self.block, options::IF_NAME, name);
        }
        if let Some(description) = &interface.description {
            options::push_text(&mut self.block, options::IF_DESCRIPTION, description);
        }
        options::push(&mut self.block, options::IF_TSRESOL, &[9]);
        if let Some(len) = interface.fcs_len {
            options::push(&mut self.block, options::IF_FCSLEN, &[len]);
        }
        options::push(&mut self.block, options::END, &[]);
        self.end()?;
        self.interfaces += 1;
        Ok(self.interfaces - 1)
    }

    /// Writes a packet. No time is written as 0; a comment over 65,535 bytes is cut and ends in "…".
    ///
    /// # Errors
    /// `InvalidInput` for an interface that was not added or a block over
    /// [`CAPTURE_BLOCK_MAX`]; those of the output.
    pub fn write(&mut self, record: &Record<'_>) -> io::Result<()> {
        if record.interface >= self.interfaces {
            let why = format!(
                "interface {} of {} was not added",
                record.interface, self.interfaces
            );
            return Err(io::Error::new(ErrorKind::InvalidInput, why));
        }
        let kept = kept_len(record)?;
        let time = record.time_ns.unwrap_or_default();
        self.begin(ng::ENHANCED_PACKET);
        self.u32(record.interface);
        self.u32((time >> 32) as u32);
        self.u32(time as u32);
        self.u32(kept);
        self.u32(record.orig_len.max(kept));
        self.block.extend_from_slice(record.data);
        self.block.resize(self.block.len().next_multiple_of(4), 0);
        if let Some(comment) = &record.comment {
            options::push_text(&mut self.block, options::COMMENT, comment);
        }
        if let Some(direction) = record.direction {
            let flags: u32 = match direction {
                Direction::In => 1,
                Direction::Out => 2,
            };
            options::push(&mut self.block, options::PACKET_FLAGS, &flags.to_le_bytes());
        }
        if record.comment.is_some() || record.direction.is_some() {
            options::push(&mut self.block, options::END, &[]);
        }
        self.end()
    }

    /// Flushes and gives the output back.
    ///
    /// # Errors
    /// Those of the output.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }

    fn begin(&mut self, kind: u32) {
        self.block.clear();
        self.u32(kind);
        self.u32(0);
    }

    fn u32(&mut self, value: u32) {
        self.block.extend_from_slice(&value.to_le_bytes());
    }

    /// Fills in both lengths and writes the block out.
    fn end(&mut self) -> io::Result<()> {
        let len = self.block.len() + 4;
        // No more than our own reader takes.
        let len = u32::try_from(len)
            .ok()
            .filter(|_| len <= CAPTURE_BLOCK_MAX)
            .ok_or_else(|| too_long(len))?;
        self.u32(len);
        if let Some(at_start) = self.block.get_mut(4..8) {
            at_start.copy_from_slice(&len.to_le_bytes());
        }
        self.out.write_all(&self.block)
    }
}

/// Writes pcap with nanosecond stamps: one interface without a name, no directions, no comments.
pub struct PcapWriter<W> {
    out: W,
}

impl<W: Write> PcapWriter<W> {
    /// Begins a file of packets that begin with `link`.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(mut out: W, link: LinkType) -> io::Result<Self> {
        let mut header = Vec::with_capacity(24);
        header.extend_from_slice(&0xa1b2_3c4d_u32.to_le_bytes());
        header.extend_from_slice(&[2, 0, 4, 0]);
        header.extend_from_slice(&[0; 8]);
        header.extend_from_slice(&(CAPTURE_FRAME_MAX as u32).to_le_bytes());
        header.extend_from_slice(&u32::from(link.code()).to_le_bytes());
        out.write_all(&header)?;
        Ok(PcapWriter { out })
    }

    /// Writes a packet, whatever its interface. No time is written as 0.
    ///
    /// # Errors
    /// `InvalidInput` for a time after 2106 or data over the format's 262,144 bytes; those of the output.
    pub fn write(&mut self, record: &Record<'_>) -> io::Result<()> {
        let time = record.time_ns.unwrap_or_default();
        let seconds = u32::try_from(time / 1_000_000_000).map_err(|_| {
            io::Error::new(ErrorKind::InvalidInput, "pcap keeps no time after 2106")
        })?;
        let kept = kept_len(record)?;
        if record.data.len() > CAPTURE_FRAME_MAX {
            return Err(too_long(record.data.len()));
        }
        let fields = [
            seconds,
            (time % 1_000_000_000) as u32,
            kept,
            record.orig_len.max(kept),
        ];
        for field in fields {
            self.out.write_all(&field.to_le_bytes())?;
        }
        self.out.write_all(record.data)
    }

    /// Flushes and gives the output back.
    ///
    /// # Errors
    /// Those of the output.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

fn kept_len(record: &Record<'_>) -> io::Result<u32> {
    u32::try_from(record.data.len()).map_err(|_| too_long(record.data.len()))
}

fn too_long(len: usize) -> io::Error {
    io::Error::new(
        ErrorKind::InvalidInput,
        format!("a packet of {len} bytes does not fit the format"),
    )
}
