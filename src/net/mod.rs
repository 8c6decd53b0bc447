//! L2: one network namespace: devices, bridge FDB, neighbours, FIB with policy rules, sysctls, sockets.
//!
//! State and its own operations only; what happens to a frame is `path`'s. Knows neither Kubernetes nor
//! files. Invariant: configuration changes go through [`NetNs::edit`], whose guard bumps the epoch.

pub mod addr;
pub mod bridge;
pub mod device;
pub mod edit;
pub mod fib;
pub mod frag;
pub mod icmp_limit;
mod multipath;
pub mod neigh;
pub mod netns;
pub mod socket;
pub mod sysctl;
pub mod text;

pub use addr::{IfAddr, Scope};
pub(crate) use bridge::SharedInfo;
pub use bridge::{Bridge, BridgePort, Fdb, FdbEntry};
pub use device::{Device, DeviceKind, Ipip, PortAt, Vxlan, VxlanDst};
pub use edit::{Edit, EditError, LinkSpec};
pub use fib::{Fib, NextHop, PolicyRule, Route, RouteKind, RuleAction, table};
pub use neigh::{Neigh, NeighTable, NudState};
pub use netns::NetNs;
pub use socket::{Binding, Owner, SocketId, SocketTable};
