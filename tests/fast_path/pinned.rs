//! Cases that once differed, each as short as it can be told.

use crate::plan::Plan;
use crate::side::End;
use crate::{Play, traffic};
use std::net::IpAddr;
use std::time::Duration;

/// A play whose first two ends are pods of different nodes, which have met.
fn apart() -> (Play, [End; 2]) {
    let mut play = play(5);
    let ends = play.fast.ends.clone();
    let other = ends
        .iter()
        .find(|e| e.host.ns != ends[0].host.ns && !e.outside);
    let ends = [ends[0].clone(), other.unwrap().clone()];
    play.send(
        0,
        &[traffic::udp(&ends[0], IpAddr::V4(ends[1].ip), (4001, 7), 9)],
        0,
    );
    play.pass(Duration::from_millis(1), 0);
    (play, ends)
}

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

#[test]
fn a_datagram_with_a_wrong_length_is_not_carried_where_no_sums_are_looked_at() {
    let (mut play, ends) = apart();
    for side in [&mut play.fast, &mut play.slow] {
        let ns = side.ends[0].host.ns;
        assert!(side.command(ns, "sysctl -w net.netfilter.nf_conntrack_checksum=0"));
    }
    let right = traffic::udp(&ends[0], IpAddr::V4(ends[1].ip), (4000, 7), 30);
    for length in [0, 7, 8, 37, 38, 39, 0x400] {
        play.send(0, &vec![right.clone(); 3], length);
        play.pass(Duration::from_millis(1), length);
        let mut wrong = right.clone();
        wrong[38..40].copy_from_slice(&(length as u16).to_be_bytes());
        play.send(0, &[right.clone(), wrong, right.clone()], length);
    }
    assert!(play.fast.fast.stats().hits > 20);
    play.compare(0);
}

#[test]
fn a_packet_longer_than_its_way_says_of_the_flow_what_shorter_ones_say() {
    let (mut play, ends) = apart();
    play.fast.fast.verify(1);
    for side in [&mut play.fast, &mut play.slow] {
        let host = side.ends[0].host;
        let name = side
            .cluster
            .lab
            .world
            .ns(host.ns)
            .unwrap()
            .dev_name(host.dev);
        let line = format!("ip link set {name} mtu 1300");
        assert!(side.command(host.ns, &line), "{line}");
    }
    for (round, payload) in [9, 9, 1310, 9, 1310, 9, 1272, 1273, 9]
        .into_iter()
        .enumerate()
    {
        let f = traffic::udp(&ends[0], IpAddr::V4(ends[1].ip), (4000, 7), payload);
        play.send(0, &vec![f; 2], round as u64);
        play.pass(Duration::from_millis(1), round as u64);
    }
    let checked = play.fast.fast.verified();
    assert!(checked.checked > 3 && checked.wrong == 0, "{checked:#?}");
    play.compare(0);
}

#[test]
fn a_frame_that_no_entry_would_carry_is_no_difference() {
    // Its sum is wrong: conntrack calls it invalid, and what was compiled for its flow is none of its business.
    let (mut play, ends) = apart();
    play.fast.fast.verify(1);
    let right = traffic::udp(&ends[0], IpAddr::V4(ends[1].ip), (4000, 7), 30);
    let mut wrong = right.clone();
    wrong[60] ^= 1;
    for round in 0..6 {
        play.send(0, std::slice::from_ref(&right), round);
        play.send(0, std::slice::from_ref(&wrong), round);
    }
    let checked = play.fast.fast.verified();
    assert!(checked.checked > 3 && checked.wrong == 0, "{checked:#?}");
    play.compare(0);
}
