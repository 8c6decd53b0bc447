//! Sets of addresses as sorted ranges: many blocks with what is cut out of each, asked by binary search.
//!
//! Each block's `except` cuts that block only, then all are united. The families are apart: an IPv4 range
//! never has an IPv6 address. Invariant: ranges are disjoint, sorted and not adjacent.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::model::Block;

/// Addresses of both families.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Ranges {
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
}

/// An address as a number of its family.
pub fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn bounds(net: IpNetwork) -> (u128, u128) {
    (number(net.network()), number(net.broadcast()))
}

impl Ranges {
    /// The union of blocks.
    pub fn of<'b>(blocks: impl IntoIterator<Item = &'b Block>) -> Ranges {
        let mut out = Ranges::default();
        for block in blocks {
            let v4 = block.cidr.is_ipv4();
            let cuts = block.except.iter().filter(|cut| cut.is_ipv4() == v4);
            let cuts = united(cuts.map(|cut| bounds(*cut)).collect());
            let left = without(bounds(block.cidr), &cuts);
            if v4 {
                out.v4.extend(left);
            } else {
                out.v6.extend(left);
            }
        }
        Ranges {
            v4: united(out.v4),
            v6: united(out.v6),
        }
    }

    fn family(&self, v4: bool) -> &[(u128, u128)] {
        if v4 { &self.v4 } else { &self.v6 }
    }

    /// Whether it has an address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let (ranges, ip) = (self.family(ip.is_ipv4()), number(ip));
        let behind = ranges.partition_point(|(first, _)| *first <= ip);
        let last = behind.checked_sub(1).and_then(|at| ranges.get(at));
        last.is_some_and(|(_, last)| ip <= *last)
    }

    /// Whether it has no address.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Its ranges of a family, first and last address each.
    pub fn ranges(&self, v4: bool) -> impl Iterator<Item = (u128, u128)> + '_ {
        self.family(v4).iter().copied()
    }
}

/// Sorted, with what touches or overlaps joined.
fn united(mut ranges: Vec<(u128, u128)>) -> Vec<(u128, u128)> {
    ranges.sort_unstable();
    let mut out: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match out.last_mut() {
            Some(open) if first <= open.1.saturating_add(1) => open.1 = open.1.max(last),
            _ => out.push((first, last)),
        }
    }
    out
}

/// What is left of a range; `cuts` are sorted and disjoint.
fn without((first, last): (u128, u128), cuts: &[(u128, u128)]) -> Vec<(u128, u128)> {
    let (mut out, mut from) = (Vec::new(), first);
    for (cut_first, cut_last) in cuts {
        if *cut_last < from || *cut_first > last {
            continue;
        }
        if *cut_first > from {
            out.push((from, cut_first - 1));
        }
        match cut_last.checked_add(1) {
            Some(next) => from = next,
            None => return out,
        }
    }
    if from <= last {
        out.push((from, last));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(cidr: &str, except: &[&str]) -> Block {
        let net = |text: &&str| text.parse().expect("a CIDR");
        Block {
            cidr: net(&cidr),
            except: except.iter().map(net).collect(),
        }
    }

    #[test]
    fn as_the_blocks_themselves() {
        let blocks = [
            block(
                "10.0.0.0/8",
                &["10.1.0.0/16", "10.0.0.0/24", "10.255.255.0/24"],
            ),
            block("10.1.2.0/24", &["10.1.2.128/25"]),
            block("0.0.0.0/0", &["0.0.0.0/1", "128.0.0.0/1"]),
            block("::/0", &["8000::/1"]),
            block("fd00::/8", &["fd00::/16", "fdff:ffff::/32"]),
        ];
        let ranges = Ranges::of(&blocks);
        let mut rng = crate::base::Rng::new(3);
        let mut seen = [0, 0];
        for _ in 0..20_000 {
            let near = [
                0x0a00_0000_u32,
                0x0a01_0200,
                0x0aff_ff00,
                0x0a01_0280,
                0,
                0xffff_ffff,
            ];
            let pick = near.get(rng.below(6) as usize).copied().unwrap_or_default();
            let v4 = pick.wrapping_add(rng.below(700) as u32).wrapping_sub(350);
            let high = [
                0_u128,
                0x8000 << 112,
                0xfd00 << 112,
                0xfd01 << 112,
                0xfdff_ffff << 96,
            ];
            let pick = high.get(rng.below(5) as usize).copied().unwrap_or_default();
            let v6 = pick.wrapping_add(u128::from(rng.below(9))).wrapping_sub(4);
            for ip in [IpAddr::V4(v4.into()), IpAddr::V6(v6.into())] {
                let expected = blocks.iter().any(|b| b.contains(ip));
                assert_eq!(ranges.contains(ip), expected, "{ip}");
                if let Some(count) = seen.get_mut(usize::from(expected)) {
                    *count += 1;
                }
            }
        }
        assert!(seen.iter().all(|n| *n > 4_000), "{seen:?}");
        assert!(Ranges::default().is_empty());
    }
}
