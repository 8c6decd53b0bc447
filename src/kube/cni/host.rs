//! The node as a plugin sees it: namespaces to change, files to keep, randomness, other plugins to call.
//!
//! Files are a map, not a disk. Every change goes through [`Host::change`], which carries it out and
//! remembers it: a failed ADD leaves what it did before it failed, as on a real node.

use crate::base::{NsId, Origin, Rng};
use crate::kube::cni::CniPlugin;
use crate::kube::cni::admin;
use crate::kube::cni::calico::Ipam;
use crate::kube::cni::plan::{LinkOp, Where};
use crate::net::{Device, EditError, NetNs};
use crate::wire::MacAddr;
use std::collections::BTreeMap;

/// The namespaces of one node, as far as its plugins reach.
pub trait Namespaces {
    /// The node's own.
    fn node(&self) -> NsId;
    /// The one at a path, if it exists.
    fn by_path(&self, path: &str) -> Option<NsId>;
    /// Reads one.
    fn get(&self, id: NsId) -> Option<&NetNs>;
    /// Opens one for change.
    fn get_mut(&mut self, id: NsId) -> Option<&mut NetNs>;
}

/// A node with its pods' namespaces by path: all a single node's plugins need.
#[derive(Clone, Debug)]
pub struct NodeNamespaces {
    node: NetNs,
    pods: BTreeMap<String, NetNs>,
}

impl NodeNamespaces {
    /// A node without pods.
    pub fn new(node: NetNs) -> Self {
        NodeNamespaces {
            node,
            pods: BTreeMap::new(),
        }
    }

    /// Adds a pod's namespace; its id must be unique in the world.
    pub fn add_pod(&mut self, path: impl Into<String>, ns: NetNs) {
        self.pods.insert(path.into(), ns);
    }

    /// The node's namespace and the pods' by path.
    pub fn into_parts(self) -> (NetNs, BTreeMap<String, NetNs>) {
        (self.node, self.pods)
    }
}

impl Namespaces for NodeNamespaces {
    fn node(&self) -> NsId {
        self.node.id
    }
    fn by_path(&self, path: &str) -> Option<NsId> {
        self.pods.get(path).map(|n| n.id)
    }
    fn get(&self, id: NsId) -> Option<&NetNs> {
        if id == self.node.id {
            Some(&self.node)
        } else {
            self.pods.values().find(|n| n.id == id)
        }
    }
    fn get_mut(&mut self, id: NsId) -> Option<&mut NetNs> {
        if id == self.node.id {
            Some(&mut self.node)
        } else {
            self.pods.values_mut().find(|n| n.id == id)
        }
    }
}

/// What plugins keep between calls.
#[derive(Clone, Debug)]
pub struct CniState {
    /// Files by absolute path: host-local's leases, tuning's backups, flannel's `subnet.env`.
    pub files: BTreeMap<String, String>,
    /// Draws names and link addresses.
    pub rng: Rng,
}

impl CniState {
    /// Nothing kept yet.
    pub fn new(seed: u64) -> Self {
        CniState {
            files: BTreeMap::new(),
            rng: Rng::new(seed),
        }
    }
}

/// The plugins installed on a node, by the name of their binary.
#[derive(Default)]
pub struct Registry {
    plugins: BTreeMap<&'static str, Box<dyn CniPlugin>>,
}

impl Registry {
    /// No plugin.
    pub fn new() -> Self {
        Registry::default()
    }

    /// Every plugin of this crate.
    pub fn standard() -> Self {
        let mut r = Registry::new();
        r.add(Box::new(super::bridge::Bridge));
        r.add(Box::new(super::ptp::Ptp));
        r.add(Box::new(super::loopback::Loopback));
        r.add(Box::new(super::host_local::HostLocal));
        r.add(Box::new(super::static_ipam::Static));
        r.add(Box::new(super::portmap::PortMap));
        r.add(Box::new(super::tuning::Tuning));
        r.add(Box::new(super::firewall::Firewall));
        r.add(Box::new(super::flannel::plugin::Flannel));
        r.add(Box::new(super::calico::plugin::Calico));
        r.add(Box::new(super::calico::plugin::CalicoIpam));
        r
    }

    /// Installs a plugin; one of the same name is replaced.
    pub fn add(&mut self, p: Box<dyn CniPlugin>) {
        self.plugins.insert(p.name(), p);
    }

    /// The plugin of that name.
    pub fn get(&self, name: &str) -> Option<&dyn CniPlugin> {
        self.plugins.get(name).map(Box::as_ref)
    }
}

/// One node, for the length of a call.
pub struct Host<'a> {
    namespaces: &'a mut dyn Namespaces,
    /// Kept between calls.
    pub state: &'a mut CniState,
    plugins: &'a Registry,
    /// Calico's IPAM: one for all nodes of a cluster, which is why it is not part of the node's state.
    pub calico: Option<&'a mut Ipam>,
    /// Recorded beside everything the call makes.
    pub origin: Origin,
    /// How many plugins wait for one they delegated to.
    pub(super) depth: u32,
    done: Vec<(Where, LinkOp)>,
}

impl<'a> Host<'a> {
    /// A node with its namespaces, kept state and plugins.
    pub fn new(
        namespaces: &'a mut dyn Namespaces,
        state: &'a mut CniState,
        plugins: &'a Registry,
        origin: Origin,
    ) -> Self {
        Host {
            namespaces,
            state,
            plugins,
            calico: None,
            origin,
            depth: 0,
            done: Vec::new(),
        }
    }

    /// What was carried out so far, in order.
    pub fn plan(&self) -> &[(Where, LinkOp)] {
        &self.done
    }

    /// The installed plugins.
    pub fn plugins(&self) -> &'a Registry {
        self.plugins
    }

    fn ns_id(&self, at: &Where) -> Option<NsId> {
        match at {
            Where::Node => Some(self.namespaces.node()),
            Where::Pod(path) => self.namespaces.by_path(path),
        }
    }

    /// A namespace, if it exists.
    pub fn ns(&self, at: &Where) -> Option<&NetNs> {
        self.namespaces.get(self.ns_id(at)?)
    }

    /// A namespace, to change its rules; links and addresses go through [`Host::change`].
    pub(super) fn ns_mut(&mut self, at: &Where) -> Option<&mut NetNs> {
        let id = self.ns_id(at)?;
        self.namespaces.get_mut(id)
    }

    /// A device of a namespace.
    pub fn dev(&self, at: &Where, name: &str) -> Option<&Device> {
        self.ns(at)?.dev_by_name(name)
    }

    /// Carries out one change.
    pub fn change(&mut self, at: &Where, op: LinkOp) -> Result<(), EditError> {
        admin::apply(self.namespaces, at, &op, &self.origin)?;
        self.done.push((at.clone(), op));
        Ok(())
    }

    /// A link address as the kernel draws one: unicast, locally administered (`eth_random_addr`).
    pub fn random_mac(&mut self) -> MacAddr {
        random_mac(&mut self.state.rng)
    }

    /// A name as the reference plugins draw one (containernetworking/plugins pkg/ip/link_linux.go).
    pub fn random_veth_name(&mut self) -> String {
        format!("veth{:08x}", self.state.rng.next_u64() as u32)
    }
}

/// A unicast, locally administered address (`eth_random_addr`).
pub fn random_mac(rng: &mut Rng) -> MacAddr {
    let mut m = MacAddr::from_slice(&rng.next_u64().to_be_bytes());
    m.0[0] = m.0[0] & 0xfe | 0x02;
    m
}
