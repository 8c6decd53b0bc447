//! Addresses as Go's `net` package reads and prints them, where that decides what a plugin accepts or says.

use crate::wire::MacAddr;
use ipnetwork::IpNetwork;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `net.ParseIP`; IPv4-mapped IPv6 becomes IPv4, as `IP.To4` makes it.
pub fn parse_ip(s: &str) -> Option<IpAddr> {
    s.parse::<IpAddr>().ok().map(canonical)
}

/// IPv4-mapped IPv6 is IPv4 to Go.
pub fn canonical(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(a) => a.to_ipv4_mapped().map_or(ip, IpAddr::V4),
        v4 => v4,
    }
}

/// `net.ParseCIDR`, host bits kept (as `types.ParseCIDR` of the CNI library does).
pub fn parse_cidr(s: &str) -> Result<IpNetwork, String> {
    let bad = || format!("invalid CIDR address: {s}");
    let (ip, len) = s.split_once('/').ok_or_else(bad)?;
    if len.is_empty() || len.len() > 4 || !len.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let ip: IpAddr = ip.parse().map_err(|_| bad())?;
    IpNetwork::new(ip, len.parse().map_err(|_| bad())?).map_err(|_| bad())
}

/// A field of type `net.IP`: empty is none.
pub fn parse_ip_field(s: &str) -> Result<Option<IpAddr>, String> {
    if s.is_empty() {
        return Ok(None);
    }
    parse_ip(s)
        .map(Some)
        .ok_or_else(|| format!("invalid IP address: {s}"))
}

/// `pkg/ip`'s `IP`: an address with or without prefix length; the address is what counts.
pub fn parse_ip_or_cidr(s: &str) -> Option<IpAddr> {
    if s.contains('/') {
        parse_cidr(s).ok().map(|n| canonical(n.ip()))
    } else {
        parse_ip(s)
    }
}

/// The address after `ip` (`pkg/ip` `NextIP`); the last one wraps to the first.
pub fn next_ip(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(a) => IpAddr::V4(Ipv4Addr::from(u32::from(a).wrapping_add(1))),
        IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from(u128::from(a).wrapping_add(1))),
    }
}

/// The network of an address with prefix length, host bits cleared.
pub fn network(n: IpNetwork) -> IpNetwork {
    IpNetwork::new(n.network(), n.prefix()).unwrap_or(n)
}

/// `ip/32` or `ip/128`.
pub fn host(ip: IpAddr) -> IpNetwork {
    IpNetwork::from(ip)
}

/// Go's `%v` of a `net.IPNet` value (not pointer): its fields, the mask in hexadecimal.
pub fn fields(n: IpNetwork) -> (String, String) {
    let mask = match n.mask() {
        IpAddr::V4(m) => format!("{:08x}", u32::from(m)),
        IpAddr::V6(m) => format!("{:032x}", u128::from(m)),
    };
    (n.ip().to_string(), mask)
}

/// Go's print of an address that may be absent.
pub fn or_nil(ip: Option<IpAddr>) -> String {
    ip.map_or("<nil>".into(), |i| i.to_string())
}

/// `net.ParseMAC`, six bytes: colons, dashes or dots.
pub fn parse_mac(s: &str) -> Result<MacAddr, String> {
    let bad = || format!("address {s}: invalid MAC address");
    let groups: Vec<&str> = match s.as_bytes().get(2) {
        Some(b':') => s.split(':').collect(),
        Some(b'-') => s.split('-').collect(),
        _ => s.split('.').collect(),
    };
    let width = if groups.len() == 3 { 4 } else { 2 };
    if groups.len() * width != 12 || groups.iter().any(|g| g.len() != width) {
        return Err(bad());
    }
    let hex = groups.concat();
    let v = u64::from_str_radix(&hex, 16).map_err(|_| bad())?;
    if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(bad());
    }
    Ok(MacAddr::from_slice(&v.to_be_bytes()[2..]))
}

/// Go's `IP.IsGlobalUnicast`.
pub fn is_global_unicast(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(a) => a.is_link_local() || a.is_broadcast(),
        IpAddr::V6(a) => a.segments()[0] & 0xffc0 == 0xfe80,
    };
    !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || link_local)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_go_parses() {
        assert_eq!(
            parse_cidr("10.0.0.0/33").unwrap_err(),
            "invalid CIDR address: 10.0.0.0/33"
        );
        assert!(parse_cidr("10.0.0.1").is_err() && parse_cidr("10.0.0.1/+8").is_err());
        assert_eq!(
            parse_cidr("10.0.0.1/024").unwrap().to_string(),
            "10.0.0.1/24"
        );
        assert_eq!(parse_ip("::ffff:1.2.3.4"), parse_ip("1.2.3.4"));
        assert_eq!(
            parse_mac("c2b0.5749.47f1").unwrap(),
            parse_mac("c2-b0-57-49-47-F1").unwrap()
        );
        assert!(parse_mac("c2:b0:57:49:47").is_err() && parse_mac("").is_err());
        assert_eq!(
            fields(parse_cidr("0.0.0.0/0").unwrap()),
            ("0.0.0.0".into(), "00000000".into())
        );
    }
}
