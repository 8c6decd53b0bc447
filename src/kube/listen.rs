//! On which ports a pod listens: its containers' ports, or what an annotation says instead.
//!
//! Kubernetes' `ports` are informative only; `podpath.dev/listen: "8080/tcp,5353/udp"` replaces them
//! where they are missing or wrong, and `podpath.dev/listen-address` narrows the address (`127.0.0.1`
//! is a common mistake worth showing). Init containers are over when packets flow, unless they are
//! sidecars.

use core::fmt;
use core::str::FromStr;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Pod};

/// The annotation that replaces the containers' ports.
pub const LISTEN: &str = "podpath.dev/listen";
/// The annotation that says on which address.
pub const LISTEN_ADDRESS: &str = "podpath.dev/listen-address";
const LISTEN_PATH: &str = "metadata.annotations[\"podpath.dev/listen\"]";
const LISTEN_ADDRESS_PATH: &str = "metadata.annotations[\"podpath.dev/listen-address\"]";

/// A transport protocol of a port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

/// A port and its protocol, written `8080/tcp`; `8080` is TCP.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Port {
    /// 1 to 65535.
    pub number: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected a port such as 8080/tcp or 5353/udp, found \"{text}\"");
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => return Err(wrong()),
        };
        let number = number
            .parse()
            .ok()
            .filter(|number| *number != 0)
            .ok_or_else(wrong)?;
        Ok(Port { number, protocol })
    }
}

/// One port a pod listens on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// The port inside the pod.
    pub port: Port,
    /// Its name, for Services' named target ports.
    pub name: Option<String>,
    /// The node's port that leads to it (portmap), if any.
    pub host_port: Option<HostPort>,
}

/// A port of the node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostPort {
    /// 1 to 65535.
    pub number: u16,
    /// Only on this address of the node.
    pub ip: Option<IpAddr>,
}

/// What a pod listens on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Listen {
    /// Only on this address; on all when absent.
    pub address: Option<IpAddr>,
    /// The ports, in the order written, without repetition.
    pub ports: Vec<Listener>,
}

impl Listen {
    /// Whether somebody answers on `port` at `address`.
    pub fn accepts(&self, address: IpAddr, port: Port) -> bool {
        let here = self
            .address
            .is_none_or(|own| own == address || own.is_unspecified());
        here && self.ports.iter().any(|listener| listener.port == port)
    }
}

/// A field that could not be read: its path, what was expected, what to do.
pub type Problem = (&'static str, String, String);

/// What `pod` listens on, and what is wrong with its annotations. Wrong container ports are left out:
/// the store's validation has reported them.
pub fn of_pod(pod: &Pod) -> (Listen, Vec<Problem>) {
    let mut problems = Vec::new();
    let annotation = |key: &str| {
        pod.metadata
            .annotations
            .as_ref()
            .and_then(|all| all.get(key))
    };
    let address = annotation(LISTEN_ADDRESS).and_then(|text| {
        let address = text.trim().parse().ok();
        if address.is_none() {
            let message = format!("expected an IP address, found the string \"{text}\"");
            problems.push((LISTEN_ADDRESS_PATH, message, String::new()));
        }
        address
    });
    let mut ports: Vec<Listener> = Vec::new();
    let mut add = |listener: Listener| {
        if !ports
            .iter()
            .any(|other| other.port == listener.port && other.host_port == listener.host_port)
        {
            ports.push(listener);
        }
    };
    if let Some(text) = annotation(LISTEN) {
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            match part.parse() {
                Ok(port) => add(Listener {
                    port,
                    name: None,
                    host_port: None,
                }),
                Err(message) => {
                    problems.push((LISTEN_PATH, message, "separate ports with commas".into()))
                }
            }
        }
    } else if let Some(spec) = &pod.spec {
        // A restartable init container is a sidecar (KEP-753) and runs as long as the pod.
        let is_sidecar =
            |container: &&Container| container.restart_policy.as_deref() == Some("Always");
        let sidecars = spec.init_containers.iter().flatten().filter(is_sidecar);
        let shares_node = spec.host_network.unwrap_or(false);
        spec.containers
            .iter()
            .chain(sidecars)
            .flat_map(|container| of_container(container, shares_node))
            .for_each(add);
    }
    (Listen { address, ports }, problems)
}

fn of_container(container: &Container, shares_node: bool) -> impl Iterator<Item = Listener> {
    container.ports.iter().flatten().filter_map(move |port| {
        let protocol = match port.protocol.as_deref() {
            None | Some("" | "TCP") => Protocol::Tcp,
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            Some(_) => return None,
        };
        let valid = |number: i32| u16::try_from(number).ok().filter(|number| *number != 0);
        let number = valid(port.container_port)?;
        // In the node's own namespace the port is the node's already; portmap is not asked.
        let host_port = port
            .host_port
            .filter(|_| !shares_node)
            .and_then(valid)
            .map(|number| HostPort {
                number,
                ip: port.host_ip.as_deref().and_then(|ip| ip.parse().ok()),
            });
        let name = port.name.clone().filter(|name| !name.is_empty());
        Some(Listener {
            port: Port { number, protocol },
            name,
            host_port,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::manifest::{Input, parse};

    fn listen(annotations: &str) -> (Listen, Vec<Problem>) {
        let text = format!(
            "metadata: {{annotations: {{{annotations}}}}}\nspec:\n  containers:\n  - name: a\n    \
             ports:\n    \
             - {{containerPort: 80, name: http, hostPort: 8080, hostIP: 10.0.0.1}}\n    \
             - {{containerPort: 53, protocol: UDP}}\n    \
             - {{containerPort: 80}}\n    - {{containerPort: 0}}\n"
        );
        let (pod, findings) = parse::<Pod>(&Input::new("f", text));
        assert_eq!(findings, []);
        of_pod(&pod.unwrap())
    }

    #[test]
    fn containers_ports() {
        let (listen, problems) = listen("");
        let ports: Vec<String> = listen
            .ports
            .iter()
            .map(|listener| listener.port.to_string())
            .collect();
        assert_eq!(
            (ports.join(","), problems.len()),
            ("80/tcp,53/udp,80/tcp".into(), 0)
        );
        let first = listen.ports.first().unwrap();
        assert_eq!(first.name.as_deref(), Some("http"));
        assert_eq!(
            first.host_port,
            Some(HostPort {
                number: 8080,
                ip: "10.0.0.1".parse().ok()
            })
        );
        assert!(listen.accepts("10.244.0.2".parse().unwrap(), "53/udp".parse().unwrap()));
    }

    #[test]
    fn the_annotation_replaces_them() {
        let (listen, problems) = listen(
            "podpath.dev/listen: '8080/tcp, 5353/UDP,x', podpath.dev/listen-address: 127.0.0.1",
        );
        assert_eq!(listen.ports.len(), 2);
        assert!(listen.accepts("127.0.0.1".parse().unwrap(), "8080".parse().unwrap()));
        assert!(!listen.accepts("10.244.0.2".parse().unwrap(), "8080".parse().unwrap()));
        assert_eq!(problems.first().map(|problem| problem.0), Some(LISTEN_PATH));
    }
}
