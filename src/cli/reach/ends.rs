//! `--from` and `--to`: words become picks, and what does not exist is said.

use crate::cli::args::Global;
use crate::cli::policy::Known;
use crate::cli::{out, trace};
use crate::kube::manifest::closest;
use crate::kube::podpath_v1alpha1::Peer;
use crate::kube::policy::reach::{Ends, Pick};
use crate::kube::policy::{Owner, Selector};
use crate::kube::service::Family;
use crate::kube::store::Name;
use std::net::IpAddr;

/// What names can stand for.
pub(super) struct Names<'n> {
    pub(super) g: &'n Global,
    pub(super) known: &'n [Known],
    pub(super) hosts: &'n [(String, IpAddr)],
    pub(super) family: Family,
}

impl Names<'_> {
    /// The ends of one side. Only destinations may be Services.
    pub(super) fn of(
        &self,
        words: &[String],
        namespaces: Vec<String>,
        selectors: [&Option<Selector>; 2],
        destination: bool,
    ) -> anyhow::Result<Ends> {
        for namespace in &namespaces {
            self.namespace(namespace)?;
        }
        let mut picks = Vec::new();
        for word in words {
            let pick = self.pick(word)?;
            if !destination && matches!(pick, Pick::Services | Pick::Service(..)) {
                return Err(out::stop(
                    &format!("--from {word}"),
                    "a Service sends nothing",
                    "name a pod behind it",
                ));
            }
            picks.push(pick);
        }
        Ok(Ends {
            picks,
            namespaces,
            selectors: selectors.into_iter().flatten().cloned().collect(),
        })
    }

    fn pick(&self, word: &str) -> anyhow::Result<Pick> {
        match word {
            "pods" => return Ok(Pick::Pods),
            "nodes" => return Ok(Pick::Nodes),
            "outside" => return Ok(Pick::Outside),
            "services" => return Ok(Pick::Services),
            _ => {}
        }
        if let Some(namespace) = word.strip_suffix('/').or_else(|| word.strip_suffix("/*")) {
            self.namespace(namespace)?;
            return Ok(Pick::Namespace(namespace.to_owned()));
        }
        let target = trace::target(&self.one_namespace(), word)?;
        let service = matches!(target.peer, Peer::Service { .. });
        if let (Some(port), false) = (target.port, service) {
            let help = format!("write --port {port}");
            return Err(out::stop(word, "expected no port here", help));
        }
        match target.peer {
            Peer::Pod { namespace, name } => self.pod(word, Name::new(namespace, name)),
            Peer::Node(name) => self.node(word, name),
            Peer::Host(name) => {
                let found = self.hosts.iter().find(|(own, _)| *own == name);
                let missing = || {
                    let family = self.family.name();
                    let message = format!("there is no such host with an {family} address");
                    out::stop(
                        word,
                        message,
                        self.near(&name, self.hosts.iter().map(|h| &*h.0)),
                    )
                };
                Ok(Pick::Address(found.ok_or_else(missing)?.1))
            }
            Peer::Ip(ip) => self.address(word, ip),
            Peer::Service {
                namespace,
                name,
                port,
            } => {
                let number = target.port.map(|port| port.to_string());
                self.service(word, Name::new(namespace, name), port.or(number))
            }
            Peer::Name(_) => Err(out::stop(
                word,
                "names are not looked up here",
                "write a pod, a Service or an address; `podpath dns` looks names up",
            )),
        }
    }

    /// Pods without a namespace are in `-n`'s, where it is a single one.
    fn one_namespace(&self) -> Global {
        let one = |n: &String| !n.contains(',');
        Global {
            namespace: self.g.namespace.clone().filter(one),
            ..self.g.clone()
        }
    }

    fn near<'a>(&self, word: &str, names: impl Iterator<Item = &'a str>) -> String {
        let names: Vec<&str> = names.collect();
        let close = closest(word, names);
        close.map_or_else(String::new, |name| format!("did you mean {name}?"))
    }

    fn namespace(&self, namespace: &str) -> anyhow::Result<()> {
        let all = || self.known.iter().flat_map(|k| k.inventory.namespaces());
        if all().any(|(name, _)| name == namespace) {
            return Ok(());
        }
        let help = self.near(namespace, all().map(|(name, _)| name));
        Err(out::stop(namespace, "there is no such namespace", help))
    }

    fn pod(&self, word: &str, name: Name) -> anyhow::Result<Pick> {
        let mut states = self.known.iter();
        let Some(pod) = states.find_map(|k| k.inventory.pod(&name)) else {
            let names = self.known.iter().flat_map(|k| k.inventory.pods());
            let names: Vec<String> = names.map(|pod| pod.name.to_string()).collect();
            let help = self.near(&name.to_string(), names.iter().map(String::as_str));
            return Err(out::stop(word, "there is no such pod", help));
        };
        if pod.host_network && !pod.node.is_empty() {
            // It is its node as far as the network goes.
            return Ok(Pick::Node(pod.node.clone()));
        }
        Ok(Pick::Pod(name))
    }

    fn node(&self, word: &str, name: String) -> anyhow::Result<Pick> {
        let all = || self.known.iter().flat_map(|k| k.inventory.nodes());
        if all().any(|(own, _)| own == name) {
            return Ok(Pick::Node(name));
        }
        let help = self.near(&name, all().map(|(own, _)| own));
        Err(out::stop(word, "there is no such node", help))
    }

    fn address(&self, word: &str, ip: IpAddr) -> anyhow::Result<Pick> {
        if Family::of(ip) != self.family {
            let message = format!("the question is about {}", self.family.name());
            return Err(out::stop(word, message, "choose by -4 or -6"));
        }
        let owners = self.known.iter().map(|k| k.inventory.owner(ip));
        let mut owners = owners.filter(|o| *o != Owner::Outside);
        Ok(match owners.next() {
            Some(Owner::Pod(pod)) => Pick::Pod(pod.name.clone()),
            Some(Owner::Node(node)) => Pick::Node(node.to_owned()),
            _ => Pick::Address(ip),
        })
    }

    fn service(&self, word: &str, name: Name, port: Option<String>) -> anyhow::Result<Pick> {
        let views = self.known.iter().flat_map(|k| &k.views);
        let services: Vec<_> = views.flat_map(|v| &v.services).collect();
        let of_name = services.iter().filter(|s| s.name.service == name);
        let mut found = of_name.peekable();
        if found.peek().is_none() {
            let names: Vec<String> = services
                .iter()
                .map(|s| s.name.service.to_string())
                .collect();
            let help = self.near(&name.to_string(), names.iter().map(String::as_str));
            return Err(out::stop(
                word,
                "there is no such Service with a ClusterIP",
                help,
            ));
        }
        if let Some(port) = &port {
            let ports: Vec<String> = found
                .flat_map(|s| [s.name.port.clone(), s.port.to_string()])
                .filter(|p| !p.is_empty())
                .collect();
            if !ports.contains(port) {
                let help = format!("it has {}", ports.join(", "));
                return Err(out::stop(word, "the Service has no such port", help));
            }
        }
        Ok(Pick::Service(name, port))
    }
}
