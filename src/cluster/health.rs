//! What kube-proxy answers at health-check node ports, where load balancers ask which nodes to use.
//!
//! kubernetes `pkg/proxy/healthcheck/service_health.go` (hcHandler.ServeHTTP),
//! `pkg/proxy/endpointschangetracker.go` (LocalReadyEndpoints: addresses, each once for all ports of a
//! Service). Left out: the Date header, for virtual time has no date. Where a Service has both families,
//! its first counts. Invariant: a port is open exactly while the node's kube-proxy runs and the Services it
//! knows have it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bytes::Bytes;

use crate::cluster::Cluster;
use crate::endpoint::App;
use crate::kube::podpath_v1alpha1::ProxyState;
use crate::kube::proxy::View;
use crate::kube::proxy::agent::Agent;
use crate::kube::service::Family;
use crate::kube::store::Name;
use crate::wire::proto;

/// Opens, closes and changes the ports of a node as its kube-proxy has them now.
pub(super) fn update(c: &mut Cluster, node: &str) {
    let Some((ns, proxy)) = c
        .nodes
        .get_mut(node)
        .and_then(|n| Some((n.ns, n.proxy.as_mut()?)))
    else {
        return;
    };
    let wanted = answers(&proxy.agent, node);
    let open = core::mem::take(&mut proxy.health);
    let same = |port: &u16, reply: &Bytes| wanted.get(port) == Some(reply);
    for (port, _) in open.iter().filter(|(port, reply)| !same(port, reply)) {
        c.lab.unlisten(ns, None, proto::TCP, *port);
    }
    let mut now_open = BTreeMap::new();
    for (port, reply) in wanted {
        let already = open.get(&port) == Some(&reply);
        let app = App::Page(reply.clone());
        // A port that somebody else holds stays theirs; kube-proxy only says so in its log.
        if already || c.lab.listen(ns, None, proto::TCP, port, app).is_ok() {
            now_open.insert(port, reply);
        }
    }
    if let Some(proxy) = c.nodes.get_mut(node).and_then(|n| n.proxy.as_mut()) {
        proxy.health = now_open;
    }
}

/// What is answered at each port.
fn answers(agent: &Agent, node: &str) -> BTreeMap<u16, Bytes> {
    let mut out = BTreeMap::new();
    let Some(views) = agent
        .known()
        .filter(|_| agent.state() == ProxyState::Running)
    else {
        return out;
    };
    let mut done: BTreeSet<&Name> = BTreeSet::new();
    for view in Family::ALL.map(|family| views.of_family(family)) {
        let mut here: BTreeSet<&Name> = BTreeSet::new();
        for port in view
            .services
            .iter()
            .filter(|p| p.health_check_node_port != 0)
        {
            let name = &port.name.service;
            if !done.contains(name) && here.insert(name) {
                let local = local_ready(view, name, node);
                out.entry(port.health_check_node_port)
                    .or_insert_with(|| reply(name, local));
            }
        }
        done.extend(here);
    }
    out
}

/// How many addresses of a Service are ready on a node.
fn local_ready(view: &View, service: &Name, node: &str) -> usize {
    let mut found: BTreeSet<IpAddr> = BTreeSet::new();
    for port in view.services.iter().filter(|p| p.name.service == *service) {
        let all = view.endpoints_of(&port.name).iter();
        found.extend(all.filter(|e| e.ready && e.is_local(node)).map(|e| e.ip));
    }
    found.len()
}

fn reply(service: &Name, local: usize) -> Bytes {
    let status = match local {
        0 => "503 Service Unavailable",
        _ => "200 OK",
    };
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{}\",\n\t\t\"name\": \"{}\"\n\t}},\n\
         \t\"localEndpoints\": {local},\n\
         \t\"serviceProxyHealthy\": true\n}}",
        service.namespace, service.name
    );
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n\
         X-Load-Balancing-Endpoint-Weight: {local}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into()
}
