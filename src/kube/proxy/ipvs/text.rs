//! The texts: `ipvsadm` lines and `ipset restore` lines.
//!
//! ipvsadm's own words as `ipvsadm -Sn` prints them (ipvsadm.c, print_service_entry with FMT_RULE).

use core::fmt::Write;
use std::net::SocketAddr;

use super::{Desired, IpvsSettings, Key, SetKind};
use crate::kube::service::{Family, Protocol};

impl Key {
    /// `-t 10.0.0.1:80`.
    pub(super) fn option(&self) -> String {
        let flag = match self.protocol {
            Protocol::Tcp => "-t",
            Protocol::Udp => "-u",
            Protocol::Sctp => "--sctp-service",
        };
        format!("{flag} {}", self.address)
    }
}

/// `VERB -t 10.0.0.1:80 -s rr -p 300`.
pub(super) fn service(
    verb: &str,
    key: &Key,
    persistent: Option<u32>,
    settings: &IpvsSettings,
) -> String {
    let mut line = format!("{verb} {} -s {}", key.option(), settings.scheduler);
    if let Some(seconds) = persistent {
        let _ = write!(line, " -p {seconds}");
    }
    if settings.scheduler == "mh" {
        // FlagSourceHash: the source port counts too.
        line.push_str(" -b mh-port");
    }
    line
}

/// `VERB -t 10.0.0.1:80 -r 10.0.0.2:8080 -m -w 1`.
pub(super) fn real(verb: &str, key: &Key, real: SocketAddr, weight: u32) -> String {
    format!("{verb} {} -r {real} -m -w {weight}", key.option())
}

impl Desired {
    /// What `ipvsadm -Sn` prints, virtual servers in the order of their addresses as text.
    pub fn ipvsadm(&self, settings: &IpvsSettings) -> String {
        let mut all: Vec<_> = self.servers.iter().collect();
        all.sort_by_key(|(key, _)| {
            let at = key.address;
            (at.ip().to_string(), at.port(), key.protocol)
        });
        let mut out = String::new();
        for (key, server) in all {
            let _ = writeln!(out, "{}", service("-A", key, server.persistent, settings));
            for to in &server.real {
                let _ = writeln!(out, "{}", real("-a", key, *to, 1));
            }
        }
        out
    }

    /// What makes the sets with their entries on a clean machine.
    pub fn ipset(&self, family: Family) -> String {
        let mut out = String::new();
        for kind in SetKind::ALL {
            let _ = writeln!(out, "{}", kind.create(family));
        }
        for (kind, entries) in &self.sets {
            for entry in entries {
                let _ = writeln!(out, "add {} {entry} -exist", kind.name(family));
            }
        }
        out
    }
}
