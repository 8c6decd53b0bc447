//! Frames as pods send them: mostly ordinary, now and then not.

use crate::odd;
use crate::side::End;
use podpath::base::Rng;
use podpath::wire::{ETH_P_IP, ETH_P_IPV6, Frame, MacAddr, build, checksum, proto};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PUSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// What a packet says behind its IP header.
#[derive(Clone, Copy)]
pub struct Said {
    protocol: u8,
    ports: (u16, u16),
    payload: usize,
    /// TCP: flags, numbers, window.
    tcp: (u8, u32, u32, u16),
}

fn segment(src: IpAddr, dst: IpAddr, said: &Said) -> Vec<u8> {
    let (flags, seq, ack, window) = said.tcp;
    let mut t = Vec::new();
    t.extend(said.ports.0.to_be_bytes());
    t.extend(said.ports.1.to_be_bytes());
    t.extend(seq.to_be_bytes());
    t.extend(ack.to_be_bytes());
    let options: &[u8] = match flags & SYN {
        0 => &[],
        // Maximum segment size, SACK permitted, window scale.
        _ => &[2, 4, 5, 180, 4, 2, 1, 3, 3, 7, 1, 1],
    };
    t.push((5 + options.len() as u8 / 4) << 4);
    t.push(flags);
    t.extend(window.to_be_bytes());
    t.extend([0; 4]);
    t.extend(options);
    t.extend(vec![0x5a; said.payload]);
    let sum = !checksum::sum(&t, checksum::pseudo(src, dst, proto::TCP, t.len()));
    t[16..18].copy_from_slice(&(sum as u16).to_be_bytes());
    t
}

fn frame(src: &End, from: IpAddr, dst: IpAddr, mac: MacAddr, said: &Said, ttl: u8) -> Vec<u8> {
    let l4 = match said.protocol {
        proto::TCP => segment(from, dst, said),
        proto::ICMP | proto::ICMPV6 => odd::echo(from, dst, said.ports.0, said.payload),
        _ => build::udp(
            from,
            dst,
            said.ports.0,
            said.ports.1,
            &vec![0x5a; said.payload],
        ),
    };
    let packet = build::ip_packet(from, dst, said.protocol, ttl, 0, 7, false, &l4);
    let mut f = Frame::ip(&packet);
    let ethertype = if dst.is_ipv4() { ETH_P_IP } else { ETH_P_IPV6 };
    f.set_ethernet(mac, src.mac, ethertype);
    f.data().to_vec()
}

/// A datagram by a pod's gateway.
pub fn udp(src: &End, dst: IpAddr, ports: (u16, u16), payload: usize) -> Vec<u8> {
    let said = Said {
        protocol: proto::UDP,
        ports,
        payload,
        tcp: (0, 0, 0, 0),
    };
    frame(src, own(src, dst), dst, src.gateway, &said, 64)
}

#[allow(dead_code, reason = "the test of allocations sends it")]
/// A segment by a pod's gateway: flags, sequence and acknowledgement numbers.
pub fn tcp(src: &End, dst: IpAddr, ports: (u16, u16), said: (u8, u32, u32)) -> Vec<u8> {
    let said = Said {
        protocol: proto::TCP,
        ports,
        payload: 0,
        tcp: (said.0, said.1, said.2, 64_000),
    };
    frame(src, own(src, dst), dst, src.gateway, &said, 64)
}

/// A pod's address of the family of another.
fn own(src: &End, dst: IpAddr) -> IpAddr {
    match (dst, src.v6) {
        (IpAddr::V6(_), Some(ip)) => IpAddr::V6(ip),
        _ => IpAddr::V4(src.ip),
    }
}

/// A client's segment: numbers near those of a connection that began with 1000.
fn client_segment(rng: &mut Rng) -> (u8, u32, u32, u16) {
    let flags = match rng.below(40) {
        0..=3 => return (SYN, 1000, 0, 64_000),
        4 => FIN | ACK,
        5 if rng.below(3) == 0 => RST,
        6 => rng.below(256) as u8,
        7..=22 => ACK,
        _ => ACK | PUSH,
    };
    let seq = 1001 + rng.below(200) as u32;
    let far = rng.below(9) == 0;
    let ack = 5001 + rng.below(if far { 90_000 } else { 100 }) as u32;
    (flags, seq, ack, 60_000 + rng.below(4000) as u16)
}

/// Where frames may go besides pods: a Service's address, or a port of a node.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub ip: IpAddr,
    pub port: u16,
    /// The node's own MAC: hosts outside send to it.
    pub mac: Option<MacAddr>,
}

/// A frame of a pod or host.
///
/// Whether it is as most frames are, too.
pub fn draw(rng: &mut Rng, ends: &[End], from: usize, services: &[Target]) -> (Vec<u8>, bool) {
    let src = &ends[from];
    let mut to = rng.below(ends.len() as u64) as usize;
    if to == from && rng.below(20) > 0 {
        to = (to + 1) % ends.len();
    }
    let to = &ends[to];
    let ttl = if rng.below(100) == 0 {
        rng.below(4) as u8
    } else {
        64
    };
    let payload = match rng.below(40) {
        0 => rng.below(1600) as usize,
        1 => 1400 + rng.below(80) as usize,
        _ => rng.below(60) as usize,
    };
    let v6 = src.v6.is_some() && to.v6.is_some() && rng.below(2) == 0;
    let ip = |end: &End| match end.v6 {
        Some(ip) if v6 => IpAddr::V6(ip),
        _ => IpAddr::V4(end.ip),
    };
    let protocol = match rng.below(40) {
        0..=18 => proto::TCP,
        19 => odd::icmp(v6),
        _ => proto::UDP,
    };
    let mut said = Said {
        protocol,
        ports: (4000 + rng.below(3) as u16, 7),
        payload,
        tcp: client_segment(rng),
    };
    if said.tcp.0 == SYN {
        said.payload = 0;
    }
    // A pod's frames go by its gateway; a host outside sends to the nodes.
    let may = |t: &&Target| t.ip.is_ipv6() == v6 && (!src.outside || t.mac.is_some());
    let services: Vec<_> = services.iter().filter(may).collect();
    let near = src.bridged && to.host.ns == src.host.ns && to.host != src.host;
    let share = if src.outside { 0 } else { rng.below(3) };
    let (dst, mac) = match share {
        0 if !services.is_empty() => {
            let target = services[rng.below(services.len() as u64) as usize];
            said.ports.1 = target.port;
            let mac = target.mac.filter(|_| src.outside);
            (target.ip, mac.unwrap_or(src.gateway))
        }
        _ if near && rng.below(20) > 0 => (ip(to), to.mac),
        _ => (ip(to), src.gateway),
    };
    let mut f = frame(src, ip(src), dst, mac, &said, ttl);
    let before = f.clone();
    odd::shape(rng, &mut f);
    spoil(rng, &mut f);
    let plain = f == before && ttl == 64;
    (f, plain)
}

/// One frame in fifteen is not what it was meant to be.
fn spoil(rng: &mut Rng, f: &mut Vec<u8>) {
    match rng.below(60) {
        0 => {
            let at = rng.below(f.len() as u64) as usize;
            f[at] ^= 1 << rng.below(8);
        }
        1 => f.truncate(rng.below(f.len() as u64) as usize),
        2 => f.extend([0; 9]),
        3 if f[23] == proto::UDP => (f[40], f[41]) = (0, 0),
        _ => {}
    }
}

/// Whether a frame asks for an IPv6 address or tells one (RFC 4861 sections 4.3 and 4.4).
pub fn solicits(f: &[u8]) -> bool {
    matches!(f, [_, _, _, _, _, _, _, _, _, _, _, _, 0x86, 0xdd, ..])
        && f.get(20) == Some(&proto::ICMPV6)
        && matches!(f.get(54), Some(135 | 136))
}

/// What a pod answers to a frame that it got, if to anything.
pub fn answer(rng: &mut Rng, end: &End, f: &[u8]) -> Option<Vec<u8>> {
    let (src, dst, protocol, l4) = match f.get(12..15)? {
        [0x08, 0x00, 0x45] => {
            let ip = |at: usize| Some(IpAddr::V4(Ipv4Addr::from(*f.get(at..)?.first_chunk()?)));
            (ip(26)?, ip(30)?, f[23], f.get(34..)?)
        }
        [0x86, 0xdd, _] => {
            let ip = |at: usize| Some(IpAddr::V6(Ipv6Addr::from(*f.get(at..)?.first_chunk()?)));
            (ip(22)?, ip(38)?, f[20], f.get(54..)?)
        }
        _ => return None,
    };
    let own = [Some(IpAddr::V4(end.ip)), end.v6.map(IpAddr::V6)];
    if !own.contains(&Some(dst)) || l4.len() < 8 {
        return None;
    }
    let port = |at: usize| u16::from_be_bytes([l4[at], l4[at + 1]]);
    let mut said = Said {
        protocol,
        ports: (port(2), port(0)),
        payload: rng.below(50) as usize,
        tcp: (0, 0, 0, 0),
    };
    match protocol {
        proto::UDP => {}
        proto::TCP => {
            let h = l4.first_chunk::<20>()?;
            let seq = u32::from_be_bytes([h[4], h[5], h[6], h[7]]);
            let data = l4.len().saturating_sub(usize::from(h[12] >> 4) * 4) as u32;
            said.tcp = match h[13] {
                SYN => (SYN | ACK, 5000, seq.wrapping_add(1), 65_000),
                flags if flags & FIN != 0 => (FIN | ACK, 5001, seq.wrapping_add(1), 65_000),
                _ if rng.below(30) == 0 => (RST | ACK, 5001, seq, 0),
                _ => {
                    let flags = if rng.below(2) == 0 { ACK } else { ACK | PUSH };
                    let own = 5001 + rng.below(100) as u32;
                    (flags, own, seq.wrapping_add(data), 65_000)
                }
            };
            if said.tcp.0 & SYN != 0 {
                said.payload = 0;
            }
        }
        _ => return None,
    }
    Some(frame(end, dst, src, end.gateway, &said, 64))
}
