//! The tuning plugin: sysctls, link address, MTU and promiscuous mode of the container's interface
//! (containernetworking/plugins plugins/meta/tuning/tuning.go).
//!
//! What it changes is written down before and put back on DEL. CHECK of 1.1.1 does not replace `IFNAME` in
//! sysctl names and so does not find them; the recordings show it and so it is here.

use crate::kube::cni::CniPlugin;
use crate::kube::cni::addr::parse_mac;
use crate::kube::cni::admin::{errno, read_sysctl};
use crate::kube::cni::args as cni_args;
use crate::kube::cni::conf::NetConf;
use crate::kube::cni::error::CniError;
use crate::kube::cni::host::Host;
use crate::kube::cni::json::{At, quote};
use crate::kube::cni::link::no_netns;
use crate::kube::cni::plan::{LinkOp, Where};
use crate::kube::cni::skel::CmdArgs;
use crate::net::EditError;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The plugin.
pub struct Tuning;

struct Conf {
    net: NetConf,
    data_dir: String,
    sysctl: BTreeMap<String, String>,
    mac: String,
    promisc: bool,
    mtu: i64,
    allmulti: Option<bool>,
}

fn sysctls(
    at: &At<'_>,
    path: &'static str,
    into: &mut BTreeMap<String, String>,
) -> Result<(), String> {
    let Some(o) = at.object("sysctl", path, "map[string]string")? else {
        return Ok(());
    };
    let Some(Value::Object(map)) = at.raw("sysctl") else {
        return Ok(());
    };
    for (k, v) in map {
        let text = if v.is_null() { "" } else { o.string(k)? };
        into.insert(k.clone(), text.to_owned());
    }
    Ok(())
}

fn read(args: &CmdArgs) -> Result<Conf, String> {
    let mut c = load(&args.conf).map_err(|e| format!("failed to load netconf: {e}"))?;
    if let Some(mac) = cni_args::last(&cni_args::load(&args.args, &["MAC"])?, "MAC") {
        c.mac = mac.to_owned();
    }
    overrides(&args.conf, &mut c).map_err(|e| format!("failed to load netconf: {e}"))?;
    Ok(c)
}

fn load(conf: &Value) -> Result<Conf, String> {
    let at = At::root(conf, "main.TuningConf")?;
    let mut sysctl = BTreeMap::new();
    sysctls(&at, "sysctl", &mut sysctl)?;
    let dir = at.string("dataDir")?;
    Ok(Conf {
        net: NetConf::read(&at)?,
        data_dir: if dir.is_empty() {
            "/run/cni/tuning".into()
        } else {
            dir.into()
        },
        sysctl,
        mac: at.string("mac")?.to_owned(),
        promisc: at.bool("promisc")?,
        mtu: at.int("mtu")?,
        allmulti: at.bool_opt("allmulti")?,
    })
}

/// `runtimeConfig.mac`, then `args.cni`.
fn overrides(conf: &Value, c: &mut Conf) -> Result<(), String> {
    let at = At::root(conf, "main.TuningConf")?;
    let runtime = at.object("runtimeConfig", "runtimeConfig", "struct")?;
    let wished = runtime.map(|rt| rt.string("mac")).transpose()?;
    if let Some(mac) = wished.filter(|m| !m.is_empty()) {
        c.mac = mac.to_owned();
    }
    let cni = at
        .object("args", "args", "struct")?
        .map(|a| a.object("cni", "args.cni", "main.IPAMArgs"));
    let Some(a) = cni.transpose()?.flatten() else {
        return Ok(());
    };
    sysctls(&a, "args.cni.sysctl", &mut c.sysctl)?;
    if a.raw("mac").is_some() {
        c.mac = a.string("mac")?.to_owned();
    }
    c.promisc = a.bool_opt("promisc")?.unwrap_or(c.promisc);
    c.mtu = a.int_opt("mtu")?.unwrap_or(c.mtu);
    c.allmulti = a.bool_opt("allmulti")?.or(c.allmulti);
    Ok(())
}

/// `net.ipv4.conf.eth0.x` as a file below `/proc/sys`, `..` resolved.
fn file_name(key: &str) -> String {
    let mut parts: Vec<&str> = vec!["proc", "sys"];
    let slashed = key.replace('.', "/");
    for p in slashed.split('/') {
        match p {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            p => parts.push(p),
        }
    }
    format!("/{}", parts.join("/"))
}

fn write_sysctls(host: &mut Host<'_>, at: &Where, ifname: &str, c: &Conf) -> Result<(), CniError> {
    for (key, value) in &c.sysctl {
        let key = key.replacen("IFNAME", ifname, 1);
        let file = file_name(&key);
        let Some(name) = file.strip_prefix("/proc/sys/net/") else {
            return Err(format!("invalid net sysctl key: {}", quote(&key)).into());
        };
        host.change(at, LinkOp::SetSysctl(format!("net/{name}"), value.clone()))
            .map_err(|e| match e {
                EditError::Sysctl(crate::net::sysctl::SysctlError::NotANumber { .. }) => {
                    format!("write {file}: invalid argument")
                }
                _ => format!("open {file}: no such file or directory"),
            })?;
    }
    Ok(())
}

fn backup_path(c: &Conf, args: &CmdArgs) -> String {
    format!(
        "{}/{}_{}.json",
        c.data_dir.trim_end_matches('/'),
        args.container_id,
        args.ifname
    )
}

fn back_up(host: &mut Host<'_>, at: &Where, args: &CmdArgs, c: &Conf) -> Result<(), CniError> {
    let Some(d) = host.dev(at, &args.ifname) else {
        return Err(format!("failed to get {}: Link not found", quote(&args.ifname)).into());
    };
    let mut m = Map::new();
    if !c.mac.is_empty() {
        m.insert("mac".into(), d.mac.to_string().into());
    }
    if c.promisc {
        m.insert("promisc".into(), d.promisc.into());
    }
    if c.mtu != 0 {
        m.insert("mtu".into(), d.mtu.into());
    }
    if c.allmulti.is_some() {
        m.insert("allmulti".into(), false.into());
    }
    let text = serde_json::to_string(&Value::Object(m)).unwrap_or_default();
    host.state.files.insert(backup_path(c, args), text);
    Ok(())
}

fn set_mac(host: &mut Host<'_>, at: &Where, ifname: &str, mac: &str) -> Result<(), CniError> {
    let mac = parse_mac(mac).map_err(|e| format!("invalid args {mac} for MAC addr: {e}"))?;
    host.change(at, LinkOp::SetMac(ifname.into(), mac))
        .map_err(|e| errno(&e).into())
}

fn set_mtu(host: &mut Host<'_>, at: &Where, ifname: &str, mtu: i64) -> Result<(), CniError> {
    let mtu = u32::try_from(mtu).map_err(|_| "invalid argument".to_owned())?;
    host.change(at, LinkOp::SetMtu(ifname.into(), mtu))
        .map_err(|e| errno(&e).into())
}

fn restore(host: &mut Host<'_>, at: &Where, args: &CmdArgs, path: &str) {
    let Some(text) = host.state.files.get(path) else {
        return;
    };
    let Ok(saved) = serde_json::from_str::<Value>(text) else {
        return;
    };
    if host.dev(at, &args.ifname).is_none() {
        return;
    }
    let mut all = true;
    if let Some(mtu) = saved.get("mtu").and_then(Value::as_i64) {
        all &= set_mtu(host, at, &args.ifname, mtu).is_ok();
    }
    if let Some(mac) = saved.get("mac").and_then(Value::as_str) {
        all &= set_mac(host, at, &args.ifname, mac).is_ok();
    }
    if let Some(on) = saved.get("promisc").and_then(Value::as_bool) {
        all &= host
            .change(at, LinkOp::SetPromisc(args.ifname.clone(), on))
            .is_ok();
    }
    if all {
        host.state.files.remove(path);
    }
}

/// Each setting against what the container has.
fn compare(host: &Host<'_>, at: &Where, ifname: &str, c: &Conf) -> Result<(), CniError> {
    let ns = host.ns(at).ok_or("the namespace is gone")?;
    for (key, want) in &c.sysctl {
        let file = file_name(key);
        let name = file.strip_prefix("/proc/sys/").unwrap_or(&file);
        let Some(now) = read_sysctl(ns, name) else {
            return Err(format!("open {file}: no such file or directory").into());
        };
        if *want != now {
            return Err(format!(
                "Error: Tuning configured value of {file} is {want}, current value is {now}"
            )
            .into());
        }
    }
    let Some(d) = ns.dev_by_name(ifname) else {
        return Err(format!("Cannot find container link {ifname}").into());
    };
    if !c.mac.is_empty() && c.mac != d.mac.to_string() {
        let (want, now) = (&c.mac, d.mac);
        return Err(format!(
            "Error: Tuning configured Ethernet of {ifname} is {want}, current value is {now}"
        )
        .into());
    }
    if c.promisc != d.promisc {
        return Err(format!(
            "Error: Tuning link {ifname} configured promisc is {}, current value is {}",
            c.promisc,
            u8::from(d.promisc)
        )
        .into());
    }
    if c.mtu != 0 && c.mtu != i64::from(d.mtu) {
        let (want, now) = (c.mtu, d.mtu);
        return Err(format!(
            "Error: Tuning configured MTU of {ifname} is {want}, current value is {now}"
        )
        .into());
    }
    Ok(())
}

impl CniPlugin for Tuning {
    fn name(&self) -> &'static str {
        "tuning"
    }

    fn add(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<Value, CniError> {
        let c = read(args)?;
        let mut result = c.net.previous()?.ok_or("Required prevResult missing")?;
        let at = Where::Pod(args.netns.clone());
        if host.ns(&at).is_none() {
            return Err(no_netns(&args.netns).into());
        }
        write_sysctls(host, &at, &args.ifname, &c)?;
        if !c.mac.is_empty() || c.mtu != 0 || c.promisc || c.allmulti.is_some() {
            back_up(host, &at, args, &c)?;
        }
        if !c.mac.is_empty() {
            set_mac(host, &at, &args.ifname, &c.mac)?;
            for i in result
                .interfaces
                .iter_mut()
                .filter(|i| i.name == args.ifname)
            {
                i.mac = c.mac.clone();
            }
        }
        if c.promisc {
            host.change(&at, LinkOp::SetPromisc(args.ifname.clone(), true))
                .map_err(|e| errno(&e).to_owned())?;
        }
        if c.mtu != 0 {
            set_mtu(host, &at, &args.ifname, c.mtu)?;
        }
        result.to_json(&c.net.version)
    }

    fn check(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<(), CniError> {
        let c = read(args)?;
        c.net.previous()?.ok_or("Required prevResult missing")?;
        let at = Where::Pod(args.netns.clone());
        if host.ns(&at).is_none() {
            return Err(no_netns(&args.netns).into());
        }
        compare(host, &at, &args.ifname, &c)
    }

    fn del(&self, args: &CmdArgs, host: &mut Host<'_>) -> Result<(), CniError> {
        let c = read(args)?;
        restore(
            host,
            &Where::Pod(args.netns.clone()),
            args,
            &backup_path(&c, args),
        );
        Ok(())
    }
}
