//! Keeping compiled policies up to date: a pod, a namespace or a policy changes, and only what it touches
//! is made anew.
//!
//! A pod with new labels gets another identity; if nobody had that one, each set is asked once and one pair
//! of filters is made. A changed policy makes the filters of the identities that it was or is about. Nodes
//! come and go seldom: then everything is compiled again. The caller changes [`Inventory`] or [`Policies`]
//! first.

use std::collections::BTreeSet;

use super::Policies;
use super::compile::{Compiled, Holder, Rank};
use super::identity::{Identity, IdentityId};
use super::model::PolicyKey;
use super::pods::{Inventory, Owner};
use crate::kube::store::Name;

/// What an update touched.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// Identities whose filters are new or were made anew.
    pub filters: BTreeSet<IdentityId>,
    /// Identities that no pod has any more.
    pub gone: BTreeSet<IdentityId>,
    /// Pods that came, went, or have another identity or address.
    pub pods: BTreeSet<Name>,
    /// Whether everything has to be looked at anew.
    pub all: bool,
}

impl Changes {
    fn merge(&mut self, other: Changes) {
        self.filters.extend(other.filters);
        self.gone.extend(other.gone);
        self.pods.extend(other.pods);
        self.all |= other.all;
    }
}

impl Compiled {
    /// A pod came, went or changed.
    pub fn pod_changed(&mut self, inventory: &Inventory, name: &Name) -> Changes {
        let mut changes = Changes::default();
        let old = self.pods.remove(name);
        let new = inventory.pod(name).filter(|pod| pod.is_selectable());
        // The new identity is taken before the old one is given back: an unchanged one stays as it is.
        let taken = new.map(|pod| self.identities.acquire(Identity::of(pod)));
        if let Some((old, _)) = &old {
            for ip in &old.addresses {
                self.claim(inventory, *ip);
            }
        }
        if let Some((id, fresh)) = taken {
            if fresh {
                if let Some(identity) = self.identities.get(id) {
                    self.sets.add(id, identity);
                }
                self.make_filters(id);
                changes.filters.insert(id);
            }
            self.hold(inventory, name, id);
        }
        if let Some((old, _)) = old
            && self.identities.release(old.identity)
        {
            self.drop_filters(old.identity);
            self.sets.forget(old.identity);
            changes.gone.insert(old.identity);
        }
        changes.pods.insert(name.clone());
        changes
    }

    /// Gives an address to whom it belongs now, unless that is a pod that is still to be held.
    fn claim(&mut self, inventory: &Inventory, ip: std::net::IpAddr) {
        self.holders.remove(&ip);
        match inventory.owner(ip) {
            Owner::Outside => {}
            Owner::Node(name) => {
                let id = self.node_id(name);
                self.holders.insert(ip, Holder::Node(id));
            }
            Owner::Pod(owner) => {
                if let Some((pod, serial)) = self.pods.get(&owner.name) {
                    let holder = Holder::Pod {
                        identity: pod.identity,
                        node: pod.node,
                        serial: *serial,
                    };
                    self.holders.insert(ip, holder);
                }
            }
        }
    }

    /// A namespace's labels changed, and its pods' with them.
    pub fn namespace_changed(&mut self, inventory: &Inventory, namespace: &str) -> Changes {
        let mut changes = Changes::default();
        let own = |name: &&Name| name.namespace == namespace;
        let before = self.pods.keys().map(|name| &**name).filter(own);
        let now = inventory.pods().map(|pod| &pod.name).filter(own);
        let names: BTreeSet<Name> = before.chain(now).cloned().collect();
        for name in names {
            changes.merge(self.pod_changed(inventory, &name));
        }
        // A number that was given back and taken again within this change is in use.
        let identities = &self.identities;
        changes.gone.retain(|id| identities.get(*id).is_none());
        changes
    }

    /// A policy came, went or changed.
    pub fn policy_changed(&mut self, policies: &Policies, key: &PolicyKey) -> Changes {
        let ranks = self.policies.keys().filter(|rank| *rank.key == *key);
        let old: Vec<Rank> = ranks.cloned().collect();
        let mut about = super::bits::BitSet::new();
        for rank in old {
            about.or(&self.drop_policy(&rank));
        }
        if let Some(policy) = policies.get(key) {
            self.add_policy(policy);
            let rank = Rank {
                tier: policy.tier,
                priority: policy.priority,
                key: std::sync::Arc::new(key.clone()),
            };
            about.or(&self.subject(&rank));
        }
        let mut changes = Changes::default();
        for id in about.iter().map(IdentityId) {
            self.make_filters(id);
            changes.filters.insert(id);
        }
        changes
    }

    /// Nodes, their labels or addresses changed.
    pub fn nodes_changed(&mut self, policies: &Policies, inventory: &Inventory) -> Changes {
        *self = Compiled::new(policies, inventory, self.options);
        Changes {
            all: true,
            ..Changes::default()
        }
    }
}
