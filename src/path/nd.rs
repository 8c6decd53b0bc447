//! Neighbour discovery (RFC 4861; kernel: `net/ipv6/ndisc.c`). Routers are not discovered.

use crate::base::{DevId, Origin};
use crate::net::NudState;
use crate::path::neigh::Heard;
use crate::path::observer::{Observer, Step};
use crate::path::reason::{Disposition, DropReason};
use crate::path::walker::Walker;
use crate::wire::ndp::{Ndp, solicited_node};
use crate::wire::{Frame, IpHeader, MacAddr, PacketType};
use core::time::Duration;
use std::net::{IpAddr, Ipv6Addr};

impl<O: Observer> Walker<'_, O> {
    /// A solicitation or advertisement addressed to us.
    pub(crate) fn nd_receive(&mut self, dev: DevId, h: &IpHeader, f: Frame) {
        let ignored = |w: &mut Self, f: &Frame, why: &'static str| {
            w.drop_with(Some(dev), f, DropReason::NdIgnored, Origin::Kernel, |_| {
                why.to_owned()
            });
        };
        let (IpAddr::V6(src), IpAddr::V6(dst)) = (h.src, h.dst) else {
            return;
        };
        match Ndp::parse(h, f.l3()) {
            Some(Ndp::Solicit { target, lladdr }) => {
                self.solicited(dev, (src, dst), target, lladdr, f)
            }
            Some(Ndp::Advert {
                target,
                lladdr,
                solicited,
                override_,
                router,
            }) => {
                let Some(mac) = lladdr else {
                    return ignored(self, &f, "no link address option");
                };
                if solicited && dst.is_multicast() {
                    return ignored(self, &f, "solicited flag on a multicast advertisement");
                }
                if self
                    .device(dev)
                    .is_some_and(|d| d.addrs6().any(|(_, a)| a == target))
                {
                    return ignored(self, &f, "it claims an address of ours");
                }
                let state = if solicited {
                    NudState::Reachable
                } else {
                    NudState::Stale
                };
                let heard = Heard {
                    mac,
                    state,
                    override_,
                    weak: true,
                };
                if let Some(n) = self.ns.neigh.get_mut(dev, target.into()) {
                    n.router = router;
                    if n.state == NudState::Failed {
                        return ignored(self, &f, "the entry has failed");
                    }
                }
                self.neigh_heard(dev, target.into(), heard, false);
                self.end(
                    Some(dev),
                    &f,
                    Disposition::Consumed("neighbour advertisement"),
                );
            }
            None => ignored(self, &f, "malformed"),
        }
    }

    /// kernel: `ndisc_recv_ns`
    fn solicited(
        &mut self,
        dev: DevId,
        (src, dst): (Ipv6Addr, Ipv6Addr),
        target: Ipv6Addr,
        lladdr: Option<MacAddr>,
        f: Frame,
    ) {
        let ignored = |w: &mut Self, f: &Frame, why: &'static str| {
            w.drop_with(Some(dev), f, DropReason::NdIgnored, Origin::Kernel, |_| {
                why.to_owned()
            });
        };
        let dad = src.is_unspecified();
        if dad && (dst != solicited_node(target) || lladdr.is_some()) {
            return ignored(self, &f, "a malformed probe for duplicates");
        }
        let own = self
            .device(dev)
            .is_some_and(|d| d.addrs6().any(|(_, a)| a == target));
        if !own {
            let proxies = self.ns.sysctl.all6.proxy_ndp != 0
                || self.device(dev).is_some_and(|d| d.conf6.proxy_ndp != 0);
            if !(self.ns.forwards(dev, false)
                && proxies
                && self.ns.neigh.is_proxied(dev, target.into()))
            {
                return ignored(self, &f, "not an address of this device");
            }
            if f.pkt_type != PacketType::Host && dst.is_multicast() {
                let delay = self
                    .device(dev)
                    .map_or(0, |d| d.parms6.proxy_delay.as_millis() as u64);
                if delay > 0 {
                    let at = self.now + Duration::from_millis(self.cx.rng.below(delay));
                    self.ns.proxy_queue.push((at, dev, f));
                    return;
                }
            }
        }
        self.nd_answer(dev, (src, dst), target, lladdr, own, f);
    }

    /// A proxied answer whose random delay is over.
    pub(crate) fn nd_proxy_answer(&mut self, dev: DevId, f: Frame) {
        let Ok(h) = IpHeader::parse_lax(f.l3()) else {
            return;
        };
        if let (IpAddr::V6(src), IpAddr::V6(dst), Some(Ndp::Solicit { target, lladdr })) =
            (h.src, h.dst, Ndp::parse(&h, f.l3()))
        {
            self.nd_answer(dev, (src, dst), target, lladdr, false, f);
        }
    }

    fn nd_answer(
        &mut self,
        dev: DevId,
        (src, dst): (Ipv6Addr, Ipv6Addr),
        target: Ipv6Addr,
        lladdr: Option<MacAddr>,
        own: bool,
        f: Frame,
    ) {
        let router = self.ns.forwards(dev, false) && own;
        let dad = src.is_unspecified();
        let multicast = dst.is_multicast();
        let to = if dad {
            Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)
        } else {
            src
        };
        if let (false, Some(mac)) = (dad, lladdr) {
            let heard = Heard {
                mac,
                state: NudState::Stale,
                override_: true,
                weak: true,
            };
            self.neigh_heard(dev, src.into(), heard, true);
        }
        // Without the option the sender's Ethernet address is not taken; it will be asked for.
        let mac = self.device(dev).map_or(MacAddr::ZERO, |d| d.mac);
        let advert = Ndp::Advert {
            target,
            lladdr: (dad || multicast).then_some(mac),
            router,
            solicited: !dad,
            override_: own && (dad || multicast),
        };
        let from = if own {
            Some(target)
        } else {
            self.ns.select_addr6(dev, to)
        };
        let Some(from) = from else {
            return self.drop(Some(dev), &f, DropReason::NoSourceAddress);
        };
        let r = self.child_of(&f, Frame::ip(&advert.packet(from, to)));
        self.step(Some(dev), &f, |_| Step::Answer {
            what: "neighbour advertisement",
        });
        self.end(
            Some(dev),
            &f,
            Disposition::Consumed("neighbour solicitation"),
        );
        if let Some(r) = self.nf_link_output(dev, r) {
            self.neigh_output(dev, to.into(), r);
        }
    }

    /// Asks for a neighbour (kernel: `ndisc_solicit`): from the waiting packet's source if it is this
    /// device's, else from the link-local address.
    pub(crate) fn nd_solicit(
        &mut self,
        dev: DevId,
        target: Ipv6Addr,
        cause: &Frame,
        unicast: Option<MacAddr>,
    ) {
        let Some(d) = self.device(dev) else { return };
        let mac = d.mac;
        let packet_src = match IpHeader::parse_lax(cause.l3()) {
            Ok(IpHeader {
                src: IpAddr::V6(s), ..
            }) if d.addrs6().any(|(_, a)| a == s) => Some(s),
            _ => None,
        };
        let Some(src) = packet_src.or_else(|| d.link_local()) else {
            return;
        };
        let to = if unicast.is_some() {
            target
        } else {
            solicited_node(target)
        };
        let ask = Ndp::Solicit {
            target,
            lladdr: Some(mac),
        };
        let f = self.child_of(cause, Frame::ip(&ask.packet(src, to)));
        let Some(mut f) = self.nf_link_output(dev, f) else {
            return;
        };
        let dst_mac = unicast.unwrap_or_else(|| MacAddr::ipv6_group(to));
        f.set_ethernet(dst_mac, mac, crate::wire::ETH_P_IPV6);
        self.transmit(dev, f);
    }

    /// Whether this device listens to an IPv6 group: all nodes, all routers while forwarding, and the
    /// solicited-node groups of its addresses (RFC 4291 section 2.8).
    pub(crate) fn joined6(&self, dev: DevId, group: Ipv6Addr) -> bool {
        let s = group.segments();
        let well_known = |n: u16| {
            matches!(s[0], 0xff01 | 0xff02) && s[1..7].iter().all(|x| *x == 0) && s[7] == n
        };
        well_known(1)
            || (well_known(2) && self.ns.forwards(dev, false))
            // A proxied address is joined too (kernel: `pndisc_constructor`).
            || self.ns.neigh.proxies().any(|(d, a)| {
                d == dev && matches!(a, IpAddr::V6(a) if solicited_node(a) == group)
            })
            || self
                .device(dev)
                .is_some_and(|d| d.addrs6().any(|(_, a)| solicited_node(a) == group))
    }
}
