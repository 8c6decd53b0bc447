//! IPv4 options as the kernel compiles, forwards and echoes them (kernel: `net/ipv4/ip_options.c`).
//!
//! Record route is filled in; timestamps and source routes are checked and left as they stand (source
//! routes are refused by default, `accept_source_route=0`). Offsets count from the start of the IP header.

use crate::wire::ip;
use std::net::Ipv4Addr;

const END: u8 = 0;
const NOOP: u8 = 1;
const RR: u8 = 7;
const TIMESTAMP: u8 = 68;
const LSRR: u8 = 131;
const SSRR: u8 = 137;
const ROUTER_ALERT: u8 = 148;

/// What the options of a packet ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// Offset of a record route option.
    pub rr: Option<u8>,
    /// Its newest slot still waits for the address of the device the packet leaves by.
    pub rr_needaddr: bool,
    /// Offset of a source route option.
    pub srr: Option<u8>,
}

/// Reads the options of `packet` (header length `ihl`), writing `own` into a record route that has room.
/// `Err` is the offset for the parameter problem.
pub fn compile(packet: &mut [u8], ihl: usize, own: Option<Ipv4Addr>) -> Result<Options, u8> {
    let mut out = Options::default();
    let Some(header) = packet.get_mut(..ihl) else {
        return Ok(out);
    };
    let mut i = 20;
    while i < ihl {
        let at = i as u8;
        match header[i] {
            END => {
                header[i..].fill(END);
                break;
            }
            NOOP => {
                i += 1;
                continue;
            }
            _ => {}
        }
        let len = header.get(i + 1).map_or(0, |l| usize::from(*l));
        if len < 2 || i + len > ihl {
            return Err(at);
        }
        let (kind, pointer) = (header[i], header.get(i + 2).copied().unwrap_or(0));
        match kind {
            RR | LSRR | SSRR | TIMESTAMP if len < if kind == TIMESTAMP { 4 } else { 3 } => {
                return Err(at + 1);
            }
            RR | LSRR | SSRR if pointer < 4 => return Err(at + 2),
            TIMESTAMP if pointer < 5 => return Err(at + 2),
            LSRR | SSRR if out.srr.is_some() => return Err(at),
            LSRR | SSRR => out.srr = Some(at),
            RR => {
                if out.rr.is_some() {
                    return Err(at);
                }
                let p = usize::from(pointer);
                if p <= len {
                    if p + 3 > len {
                        return Err(at + 2);
                    }
                    if let Some(own) = own {
                        header[i + p - 1..i + p + 3].copy_from_slice(&own.octets());
                    }
                    header[i + 2] += 4;
                    out.rr_needaddr = true;
                }
                out.rr = Some(at);
            }
            ROUTER_ALERT if len < 4 => return Err(at + 1),
            _ => {}
        }
        i += len;
    }
    Ok(out)
}

/// Writes the address of the device a packet leaves by into its record route and renews the checksum
/// (kernel: `ip_forward_options`).
pub fn forward(packet: &mut [u8], o: &Options, leaving_by: Option<Ipv4Addr>) {
    if let (Some(rr), true, Some(a)) = (o.rr, o.rr_needaddr, leaving_by) {
        fill_newest(packet, usize::from(rr), a);
    }
    ip::fill_v4_checksum(packet);
}

fn fill_newest(packet: &mut [u8], rr: usize, a: Ipv4Addr) {
    let end = packet.get(rr + 2).map_or(0, |p| rr + usize::from(*p) - 1);
    if let Some(slot) = end.checked_sub(4).and_then(|s| packet.get_mut(s..end)) {
        slot.copy_from_slice(&a.octets());
    }
}

/// The options of an answer to `packet`: its record route with one more slot for the answerer
/// (kernel: `__ip_options_echo`, `ip_options_build`). Empty when there is nothing to echo.
pub fn echo(packet: &[u8], o: &Options, from: Ipv4Addr) -> Vec<u8> {
    let Some(rr) = o.rr.map(usize::from) else {
        return Vec::new();
    };
    let Some(len) = packet.get(rr + 1).map(|l| usize::from(*l)) else {
        return Vec::new();
    };
    let mut out = packet
        .get(rr..rr + len)
        .map(<[u8]>::to_vec)
        .unwrap_or_default();
    let pointer = out.get(2).map_or(0, |p| usize::from(*p));
    if o.rr_needaddr && pointer <= len && pointer + 3 <= len {
        out[2] += 4;
        out[pointer - 1..pointer + 3].copy_from_slice(&from.octets());
    }
    out.resize(out.len().next_multiple_of(4), END);
    out
}

/// Puts options into a packet that has none.
pub fn insert(packet: &mut Vec<u8>, options: &[u8]) {
    if options.is_empty() || packet.len() < 20 || options.len() > 40 {
        return;
    }
    packet.splice(20..20, options.iter().copied());
    packet[0] = 0x40 | ((20 + options.len()) / 4) as u8;
    let len = (packet.len() as u16).to_be_bytes();
    packet[2..4].copy_from_slice(&len);
    ip::fill_v4_checksum(packet);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{IpHeader, build};

    fn with(options: &[u8]) -> Vec<u8> {
        let (a, b) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let mut p = build::ip_packet(a, b, 1, 64, 0, 1, false, b"data");
        insert(&mut p, options);
        p
    }

    #[test]
    fn record_route_is_filled_and_echoed_until_full() {
        let own = Ipv4Addr::new(10, 0, 0, 2);
        let mut p = with(&[RR, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, END]);
        assert_eq!(IpHeader::parse(&p).unwrap().header_len, 32);
        let o = compile(&mut p, 32, Some(own)).unwrap();
        assert_eq!(&p[20..31], &[RR, 11, 8, 10, 0, 0, 2, 0, 0, 0, 0]);
        assert_eq!(
            echo(&p, &o, own),
            [RR, 11, 12, 10, 0, 0, 2, 10, 0, 0, 2, END]
        );
    }

    proptest::proptest! {
        #[test]
        fn any_options_are_survived(o in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..10)) {
            let all = o.iter().flat_map(|b| [*b, b.wrapping_mul(7), 3, 4]);
            let bytes: Vec<u8> = all.take(o.len().min(10) * 4).collect();
            let mut p = with(&bytes);
            let ihl = usize::from(p[0] & 15) * 4;
            if let Ok(o) = compile(&mut p, ihl, Some(Ipv4Addr::LOCALHOST)) {
                let _ = echo(&p, &o, Ipv4Addr::LOCALHOST);
                forward(&mut p, &o, Some(Ipv4Addr::LOCALHOST));
            }
        }
    }
}
