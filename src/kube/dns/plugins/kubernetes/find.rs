//! A name below the zone to what it stands for: `plugin/kubernetes/parse.go`, `kubernetes.go` (Records,
//! findServices, findPods) and `reverse.go`.

use std::net::IpAddr;

use hickory_proto::rr::Name;

use super::super::super::cluster::{Kind, Slice};
use super::super::super::names;
use super::index::{host_label, port_fits};
use super::{Kubernetes, PodMode};

/// What a found thing is reached by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Host {
    Ip(IpAddr),
    Name(String),
}

/// One thing that a name stands for (`msg.Service`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Found {
    pub host: Host,
    /// None: it has no port, so no SRV record.
    pub port: Option<u16>,
    /// The name that SRV records give as its target.
    pub owner: Name,
}

/// Why nothing was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NoSuchName;

pub(super) type Finds = Result<Vec<Found>, NoSuchName>;

/// A name, taken apart from the right. Labels in lower case.
#[derive(Default, Debug)]
struct Asked {
    /// `svc` or `pod`; empty at the apex, at `svc.Z` and `pod.Z`.
    class: String,
    namespace: String,
    service: String,
    endpoint: String,
    port: String,
    protocol: String,
    /// Topology zone and whether all endpoints do where it has none (`zonal`).
    topology: Option<(String, bool)>,
}

fn asked(name: &Name, zone: &Name, zonal: bool) -> Result<Asked, NoSuchName> {
    let count = names::labels(name).saturating_sub(names::labels(zone));
    let labels: Vec<String> = name
        .iter()
        .take(count)
        .map(|l| String::from_utf8_lossy(l).to_ascii_lowercase())
        .collect();
    let mut out = Asked::default();
    let mut left = labels.as_slice();
    match left {
        [] => return Ok(out),
        [one] if matches!(one.as_str(), "svc" | "pod") => return Ok(out),
        _ => {}
    }
    let mut pop = || {
        let (last, rest) = left.split_last()?;
        left = rest;
        Some(last.clone())
    };
    out.class = pop().unwrap_or_default();
    if !matches!(out.class.as_str(), "svc" | "pod") {
        return Err(NoSuchName);
    }
    out.namespace = pop().unwrap_or_default();
    out.service = pop().unwrap_or_default();
    let bare = |label: &str| label.strip_prefix('_').unwrap_or(label).to_owned();
    match left {
        [] => {}
        [endpoint] => out.endpoint = endpoint.clone(),
        [port, protocol] => (out.port, out.protocol) = (bare(port), bare(protocol)),
        [topology @ .., directive, anchor] if zonal && anchor == "_zone" && out.class == "svc" => {
            let prefer = match directive.as_str() {
                "pin" => false,
                "prefer" => true,
                _ => return Err(NoSuchName),
            };
            out.topology = Some((topology.join("."), prefer));
        }
        _ => return Err(NoSuchName),
    }
    Ok(out)
}

impl Kubernetes {
    /// Services, endpoints or pods of a name (`Records`). `zone` is in the case of the query.
    pub(super) fn records(&self, name: &Name, zone: &Name) -> Finds {
        let asked = asked(name, zone, self.options.zonal)?;
        if asked.class.is_empty() {
            return Ok(Vec::new());
        }
        if names::is_reverse(name) || !self.index.exposed(&asked.namespace) {
            return Err(NoSuchName);
        }
        match asked.class.as_str() {
            "pod" => self.pods(&asked, zone),
            _ => self.services(&asked, zone),
        }
    }

    /// Whether a name asks for the endpoints of a topology zone.
    pub(super) fn is_zonal(&self, name: &Name, zone: &Name) -> bool {
        self.options.zonal && asked(name, zone, true).is_ok_and(|a| a.topology.is_some())
    }

    fn pods(&self, asked: &Asked, zone: &Name) -> Finds {
        if self.options.pods == PodMode::Disabled {
            return Err(NoSuchName);
        }
        let label = asked.service.as_str();
        if label.is_empty() {
            return Ok(Vec::new());
        }
        let four = label.matches('-').count() == 3 && !label.contains("--");
        let text = label.replace('-', if four { "." } else { ":" });
        let ip: IpAddr = text.parse().map_err(|_| NoSuchName)?;
        let owner = [label, &asked.namespace, "pod"].map(str::as_bytes);
        let owner = names::join(owner.into_iter(), zone).ok_or(NoSuchName)?;
        let found = Found {
            host: Host::Ip(ip),
            port: Some(0),
            owner,
        };
        match self.options.pods {
            PodMode::Disabled => Err(NoSuchName),
            PodMode::Insecure => Ok(vec![found]),
            PodMode::Verified => {
                let pods = self.index.pods(ip).iter();
                // The text is compared as well: `fd00--0-1` is no pod's name for fd00::1.
                let here = pods.filter(|(ns, _)| *ns == asked.namespace && ip.to_string() == text);
                let all: Vec<Found> = here.map(|_| found.clone()).collect();
                if all.is_empty() {
                    Err(NoSuchName)
                } else {
                    Ok(all)
                }
            }
        }
    }

    fn services(&self, asked: &Asked, zone: &Name) -> Finds {
        if asked.service.is_empty() {
            return Ok(Vec::new());
        }
        let entry = self
            .index
            .get(&asked.service, &asked.namespace)
            .ok_or(NoSuchName)?;
        let service = entry.service.as_ref().ok_or(NoSuchName)?;
        let headless = service.kind == Kind::Headless;
        let clustered = matches!(service.kind, Kind::ClusterIps(_));
        let ready = || entry.slices.iter().any(|s| !s.addresses.is_empty());
        if self.options.ignore_empty && clustered && !ready() {
            return Err(NoSuchName);
        }
        if asked.topology.is_some() && !headless {
            return Err(NoSuchName);
        }
        let owner = self
            .owner(&service.name, &service.namespace, zone)
            .ok_or(NoSuchName)?;
        if let Kind::External(target) = &service.kind {
            let extra =
                !(asked.endpoint.is_empty() && asked.port.is_empty() && asked.protocol.is_empty());
            if extra || target.parse::<IpAddr>().is_ok() {
                return Err(NoSuchName);
            }
            return Ok(vec![Found {
                host: Host::Name(target.clone()),
                port: Some(0),
                owner,
            }]);
        }
        if headless || !asked.endpoint.is_empty() {
            return self.endpoints(asked, &entry.slices, &owner);
        }
        let Kind::ClusterIps(ips) = &service.kind else {
            return Err(NoSuchName);
        };
        let mut found = Vec::new();
        let mut any = false;
        for port in service
            .ports
            .iter()
            .filter(|p| port_fits(p, &asked.port, &asked.protocol))
        {
            any = true;
            found.extend(ips.iter().map(|ip| Found {
                host: Host::Ip(*ip),
                port: port.number,
                owner: owner.clone(),
            }));
        }
        if any { Ok(found) } else { Err(NoSuchName) }
    }

    fn endpoints(&self, asked: &Asked, slices: &[Slice], owner: &Name) -> Finds {
        let mut found = Vec::new();
        let mut add = |topology: &str| {
            for slice in slices {
                for address in &slice.addresses {
                    if !topology.is_empty() && !address.zone.eq_ignore_ascii_case(topology) {
                        continue;
                    }
                    let host = host_label(address, self.options.pod_names);
                    if !asked.endpoint.is_empty() && !asked.endpoint.eq_ignore_ascii_case(&host) {
                        continue;
                    }
                    let Some(owner) = names::under(&host, owner) else {
                        continue;
                    };
                    let ports = slice.ports.iter();
                    found.extend(
                        ports
                            .filter(|p| port_fits(p, &asked.port, &asked.protocol))
                            .map(|p| Found {
                                host: Host::Ip(address.ip),
                                port: p.number,
                                owner: owner.clone(),
                            }),
                    );
                }
            }
            found.len()
        };
        match &asked.topology {
            Some((topology, prefer)) => {
                if add(topology) == 0 && *prefer {
                    add("");
                }
                Ok(found)
            }
            None if add("") == 0 => Err(NoSuchName),
            None => Ok(found),
        }
    }

    /// `service.namespace.svc.zone`.
    pub(super) fn owner(&self, service: &str, namespace: &str, zone: &Name) -> Option<Name> {
        let labels = [service, namespace, "svc"].map(str::as_bytes);
        names::join(labels.into_iter(), zone)
    }

    /// Names of an address (`serviceRecordForIP`): a ClusterIP's Service, else its endpoints.
    pub(super) fn reverse(&self, ip: IpAddr) -> Vec<Name> {
        let Some(zone) = self.options.primary_zone() else {
            return Vec::new();
        };
        let filtered =
            |namespace: &str| !self.options.namespaces.is_empty() && !self.index.exposed(namespace);
        let mut services = self.index.by_cluster_ip(ip);
        if let Some(service) = services.find(|s| !filtered(&s.namespace)) {
            return self
                .owner(&service.name, &service.namespace, zone)
                .into_iter()
                .collect();
        }
        let mut out = Vec::new();
        for (slice, _) in self.index.by_endpoint(ip) {
            if filtered(&slice.namespace) {
                continue;
            }
            let Some(owner) = self.owner(&slice.service, &slice.namespace, zone) else {
                continue;
            };
            for address in slice.addresses.iter().filter(|a| a.ip == ip) {
                let name = names::under(&host_label(address, self.options.pod_names), &owner);
                if let Some(name) = name.filter(|n| !out.contains(n)) {
                    out.push(name);
                }
            }
        }
        out
    }
}
