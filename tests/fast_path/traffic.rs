//! Frames as pods send them: flows with handshakes and answers, mostly ordinary, now and then not.

use crate::odd;
use crate::plan::pick;
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

/// Where frames may go besides pods: a Service's address, or a port of a node.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub ip: IpAddr,
    pub port: u16,
    /// The node's own MAC: hosts outside send to it.
    pub mac: Option<MacAddr>,
}

/// What a client sends to one place by one port: its frames come in bursts, and come again.
#[derive(Clone, Copy)]
pub struct Flow {
    /// The client.
    pub from: usize,
    dst: IpAddr,
    mac: MacAddr,
    protocol: u8,
    ports: (u16, u16),
    /// Where the client's numbers begin; the server's are by 4000 higher.
    begin: u32,
    /// The server answered the first segment.
    open: bool,
    /// Bytes that came from the server since.
    got: u32,
}

impl Flow {
    /// A client's way to a pod, a host, a Service or a node's port.
    pub fn draw(rng: &mut Rng, ends: &[End], from: usize, services: &[Target]) -> Flow {
        let src = &ends[from];
        let mut to = rng.below(ends.len() as u64) as usize;
        if to == from && rng.below(20) > 0 {
            to = (to + 1) % ends.len();
        }
        let to = &ends[to];
        let v6 = src.v6.is_some() && to.v6.is_some() && rng.below(2) == 0;
        let protocol = match rng.below(40) {
            0..=18 => proto::TCP,
            19 => odd::icmp(v6),
            _ => proto::UDP,
        };
        let mut flow = Flow {
            from,
            dst: match to.v6 {
                Some(ip) if v6 => IpAddr::V6(ip),
                _ => IpAddr::V4(to.ip),
            },
            mac: src.gateway,
            protocol,
            // Few ports: they come again for other connections.
            ports: (4000 + rng.below(3) as u16, 7),
            // Some pass the end of the numbers on their way.
            begin: pick(rng, &[1000, 1000, 70_000, 0xffff_ff80, 0xffff_f000]),
            open: false,
            got: 0,
        };
        // A pod's frames go by its gateway; a host outside sends to the nodes.
        let may = |t: &&Target| t.ip.is_ipv6() == v6 && (!src.outside || t.mac.is_some());
        let services: Vec<_> = services.iter().filter(may).collect();
        let near = src.bridged && to.host.ns == src.host.ns && to.host != src.host;
        let share = if src.outside { 0 } else { rng.below(3) };
        match share {
            0 if !services.is_empty() => {
                let target = services[rng.below(services.len() as u64) as usize];
                flow.ports.1 = target.port;
                flow.dst = target.ip;
                let mac = target.mac.filter(|_| src.outside);
                flow.mac = mac.unwrap_or(src.gateway);
            }
            _ if near && rng.below(20) > 0 => flow.mac = to.mac,
            _ => {}
        }
        flow
    }

    /// Whether there is more to be sent than a handshake's first segment.
    pub fn is_open(&self) -> bool {
        self.protocol != proto::TCP || self.open
    }

    /// Whether another is of the same addresses and ports.
    pub fn is_like(&self, other: &Flow) -> bool {
        let key = |f: &Flow| (f.from, f.dst, f.protocol, f.ports);
        key(self) == key(other)
    }

    /// The client got a frame: a handshake goes on, or a connection is over.
    pub fn heard(&mut self, rng: &mut Rng, f: &[u8]) {
        let Some(l4) = tcp_header(f).filter(|_| self.protocol == proto::TCP) else {
            return;
        };
        let ports = [self.ports.1, self.ports.0].map(u16::to_be_bytes).concat();
        let number = |at: usize| u32::from_be_bytes([l4[at], l4[at + 1], l4[at + 2], l4[at + 3]]);
        if l4[..4] != ports {
            return;
        }
        match l4[13] {
            flags if flags & RST != 0 => self.again(rng),
            flags if flags == SYN | ACK => self.open |= number(8) == self.begin.wrapping_add(1),
            _ => {
                let end = number(4).wrapping_add(l4.len() as u32 - 20);
                let new = end.wrapping_sub(self.begin.wrapping_add(4001));
                self.got = if new < 100_000 {
                    self.got.max(new)
                } else {
                    self.got
                };
            }
        }
    }

    /// Its next frame, or what became of it: pieces, something broken.
    pub fn frames(&mut self, rng: &mut Rng, ends: &[End]) -> Vec<Vec<u8>> {
        let src = &ends[self.from];
        let ttl = if rng.below(200) == 0 {
            rng.below(4) as u8
        } else {
            64
        };
        let payload = match rng.below(60) {
            0 => rng.below(1600) as usize,
            1 => 1370 + rng.below(110) as usize,
            _ => rng.below(60) as usize,
        };
        let mut said = Said {
            protocol: self.protocol,
            ports: self.ports,
            payload,
            tcp: (0, 0, 0, 0),
        };
        if self.protocol == proto::TCP {
            said.tcp = self.segment(rng);
        }
        if said.tcp.0 & SYN != 0 {
            said.payload = 0;
        }
        let mut f = frame(src, own(src, self.dst), self.dst, self.mac, &said, ttl);
        if self.protocol == proto::UDP && rng.below(150) == 0 {
            return odd::pieces(rng, &f);
        }
        odd::shape(rng, &mut f);
        spoil(rng, &mut f);
        vec![f]
    }

    /// The client's next segment: a handshake, then data within the window, now and then something else.
    fn segment(&mut self, rng: &mut Rng) -> (u8, u32, u32, u16) {
        if !self.open && rng.below(8) > 0 {
            return (SYN, self.begin, 0, 64_000);
        }
        let mut seq = self.begin.wrapping_add(1 + rng.below(200) as u32);
        let mut ack = self
            .begin
            .wrapping_add(4001 + rng.below(1 + u64::from(self.got)) as u32);
        let mut window = 60_000 + rng.below(4000) as u16;
        let mut flags = if rng.below(2) == 0 { ACK } else { ACK | PUSH };
        match rng.below(240) {
            0..=2 => return (SYN, self.begin, 0, 64_000),
            3 | 4 => {
                flags = FIN | ACK;
                self.again(rng);
            }
            5 => {
                flags = RST;
                self.again(rng);
            }
            6 => flags = RST | ACK,
            7 => flags = rng.below(256) as u8,
            // A window that is shut, or opens by little.
            8..=11 => window = pick(rng, &[0, 1, 3, 0xffff]),
            // Beyond what the other end's window admits, or long before it.
            12..=15 => seq = seq.wrapping_add(pick(rng, &[70_000, 9_000_000, 0xffff_0000])),
            16..=19 => ack = ack.wrapping_add(pick(rng, &[3, 90_000, 0xffff_0000, 0x8000_0000])),
            // Urgent, ECN-echo, window reduced.
            20 => flags |= 0x20,
            21..=23 => flags |= pick(rng, &[0x40, 0x80]),
            // A keep-alive.
            24 => seq = self.begin,
            _ => {}
        }
        (flags, seq, ack, window)
    }

    /// Mostly another connection by the same ports follows one that ended.
    fn again(&mut self, rng: &mut Rng) {
        if rng.below(3) > 0 {
            (self.open, self.got) = (false, 0);
            self.begin = self
                .begin
                .wrapping_add(pick(rng, &[0, 500_000, 0x9000_0000]));
        }
    }
}

/// One frame in forty is not what it was meant to be.
fn spoil(rng: &mut Rng, f: &mut Vec<u8>) {
    match rng.below(160) {
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

/// The TCP header of a frame of the common shape.
fn tcp_header(f: &[u8]) -> Option<&[u8]> {
    let l4 = match f.get(12..24)? {
        [0x08, 0x00, 0x45, .., proto::TCP] => f.get(34..),
        [0x86, 0xdd, ..] if f[20] == proto::TCP => f.get(54..),
        _ => None,
    };
    l4.filter(|l4| l4.len() >= 20)
}

/// Whether a frame begins a TCP connection.
pub fn opens(f: &[u8]) -> bool {
    tcp_header(f).is_some_and(|l4| l4[13] == SYN)
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
            let ack = u32::from_be_bytes([h[8], h[9], h[10], h[11]]);
            let window = if rng.below(60) == 0 { 2 } else { 65_000 };
            said.tcp = match h[13] {
                SYN => (
                    SYN | ACK,
                    seq.wrapping_add(4000),
                    seq.wrapping_add(1),
                    window,
                ),
                flags if flags & (SYN | RST) != 0 => return None,
                flags if flags & FIN != 0 => (FIN | ACK, ack, seq.wrapping_add(1), window),
                _ if rng.below(200) == 0 => (RST | ACK, ack, seq, 0),
                _ => {
                    let flags = if rng.below(2) == 0 { ACK } else { ACK | PUSH };
                    let own = ack.wrapping_add(rng.below(100) as u32);
                    (flags, own, seq.wrapping_add(data), window)
                }
            };
            if said.tcp.0 & SYN != 0 {
                said.payload = 0;
            }
        }
        _ => return None,
    }
    // A host outside mostly answers to whom it was sent by.
    let sender = f[6..12].first_chunk().map_or(end.gateway, |m| MacAddr(*m));
    let back = end.outside && rng.below(5) > 0;
    let mac = if back { sender } else { end.gateway };
    Some(frame(end, dst, src, mac, &said, 64))
}
