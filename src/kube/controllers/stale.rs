//! Slices of the input held against the pods: a slice that says something else is stale, which is worth a
//! note, not a correction.
//!
//! Only the EndpointSlice controller's own slices are compared, and only where the input has pods of the
//! namespace: `kubectl get svc,endpointslices` alone is a fair input.

use std::collections::BTreeSet;

use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::{MANAGED_BY, Run};
use crate::base::Finding;
use crate::kube::service::{Family, lenient};
use crate::kube::store::{Name, Object};

/// Differences that are named one by one.
const NAMED: usize = 3;

/// Address, port and state of one endpoint, in words.
type Lines = BTreeSet<(String, String)>;

/// Compares `made`, what the controller would make, with `present`, what the input has.
pub(super) fn compare(
    run: &mut Run<'_>,
    service: &Name,
    present: &[&Object<EndpointSlice>],
    made: &[(Family, Vec<EndpointSlice>)],
) {
    let first = Name::new(service.namespace.clone(), "");
    let pod = run.store.pods.range(first..).next();
    if pod.is_none_or(|(pod, _)| pod.namespace != service.namespace) {
        return;
    }
    let others = |slice: &EndpointSlice| {
        let labels = slice.metadata.labels.as_ref();
        let manager = labels.and_then(|l| l.get(MANAGED_BY));
        manager.is_some_and(|m| m != "endpointslice-controller.k8s.io")
    };
    let Some(first) = present.first() else { return };
    if present.iter().any(|slice| others(slice)) {
        return;
    }
    let has = lines(present.iter().map(|slice| &*slice.body));
    let wants = lines(made.iter().flat_map(|(_, slices)| slices));
    let mut differences: Vec<String> = Vec::new();
    for (address, state) in wants.difference(&has) {
        differences.push(format!("{address} should be there, {state}"));
    }
    for (address, state) in has.difference(&wants) {
        differences.push(format!("{address} is there, {state}"));
    }
    if differences.is_empty() {
        return;
    }
    let more = differences.len().saturating_sub(NAMED);
    differences.truncate(NAMED);
    let more = if more > 0 {
        format!("; and {more} more")
    } else {
        String::new()
    };
    let message = format!(
        "EndpointSlice {} is not what the pods of Service {service} give: {}{more}; it is believed",
        first.name,
        differences.join("; ")
    );
    run.findings
        .push(Finding::note(first.source.span_of("endpoints"), message));
}

fn lines<'a>(slices: impl Iterator<Item = &'a EndpointSlice>) -> Lines {
    let mut out = Lines::new();
    for slice in slices {
        for endpoint in &slice.endpoints {
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            let state = match (conditions.ready, conditions.terminating) {
                (_, Some(true)) => "terminating",
                (Some(false), _) => "not ready",
                _ => "ready",
            };
            let ip = endpoint
                .addresses
                .first()
                .map(|text| lenient::ip(text).map_or_else(|| text.clone(), |ip| ip.to_string()));
            let ip = ip.unwrap_or_default();
            let ports = slice.ports.iter().flatten().filter_map(|p| p.port);
            let mut any = false;
            for port in ports {
                any = true;
                out.insert((format!("{ip} port {port}"), state.to_owned()));
            }
            if !any {
                out.insert((ip, state.to_owned()));
            }
        }
    }
    out
}
