//! A CNI result and its shapes in the versions of the specification.
//!
//! Kept in the shape of version 1.0.0; older shapes are conversions (containernetworking/cni
//! pkg/types/100, 040, 020): 0.3.x and 0.4.0 add the family to each address, 0.1.0 and 0.2.0 hold one
//! address per family with its routes.

use crate::kube::cni::addr::{parse_cidr, parse_ip_field};
use crate::kube::cni::error::CniError;
use crate::kube::cni::json::At;
use ipnetwork::IpNetwork;
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// Every version the reference plugins understand.
pub const VERSIONS: &[&str] = &["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"];

/// An interface that a plugin made or found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Interface {
    /// Name.
    pub name: String,
    /// Link address; empty when unknown.
    pub mac: String,
    /// Path of the namespace; empty on the node.
    pub sandbox: String,
}

/// An address given to the container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IpConfig {
    /// Index into the interfaces.
    pub interface: Option<i64>,
    /// Address and prefix length.
    pub address: IpNetwork,
    /// Gateway of that subnet.
    pub gateway: Option<IpAddr>,
}

/// A route of the container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CniRoute {
    /// Destination.
    pub dst: IpNetwork,
    /// Gateway; the address's own when absent.
    pub gw: Option<IpAddr>,
}

impl CniRoute {
    /// Reads one.
    pub fn from_json(v: &Value) -> Result<Self, String> {
        let at = At::root(v, "types.route")?;
        let dst = parse_cidr(at.string("dst")?)?;
        Ok(CniRoute {
            dst,
            gw: parse_ip_field(at.string("gw")?)?,
        })
    }

    fn to_json(&self) -> Value {
        let mut m = Map::new();
        m.insert("dst".into(), self.dst.to_string().into());
        if let Some(gw) = self.gw {
            m.insert("gw".into(), gw.to_string().into());
        }
        m.into()
    }
}

/// Resolver settings.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Dns {
    /// Servers.
    pub nameservers: Vec<String>,
    /// Domain.
    pub domain: String,
    /// Search list.
    pub search: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

impl Dns {
    /// Reads the object under `key`.
    pub fn read(at: &At<'_>, key: &str) -> Result<Self, String> {
        let Some(d) = at.object(key, "dns", "types.DNS")? else {
            return Ok(Dns::default());
        };
        Ok(Dns {
            nameservers: d.strings("nameservers")?,
            domain: d.string("domain")?.to_owned(),
            search: d.strings("search")?,
            options: d.strings("options")?,
        })
    }

    /// Nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Dns::default()
    }

    fn to_json(&self) -> Value {
        let mut m = Map::new();
        let mut put = |k: &str, v: Value, empty: bool| {
            if !empty {
                m.insert(k.into(), v);
            }
        };
        put(
            "nameservers",
            self.nameservers.clone().into(),
            self.nameservers.is_empty(),
        );
        put("domain", self.domain.clone().into(), self.domain.is_empty());
        put("search", self.search.clone().into(), self.search.is_empty());
        put(
            "options",
            self.options.clone().into(),
            self.options.is_empty(),
        );
        m.into()
    }
}

/// What ADD answers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CniResult {
    /// Interfaces.
    pub interfaces: Vec<Interface>,
    /// Addresses.
    pub ips: Vec<IpConfig>,
    /// Routes.
    pub routes: Vec<CniRoute>,
    /// Resolver settings.
    pub dns: Dns,
}

fn is_02x(version: &str) -> bool {
    matches!(version, "0.1.0" | "0.2.0")
}

impl CniResult {
    /// The result in the shape of `version`; empty counts as 0.1.0.
    pub fn to_json(&self, version: &str) -> Result<Value, CniError> {
        let version = if version.is_empty() { "0.1.0" } else { version };
        if !VERSIONS.contains(&version) {
            return Err(format!("no converter for CNI result version 1.0.0 to {version}").into());
        }
        if is_02x(version) {
            self.to_json_02x(version)
        } else {
            Ok(self.layout(version, version != "1.0.0"))
        }
    }

    /// The shape since 0.3.0 under any version number; `family` adds the family of each address.
    pub fn layout(&self, version: &str, family: bool) -> Value {
        let mut m = Map::new();
        m.insert("cniVersion".into(), version.into());
        let interfaces: Vec<Value> = self.interfaces.iter().map(interface_json).collect();
        let ips: Vec<Value> = self.ips.iter().map(|i| ip_json(i, family)).collect();
        let routes: Vec<Value> = self.routes.iter().map(CniRoute::to_json).collect();
        for (key, list) in [("interfaces", interfaces), ("ips", ips), ("routes", routes)] {
            if !list.is_empty() {
                m.insert(key.into(), list.into());
            }
        }
        m.insert("dns".into(), self.dns.to_json());
        m.into()
    }

    fn to_json_02x(&self, version: &str) -> Result<Value, CniError> {
        let mut m = Map::new();
        m.insert("cniVersion".into(), version.into());
        for (key, v4) in [("ip4", true), ("ip6", false)] {
            let Some(ip) = self.ips.iter().find(|i| i.address.is_ipv4() == v4) else {
                continue;
            };
            let mut o = Map::new();
            o.insert("ip".into(), ip.address.to_string().into());
            if let Some(gw) = ip.gateway {
                o.insert("gateway".into(), gw.to_string().into());
            }
            let routes: Vec<Value> = self
                .routes
                .iter()
                .filter(|r| r.dst.is_ipv4() == v4)
                .map(CniRoute::to_json)
                .collect();
            if !routes.is_empty() {
                o.insert("routes".into(), routes.into());
            }
            m.insert(key.into(), o.into());
        }
        if m.len() == 1 {
            return Err("cannot convert: no valid IP addresses".into());
        }
        m.insert("dns".into(), self.dns.to_json());
        Ok(m.into())
    }

    /// Reads a result that must be of `version` (libcni's `create.Create`).
    pub fn from_json(v: &Value, version: &str) -> Result<Self, String> {
        let at = At::root(v, "types.Result")?;
        let said = at.string("cniVersion")?;
        let (group, listed): (&[&str], &str) = match version {
            "1.0.0" => (&["1.0.0"], "[1.0.0]"),
            "0.3.0" | "0.3.1" | "0.4.0" => (&["0.3.0", "0.3.1", "0.4.0"], "[0.3.0 0.3.1 0.4.0]"),
            "" | "0.1.0" | "0.2.0" => (&["", "0.1.0", "0.2.0"], "[ 0.1.0 0.2.0]"),
            other => {
                return Err(format!(
                    "unsupported CNI result version {}",
                    super::json::quote(other)
                ));
            }
        };
        if !group.contains(&said) {
            return Err(format!(
                "result type supports {listed} but unmarshalled CNIVersion is {}",
                super::json::quote(said)
            ));
        }
        if group.contains(&"0.1.0") {
            Self::read_02x(&at)
        } else {
            Self::read(&at)
        }
    }

    fn read(at: &At<'_>) -> Result<Self, String> {
        let mut r = CniResult {
            dns: Dns::read(at, "dns")?,
            ..CniResult::default()
        };
        for v in at.list("interfaces", "[]*types100.Interface")? {
            let i = At::root(v, "types100.Interface")?;
            r.interfaces.push(Interface {
                name: i.string("name")?.to_owned(),
                mac: i.string("mac")?.to_owned(),
                sandbox: i.string("sandbox")?.to_owned(),
            });
        }
        for v in at.list("ips", "[]*types100.IPConfig")? {
            let i = At::root(v, "types100.ipConfig")?;
            r.ips.push(IpConfig {
                interface: i.int_opt("interface")?,
                address: parse_cidr(i.string("address")?)?,
                gateway: parse_ip_field(i.string("gateway")?)?,
            });
        }
        for v in at.list("routes", "[]*types.Route")? {
            r.routes.push(CniRoute::from_json(v)?);
        }
        Ok(r)
    }

    fn read_02x(at: &At<'_>) -> Result<Self, String> {
        let mut r = CniResult {
            dns: Dns::read(at, "dns")?,
            ..CniResult::default()
        };
        for (key, path) in [("ip4", "ip4"), ("ip6", "ip6")] {
            let Some(i) = at.object(key, path, "types020.IPConfig")? else {
                continue;
            };
            r.ips.push(IpConfig {
                interface: None,
                address: parse_cidr(i.string("ip")?)?,
                gateway: parse_ip_field(i.string("gateway")?)?,
            });
            for v in i.list("routes", "[]types.Route")? {
                r.routes.push(CniRoute::from_json(v)?);
            }
        }
        Ok(r)
    }
}

fn interface_json(i: &Interface) -> Value {
    let mut m = Map::new();
    m.insert("name".into(), i.name.clone().into());
    for (key, v) in [("mac", &i.mac), ("sandbox", &i.sandbox)] {
        if !v.is_empty() {
            m.insert(key.into(), v.clone().into());
        }
    }
    m.into()
}

fn ip_json(i: &IpConfig, family: bool) -> Value {
    let mut m = Map::new();
    if family {
        m.insert(
            "version".into(),
            if i.address.is_ipv4() { "4" } else { "6" }.into(),
        );
    }
    if let Some(n) = i.interface {
        m.insert("interface".into(), n.into());
    }
    m.insert("address".into(), json!(i.address.to_string()));
    if let Some(gw) = i.gateway {
        m.insert("gateway".into(), gw.to_string().into());
    }
    m.into()
}
