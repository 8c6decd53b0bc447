//! What connected sockets' random flow hashes were, read from the tunnel's outer source ports.
//!
//! A TCP or connected UDP socket draws its hash (kernel: `sk_txhash`); the tunnel's outer port follows from it and
//! with that how many outer connections the nodes track. A sender's packet is found again inside the tunnel by
//! what NAT leaves alone; a socket's fragments have its hash too. Everything else (ICMP, what the recorder
//! injected, the nodes' own answers) has no such hash: podpath's own decides.

use std::collections::BTreeSet;

use super::scenario::{Dir, Recorded, Trace};
use super::topo::Topo;
use podpath::wire::{IpHeader, proto};

/// UDP port of the tunnels.
const VXLAN: u16 = 8472;
/// Default of `net.ipv4.ip_local_port_range`, which no scenario changes.
const RANGE: (u16, u16) = (32768, 60999);
/// Outer IPv4, UDP and VXLAN headers and the inner Ethernet header.
const OUTER: usize = 20 + 8 + 8 + 14;
/// A node's own packet may have been put a little later than it left.
const EARLY_NS: u64 = 1_000_000;

/// Packets seen in tunnels.
#[derive(Default)]
pub struct Hashes {
    seen: Vec<(u64, Vec<u8>, u16)>,
    injected: BTreeSet<(String, String)>,
}

impl Hashes {
    /// Of a recording.
    pub fn read(topo: &Topo<'_>, trace: &Trace, frames: &[Recorded]) -> Self {
        let node = |f: &&Recorded| {
            let ns = f.interface.split('.').next().unwrap_or("");
            f.dir == Dir::Out && !f.l3 && topo.emulated(ns)
        };
        let seen = frames.iter().filter(node).filter_map(|f| {
            let outer = f.data.get(14..)?;
            let h = IpHeader::parse_lax(outer).ok()?;
            let (sport, dport) = h.ports(outer)?;
            let vxlan = h.proto == proto::UDP && dport == VXLAN && h.is_v4();
            let inner = signature(outer.get(OUTER..)?)?;
            vxlan.then_some((f.t_ns, inner, sport))
        });
        let injected = trace.injected.iter();
        Hashes {
            seen: seen.collect(),
            injected: injected
                .map(|i| (i.interface.clone(), i.hex.clone()))
                .collect(),
        }
    }

    /// The hash of the socket that sent the packet `packet` at `t_ns`, as far as a tunnel shows it.
    pub fn of(&self, t_ns: u64, packet: &[u8]) -> Option<u32> {
        let mine = signature(packet)?;
        let later = |x: &&(u64, Vec<u8>, u16)| x.0 + EARLY_NS >= t_ns && x.1 == mine;
        self.seen.iter().find(later).map(|x| hash_of(x.2))
    }

    /// The same for a frame at an endpoint's interface; the recorder's own have none.
    pub fn of_frame(&self, t_ns: u64, interface: &str, frame: &[u8]) -> Option<u32> {
        let hex: String = frame.iter().map(|b| format!("{b:02x}")).collect();
        let key = (interface.to_owned(), hex);
        let packet = frame.get(14..).filter(|_| !self.injected.contains(&key))?;
        self.of(t_ns, packet)
    }
}

/// What no translation changes of a TCP or UDP packet or fragment.
fn signature(packet: &[u8]) -> Option<Vec<u8>> {
    let h = IpHeader::parse_lax(packet).ok()?;
    let mut p = h.payload(packet).to_vec();
    let checksum = match h.proto {
        proto::TCP => 16..18,
        proto::UDP => 6..8,
        _ => return None,
    };
    if h.frag_off == 0 {
        p.get_mut(checksum)?.fill(0);
        p.get_mut(..4)?.fill(0);
    }
    p.extend(h.id.to_be_bytes());
    p.extend((h.frag_off as u32).to_be_bytes());
    p.push(h.proto);
    Some(p)
}

/// A hash of which the kernel makes that port (inverse of `udp_flow_src_port`).
fn hash_of(port: u16) -> u32 {
    let range = u32::from(RANGE.1 - RANGE.0);
    (u32::from(port.saturating_sub(RANGE.0)) << 16).div_ceil(range) << 16
}
