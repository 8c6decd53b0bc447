//! Carrying out what kube-proxy's nftables and IPVS modes do on a node: nft transactions; the dummy device
//! and its addresses, ipsets, IPVS, iptables rules.
//!
//! kubernetes `pkg/proxy/ipvs/netlink_linux.go` (EnsureDummyDevice, EnsureAddressBind, UnbindAddress). The
//! device stays down: its addresses are the node's all the same. What a tool refuses is a finding, and the
//! next step is done. Invariant: a step changes nothing but what it names.

use std::net::{IpAddr, SocketAddr};

use ipnetwork::IpNetwork;

use crate::base::{Finding, Instant, NsId, Origin};
use crate::cluster::Cluster;
use crate::ipvs::Virtual;
use crate::ipvs::text::{command, run};
use crate::kube::proxy::ipvs::{DEVICE, Key, Step};
use crate::kube::service::{Family, Protocol};
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
            proto: match key.protocol {
                Protocol::Tcp => proto::TCP,
                Protocol::Udp => proto::UDP,
                Protocol::Sctp => proto::SCTP,
            },
            ip: key.address.ip(),
            port: key.address.port(),
        };
        let mut dests = vs.dests_of(vs.service(&at)?);
        let dest = dests.find(|d| (d.spec.ip, d.spec.port) == (to.ip(), to.port()))?;
        Some(u64::from(dest.active) + u64::from(dest.inactive))
    };
    find().unwrap_or(0)
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
                if let Some(space) = c.lab.world.ns_mut(ns) {
                    findings.extend(nft(space, text, &who, now));
                }
            }
            Step::Ipset(_) | Step::Ipvs(_) | Step::Restore(_) => {
                if let Some(space) = c.lab.world.ns_mut(ns) {
                    findings.extend(tables(space, step, family, &who, now));
                }
            }
        }
    }
    findings
}

/// One transaction of `nft -f -`: all of it or nothing.
pub(super) fn nft(ns: &mut NetNs, text: &str, who: &str, now: Instant) -> Vec<Finding> {
    let nf = ns.nf_mut();
    let mut set = nf.nft_ruleset(now);
    let (script, mut findings) = Script::parse(who, text, &set);
    match set.apply(&script) {
        Ok(()) => nf.set_nft(set, now),
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
                    let done = ns.ipvs_change(|vs| run(vs, &c, now));
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
