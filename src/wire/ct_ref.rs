//! What a frame carries for netfilter: its place in a connection table, the bridge ports it crosses.
//!
//! Plain numbers; the connection itself lives in the namespace's table. Invariant: a reference is only
//! valid in the namespace that set it, which is why a frame that changes namespace loses it.

use crate::base::DevId;
use crate::wire::MacAddr;

/// A connection's slot in its table; the generation tells a reused slot from the one that was meant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnId {
    /// Index.
    pub slot: u32,
    /// Counts the slot's lives.
    pub generation: u32,
}

/// How a packet relates to its connection (kernel: `enum ip_conntrack_info`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum CtInfo {
    /// Original direction of a connection that has seen a reply.
    Established,
    /// An ICMP error about it, or an expected connection's first packet.
    Related,
    /// Original direction, nothing came back yet.
    New,
    /// Reply direction.
    EstablishedReply,
    /// An ICMP error about it, in reply direction.
    RelatedReply,
}

impl CtInfo {
    /// Whether the packet goes in the reply direction (kernel: `CTINFO2DIR`).
    pub fn is_reply(self) -> bool {
        matches!(self, CtInfo::EstablishedReply | CtInfo::RelatedReply)
    }
}

/// What conntrack has said of a packet (kernel: `skb->_nfct`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CtRef {
    /// Nothing: not seen yet, or INVALID once conntrack has run.
    #[default]
    None,
    /// NOTRACK.
    Untracked,
    /// Related to a packet that is untracked: no connection, but no longer blank, so that `-j CT` leaves it
    /// alone (kernel: `nf_conntrack_attach` of a null connection with `IP_CT_RELATED`).
    Orphan,
    /// `-j CT` chose zone, helper or timeout for a connection to come.
    Template {
        /// Which the table holds.
        id: u32,
        /// How the packet relates to it: `New`, or what an answer to such a packet is given.
        info: CtInfo,
    },
    /// A connection.
    Conn {
        /// Which.
        id: ConnId,
        /// And how the packet relates to it.
        info: CtInfo,
    },
}

impl CtRef {
    /// A template for a packet that begins its way with it; nothing if there is none.
    pub fn template(id: Option<u32>) -> CtRef {
        match id {
            Some(id) => CtRef::Template {
                id,
                info: CtInfo::New,
            },
            None => CtRef::None,
        }
    }
}

/// Kept while br_netfilter shows a bridged frame to the IP hooks (kernel: `struct nf_bridge_info`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bridged {
    /// The port it came in by; `None` if this host sent it through its bridge.
    pub physin: Option<DevId>,
    /// The hooks see it as for this host, and it is not (`pkt_otherhost`).
    pub other_host: bool,
    /// The port it leaves by, once known.
    pub physout: Option<DevId>,
    /// PREROUTING was run in the bridge and has been left out once in the IP layer (`sabotage_in_done`).
    pub skipped: bool,
    /// Which one a frame and its TEE copy share (`skb_ext` is counted, not copied): a number of the
    /// namespace's, 0 for one of its own.
    pub shared: u32,
    /// Translated in the bridge and now on its way through the neighbour layer: the source address to
    /// be put back (`bridged_dnat`, `neigh_header`).
    pub dnat_from: Option<MacAddr>,
    /// Translated in the bridge and routed there: the device the route leads out of. In the IP layer it
    /// counts
    /// as the one the packet came in by (`ip6_dst_idev` in `ip6_rcv_core`).
    pub routed: Option<DevId>,
    /// Destination and source of the link header a TEE copy had before it was routed: its bytes stay where
    /// `eth_hdr` finds them (`pskb_copy_for_clone`), and a reset is addressed by them.
    pub was: Option<(MacAddr, MacAddr)>,
}
