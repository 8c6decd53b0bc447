//! Cluster DNS.
//!
//! [`client`] is the pods' side: the resolv.conf that the kubelet writes and the stub resolvers that read it.
//! Sans-IO: messages in, messages out, virtual time. Knows no packets and no files.

pub mod client;
