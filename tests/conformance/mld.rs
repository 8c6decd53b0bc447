//! MLD reports of the time between the loading of the rules and the first captured frame.
//!
//! Interfaces that come up report their groups twice, after delays the kernel draws (`mld_ifc_event`,
//! `mld_ifc_start_timer`: up to one unsolicited report interval). How many fall between the loading of the rules
//! and the end differs from run to run on the kernel itself: three runs of v6-clusterip counted 10, 8 and 8 copies
//! in n1's FORWARD, 8, 7 and 8 reports in its OUTPUT. They were not captured, but counted: their number is read
//! from the two base chains' policies and they are sent before the first frame. All other counters, and that
//! the packets are told apart by nothing but their lengths, remain podpath's to get right.

use super::dumps::State;
use super::plan::{Change, Reports, What};
use super::play::Player;
use super::recordings::Recording;
use super::topo::{Port, Topo};
use podpath::net::PortAt;
use podpath::sim::SendOptions;
use podpath::wire::{Frame, MacAddr, build, proto};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

/// All MLDv2-capable routers (RFC 3810 section 5.2.14).
const ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
/// IPv6 header, hop-by-hop header with the router alert, report without records.
const BARE: u64 = 40 + 8 + 8;
/// A record of one group without sources.
const RECORD: u64 = 20;
/// Groups of a pod: those of its link-local and of its global address.
const POD_GROUPS: u64 = 2;

/// What is missing in the counters of the nodes as they were played.
pub fn unheard(
    r: &Recording<'_>,
    topo: &Topo<'_>,
    states: &BTreeMap<String, State>,
) -> Vec<Change> {
    let mut out = Vec::new();
    for (ns, ours) in states.iter().filter(|(ns, _)| topo.emulated(ns)) {
        let kernel = r.text(&format!("dumps/{ns}/ip6tables-save.txt"));
        let (Some(kernel), Ok(ours)) = (kernel, &ours.save[1]) else {
            continue;
        };
        let missing = |chain: &str| {
            let ((p, b), (q, c)) = (policy(&kernel, chain)?, policy(ours, chain)?);
            Some((p.checked_sub(q)?, b.checked_sub(c)?))
        };
        let copies = missing("FORWARD").filter(|(p, b)| *b == p * (BARE + POD_GROUPS * RECORD));
        let reports = Reports {
            copies: copies.map_or(0, |(p, _)| p),
            own: missing("OUTPUT").and_then(records).unwrap_or_default(),
        };
        if reports.copies > 0 || !reports.own.is_empty() {
            out.push(Change {
                t_ns: None,
                ns: ns.clone(),
                what: What::Reports(reports),
            });
        }
    }
    out
}

/// Packets and bytes of a base chain of the filter table.
fn policy(save: &str, chain: &str) -> Option<(u64, u64)> {
    let head = format!(":{chain} ");
    let filter = save.lines().skip_while(|l| *l != "*filter");
    let line = filter
        .take_while(|l| *l != "COMMIT")
        .find_map(|l| l.strip_prefix(&head))?;
    let (p, b) = line.split_once('[')?.1.strip_suffix(']')?.split_once(':')?;
    Some((p.parse().ok()?, b.parse().ok()?))
}

/// Records of each of `p` reports that are `b` bytes together.
fn records((p, b): (u64, u64)) -> Option<Vec<u64>> {
    let all = b.checked_sub(p * BARE)?;
    if p == 0 || all % RECORD != 0 {
        return None;
    }
    let all = all / RECORD;
    Some((0..p).map(|i| all / p + u64::from(i < all % p)).collect())
}

/// Sends them.
pub fn send(p: &mut Player<'_, '_>, ns: &str, reports: &Reports) -> Result<(), String> {
    let topo = p.topo;
    let bridge = topo
        .devices
        .iter()
        .find(|(b, d)| b.0 == ns && d.kind == "bridge");
    let (bridge, _) = bridge.ok_or("no bridge")?;
    let ports = topo.ports(bridge);
    let pod = ports
        .iter()
        .find_map(|q| topo.peers.get(q))
        .ok_or("no pod")?;
    // Every port has hairpin on: a copy leaves by the one it came by, too.
    for _ in 0..reports.copies / ports.len().max(1) as u64 {
        let (at, mac) = place(p, pod)?;
        let mut frame = vec![0x33, 0x33, 0, 0, 0, 0x16];
        frame.extend(mac.0);
        frame.extend([0x86, 0xdd]);
        frame.extend(report(mac, POD_GROUPS));
        p.world.transmit(at, Frame::ethernet(&frame), &mut p.obs);
    }
    let (at, mac) = place(p, bridge)?;
    for records in &reports.own {
        let options = SendOptions {
            oif: Some(at.dev),
            ..SendOptions::default()
        };
        let packet = report(mac, *records);
        let (_, sent) = p.world.send_with(at.ns, &packet, options, &mut p.obs);
        sent.map_err(|e| format!("report: {e:?}"))?;
    }
    Ok(())
}

fn place(p: &Player<'_, '_>, port: &Port) -> Result<(PortAt, MacAddr), String> {
    let mac = p.topo.macs.get(port).copied();
    p.port(port)
        .zip(mac)
        .ok_or(format!("no {}.{}", port.0, port.1))
}

/// A report (RFC 3810 section 5.2) with so many records of groups that nobody reads.
fn report(mac: MacAddr, records: u64) -> Vec<u8> {
    let m = mac.0;
    let id = [m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]];
    let src = Ipv6Addr::from((0xfe80_u128 << 112) | u128::from(u64::from_be_bytes(id)));
    let mut message = vec![143, 0, 0, 0, 0, 0, 0, records as u8];
    for i in 0..records {
        message.extend([4, 0, 0, 0]);
        let group = (0xff02_u128 << 112) | 0x1_ff00_0000 | u128::from(i);
        message.extend(Ipv6Addr::from(group).octets());
    }
    build::fill_icmp_checksum(&mut message, src.into(), ROUTERS.into());
    let mut payload = vec![proto::ICMPV6, 0, 5, 2, 0, 0, 1, 0];
    payload.extend(message);
    let dst = IpAddr::V6(ROUTERS);
    build::ip_packet(src.into(), dst, 0, 1, 0, 0, true, &payload)
}
