//! A dual-stack cluster of three nodes with Services of every ordinary kind, many of each.
//!
//! What is left out: the constructs of the three further differences, which `tests/proxy_compare.rs` adds one
//! by one (an external address without endpoints in reach of the node, policy Local with endpoints on several
//! nodes, NodePorts at second addresses).

#![allow(dead_code, reason = "shared by several test binaries")]

use serde_json::{Value, json};

/// How many kinds there are; Service `i` is of kind `i % KINDS`.
pub const KINDS: usize = 20;

/// What a Service is like.
#[derive(Default)]
pub struct Kind {
    /// Merged into `spec`.
    pub spec: Value,
    /// Protocol of its ports.
    pub protocol: &'static str,
    /// Whether it has a second port.
    pub two_ports: bool,
    /// Addresses of both families.
    pub dual: bool,
    /// A load balancer's address.
    pub balanced: bool,
    /// On which nodes endpoints are: number, and what is more to say of each.
    pub endpoints: Vec<(usize, Value)>,
}

fn on(nodes: &[usize]) -> Vec<(usize, Value)> {
    nodes.iter().map(|n| (*n, json!({}))).collect()
}

/// The kind of a number.
pub fn kind(i: usize) -> Kind {
    let usual = |spec: Value| Kind {
        spec,
        protocol: "TCP",
        endpoints: on(&[1, 2]),
        ..Kind::default()
    };
    let balanced = |spec: Value| {
        let mut kind = Kind {
            balanced: true,
            ..usual(spec)
        };
        kind.spec["type"] = json!("LoadBalancer");
        kind
    };
    let ranges = json!(["203.0.113.0/25", "2001:db8:113::/64"]);
    match i % KINDS {
        0 => usual(json!({})),
        1 => usual(json!({"type": "NodePort"})),
        2 => balanced(json!({})),
        3 => balanced(json!({"loadBalancerSourceRanges": ranges})),
        4 => Kind {
            endpoints: vec![],
            ..balanced(json!({"loadBalancerSourceRanges": ranges}))
        },
        5 => Kind {
            endpoints: on(&[3]),
            ..balanced(json!({"externalTrafficPolicy": "Local"}))
        },
        6 => usual(json!({"internalTrafficPolicy": "Local"})),
        7 => usual(json!({"sessionAffinity": "ClientIP"})),
        8 => Kind {
            protocol: "UDP",
            ..usual(json!({"type": "NodePort"}))
        },
        9 => Kind {
            protocol: "SCTP",
            ..balanced(json!({}))
        },
        10 => usual(json!({"clusterIP": "None"})),
        11 => Kind {
            endpoints: vec![],
            ..usual(json!({}))
        },
        12 => usual(json!({"externalIPs": [format!("198.18.{}.{}", i / 250, 1 + i % 250)]})),
        13 => Kind {
            two_ports: true,
            ..usual(json!({"type": "NodePort"}))
        },
        14 => Kind {
            dual: true,
            two_ports: true,
            ..balanced(json!({}))
        },
        15 => Kind {
            endpoints: vec![],
            ..usual(json!({"type": "NodePort"}))
        },
        16 => Kind {
            endpoints: vec![(
                1,
                json!({"conditions": {"ready": false, "serving": true, "terminating": true}}),
            )],
            ..usual(json!({"type": "NodePort"}))
        },
        17 => Kind {
            endpoints: [1, 2]
                .map(|n| {
                    (
                        n,
                        json!({"hints": {"forZones": [{"name": format!("z{n}")}]}}),
                    )
                })
                .into(),
            dual: true,
            ..usual(json!({"trafficDistribution": "PreferClose"}))
        },
        18 => usual(json!({"type": "ExternalName", "externalName": "example.org"})),
        _ => Kind {
            dual: true,
            ..balanced(json!({"sessionAffinity": "ClientIP", "loadBalancerSourceRanges": ranges}))
        },
    }
}

/// A port of the usual range for each of 2,000 Services' ports.
fn node_port(i: usize, more: usize) -> usize {
    const ONE: [usize; 12] = [1, 2, 3, 4, 5, 8, 9, 13, 14, 15, 16, 19];
    const TWO: [usize; 2] = [13, 14];
    let place = |of: &[usize]| of.iter().position(|k| *k == i % KINDS).unwrap_or(0);
    let rank = match more {
        0 => place(&ONE),
        _ => ONE.len() + place(&TWO),
    };
    30_000 + i / KINDS * (ONE.len() + TWO.len()) + rank
}

fn service(i: usize, kind: &Kind) -> Value {
    let name = format!("svc{i}");
    let (v4, v6) = (
        format!("10.96.{}.{}", i / 250, 1 + i % 250),
        format!("fd00:96::{:x}", i + 1),
    );
    let mut spec = kind.spec.clone();
    let node_port = |more: usize| node_port(i, more);
    let exposed = kind.balanced || spec["type"] == "NodePort";
    let port = |n: usize| {
        let mut port = json!({"name": format!("p{n}"), "port": 80 + n, "protocol": kind.protocol});
        if exposed {
            port["nodePort"] = json!(node_port(n));
        }
        port
    };
    spec["ports"] = (0..1 + usize::from(kind.two_ports)).map(port).collect();
    if spec["type"] != "ExternalName" && spec["clusterIP"] != "None" {
        spec["clusterIP"] = json!(v4);
        spec["clusterIPs"] = match kind.dual {
            true => json!([v4, v6]),
            false => json!([v4]),
        };
        spec["ipFamilies"] = match kind.dual {
            true => json!(["IPv4", "IPv6"]),
            false => json!(["IPv4"]),
        };
        spec["ipFamilyPolicy"] = json!(if kind.dual {
            "RequireDualStack"
        } else {
            "SingleStack"
        });
    }
    let mut out = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"}, "spec": spec});
    if kind.balanced {
        let mut ingress = vec![json!({"ip": format!("100.64.{}.{}", i / 250, 1 + i % 250)})];
        if kind.dual {
            ingress.push(json!({"ip": format!("fd00:64::{:x}", i + 1)}));
        }
        out["status"] = json!({"loadBalancer": {"ingress": ingress}});
    }
    out
}

fn slice(i: usize, kind: &Kind, v6: bool) -> Value {
    let name = format!("svc{i}");
    let endpoint = |(node, more): &(usize, Value)| {
        let mut endpoint = more.clone();
        let ip = match v6 {
            false => format!("10.244.{node}.{}", 2 + i % 240),
            true => format!("fd00:244:0:{node}::{:x}", 2 + i % 240),
        };
        endpoint["addresses"] = json!([ip]);
        endpoint["nodeName"] = json!(format!("n{node}"));
        if endpoint["conditions"].is_null() {
            endpoint["conditions"] = json!({"ready": true});
        }
        endpoint
    };
    let endpoints: Vec<Value> = kind.endpoints.iter().map(endpoint).collect();
    let port =
        |n: usize| json!({"name": format!("p{n}"), "port": 8080 + n, "protocol": kind.protocol});
    let ports: Vec<Value> = (0..1 + usize::from(kind.two_ports)).map(port).collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "addressType": if v6 { "IPv6" } else { "IPv4" },
        "metadata": {"name": format!("{name}-{}", if v6 { "v6" } else { "v4" }), "namespace": "default",
            "labels": {"kubernetes.io/service-name": name}},
        "endpoints": endpoints, "ports": ports})
}

/// A Service with its slices.
pub fn objects_of(i: usize, kind: &Kind) -> Vec<Value> {
    let mut out = vec![service(i, kind)];
    if kind.spec["type"] != "ExternalName" {
        out.push(slice(i, kind, false));
        if kind.dual {
            out.push(slice(i, kind, true));
        }
    }
    out
}

/// The cluster and its nodes.
pub fn nodes() -> Vec<Value> {
    let mut out = vec![
        json!({"apiVersion": "podpath.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "c"},
        "spec": {"cni": {"plugin": "kindnet"}, "podCIDRs": ["10.244.0.0/16", "fd00:244::/56"],
            "serviceCIDRs": ["10.96.0.0/16", "fd00:96::/112"], "proxy": {"mode": "none"}}}),
    ];
    out.extend((1..=3).map(|n| {
        json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": format!("n{n}"), "labels": {"topology.kubernetes.io/zone": format!("z{n}")}},
            "spec": {"podCIDR": format!("10.244.{n}.0/24"),
                "podCIDRs": [format!("10.244.{n}.0/24"), format!("fd00:244:0:{n}::/64")]},
            "status": {"addresses": [{"type": "InternalIP", "address": format!("192.168.0.{n}")},
                    {"type": "InternalIP", "address": format!("fd00:192::{n}")}],
                "nodeInfo": {"kubeletVersion": "v1.35.0"}}})
    }));
    out
}

/// Everything, as `kubectl get -o json` would print it.
pub fn list(services: usize, more: Vec<Value>) -> String {
    let mut items = nodes();
    items.extend((0..services).flat_map(|i| objects_of(i, &kind(i))));
    items.extend(more);
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}
