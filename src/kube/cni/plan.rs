//! What a plugin or node agent does to namespaces, as a closed list of operations.
//!
//! One operation is one netlink request or one write below `/proc/sys`. [`apply`](super::admin::apply) is the
//! only thing that carries them out; a node agent's plan can so be printed, compared and undone.

use crate::net::{RouteKind, Scope};
use crate::wire::MacAddr;
use ipnetwork::IpNetwork;
use std::net::{IpAddr, Ipv4Addr};

/// In which namespace.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Where {
    /// The node's own.
    Node,
    /// The one at this path (`CNI_NETNS`).
    Pod(String),
}

/// A route to be added.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteSpec {
    /// Destination.
    pub dst: IpNetwork,
    /// Next hop.
    pub via: Option<IpAddr>,
    /// Output device; found from the next hop when absent.
    pub dev: Option<String>,
    /// Unicast, or blackhole and its kin.
    pub kind: RouteKind,
    /// Scope.
    pub scope: Scope,
    /// Preferred source.
    pub src: Option<IpAddr>,
    /// `rt_protos` number.
    pub protocol: u8,
    /// Do not check that the next hop is reachable.
    pub onlink: bool,
    /// MTU metric.
    pub mtu: Option<u32>,
}

impl RouteSpec {
    /// A route as the netlink library the plugins use makes it: unicast, universe, protocol boot.
    pub fn new(dst: IpNetwork, via: Option<IpAddr>, dev: Option<&str>) -> Self {
        RouteSpec {
            dst,
            via,
            dev: dev.map(str::to_owned),
            kind: RouteKind::Unicast,
            scope: Scope::Universe,
            src: None,
            protocol: crate::net::fib::PROTO_BOOT,
            onlink: false,
            mtu: None,
        }
    }
}

/// How an existing route of the same destination is treated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// It is an error (`NLM_F_CREATE|NLM_F_EXCL`).
    Add,
    /// It is replaced.
    Replace,
    /// The new one is added beside it (`RouteAddEcmp`: `NLM_F_CREATE` alone).
    Beside,
}

/// One change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinkOp {
    /// `ip link add NAME type bridge`
    AddBridge {
        /// Name.
        name: String,
        /// MTU; 1500 when absent.
        mtu: Option<u32>,
        /// Link address.
        mac: MacAddr,
        /// Filter VLANs.
        vlan_filtering: bool,
    },
    /// `ip link add NAME type veth peer name PEER netns ...`
    AddVeth {
        /// Name of the end in this namespace.
        name: String,
        /// Link address of this end.
        mac: MacAddr,
        /// Name of the other end.
        peer: String,
        /// Link address of the other end.
        peer_mac: MacAddr,
        /// Where the other end is.
        peer_in: Where,
        /// MTU of both.
        mtu: Option<u32>,
    },
    /// `ip link add NAME type vxlan ...`
    AddVxlan {
        /// Name.
        name: String,
        /// Link address.
        mac: MacAddr,
        /// VNI.
        vni: u32,
        /// UDP destination port.
        port: u16,
        /// Lower device.
        lower: Option<String>,
        /// Outer source address.
        local: Option<IpAddr>,
        /// Learn from traffic.
        learning: bool,
        /// MTU.
        mtu: u32,
    },
    /// `ip tunnel add NAME mode ipip ...`
    AddIpip {
        /// Name.
        name: String,
        /// Outer source address.
        local: Option<Ipv4Addr>,
        /// MTU.
        mtu: u32,
    },
    /// `ip link add NAME type dummy`
    AddDummy {
        /// Name.
        name: String,
        /// Link address.
        mac: MacAddr,
    },
    /// `ip link del`; a veth's other end goes with it.
    DelLink(String),
    /// `ip link set DEV up|down`
    SetUp(String, bool),
    /// `ip link set DEV mtu N`
    SetMtu(String, u32),
    /// `ip link set DEV address MAC`
    SetMac(String, MacAddr),
    /// `ip link set DEV promisc on|off`
    SetPromisc(String, bool),
    /// `ip link set PORT master BRIDGE`
    SetMaster(String, String),
    /// `bridge link set dev PORT hairpin on|off`
    SetHairpin(String, bool),
    /// `bridge vlan add dev PORT vid N pvid untagged`
    AddPortVlan(String, u16),
    /// `ip addr add NET dev DEV`, with the broadcast address the netlink library adds.
    AddAddr(String, IpNetwork),
    /// `ip addr del NET dev DEV`
    DelAddr(String, IpNetwork),
    /// `ip route add|replace|append`
    AddRoute(RouteSpec, Mode),
    /// `ip route del DST [dev DEV]`
    DelRoute {
        /// Destination.
        dst: IpNetwork,
        /// Only through this device.
        dev: Option<String>,
    },
    /// `ip neigh replace IP lladdr MAC dev DEV nud permanent`
    AddNeigh(String, IpAddr, MacAddr),
    /// `bridge fdb replace MAC dev VXLAN dst IP self permanent`
    AddFdb(String, MacAddr, IpAddr),
    /// `sysctl -w KEY=VALUE`
    SetSysctl(String, String),
}
