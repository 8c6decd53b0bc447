//! `podpath policy explain` and `podpath policy lint`: what NetworkPolicies and their kin do, and what is
//! wrong with them.
//!
//! Works on objects alone: pods need an address, from their status or from the CNI of the cluster that the
//! input describes.

use crate::base::{Finding, Severity};
use crate::cli::args::{
    Format, Global, PolicyArgs, PolicyCommand, PolicyExplainArgs, PolicyLintArgs, PortProtocol,
};
use crate::cli::{Exit, load, out, trace};
use crate::cluster::Cluster;
use crate::kube::controllers::{Desired, Facts, PodFact, run as run_controllers};
use crate::kube::listen;
use crate::kube::podpath_v1alpha1::{Enforcement, Peer, Target};
use crate::kube::policy::enforce::readings;
use crate::kube::policy::explain::{Explanation, explain};
use crate::kube::policy::lint::{Linted, lint};
use crate::kube::policy::translate::ways;
use crate::kube::policy::{Evaluator, Inventory, Kind, L4, Owner, Policies, PolicyKey};
use crate::kube::proxy::View;
use crate::kube::service::{Family, Protocol, ServicePort};
use crate::kube::store::{Name, Store, is_finished, is_host_network};
use crate::report::{policy as text, policy_lint};
use anyhow::Context;
use serde_json::Value;
use std::io::Write;
use std::net::IpAddr;

/// Runs the subcommand.
pub fn run(g: &Global, a: &PolicyArgs) -> anyhow::Result<Exit> {
    let inputs = load::inputs(g, None)?;
    let (store, findings) = Store::load(&inputs);
    if out::findings(&findings, g.quiet) {
        return Ok(Exit::Failed);
    }
    let Some(known) = Known::of(store, g) else {
        return Ok(Exit::Failed);
    };
    match &a.command {
        PolicyCommand::Explain(e) => explained(g, &known, e),
        PolicyCommand::Lint(l) => linted(&known, l),
    }
}

/// Everything that policies are asked about.
pub(super) struct Known {
    /// The objects.
    pub(super) store: Store,
    /// The policies among them.
    pub(super) policies: Policies,
    /// Pods and nodes with their addresses.
    pub(super) inventory: Inventory,
    /// Services, by family.
    pub(super) views: [View; 2],
}

impl Known {
    /// None when findings, already printed, stop the command.
    pub(super) fn of(store: Store, g: &Global) -> Option<Known> {
        let unaddressed = store.pods.iter().any(|(_, pod)| {
            !is_finished(pod)
                && !is_host_network(pod)
                && crate::kube::store::pod_ips(pod).is_empty()
        });
        let (facts, desired) = if unaddressed && !store.nodes.is_empty() {
            let (cluster, mut findings) = Cluster::build(store.clone(), g.seed);
            findings.retain(|f| f.severity != Severity::Note);
            if out::findings(&findings, g.quiet) {
                return None;
            }
            (facts(&cluster), cluster.desired)
        } else {
            let mut facts = Facts::of_store(&store, g.seed);
            // A list of pods alone names nodes that have no object.
            for pod in facts.pods.values().filter(|pod| !pod.node.is_empty()) {
                facts.nodes.entry(pod.node.clone()).or_default();
            }
            let (desired, _): (Desired, _) = run_controllers(&store, &facts, None);
            (facts, desired)
        };
        Some(Known::with(store, &facts, &desired))
    }

    /// Of a cluster that was built.
    pub(super) fn of_cluster(cluster: &Cluster) -> Known {
        Known::with(cluster.store.clone(), &facts(cluster), &cluster.desired)
    }

    fn with(store: Store, facts: &Facts, desired: &Desired) -> Known {
        let (policies, _) = Policies::of(&store);
        let inventory = Inventory::of(&store, facts);
        let views = Family::ALL.map(|family| desired.view(family));
        Known {
            store,
            policies,
            inventory,
            views,
        }
    }

    /// Whose an address is, with the address.
    fn named(&self, ip: IpAddr) -> String {
        match self.inventory.owner(ip) {
            Owner::Pod(pod) => format!("{} ({ip})", pod.name),
            Owner::Node(node) => format!("node/{node} ({ip})"),
            Owner::Outside => ip.to_string(),
        }
    }

    fn pod_ips(&self, name: &Name) -> anyhow::Result<Vec<IpAddr>> {
        let Some(pod) = self.inventory.pod(name) else {
            let names = self.inventory.pods().map(|pod| pod.name.to_string());
            let names: Vec<String> = names.collect();
            let close =
                crate::kube::manifest::closest(&name.to_string(), names.iter().map(String::as_str));
            let help = close.map_or_else(String::new, |name| format!("did you mean {name}?"));
            return Err(out::stop(&name.to_string(), "there is no such pod", help));
        };
        if pod.addresses.is_empty() {
            let why = match pod.finished {
                true => "the pod has ended: it has no address, and no policy is about it",
                false => "the pod has no address yet",
            };
            return Err(out::stop(&name.to_string(), why, ""));
        }
        Ok(pod.addresses.clone())
    }

    fn addresses(&self, target: &Target) -> anyhow::Result<Vec<IpAddr>> {
        let missing =
            |what: &str| out::stop(&target.to_string(), format!("there is no such {what}"), "");
        match &target.peer {
            Peer::Ip(ip) => Ok(vec![*ip]),
            Peer::Pod { namespace, name } => self.pod_ips(&Name::new(namespace, name)),
            Peer::Node(name) => {
                let found = self.inventory.nodes().find(|(own, _)| own == name);
                Ok(found.ok_or_else(|| missing("node"))?.1.addresses.clone())
            }
            Peer::Host(name) => {
                let cluster = self.store.cluster();
                let hosts = cluster.into_iter().flat_map(|c| &c.spec.external_hosts);
                let mut found = hosts.filter(|host| host.name == *name);
                let host = found.next().ok_or_else(|| missing("host"))?;
                Ok(host.addresses.iter().map(|a| a.ip()).collect())
            }
            Peer::Name(_) => Err(out::stop(
                &target.to_string(),
                "names are not looked up here",
                "write a pod, a Service or an address; `podpath dns` looks names up",
            )),
            Peer::Service {
                namespace, name, ..
            } => {
                let name = Name::new(namespace, name);
                let ports = self.service(&name).into_iter();
                let ips: Vec<IpAddr> = ports.map(|s| s.cluster_ip).collect();
                if ips.is_empty() {
                    return Err(missing("Service with a ClusterIP"));
                }
                Ok(ips)
            }
        }
    }

    /// The ports of a Service, of both families.
    fn service(&self, name: &Name) -> Vec<&ServicePort> {
        let all = self.views.iter().flat_map(|view| &view.services);
        all.filter(|s| s.name.service == *name).collect()
    }

    /// The ports that a destination without one offers.
    fn ports(&self, target: &Target, protocol: Option<Protocol>) -> Vec<L4> {
        let fits = |p: &Protocol| protocol.is_none_or(|own| own == *p);
        let mut out: Vec<L4> = match &target.peer {
            Peer::Pod { namespace, name } => {
                let pod = self.store.pod(namespace, name);
                let listen = pod.map(|pod| listen::of_pod(pod).0).unwrap_or_default();
                let ports = listen.ports.iter().map(|l| l.port);
                let ports = ports.filter(|p| fits(&p.protocol));
                ports.map(|p| L4::Port(p.protocol, p.number)).collect()
            }
            Peer::Service {
                namespace,
                name,
                port,
            } => {
                let name = Name::new(namespace, name);
                let wanted = |s: &&ServicePort| port.as_ref().is_none_or(|p| *p == s.name.port);
                let ports = self.service(&name).into_iter().filter(wanted);
                let ports = ports
                    .map(|s| (s.protocol(), s.port))
                    .filter(|(p, _)| fits(p));
                ports
                    .map(|(protocol, port)| L4::Port(protocol, port))
                    .collect()
            }
            Peer::Node(_) | Peer::Host(_) | Peer::Ip(_) | Peer::Name(_) => Vec::new(),
        };
        out.sort_unstable();
        out.dedup();
        out
    }
}

/// What a built cluster knows of pods and nodes.
fn facts(cluster: &Cluster) -> Facts {
    let with_network = cluster.pods.values().filter(|pod| !pod.ips.is_empty());
    let fact = |pod: &crate::cluster::ClusterPod| PodFact {
        ips: pod.ips.clone(),
        node: pod.node.clone(),
    };
    let nodes = cluster.nodes.values();
    Facts {
        pods: with_network
            .map(|pod| (pod.name.clone(), fact(pod)))
            .collect(),
        nodes: nodes
            .map(|n| (n.name.clone(), n.addresses.iter().map(|a| a.ip()).collect()))
            .collect(),
        seed: cluster.seed(),
    }
}

fn explained(g: &Global, known: &Known, a: &PolicyExplainArgs) -> anyhow::Result<Exit> {
    let (from, to) = (trace::target(g, &a.from)?, trace::target(g, &a.to)?);
    if matches!(from.peer, Peer::Service { .. }) {
        return Err(out::stop(
            &a.from,
            "a Service sends nothing",
            "name a pod behind it",
        ));
    }
    let protocol = a.protocol.map(Protocol::from);
    let ports = match to.port {
        Some(port) => vec![L4::Port(protocol_of(known, &to, port, protocol), port)],
        None => known.ports(&to, protocol),
    };
    if ports.is_empty() {
        let help = "write it behind a colon, as in shop/web:8080";
        return Err(out::stop(&a.to, "which port?", help));
    }
    let (froms, tos) = (known.addresses(&from)?, known.addresses(&to)?);
    let wanted = |ip: &&IpAddr| match (a.ipv4, a.ipv6) {
        (true, _) => ip.is_ipv4(),
        (_, true) => ip.is_ipv6(),
        _ => true,
    };
    let pair = froms.iter().filter(wanted).find_map(|from| {
        let to = tos.iter().find(|to| to.is_ipv4() == from.is_ipv4())?;
        Some((*from, *to))
    });
    let Some((source, target)) = pair else {
        return Err(out::stop(
            &a.to,
            "the two have no address of one family",
            "",
        ));
    };
    let (policies, enforced) = enforced(known);
    let mut documents = Vec::new();
    let (mut all_allowed, mut o) = (true, anstream::stdout());
    for (index, l4) in ports.iter().enumerate() {
        let explained = ways_explained(known, &policies, source, target, *l4)?;
        all_allowed &= !explained.is_empty() && explained.iter().all(|e| e.allowed);
        let asked = text::Asked {
            from: from.to_string(),
            to: Target {
                peer: to.peer.clone(),
                port: None,
            }
            .to_string(),
            port: l4.to_string(),
            enforced: enforced.clone(),
        };
        let named = |ip| known.named(ip);
        match a.output {
            Format::Text => {
                let gap = if index > 0 { "\n" } else { "" };
                write!(o, "{gap}{}", text::text(&asked, &explained, &named))?;
            }
            Format::Json => documents.push(text::json(&asked, &explained, &named)),
        }
    }
    if a.output == Format::Json {
        let document = match <[Value; 1]>::try_from(documents) {
            Ok([one]) => one,
            Err(many) => Value::Array(many),
        };
        writeln!(o, "{document:#}")?;
    }
    Ok(if all_allowed {
        Exit::Clean
    } else {
        Exit::Findings
    })
}

/// The protocol as typed; else what the Service says of the port; else TCP.
fn protocol_of(known: &Known, to: &Target, port: u16, typed: Option<Protocol>) -> Protocol {
    let of_service = || match &to.peer {
        Peer::Service {
            namespace, name, ..
        } => {
            let ports = known.service(&Name::new(namespace, name));
            ports.iter().find(|s| s.port == port).map(|s| s.protocol())
        }
        _ => None,
    };
    typed.or_else(of_service).unwrap_or(Protocol::Tcp)
}

/// The policies that the cluster's agent implements, and what is to be said of it.
fn enforced(known: &Known) -> (Policies, text::Enforced) {
    let mut policies = known.policies.clone();
    let Some(spec) = known.store.cluster().map(|c| &c.spec) else {
        return (policies, text::Enforced::Unknown);
    };
    let agent = match spec.enforcement() {
        Enforcement::None => return (policies, text::Enforced::Nobody(spec.cni.plugin)),
        Enforcement::Calico => "calico",
        Enforcement::Nftables => "nftables",
        Enforcement::KubeRouter => "kube-router",
    };
    let mut ignored: Vec<PolicyKey> = Vec::new();
    if spec.enforcement() == Enforcement::KubeRouter {
        let others = policies.iter().map(|p| &p.key);
        let others = others.filter(|k| k.kind != Kind::NetworkPolicy);
        ignored = others.cloned().collect();
        for key in &ignored {
            policies.remove(key);
        }
    }
    (policies, text::Enforced::By { agent, ignored })
}

/// Each different way, explained: endpoints with the same answers are one.
fn ways_explained(
    known: &Known,
    policies: &Policies,
    from: IpAddr,
    to: IpAddr,
    l4: L4,
) -> anyhow::Result<Vec<Explanation>> {
    let family = Family::of(to);
    let view = known
        .views
        .get(usize::from(family == Family::V6))
        .context("a family")?;
    let mut evaluator = Evaluator::new(policies, &known.inventory);
    let cluster = known.store.cluster().map(|c| readings(&c.spec));
    let (options, seen) = cluster.unwrap_or_default();
    evaluator.options = options;
    let dialled = match l4 {
        L4::Port(_, port) => Some(port),
        L4::Other => None,
    };
    let ways = ways(&known.inventory, view, from, to, l4);
    let mut out: Vec<Explanation> = Vec::new();
    for way in ways {
        let way = &way.seen(seen);
        let dialled = dialled.filter(|_| way.service.is_some());
        let one = explain(&evaluator, way, dialled);
        match out.iter_mut().find(|other| other.is_alike(&one)) {
            Some(other) => other.alike += 1,
            None => out.push(one),
        }
    }
    Ok(out)
}

impl From<PortProtocol> for Protocol {
    fn from(protocol: PortProtocol) -> Protocol {
        match protocol {
            PortProtocol::Tcp => Protocol::Tcp,
            PortProtocol::Udp => Protocol::Udp,
            PortProtocol::Sctp => Protocol::Sctp,
        }
    }
}

fn linted(known: &Known, a: &PolicyLintArgs) -> anyhow::Result<Exit> {
    let lints = lint(&Linted {
        store: &known.store,
        policies: &known.policies,
        inventory: &known.inventory,
        views: &known.views,
    });
    let text = match a.output {
        Format::Text => policy_lint::text(&lints, known.policies.len()),
        Format::Json => format!("{:#}\n", policy_lint::json(&lints, known.policies.len())),
    };
    write!(anstream::stdout(), "{text}")?;
    let findings: Vec<&Finding> = lints.iter().map(|l| &l.finding).collect();
    Ok(if findings.is_empty() {
        Exit::Clean
    } else {
        Exit::Findings
    })
}
