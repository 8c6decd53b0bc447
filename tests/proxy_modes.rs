//! kube-proxy's nftables and IPVS modes over several syncs, and all modes against each other.

#![allow(missing_docs, reason = "a test binary")]

#[path = "common/nft_script.rs"]
mod nft_script;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use nft_script::State;
use podpath::base::Instant;
use podpath::cluster::{Cluster, kube_proxy};
use podpath::kube::manifest::Input;
use podpath::kube::proxy::compare::{Cause, Report, Source, Target};
use podpath::kube::proxy::ipvs::{self, Key, Step};
use podpath::kube::proxy::nftables::{self, Layout};
use podpath::kube::proxy::{KubeProxyConfiguration, Machine, Settings, View};
use podpath::kube::service::Family;
use podpath::kube::store::Store;
use proptest::prelude::*;
use serde_json::{Value, json};

fn load(objects: &[Value]) -> Store {
    let text = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    let input = Input::from_bytes("test", text.as_bytes()).expect("text");
    let (store, findings) = Store::load(&[input]);
    let wrong: Vec<String> = findings
        .iter()
        .filter(|f| f.is_error())
        .map(ToString::to_string)
        .collect();
    assert_eq!(wrong, Vec::<String>::new());
    store
}

fn settings(store: &Store, config: &Value) -> Settings {
    let config = KubeProxyConfiguration::of(config).expect("a configuration");
    let node = store.node("n1").expect("the node");
    let (settings, wrong) = Settings::new(&config, node, &Machine::of_node(node), Family::V4);
    assert_eq!(wrong, []);
    settings
}

fn node(name: &str, ip: &str, version: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
        "status": {"addresses": [{"type": "InternalIP", "address": ip}],
            "nodeInfo": {"kubeletVersion": version}}})
}

/// What a Service is like: kind, policy Local, affinity, ranges, endpoints (address, on n1).
type Svc = (u8, bool, bool, bool, Vec<(u8, bool)>);

fn service() -> impl Strategy<Value = Svc> {
    let endpoints = prop::collection::vec((1..40_u8, any::<bool>()), 0..4);
    (
        0..4_u8,
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        endpoints,
    )
}

/// Services by number; absent ones are deleted.
fn state() -> impl Strategy<Value = BTreeMap<u8, Svc>> {
    prop::collection::btree_map(0..4_u8, service(), 0..4)
}

fn objects(state: &BTreeMap<u8, Svc>) -> Vec<Value> {
    let mut out = vec![node("n1", "192.168.0.2", "v1.35.0")];
    for (i, (kind, local, sticky, ranges, endpoints)) in state {
        let name = format!("svc{i}");
        let mut spec = json!({"clusterIP": format!("10.96.0.{}", 10 + i), "ports": [{"port": 80}]});
        if *sticky {
            spec["sessionAffinity"] = json!("ClientIP");
        }
        if *kind > 0 {
            spec["type"] = json!(if *kind == 1 {
                "NodePort"
            } else {
                "LoadBalancer"
            });
            spec["ports"][0]["nodePort"] = json!(30000 + u16::from(*i));
            spec["externalTrafficPolicy"] = json!(if *local { "Local" } else { "Cluster" });
        } else if *local {
            spec["internalTrafficPolicy"] = json!("Local");
        }
        let mut service =
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}});
        if *kind > 1 {
            if *ranges {
                spec["loadBalancerSourceRanges"] = json!(["203.0.113.0/25"]);
            }
            service["status"] =
                json!({"loadBalancer": {"ingress": [{"ip": format!("5.6.7.{}", 10 + i)}]}});
        }
        service["spec"] = spec;
        out.push(service);
        let addresses: BTreeMap<u8, bool> = endpoints.iter().copied().collect();
        let endpoint = |(ip, here): (&u8, &bool)| {
            let node = if *here { "n1" } else { "n2" };
            json!({"addresses": [format!("10.244.0.{ip}")], "nodeName": node})
        };
        out.push(
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "addressType": "IPv4", "ports": [{"name": "", "port": 8080}],
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "endpoints": addresses.iter().map(endpoint).collect::<Vec<_>>()}),
        );
    }
    out
}

/// What the steps of IPVS mode leave.
#[derive(Default, Debug, PartialEq, Eq)]
struct Ipvs {
    servers: BTreeMap<String, (String, BTreeMap<String, String>)>,
    addresses: BTreeSet<IpAddr>,
    sets: BTreeMap<String, BTreeSet<String>>,
    rules: String,
}

impl Ipvs {
    fn run(&mut self, steps: &[Step]) -> Result<(), String> {
        for step in steps {
            match step {
                Step::Ipvs(line) => self.ipvsadm(line)?,
                Step::Ipset(text) => text.lines().try_for_each(|line| self.ipset(line))?,
                Step::Bind(ip) => assert!(self.addresses.insert(*ip)),
                Step::Unbind(ip) => assert!(self.addresses.remove(ip)),
                Step::Restore(text) => self.rules.clone_from(text),
                Step::Device => {}
                Step::Nft(_) => return Err("nft".into()),
            }
        }
        Ok(())
    }

    /// Strict: what is there is not added, what is not there is not changed.
    fn ipvsadm(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split(' ').collect();
        let [verb, flag, at, rest @ ..] = words.as_slice() else {
            return Err(line.into());
        };
        let (key, rest) = (format!("{flag} {at}"), rest.join(" "));
        let real = |rest: &str| rest.split(' ').nth(1).unwrap_or_default().to_owned();
        let held = self.servers.get_mut(&key).ok_or(line.to_owned());
        let fine = match *verb {
            "-A" => self.servers.insert(key, (rest, BTreeMap::new())).is_none(),
            "-E" => held.map(|s| s.0 = rest).is_ok(),
            "-D" => self.servers.remove(&key).is_some(),
            "-a" => held?.1.insert(real(&rest), rest).is_none(),
            "-e" => held?.1.insert(real(&rest), rest).is_some(),
            "-d" => held?.1.remove(&real(&rest)).is_some(),
            _ => false,
        };
        fine.then_some(()).ok_or(line.to_owned())
    }

    fn ipset(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["create", name, ..] => drop(self.sets.entry((*name).to_owned()).or_default()),
            ["add", name, entry, ..] => {
                let set = self.sets.get_mut(*name).ok_or(line.to_owned())?;
                assert!(set.insert((*entry).to_owned()), "{line}");
            }
            ["del", name, entry] => {
                let set = self.sets.get_mut(*name).ok_or(line.to_owned())?;
                assert!(set.remove(*entry), "{line}");
            }
            _ => return Err(line.into()),
        }
        Ok(())
    }
}

fn no_connections(_: &Key, _: SocketAddr) -> u64 {
    0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happened in between, the table is that of the last state.
    #[test]
    fn nftables_syncs_leave_what_a_full_one_writes(states in prop::collection::vec(state(), 1..5)) {
        let mut proxier: Option<nftables::Proxier> = None;
        let mut kernel = State::default();
        for (i, state) in states.iter().enumerate() {
            let store = load(&objects(state));
            let settings = settings(&store, &json!({"mode": "nftables", "clusterCIDR": "10.244.0.0/16"}));
            let view = View::of(&store, Family::V4);
            let proxier = proxier.get_or_insert_with(|| nftables::Proxier::new(settings.clone()));
            let now = Instant::from_millis(700 * i as u64);
            for script in proxier.sync(view.clone(), now) {
                kernel.run(&script).map_err(TestCaseError::fail)?;
            }
            let full = State::of(&nftables::sync(&view, &settings)).map_err(TestCaseError::fail)?;
            let wrong = full.without_idle_chains().differences(&kernel.without_idle_chains());
            prop_assert_eq!(wrong, Vec::<String>::new());
        }
        // Stale chains go when they have been so for a second, and the next sync is the last that has to.
        let store = load(&objects(&BTreeMap::new()));
        if let Some(proxier) = &mut proxier {
            for seconds in [10, 20] {
                let view = View::of(&store, Family::V4);
                for script in proxier.sync(view, Instant::from_millis(seconds * 1000)) {
                    kernel.run(&script).map_err(TestCaseError::fail)?;
                }
            }
            let left = kernel.objects.keys().filter(|(_, name)| name.contains('/')).count();
            prop_assert_eq!(left, 0);
        }
    }

    /// The same of IPVS mode; every other sync is by a new process.
    #[test]
    fn ipvs_syncs_leave_what_is_wanted(states in prop::collection::vec(state(), 1..5)) {
        let mut proxier: Option<ipvs::Proxier> = None;
        let mut kernel = Ipvs::default();
        for (i, state) in states.iter().enumerate() {
            let store = load(&objects(state));
            let settings = settings(&store, &json!({"mode": "ipvs"}));
            let view = View::of(&store, Family::V4);
            let proxier = proxier.get_or_insert_with(|| ipvs::Proxier::new(settings.clone()));
            if i % 2 == 1 {
                proxier.force_full();
            }
            let steps = proxier.sync(view.clone(), Instant::ZERO, &mut no_connections);
            kernel.run(&steps).map_err(TestCaseError::fail)?;
            let mut full = Ipvs::default();
            let clean = ipvs::Proxier::new(settings).sync(view, Instant::ZERO, &mut no_connections);
            full.run(&clean).map_err(TestCaseError::fail)?;
            prop_assert_eq!(&full, &kernel);
        }
    }
}

fn one_service(endpoints: &[(u8, bool)]) -> BTreeMap<u8, Svc> {
    BTreeMap::from([(0, (0, false, false, false, endpoints.to_vec()))])
}

#[test]
fn a_real_server_with_connections_goes_when_they_are_gone() {
    let busy = "10.244.0.2:8080".parse::<SocketAddr>().unwrap();
    let sync = |p: &mut ipvs::Proxier, e: &[(u8, bool)], seconds: u64| -> Vec<String> {
        let view = View::of(&load(&objects(&one_service(e))), Family::V4);
        let now = Instant::from_millis(seconds * 1000);
        commands(&p.sync(view, now, &mut |_, to| u64::from(to == busy)))
    };
    let store = load(&objects(&BTreeMap::new()));
    let mut p = ipvs::Proxier::new(settings(&store, &json!({"mode": "ipvs"})));
    let vip = "-t 10.96.0.10:80";
    assert_eq!(sync(&mut p, &[(1, true), (2, true)], 0).len(), 3);
    let gone = sync(&mut p, &[], 1);
    let weight_0 = format!("-e {vip} -r 10.244.0.2:8080 -m -w 0");
    assert_eq!(gone, [format!("-d {vip} -r 10.244.0.1:8080"), weight_0]);
    assert_eq!(sync(&mut p, &[], 2), Vec::<String>::new());
    assert_eq!(p.next_check(), Some(Instant::from_millis(61_000)));
    let at = |p: &mut ipvs::Proxier, seconds: u64, count: u64| {
        commands(&p.check(Instant::from_millis(seconds * 1000), &mut |_, _| count))
    };
    assert_eq!(at(&mut p, 61, 1), Vec::<String>::new());
    assert_eq!(at(&mut p, 121, 0), [format!("-d {vip} -r 10.244.0.2:8080")]);
    assert_eq!(p.next_check(), None);
    // One that comes back before is deleted and made anew.
    assert_eq!(sync(&mut p, &[(2, true)], 130).len(), 1);
    assert_eq!(sync(&mut p, &[], 131).len(), 1);
    let back = sync(&mut p, &[(2, true)], 132);
    let added = format!("-a {vip} -r 10.244.0.2:8080 -m -w 1");
    assert_eq!(back, [format!("-d {vip} -r 10.244.0.2:8080"), added]);
}

fn commands(steps: &[Step]) -> Vec<String> {
    let line = |step: &Step| match step {
        Step::Ipvs(line) => Some(line.clone()),
        _ => None,
    };
    steps.iter().filter_map(line).collect()
}

#[test]
fn an_endpoint_that_goes_touches_its_own_service_only() {
    let store = load(&objects(&BTreeMap::new()));
    let config = json!({"mode": "nftables", "clusterCIDR": "10.244.0.0/16"});
    let mut p = nftables::Proxier::new(settings(&store, &config));
    let two = |endpoints: &[(u8, bool)]| {
        let mut state = one_service(endpoints);
        state.insert(1, (1, false, true, false, vec![(9, true)]));
        View::of(&load(&objects(&state)), Family::V4)
    };
    p.sync(two(&[(1, true)]), Instant::ZERO);
    let gone = p.sync(two(&[]), Instant::from_millis(5000));
    let [script] = gone.as_slice() else {
        panic!("{gone:?}")
    };
    let words: BTreeSet<String> = script
        .lines()
        .map(|l| l.split(' ').take(2).collect::<Vec<_>>().join(" "))
        .collect();
    let expected = ["add element", "delete element", "flush chain"];
    assert_eq!(words, expected.map(str::to_owned).into());
    assert!(!script.contains("svc1"), "{script}");
    let later = p.sync(two(&[]), Instant::from_millis(6000));
    assert_eq!(later.len(), 1, "{later:?}");
    assert!(
        later[0]
            .lines()
            .all(|l| l.starts_with("delete chain ip kube-proxy ")),
        "{later:?}"
    );
}

#[test]
fn the_nodes_version_decides_the_layout() {
    for (version, layout, base, rule) in [
        (
            "v1.33.4",
            Layout::Older,
            "filter-output-post-dnat",
            "10.96.0.10 tcp dport 80 jump",
        ),
        (
            "v1.35.0",
            Layout::Split,
            "filter-output-pre-dnat",
            "10.96.0.10 jump",
        ),
    ] {
        let mut all = objects(&one_service(&[(1, true)]));
        all[0] = node("n1", "192.168.0.2", version);
        let store = load(&all);
        let config = json!({"mode": "nftables", "nftables": {"masqueradeAll": true}});
        let settings = settings(&store, &config);
        assert_eq!(settings.layout, layout);
        assert_eq!(
            settings.node_port_ips,
            Some(vec!["192.168.0.2".parse().unwrap()])
        );
        let text = nftables::sync(&View::of(&store, Family::V4), &settings);
        assert!(
            text.contains(&format!("add chain ip kube-proxy {base} {{")),
            "{text}"
        );
        assert!(text.contains(rule), "{text}");
    }
}

/// A cluster of two nodes with `n` Services of all sorts.
fn cluster(n: u16) -> Cluster {
    let mut all = vec![
        json!({"apiVersion": "podpath.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "c"},
            "spec": {"cni": {"plugin": "kindnet"}, "podCIDRs": ["10.244.0.0/16"], "serviceCIDRs": ["10.96.0.0/16"],
                "proxy": {"mode": "none"}}}),
        node("n1", "192.168.0.2", "v1.35.0"),
        node("n2", "192.168.0.3", "v1.35.0"),
    ];
    for i in 0..n {
        let name = format!("svc{i}");
        let [high, low] = i.to_be_bytes();
        let mut spec = json!({"type": "LoadBalancer", "clusterIP": format!("10.96.{}.{low}", high + 1),
            "ports": [{"port": 80, "nodePort": 20000 + i}]});
        let mut ready = vec!["n1", "n2"];
        match i % 8 {
            // Ranges without endpoints.
            1 => {
                spec["loadBalancerSourceRanges"] = json!(["203.0.113.0/25", "10.244.0.0/16"]);
                ready.clear();
            }
            // Local without local endpoints.
            2 => {
                spec["externalTrafficPolicy"] = json!("Local");
                ready = vec!["n3"];
            }
            3 => spec["loadBalancerSourceRanges"] = json!(["203.0.113.0/25"]),
            4 => spec["sessionAffinity"] = json!("ClientIP"),
            5 => spec["ports"][0]["protocol"] = json!("UDP"),
            _ => {}
        }
        all.push(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec,
            "status": {"loadBalancer": {"ingress": [{"ip": format!("100.64.{high}.{low}")}]}}}),
        );
        let endpoint = |(j, node): (usize, &&str)| json!({"addresses": [format!("10.244.{j}.{}", 2 + i % 200)], "nodeName": node});
        let protocol = all.last().unwrap()["spec"]["ports"][0]
            .get("protocol")
            .cloned();
        all.push(
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "addressType": "IPv4",
            "ports": [{"name": "", "port": 8080, "protocol": protocol.unwrap_or(json!("TCP"))}],
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "endpoints": ready.iter().enumerate().map(endpoint).collect::<Vec<_>>()}),
        );
    }
    Cluster::build(load(&all), 1).0
}

fn causes(report: &Report) -> Vec<Cause> {
    report.by_cause().into_keys().collect()
}

#[test]
fn two_thousand_services_differ_in_the_known_ways_only() {
    let cluster = cluster(2000);
    let report = kube_proxy::compare(&cluster, None, false).expect("rules that can be read");
    let known = [
        Cause::UndefinedPort,
        Cause::Unallocated,
        Cause::RangesWithoutEndpoints,
        Cause::LocalWithoutLocal,
    ];
    let example = report.by_cause();
    for (cause, list) in &example {
        assert!(known.contains(cause), "{cause}: {:?}", list[0]);
    }
    assert_eq!(causes(&report), known);
    // Per node: 2,000 Services, three addresses each, from four kinds of sources.
    assert!(report.classes() > 2 * 2000 * 3 * 4, "{}", report.classes());
    let ranges = &example[&Cause::RangesWithoutEndpoints];
    let blocked = |d: &&&podpath::kube::proxy::compare::Compared| {
        d.class.target == Target::LoadBalancer && d.class.in_ranges == Some(false)
    };
    assert_eq!(ranges.iter().filter(blocked).count(), ranges.len());
    for d in ranges {
        // iptables mode has no rule for it at the output hook.
        let from_node = d.class.source == Source::Node;
        assert!(d.verdicts[0].refused != from_node && d.verdicts[1].dropped);
    }
    for d in &example[&Cause::LocalWithoutLocal] {
        assert_eq!(d.class.source, Source::Outside);
        assert!(
            d.verdicts[0].dropped && d.verdicts[1].dropped && d.verdicts[2].endpoints.len() == 1
        );
    }
}

#[test]
fn other_differences_have_their_causes_too() {
    let mut all = vec![
        json!({"apiVersion": "podpath.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "c"},
            "spec": {"cni": {"plugin": "kindnet"}, "podCIDRs": ["10.244.0.0/16"],
                "serviceCIDRs": ["10.96.0.0/16"], "proxy": {"mode": "none"}}}),
        node("n1", "192.168.0.2", "v1.35.0"),
    ];
    let sides = vec![(1, true), (2, false)];
    all.extend(
        objects(&BTreeMap::from([
            (0, (2, true, false, false, sides)),
            (1, (2, false, false, false, vec![])),
        ]))
        .split_off(1),
    );
    let cluster = Cluster::build(load(&all), 1).0;
    let report = kube_proxy::compare(&cluster, Some("n1"), false).expect("rules that can be read");
    let expected = [
        Cause::UndefinedPort,
        Cause::Unallocated,
        Cause::ShortCircuit,
        Cause::NodeWithoutEndpoints,
    ];
    assert_eq!(causes(&report), expected);
    let by_cause = report.by_cause();
    let skips = by_cause[&Cause::ShortCircuit][0];
    let counts = skips.verdicts.each_ref().map(|v| v.endpoints.len());
    assert_eq!((skips.class.source, counts), (Source::LocalPod, [2, 2, 1]));
    let node = by_cause[&Cause::NodeWithoutEndpoints][0];
    let words = node.verdicts.each_ref().map(ToString::to_string);
    assert_eq!(words, ["routed", "reject", "reject"]);
}

#[test]
fn ipvs_mode_is_carried_out_on_the_nodes() {
    let mut all = vec![
        json!({"apiVersion": "podpath.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "c"},
            "spec": {"cni": {"plugin": "kindnet"}, "podCIDRs": ["10.244.0.0/16"],
                "serviceCIDRs": ["10.96.0.0/16"], "proxy": {"mode": "ipvs"}}}),
        node("n1", "192.168.0.2", "v1.35.0"),
    ];
    all.extend(objects(&one_service(&[(1, true), (2, true)])).split_off(1));
    let (cluster, findings) = Cluster::build(load(&all), 1);
    let said: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(!said.iter().any(|f| f.contains("kube-proxy")), "{said:?}");
    let ns = cluster
        .lab
        .world
        .ns(cluster.nodes["n1"].ns)
        .expect("the node");
    let saved = podpath::ipvs::text::save(ns.ipvs().expect("IPVS"));
    for to in ["10.244.0.1:8080", "10.244.0.2:8080"] {
        let line = format!("-a -t 10.96.0.10:80 -r {to} -m -w 1");
        assert!(saved.contains(&line), "{saved}");
    }
    let device = ns.dev_by_name("kube-ipvs0").expect("the device");
    let has = |ip: &str| device.addrs.iter().any(|a| a.ip().to_string() == ip);
    assert!(has("10.96.0.10") && !device.up);
    let set = ns.nf().expect("netfilter").sets.save(Instant::ZERO);
    assert!(
        set.contains("add KUBE-CLUSTER-IP 10.96.0.10,tcp:80"),
        "{set}"
    );
}
