//! `podpath bench dns` says what the issue wants: a cached name is answered from kept octets, at least four times as
//! fast as hickory-proto decodes the query and encodes the reply.
//!
//! The generator and the loop are the benchmark's. In debug only the answers count, which it looks at itself; the
//! ratio in release: `cargo test --release --test dns_speed -- --nocapture`.

use std::process::Command;

#[test]
fn a_hit_is_not_encoded_again() {
    let out = Command::new(env!("CARGO_BIN_EXE_podpath"))
        .args(["bench", "dns", "-o", "json"])
        .output()
        .expect("it runs");
    let (text, said) = (
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr),
    );
    assert!(out.status.success(), "{said}");
    println!("{text}");
    let doc: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let rows = doc["scenarios"][0]["rows"].as_array().expect("rows");
    let row = |question: &str, answered: &str| {
        let is = |r: &&serde_json::Value| r["question"] == question && r["answered"] == answered;
        let found = rows.iter().find(is);
        found.unwrap_or_else(|| panic!("no row {question}, {answered}"))
    };
    for question in ["A", "AAAA (NODATA)", "SRV", "NXDOMAIN"] {
        let ratio = row(question, "cached")["times_hickory_alone"].as_f64();
        let ratio = ratio.expect("a ratio");
        assert!(
            cfg!(debug_assertions) || ratio >= 4.0,
            "{question}: {ratio}"
        );
    }
    for (question, answered) in [
        ("A", "hickory-proto alone"),
        ("A", "by the cache plugin"),
        ("A", "no cache"),
        ("A of a pod", "never asked before"),
    ] {
        assert!(row(question, answered)["answers_per_s"].as_f64() > Some(100.0));
    }
}
