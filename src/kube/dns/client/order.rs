//! In which order getaddrinfo(3) returns addresses: RFC 6724 section 6 with each libc's own table.
//!
//! Sources: glibc 2.36 `sysdeps/posix/getaddrinfo.c` (`rfc3484_sort`, `default_labels`,
//! `default_precedence`), musl `src/network/lookup_name.c` (`defpolicy`, the sort in `__lookup_name`).
//! Not here: /etc/gai.conf, deprecated source addresses, native transport.
//! Invariant: a permutation of what was given; equal ones keep their order.

use super::Libc;
use core::cmp::Reverse;
use std::net::{IpAddr, Ipv6Addr};

/// A row of a policy table: prefix, bits of it, label, precedence.
type Policy = (Ipv6Addr, u8, u8, u8);

const MAPPED: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0);
const LOOPBACK: Ipv6Addr = Ipv6Addr::LOCALHOST;
const SIX_TO_FOUR: Ipv6Addr = Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0);
const TEREDO: Ipv6Addr = Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0);
const ULA: Ipv6Addr = Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0);
const SITE: Ipv6Addr = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0);
const ANY: Ipv6Addr = Ipv6Addr::UNSPECIFIED;

/// `default_labels` with `default_precedence`; the longest prefix wins.
const GLIBC: &[Policy] = &[
    (LOOPBACK, 128, 0, 50),
    (MAPPED, 96, 4, 10),
    (ANY, 96, 3, 20),
    (TEREDO, 32, 7, 40),
    (SITE, 10, 5, 40),
    (SIX_TO_FOUR, 16, 2, 30),
    (ULA, 7, 6, 40),
    (ANY, 0, 1, 40),
];

/// `defpolicy`.
const MUSL: &[Policy] = &[
    (LOOPBACK, 128, 0, 50),
    (MAPPED, 96, 4, 35),
    (SIX_TO_FOUR, 16, 2, 30),
    (TEREDO, 32, 5, 5),
    (ULA, 7, 13, 3),
    (ANY, 0, 1, 40),
];

/// Sorts destinations, each with the source address the host would use; `None`: no route.
pub fn sort(libc: Libc, mut all: Vec<(IpAddr, Option<IpAddr>)>) -> Vec<IpAddr> {
    let table = match libc {
        Libc::Glibc236 => GLIBC,
        Libc::Musl123 | Libc::Musl125 => MUSL,
    };
    all.sort_by_key(|(dst, src)| {
        let (_, label, precedence) = policy(table, *dst);
        let same = |f: &dyn Fn(IpAddr) -> u8| src.is_some_and(|s| f(s) == f(*dst));
        let shared = match (src, dst) {
            (Some(s), IpAddr::V6(_)) => common_prefix(*s, *dst),
            // glibc compares IPv4 addresses only within a source's own subnet.
            (Some(s), IpAddr::V4(_)) if libc != Libc::Glibc236 => common_prefix(*s, *dst),
            _ => 0,
        };
        Reverse((
            src.is_some(),
            same(&scope),
            same(&|a| policy(table, a).1) && label < u8::MAX,
            precedence,
            u8::MAX - scope(*dst),
            shared,
        ))
    });
    all.into_iter().map(|(dst, _)| dst).collect()
}

fn mapped(a: IpAddr) -> Ipv6Addr {
    match a {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// The row of an address: its bits, label and precedence.
fn policy(table: &[Policy], a: IpAddr) -> (u8, u8, u8) {
    let bits = u128::from(mapped(a));
    let row = table.iter().find(|(prefix, len, ..)| {
        let shift = 128 - u32::from(*len);
        let cut = |x: u128| x.checked_shr(shift).unwrap_or(0);
        cut(bits) == cut(u128::from(*prefix))
    });
    row.map_or((0, 1, 40), |r| (r.1, r.2, r.3))
}

/// RFC 6724 section 3.1.
fn scope(a: IpAddr) -> u8 {
    match a {
        IpAddr::V4(v4) if v4.is_loopback() || v4.is_link_local() => 2,
        IpAddr::V4(_) => 14,
        IpAddr::V6(v6) if v6.is_multicast() => v6.octets()[1] & 15,
        IpAddr::V6(v6) if v6.is_loopback() || v6.is_unicast_link_local() => 2,
        IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfec0 => 5,
        IpAddr::V6(_) => 14,
    }
}

fn common_prefix(a: IpAddr, b: IpAddr) -> u32 {
    (u128::from(mapped(a)) ^ u128::from(mapped(b))).leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_route_last_then_precedence() {
        let ip = |t: &str| t.parse::<IpAddr>().unwrap();
        let (v4, v6) = (ip("203.0.113.80"), ip("2001:db8:80::1"));
        let both = |s6: Option<&str>| vec![(v4, Some(ip("10.244.0.2"))), (v6, s6.map(ip))];
        for libc in Libc::ALL {
            assert_eq!(sort(libc, both(None)), [v4, v6], "{libc:?}");
            assert_eq!(sort(libc, both(Some("2001:db8::2"))), [v6, v4], "{libc:?}");
        }
        // From a unique local address the labels of a global destination differ: IPv4 goes first.
        assert_eq!(sort(Libc::Glibc236, both(Some("fd00:10::2"))), [v4, v6]);
        let ula = ip("fd00:20::1");
        let own = vec![(v4, Some(ip("10.244.0.2"))), (ula, Some(ip("fd00:10::2")))];
        assert_eq!(sort(Libc::Glibc236, own.clone()), [ula, v4]);
        assert_eq!(sort(Libc::Musl125, own), [v4, ula]);
    }
}
