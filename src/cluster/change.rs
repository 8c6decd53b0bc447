//! Changes on top of what controllers laid: a node's own sysctls and commands, blocked underlay traffic.

use crate::base::{Finding, NsId, Origin, Span};
use crate::cluster::Cluster;
use crate::cluster::build::Builder;
use crate::import::ipcmd;
use crate::kube::podpath_v1alpha1::{Blocked, BlockedProtocol, Side};
use crate::net::PortAt;
use crate::sim::Block;
use crate::wire::proto;
use ipnetwork::IpNetwork;

/// Sysctls of all nodes and of single ones, then their command lines.
pub(super) fn node_settings(b: &mut Builder) {
    let names: Vec<String> = b.c.nodes.keys().cloned().collect();
    let at = b.cluster_span("spec.nodes");
    for name in names {
        let Some(ns) = b.c.nodes.get(&name).map(|n| n.ns) else {
            continue;
        };
        let over = b.spec.nodes.get(&name).cloned().unwrap_or_default();
        let all = b.spec.node.sysctls.clone();
        for (k, v) in all.into_iter().chain(over.sysctls) {
            let done = b.c.lab.world.edit(ns, |e| e.sysctl_set(&k, &v));
            if let Some(Err(e)) = done {
                b.findings.push(Finding::error(
                    at.clone(),
                    format!("node {name}: {e}"),
                    "correct the sysctl",
                ));
            }
        }
        for line in over.commands {
            if let Err(f) = run_command(
                &mut b.c,
                ns,
                &line,
                &at,
                Origin::Scenario(format!("{name}: {line}").into()),
            ) {
                b.findings.push(f);
            }
        }
    }
}

/// Runs an `ip`, `bridge`, `sysctl`, `iptables` or `nft` command line in a namespace, now.
///
/// # Errors
/// A finding at `at` when the line is not understood or the kernel would refuse it.
pub fn run_command(
    c: &mut Cluster,
    ns: NsId,
    line: &str,
    at: &Span,
    origin: Origin,
) -> Result<(), Finding> {
    let command = ipcmd::parse(line, at)?;
    let now = c.lab.world.now();
    let done = c
        .lab
        .world
        .edit(ns, |e| ipcmd::apply(&command, e, now, &origin));
    match done {
        Some(Ok(_)) | None => Ok(()),
        Some(Err(e)) => {
            let name = c
                .lab
                .world
                .ns(ns)
                .map(|n| n.name.clone())
                .unwrap_or_default();
            Err(Finding::error(
                at.clone(),
                format!("{name}: {line}: {e}"),
                "the kernel would refuse it",
            ))
        }
    }
}

/// What the Cluster document says the underlay drops, on every uplink.
pub(super) fn underlay_blocks(b: &mut Builder) {
    let blocked = b.spec.underlay.blocked.clone();
    let blocks: Vec<Block> = blocked.iter().map(|x| block(&b.c, x)).collect();
    for up in uplinks(&b.c) {
        b.c.lab
            .world
            .link_mut(up)
            .blocked
            .extend(blocks.iter().cloned());
    }
}

/// The cable ends of all nodes and hosts.
pub(crate) fn uplinks(c: &Cluster) -> Vec<PortAt> {
    let mut out: Vec<PortAt> = c.nodes.values().map(|n| n.uplink).collect();
    for ns in c.hosts.values() {
        let devs = c.lab.world.ns(*ns).into_iter().flat_map(|n| n.devices());
        out.extend(
            devs.filter(|d| d.peer.is_some())
                .map(|d| PortAt { ns: *ns, dev: d.id }),
        );
    }
    out
}

/// Blocked traffic of a manifest as the link's own filter.
pub(crate) fn block(c: &Cluster, x: &Blocked) -> Block {
    let proto = match x.protocol {
        BlockedProtocol::Any => None,
        BlockedProtocol::Tcp => Some(proto::TCP),
        BlockedProtocol::Udp => Some(proto::UDP),
        BlockedProtocol::Sctp => Some(proto::SCTP),
        BlockedProtocol::Icmp => Some(proto::ICMP),
        BlockedProtocol::Icmpv6 => Some(proto::ICMPV6),
        BlockedProtocol::Ipip => Some(proto::IPIP),
    };
    let side = |s: &Option<Side>| -> Vec<IpNetwork> {
        match s {
            None => Vec::new(),
            Some(Side::Cidr(n)) => vec![*n],
            Some(Side::Node(n)) => c
                .nodes
                .get(n)
                .map(|n| {
                    n.addresses
                        .iter()
                        .map(|a| IpNetwork::from(a.ip()))
                        .collect()
                })
                .unwrap_or_default(),
            Some(Side::Host(h)) => c
                .hosts
                .get(h)
                .map(|ns| c.addresses(*ns).into_iter().map(IpNetwork::from).collect())
                .unwrap_or_default(),
        }
    };
    Block {
        proto,
        port: x.port,
        from: side(&x.from),
        to: side(&x.to),
    }
}
