//! Cases that once differed, each as short as it can be told.

use crate::plan::Plan;
use crate::{Play, traffic};
use std::net::IpAddr;
use std::time::Duration;

/// The play of a seed, without edits.
fn play(seed: u64) -> Play {
    let plan = Plan::draw(seed);
    Play::new(|| plan.build(), Some(plan.clone()), seed)
}

#[test]
fn a_reply_that_was_under_way_ends_what_was_compiled_before_it_came() {
    let mut play = play(5);
    let ends = play.fast.ends.clone();
    let outside = ends.iter().position(|e| e.outside).unwrap();
    let mut nodes = play.fast.cluster.nodes.values();
    let (first, second) = (nodes.next().unwrap(), nodes.next().unwrap());
    let (by, node) = (first.uplink, second.ns);
    let pod = ends.iter().position(|e| e.host.ns == node).unwrap();
    let address = second.addresses[0].ip();
    let ask = |port| traffic::udp(&ends[pod], IpAddr::V4(ends[outside].ip), (port, 7), 9);
    // The host knows the first node only: its reply is forwarded there, and waits on the cable.
    let reply = |f: &[u8]| {
        let port = u16::from_be_bytes([f[34], f[35]]);
        traffic::udp(&ends[outside], address, (7, port), 9)
    };
    for side in [&mut play.fast, &mut play.slow] {
        side.cluster.lab.world.link_mut(by).latency = Duration::from_micros(90);
    }
    let exchange = |play: &mut Play, port: u16, round: u64| {
        play.send(pod, &vec![ask(port); 4], round);
        let sent = play.fast.got.last().map(|(_, f)| reply(f));
        // Compiled while no reply was seen.
        play.send(pod, &vec![ask(port); 4], round);
        play.send(outside, &sent.into_iter().collect::<Vec<_>>(), round);
        play.pass(Duration::from_millis(1), round);
        let before = play.fast.fast.stats().hits;
        play.send(pod, &vec![ask(port); 4], round);
        play.pass(Duration::from_millis(1), round);
        play.fast.fast.stats().hits - before
    };
    // Neighbours get to know each other.
    exchange(&mut play, 4000, 0);
    exchange(&mut play, 4001, 1);
    assert!(exchange(&mut play, 4002, 2) > 0);
    play.compare(2);
}
