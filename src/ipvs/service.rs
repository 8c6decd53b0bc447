//! Virtual services and their real servers (kernel: `struct ip_vs_service`, `struct ip_vs_dest`).
//!
//! Data only. Invariant: a destination that no service lists is not `available`; it lives on while a
//! connection refers to it (kernel: the trash).

use super::sched::{SchedState, Scheduler};
use super::stats::Stats;
use crate::base::Origin;
use crate::wire::proto;
use core::cmp::Ordering;
use core::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// What makes a packet one for a service.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Virtual {
    /// Its protocol, destination address and port; port 0 means every port that has no service of its own.
    Addr {
        /// TCP, UDP or SCTP.
        proto: u8,
        /// The virtual address.
        ip: IpAddr,
        /// The port, 0 for any.
        port: u16,
    },
    /// Its firewall mark.
    Mark {
        /// The mark, not 0.
        mark: u32,
        /// Of IPv6 packets.
        v6: bool,
    },
}

impl Virtual {
    /// Whether its packets are IPv6.
    pub fn is_v6(&self) -> bool {
        match self {
            Virtual::Addr { ip, .. } => ip.is_ipv6(),
            Virtual::Mark { v6, .. } => *v6,
        }
    }

    /// The port, 0 where it has none.
    pub fn port(&self) -> u16 {
        match self {
            Virtual::Addr { port, .. } => *port,
            Virtual::Mark { .. } => 0,
        }
    }

    /// The order of a listing (ipvsadm: `ipvs_cmp_services`).
    fn rank(&self) -> (u32, bool, u8, Option<IpAddr>, u16) {
        match *self {
            Virtual::Addr { proto, ip, port } => (0, ip.is_ipv6(), proto, Some(ip), port),
            Virtual::Mark { mark, v6 } => (mark, v6, 0, None, 0),
        }
    }
}

impl PartialOrd for Virtual {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Virtual {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl fmt::Display for Virtual {
    /// As a command names it: `-t 10.0.0.1:80`, `-f 1 -6`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Virtual::Addr { proto, ip, port } => {
                let option = match proto {
                    proto::TCP => "-t",
                    proto::UDP => "-u",
                    _ => "--sctp-service",
                };
                write!(f, "{option} {}", SocketAddr::new(ip, port))
            }
            Virtual::Mark { mark, v6: false } => write!(f, "-f {mark}"),
            Virtual::Mark { mark, v6: true } => write!(f, "-f {mark} -6"),
        }
    }
}

/// Which clients count as one for a persistent service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mask {
    /// IPv4: any mask.
    V4(Ipv4Addr),
    /// IPv6: a prefix length.
    V6(u8),
}

impl Mask {
    /// Every address by itself.
    pub fn all(v6: bool) -> Mask {
        match v6 {
            false => Mask::V4(Ipv4Addr::BROADCAST),
            true => Mask::V6(128),
        }
    }

    /// An address with the bits that count.
    pub fn apply(self, ip: IpAddr) -> IpAddr {
        match (self, ip) {
            (Mask::V4(m), IpAddr::V4(a)) => Ipv4Addr::from(u32::from(a) & u32::from(m)).into(),
            (Mask::V6(n), IpAddr::V6(a)) => {
                let m = u128::MAX
                    .checked_shl(128 - u32::from(n.min(128)))
                    .unwrap_or(0);
                std::net::Ipv6Addr::from(u128::from(a) & m).into()
            }
            _ => ip,
        }
    }
}

/// How a tunnel wraps packets (`--tun-type` and its friends).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TunnelKind {
    /// IP in IP, IPv6 in IPv6 and so on.
    Ipip,
    /// GUE to a UDP port.
    Gue {
        /// Destination port.
        port: u16,
    },
    /// GRE.
    Gre,
}

/// Checksums of a tunnel's own header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TunnelSum {
    /// `--tun-nocsum`
    #[default]
    None,
    /// `--tun-csum`
    Csum,
    /// `--tun-remcsum`
    Remote,
}

/// How packets get to a real server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Forward {
    /// Translated (`-m`).
    Masq,
    /// To this host itself.
    Local,
    /// In a tunnel (`-i`).
    Tunnel(TunnelKind, TunnelSum),
    /// As they are, to the real server's link address (`-g`).
    Droute,
    /// To where they were addressed: no real server was there (`cache_bypass`).
    Bypass,
}

impl Forward {
    /// As a listing names it.
    pub fn name(self) -> &'static str {
        match self {
            Forward::Masq => "Masq",
            Forward::Local => "Local",
            Forward::Tunnel(..) => "Tunnel",
            Forward::Droute | Forward::Bypass => "Route",
        }
    }
}

/// A service as a command describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceSpec {
    /// Which packets.
    pub at: Virtual,
    /// Who chooses.
    pub sched: Scheduler,
    /// The scheduler's flags 1, 2 and 3 as bits 0, 1, 2.
    pub flags: u8,
    /// Persistent for so many seconds.
    pub persistent: Option<u32>,
    /// Which clients are one.
    pub mask: Mask,
    /// One packet scheduling.
    pub ops: bool,
    /// Persistence engine, kept and not carried out.
    pub pe: Option<String>,
}

/// A real server as a command describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DestSpec {
    /// Its address.
    pub ip: IpAddr,
    /// Its port.
    pub port: u16,
    /// How to get there.
    pub fwd: Forward,
    /// Its share; 0 takes no new connections.
    pub weight: i32,
    /// Connections at which it gets no more, 0 for no bound.
    pub upper: u32,
    /// Connections below which it gets some again.
    pub lower: u32,
}

/// A real server's place; never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DestId(pub(super) u32);

/// A real server.
#[derive(Clone, Debug)]
pub struct Dest {
    /// As it was configured.
    pub spec: DestSpec,
    /// The service it is of.
    pub of: Virtual,
    /// The latest weight that was not 0, for `mh`.
    pub last_weight: i32,
    /// Connections in active states.
    pub active: u32,
    /// The others.
    pub inactive: u32,
    /// Templates.
    pub persistent: u32,
    /// A service lists it.
    pub available: bool,
    /// It has as many connections as it may.
    pub overload: bool,
    /// Counters.
    pub stats: Stats,
    /// Connections and templates that refer to it.
    pub(super) refs: u32,
}

impl Dest {
    /// Connections of either kind (`ip_vs_dest_totalconns`).
    pub fn total(&self) -> u64 {
        u64::from(self.active) + u64::from(self.inactive)
    }

    /// Whether a scheduler may choose it.
    pub fn usable(&self) -> bool {
        !self.overload && self.spec.weight > 0
    }

    /// The load that `lc` and its kin compare (`ip_vs_dest_conn_overhead`).
    pub fn overhead(&self) -> i64 {
        (i64::from(self.active) << 8) + i64::from(self.inactive)
    }
}

/// A virtual service.
#[derive(Clone, Debug)]
pub struct Service {
    /// As it was configured.
    pub spec: ServiceSpec,
    /// Its real servers, the one added last first.
    pub dests: Vec<DestId>,
    /// What its scheduler remembers.
    pub(super) state: SchedState,
    /// Counters.
    pub stats: Stats,
    /// Its real servers came from a listing, which sorts them: their true order is not known.
    pub order_unknown: bool,
    /// Who made it, from what.
    pub origin: Origin,
}
