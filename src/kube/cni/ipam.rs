//! How a main plugin calls its IPAM plugin: the same stdin and environment, another binary
//! (containernetworking/cni pkg/invoke/delegate.go).

use crate::base::limits::CNI_DELEGATE_DEPTH_MAX;
use crate::kube::cni::error::CniError;
use crate::kube::cni::host::Host;
use crate::kube::cni::json::quote;
use crate::kube::cni::result::CniResult;
use crate::kube::cni::skel::{CmdArgs, decode_version, delegate};
use crate::kube::cni::{CniPlugin, Command};
use serde_json::Value;

fn find<'a>(name: &str, args: &CmdArgs, host: &Host<'a>) -> Result<&'a dyn CniPlugin, CniError> {
    if name.is_empty() {
        return Err("no plugin name provided".into());
    }
    if name.contains('/') {
        return Err(format!("invalid plugin name: {name}").into());
    }
    let paths: Vec<&str> = args.path.split(':').collect();
    host.plugins().get(name).ok_or_else(|| {
        format!(
            "failed to find plugin {} in path [{}]",
            quote(name),
            paths.join(" ")
        )
        .into()
    })
}

/// Runs plugin `name` with these arguments.
pub fn exec(
    name: &str,
    command: Command,
    args: &CmdArgs,
    host: &mut Host<'_>,
) -> Result<Option<Value>, CniError> {
    let plugin = find(name, args, host)?;
    if host.depth >= CNI_DELEGATE_DEPTH_MAX {
        let what = format!("plugin {} delegates too deeply", quote(name));
        return Err(format!("{what}: is it its own IPAM plugin?").into());
    }
    host.depth += 1;
    let done = delegate(plugin, command, args, host);
    host.depth -= 1;
    done
}

/// ADD, with the result in the shape of 1.0.0.
pub fn add(name: &str, args: &CmdArgs, host: &mut Host<'_>) -> Result<CniResult, CniError> {
    let v = exec(name, Command::Add, args, host)?.unwrap_or(Value::Null);
    let version = decode_version(&v)?;
    Ok(CniResult::from_json(&v, &version)?)
}

/// CHECK.
pub fn check(name: &str, args: &CmdArgs, host: &mut Host<'_>) -> Result<(), CniError> {
    exec(name, Command::Check, args, host).map(|_| ())
}

/// DEL.
pub fn del(name: &str, args: &CmdArgs, host: &mut Host<'_>) -> Result<(), CniError> {
    exec(name, Command::Del, args, host).map(|_| ())
}
