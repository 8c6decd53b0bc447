//! Policies with anything anywhere: nothing panics, and an object acts exactly when the API server would take it.
//!
//! Valid drawn objects get some of their values replaced by junk. PODPATH_ROUNDS as in policy_random.

#[path = "common/policy_gen.rs"]
#[allow(dead_code, reason = "shared with the differential test")]
mod policy_gen;

use podpath::base::Rng;
use podpath::kube::controllers::Facts;
use podpath::kube::manifest::Input;
use podpath::kube::policy::lint::{Linted, lint};
use podpath::kube::policy::{
    Compiled, Direction, Evaluator, Inventory, L4, Matrix, Options, Policies, Query,
};
use podpath::kube::service::{Family, Protocol};
use podpath::kube::store::Store;
use policy_gen::{OUTSIDE, pick};
use serde_json::{Value, json};

/// Replaces one value somewhere below.
fn spoil(rng: &mut Rng, value: &mut Value) {
    let inner = match value {
        Value::Object(map) if !map.is_empty() && rng.below(5) > 0 => {
            let at = rng.below(map.len() as u64) as usize;
            map.values_mut().nth(at)
        }
        Value::Array(list) if !list.is_empty() && rng.below(5) > 0 => {
            let at = rng.below(list.len() as u64) as usize;
            list.get_mut(at)
        }
        _ => None,
    };
    if let Some(inner) = inner {
        return spoil(rng, inner);
    }
    *value = match rng.below(14) {
        0 => Value::Null,
        1 => json!({}),
        2 => json!([]),
        3 => json!(""),
        4 => json!(-1),
        5 => json!(70_000),
        6 => json!(pick(
            rng,
            &[
                "TCP",
                "Ingress",
                "Pass",
                "0.0.0.0/0",
                "::/0",
                "web",
                "*.a.b",
                "a"
            ]
        )),
        7 => json!("10.0.0.1/33"),
        8 => json!([null]),
        9 => json!([{}]),
        10 => json!({"matchLabels": {"a": "b"}}),
        11 => json!({"matchExpressions": [{"key": "", "operator": "In"}]}),
        12 => json!([["x"]]),
        _ => json!(true),
    };
}

/// Whether the object could not be read at all.
fn store_is_empty(store: &Store) -> bool {
    let tiers = store.cluster_network_policies.len() + store.admin_network_policies.len();
    store.network_policies.len() + tiers + store.baseline_policies.len() == 0
}

#[test]
fn nothing_panics_and_what_is_refused_does_not_act() {
    let default = if cfg!(debug_assertions) { 400 } else { 20_000 };
    let said = std::env::var("PODPATH_ROUNDS")
        .ok()
        .and_then(|n| n.parse().ok());
    let (mut refused, mut taken) = (0, 0);
    for seed in 0..said.unwrap_or(default) {
        let mut rng = Rng::new(3_000_000 + seed);
        let mut policy = match rng.below(2) {
            0 => policy_gen::network_policy(&mut rng, 0),
            _ => policy_gen::tier_policy(&mut rng, 0),
        };
        for _ in 0..=rng.below(2) {
            spoil(&mut rng, &mut policy["spec"]);
        }
        let mut inputs = vec![Input::new("p", policy.to_string())];
        let cluster = policy_gen::cluster(&mut rng);
        inputs.extend(cluster.iter().map(|o| Input::new("o", o.to_string())));
        let (store, findings) = Store::load(&inputs);
        let (policies, again) = Policies::of(&store);
        let error = findings.iter().find(|f| f.is_error());
        let refuses = again.iter().any(|f| f.is_error());
        assert!(
            error.is_some() || !refuses,
            "seed {seed}: {again:?} {policy}"
        );
        assert_eq!(
            policies.is_empty(),
            refuses || store_is_empty(&store),
            "seed {seed}: {policy}"
        );
        // A field of the wrong type is left out, and what is left may be valid: the store has told.
        assert!(
            error.is_some() || policies.len() == 1,
            "seed {seed}: {policy}"
        );
        *(if error.is_some() {
            &mut refused
        } else {
            &mut taken
        }) += 1;
        let inventory = Inventory::of(&store, &Facts::of_store(&store, 1));
        let compiled = Compiled::new(&policies, &inventory, Options::default());
        let evaluator = Evaluator::new(&policies, &inventory);
        for pod in inventory.pods() {
            let outside: Vec<std::net::IpAddr> =
                OUTSIDE.iter().filter_map(|ip| ip.parse().ok()).collect();
            for (a, b) in pod
                .addresses
                .iter()
                .flat_map(|a| outside.iter().map(move |b| (*a, *b)))
            {
                let query = Query::new(a, b, L4::Port(Protocol::Tcp, 80));
                for direction in Direction::ALL {
                    let found = compiled.side(&query, direction).to_side();
                    assert_eq!(
                        evaluator.side(&query, direction),
                        found,
                        "seed {seed}: {policy}"
                    );
                }
            }
        }
        Matrix::new(&compiled, Family::V4, L4::Other);
        lint(&Linted {
            store: &store,
            policies: &policies,
            inventory: &inventory,
            views: &[],
        });
    }
    println!("{refused} refused, {taken} taken");
    assert!(
        refused > taken / 4 && taken > refused / 16,
        "{refused} refused, {taken} taken"
    );
}
