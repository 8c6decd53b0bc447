//! Matches on the IP header and the packet's bytes, its mark, its link layer, the clock.

use crate::nf::{World, packet, syn, tcp, udp};
use podpath::nf::eval::Verdict;
use podpath::wire::{Bridged, Frame, MacAddr, PacketType, proto};

fn matches(w: &mut World, f: &Frame) -> bool {
    let before = w.packets("FORWARD")[0];
    assert_eq!(w.forward(&mut f.clone()), Verdict::Accept);
    w.packets("FORWARD")[0] > before
}

#[track_caller]
fn all(cases: &[(&str, bool)], f: &Frame) {
    for (words, want) in cases {
        let v6 = f.l3()[0] >> 4 == 6;
        let mut w = if v6 {
            World::v6(words)
        } else {
            World::new(words)
        };
        assert_eq!(matches(&mut w, f), *want, "{words}");
    }
}

#[test]
fn addresses_and_devices() {
    all(
        &[
            ("-s 10.0.0.9", true),
            ("-s 10.0.0.0/24 -d 10.1.0.0/16", true),
            ("! -s 10.0.0.0/24", false),
            ("! -d 10.2.0.0/16", true),
            ("-s 0.0.0.9/0.0.0.255", true),
            ("-i eth0 -o cni0", true),
            ("! -i eth0", false),
            ("-i eth", false),
            ("-i eth+", true),
            ("! -o cali+", true),
            ("-m iprange --src-range 10.0.0.5-10.0.0.9", true),
            ("-m iprange --src-range 10.0.0.5-10.0.0.8", false),
            ("-m iprange ! --dst-range 10.1.0.9-10.1.0.10", false),
        ],
        &syn(80),
    );
    let f = tcp("fd00::9", "fd01::9", 1, 2, 2, &[]);
    all(
        &[("-s fd00::/64 -d fd01::9", true), ("! -s fd00::9", false)],
        &f,
    );
    all(&[("-m iprange --src-range fd00::1-fd00::9", true)], &f);
}

#[test]
fn fields_of_the_header() {
    let mut f = udp("10.0.0.9", "10.1.0.9", 1, 2, b"123");
    f.l3_mut()[1] = 0xb9;
    all(
        &[
            ("-m length --length 31", true),
            ("-m length --length 0:30", false),
            ("-m length ! --length 32:", true),
            ("-m ttl --ttl-eq 64", true),
            ("-m ttl ! --ttl-eq 64", false),
            ("-m ttl --ttl-lt 65", true),
            ("-m ttl --ttl-lt 64", false),
            ("-m ttl --ttl-gt 63", true),
            ("-m tos --tos 0xb9", true),
            ("-m tos --tos 0xb8/0xfc", true),
            ("-m tos ! --tos 0xb8", true),
            ("-m dscp --dscp 0x2e", true),
            ("-m dscp --dscp-class EF", true),
            ("-m dscp ! --dscp 0x2e", false),
            ("-m realm --realm 0", true),
            ("-m cpu --cpu 0", true),
            ("-m cpu ! --cpu 0", false),
        ],
        &f,
    );
    let mut f = tcp("fd00::9", "fd01::9", 1, 2, 2, &[]);
    f.l3_mut()[..2].copy_from_slice(&[0x6b, 0x90]);
    all(
        &[
            ("-m length --length 60", true),
            ("-m hl --hl-eq 64", true),
            ("-m hl --hl-gt 64", false),
            ("-m dscp --dscp 0x2e", true),
            ("-m tos --tos 0xb9", true),
        ],
        &f,
    );
}

#[test]
fn marks() {
    let mut f = syn(80);
    f.mark = 0x41;
    all(
        &[
            ("-m mark --mark 0x41", true),
            ("-m mark --mark 0x40/0xf0", true),
            ("-m mark --mark 0x1/0xf0", false),
            ("-m mark ! --mark 0x41", false),
        ],
        &f,
    );
}

#[test]
fn the_link_layer() {
    let mut f = syn(80);
    all(
        &[
            ("-m mac --mac-source 02:00:00:00:00:07", false),
            ("-m mac ! --mac-source 02:00:00:00:00:07", false),
        ],
        &f,
    );
    f.set_ethernet(
        MacAddr([2, 0, 0, 0, 0, 2]),
        MacAddr([2, 0, 0, 0, 0, 7]),
        0x0800,
    );
    f.pkt_type = PacketType::Multicast;
    all(
        &[
            ("-m mac --mac-source 02:00:00:00:00:07", true),
            ("-m mac ! --mac-source 02:00:00:00:00:08", true),
            ("-m pkttype --pkt-type multicast", true),
            ("-m pkttype --pkt-type unicast", false),
            ("-m pkttype ! --pkt-type broadcast", true),
        ],
        &f,
    );
}

/// Without a bridge only what is asked against holds (kernel 6.18: `! --physdev-in foo` counts them all).
#[test]
fn bridge_ports() {
    let plain = syn(80);
    all(
        &[
            ("-m physdev --physdev-is-bridged", false),
            ("-m physdev ! --physdev-is-bridged", true),
            ("-m physdev --physdev-in cali1", false),
            ("-m physdev ! --physdev-in cali1", true),
            ("-m physdev ! --physdev-in cali1 --physdev-out cni0", false),
        ],
        &plain,
    );
    let w = World::new("");
    let ports = |physin: Option<&str>, physout: Option<&str>| {
        let mut f = syn(80);
        let (physin, physout) = (physin.map(|n| w.dev(n)), physout.map(|n| w.dev(n)));
        f.bridged = Some(Bridged {
            physin,
            physout,
            ..Bridged::default()
        });
        f
    };
    all(
        &[
            ("-m physdev --physdev-is-bridged", true),
            ("-m physdev --physdev-in cali1 --physdev-out eth0", true),
            ("-m physdev --physdev-in cali+", true),
            ("-m physdev ! --physdev-in cali1", false),
            ("-m physdev ! --physdev-out cali1", true),
            ("-m physdev --physdev-is-in --physdev-is-out", true),
            ("-m physdev ! --physdev-is-in", false),
        ],
        &ports(Some("cali1"), Some("eth0")),
    );
    all(
        &[
            ("-m physdev --physdev-is-bridged", false),
            ("-m physdev ! --physdev-is-bridged", true),
            ("-m physdev --physdev-in cali1", true),
            ("-m physdev ! --physdev-out eth0", false),
        ],
        &ports(Some("cali1"), None),
    );
    // A packet of this host: `--physdev-in` asks nothing of it (physdev_mt).
    all(
        &[("-m physdev --physdev-in cali1", true)],
        &ports(None, Some("eth0")),
    );
}

/// What the kernel answered for `ping -s 56 -p 000102...0f`; the pattern begins 28 bytes in, its first
/// 16 bytes overwritten by the time.
#[test]
fn strings_lie_between_their_offsets() {
    let payload: Vec<u8> = (0..56)
        .map(|i| if i < 16 { 0xee } else { i as u8 % 16 })
        .collect();
    let f = packet(
        "10.0.0.9",
        "10.1.0.9",
        proto::ICMP,
        &[&[8, 0, 0, 0, 0, 1, 0, 1][..], &payload].concat(),
    );
    for (offsets, want) in [
        ("--from 57 --to 76", true),
        ("--from 57 --to 75", false),
        ("--from 56 --to 60", true),
        ("--from 73 --to 76", false),
        ("--to 60", true),
        ("--to 59", false),
    ] {
        for algo in ["bm", "kmp"] {
            let words = format!("-m string --hex-string \"|0c0d0e0f|\" --algo {algo} {offsets}");
            let mut w = World::new(&words);
            assert_eq!(matches(&mut w, &f), want, "{words}");
        }
    }
    let f = udp("10.0.0.9", "10.1.0.9", 1, 2, b"GET /Path");
    all(
        &[
            ("-m string --string \"/Path\" --algo bm", true),
            ("-m string --string \"/path\" --algo bm", false),
            ("-m string --string \"/path\" --algo bm --icase", true),
            ("-m string ! --string \"POST\" --algo kmp", true),
        ],
        &f,
    );
}

#[test]
fn u32_walks_the_packet() {
    let mut f = tcp("10.0.0.9", "10.1.0.9", 40000, 80, 2, &[2, 4, 5, 0xb4]);
    f.mark = 0;
    all(
        &[
            // The header length leads to the ports.
            ("-m u32 --u32 \"0>>22&0x3C@0>>16=40000\"", true),
            ("-m u32 --u32 \"0>>22&0x3C@0&0xFFFF=80:90\"", true),
            (
                "-m u32 --u32 \"6&0xFF=6 && 0>>22&0x3C@0&0xFFFF=1,80\"",
                true,
            ),
            ("-m u32 ! --u32 \"6&0xFF=17\"", true),
            ("-m u32 --u32 \"40=0x020405b4\"", true),
            ("-m u32 --u32 \"41=0:0xffffffff\"", false),
            ("-m u32 --u32 \"12<<8=0x00000900:0xffffff00\"", true),
        ],
        &f,
    );
}

#[test]
fn the_clock_is_the_worlds() {
    // 2026-11-21 is a Saturday; the world began at noon.
    let noon = 20_778 * 86_400 + 12 * 3_600;
    for (words, want) in [
        ("--weekdays Sat", true),
        ("! --weekdays Sat", false),
        ("--monthdays 21", true),
        ("--monthdays 20,22", false),
        ("--timestart 11:00 --timestop 13:00", true),
        ("--timestart 13:00 --timestop 14:00", false),
        ("--timestart 23:00 --timestop 11:00", false),
        ("--timestart 13:00 --timestop 12:30", true),
        ("--timestart 13:00 --timestop 12:30 --weekdays Fri", false),
        (
            "--timestart 13:00 --timestop 12:30 --weekdays Fri --contiguous",
            true,
        ),
        ("--datestart 2026-11-21T12:00:00", true),
        ("--datestart 2026-11-21T13:00:00", false),
        ("--datestop 2026-11-21T11:00:00", false),
    ] {
        let mut w = World::new(&format!("-m time {words}"));
        w.nf.state.epoch = noon;
        assert_eq!(matches(&mut w, &syn(80)), want, "{words}");
    }
}
