//! Ends of a probe and places on the underlay, written as one string.
//!
//! `ns/pod`, `node/NAME`, `host/NAME`, an address, each with `:port` if wanted (`[fd00::1]:80`).
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
    /// An address, whoever has it.
    Ip(IpAddr),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Pod { namespace, name } => write!(f, "{namespace}/{name}"),
            Peer::Node(name) => write!(f, "node/{name}"),
            Peer::Host(name) => write!(f, "host/{name}"),
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
        let wrong = || {
            format!(
                "expected namespace/pod, node/NAME, host/NAME, an IP address or IP:port, found \"{text}\""
            )
        };
        let (peer, port) = match text.split_once(':') {
            Some((peer, port)) => (peer, Some(port.parse::<u16>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let valid = |part: &str| {
            let inside =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
            !part.is_empty() && part.chars().all(inside)
        };
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
            "a b",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
