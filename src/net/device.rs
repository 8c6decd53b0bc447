//! Network devices of a namespace: what `ip -d link` shows.
//!
//! A closed set; an exhaustive `match` on [`DeviceKind`] is the checklist for a new one.

use crate::base::{DevId, Instant, NsId, Origin};
use crate::net::addr::IfAddr;
use crate::net::bridge::{Bridge, BridgePort};
use crate::net::neigh::NeighParms;
use crate::net::sysctl::{Ipv4Conf, Ipv6Conf};
use crate::wire::MacAddr;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// The far end of a veth pair or of an uplink's cable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PortAt {
    /// The namespace.
    pub ns: NsId,
    /// The device in it.
    pub dev: DevId,
}

/// A VXLAN destination: where frames to a MAC go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VxlanDst {
    /// The remote tunnel endpoint.
    pub ip: IpAddr,
    /// Learned from traffic; the kernel then lets it age.
    pub learned: Option<Instant>,
}

/// A VXLAN device (RFC 7348; kernel: `drivers/net/vxlan`).
#[derive(Clone, Debug)]
pub struct Vxlan {
    /// Network identifier.
    pub vni: u32,
    /// UDP port, both to listen on and to send to.
    pub port: u16,
    /// Own outer address.
    pub local: Option<IpAddr>,
    /// Lower device.
    pub lower: Option<DevId>,
    /// Learn source addresses from the outer headers.
    pub learning: bool,
    /// Outer TTL, 0 for the route's default, `None` to inherit.
    pub ttl: Option<u8>,
    /// Outer UDP checksum.
    pub udp_csum: bool,
    /// Forwarding database; the zero MAC is the default destination list.
    pub fdb: BTreeMap<MacAddr, Vec<VxlanDst>>,
}

/// An IPIP tunnel (RFC 2003; kernel: `net/ipv4/ipip.c`).
#[derive(Clone, Debug, Default)]
pub struct Ipip {
    /// Own outer address; the route's choice when unset.
    pub local: Option<Ipv4Addr>,
    /// Remote; the route's next hop when unset (`tunl0` as Calico uses it).
    pub remote: Option<Ipv4Addr>,
    /// Outer TTL, 0 to inherit.
    pub ttl: u8,
    /// Set DF outside as inside and track the path MTU.
    pub pmtudisc: bool,
}

/// What kind of device it is.
#[derive(Clone, Debug)]
pub enum DeviceKind {
    /// `lo`
    Loopback,
    /// One end of a pair.
    Veth,
    /// A bridge.
    Bridge(Box<Bridge>),
    /// A VXLAN tunnel.
    Vxlan(Box<Vxlan>),
    /// An IPIP tunnel.
    Ipip(Box<Ipip>),
    /// Swallows everything (`kube-ipvs0`, `nodelocaldns`).
    Dummy,
    /// The node's way out: cabled to the underlay.
    Uplink,
}

impl DeviceKind {
    /// `ip -d link`'s word.
    pub fn name(&self) -> &'static str {
        match self {
            DeviceKind::Loopback => "loopback",
            DeviceKind::Veth => "veth",
            DeviceKind::Bridge(_) => "bridge",
            DeviceKind::Vxlan(_) => "vxlan",
            DeviceKind::Ipip(_) => "ipip",
            DeviceKind::Dummy => "dummy",
            DeviceKind::Uplink => "uplink",
        }
    }
}

/// Packets and bytes that passed a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DevStats {
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames received and dropped by the device.
    pub rx_dropped: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames that could not be sent.
    pub tx_dropped: u64,
}

/// A device.
#[derive(Clone, Debug)]
pub struct Device {
    /// ifindex.
    pub id: DevId,
    /// Name.
    pub name: String,
    /// Link address; zero where there is none.
    pub mac: MacAddr,
    /// Largest IP packet, bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// The other end is there and up.
    pub carrier: bool,
    /// Accept frames to others' addresses.
    pub promisc: bool,
    /// What it is.
    pub kind: DeviceKind,
    /// The bridge it is a port of, with the port's flags.
    pub master: Option<(DevId, BridgePort)>,
    /// Where its cable ends.
    pub peer: Option<PortAt>,
    /// Addresses, in the order they were added.
    pub addrs: Vec<IfAddr>,
    /// IPv4 sysctls.
    pub conf4: Ipv4Conf,
    /// IPv6 sysctls.
    pub conf6: Ipv6Conf,
    /// How its IPv4 neighbours are asked for.
    pub parms4: NeighParms,
    /// How its IPv6 neighbours are asked for.
    pub parms6: NeighParms,
    /// Counters.
    pub stats: DevStats,
    /// Who made it.
    pub origin: Origin,
}

impl Device {
    /// Frames may pass: up, and the other end too.
    pub fn is_running(&self) -> bool {
        self.up && self.carrier
    }

    /// No link addresses here: ARP is not used and no Ethernet header is written.
    pub fn is_layer3(&self) -> bool {
        matches!(self.kind, DeviceKind::Ipip(_))
    }

    /// How neighbours of one family are asked for.
    pub fn parms(&self, v4: bool) -> &NeighParms {
        if v4 { &self.parms4 } else { &self.parms6 }
    }

    /// The IPv4 addresses.
    pub fn addrs4(&self) -> impl Iterator<Item = (&IfAddr, Ipv4Addr)> {
        self.addrs.iter().filter_map(|a| match a.ip() {
            IpAddr::V4(v) => Some((a, v)),
            IpAddr::V6(_) => None,
        })
    }

    /// The IPv6 addresses.
    pub fn addrs6(&self) -> impl Iterator<Item = (&IfAddr, std::net::Ipv6Addr)> {
        self.addrs.iter().filter_map(|a| match a.ip() {
            IpAddr::V6(v) => Some((a, v)),
            IpAddr::V4(_) => None,
        })
    }

    /// The IPv6 link-local address.
    pub fn link_local(&self) -> Option<std::net::Ipv6Addr> {
        self.addrs6()
            .map(|(_, a)| a)
            .find(|a| crate::net::addr::is_link_local(*a))
    }

    /// The bridge inside, if it is one.
    pub fn bridge(&self) -> Option<&Bridge> {
        match &self.kind {
            DeviceKind::Bridge(b) => Some(b),
            _ => None,
        }
    }

    pub(crate) fn bridge_mut(&mut self) -> Option<&mut Bridge> {
        match &mut self.kind {
            DeviceKind::Bridge(b) => Some(b),
            _ => None,
        }
    }
}
