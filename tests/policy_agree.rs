//! Random clusters and policies, three independent answers: the reference evaluator, the compiled filter, and real
//! frames through the packet path under the rules and sets that an agent writes. Then objects change, the agents write
//! what differs, and all three are asked again.
//!
//! PODPATH_ROUNDS says how many are drawn (default 25 in debug, 5000 in release), PODPATH_SEED from which seed;
//! a failure prints the seed of its round.

#[path = "common/policy_gen.rs"]
#[allow(dead_code, reason = "shared with the tests of the compiled filter")]
mod policy_gen;
#[path = "common/policy_world.rs"]
#[allow(dead_code, reason = "shared with the vectors")]
mod policy_world;

use podpath::base::{Rng, Span};
use podpath::kube::controllers::Facts;
use podpath::kube::manifest::Input;
use podpath::kube::podpath_v1alpha1::ObjectRef;
use podpath::kube::policy::{
    BlockScope, Compiled, Evaluator, Inventory, L4, Options, OwnNode, Policies, Query,
};
use podpath::kube::service::Protocol;
use podpath::kube::store::Store;
use podpath::wire::proto;
use policy_gen::{OUTSIDE, PODS, PORTS, one_in};
use policy_world::{Came, End, PolicyWorld, Try};
use serde_json::{Value, json};
use std::net::IpAddr;

/// Connections tried in a round, before and after the change.
const TRIES: usize = 40;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// A drawn end; `true` for one that exists in this cluster.
fn end(rng: &mut Rng, objects: &[Value]) -> End {
    match rng.below(8) {
        0 => End::Outside(OUTSIDE[rng.below(3) as usize].parse().expect("an address")),
        1 => End::Node(format!("node-{}", rng.below(3) + 1)),
        _ => loop {
            let name = format!("p{}", rng.below(PODS as u64));
            let pods = objects.iter().filter(|o| o["kind"] == "Pod");
            let mut named = pods.filter(|o| o["metadata"]["name"] == *name);
            let Some(pod) = named.next() else { continue };
            // A finished pod has no network.
            if pod["status"]["phase"] == "Running" {
                let namespace = pod["metadata"]["namespace"].as_str().expect("a namespace");
                return End::Pod(namespace.to_owned(), name);
            }
        },
    }
}

fn draw_try(rng: &mut Rng, objects: &[Value]) -> Try {
    loop {
        let (from, to) = (end(rng, objects), end(rng, objects));
        let is_pod = |e: &End| matches!(e, End::Pod(..));
        let six = |e: &End| matches!(e, End::Outside(ip) if ip.is_ipv6());
        let four = |e: &End| matches!(e, End::Outside(ip) if ip.is_ipv4());
        let v6 = six(&from) || six(&to) || (!four(&from) && !four(&to) && one_in(rng, 4));
        // hostNetwork p11 has an IPv4 address in its status; its node has both.
        if !(is_pod(&from) || is_pod(&to)) || (v6 && (four(&from) || four(&to))) {
            continue;
        }
        return Try {
            from,
            to,
            proto: [proto::TCP, proto::UDP, proto::SCTP][rng.below(3) as usize],
            port: PORTS[rng.below(4) as usize],
            v6,
        };
    }
}

fn query(from: IpAddr, to: IpAddr, t: &Try) -> Query<'static> {
    let protocol = match t.proto {
        proto::TCP => Protocol::Tcp,
        proto::UDP => Protocol::Udp,
        _ => Protocol::Sctp,
    };
    Query::new(from, to, L4::Port(protocol, t.port))
}

/// Policies and inventory of the objects alone, without the cluster that is being tested.
fn read(objects: &[Value]) -> (Policies, Inventory) {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    let (store, findings) = Store::load(&[Input::new("drawn.json", list)]);
    let error = findings.iter().find(|f| f.is_error());
    assert!(error.is_none(), "drawn objects are valid: {error:?}");
    let inventory = Inventory::of(&store, &Facts::of_store(&store, 1));
    (Policies::of(&store).0, inventory)
}

/// Asks all three.
fn compare(
    world: &mut PolicyWorld,
    objects: &[Value],
    options: Options,
    rng: &mut Rng,
    about: &str,
) -> [usize; 2] {
    let (policies, inventory) = read(objects);
    let evaluator = Evaluator {
        policies: &policies,
        inventory: &inventory,
        options,
    };
    let compiled = Compiled::new(&policies, &inventory, options);
    let mut seen = [0; 2];
    for _ in 0..TRIES {
        let t = draw_try(rng, objects);
        let ((from_ns, from), (to_ns, to)) =
            match (world.place(&t.from, t.v6), world.place(&t.to, t.v6)) {
                (Ok(a), Ok(b)) => (a, b),
                // The hostNetwork pod's namespace has the node's addresses, of both families.
                (a, b) => panic!("{about}: {t:?}: {a:?} {b:?}"),
            };
        // Two ends in one namespace speak over lo, where no policy is.
        if from_ns == to_ns && from != to {
            continue;
        }
        let q = query(from, to, &t);
        let expected = evaluator.decide(&q);
        let filtered = compiled.allows(&q);
        let came = world
            .attempt(&t)
            .unwrap_or_else(|e| panic!("{about}: {t:?}: {e}"));
        let arrived = came == Came::Back;
        assert!(
            expected.allowed == filtered && filtered == arrived,
            "{about}: {t:?} ({from} to {to}): evaluator {}, filter {filtered}, frames {came:?}\n{expected:#?}\n{}",
            expected.allowed,
            serde_json::to_string_pretty(&objects).unwrap_or_default()
        );
        seen[usize::from(arrived)] += 1;
    }
    seen
}

/// Changes an object, here and in the cluster: a pod's labels, a namespace's, a policy that comes or goes.
fn change(world: &mut PolicyWorld, objects: &mut Vec<Value>, rng: &mut Rng) -> String {
    let at = Span::new("change", 0, 0);
    let is = |v: &Value, k: &str| v["kind"].as_str().is_some_and(|kind| kind.ends_with(k));
    let of = |objects: &[Value], k: &str| -> Vec<usize> {
        (0..objects.len()).filter(|i| is(&objects[*i], k)).collect()
    };
    let policies = of(objects, "Policy");
    let said = match rng.below(4) {
        0 | 1 => {
            let kind = if one_in(rng, 3) { "Namespace" } else { "Pod" };
            let all = of(objects, kind);
            let one = &mut objects[all[rng.below(all.len() as u64) as usize]];
            let app = if one_in(rng, 2) { "a" } else { "b" };
            one["metadata"]["labels"] = json!({"app": app, "x": ""});
            world.cluster.store.apply(one, &at);
            format!("labels of {}", one["metadata"]["name"])
        }
        2 if !policies.is_empty() => {
            let gone = objects.remove(policies[rng.below(policies.len() as u64) as usize]);
            let meta = &gone["metadata"];
            let kind = gone["kind"].as_str().unwrap_or_default().to_lowercase();
            let name = meta["name"].as_str().unwrap_or_default();
            let text = match meta["namespace"].as_str() {
                Some(namespace) => format!("{kind}/{namespace}/{name}"),
                None => format!("{kind}/{name}"),
            };
            let object: ObjectRef = text.parse().expect("a reference");
            assert!(world.cluster.store.delete(&object), "{object:?}");
            format!("without {}", meta["name"])
        }
        _ => {
            let number = objects.len() + 100;
            let new = policy_gen::network_policy(rng, number);
            world.cluster.store.apply(&new, &at);
            objects.push(new);
            format!("with np{number}")
        }
    };
    let findings = world.cluster.objects_changed();
    let bad: Vec<_> = findings.iter().filter(|f| f.is_error()).collect();
    assert!(bad.is_empty(), "{said}: {bad:?}");
    said
}

fn round(seed: u64) -> [usize; 2] {
    let mut rng = Rng::new(seed);
    let mut objects = policy_gen::cluster(&mut rng);
    objects.extend(policy_gen::policies(&mut rng));
    let every = !one_in(&mut rng, 4);
    let own_node = [OwnNode::Open, OwnNode::Judged][rng.below(2) as usize];
    let options = Options {
        own_node,
        blocks: if every {
            BlockScope::Every
        } else {
            BlockScope::NotPods
        },
        ..Options::default()
    };
    let deny = if one_in(&mut rng, 3) {
        "reject"
    } else {
        "drop"
    };
    let spec = json!({
        "cni": {"plugin": "calico", "backend": "bgp"},
        "networkPolicy": {"enforcement": "calico", "deny": deny, "ipBlockPods": every,
            "ownNode": if own_node == OwnNode::Open { "open" } else { "filtered" }},
    });
    let about = format!("PODPATH_SEED={seed} PODPATH_ROUNDS=1");
    let outside: Vec<Try> = OUTSIDE
        .iter()
        .map(|ip| Try {
            from: End::Outside(ip.parse().expect("an address")),
            to: End::Node("node-1".to_owned()),
            proto: proto::TCP,
            port: 80,
            v6: ip.contains(':'),
        })
        .collect();
    let mut world = PolicyWorld::build(&objects, &spec, &outside).expect("a cluster");
    let bad: Vec<_> = world.findings.iter().filter(|f| f.is_error()).collect();
    assert!(bad.is_empty(), "{about}: {bad:?}");
    let mut seen = compare(&mut world, &objects, options, &mut rng, &about);
    for _ in 0..2 {
        let said = change(&mut world, &mut objects, &mut rng);
        let more = compare(
            &mut world,
            &objects,
            options,
            &mut rng,
            &format!("{about} {said}"),
        );
        seen = [seen[0] + more[0], seen[1] + more[1]];
    }
    seen
}

#[test]
fn evaluator_filter_and_frames_agree() {
    let first = number("PODPATH_SEED").unwrap_or(1);
    let rounds =
        number("PODPATH_ROUNDS").unwrap_or(if cfg!(debug_assertions) { 25 } else { 5_000 });
    println!("seeds {first} to {}", first + rounds - 1);
    let (mut denied, mut allowed) = (0, 0);
    for seed in first..first + rounds {
        let [no, yes] = round(seed);
        denied += no;
        allowed += yes;
        if (seed + 1 - first).is_multiple_of(500) {
            println!(
                "{} rounds: {allowed} allowed, {denied} denied",
                seed + 1 - first
            );
        }
    }
    println!("{rounds} rounds, {allowed} allowed, {denied} denied");
    assert!(
        rounds < 10 || (denied > 0 && allowed > 0),
        "both come about"
    );
}
