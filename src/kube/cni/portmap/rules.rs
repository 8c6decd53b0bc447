//! portmap's chains in the nat table (containernetworking/plugins 1.1.1 plugins/meta/portmap/portmap.go
//! `forwardPorts`, `unforwardPorts`, `checkPorts`, `fillDnatRules`; chain.go).
//!
//! PREROUTING and OUTPUT lead local destinations to CNI-HOSTPORT-DNAT, that to the container's CNI-DN chain;
//! POSTROUTING to CNI-HOSTPORT-MASQ what CNI-HOSTPORT-SETMARK marked. Invariant: setting up twice is as once.

use super::{Conf, PortMapping};
use crate::kube::cni::error::CniError;
use crate::kube::cni::host::Host;
use crate::kube::cni::iptables::{Iptables, words};
use crate::kube::cni::json::quote;
use crate::kube::cni::masq::hashed_name;
use crate::kube::cni::plan::{LinkOp, Where};
use crate::net::fib::table;
use ipnetwork::IpNetwork;
use std::collections::BTreeMap;

const DNAT: &str = "CNI-HOSTPORT-DNAT";
const SET_MARK: &str = "CNI-HOSTPORT-SETMARK";
const MASQ: &str = "CNI-HOSTPORT-MASQ";
const OLD_SNAT: &str = "CNI-HOSTPORT-SNAT";

/// A chain, its rules, and the rules of other chains that lead to it.
struct Chain {
    name: String,
    entry_chains: &'static [&'static str],
    entry_rules: Vec<Vec<String>>,
    rules: Vec<Vec<String>>,
    first: bool,
}

fn named(name: &str) -> Chain {
    Chain {
        name: name.to_owned(),
        entry_chains: &[],
        entry_rules: Vec::new(),
        rules: Vec::new(),
        first: false,
    }
}

impl Chain {
    fn entries(&self) -> impl Iterator<Item = (&'static str, Vec<String>)> + '_ {
        let jump = |r: &Vec<String>| [r.clone(), words(&["-j", &self.name])].concat();
        let each = move |c: &'static str| self.entry_rules.iter().map(move |r| (c, jump(r)));
        self.entry_chains.iter().flat_map(move |c| each(c))
    }

    fn setup(&self, tool: Iptables, host: &mut Host<'_>) -> Result<(), String> {
        tool.ensure_chain(host, "nat", &self.name)?;
        for rule in &self.rules {
            tool.add_unique(host, ("nat", &self.name), false, rule)?;
        }
        for (chain, rule) in self.entries() {
            tool.add_unique(host, ("nat", chain), self.first, &rule)?;
        }
        Ok(())
    }

    fn teardown(&self, tool: Iptables, host: &mut Host<'_>) -> Result<(), String> {
        tool.clear_chain(host, "nat", &self.name)?;
        let end = format!("-j {}", self.name);
        for chain in self.entry_chains {
            // A chain that is not there has no rules that lead here.
            let lines = tool.list(host, "nat", chain).unwrap_or_default();
            for line in lines.iter().skip(1).filter(|l| l.ends_with(&end)) {
                let rule = rule_words(line);
                match tool.delete(host, "nat", chain, &rule) {
                    Err(f) if !f.is_not_exist() && f.status != 2 => {
                        return Err(format!(
                            "Failed to delete referring rule nat {chain}: {}",
                            f.text
                        ));
                    }
                    _ => {}
                }
            }
        }
        match tool.delete_chain(host, "nat", &self.name) {
            Err(f) if !f.is_not_exist() => Err(f.text),
            _ => Ok(()),
        }
    }

    fn check(&self, tool: Iptables, host: &mut Host<'_>) -> Result<(), String> {
        let name = &self.name;
        if !tool.chain_exists(host, "nat", name)? {
            return Err(format!("chain {name} not found in iptables table nat"));
        }
        let missing = |rules: &[Vec<String>], chain: &str| {
            let all: Vec<String> = rules.iter().map(|r| format!("[{}]", r.join(" "))).collect();
            format!(
                "rule [{}] in chain {chain} not found in table nat",
                all.join(" ")
            )
        };
        for rule in self.rules.iter().rev() {
            if !tool.exists(host, "nat", name, rule).unwrap_or(false) {
                return Err(missing(&self.rules, name));
            }
        }
        for (chain, rule) in self.entries() {
            if !tool.exists(host, "nat", chain, &rule).unwrap_or(false) {
                return Err(missing(&self.entry_rules, chain));
            }
        }
        Ok(())
    }
}

/// The words of a rule that `-S` printed, `-A CHAIN` left out (shellwords.Parse).
fn rule_words(line: &str) -> Vec<String> {
    let (mut out, mut word, mut open, mut some) = (Vec::new(), String::new(), false, false);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => word.extend(chars.next()),
            '"' => {
                open = !open;
                some = true;
            }
            ' ' if !open => {
                if some || !word.is_empty() {
                    out.push(core::mem::take(&mut word));
                }
                some = false;
            }
            c => word.push(c),
        }
    }
    if some || !word.is_empty() {
        out.push(word);
    }
    out.drain(..out.len().min(2));
    out
}

fn toplevel() -> Chain {
    Chain {
        entry_chains: &["PREROUTING", "OUTPUT"],
        entry_rules: vec![words(&["-m", "addrtype", "--dst-type", "LOCAL"])],
        ..named(DNAT)
    }
}

fn set_mark(mark: &str) -> Chain {
    let said = "CNI portfwd masquerade mark";
    Chain {
        rules: vec![words(&[
            "-m",
            "comment",
            "--comment",
            said,
            "-j",
            "MARK",
            "--set-xmark",
            mark,
        ])],
        ..named(SET_MARK)
    }
}

/// Its entry goes first: the chains of `ipMasq` would accept the packet before.
fn mark_masq(mark: &str) -> Chain {
    Chain {
        entry_chains: &["POSTROUTING"],
        first: true,
        entry_rules: vec![words(&[
            "-m",
            "comment",
            "--comment",
            "CNI portfwd requiring masquerade",
        ])],
        rules: vec![words(&["-m", "mark", "--mark", mark, "-j", "MASQUERADE"])],
        ..named(MASQ)
    }
}

fn container_chain(conf: &Conf, container: &str) -> Chain {
    Chain {
        entry_chains: &[DNAT],
        ..named(&hashed_name("CNI-DN-", &conf.net.name, container))
    }
}

/// The container's chain with its rules for one address.
fn dnat(conf: &Conf, container: &str, to: IpNetwork) -> Chain {
    let mut chain = container_chain(conf, container);
    let quoted = format!(
        "dnat name: {} id: {}",
        quote(&conf.net.name),
        quote(container)
    );
    // No comment above 255 bytes.
    let said = match quoted.len() {
        0..=255 => quoted,
        _ => format!("{}...", quoted.chars().take(253).collect::<String>()),
    };
    let mut ports: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for m in &conf.maps {
        let all = ports.entry(&m.protocol).or_default();
        all.push(m.host_port.to_string());
    }
    let [v4, v6] = &conf.conditions;
    let conditions = if to.is_ipv4() { v4 } else { v6 };
    for (proto, ports) in ports {
        // multiport takes 15 at most.
        for some in ports.chunks(15) {
            let mut rule = words(&[
                "-m",
                "comment",
                "--comment",
                &said,
                "-m",
                "multiport",
                "-p",
                proto,
            ]);
            rule.extend(["--destination-ports".to_owned(), some.join(",")]);
            rule.extend(conditions.iter().cloned());
            chain.entry_rules.push(rule);
        }
    }
    chain.rules = conf
        .maps
        .iter()
        .flat_map(|m| mapping(conf, m, to))
        .collect();
    chain
}

/// One port's rules: mark what the container or the node itself sends, then DNAT.
fn mapping(conf: &Conf, m: &PortMapping, to: IpNetwork) -> Vec<Vec<String>> {
    if m.host_ip.is_some_and(|ip| ip.is_ipv4() != to.is_ipv4()) {
        return Vec::new();
    }
    let mut base = words(&["-p", &m.protocol, "--dport", &m.host_port.to_string()]);
    if let Some(ip) = m.host_ip.filter(|ip| !ip.is_unspecified()) {
        base.extend(words(&["-d", &ip.to_string()]));
    }
    let with = |more: &[&str]| [base.clone(), words(more)].concat();
    let mark = conf.set_mark_chain.as_deref().unwrap_or(SET_MARK);
    let mut out = Vec::new();
    if conf.snat {
        out.push(with(&["-s", &to.to_string(), "-j", mark]));
        if to.is_ipv4() {
            out.push(with(&["-s", "127.0.0.1", "-j", mark]));
        }
    }
    let target = match to {
        IpNetwork::V4(n) => format!("{}:{}", n.ip(), m.container_port),
        IpNetwork::V6(n) => format!("[{}]:{}", n.ip(), m.container_port),
    };
    out.push(with(&["-j", "DNAT", "--to-destination", &target]));
    out
}

/// `forwardPorts` for one address of the container.
pub(super) fn forward(
    host: &mut Host<'_>,
    conf: &Conf,
    container: &str,
    to: IpNetwork,
) -> Result<(), CniError> {
    let tool = Iptables::new(to.is_ipv4());
    if conf.snat {
        if conf.set_mark_chain.is_none() {
            let mark = 1u32 << conf.mark_bit.min(31);
            let mark = format!("{mark:#x}/{mark:#x}");
            for chain in [set_mark(&mark), mark_masq(&mark)] {
                let named = |e| format!("unable to create chain {SET_MARK}: {e}");
                chain.setup(tool, host).map_err(named)?;
            }
        }
        if to.is_ipv4()
            && let Some(dev) = routed_through(host, to)
        {
            let key = format!("net/ipv4/conf/{dev}/route_localnet");
            let set = host.change(&Where::Node, LinkOp::SetSysctl(key, "1".to_owned()));
            set.map_err(|e| {
                format!(
                    "unable to enable route_localnet: {}",
                    crate::kube::cni::admin::errno(&e)
                )
            })?;
        }
    }
    toplevel()
        .setup(tool, host)
        .map_err(|e| format!("failed to create top-level DNAT chain: {e}"))?;
    let chain = dnat(conf, container, to);
    Ok(chain
        .setup(tool, host)
        .map_err(|e| format!("unable to setup DNAT: {e}"))?)
}

/// The device the node reaches the container through (`getRoutableHostIF`).
fn routed_through(host: &Host<'_>, to: IpNetwork) -> Option<String> {
    let ns = host.ns(&Where::Node)?;
    let routes = ns.fib().table(table::MAIN)?.routes(to.is_ipv4());
    let over = routes.iter().filter(|r| r.dst.contains(to.ip()));
    // Of equal prefixes the first is the one of the lowest metric; `max_by_key` answers the last.
    let best = over.rev().max_by_key(|r| r.dst.prefix())?;
    let dev = best.nexthops.first()?.dev?;
    Some(ns.dev_name(dev).to_owned())
}

/// `checkPorts` in the family of one address.
pub(super) fn check(
    host: &mut Host<'_>,
    conf: &Conf,
    container: &str,
    to: IpNetwork,
) -> Result<(), CniError> {
    let family = if to.is_ipv4() { "ipv4" } else { "ipv6" };
    let done = dnat(conf, container, to).check(Iptables::new(to.is_ipv4()), host);
    Ok(done.map_err(|e| format!("could not check {family} dnat: {e}"))?)
}

/// `unforwardPorts`, in both families whatever was mapped.
pub(super) fn unforward(host: &mut Host<'_>, conf: &Conf, container: &str) -> Result<(), CniError> {
    for (v4, family) in [(true, "ipv4"), (false, "ipv6")] {
        let tool = Iptables::new(v4);
        let done = container_chain(conf, container).teardown(tool, host);
        done.map_err(|e| format!("could not teardown {family} dnat: {e}"))?;
        let old = Chain {
            entry_chains: &[OLD_SNAT],
            ..named(&hashed_name("CNI-SN-", &conf.net.name, container))
        };
        // The plugin does not look at how this went.
        let _ = old.teardown(tool, host);
    }
    Ok(())
}
