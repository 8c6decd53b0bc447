//! Both tuples of a connection in few bytes, and what they hash to.
//!
//! IPv4 lies inline (26 bytes), IPv6 addresses in a box, and what is neither (families or protocols that
//! differ, which no packet makes but a dump might say) as it is. Invariant: what goes in comes out, and
//! [`hash_of`] of a tuple is the hash of its place here.

use super::tuple::{CtTuple, Dir};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses and ports in the order: original source and destination, reply source and destination.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Tuples {
    V4 {
        addrs: [u32; 4],
        ports: [u16; 4],
        proto: u8,
    },
    V6 {
        addrs: Box<[Ipv6Addr; 4]>,
        ports: [u16; 4],
        proto: u8,
    },
    Odd(Box<[CtTuple; 2]>),
}

/// Two of four, by direction.
fn pair<T: Copy>(of: &[T; 4], dir: Dir) -> (T, T) {
    match dir {
        Dir::Original => (of[0], of[1]),
        Dir::Reply => (of[2], of[3]),
    }
}

impl Tuples {
    pub fn new(orig: CtTuple, reply: CtTuple) -> Tuples {
        use IpAddr::{V4, V6};
        let ports = [orig.sport, orig.dport, reply.sport, reply.dport];
        let proto = orig.proto;
        match (orig.src, orig.dst, reply.src, reply.dst) {
            _ if proto != reply.proto => Tuples::Odd(Box::new([orig, reply])),
            (V4(a), V4(b), V4(c), V4(d)) => Tuples::V4 {
                addrs: [a, b, c, d].map(Ipv4Addr::to_bits),
                ports,
                proto,
            },
            (V6(a), V6(b), V6(c), V6(d)) => Tuples::V6 {
                addrs: Box::new([a, b, c, d]),
                ports,
                proto,
            },
            _ => Tuples::Odd(Box::new([orig, reply])),
        }
    }

    pub fn get(&self, dir: Dir) -> CtTuple {
        let (src, dst, ports, proto) = match self {
            Tuples::V4 {
                addrs,
                ports,
                proto,
            } => {
                let (src, dst) = pair(addrs, dir);
                let ip = |a: u32| IpAddr::V4(Ipv4Addr::from_bits(a));
                (ip(src), ip(dst), ports, *proto)
            }
            Tuples::V6 {
                addrs,
                ports,
                proto,
            } => {
                let (src, dst) = pair(addrs, dir);
                (src.into(), dst.into(), ports, *proto)
            }
            Tuples::Odd(both) => return both[dir.index()],
        };
        let (sport, dport) = pair(ports, dir);
        CtTuple {
            proto,
            src,
            dst,
            sport,
            dport,
        }
    }
}

/// The high and low half of a product, mixed: each bit of `v` reaches each of the result.
fn fold(v: u64, by: u64) -> u64 {
    let m = u128::from(v) * u128::from(by);
    (m as u64) ^ (m >> 64) as u64
}

/// Odd multipliers without pattern (those of wyhash).
const MIX: [u64; 3] = [
    0xa076_1d64_78bd_642f,
    0xe703_7ed1_a0b4_28db,
    0x8ebc_6af0_9c88_c6e3,
];

fn words(a: IpAddr) -> (u64, u64) {
    match a {
        IpAddr::V4(a) => (u64::from(a.to_bits()), 0),
        IpAddr::V6(a) => {
            let bits = a.to_bits();
            (bits as u64, (bits >> 64) as u64)
        }
    }
}

/// A hash of addresses and of a word beside them. Every step is one to one in what it adds, so that neither
/// tuples that differ in ports alone nor the two directions fall together.
fn mixed(src: IpAddr, dst: IpAddr, rest: u64) -> u64 {
    if let (IpAddr::V4(a), IpAddr::V4(b)) = (src, dst) {
        let addrs = u64::from(a.to_bits()) | u64::from(b.to_bits()) << 32;
        return fold(fold(addrs ^ MIX[0], MIX[1]) ^ rest, MIX[2]);
    }
    let ((s0, s1), (d0, d1)) = (words(src), words(dst));
    let parts = [s1, d0, d1, rest];
    let start = fold(s0 ^ MIX[0], MIX[1]);
    parts.into_iter().fold(start, |h, p| fold(h ^ p, MIX[2]))
}

/// A tuple to look for, hashed once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub tuple: CtTuple,
    pub hash: u64,
}

impl Key {
    pub fn new(tuple: CtTuple) -> Key {
        Key {
            tuple,
            hash: hash_of(&tuple),
        }
    }
}

/// The hash of a tuple.
pub(super) fn hash_of(t: &CtTuple) -> u64 {
    let rest = u64::from(t.sport) | u64::from(t.dport) << 16 | u64::from(t.proto) << 32;
    mixed(t.src, t.dst, rest)
}

/// The hash of where a tuple comes from: protocol, source address and port.
pub(super) fn hash_of_source(t: &CtTuple) -> u64 {
    mixed(t.src, t.src, u64::from(t.sport) | u64::from(t.proto) << 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn any_tuple() -> impl Strategy<Value = CtTuple> {
        let ip = prop_oneof![
            any::<u32>().prop_map(|a| IpAddr::V4(a.into())),
            any::<u128>().prop_map(|a| IpAddr::V6(a.into())),
        ];
        let parts = (ip.clone(), ip, any::<u16>(), any::<u16>(), 0u8..3);
        parts.prop_map(|(src, dst, sport, dport, proto)| CtTuple {
            proto,
            src,
            dst,
            sport,
            dport,
        })
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(orig in any_tuple(), reply in any_tuple()) {
            let both = Tuples::new(orig, reply);
            prop_assert_eq!(both.get(Dir::Original), orig);
            prop_assert_eq!(both.get(Dir::Reply), reply);
        }
    }

    /// 65,536 ports between two hosts, in both orders: no two hashes are equal, and the bits that choose the
    /// bucket and those that a bucket compares spread as random ones do.
    #[test]
    fn ports_alone_tell_apart() {
        let (a, b) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let mut all = BTreeSet::new();
        let mut buckets = vec![0u32; 1 << 16];
        let mut tags = [0u32; 128];
        for port in 0..=u16::MAX {
            let t = CtTuple {
                proto: 17,
                src: a,
                dst: b,
                sport: port,
                dport: 53,
            };
            let back = t.invert().unwrap();
            for h in [hash_of(&t), hash_of(&back)] {
                all.insert(h);
                buckets[(h & 0xffff) as usize] += 1;
                tags[(h >> 57) as usize] += 1;
            }
        }
        assert_eq!(all.len(), 1 << 17);
        assert!(buckets.iter().all(|n| *n < 16), "two are expected");
        assert!(tags.iter().all(|n| (768..1280).contains(n)), "{tags:?}");
    }
}
