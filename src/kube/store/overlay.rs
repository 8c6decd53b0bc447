//! Objects laid over others, and objects taken out: what `kubectl apply` and `delete` would leave.
//!
//! An object replaces the one of its kind and name. Invariant: the store is what loading the changed set from
//! the beginning gives, indexes included.

use super::{Name, Store, Table};

/// Kinds that can be taken out: their names and short names, whether they are namespaced.
const NAMES: [(&str, &[&str], bool); 11] = [
    ("Pod", &["pod", "pods", "po"], true),
    ("Service", &["service", "services", "svc"], true),
    ("EndpointSlice", &["endpointslice", "endpointslices"], true),
    ("ConfigMap", &["configmap", "configmaps", "cm"], true),
    (
        "NetworkPolicy",
        &["networkpolicy", "networkpolicies", "netpol"],
        true,
    ),
    (
        "ClusterNetworkPolicy",
        &["clusternetworkpolicy", "clusternetworkpolicies", "cnp"],
        false,
    ),
    (
        "AdminNetworkPolicy",
        &["adminnetworkpolicy", "adminnetworkpolicies", "anp"],
        false,
    ),
    (
        "BaselineAdminNetworkPolicy",
        &[
            "baselineadminnetworkpolicy",
            "baselineadminnetworkpolicies",
            "banp",
        ],
        false,
    ),
    ("Namespace", &["namespace", "namespaces", "ns"], false),
    ("Node", &["node", "nodes", "no"], false),
    ("Fault", &["fault", "faults"], false),
];

/// An object to be taken out: `netpol/shop/web`, `node/n1`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Removal {
    kind: &'static str,
    name: Name,
}

impl core::fmt::Display for Removal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

impl core::str::FromStr for Removal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "expected KIND/NAMESPACE/NAME, or KIND/NAME for kinds of the whole cluster, \
                 found \"{text}\""
            )
        };
        let (word, rest) = text.split_once('/').ok_or_else(wrong)?;
        let lower = word.to_ascii_lowercase();
        let mut kinds = NAMES.iter();
        let Some((kind, _, namespaced)) = kinds.find(|k| k.1.contains(&lower.as_str())) else {
            let names: Vec<&str> = NAMES.iter().map(|k| k.0).collect();
            return Err(format!(
                "expected a kind among {}, found \"{word}\"",
                names.join(", ")
            ));
        };
        let name = match (rest.split_once('/'), namespaced) {
            (Some((namespace, name)), true) if !namespace.is_empty() => Name::new(namespace, name),
            (None, true) => Name::new("default", rest),
            (None, false) => Name::global(rest),
            _ => return Err(wrong()),
        };
        match name.name.is_empty() || name.name.contains('/') {
            true => Err(wrong()),
            false => Ok(Removal { kind, name }),
        }
    }
}

impl Store {
    /// Lays another store's objects over this one's.
    pub fn overlay(&mut self, over: Store) {
        self.namespaces.extend(over.namespaces);
        self.nodes.extend(over.nodes);
        self.pods.extend(over.pods);
        self.config_maps.extend(over.config_maps);
        self.services.extend(over.services);
        self.endpoint_slices.extend(over.endpoint_slices);
        self.network_policies.extend(over.network_policies);
        self.cluster_network_policies
            .extend(over.cluster_network_policies);
        self.admin_network_policies
            .extend(over.admin_network_policies);
        self.baseline_policies.extend(over.baseline_policies);
        self.probes.extend(over.probes);
        self.faults.extend(over.faults);
        // There is one Cluster, whatever it is called.
        if !over.clusters.is_empty() {
            self.clusters = over.clusters;
        }
        for (kind, objects) in over.unknown {
            let own = self.unknown.entry(kind).or_default();
            own.retain(|o| o.name.is_none() || !objects.iter().any(|n| n.name == o.name));
            own.extend(objects);
        }
        self.reindex();
    }

    /// Takes an object out; false when there is none.
    pub fn remove(&mut self, removal: &Removal) -> bool {
        let name = &removal.name;
        fn out<T>(table: &mut Table<T>, name: &Name) -> bool {
            table.remove(name).is_some()
        }
        let found = match removal.kind {
            "Pod" => out(&mut self.pods, name),
            "Service" => out(&mut self.services, name),
            "EndpointSlice" => out(&mut self.endpoint_slices, name),
            "ConfigMap" => out(&mut self.config_maps, name),
            "NetworkPolicy" => out(&mut self.network_policies, name),
            "ClusterNetworkPolicy" => out(&mut self.cluster_network_policies, name),
            "AdminNetworkPolicy" => out(&mut self.admin_network_policies, name),
            "BaselineAdminNetworkPolicy" => out(&mut self.baseline_policies, name),
            "Namespace" => out(&mut self.namespaces, name),
            "Node" => out(&mut self.nodes, name),
            "Fault" => out(&mut self.faults, name),
            _ => false,
        };
        self.reindex();
        found
    }

    fn reindex(&mut self) {
        self.pods_by_node.clear();
        self.pods_by_ip.clear();
        self.index();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::manifest::Input;

    fn pod(name: &str, ip: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{nodeName: n1}}\n\
             status: {{podIP: {ip}}}\n---\n"
        )
    }

    #[test]
    fn as_loaded_from_the_beginning() {
        let before = pod("a", "10.0.0.1") + &pod("b", "10.0.0.2");
        let (mut store, _) = Store::load(&[Input::new("f", before)]);
        let (over, _) = Store::load(&[Input::new("g", pod("a", "10.0.0.9"))]);
        store.overlay(over);
        assert!(store.remove(&"pod/default/b".parse().expect("a removal")));
        assert!(!store.remove(&"po/b".parse().expect("a removal")));
        let (fresh, _) = Store::load(&[Input::new("h", pod("a", "10.0.0.9"))]);
        assert_eq!(store.pods_by_ip, fresh.pods_by_ip);
        assert_eq!(store.pods_by_node, fresh.pods_by_node);
        assert!(store.pods.keys().eq(fresh.pods.keys()));
    }

    #[test]
    fn what_can_be_taken_out() {
        for (text, said) in [
            ("netpol/shop/web", "NetworkPolicy shop/web"),
            ("NetworkPolicy/web", "NetworkPolicy default/web"),
            ("cnp/x", "ClusterNetworkPolicy x"),
            ("ns/shop", "Namespace shop"),
        ] {
            assert_eq!(
                text.parse::<Removal>().map(|r| r.to_string()),
                Ok(said.into())
            );
        }
        for wrong in [
            "",
            "web",
            "netpol/",
            "netpol/a/b/c",
            "cnp/a/b",
            "widget/a",
            "netpol//b",
        ] {
            assert!(wrong.parse::<Removal>().is_err(), "{wrong}");
        }
    }
}
