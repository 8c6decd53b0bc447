//! Draws frames: new flows, answers to what came out of the router, errors about it, and damaged ones.
//!
//! Answers are made from frames that were seen, so that a translated flow is answered as its server would.

use super::net::{LAST_HOST, Shape, host, host_mac};
use super::packet::*;
use super::rng::Rng;
use super::round::{LOCAL, Sent};
use std::net::IpAddr;

/// Ports that servers have; rules ask for the same ones.
pub const PORTS: [u16; 8] = [53, 80, 443, 1000, 5000, 8080, 30080, 9];
/// Addresses that exist nowhere but in NAT rules.
pub const VIPS: [u8; 3] = [1, 2, 3];

/// A service address.
pub fn vip(n: u8, v6: bool) -> IpAddr {
    let text = match v6 {
        true => format!("fd96::{n}"),
        false => format!("10.96.0.{n}"),
    };
    text.parse().expect("an address")
}

/// Somebody far away.
pub fn outside(v6: bool) -> IpAddr {
    let text = if v6 { "2001:db8::7" } else { "203.0.113.7" };
    text.parse().expect("an address")
}

/// What the traffic of one round needs to know.
pub struct Traffic {
    pub shape: Shape,
    pub v6: bool,
    /// Frames that came out so far.
    pub seen: Vec<Seen>,
    next_port: u16,
    next_id: u16,
}

impl Traffic {
    /// None yet; fragments' identifications begin at `id` so that no two rounds share one.
    pub fn new(shape: Shape, v6: bool, id: u16) -> Self {
        Traffic {
            shape,
            v6,
            seen: Vec::new(),
            next_port: 40000,
            next_id: id,
        }
    }

    /// The next frames: usually one, several for a fragmented packet.
    pub fn draw(&mut self, rng: &mut Rng) -> Vec<Sent> {
        let sent = match rng.below(100) {
            _ if self.seen.is_empty() => self.fresh(rng),
            0..=29 => self.fresh(rng),
            30..=39 => self.error(rng),
            _ => self.answer(rng),
        };
        let mut sent = sent;
        if rng.chance(3) {
            sent.iter_mut().for_each(|s| damage(s, rng));
        }
        sent
    }

    fn address(&self, rng: &mut Rng) -> (usize, u8, IpAddr) {
        let network = *rng.pick(self.shape.networks());
        let n = 2 + rng.below(3) as u8;
        (network, n, host(network, n, self.v6))
    }

    fn destination(&self, rng: &mut Rng) -> IpAddr {
        let network = *rng.pick(self.shape.networks());
        match rng.below(100) {
            0..=49 => host(network, 2 + rng.below(4) as u8, self.v6),
            50..=69 => vip(*rng.pick(&VIPS), self.v6),
            70..=89 => host(network, 1, self.v6),
            90..=96 => outside(self.v6),
            _ if self.v6 => outside(true),
            97 => "10.1.0.255".parse().expect("an address"),
            _ => "224.0.0.9".parse().expect("an address"),
        }
    }

    /// The first packet of a flow, or one that pretends to belong to none.
    fn fresh(&mut self, rng: &mut Rng) -> Vec<Sent> {
        let (network, n, src) = self.address(rng);
        let dst = self.destination(rng);
        let proto = rng.weighted(&[
            (45, TCP),
            (30, UDP),
            (15, if self.v6 { ICMP6 } else { ICMP }),
            (7, SCTP),
            (3, 47),
        ]);
        let mut ip = Ip::new(src, dst, proto);
        self.next_id = self.next_id.wrapping_add(1);
        ip.id = self.next_id;
        ip.tos = rng.weighted(&[(80, 0), (10, 0x10), (10, 0xB8)]);
        ip.ttl = rng.weighted(&[(90, 64), (4, 1), (3, 2), (3, 255)]);
        if rng.chance(30) {
            ip.frag = 0;
        }
        let (l4, what) = self.message(&ip, rng);
        let local = !self.v6 && rng.chance(8);
        if local {
            ip.src = host(network, 1, false);
            let l4 = remade(&ip, &l4);
            return vec![sent(
                LOCAL,
                packet(&ip, &l4),
                format!("{what}, of the router"),
            )];
        }
        if self.v6 || l4.len() < 64 || !rng.chance(40) {
            return vec![self.sent_by_host(network, n, &packet(&ip, &l4), what)];
        }
        ip.frag = 0;
        let pieces = fragments(&ip, &l4, rng);
        let each = pieces.iter().enumerate();
        each.map(|(i, p)| self.sent_by_host(network, n, p, format!("{what}, fragment {i}")))
            .collect()
    }

    fn message(&mut self, ip: &Ip, rng: &mut Rng) -> (Vec<u8>, String) {
        let reuse = rng.chance(15);
        if !reuse {
            self.next_port += 1;
        }
        let ports = (self.next_port, *rng.pick(&PORTS));
        let size = rng.weighted(&[(60, 8), (25, 100), (10, 1200), (5, 1400)]);
        match ip.proto {
            TCP => {
                let flags = rng.weighted(&[
                    (80, SYN),
                    (6, ACK),
                    (4, SYN | ACK),
                    (3, RST),
                    (3, FIN | ACK),
                    (2, SYN | FIN),
                    (2, 0),
                ]);
                let data = vec![b'd'; if flags == ACK { size } else { 0 }];
                let segment = Segment {
                    ports,
                    seq: rng.next() as u32,
                    ack: if flags & ACK != 0 { 7 } else { 0 },
                    flags,
                    window: 64240,
                    options: if flags & SYN != 0 { SYN_OPTIONS } else { &[] },
                    data: &data,
                };
                (tcp(ip, &segment), format!("new tcp flags {flags:#x}"))
            }
            UDP => (udp(ip, ports, &payload(size, rng)), "new udp".to_owned()),
            SCTP => (
                sctp(ports, 0, &chunk(1, &[rng.next() as u8 | 1; 16])),
                "new sctp".to_owned(),
            ),
            ICMP | ICMP6 => {
                let echo = if ip.proto == ICMP { 8 } else { 128 };
                let kind = rng.weighted(&[(90, (echo, 0)), (5, (13, 0)), (5, (0, 0))]);
                let kind = if ip.proto == ICMP6 { (echo, 0) } else { kind };
                let word = u32::from(ports.0) << 16 | 1;
                let message = icmp(ip, kind, word, &payload(size, rng));
                (message, format!("new icmp {}/{}", kind.0, kind.1))
            }
            _ => (payload(24, rng), "new other".to_owned()),
        }
    }

    fn sent_by_host(&self, network: usize, n: u8, packet: &[u8], what: String) -> Sent {
        let cable = self.shape.cable_of(network, n);
        let to = self.l2_destination(cable, packet);
        sent(
            &format!("r{cable}"),
            frame(to, host_mac(cable), packet),
            what,
        )
    }

    /// The gateway, or on the bridge the host itself.
    fn l2_destination(&self, cable: usize, packet: &[u8]) -> [u8; 6] {
        let gateway = self.shape.gateway_mac(cable);
        if self.shape != Shape::Bridged || cable > 1 {
            return gateway;
        }
        let last = match packet.first().map(|b| b >> 4) {
            Some(4) if packet.get(16..19) == Some(&[10, 1, 0]) => packet.get(19),
            Some(6) if packet.get(24..26) == Some(&[0xfd, 1]) => packet.get(39),
            _ => None,
        };
        match last {
            Some(n) if (2..=LAST_HOST).contains(n) => host_mac(self.shape.cable_of(0, *n)),
            _ => gateway,
        }
    }

    /// Whoever got a frame says something back.
    fn answer(&mut self, rng: &mut Rng) -> Vec<Sent> {
        // The latest ones matter most: flows go on.
        let span = self.seen.len().min(if rng.chance(70) { 3 } else { 40 });
        let seen = self.seen[self.seen.len() - 1 - rng.below(span)].clone();
        if seen.is_error() || !unicast(seen.ip.dst) {
            return self.fresh(rng);
        }
        let mut ip = Ip::new(seen.ip.dst, seen.ip.src, seen.ip.proto);
        self.next_id = self.next_id.wrapping_add(1);
        ip.id = self.next_id;
        let Some((l4, what)) = reply(&seen, &ip, rng) else {
            return self.fresh(rng);
        };
        let p = packet(&ip, &l4);
        let f = frame(seen.src_mac, seen.dst_mac, &p);
        vec![sent(&format!("r{}", seen.cable), f, what)]
    }

    /// Somebody on the way cannot deliver a frame.
    fn error(&mut self, rng: &mut Rng) -> Vec<Sent> {
        let seen = self.seen[rng.below(self.seen.len())].clone();
        if seen.is_error() || !unicast(seen.ip.dst) {
            return self.fresh(rng);
        }
        let from = match rng.chance(70) {
            true => seen.ip.dst,
            false => outside(self.v6),
        };
        let mut ip = Ip::new(from, seen.ip.src, if self.v6 { ICMP6 } else { ICMP });
        ip.frag = 0;
        let kind = match self.v6 {
            true => *rng.pick(&[(1, 4), (1, 0), (3, 0), (4, 1)]),
            false => *rng.pick(&[(3, 3), (3, 1), (11, 0), (12, 0)]),
        };
        let quoted = match rng.chance(70) {
            true => seen.packet.len().min(500),
            false => (seen.at + 8).min(seen.packet.len()),
        };
        let message = icmp(&ip, kind, 0, &seen.packet[..quoted]);
        let p = packet(&ip, &message);
        let f = frame(seen.src_mac, seen.dst_mac, &p);
        let what = format!("icmp error {}/{}", kind.0, kind.1);
        vec![sent(&format!("r{}", seen.cable), f, what)]
    }
}

/// MSS 1460, SACK permitted, no timestamps, window scale 7.
const SYN_OPTIONS: &[u8] = &[2, 4, 5, 0xb4, 1, 1, 4, 2, 1, 3, 3, 7];

fn sent(at: &str, data: Vec<u8>, what: String) -> Sent {
    Sent {
        t_us: 0,
        at: at.to_owned(),
        data,
        what,
    }
}

fn unicast(a: IpAddr) -> bool {
    !a.is_multicast() && !matches!(a, IpAddr::V4(a) if a.octets()[3] == 255)
}

fn payload(size: usize, rng: &mut Rng) -> Vec<u8> {
    let begin: &[u8] = if rng.chance(30) {
        b"GET / HTTP/1.1"
    } else {
        b""
    };
    let fill = rng.next() as u8;
    begin
        .iter()
        .copied()
        .chain(std::iter::repeat(fill))
        .take(size)
        .collect()
}

fn chunk(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut b = vec![kind, 0];
    b.extend((4 + body.len() as u16).to_be_bytes());
    b.extend(body);
    b
}

/// The message with its checksum made right for another source.
fn remade(ip: &Ip, l4: &[u8]) -> Vec<u8> {
    let mut b = l4.to_vec();
    let at = match ip.proto {
        TCP => 16,
        UDP => 6,
        _ => return b,
    };
    b[at..at + 2].copy_from_slice(&[0, 0]);
    let c = pseudo(ip, &b);
    b[at..at + 2].copy_from_slice(&c.to_be_bytes());
    b
}

fn fragments(ip: &Ip, l4: &[u8], rng: &mut Rng) -> Vec<Vec<u8>> {
    let size = (l4.len() / (2 + rng.below(2))).div_ceil(8) * 8;
    let mut out = Vec::new();
    for (i, piece) in l4.chunks(size.max(8)).enumerate() {
        let more = (i + 1) * size < l4.len();
        let mut h = *ip;
        h.frag = (i * size / 8) as u16 | if more { 0x2000 } else { 0 };
        out.push(packet(&h, piece));
    }
    match rng.below(10) {
        0..=1 => out.reverse(),
        2 => drop(out.pop()),
        _ => {}
    }
    out
}

fn reply(seen: &Seen, ip: &Ip, rng: &mut Rng) -> Option<(Vec<u8>, String)> {
    let (l4, what) = match seen.ip.proto {
        TCP => tcp_reply(seen, ip, rng)?,
        UDP => {
            let (s, d) = seen.ports()?;
            (udp(ip, (d, s), &payload(20, rng)), "udp answer".to_owned())
        }
        ICMP | ICMP6 => {
            let (kind, word) = (*seen.l4().first()?, be32(seen.l4(), 4)?);
            let back = match kind {
                8 => 0,
                13 => 14,
                128 => 129,
                _ => return None,
            };
            let data = seen.l4().get(8..)?;
            (icmp(ip, (back, 0), word, data), "icmp answer".to_owned())
        }
        SCTP => sctp_reply(seen, rng)?,
        _ => (seen.l4().to_vec(), "other answer".to_owned()),
    };
    Some((l4, what))
}

fn tcp_reply(seen: &Seen, ip: &Ip, rng: &mut Rng) -> Option<(Vec<u8>, String)> {
    let b = seen.l4();
    let ((s, d), seq, ack) = (seen.ports()?, be32(b, 4)?, be32(b, 8)?);
    let flags = *b.get(13)?;
    let begins = usize::from(b.get(12)? >> 4) * 4;
    let len = b.len().saturating_sub(begins) as u32;
    let taken = len + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
    let (mut seq_out, mut options, mut size) = (ack, &[][..], 0);
    let mut out = match flags & (SYN | ACK | RST | FIN) {
        SYN => {
            seq_out = rng.next() as u32;
            options = SYN_OPTIONS;
            rng.weighted(&[(85, SYN | ACK), (15, RST | ACK)])
        }
        f if f & RST != 0 => return None,
        f if f & FIN != 0 => rng.weighted(&[(40, ACK), (60, FIN | ACK)]),
        _ => rng.weighted(&[(40, ACK), (35, PSH | ACK), (20, FIN | ACK), (5, RST | ACK)]),
    };
    if out & PSH != 0 {
        size = *rng.pick(&[1, 30, 700]);
    }
    let mut note = "";
    if rng.chance(6) {
        seq_out = seq_out.wrapping_add(*rng.pick(&[100_000, 4_000_000, 0x8000_0000, u32::MAX]));
        note = ", out of the window";
    } else if rng.chance(4) {
        out = *rng.pick(&[RST, SYN, SYN | ACK, FIN | RST | ACK]);
        note = ", out of turn";
    }
    let data = payload(size, rng);
    let segment = Segment {
        ports: (d, s),
        seq: seq_out,
        ack: if out & ACK != 0 {
            seq.wrapping_add(taken)
        } else {
            0
        },
        flags: out,
        window: *rng.pick(&[64240, 501, 0]),
        options,
        data: &data,
    };
    Some((
        tcp(ip, &segment),
        format!("tcp answer flags {out:#x}{note}"),
    ))
}

fn sctp_reply(seen: &Seen, rng: &mut Rng) -> Option<(Vec<u8>, String)> {
    let ((s, d), b) = (seen.ports()?, seen.l4());
    // A tag of the peer's is only in the first two chunks: later ones use the same for both.
    let tag = be32(b, 16).filter(|_| matches!(b.get(12), Some(1 | 2)));
    let back = match *b.get(12)? {
        1 => 2,
        2 => 10,
        10 => 11,
        11 => 0,
        0 => *rng.pick(&[3, 7]),
        3 => *rng.pick(&[0, 4]),
        4 => 5,
        7 => 8,
        8 => 14,
        _ => 0,
    };
    let tag = tag.or_else(|| be32(b, 4))?;
    let body = tag.to_be_bytes().repeat(4);
    let what = format!("sctp answer chunk {back}");
    Some((sctp((d, s), tag, &chunk(back, &body)), what))
}

/// A wrong byte somewhere behind the link header: a checksum that does not fit, or worse.
fn damage(s: &mut Sent, rng: &mut Rng) {
    let begin = if s.at == LOCAL { return } else { 14 };
    // Not the version and length: that tests the IP layer, which has its own recordings.
    let Some(last) = s.data.len().checked_sub(1).filter(|l| *l > begin + 9) else {
        return;
    };
    let at = match rng.chance(50) {
        true => last,
        false => begin + 8,
    };
    if let Some(b) = s.data.get_mut(at) {
        *b ^= 0x55;
        s.what += ", damaged";
    }
}
