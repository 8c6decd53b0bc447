//! What `podpath reach` takes.

use crate::kube::listen::Port;
use crate::kube::policy::Selector;
use crate::kube::store::Removal;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  podpath reach topologies/policy-calico
      Every pair by policy, at the ports that destinations declare
  podpath reach topologies/policy-calico --path
      The same tried with real frames, and where path and policies do not agree
  podpath reach -f cluster.yaml -n shop --port 80/TCP --port 53/UDP
      Pods of one namespace, at two ports
  podpath reach -f cluster.yaml --from outside --to svc/shop/web --to nodes
      Addresses outside, to a Service and the nodes
  kubectl get ns,nodes,pods,svc,endpointslices,netpol -A -o yaml | podpath reach -f - -o html --out reach.html
      A heat map to look at in a browser
  podpath reach cluster.yaml --with new-policy.yaml --without netpol/shop/allow-all --exit-code
      What a change opens and closes; exit code 1 if anything
  podpath reach --diff before/ after/ -o csv
      The same of two states

FROM and TO: [NAMESPACE/]POD, NAMESPACE/ (all its pods), pods, node/NAME, nodes, host/NAME, ADDRESS, outside,
and as TO svc/NAMESPACE/NAME[:PORT], services.

Exit codes: 0 it ran, 1 with --exit-code where something changes or where path and policies do not agree,
2 could not run.";

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Output {
    /// A table with a legend; of a change, a list
    #[default]
    Table,
    /// A line for each pair of groups and port
    Csv,
    /// Groups and cells: docs/json.md
    Json,
    /// A graph for Graphviz
    Dot,
    /// A heat map
    Svg,
    /// A heat map with each square's reasons under the pointer
    Html,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum By {
    /// Ends of a namespace with the same answers everywhere are one group
    #[default]
    Class,
    /// Each pod is a group of its own
    Pod,
}

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ReachArgs {
    /// Manifests: a file or a topology folder
    pub topology: Option<PathBuf>,
    /// Try the real path with frames, too: proxies, routes, the rules of the CNI's agent, MTUs
    #[arg(long, conflicts_with_all = ["diff", "with", "without"])]
    pub path: bool,
    /// Compare two states of the cluster: files or folders
    #[arg(long, num_args = 2, value_names = ["A", "B"],
        conflicts_with_all = ["topology", "with", "without"])]
    pub diff: Vec<PathBuf>,
    /// Compare with the state after these manifests are applied; may be repeated
    #[arg(long, value_name = "FILE|DIR")]
    pub with: Vec<PathBuf>,
    /// Compare with the state without this object: KIND/NAMESPACE/NAME; may be repeated
    #[arg(long, value_name = "OBJECT")]
    pub without: Vec<Removal>,
    /// Exit with 1 where something changes, or where path and policies do not agree
    #[arg(long)]
    pub exit_code: bool,
    /// Port asked of every destination: 80, 80/TCP, 53/UDP; may be repeated [default: those it declares]
    #[arg(long, value_name = "PORT")]
    pub port: Vec<Port>,
    /// Who sends; may be repeated [default: all pods, nodes and addresses outside]
    #[arg(long, value_name = "FROM")]
    pub from: Vec<String>,
    /// Who is meant; may be repeated
    #[arg(long, value_name = "TO")]
    pub to: Vec<String>,
    /// Only pods with these labels at both ends: app=web,tier in (a,b),!legacy
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<Selector>,
    /// Only senders with these labels
    #[arg(long, value_name = "SELECTOR")]
    pub from_selector: Option<Selector>,
    /// Only destinations with these labels
    #[arg(long, value_name = "SELECTOR")]
    pub to_selector: Option<Selector>,
    /// Only senders of these namespaces (-n: both ends)
    #[arg(long, value_name = "NAMESPACE", value_delimiter = ',')]
    pub from_namespace: Vec<String>,
    /// Only destinations of these namespaces
    #[arg(long, value_name = "NAMESPACE", value_delimiter = ',')]
    pub to_namespace: Vec<String>,
    /// What rows and columns are
    #[arg(long, value_enum, default_value_t = By::Class)]
    pub by: By,
    /// IPv4 [default: where pods have it, else IPv6]
    #[arg(short = '4', conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// IPv6
    #[arg(short = '6', long = "ipv6")]
    pub ipv6: bool,
    /// Output
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}
