//! Which pods are DNS servers, and what they are started with.
//!
//! CoreDNS: pods of kube-system labelled `k8s-app: kube-dns`, with the Corefile of ConfigMap
//! kube-system/coredns. NodeLocal DNSCache: hostNetwork pods labelled `k8s-app: node-local-dns`, with that of
//! ConfigMap kube-system/node-local-dns, its `__PILLAR__` words replaced, a dummy device `nodelocaldns` with
//! its `-localip` addresses, and NOTRACK rules (kubernetes/dns cmd/node-cache/app/cache_app.go,
//! `initIptables`, `setupNetworking`). Invariant: without a Corefile no pod serves DNS.

use super::Taken;
use super::coredns::{CoreDns, both};
use crate::base::{Finding, Origin, Severity};
use crate::cluster::change::run_command;
use crate::cluster::{Cluster, ClusterPod};
use crate::kube::dns::{Corefile, Environment, Objects, Surroundings};
use crate::kube::store::{Name, is_finished};
use crate::lab::PlayerId;
use std::net::IpAddr;

/// A DNS server of the cluster.
#[derive(Clone, Debug)]
pub struct DnsServer {
    /// Its pod.
    pub pod: Name,
    pub(super) player: PlayerId,
    /// Whether the pod was last told to be ready.
    pub(super) ready: bool,
    /// What its Corefile was made of last.
    config: Config,
    /// NodeLocal DNSCache, with these addresses.
    local: Option<Vec<IpAddr>>,
}

/// A Corefile's text and the files beside it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Config {
    text: String,
    files: Vec<(String, String)>,
}

/// Unix time at which virtual time begins: 2026-01-01.
const UNIX: u32 = 1_767_225_600;

/// Starts them all.
pub(super) fn start(c: &mut Cluster, taken: &mut Taken, findings: &mut Vec<Finding>) {
    let labelled = |app: &str| -> Vec<(Name, ClusterPod)> {
        let pods = c.store.pods.iter().filter(|(n, p)| {
            let labels = p.metadata.labels.as_ref();
            let own = labels.and_then(|l| l.get("k8s-app"));
            n.namespace == "kube-system" && own.is_some_and(|l| l == app) && !is_finished(p)
        });
        pods.filter_map(|(n, _)| Some((n.clone(), c.pods.get(n)?.clone())))
            .collect()
    };
    let (coredns, local) = (labelled("kube-dns"), labelled("node-local-dns"));
    for (name, pod) in coredns {
        if let Some(config) = config(c, None) {
            serve(c, &pod, name, (config, None), taken, findings);
        }
    }
    for (name, pod) in local {
        let own = local_addresses(c, &name);
        if let Some(config) = config(c, Some(&own)) {
            node_local(c, &pod, &own, findings);
            serve(c, &pod, name, (config, Some(own)), taken, findings);
        }
    }
    learn(c);
}

/// Tells every server the cluster as it is.
pub(super) fn learn(c: &mut Cluster) {
    if c.dns.is_empty() {
        return;
    }
    // A pod without a status has the address that it was given here.
    let given = |name: &Name| c.pods.get(name).and_then(|p| p.ips.first().copied());
    let pods = c.store.pods_with(&given);
    let desired = &c.desired;
    let slices = &desired.endpoint_slices;
    let objects = Objects::new(&desired.services, slices, &c.store.namespaces, &pods);
    let now = c.lab.now();
    for server in c.dns.clone() {
        if let Some(p) = process(c, server.player) {
            p.learn(now, &objects);
        }
    }
}

/// A server's process.
pub(super) fn process(c: &mut Cluster, id: PlayerId) -> Option<&mut CoreDns> {
    c.lab.player_mut(id)?.as_any_mut().downcast_mut::<CoreDns>()
}

/// Hands every server its Corefile where that is another now; what is wrong with it.
pub(super) fn configure(c: &mut Cluster) -> Vec<Finding> {
    let mut findings = Vec::new();
    for i in 0..c.dns.len() {
        let Some(server) = c.dns.get(i).cloned() else {
            continue;
        };
        // A ConfigMap that is deleted stays in the pod's volume.
        let Some(config) = config(c, server.local.as_deref()) else {
            continue;
        };
        if config == server.config {
            continue;
        }
        let (corefile, environment, found) = make(c, &server.pod, &config);
        if let Some(s) = c.dns.get_mut(i) {
            s.config = config;
        }
        let now = c.lab.now();
        if let Some(p) = process(c, server.player) {
            let more = p.configure(now, corefile, environment);
            // One Corefile, however many read it.
            if findings.is_empty() {
                let told = |mut f: Finding| {
                    // The process that has the old one goes on.
                    f.severity = f.severity.min(Severity::Warning);
                    f
                };
                findings.extend(found.into_iter().chain(more).map(told));
            }
        }
    }
    findings
}

/// The key `Corefile` of the ConfigMap that a server reads, and the others as files beside it.
fn config(c: &Cluster, local: Option<&[IpAddr]>) -> Option<Config> {
    let name = local.map_or("coredns", |_| "node-local-dns");
    let all = c.store.config_maps.values();
    let mut all = all.filter(|m| m.name.namespace == "kube-system" && m.name.name == name);
    let data = all.next()?.data.as_ref()?;
    let text = data
        .get("Corefile")
        .or_else(|| data.get("Corefile.base"))?
        .clone();
    let files = data
        .iter()
        .map(|(k, v)| (format!("/etc/coredns/{k}"), v.clone()));
    Some(Config {
        text: match local {
            Some(own) => pillars(c, &text, own),
            None => text,
        },
        files: files.collect(),
    })
}

/// What a server of a pod is started with.
fn make(c: &Cluster, name: &Name, config: &Config) -> (Corefile, Environment, Vec<Finding>) {
    let dns = c.pod_dns(&name.namespace, &name.name).unwrap_or_default();
    let pod = c.pods.get(name);
    let mut around = Surroundings::default();
    around.files.extend(config.files.iter().cloned());
    around.files.insert("/etc/resolv.conf".into(), dns.text());
    let (corefile, found) = Corefile::parse("Corefile", &config.text, &around);
    let environment = Environment {
        around,
        addresses: pod.map(|p| p.ips.clone()).unwrap_or_default(),
        search: dns.searches,
        unix: UNIX,
        seed: c.seed() ^ pod.map_or(0, |p| u64::from(p.ns.0)),
        ..Environment::default()
    };
    (corefile, environment, found)
}

fn serve(
    c: &mut Cluster,
    pod: &ClusterPod,
    name: Name,
    (config, local): (Config, Option<Vec<IpAddr>>),
    taken: &mut Taken,
    findings: &mut Vec<Finding>,
) {
    let (corefile, environment, found) = make(c, &name, &config);
    findings.extend(found);
    let (mut process, found) = CoreDns::new(corefile, environment, Vec::new());
    findings.extend(found);
    let ports = process.ports();
    let addresses: Vec<Option<IpAddr>> = match &local {
        Some(own) => own.iter().copied().map(Some).collect(),
        None => vec![None],
    };
    let each = addresses.iter();
    let listen: Vec<_> = each
        .flat_map(|addr| ports.iter().flat_map(|port| both(*addr, *port)))
        .collect();
    process.listens(listen.clone());
    match c.lab.add_player(pod.ns, Box::new(process), &listen) {
        Ok(player) => {
            taken.extend(listen.iter().map(|(_, p, n)| (pod.ns, *p, *n)));
            c.dns.push(DnsServer {
                pod: name,
                player,
                ready: true,
                config,
                local,
            });
        }
        Err(e) => {
            let at = c
                .store
                .pods
                .get(&name)
                .map(|p| p.source.span_of("metadata.name"));
            let message = format!("{name} cannot listen on its DNS port: {e}");
            let help = "another server of the same namespace has it";
            findings.push(Finding::warning(at.unwrap_or_default(), message, help));
        }
    }
}

/// The addresses of `-localip`; 169.254.20.10 without one.
fn local_addresses(c: &Cluster, name: &Name) -> Vec<IpAddr> {
    let spec = c.store.pods.get(name).and_then(|p| p.spec.as_ref());
    let containers = spec.iter().flat_map(|s| &s.containers);
    let args: Vec<&String> = containers.flat_map(|c| c.args.iter().flatten()).collect();
    let at = args
        .iter()
        .position(|a| a.trim_start_matches('-') == "localip");
    let list = at.and_then(|i| args.get(i + 1)).map(|s| s.as_str());
    let text = list.unwrap_or("169.254.20.10");
    let text = match text.contains("__PILLAR__") {
        true => "169.254.20.10",
        false => text,
    };
    text.split(',')
        .filter_map(|ip| ip.trim().parse().ok())
        .collect()
}

/// The words that node-cache and its installer replace in the Corefile.
fn pillars(c: &Cluster, text: &str, own: &[IpAddr]) -> String {
    let service = |name: &str| {
        let of = |n: &&Name| n.namespace == "kube-system" && n.name == name;
        let found = c.desired.services.iter().find(|(n, _)| of(n))?;
        found.1.spec.as_ref()?.cluster_ip.clone()
    };
    let upstream = service("kube-dns-upstream").unwrap_or_default();
    let node = c
        .nodes
        .keys()
        .next()
        .map(String::as_str)
        .unwrap_or_default();
    let domain = c.kubelet_dns(node).cluster_domain;
    let all: Vec<String> = own.iter().map(ToString::to_string).collect();
    text.replace("__PILLAR__CLUSTER__DNS__", &upstream)
        .replace("__PILLAR__UPSTREAM__SERVERS__", "/etc/resolv.conf")
        .replace("__PILLAR__DNS__DOMAIN__", &domain)
        .replace("__PILLAR__LOCAL__DNS__", &all.join(" "))
        .replace("__PILLAR__DNS__SERVER__", "")
}

/// The device and the rules that NodeLocal DNSCache lays on its node.
fn node_local(c: &mut Cluster, pod: &ClusterPod, own: &[IpAddr], findings: &mut Vec<Finding>) {
    let mut lines = vec![
        "ip link add nodelocaldns type dummy".to_owned(),
        "ip link set nodelocaldns up".to_owned(),
    ];
    for ip in own {
        let (tool, bits) = if ip.is_ipv4() {
            ("iptables", 32)
        } else {
            ("ip6tables", 128)
        };
        lines.push(format!("ip addr add {ip}/{bits} dev nodelocaldns"));
        for l4 in ["udp", "tcp"] {
            let note = "-m comment --comment \"NodeLocal DNS Cache: skip conntrack\"";
            let allow = "-m comment --comment \"NodeLocal DNS Cache: allow DNS traffic\"";
            for rule in [
                format!("-t raw -A PREROUTING -d {ip} -p {l4} --dport 53 {note} -j NOTRACK"),
                format!("-t raw -A OUTPUT -d {ip} -p {l4} --dport 53 {note} -j NOTRACK"),
                format!("-t raw -A OUTPUT -s {ip} -p {l4} --sport 53 {note} -j NOTRACK"),
                format!("-t filter -A INPUT -d {ip} -p {l4} --dport 53 {allow} -j ACCEPT"),
                format!("-t filter -A OUTPUT -s {ip} -p {l4} --sport 53 {allow} -j ACCEPT"),
            ] {
                lines.push(format!("{tool} {rule}"));
            }
        }
    }
    let at = c
        .store
        .pods
        .get(&pod.name)
        .map(|p| p.source.span_of("metadata.name"));
    let at = at.unwrap_or_default();
    for line in lines {
        let origin = Origin::Scenario(format!("{}: {line}", pod.name).into());
        if let Err(f) = run_command(c, pod.ns, &line, &at, origin) {
            findings.push(f);
        }
    }
}
