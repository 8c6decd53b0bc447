//! What can be typed behind `podpath bench`.

use super::words::{Word, WordParser, size};
use crate::cli::args::{Format, duration};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// What can be measured.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scenario {
    /// Pod to pod on one node, over a bridge
    Bridge,
    /// Pod to pod across nodes, routed
    Route,
    /// Pod to ClusterIP to pod on one node, with policies
    Service,
    /// The same across nodes, over VXLAN
    ServiceVxlan,
    /// The same across nodes, over IPIP
    ServiceIpip,
    /// From a host outside to a node port, masqueraded, and back
    Nodeport,
    /// service with 1,000 NetworkPolicies; and these compiled, asked, relabelled
    Policy,
    /// service with kube-proxy in IPVS mode
    Ipvs,
    /// service with kube-proxy in nftables mode
    Nftables,
    /// service over IPv6
    V6,
    /// service with frames of 64, 594 and 1514 bytes (7:4:1), every tenth of a new flow
    Mix,
    /// New flows
    Connect,
    /// service while endpoints come and go
    Churn,
    /// Frames of a capture: replay FILE.pcap
    Replay,
    /// Names answered
    Dns,
    /// The kernel on the same paths, in turns with podpath (root)
    Kernel,
    /// The bare loop that the others are divided by, beside that of ../shared/limit
    Limit,
}

impl core::fmt::Display for Scenario {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |v| v.get_name()))
    }
}

/// In what flows differ.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlowSet {
    /// Clients, destinations and ports
    Random,
    /// Ports alone: what shows a bad hash
    Ports,
}

/// Which frames there are.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Directions {
    /// Those of clients
    Forward,
    /// Answers too, one half
    Both,
}

/// `podpath bench`
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// What to measure; replay is followed by a capture
    #[arg(required = true, value_parser = WordParser, value_name = "SCENARIO")]
    pub scenarios: Vec<Word>,
    /// How many flows; several are measured one after another
    #[arg(long, value_delimiter = ',', default_values_t = [4096, 65_536, 1_000_000], value_name = "N,...",
          value_parser = clap::value_parser!(u64).range(1..=4_194_304))]
    pub flows: Vec<u64>,
    /// How many Services
    #[arg(long, value_delimiter = ',', default_values_t = [10], value_name = "N,...",
          value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub services: Vec<u32>,
    /// Bytes of a frame, from the Ethernet header on
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(64..=1514))]
    pub size: u16,
    /// In what flows differ
    #[arg(long, value_enum, default_value_t = FlowSet::Random)]
    pub flow_set: FlowSet,
    /// Which frames are sent (nodeport: always both)
    #[arg(long, value_enum, default_value_t = Directions::Forward)]
    pub directions: Directions,
    /// Every Nth frame has another shape: in turn with IP options and in two fragments; 0 for none
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub odd: u32,
    /// Repetitions of each measurement
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repetitions: u32,
    /// Walk every Nth frame besides, after the measurement, and hold its entry against the walk; 0 for none
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub verify: u64,
    /// MiB of the ring that frames come from: more than a last-level cache has
    #[arg(long, default_value_t = 256, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub ring: u32,
    /// Workers that share the flows; of several, each has a replica of the cluster, and as many processes of
    /// one worker are measured besides
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: u16,
    /// One of these processes: answers on its standard streams
    #[arg(long, hide = true)]
    pub lane: Option<u16>,
    /// Say which frames were walked, and why
    #[arg(long)]
    pub why_slow: bool,
    /// CPU time of one repetition: 0.1, 500ms
    #[arg(long, default_value = "0.1", value_parser = duration)]
    pub seconds: core::time::Duration,
    /// Frames of one repetition, instead of a time
    #[arg(long, value_name = "N", conflicts_with = "seconds",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub packets: Option<u64>,
    /// Draw the cost of a packet against flows and against Services
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
    /// replay: write this capture first, of the flows of `service`
    #[arg(long, value_name = "FILE.pcap")]
    pub make: Option<PathBuf>,
    /// replay: how large it is to be: 64M, 1G
    #[arg(long, default_value = "1G", value_parser = size, requires = "make")]
    pub bytes: u64,
    /// dns: also through sockets, `dns serve` against a bare UDP echo
    #[arg(long)]
    pub wire: bool,
    /// dns: the same with dnsperf as the driver
    #[arg(long)]
    pub dnsperf: bool,
    /// All figures in a table, however wide it gets; JSON always has them
    #[arg(long)]
    pub wide: bool,
    /// Output
    #[arg(short, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}
