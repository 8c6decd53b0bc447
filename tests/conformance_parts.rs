//! The parts of the conformance runner, which judges everything else.
//!
//! The port of the recordings' decoder and normaliser equals the original on every recorded frame. The
//! judge of `tests/conformance` is only as good as this: the original (`oracle norm`) is run with python3
//! where it is at hand. Where it is not, the recordings' own one-line summaries still check the decoder.

#![allow(
    dead_code,
    missing_docs,
    reason = "shares the conformance runner's modules, of which it uses a part"
)]

#[path = "conformance/args.rs"]
mod args;
#[path = "conformance/compare.rs"]
mod compare;
#[path = "conformance/decode.rs"]
mod decode;
#[path = "conformance/norm.rs"]
mod norm;
#[path = "conformance/pcapng.rs"]
mod pcapng;
#[path = "conformance/ping.rs"]
mod ping;
#[path = "conformance/recordings.rs"]
mod recordings;
#[path = "conformance/scenario.rs"]
mod scenario;
#[path = "conformance/seed.rs"]
mod seed;
#[path = "conformance/sha256.rs"]
mod sha256;
#[path = "conformance/topo.rs"]
mod topo;

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
        let frames =
            scenario::load_frames(r, &trace).unwrap_or_else(|e| panic!("{}: {e}", r.label()));
        for (f, listed) in frames.iter().zip(&trace.frames) {
            assert_eq!(
                summary(&decode(&f.data, 0, f.l3)),
                listed.sum,
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

/// A frame of an ICMP echo request from 10.0.0.1 to 10.0.0.2 with this TTL and id.
fn echo(ttl: u8, id: u16) -> Vec<u8> {
    let mut f = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    f.extend([
        0x45, 0, 0, 28, 0, 1, 0, 0, ttl, 1, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 8, 0, 0, 0,
    ]);
    f.extend(id.to_be_bytes());
    f.extend([0, 1]);
    f
}

fn recorded(list: &[(&str, u8, u16)]) -> Vec<scenario::Recorded> {
    let one = |(i, (name, ttl, id)): (usize, &(&str, u8, u16))| scenario::Recorded {
        interface: (*name).to_owned(),
        dir: scenario::Dir::In,
        l3: false,
        t_ns: i as u64 * 1000,
        data: echo(*ttl, *id),
    };
    list.iter().enumerate().map(one).collect()
}

fn emulated(list: &[(&str, u8, u16)]) -> Vec<compare::Emulated> {
    let same = |r: scenario::Recorded| compare::Emulated {
        interface: r.interface,
        dir: r.dir,
        t_ns: r.t_ns,
        l3: r.l3,
        data: r.data,
    };
    recorded(list).into_iter().map(same).collect()
}

fn equal(a: &[(&str, u8, u16)], b: &[(&str, u8, u16)]) -> (usize, usize) {
    let rules = compare::Rules {
        arp: true,
        payload: true,
        fixed_ports: Vec::new(),
    };
    let t = compare::compare(&recorded(a), &emulated(b), &rules);
    assert_eq!(t.first.is_none(), t.compared == t.equal);
    (t.compared, t.equal)
}

#[test]
fn comparison_sees_every_kind_of_difference_and_no_other() {
    let a = [("n.x", 64, 7), ("n.y", 63, 7), ("n.x", 64, 8)];
    assert_eq!(equal(&a, &a), (3, 3));
    assert_eq!(equal(&a, &[]), (3, 0), "missing");
    assert_eq!(equal(&[], &a), (3, 0), "surplus");
    assert_eq!(
        equal(&a, &[a[0], ("n.y", 62, 7), a[2]]),
        (3, 2),
        "another TTL"
    );
    assert_eq!(
        equal(&a, &[a[0], a[2], a[1]]),
        (3, 3),
        "another interleaving of interfaces"
    );
    assert_eq!(
        equal(&a, &[("n.x", 64, 70), ("n.y", 63, 70), ("n.x", 64, 80)]),
        (3, 3),
        "other echo ids"
    );
    assert_eq!(
        equal(&a, &[("n.x", 64, 70), ("n.y", 63, 71), ("n.x", 64, 80)]).1,
        1,
        "ids that differ between hops"
    );
    let mut turned = emulated(&a);
    turned[0].dir = scenario::Dir::Out;
    let rules = compare::Rules {
        arp: true,
        payload: true,
        fixed_ports: Vec::new(),
    };
    assert_eq!(
        compare::compare(&recorded(&a), &turned, &rules).equal,
        2,
        "direction"
    );
}

#[test]
fn names_are_selected_by_part_glob_and_kind() {
    let parse =
        |s: &str| args::Args::parse(s.split_whitespace().map(str::to_owned)).expect("arguments");
    assert!(parse("").selects(Kind::Captures, "captures/raw-fragments"));
    assert!(parse("raw").selects(Kind::Captures, "captures/raw-fragments"));
    assert!(parse("raw-*").selects(Kind::Captures, "captures/raw-fragments"));
    assert!(!parse("raw").selects(Kind::Captures, "captures/hairpin-on"));
    assert!(!parse("fragments?").selects(Kind::Captures, "captures/raw-fragments"));
    assert!(!parse("--kind cni").selects(Kind::Captures, "captures/raw-fragments"));
    assert!(
        parse("--nocapture --test-threads 1 --kind=cni bridge")
            .selects(Kind::Cni, "cni/bridge-basic")
    );
    assert!(args::Args::parse(["--sparkle".to_owned()].into_iter()).is_err());
}

#[test]
fn caches_are_read_from_what_the_kernel_did_not_ask() {
    let text = r#"{"netns": {"n": {"role": "node"}, "h": {"role": "host"}},
        "links": [{"a": {"ns": "n", "dev": "e", "mac": "02:00:00:00:00:01", "addr": ["10.0.0.1/24"]},
                   "b": {"ns": "h", "dev": "e", "mac": "02:00:00:00:00:02", "addr": ["10.0.0.2/24"]}}]}"#;
    let s: scenario::Scenario = serde_json::from_str(text).expect("a scenario");
    let t = topo::Topo::new(&s, |_| None);
    let packet = scenario::Recorded {
        dir: scenario::Dir::Out,
        ..recorded(&[("n.e", 64, 1)]).remove(0)
    };
    let cached = seed::infer(&t, std::slice::from_ref(&packet));
    assert_eq!(cached.neigh.len(), 1);
    let mut arp = vec![255; 6];
    arp.extend([
        2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1,
    ]);
    arp.extend([0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
    let asked = scenario::Recorded {
        data: arp,
        ..packet.clone()
    };
    assert!(seed::infer(&t, &[asked, packet]).neigh.is_empty());
}

#[test]
fn a_ping_is_read_from_its_command_line_and_its_record() {
    let p = ping::parse("ping -c1 -W1 -n -s 4 -p 41 -m 5 10.70.0.1").expect("understood");
    assert_eq!(
        (p.dst.to_string().as_str(), p.mark, p.df, p.ttl),
        ("10.70.0.1", 5, true, None)
    );
    assert_eq!(p.payload, b"AAAA");
    assert_eq!(
        ping::parse("ping -6 -c1 -t1 -M dont fd00::1").map(|p| (p.ttl, p.df)),
        Ok((Some(1), false))
    );
    for refused in [
        "ping 10.0.0.1",
        "ping -c2 10.0.0.1",
        "ping -c1 -f 10.0.0.1",
        "ping -c1 somewhere",
        "ping -c1",
    ] {
        assert!(ping::parse(refused).is_err(), "{refused}");
    }
    let out = scenario::Recorded {
        dir: scenario::Dir::Out,
        ..recorded(&[("n.e", 64, 7)]).remove(0)
    };
    let p = ping::parse("ping -c1 10.0.0.2").expect("understood");
    let seen = ping::find(std::slice::from_ref(&out), "n", p.dst, 0).expect("the request");
    assert_eq!(p.with_recorded(seen).id_seq, 7 << 16 | 1);
    assert!(
        ping::find(&[out], "m", "10.0.0.2".parse().expect("an address"), 0).is_none(),
        "another namespace"
    );
}
