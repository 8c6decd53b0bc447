//! CNI plugins as the real binaries behave (containernetworking/plugins 1.1.1, CNI library 1.0.1), and what
//! flannel, Calico and kindnet lay on a node.
//!
//! A plugin reads its configuration from stdin, changes namespaces through [`host::Host`] and answers with a
//! result or an error in the plugin's own words; [`list::NetworkList`] chains plugins as libcni does.
//! iptables rules are made by the commands the plugins run ([`iptables`]). Judge: `tests/cni.rs` and its
//! recordings.

pub mod addr;
pub mod admin;
pub mod args;
pub mod bridge;
pub mod calico;
pub mod conf;
mod conflist;
pub mod docker;
pub mod error;
pub mod firewall;
pub mod flannel;
pub mod host;
pub mod host_local;
pub mod ipam;
pub mod iptables;
pub mod json;
pub mod kindnet;
pub mod link;
pub mod list;
pub mod loopback;
pub mod masq;
pub mod plan;
pub mod portmap;
pub mod ptp;
pub mod result;
pub mod skel;
pub mod static_ipam;
pub mod tuning;

pub use error::CniError;
pub use host::{CniState, Host, Namespaces, NodeNamespaces, Registry};
pub use list::NetworkList;
pub use plan::{LinkOp, Where};
pub use result::CniResult;
pub use skel::{CmdArgs, Env, Output};

use serde_json::Value;

/// What a plugin is told to do. VERSION is answered for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// Make the attachment.
    Add,
    /// See whether it is as it was made.
    Check,
    /// Undo it; nothing to undo is no error.
    Del,
}

/// A CNI plugin.
pub trait CniPlugin: Send + Sync {
    /// The name of its binary, which is `type` in a configuration.
    fn name(&self) -> &'static str;

    /// Versions of the specification it speaks.
    fn versions(&self) -> &'static [&'static str] {
        result::VERSIONS
    }

    /// ADD: the result as JSON of the configuration's version.
    fn add(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<Value, CniError>;

    /// CHECK: an error says what is missing.
    fn check(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<(), CniError>;

    /// DEL.
    fn del(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<(), CniError>;
}
