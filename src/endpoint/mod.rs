//! L4: a pod's (or host's) own sockets: servers, clients and what they look like from the network.
//!
//! A [`Stack`] is given IP packets that the kernel model delivered to its namespace and gives back IP
//! packets for the kernel model's OUTPUT path, in virtual time. TCP is smoltcp's, with Linux's timing,
//! window, options, path MTU discovery and ICMP semantics put around it; UDP and echo are plain packets.
//! Knows no devices, routes or worlds; never answers for a closed port, never replies to an echo request.
//! Tests: here and in `tests/endpoint.rs`.

mod app;
mod config;
mod datagram;
mod device;
mod errno;
mod event;
mod icmp;
mod play;
mod segment;
mod sender;
mod sockets;
mod stack;
mod tcp;
mod timer;
mod user;

pub use app::App;
pub use config::{Config, TcpSysctl};
pub use errno::{DnsFailure, Errno, Meaning, Outcome, icmp_meaning, icmpv6_meaning};
pub use event::{ClientEvent, ClientId, PingRequest, Reply, TcpRequest, UdpRequest};
pub use icmp::IcmpSeen;
pub use sockets::{SocketChange, SocketInfo};
pub use stack::{Delivery, Stack};
pub use user::{UserEvent, UserSock};
