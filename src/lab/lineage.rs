//! Whose doing a packet is: every packet a socket sent, traced back to the client that caused it.
//!
//! A walk keeps the lineage of frames within one packet's way (`Frame::root`); here packets are joined to
//! exchanges: a server's answer belongs to the client whose packet made the server send it, and so does what
//! that connection sends later by a timer. Invariant: bounded; the oldest packets are forgotten first.

use super::client::ClientRef;
use crate::base::{FrameId, NsId, limits};
use crate::wire::Tuple;
use std::collections::BTreeMap;

/// Where one packet of a socket comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lineage {
    /// The namespace that sent it.
    pub ns: NsId,
    /// Its tuple as it was sent.
    pub tuple: Option<Tuple>,
    /// The delivered frame that made the socket send it; `None`: a timer or a new client.
    pub parent: Option<FrameId>,
    /// The client whose exchange it belongs to.
    pub client: Option<ClientRef>,
}

/// How a client wants its packets changed before the kernel gets them (socket options).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Shape {
    /// IP_TTL, IPV6_UNICAST_HOPS.
    pub ttl: Option<u8>,
    /// IP_MTU_DISCOVER: do (true) or dont (false).
    pub df: Option<bool>,
}

#[derive(Clone, Copy, Debug)]
struct Flow {
    client: ClientRef,
    shape: Shape,
}

/// All packets and open flows.
#[derive(Debug, Default)]
pub(super) struct Lineages {
    roots: BTreeMap<FrameId, Lineage>,
    /// By sending namespace and tuple as sent.
    flows: BTreeMap<(NsId, Tuple), Flow>,
}

impl Lineages {
    /// The packet that began with frame `root`.
    pub(super) fn get(&self, root: FrameId) -> Option<&Lineage> {
        self.roots.get(&root)
    }

    /// The client whose exchange the frames of `root` belong to.
    pub(super) fn client(&self, root: FrameId) -> Option<ClientRef> {
        self.roots.get(&root)?.client
    }

    /// A client begins to send along `t`.
    pub(super) fn open(&mut self, ns: NsId, t: Tuple, client: ClientRef, shape: Shape) {
        self.flows.insert((ns, t), Flow { client, shape });
    }

    /// A server's connection sends along `t` because of `client`.
    pub(super) fn follow(&mut self, ns: NsId, t: Tuple, client: ClientRef) {
        let shape = Shape::default();
        self.flows.entry((ns, t)).or_insert(Flow { client, shape });
    }

    /// The socket behind `t` is gone.
    pub(super) fn close(&mut self, ns: NsId, t: &Tuple) {
        self.flows.remove(&(ns, *t));
    }

    /// The client of a flow, and how its packets are to look.
    pub(super) fn flow(&self, ns: NsId, t: &Tuple) -> Option<(ClientRef, Shape)> {
        self.flows.get(&(ns, *t)).map(|f| (f.client, f.shape))
    }

    /// Remembers a packet that was sent.
    pub(super) fn record(&mut self, root: FrameId, l: Lineage) {
        if self.roots.len() >= limits::LAB_LINEAGES_MAX {
            self.roots.pop_first();
        }
        self.roots.insert(root, l);
    }
}
