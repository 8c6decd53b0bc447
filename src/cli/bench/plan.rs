//! What a scenario is made of: a cluster, where frames are sent to, and which flows there are.
//!
//! Invariant: flow `n` of a plan is the same in every run, and no two flows of one plan are alike.

use super::args::{BenchArgs, Directions, FlowSet, Scenario};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Who sends: pods, or hosts outside.
pub const CLIENTS: u32 = 8;
/// Pods that are sent to.
pub const SERVERS: u32 = 16;
/// Services share the servers in so many groups of two.
pub const GROUPS: u32 = SERVERS / 2;
/// Ports of a client, from 1,024 on.
const PORTS: u32 = 64_512;
/// The port that servers listen on.
pub const TARGET: u16 = 7007;
/// Ports from `TARGET` on that flows of one pair of addresses use.
const TARGETS: u32 = 65;
/// The port of every Service.
pub const PORT: u16 = 7;
/// The first node port, and how many there are (`--service-node-port-range`).
pub const NODE_PORT: u16 = 30_000;
pub const NODE_PORTS: u32 = 2_768;
/// Masqueraded flows that one node port has room for: two servers' ports behind it, 64,512 source ports to
/// each, some of them left free.
const MASQUERADED: u64 = 100_000;
/// Policies of the scenario `policy`.
const POLICIES: u32 = 1_000;

/// Where frames are sent to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum To {
    /// A pod's address.
    Pod,
    /// A Service's cluster IP.
    ClusterIp,
    /// A node's address and a Service's node port, from outside.
    NodePort,
}

/// A cluster and what is sent through it.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The CNI plugin and its back end, as in a Cluster's `spec.cni`.
    pub cni: (&'static str, &'static str),
    /// kube-proxy's mode.
    pub proxy: &'static str,
    /// The servers are on the other node.
    pub far: bool,
    /// Where to.
    pub to: To,
    /// Frames are IPv6.
    pub v6: bool,
    /// How many Services.
    pub services: u32,
    /// How many NetworkPolicies.
    pub policies: u32,
    /// In what flows differ.
    pub set: FlowSet,
    /// Half of the frames are answers.
    pub both: bool,
    /// Every so many frames one has another shape; 0 for none.
    pub odd: u32,
    /// Frames have IMIX's sizes, and every tenth is of a new flow.
    pub mix: bool,
    /// Bytes of a frame otherwise.
    pub size: usize,
}

/// One flow's addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Flow {
    /// Which client.
    pub client: usize,
    /// Its port.
    pub sport: u16,
    /// Where to.
    pub to: (IpAddr, u16),
}

impl Plan {
    /// The plan of a scenario.
    pub fn of(scenario: Scenario, services: u32, a: &BenchArgs) -> Plan {
        let base = Plan {
            cni: ("calico", "none"),
            proxy: "iptables",
            far: false,
            to: To::ClusterIp,
            v6: false,
            services,
            policies: 1,
            set: a.flow_set,
            both: a.directions == Directions::Both,
            odd: a.odd,
            mix: false,
            size: usize::from(a.size),
        };
        let (cni, far, policies) = match scenario {
            Scenario::Bridge => (("flannel", "vxlan"), false, 0),
            Scenario::Route => (("flannel", "host-gw"), true, 0),
            Scenario::ServiceVxlan => (("flannel", "vxlan"), true, 0),
            Scenario::ServiceIpip => (("calico", "ipip"), true, 1),
            Scenario::Policy => (base.cni, false, POLICIES),
            _ => (base.cni, false, 1),
        };
        let plan = Plan {
            cni,
            far,
            policies,
            ..base
        };
        match scenario {
            Scenario::Bridge | Scenario::Route => Plan {
                to: To::Pod,
                ..plan
            },
            Scenario::Nodeport => Plan {
                to: To::NodePort,
                both: true,
                ..plan
            },
            Scenario::Ipvs => Plan {
                proxy: "ipvs",
                ..plan
            },
            Scenario::Nftables => Plan {
                proxy: "nftables",
                ..plan
            },
            Scenario::V6 => Plan { v6: true, ..plan },
            Scenario::Mix => Plan { mix: true, ..plan },
            _ => plan,
        }
    }

    /// How many different flows there are.
    pub fn flows(&self) -> u64 {
        let (ports, targets) = (u64::from(PORTS), u64::from(self.targets()));
        match (self.set, self.to) {
            (FlowSet::Ports, To::Pod) => ports * u64::from(TARGETS),
            (FlowSet::Ports, _) => ports,
            (FlowSet::Random, To::NodePort) => targets * MASQUERADED,
            (FlowSet::Random, _) => u64::from(CLIENTS) * targets * ports,
        }
    }

    fn targets(&self) -> u32 {
        match self.to {
            To::Pod => SERVERS,
            To::ClusterIp => self.services,
            To::NodePort => self.services.min(NODE_PORTS),
        }
    }

    /// A flow by number.
    pub fn flow(&self, n: u64) -> Flow {
        let (clients, targets) = (u64::from(CLIENTS), u64::from(self.targets()));
        let ports = u64::from(PORTS);
        let (client, target, sport, dport) = match self.set {
            FlowSet::Random => (n % clients, n / clients % targets, n / clients / targets, 0),
            FlowSet::Ports => (0, 0, n, n / ports % u64::from(TARGETS)),
        };
        let target = target as u32;
        let to = match self.to {
            To::Pod => (self.server_ip(target), TARGET + dport as u16),
            To::ClusterIp => (self.service_ip(target), PORT),
            To::NodePort => (node_ip(1), NODE_PORT + target as u16),
        };
        Flow {
            client: client as usize,
            sport: 1024 + (sport % ports) as u16,
            to,
        }
    }

    /// A client's address.
    pub fn client_ip(&self, n: u32) -> IpAddr {
        match (self.to, self.v6) {
            (To::NodePort, _) => IpAddr::V4(Ipv4Addr::new(192, 168, 50, 200 + n as u8)),
            (_, true) => v6(1, 0x10 + n),
            (_, false) => IpAddr::V4(Ipv4Addr::new(10, 244, 1, 10 + n as u8)),
        }
    }

    /// A server's address.
    pub fn server_ip(&self, n: u32) -> IpAddr {
        let node = if self.far { 2 } else { 1 };
        match self.v6 {
            true => v6(node, 0x100 + n),
            false => IpAddr::V4(Ipv4Addr::new(10, 244, node, 100 + n as u8)),
        }
    }

    /// A Service's cluster IP.
    pub fn service_ip(&self, n: u32) -> IpAddr {
        match self.v6 {
            true => {
                let at = u128::from(Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 1, 0));
                IpAddr::V6((at + u128::from(n)).into())
            }
            false => {
                let at = u32::from(Ipv4Addr::new(10, 96, 1, 0));
                IpAddr::V4(Ipv4Addr::from_bits(at + n))
            }
        }
    }
}

fn v6(node: u8, n: u32) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(
        0xfd00,
        0x10,
        0x244,
        node.into(),
        0,
        0,
        0,
        n as u16,
    ))
}

/// A node's address.
pub fn node_ip(n: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 168, 50, 10 + n))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use clap::{Parser, ValueEnum};
    use std::collections::BTreeSet;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn args(more: &[&str]) -> BenchArgs {
        let words = ["bench", "service"].iter().chain(more);
        Cli::try_parse_from(words).expect("arguments").bench
    }

    /// The plan of a scenario with 10 Services and further arguments.
    pub fn plan(name: &str, more: &[&str]) -> Plan {
        let scenario = Scenario::from_str(name, false).expect("a scenario");
        Plan::of(scenario, 10, &args(more))
    }

    #[test]
    fn flows_of_a_plan_differ() {
        let scenarios = [
            Scenario::Bridge,
            Scenario::Service,
            Scenario::Nodeport,
            Scenario::V6,
        ];
        for more in [&[][..], &["--flow-set", "ports"]] {
            for scenario in scenarios {
                let plan = Plan::of(scenario, 10, &args(more));
                let all = plan.flows().min(200_000);
                let flows: BTreeSet<Flow> = (0..all).map(|n| plan.flow(n)).collect();
                assert_eq!(flows.len() as u64, all, "{scenario} {more:?}");
                let last = plan.flow(plan.flows() - 1);
                assert!(!flows.contains(&last) || all == plan.flows());
            }
        }
    }

    #[test]
    fn ports_alone_differ_where_that_is_asked_for() {
        let plan = plan("bridge", &["--flow-set", "ports"]);
        let far = plan.flow(4_000_000);
        assert!(plan.flows() > 4_000_000);
        assert_eq!((far.client, far.to.0), (0, plan.flow(0).to.0));
    }
}
