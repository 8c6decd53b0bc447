//! Addresses as kube-proxy reads them from old objects: blanks around them and leading zeros are forgiven.
//!
//! kubernetes `vendor/k8s.io/utils/net/parse.go` (ParseIPSloppy, ParseCIDRSloppy: the parser of Go before
//! 1.17) and `pkg/proxy/util/utils.go` (MapIPsByIPFamily, MapCIDRsByIPFamily). What comes out prints as Go
//! prints it.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;

/// An address; `010.0.0.1` is 10.0.0.1 and `::ffff:10.0.0.1` too, as Go prints it.
pub fn ip(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    if text.contains(':') {
        let ip: IpAddr = text.parse().ok()?;
        return Some(ip.to_canonical());
    }
    let mut octets = [0_u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        *octet = decimal(parts.next()?)?.try_into().ok()?;
    }
    parts
        .next()
        .is_none()
        .then(|| IpAddr::V4(Ipv4Addr::from(octets)))
}

/// A network, with what stands behind the prefix cleared.
pub fn cidr(text: &str) -> Option<IpNetwork> {
    let (address, prefix) = text.trim().split_once('/')?;
    let prefix = u8::try_from(decimal(prefix)?).ok()?;
    let network = IpNetwork::new(ip(address)?, prefix).ok()?;
    IpNetwork::new(network.network(), prefix).ok()
}

/// Digits only, however many zeros lead them.
fn decimal(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let significant = text.trim_start_matches('0');
    match (digits, significant.len()) {
        (false, _) => None,
        (true, 0) => Some(0),
        (true, 1..=5) => significant.parse().ok(),
        (true, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_and_blanks_are_forgiven_and_nothing_else() {
        let of = |text| ip(text).map(|ip| ip.to_string());
        assert_eq!(of(" 1.2.3.004 ").as_deref(), Some("1.2.3.4"));
        assert_eq!(of("::ffff:10.0.0.1").as_deref(), Some("10.0.0.1"));
        assert_eq!(of("fd00:0::01").as_deref(), Some("fd00::1"));
        for bad in ["", "1.2.3", "1.2.3.4.5", "1.2.3.256", "1.2.+3.4", "a.b.c.d"] {
            assert_eq!(of(bad), None, "{bad:?}");
        }
        let net = |text| cidr(text).map(|net| net.to_string());
        assert_eq!(net("203.0.113.000/025").as_deref(), Some("203.0.113.0/25"));
        assert_eq!(net(" 10.1.2.3/8").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(net("10.0.0.0"), None);
        assert_eq!(net("10.0.0.0/33"), None);
    }
}
