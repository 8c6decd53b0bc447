//! Cluster DNS: the responder that plays CoreDNS.
//!
//! [`corefile`] reads Corefiles, [`config`] builds servers of [`plugins`], [`Responder`] answers: octets and
//! virtual time in, octets and queries to upstreams out. [`cluster`] is what it knows of the cluster.
//! Everything is sans-IO: sockets and clocks are the caller's, the same input and seed give the same output.
//! [`client`] is the pods' side: the resolv.conf that the kubelet writes and the stub resolvers that read it.
//! hickory-proto is known here and nowhere else.

pub mod baseline;
pub mod client;
pub mod cluster;
pub mod codec;
pub mod config;
pub mod corefile;
mod engine;
mod hot;
pub mod message;
pub mod names;
pub mod plugins;
pub mod receive;
mod server;
pub mod text;

pub use cluster::{Api, Objects, Resource};
pub use config::Environment;
pub use corefile::{Corefile, Surroundings, Version};
pub use engine::{Decision, Send};
pub use message::{Client, Transport};
pub use plugins::forward::Arrival;
pub use server::{Answer, Outcome, Responder};
