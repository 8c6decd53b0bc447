//! Ethernet addresses.

use core::fmt;
use core::str::FromStr;

/// An Ethernet (MAC) address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);
    /// `00:00:00:00:00:00`, VXLAN's default destination entry.
    pub const ZERO: MacAddr = MacAddr([0; 6]);

    /// The address in the first six bytes of `b`; zero when `b` is shorter.
    pub fn from_slice(b: &[u8]) -> Self {
        b.first_chunk::<6>().map_or(MacAddr::ZERO, |c| MacAddr(*c))
    }

    /// All ones.
    pub fn is_broadcast(self) -> bool {
        self == MacAddr::BROADCAST
    }

    /// Group bit set (broadcast included).
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// Unicast and not all zeros (kernel: `is_valid_ether_addr`).
    pub fn is_valid_unicast(self) -> bool {
        !self.is_multicast() && self != MacAddr::ZERO
    }

    /// `01:80:c2:00:00:0X`, never forwarded by a bridge (IEEE 802.1D 7.12.6).
    pub fn is_link_local_group(self) -> bool {
        self.0[..5] == [0x01, 0x80, 0xc2, 0, 0] && self.0[5] & 0xf0 == 0
    }

    /// The group address of an IPv4 multicast group (RFC 1112 section 6.4).
    pub fn ipv4_group(ip: std::net::Ipv4Addr) -> Self {
        let o = ip.octets();
        MacAddr([0x01, 0x00, 0x5e, o[1] & 0x7f, o[2], o[3]])
    }

    /// The group address of an IPv6 multicast group (RFC 2464 section 7).
    pub fn ipv6_group(ip: std::net::Ipv6Addr) -> Self {
        let o = ip.octets();
        MacAddr([0x33, 0x33, o[12], o[13], o[14], o[15]])
    }

    /// The EUI-64 link-local address of this MAC (RFC 4291 appendix A).
    pub fn link_local(self) -> std::net::Ipv6Addr {
        let m = self.0;
        std::net::Ipv6Addr::from([
            0xfe,
            0x80,
            0,
            0,
            0,
            0,
            0,
            0,
            m[0] ^ 2,
            m[1],
            m[2],
            0xff,
            0xfe,
            m[3],
            m[4],
            m[5],
        ])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = self.0;
        write!(
            f,
            "{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}",
            m[0], m[1], m[2], m[3], m[4], m[5]
        )
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no MAC address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a MAC address: {0:?} (expected six hexadecimal bytes, like 0a:58:0a:f4:01:02)")]
pub struct BadMac(pub String);

impl FromStr for MacAddr {
    type Err = BadMac;
    fn from_str(s: &str) -> Result<Self, BadMac> {
        let mut out = [0u8; 6];
        let mut n = 0;
        for part in s.split(':') {
            let b = u8::from_str_radix(part, 16)
                .ok()
                .filter(|_| part.len() <= 2);
            match (b, out.get_mut(n)) {
                (Some(b), Some(slot)) => *slot = b,
                _ => return Err(BadMac(s.to_owned())),
            }
            n += 1;
        }
        if n == 6 {
            Ok(MacAddr(out))
        } else {
            Err(BadMac(s.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_rejects() {
        let m: MacAddr = "0a:58:0a:f4:01:02".parse().unwrap();
        assert_eq!(m.to_string(), "0a:58:0a:f4:01:02");
        for bad in [
            "",
            "0a:58",
            "0a:58:0a:f4:01:02:03",
            "zz:58:0a:f4:01:02",
            "0a5:8:0a:f4:01:02",
        ] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn link_local_is_eui64() {
        let m: MacAddr = "3e:9a:cc:13:c3:bf".parse().unwrap();
        assert_eq!(m.link_local().to_string(), "fe80::3c9a:ccff:fe13:c3bf");
    }
}
