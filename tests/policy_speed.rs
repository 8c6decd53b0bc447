//! Compiled policies at size: the full table of one port, a relabelled pod, classes of a large cluster.
//!
//! In release the sizes and bounds; in debug small clusters (the sizes with PODPATH_FULL), where the
//! times mean nothing and only the answers count. Prints what it measured.

use podpath::base::Rng;
use podpath::kube::policy::sample::Size;
use podpath::kube::policy::{Compiled, Evaluator, Inventory, L4, Matrix, Options, Policies, Query};
use podpath::kube::service::{Family, Protocol};
use std::time::{Duration, Instant};

const PORT: L4 = L4::Port(Protocol::Tcp, 8080);

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
    let policies = size.policies(&mut rng).expect("valid policies");
    let mut inventory = size.inventory();
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
        let pod = size.pod(&mut inventory, round * 7, 100_000 + round);
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
    for _ in 0..40 {
        let (a, b) = (
            rng.below(size.pods as u64) as usize,
            rng.below(size.pods as u64) as usize,
        );
        let query = Query::new(size.address(a), size.address(b), PORT);
        let expected = evaluator.decide(&query).allowed;
        assert_eq!(compiled.allows(&query), expected, "{a} {b}");
        assert_eq!(
            matrix.allowed(&size.name(a), &size.name(b)),
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
    if cfg!(debug_assertions) {
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
