//! The schedulers one by one, against what the recordings and their model say.

use super::super::service::{DestSpec, Forward, ServiceSpec, Virtual};
use super::super::{Ipvs, Mask};
use super::*;
use crate::wire::proto;

const AT: Virtual = Virtual::Addr {
    proto: proto::TCP,
    ip: IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, 100)),
    port: 80,
};

/// A service with destinations 10.0.0.1, .2, ... added in this order.
fn service(sched: Scheduler, flags: u8, weights: &[i32]) -> Ipvs {
    let mut vs = Ipvs::default();
    let spec = ServiceSpec {
        at: AT,
        sched,
        flags,
        persistent: None,
        mask: Mask::all(false),
        ops: false,
        pe: None,
    };
    vs.add_service(spec).unwrap();
    for (i, w) in weights.iter().enumerate() {
        vs.add_dest(&AT, dest(i as u8 + 1, *w)).unwrap();
    }
    vs
}

fn dest(last: u8, weight: i32) -> DestSpec {
    DestSpec {
        ip: [10, 0, 0, last].into(),
        port: 8080,
        fwd: Forward::Masq,
        weight,
        upper: 0,
        lower: 0,
    }
}

fn pick(src: [u8; 4], sport: u16, secs: u64) -> Pick {
    Pick {
        src: src.into(),
        dst: [10, 96, 0, 100].into(),
        sport,
        now: Instant::from_secs(secs),
        expiration: Duration::from_secs(10),
    }
}

/// The last byte of the choice, 0 for none; the choice gets an active connection.
fn next(vs: &mut Ipvs, p: &Pick) -> u8 {
    let svc = vs.services.get_mut(&AT).unwrap();
    let Some(id) = choose(svc, &vs.dests, p) else {
        return 0;
    };
    let d = vs.dests.get_mut(&id).unwrap();
    d.active += 1;
    match d.spec.ip {
        IpAddr::V4(a) => a.octets()[3],
        IpAddr::V6(_) => 0,
    }
}

fn run(vs: &mut Ipvs, n: usize) -> Vec<u8> {
    (0..n)
        .map(|_| next(vs, &pick([1, 2, 3, 4], 1, 0)))
        .collect()
}

#[test]
fn rr_begins_with_the_last_added_and_skips_the_quiesced() {
    assert_eq!(
        run(&mut service(Scheduler::Rr, 0, &[1, 0, 5]), 4),
        [3, 1, 3, 1]
    );
    assert_eq!(run(&mut service(Scheduler::Rr, 0, &[0]), 1), [0]);
    let mut vs = service(Scheduler::Rr, 0, &[1, 1, 1]);
    assert_eq!(run(&mut vs, 2), [3, 2]);
    vs.del_dest(&AT, &dest(2, 1)).unwrap();
    assert_eq!(run(&mut vs, 2), [1, 3]);
}

#[test]
fn wrr_goes_on_with_the_weight_it_had() {
    // Adding 3, 2, 1 begins at 1: everybody once, then the heaviest (seen on Linux 6.1).
    let mut vs = service(Scheduler::Wrr, 0, &[3, 2, 1]);
    assert_eq!(run(&mut vs, 9), [3, 2, 1, 1, 2, 1, 3, 2, 1]);
    assert_eq!(run(&mut service(Scheduler::Wrr, 0, &[0, 0]), 2), [0, 0]);
    let huge = &[i32::MAX, 1];
    let mut vs = service(Scheduler::Wrr, 0, huge);
    vs.dests.values_mut().next().unwrap().overload = true;
    assert_eq!(run(&mut vs, 2), [2, 2]);
}

#[test]
fn least_loaded_by_connections_and_weights() {
    assert_eq!(
        run(&mut service(Scheduler::Lc, 0, &[1, 9]), 4),
        [2, 1, 2, 1]
    );
    assert_eq!(
        run(&mut service(Scheduler::Wlc, 0, &[1, 2]), 4),
        [2, 1, 2, 2]
    );
    assert_eq!(
        run(&mut service(Scheduler::Sed, 0, &[1, 2]), 4),
        [2, 2, 1, 2]
    );
    assert_eq!(
        run(&mut service(Scheduler::Nq, 0, &[1, 2]), 4),
        [2, 1, 2, 2]
    );
}

#[test]
fn failover_and_overflow_take_the_heaviest() {
    let mut vs = service(Scheduler::Fo, 0, &[2, 5, 3]);
    assert_eq!(run(&mut vs, 3), [2, 2, 2]);
    vs.edit_dest(&AT, dest(2, 0)).unwrap();
    assert_eq!(run(&mut vs, 1), [3]);
    // One more than the weight, as the kernel compares.
    let mut vs = service(Scheduler::Ovf, 0, &[1, 2]);
    assert_eq!(run(&mut vs, 6), [2, 2, 2, 1, 1, 0]);
}

#[test]
fn hashes_depend_on_their_address_alone_and_fall_back_only_if_told() {
    for sched in [Scheduler::Sh, Scheduler::Dh, Scheduler::Mh] {
        let mut vs = service(sched, 0, &[1, 1, 1, 1]);
        let first = next(&mut vs, &pick([1, 2, 3, 4], 1, 0));
        assert_eq!(next(&mut vs, &pick([1, 2, 3, 4], 9, 0)), first);
        vs.edit_dest(&AT, dest(first, 0)).unwrap();
        assert_eq!(next(&mut vs, &pick([1, 2, 3, 4], 1, 0)), 0, "{sched:?}");
    }
    for sched in [Scheduler::Sh, Scheduler::Mh] {
        let mut vs = service(sched, 1, &[1, 1, 1, 1]);
        let first = next(&mut vs, &pick([1, 2, 3, 4], 1, 0));
        vs.edit_dest(&AT, dest(first, 0)).unwrap();
        let other = next(&mut vs, &pick([1, 2, 3, 4], 1, 0));
        assert!(other != 0 && other != first, "{sched:?}");
        let mut vs = service(sched, 2, &[1, 1, 1, 1]);
        let all: std::collections::BTreeSet<u8> = (1..200)
            .map(|p| next(&mut vs, &pick([1, 2, 3, 4], p, 0)))
            .collect();
        assert_eq!(all.len(), 4, "{sched:?} looks at ports");
    }
    assert_eq!(run(&mut service(Scheduler::Mh, 0, &[]), 1), [0]);
}

#[test]
fn locality_stays_until_the_server_is_overloaded() {
    // Two more than its weight, and another below half of its own (seen on Linux 6.1).
    let mut vs = service(Scheduler::Lblc, 0, &[4, 1]);
    assert_eq!(run(&mut vs, 4), [2, 2, 1, 1]);
    let mut vs = service(Scheduler::Lblcr, 0, &[4, 1]);
    assert_eq!(run(&mut vs, 4), [2, 2, 1, 1]);
    // After the expiration the most loaded of the set leaves it.
    assert_eq!(next(&mut vs, &pick([1, 2, 3, 4], 1, 11)), 1);
}
