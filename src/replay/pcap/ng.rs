//! pcapng (draft-ietf-opsawg-pcapng): what the blocks we use say. Framing is the reader's.
//!
//! Every function here takes a block's body (without type, lengths and trailer) and answers with plain values
//! or with a sentence saying what is wrong.

use std::ops::Range;

use super::options::{self, Options};
use super::order::Order;
use super::scale::TimeScale;
use super::{Direction, Interface, LinkType};

/// Section header.
pub(super) const SECTION: u32 = 0x0a0d_0d0a;
/// Interface description.
pub(super) const INTERFACE: u32 = 1;
/// Packet, obsolete.
pub(super) const PACKET: u32 = 2;
/// Simple packet.
pub(super) const SIMPLE_PACKET: u32 = 3;
/// Enhanced packet.
pub(super) const ENHANCED_PACKET: u32 = 6;
/// What a section header's fifth to eighth byte read as in its own byte order.
pub(super) const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;

/// A packet's place in its block, as found before it is lent.
pub(super) struct Found {
    /// Index over the whole file.
    pub(super) interface: u32,
    pub(super) time_ns: Option<u64>,
    /// Within the body.
    pub(super) data: Range<usize>,
    pub(super) orig_len: u32,
    pub(super) direction: Option<Direction>,
    /// Within the body.
    pub(super) options: Range<usize>,
    /// Some option could not be read.
    pub(super) options_damaged: bool,
}

/// The byte order that a section header's block names, from its first twelve bytes.
pub(super) fn section_order(start: &[u8]) -> Option<Order> {
    [Order::Little, Order::Big]
        .into_iter()
        .find(|o| o.u32(start, 8) == Some(BYTE_ORDER_MAGIC))
}

/// Checks a section header.
pub(super) fn check_section(order: Order, body: &[u8]) -> Result<(), String> {
    match (order.u16(body, 4), order.u16(body, 6)) {
        // Minor 2 was written by mistake by some and is the same format (section 4.1).
        (Some(1), Some(0 | 2)) => Ok(()),
        (Some(major), Some(minor)) => Err(format!(
            "pcapng version {major}.{minor}, version 1.0 was expected"
        )),
        _ => Err("the section header has no version".to_owned()),
    }
}

/// Reads an interface description; true beside it when an option could not be read.
pub(super) fn interface(order: Order, section: u32, body: &[u8]) -> Option<(Interface, bool)> {
    let mut interface = Interface {
        name: None,
        description: None,
        link: LinkType::from_code(order.u16(body, 0)?),
        snaplen: order.u32(body, 4)?,
        fcs_len: None,
        section,
        scale: TimeScale::MICROS,
    };
    let text = |value| {
        Some(
            String::from_utf8_lossy(value)
                .trim_end_matches('\0')
                .to_owned(),
        )
    };
    let mut options = Options::new(order, body.get(8..).unwrap_or_default());
    for (code, value) in options.by_ref() {
        match (code, value) {
            (options::IF_NAME, name) => interface.name = text(name),
            (options::IF_DESCRIPTION, description) => interface.description = text(description),
            (options::IF_TSRESOL, [tsresol]) => {
                interface.scale = interface.scale.with_resolution(*tsresol)
            }
            (options::IF_FCSLEN, [len]) => interface.fcs_len = Some(*len),
            (options::IF_TSOFFSET, seconds) => {
                if let Some(seconds) = order.u64(seconds, 0) {
                    interface.scale = interface.scale.with_offset(seconds.cast_signed());
                }
            }
            _ => {}
        }
    }
    Some((interface, options.damaged))
}

/// Reads an enhanced packet or an obsolete packet block: they differ in the width of the interface number
/// alone. `interfaces` are those of the file, the section's own start at `base`.
pub(super) fn packet(
    order: Order,
    kind: u32,
    body: &[u8],
    interfaces: &[Interface],
    base: u32,
) -> Result<Found, String> {
    let short = || {
        format!(
            "a packet block has 20 bytes before its data, {} were there",
            body.len()
        )
    };
    let local = match kind {
        PACKET => order.u16(body, 0).map(u32::from),
        _ => order.u32(body, 0),
    };
    let local = local.ok_or_else(short)?;
    let u32_at = |at| order.u32(body, at).ok_or_else(short);
    let count = u64::from(u32_at(4)?) << 32 | u64::from(u32_at(8)?);
    let (kept, orig_len) = (u32_at(12)?, u32_at(16)?);
    let (index, interface) = lookup(interfaces, base, local)?;
    let data = data_range(body, 20, kept)?;
    let options = data.end.next_multiple_of(4).min(body.len())..body.len();
    let mut found = Found {
        interface: index,
        time_ns: interface.scale.nanos(count),
        data,
        orig_len: orig_len.max(kept),
        direction: None,
        options: options.clone(),
        options_damaged: false,
    };
    let mut options = Options::new(order, body.get(options).unwrap_or_default());
    for (code, value) in options.by_ref() {
        if code == options::PACKET_FLAGS {
            found.direction = order.u32(value, 0).and_then(direction);
        }
    }
    found.options_damaged = options.damaged;
    Ok(found)
}

/// Reads a simple packet block: the section's first interface, no time, no options.
pub(super) fn simple_packet(
    order: Order,
    body: &[u8],
    interfaces: &[Interface],
    base: u32,
) -> Result<Found, String> {
    let orig_len = order
        .u32(body, 0)
        .ok_or("a simple packet block has 4 bytes before its data")?;
    let (index, interface) = lookup(interfaces, base, 0)?;
    let limit = if interface.snaplen == 0 {
        u32::MAX
    } else {
        interface.snaplen
    };
    let data = data_range(body, 4, orig_len.min(limit))?;
    let end = body.len();
    Ok(Found {
        interface: index,
        time_ns: None,
        data,
        orig_len,
        direction: None,
        options: end..end,
        options_damaged: false,
    })
}

fn lookup(interfaces: &[Interface], base: u32, local: u32) -> Result<(u32, &Interface), String> {
    let known = interfaces.len().saturating_sub(base as usize);
    let found = base
        .checked_add(local)
        .and_then(|i| Some((i, interfaces.get(i as usize)?)));
    found.ok_or_else(|| {
        format!("it names interface {local}, but its section has described {known} so far")
    })
}

fn data_range(body: &[u8], from: usize, kept: u32) -> Result<Range<usize>, String> {
    let room = body.len().saturating_sub(from);
    match usize::try_from(kept) {
        Ok(kept) if kept <= room => Ok(from..from + kept),
        _ => Err(format!(
            "it claims {kept} bytes of data in a block with room for {room}"
        )),
    }
}

/// `epb_flags` bits 0-1: 1 inbound, 2 outbound, 0 not available.
fn direction(flags: u32) -> Option<Direction> {
    match flags & 3 {
        1 => Some(Direction::In),
        2 => Some(Direction::Out),
        _ => None,
    }
}
