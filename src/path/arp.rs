//! ARP: answering, learning, asking (RFC 826; kernel: `net/ipv4/arp.c`).

use crate::base::{DevId, Origin};
use crate::net::{NudState, RouteKind, Scope};
use crate::path::input::Input;
use crate::path::neigh::Heard;
use crate::path::observer::{Observer, Step};
use crate::path::reason::{Disposition, DropReason};
use crate::path::walker::Walker;
use crate::wire::arp::{Arp, ArpOp};
use crate::wire::{Frame, IpHeader, MacAddr, PacketType};
use core::time::Duration;
use std::net::{IpAddr, Ipv4Addr};

/// Why a request is or is not answered.
enum Verdict {
    Answer,
    AnswerLater(Duration),
    No(&'static str),
    NotOurs,
}

impl<O: Observer> Walker<'_, O> {
    /// kernel: `arp_rcv`, `arp_process`
    pub(crate) fn arp_receive(&mut self, dev: DevId, f: Frame) {
        if f.pkt_type == PacketType::OtherHost {
            return self.drop(Some(dev), &f, DropReason::OtherHost);
        }
        let ignored = |w: &mut Self, f: &Frame, why: &'static str| {
            w.drop_with(Some(dev), f, DropReason::ArpIgnored, Origin::Kernel, |_| {
                why.to_owned()
            });
        };
        let Some(a) = Arp::parse(f.l3()) else {
            return ignored(self, &f, "malformed");
        };
        let localnet = self.ns.conf_or(dev, |c| c.route_localnet);
        if a.tpa.is_multicast() || (a.tpa.is_loopback() && !localnet) {
            return ignored(self, &f, "the target is a group or a loopback address");
        }
        if a.spa == a.tpa && self.ns.conf_or(dev, |c| c.drop_gratuitous_arp) {
            return ignored(self, &f, "drop_gratuitous_arp");
        }
        // A probe for duplicates (RFC 5227) is answered for any address of ours and teaches nothing.
        if a.spa.is_unspecified() {
            let ours = self.is_own(IpAddr::V4(a.tpa)) && a.op == ArpOp::Request;
            if ours && self.arp_ignored(dev, a.spa, a.tpa).is_none() {
                return self.arp_answer(dev, &a, f);
            }
            return ignored(self, &f, "a probe for an address that is not ours");
        }
        if a.op == ArpOp::Request {
            match self.arp_verdict(dev, &a, &f) {
                Verdict::Answer => {
                    self.arp_learn_asker(dev, &a);
                    return self.arp_answer(dev, &a, f);
                }
                Verdict::AnswerLater(d) => {
                    self.arp_learn_asker(dev, &a);
                    self.ns.proxy_queue.push((self.now + d, dev, f));
                    return;
                }
                Verdict::No(why) => return ignored(self, &f, why),
                Verdict::NotOurs => {}
            }
        }
        self.arp_learn(dev, &a, &f);
        self.end(Some(dev), &f, Disposition::Consumed("ARP"));
    }

    /// Whether and how a request is answered.
    fn arp_verdict(&mut self, dev: DevId, a: &Arp, f: &Frame) -> Verdict {
        match self.route_input(dev, a.spa.into(), a.tpa.into(), f, true) {
            Ok(Input::Local { group: false }) => {
                if let Some(why) = self.arp_ignored(dev, a.spa, a.tpa) {
                    return Verdict::No(why);
                }
                if self.ns.conf_or(dev, |c| c.arp_filter) && self.arp_filtered(dev, a) {
                    return Verdict::No("arp_filter: the route back leaves by another device");
                }
                Verdict::Answer
            }
            Ok(Input::Forward { found, .. }) if self.ns.forwards(dev, true) => {
                let out = found.dev();
                let proxied = if out == Some(dev) {
                    self.ns.conf_or(dev, |c| c.proxy_arp_pvlan) && a.spa != a.tpa
                } else {
                    self.ns.conf_or(dev, |c| c.proxy_arp)
                        || self.ns.neigh.is_proxied(dev, a.tpa.into())
                };
                if !proxied || found.route.kind != RouteKind::Unicast {
                    return Verdict::NotOurs;
                }
                let delay = self
                    .device(dev)
                    .map_or(0, |d| d.parms4.proxy_delay.as_millis() as u64);
                if f.pkt_type == PacketType::Host || delay == 0 {
                    return Verdict::Answer;
                }
                let ms = self.cx.rng.below(delay);
                Verdict::AnswerLater(Duration::from_millis(ms))
            }
            _ => Verdict::NotOurs,
        }
    }

    /// `arp_ignore`: why a request for a local address is not answered, if so (kernel: `arp_ignore`).
    fn arp_ignored(&self, dev: DevId, spa: Ipv4Addr, tpa: Ipv4Addr) -> Option<&'static str> {
        let on_dev = self
            .device(dev)
            .is_some_and(|d| d.addrs4().any(|(_, ip)| ip == tpa));
        match self.ns.conf_max(dev, |c| c.arp_ignore) {
            1 if !on_dev => Some("arp_ignore=1: the address is not this device's"),
            2 => {
                let same_net = spa.is_unspecified() || self.ns.on_link(dev, tpa.into(), spa.into());
                (!on_dev || !same_net)
                    .then_some("arp_ignore=2: not this device's, or another subnet asks")
            }
            3 => {
                let reach = self
                    .ns
                    .devices()
                    .flat_map(|d| d.addrs4())
                    .find(|(_, ip)| *ip == tpa);
                reach
                    .is_none_or(|(a, _)| a.scope >= Scope::Host)
                    .then_some("arp_ignore=3: the address has host scope")
            }
            4..=8 => Some("arp_ignore=8: nothing is answered"),
            _ => None,
        }
    }

    fn arp_filtered(&self, dev: DevId, a: &Arp) -> bool {
        let back = self
            .ns
            .route_output(Some(a.tpa.into()), a.spa.into(), None, 0, 0);
        !back.is_ok_and(|r| r.dev() == Some(dev))
    }

    /// Who asks for us will be spoken to: an entry is made (kernel: `neigh_event_ns`).
    fn arp_learn_asker(&mut self, dev: DevId, a: &Arp) {
        let heard = Heard {
            mac: a.sha,
            state: NudState::Stale,
            override_: true,
            weak: false,
        };
        self.neigh_heard(dev, a.spa.into(), heard, true);
    }

    /// Anything else updates an entry that exists, or makes one under `arp_accept`.
    fn arp_learn(&mut self, dev: DevId, a: &Arp, f: &Frame) {
        let garp = a.spa == a.tpa;
        let accept = self.ns.conf_max(dev, |c| c.arp_accept);
        let unicast = self.ns.fib.address_kind(a.spa.into()) == RouteKind::Unicast;
        let create = match accept {
            1 => garp || a.op == ArpOp::Reply,
            2 => (garp || a.op == ArpOp::Reply) && self.ns.on_link(dev, a.spa.into(), a.spa.into()),
            _ => false,
        } && unicast;
        if self.ns.neigh.get(dev, a.spa.into()).is_none() && !create {
            return;
        }
        let to_us = a.op == ArpOp::Reply && f.pkt_type == PacketType::Host;
        let heard = Heard {
            mac: a.sha,
            state: if to_us {
                NudState::Reachable
            } else {
                NudState::Stale
            },
            override_: garp || self.lock_over(dev, a.spa.into()),
            weak: false,
        };
        self.neigh_heard(dev, a.spa.into(), heard, create);
    }

    fn arp_answer(&mut self, dev: DevId, a: &Arp, f: Frame) {
        let mac = self.device(dev).map_or(MacAddr::ZERO, |d| d.mac);
        let reply = Arp {
            op: ArpOp::Reply,
            sha: mac,
            spa: a.tpa,
            tha: a.sha,
            tpa: a.spa,
        };
        let r = self.child_of(&f, reply.frame(a.sha));
        self.step(Some(dev), &f, |_| Step::Answer { what: "ARP reply" });
        self.end(Some(dev), &f, Disposition::Consumed("ARP request"));
        self.transmit(dev, r);
    }

    /// A proxied answer whose random delay is over.
    pub(crate) fn proxy_answer(&mut self, dev: DevId, f: Frame) {
        match Arp::parse(f.l3()).filter(|_| f.ethertype() == crate::wire::ETH_P_ARP) {
            Some(a) => self.arp_answer(dev, &a, f),
            None => self.nd_proxy_answer(dev, f),
        }
    }

    /// Asks for a neighbour (kernel: `arp_solicit`).
    pub(crate) fn arp_solicit(
        &mut self,
        dev: DevId,
        target: Ipv4Addr,
        cause: &Frame,
        unicast: Option<MacAddr>,
    ) {
        let Some(d) = self.device(dev) else { return };
        let mac = d.mac;
        let packet_src = match IpHeader::parse_lax(cause.l3()) {
            Ok(IpHeader {
                src: IpAddr::V4(s), ..
            }) if self.is_own(s.into()) => Some(s),
            _ => None,
        };
        let announced = match self.ns.conf_max(dev, |c| c.arp_announce) {
            0 => packet_src,
            1 => packet_src.filter(|s| self.ns.on_link(dev, target.into(), (*s).into())),
            _ => None,
        };
        let spa = announced.or_else(|| self.ns.select_addr4(dev, Some(target), Scope::Link));
        let spa = spa.unwrap_or(Ipv4Addr::UNSPECIFIED);
        let ask = Arp {
            op: ArpOp::Request,
            sha: mac,
            spa,
            tha: MacAddr::ZERO,
            tpa: target,
        };
        let f = self.child_of(cause, ask.frame(unicast.unwrap_or(MacAddr::BROADCAST)));
        self.transmit(dev, f);
    }
}
