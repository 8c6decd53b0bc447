//! The lines of `conntrack -L expect`.
//!
//! Invariant: a mask is all ones where the expectation names a value, as helpers make them.

use crate::base::Instant;
use crate::nf::ct::tuple::CtTuple;
use crate::nf::ct::{Conntrack, Dir, Expectation};
use core::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The expectations of a table, in the order in which they were announced.
pub fn list_expectations(ct: &Conntrack, now: Instant) -> Vec<String> {
    ct.expectations().map(|e| line(ct, e, now)).collect()
}

fn addresses(out: &mut String, prefix: &str, t: &CtTuple) {
    let _ = write!(out, " {prefix}src={} {prefix}dst={}", t.src, t.dst);
}

fn line(ct: &Conntrack, e: &Expectation, now: Instant) -> String {
    let t = &e.tuple;
    let mut out = format!("{} proto={}", e.expires.since(now).as_secs(), t.proto);
    addresses(&mut out, "", t);
    let (ones, none): (IpAddr, IpAddr) = match t.src {
        IpAddr::V4(_) => (Ipv4Addr::BROADCAST.into(), Ipv4Addr::UNSPECIFIED.into()),
        IpAddr::V6(_) => (
            Ipv6Addr::from_bits(u128::MAX).into(),
            Ipv6Addr::UNSPECIFIED.into(),
        ),
    };
    let from = if e.from_source { ones } else { none };
    let _ = write!(
        out,
        " sport={} dport={} mask-src={from} mask-dst={ones}",
        t.sport, t.dport
    );
    let _ = write!(out, " sport=0 dport={}", u16::MAX);
    if let Some(master) = ct.get(e.master) {
        let m = &master.tuple(Dir::Original);
        addresses(&mut out, "master-", m);
        let _ = write!(out, " sport={} dport={} class=0", m.sport, m.dport);
        if let Some(helper) = master.helper() {
            let _ = write!(out, " helper={helper}");
        }
    }
    out
}
