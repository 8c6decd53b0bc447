//! The classes of one family on one node, each with a packet that stands for it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnetwork::IpNetwork;

use super::{Cause, Class, Packet, Place, Source, Target};
use crate::kube::proxy::topology::{Categorized, categorize};
use crate::kube::proxy::{Settings, View};
use crate::kube::service::{Family, Protocol, ServicePort};

/// Gets a class, its packet, and what would explain a difference.
pub(super) type Each<'e> = &'e mut dyn FnMut(Class, &Packet, &dyn Fn() -> Cause);

/// See the module.
pub(super) fn each(view: &View, settings: &[Settings; 3], place: &Place<'_>, out: Each<'_>) {
    let [ipt, nft, _] = settings;
    let mut walk = Walk {
        usual: [None; 4],
        family: ipt.family,
        settings: ipt,
        nft,
        place,
        inner: inner(view, ipt, place),
    };
    walk.usual = SOURCES.map(|source| walk.find(source, &[], None));
    let mut ports: BTreeMap<IpAddr, BTreeSet<(Protocol, u16)>> = BTreeMap::new();
    for port in &view.services {
        let endpoints = categorize(view.endpoints_of(&port.name), port, ipt.place());
        for (target, ip, number) in walk.targets(port) {
            walk.service(port, &endpoints, target, ip, number, out);
            if target != Target::NodePort && !ipt.addresses.contains(&ip) {
                let defined = ports.entry(ip).or_default();
                defined.insert((port.protocol(), number));
            }
        }
    }
    for (ip, defined) in &ports {
        let free = (1..=u16::MAX).find(|n| {
            // UDP may have it: another protocol is another port.
            !defined.contains(&(Protocol::Tcp, *n))
        });
        let to = SocketAddr::new(*ip, free.unwrap_or(1));
        walk.plain(Target::UndefinedPort, to, Cause::UndefinedPort, out);
    }
    let used: BTreeSet<IpAddr> = ports.keys().copied().collect();
    for cidr in &nft.service_cidrs {
        // The network's own address is no host's.
        if let Some(ip) = hosts(*cidr).skip(1).find(|ip| !used.contains(ip)) {
            let to = SocketAddr::new(ip, 80);
            walk.plain(Target::Unallocated, to, Cause::Unallocated, out);
        }
    }
}

struct Walk<'w> {
    family: Family,
    settings: &'w Settings,
    nft: &'w Settings,
    place: &'w Place<'w>,
    /// What is not outside.
    inner: Vec<IpNetwork>,
    /// The address of each kind where there are no ranges.
    usual: [Option<IpAddr>; 4],
}

impl Walk<'_> {
    fn targets(&self, port: &ServicePort) -> Vec<(Target, IpAddr, u16)> {
        let mut out = vec![(Target::ClusterIp, port.cluster_ip, port.port)];
        let external = port.external_ips.iter();
        out.extend(external.map(|ip| (Target::ExternalIp, *ip, port.port)));
        let vips = port.vips.iter();
        out.extend(vips.map(|ip| (Target::LoadBalancer, *ip, port.port)));
        if port.node_port != 0 {
            let mine = self.settings.addresses.iter();
            let mine = mine.filter(|ip| self.is_for_node_ports(**ip));
            out.extend(mine.map(|ip| (Target::NodePort, *ip, port.node_port)));
        }
        out
    }

    /// Whether anybody off the node can know it by this address: it is not loopback's, no link's, and not the
    /// gateway of its pods.
    fn is_for_node_ports(&self, ip: IpAddr) -> bool {
        let of_pods = self.place.pods.iter().any(|net| net.contains(ip));
        let of_link = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        !ip.is_loopback() && !of_link && !of_pods
    }

    fn service(
        &self,
        port: &ServicePort,
        endpoints: &Categorized<'_>,
        target: Target,
        ip: IpAddr,
        number: u16,
        out: Each<'_>,
    ) {
        let ranges = &port.source_ranges;
        for source in SOURCES {
            let sides: &[Option<bool>] = match ranges.is_empty() {
                true => &[None],
                false => &[Some(true), Some(false)],
            };
            for side in sides {
                let Some(src) = self.address(source, ranges, *side) else {
                    continue;
                };
                let class = Class {
                    family: self.family,
                    source,
                    in_ranges: *side,
                    target,
                    service: Some(port.name.clone()),
                    to: SocketAddr::new(ip, number),
                    protocol: port.protocol(),
                };
                let packet = self.packet(&class, src);
                let cause = || self.cause(port, endpoints, &class);
                out(class.clone(), &packet, &cause);
            }
        }
    }

    /// A class without a Service.
    fn plain(&self, target: Target, to: SocketAddr, cause: Cause, out: Each<'_>) {
        for source in SOURCES {
            let Some(src) = self.address(source, &[], None) else {
                continue;
            };
            let class = Class {
                family: self.family,
                source,
                in_ranges: None,
                target,
                service: None,
                to,
                protocol: Protocol::Tcp,
            };
            let packet = self.packet(&class, src);
            out(class, &packet, &|| cause);
        }
    }

    fn packet(&self, class: &Class, src: IpAddr) -> Packet {
        Packet {
            src,
            dst: class.to.ip(),
            protocol: class.protocol,
            port: class.to.port(),
            src_local: class.source == Source::Node,
            dst_local: self.settings.addresses.contains(&class.to.ip()),
            from_pods: class.source == Source::LocalPod,
        }
    }

    fn cause(&self, port: &ServicePort, endpoints: &Categorized<'_>, class: &Class) -> Cause {
        let takes = |s: &Settings| {
            let ip = class.to.ip();
            s.node_port_ips.as_ref().is_none_or(|ips| ips.contains(&ip))
        };
        let internal = class.target == Target::ClusterIp;
        let here = endpoints.local.as_ref().is_some_and(|l| !l.is_empty());
        let local = match internal {
            true => port.internal_local,
            false => port.external_local,
        };
        let in_cluster = class.source != Source::Outside;
        if class.target == Target::NodePort && takes(self.settings) != takes(self.nft) {
            Cause::NodePortAddress
        } else if !endpoints.any {
            match (class.target, class.in_ranges, class.source) {
                (Target::LoadBalancer, Some(false), _) => Cause::RangesWithoutEndpoints,
                (Target::ExternalIp | Target::LoadBalancer, _, Source::Node) => {
                    Cause::NodeWithoutEndpoints
                }
                _ => Cause::Unknown,
            }
        } else if local && !here {
            Cause::LocalWithoutLocal
        } else if local && !internal && in_cluster {
            Cause::ShortCircuit
        } else {
            Cause::Unknown
        }
    }

    /// An address of a kind on one side of the ranges; none where the kind has none there.
    fn address(&self, source: Source, ranges: &[IpNetwork], side: Option<bool>) -> Option<IpAddr> {
        if side.is_some() {
            return self.find(source, ranges, side);
        }
        let at = SOURCES.iter().position(|s| *s == source)?;
        *self.usual.get(at)?
    }

    fn find(&self, source: Source, ranges: &[IpNetwork], side: Option<bool>) -> Option<IpAddr> {
        let inside = |nets: &[IpNetwork], ip: IpAddr| nets.iter().any(|n| n.contains(ip));
        let fits = |ip: &IpAddr| side.is_none_or(|side| inside(ranges, *ip) == side);
        let firsts = ranges.iter().filter_map(|net| hosts(*net).nth(1));
        let of_nets = |nets: &[IpNetwork]| {
            let own = nets.iter().filter(|n| Family::of(n.ip()) == self.family);
            // Away from the first addresses, which pods have.
            let far = own.clone().filter_map(|net| hosts(*net).nth(251));
            let near = own.filter_map(|net| hosts(*net).nth(1));
            let ranged = firsts.clone().filter(|ip| inside(nets, *ip));
            far.chain(near).chain(ranged).find(fits)
        };
        match source {
            Source::LocalPod => of_nets(self.place.pods),
            Source::RemotePod => of_nets(self.place.other_pods),
            Source::Node => Some(self.settings.node_ip)
                .filter(|ip| !ip.is_unspecified())
                .filter(fits),
            Source::Outside => {
                let usual: [IpAddr; 3] = match self.family {
                    Family::V4 => OUTSIDE_V4.map(IpAddr::V4),
                    Family::V6 => OUTSIDE_V6.map(IpAddr::V6),
                };
                let all = firsts.chain(usual);
                all.filter(|ip| !inside(&self.inner, *ip)).find(fits)
            }
        }
    }
}

/// Addresses of documentation: no cluster has them.
const OUTSIDE_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(203, 0, 113, 250),
    Ipv4Addr::new(198, 51, 100, 250),
    Ipv4Addr::new(192, 0, 2, 250),
];
const OUTSIDE_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0xfa),
    Ipv6Addr::new(0x2001, 0xdb8, 0xfffe, 0, 0, 0, 0, 0xfa),
    Ipv6Addr::new(0x2001, 0xdb8, 0xfffd, 0, 0, 0, 0, 0xfa),
];

const SOURCES: [Source; 4] = [
    Source::LocalPod,
    Source::RemotePod,
    Source::Node,
    Source::Outside,
];

/// What is the cluster's: pods, nodes, Services and their addresses.
fn inner(view: &View, settings: &Settings, place: &Place<'_>) -> Vec<IpNetwork> {
    let mut out: Vec<IpNetwork> = place.pods.to_vec();
    out.extend(place.other_pods);
    out.extend(&settings.service_cidrs);
    out.extend(place.nodes.iter().map(|ip| IpNetwork::from(*ip)));
    let outside = view.services.iter();
    let theirs = outside.flat_map(|p| p.external_ips.iter().chain(&p.vips));
    let theirs: BTreeSet<IpAddr> = theirs.copied().collect();
    out.extend(theirs.into_iter().map(IpNetwork::from));
    out
}

/// The addresses of a network, in order.
fn hosts(net: IpNetwork) -> ipnetwork::IpNetworkIterator {
    net.iter()
}
