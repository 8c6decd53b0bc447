//! Traces as people and programs read them: a ping that arrives, one that is dropped, one that is rejected.

use podpath::base::{DevId, Instant, NsId, Origin, Span};
use podpath::import::ipcmd::{apply, parse};
use podpath::net::{DeviceKind, LinkSpec, PortAt};
use podpath::path::{Event, TraceBuilder};
use podpath::report::trace::{self, Style};
use podpath::sim::World;
use podpath::wire::{MacAddr, build, proto};
use std::net::IpAddr;

fn veth(w: &mut World, ns: NsId, name: &str, n: u8) -> PortAt {
    let spec = LinkSpec {
        name: name.into(),
        kind: DeviceKind::Veth,
        mac: MacAddr([2, 0, 0, 0, 0, n]),
        mtu: None,
        origin: Origin::Kernel,
    };
    let dev: DevId = w
        .edit(ns, |e| e.link_add(spec))
        .expect("namespace")
        .expect("new device");
    PortAt { ns, dev }
}

fn run(w: &mut World, ns: NsId, lines: &[&str]) {
    for line in lines {
        let c = parse(line, &Span::new("pods.yaml", 7, 3)).expect(line);
        let origin = Origin::controller("ptp", "pods.yaml:7");
        w.edit(ns, |e| apply(&c, e, Instant::ZERO, &origin))
            .expect("namespace")
            .expect(line);
    }
}

/// A pod and the node it hangs on, joined by a veth pair; with or without a gateway in reach.
fn pod_and_node() -> (World, NsId, NsId) {
    let mut w = World::new(1);
    let node = w.add_node("node1");
    let (pod, host) = (w.add_ns("default/web-1", node), w.add_ns("node1", node));
    let (a, b) = (veth(&mut w, pod, "eth0", 1), veth(&mut w, host, "veth1", 2));
    w.connect(a, b).expect("both ends");
    run(
        &mut w,
        pod,
        &[
            "ip link set lo up",
            "ip addr add 10.0.0.2/24 dev eth0",
            "ip link set eth0 up",
            "ip route add default via 10.0.0.1",
        ],
    );
    run(
        &mut w,
        host,
        &[
            "sysctl -w net.ipv4.ip_forward=1",
            "ip link set lo up",
            "ip addr add 10.0.0.1/24 dev veth1",
            "ip link set veth1 up",
            "ip route add blackhole 10.9.0.0/16",
            "ip route add unreachable 10.8.0.0/16",
        ],
    );
    (w, pod, host)
}

fn ping(to: &str) -> Vec<Event> {
    let (mut w, pod, _) = pod_and_node();
    let (a, b): (IpAddr, IpAddr) = (
        "10.0.0.2".parse().expect("address"),
        to.parse().expect("address"),
    );
    let m = build::icmp_message(a, b, 8, 0, 1 << 16 | 1, b"ping");
    let packet = build::ip_packet(a, b, proto::ICMP, 64, 0, 1, false, &m);
    let mut t = TraceBuilder::default();
    w.send(pod, &packet, None, &mut t).1.expect("a route");
    w.run_until(Instant::from_secs(4), &mut t);
    t.take()
}

/// The text without colours.
fn plain(events: &[Event], style: Style) -> String {
    anstream::adapter::strip_str(&trace::text(events, style)).to_string()
}

#[test]
fn a_ping_and_its_reply() {
    insta::assert_snapshot!("trace-ping", plain(&ping("10.0.0.1"), Style::default()));
}

#[test]
fn every_frame_when_asked() {
    let style = Style {
        verbose: true,
        ..Style::default()
    };
    insta::assert_snapshot!("trace-ping-verbose", plain(&ping("10.0.0.1"), style));
}

#[test]
fn a_dropped_ping() {
    insta::assert_snapshot!("trace-dropped", plain(&ping("10.9.0.1"), Style::default()));
}

#[test]
fn a_rejected_ping() {
    insta::assert_snapshot!("trace-rejected", plain(&ping("10.8.0.1"), Style::default()));
}

#[test]
fn nobody_home() {
    insta::assert_snapshot!("trace-nobody", plain(&ping("10.0.0.9"), Style::default()));
}

#[test]
fn json_is_versioned_and_stable() {
    let doc = trace::json(&ping("10.8.0.1"));
    assert_eq!(doc["version"], 1);
    let rows: Vec<String> = doc["events"]
        .as_array()
        .into_iter()
        .flatten()
        .map(ToString::to_string)
        .collect();
    insta::assert_snapshot!("trace-json", rows.join("\n"));
}

#[test]
fn colours_say_how_it_ended_and_lines_keep_to_the_page() {
    let text = trace::text(&ping("10.9.0.1"), Style::default());
    assert!(text.contains("\u{1b}[31m"), "red for a drop: {text:?}");
    assert!(trace::text(&ping("10.0.0.1"), Style::default()).contains("\u{1b}[32m"));
    for to in ["10.0.0.1", "10.9.0.1", "10.8.0.1", "10.0.0.9"] {
        for line in plain(&ping(to), Style::default()).lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }
}
