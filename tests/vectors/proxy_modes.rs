//! kube-proxy's other modes: nftables.json and ipvs.json.

use crate::flows::{self, Node, Rules};
use crate::kube_proxy::{Outcomes, addresses as ips, equal, list, settings, store, text};
use crate::nft_script::State;
use crate::rules;
use podpath::kube::proxy::ipvs::{Desired, SetKind};
use podpath::kube::proxy::{Settings, View, nftables};
use podpath::kube::service::Family;
use podpath::nf;
use serde_json::{Value, json};

/// nftables.json: the rules, and where packets go.
pub fn nftables(file: &Value) -> Outcomes {
    let mut out = Outcomes::new();
    for case in list(&file["cases"]) {
        let id = text(&case["id"]);
        if case["expect"].get("nft").is_some() {
            out.push((format!("{id}/rules"), nft_rules(case)));
        }
        if case["expect"].get("flows").is_some() {
            out.push((format!("{id}/flows"), nft_flows(case)));
        }
    }
    out
}

fn nft_rules(case: &Value) -> Result<(), String> {
    let (view, settings) = prepared(case)?;
    let expected = State::of(text(&case["expect"]["nft"]))?;
    let found = State::of(&nftables::sync(&view, &settings))?;
    let differences = expected.differences(&found);
    let count = differences.len();
    (count == 0)
        .then_some(())
        .ok_or(format!("{count} differences\n{}", differences.join("\n")))
}

/// A case's flows, on a node whose rules kube-proxy made.
fn nft_flows(case: &Value) -> Result<(), String> {
    let (view, settings) = prepared(case)?;
    let node = Node {
        family: match settings.family {
            Family::V4 => nf::Family::V4,
            Family::V6 => nf::Family::V6,
        },
        addresses: ips(&case["environment"]["localAddresses"]),
        // Loopback node ports are iptables mode's alone.
        route_localnet: false,
        rules: vec![Rules::Nft(nftables::sync(&view, &settings))],
    };
    flows::judge(&node, list(&case["expect"]["flows"]))
}

/// Judges one part of a case of ipvs.json.
type Judge = fn(&Value, &Desired, &Settings) -> Result<(), String>;

/// ipvs.json: virtual servers, addresses, sets, rules.
pub fn ipvs(file: &Value) -> Outcomes {
    let mut out = Outcomes::new();
    for case in list(&file["cases"]) {
        let id = text(&case["id"]);
        let parts: [(&str, Judge); 5] = [
            ("virtual_servers", servers),
            ("ipvsadm", |e, d, s| {
                equal(text(&e["ipvsadm_Sn"]), &d.ipvsadm(&s.ipvs))
            }),
            ("kube_ipvs0", addresses),
            ("ipsets", sets),
            ("rules", ipvs_rules),
        ];
        for (part, judge) in parts {
            let judged = prepared(case).and_then(|(view, settings)| {
                judge(&case["expect"], &Desired::of(&view, &settings), &settings)
            });
            out.push((format!("{id}/{part}"), judged));
        }
    }
    out
}

fn prepared(case: &Value) -> Result<(View, Settings), String> {
    let store = store(&case["objects"])?;
    let environment = &case["environment"];
    let mut settings = settings(&case["proxyConfig"], environment, &store)?;
    let cidrs = list(&environment["serviceCIDRs"]).iter();
    let cidrs: Vec<_> = cidrs.filter_map(|c| text(c).parse().ok()).collect();
    settings.know_service_cidrs(&cidrs);
    let view = View::of(&store, settings.family);
    Ok((view, settings))
}

fn servers(expect: &Value, desired: &Desired, settings: &Settings) -> Result<(), String> {
    let mut found: Vec<Value> = Vec::new();
    for (key, server) in &desired.servers {
        let real = server
            .real
            .iter()
            .map(|to| json!({"address": to.ip().to_string(), "port": to.port(), "weight": 1}));
        let mut one = json!({
            "address": key.address.ip().to_string(),
            "port": key.address.port(),
            "protocol": key.protocol.to_string().to_uppercase(),
            "scheduler": settings.ipvs.scheduler,
            "realServers": real.collect::<Vec<_>>(),
        });
        if let Some(seconds) = server.persistent {
            one["persistentTimeout"] = json!(seconds);
        }
        found.push(one);
    }
    found.sort_by_key(|v| text(&v["address"]).to_owned());
    equal_json(&expect["virtual_servers"], &Value::Array(found))
}

fn addresses(expect: &Value, desired: &Desired, _: &Settings) -> Result<(), String> {
    let mut found: Vec<String> = desired.addresses.iter().map(ToString::to_string).collect();
    found.sort();
    equal_json(&expect["kube_ipvs0"], &json!(found))
}

/// Sets without an entry are not listed there.
fn sets(expect: &Value, desired: &Desired, settings: &Settings) -> Result<(), String> {
    let mut found = json!({});
    for kind in SetKind::ALL {
        if let Some(entries) = desired.sets.get(&kind) {
            let name = kind.name(settings.family);
            found[name] = json!({"type": kind.type_name(), "entries": entries});
        }
    }
    let mut expected = expect["ipsets"].clone();
    for set in expected
        .as_object_mut()
        .into_iter()
        .flat_map(|o| o.values_mut())
    {
        if let Some(entries) = set["entries"].as_array_mut() {
            entries.sort_by_key(|e| text(e).to_owned());
        }
    }
    equal_json(&expected, &found)
}

fn ipvs_rules(expect: &Value, desired: &Desired, settings: &Settings) -> Result<(), String> {
    let expected = rules::parse(text(&expect["iptables_save"]))?;
    let found = rules::parse(&desired.rules(settings))?;
    let differences = rules::differences(&expected, &found);
    let count = differences.len();
    (count == 0)
        .then_some(())
        .ok_or(format!("{count} differences\n{}", differences.join("\n")))
}

fn equal_json(expected: &Value, found: &Value) -> Result<(), String> {
    (expected == found)
        .then_some(())
        .ok_or(format!("differs\n- {expected}\n+ {found}"))
}
