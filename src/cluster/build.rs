//! The order in which a cluster comes to be.

use crate::base::{Finding, Span};
use crate::cluster::{Cluster, Listening, agents, change, controllers};
use crate::cluster::{PolicyAgents, kube_proxy, node, pods, policy, underlay};
use crate::kube::listen::{self, Protocol};
use crate::kube::podpath_v1alpha1::{ClusterSpec, ProxyMode};
use crate::kube::store::{Store, is_finished};
use crate::lab::Lab;
use crate::sim::World;
use std::collections::BTreeMap;

/// What the steps share.
pub(super) struct Builder {
    pub c: Cluster,
    pub spec: ClusterSpec,
    pub findings: Vec<Finding>,
}

impl Builder {
    /// Where the Cluster document, or failing that nothing, stands.
    pub fn cluster_span(&self, path: &str) -> Span {
        self.c
            .store
            .cluster()
            .map(|c| c.source.span_of(path))
            .unwrap_or_default()
    }
}

pub(super) fn build(store: Store, seed: u64) -> (Cluster, Vec<Finding>) {
    let mut findings = Vec::new();
    let spec = match store.cluster() {
        Some(c) => c.spec.clone(),
        None => agents::guess(&store, &mut findings),
    };
    let c = Cluster {
        store,
        lab: Lab::new(World::new(seed), seed),
        nodes: BTreeMap::new(),
        pods: BTreeMap::new(),
        hosts: BTreeMap::new(),
        listening: Vec::new(),
        calico: None,
        cni: String::new(),
        desired: Default::default(),
        proxy_mode: ProxyMode::None,
        dns: Vec::new(),
        policies: PolicyAgents::new(spec.enforcement(), &spec.network_policy),
        seed,
    };
    let mut b = Builder { c, spec, findings };
    node::plan(&mut b);
    underlay::lay(&mut b);
    agents::lay_and_attach(&mut b);
    let found = controllers::run(&mut b.c);
    b.findings.extend(found);
    kube_proxy::start(&mut b);
    policy::start(&mut b);
    listeners(&mut b);
    change::node_settings(&mut b);
    change::underlay_blocks(&mut b);
    b.c.lab.world.sync_all_carriers();
    (b.c, b.findings)
}

/// What runs listens; finished pods do not.
fn listeners(b: &mut Builder) {
    let mut out = Vec::new();
    for (name, pod) in &b.c.pods {
        let Some(object) = b.c.store.pods.get(name) else {
            continue;
        };
        if is_finished(object) {
            continue;
        }
        let (listen, problems) = listen::of_pod(object);
        for (path, message, help) in problems {
            b.findings
                .push(Finding::warning(object.source.span_of(path), message, help));
        }
        out.extend(listen.ports.iter().map(|l| Listening {
            ns: pod.ns,
            address: listen.address,
            port: l.port,
            who: pods::display(name),
        }));
    }
    for h in &b.spec.external_hosts {
        let Some(ns) = b.c.hosts.get(&h.name) else {
            continue;
        };
        out.extend(h.listen.iter().map(|p| Listening {
            ns: *ns,
            address: None,
            port: *p,
            who: format!("host/{}", h.name),
        }));
    }
    out.retain(|l| l.port.protocol != Protocol::Sctp);
    b.c.listening = out;
}
