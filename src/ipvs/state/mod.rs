//! States of connections and their timeouts (kernel: ip_vs_proto_tcp.c, _udp.c, _sctp.c).
//!
//! Not those of conntrack: IPVS has its own. Invariant: a state's number is its place in its protocol's
//! tables.

pub(super) mod sctp;
pub(super) mod tcp;

use crate::wire::proto;
use core::time::Duration;

/// Which way a packet goes (`IP_VS_DIR_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// From the client.
    In,
    /// From the real server.
    Out,
    /// From the client, where answers pass by (droute, tunnel).
    InOnly,
}

/// Timeouts that `ipvsadm --set` changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// Established TCP.
    pub tcp: u32,
    /// TCP after a FIN.
    pub tcp_fin: u32,
    /// UDP.
    pub udp: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            tcp: 900,
            tcp_fin: 120,
            udp: 300,
        }
    }
}

impl Timeouts {
    /// How long a connection lives in a state without a packet.
    pub fn of(&self, proto: u8, state: u8) -> Duration {
        let secs = match (proto, state) {
            (proto::TCP, tcp::ESTABLISHED) => self.tcp,
            (proto::TCP, tcp::FIN_WAIT) => self.tcp_fin,
            (proto::TCP, s) => tcp::timeout(s),
            (proto::UDP, _) => self.udp,
            (proto::SCTP, s) => sctp::timeout(s),
            _ => 60,
        };
        Duration::from_secs(u64::from(secs))
    }
}

/// A state's name in `ipvsadm -Lnc`.
pub fn name(proto: u8, state: u8) -> &'static str {
    match proto {
        proto::TCP => tcp::name(state),
        proto::UDP => "UDP",
        proto::SCTP => sctp::name(state),
        _ => "NONE",
    }
}

/// The state of a name.
pub(super) fn of_name(proto: u8, text: &str) -> Option<u8> {
    (0..=sctp::CLOSED).find(|s| name(proto, *s) == text && (proto == proto::SCTP || *s < 11))
}

/// The state after a packet whose upper-layer bytes are `l4`; `None`: it is too short to say.
pub(super) fn next(proto: u8, state: u8, way: Way, l4: &[u8], secure: bool) -> Option<u8> {
    match proto {
        proto::TCP => tcp::next(state, way, *l4.get(13)?, secure),
        proto::SCTP => sctp::next(state, way, l4),
        _ => Some(0),
    }
}

/// Whether connections in a state count as active (`tcp_state_active`).
pub(super) fn is_active(proto: u8, state: u8) -> bool {
    match proto {
        proto::TCP => tcp::is_active(state),
        proto::SCTP => state == sctp::ESTABLISHED,
        _ => false,
    }
}

/// Whether a state says that both sides have spoken, so that its template is worth keeping.
pub(super) fn assures(proto: u8, state: u8, way: Way) -> bool {
    match proto {
        proto::TCP => state == tcp::ESTABLISHED,
        proto::SCTP => state == sctp::ESTABLISHED,
        _ => way == Way::Out,
    }
}
