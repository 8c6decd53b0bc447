//! Ends of a probe and places on the underlay, written as one string.
//!
//! `ns/pod`, `node/NAME`, `host/NAME`, a DNS name (`dns/web`, `web.demo`), an address, each with `:port`
//! if wanted (`[fd00::1]:80`).
//! `node/` and `host/` come before a namespace of that name.

use core::fmt;
use core::str::FromStr;
use std::net::{IpAddr, SocketAddr};

use ipnetwork::IpNetwork;

/// Who sends or receives.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Peer {
    /// A pod.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A node's own network namespace.
    Node(String),
    /// A host outside the cluster: `spec.externalHosts` of the Cluster.
    Host(String),
    /// A Service, by the address of its own: a destination only.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The name of the port meant, if it was given by name.
        port: Option<String>,
    },
    /// A DNS name, which the sender looks up: a destination only.
    Name(String),
    /// An address, whoever has it.
    Ip(IpAddr),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Pod { namespace, name } => write!(f, "{namespace}/{name}"),
            Peer::Node(name) => write!(f, "node/{name}"),
            Peer::Host(name) => write!(f, "host/{name}"),
            Peer::Service {
                namespace,
                name,
                port,
            } => {
                write!(f, "svc/{namespace}/{name}")?;
                port.as_ref().map_or(Ok(()), |p| write!(f, ":{p}"))
            }
            // With a prefix where it could be a pod's name.
            Peer::Name(name) if name.contains('.') => f.write_str(name),
            Peer::Name(name) => write!(f, "dns/{name}"),
            Peer::Ip(ip) => write!(f, "{ip}"),
        }
    }
}

/// A peer and, if written, a port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Target {
    /// Who.
    pub peer: Peer,
    /// The port behind the colon.
    pub port: Option<u16>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.peer, self.port) {
            (Peer::Ip(IpAddr::V6(ip)), Some(port)) => write!(f, "[{ip}]:{port}"),
            (peer, Some(port)) => write!(f, "{peer}:{port}"),
            (peer, None) => write!(f, "{peer}"),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(ip) = text.parse() {
            return Ok(Target {
                peer: Peer::Ip(ip),
                port: None,
            });
        }
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return Ok(Target {
                peer: Peer::Ip(socket.ip()),
                port: Some(socket.port()),
            });
        }
        if let Some(service) = text.strip_prefix("svc/") {
            return service_target(service).ok_or_else(|| wrong(text));
        }
        let wrong = || wrong(text);
        let (peer, port) = match text.split_once(':') {
            Some((peer, port)) => (peer, Some(port.parse::<u16>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        if let Some(name) = dns_name(peer) {
            let peer = Peer::Name(name.to_owned());
            return Ok(Target { peer, port });
        }
        let (first, name) = peer.split_once('/').unwrap_or(("default", peer));
        // Without a slash it is a pod of the namespace `default`; digits and dots alone are a broken
        // address.
        let broken_address =
            !peer.contains('/') && !peer.contains(|c: char| c.is_ascii_alphabetic());
        if !valid(first) || !valid(name) || broken_address {
            return Err(wrong());
        }
        let peer = match first {
            "node" => Peer::Node(name.to_owned()),
            "host" => Peer::Host(name.to_owned()),
            namespace => Peer::Pod {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            },
        };
        Ok(Target { peer, port })
    }
}

fn wrong(text: &str) -> String {
    format!(
        "expected namespace/pod, node/NAME, host/NAME, svc/namespace/name, a DNS name, an IP address or \
         IP:port, found \"{text}\""
    )
}

/// `dns/NAME`, or a name with a dot in it and no slash: a pod with such a name is written with its namespace.
fn dns_name(text: &str) -> Option<&str> {
    let name = match text.strip_prefix("dns/") {
        Some(name) => name,
        None if text.contains('.') && !text.contains('/') => text,
        None => return None,
    };
    let letter = name.contains(|c: char| c.is_ascii_alphabetic());
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    (letter && name.chars().all(inside) && !name.starts_with('.') && !name.contains(".."))
        .then_some(name)
}

/// Whether it could be an object's name.
fn valid(part: &str) -> bool {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    !part.is_empty() && part.chars().all(inside)
}

/// `[namespace/]name[:port]`, the port by number or name.
fn service_target(text: &str) -> Option<Target> {
    let (service, port) = text
        .split_once(':')
        .map_or((text, None), |(s, p)| (s, Some(p)));
    let (namespace, name) = service.split_once('/').unwrap_or(("default", service));
    let number = port.and_then(|p| p.parse::<u16>().ok());
    let named = port.filter(|_| number.is_none());
    if !valid(namespace)
        || !valid(name)
        || named.is_some_and(|p| !valid(p) || p.parse::<u64>().is_ok())
    {
        return None;
    }
    let peer = Peer::Service {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        port: named.map(str::to_owned),
    };
    Some(Target { peer, port: number })
}

/// One side of blocked traffic on the underlay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Side {
    /// Frames that enter or leave by this node's uplink.
    Node(String),
    /// The same of a host outside the cluster.
    Host(String),
    /// Outer addresses in this CIDR; a single address is a /32 or /128.
    Cidr(IpNetwork),
}

impl FromStr for Side {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some(("node", name)) if !name.is_empty() => Ok(Side::Node(name.to_owned())),
            Some(("host", name)) if !name.is_empty() => Ok(Side::Host(name.to_owned())),
            _ => text.parse().map(Side::Cidr).map_err(|_| {
                format!("expected node/NAME, host/NAME, an IP address or a CIDR, found \"{text}\"")
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_read_and_print() {
        for text in [
            "demo/web",
            "demo/web:80",
            "node/n1",
            "host/client:9",
            "10.0.0.1",
            "10.0.0.1:53",
            "fd00::1",
            "[fd00::1]:53",
            "svc/demo/web",
            "svc/demo/web:80",
            "svc/demo/web:http",
            "web.demo.svc.cluster.local.:80",
            "dns/web",
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.to_string(), text);
        }
        assert_eq!(
            "web:80".parse::<Target>().unwrap().to_string(),
            "default/web:80"
        );
        for text in [
            "",
            "/",
            "a/b/c",
            "web:http",
            "10.0.0.300",
            "10.0.0.1:99999",
            "Web",
            "node/",
            "svc/",
            "svc/a/b/c",
            "svc/a/b:99999",
            "a b",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
