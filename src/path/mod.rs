//! L3: the walk of a frame through one namespace, in the kernel's own order: the one definition of behaviour.
//!
//! [`Walker`] does what `netif_receive_skb`, the bridge, ARP/ND, the IP input, forward and output paths and
//! the tunnels do; [`Observer`]s watch. It knows neither who made the rules nor what joins namespaces: frames
//! that leave are [`Output`]s for the world. Invariant: same namespace, frame, time and seed: same outputs;
//! an observer never changes one.

mod arp;
mod bridge;
mod forward;
mod icmp;
mod input;
mod local;
mod nd;
mod neigh;
mod netfilter;
mod observer;
mod output;
mod reason;
mod touch;
mod trace;
mod tunnel;
mod walker;

pub(crate) use netfilter::vs_between;
pub use observer::{Direction, NoTrace, Observer, Place, RuleAt, Step, Tee};
pub use reason::{Disposition, DropReason, IcmpSent};
pub use touch::{Touch, Varies};
pub use trace::{Event, EventKind, TraceBuilder};
pub use walker::{Errno, Output, Shared, Walker};
