//! Jumps, returns, policies, counters, what is told, what is not understood.

use crate::nf::{World, filter, syn, udp};
use podpath::nf::eval::{NfStep, RuleRef, Verdict};
use podpath::nf::{Backend, Family, TableName};

fn at(chain: u32, rule: u32) -> RuleRef {
    RuleRef {
        family: Family::V4,
        backend: Backend::Legacy,
        table: TableName::Filter,
        chain,
        rule,
        native: None,
    }
}

/// Chains 0 to 2 are INPUT, FORWARD, OUTPUT.
const FORWARD: u32 = 1;

#[test]
fn a_jump_comes_back_behind_itself() {
    let mut w = World::new(":A - [0:0]\n-j A\n-j DROP\n-A A -p udp -j ACCEPT\n-A A -p icmp");
    assert_eq!(w.forward(&mut syn(80)), Verdict::Drop(at(FORWARD, 1)));
    assert_eq!(
        w.forward(&mut udp("10.0.0.9", "10.1.0.9", 1, 2, b"")),
        Verdict::Accept
    );
    assert_eq!(w.packets("FORWARD"), [2, 1, 0]);
    assert_eq!(w.packets("A"), [1, 0, 0]);
}

#[test]
fn the_end_of_a_goto_returns_to_the_callers_caller() {
    let text = ":A - [0:0]\n:B - [0:0]\n-j A\n-j DROP\n-A A -g B\n-A A -j ACCEPT\n-A B -p icmp";
    let mut w = World::new(text);
    assert_eq!(w.forward(&mut syn(80)), Verdict::Drop(at(FORWARD, 1)));
    assert_eq!(w.packets("A"), [1, 0, 0]);
    // From a built-in chain the end of a goto is the policy.
    let mut w = World::new(":B - [0:0]\n-g B\n-j DROP\n-A B -p icmp");
    assert_eq!(w.forward(&mut syn(80)), Verdict::Accept);
    assert_eq!(w.packets("FORWARD"), [1, 0, 1]);
}

#[test]
fn return_ends_a_user_chain_and_in_a_built_in_one_is_the_policy() {
    let mut w = World::new(":A - [0:0]\n-j A\n-j RETURN\n-j DROP\n-A A -j RETURN\n-A A -j DROP");
    assert_eq!(w.forward(&mut syn(80)), Verdict::Accept);
    assert_eq!(w.packets("FORWARD"), [1, 1, 0, 1]);
    assert_eq!(w.packets("A"), [1, 0, 0]);
}

#[test]
fn a_policy_drops_and_counts_bytes_from_the_ip_header_on() {
    let text = filter("-p tcp -j ACCEPT").replace("FORWARD ACCEPT", "FORWARD DROP");
    let mut w = World::new(&text);
    assert_eq!(w.forward(&mut syn(80)), Verdict::Accept);
    let mut f = udp("10.0.0.9", "10.1.0.9", 1, 2, b"12345");
    assert_eq!(w.forward(&mut f), Verdict::Drop(at(FORWARD, 1)));
    let bytes: Vec<u64> = w.counters("FORWARD").iter().map(|c| c.bytes).collect();
    assert_eq!(bytes, [40, 33]);
}

#[test]
fn counters_go_on_from_what_was_loaded() {
    let text = filter("-p tcp").replace("FORWARD ACCEPT [0:0]", "FORWARD ACCEPT [7:700]");
    let mut w = World::new(&text.replace("-A FORWARD -p tcp", "[3:300] -A FORWARD -p tcp"));
    w.forward(&mut syn(80));
    let c = w.counters("FORWARD");
    assert_eq!((c[0].packets, c[0].bytes, c[1].packets), (4, 340, 8));
}

#[test]
fn a_trace_tells_what_took_part_and_counts_the_rest() {
    let mut w = World::new(":A - [0:0]\n-p udp\n-p icmp\n-j A\n-p udp\n-A A -p udp\n-A A -p tcp");
    w.forward(&mut syn(80));
    let rule = |chain, rule, skipped| NfStep::Rule {
        rule: at(chain, rule),
        skipped,
        chance: None,
    };
    let policy = NfStep::Policy {
        rule: at(FORWARD, 4),
        skipped: 1,
    };
    assert_eq!(w.steps, [rule(FORWARD, 2, 2), rule(3, 1, 1), policy]);
}

#[test]
fn an_unknown_match_decides_only_where_the_rest_of_the_rule_holds() {
    let mut w = World::new("-p udp -m frob --x 1 -j DROP\n-m frob --y 2 -p tcp --dport 81 -j DROP");
    assert_eq!(w.forward(&mut syn(80)), Verdict::Accept);
    let unknown = at(FORWARD, 1);
    assert_eq!(w.forward(&mut syn(81)), Verdict::Depends(unknown));
    w.assume.insert(unknown, true);
    assert_eq!(w.forward(&mut syn(81)), Verdict::Drop(unknown));
    w.assume.insert(unknown, false);
    assert_eq!(w.forward(&mut syn(81)), Verdict::Accept);
    assert_eq!(w.packets("FORWARD"), [0, 1, 2]);
}

#[test]
fn nothing_is_remembered_behind_an_unknown_match() {
    let text = "-m frob --x 1 -m recent --set --name l\n-m recent --rcheck --name l -j DROP";
    let mut w = World::new(text);
    let unknown = at(FORWARD, 0);
    assert_eq!(w.forward(&mut syn(80)), Verdict::Depends(unknown));
    w.assume.insert(unknown, false);
    assert_eq!(w.forward(&mut syn(80)), Verdict::Accept);
    w.assume.insert(unknown, true);
    assert_eq!(w.forward(&mut syn(80)), Verdict::Drop(at(FORWARD, 1)));
}

#[test]
fn an_unknown_target_lets_the_packet_on_or_drops_it() {
    let mut w = World::new("-p tcp -j FROB --x 1\n-p tcp --dport 81 -j DROP");
    let unknown = at(FORWARD, 0);
    assert_eq!(w.forward(&mut syn(80)), Verdict::Depends(unknown));
    w.assume.insert(unknown, true);
    assert_eq!(w.forward(&mut syn(80)), Verdict::Accept);
    assert_eq!(w.forward(&mut syn(81)), Verdict::Drop(at(FORWARD, 1)));
    w.assume.insert(unknown, false);
    assert_eq!(w.forward(&mut syn(80)), Verdict::Drop(unknown));
}

#[test]
fn header_matches_come_before_extensions_and_stop_them() {
    // The list stays empty while the header does not fit, wherever `-s` is written.
    let mut w =
        World::new("-m recent --set --name l -s 10.9.9.9\n-m recent --rcheck --name l -j DROP");
    assert_eq!(w.forward(&mut syn(80)), Verdict::Accept);
    // A match that fails stops those behind it, not those before.
    let mut w = World::new("-p udp -m recent --set --name l\n-m recent --rcheck --name l -j DROP");
    assert_eq!(w.forward(&mut syn(80)), Verdict::Accept);
    let mut w = World::new(
        "-m recent --set --name l -m mark --mark 9\n-m recent --rcheck --name l -j DROP",
    );
    assert_eq!(w.forward(&mut syn(80)), Verdict::Drop(at(FORWARD, 1)));
}

#[test]
fn a_built_in_chain_that_is_not_there_accepts() {
    let mut w = World::new("");
    assert_eq!(w.forward(&mut syn(80)), Verdict::Accept);
    w.load(
        "*raw\n:PREROUTING DROP [0:0]\nCOMMIT\n",
        Family::V4,
        Backend::Legacy,
    );
    assert_eq!(w.forward(&mut syn(80)), Verdict::Accept);
}
