//! What is written is read back the same, and written again the same bytes.

use podpath::replay::pcap::{
    Capture, Direction, Interface, LinkType, OwnedRecord, PcapWriter, PcapngWriter, Record,
    read_all,
};
use proptest::prelude::*;

pub fn write_ng(capture: &Capture) -> Vec<u8> {
    let mut writer = PcapngWriter::new(Vec::new(), "podpath test").unwrap();
    for (i, interface) in capture.interfaces.iter().enumerate() {
        assert_eq!(writer.add_interface(interface).unwrap() as usize, i);
    }
    for record in &capture.records {
        writer.write(&record.as_record()).unwrap();
    }
    writer.finish().unwrap()
}

fn interface() -> impl Strategy<Value = Interface> {
    let link = prop_oneof![Just(1u16), Just(101), Just(113), Just(276), 300u16..];
    ("[a-z0-9.@é]{0,20}", link, any::<u32>(), any::<Option<u8>>()).prop_map(
        |(name, link, snaplen, fcs_len)| {
            let mut interface = Interface::new(name, LinkType::from_code(link));
            (interface.snaplen, interface.fcs_len) = (snaplen, fcs_len);
            interface
        },
    )
}

fn record(interfaces: u32) -> impl Strategy<Value = OwnedRecord> {
    let direction = prop_oneof![
        Just(None),
        Just(Some(Direction::In)),
        Just(Some(Direction::Out))
    ];
    let data = prop::collection::vec(any::<u8>(), 0..200);
    let comment = prop::option::of("\\PC{0,40}\n?\\PC{0,9}");
    (
        0..interfaces,
        any::<u64>(),
        data,
        0u32..2_000,
        direction,
        comment,
    )
        .prop_map(|(interface, time, data, more, direction, comment)| {
            let orig_len = data.len() as u32 + more;
            OwnedRecord {
                number: 0,
                interface,
                time_ns: Some(time),
                data,
                orig_len,
                direction,
                comment,
            }
        })
}

fn capture() -> impl Strategy<Value = Capture> {
    prop::collection::vec(interface(), 1..4).prop_flat_map(|interfaces| {
        let records = prop::collection::vec(record(interfaces.len() as u32), 0..12);
        (Just(interfaces), records).prop_map(|(interfaces, mut records)| {
            records
                .iter_mut()
                .zip(1..)
                .for_each(|(record, number)| record.number = number);
            Capture {
                interfaces,
                records,
            }
        })
    })
}

proptest! {
    #[test]
    fn pcapng(capture in capture()) {
        let bytes = write_ng(&capture);
        let (again, findings) = read_all("t", &bytes[..]);
        prop_assert_eq!(findings, vec![]);
        prop_assert_eq!(&again, &capture);
        prop_assert_eq!(write_ng(&again), bytes);
    }

    #[test]
    fn pcap(records in prop::collection::vec(record(1), 0..12)) {
        let records: Vec<OwnedRecord> = records.into_iter().zip(1..).map(|(mut record, number)| {
            (record.number, record.direction, record.comment) = (number, None, None);
            record.time_ns = record.time_ns.map(|t| t % (1_000_000_000 << 32));
            record
        }).collect();
        let mut writer = PcapWriter::new(Vec::new(), LinkType::Raw).unwrap();
        for record in &records {
            writer.write(&record.as_record()).unwrap();
        }
        let (again, findings) = read_all("t", &writer.finish().unwrap()[..]);
        prop_assert_eq!(findings, vec![]);
        prop_assert_eq!(again.records, records);
        prop_assert_eq!(again.interfaces[0].link, LinkType::Raw);
    }
}

#[test]
fn ten_thousand_packets_of_two_interfaces() {
    let mut capture = Capture {
        interfaces: vec![
            Interface::new("n1/eth0", LinkType::Ethernet),
            Interface::new("n1/tunl0", LinkType::Raw),
        ],
        records: Vec::new(),
    };
    for number in 1..=10_000u64 {
        let len = 60 + number as usize % 1_455;
        capture.records.push(OwnedRecord {
            number,
            interface: (number % 2) as u32,
            time_ns: Some(1_700_000_000_000_000_000 + number * 1_013),
            data: vec![number as u8; len],
            orig_len: len as u32,
            direction: Some(if number % 3 == 0 {
                Direction::In
            } else {
                Direction::Out
            }),
            comment: (number % 5 == 0).then(|| format!("packet {number}")),
        });
    }
    let bytes = write_ng(&capture);
    let (again, findings) = read_all("t", &bytes[..]);
    assert_eq!(findings, []);
    assert_eq!(again, capture);
}

#[test]
fn what_does_not_fit_is_refused_and_what_can_be_cut_is_cut() {
    let mut writer = PcapngWriter::new(Vec::new(), "t").unwrap();
    assert!(
        writer
            .write(&Record::new(0, 0, b"no interface yet"))
            .is_err()
    );
    writer
        .add_interface(&Interface::new("eth0", LinkType::Ethernet))
        .unwrap();
    let mut long = Record::new(0, 0, b"x");
    long.comment = Some("ß".repeat(50_000).into());
    writer.write(&long).unwrap();
    let (capture, findings) = read_all("t", &writer.finish().unwrap()[..]);
    assert_eq!(findings, []);
    assert!(
        capture.records[0]
            .comment
            .as_deref()
            .unwrap()
            .ends_with("ß…")
    );
    let mut writer = PcapWriter::new(Vec::new(), LinkType::Ethernet).unwrap();
    assert!(writer.write(&Record::new(0, u64::MAX, b"x")).is_err());
    assert!(writer.write(&Record::new(0, 0, &vec![0; 262_145])).is_err());
}
