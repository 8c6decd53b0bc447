//! Every capture in pcaps/ through the cluster it was recorded on, by address, at one device and by interface.

use crate::start::{Folder, Run, capture, podpath, vxlan};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;

/// The captures, with their number of packets as their descriptions in pcaps/ say it.
const CAPTURES: [(&str, usize); 6] = [
    ("ping-paths.pcap", 20),
    ("mtu-mismatch-ns-be.pcap", 8),
    ("dns-sll2.pcap", 28),
    ("pod-to-pod-tcp.pcapng", 40),
    ("vxlan-outer.pcapng", 12),
    ("vxlan-snaplen-96.pcapng", 40),
];

fn replay(name: &str, more: &[&str]) -> Run {
    let (t, file) = (vxlan(), capture(name));
    podpath(&[&["replay", &file, "-t", &t, "-o", "json"], more].concat())
}

/// The packets of a replay.
fn packets(r: &Run) -> Vec<Value> {
    r.json()["packets"].as_array().cloned().unwrap_or_default()
}

/// How many packets there are of each fate and disposition.
fn tally(all: &[Value]) -> BTreeMap<String, usize> {
    let mut out = BTreeMap::new();
    for p in all {
        let how = p["disposition"].as_str().or(p["fate"].as_str());
        *out.entry(how.unwrap_or("?").to_owned()).or_default() += 1;
    }
    out
}

#[test]
fn every_capture_by_address() {
    for (name, n) in CAPTURES {
        let r = replay(name, &[]);
        assert!(matches!(r.code, Some(0 | 1)), "{name}: {:?}", r.code);
        assert_eq!(r.err, "", "{name}");
        let all = packets(&r);
        assert_eq!(all.len(), n, "{name}");
        let injected = all.iter().filter(|p| p["fate"] == "injected").count();
        assert!(injected > 0, "{name}: {:?}", tally(&all));
        for (i, p) in all.iter().enumerate() {
            assert_eq!(p["number"], i + 1, "{name}");
            assert!(!p["packet"].as_str().unwrap_or_default().is_empty(), "{p}");
        }
        let text = podpath(&["replay", &capture(name), "-t", &vxlan()]);
        assert_eq!(text.code, r.code, "{name}: text and JSON end the same");
        assert!(
            text.out.contains(&format!("\n{n} packets: ")),
            "{name}:\n{}",
            text.out
        );
    }
}

/// What is said of single packets in pcaps/ping-paths.md.
#[test]
fn the_pings_end_as_described() {
    let all = packets(&replay("ping-paths.pcap", &[]));
    let at = |n: usize| &all[n - 1];
    for (n, who) in [(4, "default/a2"), (9, "default/b1"), (11, "n1")] {
        assert_eq!(at(n)["namespace"], who, "{}", at(n));
        assert_eq!(at(n)["disposition"], "consumed", "{}", at(n));
    }
    for (n, who) in [(17, "n1"), (19, "n2")] {
        assert_eq!(at(n)["disposition"], "rejected", "{}", at(n));
        assert_eq!(at(n)["reason"], "ttl-expired", "{}", at(n));
        assert_eq!(at(n)["namespace"], who, "{}", at(n));
    }
    assert_eq!(
        at(5)["fate"],
        "produced",
        "a2's answer is the emulated kernel's: {}",
        at(5)
    );
    assert_eq!(at(1)["fate"], "skipped", "{}", at(1));
    assert!(
        at(1)["why"].as_str().is_some_and(|w| w.contains("ARP")),
        "{}",
        at(1)
    );
}

/// The node's end of a pod's veth, found as a person would: `link_index` of the pod's eth0.
fn veth_of(pod: &str, node: &str) -> String {
    let link = |who: &str| {
        podpath(&["show", who, "link", "-j", "-t", &vxlan()])
            .exits(0)
            .json()
    };
    let find = |v: &Value, key: &str, want: &Value| {
        let all = v.as_array().expect("links");
        all.iter()
            .find(|l| l[key] == *want)
            .expect("the link")
            .clone()
    };
    let eth0 = find(&link(pod), "ifname", &"eth0".into());
    let peer = find(&link(node), "ifindex", &eth0["link_index"]);
    peer["ifname"].as_str().expect("a name").to_owned()
}

#[test]
fn at_one_device() {
    let veth = veth_of("a1", "n1");
    assert!(veth.starts_with("veth"), "{veth}");
    let at = format!("n1/{veth}");
    let all = packets(&replay("ping-paths.pcap", &["--at", &at]));
    assert_eq!(all.len(), 20);
    assert_eq!(all[8]["namespace"], "default/b1", "{}", all[8]);
    let first = &all[8]["trace"]["events"][0];
    assert_eq!(
        (first["ns"].as_str(), first["dev"].as_str()),
        (Some("n1"), Some(&*veth))
    );
    // The same device by its pod's other end: what the pod sends.
    let sent = packets(&replay("ping-paths.pcap", &["--at", "default/a1/eth0"]));
    assert_eq!(sent[8]["namespace"], "default/b1", "{}", sent[8]);
    assert_eq!(
        sent[8]["trace"]["events"][0]["ns"], "default/a1",
        "{}",
        sent[8]
    );
}

#[test]
fn interfaces_by_name() {
    let all = packets(&replay("vxlan-outer.pcapng", &["--map", "n1.eth0=n1/eth0"]));
    // pcaps/vxlan-outer.md: 4 and 12 are decapsulated and reach a1, what n1 itself sent is not injected.
    for n in [4, 12] {
        assert_eq!(all[n - 1]["namespace"], "default/a1", "{}", all[n - 1]);
    }
    for n in [1, 3, 5, 7, 9, 11] {
        assert_ne!(all[n - 1]["fate"], "injected", "{}", all[n - 1]);
    }
    // Cut frames are filled up, not sent short: they pass the tunnel and the bridge.
    let cut = packets(&replay(
        "vxlan-snaplen-96.pcapng",
        &["--map", "n1.eth0=n1/eth0"],
    ));
    assert_eq!(cut[3]["namespace"], "default/a1", "{}", cut[3]);
    let events = cut[3]["trace"]["events"].as_array().expect("events");
    let whole = |e: &&Value| e["step"] == "decap" && e["ns"] == "n1";
    assert_eq!(events.iter().filter(whole).count(), 1);
}

#[test]
fn written_captures_open_in_tshark() {
    let folder = Folder::new();
    let (t, file) = (vxlan(), capture("ping-paths.pcap"));
    let r = folder
        .podpath(&["replay", &file, "-t", &t, "-w", "out"])
        .exits(1);
    let names: Vec<_> = std::fs::read_dir(folder.path().join("out"))
        .expect("the folder")
        .map(|e| e.expect("an entry").path())
        .collect();
    assert!(
        r.out
            .contains(&format!("wrote {} captures to out\n", names.len())),
        "{}",
        r.out
    );
    for name in [
        "default_a1.eth0.pcapng",
        "n1.eth0.pcapng",
        "n2.flannel.1.pcapng",
    ] {
        let path = folder.path().join("out").join(name);
        assert!(names.contains(&path), "{name} in {names:?}");
        let mut tshark = Command::new("tshark");
        tshark.args(["-n", "-T", "fields", "-e", "frame.comment", "-r"]);
        let Ok(o) = tshark.arg(&path).output() else {
            eprintln!("\n*** SKIPPED: tshark not installed: {name} was not looked at ***\n");
            return;
        };
        let said = String::from_utf8_lossy(&o.stderr);
        assert!(
            o.status.success() && !said.contains("cut short") && !said.contains("damaged"),
            "{said}"
        );
        let comments = String::from_utf8(o.stdout).expect("UTF-8");
        assert!(!comments.is_empty(), "{name}");
        for c in comments.lines() {
            assert!(c.starts_with("frame #"), "{name}: {c:?} in\n{comments}");
        }
        if name.starts_with("n1.eth0") {
            assert!(
                comments.contains("rejected by n2: TTL expired"),
                "{comments}"
            );
        }
    }
}
