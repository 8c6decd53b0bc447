//! `net-conf.json` (flannel-io/flannel pkg/subnet/config.go; backends' own fields in pkg/backend/*).

use crate::base::{Finding, Span};
use crate::kube::cni::addr::{network, parse_cidr};
use crate::kube::cni::json::At;
use crate::kube::cni::list::NetworkList;
use crate::kube::store::Store;
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use serde_json::Value;

/// How packets get to other nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Backend {
    /// VXLAN device `flannel.VNI`.
    Vxlan {
        /// VNI, default 1.
        vni: u32,
        /// UDP port, default the kernel's 8472.
        port: u16,
        /// Underlay MTU to reckon from; the interface's when absent.
        mtu: Option<u32>,
        /// Learn from traffic.
        learning: bool,
        /// Plain routes to nodes on the same network.
        direct_routing: bool,
    },
    /// Plain routes.
    HostGw,
    /// IPIP device `flannel.ipip`.
    Ipip {
        /// Plain routes to nodes on the same network.
        direct_routing: bool,
    },
}

/// The network's configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetConf {
    /// IPv4 network, unless IPv4 is off.
    pub network: Option<Ipv4Network>,
    /// IPv6 network, if IPv6 is on.
    pub ipv6_network: Option<Ipv6Network>,
    /// Backend.
    pub backend: Backend,
}

impl NetConf {
    /// Reads `net-conf.json`; `at` is where its text begins.
    pub fn parse(text: &str, at: &Span) -> (Option<Self>, Vec<Finding>) {
        let wrong = |msg: String| {
            let what = format!("net-conf.json of flannel cannot be read: {msg}");
            let help = "compare with Documentation/configuration.md of flannel";
            (None, vec![Finding::error(at.clone(), what, help)])
        };
        let doc: Value = match serde_json::from_str(text) {
            Ok(v) => v,
            Err(e) => return wrong(e.to_string()),
        };
        let mut found = Vec::new();
        match read(&doc, at, &mut found) {
            Ok(conf) => (conf.filter(|_| !found.iter().any(Finding::is_error)), found),
            Err(e) => wrong(e),
        }
    }

    /// Reads both parts of ConfigMap `kube-flannel-cfg`, in namespace `kube-flannel` or, older,
    /// `kube-system`.
    pub fn from_store(store: &Store) -> (Option<(Self, Option<NetworkList>)>, Vec<Finding>) {
        let maps = ["kube-flannel", "kube-system"].into_iter();
        let Some(cm) = maps
            .filter_map(|ns| store.config_map(ns, "kube-flannel-cfg"))
            .next()
        else {
            return (None, Vec::new());
        };
        let text = |k: &str| {
            cm.data
                .as_ref()
                .and_then(|d| d.get(k))
                .cloned()
                .unwrap_or_default()
        };
        let (conf, mut found) = Self::parse(
            &text("net-conf.json"),
            &cm.source.span_of("data.net-conf.json"),
        );
        let list = serde_json::from_str(&text("cni-conf.json"))
            .ok()
            .and_then(|v| {
                let at = cm.source.span_of("data.cni-conf.json");
                let (list, mut f) = NetworkList::from_value(&v, &|_| at.clone());
                found.append(&mut f);
                list
            });
        (conf.map(|c| (c, list)), found)
    }
}

fn read(doc: &Value, at: &Span, found: &mut Vec<Finding>) -> Result<Option<NetConf>, String> {
    let conf = At::root(doc, "subnet.Config")?;
    let backend = backend(&conf, at, found)?;
    let (v4, v6) = (
        conf.bool_opt("EnableIPv4")?.unwrap_or(true),
        conf.bool("EnableIPv6")?,
    );
    let net = |key: &str| -> Result<Option<IpNetwork>, String> {
        let s = conf.string(key)?;
        if s.is_empty() {
            Ok(None)
        } else {
            parse_cidr(s).map(|n| Some(network(n)))
        }
    };
    let network4 = match net("Network")? {
        Some(IpNetwork::V4(n)) => Some(n).filter(|_| v4),
        Some(IpNetwork::V6(n)) => return Err(format!("Network {n} is not IPv4")),
        None => None,
    };
    let network6 = match net("IPv6Network")? {
        Some(IpNetwork::V6(n)) => Some(n).filter(|_| v6),
        Some(IpNetwork::V4(n)) => return Err(format!("IPv6Network {n} is not IPv6")),
        None => None,
    };
    for (missing, key) in [
        (v4 && network4.is_none(), "Network"),
        (v6 && network6.is_none(), "IPv6Network"),
    ] {
        if missing {
            let what = format!("flannel's net-conf.json has no {key} although its family is on");
            found.push(Finding::error(
                at.clone(),
                what,
                "set it to the cluster's pod network",
            ));
        }
    }
    Ok(backend.map(|backend| NetConf {
        network: network4,
        ipv6_network: network6,
        backend,
    }))
}

fn backend(conf: &At<'_>, at: &Span, found: &mut Vec<Finding>) -> Result<Option<Backend>, String> {
    let Some(b) = conf.object("Backend", "Backend", "json.RawMessage")? else {
        return Ok(unknown("udp (the default)", at, found));
    };
    let small = |key: &str, max: i64| -> Result<Option<u32>, String> {
        match b.int_opt(key)? {
            Some(n) if !(0..=max).contains(&n) => Err(format!("{key} {n} is outside 0 to {max}")),
            n => Ok(n.and_then(|n| u32::try_from(n).ok())),
        }
    };
    Ok(match b.string("Type")? {
        "vxlan" => {
            let port = small("Port", 65_535)?
                .and_then(|p| u16::try_from(p).ok())
                .filter(|p| *p != 0);
            Some(Backend::Vxlan {
                vni: small("VNI", (1 << 24) - 1)?.unwrap_or(1),
                port: port.unwrap_or(8472),
                mtu: small("MTU", 65_535)?,
                learning: b.bool("Learning")?,
                direct_routing: b.bool("DirectRouting")?,
            })
        }
        "host-gw" => Some(Backend::HostGw),
        "ipip" => Some(Backend::Ipip {
            direct_routing: b.bool("DirectRouting")?,
        }),
        other => unknown(other, at, found),
    })
}

fn unknown(name: &str, at: &Span, found: &mut Vec<Finding>) -> Option<Backend> {
    let what = format!("flannel backend {name} is not modelled");
    found.push(Finding::error(
        at.clone(),
        what,
        "use vxlan, host-gw or ipip",
    ));
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Option<NetConf>, String) {
        let (c, f) = NetConf::parse(text, &Span::new("cm.yaml", 7, 3));
        (c, f.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn defaults_and_mistakes() {
        let (c, f) = parse(r#"{"Network":"10.244.0.0/16","backend":{"type":"vxlan"}}"#);
        let want = Backend::Vxlan {
            vni: 1,
            port: 8472,
            mtu: None,
            learning: false,
            direct_routing: false,
        };
        assert_eq!((c.unwrap().backend, f.as_str()), (want, ""));
        assert!(
            parse(r#"{"Network":"10.244.0.0/16"}"#)
                .1
                .contains("cm.yaml:7:3: error: flannel backend udp")
        );
        assert!(
            parse(r#"{"Backend":{"Type":"host-gw"}}"#)
                .1
                .contains("has no Network")
        );
        assert!(
            parse(r#"{"Network":"10.244.0.0/36","Backend":{"Type":"host-gw"}}"#)
                .1
                .contains("invalid CIDR")
        );
        assert!(parse("{").1.contains("cannot be read"));
    }
}
