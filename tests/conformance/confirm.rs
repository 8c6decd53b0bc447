//! Which of an endpoint's packets tell routers that their neighbours are there.
//!
//! A TCP that got an acknowledgement of something new marks its next packet, and the mark stays with the packet
//! through veths and tunnels: every router that sends it on takes its next hop for reachable without asking
//! (kernel: `sk_dst_confirm` in `tcp_ack`, `skb_set_dst_pending_confirm`, `sock_confirm_neigh`). No frame shows
//! the mark; it follows from what the endpoint heard.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::scenario::{Dir, Recorded};
use podpath::wire::{Frame, IpHeader, proto};

/// Interface, own address and port, the peer's.
type Flow = (String, (IpAddr, u16), (IpAddr, u16));

/// What endpoints' TCPs have been told.
#[derive(Default)]
pub struct Senders {
    flows: BTreeMap<Flow, Sender>,
}

#[derive(Default)]
struct Sender {
    /// Acknowledged up to here.
    una: Option<u32>,
    /// Something new was acknowledged since the last packet.
    marked: bool,
}

impl Senders {
    /// A frame at an interface, in the order of time: whether its sender marked it.
    pub fn confirms(&mut self, f: &Recorded) -> bool {
        let frame = match f.l3 {
            true => Frame::ip(&f.data),
            false => Frame::ethernet(&f.data),
        };
        let Ok(h) = IpHeader::parse_lax(frame.l3()) else {
            return false;
        };
        let t = h.payload(frame.l3());
        let (Some((sport, dport)), true) = (h.ports(frame.l3()), h.proto == proto::TCP) else {
            return false;
        };
        let word = |at: usize| {
            t.get(at..at + 4)?
                .first_chunk()
                .copied()
                .map(u32::from_be_bytes)
        };
        let (Some(seq), Some(ack), Some(flags)) = (word(4), word(8), t.get(13)) else {
            return false;
        };
        let (here, there) = ((h.src, sport), (h.dst, dport));
        if f.dir == Dir::Out {
            let s = self
                .flows
                .entry((f.interface.clone(), here, there))
                .or_default();
            if flags & 2 != 0 {
                // The acknowledgement of a SYN is progress, that of a SYN-ACK is not.
                s.una = Some(seq.wrapping_add(u32::from(flags & 16 != 0)));
            }
            return core::mem::take(&mut s.marked);
        }
        let Some(s) = self.flows.get_mut(&(f.interface.clone(), there, here)) else {
            return false;
        };
        if let Some(una) = s.una.filter(|_| flags & 16 != 0)
            && (ack.wrapping_sub(una) as i32) > 0
        {
            (s.una, s.marked) = (Some(ack), true);
        }
        false
    }
}
