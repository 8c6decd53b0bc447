//! From what a client dials to what policies see: backends of Services and node ports.
//!
//! Policies run after destination translation and before source translation, each side on its pod's node
//! (../shared/semantics/networkpolicy.md section 7): egress of a pod that dials a node port elsewhere sees
//! that node, and the backend's node then sees the entry node, unless the backend runs there. Does not
//! choose a backend: it gives all that kube-proxy could.

use std::net::IpAddr;

use super::model::Direction;
use super::pods::{Inventory, Owner};
use super::verdict::{L4, Query, Side};
use crate::kube::podpath_v1alpha1::{EgressSees, IngressSees};
use crate::kube::proxy::View;
use crate::kube::service::{Endpoint, PortName, Protocol, ServicePort};

/// Where policies stand between the translations; by default where all known agents do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// What egress rules are asked about.
    pub destination: EgressSees,
    /// What ingress rules are asked about.
    pub source: IngressSees,
}

/// One way that a dialled connection may take.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Way {
    /// Destination and port as the client named them.
    pub dialled: (IpAddr, L4),
    /// What the receiver's own node makes of the source; none where it leaves it as it is.
    pub masqueraded: Option<IpAddr>,
    /// The packet as the sender's node judges it.
    pub egress: Query<'static>,
    /// The packet as the receiver's node judges it.
    pub ingress: Query<'static>,
    /// The service port that was dialled; none for a plain address.
    pub service: Option<PortName>,
}

impl Way {
    /// The same for policies that stand elsewhere.
    pub fn seen(mut self, seen: Seen) -> Way {
        if seen.destination == EgressSees::Service && self.service.is_some() {
            (self.egress.to, self.egress.l4) = self.dialled;
            self.egress.hairpin = false;
        }
        if let (IngressSees::Node, Some(node)) = (seen.source, self.masqueraded) {
            self.ingress.from = node;
            self.ingress.hairpin = false;
        }
        self
    }

    /// What a side is asked.
    pub fn query(&self, direction: Direction) -> &Query<'static> {
        match direction {
            Direction::Egress => &self.egress,
            Direction::Ingress => &self.ingress,
        }
    }

    /// Whether the connection opens, by an evaluator of sides.
    pub fn allowed(&self, side: impl Fn(&Query<'_>, Direction) -> Side) -> bool {
        let mut both = Direction::ALL.into_iter();
        both.all(|direction| side(self.query(direction), direction).allowed)
    }
}

/// The ways of a connection to `to`; none when it is a Service without endpoints.
pub fn ways(inventory: &Inventory, view: &View, from: IpAddr, to: IpAddr, l4: L4) -> Vec<Way> {
    let L4::Port(protocol, number) = l4 else {
        return vec![straight(from, to, l4)];
    };
    let mut ports = view.services.iter().filter(|s| s.protocol() == protocol);
    let Some((service, entry)) = ports.find_map(|s| Some((s, dialled(inventory, s, to, number)?)))
    else {
        return vec![straight(from, to, l4)];
    };
    let all = view.endpoints.get(&service.name);
    let all = all.map(Vec::as_slice).unwrap_or_default();
    let ready = all.iter().filter(|e| e.ready).count();
    let usable = all
        .iter()
        .filter(|e| e.ready || (ready == 0 && e.is_fallback()));
    let dial = Dial {
        inventory,
        from,
        to,
        number,
        protocol,
        entry,
    };
    usable
        .filter_map(|endpoint| dial.way(service, endpoint))
        .collect()
}

fn straight(from: IpAddr, to: IpAddr, l4: L4) -> Way {
    let query = Query::new(from, to, l4);
    Way {
        dialled: (to, l4),
        masqueraded: None,
        egress: query,
        ingress: query,
        service: None,
    }
}

/// Where a dialled address is translated.
#[derive(Clone, Copy)]
enum Entry<'i> {
    /// On the sender's node: a ClusterIP; also external addresses that nodes take for their own.
    Sender,
    /// On the node whose port it is.
    Node(&'i str),
}

fn dialled<'i>(
    inventory: &'i Inventory,
    service: &ServicePort,
    to: IpAddr,
    port: u16,
) -> Option<Entry<'i>> {
    let external = service.external_ips.contains(&to) || service.vips.contains(&to);
    if (service.cluster_ip == to || external) && service.port == port {
        return Some(Entry::Sender);
    }
    match inventory.owner(to) {
        Owner::Node(node) if service.node_port == port && port != 0 => Some(Entry::Node(node)),
        _ => None,
    }
}

struct Dial<'d> {
    inventory: &'d Inventory,
    from: IpAddr,
    to: IpAddr,
    number: u16,
    protocol: Protocol,
    entry: Entry<'d>,
}

impl Dial<'_> {
    fn way(&self, service: &ServicePort, endpoint: &Endpoint) -> Option<Way> {
        let sender = match self.inventory.owner(self.from) {
            Owner::Pod(pod) => Some(pod.node.as_str()),
            Owner::Node(node) => Some(node),
            Owner::Outside => None,
        };
        let own = match self.inventory.owner(endpoint.ip) {
            Owner::Pod(pod) => Some(pod.node.as_str()),
            Owner::Node(node) => Some(node),
            Owner::Outside => endpoint.node.as_deref(),
        };
        let hairpin = match (
            self.inventory.owner(self.from),
            self.inventory.owner(endpoint.ip),
        ) {
            (Owner::Pod(a), Owner::Pod(b)) => a.name == b.name,
            _ => false,
        };
        let mut translated = Query::new(
            self.from,
            endpoint.ip,
            L4::Port(self.protocol, endpoint.port),
        );
        translated.hairpin = hairpin;
        let (mut egress, mut ingress) = (translated, translated);
        // KUBE-MARK-MASQ of the endpoint itself (`-s ENDPOINT`).
        let home = own.filter(|_| hairpin);
        let mut masqueraded = home.and_then(|node| self.address(node, endpoint.ip));
        match self.entry {
            Entry::Sender if service.internal_local && own != sender => return None,
            Entry::Sender => {}
            Entry::Node(entry) => {
                if service.external_local && own != Some(entry) {
                    return None;
                }
                if sender != Some(entry) {
                    egress.to = self.to;
                    egress.l4 = L4::Port(self.protocol, self.number);
                    egress.hairpin = false;
                }
                // KUBE-MARK-MASQ: what leaves the entry node again has that node's address.
                if !service.external_local && own != Some(entry) {
                    ingress.from = self.to;
                    ingress.hairpin = false;
                    masqueraded = None;
                } else if !service.external_local {
                    masqueraded = Some(self.to);
                }
            }
        }
        Some(Way {
            dialled: (self.to, L4::Port(self.protocol, self.number)),
            masqueraded,
            egress,
            ingress,
            service: Some(service.name.clone()),
        })
    }

    /// A node's address of the family of another.
    fn address(&self, node: &str, like: IpAddr) -> Option<IpAddr> {
        let mut all = self.inventory.nodes();
        let (_, found) = all.find(|(name, _)| *name == node)?;
        let mut own = found.addresses.iter().copied();
        own.find(|ip| ip.is_ipv4() == like.is_ipv4())
    }
}
