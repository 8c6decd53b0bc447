//! What can be typed.

use crate::base::limits;
use crate::cli::bench::args::BenchArgs;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  podpath                                          the built-in demo: a capture replayed through two nodes
  podpath topologies/two-node-vxlan                run a cluster's probes
  podpath trace default/a1 default/b1:8080 -t topologies/two-node-vxlan
  kubectl get nodes,pods,cm -A -o yaml | podpath trace ns/client ns/server:80 -f -
  podpath show n1 route -t topologies/two-node-vxlan
  podpath replay pcaps/ping-paths.pcap -t topologies/two-node-vxlan -w out/

Exit codes: 0 clean, 1 findings or unmet expectations, 2 could not run.";

const COMPARE_EXAMPLES: &str = "\
Examples:
  kubectl get nodes,svc,endpointslices -A -o yaml | podpath proxy compare -f -
      How many classes of packets there are, and an example of each difference
  podpath proxy compare -f cluster/ --node n1 --all
      Every class that ends differently on n1
  podpath proxy compare -f cluster/ --classes
      What becomes of every class, Service by Service
  podpath proxy compare -f cluster/ -o json | jq '.differences[] | select(.source == \"outside\")'

Exit status: 0 when the modes differ in the ways that are known of kube-proxy only, 1 otherwise.";

/// podpath: follow a packet through a Kubernetes cluster's network, without the cluster.
#[derive(Parser, Debug)]
#[command(version, about, after_help = EXAMPLES)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    /// A topology folder: runs its probes. Without one: the built-in demo
    pub topology: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Most tries of one exchange.
const ATTEMPTS: i64 = limits::LAB_ATTEMPTS_MAX as i64;
/// Heading of what every command takes, below the command's own options.
const COMMON: &str = "Common options";

#[derive(Args, Clone, Debug, Default)]
pub struct Global {
    /// Manifests: a file, a folder or - for standard input; may be repeated
    #[arg(
        short = 'f',
        long = "filename",
        global = true, help_heading = COMMON,
        value_name = "FILE|DIR|-"
    )]
    pub files: Vec<PathBuf>,
    /// Topology folder whose manifests are loaded, like -f DIR
    #[arg(
        short = 't',
        long = "topology",
        global = true, help_heading = COMMON,
        value_name = "DIR",
        id = "topology_dir"
    )]
    pub dir: Option<PathBuf>,
    /// Namespace of pods named without one [default: default]
    #[arg(short = 'n', long, global = true, help_heading = COMMON)]
    pub namespace: Option<String>,
    /// Seed of every random choice
    #[arg(long, global = true, help_heading = COMMON, default_value_t = 1)]
    pub seed: u64,
    /// Colours: auto looks at the terminal and NO_COLOR
    #[arg(long, global = true, help_heading = COMMON, value_enum, default_value_t = Color::Auto)]
    pub color: Color,
    /// Do not print warnings about the manifests
    #[arg(short, long, global = true, help_heading = COMMON)]
    pub quiet: bool,
}

impl Global {
    /// The namespace of pods named without one.
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("default")
    }
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

impl Color {
    /// Tells everything that writes.
    pub fn apply(self) {
        match self {
            Color::Auto => anstream::ColorChoice::Auto,
            Color::Always => anstream::ColorChoice::Always,
            Color::Never => anstream::ColorChoice::Never,
        }
        .write_global();
    }
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    #[default]
    Text,
    Json,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run a cluster's probes and hold them against what they expect
    Run(RunArgs),
    /// Follow one packet exchange, step by step, there and back
    Trace(TraceArgs),
    /// Show a node's or pod's network state as ip and bridge print it
    Show(ShowArgs),
    /// Replay a capture through the cluster
    Replay(ReplayArgs),
    /// What kube-proxy does on a node
    Proxy(ProxyArgs),
    /// What NetworkPolicies and their kin do
    Policy(PolicyArgs),
    /// Who can reach whom: all pairs, by policy or by the real path, and what a change opens and closes
    Reach(Box<super::reach::ReachArgs>),
    /// Look a name up as a pod does (one query as dig sends it, or a whole getaddrinfo), or serve names
    Dns(DnsArgs),
    /// Draw the cluster
    Topo(TopoArgs),
    /// Measure how fast it is, here and now
    Bench(BenchArgs),
    /// Print a shell's completion script
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write all pages to a folder
    Man {
        /// Folder for one page per command
        #[arg(short, long)]
        dir: Option<PathBuf>,
    },
}

#[derive(Args, Clone, Debug, Default)]
pub struct RunArgs {
    /// The topology folder
    pub topology: Option<PathBuf>,
    /// Only probes whose name contains this
    #[arg(long, value_name = "TEXT")]
    pub probe: Option<String>,
    /// Print every probe's trace
    #[arg(short, long)]
    pub verbose: bool,
    /// Output
    #[arg(short, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    Icmp,
    Tcp,
    Udp,
}

#[derive(Args, Clone, Debug)]
pub struct TraceArgs {
    /// Who sends: [NAMESPACE/]POD, node/NAME, host/NAME or an address
    pub from: String,
    /// Who is meant: the same, svc/NAMESPACE/NAME or a DNS name, with :PORT for TCP and UDP
    pub to: String,
    /// Protocol; TCP with a port, else ICMP
    #[arg(short = 'p', long, value_enum)]
    pub protocol: Option<Protocol>,
    /// Payload bytes
    #[arg(long, value_parser = clap::value_parser!(u32).range(..=65_507))]
    pub size: Option<u32>,
    /// Set (or, with =false, clear) don't-fragment
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    pub df: Option<bool>,
    /// TTL or hop limit
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..))]
    pub ttl: Option<u8>,
    /// Tries
    #[arg(short = 'c', long, value_parser = clap::value_parser!(u32).range(1..=ATTEMPTS))]
    pub count: Option<u32>,
    /// How long the client waits: 5s, 500ms
    #[arg(long, value_parser = duration)]
    pub timeout: Option<core::time::Duration>,
    /// IPv4, where the other end has both
    #[arg(short = '4', conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// IPv6, where the other end has both
    #[arg(short = '6', long = "ipv6")]
    pub ipv6: bool,
    /// Follow every endpoint that a Service could choose, with its chance
    #[arg(long, conflicts_with = "ct")]
    pub all_endpoints: bool,
    /// Trace a connection's first exchange, or one whose connection is known already
    #[arg(long, value_enum, default_value_t = CtMode::New)]
    pub ct: CtMode,
    /// Show address resolution frame by frame too
    #[arg(short, long)]
    pub verbose: bool,
    /// Output
    #[arg(short, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CtMode {
    #[default]
    New,
    Established,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    Addr,
    Link,
    Route,
    Rule,
    Neigh,
    Fdb,
    Bridge,
    Services,
    Iptables,
    Ip6tables,
    Nft,
    Ipset,
    Ipvs,
    Conntrack,
}

#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    /// A node, a pod as [NAMESPACE/]POD, host/NAME, gateway or switch
    pub who: String,
    /// What of it
    #[arg(value_enum)]
    pub what: What,
    /// JSON as ip -j, bridge -j and nft -j print it
    #[arg(short = 'j', long)]
    pub json: bool,
    /// Output: json is --json
    #[arg(short, value_enum, default_value_t = Format::Text)]
    pub output: Format,
    /// IPv6
    #[arg(short = '6')]
    pub ipv6: bool,
    /// IPv4
    #[arg(short = '4', conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// Details, as ip -d
    #[arg(short = 'd', long)]
    pub details: bool,
    /// Routing table (a number, main, local, all), table of iptables (nat, filter...) or listing of ipvsadm
    /// (save, stats, rate, thresholds, persistent, connections, timeouts)
    #[arg(long, value_name = "N|NAME|all")]
    pub table: Option<String>,
    /// Counters of rules, as iptables-save -c; of the table, as conntrack -S; of IPVS, as ipvsadm --stats
    #[arg(short = 'c', long)]
    pub counters: bool,
    /// Run the cluster's probes first and show what they left
    #[arg(long)]
    pub after_probes: bool,
}

#[derive(Args, Clone, Debug)]
pub struct ReplayArgs {
    /// The capture: pcap or pcapng
    pub capture: PathBuf,
    /// Inject at this device instead of at whoever has the source address: NODE/DEV or NAMESPACE/POD/DEV
    #[arg(long, value_name = "NODE/DEV")]
    pub at: Option<String>,
    /// Map an interface of the capture to a device: NAME=NODE/DEV; may be repeated
    #[arg(long, value_name = "NAME=NODE/DEV", conflicts_with = "at")]
    pub map: Vec<String>,
    /// Write one pcapng per interface here, dispositions as packet comments
    #[arg(short = 'w', long, value_name = "DIR")]
    pub write: Option<PathBuf>,
    /// Only this many packets
    #[arg(short = 'c', long)]
    pub count: Option<usize>,
    /// Show every packet hop by hop
    #[arg(short, long)]
    pub verbose: bool,
    /// Output
    #[arg(short, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct DnsArgs {
    #[command(subcommand)]
    pub command: Option<DnsCommand>,
    /// NAME [TYPE] [@SERVER] [+tcp +short +search +ignore +noedns +norecurse +bufsize=N +time=N +tries=N]
    #[arg(required = true, value_name = "NAME [TYPE] [@SERVER] [+OPTION]")]
    pub words: Vec<String>,
    /// Who asks: [NAMESPACE/]POD, node/NAME or host/NAME
    #[arg(long, value_name = "POD", required = true)]
    pub from: Option<String>,
    /// Ask as this libc's getaddrinfo: glibc, musl, glibc-2.36, musl-1.2.3, musl-1.2.5
    #[arg(long, value_name = "LIBC")]
    pub libc: Option<crate::kube::dns::client::Libc>,
    /// Only IPv4 addresses (with --libc)
    #[arg(short = '4', conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// Only IPv6 addresses (with --libc)
    #[arg(short = '6', long = "ipv6")]
    pub ipv6: bool,
    /// Show every query, its way, and what each plugin of the server decided
    #[arg(long)]
    pub trace: bool,
    /// Show address resolution frame by frame too
    #[arg(short, long)]
    pub verbose: bool,
    /// Output
    #[arg(short, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

#[derive(Subcommand, Clone, Debug)]
pub enum DnsCommand {
    /// Answer real clients over UDP and TCP as the cluster's CoreDNS would
    Serve(DnsServeArgs),
}

#[derive(Args, Clone, Debug)]
pub struct DnsServeArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5353")]
    pub listen: std::net::SocketAddr,
    /// The Corefile [default: the ConfigMap kube-system/coredns of the manifests]
    #[arg(long, value_name = "FILE")]
    pub corefile: Option<PathBuf>,
    /// Which CoreDNS to play: the order of plugins and some behaviour follow it
    #[arg(long, value_name = "VERSION", default_value = "1.13.2")]
    pub coredns: String,
    /// The server's own addresses, which the zone's NS records follow; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    pub address: Vec<std::net::IpAddr>,
    /// Stop after so long: 5s, 500ms
    #[arg(long, value_parser = duration, value_name = "TIME")]
    pub duration: Option<core::time::Duration>,
}

#[derive(Args, Clone, Debug)]
pub struct ProxyArgs {
    #[command(subcommand)]
    pub command: ProxyCommand,
}

#[derive(Subcommand, Clone, Debug)]
pub enum ProxyCommand {
    /// Print what a node's kube-proxy writes, as it hands it to the kernel's tools
    Render(RenderArgs),
    /// Compare kube-proxy's three modes: where traffic to every Service goes, and where they differ
    #[command(after_help = COMPARE_EXAMPLES)]
    Compare(CompareArgs),
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum RenderMode {
    /// The input of iptables-restore
    Iptables,
    /// The script of nft -f
    Nftables,
    /// ipset restore, addresses of kube-ipvs0, ipvsadm -R and iptables-restore
    Ipvs,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum RenderLayout {
    /// All filter chains before DNAT: Kubernetes up to 1.34
    Older,
    /// Only the source ranges before DNAT: later versions
    Split,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum RenderFamily {
    Ipv4,
    Ipv6,
}

#[derive(Args, Clone, Debug)]
pub struct RenderArgs {
    /// The node
    #[arg(long, value_name = "NAME")]
    pub node: String,
    /// kube-proxy's mode [default: the input's, else iptables]
    #[arg(long, value_enum)]
    pub mode: Option<RenderMode>,
    /// Base chains of nftables mode [default: by the Node's kubelet version, else split]
    #[arg(long, value_enum)]
    pub layout: Option<RenderLayout>,
    /// Only this family's rules
    #[arg(long, value_enum)]
    pub family: Option<RenderFamily>,
}

#[derive(Args, Clone, Debug)]
pub struct CompareArgs {
    /// Only on this node
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// Every class that differs, not an example of each cause
    #[arg(long)]
    pub all: bool,
    /// Every class with what becomes of it, whether the modes differ or not
    #[arg(long)]
    pub classes: bool,
    /// Output
    #[arg(short, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

#[derive(Args, Clone, Debug)]
pub struct PolicyArgs {
    #[command(subcommand)]
    pub command: PolicyCommand,
}

#[derive(Subcommand, Clone, Debug)]
pub enum PolicyCommand {
    /// Why a connection may or may not open: what decides on each side, and which rule came closest
    Explain(PolicyExplainArgs),
    /// Find mistakes in policies: rules that never decide, selectors that match nothing, DNS forgotten
    Lint(PolicyLintArgs),
}

const POLICY_EXPLAIN: &str = "\
Examples:
  podpath policy explain shop/web data/db:5432 -t DIR
  podpath policy explain shop/web svc/shop/api:80 -f -      every endpoint of the Service
  podpath policy explain 203.0.113.7 shop/web -p tcp -f DIR every TCP port that the pod declares
  kubectl get ns,nodes,pods,svc,netpol -A -o yaml | podpath policy explain a/x b/y:53 -p udp -f -

Exit codes: 0 allowed, 1 denied, 2 could not run.";

const POLICY_LINT: &str = "\
Examples:
  podpath policy lint -t DIR
  kubectl get ns,nodes,pods,svc,netpol -A -o yaml | podpath policy lint -f - -o json

Exit codes: 0 nothing found, 1 something found, 2 could not run.";

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortProtocol {
    Tcp,
    Udp,
    Sctp,
}

#[derive(Args, Clone, Debug)]
#[command(after_help = POLICY_EXPLAIN)]
pub struct PolicyExplainArgs {
    /// Who connects: [NAMESPACE/]POD, node/NAME, host/NAME or an address
    pub from: String,
    /// Who is meant: the same or svc/NAMESPACE/NAME, with :PORT; without, every port it declares
    pub to: String,
    /// Protocol [default: the Service's, else tcp]
    #[arg(short = 'p', long, value_enum)]
    pub protocol: Option<PortProtocol>,
    /// IPv4
    #[arg(short = '4', conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// IPv6
    #[arg(short = '6', long = "ipv6")]
    pub ipv6: bool,
    /// Output
    #[arg(short, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

#[derive(Args, Clone, Debug)]
#[command(after_help = POLICY_LINT)]
pub struct PolicyLintArgs {
    /// Output
    #[arg(short, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Drawing {
    #[default]
    Svg,
    Dot,
}

#[derive(Args, Clone, Debug)]
pub struct TopoArgs {
    /// The topology folder
    pub topology: Option<PathBuf>,
    /// Output
    #[arg(short, value_enum, default_value_t = Drawing::Svg)]
    pub output: Drawing,
    /// Draw the way of one exchange: FROM,TO
    #[arg(long, value_name = "FROM,TO")]
    pub path: Option<String>,
}

/// `5s`, `500ms`, `2m`.
pub(super) fn duration(text: &str) -> Result<core::time::Duration, String> {
    let split = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let n: f64 = number
        .trim()
        .parse()
        .map_err(|_| format!("{text:?} is no duration (expected 5s or 500ms)"))?;
    let factor = match unit {
        "s" | "" => 1.0,
        "ms" => 1e-3,
        "us" => 1e-6,
        "m" => 60.0,
        _ => {
            return Err(format!(
                "unknown unit {unit:?} in {text:?} (expected us, ms, s or m)"
            ));
        }
    };
    match core::time::Duration::try_from_secs_f64(n * factor) {
        Ok(d) if d.is_zero() => Err("expected more than nothing".into()),
        other => other.map_err(|e| e.to_string()),
    }
}
