//! The worlds most tests begin with, and what they say of a probe's result.

use crate::t2::{Backend, Options, T2, ip};
use podpath::endpoint::{Errno, Outcome};
use podpath::lab::ProbeResult;
use podpath::path::{Disposition, DropReason};

pub const BOTH: [Backend; 2] = [Backend::HostGw, Backend::Vxlan];

pub fn host_gw() -> T2 {
    T2::new(Options::new(Backend::HostGw))
}

pub fn vxlan() -> T2 {
    T2::new(Options::new(Backend::Vxlan))
}

/// Asserts outcome, errno and delay: `0`: at once, `3`: failed resolution, otherwise that many seconds.
#[track_caller]
pub fn is(r: &ProbeResult, outcome: Outcome, errno: Option<Errno>, seconds: u64) {
    assert_eq!((r.outcome, r.errno), (outcome, errno), "{r:#?}");
    let (ms, want) = (r.delay.as_millis() as u64, seconds * 1000);
    assert!(ms >= want && ms <= want + 150, "{ms} ms: {r:#?}");
}

#[track_caller]
pub fn ok(r: &ProbeResult) {
    is(r, Outcome::Ok, None, 0);
}

#[track_caller]
pub fn timeout(r: &ProbeResult) {
    assert_eq!((r.outcome, r.errno), (Outcome::Timeout, None), "{r:#?}");
    assert!(r.icmp.is_none(), "{r:#?}");
}

#[track_caller]
pub fn no_route(r: &ProbeResult, seconds: u64) {
    is(r, Outcome::NoRoute, Some(Errno::HostUnreach), seconds);
}

/// Asserts where it was decided, and why.
#[track_caller]
pub fn at(r: &ProbeResult, ns: &str, dev: &str, why: DropReason) {
    let hop = r.hop.as_ref().expect("a place");
    let reason = match &hop.how {
        Disposition::Dropped { reason, .. } | Disposition::Rejected { reason, .. } => *reason,
        how => panic!("{how:?} at {} {}", hop.ns_name, hop.device),
    };
    let got = (hop.ns_name.as_str(), hop.device.as_str(), reason);
    assert_eq!(got, (ns, dev, why), "{r:#?}");
}

#[track_caller]
pub fn told(r: &ProbeResult, from: &str, typ: u8, code: u8) {
    let i = r.icmp.expect("an ICMP error");
    assert_eq!((i.from, i.typ, i.code), (ip(from), typ, code), "{r:#?}");
}
