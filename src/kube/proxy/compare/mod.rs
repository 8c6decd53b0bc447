//! What becomes of traffic to Services in each of the three modes, class by class, and where they differ.
//!
//! A class is all first packets that no rule of any mode tells apart: family, kind of source, on which side
//! of the Service's source ranges it is, and destination: each address and port of each Service, the other
//! ports of each address, the unallocated rest of the Service ranges. One packet of each class is led through
//! what the modes write, every choice followed. Not covered: NodePorts at loopback's, links' and the pods'
//! gateways' addresses, masquerading, and what other programs' rules do. Invariant: classes of a node do not
//! overlap, and every one gets three verdicts.

mod classes;
mod modes;
mod read;
mod rules;

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnetwork::IpNetwork;

use super::{Settings, View};
use crate::kube::service::{Family, PortName, Protocol};
use modes::Modes;

/// Where packets come from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Source {
    /// A pod of the node.
    LocalPod,
    /// A pod of another node, with its own address.
    RemotePod,
    /// The node itself.
    Node,
    /// None of the cluster's.
    Outside,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::LocalPod => "local pod",
            Source::RemotePod => "remote pod",
            Source::Node => "node",
            Source::Outside => "outside",
        })
    }
}

/// What packets are for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Target {
    /// A Service's port at its ClusterIP.
    ClusterIp,
    /// At an external IP.
    ExternalIp,
    /// At its load balancer's address.
    LoadBalancer,
    /// At a node's address.
    NodePort,
    /// A port that no Service has at a Service's address.
    UndefinedPort,
    /// An address of a Service range that no Service has.
    Unallocated,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Target::ClusterIp => "ClusterIP",
            Target::ExternalIp => "external IP",
            Target::LoadBalancer => "load balancer",
            Target::NodePort => "NodePort",
            Target::UndefinedPort => "undefined port",
            Target::Unallocated => "unallocated address",
        })
    }
}

/// Why modes differ.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Cause {
    /// iptables mode has no rule for it; nftables mode rejects it at ClusterIPs, IPVS mode at all addresses
    /// of kube-ipvs0.
    UndefinedPort,
    /// nftables mode drops it, the others have no rule.
    Unallocated,
    /// iptables mode makes no firewall chain without endpoints.
    RangesWithoutEndpoints,
    /// IPVS mode uses all endpoints where policy Local has none here.
    LocalWithoutLocal,
    /// Pods and the node skip policy Local in iptables and nftables mode, not in IPVS mode.
    ShortCircuit,
    /// iptables mode has no rule for it at the output hook.
    NodeWithoutEndpoints,
    /// nftables mode takes NodePorts at the primary address only, unless told otherwise.
    NodePortAddress,
    /// None of these.
    Unknown,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::UndefinedPort => "undefined port of a Service address",
            Cause::Unallocated => "unallocated Service address",
            Cause::RangesWithoutEndpoints => "source ranges without endpoints",
            Cause::LocalWithoutLocal => "policy Local without local endpoints",
            Cause::ShortCircuit => "policy Local skipped by pods and the node",
            Cause::NodeWithoutEndpoints => "external address without endpoints, from the node",
            Cause::NodePortAddress => "NodePort at an address that not all modes take",
            Cause::Unknown => "unknown",
        })
    }
}

impl Cause {
    /// What in the modes makes the difference.
    pub fn why(self) -> &'static str {
        match self {
            Cause::UndefinedPort => {
                "iptables mode has no rule for it; nftables mode rejects it at ClusterIPs, IPVS mode at \
                 every address of kube-ipvs0"
            }
            Cause::Unallocated => "nftables mode drops it; the others have no rule for it",
            Cause::RangesWithoutEndpoints => {
                "iptables mode writes no firewall chain without endpoints, so that sources outside the \
                 ranges are rejected like all others; nftables mode drops them, IPVS mode those that are \
                 not the node's own"
            }
            Cause::LocalWithoutLocal => {
                "IPVS mode uses endpoints of other nodes; the others drop the packet"
            }
            Cause::ShortCircuit => {
                "iptables and nftables mode lead pods and the node to all endpoints, IPVS mode to those \
                 of this node"
            }
            Cause::NodeWithoutEndpoints => {
                "iptables mode has its rejecting rules at the hooks input and forward, not at output"
            }
            Cause::NodePortAddress => {
                "nftables mode takes NodePorts at the node's primary address only, unless \
                 nodePortAddresses says otherwise; the others at every address"
            }
            Cause::Unknown => "this should not be: please report it",
        }
    }
}

/// What becomes of a class; more than one of them where a choice decides.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Verdict {
    /// The endpoints that it may get to.
    pub endpoints: BTreeSet<SocketAddr>,
    /// An ICMP error.
    pub refused: bool,
    /// Silence.
    pub dropped: bool,
    /// The node's own sockets.
    pub host: bool,
    /// Routed on, as if there were no Service.
    pub routed: bool,
}

impl Verdict {
    fn untouched(&mut self, p: &Packet) {
        if p.dst_local {
            self.host = true;
        } else {
            self.routed = true;
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = self.endpoints.iter().map(ToString::to_string).collect();
        let words = [
            (self.refused, "reject"),
            (self.dropped, "drop"),
            (self.host, "node"),
            (self.routed, "routed"),
        ];
        let said = words.iter().filter(|(is, _)| *is);
        parts.extend(said.map(|(_, word)| (*word).to_owned()));
        f.write_str(&parts.join(","))
    }
}

/// The packet that stands for a class.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Packet {
    src: IpAddr,
    dst: IpAddr,
    protocol: Protocol,
    port: u16,
    src_local: bool,
    dst_local: bool,
    from_pods: bool,
}

impl Packet {
    /// What maps and indexes know it by.
    fn keys(&self) -> [rules::Key; 2] {
        let key = |ip| (ip, self.protocol, self.port);
        [key(Some(self.dst)), key(None)]
    }
}

/// A class.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Class {
    /// Its family.
    pub family: Family,
    /// Where from.
    pub source: Source,
    /// On which side of the Service's source ranges; none where it has none.
    pub in_ranges: Option<bool>,
    /// What for.
    pub target: Target,
    /// The service port, where there is one.
    pub service: Option<PortName>,
    /// Destination address and port of the packet that stands for it.
    pub to: SocketAddr,
    /// Its protocol.
    pub protocol: Protocol,
}

/// A class and what becomes of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compared {
    /// On which node.
    pub node: String,
    /// The class.
    pub class: Class,
    /// iptables, nftables, IPVS.
    pub verdicts: [Verdict; 3],
    /// Why they differ; none where all three are the same.
    pub cause: Option<Cause>,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Nodes that were looked at.
    pub nodes: usize,
    /// Classes that were looked at, by what they are for.
    pub covered: BTreeMap<Target, usize>,
    /// Classes whose modes differ; with [`Report::of_every_class`] the others too. By node and family,
    /// then in order of Services.
    pub compared: Vec<Compared>,
    every: bool,
}

impl Report {
    /// One that keeps classes whose modes agree, too.
    pub fn of_every_class() -> Report {
        Report {
            every: true,
            ..Report::default()
        }
    }

    /// How many classes were looked at.
    pub fn classes(&self) -> usize {
        self.covered.values().sum()
    }

    /// Differences by cause, in the order of [`Cause`].
    pub fn by_cause(&self) -> BTreeMap<Cause, Vec<&Compared>> {
        let mut out: BTreeMap<Cause, Vec<&Compared>> = BTreeMap::new();
        for compared in &self.compared {
            if let Some(cause) = compared.cause {
                out.entry(cause).or_default().push(compared);
            }
        }
        out
    }
}

/// The node and the networks around it, for one family.
#[derive(Clone, Debug)]
pub struct Place<'p> {
    /// Its name.
    pub node: &'p str,
    /// Its pods' ranges.
    pub pods: &'p [IpNetwork],
    /// Other nodes' pod ranges.
    pub other_pods: &'p [IpNetwork],
    /// All addresses of nodes.
    pub nodes: &'p [IpAddr],
}

/// Compares the modes on one node; `settings` are those of iptables, nftables and IPVS mode. An error names
/// a rule that could not be read.
pub fn compare(
    view: &View,
    settings: &[Settings; 3],
    place: &Place<'_>,
    report: &mut Report,
) -> Result<(), String> {
    let modes = Modes::new(view, settings)?;
    classes::each(view, settings, place, &mut |class, packet, cause| {
        *report.covered.entry(class.target).or_default() += 1;
        let verdicts = modes.verdicts(packet);
        let [a, b, c] = &verdicts;
        let cause = (a != b || b != c).then(cause);
        if cause.is_some() || report.every {
            report.compared.push(Compared {
                node: place.node.to_owned(),
                class,
                verdicts,
                cause,
            });
        }
    });
    Ok(())
}
