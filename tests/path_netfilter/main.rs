//! Netfilter on a packet's way, in namespaces made by hand. What is expected was seen on Linux 6.18, or is
//! the kernel function's that the test names.

mod bridge;
mod fragments;
mod hooks;
mod ipvs;
mod nat;
mod net;
mod output;
mod reject;
mod trace;
