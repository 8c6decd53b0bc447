//! `v1` Endpoints of Services without a selector become EndpointSlices.
//!
//! kubernetes `pkg/controller/endpointslicemirroring` (shouldMirror, svcWantsMirror, reconciler.go): one
//! slice per subset and address family, at most 1000 addresses of a subset. Endpoints of Services with a
//! selector are the controllers' own doing and not read.

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::families::has_selector;
use super::{Believed, MANAGED_BY, Run};
use crate::kube::service::endpoint::SERVICE_NAME;
use crate::kube::service::{Family, lenient};
use crate::kube::store::Name;

const WHO: &str = "endpointslicemirroring-controller";
const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// `--mirroring-max-endpoints-per-subset`.
const SUBSET_MAX: usize = 1000;

/// Mirrors all Endpoints that are to be.
pub(super) fn all(run: &mut Run<'_>, believed: &Believed<'_>) {
    for object in run.store.raw("v1", "Endpoints") {
        let Some(written) = object.name.clone() else {
            continue;
        };
        let namespace = if written.namespace.is_empty() {
            "default"
        } else {
            &written.namespace
        };
        let name = Name::new(namespace, written.name);
        let wants = run.out.services.get(&name).and_then(|s| s.spec.as_ref());
        let wants = wants.is_some_and(|spec| !has_selector(spec));
        if !wants || believed.contains_key(&name) || run.out.slices_of(&name).next().is_some() {
            continue;
        }
        let (endpoints, mut findings) = object.parse::<Endpoints>();
        run.findings.append(&mut findings);
        let Some(endpoints) = endpoints.filter(is_mirrored) else {
            continue;
        };
        for (i, subset) in endpoints.subsets.iter().flatten().enumerate() {
            for family in Family::ALL {
                if let Some(slice) = slice(&endpoints, subset, &name, family) {
                    let salt = format!("mirror {i} {}", family.name());
                    run.add_slice(WHO, &name, &salt, slice);
                }
            }
        }
    }
}

fn is_mirrored(endpoints: &Endpoints) -> bool {
    let meta = &endpoints.metadata;
    let skip = meta.labels.as_ref().and_then(|l| l.get(SKIP));
    let leader = meta
        .annotations
        .as_ref()
        .is_some_and(|a| a.contains_key(LEADER));
    skip.is_none_or(|value| value != "true") && !leader
}

fn slice(
    endpoints: &Endpoints,
    subset: &EndpointSubset,
    service: &Name,
    family: Family,
) -> Option<EndpointSlice> {
    let ready = subset.addresses.iter().flatten().map(|a| (a, true));
    let not_ready = subset
        .not_ready_addresses
        .iter()
        .flatten()
        .map(|a| (a, false));
    let all = ready.chain(not_ready).take(SUBSET_MAX);
    let of_family = |a: &EndpointAddress| lenient::ip(&a.ip).map(Family::of) == Some(family);
    let found: Vec<Endpoint> = all
        .filter(|(address, _)| of_family(address))
        .map(|(address, ready)| endpoint(address, ready))
        .collect();
    if found.is_empty() {
        return None;
    }
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.into(), service.name.clone());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    let port = |p: &k8s_openapi::api::core::v1::EndpointPort| EndpointPort {
        name: Some(p.name.clone().unwrap_or_default()),
        port: Some(p.port),
        protocol: Some(p.protocol.clone().unwrap_or_else(|| "TCP".into())),
        app_protocol: p.app_protocol.clone(),
    };
    Some(EndpointSlice {
        address_type: family.name().to_owned(),
        endpoints: found,
        metadata: ObjectMeta {
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        ports: Some(subset.ports.iter().flatten().map(port).collect()),
    })
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        hostname: address.hostname.clone().filter(|h| !h.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}
