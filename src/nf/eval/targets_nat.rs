//! Targets that map a connection: DNAT, SNAT, MASQUERADE, REDIRECT, NETMAP.
//!
//! The mapping itself is [`crate::nf::nat`]'s. Invariant: a rule of the nat table ends the chain: ACCEPT
//! if the mapping was made, DROP if it could not be.

use super::chain::Env;
use super::{At, Verdict};
use crate::net::{Device, NetNs};
use crate::nf::Target;
use crate::nf::nat::{Manip, Nat, NatTarget};
use crate::wire::{CtRef, Frame};
use std::net::IpAddr;

/// Maps the packet's connection as the rule says.
pub(super) fn run(env: &mut Env<'_, '_>, f: &mut Frame, target: &Target) -> Verdict {
    let mut nat = Nat {
        ct: &mut env.nf.ct,
        forced: &env.nf.forced,
        rule: Some(env.rule),
    };
    match nat.target(env.ns, f, env.at, target, env.cx) {
        Ok(()) => Verdict::Accept,
        Err(_) => Verdict::Drop(env.rule),
    }
}

/// Maps it to a range: what [`run`] does for DNAT and SNAT, whose ranges are known when they are loaded.
pub(super) fn map(
    env: &mut Env<'_, '_>,
    f: &Frame,
    (range, manip): &(NatTarget, Manip),
) -> Verdict {
    let CtRef::Conn { id, .. } = f.ct else {
        return Verdict::Accept;
    };
    let mut nat = Nat {
        ct: &mut env.nf.ct,
        forced: &env.nf.forced,
        rule: Some(env.rule),
    };
    match nat.setup(id, range, *manip, env.cx) {
        Ok(()) => Verdict::Accept,
        Err(_) => Verdict::Drop(env.rule),
    }
}

/// The address of this host that stands for the one a packet came in by (kernel: `nf_tproxy_laddr4`,
/// `nf_tproxy_laddr6`).
pub(super) fn local_address(ns: &NetNs, at: &At, dst: IpAddr) -> Option<IpAddr> {
    let dev: &Device = ns.dev(at.input?)?;
    match dst {
        IpAddr::V4(_) => dev
            .addrs4()
            .find(|(a, _)| !a.secondary)
            .map(|(_, ip)| IpAddr::V4(ip)),
        IpAddr::V6(_) => dev.addrs6().next().map(|(_, ip)| IpAddr::V6(ip)),
    }
}
