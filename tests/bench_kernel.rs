//! `podpath bench kernel`: says what it lacks where the kernel cannot be measured; leaves nothing behind where it can.
//!
//! The run itself wants root and the oracle: `cargo test --test bench_kernel -- --ignored`.

#![allow(missing_docs, reason = "a test binary")]

use serde_json::Value;
use std::process::Command;

fn bench() -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_podpath"));
    c.args(["bench", "kernel", "--flows", "64", "--seconds", "0.01"]);
    c.args(["--repetitions", "1", "--ring", "1", "-o", "json"]);
    c
}

#[test]
fn what_it_lacks_is_said() {
    let out = bench().env("PODPATH_SHARED", "/nowhere").output().unwrap();
    let err = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{err}");
    assert!(out.stdout.is_empty());
    assert!(
        err.contains("the kernel cannot be measured here: "),
        "{err}"
    );
    assert!(
        err.contains("oracle/bench/pps.c") && err.contains("PODPATH_SHARED"),
        "{err}"
    );
}

#[test]
#[ignore = "wants root, the oracle and a minute"]
fn both_sides_are_measured_and_nothing_is_left() {
    let mut child = bench()
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let tag = format!("pp-bench{}-", child.id());
    let mut text = String::new();
    std::io::Read::read_to_string(child.stdout.as_mut().unwrap(), &mut text).unwrap();
    assert!(child.wait().unwrap().success());
    let doc: Value = serde_json::from_str(&text).unwrap();
    let sections = doc["scenarios"].as_array().unwrap();
    for (section, column) in sections.iter().zip(["kernel_ns", "kernel_flows_s"]) {
        let rows = section["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 6);
        for row in rows {
            assert!(
                row[column].as_f64() > Some(0.0) && row["times_kernel"].as_f64() > Some(0.0),
                "{row}"
            );
        }
    }
    let left = Command::new("ip").args(["netns", "list"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&left.stdout).contains(&tag));
}
