//! Matches that ask the namespace: address types, reverse path, sockets and their owners.
//!
//! As xt_addrtype.c, ipt_rpfilter.c, ip6t_rpfilter.c, xt_socket.c, xt_owner.c. Invariant: only
//! `socket --restore-skmark` changes the packet.

use super::chain::Env;
use super::packet::dsfield;
use crate::base::DevId;
use crate::net::fib::{Flow, FlowL4, Found};
use crate::net::{DeviceKind, RouteKind, Scope, SocketId};
use crate::nf::Family;
use crate::nf::ct::Dir;
use crate::nf::field::Is;
use crate::nf::flags::AddrTypes;
use crate::nf::matches::{AddrType, Owner, Rpfilter, Socket};
use crate::nf::value::Range;
use crate::wire::{Frame, PacketType, Tuple, proto};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The bit of an address type (uapi rtnetlink.h `RTN_*`).
fn type_bit(kind: RouteKind) -> u32 {
    let set = match kind {
        RouteKind::Unicast => AddrTypes::UNICAST,
        RouteKind::Local => AddrTypes::LOCAL,
        RouteKind::Broadcast => AddrTypes::BROADCAST,
        RouteKind::Anycast => AddrTypes::ANYCAST,
        RouteKind::Multicast => AddrTypes::MULTICAST,
        RouteKind::Blackhole => AddrTypes::BLACKHOLE,
        RouteKind::Unreachable => AddrTypes::UNREACHABLE,
        RouteKind::Prohibit => AddrTypes::PROHIBIT,
        RouteKind::Throw => AddrTypes::THROW,
    };
    set.0
}

/// Whether IPv6 calls it unicast (`ipv6_addr_type`): neither a group nor `::` nor an IPv4 address in
/// disguise.
fn is_unicast6(a: Ipv6Addr) -> bool {
    !a.is_multicast() && !a.is_unspecified() && a.to_ipv4_mapped().is_none()
}

impl Env<'_, '_> {
    /// `addrtype_mt_v1`
    pub fn addrtype(&self, m: &AddrType) -> bool {
        let dev = match (m.iface_in, m.iface_out) {
            (true, _) => self.at.input,
            (_, true) => self.at.output,
            _ => None,
        };
        let is = |types: Is<AddrTypes>, a: IpAddr| {
            let hit = match a {
                IpAddr::V4(a) => types.value.0 & type_bit(self.type4(a, dev)) != 0,
                IpAddr::V6(a) => self.type6(a, dev, types.value),
            };
            hit != types.not
        };
        m.src.is_none_or(|t| is(t, self.pkt.src)) && m.dst.is_none_or(|t| is(t, self.pkt.dst))
    }

    /// `inet_dev_addr_type`: with a device, an address of another one counts as foreign.
    pub fn type4(&self, a: Ipv4Addr, dev: Option<DevId>) -> RouteKind {
        match a.is_unspecified() {
            true => RouteKind::Broadcast,
            false => self.ns.fib().address_kind_on(IpAddr::V4(a), dev),
        }
    }

    /// `match_type6`: every type that is asked for has to hold.
    fn type6(&self, a: Ipv6Addr, dev: Option<DevId>, types: AddrTypes) -> bool {
        let asked = |t: AddrTypes| types.0 & t.0 != 0;
        if asked(AddrTypes::MULTICAST) && !a.is_multicast()
            || asked(AddrTypes::UNICAST) && !is_unicast6(a)
            || asked(AddrTypes::UNSPEC) && !a.is_unspecified()
        {
            return false;
        }
        let by_route = AddrTypes::LOCAL.0 | AddrTypes::ANYCAST.0 | AddrTypes::UNREACHABLE.0;
        types.0 & by_route == 0 || types.0 & self.route_type6(a, dev) != 0
    }

    /// `match_lookup_rt6`
    fn route_type6(&self, a: Ipv6Addr, dev: Option<DevId>) -> u32 {
        let own = |d: DevId| {
            self.ns
                .dev(d)
                .is_some_and(|d| d.addrs6().any(|(_, x)| x == a))
        };
        let mut bits = match dev.is_some_and(own) {
            true => AddrTypes::LOCAL.0,
            false => 0,
        };
        // An address of ours at another device has what route there is by this one, or none.
        let Ok(found) = self.ns.route_output(None, IpAddr::V6(a), dev, 0, 0) else {
            return AddrTypes::UNREACHABLE.0;
        };
        match found.route.kind {
            RouteKind::Local if dev.is_none() => bits |= AddrTypes::LOCAL.0,
            RouteKind::Anycast => bits |= AddrTypes::ANYCAST.0,
            _ => {}
        }
        bits
    }

    /// `rpfilter_mt`: whether the way back to the source leaves by the device the packet came in by.
    pub fn rpfilter(&self, f: &Frame, m: &Rpfilter) -> bool {
        let Some(input) = self.at.input else {
            return !m.invert;
        };
        let loopback = |d: &crate::net::Device| matches!(d.kind, DeviceKind::Loopback);
        let trusted = self.ns.dev(input).is_some_and(loopback)
            || match (self.pkt.src, self.pkt.dst) {
                (IpAddr::V4(s), IpAddr::V4(d)) => {
                    let local_group = u32::from(d) >> 8 == 0xe0_00_00;
                    s.is_unspecified() && (d.is_broadcast() || local_group)
                }
                (s, _) => s.is_unspecified(),
            };
        (trusted || self.reverse_path(f, m, input)) != m.invert
    }

    fn reverse_path(&self, f: &Frame, m: &Rpfilter, input: DevId) -> bool {
        let mark = if m.validmark { f.mark } else { 0 };
        let Ok(found) = self.reverse_route(f, mark, input) else {
            return false;
        };
        match (found.route.kind, self.pkt.family) {
            (RouteKind::Unicast, _) => {}
            // A local source is checked against the device like any other in IPv4, not in IPv6.
            (RouteKind::Local, Family::V4) if m.accept_local => {}
            (RouteKind::Local, Family::V6) => return m.accept_local,
            _ => return false,
        }
        m.loose || found.route.nexthops.iter().any(|n| n.dev == Some(input))
    }

    fn reverse_route(
        &self,
        f: &Frame,
        mark: u32,
        input: DevId,
    ) -> Result<Found, crate::net::fib::FibError> {
        // `rpfilter_get_saddr`: a group is no source to ask for.
        let odd = |a: IpAddr| {
            a.is_multicast() || a.is_unspecified() || a == IpAddr::V4(Ipv4Addr::BROADCAST)
        };
        let link_local = match self.pkt.src {
            IpAddr::V6(a) => crate::net::addr::is_link_local(a),
            IpAddr::V4(_) => false,
        };
        self.ns.route(&Flow {
            src: Some(self.pkt.dst).filter(|a| !odd(*a)),
            dst: self.pkt.src,
            iif_name: "lo",
            oif: link_local.then_some(input),
            oif_name: link_local.then(|| self.ns.dev_name(input)),
            mark,
            tos: dsfield(f),
            l4: FlowL4::default(),
            multipath: self.ns.sysctl().multipath(),
            scope: Scope::Universe,
        })
    }

    /// The packet's tuple as sockets know it; `None` for a fragment and for protocols without sockets.
    pub fn socket_tuple(&self, f: &Frame) -> Option<Tuple> {
        let proto = self.pkt.proto.ok().filter(|_| self.pkt.fragoff == 0)?;
        let (sport, dport) = match proto {
            proto::TCP | proto::UDP => self.pkt.ports(f)?,
            _ => return None,
        };
        Some(Tuple {
            proto,
            src: self.pkt.src,
            dst: self.pkt.dst,
            sport,
            dport,
        })
    }

    /// The socket of this host that an arriving packet is for, connected or listening
    /// (`nf_sk_lookup_slow_v4`); of a reply to a translated connection the one that began it.
    pub fn receiver(&self, f: &Frame) -> Option<(SocketId, bool)> {
        let mut t = self.socket_tuple(f)?;
        if let Some((c, info)) = self.conn(f)
            && info.is_reply()
            && c.status.any(crate::nf::ct::CtStatus::SRC_NAT)
        {
            let orig = c.tuple(Dir::Original);
            (t.dst, t.dport) = (orig.src, orig.sport);
        }
        self.ns
            .sockets()
            .find(&t)
            .map(|(b, id)| (id, b.local.is_none()))
    }

    /// `socket_mt4_v3`
    pub fn socket(&self, f: &mut Frame, m: &Socket) -> bool {
        let Some((id, any)) = self.receiver(f) else {
            return false;
        };
        let wildcard = !m.nowildcard && any;
        let fits = !wildcard && (!m.transparent || self.ns.sockets().owner(id).transparent);
        if fits && m.restore_skmark {
            f.mark = self.ns.sockets().owner(id).mark;
        }
        fits
    }

    /// `owner_mt`
    pub fn owner(&self, f: &Frame, m: &Owner) -> bool {
        let sender = match f.local {
            true => self.sender(f),
            false => None,
        };
        let Some(id) = sender else {
            // Without a socket only what is asked against holds.
            let not = |is: Option<Is<Range<u32>>>| is.is_none_or(|i| i.not);
            return m.exists.is_none_or(|e| e.not) && not(m.uid) && not(m.gid);
        };
        if m.exists.is_some_and(|e| e.not) {
            return false;
        }
        let owner = self.ns.sockets().owner(id);
        let fits =
            |is: Option<Is<Range<u32>>>, n: u32| is.is_none_or(|i| i.value.contains(n) != i.not);
        let groups = |is: Is<Range<u32>>| {
            let one = is.value.contains(owner.gid);
            (one || m.suppl && owner.groups.iter().any(|g| is.value.contains(*g))) != is.not
        };
        fits(m.uid, owner.uid) && m.gid.is_none_or(groups)
    }

    /// The socket a packet of this host was sent by.
    pub fn sender(&self, f: &Frame) -> Option<SocketId> {
        let Some(own) = self.socket_tuple(f) else {
            return self.echo_sender(f);
        };
        let mut t = own.reply();
        if let Some((c, info)) = self.conn(f) {
            // Translation changes what the packet says of its socket; the connection remembers.
            let far = c.tuple(if info.is_reply() {
                Dir::Reply
            } else {
                Dir::Original
            });
            (t.src, t.sport, t.dst, t.dport) = (far.dst, far.dport, far.src, far.sport);
        }
        self.ns.sockets().find(&t).map(|(_, id)| id)
    }

    /// The ping socket behind an echo request.
    fn echo_sender(&self, f: &Frame) -> Option<SocketId> {
        let h = self.pkt.l4(f, 0, 8)?;
        let echo = match self.pkt.proto.ok()? {
            proto::ICMP => h[0] == 8,
            proto::ICMPV6 => h[0] == 128,
            _ => false,
        };
        let id = u16::from_be_bytes([h[4], h[5]]);
        let t = Tuple {
            proto: self.pkt.proto.ok()?,
            src: self.pkt.dst,
            dst: self.pkt.src,
            sport: id,
            dport: id,
        };
        let found = self.ns.sockets().find(&t).map(|(_, id)| id);
        found.filter(|_| echo && f.pkt_type == PacketType::Host)
    }
}
