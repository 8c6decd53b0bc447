//! Resolution of next hops: the state machine of `net/core/neighbour.c` over ARP and ND.
//!
//! Who asks and how (ARP or solicitation) is in `arp` and `nd`; the entries are `net::neigh`'s.

use crate::base::{DevId, Instant, Origin};
use crate::net::NudState;
use crate::net::neigh::{Neigh, NeighParms};
use crate::path::observer::{Observer, Step};
use crate::path::reason::DropReason;
use crate::path::touch::{Touch, Varies};
use crate::path::walker::Walker;
use crate::wire::{ETH_P_IP, ETH_P_IPV6, Frame, MacAddr};
use core::time::Duration;
use std::net::IpAddr;

/// What a neighbour told of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    /// Its link address.
    pub mac: MacAddr,
    /// The state it earns: reachable for an answer to us, stale otherwise.
    pub state: NudState,
    /// A different address replaces the known one.
    pub override_: bool,
    /// Without override: keep the known address but call it stale (ND).
    pub weak: bool,
}

/// Whether an entry was confirmed within `span`, without asking (kernel: `neigh_confirm`).
fn lately(n: &Neigh, now: Instant, span: Duration) -> bool {
    n.confirmed.is_some_and(|c| c + span > now)
}

impl<O: Observer> Walker<'_, O> {
    /// Sends an IP packet to a next hop on a device (kernel: `ip_finish_output2`, `neigh_output`).
    pub(crate) fn neigh_output(&mut self, dev: DevId, hop: IpAddr, mut f: Frame) {
        let Some(d) = self.device(dev) else { return };
        let src = d.mac;
        if d.is_layer3() {
            f.strip_link();
            f.nexthop = Some(hop);
            return self.transmit(dev, f);
        }
        if let Some(mac) = self.fixed_address(dev, hop) {
            let proto = f.ethertype_of_l3();
            f.set_ethernet(mac, src, proto);
            return self.transmit(dev, f);
        }
        let now = self.now;
        match self.ns.neigh.get_mut(dev, hop) {
            Some(n) if n.state.is_valid() => {
                n.used = now;
                n.header_cached = true;
                if f.confirm {
                    n.confirmed = Some(now);
                }
                let (mac, state) = (n.lladdr, n.state);
                self.touch(
                    Some(dev),
                    match state {
                        NudState::Stale => Touch::Varies(Varies::Neighbour),
                        _ => Touch::Neigh { dev, ip: hop },
                    },
                );
                if state == NudState::Stale {
                    let first_probe = now + self.parms(dev, hop).delay_first_probe;
                    if let Some(n) = self.ns.neigh.get_mut(dev, hop) {
                        n.state = NudState::Delay;
                        n.updated = now;
                    }
                    self.ns.neigh.set_timer(dev, hop, Some(first_probe));
                }
                self.step(Some(dev), &f, |_| Step::NeighHit {
                    ip: hop,
                    mac,
                    state: state.name(),
                });
                self.send_to_mac(dev, mac, f);
            }
            Some(n) if n.state == NudState::Incomplete => self.neigh_queue(dev, hop, f),
            _ => self.neigh_start(dev, hop, f),
        }
    }

    /// Addresses that need no asking: groups, broadcasts and devices without neighbours.
    fn fixed_address(&self, dev: DevId, hop: IpAddr) -> Option<MacAddr> {
        let d = self.device(dev)?;
        match hop {
            IpAddr::V4(a) if a.is_multicast() => return Some(MacAddr::ipv4_group(a)),
            IpAddr::V6(a) if a.is_multicast() => return Some(MacAddr::ipv6_group(a)),
            _ => {}
        }
        if self.ns.fib.address_kind(hop) == crate::net::RouteKind::Broadcast {
            return Some(MacAddr::BROADCAST);
        }
        (!self.ns.needs_resolution(d, hop)).then_some(MacAddr::ZERO)
    }

    fn send_to_mac(&mut self, dev: DevId, mac: MacAddr, mut f: Frame) {
        let src = self.device(dev).map_or(MacAddr::ZERO, |d| d.mac);
        let proto = f.ethertype_of_l3();
        f.set_ethernet(mac, src, proto);
        self.transmit(dev, f);
    }

    /// A new or failed entry: queue, ask, come back in a second (kernel: `__neigh_event_send`).
    fn neigh_start(&mut self, dev: DevId, hop: IpAddr, f: Frame) {
        let limit = if hop.is_ipv4() {
            self.ns.sysctl.gc_thresh3
        } else {
            self.ns.sysctl.gc_thresh3_v6
        };
        let fresh = self.ns.neigh.get(dev, hop).is_none();
        if fresh && self.ns.neigh.counted(hop.is_ipv4()) >= limit.max(0) as usize {
            return self.drop_with(
                Some(dev),
                &f,
                DropReason::NeighTableFull,
                Origin::Kernel,
                |_| format!("{limit} entries, asking for {hop}"),
            );
        }
        let n = self.ns.neigh.put(
            dev,
            hop,
            NudState::Incomplete,
            MacAddr::ZERO,
            self.now,
            Origin::Kernel,
        );
        n.probes = 1;
        self.ns
            .neigh
            .set_timer(dev, hop, Some(self.now + self.parms(dev, hop).retrans));
        let cause = f.clone();
        self.neigh_queue(dev, hop, f);
        self.solicit(dev, hop, &cause, None);
    }

    fn neigh_queue(&mut self, dev: DevId, hop: IpAddr, f: Frame) {
        let shown = f.clone();
        let max = self.parms(dev, hop).unres_bytes;
        let Some(n) = self.ns.neigh.get_mut(dev, hop) else {
            return;
        };
        let lost = n.enqueue(f, max);
        let queued = n.queue.len();
        self.step(Some(dev), &shown, |_| Step::NeighWait { ip: hop, queued });
        for l in lost {
            self.drop_with(
                Some(dev),
                &l,
                DropReason::NeighQueueFull,
                Origin::Kernel,
                |_| format!("for {hop}"),
            );
        }
    }

    fn solicit(&mut self, dev: DevId, hop: IpAddr, cause: &Frame, unicast: Option<MacAddr>) {
        match hop {
            IpAddr::V4(a) => self.arp_solicit(dev, a, cause, unicast),
            IpAddr::V6(a) => self.nd_solicit(dev, a, cause, unicast),
        }
    }

    /// An entry's time is over (kernel: `neigh_timer_handler`).
    pub(crate) fn neigh_timer(&mut self, dev: DevId, ip: IpAddr) {
        let (now, parms) = (self.now, self.parms(dev, ip));
        let Some(n) = self.ns.neigh.get_mut(dev, ip) else {
            return;
        };
        match n.state {
            NudState::Reachable if lately(n, now, parms.reachable) => {
                let until = n.confirmed.map(|c| c + parms.reachable);
                self.ns.neigh.set_timer(dev, ip, until);
            }
            NudState::Reachable => {
                let recently = now.since(n.used) < parms.delay_first_probe && n.used > n.updated;
                n.state = if recently {
                    NudState::Delay
                } else {
                    NudState::Stale
                };
                n.updated = now;
                self.cx.learned += 1;
                if recently {
                    self.ns
                        .neigh
                        .set_timer(dev, ip, Some(now + parms.delay_first_probe));
                }
            }
            NudState::Delay if lately(n, now, parms.delay_first_probe) => {
                n.state = NudState::Reachable;
                n.updated = now;
                let until = n.confirmed.map(|c| c + parms.reachable);
                self.ns.neigh.set_timer(dev, ip, until);
            }
            NudState::Delay => {
                n.state = NudState::Probe;
                n.updated = now;
                n.probes = 0;
                self.probe_again(dev, ip);
            }
            NudState::Probe if n.probes >= parms.ucast_solicit => self.neigh_failed(dev, ip),
            NudState::Incomplete if n.probes >= parms.mcast_solicit => self.neigh_failed(dev, ip),
            NudState::Probe | NudState::Incomplete => self.probe_again(dev, ip),
            _ => {}
        }
    }

    fn probe_again(&mut self, dev: DevId, ip: IpAddr) {
        let Some(n) = self.ns.neigh.get_mut(dev, ip) else {
            return;
        };
        n.probes += 1;
        let to = (n.state == NudState::Probe).then_some(n.lladdr);
        let cause = n.queue.back().cloned();
        self.ns
            .neigh
            .set_timer(dev, ip, Some(self.now + self.parms(dev, ip).retrans));
        let cause = cause.unwrap_or_else(|| {
            let mut f = Frame::ip(&[]);
            self.cx.adopt(&mut f);
            f
        });
        self.solicit(dev, ip, &cause, to);
    }

    /// Nobody answered: every waiting packet's sender is told (kernel: `neigh_invalidate`,
    /// `arp_error_report`).
    fn neigh_failed(&mut self, dev: DevId, ip: IpAddr) {
        let Some(n) = self.ns.neigh.get_mut(dev, ip) else {
            return;
        };
        n.state = NudState::Failed;
        n.updated = self.now;
        self.cx.learned += 1;
        let queue = n.take_queue();
        for f in queue {
            let sent = if ip.is_ipv4() {
                self.icmp_error(&f, None, 3, 1, 0)
            } else {
                self.icmp_error(&f, None, 1, 3, 0)
            };
            self.rejected(
                Some(dev),
                &f,
                sent,
                DropReason::NeighFailed,
                Origin::Kernel,
                |ns| format!("{ip} on {} did not answer", ns.dev_name(dev)),
            );
        }
    }

    /// A neighbour made itself known (kernel: `neigh_update`). `create` makes an entry where there is none.
    pub(crate) fn neigh_heard(&mut self, dev: DevId, ip: IpAddr, heard: Heard, create: bool) {
        let now = self.now;
        if self.ns.neigh.get(dev, ip).is_none() {
            let limit = if ip.is_ipv4() {
                self.ns.sysctl.gc_thresh3
            } else {
                self.ns.sysctl.gc_thresh3_v6
            };
            if !create || self.ns.neigh.counted(ip.is_ipv4()) >= limit.max(0) as usize {
                return;
            }
            self.ns
                .neigh
                .put(dev, ip, heard.state, heard.mac, now, Origin::Kernel);
            return self.neigh_settle(dev, ip);
        }
        let Some(n) = self.ns.neigh.get_mut(dev, ip) else {
            return;
        };
        if matches!(n.state, NudState::Permanent | NudState::Noarp) {
            return;
        }
        let was_valid = n.state.is_valid();
        let (mut mac, mut state) = (heard.mac, heard.state);
        if was_valid && mac != n.lladdr && !heard.override_ {
            if !(heard.weak && n.state == NudState::Reachable) {
                return;
            }
            (mac, state) = (n.lladdr, NudState::Stale);
        } else if was_valid && mac == n.lladdr && state == NudState::Stale {
            state = n.state;
        }
        if state == NudState::Reachable {
            n.confirmed = Some(now);
        }
        if n.state != state || n.lladdr != mac {
            self.cx.learned += 1;
            n.updated = now;
        }
        let unchanged = n.state == state && n.lladdr == mac && state != NudState::Reachable;
        (n.state, n.lladdr) = (state, mac);
        if unchanged {
            return;
        }
        self.neigh_settle(dev, ip);
    }

    /// Sets the timer of the new state and lets waiting packets go.
    fn neigh_settle(&mut self, dev: DevId, ip: IpAddr) {
        let (now, parms) = (self.now, self.parms(dev, ip));
        let Some(n) = self.ns.neigh.get_mut(dev, ip) else {
            return;
        };
        n.probes = 0;
        let (state, mac, queue) = (n.state, n.lladdr, n.take_queue());
        let at = match state {
            NudState::Reachable => Some(now + parms.reachable),
            NudState::Delay => Some(now + parms.delay_first_probe),
            NudState::Probe => Some(now + parms.retrans),
            _ => None,
        };
        self.ns.neigh.set_timer(dev, ip, at);
        for f in queue {
            self.step(Some(dev), &f, |_| Step::NeighResolved { ip, mac });
            self.neigh_output(dev, ip, f);
        }
    }

    /// How neighbours of a device are asked for.
    fn parms(&self, dev: DevId, ip: IpAddr) -> NeighParms {
        let v4 = ip.is_ipv4();
        self.device(dev)
            .map_or_else(|| NeighParms::new(v4), |d| *d.parms(v4))
    }

    /// Whether a second answer may already override (`locktime`).
    pub(crate) fn lock_over(&self, dev: DevId, ip: IpAddr) -> bool {
        self.ns
            .neigh
            .get(dev, ip)
            .is_none_or(|n| self.now.since(n.updated) > self.parms(dev, ip).locktime)
    }
}

impl Frame {
    /// The EtherType that the packet's own version field implies.
    pub(crate) fn ethertype_of_l3(&self) -> u16 {
        if self.l3().first().is_some_and(|b| b >> 4 == 6) {
            ETH_P_IPV6
        } else {
            ETH_P_IP
        }
    }
}
