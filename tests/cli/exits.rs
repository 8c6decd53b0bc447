//! Exit codes 0, 1 and 2 of what runs, and a reader that goes away.

use crate::start::{Folder, capture, command, podpath, vxlan};
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

/// The two-node cluster with one probe of our own.
fn cluster_with(expect: &str) -> Folder {
    let folder = Folder::new();
    let manifests =
        std::fs::read_to_string(format!("{}/manifests.yaml", vxlan())).expect("manifests");
    folder.file("cluster/manifests.yaml", manifests).file(
        "cluster/probe.yaml",
        format!(
            "apiVersion: podpath.dev/v1alpha1\nkind: Probe\nmetadata: {{name: ping}}\nspec:\n  from: default/a1\n  \
             to: default/b1\n  protocol: icmp\n{expect}"
        ),
    );
    folder
}

#[test]
fn run() {
    let met = cluster_with("  expect: {outcome: ok}\n");
    let said = met.podpath(&["run", "cluster"]).exits(0).out;
    assert!(said.contains("✔ ping") && said.contains("1 of 1"), "{said}");
    assert_eq!(
        met.podpath(&["cluster"]).exits(0).out,
        said,
        "`run` may be left out"
    );
    assert_eq!(met.podpath(&["run", "-t", "cluster"]).exits(0).out, said);
    assert_eq!(met.podpath(&["run", "-f", "cluster"]).exits(0).out, said);

    let unmet = cluster_with("  expect: {outcome: refused}\n");
    let said = unmet.podpath(&["run", "cluster"]).exits(1).out;
    assert!(
        said.contains("✘ ping") && said.contains("expected refused, found ok"),
        "{said}"
    );
    assert!(
        said.contains("flannel.1"),
        "an unmet expectation shows the way:\n{said}"
    );

    let unasked = cluster_with("");
    let said = unasked.podpath(&["run", "cluster"]).exits(0).out;
    assert!(said.contains("· ping"), "{said}");

    let wrong = cluster_with("  expect: {outcome: fine}\n");
    assert_eq!(wrong.podpath(&["run", "cluster"]).exits(2).out, "");
}

#[test]
fn standard_input_is_a_manifest() {
    let all = ["manifests.yaml", "podpath.yaml"].map(|f| {
        std::fs::read_to_string(format!("{}/{f}", vxlan())).expect("a file of the topology")
    });
    let folder = Folder::new();
    folder.file("all.yaml", all.join("---\n"));
    let mut c = command(&["trace", "a1", "b1:8080", "-f", "-"]);
    c.stdin(std::fs::File::open(folder.path().join("all.yaml")).expect("the file"));
    let o = c.output().expect("podpath");
    assert_eq!(
        o.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&o.stderr)
    );
}

#[test]
fn trace() {
    let t = vxlan();
    let ok = podpath(&["trace", "a1", "b1:8080", "-t", &t]).exits(0);
    assert!(ok.out.contains("ok after "), "{}", ok.out);
    let refused = podpath(&["trace", "a1", "b1:81", "-t", &t]).exits(1);
    assert!(refused.out.contains("refused after "), "{}", refused.out);
    let nowhere = podpath(&["trace", "a1", "10.244.2.77", "-t", &t, "--timeout", "5s"]).exits(1);
    assert!(nowhere.out.contains("no-route after 3"), "{}", nowhere.out);
    podpath(&["trace", "a1", "b1", "-t", "nope"]).exits(2);
}

#[test]
fn replay() {
    let (t, pcap) = (vxlan(), capture("ping-paths.pcap"));
    let first = podpath(&["replay", &pcap, "-t", &t, "-c", "12"]);
    assert!(first.out.contains("12 packets: "), "{}", first.out);
    assert!(
        !first.out.contains('✘'),
        "the first pings all arrive:\n{}",
        first.out
    );
    first.exits(0);
    let all = podpath(&["replay", &pcap, "-t", &t]).exits(1);
    assert!(
        all.out
            .contains("rejected by n1: TTL expired; answered with"),
        "{}",
        all.out
    );
    podpath(&["replay", "nope", "-t", &t]).exits(2);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let (t, pcap) = (vxlan(), capture("ping-paths.pcap"));
    let long: &[&[&str]] = &[
        &["show", "n1", "route", "--table", "all", "-t", &t],
        &["replay", &pcap, "-t", &t, "-o", "json"],
        &["run", &t, "-v"],
        &["completions", "bash"],
        &["man"],
    ];
    for (args, lines) in long.iter().flat_map(|a| [(a, 0), (a, 1)]) {
        let mut child = command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("podpath");
        let mut out = BufReader::with_capacity(1, child.stdout.take().expect("a pipe"));
        for _ in 0..lines {
            let mut line = String::new();
            out.read_line(&mut line).expect("a line");
            assert!(!line.is_empty(), "{args:?}");
        }
        drop(out);
        let mut err = String::new();
        let mut pipe = child.stderr.take().expect("a pipe");
        pipe.read_to_string(&mut err).expect("UTF-8");
        let code = child.wait().expect("an end").code();
        assert!(err.is_empty(), "{args:?} after {lines} lines said:\n{err}");
        assert_eq!(code, Some(0), "{args:?} after {lines} lines");
    }
}

#[test]
fn a_closed_standard_error_is_no_panic() {
    let mut child = command(&["run", "nope"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("podpath");
    drop(child.stderr.take());
    assert_eq!(child.wait().expect("an end").code(), Some(2));
}
