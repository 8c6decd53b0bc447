//! Values read from a packet and its surroundings: payload, meta, ct, rt, socket, options.
//!
//! As nft_payload.c, nft_meta.c, nft_ct.c, nft_rt.c, nft_socket.c, nft_exthdr.c. Invariant: nothing is
//! changed; what cannot be read ends the rule (NFT_BREAK).

use super::super::expr::{Direction, Expr, RtKey, SocketKey};
use super::super::fields::{self, Base, CtKey, ExtField, Field, MetaKey};
use super::super::types::Value;
use super::run::{Stop, Walk};
use crate::base::DevId;
use crate::net::DeviceKind;
use crate::nf::ct::Dir;
use crate::nf::eval::chain::name;
use crate::nf::{Family, Hook};
use crate::wire::{
    CtInfo, CtRef, ETH_P_8021Q, ETH_P_ARP, ETH_P_IP, ETH_P_IPV6, Frame, PacketType, proto,
};
use std::net::IpAddr;

/// An address as a number.
pub(super) fn num(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(a) => u128::from(a.to_bits()),
        IpAddr::V6(a) => a.to_bits(),
    }
}

/// `bits` bits of `b`, the first being bit `from`; `None` if they are not there.
pub(super) fn bits_at(b: &[u8], from: usize, bits: usize) -> Option<u128> {
    if bits == 0 || bits > 128 {
        return None;
    }
    let bytes = b.get(from / 8..(from + bits).div_ceil(8))?;
    let mut n = 0u128;
    // A field of 128 bits begins at a byte; a shorter one never spans more than 16 bytes.
    for byte in bytes.iter().take(16) {
        n = n << 8 | u128::from(*byte);
    }
    let behind = bytes.len() * 8 - from % 8 - bits;
    let mask = 1u128.checked_shl(bits as u32).map_or(u128::MAX, |m| m - 1);
    Some(n >> behind & mask)
}

fn text(s: &str) -> Value {
    Value::Text(s.into(), false)
}

impl Walk<'_, '_, '_> {
    /// The value of what is read.
    pub(super) fn load(&mut self, e: &Expr, f: &Frame) -> Result<Value, Stop> {
        let n = |n: Option<u128>| n.map(Value::Num).ok_or(Stop::Break);
        if self.link.is_some() && is_beyond(e, f) {
            return Err(Stop::Unknown);
        }
        match e {
            Expr::Payload(field) => n(self.payload(field, f)),
            Expr::Unasked(x) => {
                let (from, bits) = (usize::from(x.offset), usize::from(x.bits));
                let header = self.header(x.base, from, bits, f);
                n(header.and_then(|b| bits_at(b, from, bits)))
            }
            Expr::Raw(base, from, bits) => {
                if *base == Base::Inner {
                    return Err(Stop::Unknown);
                }
                let (from, bits) = (usize::from(*from), usize::from(*bits));
                let header = self.header(*base, from, bits, f);
                n(header.and_then(|b| bits_at(b, from, bits)))
            }
            Expr::Meta(key) => self.meta(*key, f),
            Expr::Ct(key, dir) => self.ct(*key, *dir, f),
            Expr::Fib(fib) => self.fib(fib, f),
            Expr::Rt(key) => self.rt(*key, f),
            Expr::Socket(key) => self.socket(*key, f),
            Expr::Exthdr(x) => n(self.exthdr(x.kind, f).and_then(|b| ext(b, x))),
            // nft_exthdr_ipv6_eval, nft_exthdr_ipv4_eval: a packet of the other family ends the rule.
            Expr::ExthdrExists(..) if self.env.pkt.family == Family::V4 => Err(Stop::Break),
            Expr::IpOptionExists(..) if self.env.pkt.family == Family::V6 => Err(Stop::Break),
            Expr::IpOptionExists(..) if self.link.is_some() && f.ethertype() != ETH_P_IP => {
                Err(Stop::Break)
            }
            Expr::ExthdrExists(_, kind) => Ok(yes(self.exthdr(*kind, f).is_some())),
            Expr::TcpOption(x) => n(self.tcp_option(x.kind, f).and_then(|b| ext(b, x))),
            Expr::TcpOptionExists(kind) => Ok(yes(self.tcp_option(*kind, f).is_some())),
            Expr::TcpOptionRaw(kind, from, bits) => {
                let (from, bits) = (usize::from(*from), usize::from(*bits));
                n(self
                    .tcp_option(*kind, f)
                    .and_then(|b| bits_at(b, from, bits)))
            }
            Expr::IpOption(x) => n(self.ip_option(x.kind, f).and_then(|b| ext(b, x))),
            Expr::IpOptionExists(_, kind) => Ok(yes(self.ip_option(*kind, f).is_some())),
            // The kernel hashes with a secret of its own; here it is any hash that both directions share.
            Expr::Symhash { modulus, offset } => {
                let p = &self.env.pkt;
                let (a, b) = p.ports(f).unwrap_or_default();
                let (x, y) = (num(p.src), num(p.dst));
                let low = |n: u128| (n ^ n >> 32 ^ n >> 64 ^ n >> 96) as u32;
                let ports = u32::from(a) ^ u32::from(b);
                let h = (low(x) ^ low(y) ^ ports).wrapping_mul(0x9e37_79b1);
                Ok(Value::Num(u128::from(
                    scale(h, *modulus).wrapping_add(*offset),
                )))
            }
            _ => Err(Stop::Unknown),
        }
    }

    /// The bytes from a header on, of which those from bit `from` on are wanted.
    ///
    /// A later fragment has no upper-layer header, which `nft_payload_eval` asks and `nft_payload_fast_eval`,
    /// for aligned loads of 1, 2 or 4 bytes, does not: it reads what is there (seen on 6.18). In IPv6
    /// `ipv6_find_hdr` leaves `thoff` at 0 then, so it is the IPv6 header.
    fn header<'f>(&self, base: Base, from: usize, bits: usize, f: &'f Frame) -> Option<&'f [u8]> {
        match base {
            Base::Network => Some(f.l3()),
            Base::Transport => {
                let p = &self.env.pkt;
                p.proto.ok()?;
                if p.fragoff == 0 {
                    return f.l3().get(p.l4..);
                }
                let (first, len) = (from / 8, (from + bits).div_ceil(8) - from / 8);
                let fast = matches!(len, 1 | 2 | 4) && first.is_multiple_of(len);
                match p.family {
                    Family::V4 => f.l3().get(p.l4..),
                    Family::V6 => Some(f.l3()),
                }
                .filter(|_| fast)
            }
            // What this host sends has no link header yet when the IP layer's hooks see it.
            Base::Link => {
                let there = self.env.at.input.is_some() || self.link.is_some();
                match f.has_eth() {
                    true => there.then(|| f.data()),
                    false => (there && self.arp_type(self.here()) == Some(ARPHRD_LOOPBACK))
                        .then_some(loopback_header(f)),
                }
            }
            Base::Inner => None,
        }
    }

    /// A named field, with what it takes for granted (nft adds these comparisons and does not list them).
    fn payload(&self, field: &Field, f: &Frame) -> Option<u128> {
        let p = &self.env.pkt;
        let kind = match self.link {
            Some(_) => f.ethertype(),
            None if p.family == Family::V4 => ETH_P_IP,
            None => ETH_P_IPV6,
        };
        match field.proto {
            // nft asks for `iiftype ether` first, but in bridges, where there is nothing else.
            "ether" if self.arp_type(self.here()) != Some(1) => return None,
            "ip" | "icmp" | "igmp" if kind != ETH_P_IP => return None,
            "ip6" | "icmpv6" if kind != ETH_P_IPV6 => return None,
            "arp" if kind != ETH_P_ARP => return None,
            "vlan" => return None,
            _ => {}
        }
        if fields::l4proto(field.proto).is_some_and(|n| p.proto != Ok(n)) {
            return None;
        }
        let (from, bits) = (usize::from(field.offset), usize::from(field.bits));
        let b = self.header(field.base, from, bits, f)?;
        let kind = || b.first().copied();
        let fits = match (field.proto, field.name) {
            ("icmp", "id" | "sequence") => matches!(kind(), Some(0 | 8)),
            ("icmp", "gateway") => kind() == Some(5),
            ("icmp", "mtu") => kind() == Some(3),
            ("icmpv6", "id" | "sequence") => matches!(kind(), Some(128 | 129)),
            ("icmpv6", "mtu") => kind() == Some(2),
            ("icmpv6", "parameter-problem") => kind() == Some(4),
            ("icmpv6", "taddr") => matches!(kind(), Some(135..=137)),
            ("icmpv6", "daddr") => kind() == Some(137),
            _ => true,
        };
        bits_at(b, from, bits).filter(|_| fits)
    }

    fn meta(&mut self, key: MetaKey, f: &Frame) -> Result<Value, Stop> {
        let (at, ns) = (self.env.at, self.env.ns);
        // POSTROUTING knows where a forwarded packet came in (`ip_output` passes skb->dev).
        let (iif, oif) = (at.input, at.output);
        let p = &self.env.pkt;
        let some = |n: Option<u128>| n.map(Value::Num).ok_or(Stop::Break);
        let n = |n: u64| Ok(Value::Num(u128::from(n)));
        let second = || {
            let since = self.env.cx.now.as_nanos() / 1_000_000_000;
            self.env.nf.state.epoch.saturating_add(since)
        };
        match key {
            MetaKey::Length => n(p.len as u64),
            MetaKey::Protocol => n(match self.link {
                Some(_) => f.ethertype().into(),
                None => f.ethertype_of_l3().into(),
            }),
            MetaKey::NfProto => n(if p.family == Family::V4 { 2 } else { 10 }),
            MetaKey::IbrName if self.link.is_some() => self.bridge_of(iif),
            MetaKey::ObrName if self.link.is_some() => self.bridge_of(oif),
            MetaKey::L4Proto => some(p.proto.ok().map(u128::from)),
            MetaKey::Mark => n(f.mark.into()),
            MetaKey::Priority => n(f.priority.into()),
            MetaKey::Iif => Ok(self.index(iif)),
            MetaKey::Oif => Ok(self.index(oif)),
            MetaKey::IifName | MetaKey::SdifName if key == MetaKey::IifName => {
                Ok(text(name(ns, iif)))
            }
            MetaKey::OifName => Ok(text(name(ns, oif))),
            MetaKey::IifType => some(self.arp_type(self.here())),
            MetaKey::OifType => some(self.arp_type(oif)),
            MetaKey::IifGroup => some(iif.map(|_| 0)),
            MetaKey::OifGroup => some(oif.map(|_| 0)),
            MetaKey::IifKind => self.kind(iif),
            MetaKey::OifKind => self.kind(oif),
            MetaKey::SkUid | MetaKey::SkGid => {
                let id = self.env.sender(f).filter(|_| f.local).ok_or(Stop::Break)?;
                let owner = ns.sockets().owner(id);
                n(if key == MetaKey::SkUid {
                    owner.uid
                } else {
                    owner.gid
                }
                .into())
            }
            MetaKey::RtClassId | MetaKey::Cpu | MetaKey::Cgroup | MetaKey::NfTrace => n(0),
            MetaKey::SecMark | MetaKey::Ipsec => n(0),
            MetaKey::PktType => n(match f.pkt_type {
                PacketType::Host => 0,
                PacketType::Broadcast => 1,
                PacketType::Multicast => 2,
                PacketType::OtherHost => 3,
            }),
            MetaKey::Random => n(self.env.cx.rng.next_u64() >> 32),
            MetaKey::Time => n(second().saturating_mul(1_000_000_000)),
            // 1970 began on a Thursday; Sunday is 0.
            MetaKey::Day => n((second() / 86_400 + 4) % 7),
            MetaKey::Hour => n(second() % 86_400),
            // These are asked in bridge tables only.
            _ => Err(Stop::Break),
        }
    }

    /// `nft_meta_get_brdev`: the bridge of a port
    fn bridge_of(&self, port: Option<DevId>) -> Result<Value, Stop> {
        let port = port.and_then(|d| self.env.ns.dev(d));
        let master = port.and_then(|d| d.master.as_ref()).ok_or(Stop::Break)?;
        Ok(text(name(self.env.ns, Some(master.0))))
    }

    /// A device as `iif` compares it: by its name, which is how indexes are listed.
    fn index(&self, dev: Option<DevId>) -> Value {
        match dev.and_then(|d| self.env.ns.dev(d)) {
            Some(d) => text(&d.name),
            None => Value::Num(0),
        }
    }

    /// The device a packet is at (kernel: `skb->dev`), whose type `iiftype` is (seen on 6.18): behind routing
    /// none yet for what is sent here, at the end the one it leaves by.
    fn here(&self) -> Option<DevId> {
        let at = self.env.at;
        match (at.hook, self.link.is_some()) {
            (Hook::Prerouting | Hook::Input | Hook::Forward, _) => at.input.or(at.output),
            (Hook::Output, true) | (Hook::Postrouting, _) => at.output,
            (Hook::Output, false) => None,
        }
    }

    /// uapi if_arp.h `ARPHRD_*`
    fn arp_type(&self, dev: Option<DevId>) -> Option<u128> {
        Some(match self.env.ns.dev(dev?)?.kind {
            DeviceKind::Loopback => ARPHRD_LOOPBACK,
            DeviceKind::Ipip(_) => 768,
            _ => 1,
        })
    }

    /// `rtnl_link_ops.kind`; devices of hardware and `lo` have none.
    fn kind(&self, dev: Option<DevId>) -> Result<Value, Stop> {
        let d = dev.and_then(|d| self.env.ns.dev(d)).ok_or(Stop::Break)?;
        match d.kind {
            DeviceKind::Loopback | DeviceKind::Uplink => Err(Stop::Break),
            _ => Ok(text(d.kind.name())),
        }
    }

    /// `nft_ct_get_eval`
    fn ct(&self, key: CtKey, dir: Option<Direction>, f: &Frame) -> Result<Value, Stop> {
        let n = |n: u128| Ok(Value::Num(n));
        if key == CtKey::State {
            return n(match f.ct {
                CtRef::None | CtRef::Orphan => 1,
                CtRef::Untracked => 64,
                CtRef::Template { info, .. } | CtRef::Conn { info, .. } => match info {
                    CtInfo::Established | CtInfo::EstablishedReply => 2,
                    CtInfo::Related | CtInfo::RelatedReply => 4,
                    CtInfo::New => 8,
                },
            });
        }
        // A template has a state and no more (`nf_ct_is_template` in nft_ct_get_eval; measured on 6.18).
        if matches!(f.ct, CtRef::Template { .. }) {
            return Err(Stop::Break);
        }
        let (c, info) = self.env.conn(f).ok_or(Stop::Break)?;
        let way = match dir {
            Some(Direction::Reply) => Dir::Reply,
            _ => Dir::Original,
        };
        let t = c.tuple(way);
        let v4 = t.src.is_ipv4();
        let acct = |of: fn(&crate::nf::Counters) -> u64| match (c.acct(), dir) {
            (None, _) => 0,
            (Some([a, _]), Some(Direction::Original)) => of(&a),
            (Some([_, b]), Some(Direction::Reply)) => of(&b),
            (Some([a, b]), None) => of(&a).saturating_add(of(&b)),
        };
        let (packets, bytes) = (acct(|c| c.packets), acct(|c| c.bytes));
        match key {
            CtKey::Direction => n(info.is_reply().into()),
            CtKey::Status => n(c.status.0.into()),
            CtKey::Mark => n(c.mark.into()),
            CtKey::Label => n(c.labels()),
            CtKey::Expiration => n(match c.is_confirmed() {
                true => c.remaining(self.env.cx.now),
                false => c.timeout(),
            }
            .as_millis()),
            // The helper that expected it (nf_ct_get_helper of the master).
            CtKey::Helper => {
                let master = c.master().and_then(|m| self.env.nf.ct.get(m));
                let helper = master.and_then(|m| m.helper()).ok_or(Stop::Break)?;
                Ok(text(helper))
            }
            CtKey::L3Proto => n(if v4 { 2 } else { 10 }),
            CtKey::Protocol => n(t.proto.into()),
            CtKey::Bytes => n(bytes.into()),
            CtKey::Packets => n(packets.into()),
            CtKey::AvgPkt => n(bytes.checked_div(packets).unwrap_or(0).into()),
            // Without a direction the number alone, of whichever direction it is.
            CtKey::Zone if dir.is_none() => n(c.zones().orig.max(c.zones().reply).into()),
            CtKey::Zone => n(c.zones().of(way).into()),
            CtKey::SecMark => n(0),
            CtKey::Ip4Saddr if v4 => n(num(t.src)),
            CtKey::Ip4Daddr if v4 => n(num(t.dst)),
            CtKey::Ip6Saddr if !v4 => n(num(t.src)),
            CtKey::Ip6Daddr if !v4 => n(num(t.dst)),
            CtKey::ProtoSrc => n(t.sport.into()),
            CtKey::ProtoDst => n(t.dport.into()),
            // A hash with a secret (`nf_ct_get_id`).
            CtKey::Id => Err(Stop::Unknown),
            _ => Err(Stop::Break),
        }
    }

    /// `nft_rt_get_eval`
    fn rt(&self, key: RtKey, f: &Frame) -> Result<Value, Stop> {
        let p = &self.env.pkt;
        match (key, f.nexthop.unwrap_or(p.dst)) {
            (RtKey::ClassId | RtKey::Ipsec, _) => Ok(Value::Num(0)),
            (RtKey::NexthopV4, IpAddr::V4(a)) => Ok(Value::Num(num(a.into()))),
            (RtKey::NexthopV6, IpAddr::V6(a)) => Ok(Value::Num(num(a.into()))),
            (RtKey::Mtu, _) => {
                let headers = if p.family == Family::V4 { 40 } else { 60 };
                // TCP_MSS_DEFAULT where the MTU leaves no room (get_tcpmss)
                let mss = self.env.path_mtu(f).checked_sub(headers).filter(|n| *n > 0);
                Ok(Value::Num(mss.unwrap_or(536) as u128))
            }
            _ => Err(Stop::Break),
        }
    }

    /// `nft_socket_eval`
    fn socket(&self, key: SocketKey, f: &Frame) -> Result<Value, Stop> {
        let (id, wildcard) = self.env.receiver(f).ok_or(Stop::Break)?;
        let owner = self.env.ns.sockets().owner(id);
        match key {
            SocketKey::Transparent => Ok(yes(owner.transparent)),
            SocketKey::Mark => Ok(Value::Num(owner.mark.into())),
            SocketKey::Wildcard => Ok(yes(wildcard)),
            SocketKey::CgroupV2(_) => Err(Stop::Unknown),
        }
    }

    /// An IPv6 extension header (`ipv6_find_hdr`).
    fn exthdr<'f>(&self, kind: u8, f: &'f Frame) -> Option<&'f [u8]> {
        let b = f.l3();
        if self.env.pkt.family == Family::V4 {
            return None;
        }
        let (mut next, mut at) = (*b.get(6)?, 40usize);
        loop {
            let h = b.get(at..)?;
            if next == kind {
                return Some(h);
            }
            let len = match next {
                0 | 43 | 60 | 135 => (usize::from(*h.get(1)?) + 1) * 8,
                44 => 8,
                51 => (usize::from(*h.get(1)?) + 2) * 4,
                _ => return None,
            };
            next = *h.first()?;
            at += len;
        }
    }

    /// Where a TCP option begins in the segment, and its length (`nft_exthdr_tcp_eval`).
    pub(super) fn tcp_option_at(&self, kind: u8, f: &Frame) -> Option<(usize, usize)> {
        let p = &self.env.pkt;
        if p.proto != Ok(proto::TCP) || p.fragoff != 0 {
            return None;
        }
        let tcp = f.l3().get(p.l4..)?;
        let end = usize::from(tcp.get(12)? >> 4) * 4;
        let mut at = 20;
        while at < end {
            let this = *tcp.get(at)?;
            let len = match this {
                0 | 1 => 1,
                _ => usize::from(*tcp.get(at + 1)?).max(1),
            };
            if this == kind {
                return (at + len <= end).then_some((at, len));
            }
            at += len;
        }
        None
    }

    fn tcp_option<'f>(&self, kind: u8, f: &'f Frame) -> Option<&'f [u8]> {
        let (at, len) = self.tcp_option_at(kind, f)?;
        f.l3().get(self.env.pkt.l4 + at..)?.get(..len)
    }

    /// `ipv4_find_option`
    fn ip_option<'f>(&self, kind: u8, f: &'f Frame) -> Option<&'f [u8]> {
        let p = &self.env.pkt;
        if p.family != Family::V4 {
            return None;
        }
        let (b, mut at) = (f.l3().get(..p.l4)?, 20);
        while at < b.len() && b[at] != 0 {
            let len = match b[at] {
                1 => 1,
                _ => usize::from(*b.get(at + 1)?).max(2),
            };
            if b[at] == kind {
                return b.get(at..at + len);
            }
            at += len;
        }
        None
    }
}

/// uapi if_arp.h
const ARPHRD_LOOPBACK: u128 = 772;

/// The link header of what goes by `lo`: Ethernet between addresses of zeros (`loopback_setup`).
fn loopback_header(f: &Frame) -> &'static [u8] {
    const V4: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x08, 0x00];
    const V6: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x86, 0xdd];
    match f.ethertype_of_l3() {
        ETH_P_IP => V4,
        _ => V6,
    }
}

/// `reciprocal_scale`
pub(super) fn scale(hash: u32, modulus: u32) -> u32 {
    ((u64::from(hash) * u64::from(modulus)) >> 32) as u32
}

pub(super) fn yes(b: bool) -> Value {
    Value::Num(b.into())
}

/// What podpath cannot say below the IP layer: connections, which `nf_conntrack_bridge` would know, and what
/// stands behind a VLAN tag.
pub(super) fn is_beyond(e: &Expr, f: &Frame) -> bool {
    match e {
        Expr::Ct(..) | Expr::Fib(_) | Expr::Rt(_) | Expr::Socket(_) => true,
        Expr::Payload(Field { base, .. })
        | Expr::Unasked(Field { base, .. })
        | Expr::Raw(base, ..) => *base != Base::Link && f.ethertype() == ETH_P_8021Q,
        Expr::Meta(MetaKey::Protocol | MetaKey::L4Proto) => f.ethertype() == ETH_P_8021Q,
        _ => false,
    }
}

fn ext(b: &[u8], x: &ExtField) -> Option<u128> {
    bits_at(b, x.offset.into(), x.bits.into())
}
