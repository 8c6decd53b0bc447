//! The CNI plugin `flannel`: writes a bridge (or other) configuration from `subnet.env` and delegates
//! (flannel-io/cni-plugin flannel.go, flannel_linux.go).

use crate::kube::cni::addr::{network, parse_cidr};
use crate::kube::cni::error::CniError;
use crate::kube::cni::host::Host;
use crate::kube::cni::json::{At, Obj};
use crate::kube::cni::result::CniRoute;
use crate::kube::cni::skel::CmdArgs;
use crate::kube::cni::{CniPlugin, Command, ipam};
use ipnetwork::IpNetwork;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The plugin.
pub struct Flannel;

struct Conf {
    name: String,
    version: String,
    subnet_file: String,
    data_dir: String,
    ipam: Obj,
    delegate: Obj,
    runtime: Option<Value>,
}

fn read(conf: &Value) -> Result<Conf, String> {
    let inner = || -> Result<Conf, String> {
        let at = At::root(conf, "main.NetConf")?;
        let text = |k: &str, default: &str| {
            at.string(k)
                .map(|s| if s.is_empty() { default } else { s }.to_owned())
        };
        let map = |k: &str| match at.raw(k) {
            None => Ok(None),
            Some(Value::Object(o)) => Ok(Some(o.clone())),
            Some(_) => Err(format!(
                "json: cannot unmarshal into Go struct field NetConf.{k} of type map[string]interface {{}}"
            )),
        };
        Ok(Conf {
            name: text("name", "")?,
            version: text("cniVersion", "")?,
            subnet_file: text("subnetFile", "/run/flannel/subnet.env")?,
            data_dir: text("dataDir", "/var/lib/cni/flannel")?,
            ipam: map("ipam")?.unwrap_or_default(),
            delegate: map("delegate")?.unwrap_or_default(),
            runtime: map("runtimeConfig")?.map(Value::Object),
        })
    };
    inner().map_err(|e| format!("failed to load netconf: {e}"))
}

/// What `subnet.env` says.
#[derive(Default)]
struct SubnetEnv {
    networks: Vec<IpNetwork>,
    subnets: Vec<IpNetwork>,
    mtu: Option<u32>,
    ip_masq: Option<bool>,
}

fn load_env(files: &BTreeMap<String, String>, path: &str) -> Result<SubnetEnv, String> {
    let text = files
        .get(path)
        .ok_or_else(|| format!("open {path}: no such file or directory"))?;
    let mut env = SubnetEnv::default();
    let mut v6 = SubnetEnv::default();
    for (k, v) in text.lines().filter_map(|l| l.split_once('=')) {
        match k {
            "FLANNEL_NETWORK" => nets(v, &mut env.networks)?,
            "FLANNEL_SUBNET" => env.subnets = vec![network(parse_cidr(v)?)],
            "FLANNEL_IPV6_NETWORK" => nets(v, &mut v6.networks)?,
            "FLANNEL_IPV6_SUBNET" => v6.subnets = vec![network(parse_cidr(v)?)],
            "FLANNEL_MTU" => {
                let bad = |_| format!("strconv.ParseUint: parsing \"{v}\": invalid syntax");
                env.mtu = Some(v.parse().map_err(bad)?);
            }
            "FLANNEL_IPMASQ" => env.ip_masq = Some(v == "true"),
            _ => {}
        }
    }
    env.networks.append(&mut v6.networks);
    env.subnets.append(&mut v6.subnets);
    let missing: Vec<&str> = [
        (
            env.networks.is_empty(),
            "FLANNEL_NETWORK, FLANNEL_IPV6_NETWORK",
        ),
        (
            env.subnets.is_empty(),
            "FLANNEL_SUBNET, FLANNEL_IPV6_SUBNET",
        ),
        (env.mtu.is_none(), "FLANNEL_MTU"),
        (env.ip_masq.is_none(), "FLANNEL_IPMASQ"),
    ]
    .into_iter()
    .filter_map(|(gone, name)| gone.then_some(name))
    .collect();
    if missing.is_empty() {
        Ok(env)
    } else {
        Err(format!("{path} is missing {}", missing.join(", ")))
    }
}

fn nets(list: &str, into: &mut Vec<IpNetwork>) -> Result<(), String> {
    for s in list.split(',') {
        let n = network(parse_cidr(s)?);
        if !into.contains(&n) {
            into.push(n);
        }
    }
    Ok(())
}

/// The configuration handed to the delegate.
fn delegate(conf: Conf, env: &SubnetEnv) -> Result<Obj, CniError> {
    let mut d = conf.delegate;
    if d.get("type").is_some_and(|t| !t.is_string()) {
        return Err("'delegate' dictionary, if present, must have (string) 'type' field".into());
    }
    for key in ["name", "ipam"] {
        if d.contains_key(key) {
            return Err(format!(
                "'delegate' dictionary must not have '{key}' field, it'll be set by flannel"
            )
            .into());
        }
    }
    if let Some(rt) = conf.runtime {
        d.insert("runtimeConfig".into(), rt);
    }
    d.insert("name".into(), conf.name.into());
    d.entry("type").or_insert_with(|| "bridge".into());
    d.entry("ipMasq")
        .or_insert_with(|| (!env.ip_masq.unwrap_or(false)).into());
    d.entry("mtu")
        .or_insert_with(|| env.mtu.unwrap_or(0).into());
    if d.get("type").and_then(Value::as_str) == Some("bridge") {
        d.entry("isGateway").or_insert_with(|| true.into());
    }
    if !conf.version.is_empty() {
        d.insert("cniVersion".into(), conf.version.into());
    }
    d.insert("ipam".into(), Value::Object(ipam_section(conf.ipam, env)?));
    Ok(d)
}

fn ipam_section(mut ipam: Obj, env: &SubnetEnv) -> Result<Obj, CniError> {
    ipam.entry("type").or_insert_with(|| "host-local".into());
    let ranges: Vec<Value> = env
        .subnets
        .iter()
        .map(|s| json!([{ "subnet": s.to_string() }]))
        .collect();
    let mut routes: Vec<Value> = Vec::new();
    for r in ipam
        .get("routes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        CniRoute::from_json(r).map_err(|e| {
            let read = format!("failed to read IPAM routes: failed to parse ipam.routes: {e}");
            format!("failed to assemble Delegate IPAM: {read}")
        })?;
        routes.push(r.clone());
    }
    for n in &env.networks {
        let mut m = Map::new();
        m.insert("dst".into(), n.to_string().into());
        routes.push(m.into());
    }
    ipam.insert("ranges".into(), ranges.into());
    ipam.insert("routes".into(), routes.into());
    Ok(ipam)
}

fn scratch(data_dir: &str, container: &str) -> String {
    format!("{}/{container}", data_dir.trim_end_matches('/'))
}

fn delegated(args: &CmdArgs, conf: Value) -> (String, CmdArgs) {
    let plugin = conf
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or("")
        .to_owned();
    (
        plugin,
        CmdArgs {
            conf,
            ..args.clone()
        },
    )
}

impl CniPlugin for Flannel {
    fn name(&self) -> &'static str {
        "flannel"
    }

    fn add(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<Value, CniError> {
        let conf =
            read(&args.conf).map_err(|e| format!("failed to load flannel netconf file: {e}"))?;
        let env = load_env(&host.state.files, &conf.subnet_file).map_err(|e| {
            format!("failed to load flannel 'subnet.env' file: {e}. Check the flannel pod log for this node.")
        })?;
        let file = scratch(&conf.data_dir, &args.container_id);
        let d = Value::Object(delegate(conf, &env)?);
        host.state.files.insert(file, d.to_string());
        let (plugin, inner) = delegated(args, d);
        let done = ipam::exec(&plugin, Command::Add, &inner, host);
        let v = done.map_err(|e| CniError::from(format!("failed to delegate add: {e}")))?;
        Ok(v.unwrap_or(Value::Null))
    }

    /// The plugin has no CHECK of its own and answers success.
    fn check(&self, _args: &CmdArgs, _host: &mut Host<'_>) -> Result<(), CniError> {
        Ok(())
    }

    fn del(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<(), CniError> {
        let conf = read(&args.conf)?;
        let file = scratch(&conf.data_dir, &args.container_id);
        let Some(saved) = host
            .state
            .files
            .get(&file)
            .and_then(|t| serde_json::from_str(t).ok())
        else {
            return Ok(()); // nothing was added, or it is undone already
        };
        let (plugin, inner) = delegated(args, saved);
        ipam::exec(&plugin, Command::Del, &inner, host)?;
        host.state.files.remove(&file);
        Ok(())
    }
}
