//! kube-network-policies' table and the program behind its queue (kubernetes-sigs/kube-network-policies at
//! 5f81cc3, pkg/dataplane/controller.go `syncNFTablesRules`, `addDNSRacersWorkaroundRules`; pkg/networkpolicy
//! engine.go).
//!
//! The first packets of connections of selected pods go to the program, which judges both directions on
//! either node and labels the connection; with tiers in the cluster every packet does. What processes of
//! root on a node send is not judged. Its own reading is kept: a NetworkPolicy of either direction ends the
//! evaluation before the Baseline tier. The program is [`Judge`]: the compiled filter.
//!
//! For plugins whose policies stand elsewhere, by option and not as kube-network-policies is: `ingressSees:
//! node` moves the chain behind srcnat; `egressSees: service` judges egress of the node's own pods before
//! dstnat by a queue of its own, and the other chains then judge ingress only.

use core::fmt::Write;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::Options;
use super::layout::Layout;
use super::plan::Plan;
use crate::kube::podpath_v1alpha1::{EgressSees, Enforcement, IngressSees};
use crate::kube::policy::{Compiled, Direction, Inventory, L4, Policies, Query, Tier};
use crate::kube::service::Protocol;
use crate::nf::ct::CtTuple;
use crate::nf::queue::{Answer, Reader};
use crate::wire::{IpHeader, proto};

/// The table's name (`NFTableName`).
pub const TABLE: &str = "kube-network-policies";
/// The queue's number (`QueueID`).
pub const QUEUE: u16 = 100;
/// The queue of egress judged before destination translation.
pub const EGRESS_QUEUE: u16 = 101;
/// The label of accepted connections (`CTLabelAccept`).
pub const LABEL: u8 = 100;

/// All that the agent wants on a node.
pub fn layout(plan: &Plan, node: &str, options: Options) -> Layout {
    let all = plan.policies.iter().any(|p| p.tier != Tier::NetworkPolicy);
    let selected = plan.policies.iter().flat_map(|p| &p.subject);
    let pods = selected.filter_map(|i| plan.pods.get(*i));
    let ips: BTreeSet<IpAddr> = pods.flat_map(|p| p.ips.iter().copied()).collect();
    let own = plan.on_node(node).flat_map(|(_, p)| p.ips.iter().copied());
    let own = (options.seen.destination == EgressSees::Service).then(|| own.collect());
    let after = options.seen.source == IngressSees::Node;
    Layout {
        nft: script(all, &ips, own.as_ref(), after),
        ..Layout::default()
    }
}

/// A set of each family.
fn sets(out: &mut String, name: &str, ips: &BTreeSet<IpAddr>) {
    for (family, kind, v6) in [("v4", "ipv4_addr", false), ("v6", "ipv6_addr", true)] {
        let mine = ips.iter().filter(|ip| ip.is_ipv6() == v6);
        let mine: Vec<String> = mine.map(IpAddr::to_string).collect();
        let elements = match mine.is_empty() {
            true => String::new(),
            false => format!("\n\t\telements = {{ {} }}", mine.join(", ")),
        };
        let _ = writeln!(
            out,
            "\tset {name}-{family} {{\n\t\ttype {kind}{elements}\n\t}}"
        );
    }
}

/// `own`: the node's pods, where egress is judged before destination translation; `after`: the rest is
/// judged after source translation.
fn script(
    all: bool,
    ips: &BTreeSet<IpAddr>,
    own: Option<&BTreeSet<IpAddr>>,
    after: bool,
) -> String {
    let mut out = format!("table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n");
    if !all {
        sets(&mut out, "podips", ips);
    }
    if let Some(own) = own {
        sets(&mut out, "ownips", own);
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
    let known = format!("ct label {LABEL} ct state established,related counter accept");
    post.push(known.clone());
    queued(&mut post, &["saddr", "daddr"], "");
    post.push(format!("ct label set {LABEL}"));
    let mut input = vec!["iifname \"lo\" accept".to_owned()];
    queued(&mut input, &["saddr"], "ct state new ");
    let mut pre = vec![
        "meta l4proto != udp accept".to_owned(),
        "udp dport != 53 accept".to_owned(),
    ];
    queued(&mut pre, &["saddr", "daddr"], "");
    let mut egress = vec![known];
    for (family, set) in [("ip", "ownips-v4"), ("ip6", "ownips-v6")] {
        egress.push(format!("{family} saddr @{set} queue to {EGRESS_QUEUE}"));
    }
    let behind = if after { 105 } else { 95 };
    let mut chains = vec![
        (
            "postrouting",
            format!("postrouting priority {behind}"),
            post,
        ),
        ("input", "input priority 101".to_owned(), input),
        ("prerouting", "prerouting priority -95".to_owned(), pre),
    ];
    if own.is_some() {
        chains.push(("egress", "prerouting priority -105".to_owned(), egress));
    }
    for (chain, hook, rules) in chains {
        let _ = writeln!(
            out,
            "\tchain {chain} {{\n\t\ttype filter hook {hook}; policy accept;"
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
#[derive(Clone, Debug)]
pub struct Judge {
    compiled: Arc<Compiled>,
    options: Options,
    egress: bool,
    ingress: bool,
}

impl Judge {
    /// Of the policies and pods as they are now: the program behind [`QUEUE`].
    pub fn new(policies: &Policies, inventory: &Inventory, options: Options) -> Self {
        let readings = options.readings(Enforcement::Nftables);
        Judge {
            compiled: Arc::new(Compiled::new(policies, inventory, readings)),
            options,
            egress: options.seen.destination == EgressSees::Endpoint,
            ingress: true,
        }
    }

    /// The one behind [`EGRESS_QUEUE`].
    pub fn of_egress(&self) -> Self {
        Judge {
            egress: true,
            ingress: false,
            ..self.clone()
        }
    }

    fn allows(&self, from: IpAddr, to: IpAddr, l4: L4) -> bool {
        let query = Query {
            hairpin: from == to,
            ..Query::new(from, to, l4)
        };
        let side = |direction| self.compiled.side(&query, direction).allowed;
        (!self.egress || side(Direction::Egress)) && (!self.ingress || side(Direction::Ingress))
    }

    /// Whether a known connection may go on: each side as it sees the packets of the client.
    pub fn keeps(&self, there: &CtTuple, back: &CtTuple) -> bool {
        let endpoint = (back.src, l4(there.proto, back.sport));
        let (to, port) = match self.options.seen.destination {
            EgressSees::Endpoint => endpoint,
            EgressSees::Service => (there.dst, l4(there.proto, there.dport)),
        };
        let from = match self.options.seen.source {
            IngressSees::Client => there.src,
            IngressSees::Node => back.dst,
        };
        let (egress, ingress) = (
            Query::new(there.src, to, port),
            Query::new(from, endpoint.0, endpoint.1),
        );
        let side = |query: Query<'_>, direction| {
            let hairpin = query.from == query.to;
            let query = Query { hairpin, ..query };
            self.compiled.side(&query, direction).allowed
        };
        side(egress, Direction::Egress) && side(ingress, Direction::Ingress)
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
