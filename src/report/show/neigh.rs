//! `ip neigh`: IPv4's neighbours, then IPv6's, each by device and address; the kernel's order is a hash's
//! (iproute2: ip/ipneigh.c `print_neigh`). Entries that need no resolution are left out, as without `nud
//! all`.

use super::Ctx;
use super::out::Obj;
use crate::base::DevId;
use crate::net::{Neigh, NetNs, NudState};
use serde_json::{Value, json};
use std::net::IpAddr;

/// `ip neigh`
pub(super) fn list(ns: &NetNs, cx: &Ctx<'_>) -> Vec<Obj> {
    let shown = |v4: bool| {
        let all = ns.neigh().iter();
        all.filter(move |(_, ip, n)| ip.is_ipv4() == v4 && n.state != NudState::Noarp)
    };
    let families = [true, false].into_iter().filter(|v4| cx.family.shows(*v4));
    families
        .flat_map(shown)
        .map(|(dev, ip, n)| one(ns, dev, ip, n))
        .collect()
}

fn one(ns: &NetNs, dev: DevId, ip: IpAddr, n: &Neigh) -> Obj {
    let mut o = Obj::default();
    o.both("dst", ip.to_string(), format_args!("{ip} "));
    o.word("dev", "dev", ns.dev_name(dev).to_owned());
    if n.state.is_valid() {
        o.word("lladdr", "lladdr", n.lladdr.to_string());
    }
    if n.router {
        o.both("router", Value::Null, "router ");
    }
    o.both(
        "state",
        json!([n.state.name()]),
        format_args!("{} ", n.state.name()),
    );
    o
}
