//! Plugin behaviour that the recordings do not reach: VLANs, older versions, runtime ranges, limits.

use podpath::base::{NodeId, NsId, Origin};
use podpath::kube::cni::list::{NetworkList, Results, RuntimeConf};
use podpath::kube::cni::{CniState, Host, Namespaces, NodeNamespaces, Registry};
use podpath::net::NetNs;
use serde_json::{Value, json};

struct Node {
    nss: NodeNamespaces,
    state: CniState,
    plugins: Registry,
    results: Results,
}

impl Node {
    fn new() -> Self {
        let mut nss = NodeNamespaces::new(NetNs::new(NsId(0), "n1", NodeId(0)));
        nss.add_pod("/run/netns/a", NetNs::new(NsId(1), "a", NodeId(0)));
        Node {
            nss,
            state: CniState::new(1),
            plugins: Registry::standard(),
            results: Results::new(),
        }
    }

    fn ns(&self) -> &NetNs {
        self.nss.get(self.nss.node()).expect("the node")
    }

    fn run(&mut self, cmd: &str, conf: &Value, capabilities: Value) -> Result<Value, String> {
        let list = NetworkList::parse("test", &conf.to_string())
            .0
            .expect("a list");
        let rt = RuntimeConf {
            container_id: "c1".into(),
            netns: "/run/netns/a".into(),
            ifname: "eth0".into(),
            capabilities: capabilities.as_object().cloned().unwrap_or_default(),
            ..RuntimeConf::default()
        };
        let mut host = Host::new(
            &mut self.nss,
            &mut self.state,
            &self.plugins,
            Origin::Kernel,
        );
        let done = match cmd {
            "ADD" => list.add(&rt, &mut host, &mut self.results).1,
            "CHECK" => list
                .check(&rt, &mut host, &self.results)
                .1
                .map(|()| Value::Null),
            _ => list
                .del(&rt, &mut host, &mut self.results)
                .1
                .map(|()| Value::Null),
        };
        done.map_err(|e| e.to_string())
    }
}

fn bridge(version: &str, more: Value) -> Value {
    let mut plugin = json!({ "type": "bridge", "isGateway": true,
        "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.1.0.0/24" }]] } });
    for (k, v) in more.as_object().into_iter().flatten() {
        plugin[k] = v.clone();
    }
    json!({ "cniVersion": version, "name": "n", "plugins": [plugin] })
}

#[test]
fn a_vlan_has_its_gateway_on_a_veth_of_its_own() {
    let mut n = Node::new();
    let r = n
        .run("ADD", &bridge("1.0.0", json!({ "vlan": 100 })), Value::Null)
        .unwrap();
    assert_eq!(r["interfaces"][3]["name"], "cni0.100");
    let gw = n.ns().dev_by_name("cni0.100").unwrap();
    assert!(gw.addrs.iter().any(|a| a.net.to_string() == "10.1.0.1/24"));
    let br = n.ns().dev_by_name("cni0").unwrap().bridge().unwrap();
    assert!(br.vlan_filtering);
    for p in &br.ports {
        let (_, port) = n.ns().dev(*p).unwrap().master.as_ref().unwrap();
        assert_eq!((port.pvid, port.vlans.get(&100)), (Some(100), Some(&true)));
    }
    assert_eq!(br.ports.len(), 2, "the pod's and the gateway's");
    let e = n
        .run(
            "ADD",
            &bridge("1.0.0", json!({ "vlan": 5000 })),
            Value::Null,
        )
        .unwrap_err();
    assert!(
        e.ends_with("invalid VLAN ID 5000 (must be between 0 and 4094)"),
        "{e}"
    );
}

#[test]
fn promiscuous_mode_and_hairpin_exclude_each_other() {
    let mut n = Node::new();
    let both = json!({ "promiscMode": true, "hairpinMode": true });
    let e = n
        .run("ADD", &bridge("1.0.0", both), Value::Null)
        .unwrap_err();
    assert!(e.contains("cannot set hairpin mode and promiscuous mode at the same time."));
    assert!(
        n.ns().dev_by_name("cni0").is_none(),
        "refused before anything is made"
    );
    let conf = bridge("1.0.0", json!({ "promiscMode": true }));
    n.run("ADD", &conf, Value::Null).unwrap();
    assert!(n.ns().dev_by_name("cni0").unwrap().promisc);
    n.run("CHECK", &conf, Value::Null).unwrap();
}

#[test]
fn old_versions_answer_in_their_shape_and_have_no_check() {
    let mut n = Node::new();
    let conf = bridge("0.2.0", json!({}));
    let r = n.run("ADD", &conf, Value::Null).unwrap();
    assert_eq!(
        r,
        json!({ "cniVersion": "0.2.0", "ip4": { "ip": "10.1.0.2/24", "gateway": "10.1.0.1" }, "dns": {} })
    );
    let e = n.run("CHECK", &conf, Value::Null).unwrap_err();
    assert!(e.contains("does not support the CHECK command"), "{e}");
    n.run("DEL", &conf, Value::Null).unwrap();
    assert!(!n.state.files.keys().any(|f| f.ends_with("10.1.0.2")));
}

#[test]
fn the_runtimes_ranges_come_before_the_configured_ones() {
    let mut n = Node::new();
    let conf = bridge("1.0.0", json!({ "capabilities": { "ipRanges": true } }));
    let ranges = json!({ "ipRanges": [[{ "subnet": "10.9.0.0/24" }]] });
    let r = n.run("ADD", &conf, ranges).unwrap_err();
    // Two IPv4 ranges mean two gateways, which one bridge does not take.
    assert!(
        r.contains("\"cni0\" already has an IP address different from 10.1.0.1/24"),
        "{r}"
    );
    assert_eq!(
        n.state.files["/var/lib/cni/networks/n/last_reserved_ip.0"],
        "10.9.0.2"
    );
    assert_eq!(
        n.state.files["/var/lib/cni/networks/n/last_reserved_ip.1"],
        "10.1.0.2"
    );
    assert!(
        !n.state
            .files
            .contains_key("/var/lib/cni/networks/n/10.9.0.2"),
        "given back"
    );
}

#[test]
fn a_plugin_that_is_its_own_ipam_ends() {
    let conf = json!({ "cniVersion": "1.0.0", "name": "n", "plugins": [
        { "type": "ptp", "ipam": { "type": "ptp" } } ] });
    let e = Node::new().run("ADD", &conf, Value::Null).unwrap_err();
    assert!(e.contains("is it its own IPAM plugin?"), "{e}");
}

#[test]
fn tuning_puts_back_what_it_changed() {
    let mut n = Node::new();
    let mut conf = bridge("1.0.0", json!({}));
    let tuning = json!({ "type": "tuning", "mac": "02:00:00:00:00:99", "mtu": 1300 });
    conf["plugins"].as_array_mut().unwrap().push(tuning);
    let r = n.run("ADD", &conf, Value::Null).unwrap();
    assert_eq!(r["interfaces"][2]["mac"], "02:00:00:00:00:99");
    let pod = n.nss.get(NsId(1)).unwrap().dev_by_name("eth0").unwrap();
    assert_eq!(
        (pod.mac.to_string().as_str(), pod.mtu),
        ("02:00:00:00:00:99", 1300)
    );
    let saved = &n.state.files["/run/cni/tuning/c1_eth0.json"];
    assert!(saved.contains("\"mtu\":1500"), "{saved}");
    n.run("DEL", &conf, Value::Null).unwrap();
    assert!(!n.state.files.contains_key("/run/cni/tuning/c1_eth0.json"));
}
