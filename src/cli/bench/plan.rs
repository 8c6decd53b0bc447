//! What a scenario is made of: a cluster, where frames are sent to, and which flows there are.
//!
//! Has as many clients and ports as its flows take. Invariant: flow `n` of a plan is the same in every run,
//! and no two flows of one plan are alike, neither as they are sent nor, whichever server they get, as they
//! are answered.

use super::args::{BenchArgs, Directions, FlowSet, Scenario};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How many send at least: pods, or hosts outside.
const CLIENTS: u32 = 8;
/// Pods that are sent to.
pub const SERVERS: u32 = 16;
/// The first server's last octet, beyond those of the clients.
pub const SERVER: u8 = 200;
/// Services share the servers in so many groups of two.
pub const GROUPS: u32 = SERVERS / 2;
/// Ports of a client, from 1,024 on.
const PORTS: u32 = 64_512;
/// The port that servers listen on.
pub const TARGET: u16 = 7007;
/// The first port of every Service.
const PORT: u16 = 7;
/// The first node port, and how many there are (`--service-node-port-range`).
const NODE_PORT: u16 = 30_000;
const NODE_PORTS: u32 = 2_768;
/// Masqueraded flows that one node port has room for: two servers' ports behind it, 64,512 source ports to
/// each, some of them left free.
const MASQUERADED: u64 = 100_000;
/// Flows that stay closed: those whose rules are counted, and those that made the neighbours known.
pub const SPARE: u64 = 512;
/// New flows that a mix has.
const FRESH: u64 = 4_000_000;
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
    /// How many clients.
    pub clients: u32,
    /// How many Services.
    pub services: u32,
    /// Ports of every target, or of every Service with node ports.
    pub ports: u32,
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

/// A port of a Service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServicePort {
    /// The port.
    pub port: u16,
    /// The servers'.
    pub target: u16,
    /// The nodes'.
    pub node: Option<u16>,
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
    /// The plan of a scenario with room for so many flows, and those that stay closed.
    pub fn of(scenario: Scenario, services: u32, flows: u64, a: &BenchArgs) -> Plan {
        let base = Plan {
            cni: ("calico", "none"),
            proxy: "iptables",
            far: false,
            to: To::ClusterIp,
            v6: false,
            clients: CLIENTS,
            services,
            ports: 1,
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
        let plan = match scenario {
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
        };
        plan.with_room(flows + SPARE + if plan.mix { FRESH } else { 0 })
    }

    /// With as many clients, or ports where flows differ in nothing else or are masqueraded, as so many flows
    /// take.
    fn with_room(self, flows: u64) -> Plan {
        let times = |one: Plan| flows.div_ceil(one.flows()) as u32;
        match (self.set, self.to) {
            (FlowSet::Random, To::Pod | To::ClusterIp) => Plan {
                clients: times(Plan { clients: 1, ..self }).max(CLIENTS),
                ..self
            },
            _ => Plan {
                ports: times(self),
                ..self
            },
        }
    }

    /// How many different flows there are.
    pub fn flows(&self) -> u64 {
        let to = u64::from(self.targets() * self.ports);
        match (self.set, self.to) {
            (FlowSet::Random, To::NodePort) => to * MASQUERADED,
            _ => u64::from(self.senders()) * to * u64::from(PORTS / self.share()),
        }
    }

    /// Clients that send.
    fn senders(&self) -> u32 {
        match self.set {
            FlowSet::Random => self.clients,
            FlowSet::Ports => 1,
        }
    }

    /// Servers, or Services, that flows are sent to.
    fn targets(&self) -> u32 {
        match (self.set, self.to) {
            (FlowSet::Ports, _) => 1,
            (_, To::Pod) => SERVERS,
            (_, To::ClusterIp) => self.services,
            (_, To::NodePort) => self.services.min(NODE_PORTS),
        }
    }

    /// Services that share a client's ports, since they share servers: answers would be alike otherwise, and
    /// conntrack would look for another port (kernel: `nf_nat_l4proto_unique_tuple`).
    fn share(&self) -> u32 {
        match self.to {
            To::ClusterIp => self.targets().div_ceil(GROUPS),
            // A server, and every node port, has ports of its own.
            To::Pod | To::NodePort => 1,
        }
    }

    /// A flow by number.
    pub fn flow(&self, n: u64) -> Flow {
        let (clients, targets) = (u64::from(self.senders()), u64::from(self.targets()));
        let to = targets * u64::from(self.ports);
        let (client, n) = (n % clients, n / clients);
        let (target, port, n) = ((n % targets) as u32, (n % to / targets) as u32, n / to);
        let of_target = match self.share() {
            1 => 0,
            _ => u64::from(target / GROUPS),
        };
        let sport = n * u64::from(self.share()) + of_target;
        let to = match self.to {
            To::Pod => (self.server_ip(target), TARGET + port as u16),
            To::ClusterIp => (self.service_ip(target), PORT + port as u16),
            To::NodePort => (node_ip(1), self.node_port(target, port)),
        };
        Flow {
            client: client as usize,
            sport: 1024 + (sport % u64::from(PORTS)) as u16,
            to,
        }
    }

    fn node_port(&self, service: u32, port: u32) -> u16 {
        NODE_PORT + (service * self.ports + port) as u16
    }

    /// The ports of a Service by number.
    pub fn ports_of(&self, service: u32) -> impl Iterator<Item = ServicePort> {
        let plan = *self;
        let sent_to = plan.to != To::Pod && service < plan.targets();
        let outside = sent_to && plan.to == To::NodePort;
        // Ports of the servers' own for each node port: masqueraded flows need source ports there.
        let before = if outside {
            service / GROUPS * plan.ports
        } else {
            0
        };
        (0..if sent_to { plan.ports } else { 1 }).map(move |n| ServicePort {
            port: PORT + n as u16,
            target: TARGET + (before + n) as u16,
            node: outside.then(|| plan.node_port(service, n)),
        })
    }

    /// The last port that servers listen on.
    pub fn last_target(&self) -> u16 {
        let last = self.ports_of(self.targets().saturating_sub(1)).last();
        last.map_or(TARGET, |p| p.target)
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
            false => IpAddr::V4(Ipv4Addr::new(10, 244, node, SERVER + n as u8)),
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

    /// The plan of a scenario with 10 Services, room for some flows and further arguments.
    pub fn plan(name: &str, more: &[&str]) -> Plan {
        let scenario = Scenario::from_str(name, false).expect("a scenario");
        Plan::of(scenario, 10, 64, &args(more))
    }

    /// Numbers that were met.
    #[derive(Default)]
    struct Met(Vec<u64>);

    impl Met {
        /// Whether one is new.
        fn add(&mut self, n: u64) -> bool {
            let (word, bit) = ((n / 64) as usize, 1 << (n % 64));
            if word >= self.0.len() {
                self.0.resize(word * 2 + 1, 0);
            }
            let new = self.0[word] & bit == 0;
            self.0[word] |= bit;
            new
        }
    }

    /// Which of so many an address is, behind the first one.
    fn behind(first: IpAddr, ip: IpAddr) -> u64 {
        match (first, ip) {
            (IpAddr::V4(a), IpAddr::V4(b)) => u64::from(b.to_bits() - a.to_bits()),
            (IpAddr::V6(a), IpAddr::V6(b)) => (b.to_bits() - a.to_bits()) as u64,
            _ => panic!("{first} and {ip}"),
        }
    }

    /// All flows of a plan up to one differ as they are sent, and as any server answers them; where they are
    /// masqueraded, no port of a server has more than have room.
    fn differ(plan: &Plan, flows: u64) {
        let what = format!(
            "{:?} {:?}, {flows} flows, {} Services",
            plan.set, plan.to, plan.services
        );
        assert!(plan.flows() >= flows + SPARE, "{what}");
        // Servers that may answer, and at which port, by where frames go.
        let (mut ends, mut ports) = (Vec::new(), Vec::new());
        for n in 0..plan.targets() {
            let all = plan.ports_of(n).map(|p| (n % GROUPS, p.target - TARGET));
            ends.extend(all);
            ports.extend(plan.ports_of(n).filter_map(|p| p.node));
        }
        let (clients, targets) = (
            u64::from(plan.clients),
            u64::from(plan.last_target() - TARGET) + 1,
        );
        let mut distinct = BTreeSet::new();
        assert!(
            ports
                .iter()
                .all(|p| distinct.insert(p) && *p - NODE_PORT < NODE_PORTS as u16)
        );
        let (mut sent, mut answered) = (Met::default(), Met::default());
        let mut masqueraded = vec![0; ends.len()];
        for n in 0..flows + SPARE {
            let f = plan.flow(n);
            assert!(
                f.sport >= 1024 && (f.client as u64) < clients,
                "{what}: {f:?}"
            );
            let client = u64::from(f.sport - 1024) * clients + f.client as u64;
            let (to, port) = f.to;
            let of = match plan.to {
                To::Pod => {
                    let server = behind(plan.server_ip(0), to) * 256 + u64::from(port - TARGET);
                    assert!(answered.add(client * 4096 + server), "{what}: {f:?}");
                    continue;
                }
                To::ClusterIp => {
                    let service = behind(plan.service_ip(0), to);
                    service * u64::from(plan.ports) + u64::from(port - PORT)
                }
                To::NodePort => u64::from(port - NODE_PORT),
            };
            assert!(sent.add(client * ends.len() as u64 + of), "{what}: {f:?}");
            let (group, target) = ends[of as usize];
            if plan.to == To::NodePort {
                masqueraded[of as usize] += 1;
                continue;
            }
            let answer = (client * u64::from(GROUPS) + u64::from(group)) * targets;
            assert!(answered.add(answer + u64::from(target)), "{what}: {f:?}");
        }
        assert!(masqueraded.iter().all(|n| *n <= MASQUERADED), "{what}");
        if plan.to == To::NodePort {
            let servers: BTreeSet<_> = ends.iter().collect();
            assert_eq!(servers.len(), ends.len(), "{what}");
        }
    }

    #[test]
    fn flows_of_a_plan_differ_as_they_are_sent_and_answered() {
        let (random, ports) = (args(&[]), args(&["--flow-set", "ports"]));
        for scenario in [
            Scenario::Bridge,
            Scenario::Service,
            Scenario::V6,
            Scenario::Nodeport,
        ] {
            for services in [1, 2, 7, 8, 9, 10, 63, 2_768, 2_769, 20_000] {
                for (flows, a) in [1, 4_096, 70_000]
                    .iter()
                    .flat_map(|f| [(*f, &random), (*f, &ports)])
                {
                    differ(&Plan::of(scenario, services, flows, a), flows);
                }
            }
        }
        let many = 4_000_000;
        differ(&Plan::of(Scenario::Service, 9, many, &random), many);
        differ(&Plan::of(Scenario::Service, 20_000, many, &random), many);
        differ(&Plan::of(Scenario::Service, 1, many, &ports), many);
        differ(&Plan::of(Scenario::Nodeport, 1, many, &random), many);
    }

    /// However many there are, clients and servers have addresses, ports and node ports.
    #[test]
    fn clients_and_ports_are_enough() {
        for more in [&[][..], &["--flow-set", "ports"]] {
            let a = args(more);
            for scenario in Scenario::value_variants() {
                for services in 1..=20_000 {
                    // As many as can be asked for, and by `--threads`.
                    let threads = if *scenario == Scenario::Mix { 1 } else { 2 };
                    let plan = Plan::of(*scenario, services, threads * 4_194_304, &a);
                    assert!(plan.flows() >= threads * 4_194_304 + SPARE, "{plan:?}");
                    assert!(10 + plan.clients <= u32::from(SERVER), "{plan:?}");
                    assert!(plan.targets() * plan.ports <= NODE_PORTS || plan.to != To::NodePort);
                }
            }
        }
        // As few as have always been enough.
        let few = Plan::of(Scenario::Service, 10, 1_000_000, &args(&[]));
        assert_eq!((few.clients, few.ports), (CLIENTS, 1));
    }

    #[test]
    fn ports_alone_differ_where_that_is_asked_for() {
        for name in ["bridge", "service"] {
            let scenario = Scenario::from_str(name, false).expect("a scenario");
            let plan = Plan::of(scenario, 10, 4_000_000, &args(&["--flow-set", "ports"]));
            let far = plan.flow(4_000_000);
            assert_eq!((far.client, far.to.0), (0, plan.flow(0).to.0));
        }
    }
}
