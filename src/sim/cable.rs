//! What leaves a namespace: over a cable, onto the backlog, to a socket.
//!
//! Invariant: a frame that is lost has been told of.

use crate::net::PortAt;
use crate::path::{Disposition, DropReason, Observer, Output, Place, Touch};
use crate::sim::world::{Delivery, World};
use crate::wire::{ETH_HLEN, Frame};
use core::time::Duration;

/// VLAN slack a veth grants (kernel: `is_skb_forwardable`).
const VLAN_HLEN: usize = 4;

/// What a cable made of a frame.
pub(super) enum Cabled {
    /// It is there at once, and every other frame would be.
    Plain(Frame),
    /// It arrives after a while, by the cable's properties.
    Later(Frame, Duration),
    /// It does not.
    Lost,
}

impl World {
    /// Takes what left a namespace to where it goes.
    pub(super) fn hand_on<O: Observer>(&mut self, o: Output, obs: &mut O) {
        match o {
            Output::Backlog { at, frame } => self.push(self.now, at, frame, obs),
            Output::Wire { from, to, frame } => match self.cabled(from, to, frame, obs) {
                Cabled::Plain(frame) => self.push(self.now, to, frame, obs),
                Cabled::Later(frame, latency) => self.push_at(latency, to, frame, obs),
                Cabled::Lost => {}
            },
            Output::Socket { ns, socket, frame } => {
                self.deliveries.push(Delivery {
                    time: self.now,
                    ns,
                    socket,
                    packet: frame,
                });
            }
        }
    }

    /// Lets a frame arrive after a while.
    pub(super) fn push_at<O: Observer>(
        &mut self,
        latency: Duration,
        to: PortAt,
        frame: Frame,
        obs: &mut O,
    ) {
        self.push(self.now + latency, to, frame, obs);
    }

    /// A frame on a cable (kernel: `veth_xmit` with `is_skb_forwardable`; elsewhere the link's own fate).
    pub(super) fn cabled<O: Observer>(
        &mut self,
        from: PortAt,
        to: PortAt,
        mut frame: Frame,
        obs: &mut O,
    ) -> Cabled {
        let wrong = match self.ns(to.ns).and_then(|n| n.dev(to.dev)) {
            None => Some(DropReason::NoPeer),
            Some(peer) if !peer.up => Some(DropReason::PeerDown),
            Some(peer) if frame.len() > peer.mtu as usize + ETH_HLEN + VLAN_HLEN => {
                Some(DropReason::PeerMtu)
            }
            Some(_) => None,
        };
        if let Some(reason) = wrong {
            self.lost(from, &frame, reason, obs);
            return Cabled::Lost;
        }
        // What the frame was here is nothing there (kernel: `____dev_forward_skb`).
        frame.scrub();
        frame.priority = 0;
        frame.partial = false;
        if from.ns != to.ns {
            frame.mark = 0;
        }
        let Some(link) = self.links.get(&from) else {
            return Cabled::Plain(frame);
        };
        let (latency, plain, mtu) = (link.latency, link.is_plain(), link.mtu);
        if let Some(reason) = link.fate(&frame, &mut self.shared.rng) {
            self.lost(from, &frame, reason, obs);
            return Cabled::Lost;
        }
        if let (Some(mtu), Some(ns)) = (mtu, self.ns(from.ns))
            && O::RECORDING
        {
            let at = Place {
                now: self.now,
                ns,
                dev: Some(from.dev),
            };
            let (max, len) = (mtu as usize, frame.l3().len());
            obs.touch(at, Touch::Cap { max, len });
        }
        match plain {
            true => Cabled::Plain(frame),
            false => Cabled::Later(frame, latency),
        }
    }

    fn lost<O: Observer>(&mut self, at: PortAt, f: &Frame, reason: DropReason, obs: &mut O) {
        let Some(ns) = self.ns(at.ns) else { return };
        let origin = ns.dev(at.dev).map(|d| d.origin.clone()).unwrap_or_default();
        let how = Disposition::Dropped {
            reason,
            detail: String::new(),
            origin,
        };
        obs.end(
            Place {
                now: self.now,
                ns,
                dev: Some(at.dev),
            },
            f,
            &how,
        );
    }
}
