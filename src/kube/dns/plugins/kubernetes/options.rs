//! The words of a `kubernetes` block: `plugin/kubernetes/setup.go`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hickory_proto::rr::Name;

use super::super::super::config::{Fallthrough, Reader};
use super::super::super::corefile::Line;
use super::super::super::names;
use super::selector::Selector;

/// How names of pods are answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PodMode {
    /// Not at all.
    #[default]
    Disabled,
    /// From the name alone.
    Insecure,
    /// When such a pod is in the namespace.
    Verified,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Options {
    /// Zones, in lower case.
    pub zones: Vec<Name>,
    /// `pods`.
    pub pods: PodMode,
    /// `endpoint_pod_names`.
    pub pod_names: bool,
    /// `ttl`, seconds.
    pub ttl: u32,
    /// `namespaces`; empty: all.
    pub namespaces: BTreeSet<String>,
    /// `labels`.
    pub labels: Option<Selector>,
    /// `namespace_labels`.
    pub namespace_labels: Option<Selector>,
    /// False with `noendpoints`.
    pub endpoints: bool,
    /// `ignore empty_service`.
    pub ignore_empty: bool,
    /// `zonal` (1.14).
    pub zonal: bool,
    /// `fallthrough`.
    pub fallthrough: Fallthrough,
    /// Addresses of the server that are not loopback; none where `bind` names an address (its parser fails
    /// on one without a prefix length, and no server is found then).
    pub local: Vec<IpAddr>,
}

impl Options {
    /// The first zone that is not below arpa: PTR records point into it.
    pub fn primary_zone(&self) -> Option<&Name> {
        self.zones.iter().find(|zone| !names::is_reverse(zone))
    }

    /// Reads a directive.
    pub(in super::super::super) fn read(
        line: &Line,
        reader: &mut Reader<'_>,
        local: Vec<IpAddr>,
    ) -> Options {
        let mut out = Options {
            zones: reader.zones_or_block(&line.args),
            pods: PodMode::default(),
            pod_names: false,
            ttl: 5,
            namespaces: BTreeSet::new(),
            labels: None,
            namespace_labels: None,
            endpoints: true,
            ignore_empty: false,
            zonal: false,
            fallthrough: Fallthrough::default(),
            local,
        };
        for option in &line.body {
            out.option(option, reader);
        }
        if out.primary_zone().is_none() {
            reader.error(
                &line.name,
                "kubernetes needs a zone that is not a reverse one",
                "name the cluster's domain",
            );
        }
        if !out.namespaces.is_empty() && out.namespace_labels.is_some() {
            reader.error(
                &line.name,
                "namespaces and namespace_labels exclude each other",
                "keep one",
            );
        }
        if out.zonal && !out.endpoints {
            reader.error(&line.name, "zonal needs endpoints", "remove noendpoints");
        }
        out
    }

    fn option(&mut self, line: &Line, reader: &mut Reader<'_>) {
        let first = line.args.first().map(|w| w.text.as_str());
        match line.name.text.as_str() {
            "pods" => match first {
                Some("disabled") => self.pods = PodMode::Disabled,
                Some("insecure") => self.pods = PodMode::Insecure,
                Some("verified") => self.pods = PodMode::Verified,
                _ => reader.error(
                    &line.name,
                    "pods takes disabled, insecure or verified",
                    "write one of them",
                ),
            },
            "endpoint_pod_names" => self.pod_names = true,
            "noendpoints" => self.endpoints = false,
            "zonal" => {
                self.zonal = true;
                if reader.version < super::super::super::corefile::Version::V1_14 {
                    reader.warning(
                        &line.name,
                        "zonal came with CoreDNS 1.14: this version would not start",
                        "",
                    );
                }
            }
            "ignore" if first == Some("empty_service") => self.ignore_empty = true,
            "ttl" => match first.and_then(|t| t.parse().ok()).filter(|t| *t <= 3_600) {
                Some(ttl) => self.ttl = ttl,
                None => reader.error(&line.name, "ttl takes 0 to 3600 seconds", "write a number"),
            },
            "namespaces" if first.is_some() => {
                self.namespaces
                    .extend(line.args.iter().map(|w| w.text.clone()));
            }
            "labels" => self.labels = selector(line, reader),
            "namespace_labels" => self.namespace_labels = selector(line, reader),
            "fallthrough" => self.fallthrough = reader.fallthrough(&line.args),
            // How the API is reached; podpath's API is the cluster's objects.
            "endpoint"
            | "tls"
            | "kubeconfig"
            | "startup_timeout"
            | "apiserver_qps"
            | "apiserver_burst"
            | "apiserver_max_inflight" => {}
            "multicluster" => {
                reader.warning(
                    &line.name,
                    "multicluster is not modelled: its zones are answered as any other",
                    "",
                );
            }
            "resyncperiod" | "upstream" | "transfer" => {
                reader.warning(
                    &line.name,
                    "this option is gone since CoreDNS 1.5 and has no effect",
                    "remove it",
                );
            }
            _ => reader.unknown_option(line, "kubernetes"),
        }
    }
}

fn selector(line: &Line, reader: &mut Reader<'_>) -> Option<Selector> {
    let words: Vec<&str> = line.args.iter().map(|w| w.text.as_str()).collect();
    let selector = Selector::parse(&words.join(" "));
    if selector.is_none() {
        reader.error(
            &line.name,
            "this is no label selector",
            "write it as for kubectl -l: app=web,tier in (a,b)",
        );
    }
    selector
}
