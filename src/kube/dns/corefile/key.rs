//! Keys of server blocks: `scheme://zone:port`, and zones that are CIDRs.
//!
//! CoreDNS `core/dnsserver/address.go`, `register.go` and `plugin/normalize.go`.

use hickory_proto::rr::Name;
use ipnetwork::IpNetwork;

use super::super::names;

/// What a key stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerKey {
    /// `dns`, `tls`, `quic`, `grpc`, `https`, `https3`.
    pub scheme: String,
    /// Zones: one, or several for a CIDR that ends inside a label.
    pub zones: Vec<Name>,
    /// Port, the scheme's default where none is written.
    pub port: u16,
}

const SCHEMES: &[(&str, u16)] = &[
    ("dns", 53),
    ("tls", 853),
    ("quic", 853),
    ("grpc", 443),
    ("https", 443),
    ("https3", 443),
];

impl ServerKey {
    /// A key as written; none for what is no zone.
    pub fn parse(text: &str) -> Option<ServerKey> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("dns", text));
        let (_, default) = SCHEMES.iter().find(|(name, _)| *name == scheme)?;
        let (zone, port) = match rest.rsplit_once(':') {
            // A bare IPv6 CIDR has colons of its own.
            Some((zone, port))
                if !rest.contains('/') || port.parse::<u16>().is_ok() && zone.contains('/') =>
            {
                (zone, port.parse().ok()?)
            }
            _ => (rest, *default),
        };
        Some(ServerKey {
            scheme: scheme.to_owned(),
            zones: zones(zone)?,
            port,
        })
    }
}

/// The zones that a word of a Corefile means, in lower case: a name, or a CIDR's reverse zones.
pub fn zones(text: &str) -> Option<Vec<Name>> {
    let host = text.strip_suffix('/').unwrap_or(text);
    if host.contains('/') {
        return host.parse().ok().map(reverse);
    }
    names::parse(&host.to_ascii_lowercase()).map(|name| vec![name])
}

/// The reverse zones of a prefix, at the next octet or nibble border.
fn reverse(net: IpNetwork) -> Vec<Name> {
    let (width, prefix) = if net.is_ipv4() {
        (8, net.prefix())
    } else {
        (4, net.prefix())
    };
    let digits: Vec<u8> = match net.network() {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().iter().flat_map(|o| [o >> 4, o & 15]).collect(),
    };
    let whole = usize::from(prefix.div_ceil(width));
    let spare = u8::try_from(whole).unwrap_or(0) * width - prefix;
    let top = if net.is_ipv4() {
        "in-addr.arpa."
    } else {
        "ip6.arpa."
    };
    let zone = |last: Option<u8>| {
        let mut labels: Vec<String> = digits
            .iter()
            .take(whole)
            .map(|d| {
                if net.is_ipv4() {
                    d.to_string()
                } else {
                    format!("{d:x}")
                }
            })
            .collect();
        if let (Some(value), Some(label)) = (last, labels.last_mut()) {
            *label = if net.is_ipv4() {
                value.to_string()
            } else {
                format!("{value:x}")
            };
        }
        labels.reverse();
        labels.push(top.to_owned());
        names::parse(&labels.join("."))
    };
    let Some(base) = whole.checked_sub(1).and_then(|i| digits.get(i)) else {
        return names::parse(top).into_iter().collect();
    };
    (0..1_u16 << spare)
        .filter_map(|i| zone(u8::try_from(u16::from(*base) + i).ok()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        ServerKey::parse(text).map_or("none".into(), |k| {
            let zones: Vec<String> = k.zones.iter().map(names::text).collect();
            format!("{}/{}/{}", k.scheme, zones.join(","), k.port)
        })
    }

    #[test]
    fn keys() {
        assert_eq!(shown("."), "dns/./53");
        assert_eq!(shown(".:5353"), "dns/./5353");
        assert_eq!(shown("tls://Example.ORG"), "tls/example.org./853");
        assert_eq!(shown("10.0.0.0/8"), "dns/10.in-addr.arpa./53");
        assert_eq!(shown("10.0.0.0/24:55"), "dns/0.0.10.in-addr.arpa./55");
        assert_eq!(
            shown("10.2.0.0/15"),
            "dns/2.10.in-addr.arpa.,3.10.in-addr.arpa./53"
        );
        assert_eq!(shown("2001:db8::/32"), "dns/8.b.d.0.1.0.0.2.ip6.arpa./53");
        assert_eq!(shown("ftp://x"), "none");
        assert_eq!(shown("a:x"), "none");
    }
}
