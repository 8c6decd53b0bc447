//! The port of the recordings' decoder and normaliser equals the original on every recorded frame.
//!
//! The judge of `tests/conformance` is only as good as this: the original (`oracle norm`) is run with python3 where
//! it is at hand. Where it is not, the recordings' own one-line summaries still check the decoder.

#![allow(
    dead_code,
    missing_docs,
    reason = "shares the conformance runner's modules, of which it uses a part"
)]

#[path = "conformance/decode.rs"]
mod decode;
#[path = "conformance/norm.rs"]
mod norm;
#[path = "conformance/pcapng.rs"]
mod pcapng;
#[path = "conformance/recordings.rs"]
mod recordings;
#[path = "conformance/scenario.rs"]
mod scenario;
#[path = "conformance/sha256.rs"]
mod sha256;

use decode::{Layers, decode, summary};
use norm::Normaliser;
use recordings::{Kind, Recordings};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Our rendering of `oracle norm`: interfaces sorted, frames in order.
fn ours(frames: &[scenario::Recorded], fixed: &[u16], arp: bool, payload: bool) -> Vec<Value> {
    let mut nz = Normaliser::new(fixed, payload);
    let mut by_if: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for f in frames {
        let d = decode(&f.data, 0, f.l3);
        if d.contains_key("arp") && !arp {
            continue;
        }
        let mut o: Layers = nz.norm(&d);
        o.insert("if".into(), json!(f.interface));
        o.insert(
            "dir".into(),
            json!(if f.dir == scenario::Dir::In {
                "in"
            } else {
                "out"
            }),
        );
        by_if
            .entry(&f.interface)
            .or_default()
            .push(Value::Object(o));
    }
    by_if.into_values().flatten().collect()
}

fn theirs(tool: &Path, trace: &Path, flags: &[&str]) -> Option<Vec<Value>> {
    let out = Command::new("python3")
        .arg(tool)
        .arg("norm")
        .arg(trace)
        .args(flags)
        .output()
        .ok()?;
    assert!(
        out.status.success(),
        "oracle norm {}: {}",
        trace.display(),
        String::from_utf8_lossy(&out.stderr)
    );
    let text = String::from_utf8(out.stdout).expect("oracle norm prints UTF-8");
    Some(
        text.lines()
            .map(|l| serde_json::from_str(l).expect("a JSON object a line"))
            .collect(),
    )
}

#[test]
fn sha256_of_the_standard_examples() {
    assert_eq!(sha256::short(b"abc"), "ba7816bf8f01");
    assert_eq!(sha256::short(b""), "e3b0c44298fc");
    assert_eq!(
        sha256::short(b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
        "248d6a61d206"
    );
}

#[test]
fn one_line_form_equals_the_recordings() {
    let Ok(all) = Recordings::find(&root(), None) else {
        return eprintln!(
            "SKIPPED: no recordings at all beside this package or in tests/recordings"
        );
    };
    let mut seen = 0;
    for r in all.all().iter().filter(|r| r.kind == Kind::Captures) {
        let trace = scenario::load_trace(r).unwrap_or_else(|e| panic!("{}: {e}", r.label()));
        scenario::load_scenario(r).unwrap_or_else(|e| panic!("{}: {e}", r.label()));
        for f in scenario::load_frames(r, &trace).unwrap_or_else(|e| panic!("{}: {e}", r.label())) {
            assert_eq!(
                summary(&decode(&f.data, 0, f.l3)),
                f.sum,
                "{} {}",
                r.label(),
                f.interface
            );
            seen += 1;
        }
    }
    assert!(seen > 0, "recordings without a frame");
}

#[test]
fn normalised_form_equals_the_original() {
    let oracle = root().join("../shared/oracle");
    let tool = oracle.join("oracle");
    if !tool.is_file() || Command::new("python3").arg("-V").output().is_err() {
        return eprintln!(
            "SKIPPED: needs python3 and ../shared/oracle/oracle; the port was NOT compared here"
        );
    }
    let all = Recordings::find(&root(), None).expect("the folder is there");
    let mut compared = 0;
    for r in all
        .all()
        .iter()
        .filter(|r| r.kind == Kind::Captures && !r.source.own)
    {
        let trace = scenario::load_trace(r).expect("trace.json");
        let frames = scenario::load_frames(r, &trace).expect("frames");
        let path = oracle.join("captures").join(&r.name).join("trace.json");
        for flags in [&[][..], &["--no-arp", "--no-payload"][..]] {
            let want = theirs(&tool, &path, flags).expect("python3 runs");
            let got = ours(
                &frames,
                &trace.fixed_ports,
                flags.is_empty(),
                flags.is_empty(),
            );
            assert_eq!(got.len(), want.len(), "{} {flags:?}", r.label());
            for (n, (g, w)) in got.iter().zip(&want).enumerate() {
                assert_eq!(g, w, "{} {flags:?} line {}", r.label(), n + 1);
            }
            compared += want.len();
        }
    }
    assert!(compared > 0, "nothing was compared");
}
