//! Every format, byte order, resolution and block kind.

use podpath::replay::pcap::{Capture, CaptureReader, Direction, LinkType, read_all};

use crate::build::*;

fn clean(file: &File) -> Capture {
    let (capture, findings) = read_all("t", &file.bytes[..]);
    assert_eq!(findings, []);
    capture
}

#[test]
fn pcap_in_both_orders_and_resolutions() {
    for big in [false, true] {
        for (nanos, want) in [
            (false, 1_700_000_000_000_123_000),
            (true, 1_700_000_000_000_000_123),
        ] {
            let file =
                File::pcap(big, nanos, 65_535, 1).pcap_packet(1_700_000_000, 123, &[7; 61], 61);
            let capture = clean(&file);
            assert_eq!(capture.interfaces.len(), 1);
            let interface = &capture.interfaces[0];
            assert_eq!(
                (interface.link, interface.snaplen, &interface.name),
                (LinkType::Ethernet, 65_535, &None)
            );
            let [record] = &capture.records[..] else {
                panic!("one packet")
            };
            assert_eq!(
                (record.time_ns, record.orig_len, record.number),
                (Some(want), 61, 1)
            );
            assert_eq!(record.data, [7; 61]);
        }
    }
}

#[test]
fn cut_frames_keep_both_lengths() {
    let file = File::pcap(false, false, 96, 1)
        .pcap_packet(1, 0, &[1; 96], 1_514)
        .pcap_packet(2, 0, &[2; 60], 60);
    let capture = clean(&file);
    let lens: Vec<_> = capture
        .records
        .iter()
        .map(|r| (r.data.len(), r.orig_len))
        .collect();
    assert_eq!(lens, [(96, 1_514), (60, 60)]);
    assert!(capture.records[0].as_record().is_truncated());
    assert!(!capture.records[1].as_record().is_truncated());
}

#[test]
fn the_fcs_length_of_a_pcap_is_no_part_of_its_link_type() {
    let file = File::pcap(true, false, 0, 0x2400_0001).pcap_packet(1, 0, &[0; 64], 64);
    let interface = &clean(&file).interfaces[0];
    assert_eq!(
        (interface.link, interface.fcs_len),
        (LinkType::Ethernet, Some(4))
    );
}

#[test]
fn pcapng_resolutions_and_offsets() {
    /// if_tsresol, if_tsoffset, count, nanoseconds.
    type Case = (&'static [u8], Option<i64>, u64, Option<u64>);
    let cases: [Case; 8] = [
        (&[], None, 1_500_000, Some(1_500_000_000)),
        (&[6], None, 7, Some(7_000)),
        (
            &[9],
            None,
            1_700_000_000_123_456_789,
            Some(1_700_000_000_123_456_789),
        ),
        (&[3], None, 1_234, Some(1_234_000_000)),
        (&[12], None, 1_234_567, Some(1_234)),
        (&[0x80 | 20], None, 3 << 19, Some(1_500_000_000)),
        (
            &[9],
            Some(1_700_000_000),
            5,
            Some(1_700_000_000_000_000_005),
        ),
        (&[9], Some(-1), 5, None),
    ];
    for big in [false, true] {
        for (tsresol, offset, count, want) in cases {
            let mut file = File::new(big).section(big);
            let offset = offset.map(|o| file.long(o));
            let mut options: Vec<(u16, &[u8])> = Vec::new();
            options.extend((!tsresol.is_empty()).then_some((TSRESOL, tsresol)));
            options.extend(offset.as_deref().map(|o| (TSOFFSET, o)));
            file = file
                .interface(1, 0, &options)
                .packet(0, count, b"x", 1, &[]);
            assert_eq!(
                clean(&file).records[0].time_ns,
                want,
                "{tsresol:?} {offset:?} {count}"
            );
        }
    }
}

#[test]
fn names_directions_and_comments() {
    for big in [false, true] {
        let file = File::new(big).section(big);
        let (inward, outward, other) = (file.word(1), file.word(0xabc0_0002), file.word(3));
        let file = file
            .interface(1, 0, &[(NAME, b"eth0"), (TSRESOL, &[9])])
            .interface(101, 128, &[(NAME, b"tunl0"), (3, b"IPIP")])
            .packet(
                1,
                1,
                b"a",
                1,
                &[(COMMENT, "hé".as_bytes()), (FLAGS, &inward)],
            )
            .packet(
                0,
                2,
                b"bb",
                9,
                &[
                    (FLAGS, &outward),
                    (COMMENT, b"one"),
                    (COMMENT, b"two"),
                    (0, b""),
                ],
            )
            .packet(0, 3, b"ccc", 3, &[(FLAGS, &other), (4, &[0; 8])])
            .packet(0, 4, b"dddd", 4, &[]);
        let capture = clean(&file);
        let names: Vec<_> = capture
            .interfaces
            .iter()
            .map(|i| i.name.as_deref())
            .collect();
        assert_eq!(names, [Some("eth0"), Some("tunl0")]);
        assert_eq!(capture.interfaces[1].description.as_deref(), Some("IPIP"));
        assert_eq!(
            (capture.interfaces[1].link, capture.interfaces[1].snaplen),
            (LinkType::Raw, 128)
        );
        let got: Vec<_> = capture
            .records
            .iter()
            .map(|r| (r.interface, r.direction, r.comment.as_deref(), &r.data[..]))
            .collect();
        assert_eq!(
            got,
            [
                (1, Some(Direction::In), Some("hé"), &b"a"[..]),
                (0, Some(Direction::Out), Some("one\ntwo"), b"bb"),
                (0, None, None, b"ccc"),
                (0, None, None, b"dddd"),
            ]
        );
    }
}

#[test]
fn blocks_we_do_not_use_cost_nothing() {
    let mut file =
        File::new(true)
            .section(true)
            .block(4, b"names")
            .interface(1, 0, &[(10, &[0; 4])]);
    // Name resolution, statistics, journal, secrets, custom in both forms, and one nobody knows; small and
    // large.
    for (i, kind) in [4, 5, 9, 10, 0xbad, 0x4000_0bad, 0x7777]
        .into_iter()
        .enumerate()
    {
        let body = vec![0xee; [3, 0, 300_000, 17 << 20][i % 4]];
        file = file
            .block(kind, &body)
            .packet(0, i as u64, &[i as u8; 5], 5, &[])
            .block(kind, b"");
    }
    let data: Vec<_> = clean(&file)
        .records
        .iter()
        .map(|r| (r.number, r.data[0]))
        .collect();
    assert_eq!(
        data,
        (0..7).map(|i| (u64::from(i) + 1, i)).collect::<Vec<_>>()
    );
}

#[test]
fn sections_have_interfaces_and_byte_orders_of_their_own() {
    let file = File::new(false)
        .section(false)
        .interface(1, 0, &[(NAME, b"a")])
        .packet(0, 1, b"1", 1, &[])
        .interface(113, 0, &[(NAME, b"b")])
        .packet(1, 2, b"2", 2, &[])
        .section(true)
        .interface(276, 0, &[(NAME, b"c"), (TSRESOL, &[9])])
        .packet(0, 3, b"3", 3, &[]);
    let mut reader = CaptureReader::new("t", &file.bytes[..]).unwrap();
    assert_eq!(
        reader.interfaces().len(),
        1,
        "those before the first packet are known at once"
    );
    let mut seen = Vec::new();
    while let Some(record) = reader.next() {
        let record = record.unwrap();
        seen.push((record.interface, record.time_ns.unwrap(), record.orig_len));
    }
    assert_eq!(seen, [(0, 1_000, 1), (1, 2_000, 2), (2, 3, 3)]);
    let all: Vec<_> = reader
        .interfaces()
        .iter()
        .map(|i| (i.name.as_deref().unwrap(), i.link, i.section))
        .collect();
    assert_eq!(
        all,
        [
            ("a", LinkType::Ethernet, 0),
            ("b", LinkType::LinuxSll, 0),
            ("c", LinkType::LinuxSll2, 1)
        ]
    );
}

#[test]
fn simple_and_obsolete_packets() {
    for big in [false, true] {
        let file = File::new(big)
            .section(big)
            .interface(1, 6, &[])
            .simple_packet(5, b"whole")
            .simple_packet(900, b"sixbyt")
            .old_packet(0, 9, b"old", 3);
        let got: Vec<_> = clean(&file)
            .records
            .into_iter()
            .map(|r| (r.data, r.orig_len, r.time_ns))
            .collect();
        assert_eq!(
            got,
            [
                (b"whole".to_vec(), 5, None),
                (b"sixbyt".to_vec(), 900, None),
                (b"old".to_vec(), 3, Some(9_000)),
            ]
        );
    }
}

#[test]
fn a_capture_without_packets_is_clean() {
    assert_eq!(clean(&File::pcap(false, false, 0, 1)).records, []);
    assert_eq!(clean(&File::new(false).section(false)), Capture::default());
}
