//! flannel: what `flanneld` lays on a node, and its CNI plugin, which delegates to bridge.
//!
//! [`conf`] reads `net-conf.json` and `cni-conf.json` of ConfigMap `kube-flannel-cfg`, [`node`] makes a
//! node's plan from the nodes' leases, [`rules()`] its iptables rules, [`plugin`] is the binary `flannel`.
//! Facts: flannel-io/flannel pkg/backend/{vxlan,hostgw,ipip}, pkg/subnet, pkg/trafficmngr,
//! Documentation/kube-flannel.yml; flannel-io/cni-plugin.

pub mod conf;
pub mod node;
pub mod plugin;
pub mod rules;

pub use conf::{Backend, NetConf};
pub use node::{FlannelNode, plan, subnet_env};
pub use rules::{RuleOptions, rules};
