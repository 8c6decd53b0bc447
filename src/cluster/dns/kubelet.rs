//! What each node's kubelet says of DNS, and the resolv.conf of everybody in the cluster.
//!
//! In this order: `spec.nodes.NAME.kubelet` and `spec.kubelet` of the Cluster document, the
//! KubeletConfiguration that kubeadm keeps (ConfigMap kube-system/kubelet-config), the kube-dns Service's own
//! address and `cluster.local`. Nobody edits /etc/resolv.conf here. Invariant: every pod, node and host that
//! exists has a text.

use crate::cluster::Cluster;
use crate::kube::dns::client::resolv_conf::{Kubelet, PodDns};
use crate::kube::manifest::{Input, parse};
use crate::kube::podpath_v1alpha1::{KubeletDns, Peer, Target};
use serde::Deserialize;

/// The fields of a KubeletConfiguration that matter here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct KubeletConfiguration {
    #[serde(rename = "clusterDNS")]
    cluster_dns: Option<Vec<String>>,
    cluster_domain: Option<String>,
}

impl Cluster {
    /// A node's kubelet as far as DNS goes.
    pub fn kubelet_dns(&self, node: &str) -> Kubelet {
        let spec = self.store.cluster().map(|c| &c.spec);
        let all = spec.map(|s| s.kubelet.clone()).unwrap_or_default();
        let over = spec.and_then(|s| s.nodes.get(node));
        let over = over.map(|o| o.kubelet.clone()).unwrap_or_default();
        let said = KubeletDns {
            cluster_dns: over.cluster_dns.or(all.cluster_dns),
            cluster_domain: over.cluster_domain.or(all.cluster_domain),
            resolv_conf: over.resolv_conf.or(all.resolv_conf),
        };
        let kept = self.kubelet_configuration();
        let service = || self.cluster_dns_address().into_iter().collect();
        let domain = said.cluster_domain.or(kept.cluster_domain);
        Kubelet {
            cluster_dns: said
                .cluster_dns
                .or(kept.cluster_dns)
                .unwrap_or_else(service),
            cluster_domain: domain.unwrap_or_else(|| "cluster.local".to_owned()),
            resolv_conf: match said.resolv_conf {
                Some(text) => Some(text).filter(|t| !t.is_empty()),
                None => Some(self.upstream_conf()),
            },
            node_ips: self
                .nodes
                .get(node)
                .map(|n| n.addresses.iter().map(|a| a.ip()).collect())
                .unwrap_or_default(),
        }
    }

    /// The configuration that kubeadm keeps; what cannot be read counts as absent.
    fn kubelet_configuration(&self) -> KubeletConfiguration {
        let kept = self.store.config_maps.values().find(|c| {
            c.name.namespace == "kube-system" && c.name.name.starts_with("kubelet-config")
        });
        let text = kept.and_then(|c| c.data.as_ref()?.get("kubelet").cloned());
        let read = text.and_then(|t| parse(&Input::new("kubelet-config", t)).0);
        read.unwrap_or_default()
    }

    /// The address of Service kube-system/kube-dns.
    pub(super) fn cluster_dns_address(&self) -> Option<String> {
        let all = self.desired.services.iter();
        let (_, service) = all
            .into_iter()
            .find(|(n, _)| n.namespace == "kube-system" && n.name == "kube-dns")?;
        let ip = service.spec.as_ref()?.cluster_ip.clone()?;
        (ip != "None").then_some(ip)
    }

    /// A resolv.conf that names the resolvers outside the cluster.
    fn upstream_conf(&self) -> String {
        let spec = self.store.cluster().map(|c| &c.spec);
        let all = spec.into_iter().flat_map(|s| &s.upstream_dns);
        all.map(|ip| format!("nameserver {ip}\n")).collect()
    }

    /// What a pod's DNS settings come to.
    pub fn pod_dns(&self, namespace: &str, name: &str) -> Option<PodDns> {
        let of = |n: &crate::kube::store::Name| n.namespace == namespace && n.name == name;
        let (name, object) = self.store.pods.iter().find(|(n, _)| of(n))?;
        let node = &self.pods.get(name)?.node;
        Some(PodDns::of(&self.kubelet_dns(node), object))
    }

    /// The /etc/resolv.conf that somebody reads.
    ///
    /// # Errors
    /// In words, for who is not there.
    pub fn resolv_conf(&self, who: &Target) -> Result<String, String> {
        match &who.peer {
            Peer::Pod { namespace, name } => self
                .pod_dns(namespace, name)
                .map(|dns| dns.text())
                .ok_or_else(|| format!("{who} is not there")),
            Peer::Node(node) if self.nodes.contains_key(node) => {
                Ok(self.kubelet_dns(node).resolv_conf.unwrap_or_default())
            }
            Peer::Host(_) => Ok(self.upstream_conf()),
            Peer::Ip(ip) => {
                let pod = self
                    .pods
                    .iter()
                    .find(|(_, p)| !p.host_network && p.ips.contains(ip));
                let own = pod.and_then(|(n, _)| self.pod_dns(&n.namespace, &n.name));
                Ok(own.map_or_else(|| self.upstream_conf(), |dns| dns.text()))
            }
            _ => Err(format!("{who} reads no resolv.conf")),
        }
    }
}
