//! Services and EndpointSlices as every kube-proxy sees them: one service port per port and IP family, and
//! the endpoints that belong to it by label, port name and protocol.
//!
//! [`port`] reads Services, [`endpoint`] joins slices, `check` says what the API server would refuse.
//! Does not choose endpoints (that is `kube::proxy::topology`) and allocates nothing. Invariant: what is
//! read depends on names and contents only, never on the order of files.

pub(crate) mod check;
pub mod endpoint;
pub mod lenient;
pub mod port;

use core::fmt;
use std::net::IpAddr;

use crate::kube::store::Name;

pub use crate::kube::listen::Protocol;
pub use endpoint::{Endpoint, endpoints};
pub use port::{ServicePort, service_ports};

/// An IP family: each has a kube-proxy of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in the order in which kube-proxy starts them.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address.
    pub fn of(ip: IpAddr) -> Family {
        if ip.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// The API's word for it: `IPv4`, `IPv6`.
    pub fn name(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }
}

/// The API's protocol word; none for what is no protocol.
pub(crate) fn protocol(text: Option<&str>) -> Option<Protocol> {
    match text {
        None | Some("" | "TCP") => Some(Protocol::Tcp),
        Some("UDP") => Some(Protocol::Udp),
        Some("SCTP") => Some(Protocol::Sctp),
        Some(_) => None,
    }
}

/// What identifies a service port: kubernetes `pkg/proxy/types.go` (ServicePortName).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PortName {
    /// The Service.
    pub service: Name,
    /// The port's name, which may be empty.
    pub port: String,
    /// The protocol.
    pub protocol: Protocol,
}

impl fmt::Display for PortName {
    /// `namespace/name:port`, without the colon for a port without a name (ServicePortName.String).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service.namespace, self.service.name)?;
        match self.port.as_str() {
            "" => Ok(()),
            port => write!(f, ":{port}"),
        }
    }
}
