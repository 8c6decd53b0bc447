//! Same world, seed and calls: same bytes at the same times, watched or not; and a trace holds one probe's
//! frames, all of them and no others'.

use crate::t2::{Backend, C, Options, S1, S2, T2, ip};
use podpath::base::FrameId;
use podpath::endpoint::{App, Outcome};
use podpath::lab::{ClientRef, Lab, Probe};
use podpath::net::PortAt;
use podpath::path::{Event, EventKind, NoTrace, Tee, TraceBuilder};
use podpath::sim::{Block, Captured, Captures, World};
use podpath::wire::proto;
use std::collections::BTreeSet;
use std::time::Duration;

fn world(seed: u64) -> T2 {
    T2::new(Options {
        gateway: true,
        latency: Duration::from_micros(50),
        loss_ppm: 1000,
        seed,
        ..Options::new(Backend::Vxlan)
    })
}

fn probes(t: &T2) -> [Probe; 4] {
    [
        Probe::ping(t.c, ip(S2)),
        Probe::tcp(t.c, ip(S2), 8080).size(100_000),
        Probe::udp(t.n1, ip(S2), 5353).size(3000),
        Probe::tcp(t.s2, ip(S1), 8080).size(100_000),
    ]
}

/// Everything at once, then one after the other.
fn mixed(seed: u64) -> (Vec<Captured>, Vec<Event>, String) {
    let mut t = world(seed);
    let mut obs = Tee(Captures::all(), TraceBuilder::default());
    let mut events = Vec::new();
    let all = probes(&t);
    let started: Vec<ClientRef> = all
        .iter()
        .map(|p| t.lab.start(p, &mut obs).unwrap())
        .collect();
    let end = t.lab.now() + Duration::from_secs(20);
    while t.lab.step(end, &mut obs) {
        events.extend(obs.1.take());
    }
    let mut told = String::new();
    for r in started {
        told += &format!("{:?}\n", t.lab.finish(r).unwrap().end);
    }
    for p in &all {
        told += &format!("{:?}\n", t.lab.probe(p, &mut obs));
        events.extend(obs.1.take());
    }
    (obs.0.take(), events, told)
}

#[test]
fn same_seed_same_bytes() {
    let (a, b) = (mixed(7), mixed(7));
    assert!(a.0.len() > 3000, "{} frames", a.0.len());
    assert!(a.2.matches("outcome: Ok").count() == 8, "{}", a.2);
    assert!(a.0 == b.0, "captures differ");
    assert!(a.1 == b.1, "traces differ");
    assert_eq!(a.2, b.2);
    let other = mixed(8);
    assert!(a.0 != other.0, "the seed decides nothing");
}

#[test]
fn some_frames_were_lost_and_sent_again() {
    let lost = |e: &&Event| matches!(&e.kind, EventKind::End(how) if format!("{how:?}").contains("LinkLoss"));
    let (_, events, _) = mixed(7);
    assert!(events.iter().filter(lost).count() > 0);
}

#[test]
fn watching_changes_nothing() {
    let (mut x, mut y, mut z) = (world(3), world(3), world(3));
    let (mut before, mut after) = (Captures::all(), Captures::all());
    for p in probes(&x) {
        let untraced = x.lab.probe(&p, &mut NoTrace);
        let captured = y.lab.probe(&p, &mut before);
        let (traced, _) = z.lab.trace(&p);
        assert_eq!(untraced, captured);
        // A trace alone fills in the values that decided.
        assert_eq!(
            (untraced.outcome, untraced.delay),
            (traced.outcome, traced.delay)
        );
    }
    // And the three worlds go on alike.
    let again = probes(&y);
    for p in again {
        let mut own = Captures::all();
        y.lab.probe(&p, &mut own);
        z.lab.probe(&p, &mut after);
        assert!(own.take() == after.take());
    }
}

/// Frames of an exchange, followed from the client's first packet through answers and answers' answers.
#[test]
fn a_trace_is_one_probes_own() {
    let mut t = world(5);
    let mut other = TraceBuilder::default();
    let noise = Probe::tcp(t.s1, ip(S2), 8080).size(50_000);
    let noise = t.lab.start(&noise, &mut other).unwrap();
    let p = Probe::tcp(t.c, ip(S2), 8080).size(5_000);
    let (r, events) = t.lab.trace(&p);
    assert_eq!(r.outcome, Outcome::Ok);
    assert!(events.windows(2).all(|w| w[0].time <= w[1].time));
    let roots: BTreeSet<FrameId> = events.iter().map(|e| e.root).collect();
    for root in &roots {
        let l = t.lab.lineage(*root).expect("sent by a socket");
        assert_ne!(l.client, Some(noise));
        let ends = l.tuple.unwrap();
        assert!([ends.src, ends.dst].contains(&ip(C)), "{ends:?}");
        // What was sent in answer to a frame was sent in answer to a frame of this trace.
        if let Some(parent) = l.parent {
            assert!(events.iter().any(|e| e.frame == parent), "{parent}");
        }
    }
    let line = |ns: &str, text: &str| {
        let tap = |e: &&Event| e.ns_name == ns && matches!(e.kind, EventKind::Tap(_));
        events.iter().filter(tap).any(|e| e.summary.contains(text))
    };
    assert!(
        line("c", "ARP who-has 10.244.1.1"),
        "the client's own resolution"
    );
    assert!(line("s2", "[S]") && line("c", "[S.]") && line("n1", "VXLAN vni 1"));
    assert!(
        line("c", "[F.]") && line("s2", "[F.]"),
        "the end of the connection"
    );
    assert!(
        !events.iter().any(|e| e.summary.contains("10.244.1.3")),
        "of s1's exchange"
    );
}

#[test]
fn what_a_server_sends_by_a_timer_belongs_to_its_client() {
    let mut t = T2::new(Options::new(Backend::HostGw));
    let dev = t
        .lab
        .world
        .ns(t.n2)
        .unwrap()
        .dev_by_name("eth0")
        .unwrap()
        .id;
    let link = t.lab.world.link_mut(PortAt { ns: t.n2, dev });
    link.blocked.push(Block {
        proto: Some(proto::TCP),
        ..Block::default()
    });
    let mut seen = TraceBuilder::default();
    let p = Probe::tcp(t.c, ip(S2), 8080).timeout(Duration::from_millis(500));
    let client = t.lab.start(&p, &mut seen).unwrap();
    let end = t.lab.now() + Duration::from_secs(20);
    t.lab.run_until(end, &mut seen);
    let answers: Vec<&Event> = seen
        .events()
        .iter()
        .filter(|e| e.ns_name == "s2" && e.dev_name == "eth0" && e.summary.contains("[S.]"))
        .filter(|e| matches!(e.kind, EventKind::Tap(_)))
        .collect();
    assert!(answers.len() > 3, "{}", answers.len());
    for (i, e) in answers.iter().enumerate() {
        let l = t.lab.lineage(e.root).unwrap();
        assert_eq!((l.client, l.parent.is_some()), (Some(client), i == 0));
    }
}

#[test]
fn ten_thousand_servers_are_small() {
    let mut world = World::new(1);
    let node = world.add_node("n");
    let spaces: Vec<_> = (0..10_000)
        .map(|i| world.add_ns(format!("p{i}"), node))
        .collect();
    let mut lab = Lab::new(world, 1);
    for ns in &spaces {
        let app = App::Http { name: "web".into() };
        lab.listen(*ns, None, proto::TCP, 8080, app).unwrap();
    }
    let later = lab.now() + Duration::from_secs(100);
    assert!(lab.run_until(later, &mut NoTrace));
    assert!(spaces.iter().all(|ns| lab.stack(*ns).is_none()));
}
