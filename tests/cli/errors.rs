//! What cannot be run: exit code 2 and one message that says where, what was expected and what to do.

use crate::start::{Folder, Run, capture, podpath, vxlan};

/// One message, exit code 2, nothing on standard output.
#[track_caller]
fn refused(run: Run) -> String {
    let run = run.exits(2);
    let errors = run.err.lines().filter(|l| l.contains("error: ")).count();
    assert_eq!(errors, 1, "one message:\n{}", run.err);
    assert_eq!(run.out, "", "podpath {}", run.args);
    run.said()
}

/// Each text as a manifest of its own, run.
fn manifests(cases: &[(&str, &str)]) -> String {
    let folder = Folder::new();
    let each = cases.iter().map(|(name, text)| {
        folder.file(name, text);
        refused(folder.podpath(&["run", "-f", name]))
    });
    each.collect()
}

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n  nodeName: n1\n";
const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n";

#[test]
fn manifests_that_cannot_be_read() {
    insta::assert_snapshot!(manifests(&[
        (
            "indented-too-much.yaml",
            &format!("{POD}    hostNetwork: true\n")
        ),
        (
            "indented-too-little.yaml",
            &format!("{POD}  containers:\n  - name: web\n   image: web\n")
        ),
        (
            "value-of-the-wrong-kind.yaml",
            &format!("{POD}  hostNetwork: [1]\n")
        ),
        ("kind.yaml", &POD.replace("Pod", "Podd")),
        ("cut.json", "{\"apiVersion\": \"v1\", \"kind\": \"Po"),
        ("prose.yaml", "hello world\n"),
        ("empty.yaml", ""),
        ("loop.yaml", &format!("{MAP}data: &d\n  x: *d\n")),
        ("bomb.yaml", &bomb()),
    ]));
}

/// A list of ten, ten times over, seven times: ten million values in a few lines.
fn bomb() -> String {
    let mut text = format!("{MAP}levels:\n  l0: &l0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..7 {
        let below = vec![format!("*l{}", i - 1); 10].join(", ");
        text += &format!("  l{i}: &l{i} [{below}]\n");
    }
    text
}

#[test]
fn not_utf_8() {
    let folder = Folder::new();
    folder.file("latin1.yaml", b"apiVersion: v1\nkind: Pod\n# \xe9t\xe9\n");
    insta::assert_snapshot!(refused(folder.podpath(&["run", "-f", "latin1.yaml"])));
}

#[test]
fn manifests_that_do_not_fit_together() {
    let whole = std::fs::read_to_string(format!("{}/manifests.yaml", vxlan())).expect("manifests");
    let with = |more: &str| format!("{whole}---\n{more}");
    let probe = "apiVersion: podpath.dev/v1alpha1\nkind: Probe\nmetadata: {name: p}\n";
    insta::assert_snapshot!(manifests(&[
        (
            "duplicate.yaml",
            &with("apiVersion: v1\nkind: Node\nmetadata:\n  name: n1\n")
        ),
        (
            "probe-of-nobody.yaml",
            &with(&format!(
                "{probe}spec:\n  from: default/a1\n  to: default/a3:80\n"
            ))
        ),
        (
            "outcome.yaml",
            &with(&format!(
                "{probe}spec:\n  from: default/a1\n  to: default/a2\n  protocol: icmp\n  expect: {{outcome: okay}}\n"
            ))
        ),
    ]));
}

#[test]
fn files_that_are_not_there() {
    let folder = Folder::new();
    folder
        .file("empty/README.md", "nothing\n")
        .file("deep/down/pod.yaml", POD);
    let cases: &[&[&str]] = &[
        &["run"],
        &["run", "nope"],
        &["run", "empty"],
        &["run", "deep"],
        &["run", "-f", "nope.yaml"],
        &["show", "n1", "route", "-t", "nope"],
        &["rn"],
        &["frobnicate"],
        &["some/where"],
    ];
    let said: String = cases.iter().map(|c| refused(folder.podpath(c))).collect();
    insta::assert_snapshot!(said);
}

#[test]
fn captures_that_are_none() {
    let folder = Folder::new();
    let whole = std::fs::read(capture("ping-paths.pcap")).expect("capture");
    folder
        .file("text.pcap", "hello world\n")
        .file("empty.pcap", "")
        .file("cut-in-its-header.pcap", &whole[..10])
        .file("folder/file", "");
    let said: String = [
        "text.pcap",
        "empty.pcap",
        "cut-in-its-header.pcap",
        "folder",
        "nope.pcap",
    ]
    .iter()
    .map(|f| refused(folder.podpath(&["replay", f, "-t", &vxlan()])))
    .collect();
    insta::assert_snapshot!(said);
}

/// Everything before the cut is replayed as it is of the whole file; the finding says the byte.
#[test]
fn cut_captures() {
    let folder = Folder::new();
    let mut said = String::new();
    for (name, bytes, packets) in [
        ("ping-paths.pcap", 1000, 11),
        ("pod-to-pod-tcp.pcapng", 3000, 22),
    ] {
        let whole = std::fs::read(capture(name)).expect("capture");
        folder.file(name, &whole[..bytes]);
        let cut = folder
            .podpath(&["replay", name, "-t", &vxlan(), "-o", "json"])
            .exits(2);
        let json = cut.json();
        let got = json["packets"].as_array().expect("packets");
        assert_eq!(got.len(), packets);
        let n = packets.to_string();
        let first = podpath(&[
            "replay",
            &capture(name),
            "-t",
            &vxlan(),
            "-c",
            &n,
            "-o",
            "json",
        ]);
        assert_eq!(first.json(), json, "{name}: the packets before the cut");
        assert_eq!(cut.err.matches("error: ").count(), 1, "{}", cut.err);
        said += &cut.said();
    }
    insta::assert_snapshot!(said);
}

#[test]
fn names_that_are_not_there() {
    let t = vxlan();
    let (pcap, pcapng) = (capture("ping-paths.pcap"), capture("vxlan-outer.pcapng"));
    let cases: &[&[&str]] = &[
        &["trace", "a1", "a9", "-t", &t],
        &["trace", "a1", "elsewhere/a1", "-t", &t],
        &["trace", "203.0.113.1", "a1", "-t", &t],
        &["trace", "a1", "b1:99999", "-t", &t],
        &["trace", "a1", "b1:80", "-p", "icmp", "-t", &t],
        &["trace", "a1", "B_1", "-t", &t],
        &["trace", "a1", "b1", "-6", "-t", &t],
        &["show", "n3", "route", "-t", &t],
        &["show", "n1", "route", "--table", "x", "-t", &t],
        &["run", "-t", &t, "--probe", "zzz"],
        &["replay", &pcap, "-t", &t, "--at", "n1"],
        &["replay", &pcap, "-t", &t, "--at", "n9/eth0"],
        &["replay", &pcap, "-t", &t, "--at", "n1/eth9"],
        &["replay", &pcap, "-t", &t, "--map", "x=n1/eth0"],
        &["replay", &pcapng, "-t", &t, "--map", "n1.eth0"],
        &["replay", &pcapng, "-t", &t, "--map", "eth0=n1/eth0"],
        &["replay", &pcap, "-t", &t, "-w", "file/out"],
    ];
    let folder = Folder::new();
    folder.file("file", "");
    let said: String = cases.iter().map(|c| refused(folder.podpath(c))).collect();
    insta::assert_snapshot!(said);
}

#[test]
fn flags() {
    let cases: &[&[&str]] = &[
        &["--nope"],
        &["run", "--sed", "1"],
        &["run", "--seed", "x"],
        &["trace", "a"],
        &["trace", "a", "b", "--timeout", "5x"],
        &["trace", "a", "b", "--timeout", "0s"],
        &["trace", "a", "b", "-c", "0"],
        &["trace", "a", "b", "--ttl", "0"],
        &["trace", "a", "b", "--size", "70000"],
        &["trace", "a", "b", "-4", "-6"],
        &["trace", "a", "b", "-o", "yaml"],
        &["show", "n1", "routes"],
        &["replay", "x", "--at", "n1/eth0", "--map", "a=n1/eth0"],
        &["completions", "csh"],
    ];
    let said: String = cases.iter().map(|c| refused(podpath(c))).collect();
    insta::assert_snapshot!(said);
}
