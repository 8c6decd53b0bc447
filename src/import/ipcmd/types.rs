//! What a parsed command says. Devices are names; whoever applies it looks them up.

use crate::net::addr::Scope;
use crate::net::fib::{PolicyRule, RouteKind};
use crate::wire::MacAddr;
use core::time::Duration;
use ipnetwork::IpNetwork;
use std::net::{IpAddr, Ipv4Addr};

/// One change to a namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// `ip link set DEV ...`
    LinkSet {
        /// The device.
        dev: String,
        /// In the order written; the kernel applies them as one request.
        changes: Vec<LinkChange>,
    },
    /// `ip link add DEV type ...`
    LinkAdd {
        /// The new device.
        dev: String,
        /// Its kind.
        kind: NewLink,
        /// Settings named beside it.
        changes: Vec<LinkChange>,
    },
    /// `ip link del DEV`
    LinkDel {
        /// The device.
        dev: String,
    },
    /// `ip addr add|replace|del`
    Addr {
        /// What to do.
        op: Op,
        /// Which address.
        addr: AddrSpec,
    },
    /// `ip addr flush dev DEV`
    AddrFlush {
        /// The device.
        dev: String,
    },
    /// `ip route add|append|prepend|replace|change|del`
    Route {
        /// What to do.
        op: Op,
        /// Which route.
        route: RouteSpec,
    },
    /// `ip route flush cache`: forget path MTUs.
    RouteFlushCache,
    /// `ip route flush ...`: remove what the specification matches.
    RouteFlush {
        /// What to match.
        route: RouteSpec,
    },
    /// `ip rule add|del`
    Rule {
        /// What to do.
        op: Op,
        /// IPv6 rules (IPv4 otherwise).
        v6: bool,
        /// The rule; its priority is `None` when not named.
        priority: Option<u32>,
        /// Everything else; its `priority` field is not meaningful.
        rule: Box<PolicyRule>,
    },
    /// `ip neigh add|replace|change|del`
    Neigh {
        /// What to do.
        op: Op,
        /// Which entry.
        neigh: NeighSpec,
    },
    /// `ip neigh flush [dev DEV|all]`
    NeighFlush {
        /// Only on this device.
        dev: Option<String>,
    },
    /// `bridge fdb add|append|replace|del`
    Fdb {
        /// What to do.
        op: Op,
        /// Which entry.
        fdb: FdbSpec,
    },
    /// `bridge link set dev DEV ...`
    BridgeLink {
        /// The port.
        dev: String,
        /// Its flags.
        changes: Vec<PortChange>,
    },
    /// `sysctl -w KEY=VALUE`, dots as separators.
    Sysctl {
        /// The name.
        key: String,
        /// The value as written.
        value: String,
    },
    /// A command line of `iptables`, `ip6tables`, their `-save` or `-restore`, as it stands.
    Iptables {
        /// The line, with the input that stands below it.
        line: String,
    },
    /// A command line of `nft`, as it stands.
    Nft {
        /// The line, with the script that stands below it.
        line: String,
    },
    /// A command line of `ipvsadm` as it stands, with its input below.
    Ipvsadm {
        /// It.
        line: String,
    },
    /// A command that only shows something.
    Show,
}

/// The verb of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// Must not exist yet.
    Add,
    /// Beside what exists.
    Append,
    /// Before what exists (routes).
    Prepend,
    /// Instead of what exists, if anything.
    Replace,
    /// Must exist.
    Change,
    /// Remove.
    Del,
}

/// A setting of a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinkChange {
    /// `up` or `down`
    Up(bool),
    /// `mtu`
    Mtu(u32),
    /// `address`
    Mac(MacAddr),
    /// `master BR` or `nomaster`
    Master(Option<String>),
    /// `name`
    Name(String),
    /// `promisc`
    Promisc(bool),
    /// `arp`
    Arp(bool),
    /// `netns`: moved to another namespace.
    Netns(String),
    /// A flag of the port it is (`type bridge_slave ...`).
    Port(PortChange),
    /// `type bridge ageing_time`, given in hundredths of a second.
    Ageing(Duration),
    /// `type bridge group_fwd_mask`
    GroupFwdMask(u16),
    /// `type bridge vlan_filtering`
    VlanFiltering(bool),
    /// A word and its value that podpath keeps and does not act on (`txqueuelen 1000`).
    Ignored(String, String),
}

/// A flag of a bridge port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortChange {
    /// Which.
    pub flag: PortFlag,
    /// On or off.
    pub on: bool,
}

/// The flags of a bridge port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortFlag {
    /// `hairpin`
    Hairpin,
    /// `learning`
    Learning,
    /// `flood`
    Flood,
    /// `mcast_flood`
    McastFlood,
    /// `bcast_flood`
    BcastFlood,
    /// `isolated`
    Isolated,
}

/// A new device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NewLink {
    /// `type dummy`
    Dummy,
    /// `type bridge`
    Bridge,
    /// `type veth peer name PEER [netns NS]`
    Veth {
        /// The other end.
        peer: String,
        /// Its namespace.
        netns: Option<String>,
    },
    /// `type vxlan`
    Vxlan {
        /// `id`
        vni: u32,
        /// `dstport`; Linux's own default is 8472.
        port: u16,
        /// `local`
        local: Option<IpAddr>,
        /// `dev`
        under: Option<String>,
        /// `learning` or `nolearning`
        learning: bool,
        /// `ttl`, 0 for the route's default; `None` for `inherit`.
        ttl: Option<u8>,
        /// `udpcsum` (the default) or `noudpcsum`: checksum in the outer header over IPv4.
        udp_csum: bool,
    },
    /// `type ipip`
    Ipip {
        /// `local`
        local: Option<Ipv4Addr>,
        /// `remote`
        remote: Option<Ipv4Addr>,
        /// `ttl`, 0 for `inherit`
        ttl: u8,
        /// `pmtudisc` or `nopmtudisc`
        pmtudisc: bool,
    },
}

/// An address on a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddrSpec {
    /// The address and its prefix length (a host's when not written).
    pub net: IpNetwork,
    /// `peer`
    pub peer: Option<IpNetwork>,
    /// `brd ADDR`; `brd +` is computed.
    pub broadcast: Option<Ipv4Addr>,
    /// `scope`
    pub scope: Option<Scope>,
    /// `dev`
    pub dev: String,
    /// `noprefixroute`
    pub no_prefix_route: bool,
}

/// A route in words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteSpec {
    /// The type; unicast when not written. `None` in a deletion means any.
    pub kind: Option<RouteKind>,
    /// Destination.
    pub dst: IpNetwork,
    /// `table`; main, or local for local routes, when not written.
    pub table: Option<u32>,
    /// `tos`
    pub tos: Option<u8>,
    /// `metric`
    pub metric: Option<u32>,
    /// `proto`
    pub protocol: Option<u8>,
    /// `scope`
    pub scope: Option<Scope>,
    /// `src`
    pub src: Option<IpAddr>,
    /// `mtu`
    pub mtu: Option<u32>,
    /// `mtu lock`
    pub mtu_lock: bool,
    /// `pref`: a default router's preference (RFC 4191), kept and not weighed.
    pub pref: RoutePref,
    /// Next hops in order.
    pub hops: Vec<HopSpec>,
}

/// `pref` of an IPv6 route.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RoutePref {
    /// `low`
    Low,
    /// `medium`
    #[default]
    Medium,
    /// `high`
    High,
}

/// A next hop in words.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HopSpec {
    /// `via`
    pub via: Option<IpAddr>,
    /// `dev`
    pub dev: Option<String>,
    /// `weight`, from 1.
    pub weight: u32,
    /// `onlink`
    pub onlink: bool,
}

/// A neighbour in words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NeighSpec {
    /// The address.
    pub ip: IpAddr,
    /// `lladdr`
    pub mac: Option<MacAddr>,
    /// `dev`
    pub dev: String,
    /// `nud`; permanent when not written.
    pub state: NudWord,
    /// `proxy`: answer for it.
    pub proxy: bool,
}

/// `nud` states that can be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NudWord {
    /// `permanent`
    Permanent,
    /// `reachable`
    Reachable,
    /// `stale`
    Stale,
    /// `noarp`
    NoArp,
    /// `incomplete`
    Incomplete,
    /// `delay`
    Delay,
    /// `probe`
    Probe,
    /// `failed`
    Failed,
    /// `none`
    None,
}

/// A forwarding entry in words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FdbSpec {
    /// Link address; zero is VXLAN's default destination.
    pub mac: MacAddr,
    /// `dev`
    pub dev: String,
    /// `dst`
    pub dst: Option<IpAddr>,
    /// `vlan`
    pub vlan: Option<u16>,
    /// `master`: the bridge's table. Without it the device's own (`self`).
    pub master: bool,
    /// `self`
    pub own: bool,
    /// How long it stays.
    pub life: FdbLife,
}

/// How a forwarding entry ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FdbLife {
    /// `permanent` or `local`: the device's own address. The default.
    Permanent,
    /// `static`: does not age and does not move.
    Static,
    /// `dynamic`: ages.
    Dynamic,
}
