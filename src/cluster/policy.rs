//! Policies enforced on the nodes: each node's agent writes its rules when the cluster is built and whenever
//! objects change, and only what changed.
//!
//! What it writes is `kube::policy::enforce`'s; [`carry_out`] is the one place where it reaches a namespace.
//! Where nobody enforces policies that is said. A cluster without policies gets no rules, unless its document
//! names an agent. Invariant: after a change a node has what a cluster built from the new objects would have.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::{Finding, Instant, NsId};
use crate::cluster::build::Builder;
use crate::cluster::{Cluster, controllers, proxy_steps};
use crate::kube::cni::calico::Encap;
use crate::kube::podpath_v1alpha1::{Enforcement, Existing, IngressSees, NetworkPolicySpec};
use crate::kube::policy::enforce::{
    Filter, Layout, Options, Plan, calico, impossible, kube_router, nftables,
};
use crate::kube::policy::{Inventory, Kind, L4, Policies};
use crate::kube::store::Name;
use crate::net::NetNs;
use crate::nf::apply::{Restore, Tool, on_netns, restore, usual_backend};
use crate::nf::ct::tcp::TcpState;
use crate::nf::ct::{Conn, Dir, ProtoState};
use crate::nf::{Family, RuleSet, TableName};

/// The cluster's enforcement.
#[derive(Clone, Debug)]
pub struct PolicyAgents {
    /// Who enforces.
    pub enforcement: Enforcement,
    /// Where implementations differ.
    pub options: Options,
    /// Rules are there even without a policy.
    always: bool,
    /// What each node has.
    laid: BTreeMap<String, Layout>,
    /// That nobody enforces was said.
    told: bool,
}

impl PolicyAgents {
    /// Of a Cluster document.
    pub(super) fn new(enforcement: Enforcement, spec: &NetworkPolicySpec) -> Self {
        PolicyAgents {
            enforcement,
            options: Options::of(enforcement, spec),
            always: spec.enforcement.is_some(),
            laid: BTreeMap::new(),
            told: false,
        }
    }

    /// What a node's agent wants there now.
    pub fn layout(&self, node: &str) -> Option<&Layout> {
        self.laid.get(node)
    }
}

/// Lays the rules of the beginning.
pub(super) fn start(b: &mut Builder) {
    let enforcement = b.spec.enforcement();
    b.c.policies = PolicyAgents::new(enforcement, &b.spec.network_policy);
    for no in impossible(enforcement, &b.spec.network_policy) {
        let at = b.cluster_span(no.field);
        b.findings.push(Finding::warning(at, no.why, no.help));
    }
    let found = sync(&mut b.c);
    b.findings.extend(found);
}

/// Makes every node's rules those of the objects as they are now.
pub(super) fn sync(c: &mut Cluster) -> Vec<Finding> {
    let (policies, _) = Policies::of(&c.store);
    let agents = &c.policies;
    if policies.is_empty() && agents.laid.is_empty() && !agents.always {
        return Vec::new();
    }
    if agents.enforcement == Enforcement::None {
        return nobody(c, &policies);
    }
    let inventory = inventory(c);
    let plan = plan(c, &policies, &inventory);
    let mut findings = gaps(c, &policies);
    let judge = Arc::new(nftables::Judge::new(
        &policies,
        &inventory,
        c.policies.options,
    ));
    let names: Vec<String> = c.nodes.keys().cloned().collect();
    for name in names {
        let Some(wanted) = layout(c, &plan, &name) else {
            continue;
        };
        let was = c.policies.laid.get(&name).cloned().unwrap_or_default();
        let Some(ns) = c.nodes.get(&name).map(|n| n.ns) else {
            continue;
        };
        let (now, nftables) = (c.lab.now(), c.policies.enforcement == Enforcement::Nftables);
        let Some(space) = c.lab.world.ns_mut(ns) else {
            continue;
        };
        findings.extend(carry_out(space, &name, &was, &wanted, now));
        if nftables {
            let queues = &mut space.nf_mut().queues;
            queues.insert(nftables::EGRESS_QUEUE, Arc::new(judge.of_egress()));
            queues.insert(nftables::QUEUE, Arc::clone(&judge) as _);
        }
        c.policies.laid.insert(name, wanted);
    }
    if c.policies.options.existing == Existing::Flush {
        flush(c, &judge);
    }
    findings
}

/// Kinds of policies that the agent does not know, said once.
fn gaps(c: &mut Cluster, policies: &Policies) -> Vec<Finding> {
    if c.policies.enforcement != Enforcement::KubeRouter || c.policies.told {
        return Vec::new();
    }
    let mut unknown = policies
        .iter()
        .filter(|p| p.key.kind != Kind::NetworkPolicy);
    let Some(first) = unknown.next() else {
        return Vec::new();
    };
    let more = unknown.count();
    c.policies.told = true;
    let others = if more == 0 {
        String::new()
    } else {
        format!(" and {more} more")
    };
    vec![Finding::warning(
        first.source.span_of("metadata.name"),
        format!(
            "{}{others}: kube-router implements NetworkPolicy only, nobody enforces this",
            first.key
        ),
        "use an agent that does (Calico, kube-network-policies), or NetworkPolicies",
    )]
}

/// The policies with their selectors applied to the pods as the cluster has them.
fn plan(c: &Cluster, policies: &Policies, inventory: &Inventory) -> Plan {
    let mut plan = Plan::of(policies, inventory);
    for member in &mut plan.pods {
        if let Some(pod) = c.pods.get(&member.name) {
            member.node.clone_from(&pod.node);
        }
    }
    plan
}

/// Pods with the addresses and nodes that the cluster gave them.
fn inventory(c: &Cluster) -> Inventory {
    let mut inventory = Inventory::of(&c.store, &controllers::facts(c));
    let unplaced = inventory.pods().filter(|p| p.node.is_empty());
    for mut pod in unplaced.cloned().collect::<Vec<_>>() {
        if let Some(placed) = c.pods.get(&pod.name) {
            pod.node.clone_from(&placed.node);
            inventory.set_pod(pod);
        }
    }
    if c.policies.options.seen.source == IngressSees::Node {
        // What MASQUERADE may take for a source: any address of the node (`inet_select_addr`).
        for (name, node) in &c.nodes {
            inventory.add_addresses(name, &c.addresses(node.ns));
        }
    }
    inventory
}

/// Says once that policies are there and nobody enforces them.
fn nobody(c: &mut Cluster, policies: &Policies) -> Vec<Finding> {
    if c.policies.told {
        return Vec::new();
    }
    let Some(first) = policies.iter().next() else {
        return Vec::new();
    };
    c.policies.told = true;
    let (count, more) = (
        policies.len(),
        if policies.len() == 1 { "y" } else { "ies" },
    );
    let message = format!(
        "{count} polic{more}, {} first, and nobody enforces them: {} has no agent \
        for policies, all pods reach each other",
        first.key, c.cni
    );
    vec![Finding::warning(
        first.source.span_of("metadata.name"),
        message,
        "run an agent that does (Calico's Felix, kube-router) and name it in spec.networkPolicy.enforcement",
    )]
}

fn layout(c: &Cluster, plan: &Plan, name: &str) -> Option<Layout> {
    let node = c.nodes.get(name)?;
    let options = c.policies.options;
    let own = plan.on_node(name).flat_map(|(_, p)| &p.ips);
    let mut all = own.copied().chain(node.addresses.iter().map(|a| a.ip()));
    let v6 = all.any(|ip| ip.is_ipv6());
    match c.policies.enforcement {
        Enforcement::None => None,
        Enforcement::Calico => {
            let pools = c
                .calico
                .as_ref()
                .map(|i| i.pools.as_slice())
                .unwrap_or_default();
            let nodes = c.nodes.values().flat_map(|n| &n.addresses);
            let host = calico::Host {
                name: name.to_owned(),
                hosts: nodes.map(|a| a.ip()).collect(),
                ipip: pools.iter().any(|p| p.ipip != Encap::Never),
                vxlan: pools.iter().any(|p| p.vxlan != Encap::Never),
                service_accounts: service_accounts(c),
                v6,
            };
            Some(calico::layout(plan, &host, options))
        }
        Enforcement::KubeRouter => {
            let document = c.store.cluster().map(|d| &d.spec);
            let host = kube_router::Host {
                name: name.to_owned(),
                service_cidrs: document
                    .map(|d| d.service_cidrs.clone())
                    .unwrap_or_default(),
                node_ports: document.and_then(|d| d.node_port_range),
                v6,
            };
            Some(kube_router::layout(plan, &host, options))
        }
        Enforcement::Nftables => Some(nftables::layout(plan, name, options)),
    }
}

fn service_accounts(c: &Cluster) -> BTreeMap<Name, String> {
    let named = c.store.pods.iter().filter_map(|(name, pod)| {
        let account = pod.spec.as_ref()?.service_account_name.clone()?;
        Some((name.clone(), account))
    });
    named.filter(|(_, account)| !account.is_empty()).collect()
}

/// Makes a node's tables, in which is what its agent wanted before, what it wants now: new sets, rules, then
/// sets that are no longer asked.
pub fn carry_out(
    space: &mut NetNs,
    node: &str,
    was: &Layout,
    wanted: &Layout,
    now: Instant,
) -> Vec<Finding> {
    let who = format!("the policy agent on {node}");
    let nf = space.nf_mut();
    let mut findings = Vec::new();
    let before = wanted.sets_before(was);
    if !before.is_empty() {
        findings.extend(nf.sets.restore(&who, &before, now));
    }
    for (family, at) in [(Family::V4, 0), (Family::V6, 1)] {
        let (Some(old), Some(new)) = (was.filter.get(at), wanted.filter.get(at)) else {
            continue;
        };
        let text = new.restore(old);
        if text.is_empty() {
            continue;
        }
        let backend = usual_backend(Some(nf), family);
        let tool = Tool { family, backend };
        on_netns(nf, tool, |set| {
            let options = Restore {
                noflush: true,
                ..Restore::default()
            };
            let origin = crate::base::Origin::controller("policy agent", "");
            if let Err(e) = restore(set, tool, options, &who, &text, Some(&origin)) {
                findings.push(e.into());
            }
            name_origins(set, new);
        });
    }
    if wanted.nft != was.nft {
        findings.extend(proxy_steps::nft(space, &wanted.nft, &who, now, &mut |_| {
            crate::base::Origin::controller("policy agent", "")
        }));
    }
    let nf = space.nf_mut();
    let after = wanted.sets_after(was);
    if !after.is_empty() {
        findings.extend(nf.sets.restore(&who, &after, now));
    }
    findings
}

/// Gives each rule the policy it was made from.
fn name_origins(set: &mut RuleSet, filter: &Filter) {
    let Some(table) = set.tables.iter_mut().find(|t| t.name == TableName::Filter) else {
        return;
    };
    for (name, lines) in &filter.chains {
        let Some(chain) = table.chain_mut(name) else {
            continue;
        };
        for (rule, line) in chain.rules.iter_mut().zip(lines) {
            if let Some(origin) = &line.from {
                rule.origin = origin.clone();
            }
        }
    }
}

/// Has the connections judged again that policies forbid now. kube-network-policies takes their label away
/// (pkg/dataplane/controller.go `firewallEnforcer`: TCP in state ESTABLISHED only), so that whichever packet
/// comes next goes to its queue; where an agent has no label, conntrack forgets them (`conntrack -D`).
fn flush(c: &mut Cluster, judge: &nftables::Judge) {
    let label = c.policies.enforcement == Enforcement::Nftables;
    let nodes: Vec<NsId> = c.nodes.values().map(|n| n.ns).collect();
    for ns in nodes {
        let Some(space) = c.lab.world.ns_mut(ns) else {
            continue;
        };
        let forbidden = |conn: &Conn| {
            let (there, back) = (conn.tuple(Dir::Original), conn.tuple(Dir::Reply));
            nftables::l4(there.proto, back.sport) != L4::Other && !judge.keeps(&there, &back)
        };
        let ct = &mut space.nf_mut().ct;
        if label {
            ct.unlabel(1 << nftables::LABEL, |conn| {
                is_open(conn) && forbidden(conn)
            });
        } else {
            ct.delete(forbidden);
        }
    }
}

/// Not a TCP connection that is only being made, or ends.
fn is_open(conn: &Conn) -> bool {
    match conn.proto() {
        ProtoState::Tcp(tcp) => tcp.state == TcpState::Established,
        _ => true,
    }
}
