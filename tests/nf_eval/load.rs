//! Loading: what is refused, what hangs on which hook, what survives a change.

use crate::nf::{World, filter, syn};
use podpath::nf::eval::{Verdict, check};
use podpath::nf::hook::OpKind;
use podpath::nf::{Backend, Family, Hook, Netfilter, RuleSet, TableName};

fn parse(text: &str) -> RuleSet {
    RuleSet::parse("rules", text, Family::V4).0
}

fn findings(rules: &str, backend: Backend) -> Vec<String> {
    let found = check(&parse(&filter(rules)), backend);
    found.iter().map(|f| f.to_string()).collect()
}

#[test]
fn a_loop_is_said_and_cut() {
    let rules = ":A - [0:0]\n:B - [0:0]\n-j A\n-A A -p tcp -g B\n-A B -j A";
    let said = findings(rules, Backend::Legacy);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("closes a loop") && said[0].starts_with("rules:9"),
        "{said:?}"
    );
    let mut w = World::new("");
    w.nf.set_rules(Family::V4, Backend::Legacy, parse(&filter(rules)));
    assert!(matches!(w.forward(&mut syn(80)), Verdict::Depends(_)));
}

/// Kernel: iptables-legacy takes `A -> B -> A` while no hook reaches it, iptables-nft does not.
#[test]
fn a_loop_that_no_hook_reaches_is_x_tables_own_business() {
    let rules = ":A - [0:0]\n:B - [0:0]\n-A A -j B\n-A B -j A";
    assert!(findings(rules, Backend::Legacy).is_empty());
    assert_eq!(findings(rules, Backend::Nft).len(), 1);
}

/// Kernel: with iptables-nft INPUT may reach 15 chains deep; one more is "Too many links".
#[test]
fn nf_tables_nests_sixteen_chains_with_the_built_in_one() {
    let nested = |n: u32| {
        let chains: String = (1..=n).map(|i| format!(":c{i} - [0:0]\n")).collect();
        let jumps: String = (1..n).map(|i| format!("-A c{i} -j c{}\n", i + 1)).collect();
        format!("{chains}-j c1\n{jumps}")
    };
    assert!(findings(&nested(15), Backend::Nft).is_empty());
    assert_eq!(findings(&nested(16), Backend::Nft).len(), 1);
    assert!(findings(&nested(200), Backend::Legacy).is_empty());
    assert_eq!(findings(&nested(1100), Backend::Legacy).len(), 1);
    // Deep chains reached by a second, longer way.
    let late = format!(":x - [0:0]\n{}-j x\n-A x -j c1\n", nested(15));
    assert_eq!(findings(&late, Backend::Nft).len(), 1);
}

#[test]
fn a_jump_to_nowhere_is_said_and_not_understood() {
    let mut set = parse(&filter(":A - [0:0]\n-j A"));
    set.tables[0].chains.retain(|c| c.name != "A");
    let mut w = World::new("");
    let said = w.nf.set_rules(Family::V4, Backend::Legacy, set);
    assert_eq!(said.len(), 1);
    assert!(matches!(w.forward(&mut syn(80)), Verdict::Depends(_)));
}

fn kinds(nf: &Netfilter, hook: Hook) -> Vec<OpKind> {
    nf.ops(Family::V4, hook).iter().map(|o| o.kind).collect()
}

#[test]
fn hooks_are_those_that_the_rules_need() {
    let mut w = World::new("-j ACCEPT");
    let filter_op = OpKind::Table(Backend::Legacy, TableName::Filter);
    assert_eq!(kinds(&w.nf, Hook::Forward), [filter_op]);
    assert!(kinds(&w.nf, Hook::Prerouting).is_empty());
    assert!(!w.nf.needs_conntrack(Family::V4));
    // An empty nat table tracks nothing; a rule of it does.
    w.load(
        "*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n",
        Family::V4,
        Backend::Nft,
    );
    assert_eq!(kinds(&w.nf, Hook::Prerouting), [OpKind::Nat]);
    w.load(
        "*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -j MASQUERADE\nCOMMIT\n",
        Family::V4,
        Backend::Nft,
    );
    let tracked = [OpKind::Defrag, OpKind::Conntrack, OpKind::Nat];
    assert_eq!(kinds(&w.nf, Hook::Prerouting), tracked);
    let last = [OpKind::Nat, OpKind::Helper, OpKind::Confirm];
    assert_eq!(kinds(&w.nf, Hook::Postrouting), last);
    assert!(w.nf.ops(Family::V6, Hook::Prerouting).is_empty());
    w.nf.clear_rules(Family::V4, Backend::Nft);
    assert!(kinds(&w.nf, Hook::Prerouting).is_empty());
}

#[test]
fn of_one_priority_the_later_table_runs_first() {
    let op = |b| OpKind::Table(b, TableName::Filter);
    let mut w = World::new("-j ACCEPT");
    w.load("-j DROP", Family::V4, Backend::Nft);
    assert_eq!(
        kinds(&w.nf, Hook::Forward),
        [op(Backend::Nft), op(Backend::Legacy)]
    );
    // A change of rules is no new registration.
    w.load("-j ACCEPT", Family::V4, Backend::Legacy);
    assert_eq!(
        kinds(&w.nf, Hook::Forward),
        [op(Backend::Nft), op(Backend::Legacy)]
    );
}

/// x_tables swaps the table, so `limit` begins anew; nf_tables keeps the rules that stay.
#[test]
fn a_change_keeps_state_as_the_back_end_does() {
    let one = "-m limit --limit 1/hour --limit-burst 1 -j DROP";
    let two = format!("{one}\n-p udp -j DROP");
    for (backend, survives) in [(Backend::Legacy, false), (Backend::Nft, true)] {
        let mut w = World::new("");
        w.load(one, Family::V4, backend);
        let dropped = |w: &mut World| {
            let (eth0, cni0) = (w.dev("eth0"), w.dev("cni0"));
            let at = podpath::nf::eval::At {
                hook: Hook::Forward,
                family: Family::V4,
                input: Some(eth0),
                output: Some(cni0),
            };
            w.ask(&mut syn(80), &at, backend, TableName::Filter) != Verdict::Accept
        };
        assert!(dropped(&mut w) && !dropped(&mut w));
        w.load(&two, Family::V4, backend);
        assert_eq!(dropped(&mut w), !survives, "{backend:?}");
    }
}

#[test]
fn sets_in_use_are_counted_for_each_reference() {
    let mut w = World::new("");
    w.nf.sets
        .command(&["create", "s", "hash:ip"], w.now)
        .expect("a set");
    let one = "-m set --match-set s src -j SET --add-set s dst";
    w.load(one, Family::V4, Backend::Legacy);
    assert_eq!(w.nf.sets.references("s"), 2);
    w.load(
        &format!("{one}\n-m set --match-set s src"),
        Family::V4,
        Backend::Legacy,
    );
    assert_eq!(w.nf.sets.references("s"), 3);
    w.nf.clear_rules(Family::V4, Backend::Legacy);
    assert_eq!(w.nf.sets.references("s"), 0);
}
