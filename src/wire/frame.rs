//! A frame on its way: bytes with headroom for encapsulation, and what the kernel keeps in the skb.
//!
//! Does not know devices. Invariant: `start + l3 <= buf.len()`.

use crate::base::{DevId, FrameId, limits};
use crate::wire::ct_ref::{Bridged, CtRef};
use crate::wire::options::Options;
use crate::wire::{ETH_HLEN, ETH_P_IP, ETH_P_IPV6, MacAddr};
use core::ops::{Deref, DerefMut};
use smallvec::SmallVec;

/// To whom the link layer addressed a frame (kernel: `skb->pkt_type`, `eth_type_trans`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PacketType {
    /// To us.
    #[default]
    Host,
    /// To all.
    Broadcast,
    /// To a group.
    Multicast,
    /// To somebody else.
    OtherHost,
}

/// Bytes, headroom included, that lie beside the rest of a frame: a small packet is one piece of memory.
const INLINE: usize = limits::HEADROOM + 128;

/// An Ethernet frame, or a bare IP packet where a device has no link header.
///
/// A pointer, as the kernel's functions hand a `struct sk_buff *` on: a walk moves it dozens of times.
#[derive(Clone, Debug, Default)]
pub struct Frame(Box<Skb>);

impl Deref for Frame {
    type Target = Skb;

    fn deref(&self) -> &Skb {
        &self.0
    }
}

impl DerefMut for Frame {
    fn deref_mut(&mut self) -> &mut Skb {
        &mut self.0
    }
}

/// What a [`Frame`] points to (kernel: `struct sk_buff`).
#[derive(Clone, Debug, Default)]
pub struct Skb {
    buf: SmallVec<[u8; INLINE]>,
    start: usize,
    l3: usize,
    /// Identity in traces.
    pub id: FrameId,
    /// The frame that the user injected or a socket sent, from which this one descends.
    pub root: FrameId,
    /// The frame this one was copied from or answers.
    pub parent: Option<FrameId>,
    /// Firewall mark (`skb->mark`).
    pub mark: u32,
    /// Link-layer addressee.
    pub pkt_type: PacketType,
    /// Largest fragment that was merged into this packet, 0 for none (kernel: `IPCB->frag_max_size`).
    pub frag_max: usize,
    /// The largest of those fragments had DF, and so shall those it is cut into (kernel:
    /// `IPSKB_FRAG_PMTU`).
    pub frag_df: bool,
    /// Payload lengths of those fragments in order, while they lie side by side (kernel:
    /// `skb_shinfo(skb)->frag_list`).
    pub frag_list: Vec<u16>,
    /// May be cut in spite of DF: conntrack put it together (kernel: `skb->ignore_df`).
    pub ignore_df: bool,
    /// IPv4 options as compiled on input.
    pub options: Options,
    /// Devices passed so far, over all namespaces: the guard against loops at layer 2.
    pub hops: u16,
    /// Next hop the route named, for tunnels that take their remote from it.
    pub nexthop: Option<std::net::IpAddr>,
    /// The device of the route that OUTPUT looked up anew; the hook's own device stays the one it was called
    /// with (kernel: `skb_dst(skb)->dev` and `state->out`).
    pub rerouted: Option<DevId>,
    /// Whether a local socket or the kernel itself sent it (it then obeys the PMTU cache).
    pub local: bool,
    /// Its connection in the table of the namespace it is in.
    pub ct: CtRef,
    /// The socket it is for, wherever it is addressed to (TPROXY; kernel: `skb->sk`).
    pub socket: Option<u32>,
    /// Bridge ports, while br_netfilter shows it to the IP hooks.
    pub bridged: Option<Bridged>,
    /// The device by which an IPv6 packet came in, which its copies keep (kernel: `IP6CB(skb)->iif`).
    pub iif: Option<DevId>,
    /// What this host sent to everybody, on its way back to itself with the route it was sent by (kernel:
    /// `PACKET_LOOPBACK`, `dev_loopback_xmit`).
    pub looped: bool,
    /// Translation in PREROUTING has taken the route it was sent by (`skb_dst_drop` in
    /// `nf_nat_ipv4_pre_routing`, `nf_nat_ipv6_in`).
    pub route_lost: bool,
    /// The TCP checksum is yet to be finished (kernel: `CHECKSUM_PARTIAL`): until it leaves, errors about
    /// the packet quote the sum of the pseudo header alone.
    pub partial: bool,
    /// The changeable start of the header (IPv6: what its sum covers) when conntrack summed the whole packet
    /// (kernel: `CHECKSUM_COMPLETE` with `csum_complete_sw`); nobody mends that sum when DSCP, TOS or HL
    /// change it. Forgotten when it is forwarded (`skb_forward_csum`).
    pub summed: Option<[u8; 8]>,
    /// A TCP sender has just got on: the next hop of whoever routes this packet is reachable. It stays with
    /// a packet through veths and tunnels (`skb->dst_pending_confirm`; seen on 6.18: a router between two
    /// TCP peers never probes them).
    pub confirm: bool,
    /// IPVS has dealt with it (`skb->ipvs_property`).
    pub ipvs: bool,
    /// Traffic class (`skb->priority`).
    pub priority: u32,
    /// The hash of the socket that sent it, or of its ports once something asked for it; it stays through
    /// namespaces and tunnels (kernel: `skb->hash` with `l4_hash`).
    pub hash: Option<u32>,
}

impl Frame {
    /// A frame holding `data`, whose network header begins at `l3`.
    pub fn new(data: &[u8], l3: usize) -> Self {
        let mut f = Frame::default();
        f.buf.reserve(limits::HEADROOM + data.len());
        f.buf.extend_from_slice(&[0; limits::HEADROOM]);
        f.buf.extend_from_slice(data);
        f.start = limits::HEADROOM;
        f.l3 = l3.min(data.len());
        f
    }

    /// An Ethernet frame as captured or injected.
    pub fn ethernet(data: &[u8]) -> Self {
        Frame::new(data, ETH_HLEN)
    }

    /// A bare IP packet.
    pub fn ip(packet: &[u8]) -> Self {
        Frame::new(packet, 0)
    }
}

impl Skb {
    /// All bytes from the link header on.
    pub fn data(&self) -> &[u8] {
        &self.buf[self.start..]
    }

    /// All bytes from the link header on, to be changed.
    pub fn data_mut(&mut self) -> &mut [u8] {
        &mut self.buf[self.start..]
    }

    /// Bytes from the network header on.
    pub fn l3(&self) -> &[u8] {
        &self.buf[self.start + self.l3..]
    }

    /// Bytes from the network header on, to be changed.
    pub fn l3_mut(&mut self) -> &mut [u8] {
        let at = self.start + self.l3;
        &mut self.buf[at..]
    }

    /// Length from the link header on.
    pub fn len(&self) -> usize {
        self.buf.len() - self.start
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is an Ethernet header in front.
    pub fn has_eth(&self) -> bool {
        self.l3 >= ETH_HLEN
    }

    /// Destination MAC, zero without an Ethernet header.
    pub fn dst_mac(&self) -> MacAddr {
        if self.has_eth() {
            MacAddr::from_slice(self.data())
        } else {
            MacAddr::ZERO
        }
    }

    /// Source MAC, zero without an Ethernet header.
    pub fn src_mac(&self) -> MacAddr {
        if self.has_eth() {
            MacAddr::from_slice(&self.data()[6..])
        } else {
            MacAddr::ZERO
        }
    }

    /// EtherType; for a bare packet the one its IP version implies; 0 when there is none.
    pub fn ethertype(&self) -> u16 {
        if self.has_eth() {
            let d = self.data();
            u16::from_be_bytes([d[self.l3 - 2], d[self.l3 - 1]])
        } else {
            match self.l3().first().map(|b| b >> 4) {
                Some(4) => ETH_P_IP,
                Some(6) => ETH_P_IPV6,
                _ => 0,
            }
        }
    }

    /// Cuts the packet to `n` bytes from the network header on (link padding; kernel: `pskb_trim_rcsum`).
    pub fn trim_l3(&mut self, n: usize) {
        let end = (self.start + self.l3).saturating_add(n);
        if end < self.buf.len() {
            self.buf.truncate(end);
        }
    }

    /// Forgets what belongs to the place it leaves, as when it goes through a veth or into or out of a
    /// tunnel (kernel: `skb_scrub_packet`). The mark stays unless the namespace changes.
    pub fn scrub(&mut self) {
        self.ct = CtRef::None;
        self.ipvs = false;
        self.bridged = None;
        self.socket = None;
        self.local = false;
        self.summed = None;
        self.looped = false;
        self.route_lost = false;
        self.iif = None;
        self.forget_fragments();
        self.ignore_df = false;
        self.frag_list.clear();
    }

    /// What the IP layer knew of the fragments it came in is lost when it is received anew
    /// (kernel: `memset(IPCB(skb), 0, ...)` in `ip_rcv_core`).
    pub fn forget_fragments(&mut self) {
        self.frag_max = 0;
        self.frag_df = false;
    }

    /// Takes the link header away.
    pub fn strip_link(&mut self) {
        self.start += self.l3;
        self.l3 = 0;
    }

    /// Takes `n` bytes (or all there are) off the front; what follows begins with a header of `l3` bytes.
    pub fn pull(&mut self, n: usize, l3: usize) {
        self.start = (self.start + n).min(self.buf.len());
        self.l3 = l3.min(self.len());
    }

    /// Puts `header` in front of what is now the first byte and says where the network header begins then.
    pub fn push(&mut self, header: &[u8], l3: usize) {
        if self.start < header.len() {
            let more = limits::HEADROOM + header.len() - self.start;
            self.buf.insert_many(0, core::iter::repeat_n(0, more));
            self.start += more;
        }
        self.start -= header.len();
        self.buf[self.start..self.start + header.len()].copy_from_slice(header);
        self.l3 = l3.min(self.len());
    }

    /// Replaces or adds the Ethernet header.
    pub fn set_ethernet(&mut self, dst: MacAddr, src: MacAddr, ethertype: u16) {
        self.strip_link();
        let mut h = [0u8; ETH_HLEN];
        h[..6].copy_from_slice(&dst.0);
        h[6..12].copy_from_slice(&src.0);
        h[12..].copy_from_slice(&ethertype.to_be_bytes());
        self.push(&h, ETH_HLEN);
    }

    /// Replaces everything from the network header on.
    pub fn replace_l3(&mut self, packet: &[u8]) {
        self.buf.truncate(self.start + self.l3);
        self.buf.extend_from_slice(packet);
    }

    /// Sets who the link layer addressed, seen from a device with address `dev` (kernel: `eth_type_trans`).
    pub fn classify(&mut self, dev: MacAddr) {
        let d = self.dst_mac();
        self.pkt_type = if !self.has_eth() || d == dev {
            PacketType::Host
        } else if d.is_broadcast() {
            PacketType::Broadcast
        } else if d.is_multicast() {
            PacketType::Multicast
        } else {
            PacketType::OtherHost
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn push_beyond_the_headroom_grows() {
        let mut f = Frame::ip(&[0x45; 20]);
        for _ in 0..20 {
            f.push(&[7; 50], 0);
        }
        assert_eq!(f.len(), 20 + 20 * 50);
        f.pull(20 * 50, 0);
        assert_eq!(f.data(), &[0x45; 20]);
    }

    #[test]
    fn short_frames_do_not_panic() {
        for n in 0..16 {
            let mut f = Frame::ethernet(&vec![1; n]);
            let _ = (f.dst_mac(), f.src_mac(), f.ethertype(), f.l3().len());
            f.classify(MacAddr::ZERO);
            f.pull(100, 100);
            assert!(f.is_empty());
        }
    }
}
