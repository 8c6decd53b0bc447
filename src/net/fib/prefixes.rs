//! Routes of one family by prefix: the longest ones of an address first.
//!
//! A lookup asks the prefix lengths there are, which are few on any node, one hash each. Invariant: every
//! leaf's length is among `lengths`, once, the longest first; iteration that anybody sees is sorted.

use super::Route;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use ipnetwork::IpNetwork;
use std::net::IpAddr;
use std::sync::Arc;

/// Routes of one prefix, in the order in which they are asked.
pub(super) type Leaf = Vec<Arc<Route>>;

/// Address bits from the top on, and length.
type Key = (u128, u8);

/// Leaves by prefix.
#[derive(Clone, Debug, Default)]
pub(super) struct Prefixes {
    leaves: HashMap<Key, Leaf, FixedState>,
    lengths: Vec<u8>,
}

fn bits(a: IpAddr) -> u128 {
    match a {
        IpAddr::V4(a) => u128::from(a.to_bits()) << 96,
        IpAddr::V6(a) => a.to_bits(),
    }
}

fn key(bits: u128, len: u8) -> Key {
    let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
    (bits & mask, len)
}

impl Prefixes {
    /// The leaf of a prefix, made if there is none.
    pub fn leaf_mut(&mut self, dst: IpNetwork) -> &mut Leaf {
        let len = dst.prefix();
        if let Err(at) = self.lengths.binary_search_by(|l| len.cmp(l)) {
            self.lengths.insert(at, len);
        }
        self.leaves.entry(key(bits(dst.ip()), len)).or_default()
    }

    /// Leaves that cover an address, longest prefix first.
    pub fn covering(&self, dst: IpAddr) -> impl Iterator<Item = &Leaf> {
        let dst = bits(dst);
        let lengths = self.lengths.iter();
        lengths.filter_map(move |len| self.leaves.get(&key(dst, *len)))
    }

    /// All routes by prefix, shorter ones first.
    pub fn routes(&self) -> Vec<&Arc<Route>> {
        let mut leaves: Vec<(&Key, &Leaf)> = self.leaves.iter().collect();
        leaves.sort_unstable_by_key(|(key, _)| **key);
        leaves.into_iter().flat_map(|(_, leaf)| leaf).collect()
    }

    /// All leaves, to change each by itself.
    pub fn leaves_mut(&mut self) -> impl Iterator<Item = &mut Leaf> {
        self.leaves.values_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Origin;

    #[test]
    fn the_longest_prefix_comes_first_and_routes_are_listed_in_order() {
        let mut t = Prefixes::default();
        for net in [
            "10.1.0.0/16",
            "0.0.0.0/0",
            "10.1.2.3/32",
            "10.0.0.0/8",
            "10.1.0.0/24",
        ] {
            let net: IpNetwork = net.parse().unwrap();
            let route = Route::unicast(net, None, None, Origin::Kernel);
            t.leaf_mut(net).push(Arc::new(route));
        }
        let of = |ip: &str| {
            let leaves = t.covering(ip.parse().unwrap());
            leaves.map(|l| l[0].dst.prefix()).collect::<Vec<_>>()
        };
        assert_eq!(of("10.1.2.3"), [32, 16, 8, 0]);
        assert_eq!(of("10.1.0.255"), [24, 16, 8, 0]);
        assert_eq!(of("11.0.0.1"), [0]);
        let all: Vec<String> = t.routes().iter().map(|r| r.dst.to_string()).collect();
        let sorted = [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.0.0/24",
            "10.1.2.3/32",
        ];
        assert_eq!(all, sorted);
    }
}
