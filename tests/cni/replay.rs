//! Runs a case's plugin calls and compares after each step.

use super::compare;
use super::load::{Case, Step};
use super::names::Names;
use super::state;
use podpath::base::{NodeId, NsId, Origin};
use podpath::kube::cni::admin::apply;
use podpath::kube::cni::host::{CniState, Host, Namespaces, NodeNamespaces, Registry};
use podpath::kube::cni::list::{NetworkList, RuntimeConf};
use podpath::kube::cni::plan::{LinkOp, Where};
use podpath::kube::cni::skel::run;
use podpath::net::NetNs;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What came of a case.
#[derive(Default)]
pub struct Report {
    pub calls: usize,
    pub differences: Vec<String>,
    pub notes: Vec<String>,
    pub portmap_checks: Vec<u8>,
}

struct World {
    nss: NodeNamespaces,
    state: CniState,
    plugins: Registry,
    names: Names,
    results: BTreeMap<(String, String), Value>,
}

/// Replays a case.
pub fn replay(case: &Case) -> Report {
    let mut w = prepare(case);
    let mut r = Report::default();
    for (i, step) in case.steps.iter().enumerate() {
        let at = format!("step {i} {}", step.env["CNI_COMMAND"]);
        for b in step.spec["before"].as_array().into_iter().flatten() {
            let ns = b["ns"].as_str().expect("ns");
            shell(
                &mut w.nss,
                &Where::Pod(format!("/var/run/netns/{ns}")),
                b["sh"].as_str().expect("sh"),
            );
        }
        stdins(case, step, &w.results, &at, &mut r);
        calls(case, step, &mut w, &at, &mut r);
        state::compare(&at, &step.state, &w.nss, &mut w.names, &mut r);
        state::files(
            &at,
            &step.state["ipam_files"],
            &w.state.files,
            &mut r.differences,
        );
    }
    r
}

fn prepare(case: &Case) -> World {
    let mut node = NetNs::new(NsId(0), "node", NodeId(0));
    let lo = node.dev_by_name("lo").expect("lo").id;
    node.edit().set_up(lo, true).expect("lo up");
    let mut nss = NodeNamespaces::new(node);
    let containers: BTreeSet<&str> = case
        .steps
        .iter()
        .filter_map(|s| s.spec["c"].as_str())
        .collect();
    for (i, c) in containers.iter().enumerate() {
        let id = NsId(u32::try_from(i).expect("few containers") + 1);
        nss.add_pod(format!("/var/run/netns/{c}"), NetNs::new(id, *c, NodeId(0)));
    }
    for line in &case.prepare {
        shell(&mut nss, &Where::Node, line);
    }
    World {
        nss,
        state: CniState::new(7),
        plugins: Registry::standard(),
        names: Names::default(),
        results: BTreeMap::new(),
    }
}

/// The few commands the cases use.
fn shell(nss: &mut NodeNamespaces, at: &Where, line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let op = match words.as_slice() {
        ["ip", "link", "add", name, "type", "bridge"] => LinkOp::AddBridge {
            name: (*name).into(),
            mtu: None,
            mac: "02:aa:00:00:00:01".parse().expect("a MAC"),
            vlan_filtering: false,
        },
        ["ip", "link", "set", dev, "up"] => LinkOp::SetUp((*dev).into(), true),
        ["ip", "link", "del", dev] => LinkOp::DelLink((*dev).into()),
        ["ip", "route", "del", "default"] => LinkOp::DelRoute {
            dst: "0.0.0.0/0".parse().expect("a net"),
            dev: None,
        },
        ["ip", "addr", "add", net, "dev", dev] => {
            // `ip` itself sets no broadcast address, unlike the plugins.
            let id = nss.node();
            let ns = nss.get_mut(id).expect("the node");
            let d = ns.dev_by_name(dev).expect("the device").id;
            let a = podpath::net::IfAddr::new(net.parse().expect("an address"), Origin::Kernel);
            return ns.edit().addr_add(d, a).expect("the address");
        }
        ["ip", "addr", "flush", "dev", dev] => {
            let Where::Pod(p) = at else {
                panic!("flush on the node")
            };
            let id = nss.by_path(p).expect("the pod");
            let ns = nss.get_mut(id).expect("the pod");
            let d = ns.dev_by_name(dev).expect("the device");
            let (d, nets) = (d.id, d.addrs.iter().map(|a| a.net).collect::<Vec<_>>());
            nets.into_iter()
                .for_each(|n| ns.edit().addr_del(d, n).expect("the address goes"));
            return;
        }
        _ => panic!("no such command here: {line}"),
    };
    apply(nss, at, &op, &Origin::Kernel).unwrap_or_else(|e| panic!("{line}: {e}"));
}

fn key(step: &Step) -> (String, String) {
    let spec = |k: &str, default: &str| step.spec[k].as_str().unwrap_or(default).to_owned();
    (spec("c", ""), spec("ifname", "eth0"))
}

/// What libcni would hand each plugin is what was recorded: recorded results go in, so names are the
/// recorded ones.
fn stdins(
    case: &Case,
    step: &Step,
    results: &BTreeMap<(String, String), Value>,
    at: &str,
    r: &mut Report,
) {
    let conf = if step.spec["conf"].is_null() {
        &case.conflist
    } else {
        &step.spec["conf"]
    };
    let text = conf.to_string().replace("@STATE", "/var/lib/cni");
    let (Some(list), _) = NetworkList::parse("recording", &text) else {
        return r
            .differences
            .push(format!("{at}: the conflist does not parse"));
    };
    let rt = RuntimeConf {
        capabilities: step.spec["runtime"]
            .as_object()
            .cloned()
            .unwrap_or_default(),
        ..RuntimeConf::default()
    };
    let cmd = step.env["CNI_COMMAND"].as_str();
    let mut prev = results
        .get(&key(step))
        .cloned()
        .filter(|_| cmd == "CHECK" || cmd == "DEL");
    for (n, call) in step.calls.iter().enumerate() {
        let i = if cmd == "DEL" {
            list.plugins.len() - 1 - n
        } else {
            n
        };
        let ours = list.stdin(i, prev.as_ref(), &rt);
        if ours != call.stdin {
            r.differences.push(format!(
                "{at} call {n}: stdin recorded {}, ours {ours}",
                call.stdin
            ));
        }
        if cmd == "ADD" && call.rc == 0 {
            prev = Some(call.stdout.clone());
        }
    }
}

fn calls(case: &Case, step: &Step, w: &mut World, at: &str, r: &mut Report) {
    let mut env = step.env.clone();
    env.insert("CNI_PATH".into(), "/opt/cni/bin".into());
    for (n, call) in step.calls.iter().enumerate() {
        r.calls += 1;
        let name = if case.ipam_only {
            call.stdin["ipam"]["type"].as_str().unwrap_or("")
        } else {
            &call.plugin
        };
        let stdin = w.names.translate(&call.stdin.to_string());
        let origin = Origin::controller("cni", case.name.as_str());
        let mut host = Host::new(&mut w.nss, &mut w.state, &w.plugins, origin);
        let plugin = host
            .plugins()
            .get(name)
            .unwrap_or_else(|| panic!("no plugin {name}"));
        let out = run(plugin, &env, &stdin, &mut host);
        if name == "portmap" && env["CNI_COMMAND"] == "CHECK" {
            r.portmap_checks.push(out.rc);
            r.notes.push(format!(
                "{at}: portmap CHECK of IPv4 alone succeeds (its defect is not copied)"
            ));
            continue;
        }
        let at = format!("{at} call {n} {name}");
        if i64::from(out.rc) != call.rc {
            r.differences.push(format!(
                "{at}: rc recorded {}, ours {} {}",
                call.rc, out.rc, out.stdout
            ));
        }
        let ours = out.value.clone().unwrap_or(Value::Null);
        compare::json(&at, &call.stdout, &ours, &mut w.names, &mut r.differences);
        let reread = if out.stdout.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&out.stdout).expect("JSON")
        };
        assert_eq!(reread, ours, "what is printed is what is answered");
    }
    let done = step.calls.iter().all(|c| c.rc == 0);
    match step.env["CNI_COMMAND"].as_str() {
        "ADD" if done => {
            w.results.insert(
                key(step),
                step.calls.last().map_or(Value::Null, |c| c.stdout.clone()),
            );
        }
        "DEL" if done => {
            w.results.remove(&key(step));
        }
        _ => {}
    }
}
