//! `podpath bench` as a person calls it: it ends, its figures are there, and nothing was walked that should not be.
//!
//! Times mean nothing here; that every frame of an established flow is carried by an entry, and that entries are
//! what walks say, does.

#![allow(missing_docs, reason = "a test binary")]

use serde_json::Value;
use std::process::Command;

fn bench(args: &[&str]) -> (Option<i32>, String, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_podpath"))
        .arg("bench")
        .args(args)
        .output()
        .unwrap();
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    (out.status.code(), text(&out.stdout), text(&out.stderr))
}

const SMALL: [&str; 10] = [
    "--flows",
    "64",
    "--seconds",
    "0.001",
    "--repetitions",
    "1",
    "--ring",
    "1",
    "--verify",
    "16",
];

#[test]
fn every_path_is_carried_by_entries_that_are_what_walks_say() {
    let scenarios = [
        "bridge",
        "route",
        "service",
        "service-vxlan",
        "service-ipip",
    ];
    let args: Vec<&str> = scenarios
        .iter()
        .chain(&SMALL)
        .chain(&["-o", "json"])
        .copied()
        .collect();
    let (code, out, err) = bench(&args);
    assert_eq!(code, Some(0), "{err}");
    let sections: Vec<Value> = serde_json::from_str(&out).unwrap();
    assert_eq!(sections.len(), scenarios.len());
    for (section, name) in sections.iter().zip(scenarios) {
        let row = &section["rows"][0];
        assert_eq!(section["scenario"], name);
        assert_eq!(row["hit_percent"], 100.0, "{name}: {row}");
        assert!(row["verified"].as_u64() > Some(0), "{name}: {row}");
        assert!(
            row["ns_per_packet"].as_f64() > Some(0.0) && row["times_limit"].as_f64() > Some(0.0)
        );
    }
}

#[test]
fn new_flows_and_the_reasons_of_walks_are_told() {
    let args: Vec<&str> = ["connect", "service", "--why-slow"]
        .iter()
        .chain(&SMALL)
        .copied()
        .collect();
    let (code, out, err) = bench(&args);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("connect  first frames of flows"), "{out}");
    assert!(
        out.contains("walks not compiled: the connection was new"),
        "{out}"
    );
}

#[test]
fn wrong_options_are_refused() {
    for args in [
        &["fast"][..],
        &["service", "--size", "20"],
        &["service", "--flows", "0"],
        &["service", "--seconds=-1"],
        &[],
    ] {
        let (code, out, err) = bench(args);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{args:?}");
        assert!(err.starts_with("error: "), "{args:?}: {err}");
    }
}
