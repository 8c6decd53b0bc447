//! Packets after translation: incremental checksums equal whole ones, and nothing panics on cut headers.

use etherparse::{IpNumber, PacketBuilder, SlicedPacket, TransportSlice};
use podpath::nf::ct::{CtStatus, CtTuple, Dir};
use podpath::nf::nat::icmp::{About, translate};
use podpath::nf::nat::{Manip, inverse, manip_packet};
use podpath::wire::{checksum, proto};
use proptest::prelude::*;
use std::net::IpAddr;

/// The two addresses of a packet.
#[derive(Clone, Copy, Debug)]
enum Ends {
    V4([u8; 4], [u8; 4]),
    V6([u8; 16], [u8; 16]),
}

impl Ends {
    fn ips(self) -> (IpAddr, IpAddr) {
        match self {
            Ends::V4(a, b) => (a.into(), b.into()),
            Ends::V6(a, b) => (a.into(), b.into()),
        }
    }
}

/// What etherparse makes of addresses, ports and payload, every checksum filled in.
fn packet(ends: Ends, number: u8, (sport, dport): (u16, u16), payload: &[u8]) -> Vec<u8> {
    let ip = match ends {
        Ends::V4(a, b) => PacketBuilder::ipv4(a, b, 64),
        Ends::V6(a, b) => PacketBuilder::ipv6(a, b, 64),
    };
    let mut out = Vec::new();
    match number {
        proto::TCP => ip.tcp(sport, dport, 7, 99).write(&mut out, payload),
        proto::UDP => ip.udp(sport, dport).write(&mut out, payload),
        proto::ICMP => ip.icmpv4_echo_request(sport, 3).write(&mut out, payload),
        proto::ICMPV6 => ip.icmpv6_echo_request(sport, 3).write(&mut out, payload),
        other => ip.write(&mut out, IpNumber(other), payload),
    }
    .unwrap();
    out
}

/// The tuple of such a packet.
fn tuple(ends: Ends, number: u8, (sport, dport): (u16, u16)) -> CtTuple {
    let (src, dst) = ends.ips();
    let dport = match number {
        proto::ICMP => 8 << 8,
        proto::ICMPV6 => 128 << 8,
        _ => dport,
    };
    CtTuple {
        proto: number,
        src,
        dst,
        sport,
        dport,
    }
}

/// Both sides of `p` become `target`'s.
fn both(p: &mut [u8], target: &CtTuple) {
    manip_packet(p, target, Manip::Dst).unwrap();
    manip_packet(p, target, Manip::Src).unwrap();
}

fn any_ends() -> impl Strategy<Value = (Ends, Ends)> {
    prop_oneof![
        any::<[[u8; 4]; 4]>().prop_map(|[a, b, c, d]| (Ends::V4(a, b), Ends::V4(c, d))),
        any::<[[u8; 16]; 4]>().prop_map(|[a, b, c, d]| (Ends::V6(a, b), Ends::V6(c, d))),
    ]
}

proptest! {
    /// A translated packet is byte for byte the packet that etherparse builds with the new addresses.
    #[test]
    fn incremental_checksums_are_the_whole_ones(
        (old, new) in any_ends(),
        kind in 0u8..3,
        from: (u16, u16),
        to: (u16, u16),
        payload in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let v6 = matches!(old, Ends::V6(..));
        let number = match kind {
            0 => proto::TCP,
            1 => proto::UDP,
            _ if v6 => proto::ICMPV6,
            _ => proto::ICMP,
        };
        let mut p = packet(old, number, from, &payload);
        both(&mut p, &tuple(new, number, to));
        prop_assert_eq!(&p, &packet(new, number, to, &payload));
        // And back again.
        both(&mut p, &tuple(old, number, from));
        prop_assert_eq!(&p, &packet(old, number, from, &payload));
    }

    /// A checksum that was wrong is wrong by as much afterwards.
    #[test]
    fn wrong_checksums_stay_wrong((old, new) in any_ends(), to: (u16, u16), by in 1u16..0xffff) {
        let mut p = packet(old, proto::TCP, (1, 2), b"x");
        let at = p.len() - 1 - 20 + 16;
        let bad = checksum::update(u16::from_be_bytes([p[at], p[at + 1]]), 0, by);
        p[at..at + 2].copy_from_slice(&bad.to_be_bytes());
        both(&mut p, &tuple(new, proto::TCP, to));
        let good = packet(new, proto::TCP, to, b"x");
        let good = checksum::update(u16::from_be_bytes([good[at], good[at + 1]]), 0, by);
        prop_assert_eq!(u16::from_be_bytes([p[at], p[at + 1]]), good);
    }

    /// Whatever the bytes, nothing panics and nothing outside the packet changes.
    #[test]
    fn garbage_does_not_panic(
        mut p in proptest::collection::vec(any::<u8>(), 0..120),
        head in prop::sample::select(vec![0x45u8, 0x4f, 0x60, 0x41]),
        number: u8,
        (old, new) in any_ends(),
        src: bool,
    ) {
        if let Some(b) = p.first_mut() {
            *b = head;
        }
        let t = tuple(new, number, (5, 6));
        let manip = if src { Manip::Src } else { Manip::Dst };
        let len = p.len();
        let _ = manip_packet(&mut p, &t, manip);
        let tuples = [tuple(old, number, (1, 2)), inverse(&t)];
        let status = CtStatus(CtStatus::NAT_MASK | CtStatus::NAT_DONE_MASK);
        let about = About { tuples: &tuples, status, dir: Dir::Reply };
        let _ = translate(&mut p, &about, manip);
        prop_assert_eq!(p.len(), len);
    }
}

const A: Ends = Ends::V4([10, 0, 0, 1], [10, 96, 0, 1]);
const B: Ends = Ends::V4([10, 0, 9, 9], [10, 0, 0, 2]);

#[test]
fn udp_without_a_checksum_gets_none() {
    let mut p = packet(A, proto::UDP, (4000, 53), b"query");
    p[26..28].fill(0);
    both(&mut p, &tuple(B, proto::UDP, (1024, 5353)));
    assert_eq!(p[26..28], [0, 0]);
    assert_eq!(p[20..24], [4, 0, 0x14, 0xe9]);
    // The IP header's checksum is right all the same.
    assert_eq!(checksum::sum(&p[..20], 0), 0xffff);
}

/// The sum is zero for one source port: UDP says 0xffff then, for 0 means that there is none.
#[test]
fn udp_whose_sum_is_zero_says_ffff() {
    let zero = (0..=u16::MAX).find(|port| {
        let p = packet(B, proto::UDP, (*port, 53), b"");
        p[26..28] == [0xff, 0xff]
    });
    let port = zero.unwrap();
    let mut p = packet(A, proto::UDP, (4000, 53), b"");
    both(&mut p, &tuple(B, proto::UDP, (port, 53)));
    assert_eq!(p[26..28], [0xff, 0xff]);
}

/// The CRC is computed over what is there: a wrong one becomes right (kernel: `sctp_compute_cksum`).
#[test]
fn sctp_gets_a_new_crc() {
    let chunk = [0u8, 80, 0, 81, 0, 0, 0, 9, 1, 2, 3, 4, 6, 0, 0, 4];
    let mut p = packet(A, proto::SCTP, (0, 0), &chunk);
    both(&mut p, &tuple(B, proto::SCTP, (7, 8)));
    assert_eq!(p[20..28], [0, 7, 0, 8, 0, 0, 0, 9]);
    // CRC-32C of `00070008 00000009 00000000 06000004`, least significant byte first.
    let crc = bitwise_crc32c(&[0, 7, 0, 8, 0, 0, 0, 9, 0, 0, 0, 0, 6, 0, 0, 4]);
    assert_eq!(p[28..32], crc.to_le_bytes());
}

fn bitwise_crc32c(data: &[u8]) -> u32 {
    let mut c = u32::MAX;
    for bit in data.iter().flat_map(|b| (0..8).map(move |i| b >> i & 1)) {
        let carry = (c & 1) as u8 ^ bit;
        c = (c >> 1) ^ if carry == 1 { 0x82f6_3b78 } else { 0 };
    }
    !c
}

#[test]
fn gre_changes_the_call_of_version_1_only() {
    let cases = [(0u8, Some([9, 9])), (1, Some([0, 77])), (2, None)];
    for (version, call) in cases {
        let gre = [0x30, version, 0x88, 0x0b, 0, 0, 9, 9];
        let mut p = packet(A, 47, (0, 0), &gre);
        let t = tuple(B, 47, (66, 77));
        let done = manip_packet(&mut p, &t, Manip::Dst);
        assert_eq!(done.is_some(), call.is_some());
        if let Some(call) = call {
            assert_eq!(p[26..28], call);
            assert_eq!(p[16..20], [10, 0, 0, 2]);
        }
        manip_packet(&mut p, &t, Manip::Src).unwrap();
    }
}

#[test]
fn unknown_protocols_change_their_addresses_only() {
    let mut p = packet(A, 99, (0, 0), b"anything");
    both(&mut p, &tuple(B, 99, (0, 0)));
    assert_eq!(p, packet(B, 99, (0, 0), b"anything"));
}

#[test]
fn headers_cut_off_before_the_ports_are_refused() {
    for (number, least) in [
        (proto::TCP, 8),
        (proto::UDP, 8),
        (proto::SCTP, 8),
        (proto::ICMP, 8),
        (136, 8),
    ] {
        for len in 0..12 {
            let mut p = packet(A, number, (1, 2), b"");
            p.truncate(20 + len);
            p.resize(20 + len, 0);
            let done = manip_packet(&mut p, &tuple(B, number, (3, 4)), Manip::Src);
            assert_eq!(done.is_some(), len >= least, "{number} {len}");
        }
    }
}

/// IPv6 with a hop-by-hop header in front of UDP, and a later fragment, whose ports are not there.
#[test]
fn ipv6_extension_headers_are_passed() {
    let (a, b) = (Ends::V6([1; 16], [2; 16]), Ends::V6([3; 16], [4; 16]));
    let plain = packet(a, proto::UDP, (10, 20), b"abcdefgh");
    let wrap = |ext: [u8; 8], first: u8| {
        let mut p = plain[..40].to_vec();
        p[6] = first;
        p[5] += 8;
        p.extend_from_slice(&ext);
        p.extend_from_slice(&plain[40..]);
        p
    };
    let mut p = wrap([17, 0, 1, 4, 0, 0, 0, 0], 0);
    both(&mut p, &tuple(b, proto::UDP, (30, 40)));
    assert_eq!(p[48..], packet(b, proto::UDP, (30, 40), b"abcdefgh")[40..]);
    let mut p = wrap([17, 0, 0, 8, 0, 0, 0, 1], 44);
    both(&mut p, &tuple(b, proto::UDP, (30, 40)));
    assert_eq!(p[48..], plain[40..]);
    assert_eq!(p[8..24], [3; 16]);
}

/// A port unreachable comes back from the endpoint through DNAT and masquerade: the client sees the
/// Service in the quote, ports too, with checksums as it sent them (recording closed-ports).
#[test]
fn quoted_packets_are_translated_back() {
    for v6 in [false, true] {
        let (client, wire, err_from) = match v6 {
            false => (A, B, Ends::V4([10, 0, 0, 2], [10, 0, 9, 9])),
            true => (
                Ends::V6([1; 16], [2; 16]),
                Ends::V6([3; 16], [4; 16]),
                Ends::V6([4; 16], [3; 16]),
            ),
        };
        let sent = packet(client, proto::UDP, (4000, 53), b"query");
        let mut seen = sent.clone();
        let out = tuple(wire, proto::UDP, (1024, 5353));
        both(&mut seen, &out);
        let mut error = unreachable(err_from, &seen);
        let tuples = [tuple(client, proto::UDP, (4000, 53)), inverse(&out)];
        let status = CtStatus(CtStatus::NAT_MASK | CtStatus::NAT_DONE_MASK);
        let about = About {
            tuples: &tuples,
            status,
            dir: Dir::Reply,
        };
        // PREROUTING undoes the source translation, POSTROUTING the destination's.
        translate(&mut error, &about, Manip::Dst).unwrap();
        translate(&mut error, &about, Manip::Src).unwrap();
        let (service, me) = match client {
            Ends::V4(a, b) => (Ends::V4(b, a), a.len()),
            Ends::V6(a, b) => (Ends::V6(b, a), a.len()),
        };
        assert_eq!(error, unreachable(service, &sent), "{me}");
    }
}

/// An ICMP port unreachable that quotes `quoted`.
fn unreachable(ends: Ends, quoted: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match ends {
        Ends::V4(a, b) => PacketBuilder::ipv4(a, b, 64)
            .icmpv4_raw(3, 3, [0; 4])
            .write(&mut out, quoted),
        Ends::V6(a, b) => PacketBuilder::ipv6(a, b, 64)
            .icmpv6_raw(1, 4, [0; 4])
            .write(&mut out, quoted),
    }
    .unwrap();
    out
}

/// A router on the way quotes 8 bytes of TCP: ports change, there is no checksum to keep right.
#[test]
fn eight_quoted_bytes_of_tcp_are_enough() {
    let sent = packet(A, proto::TCP, (4000, 80), b"GET /");
    let out = tuple(B, proto::TCP, (4001, 8080));
    let mut seen = sent.clone();
    both(&mut seen, &out);
    let router = Ends::V4([192, 0, 2, 1], [10, 0, 9, 9]);
    let mut error = unreachable(router, &seen[..28]);
    let tuples = [tuple(A, proto::TCP, (4000, 80)), inverse(&out)];
    let about = About {
        tuples: &tuples,
        status: CtStatus(CtStatus::NAT_MASK | CtStatus::NAT_DONE_MASK),
        dir: Dir::Reply,
    };
    translate(&mut error, &about, Manip::Dst).unwrap();
    translate(&mut error, &about, Manip::Src).unwrap();
    // The router's address is hidden behind the Service's, as the kernel does it.
    let expected = unreachable(Ends::V4([10, 96, 0, 1], [10, 0, 0, 1]), &sent[..28]);
    assert_eq!(error, expected);
    let parsed = SlicedPacket::from_ip(&error).unwrap();
    assert!(matches!(parsed.transport, Some(TransportSlice::Icmpv4(_))));
}

#[test]
fn redirects_and_bad_checksums_are_dropped() {
    let out = tuple(B, proto::UDP, (1, 2));
    let tuples = [tuple(A, proto::UDP, (1, 2)), inverse(&out)];
    let done = CtStatus::NAT_DONE_MASK;
    let about = |bits| About {
        tuples: &tuples,
        status: CtStatus(bits),
        dir: Dir::Reply,
    };
    let quoted = packet(B, proto::UDP, (1, 2), b"");
    let mut redirect = Vec::new();
    let head = PacketBuilder::ipv4([10, 0, 0, 2], [10, 0, 9, 9], 64);
    let head = head.icmpv4_raw(5, 0, [10, 0, 0, 7]);
    head.write(&mut redirect, &quoted).unwrap();
    for (bits, kept) in [(done, true), (done | CtStatus::DST_NAT, false), (0, false)] {
        let done = translate(&mut redirect.clone(), &about(bits), Manip::Dst);
        assert_eq!(done.is_some(), kept);
    }
    let mut error = unreachable(Ends::V4([10, 0, 0, 2], [10, 0, 9, 9]), &quoted);
    error[22] ^= 1;
    assert!(translate(&mut error, &about(done), Manip::Dst).is_none());
}
