//! CNI under arbitrary input: host-local's promises, configurations changed at random, objects from manifests.

use podpath::base::{NodeId, NsId, Origin};
use podpath::kube::cni::calico::{Encap, IpPool};
use podpath::kube::cni::flannel::{Backend, NetConf};
use podpath::kube::cni::list::{NetworkList, Results, RuntimeConf};
use podpath::kube::cni::{CniState, Host, NodeNamespaces, Registry};
use podpath::kube::manifest::Input;
use podpath::kube::store::Store;
use podpath::net::NetNs;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;

fn world() -> NodeNamespaces {
    let mut nss = NodeNamespaces::new(NetNs::new(NsId(0), "n1", NodeId(0)));
    nss.add_pod("/run/netns/a", NetNs::new(NsId(1), "a", NodeId(0)));
    nss
}

fn runtime(id: &str) -> RuntimeConf {
    RuntimeConf {
        container_id: id.into(),
        netns: "/run/netns/a".into(),
        ifname: "eth0".into(),
        ..RuntimeConf::default()
    }
}

fn parse(v: &Value) -> Option<NetworkList> {
    NetworkList::parse("test", &v.to_string()).0
}

/// Leases by address, from the files.
fn leases(state: &CniState) -> BTreeMap<IpAddr, String> {
    let dir = "/var/lib/cni/networks/n/";
    let files = state
        .files
        .iter()
        .filter_map(|(k, v)| Some((k.strip_prefix(dir)?, v)));
    files
        .filter_map(|(k, v)| Some((k.parse().ok()?, v.clone())))
        .collect()
}

proptest! {
    #[test]
    fn host_local_never_leases_twice_nor_the_gateway(
        ops in proptest::collection::vec((any::<bool>(), 0u8..12), 1..60),
        prefix in 27u8..30,
        gateway in 1u8..3,
    ) {
        let gw = format!("10.0.0.{gateway}");
        let range = json!({ "subnet": format!("10.0.0.0/{prefix}"), "gateway": gw });
        // A chain of one: the IPAM plugin called as a main plugin would call it.
        let conf = json!({ "cniVersion": "1.0.0", "name": "n", "plugins": [
            { "type": "host-local", "ipam": { "type": "host-local", "ranges": [[range]] } } ] });
        let list = parse(&conf).unwrap();
        let (mut nss, mut state, plugins) = (world(), CniState::new(1), Registry::standard());
        let mut results = Results::new();
        let room = (1usize << (32 - prefix)) - 3;
        for (add, c) in ops {
            let rt = runtime(&format!("c{c}"));
            let before = leases(&state);
            let mut host = Host::new(&mut nss, &mut state, &plugins, Origin::Kernel);
            if add {
                let has = before.values().any(|v| *v == format!("c{c}\r\neth0"));
                let r = list.add(&rt, &mut host, &mut results).1;
                prop_assert_eq!(r.is_ok(), !has && before.len() < room, "{:?}", r);
            } else {
                list.del(&rt, &mut host, &mut results).1.unwrap();
            }
            let after = leases(&state);
            prop_assert!(!after.contains_key(&gw.parse::<IpAddr>().unwrap()));
            let mut owners: Vec<&String> = after.values().collect();
            owners.sort();
            owners.dedup();
            prop_assert_eq!(owners.len(), after.len(), "one address per container");
            prop_assert!(after.len() <= before.len() + 1);
        }
    }

    #[test]
    fn a_changed_configuration_is_answered_and_never_panics(
        which in 0usize..SEEDS.len(),
        changes in proptest::collection::vec((any::<u16>(), 0usize..WORDS.len()), 1..5),
    ) {
        let mut conf: Value = serde_json::from_str(SEEDS[which]).unwrap();
        for (at, word) in changes {
            let word: Value = serde_json::from_str(WORDS[word]).unwrap();
            let leaves = count(&conf);
            replace(&mut conf, usize::from(at) % leaves.max(1), &mut 0, &word);
        }
        let Some(list) = parse(&conf) else { return Ok(()) };
        let (mut nss, mut state, plugins) = (world(), CniState::new(1), Registry::standard());
        let env = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\n\
                   FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
        state.files.insert("/run/flannel/subnet.env".into(), env.into());
        let mut host = Host::new(&mut nss, &mut state, &plugins, Origin::Kernel);
        let (rt, mut results) = (runtime("c1"), Results::new());
        let added = list.add(&rt, &mut host, &mut results);
        prop_assert!(added.1.is_ok() || added.0.last().is_none_or(|c| c.output.rc == 1));
        let _ = list.check(&rt, &mut host, &results);
        let _ = list.del(&rt, &mut host, &mut results);
    }
}

const SEEDS: &[&str] = &[
    r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge","bridge":"cni0","isGateway":true,
        "isDefaultGateway":true,"ipMasq":true,"hairpinMode":true,"mtu":1400,"vlan":5,
        "ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00::/64"}]],
        "routes":[{"dst":"0.0.0.0/0"}]}},{"type":"portmap"},
        {"type":"tuning","mac":"c2:b0:57:49:47:f1","mtu":1300,"sysctl":{"net.ipv4.conf.IFNAME.arp_filter":"1"}}]}"#,
    r#"{"cniVersion":"0.4.0","name":"n","plugins":[{"type":"ptp","mtu":1460,"ipam":{"type":"static",
        "addresses":[{"address":"10.2.0.5/24","gateway":"10.2.0.1"}],"routes":[{"dst":"10.0.0.0/8","gw":"10.2.0.1"}]}},
        {"type":"firewall"}]}"#,
    r#"{"cniVersion":"0.3.1","name":"n","plugins":[{"type":"flannel","delegate":{"hairpinMode":true}},
        {"type":"portmap"}]}"#,
    r#"{"cniVersion":"0.2.0","name":"n","plugins":[{"type":"bridge","ipam":{"type":"host-local",
        "subnet":"10.3.0.0/30","rangeStart":"10.3.0.2","rangeEnd":"10.3.0.2","gateway":"10.3.0.1"}},{"type":"loopback"}]}"#,
];

const WORDS: &[&str] = &[
    "null",
    "true",
    "\"\"",
    "-1",
    "4095",
    "1e300",
    "[]",
    "{}",
    "[[]]",
    "\"lo\"",
    "\"eth0\"",
    "\"0.0.0.0/0\"",
    "\"::/0\"",
    "\"255.255.255.255\"",
    "\"10.1.0.255\"",
    "\"fd00::1/128\"",
    "\"host-local\"",
    "\"calico\"",
    "\"net/../../x\"",
    "65536",
    "\"10.1.0.0/31\"",
    "{\"subnet\":\"255.255.255.248/29\"}",
    "\"0.4.0\"",
];

/// How many values a document has that are no objects, lists included.
fn count(v: &Value) -> usize {
    match v {
        Value::Object(o) => o.values().map(count).sum(),
        Value::Array(a) => 1 + a.iter().map(count).sum::<usize>(),
        _ => 1,
    }
}

fn replace(v: &mut Value, want: usize, at: &mut usize, word: &Value) {
    if !v.is_object() {
        *at += 1;
        if *at == want + 1 {
            *v = word.clone();
            return;
        }
    }
    match v {
        Value::Object(o) => o.values_mut().for_each(|x| replace(x, want, at, word)),
        Value::Array(a) => a.iter_mut().for_each(|x| replace(x, want, at, word)),
        _ => {}
    }
}

#[test]
fn flannel_and_calico_are_read_from_manifests() {
    let text = r#"
apiVersion: v1
kind: ConfigMap
metadata: { name: kube-flannel-cfg, namespace: kube-flannel }
data:
  cni-conf.json: |
    { "name": "cbr0", "cniVersion": "0.3.1", "plugins": [ { "type": "flannel", "delegate": {} } ] }
  net-conf.json: |
    { "Network": "10.244.0.0/16", "Backend": { "Type": "vxlan", "Port": 4789, "VNI": 4096 } }
---
apiVersion: crd.projectcalico.org/v1
kind: IPPool
metadata: { name: default-ipv4-ippool }
spec:
  cidr: 10.245.0.0/16
  blockSize: 26
  ipipMode: CrossSubnet
  vxlanMode: Never
  natOutgoing: true
  nodeSelector: all()
  allowedUses: [Workload]
---
apiVersion: crd.projectcalico.org/v1
kind: IPPool
metadata: { name: bad }
spec: { cidr: 10.246.0.0/16, ipipMode: Sometimes }
"#;
    let (store, _) = Store::load(&[Input::new("c.yaml", text)]);
    let (flannel, found) = NetConf::from_store(&store);
    assert!(found.is_empty(), "{found:?}");
    let (conf, list) = flannel.unwrap();
    let Backend::Vxlan { vni, port, .. } = conf.backend else {
        panic!("{conf:?}")
    };
    assert_eq!(
        (vni, port, list.unwrap().name.as_str()),
        (4096, 4789, "cbr0")
    );
    let (pools, found) = IpPool::from_store(&store);
    let [p] = pools.as_slice() else {
        panic!("{pools:?}")
    };
    assert_eq!(
        (p.ipip, p.vxlan, p.block_size),
        (Encap::CrossSubnet, Encap::Never, 26)
    );
    assert!(p.for_workloads && !p.for_tunnels && p.nat_outgoing);
    let said: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].starts_with("c.yaml:") && said[0].contains("Sometimes"),
        "{said:?}"
    );
}
