//! What flannel, kindnet and Calico lay on nodes and in pods: applied to namespaces, read back as `ip`
//! shows it.

use podpath::base::{NodeId, NsId, Origin, Span};
use podpath::kube::cni::admin::apply_all;
use podpath::kube::cni::calico::{self, CalicoNode, Encap, IpPool, Ipam};
use podpath::kube::cni::flannel::{self, FlannelNode, NetConf};
use podpath::kube::cni::kindnet::{self, KindnetNode};
use podpath::kube::cni::list::{NetworkList, Results, RuntimeConf};
use podpath::kube::cni::{CniState, Host, Namespaces, NodeNamespaces, Registry};
use podpath::net::{DeviceKind, IfAddr, LinkSpec, NetNs, RouteKind, Scope, table};
use podpath::wire::MacAddr;
use serde_json::{Value, json};

fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

/// A node with `eth0` at these addresses, and a pod namespace at `/run/netns/a`.
fn node(name: &str, addresses: &[&str]) -> NodeNamespaces {
    let mut ns = NetNs::new(NsId(0), name, NodeId(0));
    let mut e = ns.edit();
    let spec = LinkSpec {
        name: "eth0".into(),
        kind: DeviceKind::Uplink,
        mac: mac(1),
        mtu: None,
        origin: Origin::Kernel,
    };
    let id = e.link_add(spec).unwrap();
    for a in addresses {
        e.addr_add(id, IfAddr::new(a.parse().unwrap(), Origin::Kernel))
            .unwrap();
    }
    e.set_up(id, true).unwrap();
    drop(e);
    let mut nss = NodeNamespaces::new(ns);
    nss.add_pod("/run/netns/a", NetNs::new(NsId(1), "a", NodeId(0)));
    nss
}

fn routes(ns: &NetNs, v4: bool) -> Vec<String> {
    let all = ns
        .fib()
        .table(table::MAIN)
        .map(|t| t.routes(v4))
        .unwrap_or_default();
    let mut out = Vec::new();
    for r in all.iter().filter(|r| r.protocol != 2) {
        let mut s = if r.kind == RouteKind::Unicast {
            r.dst.to_string()
        } else {
            format!("{} {}", r.kind.name(), r.dst)
        };
        for n in &r.nexthops {
            s += &n.via.map(|v| format!(" via {v}")).unwrap_or_default();
            s += &n
                .dev
                .map(|d| format!(" dev {}", ns.dev_name(d)))
                .unwrap_or_default();
        }
        s += &(if r.protocol == 3 {
            String::new()
        } else {
            format!(" proto {}", r.protocol)
        });
        s += if v4 && r.scope == Scope::Link {
            " scope link"
        } else {
            ""
        };
        s += if r.nexthops.iter().any(|n| n.onlink) {
            " onlink"
        } else {
            ""
        };
        out.push(s);
    }
    out
}

fn here(nss: &NodeNamespaces) -> &NetNs {
    nss.get(nss.node()).unwrap()
}

fn flannel_node(n: u8) -> FlannelNode {
    FlannelNode {
        name: format!("n{n}"),
        public_ip: Some([192, 0, 2, n].into()),
        public_ipv6: None,
        subnet: Some(format!("10.244.{n}.0/24").parse().unwrap()),
        ipv6_subnet: None,
        vtep_mac: mac(10 + n),
        vtep_mac_v6: mac(20 + n),
        iface: "eth0".into(),
        iface_mtu: 1500,
        on_link: vec!["192.0.2.0/24".parse().unwrap()],
    }
}

fn flannel_routes(conf: &str) -> (NodeNamespaces, NetConf) {
    let (conf, found) = NetConf::parse(conf, &Span::default());
    assert!(found.is_empty(), "{found:?}");
    let conf = conf.unwrap();
    let all: Vec<FlannelNode> = (1..4).map(flannel_node).collect();
    let mut nss = node("n1", &["192.0.2.1/24"]);
    let ops = flannel::plan(&conf, &all[0], &all);
    apply_all(&mut nss, &ops, &Origin::controller("flannel", "test")).unwrap();
    (nss, conf)
}

#[test]
fn flannel_vxlan_has_a_neighbour_an_fdb_entry_and_a_route_per_node() {
    let (nss, conf) = flannel_routes(r#"{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}"#);
    let ns = here(&nss);
    let d = ns.dev_by_name("flannel.1").unwrap();
    assert_eq!(
        (d.mtu, d.mac, d.addrs[0].net.to_string()),
        (1450, mac(11), "10.244.1.0/32".to_owned())
    );
    assert_eq!(
        routes(ns, true),
        [
            "10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink",
            "10.244.3.0/24 via 10.244.3.0 dev flannel.1 onlink"
        ]
    );
    let n = ns.neigh().get(d.id, "10.244.2.0".parse().unwrap()).unwrap();
    assert_eq!((n.state.name(), n.lladdr), ("PERMANENT", mac(12)));
    let DeviceKind::Vxlan(v) = &d.kind else {
        panic!("{:?}", d.kind)
    };
    assert_eq!((v.vni, v.port, v.learning), (1, 8472, false));
    assert_eq!(
        v.fdb[&mac(12)][0].ip,
        "192.0.2.2".parse::<std::net::IpAddr>().unwrap()
    );
    assert_eq!(
        flannel::subnet_env(&conf, &flannel_node(1), true),
        "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
    );
}

#[test]
fn flannel_without_encapsulation_routes_to_the_nodes() {
    let (nss, conf) = flannel_routes(r#"{"Network":"10.244.0.0/16","Backend":{"Type":"host-gw"}}"#);
    let plain = [
        "10.244.2.0/24 via 192.0.2.2 dev eth0",
        "10.244.3.0/24 via 192.0.2.3 dev eth0",
    ];
    assert_eq!(routes(here(&nss), true), plain);
    assert_eq!(flannel::node::pod_mtu(&conf, &flannel_node(1)), 1500);
    let (nss, _) = flannel_routes(
        r#"{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan","DirectRouting":true}}"#,
    );
    assert_eq!(routes(here(&nss), true), plain);
    let (nss, conf) = flannel_routes(r#"{"Network":"10.244.0.0/16","Backend":{"Type":"ipip"}}"#);
    assert_eq!(
        routes(here(&nss), true)[0],
        "10.244.2.0/24 via 192.0.2.2 dev flannel.ipip onlink"
    );
    assert_eq!(flannel::node::pod_mtu(&conf, &flannel_node(1)), 1480);
}

fn runtime() -> RuntimeConf {
    RuntimeConf {
        container_id: "c1".into(),
        netns: "/run/netns/a".into(),
        ifname: "eth0".into(),
        args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=nginx".into(),
        ..RuntimeConf::default()
    }
}

fn list(v: Value) -> NetworkList {
    let (l, found) = NetworkList::parse("10.conflist", &v.to_string());
    assert!(found.is_empty(), "{found:?}");
    l.unwrap()
}

#[test]
fn the_flannel_plugin_delegates_to_bridge_and_del_undoes_it() {
    let conf = list(json!({ "name": "cbr0", "cniVersion": "0.3.1", "plugins": [
        { "type": "flannel", "delegate": { "hairpinMode": true, "isDefaultGateway": true } },
        { "type": "portmap", "capabilities": { "portMappings": true } } ] }));
    let mut nss = node("n1", &["192.0.2.1/24"]);
    let (mut state, plugins, mut results) =
        (CniState::new(1), Registry::standard(), Results::new());
    let env = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\n\
               FLANNEL_IPMASQ=true\n";
    let mut rt = runtime();
    rt.args = String::new();
    let mut host = Host::new(&mut nss, &mut state, &plugins, Origin::Kernel);
    let (_, missing) = conf.add(&rt, &mut host, &mut results);
    assert!(
        missing
            .unwrap_err()
            .msg
            .contains("open /run/flannel/subnet.env: no such file or directory")
    );
    host.state
        .files
        .insert("/run/flannel/subnet.env".into(), env.into());
    let (calls, result) = conf.add(&rt, &mut host, &mut results);
    let result = result.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(result["ips"][0]["address"], "10.244.1.2/24");
    assert_eq!(
        result["routes"],
        json!([{ "dst": "10.244.0.0/16" }, { "dst": "0.0.0.0/0", "gw": "10.244.1.1" }])
    );
    assert_eq!(calls.len(), 2);
    let saved: Value = serde_json::from_str(&host.state.files["/var/lib/cni/flannel/c1"]).unwrap();
    assert_eq!(
        (&saved["type"], &saved["ipMasq"], &saved["mtu"]),
        (&json!("bridge"), &json!(false), &json!(1450))
    );
    conf.del(&rt, &mut host, &mut results).1.unwrap();
    drop(host);
    assert!(here(&nss).devices().all(|d| !d.name.starts_with("veth")));
    assert!(!state.files.contains_key("/var/lib/cni/flannel/c1"));
    assert!(
        !state
            .files
            .contains_key("/var/lib/cni/networks/cbr0/10.244.1.2")
    );
}

#[test]
fn kindnet_routes_per_node_and_its_conflist_works() {
    let nodes: Vec<KindnetNode> = (1..4u8)
        .map(|n| KindnetNode {
            name: format!("n{n}"),
            addresses: vec![
                [192, 0, 2, n].into(),
                format!("2001:db8::{n}").parse().unwrap(),
            ],
            pod_cidrs: vec![
                format!("10.244.{n}.0/24").parse().unwrap(),
                format!("fd00:10:244:{n}::/64").parse().unwrap(),
            ],
        })
        .collect();
    let mut nss = node("n1", &["192.0.2.1/24", "2001:db8::1/64"]);
    apply_all(&mut nss, &kindnet::plan(&nodes[0], &nodes), &Origin::Kernel).unwrap();
    assert_eq!(
        routes(here(&nss), true),
        [
            "10.244.2.0/24 via 192.0.2.2 dev eth0",
            "10.244.3.0/24 via 192.0.2.3 dev eth0"
        ]
    );
    assert_eq!(
        routes(here(&nss), false)[0],
        "fd00:10:244:2::/64 via 2001:db8::2 dev eth0"
    );
    let conf = kindnet::network(&nodes[0], Some(1500)).unwrap();
    let (mut state, plugins) = (CniState::new(1), Registry::standard());
    let mut host = Host::new(&mut nss, &mut state, &plugins, Origin::Kernel);
    let mut rt = runtime();
    rt.args = String::new();
    let r = conf
        .add(&rt, &mut host, &mut Results::new())
        .1
        .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(r["ips"][1]["address"], "fd00:10:244:1::2/64");
    assert!(
        host.state
            .files
            .contains_key("/run/cni-ipam-state/kindnet/10.244.1.2")
    );
}

fn calico_nodes(other: &str) -> Vec<CalicoNode> {
    let one = |name: &str, address: &str, n: u8| CalicoNode {
        name: name.into(),
        addresses: vec![address.parse().unwrap()],
        iface: "eth0".into(),
        iface_mtu: 1500,
        ipip_tunnel: None,
        vxlan_tunnel: None,
        vxlan_v6_tunnel: None,
        vtep_mac: mac(10 + n),
        vtep_mac_v6: mac(20 + n),
    };
    vec![one("n1", "192.0.2.1/24", 1), one("n2", other, 2)]
}

/// Node n1's routes in a cluster of two whose nodes each have a block.
fn calico_routes(pool: &IpPool, other: &str) -> (NodeNamespaces, Ipam, Vec<CalicoNode>) {
    let mut ipam = Ipam::new(vec![pool.clone()]);
    let mut nodes = calico_nodes(other);
    calico::node::assign_tunnel_addresses(&mut ipam, &mut nodes).unwrap();
    for n in ["n1", "n2"] {
        ipam.auto_assign(n, &Default::default(), &format!("pod-{n}"), true)
            .unwrap();
    }
    let mut nss = node("n1", &["192.0.2.1/24"]);
    let gw = podpath::kube::cni::plan::RouteSpec::new(
        "0.0.0.0/0".parse().unwrap(),
        "192.0.2.254".parse().ok(),
        None,
    );
    let up = podpath::kube::cni::LinkOp::AddRoute(gw, podpath::kube::cni::plan::Mode::Add);
    apply_all(&mut nss, &[up], &Origin::Kernel).unwrap();
    apply_all(
        &mut nss,
        &calico::plan(&nodes[0], &nodes, &ipam),
        &Origin::Kernel,
    )
    .unwrap();
    (nss, ipam, nodes)
}

fn block_of(ipam: &Ipam, node: &str) -> String {
    ipam.blocks()
        .find(|b| b.node == node)
        .unwrap()
        .cidr
        .to_string()
}

#[test]
fn calico_routes_follow_the_pools_encapsulation() {
    let pool = |ipip, vxlan| IpPool {
        ipip,
        vxlan,
        ..IpPool::new("default", "10.244.0.0/16".parse().unwrap())
    };
    let check = |p: IpPool, other: &str, want: &dyn Fn(&str, &str, &CalicoNode) -> Vec<String>| {
        let (nss, ipam, nodes) = calico_routes(&p, other);
        let mut want = want(&block_of(&ipam, "n1"), &block_of(&ipam, "n2"), &nodes[1]);
        want.push("0.0.0.0/0 via 192.0.2.254 dev eth0".into());
        let mut have = routes(here(&nss), true);
        want.sort();
        have.sort();
        assert_eq!(have, want, "{p:?}");
    };
    let (near, far) = ("192.0.2.2/24", "198.51.100.2/24");
    check(pool(Encap::Always, Encap::Never), near, &|b1, b2, _| {
        vec![
            format!("blackhole {b1} proto 12"),
            format!("{b2} via 192.0.2.2 dev tunl0 proto 12 onlink"),
        ]
    });
    check(
        pool(Encap::CrossSubnet, Encap::Never),
        near,
        &|b1, b2, _| {
            vec![
                format!("blackhole {b1} proto 12"),
                format!("{b2} via 192.0.2.2 dev eth0 proto 12"),
            ]
        },
    );
    check(pool(Encap::CrossSubnet, Encap::Never), far, &|b1, b2, _| {
        vec![
            format!("blackhole {b1} proto 12"),
            format!("{b2} via 198.51.100.2 dev tunl0 proto 12 onlink"),
        ]
    });
    check(pool(Encap::Never, Encap::Never), near, &|b1, b2, _| {
        vec![
            format!("blackhole {b1} proto 12"),
            format!("{b2} via 192.0.2.2 dev eth0 proto 12"),
        ]
    });
    check(pool(Encap::Never, Encap::Always), near, &|b1, b2, n2| {
        let vtep = n2.vxlan_tunnel.unwrap();
        vec![
            format!("blackhole {b1} proto 80"),
            format!("{b2} via {vtep} dev vxlan.calico onlink"),
        ]
    });
    check(
        pool(Encap::Never, Encap::CrossSubnet),
        near,
        &|b1, b2, _| {
            vec![
                format!("blackhole {b1} proto 80"),
                format!("{b2} via 192.0.2.2 dev eth0 proto 80 onlink"),
            ]
        },
    );
}

#[test]
fn calico_gives_a_pod_a_host_address_behind_proxy_arp() {
    let conf = list(
        json!({ "name": "k8s-pod-network", "cniVersion": "0.3.1", "plugins": [
        { "type": "calico", "nodename": "n1", "mtu": 1480, "ipam": { "type": "calico-ipam" } },
        { "type": "portmap", "snat": true, "capabilities": { "portMappings": true } } ] }),
    );
    let pool = IpPool {
        ipip: Encap::Always,
        ..IpPool::new("default", "10.244.0.0/16".parse().unwrap())
    };
    let (mut nss, mut ipam, _) = calico_routes(&pool, "192.0.2.2/24");
    let (mut state, plugins, mut results) =
        (CniState::new(1), Registry::standard(), Results::new());
    let mut host = Host::new(&mut nss, &mut state, &plugins, Origin::Kernel);
    host.calico = Some(&mut ipam);
    let r = conf
        .add(&runtime(), &mut host, &mut results)
        .1
        .unwrap_or_else(|e| panic!("{e}"));
    let veth = "calic440f455693";
    assert_eq!(r["interfaces"], json!([{ "name": veth }]));
    let ip = r["ips"][0]["address"].as_str().unwrap().to_owned();
    assert!(ip.ends_with("/32"), "{ip}");
    drop(host);
    let ns = here(&nss);
    let d = ns.dev_by_name(veth).unwrap();
    assert_eq!(
        (d.mac, d.mtu, d.conf4.proxy_arp, d.conf4.forwarding),
        (MacAddr([0xee; 6]), 1480, 1, 1)
    );
    assert!(routes(ns, true).contains(&format!("{ip} dev {veth} scope link")));
    let pod = nss.get(NsId(1)).unwrap();
    assert_eq!(
        routes(pod, true),
        [
            "0.0.0.0/0 via 169.254.1.1 dev eth0",
            "169.254.1.1/32 dev eth0 scope link"
        ]
    );
    assert_eq!(ipam.ips_by_handle("k8s-pod-network.c1").len(), 1);
    let mut host = Host::new(&mut nss, &mut state, &plugins, Origin::Kernel);
    host.calico = Some(&mut ipam);
    conf.del(&runtime(), &mut host, &mut results).1.unwrap();
    assert!(ipam.ips_by_handle("k8s-pod-network.c1").is_empty());
    assert!(here(&nss).dev_by_name(veth).is_none());
}

#[test]
fn a_borrowed_address_has_a_route_of_its_own() {
    let pool = IpPool {
        block_size: 31,
        ..IpPool::new("default", "10.244.0.0/30".parse().unwrap())
    };
    let mut ipam = Ipam::new(vec![pool]);
    let take = |i: &mut Ipam, n: &str| i.auto_assign(n, &Default::default(), n, true).unwrap();
    take(&mut ipam, "n1");
    for _ in 0..2 {
        take(&mut ipam, "n2");
    }
    let borrowed = take(&mut ipam, "n2");
    let nodes = calico_nodes("192.0.2.2/24");
    let mut nss = node("n1", &["192.0.2.1/24"]);
    apply_all(
        &mut nss,
        &calico::plan(&nodes[0], &nodes, &ipam),
        &Origin::Kernel,
    )
    .unwrap();
    assert!(
        routes(here(&nss), true).contains(&format!(
            "{}/32 via 192.0.2.2 dev eth0 proto 12",
            borrowed.ip()
        )),
        "{:?}",
        routes(here(&nss), true)
    );
}
