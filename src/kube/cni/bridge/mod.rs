//! The bridge plugin: a bridge on the node, a veth pair into the container
//! (containernetworking/plugins plugins/main/bridge/bridge.go).
//!
//! `conf` reads the configuration, `add` makes the attachment step by step, `check` compares. A step
//! that fails leaves the earlier ones: the address is given back, the veth pair stays until DEL.

mod add;
mod check;
mod conf;

use crate::kube::cni::CniPlugin;
use crate::kube::cni::error::CniError;
use crate::kube::cni::host::Host;
use crate::kube::cni::link::del_link_addrs;
use crate::kube::cni::plan::Where;
use crate::kube::cni::skel::CmdArgs;
use crate::kube::cni::{ipam, masq};
use conf::Conf;
use serde_json::Value;

/// The plugin.
pub struct Bridge;

impl CniPlugin for Bridge {
    fn name(&self) -> &'static str {
        "bridge"
    }

    fn add(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<Value, CniError> {
        add::add(args, host)
    }

    fn check(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<(), CniError> {
        check::check(args, host)
    }

    fn del(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<(), CniError> {
        let conf = Conf::read(&args.conf, &args.args)?;
        let layer3 = !conf.net.ipam_type.is_empty();
        let at = Where::Pod(args.netns.clone());
        let mut nets = Vec::new();
        if !args.netns.is_empty() && host.ns(&at).is_some() {
            nets = del_link_addrs(host, &at, &args.ifname)?.unwrap_or_default();
        }
        if !layer3 {
            return Ok(());
        }
        ipam::del(&conf.net.ipam_type, args, host)?;
        if conf.ip_masq {
            for n in nets {
                masq::teardown(host, &conf.net.name, &args.container_id, n)?;
            }
        }
        Ok(())
    }
}
