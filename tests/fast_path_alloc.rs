//! Frames that an entry carries cost no allocation: every mode of kube-proxy, UDP and TCP, both families, there
//! and back, while time passes.

#![allow(unsafe_code, reason = "a global allocator that counts")]
#![allow(missing_docs, reason = "a test binary")]

#[path = "fast_path/odd.rs"]
#[allow(dead_code, reason = "shared with the differential test")]
mod odd;
#[path = "fast_path/plan.rs"]
#[allow(dead_code, reason = "shared with the differential test")]
mod plan;
#[path = "fast_path/side.rs"]
#[allow(dead_code, reason = "shared with the differential test")]
mod side;
#[path = "fast_path/traffic.rs"]
#[allow(dead_code, reason = "shared with the differential test")]
mod traffic;

use plan::Plan;
use podpath::base::Rng;
use podpath::fast::{BATCH, Batch, Fate};
use podpath::path::NoTrace;
use side::Side;
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

struct Counting;

static CALLS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// A pod's frames to every Service, and the answers to what came of them.
fn warm_up(side: &mut Side) -> Vec<(usize, Vec<u8>)> {
    let services: Vec<IpAddr> = {
        let all = side.cluster.desired.services.values();
        let ips = all.filter_map(|s| s.body.spec.as_ref()?.cluster_ips.clone());
        ips.flatten().filter_map(|ip| ip.parse().ok()).collect()
    };
    let client = side.ends[0].clone();
    let mut first = Vec::new();
    for (n, ip) in services.into_iter().enumerate() {
        let sport = 5000 + n as u16;
        first.push((traffic::udp(&client, ip, (sport, 7), 20), None));
        let syn = traffic::tcp(&client, ip, (sport, 80), (SYN, 1000, 0));
        let ack = traffic::tcp(&client, ip, (sport, 80), (ACK, 1001, 5001));
        first.push((syn, Some(ack)));
    }
    let mut all = Vec::new();
    let mut rng = Rng::new(1);
    for (f, then) in first {
        side.got.clear();
        side.send(0, std::slice::from_ref(&f));
        let got = std::mem::take(&mut side.got);
        let steady = then.unwrap_or(f);
        for (at, reply) in answers(&mut rng, side, &got) {
            side.send(at, std::slice::from_ref(&reply));
        }
        side.send(0, std::slice::from_ref(&steady));
        let got = std::mem::take(&mut side.got);
        all.push((0, steady));
        all.extend(answers(&mut rng, side, &got));
    }
    all
}

fn answers(
    rng: &mut Rng,
    side: &Side,
    got: &[(podpath::base::NsId, Vec<u8>)],
) -> Vec<(usize, Vec<u8>)> {
    let mut out = Vec::new();
    for (ns, f) in got {
        if let Some(at) = side.ends.iter().position(|e| e.ns == *ns) {
            out.extend(traffic::answer(rng, &side.ends[at], f).map(|f| (at, f)));
        }
    }
    out
}

/// Allocations while full batches of one frame are carried; `None` if an entry does not carry it.
fn carried(side: &mut Side, from: usize, f: &[u8]) -> Option<usize> {
    let port = side.fast.port(side.ends[from].host)?;
    let mut batch = Batch::new();
    let mut out = Vec::new();
    let mut calls = 0;
    for round in 0..6 {
        batch.clear();
        for _ in 0..BATCH {
            batch.push(port, f);
        }
        let world = &mut side.cluster.lab.world;
        let until = world.now() + Duration::from_micros(1);
        let before = CALLS.load(Relaxed);
        side.fast.advance(world, until, &mut NoTrace);
        side.fast.run(world, &mut batch, &mut out);
        let made = CALLS.load(Relaxed) - before;
        let hits = batch.fates[..batch.len()].iter();
        let all = hits.filter(|f| matches!(f, Fate::Sent(_))).count() == BATCH;
        if round > 1 {
            if !all {
                return None;
            }
            calls += made;
        }
        out.clear();
    }
    Some(calls)
}

#[test]
fn hits_allocate_nothing() {
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    for seed in 0..12 {
        let plan = Plan::draw(seed);
        let mut side = Side::new(plan.build(), true, 512);
        side.fast.verify(0);
        // Neighbours and bridges learn, connections are replied to and become streams.
        for _ in 0..3 {
            warm_up(&mut side);
            side.pass(Duration::from_millis(2500));
        }
        for (from, f) in warm_up(&mut side) {
            let Some(calls) = carried(&mut side, from, &f) else {
                continue;
            };
            let (v6, protocol) = match f[12] {
                0x86 => ("IPv6", f[20]),
                _ => ("IPv4", f[23]),
            };
            let way = if from == 0 { "there" } else { "back" };
            let kind = format!("{} {v6} {protocol} {way}", plan.mode);
            assert_eq!(calls, 0, "{plan:?}: {kind}");
            *kinds.entry(kind).or_default() += 1;
        }
    }
    println!("{kinds:#?}");
    for mode in ["iptables", "nftables", "ipvs"] {
        for protocol in ["IPv4 6", "IPv4 17", "IPv6 6", "IPv6 17"] {
            for way in ["there", "back"] {
                let kind = format!("{mode} {protocol} {way}");
                assert!(
                    kinds.contains_key(&kind),
                    "no entry carried {kind}: {kinds:#?}"
                );
            }
        }
    }
}
