//! The order of ipvsadm's listings (libipvs: `ipvs_cmp_services`, `ipvs_cmp_dests`).
//!
//! Addresses are compared by the sign of their 32-bit difference, which is no total order: 192.0.0.0 comes
//! before 10.0.0.0, that before 100.0.0.0, and that before 192.0.0.0. Hence a merge sort of our own, as glibc's
//! `qsort` was. Invariant: it is stable and ends, whatever the comparison says.

use super::super::service::Virtual;
use core::cmp::Ordering;
use std::net::IpAddr;

/// Sorted by merging, as glibc halves.
pub(super) fn sorted<T: Copy>(mut all: Vec<T>, cmp: &dyn Fn(&T, &T) -> Ordering) -> Vec<T> {
    if all.len() < 2 {
        return all;
    }
    let right = all.split_off(all.len() / 2);
    let (left, right) = (sorted(all, cmp), sorted(right, cmp));
    let mut out = Vec::with_capacity(left.len() + right.len());
    let (mut l, mut r) = (left.into_iter().peekable(), right.into_iter().peekable());
    while let (Some(a), Some(b)) = (l.peek(), r.peek()) {
        let next = match cmp(a, b) {
            Ordering::Greater => r.next(),
            _ => l.next(),
        };
        out.extend(next);
    }
    out.extend(l);
    out.extend(r);
    out
}

fn words(ip: IpAddr) -> Vec<u32> {
    match ip {
        IpAddr::V4(a) => vec![u32::from(a)],
        IpAddr::V6(a) => {
            let octets = a.octets();
            let words = octets.as_chunks::<4>().0.iter();
            words.map(|w| u32::from_be_bytes(*w)).collect()
        }
    }
}

fn difference(a: u32, b: u32) -> Ordering {
    (a.wrapping_sub(b) as i32).cmp(&0)
}

fn addresses(a: IpAddr, b: IpAddr) -> Ordering {
    let (a, b) = (words(a), words(b));
    let each = a.iter().zip(&b).map(|(a, b)| difference(*a, *b));
    each.fold(Ordering::Equal, Ordering::then)
}

/// Two address and port pairs.
pub(super) fn ends(a: (IpAddr, u16), b: (IpAddr, u16)) -> Ordering {
    addresses(a.0, b.0).then(a.1.cmp(&b.1))
}

/// Two services: those by mark last, then by family, protocol, address, port.
pub(super) fn services(a: &Virtual, b: &Virtual) -> Ordering {
    let key = |v: &Virtual| match *v {
        Virtual::Addr { proto, ip, port } => (0, proto, Some(ip), port),
        Virtual::Mark { mark, .. } => (mark, 0, None, 0),
    };
    let (x, y) = (key(a), key(b));
    let first = difference(x.0, y.0).then(a.is_v6().cmp(&b.is_v6()));
    let first = first.then(x.1.cmp(&y.1));
    match (x.2, y.2) {
        (Some(i), Some(j)) => first.then(ends((i, x.3), (j, y.3))),
        _ => first,
    }
}
