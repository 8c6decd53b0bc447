//! Node ports and health-check node ports.
//!
//! kubernetes `pkg/registry/core/service/storage/alloc.go` (initNodePorts, allocHealthCheckNodePort,
//! shouldAllocateNodePorts). One service port over TCP and UDP shares a node port; otherwise a node port is
//! given once in the cluster, whatever its protocol.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ServicePort, ServiceSpec};

use super::Run;
use super::address::{WHO, spec_mut};
use super::ranges::{Ports, Refused};
use crate::kube::store::Name;

/// Fills in the node ports of all Services.
pub(super) fn allocate(run: &mut Run<'_>) {
    let (first, last) = run.settings.node_ports;
    let mut free = Ports::new(first, last);
    let names: Vec<Name> = run.out.services.keys().cloned().collect();
    for name in &names {
        reserve(run, name, &mut free);
    }
    for name in &names {
        draw(run, name, &mut free);
    }
}

fn number(port: Option<i32>) -> Option<u16> {
    port.and_then(|n| u16::try_from(n).ok()).filter(|n| *n != 0)
}

fn reserve(run: &mut Run<'_>, name: &Name, free: &mut Ports) {
    let Some(spec) = spec_mut(run, name) else {
        return;
    };
    let ports = spec.ports.as_deref().unwrap_or_default();
    let mut stated: Vec<(String, u16, bool)> = Vec::new();
    let mut seen: BTreeMap<u16, Vec<Option<String>>> = BTreeMap::new();
    for (i, port) in ports.iter().enumerate() {
        let Some(node_port) = number(port.node_port) else {
            continue;
        };
        let protocols = seen.entry(node_port).or_default();
        // The same port of the same Service over another protocol.
        let shared = !protocols.is_empty() && !protocols.contains(&port.protocol);
        protocols.push(port.protocol.clone());
        stated.push((format!("spec.ports[{i}].nodePort"), node_port, shared));
    }
    if let Some(port) = number(spec.health_check_node_port).filter(|_| needs_health(spec)) {
        stated.push(("spec.healthCheckNodePort".into(), port, false));
    }
    let (first, last) = run.settings.node_ports;
    for (field, port, shared) in stated {
        match free.take(port, name) {
            Ok(()) => {}
            Err(Refused::Taken(_)) if shared => {}
            Err(Refused::Taken(owner)) => {
                let message = format!("node port {port} is Service {owner}'s already");
                let help = "the API server gives a node port once, whatever the protocol";
                run.warn(name, &field, message, help);
            }
            Err(Refused::Outside) => {
                let message = format!("node port {port} is outside {first}-{last}");
                let help = "correct it, or nodePortRange of the Cluster document";
                run.warn(name, &field, message, help);
            }
        }
    }
}

/// Whether missing node ports are given (shouldAllocateNodePorts).
fn wants_ports(spec: &ServiceSpec) -> bool {
    match spec.type_.as_deref() {
        Some("NodePort") => true,
        Some("LoadBalancer") => spec.allocate_load_balancer_node_ports != Some(false),
        _ => false,
    }
}

/// NeedsHealthCheck of pkg/api/service/util.go.
fn needs_health(spec: &ServiceSpec) -> bool {
    let local = spec.external_traffic_policy.as_deref() == Some("Local");
    local && spec.type_.as_deref() == Some("LoadBalancer")
}

fn draw(run: &mut Run<'_>, name: &Name, free: &mut Ports) {
    let mut rng = run.rng("nodePort", name);
    let Some(spec) = spec_mut(run, name) else {
        return;
    };
    let mut given: Vec<(String, u16)> = Vec::new();
    let mut full = false;
    if wants_ports(spec) {
        let ports = spec.ports.as_deref().unwrap_or_default();
        let mut by_port: BTreeMap<i32, u16> = BTreeMap::new();
        for port in ports {
            if let Some(stated) = number(port.node_port) {
                by_port.entry(port.port).or_insert(stated);
            }
        }
        for (i, port) in spec.ports.iter_mut().flatten().enumerate() {
            if number(port.node_port).is_some() {
                continue;
            }
            let shared = by_port.get(&port.port).copied();
            let Some(node_port) = shared.or_else(|| free.next(&mut rng, name)) else {
                full = true;
                continue;
            };
            by_port.insert(port.port, node_port);
            give(port, node_port);
            given.push((format!("spec.ports[{i}].nodePort"), node_port));
        }
    }
    if needs_health(spec) && number(spec.health_check_node_port).is_none() {
        match free.next(&mut rng, name) {
            Some(port) => {
                spec.health_check_node_port = Some(i32::from(port));
                given.push(("spec.healthCheckNodePort".into(), port));
            }
            None => full = true,
        }
    }
    for (field, port) in given {
        run.made(WHO, name, field, port.to_string());
    }
    if full {
        let (first, last) = run.settings.node_ports;
        let message = format!("no node port is left in {first}-{last}");
        let help = "widen nodePortRange in the Cluster document";
        run.warn(name, "spec.ports", message, help);
    }
}

fn give(port: &mut ServicePort, node_port: u16) {
    port.node_port = Some(i32::from(node_port));
}
