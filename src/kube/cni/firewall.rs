//! The firewall plugin: accepts forwarded traffic of the container's addresses (containernetworking/plugins
//! 1.1.1 plugins/meta/firewall: firewall.go, iptables.go, ingresspolicy.go).
//!
//! FORWARD leads to CNI-FORWARD, that first to the administrator's CNI-ADMIN. firewalld is not there, so an
//! unset backend means iptables. Invariant: DEL removes the addresses' rules and leaves the chains, as the
//! plugin does.

use crate::kube::cni::CniPlugin;
use crate::kube::cni::addr::host as host_net;
use crate::kube::cni::conf::NetConf;
use crate::kube::cni::error::CniError;
use crate::kube::cni::host::Host;
use crate::kube::cni::iptables::{Failed, Iptables, words};
use crate::kube::cni::json::{At, quote};
use crate::kube::cni::result::CniResult;
use crate::kube::cni::skel::CmdArgs;
use serde_json::Value;

/// The plugin.
pub struct Firewall;

struct Conf {
    net: NetConf,
    prev: Option<CniResult>,
    policy: String,
    admin: String,
}

const PRIVATE: &str = "CNI-FORWARD";
const STAGE_1: &str = "CNI-ISOLATION-STAGE-1";
const STAGE_2: &str = "CNI-ISOLATION-STAGE-2";

fn read(conf: &Value) -> Result<Conf, CniError> {
    let load = |e: String| format!("failed to load netconf: {e}");
    let at = At::root(conf, "main.FirewallNetConf").map_err(load)?;
    let net = NetConf::read(&at).map_err(load)?;
    let text = |k: &str| at.string(k).map(str::to_owned).map_err(load);
    let (backend, policy) = (text("backend")?, text("ingressPolicy")?);
    text("firewalldZone")?;
    let admin = match text("iptablesAdminChainName")? {
        unset if unset.is_empty() => "CNI-ADMIN".to_owned(),
        name => name,
    };
    let prev = net
        .previous()
        .map_err(|e| format!("could not parse prevResult: {e}"))?;
    if backend == "firewalld" {
        // What D-Bus answers on a node without it.
        return Err(
            "dial unix /var/run/dbus/system_bus_socket: connect: no such file or directory".into(),
        );
    }
    Ok(Conf {
        net,
        prev,
        policy,
        admin,
    })
}

fn known_policy(policy: &str) -> Result<(), CniError> {
    match policy {
        "" | "open" | "same-bridge" => Ok(()),
        other => Err(format!("unknown ingress policy: {}", quote(other)).into()),
    }
}

/// The rules of one family's addresses (`getPrivChainRules`).
fn private_rules(prev: &CniResult, v4: bool) -> Vec<Vec<String>> {
    let mine = prev.ips.iter().filter(|i| i.address.is_ipv4() == v4);
    let nets = mine.map(|i| host_net(i.address.ip()).to_string());
    let states = ["-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"];
    nets.flat_map(|n| {
        let answers = [&["-d", n.as_str()][..], &states, &["-j", "ACCEPT"]].concat();
        [words(&answers), words(&["-s", &n, "-j", "ACCEPT"])]
    })
    .collect()
}

/// What leads to the private chain, and from it to the administrator's.
fn jumps(admin: &str) -> [(&'static str, Vec<String>); 2] {
    let rule = |said: &str, to: &str| words(&["-m", "comment", "--comment", said, "-j", to]);
    [
        ("FORWARD", rule("CNI firewall plugin rules", PRIVATE)),
        (PRIVATE, rule("CNI firewall plugin admin overrides", admin)),
    ]
}

/// `addRules` of one family.
fn add_rules(host: &mut Host<'_>, conf: &Conf, prev: &CniResult, v4: bool) -> Result<(), Failed> {
    let (tool, rules) = (Iptables::new(v4), private_rules(prev, v4));
    if rules.is_empty() {
        return Ok(());
    }
    tool.ensure_chain(host, "filter", PRIVATE)?;
    tool.ensure_chain(host, "filter", &conf.admin)?;
    for (chain, rule) in jumps(&conf.admin) {
        tool.add_unique(host, ("filter", chain), true, &rule)?;
    }
    let all = rules.iter();
    let done = { all }.try_for_each(|r| tool.add_unique(host, ("filter", PRIVATE), false, r));
    if done.is_err() {
        clean(host, tool, &rules);
    }
    done
}

/// `cleanupRules`: errors are not looked at.
fn clean(host: &mut Host<'_>, tool: Iptables, rules: &[Vec<String>]) {
    for rule in rules {
        let _ = tool.delete(host, "filter", PRIVATE, rule);
    }
}

/// `checkRules` of one family; like the plugin, it makes chains that are missing.
fn check_rules(
    host: &mut Host<'_>,
    conf: &Conf,
    prev: &CniResult,
    v4: bool,
) -> Result<(), CniError> {
    let (tool, rules) = (Iptables::new(v4), private_rules(prev, v4));
    if rules.is_empty() {
        return Ok(());
    }
    tool.ensure_chain(host, "filter", PRIVATE)?;
    tool.ensure_chain(host, "filter", &conf.admin)?;
    for (chain, rule) in jumps(&conf.admin) {
        if !tool.exists(host, "filter", chain, &rule)? {
            return Err(format!("expected {chain} rule [{}] not found", rule.join(" ")).into());
        }
    }
    for rule in rules {
        if !tool.exists(host, "filter", PRIVATE, &rule)? {
            return Err(format!("expected rule [{}] not found", rule.join(" ")).into());
        }
    }
    Ok(())
}

/// `setupIsolationChains`: what comes in by the bridge may leave by no other that is isolated.
fn isolate(host: &mut Host<'_>, tool: Iptables, bridge: &str) -> Result<(), Failed> {
    for chain in [STAGE_1, STAGE_2] {
        tool.ensure_chain(host, "filter", chain)?;
    }
    let said = "CNI firewall plugin rules (ingressPolicy: same-bridge)";
    let rule = |r: &[&str]| words(&[r, &["-m", "comment", "--comment", said]].concat());
    let from = ["-i", bridge, "!", "-o", bridge, "-j", STAGE_2];
    for (chain, first, r) in [
        ("FORWARD", true, rule(&["-j", STAGE_1])),
        (STAGE_1, true, rule(&from)),
        (STAGE_1, false, rule(&["-j", "RETURN"])),
        (STAGE_2, true, rule(&["-o", bridge, "-j", "DROP"])),
        (STAGE_2, false, rule(&["-j", "RETURN"])),
    ] {
        tool.add_unique(host, ("filter", chain), first, &r)?;
    }
    Ok(())
}

/// `setupIngressPolicySameBridge`: in the family of each address.
fn same_bridge(host: &mut Host<'_>, conf: &Conf, prev: &CniResult) -> Result<(), CniError> {
    let Some(bridge) = prev.interfaces.first() else {
        return Err(format!(
            "interface needs to be set for ingress policy {}, make sure to chain \"firewall\" \
             plugin with \"bridge\"",
            quote(&conf.policy)
        )
        .into());
    };
    if bridge.name.is_empty() {
        return Err("got empty bridge name".into());
    }
    for ip in &prev.ips {
        isolate(host, Iptables::new(ip.address.is_ipv4()), &bridge.name)?;
    }
    Ok(())
}

impl CniPlugin for Firewall {
    fn name(&self) -> &'static str {
        "firewall"
    }

    fn versions(&self) -> &'static [&'static str] {
        &["0.4.0", "1.0.0"]
    }

    fn add(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<Value, CniError> {
        let conf = read(&args.conf)?;
        let prev = conf
            .prev
            .clone()
            .ok_or("missing prevResult from earlier plugin")?;
        for v4 in [true, false] {
            add_rules(host, &conf, &prev, v4)?;
        }
        known_policy(&conf.policy)?;
        if conf.policy == "same-bridge" {
            same_bridge(host, &conf, &prev)?;
        }
        prev.to_json(&conf.net.version)
    }

    fn check(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<(), CniError> {
        let conf = read(&args.conf)?;
        let prev = conf
            .prev
            .clone()
            .ok_or("missing prevResult from earlier plugin")?;
        let families = [true, false].into_iter();
        { families }.try_for_each(|v4| check_rules(host, &conf, &prev, v4))
    }

    fn del(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<(), CniError> {
        let conf = read(&args.conf)?;
        for v4 in [true, false] {
            let rules = conf.prev.as_ref().map(|p| private_rules(p, v4));
            clean(host, Iptables::new(v4), &rules.unwrap_or_default());
        }
        // The isolation chains stay: other containers may be on the bridge.
        known_policy(&conf.policy)
    }
}
