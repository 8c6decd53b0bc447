//! What a packet is looked up by: the key that a set's type takes from it.
//!
//! Kernel: the `*_kadt` functions of net/netfilter/ipset and ip_set_getport.c. Reads no frame: the caller
//! hands the
//! fields in. Invariant: without everything the type wants there is no key (kernel: -EINVAL, no match).

use std::net::IpAddr;

use super::addr;
use super::element::{IfaceName, Key};
use super::header::Header;
use super::kind::{Dim, Kind, Method};
use super::names::{PROTO_TCP, PROTO_UDP, with_ports};
use super::store::Store;
use super::wrong::Refused;
use crate::wire::MacAddr;

/// Protocol and ports of a packet.
///
/// The caller gives none where the kernel finds none (ip_set_getport.c): TCP, SCTP, UDP, UDP-Lite and
/// ICMP in a
/// fragment that is not the first, and a header that is cut off. A protocol without ports has ports 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct L4 {
    /// IP protocol; of IPv6 the one after the extension headers.
    pub proto: u8,
    /// Source port; of ICMP and ICMPv6 `type << 8 | code`.
    pub src: u16,
    /// Destination port; of ICMP and ICMPv6 `type << 8 | code`.
    pub dst: u16,
}

/// The fields of a packet that sets look at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet<'a> {
    /// Source address.
    pub src: IpAddr,
    /// Destination address, of the same family.
    pub dst: IpAddr,
    /// Protocol and ports.
    pub l4: Option<L4>,
    /// Source and destination of the Ethernet header; none where there is no such header (OUTPUT).
    pub mac: Option<(MacAddr, MacAddr)>,
    /// Device the packet came in by; empty if none.
    pub in_dev: &'a str,
    /// Device it goes out by; empty if none.
    pub out_dev: &'a str,
    /// Bridge port it came in by.
    pub phys_in: Option<&'a str>,
    /// Bridge port it goes out by.
    pub phys_out: Option<&'a str>,
    /// Its mark.
    pub mark: u32,
    /// Bytes of the IP packet (kernel: skb->len).
    pub len: u32,
}

impl<'a> Packet<'a> {
    /// A packet of which only the addresses are known.
    pub fn new(src: IpAddr, dst: IpAddr) -> Self {
        Packet {
            src,
            dst,
            l4: None,
            mac: None,
            in_dev: "",
            out_dev: "",
            phys_in: None,
            phys_out: None,
            mark: 0,
            len: 0,
        }
    }
}

/// What the key is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum For {
    Test,
    Change,
}

/// The key of a packet for a set, with the link-layer address of bitmap:ip,mac.
pub(super) fn key(
    header: &Header,
    store: &Store,
    packet: &Packet<'_>,
    src: &[bool],
    physdev: bool,
    what: For,
) -> Result<(Key, Option<MacAddr>), Refused> {
    let mut key = Key::default();
    let mut mac = None;
    let mut second = false;
    for (dim, src) in header.kind.dims().iter().zip(src) {
        match dim {
            Dim::Ip | Dim::Net => {
                let (family, ip) = addr::number(if *src { packet.src } else { packet.dst });
                if family != header.family {
                    return Err(Refused::NotInPacket);
                }
                let host = addr::width(family);
                let prefix = match (what, dim) {
                    (For::Change, Dim::Net) => store.elements.longest(second).unwrap_or(host),
                    _ => host,
                };
                // hash:net,iface and hash:net,port,net may hold prefixes of length 0; the others never do.
                key.set_addr(second, ip & addr::mask(family, prefix), prefix);
                second = true;
            }
            Dim::Port => {
                let l4 = packet
                    .l4
                    .filter(|l4| l4.proto > 0)
                    .ok_or(Refused::NotInPacket)?;
                key.proto = l4.proto;
                key.port = if *src { l4.src } else { l4.dst };
            }
            Dim::Mac => {
                let (from, to) = packet.mac.ok_or(Refused::NotInPacket)?;
                let found = if *src { from } else { to };
                if found == MacAddr::ZERO {
                    return Err(Refused::NotInPacket);
                }
                mac = Some(found);
            }
            Dim::Mark => key.mark = packet.mark & header.markmask,
            Dim::Iface => {
                key.physdev = physdev;
                let name = match (physdev, src) {
                    (true, true) => packet.phys_in.unwrap_or_default(),
                    (true, false) => packet.phys_out.unwrap_or_default(),
                    (false, true) => packet.in_dev,
                    (false, false) => packet.out_dev,
                };
                key.iface = IfaceName::new(name);
                if key.iface.is_empty() {
                    return Err(Refused::NotInPacket);
                }
            }
            Dim::Set => return Err(Refused::NotInPacket),
        }
    }
    if header.kind.method() == Method::Hash {
        key.ip &= header.mask;
    }
    let null = matches!(header.kind, Kind::HashIp | Kind::HashIpPort) && key.ip == 0;
    match null {
        true => Err(Refused::Null),
        false => finish(header, key, mac),
    }
}

/// Applies what holds for every key of a set; a bitmap's range and mask.
pub(super) fn finish(
    header: &Header,
    mut key: Key,
    mac: Option<MacAddr>,
) -> Result<(Key, Option<MacAddr>), Refused> {
    if header.kind.method() == Method::Bitmap {
        return in_bitmap(header, key, mac);
    }
    key.mac = mac.unwrap_or_default();
    key.mark &= header.markmask;
    if header.kind == Kind::HashNetNet {
        (key.ip, key.ip2) = (key.ip & header.mask, key.ip2 & header.mask);
    }
    if key.proto != 0 && !with_ports(key.proto) && !matches!(key.proto, 1 | 58) {
        key.port = 0;
    }
    let with_mac = matches!(header.kind, Kind::HashMac | Kind::HashIpMac);
    let null = with_mac && key.mac == MacAddr::ZERO;
    match null {
        true => Err(Refused::Null),
        false => Ok((key, None)),
    }
}

fn in_bitmap(
    header: &Header,
    mut key: Key,
    mac: Option<MacAddr>,
) -> Result<(Key, Option<MacAddr>), Refused> {
    let value = match header.kind {
        Kind::BitmapPort => {
            // ip_set_bitmap_port.c `ip_set_get_ip_port`: TCP and UDP only; the protocol is not stored.
            if !matches!(key.proto, PROTO_TCP | PROTO_UDP) {
                return Err(Refused::NotInPacket);
            }
            key.proto = 0;
            u128::from(key.port)
        }
        _ => key.ip,
    };
    if value < header.range.0 || value > header.range.1 {
        return Err(Refused::Range);
    }
    key.ip &= header.mask;
    Ok((key, mac))
}
