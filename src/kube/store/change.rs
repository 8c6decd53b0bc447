//! Objects that change while the cluster runs: what a Fault applies and deletes.
//!
//! An applied object replaces the one of its name. Invariant: the indexes stay true.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use serde_json::Value;

use crate::base::{Finding, Span};
use crate::kube::manifest::Input;
use crate::kube::podpath_v1alpha1::{ObjectKind, ObjectRef};

use super::{Name, Store, Table, is_host_network};

impl Store {
    /// Writes a Service, an EndpointSlice, a Namespace, a ConfigMap, a policy, or a Pod that is there already
    /// and stays on its node; `place` is where the object is written. With an error among the findings
    /// nothing was changed.
    pub fn apply(&mut self, object: &Value, place: &Span) -> Vec<Finding> {
        let input = Input::new(format!("{place}: apply"), object.to_string());
        let (read, mut findings) = Store::load(&[input]);
        if findings.iter().any(Finding::is_error) {
            return findings;
        }
        for (name, pod) in &read.pods {
            let old = self.pods.get(name);
            let node = |p: &k8s_openapi::api::core::v1::Pod| {
                p.spec.as_ref().and_then(|s| s.node_name.clone())
            };
            let same = old.is_some_and(|old| {
                node(old) == node(pod) && is_host_network(old) == is_host_network(pod)
            });
            if !same {
                findings.push(Finding::error(
                    place.clone(),
                    format!("pod {name} does not run where the applied one says"),
                    "a pod may change its labels, ports and status here, not come or move",
                ));
                return findings;
            }
        }
        self.services.extend(read.services);
        self.endpoint_slices.extend(read.endpoint_slices);
        self.namespaces.extend(read.namespaces);
        self.config_maps.extend(read.config_maps);
        self.network_policies.extend(read.network_policies);
        let cluster_wide = read.cluster_network_policies;
        self.cluster_network_policies.extend(cluster_wide);
        self.admin_network_policies
            .extend(read.admin_network_policies);
        self.baseline_policies.extend(read.baseline_policies);
        if !read.pods.is_empty() {
            self.pods.extend(read.pods);
            self.pods_by_node.clear();
            self.pods_by_ip.clear();
            self.index();
        }
        findings
    }

    /// The kubelet says whether a pod is ready; false when there is no such pod.
    pub fn set_ready(&mut self, pod: &Name, ready: bool) -> bool {
        let Some(pod) = self.pods.get_mut(pod) else {
            return false;
        };
        let status = pod.body.status.get_or_insert_default();
        let list = status.conditions.get_or_insert_default();
        list.retain(|c| c.type_ != "Ready");
        list.push(PodCondition {
            type_: "Ready".to_owned(),
            status: if ready { "True" } else { "False" }.to_owned(),
            ..PodCondition::default()
        });
        true
    }

    /// The pods, those without an address with the one that `given` has for them.
    pub fn pods_with(&self, given: &dyn Fn(&Name) -> Option<IpAddr>) -> Table<Pod> {
        let mut pods = self.pods.clone();
        for (name, pod) in &mut pods {
            if let Some(ip) = given(name) {
                let status = pod.body.status.get_or_insert_default();
                status.pod_ip.get_or_insert_with(|| ip.to_string());
            }
        }
        pods
    }

    /// Deletes an object; false when there is none.
    pub fn delete(&mut self, object: &ObjectRef) -> bool {
        let name = Name::new(object.namespace.clone(), object.name.clone());
        match object.kind {
            ObjectKind::Service => self.services.remove(&name).is_some(),
            ObjectKind::EndpointSlice => self.endpoint_slices.remove(&name).is_some(),
            ObjectKind::NetworkPolicy => self.network_policies.remove(&name).is_some(),
            ObjectKind::ClusterNetworkPolicy => {
                self.cluster_network_policies.remove(&name).is_some()
            }
            ObjectKind::AdminNetworkPolicy => self.admin_network_policies.remove(&name).is_some(),
            ObjectKind::BaselineAdminNetworkPolicy => {
                self.baseline_policies.remove(&name).is_some()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(node: &str, ip: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
            "spec": {"nodeName": node, "containers": []}, "status": {"podIP": ip}})
    }

    #[test]
    fn pods_stay_on_their_nodes_and_indexes_follow() {
        let (mut store, _) = Store::load(&[Input::new("f", pod("n1", "10.0.0.1").to_string())]);
        let place = Span::new("faults.yaml", 3, 5);
        let found = store.apply(&pod("n2", "10.0.0.1"), &place);
        assert_eq!(
            found.first().map(|f| (f.is_error(), f.span.line)),
            Some((true, 3))
        );
        assert_eq!(store.apply(&pod("n1", "10.0.0.9"), &place), []);
        assert_eq!(store.pods_with_ip("10.0.0.9".parse().unwrap()).count(), 1);
        assert_eq!(store.pods_with_ip("10.0.0.1".parse().unwrap()).count(), 0);
        let wrong = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
            "spec": {"clusterIP": "x", "ports": [{"port": 80}]}});
        let found = store.apply(&wrong, &place);
        assert!(
            found
                .iter()
                .any(|f| f.is_error() && f.span.file.starts_with("faults.yaml:3:5"))
        );
        assert!(store.services.is_empty());
        assert!(!store.delete(&"service/default/s".parse().unwrap()));
    }
}
