//! Incremental is full: after any sequence of edits (pods, namespaces, policies of all kinds, drawn anew, coming and
//! going) the tables that an agent edited on a node print as those of a node where it wrote them at once.
//!
//! Held by text, byte for byte; chains and sets are brought into one order, as the kernel lists them in that of their
//! making. PODPATH_ROUNDS says how many sequences are drawn, PODPATH_SEED from which seed. What the compiled filter
//! keeps is compared in tests/policy_random.rs.

#[path = "common/policy_gen.rs"]
#[allow(dead_code, reason = "shared with the tests of the compiled filter")]
mod policy_gen;
#[path = "common/policy_world.rs"]
#[allow(dead_code, reason = "shared with the vectors")]
mod policy_world;

use podpath::base::{Instant, NodeId, NsId, Rng, Span};
use podpath::cluster::policy::carry_out;
use podpath::kube::controllers::Facts;
use podpath::kube::manifest::Input;
use podpath::kube::podpath_v1alpha1::{
    Deny, EgressSees, Enforcement, IngressSees, NetworkPolicySpec, ObjectRef, Reach,
};
use podpath::kube::policy::enforce::{Layout, Options, Plan, calico, kube_router, nftables};
use podpath::kube::policy::{Inventory, Policies};
use podpath::kube::store::Store;
use podpath::net::NetNs;
use podpath::nf::{Backend, Family};
use policy_gen::one_in;
use policy_world::PolicyWorld;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const AGENTS: [Enforcement; 3] = [
    Enforcement::Calico,
    Enforcement::KubeRouter,
    Enforcement::Nftables,
];
const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn seeds(debug: u64, release: u64) -> std::ops::Range<u64> {
    let first = number("PODPATH_SEED").unwrap_or(1);
    let rounds = number("PODPATH_ROUNDS").unwrap_or(if cfg!(debug_assertions) {
        debug
    } else {
        release
    });
    first..first + rounds
}

fn plan(objects: &[Value]) -> Plan {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    let (store, findings) = Store::load(&[Input::new("drawn.json", list)]);
    let error = findings.iter().find(|f| f.is_error());
    assert!(error.is_none(), "drawn objects are valid: {error:?}");
    let inventory = Inventory::of(&store, &Facts::of_store(&store, 1));
    Plan::of(&Policies::of(&store).0, &inventory)
}

/// What an agent wants on a node.
fn layout(agent: Enforcement, plan: &Plan, node: &str, options: Options) -> Layout {
    let name = node.to_owned();
    match agent {
        Enforcement::Calico => {
            let hosts =
                ["172.18.0.2", "172.18.0.3", "fd01::2"].map(|ip| ip.parse().expect("an address"));
            let host = calico::Host {
                name,
                hosts: hosts.to_vec(),
                ipip: true,
                v6: true,
                ..calico::Host::default()
            };
            calico::layout(plan, &host, options)
        }
        Enforcement::KubeRouter => {
            let host = kube_router::Host {
                name,
                v6: true,
                ..kube_router::Host::default()
            };
            kube_router::layout(plan, &host, options)
        }
        Enforcement::Nftables | Enforcement::None => nftables::layout(plan, node, options),
    }
}

fn spec(rng: &mut Rng) -> NetworkPolicySpec {
    let mut reach = || one_in(rng, 2).then_some(Reach::Open);
    let (own_node, hairpin) = (reach(), reach());
    NetworkPolicySpec {
        own_node,
        hairpin,
        deny: one_in(rng, 2).then_some(Deny::Reject),
        ip_block_pods: one_in(rng, 2).then_some(false),
        egress_sees: one_in(rng, 2).then_some(EgressSees::Service),
        ingress_sees: one_in(rng, 2).then_some(IngressSees::Node),
        ..NetworkPolicySpec::default()
    }
}

/// iptables-save of `filter`, `ipset save` and `nft list ruleset`, chains and sets in the order of their names.
fn printed(ns: &NetNs) -> String {
    let Some(nf) = ns.nf() else {
        return String::new();
    };
    let mut out = String::new();
    for family in [Family::V4, Family::V6] {
        let text = nf
            .rule_set(family, Backend::Nft)
            .map(|s| s.to_save(false))
            .unwrap_or_default();
        let filter = text
            .split("*filter\n")
            .nth(1)
            .and_then(|t| t.split("COMMIT").next());
        let lines: Vec<&str> = filter.unwrap_or_default().lines().collect();
        let mut heads: Vec<&str> = lines
            .iter()
            .copied()
            .filter(|l| l.starts_with(':'))
            .collect();
        heads.sort_unstable();
        // The rules of a chain stay in their order.
        let mut rules: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for line in lines.iter().filter(|l| l.starts_with("-A ")) {
            rules
                .entry(line.split(' ').nth(1).expect("a chain"))
                .or_default()
                .push(line);
        }
        out += &format!("{family:?}\n{}\n", heads.join("\n"));
        out.extend(rules.values().flatten().map(|l| format!("{l}\n")));
    }
    let saved = nf.sets.save(Instant::ZERO);
    let mut sets: Vec<&str> = saved.lines().collect();
    sets.sort_unstable();
    out + &sets.join("\n") + "\n" + &nf.nft_ruleset(Instant::ZERO).to_text()
}

fn space() -> NetNs {
    NetNs::new(NsId(0), "node", NodeId(0))
}

/// One agent on one node over a sequence of edits.
struct Edited {
    agent: Enforcement,
    node: &'static str,
    options: Options,
    space: NetNs,
    was: Layout,
}

impl Edited {
    /// Writes what differs; how many bytes of tables there are.
    fn follow(&mut self, plan: &Plan, about: &str) -> usize {
        let wanted = layout(self.agent, plan, self.node, self.options);
        let about = format!("{about}: {:?} on {}", self.agent, self.node);
        let found = carry_out(&mut self.space, "agent", &self.was, &wanted, Instant::ZERO);
        assert!(found.is_empty(), "{about}: {found:?}");
        let mut anew = space();
        let found = carry_out(
            &mut anew,
            "agent",
            &Layout::default(),
            &wanted,
            Instant::ZERO,
        );
        assert!(found.is_empty(), "{about}, at once: {found:?}");
        let (edited, anew) = (printed(&self.space), printed(&anew));
        assert_eq!(edited, anew, "{about}");
        self.was = wanted;
        edited.len()
    }
}

#[test]
fn edited_tables_are_those_of_a_new_node() {
    let (mut edits, mut bytes) = (0, 0);
    for seed in seeds(12, 400) {
        let mut rng = Rng::new(3_000_000 + seed);
        let mut objects = policy_gen::cluster(&mut rng);
        objects.extend(policy_gen::policies(&mut rng));
        let spec = spec(&mut rng);
        let pairs = AGENTS
            .into_iter()
            .flat_map(|agent| NODES.map(|node| (agent, node)));
        let mut nodes: Vec<Edited> = pairs
            .map(|(agent, node)| Edited {
                agent,
                node,
                options: Options::of(agent, &spec),
                space: space(),
                was: Layout::default(),
            })
            .collect();
        for step in 0..10 {
            let plan = plan(&objects);
            let about = format!("PODPATH_SEED={seed} step {step}");
            bytes += nodes
                .iter_mut()
                .map(|n| n.follow(&plan, &about))
                .sum::<usize>();
            edits += 1;
            policy_gen::change(&mut rng, &mut objects, step);
        }
    }
    println!("{edits} edits, {bytes} bytes compared");
    assert!(
        bytes > edits * 10_000,
        "there was something to compare: {bytes} in {edits}"
    );
}

/// The same through a whole cluster that hears of changed objects, against one built from the last ones.
#[test]
fn a_cluster_after_edits_is_as_one_built_from_the_result() {
    let at = Span::new("change", 0, 0);
    for seed in seeds(4, 100) {
        let mut rng = Rng::new(4_000_000 + seed);
        let mut objects = policy_gen::cluster(&mut rng);
        objects.extend(policy_gen::policies(&mut rng));
        let agent = ["calico", "kube-router", "nftables"][rng.below(3) as usize];
        let spec = json!({"cni": {"plugin": "calico", "backend": "bgp"}, "networkPolicy": {"enforcement": agent}});
        let about = format!("PODPATH_SEED={seed} {agent}");
        let mut world = PolicyWorld::build(&objects, &spec, &[]).expect("a cluster");
        for step in 0..8 {
            let before = objects.clone();
            let (object, gone) = policy_gen::change(&mut rng, &mut objects, step);
            let policy = object["kind"]
                .as_str()
                .is_some_and(|k| k.ends_with("Policy"));
            if gone && policy {
                let meta = &object["metadata"];
                let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
                let namespace = meta["namespace"]
                    .as_str()
                    .map(|n| format!("{n}/"))
                    .unwrap_or_default();
                let kind = text(&object["kind"]).to_lowercase();
                let named = format!("{kind}/{namespace}{}", text(&meta["name"]));
                let named: ObjectRef = named.parse().expect("a reference");
                assert!(world.cluster.store.delete(&named), "{about}: {named:?}");
            } else if gone || object.is_null() {
                // Pods of a cluster stay; here they end instead.
                objects = before;
                continue;
            } else {
                let found = world.cluster.store.apply(&object, &at);
                if found.iter().any(|f| f.is_error()) {
                    objects = before;
                    continue;
                }
            }
            let found = world.cluster.objects_changed();
            assert!(!found.iter().any(|f| f.is_error()), "{about}: {found:?}");
        }
        let anew = PolicyWorld::build(&objects, &spec, &[]).expect("a cluster");
        for node in NODES {
            let text = |w: &PolicyWorld| {
                let ns = w.cluster.nodes[node].ns;
                w.cluster.lab.world.ns(ns).map(printed).unwrap_or_default()
            };
            assert_eq!(text(&world), text(&anew), "{about}: {node}");
        }
    }
}
