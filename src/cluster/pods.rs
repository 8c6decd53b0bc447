//! Attaching pods: a namespace each and the CNI's ADD, as kubelet and the runtime do it.
//!
//! A pod whose status names addresses asks for exactly those; where the plugin refuses, that is said and
//! the plugin's own choice is taken. Pods with addresses go first, so that nobody takes theirs.

use crate::base::{Finding, NsId, Origin};
use crate::cluster::build::Builder;
use crate::cluster::{ClusterNode, ClusterPod};
use crate::kube::cni::calico;
use crate::kube::cni::list::RuntimeConf;
use crate::kube::cni::{CniState, Host, Namespaces, NetworkList, Registry};
use crate::kube::store::{Name, is_finished, is_host_network, pod_ips};
use crate::net::{NetNs, Scope};
use crate::sim::World;
use crate::wire::MacAddr;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// `namespace/name`.
pub(super) fn display(n: &Name) -> String {
    n.to_string()
}

/// One node's namespaces inside the world.
pub(super) struct NodeView<'a> {
    pub world: &'a mut World,
    pub node: NsId,
    pub paths: &'a BTreeMap<String, NsId>,
}

impl Namespaces for NodeView<'_> {
    fn node(&self) -> NsId {
        self.node
    }
    fn by_path(&self, path: &str) -> Option<NsId> {
        self.paths.get(path).copied()
    }
    fn get(&self, id: NsId) -> Option<&NetNs> {
        self.world.ns(id)
    }
    fn get_mut(&mut self, id: NsId) -> Option<&mut NetNs> {
        self.world.ns_mut(id)
    }
}

/// A pod that is to be attached.
struct Candidate {
    name: Name,
    node: String,
    ips: Vec<IpAddr>,
    host_network: bool,
}

/// Attaches every pod that is on a node and still runs. `network` gives a node's conflist.
pub(super) fn attach_all(b: &mut Builder, network: &dyn Fn(&ClusterNode) -> Option<NetworkList>) {
    let plugins = Registry::standard();
    let lists: BTreeMap<String, Option<NetworkList>> =
        b.c.nodes
            .values()
            .map(|n| (n.name.clone(), network(n)))
            .collect();
    let mut todo = candidates(b);
    todo.sort_by_key(|c| (c.ips.is_empty(), c.name.clone()));
    for c in todo {
        if c.host_network {
            host_pod(b, c);
        } else if let Some(Some(list)) = lists.get(&c.node) {
            attach(b, c, list, &plugins);
        }
    }
}

fn candidates(b: &mut Builder) -> Vec<Candidate> {
    let only = (b.c.nodes.len() == 1)
        .then(|| b.c.nodes.keys().next().cloned())
        .flatten();
    let mut out = Vec::new();
    for p in b.c.store.pods.values() {
        if is_finished(p) {
            continue;
        }
        let named = p.spec.as_ref().and_then(|s| s.node_name.clone());
        let Some(node) = named.or_else(|| only.clone()) else {
            b.findings.push(Finding::warning(
                p.source.span_of("metadata.name"),
                format!(
                    "pod {} is on no node (spec.nodeName is empty): it has no network",
                    p.name
                ),
                "set spec.nodeName; scheduling is not modelled yet",
            ));
            continue;
        };
        if b.c.nodes.contains_key(&node) {
            let host_network = is_host_network(p);
            out.push(Candidate {
                name: p.name.clone(),
                node,
                ips: pod_ips(p),
                host_network,
            });
        }
    }
    out
}

fn host_pod(b: &mut Builder, c: Candidate) {
    let Some(n) = b.c.nodes.get(&c.node) else {
        return;
    };
    let ips = n.addresses.iter().map(|a| a.ip()).collect();
    let pod = ClusterPod {
        name: c.name.clone(),
        ns: n.ns,
        node: c.node,
        ips,
        host_network: true,
    };
    b.c.pods.insert(c.name, pod);
}

fn attach(b: &mut Builder, c: Candidate, list: &NetworkList, plugins: &Registry) {
    let Some(node) = b.c.nodes.get(&c.node) else {
        return;
    };
    let (node_ns, node_id) = (node.ns, node.id);
    let path = format!("/var/run/netns/{}", c.name.to_string().replace('/', "_"));
    let ns = b.c.lab.world.add_ns(c.name.to_string(), node_id);
    let _ = b.c.lab.world.edit(ns, |e| {
        // kubelet's pause container: lo is up; duplicate address detection is over.
        let _ = e.sysctl_set("net.ipv6.conf.all.accept_dad", "0");
        let lo = e.find("lo").ok();
        lo.map(|l| e.set_up(l, true))
    });
    let paths = BTreeMap::from([(path.clone(), ns)]);
    let wanted = c.ips.clone();
    let mut done = add(b, &c, &wanted, list, plugins, &paths, node_ns, &path);
    if let (Err(e), false) = (&done, wanted.is_empty()) {
        let at =
            b.c.store
                .pods
                .get(&c.name)
                .map(|p| p.source.span_of("status.podIP"))
                .unwrap_or_default();
        let text = format!(
            "pod {}: its address {} is not one the CNI would give: {e}",
            c.name,
            list_ips(&wanted)
        );
        b.findings.push(Finding::warning(
            at,
            text,
            "another address was allocated; check podCIDR, pools and status.podIPs",
        ));
        done = add(b, &c, &[], list, plugins, &paths, node_ns, &path);
    }
    if let Err(e) = done {
        let at =
            b.c.store
                .pods
                .get(&c.name)
                .map(|p| p.source.span_of("metadata.name"))
                .unwrap_or_default();
        let text = format!("pod {} on {}: the CNI's ADD failed: {e}", c.name, c.node);
        b.findings.push(Finding::warning(
            at,
            text,
            "the pod would stay in ContainerCreating; it has no network here",
        ));
    }
    let notes =
        b.c.store
            .pods
            .get(&c.name)
            .and_then(|p| p.metadata.annotations.as_ref());
    if let Some(mac) = notes.and_then(stated_mac) {
        // A pod whose attachment failed has no eth0; that was said above.
        let _ = b.c.lab.world.edit(ns, |e| {
            let dev = e.find("eth0")?;
            e.set_mac(dev, mac)
        });
    }
    let ips = b.c.lab.world.ns(ns).map(addresses).unwrap_or_default();
    let pod = ClusterPod {
        name: c.name.clone(),
        ns,
        node: c.node,
        ips,
        host_network: false,
    };
    b.c.pods.insert(c.name, pod);
}

/// The MAC of `eth0` that the network-status annotation names (Kubernetes Network Plumbing Working Group,
/// Multi-Network spec section 3.4): the only place in the API where a pod's link address stands.
fn stated_mac(notes: &BTreeMap<String, String>) -> Option<MacAddr> {
    let text = notes.get("k8s.v1.cni.cncf.io/network-status")?;
    let all: serde_json::Value = serde_json::from_str(text).ok()?;
    let of = |v: &serde_json::Value, k: &str| v.get(k).and_then(|s| s.as_str()).map(str::to_owned);
    let eth0 = all
        .as_array()?
        .iter()
        .find(|n| of(n, "interface").as_deref() == Some("eth0"))?;
    of(eth0, "mac")?.parse().ok()
}

fn list_ips(ips: &[IpAddr]) -> String {
    ips.iter()
        .map(IpAddr::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// A pod's own addresses, IPv4 first.
fn addresses(ns: &NetNs) -> Vec<IpAddr> {
    let all = ns
        .devices()
        .flat_map(|d| &d.addrs)
        .filter(|a| a.scope == Scope::Universe);
    let mut v: Vec<IpAddr> = all.map(|a| a.ip()).collect();
    v.sort_by_key(|a| a.is_ipv6());
    v
}

#[allow(clippy::too_many_arguments)] // one attachment's particulars
fn add(
    b: &mut Builder,
    c: &Candidate,
    ips: &[IpAddr],
    list: &NetworkList,
    plugins: &Registry,
    paths: &BTreeMap<String, NsId>,
    node_ns: NsId,
    path: &str,
) -> Result<(), String> {
    let Some(node) = b.c.nodes.get_mut(&c.node) else {
        return Err("no such node".into());
    };
    // The world is borrowed by the view, the node's state by the host: they are different fields.
    let mut state = std::mem::replace(&mut node.cni, CniState::new(0));
    let mut results = std::mem::take(&mut node.results);
    let origin =
        b.c.store
            .pods
            .get(&c.name)
            .map(|p| p.source.origin())
            .unwrap_or_default();
    let mut view = NodeView {
        world: &mut b.c.lab.world,
        node: node_ns,
        paths,
    };
    let who = Origin::controller("cni", format!("pod {} ({origin})", c.name));
    let mut host = Host::new(&mut view, &mut state, plugins, who);
    host.calico = b.c.calico.as_mut();
    let (list, rt) = request(c, ips, list, path);
    let (_, done) = list.add(&rt, &mut host, &mut results);
    if done.is_err() {
        let _ = list.del(&rt, &mut host, &mut results);
    }
    let done = done.map(|_| ()).map_err(|e| e.to_string());
    if let Some(node) = b.c.nodes.get_mut(&c.node) {
        node.cni = state;
        node.results = results;
    }
    done
}

/// The runtime's call: wanted addresses go through the `ips` capability, which a conflist must announce
/// to get them (containernetworking/cni CONVENTIONS.md), and through Calico's own annotation argument.
fn request(
    c: &Candidate,
    ips: &[IpAddr],
    list: &NetworkList,
    path: &str,
) -> (NetworkList, RuntimeConf) {
    let mut list = list.clone();
    let mut rt = RuntimeConf {
        container_id: c.name.to_string().replace('/', "_"),
        netns: path.to_owned(),
        ifname: "eth0".into(),
        args: format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={}",
            c.name.namespace, c.name.name
        ),
        ..RuntimeConf::default()
    };
    if ips.is_empty() {
        return (list, rt);
    }
    let calico = list
        .plugins
        .iter()
        .any(|p| p.get("type").and_then(|t| t.as_str()) == Some("calico"));
    if calico {
        let all: Vec<String> = ips.iter().map(IpAddr::to_string).collect();
        rt.args.push_str(&match all.as_slice() {
            [one] => format!(";IP={one}"),
            _ => format!(";{}={}", calico::plugin::ADDRESSES, all.join(",")),
        });
        return (list, rt);
    }
    if let Some(main) = list.plugins.first_mut() {
        let caps = main
            .entry("capabilities")
            .or_insert_with(|| serde_json::json!({}));
        if let Some(o) = caps.as_object_mut() {
            o.insert("ips".into(), true.into());
        }
    }
    let texts: Vec<serde_json::Value> = ips.iter().map(|i| i.to_string().into()).collect();
    rt.capabilities
        .insert("ips".into(), serde_json::Value::Array(texts));
    (list, rt)
}
