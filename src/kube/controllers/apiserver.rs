//! The Service `default/kubernetes` and its EndpointSlice, which kube-apiserver itself makes.
//!
//! kubernetes `pkg/controlplane/controller/kubernetesservice/controller.go` (UpdateKubernetesService),
//! `pkg/controlplane/reconcilers/endpointsadapter.go`. Made where the input has control-plane nodes and lacks
//! them: ClusterIP is the first address of the first Service CIDR, port 443 leads to 6443 of every
//! control-plane node. Invariant: what the input has of them is left alone.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::address::WHO;
use super::ranges::Addresses;
use super::{Believed, Run};
use crate::kube::service::endpoint::SERVICE_NAME;
use crate::kube::service::{Family, lenient};
use crate::kube::store::{Name, Object};

/// kubeadm's `--secure-port` (cmd/kubeadm constants.KubeAPIServerPort).
const SECURE_PORT: i32 = 6443;

fn kubernetes() -> Name {
    Name::new("default", "kubernetes")
}

/// Whether a node runs the control plane, by the labels that kubeadm and others give.
pub(crate) fn is_control_plane(node: &Node) -> bool {
    let roles = [
        "node-role.kubernetes.io/control-plane",
        "node-role.kubernetes.io/master",
    ];
    let labels = node.metadata.labels.as_ref();
    labels.is_some_and(|labels| roles.iter().any(|role| labels.contains_key(*role)))
}

/// Makes the Service where it is missing.
pub(super) fn service(run: &mut Run<'_>) {
    let name = kubernetes();
    let nodes = run.store.nodes.values();
    let Some(node) = nodes.into_iter().find(|node| is_control_plane(node)) else {
        return;
    };
    if run.out.services.contains_key(&name) {
        return;
    }
    let Some(net) = run.settings.service_cidrs.first() else {
        return;
    };
    let Some(ip) = Addresses::new(*net).nth(1) else {
        return;
    };
    let labels = [("component", "apiserver"), ("provider", "kubernetes")];
    let labels = labels.map(|(k, v)| (k.to_owned(), v.to_owned()));
    let port = ServicePort {
        name: Some("https".into()),
        port: 443,
        protocol: Some("TCP".into()),
        target_port: Some(IntOrString::Int(SECURE_PORT)),
        ..ServicePort::default()
    };
    let spec = ServiceSpec {
        type_: Some("ClusterIP".into()),
        cluster_ip: Some(ip.to_string()),
        cluster_ips: Some(vec![ip.to_string()]),
        ip_families: Some(vec![Family::of(ip).name().to_owned()]),
        ip_family_policy: Some("SingleStack".into()),
        ports: Some(vec![port]),
        ..ServiceSpec::default()
    };
    let body = Service {
        metadata: ObjectMeta {
            name: Some(name.name.clone()),
            namespace: Some(name.namespace.clone()),
            labels: Some(labels.into_iter().collect()),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    };
    let object = Object {
        name: name.clone(),
        body: Box::new(body),
        source: node.source.clone(),
    };
    run.out.services.insert(name.clone(), object);
    run.made(WHO, &name, "metadata.name".into(), name.to_string());
}

/// Makes the slice where it is missing: it is none of the EndpointSlice controller's.
pub(super) fn slice(run: &mut Run<'_>, believed: &Believed<'_>) {
    let name = kubernetes();
    let Some(service) = run
        .out
        .services
        .get(&name)
        .filter(|_| !believed.contains_key(&name))
    else {
        return;
    };
    let spec = service.spec.as_ref();
    let ip = spec.and_then(|spec| spec.cluster_ip.as_deref());
    let Some(family) = ip.and_then(lenient::ip).map(Family::of) else {
        return;
    };
    let nodes = run
        .store
        .nodes
        .values()
        .filter(|node| is_control_plane(node));
    let addresses = nodes.filter_map(|node| {
        let all = run.facts.nodes.get(&node.name.name)?;
        all.iter().find(|ip| Family::of(**ip) == family)
    });
    let addresses: BTreeSet<String> = addresses.map(ToString::to_string).collect();
    if addresses.is_empty() {
        return;
    }
    let endpoint = |ip: String| Endpoint {
        addresses: vec![ip],
        conditions: Some(EndpointConditions {
            ready: Some(true),
            ..EndpointConditions::default()
        }),
        ..Endpoint::default()
    };
    let slice = EndpointSlice {
        address_type: family.name().to_owned(),
        endpoints: addresses.into_iter().map(endpoint).collect(),
        metadata: ObjectMeta {
            name: Some(name.name.clone()),
            labels: Some(BTreeMap::from([(SERVICE_NAME.into(), name.name.clone())])),
            ..ObjectMeta::default()
        },
        ports: Some(vec![EndpointPort {
            name: Some("https".into()),
            port: Some(SECURE_PORT),
            protocol: Some("TCP".into()),
            ..EndpointPort::default()
        }]),
    };
    run.add_slice(WHO, &name, "kubernetes", slice);
}
