//! Large clusters made up: pods, namespaces and policies as found, of any number, for benchmarks and tests.
//!
//! Drawn with a seed: the same [`Size`] and seed give the same objects. Applications of ten classes of pods,
//! a tier and a replica set of their own each; policies that open an application to some others, some with
//! ipBlocks, some for a whole namespace, egress for one in three, and four of the tiers.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use serde_json::{Value, json};

use super::pods::PolicyPod;
use super::{Inventory, Policies};
use crate::base::{Finding, Origin, Rng};
use crate::kube::controllers::Facts;
use crate::kube::manifest::Input;
use crate::kube::store::{Name, Store};

/// How large.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// Pods.
    pub pods: usize,
    /// NetworkPolicies.
    pub policies: usize,
    /// Pods that share their labels; at least 1.
    pub alike: usize,
    /// Namespaces; at least 1.
    pub namespaces: usize,
}

/// Nodes that pods are spread over.
const NODES: usize = 100;
/// Classes of pods of one application.
const CLASSES: usize = 10;

impl Size {
    fn class(&self, n: usize) -> usize {
        n / self.alike.max(1)
    }

    /// The name of pod number `n`.
    pub fn name(&self, n: usize) -> Name {
        let team = self.class(n) % self.namespaces.max(1);
        Name::new(format!("team-{team}"), format!("pod-{n}"))
    }

    /// The address of pod number `n`.
    pub fn address(&self, n: usize) -> IpAddr {
        let n = u32::try_from(n).unwrap_or_default();
        IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000u32.wrapping_add(10 + n)))
    }

    /// Pod number `n` of an application.
    pub fn pod(&self, inventory: &mut Inventory, n: usize, app: usize) -> PolicyPod {
        let name = self.name(n);
        let class = self.class(n);
        let label = |k: &str, v: String| (k.to_owned(), v);
        let labels = [
            label("app", format!("app-{app}")),
            label("tier", tier(class).to_owned()),
            label("pod-template-hash", format!("{class:x}")),
        ];
        PolicyPod {
            namespace_labels: inventory.namespace_labels(&name.namespace),
            name,
            labels: Arc::new(labels.into()),
            addresses: vec![self.address(n)],
            node: format!("node-{}", n % NODES),
            host_network: false,
            finished: false,
            ports: Vec::new(),
            origin: Origin::Kernel,
        }
    }

    /// All pods and namespaces.
    pub fn inventory(&self) -> Inventory {
        let mut inventory = Inventory::of(&Store::default(), &Facts::default());
        for n in 0..self.namespaces {
            let zone = ["a", "b", "c", "d", "e"].get(n % 5).copied();
            let labels = [("zone".to_owned(), zone.unwrap_or_default().to_owned())];
            inventory.set_namespace(&format!("team-{n}"), labels.into());
        }
        for n in 0..self.pods {
            let pod = self.pod(&mut inventory, n, self.class(n) / CLASSES);
            inventory.set_pod(pod);
        }
        inventory
    }

    /// All policies.
    ///
    /// # Errors
    /// What is invalid of them: nothing, unless there are too many for a document.
    pub fn policies(&self, rng: &mut Rng) -> Result<Policies, Finding> {
        let mut items: Vec<Value> = (0..self.policies).map(|n| self.policy(rng, n)).collect();
        items.extend((0..4).map(tier_policy));
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
        let (store, mut findings) = Store::load(&[Input::new("policies.json", list)]);
        let (policies, more) = Policies::of(&store);
        findings.extend(more);
        match findings.into_iter().find(Finding::is_error) {
            Some(error) => Err(error),
            None => Ok(policies),
        }
    }

    fn policy(&self, rng: &mut Rng, n: usize) -> Value {
        let apps = (self.class(self.pods) / CLASSES).max(1) as u64;
        let namespaces = self.namespaces.max(1) as u64;
        let namespace = format!("team-{}", rng.below(namespaces));
        let other = format!("team-{}", rng.below(namespaces));
        let app = |rng: &mut Rng| format!("app-{}", rng.below(apps));
        let peers = |rng: &mut Rng| {
            json!([
                {"podSelector": {"matchLabels": {"app": app(rng)}}},
                {"podSelector": {"matchLabels": {"tier": tier(n % 2)}},
                 "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": other}}},
                {"namespaceSelector": {"matchExpressions":
                    [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}},
            ])
        };
        let ports = json!([
            {"port": 8080}, {"port": 9000, "endPort": 9100}, {"protocol": "UDP", "port": 53}
        ]);
        let mut ingress = vec![json!({"from": peers(rng), "ports": ports})];
        if n.is_multiple_of(4) {
            let block = rng.below(20);
            let cut = format!("10.0.{block}.64/26");
            let block = json!({"cidr": format!("10.0.{block}.0/24"), "except": [cut]});
            ingress.push(json!({"from": [{"ipBlock": block}]}));
        }
        let subject = match n % 10 {
            0 => json!({}),
            1..=4 => json!({"matchLabels": {"app": app(rng)}}),
            5..=7 => json!({"matchLabels": {"tier": tier(n)}}),
            _ => json!({"matchLabels": {"tier": tier(n), "app": app(rng)}}),
        };
        let mut spec = json!({"podSelector": subject, "ingress": ingress});
        if let (true, Some(spec)) = (n.is_multiple_of(3), spec.as_object_mut()) {
            spec.insert("egress".into(), json!([{"to": peers(rng), "ports": ports}]));
        }
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": format!("p{n}"), "namespace": namespace}, "spec": spec})
    }
}

fn tier(n: usize) -> &'static str {
    match n % 3 {
        0 => "web",
        1 => "api",
        _ => "db",
    }
}

/// Each passes or denies what one namespace sends to all.
fn tier_policy(n: usize) -> Value {
    let (tier, action) = match n.is_multiple_of(2) {
        true => ("Admin", "Pass"),
        false => ("Baseline", "Deny"),
    };
    let from = json!({"namespaces": {"matchLabels": {"kubernetes.io/metadata.name": format!("team-{n}")}}});
    json!({"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
        "metadata": {"name": format!("tier-{n}")},
        "spec": {"tier": tier, "priority": n, "subject": {"namespaces": {}},
            "ingress": [{"action": action, "from": [from]}]}})
}
