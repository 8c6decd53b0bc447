//! `podpath bench policy`: policies compiled, the full table of one port, a pod relabelled, a policy edited,
//! at the sizes that podpath promises something of.
//!
//! Clusters are `kube::policy::sample`'s. What was measured is asked of the evaluator for some pairs: a
//! wrong answer ends the benchmark.

use super::clock::{Timing, cpu, peak_memory};
use super::figures::{Row, Section};
use crate::base::Rng;
use crate::kube::policy::sample::Size;
use crate::kube::policy::{Compiled, Evaluator, Inventory, L4, Matrix, Options, Policies, Query};
use crate::kube::service::{Family, Protocol};
use anyhow::{Context, ensure};
use indicatif::ProgressBar;
use std::time::Duration;

const PORT: L4 = L4::Port(Protocol::Tcp, 8080);
const SEED: u64 = 5;
/// Pods relabelled one after the other; the longest counts.
const RELABELS: usize = 5;
/// Pairs asked of the evaluator.
const JUDGED: usize = 40;

/// A scenario.
struct Case {
    name: &'static str,
    size: Size,
    /// How often it is measured.
    times: usize,
    /// What compiling and the table may take together.
    bound: Duration,
}

const CASES: [Case; 3] = [
    Case {
        name: "1,000 x 500",
        size: Size {
            pods: 1_000,
            policies: 500,
            alike: 1,
            namespaces: 20,
        },
        times: 7,
        bound: Duration::from_millis(500),
    },
    Case {
        name: "5,000 x 2,000",
        size: Size {
            pods: 5_000,
            policies: 2_000,
            alike: 1,
            namespaces: 50,
        },
        times: 3,
        bound: Duration::from_secs(5),
    },
    Case {
        name: "150,000 in 3,000 classes",
        size: Size {
            pods: 150_000,
            policies: 2_000,
            alike: 50,
            namespaces: 20,
        },
        times: 1,
        bound: Duration::from_secs(60),
    },
];

/// Sizes that are measured; a debug build measures nothing.
const MEASURED: usize = if cfg!(debug_assertions) {
    1
} else {
    CASES.len()
};

/// All sizes.
pub fn run(bar: &ProgressBar) -> anyhow::Result<Vec<Section>> {
    let cases = &CASES[..MEASURED];
    bar.set_length(cases.iter().map(|c| c.times as u64).sum());
    let mut rows = Vec::new();
    for case in cases {
        rows.push(row(case, bar)?);
    }
    Ok(vec![Section {
        name: "policy-compile".to_owned(),
        title: "all pairs of pods on TCP 8080: policies compiled, the table, then edits to it"
            .into(),
        rows,
        notes: vec![
            "CPU time of one core, the least of several runs; relabel and edit: the longest".into(),
            format!(
                "each size's answers agree with the evaluator's for {JUDGED} pairs, before and after edits"
            ),
            "peak: most memory that the process has had, objects and both tables included; 4,096 is the bound".into(),
        ],
    }])
}

fn row(case: &Case, bar: &ProgressBar) -> anyhow::Result<Row> {
    let mut all = Vec::new();
    for _ in 0..case.times {
        bar.set_message(case.name);
        all.push(measure(&case.size)?);
        bar.inc(1);
    }
    let of = |figure: fn(&Took) -> Duration| {
        Timing::of(all.iter().map(|t| figure(t).as_secs_f64() * 1e3).collect())
    };
    let last = all.last().context("nothing was measured")?;
    let (compile, table) = (of(|t| t.compile), of(|t| t.table));
    Ok(Row::of("pods", case.name)
        .count("policies", case.size.policies as u64)
        .count("classes", last.classes)
        .wide()
        .count("pairs", last.pairs)
        .wide()
        .count("allowed", last.allowed)
        .number("compile_ms", compile.least(), 1)
        .number("table_ms", table.least(), 1)
        .number("both_ms", of(|t| t.compile + t.table).least(), 1)
        .number("bound_ms", case.bound.as_secs_f64() * 1e3, 0)
        .number("relabel_ms", of(|t| t.relabel).least(), 2)
        .number("edit_ms", of(|t| t.edit).least(), 1)
        .count("peak_mib", peak_memory() >> 20))
}

/// What one size took.
struct Took {
    compile: Duration,
    table: Duration,
    relabel: Duration,
    edit: Duration,
    classes: u64,
    pairs: u64,
    allowed: u64,
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = cpu();
    let done = work();
    (done, cpu().saturating_sub(began))
}

fn measure(size: &Size) -> anyhow::Result<Took> {
    let mut rng = Rng::new(SEED);
    let policies = size.policies(&mut rng);
    let policies = policies.map_err(|f| anyhow::anyhow!("{f}"))?;
    let mut inventory = size.inventory();
    let (mut compiled, compile) =
        timed(|| Compiled::new(&policies, &inventory, Options::default()));
    let (mut matrix, table) = timed(|| Matrix::new(&compiled, Family::V4, PORT));
    let (allowed, pairs) = matrix.count();
    ensure!(
        allowed > 0 && allowed < pairs,
        "{allowed} of {pairs} pairs are open"
    );
    let classes = matrix.classes().len() as u64;
    judge(size, &policies, &inventory, &matrix, &mut rng)?;

    // Pods get labels that nobody has.
    let mut relabel = Duration::ZERO;
    for round in 0..RELABELS {
        let pod = size.pod(&mut inventory, round * 7 % size.pods, size.pods + round);
        let name = pod.name.clone();
        inventory.set_pod(pod);
        let ((), took) = timed(|| {
            let changes = compiled.pod_changed(&inventory, &name);
            matrix.update(&compiled, &changes);
        });
        relabel = relabel.max(took);
    }
    judge(size, &policies, &inventory, &matrix, &mut rng)?;

    // A policy goes.
    let mut without = policies.clone();
    let middle = policies.iter().nth(size.policies / 2);
    let key = middle.context("no policy")?.key.clone();
    without.remove(&key);
    let ((), edit) = timed(|| {
        let changes = compiled.policy_changed(&without, &key);
        matrix.update(&compiled, &changes);
    });
    judge(size, &without, &inventory, &matrix, &mut rng)?;
    Ok(Took {
        compile,
        table,
        relabel,
        edit,
        classes,
        pairs,
        allowed,
    })
}

/// Some pairs by the evaluator.
fn judge(
    size: &Size,
    policies: &Policies,
    inventory: &Inventory,
    matrix: &Matrix,
    rng: &mut Rng,
) -> anyhow::Result<()> {
    let evaluator = Evaluator::new(policies, inventory);
    for _ in 0..JUDGED {
        let [a, b] = [0; 2].map(|_| rng.below(size.pods as u64) as usize);
        let query = Query::new(size.address(a), size.address(b), PORT);
        let (expected, found) = (
            evaluator.decide(&query).allowed,
            matrix.allowed(&size.name(a), &size.name(b)),
        );
        ensure!(
            found == Some(expected),
            "{a} to {b}: {found:?}, and the evaluator says {expected}"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_cluster_has_figures() {
        let size = Size {
            pods: 60,
            policies: 30,
            alike: 2,
            namespaces: 4,
        };
        let took = measure(&size).expect("right answers");
        assert!(
            took.classes > 10 && took.pairs == 60 * 59,
            "{} {}",
            took.classes,
            took.pairs
        );
        assert!(took.compile > Duration::ZERO && took.table > Duration::ZERO);
        // The evaluator is asked: a table of other policies is found out.
        let mut rng = Rng::new(SEED);
        let inventory = size.inventory();
        let compiled = Compiled::new(&Policies::default(), &inventory, Options::default());
        let wrong = Matrix::new(&compiled, Family::V4, PORT);
        let policies = size.policies(&mut rng).expect("valid");
        assert!(judge(&size, &policies, &inventory, &wrong, &mut rng).is_err());
    }
}
