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

const SMALL: [&str; 8] = [
    "--flows",
    "64",
    "--repetitions",
    "1",
    "--ring",
    "1",
    "--verify",
    "16",
];

/// With a small scene, and as short as it can be where nobody says how many packets there are.
fn small<'a>(args: &[&'a str]) -> Vec<&'a str> {
    let short: &[&str] = match args.contains(&"--packets") {
        true => &[],
        false => &["--seconds", "0.001"],
    };
    [args, &SMALL, short].concat()
}

/// The scenarios of a JSON document, in order.
fn scenarios(args: &[&str]) -> Vec<Value> {
    let args = [&small(args)[..], &["-o", "json"]].concat();
    let (code, out, err) = bench(&args);
    assert_eq!(code, Some(0), "{err}");
    let mut doc: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(doc["version"], 1);
    serde_json::from_value(doc["scenarios"].take()).unwrap()
}

/// The first row of the only scenario.
fn row(args: &[&str]) -> Value {
    scenarios(args)[0]["rows"][0].take()
}

fn figure(row: &Value, name: &str) -> f64 {
    row[name]
        .as_f64()
        .unwrap_or_else(|| panic!("{name}: {row}"))
}

#[test]
fn every_path_is_carried_by_entries_that_are_what_walks_say() {
    let names = [
        "bridge",
        "route",
        "service",
        "service-vxlan",
        "service-ipip",
        "nodeport",
        "ipvs",
        "nftables",
        "v6",
    ];
    let all = scenarios(&names);
    assert_eq!(all.len(), names.len());
    for (section, name) in all.iter().zip(names) {
        let row = &section["rows"][0];
        assert_eq!(section["scenario"], name);
        assert_eq!(row["hit_percent"], 100.0, "{name}: {row}");
        for positive in [
            "verified",
            "sampled",
            "ns_per_packet",
            "times_limit",
            "rules_per_flow",
        ] {
            assert!(figure(row, positive) > 0.0, "{name}, {positive}: {row}");
        }
    }
}

/// What a flow set, a shape or a direction does to the frames does not do to the answers.
#[test]
fn flow_sets_shapes_and_directions_are_carried() {
    for scenario in ["bridge", "service", "service-vxlan", "v6"] {
        for more in [&["--flow-set", "ports"], &["--directions", "both"]] {
            let row = row(&[&[scenario], &more[..]].concat());
            assert_eq!(row["hit_percent"], 100.0, "{scenario} {more:?}: {row}");
            assert_eq!(row["flows"], 64);
        }
    }
    for scenario in ["route", "service", "service-vxlan", "nodeport", "v6"] {
        let row = row(&[scenario, "--odd", "10"]);
        // Every tenth time one with options or two fragments.
        let hits = figure(&row, "hit_percent");
        assert!((80.0..90.0).contains(&hits), "{scenario}: {row}");
        assert!(figure(&row, "verified") > 0.0, "{scenario}: {row}");
    }
}

#[test]
fn a_mix_has_new_flows_and_large_frames() {
    let row = row(&["mix", "--packets", "2000"]);
    let hits = figure(&row, "hit_percent");
    assert!((88.0..91.0).contains(&hits), "{row}");
    let bits = figure(&row, "gbit_s") * figure(&row, "ns_per_packet");
    // (7 * 64 + 4 * 594 + 1514) / 12 bytes, by lot and rounded; the new ones as long.
    assert!((250.0..470.0).contains(&(bits / 8.0)), "{row}");
}

#[test]
fn traffic_goes_on_while_endpoints_change() {
    let row = row(&["churn", "--packets", "4096", "--services", "16"]);
    assert!(
        figure(&row, "change_ms") > 0.0 && figure(&row, "recover_ms") > 0.0,
        "{row}"
    );
    // A change invalidates: some walks; and they compile again: not all.
    let hits = figure(&row, "hit_percent");
    assert!((50.0..99.9).contains(&hits), "{row}");
}

#[test]
fn a_capture_is_made_and_replayed() {
    let file = std::env::temp_dir().join(format!("podpath-replay-{}.pcap", std::process::id()));
    let name = file.to_str().unwrap();
    let made = row(&["replay", "--make", name, "--bytes", "300k"]);
    let again = row(&["replay", name]);
    for row in [&made, &again] {
        assert_eq!(row["arrived_percent"], 100.0, "{row}");
        assert_eq!(row["strangers"], 0);
        assert!(
            figure(row, "frames") > 3800.0 && figure(row, "sampled") > 0.0,
            "{row}"
        );
        assert!(figure(row, "hit_percent") > 90.0, "{row}");
    }
    let cut = std::fs::read(&file).unwrap();
    std::fs::write(&file, &cut[..cut.len() - 9]).unwrap();
    let (code, _, err) = bench(&["replay", name]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("packet 3"), "{err}");
    std::fs::remove_file(&file).unwrap();
}

/// kube-proxy's rules are asked one by one in iptables mode, and found by a map in nftables mode.
#[test]
fn rules_grow_with_services_as_on_linux() {
    let few_and_many = |scenario| {
        let all = scenarios(&[scenario, "--services", "10,110"]);
        [0, 1].map(|n| figure(&all[0]["rows"][n], "rules_per_flow"))
    };
    let [few, many] = few_and_many("service");
    // A hundred more rules of KUBE-SERVICES, one half of them before the flow's own.
    assert!((many - few - 50.0).abs() < 12.0, "{few} {many}");
    let [few, many] = few_and_many("nftables");
    assert!((many - few).abs() < 1.0, "{few} {many}");
    let [few, many] = few_and_many("ipvs");
    assert!((many - few).abs() < 1.0, "{few} {many}");
}

#[test]
fn a_plot_shows_every_row() {
    let file = std::env::temp_dir().join(format!("podpath-plot-{}.svg", std::process::id()));
    let name = file.to_str().unwrap();
    let args = ["service", "connect", "--plot", name, "--services", "2,20"];
    let (code, _, err) = bench(&small(&args));
    assert_eq!(code, Some(0), "{err}");
    let svg = std::fs::read_to_string(&file).unwrap();
    for words in [
        "against flows, 2 Services",
        "service: ",
        "connect: ",
        "limit: ",
        "</svg>",
    ] {
        assert!(svg.contains(words), "{words}: {svg}");
    }
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn new_flows_and_the_reasons_of_walks_are_told() {
    let args = small(&["connect", "service", "--why-slow"]);
    let (code, out, err) = bench(&args);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("connect  first frames of flows"), "{out}");
    assert!(
        out.contains("walks not compiled: the connection was new"),
        "{out}"
    );
}

/// A terminal of 120 columns shows a table whole; JSON and `--wide` have what it leaves out.
#[test]
fn tables_are_narrow_and_wide_if_asked() {
    let names = ["service", "nodeport", "mix", "connect", "churn"];
    let more = ["--services", "200", "--packets", "4096"];
    let args = small(&[&names[..], &more].concat());
    let width = |text: &str| text.lines().map(|l| l.chars().count()).max().unwrap();
    let (code, narrow, err) = bench(&args);
    assert_eq!(code, Some(0), "{err}");
    assert!(width(&narrow) <= 120, "{narrow}");
    assert!(
        narrow.contains("--wide: ns median, Gbit/s, sampled"),
        "{narrow}"
    );
    let (_, wide, _) = bench(&[&args[..], &["--wide"]].concat());
    assert!(width(&wide) > 120 && !wide.contains("--wide"), "{wide}");
    for heading in ["ns/packet", "times limit", "hit %", "flows/s"] {
        assert!(
            narrow.contains(heading) && wide.contains(heading),
            "{heading}: {narrow}"
        );
    }
}

#[test]
fn a_limit_without_the_other_says_so() {
    let out = Command::new(env!("CARGO_BIN_EXE_podpath"))
        .args(["bench", "limit"])
        .env("PODPATH_SHARED", "/nowhere")
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&out.stderr);
    assert_eq!(
        (out.status.code(), &out.stdout[..]),
        (Some(2), &b""[..]),
        "{err}"
    );
    assert!(err.contains("/nowhere/limit is not there"), "{err}");
}

#[test]
fn wrong_options_are_refused() {
    for args in [
        &["fast"][..],
        &["service", "--size", "20"],
        &["service", "--flows", "0"],
        &["service", "--seconds=-1"],
        &["service", "--seconds", "1", "--packets", "7"],
        &["replay"],
        &["service", "capture.pcap"],
        &["service", "--make", "x.pcap"],
        &["replay", "/nowhere/capture.pcap", "--flows", "64"],
        &["replay", "--make", "x.pcap", "--bytes", "1T"],
        &[],
    ] {
        let (code, out, err) = bench(args);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{args:?}");
        let first = err.lines().next().unwrap_or_default();
        assert!(first.contains("error: "), "{args:?}: {err}");
    }
}

#[test]
fn threads_are_measured_next_to_processes() {
    let args: Vec<&str> = ["service", "nodeport", "--threads", "2"]
        .iter()
        .chain(&SMALL)
        .chain(&["-o", "json"])
        .copied()
        .collect();
    let (code, out, err) = bench(&args);
    assert_eq!(code, Some(0), "{err}");
    let all: Value = serde_json::from_str(&out).unwrap();
    let sections = all["scenarios"].as_array().unwrap();
    assert_eq!(sections.len(), 2);
    for (section, handed) in sections.iter().zip([true, false]) {
        // Two workers and both together, for their own frames and for those that come by their hash.
        let rows = section["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 6, "{rows:?}");
        for (row, frames) in rows
            .iter()
            .zip(["own", "own", "own", "hash", "hash", "hash"])
        {
            assert_eq!(row["frames"], frames);
            assert_eq!(row["hit_percent"], 100.0, "{row}");
            assert!(row["of_processes"].as_f64() > Some(0.0), "{row}");
            // A Service's answers are handed over; the port of a masqueraded flow is chosen so that they are not.
            let crossing = handed && frames == "hash";
            assert_eq!(
                row["handed_percent"].as_f64() > Some(5.0),
                crossing,
                "{row}"
            );
        }
    }
    for scenario in ["connect", "limit"] {
        let (code, _, err) = bench(&[scenario, "--threads", "2"]);
        assert_eq!(code, Some(2));
        assert!(err.contains("--threads"), "{err}");
    }
}
