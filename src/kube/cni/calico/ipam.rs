//! Calico's IPAM: pools are cut into blocks, a block has affinity to a node, addresses come from the node's
//! own blocks and, when there are none left, from other nodes' (borrowing).
//!
//! Facts: libcalico-go lib/ipam/ipam.go (`autoAssign`), ipam_block.go, ipam_block_reader_writer.go.
//! Calico starts its search for a free block at a place drawn from Go's random generator seeded with the
//! node's name; ours starts at a hash of the name, so which block a node claims first may differ from a real
//! cluster's. Invariant: every address handed out is in the allocations of exactly one block.

use super::pool::IpPool;
use ipnetwork::IpNetwork;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Blocks a node may have at most, unless configured (`autoAssign`).
pub const MAX_BLOCKS_PER_HOST: usize = 20;

/// An address in use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Allocation {
    /// By which it is released: network and container, or a tunnel's name.
    pub handle: String,
    /// The node that uses it; not the block's node when borrowed.
    pub node: String,
}

/// A block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// Its addresses.
    pub cidr: IpNetwork,
    /// The node it has affinity to.
    pub node: String,
    /// Free ordinals in the order in which they are handed out: fresh ones first, released ones last.
    unallocated: Vec<u32>,
    /// Used ordinals.
    allocations: BTreeMap<u32, Allocation>,
}

impl Block {
    fn new(cidr: IpNetwork, node: &str) -> Self {
        let bits = if cidr.is_ipv4() { 32 } else { 128 };
        // Pools are checked: a block has at most 2^12 addresses.
        let size = 1u32
            .checked_shl(u32::from(bits - cidr.prefix()))
            .unwrap_or(1)
            .min(1 << 12);
        Block {
            cidr,
            node: node.into(),
            unallocated: (0..size).collect(),
            allocations: BTreeMap::new(),
        }
    }

    fn address(&self, ordinal: u32) -> IpAddr {
        match self.cidr.network() {
            IpAddr::V4(a) => IpAddr::V4(Ipv4Addr::from(u32::from(a).wrapping_add(ordinal))),
            IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from(
                u128::from(a).wrapping_add(u128::from(ordinal)),
            )),
        }
    }

    fn ordinal(&self, ip: IpAddr) -> Option<u32> {
        let off = match (ip, self.cidr.network()) {
            (IpAddr::V4(a), IpAddr::V4(n)) => u128::from(u32::from(a).checked_sub(u32::from(n))?),
            (IpAddr::V6(a), IpAddr::V6(n)) => u128::from(a).checked_sub(u128::from(n))?,
            _ => return None,
        };
        u32::try_from(off).ok().filter(|_| self.cidr.contains(ip))
    }

    fn take(&mut self, a: Allocation) -> Option<IpAddr> {
        if self.unallocated.is_empty() {
            return None;
        }
        let n = self.unallocated.remove(0);
        self.allocations.insert(n, a);
        Some(self.address(n))
    }

    /// Addresses in use, in order.
    pub fn allocations(&self) -> impl Iterator<Item = (IpAddr, &Allocation)> {
        self.allocations.iter().map(|(n, a)| (self.address(*n), a))
    }

    /// Addresses left.
    pub fn free(&self) -> usize {
        self.unallocated.len()
    }
}

/// Why no address could be had; the words are Calico's.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IpamError {
    /// No pool of that family selects the node.
    #[error("no configured Calico pools for node {0}")]
    NoPools(String),
    /// The node may not claim another block.
    #[error(
        "Assigned 0 out of 1 requested IPv{version} addresses; Need to allocate an IPAM block but could not - limit of {limit} blocks reached for this node"
    )]
    BlockLimit {
        /// 4 or 6.
        version: u8,
        /// How many it may have.
        limit: usize,
    },
    /// Every block is used up and strict affinity forbids borrowing.
    #[error(
        "Assigned 0 out of 1 requested IPv{0} addresses; No more free affine blocks and strict affinity enabled"
    )]
    Strict(u8),
    /// Every address of every pool is in use.
    #[error("Assigned 0 out of 1 requested IPv{version} addresses; No IPs available in pools: [{}]", pools.join(" "))]
    Exhausted {
        /// 4 or 6.
        version: u8,
        /// The pools that were tried.
        pools: Vec<String>,
    },
    /// A requested address is in use.
    #[error("resource already exists: {0} (Address already assigned in block)")]
    Taken(IpAddr),
    /// A requested address is in no pool.
    #[error("The provided IP address {0} is not in a configured pool")]
    NotInPool(IpAddr),
}

/// The cluster's address management.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ipam {
    /// Pools by name.
    pub pools: Vec<IpPool>,
    /// Never borrow (`IPAMConfig` strictAffinity).
    pub strict_affinity: bool,
    /// Blocks a node may have.
    pub max_blocks_per_host: usize,
    blocks: BTreeMap<IpNetwork, Block>,
}

impl Default for Ipam {
    fn default() -> Self {
        Ipam {
            pools: Vec::new(),
            strict_affinity: false,
            max_blocks_per_host: MAX_BLOCKS_PER_HOST,
            blocks: BTreeMap::new(),
        }
    }
}

impl Ipam {
    /// Address management over these pools.
    pub fn new(mut pools: Vec<IpPool>) -> Self {
        pools.sort_by(|a, b| a.name.cmp(&b.name));
        Ipam {
            pools,
            ..Ipam::default()
        }
    }

    /// All blocks by address.
    pub fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.blocks.values()
    }

    /// The pool an address or block is in.
    pub fn pool_of(&self, ip: IpAddr) -> Option<&IpPool> {
        self.pools.iter().find(|p| p.cidr.contains(ip))
    }

    /// Hands out an address for a workload; the answer has the block's prefix length.
    pub fn auto_assign(
        &mut self,
        node: &str,
        labels: &BTreeMap<String, String>,
        handle: &str,
        v4: bool,
    ) -> Result<IpNetwork, IpamError> {
        self.assign_from(node, handle, v4, &|p| p.for_workloads && p.selects(labels))
    }

    /// Hands out a tunnel device's address from the pools for which `which` holds (node/pkg/allocateip).
    pub fn assign_tunnel(
        &mut self,
        node: &str,
        handle: &str,
        v4: bool,
        which: &dyn Fn(&IpPool) -> bool,
    ) -> Result<IpNetwork, IpamError> {
        self.assign_from(node, handle, v4, &|p| p.for_tunnels && which(p))
    }

    fn assign_from(
        &mut self,
        node: &str,
        handle: &str,
        v4: bool,
        which: &dyn Fn(&IpPool) -> bool,
    ) -> Result<IpNetwork, IpamError> {
        let version = if v4 { 4 } else { 6 };
        let usable = |p: &&IpPool| !p.disabled && p.cidr.is_ipv4() == v4 && which(p);
        let pools: Vec<IpPool> = self.pools.iter().filter(usable).cloned().collect();
        if pools.is_empty() {
            return Err(IpamError::NoPools(node.into()));
        }
        let a = Allocation {
            handle: handle.into(),
            node: node.into(),
        };
        let in_pools = |n: &IpNetwork| pools.iter().any(|p| p.cidr.contains(n.network()));
        let mut own = 0;
        for b in self
            .blocks
            .values_mut()
            .filter(|b| b.node == node && in_pools(&b.cidr))
        {
            own += 1;
            if let Some(ip) = b.take(a.clone()) {
                return Ok(with_prefix(ip, b.cidr));
            }
        }
        if let Some(cidr) = pools.iter().find_map(|p| self.unclaimed(p, node)) {
            if own >= self.max_blocks_per_host {
                return Err(IpamError::BlockLimit {
                    version,
                    limit: self.max_blocks_per_host,
                });
            }
            let mut b = Block::new(cidr, node);
            let ip = b.take(a);
            self.blocks.insert(cidr, b);
            return ip
                .map(|ip| with_prefix(ip, cidr))
                .ok_or(IpamError::NoPools(node.into()));
        }
        if self.strict_affinity {
            return Err(IpamError::Strict(version));
        }
        self.borrow(&pools, node, &a)
            .ok_or_else(|| IpamError::Exhausted {
                version,
                pools: pools.iter().map(|p| p.cidr.to_string()).collect(),
            })
    }

    /// The first block of a pool that nobody has claimed, going round from the node's own starting place.
    fn unclaimed(&self, pool: &IpPool, node: &str) -> Option<IpNetwork> {
        let count = block_count(pool);
        let start = starting_block(pool, node);
        // One step more than there are blocks finds a free one if there is one.
        let tries = count.min(self.blocks.len() as u128 + 1);
        (0..tries)
            .map(|i| nth_block(pool, (start + i) % count))
            .find(|c| !self.blocks.contains_key(c))
    }

    /// An address from any block of the pools, going round from the node's own starting place.
    fn borrow(&mut self, pools: &[IpPool], node: &str, a: &Allocation) -> Option<IpNetwork> {
        for p in pools {
            let (count, start) = (block_count(p), starting_block(p, node));
            let place = |c: &IpNetwork| (block_index(p, c) + count - start) % count;
            let mut mine: Vec<IpNetwork> = self
                .blocks
                .keys()
                .filter(|c| p.cidr.contains(c.network()))
                .copied()
                .collect();
            mine.sort_by_key(place);
            for c in mine {
                let got = self.blocks.get_mut(&c).and_then(|b| b.take(a.clone()));
                if let Some(ip) = got {
                    return Some(with_prefix(ip, c));
                }
            }
        }
        None
    }

    /// Takes a given address (`AssignIP`); claims its block for the node if nobody has it.
    pub fn assign_ip(&mut self, ip: IpAddr, node: &str, handle: &str) -> Result<(), IpamError> {
        let pool = self
            .pools
            .iter()
            .find(|p| !p.disabled && p.cidr.contains(ip))
            .ok_or(IpamError::NotInPool(ip))?;
        let cidr = IpNetwork::new(ip, pool.block_size).map_err(|_| IpamError::NotInPool(ip))?;
        let cidr = crate::kube::cni::addr::network(cidr);
        let b = self
            .blocks
            .entry(cidr)
            .or_insert_with(|| Block::new(cidr, node));
        let n = b.ordinal(ip).ok_or(IpamError::NotInPool(ip))?;
        if b.allocations.contains_key(&n) {
            return Err(IpamError::Taken(ip));
        }
        b.unallocated.retain(|u| *u != n);
        b.allocations.insert(
            n,
            Allocation {
                handle: handle.into(),
                node: node.into(),
            },
        );
        Ok(())
    }

    /// Gives back every address of a handle; says how many. Blocks stay claimed.
    pub fn release_by_handle(&mut self, handle: &str) -> usize {
        let mut released = 0;
        for b in self.blocks.values_mut() {
            let gone: Vec<u32> = b
                .allocations
                .iter()
                .filter(|(_, a)| a.handle == handle)
                .map(|(n, _)| *n)
                .collect();
            for n in gone {
                b.allocations.remove(&n);
                b.unallocated.push(n);
                released += 1;
            }
        }
        released
    }

    /// The addresses of a handle.
    pub fn ips_by_handle(&self, handle: &str) -> Vec<IpAddr> {
        let all = self.blocks.values().flat_map(Block::allocations);
        all.filter(|(_, a)| a.handle == handle)
            .map(|(ip, _)| ip)
            .collect()
    }
}

fn with_prefix(ip: IpAddr, block: IpNetwork) -> IpNetwork {
    IpNetwork::new(ip, block.prefix()).unwrap_or_else(|_| IpNetwork::from(ip))
}

/// Bits of an address behind a block's prefix.
fn host_bits(pool: &IpPool) -> u32 {
    u32::from(if pool.cidr.is_ipv4() { 32 } else { 128 } - pool.block_size)
}

fn block_count(pool: &IpPool) -> u128 {
    let bits = u32::from(pool.block_size.saturating_sub(pool.cidr.prefix()));
    1u128.checked_shl(bits).unwrap_or(u128::MAX)
}

fn nth_block(pool: &IpPool, n: u128) -> IpNetwork {
    let off = n.checked_shl(host_bits(pool)).unwrap_or(0);
    let ip = match pool.cidr.network() {
        IpAddr::V4(a) => IpAddr::V4(Ipv4Addr::from(u32::from(a).wrapping_add(off as u32))),
        IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from(u128::from(a).wrapping_add(off))),
    };
    IpNetwork::new(ip, pool.block_size).unwrap_or(pool.cidr)
}

fn block_index(pool: &IpPool, block: &IpNetwork) -> u128 {
    let off = match (block.network(), pool.cidr.network()) {
        (IpAddr::V4(a), IpAddr::V4(n)) => u128::from(u32::from(a).wrapping_sub(u32::from(n))),
        (IpAddr::V6(a), IpAddr::V6(n)) => u128::from(a).wrapping_sub(u128::from(n)),
        _ => 0,
    };
    off.checked_shr(host_bits(pool)).unwrap_or(0)
}

/// FNV-1a over the node's name: where its search for a block begins.
fn starting_block(pool: &IpPool, node: &str) -> u128 {
    let mut h = 0xcbf2_9ce4_8422_2325u64;
    for b in node.bytes() {
        h = (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3);
    }
    u128::from(h) % block_count(pool).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pool(cidr: &str, size: u8) -> IpPool {
        IpPool {
            block_size: size,
            ..IpPool::new("p", cidr.parse().unwrap())
        }
    }

    fn take(i: &mut Ipam, node: &str, h: &str) -> Result<IpNetwork, IpamError> {
        i.auto_assign(node, &BTreeMap::new(), h, true)
    }

    #[test]
    fn own_blocks_first_then_new_ones_then_borrowed() {
        // Four blocks of four addresses.
        let mut i = Ipam::new(vec![pool("10.0.0.0/28", 30)]);
        let a: Vec<IpNetwork> = (0..5)
            .map(|n| take(&mut i, "n1", &format!("a{n}")).unwrap())
            .collect();
        assert_eq!(
            i.blocks().filter(|b| b.node == "n1").count(),
            2,
            "the fifth needs a second block"
        );
        assert!(a.iter().all(|n| n.prefix() == 30));
        for n in 0..8 {
            take(&mut i, "n2", &format!("b{n}")).unwrap();
        }
        assert_eq!(i.blocks().count(), 4);
        let borrowed = take(&mut i, "n2", "c").unwrap();
        let b = i.blocks().find(|b| b.cidr.contains(borrowed.ip())).unwrap();
        assert_eq!(b.node, "n1", "n2 borrows from n1's second block");
        assert_eq!(
            b.allocations()
                .find(|(ip, _)| *ip == borrowed.ip())
                .unwrap()
                .1
                .node,
            "n2"
        );
        i.strict_affinity = true;
        assert_eq!(take(&mut i, "n2", "d"), Err(IpamError::Strict(4)));
        i.strict_affinity = false;
        for _ in 0..2 {
            take(&mut i, "n2", "e").unwrap();
        }
        let e = take(&mut i, "n2", "f").unwrap_err();
        assert_eq!(
            e.to_string(),
            "Assigned 0 out of 1 requested IPv4 addresses; No IPs available in pools: [10.0.0.0/28]"
        );
    }

    #[test]
    fn released_addresses_come_last_and_requested_ones_are_exclusive() {
        let mut i = Ipam::new(vec![pool("10.0.0.0/26", 30)]);
        let first = take(&mut i, "n1", "a").unwrap();
        assert_eq!(i.release_by_handle("a"), 1);
        assert_ne!(take(&mut i, "n1", "b").unwrap(), first);
        i.assign_ip(first.ip(), "n1", "c").unwrap();
        assert_eq!(
            i.assign_ip(first.ip(), "n1", "d"),
            Err(IpamError::Taken(first.ip()))
        );
        assert_eq!(i.ips_by_handle("c"), [first.ip()]);
        let out: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(i.assign_ip(out, "n1", "d"), Err(IpamError::NotInPool(out)));
    }

    #[test]
    fn the_block_limit_stops_a_node() {
        let mut i = Ipam::new(vec![pool("10.0.0.0/24", 32)]);
        for n in 0..20 {
            take(&mut i, "n1", &n.to_string()).unwrap();
        }
        assert_eq!(
            take(&mut i, "n1", "x"),
            Err(IpamError::BlockLimit {
                version: 4,
                limit: 20
            })
        );
    }

    proptest! {
        #[test]
        fn no_address_is_handed_out_twice(ops in proptest::collection::vec((0u8..3, 0u8..40), 1..200)) {
            let mut i = Ipam::new(vec![pool("10.0.0.0/25", 28)]);
            for (node, h) in ops {
                if h >= 30 {
                    i.release_by_handle(&format!("h{}", h - 30));
                } else {
                    let _ = take(&mut i, &format!("n{node}"), &format!("h{h}"));
                }
                let given = i.blocks().flat_map(Block::allocations);
                let mut all: Vec<IpAddr> = given.map(|(ip, _)| ip).collect();
                let n = all.len();
                all.sort();
                all.dedup();
                prop_assert_eq!(all.len(), n);
                prop_assert!(i.blocks().all(|b| b.free() + b.allocations().count() == 16));
            }
        }

        #[test]
        fn blocks_are_numbered_both_ways(n in 0u128..4096) {
            for p in [pool("10.0.0.0/14", 26), pool("fd00::/110", 122)] {
                prop_assert_eq!(block_index(&p, &nth_block(&p, n)), n);
            }
        }
    }
}
