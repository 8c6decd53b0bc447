//! Whether Cluster, Probe and Fault name nodes, pods and hosts that exist.
//!
//! Errors, unlike those between Kubernetes' own objects: a probe from a pod that nobody defines cannot
//! be run.

use std::collections::BTreeSet;

use crate::base::{Finding, Span};
use crate::kube::controllers::is_control_plane;
use crate::kube::manifest::closest;
use crate::kube::podpath_v1alpha1::{Blocked, Peer, Side};

use super::{Name, Source, Store};

/// The machine that joins the underlay's segments: in no manifest, yet packets may end there.
const UNDERLAY_GATEWAY: &str = "gateway";

/// The Service that the API server makes itself, where there is one.
const API_SERVER: &str = "default/kubernetes";

pub(super) fn check(store: &Store, findings: &mut Vec<Finding>) {
    let names = Names::new(store);
    let mut report = Report {
        names: &names,
        findings,
    };
    if let Some(cluster) = store.cluster() {
        let (spec, source) = (&cluster.spec, &cluster.source);
        for name in spec.nodes.keys() {
            report.node(name, || source.span_of(&format!("spec.nodes[\"{name}\"]")));
        }
        for (s, segment) in spec.underlay.segments.iter().enumerate() {
            let at = |field: &str, index| format!("spec.underlay.segments[{s}].{field}[{index}]");
            for (index, name) in segment.nodes.iter().enumerate() {
                report.node(name, || source.span_of(&at("nodes", index)));
            }
            for (index, name) in segment.hosts.iter().enumerate() {
                report.host(name, || source.span_of(&at("hosts", index)));
            }
        }
        report.blocked(&spec.underlay.blocked, source);
    }
    for probe in store.probes.values() {
        for (field, target) in [("spec.from", &probe.spec.from), ("spec.to", &probe.spec.to)] {
            report.peer(&target.peer, || probe.source.span_of(field));
        }
        let Some(hop) = probe
            .spec
            .expect
            .as_ref()
            .and_then(|expect| expect.hop.as_ref())
        else {
            continue;
        };
        let span = || probe.source.span_of("spec.expect.hop.node");
        match hop.node.as_deref().map(|n| (n, n.strip_prefix("host/"))) {
            Some((_, Some(host))) => report.host(host, span),
            Some((UNDERLAY_GATEWAY, None)) | None => {}
            Some((node, None)) => report.node(node, span),
        }
        if let Some(pod) = &hop.pod {
            report.pod(pod, || probe.source.span_of("spec.expect.hop.pod"));
        }
    }
    for fault in store.faults.values() {
        let (spec, source) = (&fault.spec, &fault.source);
        if let Some(node) = &spec.node {
            report.node(node, || source.span_of("spec.node"));
        }
        if let Some(pod) = &spec.pod {
            report.pod(pod, || source.span_of("spec.pod"));
        }
        match spec
            .link
            .as_deref()
            .map(|link| (link, link.strip_prefix("host/")))
        {
            Some((_, Some(host))) => report.host(host, || source.span_of("spec.link")),
            Some((node, None)) => report.node(node, || source.span_of("spec.link")),
            None => {}
        }
        report.blocked(
            spec.underlay
                .as_ref()
                .map_or(&[], |underlay| &underlay.blocked),
            source,
        );
    }
}

/// Everything that can be named.
struct Names {
    nodes: BTreeSet<String>,
    pods: BTreeSet<String>,
    services: BTreeSet<String>,
    hosts: BTreeSet<String>,
}

impl Names {
    fn new(store: &Store) -> Self {
        let hosts = store
            .cluster()
            .into_iter()
            .flat_map(|cluster| &cluster.spec.external_hosts);
        // Pods only where they can be asked for: a cluster's worth of strings is not free.
        let asks = !store.probes.is_empty() || !store.faults.is_empty();
        let pods = store.pods.keys().filter(|_| asks).map(Name::to_string);
        let services = store.services.keys().filter(|_| asks).map(Name::to_string);
        let has_api_server = store.nodes.values().any(|node| is_control_plane(node));
        let own = has_api_server.then(|| API_SERVER.to_owned());
        let services = services.chain(own);
        Names {
            nodes: store.nodes.keys().map(|name| name.name.clone()).collect(),
            pods: pods.collect(),
            services: services.collect(),
            hosts: hosts.map(|host| host.name.clone()).collect(),
        }
    }
}

struct Report<'r> {
    names: &'r Names,
    findings: &'r mut Vec<Finding>,
}

impl Report<'_> {
    fn known(
        &mut self,
        kind: &str,
        known: &BTreeSet<String>,
        name: &str,
        span: impl FnOnce() -> Span,
    ) {
        if known.contains(name) {
            return;
        }
        let help = match closest(name, known.iter().map(String::as_str)) {
            Some(close) => format!("did you mean `{close}`?"),
            None if kind == "external host" => "add it to the Cluster's spec.externalHosts".into(),
            None => format!("add the {kind}'s manifest to the input"),
        };
        self.findings.push(Finding::error(
            span(),
            format!("there is no {kind} `{name}`"),
            help,
        ));
    }

    fn node(&mut self, name: &str, span: impl FnOnce() -> Span) {
        self.known("node", &self.names.nodes, name, span);
    }

    fn pod(&mut self, name: &str, span: impl FnOnce() -> Span) {
        self.known("pod", &self.names.pods, name, span);
    }

    fn host(&mut self, name: &str, span: impl FnOnce() -> Span) {
        self.known("external host", &self.names.hosts, name, span);
    }

    fn service(&mut self, name: &str, span: impl FnOnce() -> Span) {
        if name == API_SERVER && !self.names.services.contains(name) {
            let message =
                format!("there is no Service `{name}`, nor a node that runs the API server");
            let help =
                "add its manifest, or the label node-role.kubernetes.io/control-plane to a Node";
            self.findings.push(Finding::error(span(), message, help));
            return;
        }
        self.known("Service", &self.names.services, name, span);
    }

    fn peer(&mut self, peer: &Peer, span: impl FnOnce() -> Span) {
        match peer {
            Peer::Pod { .. } => self.pod(&peer.to_string(), span),
            Peer::Node(name) => self.node(name, span),
            Peer::Host(name) => self.host(name, span),
            Peer::Service {
                namespace, name, ..
            } => self.service(&format!("{namespace}/{name}"), span),
            Peer::Ip(_) | Peer::Name(_) => {}
        }
    }

    fn blocked(&mut self, blocked: &[Blocked], source: &Source) {
        for (index, entry) in blocked.iter().enumerate() {
            for (field, side) in [("from", &entry.from), ("to", &entry.to)] {
                let span = || source.span_of(&format!("spec.underlay.blocked[{index}].{field}"));
                match side {
                    Some(Side::Node(name)) => self.node(name, span),
                    Some(Side::Host(name)) => self.host(name, span),
                    Some(Side::Cidr(_)) | None => {}
                }
            }
        }
    }
}
