//! The controllers run on what the cluster knows: pods' real addresses and nodes.
//!
//! `kube::controllers` does the work; here its facts are gathered and its results handed on.

use crate::base::Finding;
use crate::cluster::{Cluster, dns, kube_proxy, policy};
use crate::kube::controllers::{self, Facts, PodFact};

/// Runs them, keeping what they gave before.
pub(super) fn run(c: &mut Cluster) -> Vec<Finding> {
    let facts = facts(c);
    let (desired, findings) = controllers::run(&c.store, &facts, Some(&c.desired));
    c.desired = desired;
    findings
}

pub(super) fn facts(c: &Cluster) -> Facts {
    let with_network = c.pods.values().filter(|pod| !pod.ips.is_empty());
    let fact = |pod: &super::ClusterPod| PodFact {
        ips: pod.ips.clone(),
        node: pod.node.clone(),
    };
    Facts {
        pods: with_network
            .map(|pod| (pod.name.clone(), fact(pod)))
            .collect(),
        nodes: c
            .nodes
            .values()
            .map(|n| (n.name.clone(), n.addresses.iter().map(|a| a.ip()).collect()))
            .collect(),
        seed: c.seed,
    }
}

impl Cluster {
    /// Objects of [`Cluster::store`] changed: controllers run again, every kube-proxy hears of it, now, and
    /// policies' agents write their rules.
    pub fn objects_changed(&mut self) -> Vec<Finding> {
        let mut findings = run(self);
        kube_proxy::tell(self);
        findings.extend(dns::learn(self));
        findings.extend(policy::sync(self));
        findings
    }
}
