//! Cutting packets, those that conntrack put together above all (kernel: `ip_do_fragment`,
//! `ip6_fragment`).
//!
//! Invariant: no piece is larger than the largest it came in, nor than the MTU.

use crate::base::DevId;
use crate::net::{DeviceKind, frag};
use crate::path::observer::{Observer, Step};
use crate::path::reason::DropReason;
use crate::path::walker::Walker;
use crate::wire::{ETH_P_IP, Frame};

/// Whether a packet must be cut although it would fit: into pieces no larger than those it came in
/// (kernel: `ip_finish_output`, `ip6_finish_output`).
pub(crate) fn refragments(f: &Frame, mtu: usize) -> bool {
    let len = f.l3().len();
    len > mtu || f.frag_max > 0 && (f.ethertype_of_l3() == ETH_P_IP || len > f.frag_max)
}

impl<O: Observer> Walker<'_, O> {
    /// The pieces of a packet, each behind the packet's link header; none (and its end told) if the MTU
    /// leaves no room.
    pub(crate) fn cut(&mut self, dev: DevId, f: &Frame, mtu: usize) -> Vec<Frame> {
        let room = match f.frag_max {
            0 => mtu,
            max if f.ethertype_of_l3() == ETH_P_IP => mtu.min(max),
            max => mtu.min(max.max(1280)),
        };
        self.ns.frag_id = self.ns.frag_id.wrapping_add(1);
        let id = self.ns.frag_id;
        // A tunnel wants more headroom than fragments have: the kernel leaves their geometry then.
        let as_it_came = match self.device(dev).map(|d| &d.kind) {
            Some(DeviceKind::Vxlan(_) | DeviceKind::Ipip(_)) => None,
            _ => frag::fragment_as(f.l3(), &f.frag_list, room, id),
        };
        let pieces = as_it_came.unwrap_or_else(|| frag::fragment(f.l3(), room, id, f.frag_df));
        if pieces.is_empty() {
            self.drop(Some(dev), f, DropReason::MtuExceeded);
            return Vec::new();
        }
        self.ns.snmp.frag_creates += pieces.len() as u64;
        self.step(Some(dev), f, |_| Step::Fragment {
            count: pieces.len(),
            mtu: room,
        });
        pieces
            .iter()
            .map(|p| {
                let mut c = self.copy(f);
                c.replace_l3(p);
                c.forget_fragments();
                (c.ignore_df, c.frag_list) = (false, Vec::new());
                c
            })
            .collect()
    }
}
