//! Random clusters and policies: the evaluator, the compiled filter and the matrix give the same answers with the
//! same reasons, and an updated filter answers as one built anew.
//!
//! PODPATH_ROUNDS sets how many are drawn (default 60 in debug, 5000 in release).

#[path = "common/policy_gen.rs"]
mod policy_gen;

use podpath::base::Rng;
use podpath::kube::controllers::Facts;
use podpath::kube::manifest::Input;
use podpath::kube::policy::{
    BaselineScope, BlockScope, Compiled, Direction, Evaluator, Hairpin, Inventory, L4, Matrix,
    Options, OwnNode, Owner, Policies, PolicyKey, PolicyPod, Query,
};
use podpath::kube::service::{Family, Protocol};
use podpath::kube::store::{Name, Store};
use policy_gen::{OUTSIDE, PODS, PORTS, one_in};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::IpAddr;

fn rounds() -> u64 {
    let said = std::env::var("PODPATH_ROUNDS")
        .ok()
        .and_then(|n| n.parse().ok());
    said.unwrap_or(if cfg!(debug_assertions) { 60 } else { 5_000 })
}

fn load(objects: &[Value]) -> (Policies, Inventory) {
    // A file each: places do not move when another object changes.
    let name = |o: &Value| format!("{}-{}", o["kind"], o["metadata"]["name"]);
    let inputs: Vec<Input> = objects
        .iter()
        .map(|o| Input::new(name(o), o.to_string()))
        .collect();
    let (store, findings) = Store::load(&inputs);
    let error = findings.iter().find(|f| f.is_error());
    assert!(error.is_none(), "drawn objects are valid: {error:?}");
    let (policies, findings) = Policies::of(&store);
    assert!(!findings.iter().any(|f| f.is_error()), "{findings:?}");
    let written = objects
        .iter()
        .filter(|o| o["kind"].as_str().is_some_and(|k| k.ends_with("Policy")));
    assert_eq!(policies.len(), written.count());
    let inventory = Inventory::of(&store, &Facts::of_store(&store, 1));
    (policies, inventory)
}

fn options(rng: &mut Rng) -> Options {
    if one_in(rng, 2) {
        return Options::default();
    }
    Options {
        hairpin: [Hairpin::Judged, Hairpin::Open][rng.below(2) as usize],
        blocks: [BlockScope::Every, BlockScope::NotPods, BlockScope::Outside]
            [rng.below(3) as usize],
        baseline: [BaselineScope::PerDirection, BaselineScope::PerPod][rng.below(2) as usize],
        own_node: [OwnNode::Open, OwnNode::Judged][rng.below(2) as usize],
    }
}

fn addresses(inventory: &Inventory) -> Vec<IpAddr> {
    let mut all: BTreeSet<IpAddr> = OUTSIDE
        .iter()
        .map(|ip| ip.parse().expect("an address"))
        .collect();
    all.extend(inventory.pods().flat_map(|p| p.addresses.clone()));
    all.extend(inventory.nodes().flat_map(|(_, n)| n.addresses.clone()));
    all.into_iter().collect()
}

fn l4(rng: &mut Rng) -> L4 {
    if one_in(rng, 12) {
        return L4::Other;
    }
    let protocol =
        [Protocol::Tcp, Protocol::Tcp, Protocol::Udp, Protocol::Sctp][rng.below(4) as usize];
    L4::Port(protocol, PORTS[rng.below(4) as usize])
}

/// Every pair of addresses of one family with a drawn port: both sides and their reasons. How many were denied.
fn same_answers(
    seed: u64,
    rng: &mut Rng,
    evaluator: &Evaluator<'_>,
    compiled: &Compiled,
) -> [u64; 2] {
    let all = addresses(evaluator.inventory);
    let mut counts = [0, 0];
    for from in &all {
        for to in all.iter().filter(|to| to.is_ipv4() == from.is_ipv4()) {
            let mut query = Query::new(*from, *to, l4(rng));
            query.hairpin = from == to && one_in(rng, 2);
            for direction in Direction::ALL {
                let expected = evaluator.side(&query, direction);
                let found = compiled.side(&query, direction).to_side();
                assert_eq!(expected, found, "seed {seed}: {query:?} {direction}");
            }
            let allowed = evaluator.decide(&query).allowed;
            assert_eq!(allowed, compiled.allows(&query));
            counts[usize::from(allowed)] += 1;
        }
    }
    counts
}

/// Every pair of pods against the matrix.
fn same_matrix(seed: u64, evaluator: &Evaluator<'_>, matrix: &Matrix, family: Family) {
    let of = |pod: &PolicyPod| {
        let ip = pod
            .addresses
            .iter()
            .copied()
            .find(|ip| Family::of(*ip) == family);
        ip.filter(|_| pod.is_selectable())
            .map(|ip| (pod.name.clone(), ip))
    };
    let pods: Vec<(Name, IpAddr)> = evaluator.inventory.pods().filter_map(of).collect();
    let mut allowed = 0;
    for (from, a) in &pods {
        for (to, b) in &pods {
            let expected = evaluator.decide(&Query::new(*a, *b, matrix.l4())).allowed;
            assert_eq!(
                matrix.allowed(from, to),
                Some(expected),
                "seed {seed}: {from} {to} {:?}",
                matrix.l4()
            );
            allowed += u64::from(expected && from != to);
        }
    }
    let total = (pods.len() * pods.len().saturating_sub(1)) as u64;
    assert_eq!(matrix.count(), (allowed, total), "seed {seed}");
}

#[test]
fn evaluator_filter_and_matrix_agree() {
    let mut counts = [0, 0];
    for seed in 0..rounds() {
        let mut rng = Rng::new(seed);
        let mut objects = policy_gen::cluster(&mut rng);
        objects.extend(policy_gen::policies(&mut rng));
        let (policies, inventory) = load(&objects);
        let options = options(&mut rng);
        let mut evaluator = Evaluator::new(&policies, &inventory);
        evaluator.options = options;
        let compiled = Compiled::new(&policies, &inventory, options);
        let [denied, allowed] = same_answers(seed, &mut rng, &evaluator, &compiled);
        counts = [counts[0] + denied, counts[1] + allowed];
        for family in Family::ALL {
            let matrix = Matrix::new(&compiled, family, l4(&mut rng));
            same_matrix(seed, &evaluator, &matrix, family);
        }
    }
    println!(
        "{} rounds: {} denied, {} allowed",
        rounds(),
        counts[0],
        counts[1]
    );
    assert!(
        counts[0] * 10 > counts[1],
        "too few denials to mean anything: {counts:?}"
    );
}

/// The objects with one thing changed, and what to tell the compiled policies of it.
enum Change {
    Pod(Name),
    Namespace(String),
    Policy(PolicyKey),
}

fn key(policies: &[&Policies], object: &Value) -> PolicyKey {
    let name = object["metadata"]["name"].as_str().expect("a name");
    let kind = object["kind"].as_str().expect("a kind");
    let all = policies.iter().flat_map(|p| p.iter());
    let mut found = all.filter(|p| p.key.name.name == name && p.key.kind.to_string() == kind);
    found.next().expect("it is in one of them").key.clone()
}

#[test]
fn an_updated_filter_answers_as_a_new_one() {
    for seed in 0..rounds() / 3 {
        let mut rng = Rng::new(1_000_000 + seed);
        let mut objects = policy_gen::cluster(&mut rng);
        objects.extend(policy_gen::policies(&mut rng));
        let (mut policies, mut inventory) = load(&objects);
        let options = options(&mut rng);
        let mut compiled = Compiled::new(&policies, &inventory, options);
        let asked = l4(&mut rng);
        let mut matrices = Family::ALL.map(|family| Matrix::new(&compiled, family, asked));
        for step in 0..8 {
            let (object, _) = policy_gen::change(&mut rng, &mut objects, step);
            if object.is_null() {
                continue;
            }
            let before = (policies, inventory);
            (policies, inventory) = load(&objects);
            let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
            let meta = &object["metadata"];
            let what = match object["kind"].as_str() {
                Some("Pod") => {
                    Change::Pod(Name::new(text(&meta["namespace"]), text(&meta["name"])))
                }
                Some("Namespace") => Change::Namespace(text(&meta["name"])),
                _ => Change::Policy(key(&[&before.0, &policies], &object)),
            };
            let changes = match &what {
                Change::Pod(name) => compiled.pod_changed(&inventory, name),
                Change::Namespace(name) => compiled.namespace_changed(&inventory, name),
                Change::Policy(key) => compiled.policy_changed(&policies, key),
            };
            let mut evaluator = Evaluator::new(&policies, &inventory);
            evaluator.options = options;
            let seed = seed * 100 + step as u64;
            same_answers(seed, &mut rng, &evaluator, &compiled);
            let anew = Compiled::new(&policies, &inventory, options);
            assert_eq!(
                anew.identities().len(),
                compiled.identities().len(),
                "seed {seed}"
            );
            assert_eq!(
                anew.sets().len(),
                compiled.sets().len(),
                "seed {seed}: a set is kept or lost"
            );
            assert_eq!(anew.to_text(), compiled.to_text(), "seed {seed}");
            for matrix in &mut matrices {
                matrix.update(&compiled, &changes);
            }
            for (matrix, family) in matrices.iter().zip(Family::ALL) {
                same_matrix(seed, &evaluator, matrix, family);
            }
        }
    }
}

/// The inventory changed in place is the one read anew.
#[test]
fn an_updated_inventory_is_as_one_read_anew() {
    for seed in 0..rounds() {
        let mut rng = Rng::new(2_000_000 + seed);
        let mut objects = policy_gen::cluster(&mut rng);
        let (_, mut inventory) = load(&objects);
        for _ in 0..4 {
            let at = 5 + rng.below(PODS as u64 - 1) as usize;
            objects[at] = policy_gen::pod(&mut rng, at - 5);
            let (_, anew) = load(&objects);
            let name = Name::new(
                objects[at]["metadata"]["namespace"].as_str().expect("one"),
                objects[at]["metadata"]["name"].as_str().expect("one"),
            );
            inventory.set_pod(anew.pod(&name).expect("the pod").clone());
            for ip in addresses(&anew) {
                match (inventory.owner(ip), anew.owner(ip)) {
                    (Owner::Pod(a), Owner::Pod(b)) => assert_eq!(a.name, b.name),
                    (a, b) => assert_eq!(a, b, "seed {seed} {ip}"),
                }
            }
            let labels = |i: &Inventory| {
                i.pods()
                    .map(|p| (p.name.clone(), p.labels.clone()))
                    .collect::<Vec<_>>()
            };
            assert_eq!(labels(&inventory), labels(&anew));
        }
    }
}
