//! Random clusters and policies: every cell of `reach` is what the reference evaluator says pair by pair, of one
//! state and of two; a change applied is the changed set loaded from the beginning.
//!
//! PODPATH_ROUNDS sets how many are drawn (default 40 in debug, 1000 in release).

#[path = "common/policy_gen.rs"]
#[allow(dead_code, reason = "shared with the tests of the compiled filter")]
mod policy_gen;

use podpath::base::Rng;
use podpath::kube::controllers::{Facts, run};
use podpath::kube::manifest::Input;
use podpath::kube::policy::enforce::readings;
use podpath::kube::policy::reach::{Ends, Group, Kind, Pick, Question, Reach, State};
use podpath::kube::policy::translate::ways;
use podpath::kube::policy::{Evaluator, Inventory, L4, Owner, Policies};
use podpath::kube::policy::{Query, pods::PolicyPod};
use podpath::kube::proxy::View;
use podpath::kube::service::{Family, Protocol};
use podpath::kube::store::Store;
use policy_gen::{PORTS, one_in, pick};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn rounds() -> u64 {
    let said = std::env::var("PODPATH_ROUNDS")
        .ok()
        .and_then(|n| n.parse().ok());
    said.unwrap_or(if cfg!(debug_assertions) { 40 } else { 1_000 })
}

/// A state that owns what it is made of.
struct Owned {
    store: Store,
    policies: Policies,
    inventory: Inventory,
    views: [View; 2],
}

impl Owned {
    fn of(store: Store) -> Owned {
        let facts = Facts::of_store(&store, 1);
        let (desired, _) = run(&store, &facts, None);
        Owned {
            policies: Policies::of(&store).0,
            inventory: Inventory::of(&store, &facts),
            views: Family::ALL.map(|family| desired.view(family)),
            store,
        }
    }

    fn load(objects: &[Value]) -> Owned {
        Owned::of(store(objects))
    }

    fn state(&self) -> State<'_> {
        State {
            store: &self.store,
            policies: &self.policies,
            inventory: &self.inventory,
            views: &self.views,
        }
    }
}

fn store(objects: &[Value]) -> Store {
    let inputs: Vec<Input> = objects
        .iter()
        .map(|o| {
            Input::new(
                format!("{}-{}", o["kind"], o["metadata"]["name"]),
                o.to_string(),
            )
        })
        .collect();
    let (store, findings) = Store::load(&inputs);
    let error = findings.iter().find(|f| f.is_error());
    assert!(error.is_none(), "drawn objects are valid: {error:?}");
    store
}

fn service(rng: &mut Rng, n: u64) -> Value {
    let local = one_in(rng, 3);
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": format!("s{n}"), "namespace": pick(rng, &["red", "blue", "green"])},
        "spec": {"clusterIP": format!("10.96.0.{}", n + 1), "selector": {"app": pick(rng, &["a", "b"])},
            "internalTrafficPolicy": if local { "Local" } else { "Cluster" },
            "ports": [{"name": "x", "port": 80, "targetPort": PORTS[rng.below(4) as usize]}]}})
}

/// The agent's readings, drawn.
fn readings_of(rng: &mut Rng) -> Value {
    json!({"apiVersion": "podpath.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "drawn"},
        "spec": {"cni": {"plugin": "flannel"}, "podCIDRs": ["10.244.0.0/16", "fd00::/16"],
            "serviceCIDRs": ["10.96.0.0/16"],
            "networkPolicy": {"enforcement": pick(rng, &["calico", "kube-router"]),
                "ownNode": pick(rng, &["open", "filtered"]), "hairpin": pick(rng, &["open", "filtered"]),
                "ipBlockPods": one_in(rng, 2)}}})
}

fn draw(rng: &mut Rng) -> Vec<Value> {
    let mut objects = policy_gen::cluster(rng);
    if one_in(rng, 2) {
        objects.push(readings_of(rng));
    }
    objects.extend(policy_gen::policies(rng));
    objects.extend((0..rng.below(3)).map(|n| service(rng, n)));
    objects
}

/// Policies come, go and change; a pod is relabelled, goes, or comes back under another name.
fn change(rng: &mut Rng, objects: &[Value]) -> Vec<Value> {
    let is_policy = |o: &Value| o["kind"].as_str().is_some_and(|k| k.ends_with("Policy"));
    let mut out: Vec<Value> = objects
        .iter()
        .filter(|o| !is_policy(o) || one_in(rng, 2))
        .cloned()
        .collect();
    out.push(policy_gen::network_policy(rng, 77));
    let pods: Vec<usize> = (0..out.len())
        .filter(|at| out[*at]["kind"] == "Pod")
        .collect();
    let at = pods[rng.below(pods.len() as u64) as usize];
    match rng.below(3) {
        0 => out[at]["metadata"]["labels"] = json!({"app": pick(rng, &["a", "b"])}),
        1 => out[at]["metadata"]["name"] = json!("another"),
        _ => {
            out.remove(at);
        }
    }
    out
}

fn question(rng: &mut Rng) -> Question {
    let l4 = |rng: &mut Rng| {
        let protocol = [Protocol::Tcp, Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
        L4::Port(
            protocol[rng.below(4) as usize],
            PORTS[rng.below(4) as usize],
        )
    };
    let mut ports: Vec<L4> = match one_in(rng, 3) {
        true => Vec::new(),
        false => (0..=rng.below(2)).map(|_| l4(rng)).collect(),
    };
    ports.sort();
    ports.dedup();
    let all = |more: Option<Pick>| {
        let own = [Pick::Pods, Pick::Nodes, Pick::Outside];
        own.into_iter().chain(more).collect()
    };
    Question {
        family: Family::ALL[rng.below(2) as usize],
        ports,
        from: Ends {
            picks: all(None),
            ..Ends::default()
        },
        to: Ends {
            picks: all(Some(Pick::Services)),
            ..Ends::default()
        },
        by_pod: one_in(rng, 5),
        hosts: Vec::new(),
    }
}

fn address(pod: &PolicyPod, family: Family) -> Option<IpAddr> {
    pod.addresses
        .iter()
        .copied()
        .find(|ip| Family::of(*ip) == family)
}

/// First and last addresses of a range as it is shown.
fn bounds(range: &str) -> (IpAddr, IpAddr) {
    if let Some((first, last)) = range.split_once('-') {
        return (first.parse().expect(range), last.parse().expect(range));
    }
    let net: ipnetwork::IpNetwork = range.parse().expect(range);
    (net.network(), net.broadcast())
}

/// Addresses of every range of a group outside: both ends and one between.
fn outside(rng: &mut Rng, state: &State<'_>, group: &Group) -> Vec<IpAddr> {
    let mut all = Vec::new();
    for range in &group.ranges {
        let (first, last) = bounds(range);
        all.extend([first, last]);
        all.push(match (first, last) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let span = u64::from(b.to_bits() - a.to_bits()) + 1;
                Ipv4Addr::from_bits(a.to_bits() + rng.below(span) as u32).into()
            }
            (IpAddr::V6(a), _) => Ipv6Addr::from_bits(a.to_bits()).into(),
            _ => unreachable!("one family"),
        });
    }
    all.retain(|ip| state.inventory.owner(*ip) == Owner::Outside);
    all
}

/// The ends of a group in a state, named.
fn ends(rng: &mut Rng, reach: &Reach<'_>, group: &Group, at: usize) -> Vec<(String, IpAddr)> {
    let state = &reach.states[at];
    match group.kind {
        Kind::Pods => {
            let names = group.pods.iter().filter_map(|m| m.names[at].as_ref());
            let pods = names.filter_map(|name| state.inventory.pod(name));
            pods.filter_map(|p| Some((p.name.to_string(), address(p, reach.family)?)))
                .collect()
        }
        Kind::Nodes => {
            let nodes = state
                .inventory
                .nodes()
                .filter(|(n, _)| group.nodes.iter().any(|own| own == n));
            let ip = |ips: &[IpAddr]| {
                ips.iter()
                    .copied()
                    .find(|ip| Family::of(*ip) == reach.family)
            };
            nodes
                .filter_map(|(n, node)| Some((format!("node/{n}"), ip(&node.addresses)?)))
                .collect()
        }
        Kind::Outside => {
            let all = outside(rng, state, group);
            all.into_iter().map(|ip| (ip.to_string(), ip)).collect()
        }
        Kind::Service => Vec::new(),
    }
}

/// Every cell of a state against the evaluator. How many pairs were closed and open.
fn check(seed: u64, rng: &mut Rng, reach: &Reach<'_>, at: usize) -> [u64; 2] {
    let state = &reach.states[at];
    let (options, stand) = state
        .store
        .cluster()
        .map(|c| readings(&c.spec))
        .unwrap_or_default();
    let evaluator = Evaluator {
        options,
        ..Evaluator::new(state.policies, state.inventory)
    };
    let view = &state.views[usize::from(reach.family == Family::V6)];
    let mut seen = [0; 2];
    for &row in &reach.rows {
        for &column in &reach.columns {
            let (from, to) = (&reach.groups[row], &reach.groups[column]);
            let (senders, receivers) = (ends(rng, reach, from, at), ends(rng, reach, to, at));
            for (port, cell) in reach.cell(row, column).iter().enumerate() {
                let about = format!(
                    "seed {seed}, state {at}: {} -> {} {}",
                    from.name, to.name, cell.l4
                );
                let mut answers: BTreeMap<(String, String), Vec<bool>> = BTreeMap::new();
                for (a, source) in &senders {
                    if to.kind == Kind::Service {
                        let Some(ip) = reach.cluster_ip(to, port, at) else {
                            continue;
                        };
                        let ways = ways(state.inventory, view, *source, ip, cell.l4);
                        let open = ways
                            .iter()
                            .map(|w| w.clone().seen(stand).allowed(|q, d| evaluator.side(q, d)));
                        answers.insert((a.clone(), String::new()), open.collect());
                    }
                    for (b, target) in receivers.iter().filter(|(b, _)| b != a) {
                        let query = Query::new(*source, *target, cell.l4);
                        let open = evaluator.decide(&query).allowed;
                        answers.insert((a.clone(), b.clone()), vec![open]);
                    }
                }
                let open = answers.values().flatten().filter(|open| **open).count() as u64;
                // A Service without endpoints is one way that is closed.
                let pairs = answers
                    .values()
                    .map(|all| all.len().max(1) as u64)
                    .sum::<u64>();
                seen[0] += pairs - open;
                seen[1] += open;
                if from.kind == Kind::Outside || to.kind == Kind::Outside {
                    // A cell counts one for all addresses; all must say the same.
                    let of = from.count * to.count;
                    assert_eq!(cell.open[at] * pairs, open * of, "{about}: {answers:?}");
                    continue;
                }
                assert_eq!(cell.open[at], open, "{about}: {answers:?}");
                if reach.states.len() == 1 {
                    assert_eq!(cell.pairs, pairs, "{about}");
                }
            }
        }
    }
    seen
}

#[test]
fn every_cell_is_what_the_evaluator_says() {
    let mut seen = [0; 2];
    for seed in 0..rounds() {
        let mut rng = Rng::new(seed);
        let owned = Owned::load(&draw(&mut rng));
        let states = [owned.state()];
        let reach = Reach::new(&states, &question(&mut rng));
        let [closed, open] = check(seed, &mut rng, &reach, 0);
        seen = [seen[0] + closed, seen[1] + open];
    }
    assert!(
        seen.iter().all(|n| *n > 1_000),
        "both answers occur: {seen:?}"
    );
}

#[test]
fn both_states_of_a_change_are_what_the_evaluator_says() {
    let (mut opened, mut closed, mut matched) = (0, 0, 0);
    for seed in 0..rounds() {
        let mut rng = Rng::new(seed ^ 0x5eed);
        let before = draw(&mut rng);
        let after = change(&mut rng, &before);
        let (a, b) = (Owned::load(&before), Owned::load(&after));
        let states = [a.state(), b.state()];
        let reach = Reach::new(&states, &question(&mut rng));
        for at in 0..2 {
            check(seed, &mut rng, &reach, at);
        }
        for &row in &reach.rows {
            for &column in &reach.columns {
                for port in reach.cell(row, column) {
                    let (up, down) = port.change();
                    opened += up;
                    closed += down;
                }
            }
        }
        let renamed = reach.groups.iter().flat_map(|g| &g.pods);
        matched += renamed
            .filter(|m| m.name.name == "another" && m.names[0].is_some())
            .count();
    }
    assert!(
        opened > 100 && closed > 100,
        "changes occur: {opened} {closed}"
    );
    assert!(matched > 0, "a pod that was renamed is the same one");
}

/// Every cell with the names of its groups, for comparison.
fn cells(reach: &Reach<'_>) -> Vec<String> {
    let mut out = Vec::new();
    for &row in &reach.rows {
        for &column in &reach.columns {
            let (from, to) = (&reach.groups[row].name, &reach.groups[column].name);
            out.push(format!("{from} {to} {:?}", reach.cell(row, column)));
        }
    }
    out
}

#[test]
fn a_change_applied_is_the_changed_set_from_the_beginning() {
    let key = |o: &Value| {
        let kind = o["kind"].as_str().expect("a kind").to_owned();
        let namespace = o["metadata"]["namespace"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        (
            kind,
            namespace,
            o["metadata"]["name"].as_str().expect("a name").to_owned(),
        )
    };
    for seed in 0..rounds() {
        let mut rng = Rng::new(seed ^ 0xface);
        let before = draw(&mut rng);
        let after = change(&mut rng, &before);
        let mut changed = store(&before);
        let with: Vec<Value> = after
            .iter()
            .filter(|o| !before.contains(o))
            .cloned()
            .collect();
        changed.overlay(store(&with));
        let left: Vec<_> = after.iter().map(key).collect();
        for (kind, namespace, name) in before.iter().map(key).filter(|k| !left.contains(k)) {
            let text = match namespace.as_str() {
                "" => format!("{kind}/{name}"),
                namespace => format!("{kind}/{namespace}/{name}"),
            };
            assert!(
                changed.remove(&text.parse().expect("a removal")),
                "seed {seed}: {text}"
            );
        }
        let (laid, fresh) = (Owned::of(changed), Owned::load(&after));
        let q = question(&mut rng);
        let (laid, fresh) = ([laid.state()], [fresh.state()]);
        assert_eq!(
            cells(&Reach::new(&laid, &q)),
            cells(&Reach::new(&fresh, &q)),
            "seed {seed}"
        );
    }
}

/// Thousands of pods are computed by class. Prints what it took; in release the size of the issue.
#[test]
fn many_pods_are_few_groups() {
    let (pods, policies) = if cfg!(debug_assertions) {
        (1_000, 100)
    } else {
        (5_000, 2_000)
    };
    let mut rng = Rng::new(11);
    let (spaces, apps) = (20, 25);
    let mut items = Vec::new();
    for n in 0..pods {
        let (space, app) = (n % spaces, n / spaces % apps);
        items.push(
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p{n}"),
            "namespace": format!("team-{space}"),
            "labels": {"app": format!("app-{app}"), "tier": (["web", "api", "db"][app % 3])}},
            "spec": {"nodeName": format!("node-{}", n % 50), "containers": [{"name": "c", "image": "i",
                "ports": [{"containerPort": 8080 + app % 4}]}]},
            "status": {"podIP": format!("10.244.{}.{}", n / 250, n % 250 + 1)}}),
        );
    }
    for n in 0..policies {
        let app = |rng: &mut Rng| json!({"matchLabels": {"app": format!("app-{}", rng.below(apps as u64))}});
        let other = format!("team-{}", rng.below(spaces as u64));
        let rule = json!({"from": [{"podSelector": app(&mut rng)},
                {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": other}}},
                {"ipBlock": {"cidr": format!("198.51.{}.0/24", n % 100)}}],
            "ports": [{"port": 8080 + n % 4}]});
        items.push(
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata":
            {"name": format!("np{n}"), "namespace": format!("team-{}", n % spaces)},
            "spec": {"podSelector": app(&mut rng), "ingress": [rule]}}),
        );
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    let (store, findings) = Store::load(&[Input::new("many.json", list.to_string())]);
    assert!(!findings.iter().any(|f| f.is_error()), "{findings:?}");
    let owned = Owned::of(store);
    let states = [owned.state()];
    let start = std::time::Instant::now();
    let asked = Question {
        family: Family::V4,
        ports: Vec::new(),
        from: Ends::default(),
        to: Ends::default(),
        by_pod: false,
        hosts: Vec::new(),
    };
    let reach = Reach::new(&states, &asked);
    let grouped = start.elapsed();
    let (mut open, mut pairs) = (0, 0);
    for &row in &reach.rows {
        for &column in &reach.columns {
            for port in reach.cell(row, column) {
                open += port.open[0];
                pairs += port.pairs;
            }
        }
    }
    let whole = start.elapsed();
    let groups = reach.groups.len();
    println!(
        "{pods} pods x {policies} policies: {groups} groups in {grouped:?}, all cells {whole:?}, {open} of {pairs}"
    );
    assert_eq!(reach.pods(), pods as u64);
    assert!(
        groups < 700 && open > 0 && open < pairs,
        "{groups} groups, {open} of {pairs}"
    );
    assert!(cfg!(debug_assertions) || whole.as_secs() < 5, "{whole:?}");
}
