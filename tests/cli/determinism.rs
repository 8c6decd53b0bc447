//! Same input, same seed: the same bytes, in every process. Another seed: other draws, the same network.

use crate::start::{Folder, Run, capture, podpath, vxlan};
use std::collections::BTreeMap;
use std::path::Path;

#[track_caller]
fn twice(args: &[&str]) -> Run {
    let (a, b) = (podpath(args), podpath(args));
    assert!(!a.out.is_empty(), "podpath {}\n{}", a.args, a.err);
    assert_eq!(a, b, "podpath {}", a.args);
    a
}

#[test]
fn output_is_the_same_twice() {
    let t = vxlan();
    let pcap = capture("ping-paths.pcap");
    let cases: &[&[&str]] = &[
        &["trace", "a1", "b1:8080", "-t", &t, "-o", "json"],
        &["trace", "a1", "b1", "-t", &t, "-v"],
        &["run", &t, "-o", "json", "--seed", "7"],
        &["run", &t, "-v"],
        &["replay", &pcap, "-t", &t, "-o", "json"],
        &["replay", &pcap, "-t", &t, "-v"],
        &["show", "n1", "neigh", "-t", &t],
        &["show", "n1", "link", "-j", "-t", &t],
    ];
    for c in cases {
        twice(c);
    }
}

/// The files of a folder by name.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let all = std::fs::read_dir(dir).expect("written files");
    all.map(|e| e.expect("an entry"))
        .map(|e| {
            (
                e.file_name().to_string_lossy().into_owned(),
                std::fs::read(e.path()).expect("a file"),
            )
        })
        .collect()
}

#[test]
fn written_captures_are_the_same_twice() {
    let folder = Folder::new();
    let (t, pcap) = (vxlan(), capture("ping-paths.pcap"));
    let write = |dir: &str, seed: &str| {
        let args = [
            "replay", &pcap, "-t", &t, "-w", dir, "--seed", seed, "-o", "json",
        ];
        (
            folder.podpath(&args).exits(1).out,
            files(&folder.path().join(dir)),
        )
    };
    let (a, b, other) = (write("a", "1"), write("b", "1"), write("c", "2"));
    assert!(a.1.contains_key("n1.flannel.1.pcapng"), "{:?}", a.1.keys());
    assert!(a == b, "the same seed wrote other bytes");
    // CNI plugins draw the names of veths.
    let names = |x: &BTreeMap<String, Vec<u8>>| -> Vec<String> {
        let drawn = |n: &String| {
            n.split_once(".veth")
                .map(|(node, _)| format!("{node}.veth*"))
        };
        x.keys()
            .map(|n| drawn(n).unwrap_or_else(|| n.clone()))
            .collect()
    };
    assert_eq!(names(&a.1), names(&other.1));
}

#[test]
fn another_seed_is_another_draw_with_the_same_answer() {
    let t = vxlan();
    let ask = |seed: &str| {
        let r = podpath(&[
            "trace", "a1", "b1:8080", "-t", &t, "-o", "json", "--seed", seed,
        ]);
        r.exits(0)
    };
    let (a, b) = (ask("1"), ask("4294967297"));
    assert_ne!(
        a.out, b.out,
        "ports and sequence numbers are drawn from the seed"
    );
    assert_eq!(a.json()["probe"]["hop"], b.json()["probe"]["hop"]);
    podpath(&["run", &t, "--seed", "99"]).exits(0);
}
