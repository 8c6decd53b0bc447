//! kube-network-policies' table and the program behind its queue (kubernetes-sigs/kube-network-policies at
//! 5f81cc3, pkg/dataplane/controller.go `syncNFTablesRules`, `addDNSRacersWorkaroundRules`; pkg/networkpolicy
//! engine.go).
//!
//! The first packets of connections of selected pods go to the program, which judges both directions on
//! either node and labels the connection; with tiers in the cluster every packet does. What processes of
//! root on a node send is not judged. Its own reading is kept: a NetworkPolicy of either direction ends the
//! evaluation before the Baseline tier. The program is [`Judge`]: the compiled filter.

use core::fmt::Write;
use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Options;
use super::layout::Layout;
use super::plan::Plan;
use crate::kube::podpath_v1alpha1::Reach;
use crate::kube::policy::verdict;
use crate::kube::policy::{
    BaselineScope, BlockScope, Compiled, Hairpin, Inventory, L4, Policies, Query, Tier,
};
use crate::kube::service::Protocol;
use crate::nf::queue::{Answer, Reader};
use crate::wire::{IpHeader, proto};

/// The table's name (`NFTableName`).
pub const TABLE: &str = "kube-network-policies";
/// The queue's number (`QueueID`).
pub const QUEUE: u16 = 100;
/// The label of accepted connections (`CTLabelAccept`).
pub const LABEL: u8 = 100;

/// All that the agent wants on a node.
pub fn layout(plan: &Plan) -> Layout {
    let all = plan.policies.iter().any(|p| p.tier != Tier::NetworkPolicy);
    let selected = plan.policies.iter().flat_map(|p| &p.subject);
    let pods = selected.filter_map(|i| plan.pods.get(*i));
    let ips: BTreeSet<IpAddr> = pods.flat_map(|p| p.ips.iter().copied()).collect();
    Layout {
        nft: script(all, &ips),
        ..Layout::default()
    }
}

fn script(all: bool, ips: &BTreeSet<IpAddr>) -> String {
    let mut out = format!("table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n");
    if !all {
        for (name, kind, v6) in [
            ("podips-v4", "ipv4_addr", false),
            ("podips-v6", "ipv6_addr", true),
        ] {
            let mine = ips.iter().filter(|ip| ip.is_ipv6() == v6);
            let mine: Vec<String> = mine.map(IpAddr::to_string).collect();
            let elements = match mine.is_empty() {
                true => String::new(),
                false => format!("\n\t\telements = {{ {} }}", mine.join(", ")),
            };
            let _ = writeln!(out, "\tset {name} {{\n\t\ttype {kind}{elements}\n\t}}");
        }
    }
    let queued = |rules: &mut Vec<String>, sides: &[&str], more: &str| match all {
        true => rules.push(format!("{more}queue to {QUEUE}")),
        false => {
            for (family, set) in [("ip", "podips-v4"), ("ip6", "podips-v6")] {
                for side in sides {
                    rules.push(format!("{family} {side} @{set} {more}queue to {QUEUE}"));
                }
            }
        }
    };
    let mut post = vec!["udp dport 53 accept".to_owned()];
    for kind in [
        "nd-router-solicit",
        "nd-router-advert",
        "nd-neighbor-solicit",
        "nd-neighbor-advert",
        "nd-redirect",
    ] {
        post.push(format!("icmpv6 type {kind} accept"));
    }
    post.push("meta skuid 0 counter accept".to_owned());
    post.push(format!(
        "ct label {LABEL} ct state established,related counter accept"
    ));
    queued(&mut post, &["saddr", "daddr"], "");
    post.push(format!("ct label set {LABEL}"));
    let mut input = vec!["iifname \"lo\" accept".to_owned()];
    queued(&mut input, &["saddr"], "ct state new ");
    let mut pre = vec![
        "meta l4proto != udp accept".to_owned(),
        "udp dport != 53 accept".to_owned(),
    ];
    queued(&mut pre, &["saddr", "daddr"], "");
    for (chain, hook, rules) in [
        ("postrouting", "hook postrouting priority 95", post),
        ("input", "hook input priority 101", input),
        ("prerouting", "hook prerouting priority -95", pre),
    ] {
        let _ = writeln!(
            out,
            "\tchain {chain} {{\n\t\ttype filter {hook}; policy accept;"
        );
        for rule in rules {
            let _ = writeln!(out, "\t\t{rule}");
        }
        out.push_str("\t}\n");
    }
    out.push_str("}\n");
    out
}

/// The program: what policies say of a packet as it is.
#[derive(Debug)]
pub struct Judge {
    compiled: Compiled,
}

impl Judge {
    /// Of the policies and pods as they are now. With `ownNode: filtered` no pod has a node of its own.
    pub fn new(policies: &Policies, inventory: &Inventory, options: Options) -> Self {
        let readings = readings(options);
        let compiled = match options.own_node {
            Reach::Open => Compiled::new(policies, inventory, readings),
            Reach::Filtered => {
                let mut homeless = inventory.clone();
                for mut pod in inventory.pods().cloned() {
                    pod.node = String::new();
                    homeless.set_pod(pod);
                }
                Compiled::new(policies, &homeless, readings)
            }
        };
        Judge { compiled }
    }

    /// Whether a connection with these ends may go on.
    pub fn allows(&self, from: IpAddr, to: IpAddr, l4: L4) -> bool {
        let query = Query {
            hairpin: from == to,
            ..Query::new(from, to, l4)
        };
        self.compiled.allows(&query)
    }
}

fn readings(options: Options) -> verdict::Options {
    verdict::Options {
        hairpin: match options.hairpin {
            Reach::Open => Hairpin::Open,
            Reach::Filtered => Hairpin::Judged,
        },
        blocks: match options.block_pods {
            true => BlockScope::Every,
            false => BlockScope::NotPods,
        },
        baseline: BaselineScope::PerPod,
        ..verdict::Options::default()
    }
}

/// The protocol and port that rules ask of.
pub fn l4(protocol: u8, port: u16) -> L4 {
    match protocol {
        proto::TCP => L4::Port(Protocol::Tcp, port),
        proto::UDP => L4::Port(Protocol::Udp, port),
        proto::SCTP => L4::Port(Protocol::Sctp, port),
        _ => L4::Other,
    }
}

impl Reader for Judge {
    fn answer(&self, packet: &[u8]) -> Answer {
        // FailOpen is false: what cannot be read is dropped.
        let Ok(h) = IpHeader::parse_lax(packet) else {
            return Answer::Drop;
        };
        let port = h.ports(packet).map_or(0, |p| p.1);
        match self.allows(h.src, h.dst, l4(h.proto, port)) {
            true => Answer::Accept { labels: 1 << LABEL },
            false => Answer::Drop,
        }
    }
}
