//! L1: frames and headers: bytes in, bytes out, checksums, one-line printing.
//!
//! Knows no device and no rule. Header fields are read and set through `smoltcp::wire`'s views after
//! a length check here; lax decoding of anything captured is `etherparse`'s ([`mod@print`]).
//! Invariant: no function here panics on any input; lengths are checked before a view is made.

pub mod arp;
pub mod build;
pub mod checksum;
pub mod ct_ref;
pub mod flow;
pub mod frame;
pub mod ip;
pub mod mac;
pub mod ndp;
pub mod options;
pub mod print;
pub mod shard;
pub mod tuple;

pub use ct_ref::{Bridged, ConnId, CtInfo, CtRef};
pub use frame::{Frame, PacketType};
pub use ip::{IpHeader, IpVersion, Malformed};
pub use mac::MacAddr;
pub use tuple::Tuple;

/// EtherType of IPv4 (IEEE 802 numbers).
pub const ETH_P_IP: u16 = 0x0800;
/// EtherType of ARP.
pub const ETH_P_ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const ETH_P_IPV6: u16 = 0x86dd;
/// EtherType of an 802.1Q tag.
pub const ETH_P_8021Q: u16 = 0x8100;
/// Length of an Ethernet II header.
pub const ETH_HLEN: usize = 14;

/// IP protocol numbers used by the walk (IANA).
pub mod proto {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// IP in IP.
    pub const IPIP: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// SCTP.
    pub const SCTP: u8 = 132;
}
