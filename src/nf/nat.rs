//! Address translation: to what a connection is mapped.
//!
//! Invariant: a range that maps addresses has both ends of the packet's family.

use std::net::IpAddr;

/// Which side of a packet a mapping changes (kernel: `enum nf_nat_manip_type`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manip {
    /// The source: POSTROUTING, INPUT.
    Src,
    /// The destination: PREROUTING, OUTPUT.
    Dst,
}

/// Where to (kernel: `struct nf_nat_range2`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NatTarget {
    /// First and last address; `None` keeps the packet's (no NF_NAT_RANGE_MAP_IPS).
    pub addrs: Option<(IpAddr, IpAddr)>,
    /// First and last port or id (NF_NAT_RANGE_PROTO_SPECIFIED).
    pub ports: Option<(u16, u16)>,
    /// The port that the first of a shifted range stands for (NF_NAT_RANGE_PROTO_OFFSET).
    pub base: Option<u16>,
    /// `--random`
    pub random: bool,
    /// `--random-fully`
    pub random_fully: bool,
    /// `--persistent`
    pub persistent: bool,
    /// NETMAP: the network part only (NF_NAT_RANGE_NETMAP).
    pub netmap: bool,
}
