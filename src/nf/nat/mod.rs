//! Address translation: to what a connection is mapped, and its packets with it.
//!
//! [`Nat`] sets a connection's mappings up ([`unique`] chooses them), [`hook`] is what runs at the four
//! hooks, [`manip`] changes packets, [`icmp`] the packets that errors quote, [`helper`] what FTP and TFTP
//! say of addresses. Does not keep connections: those are [`super::ct`]'s. Invariant: a range that maps
//! addresses has both ends of the packet's family.

pub mod helper;
pub mod icmp;
pub mod manip;
pub mod masquerade;
pub mod unique;

mod addr;
pub(crate) mod crc32c;
mod hook;
mod setup;
mod target;

pub use hook::{Ask, hook};
pub use manip::manip_packet;
pub use setup::{Nat, NoNat, initialized};
pub use target::{netmap, range_of};

use super::Hook;
use super::ct::CtTuple;
use super::ct::tuple::{GRE, UDPLITE};
use std::net::IpAddr;

/// The tuple of packets that answer. A table holds none that cannot be answered, so it may stay as it is.
pub fn inverse(t: &CtTuple) -> CtTuple {
    t.invert().unwrap_or(*t)
}

/// Which side of a packet a mapping changes (kernel: `enum nf_nat_manip_type`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manip {
    /// The source: POSTROUTING, INPUT.
    Src,
    /// The destination: PREROUTING, OUTPUT.
    Dst,
}

impl Manip {
    /// What NAT changes at a hook (kernel: `HOOK2MANIP`).
    pub fn at(hook: Hook) -> Manip {
        match hook {
            Hook::Postrouting | Hook::Input => Manip::Src,
            Hook::Prerouting | Hook::Output | Hook::Forward => Manip::Dst,
        }
    }

    /// The other side.
    pub fn other(self) -> Manip {
        match self {
            Manip::Src => Manip::Dst,
            Manip::Dst => Manip::Src,
        }
    }

    /// The address of that side.
    pub fn addr(self, t: &CtTuple) -> IpAddr {
        match self {
            Manip::Src => t.src,
            Manip::Dst => t.dst,
        }
    }

    /// The port of that side.
    pub fn port(self, t: &CtTuple) -> u16 {
        match self {
            Manip::Src => t.sport,
            Manip::Dst => t.dport,
        }
    }

    fn set_addr(self, t: &mut CtTuple, ip: IpAddr) {
        match self {
            Manip::Src => t.src = ip,
            Manip::Dst => t.dst = ip,
        }
    }

    fn set_port(self, t: &mut CtTuple, port: u16) {
        match self {
            Manip::Src => t.sport = port,
            Manip::Dst => t.dport = port,
        }
    }
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

impl NatTarget {
    /// One address, ports kept where possible.
    pub fn to(ip: IpAddr) -> Self {
        NatTarget {
            addrs: Some((ip, ip)),
            ..NatTarget::default()
        }
    }

    /// Whether the port is drawn even if the packet's own is free (NF_NAT_RANGE_PROTO_RANDOM_ALL).
    pub fn draws(&self) -> bool {
        self.random || self.random_fully
    }
}
