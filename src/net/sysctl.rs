//! The sysctls that decide a packet's fate, by their real names.
//!
//! Per-device values combine with `all` as the kernel's `IN_DEV_*` macros do (include/linux/inetdevice.h):
//! AND, OR or the larger. A name podpath does not model is kept and said, never refused silently.

use crate::net::icmp_limit::TypeMask;
use crate::net::neigh::NeighParms;
use std::collections::BTreeMap;

/// `net.ipv4.conf.<dev>.*`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv4Conf {
    /// Route packets that came in here.
    pub forwarding: i32,
    /// Reverse path filter: 0 off, 1 strict, 2 loose.
    pub rp_filter: i32,
    /// Answer ARP for what we route elsewhere.
    pub proxy_arp: i32,
    /// Proxy ARP back out of the same device (RFC 3069).
    pub proxy_arp_pvlan: i32,
    /// Which requests are answered: 0 any local address, 1 of this device, 2 and same subnet, 8 none.
    pub arp_ignore: i32,
    /// Which source address is announced: 0 any, 1 prefer the target's subnet, 2 best local.
    pub arp_announce: i32,
    /// Make entries from gratuitous ARP.
    pub arp_accept: i32,
    /// Answer only if the route back leaves here.
    pub arp_filter: i32,
    /// Accept packets with a local source address.
    pub accept_local: i32,
    /// Do not treat 127/8 as martian.
    pub route_localnet: i32,
    /// Send ICMP redirects.
    pub send_redirects: i32,
    /// Redirect even between subnets of one medium.
    pub shared_media: i32,
    /// Obey source routes.
    pub accept_source_route: i32,
    /// Accept redirects.
    pub accept_redirects: i32,
    /// Forward directed broadcasts.
    pub bc_forwarding: i32,
    /// Log martians.
    pub log_martians: i32,
    /// Drop gratuitous ARP.
    pub drop_gratuitous_arp: i32,
    /// Do not use routes through a device without carrier.
    pub ignore_routes_with_linkdown: i32,
}

impl Default for Ipv4Conf {
    /// Kernel defaults (`ipv4_devconf`).
    fn default() -> Self {
        Ipv4Conf {
            forwarding: 0,
            rp_filter: 0,
            proxy_arp: 0,
            proxy_arp_pvlan: 0,
            arp_ignore: 0,
            arp_announce: 0,
            arp_accept: 0,
            arp_filter: 0,
            accept_local: 0,
            route_localnet: 0,
            send_redirects: 1,
            shared_media: 1,
            accept_source_route: 0,
            accept_redirects: 1,
            bc_forwarding: 0,
            log_martians: 0,
            drop_gratuitous_arp: 0,
            ignore_routes_with_linkdown: 0,
        }
    }
}

impl Ipv4Conf {
    fn slot(&mut self, key: &str) -> Option<&mut i32> {
        Some(match key {
            "forwarding" => &mut self.forwarding,
            "rp_filter" => &mut self.rp_filter,
            "proxy_arp" => &mut self.proxy_arp,
            "proxy_arp_pvlan" => &mut self.proxy_arp_pvlan,
            "arp_ignore" => &mut self.arp_ignore,
            "arp_announce" => &mut self.arp_announce,
            "arp_accept" => &mut self.arp_accept,
            "arp_filter" => &mut self.arp_filter,
            "accept_local" => &mut self.accept_local,
            "route_localnet" => &mut self.route_localnet,
            "send_redirects" => &mut self.send_redirects,
            "shared_media" => &mut self.shared_media,
            "accept_source_route" => &mut self.accept_source_route,
            "accept_redirects" => &mut self.accept_redirects,
            "bc_forwarding" => &mut self.bc_forwarding,
            "drop_gratuitous_arp" => &mut self.drop_gratuitous_arp,
            "ignore_routes_with_linkdown" => &mut self.ignore_routes_with_linkdown,
            "log_martians" => &mut self.log_martians,
            _ => return None,
        })
    }
}

/// `net.ipv6.conf.<dev>.*`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv6Conf {
    /// No IPv6 here.
    pub disable_ipv6: i32,
    /// Route packets.
    pub forwarding: i32,
    /// Answer solicitations for proxied addresses.
    pub proxy_ndp: i32,
    /// Probe for duplicates before using an address.
    pub accept_dad: i32,
    /// Hop limit of own packets.
    pub hop_limit: i32,
    /// IPv6 MTU of the device, 0 for the device's own.
    pub mtu: i32,
    /// How the link-local address is made: 0 EUI-64, 1 none.
    pub addr_gen_mode: i32,
}

impl Default for Ipv6Conf {
    /// Kernel defaults (`ipv6_devconf_dflt`).
    fn default() -> Self {
        Ipv6Conf {
            disable_ipv6: 0,
            forwarding: 0,
            proxy_ndp: 0,
            accept_dad: 1,
            hop_limit: 64,
            mtu: 0,
            addr_gen_mode: 0,
        }
    }
}

impl Ipv6Conf {
    fn slot(&mut self, key: &str) -> Option<&mut i32> {
        Some(match key {
            "disable_ipv6" => &mut self.disable_ipv6,
            "forwarding" => &mut self.forwarding,
            "proxy_ndp" => &mut self.proxy_ndp,
            "accept_dad" => &mut self.accept_dad,
            "hop_limit" => &mut self.hop_limit,
            "mtu" => &mut self.mtu,
            "addr_gen_mode" => &mut self.addr_gen_mode,
            _ => return None,
        })
    }
}

/// The sysctls of a namespace that are not a device's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sysctl {
    /// `conf.all` of IPv4.
    pub all4: Ipv4Conf,
    /// `conf.default` of IPv4: what a new device starts with.
    pub default4: Ipv4Conf,
    /// `conf.all` of IPv6.
    pub all6: Ipv6Conf,
    /// `conf.default` of IPv6.
    pub default6: Ipv6Conf,
    /// `net.ipv4.ip_default_ttl`
    pub ip_default_ttl: i32,
    /// `net.ipv4.ip_forward_use_pmtu`
    pub ip_forward_use_pmtu: i32,
    /// `net.ipv4.route.min_pmtu`
    pub min_pmtu: i32,
    /// `net.ipv4.route.mtu_expires`, seconds.
    pub mtu_expires: i32,
    /// `net.ipv6.route.mtu_expires`, seconds.
    pub mtu_expires6: i32,
    /// `net.ipv4.icmp_ratelimit`, milliseconds between two errors to one host.
    pub icmp_ratelimit: i32,
    /// `net.ipv4.icmp_ratemask`
    pub icmp_ratemask: i32,
    /// `net.ipv6.icmp.ratelimit`, milliseconds.
    pub icmp6_ratelimit: i32,
    /// `net.ipv6.icmp.ratemask`
    pub icmp6_ratemask: TypeMask,
    /// `net.ipv4.icmp_echo_ignore_all`
    pub icmp_echo_ignore_all: i32,
    /// `net.ipv4.icmp_echo_ignore_broadcasts`
    pub icmp_echo_ignore_broadcasts: i32,
    /// `net.ipv4.icmp_errors_use_inbound_ifaddr`
    pub icmp_errors_use_inbound_ifaddr: i32,
    /// `net.ipv4.ipfrag_time`, seconds.
    pub ipfrag_time: i32,
    /// `net.ipv6.ip6frag_time`, seconds.
    pub ip6frag_time: i32,
    /// `net.ipv4.ip_no_pmtu_disc`
    pub ip_no_pmtu_disc: i32,
    /// `net.ipv4.fwmark_reflect`
    pub fwmark_reflect: i32,
    /// `net.ipv4.fib_multipath_hash_policy`
    pub fib_multipath_hash_policy: i32,
    /// `net.ipv4.fib_multipath_hash_seed`
    pub fib_multipath_hash_seed: u32,
    /// `net.ipv4.neigh.default.*`: what a new device starts with.
    pub neigh4: NeighParms,
    /// `net.ipv6.neigh.default.*`
    pub neigh6: NeighParms,
    /// `net.bridge.bridge-nf-call-iptables`
    pub bridge_nf_call_iptables: i32,
    /// `net.bridge.bridge-nf-call-ip6tables`
    pub bridge_nf_call_ip6tables: i32,
    /// `net.bridge.bridge-nf-call-arptables`
    pub bridge_nf_call_arptables: i32,
    /// `net.ipv4.neigh.default.gc_thresh3`
    pub gc_thresh3: i32,
    /// `net.ipv6.neigh.default.gc_thresh3`
    pub gc_thresh3_v6: i32,
    /// `net.ipv4.ip_local_port_range`, low and high.
    pub ip_local_port_range: (u16, u16),
    /// `net.netfilter.nf_conntrack_*`
    pub ct: crate::nf::ct::CtSysctl,
    /// `net.ipv4.vs.*`
    pub vs: crate::ipvs::sysctl::VsSysctl,
    /// Everything else that was set, as it was written.
    pub other: BTreeMap<String, String>,
}

impl Default for Sysctl {
    fn default() -> Self {
        Sysctl {
            all4: Ipv4Conf::default(),
            default4: Ipv4Conf::default(),
            all6: Ipv6Conf::default(),
            default6: Ipv6Conf::default(),
            ip_default_ttl: 64,
            ip_forward_use_pmtu: 0,
            min_pmtu: 552,
            mtu_expires: 600,
            mtu_expires6: 600,
            icmp_ratelimit: 1000,
            icmp_ratemask: 0x1818,
            icmp6_ratelimit: 1000,
            icmp6_ratemask: TypeMask::default(),
            icmp_echo_ignore_all: 0,
            icmp_echo_ignore_broadcasts: 1,
            icmp_errors_use_inbound_ifaddr: 0,
            ipfrag_time: 30,
            ip6frag_time: 60,
            ip_no_pmtu_disc: 0,
            fwmark_reflect: 0,
            fib_multipath_hash_policy: 0,
            fib_multipath_hash_seed: 0,
            neigh4: NeighParms::new(true),
            neigh6: NeighParms::new(false),
            bridge_nf_call_iptables: 0,
            bridge_nf_call_ip6tables: 0,
            bridge_nf_call_arptables: 0,
            gc_thresh3: 1024,
            gc_thresh3_v6: 1024,
            ip_local_port_range: (32768, 60999),
            ct: crate::nf::ct::CtSysctl::default(),
            vs: crate::ipvs::sysctl::VsSysctl::default(),
            other: BTreeMap::new(),
        }
    }
}

impl Sysctl {
    fn slot(&mut self, key: &str) -> Option<&mut i32> {
        if let Some(k) = key.strip_prefix("net.netfilter.nf_conntrack_") {
            return self.ct.slot(k);
        }
        if let Some(k) = key.strip_prefix("net.ipv4.vs.") {
            return self.vs.slot(k);
        }
        Some(match key {
            "net.nf_conntrack_max" => &mut self.ct.max,
            "net.ipv4.ip_default_ttl" => &mut self.ip_default_ttl,
            "net.ipv4.ip_forward_use_pmtu" => &mut self.ip_forward_use_pmtu,
            "net.ipv4.route.min_pmtu" => &mut self.min_pmtu,
            "net.ipv4.route.mtu_expires" => &mut self.mtu_expires,
            "net.ipv6.route.mtu_expires" => &mut self.mtu_expires6,
            "net.ipv4.icmp_ratelimit" => &mut self.icmp_ratelimit,
            "net.ipv4.icmp_ratemask" => &mut self.icmp_ratemask,
            "net.ipv6.icmp.ratelimit" => &mut self.icmp6_ratelimit,
            "net.ipv4.icmp_echo_ignore_all" => &mut self.icmp_echo_ignore_all,
            "net.ipv4.icmp_echo_ignore_broadcasts" => &mut self.icmp_echo_ignore_broadcasts,
            "net.ipv4.icmp_errors_use_inbound_ifaddr" => &mut self.icmp_errors_use_inbound_ifaddr,
            "net.ipv4.ipfrag_time" => &mut self.ipfrag_time,
            "net.ipv6.ip6frag_time" => &mut self.ip6frag_time,
            "net.ipv4.ip_no_pmtu_disc" => &mut self.ip_no_pmtu_disc,
            "net.ipv4.fib_multipath_hash_policy" => &mut self.fib_multipath_hash_policy,
            "net.ipv4.fwmark_reflect" => &mut self.fwmark_reflect,
            "net.bridge.bridge-nf-call-iptables" => &mut self.bridge_nf_call_iptables,
            "net.bridge.bridge-nf-call-ip6tables" => &mut self.bridge_nf_call_ip6tables,
            "net.bridge.bridge-nf-call-arptables" => &mut self.bridge_nf_call_arptables,
            "net.ipv4.neigh.default.gc_thresh3" => &mut self.gc_thresh3,
            "net.ipv6.neigh.default.gc_thresh3" => &mut self.gc_thresh3_v6,
            _ => return None,
        })
    }
}

/// What setting a sysctl did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SetSysctl {
    /// It is modelled and set.
    Done,
    /// Kept, but nothing in podpath reads it.
    NotModelled,
}

/// Why a sysctl was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SysctlError {
    /// The value is not a number.
    #[error("{key}: not an integer: {value:?}")]
    NotANumber {
        /// The sysctl's name.
        key: String,
        /// What was given.
        value: String,
    },
    /// It names a device that is not there.
    #[error("{key}: no device {dev:?} in this namespace")]
    NoDevice {
        /// The sysctl's name.
        key: String,
        /// The device in it.
        dev: String,
    },
}

/// A sysctl name taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SysctlKey<'a> {
    /// `net.ipv4.conf.<dev>.<key>` (true) or `net.ipv6.conf.<dev>.<key>` (false).
    Conf(bool, &'a str, &'a str),
    /// `net.ipv4.neigh.<dev>.<key>` or `net.ipv6...`
    Neigh(bool, &'a str, &'a str),
    /// Anything else, dots as separators.
    Other(&'a str),
}

impl<'a> SysctlKey<'a> {
    /// Takes a name apart; dots separate, but a device name may contain dots (`flannel.1`).
    pub fn parse(key: &'a str) -> Self {
        for (prefix, v4) in [("net.ipv4.", true), ("net.ipv6.", false)] {
            let Some(rest) = key.strip_prefix(prefix) else {
                continue;
            };
            if let Some((dev, k)) = rest.strip_prefix("conf.").and_then(|r| r.rsplit_once('.')) {
                return SysctlKey::Conf(v4, dev, k);
            }
            if let Some((dev, k)) = rest.strip_prefix("neigh.").and_then(|r| r.rsplit_once('.'))
                && !k.starts_with("gc_thresh")
            {
                return SysctlKey::Neigh(v4, dev, k);
            }
        }
        SysctlKey::Other(key)
    }
}

/// Sets one value of `conf`, IPv4 or IPv6.
pub(crate) fn set_conf(
    v4: &mut Ipv4Conf,
    v6: &mut Ipv6Conf,
    is4: bool,
    key: &str,
    value: i32,
) -> SetSysctl {
    let slot = if is4 { v4.slot(key) } else { v6.slot(key) };
    match slot {
        Some(s) => {
            *s = value;
            SetSysctl::Done
        }
        None => SetSysctl::NotModelled,
    }
}

impl Sysctl {
    /// How multipath routes hash.
    pub fn multipath(&self) -> crate::net::fib::Multipath {
        crate::net::fib::Multipath {
            policy: self.fib_multipath_hash_policy,
            seed: self.fib_multipath_hash_seed,
        }
    }

    /// Sets a value that is no device's.
    pub(crate) fn set_global(&mut self, key: &str, value: &str) -> Result<SetSysctl, SysctlError> {
        if key == "net.ipv4.ip_local_port_range" {
            let mut n = value.split_whitespace().map(str::parse);
            if let (Some(Ok(lo)), Some(Ok(hi))) = (n.next(), n.next()) {
                self.ip_local_port_range = (lo, hi);
                return Ok(SetSysctl::Done);
            }
            return Err(SysctlError::NotANumber {
                key: key.to_owned(),
                value: value.to_owned(),
            });
        }
        if key == "net.ipv6.icmp.ratemask" {
            let bad = || SysctlError::NotANumber {
                key: key.to_owned(),
                value: value.to_owned(),
            };
            self.icmp6_ratemask = TypeMask::parse(value).ok_or_else(bad)?;
            return Ok(SetSysctl::Done);
        }
        if key == "net.ipv4.fib_multipath_hash_seed" {
            let bad = || SysctlError::NotANumber {
                key: key.to_owned(),
                value: value.to_owned(),
            };
            let v = value.trim();
            let n = v
                .strip_prefix("0x")
                .map_or_else(|| v.parse().ok(), |h| u32::from_str_radix(h, 16).ok());
            self.fib_multipath_hash_seed = n.ok_or_else(bad)?;
            return Ok(SetSysctl::Done);
        }
        match self.slot(key) {
            Some(s) => {
                *s = parse_value(key, value)?;
                Ok(SetSysctl::Done)
            }
            None => {
                self.other.insert(key.to_owned(), value.to_owned());
                Ok(SetSysctl::NotModelled)
            }
        }
    }
}

/// The integer value of a sysctl.
pub(crate) fn parse_value(key: &str, value: &str) -> Result<i32, SysctlError> {
    let v = value.trim();
    v.parse().map_err(|_| SysctlError::NotANumber {
        key: key.to_owned(),
        value: v.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_may_contain_dots() {
        let k = SysctlKey::parse("net.ipv4.conf.flannel.1.rp_filter");
        assert_eq!(k, SysctlKey::Conf(true, "flannel.1", "rp_filter"));
        assert_eq!(
            SysctlKey::parse("net.ipv4.ip_forward"),
            SysctlKey::Other("net.ipv4.ip_forward")
        );
        let k = "net.ipv4.neigh.default.gc_thresh3";
        assert_eq!(SysctlKey::parse(k), SysctlKey::Other(k));
    }

    #[test]
    fn unknown_names_are_kept() {
        let mut s = Sysctl::default();
        assert_eq!(
            s.set_global("net.core.somaxconn", "4096"),
            Ok(SetSysctl::NotModelled)
        );
        assert_eq!(s.other["net.core.somaxconn"], "4096");
        assert!(s.set_global("net.ipv4.ip_default_ttl", "x").is_err());
    }
}
