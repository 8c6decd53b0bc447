//! Inputs that once broke a fuzz target, through the same functions again.
//!
//! A crash file goes to `tests/fuzz_regressions/<target>/<what-it-showed>`; nothing needs to be registered. The
//! functions are shared with `fuzz/fuzz_targets/`. Every target also gets a few inputs of its own kind, cut and
//! with bytes changed, so that the functions themselves stay alive where nothing was ever found.

#![allow(missing_docs, reason = "a test binary")]

#[path = "fuzz_regressions/conflist.rs"]
mod conflist;
#[path = "fuzz_regressions/conntrack.rs"]
mod conntrack;
#[path = "fuzz_regressions/dns.rs"]
mod dns;
#[path = "fuzz_regressions/frame.rs"]
mod frame;
#[path = "fuzz_regressions/ipcmd.rs"]
mod ipcmd;
#[path = "fuzz_regressions/ipset.rs"]
mod ipset;
#[path = "fuzz_regressions/iptables.rs"]
mod iptables;
#[path = "fuzz_regressions/ipvsadm.rs"]
mod ipvsadm;
#[path = "fuzz_regressions/nft.rs"]
mod nft;
#[path = "fuzz_regressions/pcap.rs"]
mod pcap;
#[path = "fuzz_regressions/yaml.rs"]
mod yaml;

use std::path::{Path, PathBuf};

/// A target's name, its function, and an input of its kind.
type Target = (&'static str, fn(&[u8]), &'static [u8]);

/// Every target of `fuzz/Cargo.toml`.
const TARGETS: &[Target] = &[
    ("conflist", conflist::run, CONFLIST),
    (
        "conntrack",
        conntrack::run,
        include_bytes!("../fuzz/seeds/conntrack/every-form"),
    ),
    (
        "dns",
        dns::run,
        include_bytes!("../fuzz/seeds/dns/every-plugin"),
    ),
    ("frame", frame::run, FRAMES),
    (
        "ipcmd",
        ipcmd::run,
        b"ip addr add 10.0.0.1/24 dev d0; ip link set d0 up; ip route add default via 10.0.0.2",
    ),
    (
        "ipset",
        ipset::run,
        include_bytes!("../fuzz/seeds/ipset/every-type"),
    ),
    (
        "iptables",
        iptables::run,
        include_bytes!("../fuzz/seeds/iptables/every-extension"),
    ),
    (
        "ipvsadm",
        ipvsadm::run,
        include_bytes!("../fuzz/seeds/ipvsadm/every-option"),
    ),
    (
        "nft",
        nft::run,
        include_bytes!("../fuzz/seeds/nft/every-set"),
    ),
    (
        "pcap",
        pcap::run,
        include_bytes!("../pcaps/vxlan-outer.pcapng"),
    ),
    (
        "yaml",
        yaml::run,
        b"apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: b}\nspec: {nodeName: n}\n",
    ),
];

const CONFLIST: &[u8] = include_bytes!("../fuzz/seeds/conflist/bridge-portmap");

/// A ping from pod 1 to pod 2 (record: port 2, flags: right checksum, a packet socket; 42 bytes), an ARP request.
const FRAMES: &[u8] = b"\x02\x0e\0\x1c\x45\0\0\x1c\0\x01\0\0\x40\x01\0\0\x0a\xf4\x01\x02\x0a\xf4\x02\x02\x08\0\xf7\xff\0\0\0\0\
\0\x01\0\x2a\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x77\x08\x06\0\x01\x08\0\x06\x04\0\x01\x02\0\0\0\0\x77\xc0\xa8\0\x09\0\0\0\0\0\0\xc0\xa8\0\x01";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of a folder, none if it does not exist.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut all: Vec<PathBuf> = entries
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.is_file())
        .collect();
    all.sort();
    all
}

#[test]
fn what_once_broke_a_target_is_survived() {
    for (name, run, _) in TARGETS {
        for file in files(&root().join("tests/fuzz_regressions").join(name)) {
            println!("{}", file.display()); // shown only with a failure
            run(&std::fs::read(&file).expect("a readable crash file"));
        }
    }
}

#[test]
fn inputs_of_each_kind_whole_cut_and_damaged_are_survived() {
    for (name, run, sample) in TARGETS {
        println!("{name}");
        whole_cut_and_damaged(*run, sample);
    }
    whole_cut_and_damaged(dns::run, include_bytes!("../fuzz/seeds/dns/hostile"));
    let listing = include_bytes!("../fuzz/seeds/ipvsadm/every-listing");
    whole_cut_and_damaged(ipvsadm::run, listing);
    for rules in [
        &include_bytes!("../fuzz/seeds/nft/every-expression")[..],
        include_bytes!("../fuzz/seeds/nft/below-ip"),
    ] {
        whole_cut_and_damaged(nft::run, rules);
    }
}

fn whole_cut_and_damaged(run: fn(&[u8]), sample: &[u8]) {
    run(sample);
    let step = (sample.len() / 40).max(1);
    for at in (0..sample.len()).step_by(step) {
        run(&sample[..at]);
        let mut damaged = sample.to_vec();
        damaged[at] ^= 0xff;
        run(&damaged);
    }
}

/// The frame target's nodes are really wired: its sample ping is answered across them.
#[test]
fn the_frame_target_carries_a_ping_between_the_nodes() {
    let events = frame::events(FRAMES);
    let replied =
        |e: &podpath::path::Event| e.ns_name == "pod1" && e.summary.contains("echo reply");
    let shown: Vec<&str> = events.iter().map(|e| e.summary.as_str()).collect();
    assert!(events.iter().any(replied), "{}", shown.join("\n"));
}

/// A target that is fuzzed but not replayed, or the other way round, is one that rots.
#[test]
fn every_fuzz_target_is_replayed_here() {
    let stem = |p: &PathBuf| p.file_stem().map(|s| s.to_string_lossy().into_owned());
    let fuzzed: Vec<String> = files(&root().join("fuzz/fuzz_targets"))
        .iter()
        .filter_map(stem)
        .collect();
    let here: Vec<&str> = TARGETS.iter().map(|t| t.0).collect();
    assert_eq!(fuzzed, here, "fuzz/fuzz_targets against TARGETS");
    let manifest =
        std::fs::read_to_string(root().join("fuzz/Cargo.toml")).expect("fuzz/Cargo.toml");
    for name in here {
        assert!(
            manifest.contains(&format!("name = \"{name}\"")),
            "{name} is not in fuzz/Cargo.toml"
        );
    }
}
