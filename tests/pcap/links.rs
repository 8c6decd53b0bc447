//! Every link type into Ethernet.

use podpath::replay::pcap::Direction;
use podpath::replay::pcap::LinkType;
use podpath::replay::pcap::link::{FieldSource, LinkError, to_ethernet};

const IPV4: [u8; 20] = [
    0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 10, 244, 1, 10, 10, 244, 2, 10,
];
const SENDER: [u8; 6] = [0x0a, 0x58, 0x0a, 0xf4, 1, 10];

fn ipv6() -> Vec<u8> {
    let mut p = vec![0; 40];
    p[0] = 0x60;
    p[24] = 0xff;
    p[36..].copy_from_slice(&[1, 0xff, 2, 3]);
    p
}

fn sll(packet_type: u8, arphrd: u16, mac: bool, protocol: u16, payload: &[u8]) -> Vec<u8> {
    let arphrd = arphrd.to_be_bytes();
    let mut p = vec![
        0,
        packet_type,
        arphrd[0],
        arphrd[1],
        0,
        if mac { 6 } else { 0 },
    ];
    p.extend(SENDER);
    p.extend([0, 0]);
    p.extend(protocol.to_be_bytes());
    p.extend(payload);
    p
}

fn sll2(packet_type: u8, ifindex: u32, protocol: u16, payload: &[u8]) -> Vec<u8> {
    let mut p = protocol.to_be_bytes().to_vec();
    p.extend([0, 0]);
    p.extend(ifindex.to_be_bytes());
    p.extend([0, 1, packet_type, 6]);
    p.extend(SENDER);
    p.extend([0, 0]);
    p.extend(payload);
    p
}

fn expected(destination: [u8; 6], source: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&destination[..], &source, &ethertype.to_be_bytes(), payload].concat()
}

#[test]
fn ethernet_is_lent_unchanged() {
    let frame = [9; 13];
    let got = to_ethernet(LinkType::Ethernet, &frame, 60).unwrap();
    assert!(std::ptr::eq(got.frame.as_ptr(), frame.as_ptr()));
    assert_eq!(
        (got.orig_len, got.header.source),
        (60, FieldSource::Captured)
    );
}

#[test]
fn raw_ip_takes_its_ethertype_from_the_version() {
    for code in [12, 14, 101] {
        let link = LinkType::from_code(code);
        let got = to_ethernet(link, &IPV4, 1_400).unwrap();
        assert_eq!(got.frame, expected([0; 6], [0; 6], 0x0800, &IPV4));
        assert_eq!(
            (got.orig_len, got.header.destination),
            (1_414, FieldSource::Unknown)
        );
        assert_eq!(
            to_ethernet(link, &ipv6(), 40).unwrap().frame[12..14],
            [0x86, 0xdd]
        );
        assert_eq!(to_ethernet(link, &[0x50], 1), Err(LinkError::NotIp(5)));
        assert_eq!(
            to_ethernet(link, &[], 0),
            Err(LinkError::Short {
                link,
                want: 1,
                got: 0
            })
        );
    }
    assert_eq!(
        to_ethernet(LinkType::from_code(228), &IPV4, 20)
            .unwrap()
            .frame[12..14],
        [8, 0]
    );
    assert_eq!(
        to_ethernet(LinkType::from_code(229), &ipv6(), 40)
            .unwrap()
            .frame[12..14],
        [0x86, 0xdd]
    );
}

#[test]
fn null_takes_either_order_and_loop_only_the_networks() {
    let with = |family: [u8; 4]| [&family[..], &IPV4].concat();
    for family in [[2, 0, 0, 0], [0, 0, 0, 2]] {
        let data = with(family);
        let got = to_ethernet(LinkType::Null, &data, 24).unwrap();
        assert_eq!(
            (got.frame.into_owned(), got.orig_len),
            (expected([0; 6], [0; 6], 0x0800, &IPV4), 34)
        );
    }
    for family in [10, 24, 28, 30] {
        assert_eq!(
            to_ethernet(LinkType::Loop, &with([0, 0, 0, family]), 24)
                .unwrap()
                .frame[12..14],
            [0x86, 0xdd]
        );
        assert_eq!(
            to_ethernet(LinkType::Null, &with([family, 0, 0, 0]), 24)
                .unwrap()
                .frame[12..14],
            [0x86, 0xdd]
        );
    }
    assert_eq!(
        to_ethernet(LinkType::Loop, &with([2, 0, 0, 0]), 24),
        Err(LinkError::Family(0x0200_0000))
    );
    assert_eq!(
        to_ethernet(LinkType::Null, &with([7, 0, 0, 0]), 24),
        Err(LinkError::Family(7))
    );
}

#[test]
fn sll_keeps_sender_direction_and_what_the_destination_must_be() {
    let cases = [
        (0, Direction::In, [0; 6], FieldSource::Unknown),
        (1, Direction::In, [0xff; 6], FieldSource::Derived),
        (2, Direction::In, [0; 6], FieldSource::Unknown),
        (3, Direction::In, [0; 6], FieldSource::Unknown),
        (4, Direction::Out, [0; 6], FieldSource::Unknown),
    ];
    for (packet_type, direction, destination, source) in cases {
        let data = sll(packet_type, 1, true, 0x0800, &IPV4);
        let got = to_ethernet(LinkType::LinuxSll, &data, 1_016).unwrap();
        assert_eq!(got.frame, expected(destination, SENDER, 0x0800, &IPV4));
        assert_eq!(
            (got.orig_len, got.direction, got.ifindex),
            (1_014, Some(direction), None)
        );
        assert_eq!(
            (got.header.destination, got.header.source),
            (source, FieldSource::Captured)
        );
    }
}

#[test]
fn sll2_has_the_interface_index_and_multicasts_their_group() {
    let v6 = ipv6();
    let data = sll2(2, 7, 0x86dd, &v6);
    let got = to_ethernet(LinkType::LinuxSll2, &data, data.len() as u32).unwrap();
    assert_eq!(
        got.frame,
        expected([0x33, 0x33, 1, 0xff, 2, 3], SENDER, 0x86dd, &v6)
    );
    assert_eq!((got.ifindex, got.direction), (Some(7), Some(Direction::In)));
    assert_eq!(got.header.destination, FieldSource::Derived);
    let mut v4 = IPV4;
    v4[16..].copy_from_slice(&[239, 129, 2, 3]);
    let data = sll2(4, 7, 0x0800, &v4);
    let got = to_ethernet(LinkType::LinuxSll2, &data, data.len() as u32).unwrap();
    assert_eq!(got.frame[..6], [1, 0, 0x5e, 1, 2, 3]);
    assert_eq!(got.direction, Some(Direction::Out));
}

#[test]
fn sll_of_devices_without_macs_and_of_other_protocols() {
    let tun = to_ethernet(
        LinkType::LinuxSll,
        &sll(4, 65_534, false, 0x0800, &IPV4),
        36,
    )
    .unwrap()
    .frame
    .into_owned();
    assert_eq!(tun, expected([0; 6], [0; 6], 0x0800, &IPV4));
    let stp = sll(2, 1, true, 4, &[0x42, 0x42, 3]);
    assert_eq!(
        to_ethernet(LinkType::LinuxSll, &stp, 16 + 38)
            .unwrap()
            .frame[12..],
        [0, 38, 0x42, 0x42, 3]
    );
    let refused = |arphrd, protocol| {
        to_ethernet(LinkType::LinuxSll, &sll(0, arphrd, true, protocol, &[]), 16).unwrap_err()
    };
    assert_eq!(refused(824, 0x0800), LinkError::Device(824));
    assert_eq!(refused(280, 0x000c), LinkError::Protocol(0x000c));
    let short = LinkError::Short {
        link: LinkType::LinuxSll2,
        want: 20,
        got: 19,
    };
    assert_eq!(to_ethernet(LinkType::LinuxSll2, &[0; 19], 19), Err(short));
    assert_eq!(
        short.to_string(),
        "Linux cooked v2 (276) needs 20 bytes, 19 were captured"
    );
}

#[test]
fn other_link_types_are_refused_by_number() {
    let error = to_ethernet(LinkType::from_code(127), &[0; 64], 64).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("link type 127 cannot be made Ethernet"),
        "{error}"
    );
}
