//! The router under test and the hosts around it: the same `ip` lines for the kernel and for podpath.
//!
//! Three cables r0, r1, r2. Routed: each has its own network. Bridged: r0 and r1 are ports of br0. The far ends
//! have no addresses and never answer; every host is a permanent neighbour, so nobody asks for one.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The shape of the router.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// Three networks.
    Routed,
    /// Two bridge ports and a network.
    Bridged,
}

/// The cables.
pub const CABLES: [&str; 3] = ["r0", "r1", "r2"];
/// Hosts of a network have the last numbers 2 to this one.
pub const LAST_HOST: u8 = 15;
/// MTU of r1 where it is routed: smaller, so that packets have to be cut.
const SMALL_MTU: u32 = 1300;

/// The link address of the router's end of a cable.
pub fn router_mac(cable: usize) -> [u8; 6] {
    [2, 0, 0, 0, cable as u8, 1]
}

/// The link address of everybody at the far end of a cable.
pub fn host_mac(cable: usize) -> [u8; 6] {
    [2, 0, 0, 0, cable as u8, 2]
}

/// A link address in words.
pub fn mac(b: [u8; 6]) -> String {
    b.map(|x| format!("{x:02x}")).join(":")
}

/// An address of a network: its host `n`; 1 is the router.
pub fn host(network: usize, n: u8, v6: bool) -> IpAddr {
    let text = match v6 {
        true => format!("fd0{}::{n:x}", network + 1),
        false => format!("10.{}.0.{n}", network + 1),
    };
    text.parse().expect("an address")
}

impl Shape {
    /// The networks there are.
    pub fn networks(self) -> &'static [usize] {
        match self {
            Shape::Routed => &[0, 1, 2],
            Shape::Bridged => &[0, 2],
        }
    }

    /// Behind which cable a host of a network is.
    pub fn cable_of(self, network: usize, n: u8) -> usize {
        match self {
            Shape::Bridged if network == 0 => usize::from(n % 2 == 1),
            _ => network,
        }
    }

    /// The device that has a network's address.
    pub fn device_of(self, network: usize) -> String {
        match self {
            Shape::Bridged if network == 0 => "br0".to_owned(),
            _ => format!("r{network}"),
        }
    }

    /// The interfaces that rules may name.
    pub fn interfaces(self) -> &'static [&'static str] {
        match self {
            Shape::Routed => &["r0", "r1", "r2", "lo"],
            Shape::Bridged => &["br0", "r2", "br0", "lo", "r0"],
        }
    }

    /// The link address a host sends to when it talks to the router.
    pub fn gateway_mac(self, cable: usize) -> [u8; 6] {
        match self {
            Shape::Bridged if cable < 2 => [2, 0, 0, 0, 9, 1],
            _ => router_mac(cable),
        }
    }

    /// Settings of the router, as keys of `sysctl`.
    pub fn sysctls(self) -> Vec<(&'static str, &'static str)> {
        let mut out = vec![
            ("net.ipv6.conf.all.disable_ipv6", "0"),
            ("net.ipv6.conf.default.accept_dad", "0"),
            ("net.ipv4.ip_forward", "1"),
            ("net.ipv6.conf.all.forwarding", "1"),
            ("net.ipv4.conf.all.rp_filter", "0"),
            ("net.ipv4.conf.default.rp_filter", "0"),
            ("net.ipv4.conf.all.send_redirects", "0"),
            ("net.ipv4.conf.default.send_redirects", "0"),
            // No type of error is limited: the kernel takes a random credit for each (`icmp_global_consume`).
            ("net.ipv4.icmp_ratelimit", "0"),
            ("net.ipv6.icmp.ratelimit", "0"),
            ("net.ipv4.icmp_ratemask", "0"),
            ("net.ipv6.icmp.ratemask", "255"),
        ];
        if self == Shape::Bridged {
            out.push(("net.bridge.bridge-nf-call-iptables", "1"));
            out.push(("net.bridge.bridge-nf-call-ip6tables", "1"));
        }
        out
    }

    /// `ip` and `bridge` lines, once the cables are there.
    pub fn lines(self) -> Vec<String> {
        let mut out = vec!["ip link set lo up".to_owned()];
        if self == Shape::Bridged {
            out.push(
                "ip link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0".into(),
            );
            out.push(format!(
                "ip link set br0 address {}",
                mac(self.gateway_mac(0))
            ));
        }
        for (i, r) in CABLES.iter().enumerate() {
            out.push(format!("ip link set {r} address {}", mac(router_mac(i))));
            if self == Shape::Bridged && i < 2 {
                out.push(format!("ip link set {r} master br0"));
            }
            if self == Shape::Routed && i == 1 {
                out.push(format!("ip link set {r} mtu {SMALL_MTU}"));
            }
        }
        for &n in self.networks() {
            let dev = self.device_of(n);
            out.push(format!("ip addr add {}/24 dev {dev}", host(n, 1, false)));
            out.push(format!(
                "ip addr add {}/64 dev {dev} nodad",
                host(n, 1, true)
            ));
            out.push(format!("ip link set {dev} up"));
        }
        if self == Shape::Bridged {
            out.extend(["ip link set r0 up".into(), "ip link set r1 up".into()]);
            for c in 0..2 {
                let mac = mac(host_mac(c));
                out.push(format!("bridge fdb add {mac} dev r{c} master static"));
            }
        }
        for &n in self.networks() {
            for v6 in [false, true] {
                out.extend((2..=LAST_HOST).map(|h| {
                    let (mac, dev) = (mac(host_mac(self.cable_of(n, h))), self.device_of(n));
                    let ip = host(n, h, v6);
                    format!("ip neigh replace {ip} lladdr {mac} dev {dev} nud permanent")
                }));
            }
        }
        for v6 in [false, true] {
            out.push(format!(
                "ip route add default via {}",
                host(2, LAST_HOST, v6)
            ));
        }
        out
    }
}
