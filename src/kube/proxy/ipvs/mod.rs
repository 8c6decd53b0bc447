//! IPVS mode: virtual servers, addresses of kube-ipvs0, ipsets and the iptables rules that use them.
//!
//! kubernetes `pkg/proxy/ipvs/proxier.go` (syncProxyRules). [`Desired`] is what one family's Services want on
//! a node; [`Proxier`] says the [`Step`]s that lead there from what it left before, with real servers that go
//! when their connections are gone (`graceful_termination.go`). Applies nothing. Invariant: after a sync that
//! no connection holds up, what its steps left is [`Desired`], and nothing else of kube-proxy's.

mod proxier;
mod rules;
mod service;
mod sets;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnetwork::IpNetwork;

use super::{KubeProxyConfiguration, Settings, View};
use crate::kube::service::{Family, Protocol, lenient};

pub use proxier::{GRACE_CHECK, Proxier, Step};
pub use rules::{jumps, sysctls};
pub use sets::SetKind;

/// The dummy device that has the addresses.
pub const DEVICE: &str = "kube-ipvs0";
/// The scheduler where none is said.
const SCHEDULER: &str = "rr";

/// What only this mode reads of the configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IpvsSettings {
    /// The scheduler's name.
    pub scheduler: String,
    /// Whether addresses of kube-ipvs0 are kept out of ARP.
    pub strict_arp: bool,
    /// Virtual servers in these ranges are left alone.
    pub exclude: Vec<IpNetwork>,
    /// Idle TCP, TCP after a FIN, UDP, in seconds; 0 leaves the kernel's.
    pub timeouts: [u64; 3],
}

impl IpvsSettings {
    pub(super) fn of(
        config: &KubeProxyConfiguration,
        family: Family,
        wrong: &mut Vec<(&'static str, String)>,
    ) -> Self {
        let ipvs = &config.ipvs;
        let mut exclude = Vec::new();
        for text in ipvs.exclude_cidrs.iter().flatten() {
            match lenient::cidr(text) {
                Some(net) if Family::of(net.ip()) == family => exclude.push(net),
                Some(_) => {}
                None => wrong.push((
                    "ipvs.excludeCIDRs",
                    format!("expected a CIDR, found \"{text}\""),
                )),
            }
        }
        let scheduler = match ipvs.scheduler.as_str() {
            "" => SCHEDULER,
            name => name,
        };
        let times = [ipvs.tcp_timeout, ipvs.tcp_fin_timeout, ipvs.udp_timeout];
        IpvsSettings {
            scheduler: scheduler.to_owned(),
            strict_arp: ipvs.strict_arp,
            exclude,
            timeouts: times.map(|t| t.unwrap_or_default().as_secs()),
        }
    }
}

/// What a virtual server is known by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    /// Address and port.
    pub address: SocketAddr,
    /// Protocol.
    pub protocol: Protocol,
}

/// A virtual server that is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    /// Seconds for which a client stays with its real server.
    pub persistent: Option<u32>,
    /// Real servers, in the order of their addresses as text; weight 1, masquerading.
    pub real: Vec<SocketAddr>,
}

/// What the Services of a family want on a node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Desired {
    /// Virtual servers.
    pub servers: BTreeMap<Key, Server>,
    /// Addresses of kube-ipvs0.
    pub addresses: BTreeSet<IpAddr>,
    /// Entries of sets.
    pub sets: BTreeMap<SetKind, BTreeSet<String>>,
    /// Load-balancer addresses whose ranges leave out the node.
    pub not_from_node: Vec<(IpAddr, Protocol, u16)>,
}

impl Desired {
    /// What a view wants.
    pub fn of(view: &View, settings: &Settings) -> Desired {
        let mut out = Desired::default();
        let node_ips = node_port_ips(settings);
        for port in &view.services {
            let endpoints = view.endpoints_of(&port.name);
            service::add(port, endpoints, settings, &node_ips, &mut out);
        }
        out
    }

    /// The iptables restore input.
    pub fn rules(&self, settings: &Settings) -> String {
        rules::text(self, settings)
    }

    fn entry(&mut self, kind: SetKind, entry: String) {
        self.sets.entry(kind).or_default().insert(entry);
    }

    fn bind(&mut self, ip: IpAddr) {
        self.addresses.insert(ip);
        self.entry(SetKind::Ipvs, ip.to_string());
    }
}

/// The addresses that take NodePorts: never loopback, nor what only one link knows
/// (GetAllLocalAddressesExcept).
fn node_port_ips(settings: &Settings) -> Vec<IpAddr> {
    let usable = |ip: &&IpAddr| {
        let link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        !ip.is_loopback() && !link_local
    };
    let all = settings.node_port_ips.as_ref();
    let all = all.unwrap_or(&settings.addresses).iter();
    let mut out: Vec<IpAddr> = all.filter(usable).copied().collect();
    out.dedup();
    out
}
