//! The firewall plugin: accepts forwarded traffic of the container's addresses, as far as configuration and
//! results go (containernetworking/plugins plugins/meta/firewall).
//!
//! Its rules come with netfilter; until then the accepted addresses are kept in `CniState::firewall`.
//! firewalld is not there, so an unset backend means iptables.

use crate::kube::cni::CniPlugin;
use crate::kube::cni::addr::host as host_net;
use crate::kube::cni::conf::NetConf;
use crate::kube::cni::error::CniError;
use crate::kube::cni::host::Host;
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
}

fn read(conf: &Value) -> Result<Conf, CniError> {
    let load = |e: String| format!("failed to load netconf: {e}");
    let at = At::root(conf, "main.FirewallNetConf").map_err(load)?;
    let net = NetConf::read(&at).map_err(load)?;
    let text = |k: &str| at.string(k).map(str::to_owned).map_err(load);
    let (backend, policy) = (text("backend")?, text("ingressPolicy")?);
    text("firewalldZone")?;
    text("iptablesAdminChainName")?;
    let prev = net
        .previous()
        .map_err(|e| format!("could not parse prevResult: {e}"))?;
    if backend == "firewalld" {
        // What D-Bus answers on a node without it.
        return Err(
            "dial unix /var/run/dbus/system_bus_socket: connect: no such file or directory".into(),
        );
    }
    Ok(Conf { net, prev, policy })
}

fn known_policy(policy: &str) -> Result<(), CniError> {
    match policy {
        "" | "open" | "same-bridge" => Ok(()),
        other => Err(format!("unknown ingress policy: {}", quote(other)).into()),
    }
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
        let prev = conf.prev.ok_or("missing prevResult from earlier plugin")?;
        host.state
            .firewall
            .extend(prev.ips.iter().map(|i| host_net(i.address.ip())));
        known_policy(&conf.policy)?;
        if conf.policy == "same-bridge" && prev.interfaces.is_empty() {
            return Err(format!(
                "interface needs to be set for ingress policy {}, make sure to chain \"firewall\" \
                 plugin with \"bridge\"",
                quote(&conf.policy)
            )
            .into());
        }
        prev.to_json(&conf.net.version)
    }

    fn check(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<(), CniError> {
        let prev = read(&args.conf)?
            .prev
            .ok_or("missing prevResult from earlier plugin")?;
        let addresses = prev.ips.iter().map(|i| host_net(i.address.ip()));
        match addresses.into_iter().find(|n| !host.state.firewall.contains(n)) {
            None => Ok(()),
            Some(n) => Err(format!(
                "expected rule [-d {n} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT] not found"
            )
            .into()),
        }
    }

    fn del(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<(), CniError> {
        let conf = read(&args.conf)?;
        for ip in conf.prev.iter().flat_map(|p| &p.ips) {
            host.state.firewall.remove(&host_net(ip.address.ip()));
        }
        known_policy(&conf.policy)
    }
}
