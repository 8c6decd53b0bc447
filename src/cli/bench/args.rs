//! What can be typed behind `podpath bench`.

use crate::cli::args::{Format, duration};
use clap::{Args, ValueEnum};

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
    /// New flows
    Connect,
    /// NetworkPolicies: compiled, asked, relabelled
    Policy,
    /// Names answered
    Dns,
    /// The kernel on the same paths, in turns with podpath (root)
    Kernel,
}

impl core::fmt::Display for Scenario {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |v| v.get_name()))
    }
}

/// `podpath bench`
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// What to measure
    #[arg(value_enum, required = true)]
    pub scenarios: Vec<Scenario>,
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
    /// Repetitions of each measurement
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repetitions: u32,
    /// Walk every Nth frame besides, after the measurement, and hold its entry against the walk; 0 for none
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub verify: u64,
    /// MiB of the ring that frames come from: more than a last-level cache has
    #[arg(long, default_value_t = 256, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub ring: u32,
    /// Say which frames were walked, and why
    #[arg(long)]
    pub why_slow: bool,
    /// CPU time of one repetition: 0.1, 500ms
    #[arg(long, default_value = "0.1", value_parser = duration)]
    pub seconds: core::time::Duration,
    /// dns: also through sockets, `dns serve` against a bare UDP echo
    #[arg(long)]
    pub wire: bool,
    /// dns: the same with dnsperf as the driver
    #[arg(long)]
    pub dnsperf: bool,
    /// Output
    #[arg(short, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}
