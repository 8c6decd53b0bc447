//! Compiled policies at size: the full table of one port, a relabelled pod, classes of a large cluster.
//!
//! In release the sizes and bounds; in debug small clusters (the sizes with PODPATH_FULL), where the
//! times mean nothing and only the
//! answers count. Prints what it measured.

use podpath::base::{Origin, Rng};
use podpath::kube::controllers::Facts;
use podpath::kube::manifest::Input;
use podpath::kube::policy::pods::PolicyPod;
use podpath::kube::policy::{Compiled, Evaluator, Inventory, L4, Matrix, Options, Policies, Query};
use podpath::kube::service::{Family, Protocol};
use podpath::kube::store::{Name, Store};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PORT: L4 = L4::Port(Protocol::Tcp, 8080);

/// What is measured.
struct Size {
    pods: usize,
    policies: usize,
    /// Pods that share their labels.
    alike: usize,
    namespaces: usize,
}

fn address(n: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + 10 + n as u32))
}

/// A pod: labels of an application, a tier and a replica set of its own.
fn pod(size: &Size, inventory: &mut Inventory, n: usize, app: usize) -> PolicyPod {
    let namespace = format!("team-{}", n / size.alike % size.namespaces);
    let class = n / size.alike;
    let label = |k: &str, v: String| (k.to_owned(), v);
    let labels = [
        label("app", format!("app-{app}")),
        label("tier", ["web", "api", "db"][class % 3].into()),
        label("pod-template-hash", format!("{class:x}")),
    ];
    PolicyPod {
        namespace_labels: inventory.namespace_labels(&namespace),
        name: Name::new(namespace, format!("pod-{n}")),
        labels: Arc::new(labels.into()),
        addresses: vec![address(n)],
        node: format!("node-{}", n % 100),
        host_network: false,
        finished: false,
        ports: Vec::new(),
        origin: Origin::Kernel,
    }
}

/// Policies as found: three in four isolate an application and open it to some others, one has an ipBlock, one
/// in ten opens a whole namespace; egress for one in three.
fn policies(size: &Size, rng: &mut Rng) -> Policies {
    let apps = (size.pods / size.alike / 10).max(1) as u64;
    let app = |rng: &mut Rng| format!("app-{}", rng.below(apps));
    let mut items: Vec<Value> = Vec::new();
    for n in 0..size.policies {
        let namespace = format!("team-{}", rng.below(size.namespaces as u64));
        let other = format!("team-{}", rng.below(size.namespaces as u64));
        let peers = |rng: &mut Rng| {
            json!([
                {"podSelector": {"matchLabels": {"app": app(rng)}}},
                {"podSelector": {"matchLabels": {"tier": (["web", "api"][n % 2])}},
                 "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": other}}},
                {"namespaceSelector": {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}},
            ])
        };
        let ports = json!([{"port": 8080}, {"port": 9000, "endPort": 9100}, {"protocol": "UDP", "port": 53}]);
        let mut ingress = vec![json!({"from": peers(rng), "ports": ports})];
        if n % 4 == 0 {
            let block = format!("10.0.{}.0/24", rng.below(20));
            ingress.push(json!({"from": [{"ipBlock": {"cidr": block, "except": [block.replace(".0/24", ".64/26")]}}]}));
        }
        let subject = match n % 10 {
            0 => json!({}),
            1..=4 => json!({"matchLabels": {"app": app(rng)}}),
            5..=7 => json!({"matchLabels": {"tier": (["web", "api", "db"][n % 3])}}),
            _ => json!({"matchLabels": {"tier": (["web", "api", "db"][n % 3]), "app": app(rng)}}),
        };
        let mut spec = json!({"podSelector": subject, "ingress": ingress});
        if n % 3 == 0 {
            spec["egress"] = json!([{"to": peers(rng), "ports": ports}]);
        }
        items.push(
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": format!("p{n}"), "namespace": namespace}, "spec": spec}),
        );
    }
    for n in 0..4 {
        items.push(json!({"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
            "metadata": {"name": format!("tier-{n}")}, "spec": {"tier": (["Admin", "Baseline"][n % 2]), "priority": n,
                "subject": {"namespaces": {}},
                "ingress": [{"action": (["Pass", "Deny"][n % 2]),
                    "from": [{"namespaces": {"matchLabels":
                        {"kubernetes.io/metadata.name": format!("team-{n}")}}}]}]}}));
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    let (store, findings) = Store::load(&[Input::new("policies.json", list)]);
    assert!(
        !findings.iter().any(|f| f.is_error()),
        "{:?}",
        findings.first()
    );
    let (policies, findings) = Policies::of(&store);
    assert!(findings.is_empty(), "{:?}", findings.first());
    policies
}

fn inventory(size: &Size) -> Inventory {
    let mut inventory = Inventory::of(&Store::default(), &Facts::default());
    for n in 0..size.namespaces {
        let labels = [(
            "zone".to_owned(),
            ["a", "b", "c", "d", "e"][n % 5].to_owned(),
        )];
        inventory.set_namespace(&format!("team-{n}"), labels.into());
    }
    for n in 0..size.pods {
        let app = n / size.alike / 10;
        let pod = pod(size, &mut inventory, n, app);
        inventory.set_pod(pod);
    }
    inventory
}

/// The figures of one size.
struct Took {
    compile: Duration,
    matrix: Duration,
    relabel: Duration,
    edit: Duration,
    classes: usize,
}

fn measure(what: &str, size: &Size) -> Took {
    let mut rng = Rng::new(5);
    let policies = policies(size, &mut rng);
    let mut inventory = inventory(size);
    let start = Instant::now();
    let mut compiled = Compiled::new(&policies, &inventory, Options::default());
    let compile = start.elapsed();
    let start = Instant::now();
    let mut matrix = Matrix::new(&compiled, Family::V4, PORT);
    let full = start.elapsed();
    let (allowed, pairs) = matrix.count();
    assert!(
        allowed > pairs / 100 && allowed < pairs,
        "{allowed} of {pairs}"
    );
    judge(&policies, &inventory, &compiled, &matrix, &mut rng, size);

    // A pod gets labels that nobody has.
    let mut relabel = Duration::ZERO;
    for round in 0..5 {
        let pod = pod(size, &mut inventory, round * 7, 100_000 + round);
        let name = pod.name.clone();
        inventory.set_pod(pod);
        let start = Instant::now();
        let changes = compiled.pod_changed(&inventory, &name);
        matrix.update(&compiled, &changes);
        relabel = relabel.max(start.elapsed());
    }
    judge(&policies, &inventory, &compiled, &matrix, &mut rng, size);

    // A policy goes and comes back.
    let mut without = policies.clone();
    let key = policies
        .iter()
        .nth(size.policies / 2)
        .expect("one")
        .key
        .clone();
    without.remove(&key);
    let start = Instant::now();
    let changes = compiled.policy_changed(&without, &key);
    matrix.update(&compiled, &changes);
    let edit = start.elapsed();
    judge(&without, &inventory, &compiled, &matrix, &mut rng, size);
    println!(
        "{what}: {} pods in {} classes, {} policies: compile {compile:.2?}, table of {pairs} pairs {full:.2?} \
         ({allowed} allowed), relabel {relabel:.2?}, policy edit {edit:.2?}, {} sets",
        size.pods,
        matrix.classes().len(),
        size.policies,
        compiled.sets().len(),
    );
    let (classes, matrix) = (matrix.classes().len(), full);
    Took {
        compile,
        matrix,
        relabel,
        edit,
        classes,
    }
}

/// Some pairs by the evaluator.
fn judge(
    policies: &Policies,
    inventory: &Inventory,
    compiled: &Compiled,
    matrix: &Matrix,
    rng: &mut Rng,
    size: &Size,
) {
    let evaluator = Evaluator::new(policies, inventory);
    let name = |n: usize| {
        Name::new(
            format!("team-{}", n / size.alike % size.namespaces),
            format!("pod-{n}"),
        )
    };
    for _ in 0..40 {
        let (a, b) = (
            rng.below(size.pods as u64) as usize,
            rng.below(size.pods as u64) as usize,
        );
        let query = Query::new(address(a), address(b), PORT);
        let expected = evaluator.decide(&query).allowed;
        assert_eq!(compiled.allows(&query), expected, "{a} {b}");
        assert_eq!(
            matrix.allowed(&name(a), &name(b)),
            Some(expected),
            "{a} {b}"
        );
    }
}

/// Peak memory of this process, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let number = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or_default() / 1024
}

#[test]
fn tables_relabels_and_classes() {
    let full = std::env::var_os("PODPATH_FULL").is_some();
    let debug = cfg!(debug_assertions) && !full;
    let scale = if debug { 20 } else { 1 };
    let size = |pods: usize, policies: usize, alike, namespaces| Size {
        pods: pods / scale,
        policies: policies / scale,
        alike,
        namespaces,
    };
    let small = measure("1k x 500", &size(1_000, 500, 1, 20));
    let middle = measure("5k x 2k", &size(5_000, 2_000, 1, 50));
    let large = measure("150k in 3k classes", &size(150_000, 2_000, 50, 20));
    println!("peak memory {} MiB", peak());
    if debug {
        return;
    }
    assert!(
        (2_500..4_500).contains(&large.classes),
        "{} classes",
        large.classes
    );
    let whole = |t: &Took| t.compile + t.matrix;
    assert!(
        whole(&small) < Duration::from_millis(500),
        "{:?}",
        whole(&small)
    );
    assert!(
        whole(&middle) < Duration::from_secs(5),
        "{:?}",
        whole(&middle)
    );
    assert!(
        middle.relabel < Duration::from_millis(50),
        "{:?}",
        middle.relabel
    );
    assert!(
        middle.edit < Duration::from_millis(250),
        "{:?}",
        middle.edit
    );
    assert!(
        whole(&large) < Duration::from_secs(60),
        "{:?}",
        whole(&large)
    );
    assert!(peak() < 4096, "{} MiB", peak());
}
