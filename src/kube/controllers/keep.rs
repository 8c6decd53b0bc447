//! What was given stays given: a Service that exists already keeps its addresses, ports and load balancer
//! while others come and go.

use k8s_openapi::api::core::v1::Service;

use super::{Desired, Made};

/// Fills in from `before` what the input leaves open.
pub(super) fn keep(now: &mut Desired, before: &Desired) {
    let mut kept: Vec<(crate::kube::store::Name, Vec<Made>)> = Vec::new();
    for (name, service) in &mut now.services {
        let Some(old) = before.services.get(name) else {
            continue;
        };
        if fill(&mut service.body, &old.body) {
            kept.push((name.clone(), before.made(name).to_vec()));
        }
    }
    now.made.extend(kept);
}

/// Whether anything could be kept: a Service whose type or headlessness changed is a new one.
fn fill(now: &mut Service, old: &Service) -> bool {
    let (Some(spec), Some(was)) = (now.spec.as_mut(), old.spec.as_ref()) else {
        return false;
    };
    let kind = |text: &Option<String>| match text.as_deref() {
        None | Some("") => "ClusterIP".to_owned(),
        Some(text) => text.to_owned(),
    };
    let external = |text: &Option<String>| kind(text) == "ExternalName";
    if external(&spec.type_) || external(&was.type_) {
        return false;
    }
    let open = spec.cluster_ip.as_deref().unwrap_or_default().is_empty()
        && spec.cluster_ips.as_deref().unwrap_or_default().is_empty();
    if open && was.cluster_ip.as_deref() != Some("None") {
        spec.cluster_ip = was.cluster_ip.clone();
        spec.cluster_ips = was.cluster_ips.clone();
        if spec.ip_families.is_none() && spec.ip_family_policy.is_none() {
            spec.ip_families = was.ip_families.clone();
            spec.ip_family_policy = was.ip_family_policy.clone();
        }
    }
    if kind(&spec.type_) != "ClusterIP" {
        for port in spec.ports.iter_mut().flatten() {
            let protocol = |p: &Option<String>| p.clone().unwrap_or_else(|| "TCP".into());
            let same =
                was.ports.iter().flatten().find(|o| {
                    o.port == port.port && protocol(&o.protocol) == protocol(&port.protocol)
                });
            if port.node_port.is_none_or(|n| n == 0) {
                port.node_port = same.and_then(|o| o.node_port);
            }
        }
        if spec.health_check_node_port.is_none_or(|n| n == 0) {
            spec.health_check_node_port = was.health_check_node_port;
        }
    }
    if kind(&spec.type_) == "LoadBalancer" && now.status.is_none() {
        now.status = old.status.clone();
    }
    true
}
