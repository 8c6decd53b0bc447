//! What one walk touched besides the frame: counters, connections, entries that it made younger.
//!
//! For whoever compiles a walk: a packet of the same flow touches the same things. Invariant: what a walk
//! changes and does not tell here makes it tell [`Touch::Varies`].

use crate::base::{DevId, Instant};
use crate::ipvs::{self, DestId};
use crate::nf::eval::RuleRef;
use crate::nf::record::CountAt;
use crate::wire::{ConnId, MacAddr};
use std::net::IpAddr;

/// Why the next packet of the flow may go another way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Varies {
    /// A rule looks at more than the flow, or remembers packets.
    Rule(RuleRef),
    /// IPVS made a connection, or treats each packet of its own anew.
    Ipvs,
    /// The connection is not settled: its state depends on the packet or on the moment.
    Connection,
    /// The neighbour is not confirmed.
    Neighbour,
    /// The bridge learned an address.
    Learned,
    /// A tunnel learned an address.
    TunnelLearned,
    /// A redirect is due.
    Redirect,
}

/// One thing that a walk touched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Touch {
    /// A rule's counters; the packet had this length there.
    Counter(CountAt, usize),
    /// A connection of the namespace; `reply` says by which direction.
    Conn {
        /// Which.
        id: ConnId,
        /// The packet goes as replies do.
        reply: bool,
        /// Its length there.
        len: usize,
    },
    /// A connection of IPVS; the packet was counted with this length at its real server.
    Server {
        /// Which.
        id: ipvs::conn::ConnId,
        /// The real server, if one counts.
        dest: Option<DestId>,
        /// The packet goes as replies do.
        reply: bool,
        /// Bytes.
        len: usize,
    },
    /// IPVS had no connection for it; the hash names those that it would be of.
    Stranger(u64),
    /// A neighbour entry was used.
    Neigh {
        /// The device.
        dev: DevId,
        /// The address.
        ip: IpAddr,
    },
    /// The bridge saw an address again.
    FdbSeen {
        /// The bridge.
        bridge: DevId,
        /// The VLAN, 0 without filtering.
        vlan: u16,
        /// The address.
        mac: MacAddr,
        /// Behind this port.
        port: DevId,
    },
    /// An answer that holds until then.
    Until(Instant),
    /// Longer packets than `max` fare otherwise; this one had `len` bytes here.
    Cap {
        /// Allowed.
        max: usize,
        /// This packet.
        len: usize,
    },
    /// An identification was used up.
    IpId,
    /// A packet was forwarded (`IpForwDatagrams`).
    Forwarded,
    /// The next packet may fare otherwise.
    Varies(Varies),
}
