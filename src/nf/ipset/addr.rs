//! Addresses as numbers: masks, ranges to prefixes, text of one family.
//!
//! Does not know sets. Invariant: an IPv4 address is below 2^32; `width` is 32 or 128.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::net::IpAddr;

use crate::nf::Family;

/// Bits of an address.
pub(crate) fn width(family: Family) -> u8 {
    match family {
        Family::V4 => 32,
        Family::V6 => 128,
    }
}

/// All bits of an address.
pub(super) fn full(family: Family) -> u128 {
    match family {
        Family::V4 => u128::from(u32::MAX),
        Family::V6 => u128::MAX,
    }
}

/// The mask of a prefix length.
pub(super) fn mask(family: Family, prefix: u8) -> u128 {
    let all = full(family);
    all & !all.checked_shr(u32::from(prefix)).unwrap_or(0)
}

/// The number of an address, with its family.
pub(super) fn number(ip: IpAddr) -> (Family, u128) {
    match ip {
        IpAddr::V4(a) => (Family::V4, u128::from(u32::from(a))),
        IpAddr::V6(a) => (Family::V6, u128::from(a)),
    }
}

/// The address as text.
pub(super) fn show(family: Family, ip: u128) -> String {
    match family {
        Family::V4 => Ipv4Addr::from(u32::try_from(ip).unwrap_or(u32::MAX)).to_string(),
        Family::V6 => Ipv6Addr::from(ip).to_string(),
    }
}

/// Reads an address; IPv4 also in inet_aton's short forms (`10.1`, `0`).
pub(super) fn read(family: Family, text: &str) -> Option<u128> {
    match family {
        Family::V4 => aton(text),
        Family::V6 => text.parse::<Ipv6Addr>().ok().map(u128::from),
    }
}

/// inet_aton(3) with decimal, octal and hexadecimal parts.
fn aton(text: &str) -> Option<u128> {
    let parts: Vec<u64> = text.split('.').map(uint).collect::<Option<_>>()?;
    let (last, head) = parts.split_last()?;
    if head.len() > 3 || head.iter().any(|p| *p > 255) {
        return None;
    }
    let bits = 32 - 8 * u32::try_from(head.len()).ok()?;
    if *last >= 1u64 << bits {
        return None;
    }
    let top = head.iter().fold(0u64, |sum, p| sum << 8 | p);
    Some(u128::from(top << bits | last))
}

/// A number as strtoull(3) with base 0 reads it: decimal, `0x` or `0` before it.
pub(super) fn uint(text: &str) -> Option<u64> {
    let digits = |t: &str, radix| {
        let plain = !t.is_empty() && t.chars().all(|c| c.is_digit(radix));
        plain.then(|| u64::from_str_radix(t, radix).ok()).flatten()
    };
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => digits(hex, 16),
        None if text.len() > 1 && text.starts_with('0') => digits(text, 8),
        None => digits(text, 10),
    }
}

/// The largest prefix that begins at `from` and ends by `to`, and its last address
/// (net/netfilter/ipset/pfxlen.c `ip_set_range_to_cidr`).
pub(super) fn first_prefix(family: Family, from: u128, to: u128) -> (u8, u128) {
    let all = full(family);
    for prefix in 1..width(family) {
        let m = mask(family, prefix);
        let last = from | (all & !m);
        if from & m == from && last <= to {
            return (prefix, last);
        }
    }
    (width(family), from)
}
