//! `ip link`: the head line that `ip addr` and `bridge link` share, and the link-layer line
//! (iproute2: ip/ipaddress.c `print_linkinfo`, lib/utils.c `print_name_and_link`).

use super::out::Obj;
use super::{Ctx, detail};
use crate::base::DevId;
use crate::net::{Device, DeviceKind, NetNs};
use crate::wire::MacAddr;
use serde_json::Value;
use std::net::Ipv4Addr;

/// `ip link`
pub(super) fn list(ns: &NetNs, cx: &Ctx<'_>) -> Vec<Obj> {
    ns.devices().map(|d| one(ns, d, cx)).collect()
}

fn one(ns: &NetNs, d: &Device, cx: &Ctx<'_>) -> Obj {
    let mut o = Obj::default();
    head(&mut o, ns, d, true);
    link_layer(&mut o, ns, d, cx);
    if cx.details {
        detail::details(&mut o, ns, d);
    }
    o
}

/// `2: eth0@if4: <...> mtu 1500 qdisc noqueue master cni0 state UP mode DEFAULT group default qlen 1000`
pub(super) fn head(o: &mut Obj, ns: &NetNs, d: &Device, mode: bool) {
    let link = lower_end(ns, d);
    name_and_link(o, ns, d, &link);
    let names = flags(d, link.is_down(ns));
    o.both(
        "flags",
        names.clone(),
        format_args!("<{}> ", names.join(",")),
    );
    o.word("mtu", "mtu", d.mtu);
    o.word("qdisc", "qdisc", qdisc(d));
    if let Some((m, _)) = &d.master {
        o.word("master", "master", ns.dev_name(*m).to_owned());
    }
    o.word("operstate", "state", operstate(ns, d));
    if mode {
        o.word("linkmode", "mode", "DEFAULT");
    }
    o.word("group", "group", "default");
    o.both("txqlen", 1000, "qlen 1000\n");
}

/// `    link/ether 0a:58:0a:f4:01:01 brd ff:ff:ff:ff:ff:ff`
pub(super) fn link_layer(o: &mut Obj, ns: &NetNs, d: &Device, cx: &Ctx<'_>) {
    let (kind, address, brd) = match &d.kind {
        DeviceKind::Loopback => (
            "loopback",
            MacAddr::ZERO.to_string(),
            MacAddr::ZERO.to_string(),
        ),
        DeviceKind::Ipip(t) => {
            let show = |a: Option<Ipv4Addr>| a.unwrap_or(Ipv4Addr::UNSPECIFIED).to_string();
            ("ipip", show(t.local), show(t.remote))
        }
        _ => ("ether", d.mac.to_string(), MacAddr::BROADCAST.to_string()),
    };
    let point_to_point = is_point_to_point(d);
    o.both("link_type", kind, format_args!("    link/{kind} "));
    o.both("address", address.clone(), address);
    if point_to_point {
        o.key("link_pointtopoint", true);
    }
    let word = if point_to_point { "peer" } else { "brd" };
    o.both("broadcast", brd.clone(), format_args!(" {word} {brd}"));
    let far = d
        .peer
        .filter(|p| p.ns != ns.id && matches!(d.kind, DeviceKind::Veth));
    if let (Some(p), Some(name)) = (far, cx.netns) {
        match name(p.ns) {
            Some(n) => o.say(format_args!(" link-netns {n}")),
            None => o.say(format_args!(" link-netnsid {}", p.ns.0)),
        };
        o.key("link_netnsid", p.ns.0);
    }
}

/// What stands behind the `@`.
pub(super) enum Link {
    /// Nothing.
    None,
    /// `@NONE`
    Unbound,
    /// `@if4`: an index of another namespace.
    Far(u32),
    /// `@veth1`: a device of this namespace.
    Here(DevId),
}

/// The kernel's iflink with its namespace.
fn lower_end(ns: &NetNs, d: &Device) -> Link {
    match (&d.kind, d.peer) {
        (DeviceKind::Ipip(_), _) => Link::Unbound,
        (DeviceKind::Veth, Some(p)) if p.ns == ns.id => Link::Here(p.dev),
        (DeviceKind::Veth, Some(p)) => Link::Far(p.dev.0),
        _ => Link::None,
    }
    .named(ns)
}

impl Link {
    /// An index without a device here shows as `if9`, wherever it belongs.
    fn named(self, ns: &NetNs) -> Self {
        match self {
            Link::Here(d) if ns.dev(d).is_none() => Link::Far(d.0),
            other => other,
        }
    }

    /// The link as the bridge's dump has it: it leaves the namespace out, so the index is looked up in
    /// this one (kernel: `br_fill_ifinfo` puts IFLA_LINK without IFLA_LINK_NETNSID).
    pub(super) fn of_port(ns: &NetNs, d: &Device) -> Self {
        match lower_end(ns, d) {
            Link::Far(i) => Link::Here(DevId(i)).named(ns),
            other => other,
        }
    }

    /// Whether it is a device of this namespace that is down: `M-DOWN`.
    pub(super) fn is_down(&self, ns: &NetNs) -> bool {
        matches!(self, Link::Here(p) if ns.dev(*p).is_some_and(|p| !p.up))
    }
}

/// `2: eth0@if4: `
pub(super) fn name_and_link(o: &mut Obj, ns: &NetNs, d: &Device, link: &Link) {
    o.both("ifindex", d.id.0, format_args!("{}: ", d.id.0));
    let at = match link {
        Link::None => String::new(),
        Link::Unbound => {
            o.key("link", Value::Null);
            "@NONE".to_owned()
        }
        Link::Far(i) => {
            o.key("link_index", *i);
            format!("@if{i}")
        }
        Link::Here(p) => {
            let name = ns.dev_name(*p).to_owned();
            o.key("link", name.clone());
            format!("@{name}")
        }
    };
    o.both("ifname", d.name.clone(), format_args!("{}{at}: ", d.name));
}

fn is_point_to_point(d: &Device) -> bool {
    matches!(&d.kind, DeviceKind::Ipip(t) if t.remote.is_some())
}

/// Flags in iproute2's order (`print_link_flags`); the kernel's meaning is `dev_get_flags`.
pub(super) fn flags(d: &Device, lower_down: bool) -> Vec<&'static str> {
    let (loopback, noarp) = (
        matches!(d.kind, DeviceKind::Loopback),
        matches!(d.kind, DeviceKind::Dummy | DeviceKind::Ipip(_)),
    );
    let broadcast = !loopback && !d.is_layer3();
    let all = [
        (d.up && !d.carrier, "NO-CARRIER"),
        (loopback, "LOOPBACK"),
        (broadcast, "BROADCAST"),
        (is_point_to_point(d), "POINTOPOINT"),
        (broadcast && !noarp, "MULTICAST"),
        (noarp, "NOARP"),
        (d.promisc, "PROMISC"),
        (d.up, "UP"),
        (d.is_running(), "LOWER_UP"),
        (lower_down, "M-DOWN"),
    ];
    all.into_iter()
        .filter(|(on, _)| *on)
        .map(|(_, name)| name)
        .collect()
}

fn qdisc(d: &Device) -> &'static str {
    match (&d.kind, d.up) {
        (_, false) => "noop",
        (DeviceKind::Uplink, true) => "fq_codel",
        (_, true) => "noqueue",
    }
}

/// kernel: `default_operstate`; devices that never report a link event stay UNKNOWN.
fn operstate(ns: &NetNs, d: &Device) -> &'static str {
    let silent = matches!(
        d.kind,
        DeviceKind::Loopback | DeviceKind::Dummy | DeviceKind::Vxlan(_) | DeviceKind::Ipip(_)
    );
    match (d.up, d.carrier) {
        (false, _) => "DOWN",
        (true, true) if silent => "UNKNOWN",
        (true, true) => "UP",
        // The index of the other end is looked up in this namespace, wherever it belongs.
        (true, false) => match d.peer.and_then(|p| ns.dev(p.dev)) {
            Some(p) if p.id != d.id && !p.carrier => "LOWERLAYERDOWN",
            _ => "DOWN",
        },
    }
}
