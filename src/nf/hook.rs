//! The hooks of the IP layer and the order in which what hangs on them runs.
//!
//! Priorities are the kernel's (uapi netfilter_ipv4.h `enum nf_ip_hook_priorities`; IPv6 has the same).
//! Invariant: a list of operations is sorted by priority, equal ones in the order of registration.

use super::netfilter::Backend;
use super::table::TableName;
use core::fmt;

/// Where on its way a packet is (uapi netfilter.h `enum nf_inet_hooks`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Hook {
    /// Received, before the routing decision.
    Prerouting,
    /// For this host.
    Input,
    /// Routed through.
    Forward,
    /// Sent by this host.
    Output,
    /// About to leave.
    Postrouting,
}

impl Hook {
    /// All, in the kernel's numbering.
    pub const ALL: [Hook; 5] = [
        Hook::Prerouting,
        Hook::Input,
        Hook::Forward,
        Hook::Output,
        Hook::Postrouting,
    ];

    /// The built-in chain's name.
    pub fn chain(self) -> &'static str {
        match self {
            Hook::Prerouting => "PREROUTING",
            Hook::Input => "INPUT",
            Hook::Forward => "FORWARD",
            Hook::Output => "OUTPUT",
            Hook::Postrouting => "POSTROUTING",
        }
    }

    /// The hook of a built-in chain.
    pub fn of_chain(name: &str) -> Option<Hook> {
        Hook::ALL.into_iter().find(|h| h.chain() == name)
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.chain())
    }
}

/// What runs at a hook.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpKind {
    /// Reassembly in front of conntrack (`nf_defrag_ipv4`, `nf_defrag_ipv6`).
    Defrag,
    /// The connection is looked up or made (`nf_conntrack_in`).
    Conntrack,
    /// A table, in one of the two rule sets.
    Table(super::netfilter::Backend, TableName),
    /// A native nftables base chain of type filter or route.
    Nft {
        /// Which.
        chain: super::nft::eval::ChainRef,
        /// Of type route: the packet is routed again after it in OUTPUT.
        route: bool,
    },
    /// Address translation (`nf_nat_inet_fn`), which asks the nat tables of both rule sets.
    Nat,
    /// A connection's helper looks into the packet (`nf_confirm`'s first part).
    Helper,
    /// A new connection enters the table (`nf_conntrack_confirm`).
    Confirm,
    /// IPVS.
    Ipvs(IpvsOp),
}

/// What IPVS does at a hook (kernel: `ip_vs_ops4`, `ip_vs_ops6`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IpvsOp {
    /// Real servers' replies get the virtual address back (`ip_vs_out_hook`).
    Reply,
    /// Requests go to real servers (`ip_vs_in_hook`).
    Request,
    /// ICMP errors that pass by (`ip_vs_forward_icmp`).
    ForwardIcmp,
}

impl IpvsOp {
    /// What hangs on a hook, with its priority.
    pub fn at(hook: Hook) -> &'static [(i32, IpvsOp)] {
        match hook {
            Hook::Input => &[(NAT_SRC - 2, IpvsOp::Reply), (NAT_SRC - 1, IpvsOp::Request)],
            Hook::Forward => &[(99, IpvsOp::ForwardIcmp), (100, IpvsOp::Reply)],
            Hook::Output => &[(NAT_DST + 1, IpvsOp::Reply), (NAT_DST + 2, IpvsOp::Request)],
            _ => &[],
        }
    }
}

/// A chain that decides how new connections are translated; all of them are asked by [`OpKind::Nat`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NatChain {
    /// The nat table of one of the two iptables rule sets.
    Table(super::netfilter::Backend),
    /// A native nftables base chain of type nat.
    Nft(super::nft::eval::ChainRef),
}

/// One operation of a hook.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HookOp {
    /// Lower runs first.
    pub priority: i32,
    /// What.
    pub kind: OpKind,
}

/// `NF_IP_PRI_CONNTRACK_DEFRAG`
pub const DEFRAG: i32 = -400;
/// `NF_IP_PRI_CONNTRACK`
pub const CONNTRACK: i32 = -200;
/// `NF_IP_PRI_NAT_DST`
pub const NAT_DST: i32 = -100;
/// `NF_IP_PRI_NAT_SRC`
pub const NAT_SRC: i32 = 100;
/// `NF_IP_PRI_CONNTRACK_HELPER`
pub const HELPER: i32 = 300;
/// `NF_IP_PRI_CONNTRACK_CONFIRM`
pub const CONFIRM: i32 = i32::MAX;

/// Where a filtering table stands; nat has no place of its own, see [`OpKind::Nat`].
/// iptables-nft has another number for security than the kernel's own (`xtables_ipv4` of its nft.c).
pub fn table_priority(b: Backend, t: TableName) -> i32 {
    match t {
        TableName::Raw => -300,
        TableName::Mangle => -150,
        TableName::Nat => NAT_DST,
        TableName::Filter => 0,
        TableName::Security if b == Backend::Nft => 150,
        TableName::Security => 50,
    }
}
