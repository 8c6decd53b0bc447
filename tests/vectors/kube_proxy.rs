//! The suites of kube-proxy.

use crate::flows::{self, Node, Rules};
use crate::rules;
use podpath::kube::manifest::Input;
use podpath::kube::proxy::conntrack::{Entry, UdpServing};
use podpath::kube::proxy::iptables::{Desired, Proxier, Scope, jumps, kubelet, sync};
use podpath::kube::proxy::topology::categorize;
use podpath::kube::proxy::{Features, KubeProxyConfiguration, Machine, Settings, View, names as n};
use podpath::kube::service::{Endpoint, Family, PortName, Protocol};
use podpath::kube::store::{Name, Store};
use podpath::nf;
use podpath::nf::nft::Ruleset;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// What became of each part of the cases.
pub type Outcomes = Vec<(String, Result<(), String>)>;

/// names.json: hashes, truncation, probabilities.
pub fn names(file: &Value) -> Outcomes {
    let mut out = Outcomes::new();
    for (group, nft) in [("iptables_hash", false), ("nftables_base", true)] {
        for kind in ["upstream", "derived"] {
            for (i, case) in list(&file[group][kind]).iter().enumerate() {
                let port = PortName {
                    service: Name::new(text(&case["namespace"]), text(&case["service"])),
                    port: text(&case["port"]).to_owned(),
                    protocol: protocol(text(&case["protocol"])),
                };
                let endpoint = case["endpoint"].as_str();
                let found = if nft {
                    n::nft_base(&port, endpoint)
                } else {
                    n::hash(&port, endpoint.unwrap_or_default())
                };
                out.push((
                    format!("{group}-{kind}-{i}"),
                    equal(text(&case["expect"]), &found),
                ));
            }
        }
    }
    for (count, expected) in file["probability"].as_object().into_iter().flatten() {
        let found = count.parse().map(n::probability).unwrap_or_default();
        out.push((
            format!("probability-{count}"),
            equal(text(expected), &found),
        ));
    }
    out
}

/// topology.json: the endpoints of each use.
pub fn topology(file: &Value) -> Outcomes {
    each(file, |case| {
        let store = store(&case["objects"])?;
        let node = text(&case["nodeName"]);
        let config = json!({"hostnameOverride": node, "featureGates": case["featureGates"]});
        let settings = settings(&config, &json!({"ipFamily": "IPv4"}), &store)?;
        let view = View::of(&store, Family::V4);
        let port = view.services.first().ok_or("no service port")?;
        let found = categorize(view.endpoints_of(&port.name), port, settings.place());
        let show = |set: Option<&Vec<&Endpoint>>| {
            set.map(|set| set.iter().map(|e| e.address()).collect::<Vec<_>>())
        };
        let found = json!({
            "cluster": show(found.cluster.as_ref()),
            "local": show(found.local.as_ref()),
            "reachable": show(Some(&found.reachable)),
        });
        let same = ["cluster", "local", "reachable"]
            .iter()
            .all(|k| found[k] == case["expect"][k]);
        same.then_some(())
            .ok_or(format!("other endpoints\n- {}\n+ {found}", case["expect"]))
    })
}

/// kernel-dumps.json: real dumps print as they were read, and their flows go where they should.
pub fn kernel_dumps(file: &Value) -> Outcomes {
    let mut out = Outcomes::new();
    for case in list(&file["cases"]) {
        let (id, dump) = (text(&case["id"]), text(&case["dump"]));
        if text(&case["tool"]).contains("nft list") {
            out.push((format!("{id}/dump"), nft_dump(id, dump)));
            out.push((format!("{id}/flows"), nft_dump_flows(case)));
            continue;
        }
        let family = if text(&case["tool"]).contains("ip6tables") {
            nf::Family::V6
        } else {
            nf::Family::V4
        };
        let (set, wrong) = nf::RuleSet::parse(id, dump, family);
        let printed = match wrong.first() {
            Some(f) => Err(f.to_string()),
            None => equal(dump, &set.to_text()).and(equal(dump, &set.to_save(false))),
        };
        out.push((format!("{id}/dump"), printed));
        let node = Node {
            family,
            addresses: addresses(&case["localAddresses"]),
            // The dumps do not say; those who replayed them had to set it for packets from 127.0.0.1.
            route_localnet: family == nf::Family::V4,
            rules: vec![Rules::Restore(dump.to_owned())],
        };
        out.push((
            format!("{id}/flows"),
            flows::judge(&node, list(&case["flows"])),
        ));
    }
    out
}

/// A listing prints as it was read, and through JSON too.
fn nft_dump(id: &str, dump: &str) -> Result<(), String> {
    let (set, wrong) = Ruleset::parse(id, dump);
    if let Some(f) = wrong.first() {
        return Err(f.to_string());
    }
    equal(dump, &set.to_text())?;
    let (again, wrong) = Ruleset::parse_json(id, &set.to_json().to_string());
    match wrong.first() {
        Some(f) => Err(format!("JSON: {f}")),
        None => equal(dump, &again.to_text()),
    }
}

fn nft_dump_flows(case: &Value) -> Result<(), String> {
    let dump = text(&case["dump"]);
    let node = Node {
        family: match dump.starts_with("table ip6 ") {
            true => nf::Family::V6,
            false => nf::Family::V4,
        },
        addresses: addresses(&case["localAddresses"]),
        route_localnet: false,
        rules: vec![Rules::Nft(dump.to_owned())],
    };
    flows::judge(&node, list(&case["flows"]))
}

/// A case's flows, on a node whose rules kubelet and kube-proxy made.
fn flows_of(case: &Value) -> Result<(), String> {
    let store = store(&case["objects"])?;
    let settings = settings(&case["proxyConfig"], &case["environment"], &store)?;
    let view = View::of(&store, settings.family);
    let written = sync(&view, &settings, Scope::Full, &BTreeSet::new()).text();
    let (family, tool) = match settings.family {
        Family::V4 => (nf::Family::V4, "iptables"),
        Family::V6 => (nf::Family::V6, "ip6tables"),
    };
    let commands = kubelet(settings.family).into_iter().chain(jumps());
    let mut rules: Vec<Rules> = commands
        .map(|e| Rules::Ensure(format!("{tool} {}", e.command())))
        .collect();
    rules.push(Rules::Add(written));
    let node = Node {
        family,
        addresses: addresses(&case["environment"]["localAddresses"]),
        // What kube-proxy itself would set (proxier.go `NewProxier`).
        route_localnet: settings.localhost_node_ports,
        rules,
    };
    flows::judge(&node, list(&case["expect"]["flows"]))
}

pub fn addresses(list_of: &Value) -> Vec<IpAddr> {
    let each = list(list_of).iter();
    each.filter_map(|a| text(a).parse().ok()).collect()
}

/// iptables.json: the rules, and where packets go.
pub fn iptables(file: &Value) -> Outcomes {
    let mut out = Outcomes::new();
    for case in list(&file["cases"]) {
        let id = text(&case["id"]);
        out.push((format!("{id}/rules"), rules_of(case)));
        if case["expect"].get("flows").is_some() {
            out.push((format!("{id}/flows"), flows_of(case)));
        }
    }
    out
}

fn rules_of(case: &Value) -> Result<(), String> {
    let store = store(&case["objects"])?;
    let settings = settings(&case["proxyConfig"], &case["environment"], &store)?;
    let view = View::of(&store, settings.family);
    let found = rules::parse(&sync(&view, &settings, Scope::Full, &BTreeSet::new()).text())?;
    let expect = &case["expect"];
    if let Some(text) = expect["iptables_save"].as_str() {
        return same(text, &found);
    }
    let (table, chain) = (
        text(&expect["chain"]["table"]),
        text(&expect["chain"]["chain"]),
    );
    let mut wanted = format!("*{table}\n:{chain} - [0:0]\n");
    for rule in list(&expect["chain"]["rules"]) {
        wanted += &format!("{}\n", text(rule));
    }
    let only = |(key, _): &(&(String, String), &Vec<Vec<String>>)| key.0 == table && key.1 == chain;
    let found = found
        .iter()
        .filter(only)
        .map(|(k, v)| (k.clone(), v.clone()));
    same(&wanted, &found.collect())
}

/// iptables-incremental.json: what each sync writes, and what is there after it.
pub fn incremental(file: &Value) -> Outcomes {
    let mut out = Outcomes::new();
    let mut proxier: Option<Proxier> = None;
    let mut state = rules::Chains::new();
    for (i, step) in list(&file["steps"]).iter().enumerate() {
        let mut run = || -> Result<Desired, String> {
            let store = store(&with_node(step, file))?;
            let settings = settings(&file["proxyConfig"], &file["environment"], &store)?;
            let view = View::of(&store, settings.family);
            let proxier = proxier.get_or_insert_with(|| Proxier::new(settings, BTreeSet::new()));
            Ok(proxier.sync(view))
        };
        let written = run().map(|desired| desired.text());
        let input = written.clone().and_then(|found| {
            same(
                text(&step["expect"]["restore_input"]),
                &rules::parse(&found)?,
            )
        });
        out.push((format!("{i}/restore-input"), input));
        let full = written.and_then(|found| {
            state = rules::restore(&state, &found)?;
            same(text(&step["expect"]["full_state"]), &state)
        });
        out.push((format!("{i}/full-state"), full));
    }
    out
}

/// A step's objects with the node, which the environment alone describes.
fn with_node(step: &Value, file: &Value) -> Value {
    let ip = &file["environment"]["nodeIP"];
    let node = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": file["proxyConfig"]["hostnameOverride"]},
        "status": {"addresses": [{"type": "InternalIP", "address": ip}]},
    });
    let mut objects = list(&step["objects"]).to_vec();
    objects.push(node);
    Value::Array(objects)
}

/// conntrack.json: which entries are deleted.
pub fn conntrack(file: &Value) -> Outcomes {
    each(file, |case| {
        let serving = UdpServing::of(&View::of(&store(&case["objects"])?, Family::V4));
        let mut wrong = Vec::new();
        for entry in list(&case["entries"]) {
            let line = text(&entry["line"]);
            let found = line.starts_with("udp") && serving.is_stale(entry_of(line)?);
            if Some(found) != entry["delete"].as_bool() {
                wrong.push(format!("deleted {found}: {line}"));
            }
        }
        let count = wrong.len();
        (count == 0)
            .then_some(())
            .ok_or(format!("{count} entries\n{}", wrong.join("\n")))
    })
}

/// The tuples of a `conntrack -L` line.
fn entry_of(line: &str) -> Result<Entry, String> {
    let field = |key: &str, nth: usize| {
        let mut values = line
            .split(' ')
            .filter_map(|w| w.strip_prefix(key)?.strip_prefix('='));
        values.nth(nth).ok_or(format!("no {key} in {line}"))
    };
    let address = |ip: &str, port: &str, nth: usize| -> Result<SocketAddr, String> {
        let ip: IpAddr = field(ip, nth)?.parse().map_err(|_| line.to_owned())?;
        let port = field(port, nth)?.parse().map_err(|_| line.to_owned())?;
        Ok(SocketAddr::new(ip, port))
    };
    Ok(Entry {
        original_destination: address("dst", "dport", 0)?,
        reply_source: address("src", "sport", 1)?,
    })
}

/// Objects as a store; a finding that is an error is one of podpath's own.
pub fn store(objects: &Value) -> Result<Store, String> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let text = list.to_string();
    let input = Input::from_bytes("case", text.as_bytes()).map_err(|f| f.to_string())?;
    let (store, findings) = Store::load(&[input]);
    match findings.iter().find(|f| f.is_error()) {
        Some(finding) => Err(format!("refused: {finding}")),
        None => Ok(store),
    }
}

pub fn settings(config: &Value, environment: &Value, store: &Store) -> Result<Settings, String> {
    let config = KubeProxyConfiguration::of(config)?;
    let node = store
        .node(&config.hostname_override)
        .ok_or("no such node")?;
    let is = |key: &str| environment[key].as_bool().unwrap_or(false);
    let addresses = list(&environment["localAddresses"]).iter();
    let machine = Machine {
        addresses: addresses.filter_map(|a| text(a).parse().ok()).collect(),
        features: Features {
            random_fully: is("iptablesHasRandomFully"),
            nfacct: is("nfacctCounters"),
            tcp_be_liberal: is("nfConntrackTCPBeLiberal"),
        },
    };
    let family = if environment["ipFamily"] == "IPv6" {
        Family::V6
    } else {
        Family::V4
    };
    let (settings, wrong) = Settings::new(&config, node, &machine, family);
    if let Some((field, message)) = wrong.first() {
        return Err(format!("{field}: {message}"));
    }
    match environment["nodeIP"].as_str() {
        Some(ip) => equal(ip, &settings.node_ip.to_string()).map(|()| settings),
        None => Ok(settings),
    }
}

fn same(expected: &str, found: &rules::Chains) -> Result<(), String> {
    let differences = rules::differences(&rules::parse(expected)?, found);
    let count = differences.len();
    (count == 0)
        .then_some(())
        .ok_or(format!("rules differ\n{}", differences.join("\n")))
}

fn each(file: &Value, judge: impl Fn(&Value) -> Result<(), String>) -> Outcomes {
    let cases = list(&file["cases"]).iter();
    cases
        .map(|case| (text(&case["id"]).to_owned(), judge(case)))
        .collect()
}

pub fn equal(expected: &str, found: &str) -> Result<(), String> {
    (expected == found)
        .then_some(())
        .ok_or(format!("expected {expected}, found {found}"))
}

fn protocol(text: &str) -> Protocol {
    match text {
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => Protocol::Tcp,
    }
}

pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
