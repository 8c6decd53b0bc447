//! Carrying out what kube-proxy's nftables and IPVS modes do on a node: nft transactions; the dummy device
//! and its addresses, ipsets, IPVS, iptables rules.
//!
//! kubernetes `pkg/proxy/ipvs/netlink_linux.go` (EnsureDummyDevice, EnsureAddressBind, UnbindAddress). The
//! device stays down: its addresses are the node's all the same. What a tool refuses is a finding, and the
//! next step is done. Invariant: a step changes nothing but what it names.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnetwork::IpNetwork;

use crate::base::{Finding, Instant, NsId, Origin};
use crate::cluster::Cluster;
use crate::cluster::kube_proxy::Origins;
use crate::ipvs::Virtual;
use crate::ipvs::text::{Command, command, run};
use crate::kube::proxy::ipvs::{DEVICE, Key, Step};
use crate::kube::service::{Family, Protocol};
use crate::kube::store::Name;
use crate::net::{DeviceKind, IfAddr, LinkSpec, NetNs};
use crate::nf;
use crate::nf::apply::{Restore, Tool, on_netns, restore, usual_backend};
use crate::nf::nft::Script;
use crate::wire::{MacAddr, proto};

/// How many connections a real server has.
pub(super) fn connections(ns: &NetNs, key: &Key, to: SocketAddr) -> u64 {
    let find = || {
        let vs = ns.ipvs()?;
        let at = Virtual::Addr {
            proto: number(key.protocol),
            ip: key.address.ip(),
            port: key.address.port(),
        };
        let mut dests = vs.dests_of(vs.service(&at)?);
        let dest = dests.find(|d| (d.spec.ip, d.spec.port) == (to.ip(), to.port()))?;
        Some(u64::from(dest.active) + u64::from(dest.inactive))
    };
    find().unwrap_or(0)
}

fn number(p: Protocol) -> u8 {
    match p {
        Protocol::Tcp => proto::TCP,
        Protocol::Udp => proto::UDP,
        Protocol::Sctp => proto::SCTP,
    }
}

/// Does the steps in order.
pub(super) fn carry_out(
    c: &mut Cluster,
    ns: NsId,
    node: &str,
    family: Family,
    steps: &[Step],
) -> Vec<Finding> {
    let who = format!("kube-proxy on {node}");
    let now = c.lab.now();
    let mut findings = Vec::new();
    for step in steps {
        match step {
            Step::Device => device(c, ns, &who, &mut findings),
            Step::Bind(ip) => address(c, ns, *ip, true, &who, &mut findings),
            Step::Unbind(ip) => address(c, ns, *ip, false, &who, &mut findings),
            Step::Nft(text) => {
                let mut origins = Origins::new(&c.desired);
                if let Some(space) = c.lab.world.ns_mut(ns) {
                    findings.extend(nft(space, text, &who, now, &mut |chain| {
                        origins.of_chain(chain)
                    }));
                }
            }
            Step::Ipset(_) | Step::Ipvs(_) | Step::Restore(_) => {
                if let Some(space) = c.lab.world.ns_mut(ns) {
                    findings.extend(tables(space, step, family, &who, now));
                }
            }
        }
    }
    if steps.iter().any(|step| matches!(step, Step::Ipvs(_))) {
        name_services(c, ns, family);
    }
    findings
}

/// Gives virtual servers that kube-proxy made the Service they are of, with its line.
fn name_services(c: &mut Cluster, ns: NsId, family: Family) {
    let plain = Origin::controller("kube-proxy", "");
    let of_space = c.lab.world.ns(ns).and_then(NetNs::ipvs);
    let all = of_space.into_iter().flat_map(|vs| vs.services());
    let unnamed: Vec<Virtual> = all
        .filter(|s| s.origin == plain)
        .map(|s| s.spec.at)
        .collect();
    if unnamed.is_empty() {
        return;
    }
    let view = c.desired.view(family);
    let mut known: BTreeMap<(u8, Option<IpAddr>, u16), &Name> = BTreeMap::new();
    for port in &view.services {
        let (p, name) = (number(port.protocol()), &port.name.service);
        let fixed = port.external_ips.iter().chain(&port.vips);
        for ip in fixed.chain([&port.cluster_ip]) {
            known.insert((p, Some(*ip), port.port), name);
        }
        if port.node_port != 0 {
            known.insert((p, None, port.node_port), name);
        }
    }
    let mut origins = Origins::new(&c.desired);
    let named = unnamed.into_iter().filter_map(|at| {
        let Virtual::Addr { proto, ip, port } = at else {
            return None;
        };
        let keys = [Some(ip), None].map(|ip| (proto, ip, port));
        let name = keys.iter().find_map(|key| known.get(key))?;
        Some((at, origins.of(&name.namespace, &name.name)))
    });
    let named: Vec<(Virtual, Origin)> = named.collect();
    if let Some(space) = c.lab.world.ns_mut(ns) {
        space.ipvs_change(|vs| named.into_iter().for_each(|(at, o)| vs.set_origin(&at, o)));
    }
}

/// One transaction of `nft -f -`: all of it or nothing.
pub(super) fn nft(
    ns: &mut NetNs,
    text: &str,
    who: &str,
    now: Instant,
    of_chain: &mut dyn FnMut(&str) -> Origin,
) -> Vec<Finding> {
    let nf = ns.nf_mut();
    let mut set = nf.nft_ruleset(now);
    let (script, mut findings) = Script::parse(who, text, &set);
    match set.apply(&script) {
        Ok(()) => {
            set.claim(|chain, _| of_chain(chain));
            nf.set_nft(set, now);
        }
        Err(e) => findings.push(e),
    }
    findings
}

fn refused(who: &str, what: &dyn core::fmt::Display) -> Finding {
    Finding::warning(Default::default(), format!("{who}: {what}"), "")
}

fn device(c: &mut Cluster, ns: NsId, who: &str, findings: &mut Vec<Finding>) {
    let made = c.lab.world.edit(ns, |e| {
        if e.dev_by_name(DEVICE).is_some() {
            return Ok(());
        }
        let spec = LinkSpec {
            name: DEVICE.to_owned(),
            kind: DeviceKind::Dummy,
            // The kernel's is random; nothing sends from here.
            mac: MacAddr([0x02, 0, 0, 0, 0, 0x69]),
            mtu: None,
            origin: Origin::controller("kube-proxy", ""),
        };
        e.link_add(spec).map(drop)
    });
    if let Some(Err(e)) = made {
        findings.push(refused(who, &e));
    }
}

fn address(
    c: &mut Cluster,
    ns: NsId,
    ip: IpAddr,
    add: bool,
    who: &str,
    findings: &mut Vec<Finding>,
) {
    let net = IpNetwork::from(ip);
    let done = c.lab.world.edit(ns, |e| {
        let Some(dev) = e.dev_by_name(DEVICE).map(|d| d.id) else {
            return Ok(());
        };
        match add {
            true => e.addr_add(dev, IfAddr::new(net, Origin::controller("kube-proxy", ""))),
            false => e.addr_del(dev, net),
        }
    });
    if let Some(Err(e)) = done {
        findings.push(refused(who, &e));
    }
}

/// ipsets, IPVS, iptables.
fn tables(ns: &mut NetNs, step: &Step, family: Family, who: &str, now: Instant) -> Vec<Finding> {
    match step {
        Step::Ipset(text) => ns.nf_mut().sets.restore(who, text, now),
        Step::Ipvs(line) => {
            let words: Vec<&str> = line.split(' ').collect();
            let done = match command(&words) {
                Ok(c) => {
                    let done = ns.ipvs_change(|vs| {
                        let done = run(vs, &c, now);
                        if let Command::AddService(s) = &c {
                            vs.set_origin(&s.at, Origin::controller("kube-proxy", ""));
                        }
                        done
                    });
                    done.map(drop).map_err(|e| e.to_string())
                }
                Err((_, why)) => Err(why),
            };
            let wrong = done
                .err()
                .map(|e| refused(who, &format!("ipvsadm {line}: {e}")));
            wrong.into_iter().collect()
        }
        Step::Restore(text) => {
            let family = match family {
                Family::V4 => nf::Family::V4,
                Family::V6 => nf::Family::V6,
            };
            let backend = usual_backend(ns.nf(), family);
            let tool = Tool { family, backend };
            let options = Restore {
                noflush: true,
                counters: true,
                table: None,
            };
            let origin = Origin::controller("kube-proxy", "");
            let mut wrong = Vec::new();
            on_netns(ns.nf_mut(), tool, |set| {
                if let Err(e) = restore(set, tool, options, who, text, Some(&origin)) {
                    wrong.push(e.into());
                }
            });
            wrong
        }
        Step::Nft(_) | Step::Device | Step::Bind(_) | Step::Unbind(_) => Vec::new(),
    }
}
