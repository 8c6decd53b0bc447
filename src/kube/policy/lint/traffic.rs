//! What policies do to traffic that people forget: DNS, Services' ports and addresses, ranges with pods in
//! them, and a CNI that enforces none of it.

use std::net::IpAddr;

use super::{LintKind, Lints};
use crate::base::Span;
use crate::kube::podpath_v1alpha1::Enforcement;
use crate::kube::policy::eval::Evaluator;
use crate::kube::policy::model::{
    Direction, PeerKind, Policy, PolicyKey, PortKind, Ports, Rule, Tier,
};
use crate::kube::policy::pods::PolicyPod;
use crate::kube::policy::verdict::{L4, Query, Why};
use crate::kube::service::{Protocol, ServicePort};

const DNS: u16 = 53;

pub(super) fn check(lints: &mut Lints<'_, '_>) {
    enforced(lints);
    dns(lints);
    for policy in lints.on.policies.iter() {
        for direction in Direction::ALL {
            for rule in policy.rules(direction).unwrap_or_default() {
                blocks(lints, policy, direction, rule);
                if direction == Direction::Ingress {
                    service_ports(lints, policy, rule);
                }
            }
        }
    }
}

fn enforced(lints: &mut Lints<'_, '_>) {
    let Some(cluster) = lints.on.store.cluster() else {
        return;
    };
    let count = lints.on.policies.len();
    match cluster.spec.enforcement() {
        Enforcement::None if count > 0 => {
            let plugin = cluster.spec.cni.plugin;
            let span: Span = cluster.source.span_of("spec.cni");
            let message = format!(
                "{count} policies are there, and nobody enforces them: no agent runs beside {plugin}"
            );
            let help = "run one (Calico's Felix, kube-router) and name it in \
                spec.networkPolicy.enforcement";
            lints.say_all(LintKind::NotEnforced, span, message, help);
        }
        Enforcement::KubeRouter => {
            let all = lints.on.policies.iter();
            for policy in all.filter(|p| p.tier != Tier::NetworkPolicy) {
                let message = "kube-router implements NetworkPolicy only: nobody enforces this";
                let help = "run another agent, or write NetworkPolicies";
                lints.say(LintKind::NotEnforced, policy, "", message.into(), help);
            }
        }
        Enforcement::None | Enforcement::Calico | Enforcement::Nftables => {}
    }
}

/// Pods that serve DNS, as kubeadm and most distributions label them.
fn is_dns(pod: &PolicyPod) -> bool {
    let app = ["k8s-app", "app.kubernetes.io/name"]
        .iter()
        .find_map(|key| pod.labels.get(*key));
    let known =
        app.is_some_and(|app| matches!(app.as_str(), "kube-dns" | "coredns" | "rke2-coredns"));
    pod.is_selectable() && pod.name.namespace == "kube-system" && known
}

/// For each policy that isolates pods for egress: one of them asks DNS.
fn dns(lints: &mut Lints<'_, '_>) {
    let evaluator = Evaluator::new(lints.on.policies, lints.on.inventory);
    let servers: Vec<&PolicyPod> = lints.on.inventory.pods().filter(|p| is_dns(p)).collect();
    let mut told: Vec<PolicyKey> = Vec::new();
    let mut found = Vec::new();
    for pod in lints
        .on
        .inventory
        .pods()
        .filter(|pod| pod.is_selectable() && !is_dns(pod))
    {
        let isolating = evaluator.selecting(pod, Tier::NetworkPolicy);
        let mut isolating = isolating.into_iter().filter(|p| p.egress.is_some());
        let Some(policy) = isolating.find(|p| !told.contains(&p.key)) else {
            continue;
        };
        // Who may send nothing at all was hardly meant to resolve names.
        if evaluator
            .selecting(pod, Tier::NetworkPolicy)
            .iter()
            .all(|p| p.egress.as_ref().is_none_or(Vec::is_empty))
        {
            continue;
        }
        let asks = |protocol| {
            let to: Vec<IpAddr> = servers.iter().flat_map(|s| s.addresses.clone()).collect();
            answers(&evaluator, pod, &to, protocol)
        };
        let kind = match (asks(Protocol::Udp), asks(Protocol::Tcp)) {
            (Some(false), _) => LintKind::DnsForgotten,
            (Some(true), Some(false)) => LintKind::DnsUdpOnly,
            (None, _) if !says_dns(&evaluator, pod) => LintKind::DnsForgotten,
            _ => continue,
        };
        told.push(policy.key.clone());
        found.push((kind, policy, pod.name.clone()));
    }
    for (kind, policy, pod) in found {
        let (message, help) = match kind {
            LintKind::DnsUdpOnly => (
                format!("{pod} may ask DNS over UDP but not over TCP: long answers never arrive"),
                "allow TCP port 53 as well",
            ),
            _ => (
                format!("{pod} may not ask DNS (UDP port 53): it resolves no name any more"),
                "add an egress rule to kube-system's DNS pods, UDP and TCP port 53",
            ),
        };
        lints.say(kind, policy, "spec.egress", message, help);
    }
}

/// Whether all servers of the pod's families may be asked; none when there are none.
fn answers(
    evaluator: &Evaluator<'_>,
    pod: &PolicyPod,
    servers: &[IpAddr],
    protocol: Protocol,
) -> Option<bool> {
    let mut asked = None;
    for from in &pod.addresses {
        for to in servers.iter().filter(|to| to.is_ipv4() == from.is_ipv4()) {
            let query = Query::new(*from, *to, L4::Port(protocol, DNS));
            let side = evaluator.side(&query, Direction::Egress);
            let open = side.allowed || !matches!(side.why, Why::Isolated(_));
            asked = Some(asked.unwrap_or(true) && open);
        }
    }
    asked
}

/// Without DNS pods at hand: whether any egress rule of the pod has UDP port 53.
fn says_dns(evaluator: &Evaluator<'_>, pod: &PolicyPod) -> bool {
    let policies = evaluator.selecting(pod, Tier::NetworkPolicy);
    let mut rules = policies.iter().flat_map(|p| p.egress.iter().flatten());
    rules.any(|rule| match &rule.ports {
        Ports::All => true,
        Ports::List(list) => list.iter().any(|port| match &port.what {
            PortKind::Range {
                protocol,
                first,
                last,
            } => *protocol == Protocol::Udp && (*first..=*last).contains(&DNS),
            PortKind::Named { protocol, .. } => protocol.is_none_or(|p| p == Protocol::Udp),
        }),
    })
}

/// Ranges with pods or Services in them. A range of everything is meant so.
fn blocks(lints: &mut Lints<'_, '_>, policy: &Policy, direction: Direction, rule: &Rule) {
    let (list, field) = direction.fields();
    for (n, peer) in rule.peers.list().iter().enumerate() {
        let PeerKind::Block(block) = &peer.who else {
            continue;
        };
        if block.cidr.prefix() == 0 {
            continue;
        }
        let path = format!("spec.{list}[{}].{field}[{n}]", rule.index);
        let pods = lints.on.inventory.pods().filter(|p| p.is_selectable());
        let inside = |p: &&PolicyPod| p.addresses.iter().any(|ip| block.contains(*ip));
        let inside: Vec<&PolicyPod> = pods.filter(inside).collect();
        if let Some(first) = inside.first() {
            let message = match inside.len() {
                1 => format!("{block} has the address of pod {}", first.name),
                n => format!(
                    "{block} has the addresses of {n} pods, {} is one",
                    first.name
                ),
            };
            let help = "pods' addresses change, and some plugins do not hold them against ranges: \
                select pods by label";
            lints.say(LintKind::BlockCoversPods, policy, &path, message, help);
        }
        if direction == Direction::Ingress {
            continue;
        }
        let services = lints.on.views.iter().flat_map(|view| &view.services);
        let mut covered = services.filter(|s| block.contains(s.cluster_ip));
        if let Some(service) = covered.next().map(|s| s.name.service.clone()) {
            let message =
                format!("{block} has the ClusterIP of Service {service}, which policies never see");
            let help = "policies see the pods behind a Service: select those";
            lints.say(LintKind::BlockCoversServices, policy, &path, message, help);
        }
    }
}

/// Ports of an ingress rule that are a Service's and not its pods'.
fn service_ports(lints: &mut Lints<'_, '_>, policy: &Policy, rule: &Rule) {
    let Ports::List(ports) = &rule.ports else {
        return;
    };
    let allowed = |protocol: Protocol, number: u16| {
        ports.iter().any(|port| match &port.what {
            PortKind::Range {
                protocol: own,
                first,
                last,
            } => *own == protocol && (*first..=*last).contains(&number),
            PortKind::Named { .. } => false,
        })
    };
    let field = match policy.key.kind {
        crate::kube::policy::Kind::ClusterNetworkPolicy => "protocols",
        _ => "ports",
    };
    let path = format!("spec.ingress[{}].{field}", rule.index);
    let mut told: Vec<String> = Vec::new();
    for view in lints.on.views {
        for service in &view.services {
            let Some((pod, target)) = mistaken(lints, policy, service, view, &allowed) else {
                continue;
            };
            let message = format!(
                "allows port {} of Service {}, but {pod} listens on {target}: policies see the pod's port",
                service.port, service.name.service
            );
            if !told.contains(&message) {
                told.push(message.clone());
                lints.say(
                    LintKind::ServicePort,
                    policy,
                    &path,
                    message,
                    "write the targetPort",
                );
            }
        }
    }
}

fn mistaken(
    lints: &Lints<'_, '_>,
    policy: &Policy,
    service: &ServicePort,
    view: &crate::kube::proxy::View,
    allowed: &dyn Fn(Protocol, u16) -> bool,
) -> Option<(String, u16)> {
    let protocol = service.protocol();
    if !allowed(protocol, service.port) {
        return None;
    }
    let endpoints = view.endpoints.get(&service.name)?;
    endpoints.iter().find_map(|endpoint| {
        if endpoint.port == service.port || allowed(protocol, endpoint.port) {
            return None;
        }
        let evaluator = Evaluator::new(lints.on.policies, lints.on.inventory);
        let pod = evaluator.pod_at(endpoint.ip)?;
        let subject = pod.is_in(&policy.subject, &pod.namespace_labels);
        // The pod may itself listen on the Service's port for others.
        let own = pod
            .ports
            .iter()
            .any(|p| p.number == service.port && p.protocol == protocol);
        (subject && !own).then(|| (pod.name.to_string(), endpoint.port))
    })
}
