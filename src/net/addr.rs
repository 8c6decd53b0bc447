//! Interface addresses and the choice among them.

use crate::base::Origin;
use ipnetwork::{IpNetwork, Ipv4Network};
use std::net::{IpAddr, Ipv4Addr};

/// How far an address or route reaches (kernel: `RT_SCOPE_*`). Wider scopes compare smaller.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Scope {
    /// Everywhere (0).
    #[default]
    Universe,
    /// This site, IPv6 only (200).
    Site,
    /// This link (253).
    Link,
    /// This host (254).
    Host,
    /// Nowhere (255): the next hop of a local route.
    Nowhere,
}

impl Scope {
    /// `ip`'s word for it.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Universe => "global",
            Scope::Site => "site",
            Scope::Link => "link",
            Scope::Host => "host",
            Scope::Nowhere => "nowhere",
        }
    }

    /// The scope an address has when nobody says otherwise (`ip addr add`, `ipv6_addr_type`).
    pub fn of(ip: IpAddr) -> Scope {
        match ip {
            IpAddr::V4(a) if a.is_loopback() => Scope::Host,
            IpAddr::V6(a) if a.is_loopback() => Scope::Host,
            IpAddr::V6(a) if is_link_local(a) => Scope::Link,
            _ => Scope::Universe,
        }
    }
}

/// `fe80::/10`.
pub fn is_link_local(a: std::net::Ipv6Addr) -> bool {
    a.segments()[0] & 0xffc0 == 0xfe80
}

/// An address of a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IfAddr {
    /// The address and its prefix length.
    pub net: IpNetwork,
    /// The other end of a point-to-point address.
    pub peer: Option<IpNetwork>,
    /// Broadcast address (IPv4).
    pub broadcast: Option<Ipv4Addr>,
    /// Reach.
    pub scope: Scope,
    /// Another address of the same subnet was there first (`IFA_F_SECONDARY`).
    pub secondary: bool,
    /// Who put it there.
    pub origin: Origin,
}

impl IfAddr {
    /// `net` with the scope `ip addr add` would give it and no broadcast address.
    pub fn new(net: IpNetwork, origin: Origin) -> Self {
        IfAddr {
            net,
            peer: None,
            broadcast: None,
            scope: Scope::of(net.ip()),
            secondary: false,
            origin,
        }
    }

    /// The same with the subnet's broadcast address, as `ip addr add ... brd +` and CNI plugins set it.
    pub fn with_broadcast(mut self) -> Self {
        if let IpNetwork::V4(n) = self.net {
            self.broadcast = (n.prefix() < 31).then(|| n.broadcast());
        }
        self
    }

    /// The address itself.
    pub fn ip(&self) -> IpAddr {
        self.net.ip()
    }

    /// The subnet it makes directly reachable: the peer's, if there is one.
    pub fn subnet(&self) -> IpNetwork {
        network_of(self.peer.unwrap_or(self.net))
    }
}

/// `net` with its host bits cleared.
pub fn network_of(net: IpNetwork) -> IpNetwork {
    IpNetwork::new(net.network(), net.prefix()).unwrap_or(net)
}

/// `ip/32` or `ip/128`.
pub fn host_net(ip: IpAddr) -> IpNetwork {
    IpNetwork::from(ip)
}

/// Whether `ip` is the limited broadcast, a subnet's or a group (never a next hop).
pub fn is_group(ip: IpAddr) -> bool {
    ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// Only `0.0.0.0` itself; the rest of 0/8 is ordinary since Linux 5.3 (kernel: `ipv4_is_zeronet`).
pub fn is_zeronet(a: Ipv4Addr) -> bool {
    a.is_unspecified()
}

/// The all-addresses prefix of `like`'s family.
pub fn default_net(v4: bool) -> IpNetwork {
    let (zero, len): (IpAddr, u8) = if v4 {
        (Ipv4Addr::UNSPECIFIED.into(), 0)
    } else {
        (std::net::Ipv6Addr::UNSPECIFIED.into(), 0)
    };
    IpNetwork::new(zero, len).unwrap_or(IpNetwork::V4(Ipv4Network::from(Ipv4Addr::UNSPECIFIED)))
}
