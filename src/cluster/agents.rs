//! Which CNI runs, what its node agent lays, and the network its pods are attached by.
//!
//! Real configuration wins: the kube-flannel-cfg ConfigMap, Calico's IPPools, a conflist in the Cluster
//! document. Where it is absent, the plugin's usual one is written from the Cluster document's fields.

use crate::base::{Finding, Instant, Origin, Span};
use crate::cluster::ClusterNode;
use crate::cluster::build::Builder;
use crate::cluster::pods;
use crate::kube::cni::calico::{self, CalicoNode, Encap, IpPool, Ipam};
use crate::kube::cni::docker::{Docker, Generation};
use crate::kube::cni::flannel::{self, FlannelNode, NetConf, RuleOptions};
use crate::kube::cni::host::random_mac;
use crate::kube::cni::iptables::{self, RuleOp};
use crate::kube::cni::kindnet::{self, KindnetNode};
use crate::kube::cni::plan::{LinkOp, Mode, RouteSpec};
use crate::kube::cni::{NetworkList, admin};
use crate::kube::podpath_v1alpha1::{Backend, ClusterSpec, CniPluginName, EncapMode};
use crate::kube::store::Store;
use crate::net::addr::network_of;
use ipnetwork::IpNetwork;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What a store without a Cluster document seems to run.
pub(super) fn guess(store: &Store, findings: &mut Vec<Finding>) -> ClusterSpec {
    let plugin = if store
        .config_map("kube-flannel", "kube-flannel-cfg")
        .is_some()
        || store
            .config_map("kube-system", "kube-flannel-cfg")
            .is_some()
    {
        CniPluginName::Flannel
    } else if !store.raw("crd.projectcalico.org/v1", "IPPool").is_empty()
        || !store.raw("projectcalico.org/v3", "IPPool").is_empty()
    {
        CniPluginName::Calico
    } else {
        if !store.nodes.is_empty() || !store.pods.is_empty() {
            findings.push(Finding::note(
                Span::default(),
                "no Cluster document and no CNI configuration: plain routes between nodes, as kindnet lays them, are assumed",
            ));
        }
        CniPluginName::Kindnet
    };
    let given = store
        .nodes
        .values()
        .any(|n| n.spec.as_ref().is_some_and(|s| s.pod_cidr.is_some()));
    let pods = "10.244.0.0/16".parse().ok().filter(|_| !given);
    ClusterSpec::of_plugin(plugin, pods.into_iter().collect())
}

/// Lays the node agent's part and attaches every pod.
pub(super) fn lay_and_attach(b: &mut Builder) {
    docker(b);
    match b.spec.cni.plugin {
        CniPluginName::Flannel => flannel_agent(b),
        CniPluginName::Calico => calico_agent(b),
        CniPluginName::Kindnet => kindnet_agent(b),
        CniPluginName::Bridge | CniPluginName::Ptp => plain(b),
    }
}

/// The Cluster document's own conflist, if it has one.
fn written_conflist(b: &mut Builder) -> Option<NetworkList> {
    let text = b.spec.cni.conflist_text()?;
    let at = b.cluster_span("spec.cni.conflist");
    let value: Value = match serde_json::from_str(&text) {
        Ok(v) => v,
        Err(e) => {
            let text = format!("spec.cni.conflist is not JSON: {e}");
            b.findings.push(Finding::error(
                at,
                text,
                "write the conflist inline or as a string of JSON",
            ));
            return None;
        }
    };
    let (list, found) = NetworkList::from_value(&value, &|_| at.clone());
    b.findings.extend(found);
    list
}

fn list_of(b: &mut Builder, doc: &Value) -> Option<NetworkList> {
    let (list, found) = NetworkList::from_value(doc, &|_| Span::default());
    b.findings.extend(found);
    list
}

fn iface_mtu(b: &Builder, n: &ClusterNode) -> u32 {
    b.c.lab
        .world
        .ns(n.ns)
        .and_then(|s| s.dev(n.uplink.dev))
        .map_or(1500, |d| d.mtu)
}

/// Carries out a node agent's plan; a refused operation is a finding, the rest is laid.
fn carry_out(b: &mut Builder, node: &str, ops: &[LinkOp], who: &'static str) {
    let Some(n) = b.c.nodes.get(node) else { return };
    let origin = Origin::controller(who, n.origin.to_string());
    let at =
        b.c.store
            .node(node)
            .map(|o| o.source.span_of("metadata.name"))
            .unwrap_or_default();
    let paths = BTreeMap::new();
    let mut view = pods::NodeView {
        world: &mut b.c.lab.world,
        node: n.ns,
        paths: &paths,
    };
    for op in ops {
        if let Err(e) = admin::apply(&mut view, &crate::kube::cni::Where::Node, op, &origin) {
            let text = format!("{who} on node {node}: {op:?}: {e}");
            b.findings.push(Finding::warning(
                at.clone(),
                text,
                "the rest of its state was laid",
            ));
        }
    }
}

/// Carries out an agent's iptables calls; a refused one is a finding, the rest is done.
fn lay_rules(b: &mut Builder, node: &str, ops: &[RuleOp], who: &'static str) {
    let Some(n) = b.c.nodes.get(node) else { return };
    let origin = Origin::controller(who, n.origin.to_string());
    let at =
        b.c.store
            .node(node)
            .map(|o| o.source.span_of("metadata.name"))
            .unwrap_or_default();
    let Some(ns) = b.c.lab.world.ns_mut(n.ns) else {
        return;
    };
    for said in iptables::carry_out(ns, ops, &origin) {
        let text = format!("{who} on node {node}: {said}");
        b.findings.push(Finding::warning(
            at.clone(),
            text,
            "the rest of its rules were laid",
        ));
    }
}

/// The daemon starts before the kubelet, so its rules are there first.
fn docker(b: &mut Builder) {
    let names: Vec<String> = b.c.nodes.keys().cloned().collect();
    for name in names {
        let own = b.spec.nodes.get(&name).and_then(|n| n.docker);
        let version = own.or(b.spec.node.docker);
        let generation = match version {
            None => continue,
            Some(..=27) => Generation::Isolation,
            Some(_) => Generation::Forward,
        };
        if let Some(daemon) = Docker::usual(generation) {
            lay_rules(b, &name, &daemon.rules(), "docker");
        }
    }
}

fn flannel_agent(b: &mut Builder) {
    let (real, found) = NetConf::from_store(&b.c.store);
    b.findings.extend(found);
    let (conf, real_list) = match real {
        Some((c, l)) => (Some(c), l),
        None => {
            let text = flannel_conf(b).to_string();
            let (c, found) = NetConf::parse(&text, &b.cluster_span("spec.cni"));
            b.findings.extend(found);
            (c, None)
        }
    };
    let Some(conf) = conf else { return };
    b.c.cni = format!("flannel, {}", backend_name(&b.spec));
    let all: Vec<FlannelNode> = b.c.nodes.values().map(|n| flannel_node(b, n)).collect();
    for me in &all {
        let ops = flannel::plan(&conf, me, &all);
        carry_out(b, &me.name, &ops, "flannel");
        let rules = flannel::rules(&conf, me, RuleOptions::default());
        lay_rules(b, &me.name, &rules, "flannel");
        let env = flannel::subnet_env(&conf, me, true);
        if let Some(n) = b.c.nodes.get_mut(&me.name) {
            n.cni.files.insert("/run/flannel/subnet.env".into(), env);
        }
    }
    let mut delegate =
        json!({ "hairpinMode": b.spec.cni.hairpin_mode.unwrap_or(true), "isDefaultGateway": true });
    if let (Some(mtu), Some(d)) = (b.spec.cni.mtu, delegate.as_object_mut()) {
        d.insert("mtu".into(), mtu.into());
    }
    let doc = json!({ "name": "cbr0", "cniVersion": "0.3.1", "plugins": [
        { "type": "flannel", "delegate": delegate },
        { "type": "portmap", "capabilities": { "portMappings": true } } ] });
    let list = written_conflist(b)
        .or(real_list)
        .or_else(|| list_of(b, &doc));
    pods::attach_all(b, &|_| list.clone());
}

fn flannel_conf(b: &Builder) -> Value {
    let c = &b.spec.cni;
    let backend = match c.backend() {
        Backend::HostGw => json!({ "Type": "host-gw" }),
        Backend::Ipip => json!({ "Type": "ipip" }),
        _ => {
            let mut v = json!({ "Type": "vxlan" });
            if let Some(o) = v.as_object_mut() {
                c.vxlan.vni.map(|n| o.insert("VNI".into(), n.into()));
                c.vxlan.port.map(|n| o.insert("Port".into(), n.into()));
            }
            v
        }
    };
    let mut conf = json!({ "Backend": backend });
    if let Some(o) = conf.as_object_mut() {
        for net in &b.spec.pod_cidrs {
            if net.is_ipv4() {
                o.insert("Network".into(), net.to_string().into());
            } else {
                o.insert("IPv6Network".into(), net.to_string().into());
                o.insert("EnableIPv6".into(), true.into());
            }
        }
    }
    conf
}

fn flannel_node(b: &Builder, n: &ClusterNode) -> FlannelNode {
    let notes =
        b.c.store
            .node(&n.name)
            .and_then(|o| o.metadata.annotations.clone())
            .unwrap_or_default();
    let note = |k: &str| notes.get(&format!("flannel.alpha.coreos.com/{k}")).cloned();
    // flanneld writes its VTEP's address there; a fresh cluster's is drawn.
    let vtep = |k: &str| {
        let v: Value = serde_json::from_str(&note(k)?).ok()?;
        v.get("VtepMAC")?.as_str()?.parse().ok()
    };
    let mut rng = crate::base::Rng::new(b.c.seed ^ u64::from(n.ns.0) << 32 ^ 0xf1a0);
    let ip = |want4: bool| {
        n.addresses
            .iter()
            .map(|a| a.ip())
            .find(|a| a.is_ipv4() == want4)
    };
    let public = note("public-ip")
        .and_then(|t| t.parse().ok())
        .or_else(|| ip(true));
    let cidr = |want4: bool| n.pod_cidrs.iter().copied().find(|c| c.is_ipv4() == want4);
    FlannelNode {
        name: n.name.clone(),
        public_ip: public.and_then(|a| if let IpAddr::V4(a) = a { Some(a) } else { None }),
        public_ipv6: ip(false).and_then(|a| if let IpAddr::V6(a) = a { Some(a) } else { None }),
        subnet: cidr(true).and_then(|c| {
            if let IpNetwork::V4(c) = c {
                Some(c)
            } else {
                None
            }
        }),
        ipv6_subnet: cidr(false).and_then(|c| {
            if let IpNetwork::V6(c) = c {
                Some(c)
            } else {
                None
            }
        }),
        vtep_mac: vtep("backend-data").unwrap_or_else(|| random_mac(&mut rng)),
        vtep_mac_v6: vtep("backend-v6-data").unwrap_or_else(|| random_mac(&mut rng)),
        iface: n.iface.clone(),
        iface_mtu: iface_mtu(b, n),
        on_link: n.addresses.iter().map(|a| network_of(*a)).collect(),
    }
}

fn calico_agent(b: &mut Builder) {
    let (mut pools, found) = IpPool::from_store(&b.c.store);
    b.findings.extend(found);
    if pools.is_empty() {
        pools = written_pools(b);
    }
    b.c.cni = format!("Calico, {}", backend_name(&b.spec));
    let mut ipam = Ipam::new(pools);
    let mut all: Vec<CalicoNode> = b.c.nodes.values().map(|n| calico_node(b, n)).collect();
    for n in &mut all {
        believe_tunnel(b, &mut ipam, n);
    }
    if let Err(e) = calico::node::assign_tunnel_addresses(&mut ipam, &mut all) {
        b.findings.push(Finding::error(
            b.cluster_span("spec.cni"),
            format!("Calico tunnel addresses: {e}"),
            "",
        ));
    }
    b.c.calico = Some(ipam);
    let dual = b.spec.pod_cidrs.iter().any(|c| c.is_ipv6());
    let mtu = calico_mtu(b);
    let written = written_conflist(b);
    let per_node = |node: &ClusterNode| {
        let doc = json!({ "name": "k8s-pod-network", "cniVersion": "0.3.1", "plugins": [
            { "type": "calico", "nodename": node.name, "mtu": mtu,
              "ipam": { "type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": if dual { "true" } else { "false" } } },
            { "type": "portmap", "snat": true, "capabilities": { "portMappings": true } } ] });
        written
            .clone()
            .or_else(|| NetworkList::from_value(&doc, &|_| Span::default()).0)
    };
    pods::attach_all(b, &per_node);
    // Felix and BIRD lay routes to the blocks that the pods' allocation made.
    let plans: Vec<(String, Vec<LinkOp>)> = match &b.c.calico {
        Some(ipam) => all
            .iter()
            .map(|me| (me.name.clone(), calico::plan(me, &all, ipam)))
            .collect(),
        None => Vec::new(),
    };
    for (name, ops) in plans {
        carry_out(b, &name, &ops, "calico");
    }
    felix_rules(b, &all);
}

/// Felix's sets, then its NAT rules, which ask them.
fn felix_rules(b: &mut Builder, all: &[CalicoNode]) {
    let Some(pools) = b.c.calico.as_ref().map(|i| i.pools.clone()) else {
        return;
    };
    let sets = calico::rules::sets(&pools);
    let sets: String = sets.iter().map(|s| s.to_restore()).collect();
    for me in all {
        let Some(n) = b.c.nodes.get(&me.name) else {
            continue;
        };
        if let Some(ns) = b.c.lab.world.ns_mut(n.ns) {
            let made = ns.nf_mut().sets.restore("calico", &sets, Instant::ZERO);
            b.findings.extend(made);
        }
        let rules = calico::rules::nat_rules(&pools, me);
        lay_rules(b, &me.name, &rules, "calico");
    }
}

fn written_pools(b: &Builder) -> Vec<IpPool> {
    let backend = b.spec.cni.backend();
    let base = |cidr: IpNetwork, i: usize| {
        let mut p = IpPool::new(
            &format!(
                "default-ipv{}-ippool-{i}",
                if cidr.is_ipv4() { 4 } else { 6 }
            ),
            cidr,
        );
        p.ipip = if backend == Backend::Ipip && cidr.is_ipv4() {
            Encap::Always
        } else {
            Encap::Never
        };
        p.vxlan = if backend == Backend::Vxlan {
            Encap::Always
        } else {
            Encap::Never
        };
        p
    };
    let encap = |m: EncapMode| match m {
        EncapMode::Never => Encap::Never,
        EncapMode::Always => Encap::Always,
        EncapMode::CrossSubnet => Encap::CrossSubnet,
    };
    let written = &b.spec.cni.ip_pools;
    if written.is_empty() {
        return b
            .spec
            .pod_cidrs
            .iter()
            .enumerate()
            .map(|(i, c)| base(*c, i))
            .collect();
    }
    let one = |(i, w): (usize, &crate::kube::podpath_v1alpha1::IpPool)| {
        let mut p = base(w.cidr, i);
        if let Some(m) = w.ipip_mode {
            p.ipip = encap(m);
        }
        if let Some(m) = w.vxlan_mode {
            p.vxlan = encap(m);
        }
        if let Some(s) = w.block_size {
            p.block_size = s;
        }
        p.nat_outgoing = w.nat_outgoing;
        p
    };
    written.iter().enumerate().map(one).collect()
}

fn calico_mtu(b: &Builder) -> u32 {
    let over = match b.spec.cni.backend() {
        Backend::Vxlan => 50,
        Backend::Ipip => 20,
        _ => 0,
    };
    b.spec
        .cni
        .mtu
        .unwrap_or(b.spec.node.mtu.saturating_sub(over))
}

fn calico_node(b: &Builder, n: &ClusterNode) -> CalicoNode {
    let mut rng = crate::base::Rng::new(b.c.seed ^ u64::from(n.ns.0) << 32 ^ 0xca11c0);
    CalicoNode {
        name: n.name.clone(),
        addresses: n.addresses.clone(),
        iface: n.iface.clone(),
        iface_mtu: iface_mtu(b, n),
        ipip_tunnel: None,
        vxlan_tunnel: None,
        vxlan_v6_tunnel: None,
        vtep_mac: random_mac(&mut rng),
        vtep_mac_v6: random_mac(&mut rng),
    }
}

/// calico-node writes the address of `tunl0` on its Node (libcalico-go lib/backend/k8s/resources/node.go);
/// it was taken before any pod's, so it also claims its block.
fn believe_tunnel(b: &mut Builder, ipam: &mut Ipam, n: &mut CalicoNode) {
    const NOTE: &str = "projectcalico.org/IPv4IPIPTunnelAddr";
    let Some(o) = b.c.store.node(&n.name) else {
        return;
    };
    let text = o.metadata.annotations.as_ref().and_then(|a| a.get(NOTE));
    let Some(text) = text else { return };
    let handle = format!("ipip-tunnel-addr-{}", n.name);
    let done = match text.parse::<std::net::Ipv4Addr>() {
        Ok(a) => match ipam.assign_ip(a.into(), &n.name, &handle) {
            Ok(()) => {
                n.ipip_tunnel = Some(a);
                return;
            }
            Err(e) => e.to_string(),
        },
        Err(e) => e.to_string(),
    };
    b.findings.push(Finding::warning(
        o.source
            .span_of(&format!("metadata.annotations[\"{NOTE}\"]")),
        format!("node {}: tunnel address {text}: {done}", n.name),
        "another address was allocated",
    ));
}

fn kindnet_node(n: &ClusterNode) -> KindnetNode {
    KindnetNode {
        name: n.name.clone(),
        addresses: n.addresses.iter().map(|a| a.ip()).collect(),
        pod_cidrs: n.pod_cidrs.clone(),
    }
}

fn kindnet_agent(b: &mut Builder) {
    b.c.cni = "kindnet, plain routes".into();
    let all: Vec<KindnetNode> = b.c.nodes.values().map(kindnet_node).collect();
    let written = written_conflist(b);
    let mtu = b.spec.cni.mtu.or(Some(b.spec.node.mtu));
    pods::attach_all(b, &|n| {
        written
            .clone()
            .or_else(|| kindnet::network(&kindnet_node(n), mtu))
    });
    // kindnetd is told the cluster's pod networks (its POD_SUBNET); without them, all nodes' own.
    let pods = match b.spec.pod_cidrs.as_slice() {
        [] => all.iter().flat_map(|n| n.pod_cidrs.clone()).collect(),
        written => written.to_vec(),
    };
    for me in &all {
        let ops = kindnet::plan(me, &all);
        carry_out(b, &me.name, &ops, "kindnet");
        lay_rules(b, &me.name, &kindnet::masquerade(&pods), "kindnet");
    }
}

/// The reference plugins alone: bridge or ptp with host-local; routes between nodes only with `host-gw`,
/// as an operator or a cloud's route controller would add them.
fn plain(b: &mut Builder) {
    let ptp = b.spec.cni.plugin == CniPluginName::Ptp;
    b.c.cni = format!(
        "{}, {}",
        if ptp { "ptp" } else { "bridge" },
        backend_name(&b.spec)
    );
    let (hairpin, mtu) = (b.spec.cni.hairpin_mode.unwrap_or(false), b.spec.cni.mtu);
    let written = written_conflist(b);
    let per_node = |n: &ClusterNode| {
        let ranges: Vec<Value> = n
            .pod_cidrs
            .iter()
            .map(|c| json!([{ "subnet": c.to_string() }]))
            .collect();
        let routes: Vec<Value> = n
            .pod_cidrs
            .iter()
            .map(|c| json!({ "dst": if c.is_ipv4() { "0.0.0.0/0" } else { "::/0" } }))
            .collect();
        let ipam = json!({ "type": "host-local", "ranges": ranges, "routes": routes });
        let mut main = if ptp {
            json!({ "type": "ptp", "ipMasq": true, "ipam": ipam })
        } else {
            json!({ "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": hairpin, "ipam": ipam })
        };
        if let (Some(mtu), Some(o)) = (mtu, main.as_object_mut()) {
            o.insert("mtu".into(), mtu.into());
        }
        let doc = json!({ "name": "podnet", "cniVersion": "1.0.0", "plugins": [main] });
        written
            .clone()
            .or_else(|| NetworkList::from_value(&doc, &|_| Span::default()).0)
    };
    pods::attach_all(b, &per_node);
    if !matches!(b.spec.cni.backend(), Backend::HostGw | Backend::Bgp) {
        return;
    }
    let all: Vec<(String, Vec<IpNetwork>, Vec<IpNetwork>)> =
        b.c.nodes
            .values()
            .map(|n| (n.name.clone(), n.addresses.clone(), n.pod_cidrs.clone()))
            .collect();
    for (me, ..) in &all {
        let ops: Vec<LinkOp> = all
            .iter()
            .filter(|(n, ..)| n != me)
            .flat_map(|(_, ips, cidrs)| {
                cidrs.iter().filter_map(|c| {
                    let via = ips.iter().find(|a| a.is_ipv4() == c.is_ipv4())?.ip();
                    Some(LinkOp::AddRoute(
                        RouteSpec::new(*c, Some(via), None),
                        Mode::Replace,
                    ))
                })
            })
            .collect();
        carry_out(b, me, &ops, "host-gw");
    }
}

fn backend_name(s: &ClusterSpec) -> &'static str {
    match s.cni.backend() {
        Backend::Vxlan => "VXLAN",
        Backend::HostGw => "host-gw",
        Backend::Ipip => "IPIP",
        Backend::Bgp => "plain routes (BGP)",
        Backend::None => "no routes between nodes",
    }
}
