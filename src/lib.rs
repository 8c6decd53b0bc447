//! podpath: a userspace packet-path emulator for Kubernetes networking.
//!
//! Layers, bottom-up; a test (`tests/architecture.rs`) holds the import direction:
//!
//! - L0 [`base`]: ids, virtual time, seeded randomness, origins, caps. Reads nothing of the outside.
//! - L1 [`wire`]: frames, headers, checksums, one-line printing. Knows no device.
//! - L2 [`net`]: one network namespace: devices, FDB, neighbours, FIB, sysctls, sockets.
//! - L2 [`nf`]: netfilter rules as typed values, iptables-save text in and out.
//! - L2 [`ipvs`]: virtual services, schedulers and their connections, ipvsadm's text.
//! - L3 [`path`]: the walk of a frame, its observers and traces: the one definition of behaviour.
//! - L3 [`fast`]: flow keys, the flow table, compiled paths applied to batches of frames.
//! - L4 [`sim`]: the world in virtual time: cables, events, captures.
//! - L4 [`endpoint`]: pods' own sockets, servers and clients, on smoltcp. Knows no device.
//! - L4 [`kube`]: Kubernetes objects from text to a typed store.
//! - L5 [`cluster`]: the world that a store of objects describes.
//! - L5 [`replay`]: captures read and written.
//! - L5 [`lab`]: a world with real sockets in its namespaces, and probes with outcomes.
//! - L5 [`import`]: parsers of commands and dumps. Knows no file.
//! - L6 [`report`]: state in native syntax, traces as text and JSON.
//! - L6 [`cli`]: arguments, files, standard streams, exit codes.
pub mod base;
pub mod cli;
pub mod cluster;
pub mod endpoint;
pub mod fast;
pub mod import;
pub mod ipvs;
pub mod kube;
pub mod lab;
pub mod net;
pub mod nf;
pub mod path;
pub mod replay;
pub mod report;
pub mod sim;
pub mod wire;
