//! A Service as the far end of a probe: its address, its port, its protocol.
//!
//! Looks at the Service only; what becomes of a packet to it is decided on its way. Invariant: a port that
//! the Service does not have is refused in words, a number is taken as it is (an undefined port is a
//! question one may want to ask).

use crate::cluster::Cluster;
use crate::kube::listen::Protocol;
use crate::kube::podpath_v1alpha1::{Family, Peer, ProbeProtocol, ProbeSpec, Target};
use crate::kube::service::{self, ServicePort, service_ports};
use std::net::IpAddr;

/// The ports of the Service that a target names, IPv4 first.
///
/// # Errors
/// In words, when there is no such Service or it has no address of its own.
pub(super) fn ports_of(c: &Cluster, t: &Target) -> Result<Vec<ServicePort>, String> {
    let Peer::Service {
        namespace, name, ..
    } = &t.peer
    else {
        return Ok(Vec::new());
    };
    let known = |n: &crate::kube::store::Name| n.namespace == *namespace && n.name == *name;
    if !c.desired.services.keys().any(known) {
        return Err(format!("there is no Service {namespace}/{name}"));
    }
    let both = service::Family::ALL.into_iter();
    let all = both.flat_map(|f| service_ports(&c.desired.services, f));
    let ports: Vec<_> = all.filter(|p| known(&p.name.service)).collect();
    match ports.is_empty() {
        true => Err(format!(
            "Service {namespace}/{name} has no address of its own (headless, ExternalName): name a pod"
        )),
        false => Ok(ports),
    }
}

/// The ClusterIP to ask: of the wanted family, else of one that the sender has.
pub(super) fn address(
    t: &Target,
    ports: &[ServicePort],
    mine: &[IpAddr],
    family: Option<Family>,
) -> Result<IpAddr, String> {
    let mut all: Vec<IpAddr> = ports.iter().map(|p| p.cluster_ip).collect();
    all.dedup();
    match family {
        Some(f) => all.retain(|a| a.is_ipv4() == (f == Family::Ipv4)),
        None => all.sort_by_key(|a| !mine.iter().any(|m| m.is_ipv4() == a.is_ipv4())),
    }
    let first = all.first().copied();
    first.ok_or_else(|| format!("{t} has no address of the wanted family"))
}

/// Whether a port is the one meant: by name, by number, or any.
fn meant(t: &Target, p: &ServicePort) -> bool {
    match (&t.peer, t.port) {
        (
            Peer::Service {
                port: Some(name), ..
            },
            _,
        ) => p.name.port == *name,
        (_, Some(number)) => p.port == number,
        _ => true,
    }
}

fn kind(p: Protocol) -> Option<ProbeProtocol> {
    match p {
        Protocol::Tcp => Some(ProbeProtocol::Tcp),
        Protocol::Udp => Some(ProbeProtocol::Udp),
        Protocol::Sctp => None,
    }
}

/// The protocol of the port that a target means; `None` for what is no Service or leaves it open.
pub fn protocol(c: &Cluster, t: &Target) -> Option<ProbeProtocol> {
    let ports = ports_of(c, t).ok()?;
    ports
        .iter()
        .find(|p| meant(t, p))
        .and_then(|p| kind(p.protocol()))
}

/// The number of the port that a probe means.
///
/// # Errors
/// In words, when the Service has no port of that name and protocol, or several and none was named.
pub(super) fn port(c: &Cluster, spec: &ProbeSpec) -> Result<u16, String> {
    let t = &spec.to;
    if let Some(number) = spec.port() {
        return Ok(number);
    }
    let ports = ports_of(c, t)?;
    let fits = |p: &&ServicePort| meant(t, p) && kind(p.protocol()) == Some(spec.protocol);
    let mut numbers: Vec<u16> = ports.iter().filter(fits).map(|p| p.port).collect();
    numbers.dedup();
    match numbers.as_slice() {
        [one] => Ok(*one),
        _ => {
            let list: Vec<String> = ports
                .iter()
                .map(|p| format!("{} {}/{}", p.name.port, p.port, p.protocol()))
                .collect();
            Err(format!(
                "{t}: which port? It has {}",
                list.join(", ").replace("  ", " ")
            ))
        }
    }
}
