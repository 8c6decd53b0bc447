//! Which of several workers has a flow: a hash of its two ends that is the same in both directions.
//!
//! Frames in tunnels count as what is inside them, ICMP errors as the packet they are about, echoes by their
//! id. Does not know connections: where NAT gives the reply other ends, `sim::shard` learns who has it.
//! Invariant: a frame and the answer to it, both ends as they are on the wire there, have one owner.

use crate::wire::{ETH_HLEN, ETH_P_IP, ETH_P_IPV6, IpHeader, Tuple, proto};
use std::net::IpAddr;

/// Tunnels inside tunnels that are looked into.
const DEPTH_MAX: usize = 2;
/// Where VXLAN listens: Linux's and flannel's, and IANA's.
const VXLAN: [u16; 2] = [8472, 4789];
/// VXLAN's header (RFC 7348).
const VXLAN_LEN: usize = 8;
const IGMP: u8 = 2;
const IPV6_IN_IP: u8 = 41;

/// One of several workers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shard {
    /// Its number, from 0.
    pub me: u16,
    /// How many there are.
    pub of: u16,
}

impl Shard {
    /// Whether a flow is this worker's.
    pub fn owns(&self, flow: &FlowKey) -> bool {
        flow.owner(self.of) == self.me
    }
}

/// Both ends of a flow, the lower one first, and its protocol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FlowKey {
    /// IPv4: both addresses, both ports in one, the protocol.
    V4([u32; 4]),
    /// IPv6: both addresses, the ports and the protocol in one.
    V6([u64; 5]),
}

fn fold(a: u64, b: u64) -> u64 {
    let m = u128::from(a) * u128::from(b);
    (m as u64) ^ (m >> 64) as u64
}

impl FlowKey {
    /// The key of two IPv4 ends.
    #[inline(always)]
    pub fn v4(a: (u32, u16), b: (u32, u16), proto: u8) -> FlowKey {
        let (a, b) = if a <= b { (a, b) } else { (b, a) };
        let ports = u32::from(a.1) << 16 | u32::from(b.1);
        FlowKey::V4([a.0, b.0, ports, proto.into()])
    }

    /// The key of a tuple, either direction's; an ICMP echo's id stands on both ports.
    pub fn of(t: &Tuple) -> FlowKey {
        let (a, b) = match (t.src, t.dst) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                return FlowKey::v4((a.into(), t.sport), (b.into(), t.dport), t.proto);
            }
            (a, b) => (wide(a), wide(b)),
        };
        let (a, b) = ((a, t.sport), (b, t.dport));
        let (a, b) = if a <= b { (a, b) } else { (b, a) };
        let rest = u64::from(a.1) << 24 | u64::from(b.1) << 8 | u64::from(t.proto);
        FlowKey::V6([
            (a.0 >> 64) as u64,
            a.0 as u64,
            (b.0 >> 64) as u64,
            b.0 as u64,
            rest,
        ])
    }

    /// A hash: not the flow table's, whose bits stay free within a worker.
    #[inline(always)]
    pub fn hash(&self) -> u32 {
        const K: [u64; 3] = [
            0x8ebc_6af0_9c88_c6e3,
            0x5899_65cc_7537_4cc3,
            0x1d8e_4e27_c47d_124f,
        ];
        let h = match self {
            FlowKey::V4([a, b, ports, proto]) => {
                let addrs = u64::from(*a) | u64::from(*b) << 32;
                fold(
                    addrs ^ K[0],
                    (u64::from(*ports) | u64::from(*proto) << 32) ^ K[1],
                )
            }
            FlowKey::V6(words) => words.iter().fold(K[1], |h, w| fold(h ^ w, K[0])),
        };
        (fold(h, K[2]) >> 32) as u32
    }

    /// Which of so many workers has it.
    #[inline(always)]
    pub fn owner(&self, of: u16) -> u16 {
        ((u64::from(self.hash()) * u64::from(of)) >> 32) as u16
    }
}

fn wide(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => ip.into(),
    }
}

/// One end of a flow as a number that another end may have too.
#[inline(always)]
fn end_of(address: u64, port: u16, proto: u8) -> u32 {
    let rest = u64::from(port) << 32 | u64::from(proto) << 48;
    ((address ^ rest).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

fn end(ip: IpAddr, port: u16, proto: u8) -> u32 {
    let ip = wide(ip);
    end_of((ip >> 64) as u64 ^ ip as u64, port, proto)
}

/// A frame's flow, and numbers of the end it comes from and the one it goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowOf {
    /// The flow.
    pub key: FlowKey,
    /// Whence.
    pub from: u32,
    /// Where to.
    pub to: u32,
}

impl FlowOf {
    fn tuple(t: &Tuple) -> FlowOf {
        FlowOf {
            key: FlowKey::of(t),
            from: end(t.src, t.sport, t.proto),
            to: end(t.dst, t.dport, t.proto),
        }
    }
}

/// What a frame belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Belongs {
    /// A flow.
    Flow(FlowOf),
    /// A datagram in fragments: its addresses, protocol and id; and its flow, if this is the first one.
    Fragment(FlowKey, Option<FlowOf>),
    /// What everybody has to know: neighbours' questions and answers, what is no IP packet.
    Everybody,
}

/// What an Ethernet frame belongs to.
#[inline]
pub fn belongs(frame: &[u8]) -> Belongs {
    match plain(frame) {
        Some(flow) => Belongs::Flow(flow),
        None => ethernet(frame, 0),
    }
}

/// TCP and UDP over IPv4 without options, fragments or a tunnel: nearly all there is.
#[inline(always)]
fn plain(frame: &[u8]) -> Option<FlowOf> {
    let f: &[u8; ETH_HLEN + 24] = frame.first_chunk()?;
    let be16 = |at: usize| u16::from_be_bytes([f[at], f[at + 1]]);
    let be32 = |at: usize| u32::from_be_bytes([f[at], f[at + 1], f[at + 2], f[at + 3]]);
    let (proto, sport, dport) = (f[23], be16(34), be16(36));
    let tunnel = (proto == proto::UDP) & ((dport == VXLAN[0]) | (dport == VXLAN[1]));
    let common = (be16(12) == ETH_P_IP)
        & (f[14] == 0x45)
        & (be16(16) >= 24)
        & (be16(20) & 0x3fff == 0)
        & ((proto == proto::UDP) | (proto == proto::TCP))
        & !tunnel;
    let (src, dst) = (be32(26), be32(30));
    common.then(|| FlowOf {
        key: FlowKey::v4((src, sport), (dst, dport), proto),
        from: end_of(src.into(), sport, proto),
        to: end_of(dst.into(), dport, proto),
    })
}

fn ethernet(frame: &[u8], depth: usize) -> Belongs {
    let kind = frame
        .get(12..ETH_HLEN)
        .map(|b| u16::from_be_bytes([b[0], b[1]]));
    match (kind, frame.get(ETH_HLEN..)) {
        (Some(ETH_P_IP | ETH_P_IPV6), Some(packet)) => packet_of(packet, depth),
        _ => Belongs::Everybody,
    }
}

fn packet_of(packet: &[u8], depth: usize) -> Belongs {
    let Ok(ip) = IpHeader::parse_lax(packet) else {
        return Belongs::Everybody;
    };
    let tuple = Tuple::of(&ip, packet);
    if ip.is_fragment() {
        let none = Tuple {
            sport: 0,
            dport: 0,
            ..tuple
        };
        let datagram = match FlowKey::of(&none) {
            FlowKey::V4([a, b, _, proto]) => FlowKey::V4([a, b, ip.id, proto]),
            FlowKey::V6([a, b, c, d, proto]) => {
                FlowKey::V6([a, b, c, d, proto | u64::from(ip.id) << 8])
            }
        };
        return Belongs::Fragment(datagram, (ip.frag_off == 0).then(|| FlowOf::tuple(&tuple)));
    }
    let inside = ip.payload(packet);
    match ip.proto {
        IGMP => return Belongs::Everybody,
        proto::ICMPV6 if matches!(inside.first(), Some(130..=137 | 143)) => {
            return Belongs::Everybody;
        }
        proto::IPIP | IPV6_IN_IP if depth < DEPTH_MAX => return packet_of(inside, depth + 1),
        proto::UDP if VXLAN.contains(&tuple.dport) && depth < DEPTH_MAX => {
            return ethernet(inside.get(8 + VXLAN_LEN..).unwrap_or(&[]), depth + 1);
        }
        proto::ICMP | proto::ICMPV6 if ip.is_icmp_error(packet) => {
            if let Some(flow) = inside.get(8..).and_then(quoted) {
                // It goes against the packet it is about.
                return Belongs::Flow(FlowOf {
                    from: flow.to,
                    to: flow.from,
                    ..flow
                });
            }
        }
        _ => {}
    }
    Belongs::Flow(FlowOf::tuple(&tuple))
}

/// The flow of the packet that an ICMP error is about; none is about an error (RFC 1122 section 3.2.2).
fn quoted(packet: &[u8]) -> Option<FlowOf> {
    let ip = IpHeader::parse_lax(packet).ok()?;
    let about = !ip.is_icmp_error(packet) && ip.frag_off == 0;
    about.then(|| FlowOf::tuple(&Tuple::of(&ip, packet)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;
    use crate::wire::{Frame, MacAddr, build};
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn framed(packet: &[u8]) -> Vec<u8> {
        let mut f = Frame::ip(packet);
        let kind = if packet[0] >> 4 == 4 {
            ETH_P_IP
        } else {
            ETH_P_IPV6
        };
        f.set_ethernet(MacAddr([2; 6]), MacAddr([4; 6]), kind);
        f.data().to_vec()
    }

    fn udp(a: IpAddr, b: IpAddr, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
        let l4 = build::udp(a, b, ports.0, ports.1, payload);
        build::ip_packet(a, b, proto::UDP, 64, 0, 9, false, &l4)
    }

    fn flow(frame: &[u8]) -> FlowOf {
        match belongs(frame) {
            Belongs::Flow(f) => f,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn answers_have_the_owner_of_what_they_answer_and_owners_share_evenly() {
        let mut rng = Rng::new(3);
        let mut owned = [0u32; 3];
        for n in 0..3000u32 {
            let (a, b) = match n % 2 {
                0 => (
                    Ipv4Addr::from_bits(rng.next_u64() as u32).into(),
                    Ipv4Addr::new(10, 96, 0, 1).into(),
                ),
                _ => (
                    IpAddr::V6(Ipv6Addr::from_bits(rng.next_u64().into())),
                    IpAddr::V6(Ipv6Addr::LOCALHOST),
                ),
            };
            let ports = (rng.next_u64() as u16, 53);
            let there = flow(&framed(&udp(a, b, ports, b"x")));
            let back = flow(&framed(&udp(b, a, (ports.1, ports.0), b"y")));
            assert_eq!(
                (there.key, there.from, there.to),
                (back.key, back.to, back.from)
            );
            owned[usize::from(there.key.owner(3))] += 1;
        }
        assert!(owned.iter().all(|n| (900..1100).contains(n)), "{owned:?}");
    }

    #[test]
    fn the_quick_look_sees_what_the_long_one_sees() {
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let f = framed(&udp(a, b, (5000, 7), b"payload"));
        assert!(plain(&f).is_some());
        assert_eq!(ethernet(&f, 0), belongs(&f));
    }

    #[test]
    fn tunnels_and_errors_count_as_what_is_inside() {
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let (n, m) = (
            IpAddr::from([192, 168, 0, 1]),
            IpAddr::from([192, 168, 0, 2]),
        );
        let inner = udp(a, b, (5000, 7), b"payload");
        let own = flow(&framed(&inner));
        let vxlan = [&[8, 0, 0, 0, 0, 0, 1, 0][..], &framed(&inner)].concat();
        assert_eq!(flow(&framed(&udp(n, m, (40_000, 8472), &vxlan))), own);
        let ipip = build::ip_packet(n, m, proto::IPIP, 64, 0, 1, false, &inner);
        assert_eq!(flow(&framed(&ipip)), own);
        let error = build::icmp_message(m, a, 3, 3, 0, &inner[..28]);
        let error = build::ip_packet(m, a, proto::ICMP, 64, 0, 1, false, &error);
        let error = flow(&framed(&error));
        assert_eq!(
            (error.key, error.from, error.to),
            (own.key, own.to, own.from)
        );
    }

    #[test]
    fn fragments_name_their_datagram_and_the_first_its_flow() {
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let whole = udp(a, b, (5000, 7), &[0; 64]);
        let own = flow(&framed(&whole));
        let (mut first, mut last) = (whole.clone(), whole.clone());
        first[6] |= 0x20;
        last[7] = 4;
        let (Belongs::Fragment(d, f), Belongs::Fragment(e, none)) =
            (belongs(&framed(&first)), belongs(&framed(&last)))
        else {
            panic!("not fragments");
        };
        assert_eq!((d, f, none), (e, Some(own), None));
    }

    #[test]
    fn what_has_no_flow_is_everybodys() {
        for f in [&[][..], &[0; 13], &[0xff; 60], &[0; 14]] {
            assert_eq!(belongs(f), Belongs::Everybody);
        }
    }
}
