//! Native rules against what a Linux 6.18 kernel counted and sent, on whole nodes (tests/data/nft/kernel.md):
//! fragments, bridges with and without br_netfilter, ingress and egress.

use podpath::base::{DevId, Instant, NsId, Origin, Span};
use podpath::import::ipcmd::{apply, parse};
use podpath::net::{DeviceKind, LinkSpec, PortAt};
use podpath::nf::nft::Ruleset;
use podpath::path::{Direction, NoTrace};
use podpath::sim::{Captures, World};
use podpath::wire::Frame;
use std::collections::BTreeMap;
use std::time::Duration;

/// A node with some devices, each with a cable to the far end of another machine that only listens.
struct Node {
    world: World,
    ns: NsId,
    /// Far ends by name.
    far: BTreeMap<String, PortAt>,
}

impl Node {
    /// `cables`: the node's device, its link address, the far end's name.
    fn new(cables: &[(&str, &str, &str)], lines: &[&str]) -> Node {
        let mut world = World::new(1);
        let (a, b) = (world.add_node("node"), world.add_node("far"));
        let (ns, others) = (world.add_ns("node", a), world.add_ns("far", b));
        let mut node = Node {
            world,
            ns,
            far: BTreeMap::new(),
        };
        for key in ["all", "default"] {
            node.line(
                others,
                &format!("sysctl -w net.ipv6.conf.{key}.disable_ipv6=1"),
            );
        }
        for (i, (near, mac, end)) in cables.iter().enumerate() {
            let here = node.veth(ns, near, mac);
            let there = node.veth(others, end, &format!("02:00:00:00:02:{i:02x}"));
            node.world.connect(here, there).expect("two veths");
            node.line(others, &format!("ip link set {end} up"));
            node.far.insert((*end).to_owned(), there);
        }
        lines.iter().for_each(|l| node.line(ns, l));
        node.world.run_until(Instant::from_secs(100), &mut NoTrace);
        node
    }

    fn veth(&mut self, ns: NsId, name: &str, mac: &str) -> PortAt {
        let spec = LinkSpec {
            name: name.to_owned(),
            kind: DeviceKind::Veth,
            mac: mac.parse().expect("a link address"),
            mtu: None,
            origin: Origin::Kernel,
        };
        let made = self
            .world
            .edit(ns, |e| e.link_add(spec))
            .expect("the namespace");
        let dev = made.expect("a new name");
        PortAt { ns, dev }
    }

    fn line(&mut self, ns: NsId, line: &str) {
        let c = parse(line, &Span::new("node", 0, 0)).expect(line);
        let now = self.world.now();
        let done = self.world.edit(ns, |e| apply(&c, e, now, &Origin::Kernel));
        done.expect("the namespace").expect(line);
    }

    fn load(&mut self, rules: &str) {
        let (set, findings) = Ruleset::parse("rules", rules);
        assert!(findings.is_empty(), "{findings:?}");
        let now = self.world.now();
        let ns = self.world.ns_mut(self.ns).expect("the node");
        ns.nf_mut().set_nft(set, now);
    }

    fn listing(&self) -> String {
        let nf = self.world.ns(self.ns).and_then(|ns| ns.nf());
        nf.expect("rules").nft_ruleset(self.world.now()).to_text()
    }

    /// What comes out of the far ends when a frame is put in at one of them.
    fn send(&mut self, end: &str, frame: &[u8]) -> Vec<(String, Vec<u8>)> {
        let ends: BTreeMap<DevId, &str> =
            self.far.iter().map(|(n, p)| (p.dev, n.as_str())).collect();
        let mut seen = Captures::at(self.far.values().map(|p| (p.ns, p.dev)));
        self.world
            .transmit(self.far[end], Frame::ethernet(frame), &mut seen);
        let until = self.world.now() + Duration::from_millis(30);
        self.world.run_until(until, &mut seen);
        let received = seen.take().into_iter().filter(|c| c.dir == Direction::In);
        received
            .map(|c| (ends[&c.dev].to_owned(), c.data.to_vec()))
            .collect()
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |i: usize| u8::from_str_radix(&hex[i..i + 2], 16).expect("hex");
    (0..hex.len()).step_by(2).map(byte).collect()
}

/// A listing with its counters at zero.
fn fresh(listing: &str) -> String {
    let mut out = String::new();
    for line in listing.lines() {
        let mut words: Vec<&str> = line.split(' ').collect();
        for i in 1..words.len() {
            if matches!(words[i - 1], "packets" | "bytes") {
                words[i] = "0";
            }
        }
        out += &(words.join(" ") + "\n");
    }
    out
}

/// The lines that differ.
fn differences(kernel: &str, ours: &str) -> Vec<String> {
    let pairs = kernel.lines().zip(ours.lines());
    let mut out: Vec<String> = pairs
        .filter(|(a, b)| a != b)
        .map(|(a, b)| format!("kernel {} | podpath {}", a.trim(), b.trim()))
        .collect();
    if kernel.lines().count() != ours.lines().count() {
        out.push("another number of lines".to_owned());
    }
    out
}

#[test]
fn later_fragments_are_read_as_the_kernel_reads_them() {
    let expected = include_str!("data/nft/fragments.nft");
    let mut node = Node::new(
        &[("vb", "02:00:00:00:00:02", "va")],
        &[
            "sysctl -w net.ipv6.conf.default.accept_dad=0",
            "ip addr add 10.0.0.2/24 dev vb",
            "ip addr add fd00::2/64 dev vb nodad",
            "ip link set vb up",
        ],
    );
    node.load(&fresh(expected));
    for hex in include_str!("data/nft/fragments.hex").lines() {
        node.send("va", &bytes(hex));
    }
    let wrong = differences(expected, &node.listing());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

const PORTS: [(&str, &str, &str); 3] = [
    ("p1", "02:00:00:00:00:11", "e1"),
    ("p2", "02:00:00:00:00:12", "e2"),
    ("p3", "02:00:00:00:00:13", "e3"),
];

fn bridge(netfilter: bool) -> Node {
    let call = format!(
        "sysctl -w net.bridge.bridge-nf-call-iptables={}",
        u8::from(netfilter)
    );
    let call6 = call.replace("iptables", "ip6tables");
    Node::new(
        &PORTS,
        &[
            "sysctl -w net.ipv6.conf.all.disable_ipv6=1",
            "sysctl -w net.ipv6.conf.default.disable_ipv6=1",
            &call,
            &call6,
            "ip link add br0 type bridge",
            "ip link set br0 address 02:00:00:00:00:b0",
            "ip link set p1 master br0",
            "ip link set p2 master br0",
            "ip link set p3 master br0",
            "ip addr add 10.1.0.1/24 dev br0",
            "ip link set p1 up",
            "ip link set p2 up",
            "ip link set p3 up",
            "ip link set br0 up",
        ],
    )
}

/// Without what the kernel draws: the id of a packet of the bridge's host, and the sum over it.
fn plain(mut frame: Vec<u8>) -> Vec<u8> {
    if frame.get(6..14) == Some(&[2, 0, 0, 0, 0, 0xb0, 8, 0]) {
        frame[18..20].fill(0);
        frame[24..26].fill(0);
    }
    frame
}

fn replay(netfilter: bool, frames: &str, expected: &str) {
    let mut node = bridge(netfilter);
    node.load(&fresh(expected));
    let (mut ours, mut kernel) = (Vec::new(), Vec::new());
    let mut wrong = Vec::new();
    let mut check = |what: &str, ours: &mut Vec<_>, kernel: &mut Vec<_>| {
        ours.sort();
        kernel.sort();
        if ours != kernel {
            wrong.push(format!("{what}: kernel {kernel:02x?} podpath {ours:02x?}"));
        }
        ours.clear();
        kernel.clear();
    };
    let mut last = "";
    for line in frames.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let frame = bytes(words[2]);
        if words[0] == ">" {
            check(last, &mut ours, &mut kernel);
            let out = node.send(words[1], &frame);
            ours.extend(out.into_iter().map(|(end, f)| (end, plain(f))));
            last = line;
        } else {
            kernel.push((words[1].to_owned(), plain(frame)));
        }
    }
    check(last, &mut ours, &mut kernel);
    wrong.extend(differences(expected, &node.listing()));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn bridge_and_netdev_chains_count_what_the_kernel_counted() {
    replay(
        false,
        include_str!("data/nft/bridge-nf-off.frames"),
        include_str!("data/nft/bridge-nf-off.nft"),
    );
}

#[test]
fn bridge_chains_stand_before_and_behind_the_ip_hooks() {
    replay(
        true,
        include_str!("data/nft/bridge-nf-on.frames"),
        include_str!("data/nft/bridge-nf-on.nft"),
    );
}

/// Not recorded, as that kernel has no nft_reject_bridge and nft_meta_bridge: from their sources.
#[test]
fn a_bridge_rejects_as_if_the_other_end_did() {
    let mut node = bridge(false);
    node.load(
        "table bridge b {\n chain pre {\n type filter hook prerouting priority 0;\n udp dport 7 reject\n \
         tcp dport 80 reject with tcp reset\n meta ibrname \"br0\" arp operation request counter\n \
         ether type 0x1234 reject\n }\n chain out {\n type filter hook output priority 0;\n \
         meta obrname \"br0\" oifname \"p1\" counter\n }\n}\n",
    );
    let frames = include_str!("data/nft/bridge-nf-off.frames");
    let sent = |part: &str| -> Vec<u8> {
        let line = frames
            .lines()
            .find(|l| l.starts_with("> e1") && l.contains(part));
        bytes(line.expect(part).split(' ').nth(2).expect("a frame"))
    };
    // UDP to port 7 of e2's host.
    let request = sent("03e80007");
    let out = node.send("e1", &request);
    let [(end, answer)] = out.as_slice() else {
        panic!("{out:02x?}");
    };
    assert_eq!(end, "e1");
    assert_eq!(
        (&answer[..6], &answer[6..12]),
        (&request[6..12], &request[..6])
    );
    assert_eq!(
        (&answer[26..30], &answer[30..34]),
        (&request[30..34], &request[26..30])
    );
    // TTL 64, ICMP, port unreachable, and the whole packet.
    assert_eq!(
        (answer[22], answer[23], &answer[34..36]),
        (64, 1, &[3, 3][..])
    );
    assert_eq!(&answer[42..], &request[14..]);
    // A SYN is reset; the recorded one is for port 97.
    let mut syn = sent("4000400626b1");
    syn[37] = 80;
    let sum = u16::from_be_bytes([syn[50], syn[51]]) + 17;
    syn[50..52].copy_from_slice(&sum.to_be_bytes());
    let out = node.send("e1", &syn);
    let [(end, reset)] = out.as_slice() else {
        panic!("{out:02x?}");
    };
    assert_eq!((end.as_str(), reset[23], reset[47]), ("e1", 6, 0x14));
    // Nothing but IP is answered.
    assert_eq!(node.send("e1", &sent("1234")), []);
    node.send("e1", &sent("0806000108000604000102000000"));
    let listing = node.listing();
    let counted = |rule: &str| {
        let line = listing.lines().find(|l| l.contains(rule)).expect(rule);
        !line.contains("packets 0 ")
    };
    assert!(counted("ibrname") && counted("obrname"), "{listing}");
}
