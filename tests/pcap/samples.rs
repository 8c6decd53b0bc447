//! The captures under pcaps/: each reads cleanly, is what its page says and makes Ethernet frames.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use podpath::replay::pcap::link::to_ethernet;
use podpath::replay::pcap::{Capture, Direction, read_all};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps")
}

fn read(name: &str) -> Capture {
    let bytes = fs::read(folder().join(name)).unwrap();
    let (capture, findings) = read_all(name, &bytes[..]);
    assert_eq!(findings, [], "{name}");
    capture
}

/// The captures and their pages, in the order of their names.
fn samples() -> BTreeMap<String, String> {
    let mut samples = BTreeMap::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|e| e == "pcap" || e == "pcapng")
        {
            let page = fs::read_to_string(path.with_extension("md")).unwrap_or_default();
            samples.insert(
                path.file_name().unwrap().to_string_lossy().into_owned(),
                page,
            );
        }
    }
    samples
}

#[test]
fn every_capture_is_what_its_page_says() {
    let samples = samples();
    assert!(samples.len() >= 6);
    for (name, page) in samples {
        let said = |key: &str| {
            let start = format!("- {key}: ");
            let line = page
                .lines()
                .find_map(|line| line.strip_prefix(start.as_str()));
            line.unwrap_or_else(|| panic!("the page of {name} does not say its {key}"))
                .to_owned()
        };
        assert!(
            fs::metadata(folder().join(&name)).unwrap().len() < 60_000,
            "{name}"
        );
        for heading in [
            &format!("# {name}"),
            "## Origin",
            "## What it shows",
            "## Expected",
        ] {
            assert!(
                page.lines().any(|line| line == heading),
                "{name}: no {heading:?}"
            );
        }
        let capture = read(&name);
        assert_eq!(capture.records.len().to_string(), said("packets"), "{name}");
        let [interface] = &capture.interfaces[..] else {
            panic!("{name}: one interface")
        };
        assert_eq!(interface.link.to_string(), said("link"), "{name}");
        assert_eq!(
            interface.name.as_deref().unwrap_or("none"),
            said("interface"),
            "{name}"
        );
        for record in &capture.records {
            let got = to_ethernet(interface.link, &record.data, record.orig_len).unwrap();
            assert!(
                got.frame.len() >= 42 && got.orig_len >= 42,
                "{name} #{}",
                record.number
            );
        }
    }
}

#[test]
fn cooked_frames_are_the_frames_less_their_destination() {
    let capture = read("dns-sll2.pcap");
    let query = &capture.records[2];
    let got = to_ethernet(capture.interfaces[0].link, &query.data, query.orig_len).unwrap();
    let header = [0, 0, 0, 0, 0, 0, 0x0a, 0x58, 0x0a, 0xf4, 2, 1, 8, 0, 0x45];
    assert_eq!(got.frame[..15], header);
    assert_eq!(
        (got.direction, got.ifindex, got.orig_len),
        (Some(Direction::In), Some(2), 112)
    );
    let answer = &capture.records[3];
    let got = to_ethernet(capture.interfaces[0].link, &answer.data, answer.orig_len).unwrap();
    assert_eq!((got.direction, got.orig_len), (Some(Direction::Out), 116));
}

#[test]
fn times_are_those_of_the_recording_to_the_formats_resolution() {
    let since_first = |name: &str, number: usize| {
        let records = read(name).records;
        records[number - 1].time_ns.unwrap() - records[0].time_ns.unwrap()
    };
    assert_eq!(since_first("mtu-mismatch-ns-be.pcap", 7), 4_239_237);
    assert_eq!(since_first("vxlan-outer.pcapng", 12), 15_462_029);
    assert_eq!(since_first("ping-paths.pcap", 20) % 1_000, 0);
}

#[test]
fn the_cut_ones_say_so() {
    let capture = read("vxlan-snaplen-96.pcapng");
    assert_eq!(capture.interfaces[0].snaplen, 96);
    let full: Vec<_> = capture
        .records
        .iter()
        .filter(|r| r.orig_len == 1_514)
        .collect();
    assert!(full.len() > 10 && full.iter().all(|r| r.data.len() == 96));
    assert_eq!(capture.records[1].data.len(), 42);
}
