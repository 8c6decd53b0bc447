//! Clusters drawn from a seed: nodes, pods, Services of all kinds, policies, kube-proxy's modes, CNI plugins.

use podpath::base::Rng;
use podpath::cluster::Cluster;
use podpath::kube::manifest::Input;
use podpath::kube::store::Store;
use serde_json::{Value, json};

/// What a drawn cluster is like.
#[derive(Clone, Debug)]
pub struct Plan {
    pub cni: (&'static str, Option<&'static str>),
    pub mode: &'static str,
    pub v6: bool,
    nodes: u64,
    pods: u64,
    services: u64,
    policies: u64,
    enforcement: &'static str,
    checksum: bool,
    /// One edit in so many rounds.
    pub calm: u64,
    seed: u64,
}

/// One of a list.
pub fn pick<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.below(of.len() as u64) as usize]
}

impl Plan {
    /// The plan of a seed.
    pub fn draw(seed: u64) -> Plan {
        let mut rng = Rng::new(seed);
        // All modes and plugins in turn, so that a few seeds have them all.
        let mode = ["iptables", "nftables", "ipvs"][seed as usize % 3];
        let cni = [
            ("kindnet", None),
            ("flannel", Some("vxlan")),
            ("calico", Some("ipip")),
            ("flannel", Some("host-gw")),
        ][seed as usize % 4];
        Plan {
            cni,
            mode,
            v6: cni.0 == "kindnet" && rng.below(4) > 0,
            nodes: 1 + rng.below(3),
            pods: 2 + rng.below(3),
            services: 1 + rng.below(6),
            policies: [0, 0, 1, 3][rng.below(4) as usize],
            enforcement: pick(&mut rng, &["calico", "kube-router", "none"]),
            checksum: rng.below(3) > 0,
            calm: pick(&mut rng, &[7, 15, 40, 120]),
            seed,
        }
    }

    /// Builds it.
    pub fn build(&self) -> Cluster {
        let mut rng = Rng::new(self.seed ^ 0x5eed);
        let mut items = vec![self.cluster()];
        items.extend((1..=self.nodes).map(|n| self.node(n)));
        for n in 1..=self.nodes {
            items.extend((0..self.pods).map(|p| self.pod(n, p)));
        }
        items.extend((0..self.services).map(|n| self.service(&mut rng, n)));
        items.extend((0..self.policies).map(|n| policy(&mut rng, n)));
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
        let (store, findings) = Store::load(&[Input::new("drawn.json", list)]);
        let error = findings.iter().find(|f| f.is_error());
        assert!(error.is_none(), "{self:?}: {error:?}");
        Cluster::build(store, 7).0
    }

    fn both(&self, v4: String, v6: String) -> Vec<String> {
        match self.v6 {
            true => vec![v4, v6],
            false => vec![v4],
        }
    }

    fn cluster(&self) -> Value {
        let mut cni = json!({"plugin": self.cni.0});
        if let Some(backend) = self.cni.1 {
            cni["backend"] = json!(backend);
        }
        if self.cni.0 == "calico" {
            let pool = json!({"cidr": "10.244.0.0/16", "ipipMode": "Always", "natOutgoing": true});
            cni["ipPools"] = json!([pool]);
        }
        let checksum = if self.checksum { "1" } else { "0" };
        let underlay = match self.v6 {
            true => json!({}),
            false => json!({"cidr": "192.168.50.0/24"}),
        };
        let hosts = match self.v6 {
            true => json!([{
                "name": "outside", "addresses": ["172.18.0.200/16", "fc00:f853:ccd:e793::200/64"],
                "routes": ["192.168.60.0/24 via 172.18.0.11"],
            }]),
            false => json!([{
                "name": "outside", "addresses": ["192.168.50.200/24"],
                "routes": ["192.168.60.0/24 via 192.168.50.11"],
            }]),
        };
        json!({
            "apiVersion": "podpath.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "drawn"},
            "spec": {
                "cni": cni, "underlay": underlay, "externalHosts": hosts,
                "podCIDRs": self.both("10.244.0.0/16".into(), "fd00:10:244::/56".into()),
                "serviceCIDRs": self.both("10.96.0.0/16".into(), "fd00:10:96::/112".into()),
                "proxy": {"mode": self.mode}, "networkPolicy": {"enforcement": self.enforcement},
                "node": {"sysctls": {"net.netfilter.nf_conntrack_checksum": checksum}},
            },
        })
    }

    fn node(&self, n: u64) -> Value {
        let cidrs = self.both(format!("10.244.{n}.0/24"), format!("fd00:10:244:{n}::/64"));
        let v4 = match self.v6 {
            true => format!("172.18.0.1{n}"),
            false => format!("192.168.50.1{n}"),
        };
        let ips = self.both(v4, format!("fc00:f853:ccd:e793::1{n}"));
        let ips: Vec<Value> = ips
            .iter()
            .map(|ip| json!({"type": "InternalIP", "address": ip}))
            .collect();
        json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("n{n}")},
            "spec": {"podCIDRs": cidrs}, "status": {"addresses": ips},
        })
    }

    fn pod(&self, node: u64, n: u64) -> Value {
        let ips = self.both(
            format!("10.244.{node}.{}", 10 + n),
            format!("fd00:10:244:{node}::{}", 10 + n),
        );
        let list: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": format!("p{node}-{n}"), "namespace": "default",
                "labels": {"group": format!("g{}", (node + n) % 3), "all": "yes"},
            },
            "spec": {"nodeName": format!("n{node}"), "containers": [{
                "name": "c", "image": "i", "ports": [
                    {"name": "http", "containerPort": 8080},
                    {"name": "echo", "containerPort": 7, "protocol": "UDP"}],
            }]},
            "status": {
                "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
                "podIP": ips[0], "podIPs": list,
            },
        })
    }

    /// A Service, drawn anew: its address stays.
    pub fn service(&self, rng: &mut Rng, n: u64) -> Value {
        let ips = self.both(
            format!("10.96.0.{}", 100 + n),
            format!("fd00:10:96::{}", 100 + n),
        );
        let dual = if self.v6 {
            "RequireDualStack"
        } else {
            "SingleStack"
        };
        let outside = rng.below(2) == 0;
        let mut spec = json!({
            "ipFamilyPolicy": dual, "clusterIP": ips[0], "clusterIPs": ips,
            "type": if outside { "NodePort" } else { "ClusterIP" },
            "selector": match rng.below(5) {
                0 => json!({"all": "yes"}),
                g => json!({"group": format!("g{g}")}),
            },
            "ports": [
                {"name": "http", "port": 80, "targetPort": "http"},
                {"name": "echo", "port": 7, "targetPort": "echo", "protocol": "UDP"},
            ],
        });
        if outside {
            spec["ports"][0]["nodePort"] = json!(30000 + n);
            spec["ports"][1]["nodePort"] = json!(31000 + n);
            if rng.below(3) == 0 {
                spec["externalTrafficPolicy"] = json!("Local");
            }
        }
        if rng.below(4) == 0 {
            spec["sessionAffinity"] = json!("ClientIP");
        }
        if rng.below(6) == 0 {
            spec["internalTrafficPolicy"] = json!("Local");
        }
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": format!("s{n}"), "namespace": "default"}, "spec": spec,
        })
    }

    /// One of the pods, ready or not, or with labels of another group.
    pub fn pod_again(&self, rng: &mut Rng) -> Value {
        let mut pod = self.pod(1 + rng.below(self.nodes), rng.below(self.pods));
        match rng.below(4) {
            0 => pod["metadata"]["labels"]["group"] = json!(format!("g{}", rng.below(3))),
            1 => {}
            _ => pod["status"]["conditions"][0]["status"] = json!("False"),
        }
        pod
    }

    /// How many Services there are.
    pub fn services(&self) -> u64 {
        self.services
    }
}

/// A policy, drawn anew.
pub fn policy(rng: &mut Rng, n: u64) -> Value {
    let group = |rng: &mut Rng| json!({"matchLabels": {"group": format!("g{}", rng.below(3))}});
    let ports = match rng.below(3) {
        0 => json!([]),
        1 => json!([{"port": 7, "protocol": "UDP"}, {"port": 8080}]),
        _ => json!([{"port": 7, "protocol": "UDP"}]),
    };
    let (mine, other) = (group(rng), group(rng));
    let mut spec = json!({"podSelector": mine, "policyTypes": ["Ingress"]});
    match rng.below(3) {
        0 => {
            spec["policyTypes"] = json!(["Egress"]);
            spec["egress"] = json!([{"to": [{"podSelector": other}], "ports": ports}]);
        }
        _ => spec["ingress"] = json!([{"from": [{"podSelector": other}], "ports": ports}]),
    }
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": format!("policy-{n}"), "namespace": "default"}, "spec": spec,
    })
}
