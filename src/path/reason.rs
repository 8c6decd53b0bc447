//! Closed lists: why a frame was dropped, and how a walk ends.

use crate::base::Origin;
use crate::net::SocketId;
use core::fmt;

/// Why a frame went no further. `kernel()` is the name in `skb_drop_reason` (include/net/dropreason-core.h),
/// as dropwatch and `perf trace -e skb:kfree_skb` show it; `text()` says what to look at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)] // `text` documents each
pub enum DropReason {
    DeviceDown,
    NoCarrier,
    NoPeer,
    PeerDown,
    PeerMtu,
    Runt,
    UnhandledProtocol,
    OtherHost,
    IpHeader,
    IpChecksum,
    IpTruncated,
    MartianSource,
    MartianDestination,
    LocalSource,
    ReversePath,
    ForwardingOff,
    NoRoute,
    Blackhole,
    Unreachable,
    Prohibit,
    TtlExpired,
    MtuExceeded,
    NotForUs,
    GroupNotJoined,
    NeighFailed,
    NeighQueueFull,
    NeighTableFull,
    NoSourceAddress,
    ArpIgnored,
    NdIgnored,
    BadSourceMac,
    LinkLocalGroup,
    SamePort,
    Isolated,
    NoFloodPort,
    EgressMtu,
    VlanFiltered,
    BridgeIpHeader,
    VxlanNoFdb,
    VxlanNoDevice,
    VxlanHeader,
    VxlanOwnMac,
    TunnelNoRemote,
    TunnelLoop,
    NoTunnel,
    NoProtocol,
    NoSocket,
    L4Checksum,
    IcmpIgnored,
    IcmpMalformed,
    FragmentTimeout,
    FragmentBad,
    FragmentDuplicate,
    Ipv6Disabled,
    Netfilter,
    NetfilterReject,
    NetfilterQueue,
    Conntrack,
    Ipvs,
    DummyDevice,
    LinkLoss,
    LinkBlocked,
    QueueFull,
}

impl DropReason {
    /// Every reason, in order.
    pub const ALL: [DropReason; 63] = {
        use DropReason::*;
        [
            DeviceDown,
            NoCarrier,
            NoPeer,
            PeerDown,
            PeerMtu,
            Runt,
            UnhandledProtocol,
            OtherHost,
            IpHeader,
            IpChecksum,
            IpTruncated,
            MartianSource,
            MartianDestination,
            LocalSource,
            ReversePath,
            ForwardingOff,
            NoRoute,
            Blackhole,
            Unreachable,
            Prohibit,
            TtlExpired,
            MtuExceeded,
            NotForUs,
            GroupNotJoined,
            NeighFailed,
            NeighQueueFull,
            NeighTableFull,
            NoSourceAddress,
            ArpIgnored,
            NdIgnored,
            BadSourceMac,
            LinkLocalGroup,
            SamePort,
            Isolated,
            NoFloodPort,
            EgressMtu,
            VlanFiltered,
            BridgeIpHeader,
            VxlanNoFdb,
            VxlanNoDevice,
            VxlanHeader,
            VxlanOwnMac,
            TunnelNoRemote,
            TunnelLoop,
            NoTunnel,
            NoProtocol,
            NoSocket,
            L4Checksum,
            IcmpIgnored,
            IcmpMalformed,
            FragmentTimeout,
            FragmentBad,
            FragmentDuplicate,
            Ipv6Disabled,
            Netfilter,
            NetfilterReject,
            NetfilterQueue,
            Conntrack,
            Ipvs,
            DummyDevice,
            LinkLoss,
            LinkBlocked,
            QueueFull,
        ]
    };

    /// Our name, as `expect.hop.reason` and JSON write it.
    pub fn name(self) -> String {
        let mut out = String::new();
        for (i, c) in format!("{self:?}").chars().enumerate() {
            if c.is_ascii_uppercase() && i > 0 {
                out.push('-');
            }
            out.push(c.to_ascii_lowercase());
        }
        out
    }

    /// The kernel's name.
    pub fn kernel(self) -> &'static str {
        use DropReason::*;
        match self {
            DeviceDown | NoCarrier | NoPeer | PeerDown | DummyDevice => "DEV_READY",
            PeerMtu | EgressMtu | MtuExceeded => "PKT_TOO_BIG",
            Runt => "HDR_TRUNC",
            UnhandledProtocol => "UNHANDLED_PROTO",
            OtherHost => "OTHERHOST",
            IpHeader | BridgeIpHeader => "IP_INHDR",
            IpChecksum => "IP_CSUM",
            IpTruncated => "PKT_TOO_SMALL",
            MartianSource => "IP_INVALID_SOURCE",
            MartianDestination => "IP_INVALID_DEST",
            LocalSource => "IP_LOCAL_SOURCE",
            ReversePath => "IP_RPFILTER",
            ForwardingOff | NotForUs | TtlExpired => "IP_INADDRERRORS",
            NoRoute | Blackhole | Unreachable | Prohibit => "IP_INNOROUTES",
            GroupNotJoined => "IP_MULTICAST",
            NeighFailed => "NEIGH_FAILED",
            NeighQueueFull => "NEIGH_QUEUEFULL",
            NeighTableFull => "NEIGH_CREATEFAIL",
            NoSourceAddress => "IP_OUTNOROUTES",
            ArpIgnored | NdIgnored | IcmpIgnored | IcmpMalformed => "NOT_SPECIFIED",
            BadSourceMac => "MAC_INVALID_SOURCE",
            LinkLocalGroup => "MAC_IEEE_MAC_CONTROL",
            SamePort | Isolated | NoFloodPort | VlanFiltered => "BRIDGE_INGRESS_STP_STATE",
            VxlanNoFdb | TunnelNoRemote => "VXLAN_NO_REMOTE",
            VxlanNoDevice => "VXLAN_VNI_NOT_FOUND",
            VxlanHeader => "VXLAN_INVALID_HDR",
            VxlanOwnMac => "LOCAL_MAC",
            TunnelLoop => "TUNNEL_TXINFO",
            NoTunnel | NoProtocol => "IP_NOPROTO",
            NoSocket => "NO_SOCKET",
            L4Checksum => "TCP_CSUM",
            FragmentTimeout => "FRAG_REASM_TIMEOUT",
            FragmentBad => "FRAG_TOO_FAR",
            FragmentDuplicate => "DUP_FRAG",
            Ipv6Disabled => "IPV6DISABLED",
            Netfilter | NetfilterReject | NetfilterQueue | Conntrack | Ipvs => "NETFILTER_DROP",
            LinkLoss | LinkBlocked => "not the kernel: lost between machines",
            QueueFull => "FULL_RING",
        }
    }

    /// What happened, in words for an operator.
    pub fn text(self) -> &'static str {
        use DropReason::*;
        match self {
            DeviceDown => "the device is down",
            NoCarrier => "the device has no carrier: its other end is down or gone",
            NoPeer => "the device's other end does not exist",
            PeerDown => "the other end of the link is down",
            PeerMtu => "larger than the receiving device's MTU: dropped without a word",
            Runt => "too short for an Ethernet header",
            UnhandledProtocol => "no protocol handler for this EtherType",
            OtherHost => "addressed to another MAC: the IP layer ignores it",
            IpHeader => "malformed IP header",
            IpChecksum => "wrong IP header checksum",
            IpTruncated => "IP total length does not fit the frame",
            MartianSource => "martian source address",
            MartianDestination => "martian destination address",
            LocalSource => "the source address is one of this host's own",
            ReversePath => "rp_filter: the route back to the source does not use this device",
            ForwardingOff => {
                "forwarding is off here (net.ipv4.ip_forward=0): discarded without an answer"
            }
            NoRoute => "no route to the destination",
            Blackhole => "a blackhole route",
            Unreachable => "an unreachable route",
            Prohibit => "a prohibit route",
            TtlExpired => "TTL expired",
            MtuExceeded => "larger than the next link's MTU and must not be fragmented",
            NotForUs => "not for this host, and it does not forward it",
            GroupNotJoined => "a multicast group nobody joined here",
            NeighFailed => "the next hop did not answer (ARP or neighbour discovery failed)",
            NeighQueueFull => "too many packets wait for the same neighbour",
            NeighTableFull => "the neighbour table is full (gc_thresh3)",
            NoSourceAddress => "no source address to send from",
            ArpIgnored => "ARP not answered",
            NdIgnored => "neighbour discovery not answered",
            BadSourceMac => "the source MAC is a group address or zero",
            LinkLocalGroup => "link-local group address: a bridge never forwards it",
            SamePort => "the destination is behind the port it came from and hairpin mode is off",
            Isolated => "both ports are isolated",
            NoFloodPort => "no other port to flood to",
            EgressMtu => "larger than the MTU of the bridge's output port: dropped without a word",
            VlanFiltered => "the port is not in this VLAN",
            BridgeIpHeader => "br_netfilter refuses the IP header",
            VxlanNoFdb => "no VXLAN forwarding entry for the inner destination MAC",
            VxlanNoDevice => "no VXLAN device with this VNI",
            VxlanHeader => "malformed VXLAN header",
            VxlanOwnMac => "the inner source MAC is the VXLAN device's own",
            TunnelNoRemote => "the tunnel has no remote for this destination",
            TunnelLoop => "the tunnel would route its own packets into itself",
            NoTunnel => "no tunnel device for this outer header",
            NoProtocol => "nobody handles this IP protocol",
            NoSocket => "no socket is bound to this port",
            L4Checksum => "wrong TCP, UDP or ICMP checksum",
            IcmpIgnored => "this ICMP message is not answered",
            IcmpMalformed => "malformed ICMP message",
            FragmentTimeout => "the other fragments never came",
            FragmentBad => "fragments overlap or contradict each other",
            FragmentDuplicate => "a copy of a fragment that is there already",
            Ipv6Disabled => "IPv6 is disabled on the device",
            Netfilter => "a netfilter rule or policy drops it",
            NetfilterReject => "a netfilter rule rejects it",
            NetfilterQueue => "queued for a program (NFQUEUE) that is not there",
            Conntrack => "conntrack drops it",
            Ipvs => "IPVS drops it",
            DummyDevice => "a dummy device swallows what is sent to it",
            LinkLoss => "lost on the link",
            LinkBlocked => "blocked between the machines (security group, firewall)",
            QueueFull => "too many events at once",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// An ICMP or ICMPv6 error that was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IcmpSent {
    /// ICMPv6 rather than ICMP.
    pub v6: bool,
    /// Type.
    pub typ: u8,
    /// Code.
    pub code: u8,
}

/// How one frame's way ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// A socket got it.
    Delivered(SocketId),
    /// It left what is modelled.
    LeftTheCluster,
    /// It was dropped.
    Dropped {
        /// Why.
        reason: DropReason,
        /// Values that decided, for people.
        detail: String,
        /// The rule, route, sysctl or device that decided.
        origin: Origin,
    },
    /// It was dropped and its sender told so.
    Rejected {
        /// The answer.
        icmp: IcmpSent,
        /// Why.
        reason: DropReason,
        /// Values that decided.
        detail: String,
        /// What decided.
        origin: Origin,
    },
    /// The kernel itself took it (an echo request, an ARP message, a tunnel's outer packet).
    Consumed(&'static str),
    /// It went round.
    Loop,
    /// A rule that podpath does not understand decides.
    Unknown {
        /// The rule.
        origin: Origin,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_read_well() {
        let names: BTreeSet<String> = DropReason::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(names.len(), DropReason::ALL.len());
        assert_eq!(DropReason::VxlanNoFdb.name(), "vxlan-no-fdb");
    }
}
