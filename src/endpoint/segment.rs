//! TCP segments as Linux writes them: option order and padding, window and timestamp fields.
//!
//! smoltcp decides *what* to send; this gives it the bytes a Linux peer would show in a capture
//! (`tcp_options_write`: SYN: MSS, SACK-permitted, timestamps, NOP, window scale; else NOP NOP timestamps,
//! NOP NOP SACK). Knows no state.

use crate::wire::{checksum, proto};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{TcpControl, TcpPacket, TcpRepr};
use std::net::IpAddr;

/// A segment's fields; `None` when the bytes are no TCP segment. The checksum is the caller's to verify.
pub(super) fn parse<'a>(src: IpAddr, dst: IpAddr, l4: &'a [u8]) -> Option<TcpRepr<'a>> {
    let packet = TcpPacket::new_checked(l4).ok()?;
    TcpRepr::parse(
        &packet,
        &src.into(),
        &dst.into(),
        &ChecksumCapabilities::ignored(),
    )
    .ok()
}

/// The segment `r` from `src` to `dst`, with its checksum. `r`'s window is written as it is.
pub(super) fn encode(src: IpAddr, dst: IpAddr, r: &TcpRepr<'_>) -> Vec<u8> {
    let mut s = Vec::with_capacity(60 + r.payload.len());
    s.extend_from_slice(&r.src_port.to_be_bytes());
    s.extend_from_slice(&r.dst_port.to_be_bytes());
    s.extend_from_slice(&r.seq_number.0.to_be_bytes());
    s.extend_from_slice(&r.ack_number.map_or(0, |a| a.0).to_be_bytes());
    s.extend_from_slice(&[0, flags(r)]);
    s.extend_from_slice(&r.window_len.to_be_bytes());
    s.extend_from_slice(&[0; 4]);
    options(r, &mut s);
    s[12] = ((s.len() / 4) as u8) << 4;
    s.extend_from_slice(r.payload);
    let sum = checksum::l4(src, dst, proto::TCP, &s);
    s[16..18].copy_from_slice(&sum.to_be_bytes());
    s
}

fn flags(r: &TcpRepr<'_>) -> u8 {
    let control = match r.control {
        TcpControl::None => 0,
        TcpControl::Psh => 0x08,
        TcpControl::Syn => 0x02,
        TcpControl::Fin if r.payload.is_empty() => 0x01,
        TcpControl::Fin => 0x09, // tcp_push on the last write
        TcpControl::Rst => 0x04,
    };
    control | if r.ack_number.is_some() { 0x10 } else { 0 }
}

fn options(r: &TcpRepr<'_>, s: &mut Vec<u8>) {
    let syn = r.control == TcpControl::Syn;
    if let (true, Some(mss)) = (syn, r.max_seg_size) {
        s.extend_from_slice(&[2, 4]);
        s.extend_from_slice(&mss.to_be_bytes());
    }
    match (syn && r.sack_permitted, r.timestamp) {
        (true, Some(_)) => s.extend_from_slice(&[4, 2]),
        (true, None) => s.extend_from_slice(&[1, 1, 4, 2]),
        (false, Some(_)) => s.extend_from_slice(&[1, 1]),
        (false, None) => {}
    }
    if let Some(ts) = r.timestamp {
        s.extend_from_slice(&[8, 10]);
        s.extend_from_slice(&ts.tsval.to_be_bytes());
        s.extend_from_slice(&ts.tsecr.to_be_bytes());
    }
    if let (true, Some(shift)) = (syn, r.window_scale) {
        s.extend_from_slice(&[1, 3, 3, shift]);
    }
    let blocks = r.sack_ranges.iter().flatten().count();
    if !syn && blocks > 0 {
        s.extend_from_slice(&[1, 1, 5, (2 + 8 * blocks) as u8]);
        for (left, right) in r.sack_ranges.iter().flatten() {
            s.extend_from_slice(&left.to_be_bytes());
            s.extend_from_slice(&right.to_be_bytes());
        }
    }
}
