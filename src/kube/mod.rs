//! L4: Kubernetes objects: text in, typed objects and findings out.
//!
//! [`manifest`] reads documents with spans, [`store`] types and indexes them, [`podpath_v1alpha1`]
//! holds our own kinds, [`listen`] says on which ports a pod listens, [`cni`] are the CNI plugins and what
//! node agents lay, [`service`] reads Services and their endpoints, [`controllers`] give Services their
//! addresses and pods their EndpointSlices, [`proxy`] renders the rules that kube-proxy writes for them,
//! [`policy`] reads NetworkPolicies and their kin and says who may reach whom, [`dns`] is cluster DNS.
//! Knows no files: an input is a name and a text, the command line reads the disk.

pub mod cni;
pub mod controllers;
pub mod dns;
pub mod listen;
pub mod manifest;
pub mod podpath_v1alpha1;
pub mod policy;
pub mod proxy;
pub mod service;
pub mod store;
