//! Files that are cut, damaged or no captures at all: everything before is delivered, then one finding, never
//! a panic.

use std::io::{self, Read};

use podpath::base::{Finding, Severity};
use podpath::replay::pcap::link::to_ethernet;
use podpath::replay::pcap::{Capture, CaptureReader, OwnedRecord, read_all};
use proptest::prelude::*;

use crate::build::*;
use crate::round_trip::write_ng;

fn small_ng(big: bool) -> File {
    File::new(big)
        .section(big)
        .interface(1, 0, &[(NAME, b"eth0")])
        .packet(0, 1, b"abcde", 5, &[(COMMENT, b"first")])
        .block(5, b"statistics")
        .packet(0, 2, b"fg", 90, &[])
        .simple_packet(3, b"hij")
        .section(!big)
        .interface(113, 0, &[])
        .packet(0, 3, b"klmnopq", 7, &[(FLAGS, &[0, 0, 0, 2])])
}

fn small_pcap(big: bool) -> File {
    File::pcap(big, true, 96, 1)
        .pcap_packet(1, 2, b"abc", 3)
        .pcap_packet(3, 4, b"", 0)
        .pcap_packet(5, 6, b"defgh", 99)
}

fn errors(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(|f| f.message.clone()).collect()
}

/// Cuts a clean file after every byte of it.
fn cut_everywhere(file: &File) {
    let (whole, findings) = read_all("t", &file.bytes[..]);
    assert_eq!(findings, []);
    let mut silent = 0;
    for len in 0..file.bytes.len() {
        let (part, findings) = read_all("t", &file.bytes[..len]);
        assert_eq!(
            part.records,
            whole.records[..part.records.len()],
            "cut at {len}"
        );
        match &findings[..] {
            [] => silent += 1,
            [one] => {
                assert_eq!(one.severity, Severity::Error);
                let text = one.to_string();
                assert!(text.contains("byte") || text.contains("empty"), "{text}");
                assert!(text.contains("expected"), "{text}");
            }
            more => panic!("cut at {len}: {more:?}"),
        }
        let (next, _) = read_all("t", &file.bytes[..len + 1]);
        assert!(next.records.len() >= part.records.len());
    }
    // Silent only where a block ends and the file might as well.
    let blocks = if whole.interfaces[0].name.is_some() {
        8
    } else {
        3
    };
    assert_eq!(silent, blocks);
}

#[test]
fn cut_at_every_byte() {
    for big in [false, true] {
        cut_everywhere(&small_ng(big));
        cut_everywhere(&small_pcap(big));
    }
}

#[test]
fn a_cut_names_the_packet_the_byte_and_what_was_expected() {
    let file = small_pcap(false);
    let (capture, findings) = read_all("x.pcap", &file.bytes[..file.bytes.len() - 2]);
    assert_eq!(capture.records.len(), 2);
    let want = "x.pcap: error: byte 59: the file ends inside packet 3: 21 bytes were expected, 19 are there\n  help: ";
    assert!(findings[0].to_string().starts_with(want), "{}", findings[0]);
    let file = File::new(false)
        .section(false)
        .interface(1, 0, &[])
        .packet(0, 1, b"abcd", 4, &[]);
    let (_, findings) = read_all("t", &file.bytes[..file.bytes.len() - 1]);
    assert_eq!(
        errors(&findings),
        ["byte 48: the file ends inside packet 1: 36 bytes were expected, 35 are there"]
    );
}

#[test]
fn what_is_no_capture_is_named() {
    let message = |bytes: &[u8]| match CaptureReader::new("t", bytes) {
        Ok(_) => panic!("{bytes:?} is no capture"),
        Err(finding) => finding.message,
    };
    assert_eq!(
        message(b""),
        "the file is empty, a pcap or pcapng header was expected"
    );
    assert_eq!(
        message(&[0xd4, 0xc3]),
        "the file ends after 2 bytes, a pcap or pcapng header was expected"
    );
    assert_eq!(
        message(&[0x1f, 0x8b, 8, 0, 0]),
        "the file is compressed: gunzip first"
    );
    assert_eq!(
        message(&[0x28, 0xb5, 0x2f, 0xfd]),
        "the file is compressed: unzstd first"
    );
    assert_eq!(
        message(b"apiVersion: v1"),
        "byte 0: not a capture: it starts with 61 70 69 56 (\"apiV\"); pcap starts with a1b2c3d4 or a1b23c4d \
         (in either byte order), pcapng with 0a0d0d0a"
    );
    assert!(message(&[0x7f, b'E', b'L', b'F']).contains("7f 45 4c 46;"));
    assert!(message(&[0x34, 0xcd, 0xb2, 0xa1]).contains("modified"));
    let magic = [
        &[0x0a, 0x0d, 0x0d, 0x0a, 0, 0, 0, 28][..],
        b"nope",
        &[0; 16],
    ]
    .concat();
    assert!(message(&magic).contains("byte 8: a section header's byte-order magic"));
    let mut future = File::new(false).section(false).bytes;
    future[12] = 2;
    assert_eq!(
        message(&future),
        "byte 0: pcapng version 2.0, version 1.0 was expected"
    );
}

#[test]
fn a_packet_that_cannot_be_used_costs_only_itself() {
    let file = File::new(false)
        .section(false)
        .packet(0, 1, b"before any interface", 20, &[])
        .interface(1, 0, &[])
        .packet(0, 2, b"good", 4, &[])
        .packet(9, 3, b"bad", 3, &[])
        .block(
            6,
            &[
                0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 200, 0, 0, 0, 200, 0, 0, 0, 1, 2, 3, 4,
            ],
        )
        .block(6, b"tiny")
        .packet(0, 4, b"good", 4, &[]);
    let (capture, findings) = read_all("t", &file.bytes[..]);
    assert_eq!(
        capture.records.iter().map(|r| r.number).collect::<Vec<_>>(),
        [2, 6]
    );
    assert_eq!(
        errors(&findings),
        [
            "byte 28: packet 1 is left out: it names interface 0, but its section has described 0 so far",
            "byte 136: packet 3 is left out: it names interface 9, but its section has described 1 so far",
            "byte 172: packet 4 is left out: it claims 200 bytes of data in a block with room for 4",
            "byte 208: packet 5 is left out: a packet block has 20 bytes before its data, 4 were there",
        ]
    );
}

#[test]
fn an_option_that_lies_costs_only_itself() {
    let file = File::new(true)
        .section(true)
        .interface(1, 0, &[(NAME, b"eth0"), (TSRESOL, &[9])]);
    let mut file = file
        .packet(
            0,
            1,
            b"abcd",
            4,
            &[(COMMENT, b"kept"), (FLAGS, &[0, 0, 0, 1])],
        )
        .packet(0, 2, b"", 0, &[]);
    let flags_len = file.bytes.len() - 32 - 4 - 4 - 2;
    file.bytes[flags_len..flags_len + 2].copy_from_slice(&[1, 0]);
    let (capture, findings) = read_all("t", &file.bytes[..]);
    assert_eq!(capture.records.len(), 2);
    assert_eq!(capture.records[0].comment.as_deref(), Some("kept"));
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].severity, Severity::Warning);
    assert!(
        findings[0]
            .message
            .contains("an option of packet 1 reaches past its block"),
        "{}",
        findings[0]
    );
}

#[test]
fn lengths_that_lie_end_the_file_with_one_finding() {
    let good = File::new(false)
        .section(false)
        .interface(1, 0, &[])
        .packet(0, 1, b"abcd", 4, &[]);
    let start = good.bytes.len();
    let good = good
        .packet(0, 2, b"efgh", 4, &[])
        .packet(0, 3, b"ijkl", 4, &[]);
    for (len, want) in [
        (
            0u32,
            "a block's length is 12 or more and a multiple of 4, 0 was there",
        ),
        (37, "a multiple of 4, 37 was there"),
        (32, "has the length 32 at its start and"),
        (
            u32::MAX - 3,
            "the file ends inside a packet's block: 4294967292 bytes were expected",
        ),
        (
            1 << 20,
            "the file ends inside packet 2: 1048576 bytes were expected",
        ),
    ] {
        let mut bytes = good.bytes.clone();
        bytes[start + 4..start + 8].copy_from_slice(&len.to_le_bytes());
        let (capture, findings) = read_all("t", &bytes[..]);
        assert_eq!(capture.records.len(), 1, "{len}");
        assert_eq!(findings.len(), 1, "{len}");
        assert!(findings[0].message.contains(want), "{}", findings[0]);
    }
    let mut bytes = File::pcap(false, false, 96, 1)
        .pcap_packet(1, 0, b"abcd", 4)
        .bytes;
    bytes[32..36].copy_from_slice(&0xffff_ff00u32.to_le_bytes());
    let (_, findings) = read_all("t", &bytes[..]);
    assert_eq!(
        errors(&findings),
        ["byte 24: packet 1 claims 4294967040 bytes, at most 262144 can be"]
    );
}

/// Fails after its bytes.
struct Broken<'a>(&'a [u8]);

impl Read for Broken<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self.0.read(room)? {
            0 => Err(io::Error::other("the disk is gone")),
            n => Ok(n),
        }
    }
}

#[test]
fn a_read_error_is_a_finding_after_what_was_read() {
    let file = small_pcap(true);
    let (capture, findings) = read_all("t", Broken(&file.bytes));
    assert_eq!(capture.records.len(), 3);
    let at = file.bytes.len();
    assert_eq!(
        errors(&findings),
        [format!("byte {at}: it could not be read: the disk is gone")]
    );
    assert!(CaptureReader::new("t", Broken(b"")).is_err());
}

/// Reads to the end, checking what must hold for any input.
fn survives(bytes: &[u8]) -> Result<Capture, TestCaseError> {
    let (capture, _) = read_all("t", bytes);
    for record in &capture.records {
        prop_assert!(record.data.len() as u64 <= u64::from(record.orig_len));
        let interface = &capture.interfaces[record.interface as usize];
        if let Ok(got) = to_ethernet(interface.link, &record.data, record.orig_len) {
            prop_assert!(got.frame.len() as u64 <= u64::from(got.orig_len));
        }
    }
    prop_assert!(capture.records.iter().map(|r| r.data.len()).sum::<usize>() <= bytes.len());
    let (again, findings) = read_all("t", &write_ng(&capture)[..]);
    prop_assert_eq!(findings, vec![]);
    let essence = |c: &Capture| -> Vec<_> {
        let of = |r: &OwnedRecord| {
            (
                r.interface,
                r.data.clone(),
                r.orig_len,
                r.direction,
                r.comment.clone(),
            )
        };
        c.records.iter().map(of).collect()
    };
    prop_assert_eq!(essence(&again), essence(&capture));
    Ok(capture)
}

proptest! {
    #[test]
    fn random_bytes(start in 0usize..7, junk in prop::collection::vec(any::<u8>(), 0..600)) {
        let starts = [
            vec![],
            File::pcap(false, true, 96, 1).bytes,
            File::pcap(true, false, 0, 276).bytes,
            File::new(false).section(false).bytes,
            File::new(true).section(true).interface(113, 0, &[]).bytes,
            vec![0x0a, 0x0d, 0x0d, 0x0a],
            vec![0xa1, 0xb2, 0xc3, 0xd4],
        ];
        survives(&[&starts[start][..], &junk].concat())?;
    }

    #[test]
    fn changed_bytes(big: bool, ng: bool, changes in prop::collection::vec((0usize..400, any::<u8>()), 1..6)) {
        let mut bytes = if ng { small_ng(big) } else { small_pcap(big) }.bytes;
        let len = bytes.len();
        for (at, value) in changes {
            bytes[at % len] = value;
        }
        survives(&bytes)?;
    }

    #[test]
    fn link_headers_of_random_bytes(code: u16, known in 0usize..9, data in prop::collection::vec(any::<u8>(), 0..80),
                                    orig_len: u32) {
        use podpath::replay::pcap::LinkType;
        let code = [0, 1, 101, 108, 113, 228, 229, 276, code][known];
        let _ = to_ethernet(LinkType::from_code(code), &data, orig_len);
    }
}
