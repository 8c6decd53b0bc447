//! Fragments through conntrack: as Linux 6.18 let them out again.

use crate::bridge;
use crate::net::{Net, ip, routed, told, udp};
use podpath::wire::{IpHeader, build, ip as header, proto};

/// A datagram cut by hand: payload lengths, and which pieces have DF.
fn cut(src: &str, dst: &str, parts: &[usize], df: &[bool]) -> Vec<Vec<u8>> {
    let whole = udp(
        (src, 1000),
        (dst, 9),
        &vec![7; parts.iter().sum::<usize>() - 8],
    );
    let h = IpHeader::parse(&whole).unwrap();
    let payload = h.payload(&whole);
    let mut at = 0;
    let cut = parts.iter().enumerate().map(|(i, len)| {
        let (off, more) = (at, i + 1 < parts.len());
        at += len;
        let chunk = &payload[off..at];
        if !h.is_v4() {
            let mut p = vec![proto::UDP, 0];
            p.extend_from_slice(&(off as u16 | u16::from(more)).to_be_bytes());
            p.extend_from_slice(&[0, 0, 0, 9]);
            p.extend_from_slice(chunk);
            return build::ip_packet(ip(src), ip(dst), 44, 64, 0, 0, true, &p);
        }
        let df = df.get(i).or(df.last()) == Some(&true);
        let mut p = build::ip_packet(ip(src), ip(dst), proto::UDP, 64, 0, 9, df, chunk);
        let word = u16::from_be_bytes([p[6], p[7]]) | (off / 8) as u16 | u16::from(more) << 13;
        p[6..8].copy_from_slice(&word.to_be_bytes());
        header::fill_v4_checksum(&mut p);
        p
    });
    cut.collect()
}

/// Lengths and DF of what came out at a place.
fn passed(n: &mut Net, from: &str, pieces: &[Vec<u8>], place: &str) -> Vec<String> {
    for p in pieces {
        n.send(from, p).unwrap();
    }
    let taps = n.at(place);
    let heads = taps.iter().map(|t| IpHeader::parse(t.frame.l3()).unwrap());
    heads
        .filter(|h| h.is_fragment())
        .map(|h| {
            format!(
                "{}{}",
                h.total_len,
                if h.df && h.is_v4() { " DF" } else { "" }
            )
        })
        .collect()
}

fn tracking() -> Net {
    let mut n = routed();
    n.iptables("router", "filter; -A FORWARD -m conntrack --ctstate NEW");
    n.ip6tables("router", "filter; -A FORWARD -m conntrack --ctstate NEW");
    n
}

const C: &str = "10.1.0.10";
const S: &str = "10.2.0.10";

#[test]
fn a_router_keeps_their_boundaries_but_not_df() {
    let cases: [(&[usize], &[bool], &[&str]); 4] = [
        (
            &[1200, 400, 1000, 304],
            &[],
            &["1220", "420", "1020", "324"],
        ),
        (&[400, 1200, 304], &[], &["420", "1220", "324"]),
        (&[1200, 400, 304], &[true], &["1220", "420", "324"]),
        (
            &[1200, 400, 304],
            &[false, true, false],
            &["1220", "420", "324"],
        ),
    ];
    for (parts, df, want) in cases {
        let mut n = tracking();
        let pieces = cut(C, S, parts, df);
        assert_eq!(passed(&mut n, "client", &pieces, "router e2 Out"), want);
        let mut n = tracking();
        let back: Vec<_> = pieces.into_iter().rev().collect();
        assert_eq!(
            passed(&mut n, "client", &back, "router e2 Out"),
            want,
            "reversed"
        );
        let mut n = routed();
        assert_eq!(
            passed(&mut n, "client", &back, "router e2 Out").len(),
            want.len()
        );
    }
}

#[test]
fn a_smaller_mtu_cuts_anew_unless_a_piece_with_df_was_too_big() {
    let mut n = tracking();
    n.run("router", "ip link set e2 mtu 1400");
    let pieces = cut(C, S, &[1480, 800, 100], &[]);
    assert_eq!(
        passed(&mut n, "client", &pieces, "router e2 Out"),
        ["1396", "1024"]
    );
    let pieces = cut(C, S, &[1480, 400, 304], &[false, true, false]);
    assert_eq!(
        passed(&mut n, "client", &pieces, "router e2 Out"),
        ["1396", "828"]
    );
    n.taps();
    let pieces = cut(C, S, &[1480, 400, 304], &[true]);
    for p in &pieces {
        n.send("client", p).unwrap();
    }
    let told = n.lines_at("client eth0 In");
    assert_eq!(told.len(), 1);
    assert!(
        told[0].starts_with("10.1.0.1 > 10.1.0.10 ttl 64 icmp 3/4 1400 "),
        "{told:?}"
    );
}

#[test]
fn ipv6_keeps_them_and_is_told_what_is_too_big() {
    let mut n = tracking();
    let pieces = cut("fd00:1::10", "fd00:2::10", &[1232, 400, 304], &[]);
    assert_eq!(
        passed(&mut n, "client", &pieces, "router e2 Out"),
        ["1280", "448", "352"]
    );
    n.run("router", "ip link set e2 mtu 1400");
    let pieces = cut("fd00:1::10", "fd00:2::10", &[1448, 400, 304], &[]);
    for p in &pieces {
        n.send("client", p).unwrap();
    }
    let told = n.lines_at("client eth0 In");
    let big: Vec<_> = told
        .iter()
        .filter(|l| l.contains("icmp 2/0 1400"))
        .collect();
    assert_eq!(big.len(), 1, "{told:?}");
}

#[test]
fn a_tunnel_cuts_to_the_largest_and_keeps_df() {
    let vxlan = "ip link add vx type vxlan id 7 dstport 4789 local 10.2.0.1
        bridge fdb append 00:00:00:00:00:00 dev vx dst 10.2.0.10
        ip link set vx up; ip addr add 10.9.0.1/24 dev vx
        ip neigh add 10.9.0.10 lladdr 02:00:00:00:00:99 dev vx nud permanent";
    let cases: [(&[usize], &[bool], &[&str]); 3] = [
        (&[1200, 400, 1000, 304], &[], &["1220", "1220", "524"]),
        (&[1200, 400, 304], &[true], &["1220 DF", "724 DF"]),
        (&[1200, 400, 304], &[false, true, false], &["1220", "724"]),
    ];
    for (parts, df, want) in cases {
        let mut n = tracking();
        n.run("router", vxlan);
        let pieces = cut(C, "10.9.0.10", parts, df);
        assert_eq!(passed(&mut n, "client", &pieces, "router vx Out"), want);
    }
}

#[test]
fn a_bridge_sends_them_on_as_they_came_and_the_host_up_to_its_mtu() {
    let rules = "nat; -A PREROUTING -d 10.96.0.1 -p udp -j DNAT --to-destination 10.244.1.3:9
        -A PREROUTING -d 10.96.0.3 -p udp -j DNAT --to-destination 192.168.0.9:9";
    let mut n = bridge::node(rules);
    let pieces = cut("10.244.1.2", "10.96.0.1", &[1200, 400, 1000, 304], &[]);
    let out = passed(&mut n, "a", &pieces, "node vb Out");
    assert_eq!(out, ["1220", "420", "1020", "324"]);
    // What goes up has forgotten how large it came, but not that DF may be ignored.
    let mut n = bridge::node(rules);
    n.run("node", "ip link set e0 mtu 1400");
    let pieces = cut("10.244.1.2", "10.96.0.3", &[1480, 400, 304], &[true]);
    assert_eq!(passed(&mut n, "a", &pieces, "node e0 Out"), ["1396", "828"]);
}

#[test]
fn what_never_becomes_whole_dies_silently_on_a_router() {
    let mut n = tracking();
    let pieces = cut(C, S, &[1200, 400], &[]);
    n.send("client", &pieces[0]).unwrap();
    n.wait(40);
    assert!(n.lines_at("client eth0 In").is_empty());
    let mut n = tracking();
    n.send("client", &cut(C, "10.1.0.1", &[1200, 400], &[])[0])
        .unwrap();
    n.wait(40);
    let told = n.lines_at("client eth0 In");
    assert_eq!(told.len(), 1, "an end host tells: {told:?}");
    assert!(told[0].contains("icmp 11/1"));
}

#[test]
fn the_translated_checksum_of_a_whole_is_right() {
    let mut n = routed();
    n.iptables(
        "router",
        "nat; -A PREROUTING -d 10.96.0.1 -p udp -j DNAT --to-destination 10.2.0.10:9",
    );
    n.bind("server", proto::UDP, 9);
    for p in cut(C, "10.96.0.1", &[1200, 400, 304], &[]) {
        n.send("client", &p).unwrap();
    }
    let got = n.delivered();
    assert_eq!(
        told(got[0].l3()),
        "10.1.0.10 > 10.2.0.10 ttl 63 udp 1000 > 9"
    );
}
