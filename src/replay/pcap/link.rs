//! Ethernet frames out of the other link types, and what of them had to be made up.
//!
//! Layouts: <https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL.html>, `..._SLL2.html`, and the registry's
//! entries for NULL, LOOP, RAW, IPV4 and IPV6. The payload is never changed; only the header in front of it
//! is.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Direction, LinkType};
use crate::wire::{ETH_HLEN, ETH_P_IP, ETH_P_IPV6, MacAddr};

/// Below this the field is an 802.3 length (IEEE 802.3 3.2.6).
const ETHERTYPE_MIN: u16 = 0x0600;
/// Longest payload an 802.3 length may name.
const LENGTH_MAX: u32 = 1_500;
const ARPHRD_LOOPBACK: u16 = 772;
const ARPHRD_NETLINK: u16 = 824;
const ARPHRD_RADIOTAP: u16 = 803;

/// Where a field of the Ethernet header came from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FieldSource {
    /// It was in the capture.
    Captured,
    /// It follows from something that was (a multicast MAC from the IP destination).
    Derived,
    /// Nothing tells it: zeroes.
    Unknown,
}

/// What of an Ethernet header was captured and what was made up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeaderSource {
    /// The destination MAC.
    pub destination: FieldSource,
    /// The source MAC.
    pub source: FieldSource,
    /// The ethertype.
    pub ethertype: FieldSource,
}

impl HeaderSource {
    const CAPTURED: HeaderSource = HeaderSource {
        destination: FieldSource::Captured,
        source: FieldSource::Captured,
        ethertype: FieldSource::Captured,
    };
    const IP_ONLY: HeaderSource = HeaderSource {
        destination: FieldSource::Unknown,
        source: FieldSource::Unknown,
        ethertype: FieldSource::Derived,
    };
}

/// An Ethernet frame, as captured or as made from another link type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EthernetFrame<'a> {
    /// The frame, without FCS unless the capture had one; as short as the capture if that was cut.
    pub frame: Cow<'a, [u8]>,
    /// Its length on the wire, had it been Ethernet there.
    pub orig_len: u32,
    /// Which way it went, if the link-layer header tells (SLL, SLL2).
    pub direction: Option<Direction>,
    /// The capturing machine's interface index, if the link-layer header tells (SLL2).
    pub ifindex: Option<u32>,
    /// Which header fields are the capture's own.
    pub header: HeaderSource,
}

/// Why a captured packet cannot be made an Ethernet frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LinkError {
    /// The capture kept less than the link-layer header.
    #[error("{link} needs {want} bytes, {got} were captured")]
    Short {
        /// The link type.
        link: LinkType,
        /// Bytes it needs.
        want: usize,
        /// Bytes there were.
        got: usize,
    },
    /// Neither IPv4 nor IPv6 where the link type promises IP: the version field.
    #[error("IP version {0}, 4 or 6 was expected")]
    NotIp(u8),
    /// An address family (NULL, LOOP) other than IPv4 and IPv6.
    #[error("address family {0}, IPv4 (2) or IPv6 was expected")]
    Family(u32),
    /// A Linux cooked packet of a device type (ARPHRD) whose packets are not frames.
    #[error("captured at a device of type {0}, which carries no frames")]
    Device(u16),
    /// A Linux cooked packet whose protocol field is no ethertype.
    #[error("protocol {0:#06x} is not an ethertype")]
    Protocol(u16),
    /// A link type we have no Ethernet for.
    #[error("{0} cannot be made Ethernet (Ethernet, Linux cooked, raw IP, NULL and LOOP can)")]
    Unsupported(LinkType),
}

/// Makes an Ethernet frame of `data`, a packet of `orig_len` bytes on a link of type `link`. Ethernet is lent
/// as it is.
///
/// # Errors
/// A [`LinkError`] saying what stands where a header was expected.
pub fn to_ethernet(
    link: LinkType,
    data: &[u8],
    orig_len: u32,
) -> Result<EthernetFrame<'_>, LinkError> {
    match link {
        LinkType::Ethernet => Ok(EthernetFrame {
            frame: Cow::Borrowed(data),
            orig_len,
            direction: None,
            ifindex: None,
            header: HeaderSource::CAPTURED,
        }),
        LinkType::Raw => {
            let version = data.first().ok_or(LinkError::Short {
                link,
                want: 1,
                got: 0,
            })? >> 4;
            let ethertype = match version {
                4 => ETH_P_IP,
                6 => ETH_P_IPV6,
                other => return Err(LinkError::NotIp(other)),
            };
            Ok(ip_frame(ethertype, data, orig_len))
        }
        LinkType::Ipv4 => Ok(ip_frame(ETH_P_IP, data, orig_len)),
        LinkType::Ipv6 => Ok(ip_frame(ETH_P_IPV6, data, orig_len)),
        LinkType::Null | LinkType::Loop => family_frame(link, data, orig_len),
        LinkType::LinuxSll => sll(data, orig_len),
        LinkType::LinuxSll2 => sll2(data, orig_len),
        LinkType::Other(_) => Err(LinkError::Unsupported(link)),
    }
}

fn ip_frame(ethertype: u16, payload: &[u8], payload_len: u32) -> EthernetFrame<'static> {
    EthernetFrame {
        frame: Cow::Owned(frame(MacAddr::ZERO, MacAddr::ZERO, ethertype, payload)),
        orig_len: payload_len.saturating_add(ETH_HLEN as u32),
        direction: None,
        ifindex: None,
        header: HeaderSource::IP_ONLY,
    }
}

fn frame(destination: MacAddr, source: MacAddr, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(ETH_HLEN + payload.len());
    frame.extend_from_slice(&destination.0);
    frame.extend_from_slice(&source.0);
    frame.extend_from_slice(&ethertype.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// NULL and LOOP: the family of the capturing system. AF_INET is 2 everywhere; AF_INET6 is 24 (NetBSD,
/// OpenBSD), 28 (FreeBSD), 30 (Darwin) or 10 (Linux).
fn family_frame(
    link: LinkType,
    data: &[u8],
    orig_len: u32,
) -> Result<EthernetFrame<'static>, LinkError> {
    let (head, payload) = data.split_first_chunk::<4>().ok_or(LinkError::Short {
        link,
        want: 4,
        got: data.len(),
    })?;
    let mut family = u32::from_be_bytes(*head);
    // NULL is in the byte order of a machine we do not know, but no family is over 65,535.
    if link == LinkType::Null && family > 0xffff {
        family = family.swap_bytes();
    }
    let ethertype = match family {
        2 => ETH_P_IP,
        10 | 24 | 28 | 30 => ETH_P_IPV6,
        other => return Err(LinkError::Family(other)),
    };
    Ok(ip_frame(ethertype, payload, orig_len.saturating_sub(4)))
}

/// What both cooked headers say.
struct Cooked {
    packet_type: u16,
    arphrd: u16,
    /// The link-layer address, if it is as long as a MAC.
    sender: Option<MacAddr>,
    protocol: u16,
    ifindex: Option<u32>,
}

fn sll(data: &[u8], orig_len: u32) -> Result<EthernetFrame<'static>, LinkError> {
    let short = LinkError::Short {
        link: LinkType::LinuxSll,
        want: 16,
        got: data.len(),
    };
    let (h, payload) = data.split_first_chunk::<16>().ok_or(short)?;
    let cooked = Cooked {
        packet_type: u16::from_be_bytes([h[0], h[1]]),
        arphrd: u16::from_be_bytes([h[2], h[3]]),
        sender: (u16::from_be_bytes([h[4], h[5]]) == 6)
            .then_some(MacAddr([h[6], h[7], h[8], h[9], h[10], h[11]])),
        protocol: u16::from_be_bytes([h[14], h[15]]),
        ifindex: None,
    };
    cooked.into_frame(payload, orig_len.saturating_sub(16))
}

fn sll2(data: &[u8], orig_len: u32) -> Result<EthernetFrame<'static>, LinkError> {
    let short = LinkError::Short {
        link: LinkType::LinuxSll2,
        want: 20,
        got: data.len(),
    };
    let (h, payload) = data.split_first_chunk::<20>().ok_or(short)?;
    let cooked = Cooked {
        packet_type: u16::from(h[10]),
        arphrd: u16::from_be_bytes([h[8], h[9]]),
        sender: (h[11] == 6).then_some(MacAddr([h[12], h[13], h[14], h[15], h[16], h[17]])),
        protocol: u16::from_be_bytes([h[0], h[1]]),
        ifindex: Some(u32::from_be_bytes([h[4], h[5], h[6], h[7]])),
    };
    cooked.into_frame(payload, orig_len.saturating_sub(20))
}

impl Cooked {
    fn into_frame(
        self,
        payload: &[u8],
        payload_len: u32,
    ) -> Result<EthernetFrame<'static>, LinkError> {
        if matches!(self.arphrd, ARPHRD_NETLINK | ARPHRD_RADIOTAP) {
            return Err(LinkError::Device(self.arphrd));
        }
        let (ethertype, ethertype_source) = match self.protocol {
            // 1: 802.3 without an LLC header; 4: with one. Their Ethernet has a length there.
            1 | 4 if payload_len <= LENGTH_MAX => (payload_len as u16, FieldSource::Derived),
            p if p >= ETHERTYPE_MIN => (p, FieldSource::Captured),
            other => return Err(LinkError::Protocol(other)),
        };
        let (destination, destination_source) = self.destination(payload);
        let source_source = match self.sender {
            Some(_) => FieldSource::Captured,
            None => FieldSource::Unknown,
        };
        Ok(EthernetFrame {
            frame: Cow::Owned(frame(
                destination,
                self.sender.unwrap_or(MacAddr::ZERO),
                ethertype,
                payload,
            )),
            orig_len: payload_len.saturating_add(ETH_HLEN as u32),
            direction: self.direction(),
            ifindex: self.ifindex,
            header: HeaderSource {
                destination: destination_source,
                source: source_source,
                ethertype: ethertype_source,
            },
        })
    }

    /// PACKET_HOST, _BROADCAST, _MULTICAST and _OTHERHOST came in, PACKET_OUTGOING (4) went out.
    fn direction(&self) -> Option<Direction> {
        match self.packet_type {
            0..=3 => Some(Direction::In),
            4 => Some(Direction::Out),
            _ => None,
        }
    }

    /// The destination MAC is not kept; a broadcast has only one, and a multicast's follows from the IP
    /// destination (RFC 1112 section 6.4, RFC 2464 section 7), for packets sent as well as received.
    fn destination(&self, payload: &[u8]) -> (MacAddr, FieldSource) {
        // On `lo` every MAC is zero.
        if self.arphrd == ARPHRD_LOOPBACK {
            return (MacAddr::ZERO, FieldSource::Derived);
        }
        if self.packet_type == 1 {
            return (MacAddr::BROADCAST, FieldSource::Derived);
        }
        let group =
            match self.protocol {
                ETH_P_IP => {
                    payload
                        .get(16..)
                        .and_then(<[u8]>::first_chunk)
                        .and_then(|address: &[u8; 4]| {
                            let address = Ipv4Addr::from(*address);
                            address
                                .is_broadcast()
                                .then_some(MacAddr::BROADCAST)
                                .or_else(|| {
                                    address.is_multicast().then(|| MacAddr::ipv4_group(address))
                                })
                        })
                }
                ETH_P_IPV6 => payload.get(24..).and_then(<[u8]>::first_chunk).and_then(
                    |address: &[u8; 16]| {
                        let address = Ipv6Addr::from(*address);
                        address.is_multicast().then(|| MacAddr::ipv6_group(address))
                    },
                ),
                _ => None,
            };
        group.map_or((MacAddr::ZERO, FieldSource::Unknown), |mac| {
            (mac, FieldSource::Derived)
        })
    }
}
