//! ipsets: text in and out, messages, and lookups, types included that this machine's kernel may lack.
//!
//! What the kernel at hand knows is compared with it in `tests/ipset_kernel.rs`.

#![allow(missing_docs, reason = "a test binary")]

#[path = "ipset_text/lookups.rs"]
mod lookups;
#[path = "ipset_text/props.rs"]
mod props;

use podpath::base::{Instant, Severity};
use podpath::nf::ipset::{Answer, Kind, Refused, Sets, Wrong};

pub const NOW: Instant = Instant::from_secs(100);

/// Sets from lines that must all be right.
pub fn sets(text: &str) -> Sets {
    let (sets, findings) = Sets::parse("t", text, NOW);
    assert_eq!(findings, [], "{text}");
    sets
}

/// Carries a line out; what it answers.
pub fn run(sets: &mut Sets, line: &str, now: Instant) -> Result<Answer, Wrong> {
    let words: Vec<&str> = line.split(' ').collect();
    sets.command(&words, now).map(|r| r.answer)
}

/// What ipset 7.17 saved on Linux 6.18, one set of each type that kernel had, and the same form for the others.
const SAVED: &str = include_str!("../fuzz/seeds/ipset/saved");

#[test]
fn saved_text_comes_back_byte_for_byte() {
    let (sets, findings) = Sets::parse("saved", SAVED, NOW);
    assert_eq!(findings, []);
    assert_eq!(sets.save(NOW), SAVED);
    let kinds = sets.iter().filter_map(|(_, set)| set.kind());
    let kinds: std::collections::BTreeSet<Kind> = kinds.collect();
    assert_eq!(kinds.len(), Kind::ALL.len(), "every type is in it");
    let one = sets.save_one("ls", NOW).expect("a set");
    assert!(SAVED.ends_with(&one) && one.lines().count() == 4);
}

#[test]
fn unknown_types_and_options_are_kept_and_printed_back() {
    let text = "create u hash:new,kind family inet frob 3\nadd u 10.0.0.1,abc thing \"a b\" 1\n\
        create o hash:ip family inet hashsize 1024 maxelem 65536 shiny 1 2 counters\n\
        add o 10.0.0.1 packets 1 bytes 2 color blue\n";
    let (sets, findings) = Sets::parse("u", text, NOW);
    let said: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(
        findings.iter().all(|f| f.severity == Severity::Warning),
        "{said:?}"
    );
    assert_eq!(said.len(), 3, "{said:?}");
    assert_eq!(sets.save(NOW), text);
}

#[test]
fn malformed_lines_are_said_and_the_rest_loads() {
    let text = "create a hash:ip\nadd a 10.0.0.300\nadd a 10.0.0.1,80\nadd a 10.0.0.1 timeout 5\nadd b 10.0.0.1\n\
        create a hash:net\ncreate c hash:ip frob\ncreate d hash:ip family inet7\ncreate e hash:ip hashsize x\n\
        create f bitmap:ip\ncreate g bitmap:ip range 10.0.0.0/8\ncreate h list:set family inet\nadd a\nadd\nfrobnicate a\n\
        create p hash:ip,port timeout 3 counters comment skbinfo\nadd p 10.0.0.1,tpc:80\nadd p 10.0.0.1,tcp:80000\n\
        add p 10.0.0.1,vrrp:8\nadd p 10.0.0.1,icmp:300\nadd p 10.0.0.1,icmpv6:echo-request\nadd p 10.0.0.1\n\
        add p 10.0.0.1,80 timeout 9999999999\nadd p 10.0.0.1,80 skbmark 5\nadd p 10.0.0.1,80 skbprio 1\n\
        add p 10.0.0.1,80 comment \"open\nadd p 10.0.0.1,80 nomatch\nadd p 10.0.0.1,80 timeout\nadd p 10.0.0.1,80 timeout 1 timeout 2\n\
        create n hash:net\nadd n 10.0.0.0/0\nadd n 10.0.0.0/33\nadd n 0.0.0.0-255.255.255.255\nadd n 2001:db8::/32\n\
        create i hash:net,iface\nadd i 10.0.0.0/8,averyveryverylongname\nadd i 10.0.0.0/8,\n\
        create m hash:mac\nadd m 00:11:22\nadd m 00:00:00:00:00:00\ncreate l list:set\nadd l nosuch\nadd l l\nadd l a before n\n\
        create averyveryveryverylongnameofaset1 hash:ip\ndel a 10.9.9.9\ntest a 10.9.9.9\nrename a n\nswap a n\ndestroy nosuch\nadd l a\n\
        destroy a\nrename a z\nflush a b\nadd a 10.0.0.0/8\nadd a 10.0.0.1\nCOMMIT\n# a comment\nadd a 10.0.0.1\n";
    let (sets, findings) = Sets::parse("bad.txt", text, NOW);
    let said: Vec<String> = findings
        .iter()
        .map(|f| format!("{}: {}", f.span, f.message))
        .collect();
    insta::assert_snapshot!(said.join("\n"));
    assert!(
        sets.save(NOW).contains("add a 10.0.0.1\n"),
        "{}",
        sets.save(NOW)
    );
    assert_eq!(sets.get("l").map(|l| l.len(NOW)), Some(1));
}

#[test]
fn list_is_what_ipset_prints_but_for_the_size_in_memory() {
    let sets = sets(
        "create a hash:ip,port timeout 9\nadd a 10.0.0.1,80 timeout 3\ncreate l list:set\nadd l a\n",
    );
    let expected = "Name: a\nType: hash:ip,port\nRevision: 7\nHeader: family inet hashsize 1024 maxelem 65536 timeout 9\n\
        Size in memory: 264\nReferences: 1\nNumber of entries: 1\nMembers:\n10.0.0.1,tcp:80 timeout 3\n\n\
        Name: l\nType: list:set\nRevision: 3\nHeader: size 8\nSize in memory: 264\nReferences: 0\nNumber of entries: 1\nMembers:\na\n";
    assert_eq!(sets.list(false, NOW), expected);
    let terse = sets.list(true, NOW);
    assert!(terse.contains("Number of entries: 1\n\nName: l") && !terse.contains("Members"));
}

#[test]
fn ranges_expand_as_the_kernel_expands_them() {
    let text = "create n hash:net\nadd n 10.1.0.3-10.1.0.17\ncreate p hash:ip,port\nadd p 10.0.0.0/31,udp:5-6\n\
        create nn hash:net,net\nadd nn 10.0.0.0-10.0.0.2,10.1.0.0/16\ncreate k hash:ip,mark markmask 0xff\nadd k 10.0.0.0/31,0x163\n\
        create w hash:ip netmask 28\nadd w 10.0.0.17-10.0.0.40\n";
    let saved = sets(text).save(NOW);
    let elements = |set: &str| -> Vec<&str> {
        let lines = saved
            .lines()
            .filter_map(|l| l.strip_prefix("add ")?.strip_prefix(set)?.strip_prefix(' '));
        lines.collect()
    };
    assert_eq!(
        elements("n"),
        ["10.1.0.3", "10.1.0.4/30", "10.1.0.8/29", "10.1.0.16/31"]
    );
    assert_eq!(
        elements("p"),
        [
            "10.0.0.0,udp:5",
            "10.0.0.0,udp:6",
            "10.0.0.1,udp:5",
            "10.0.0.1,udp:6"
        ]
    );
    assert_eq!(
        elements("nn"),
        ["10.0.0.0/31,10.1.0.0/16", "10.0.0.2,10.1.0.0/16"]
    );
    assert_eq!(
        elements("k"),
        ["10.0.0.0,0x00000063", "10.0.0.1,0x00000063"]
    );
    assert_eq!(elements("w"), ["10.0.0.16", "10.0.0.32"]);
}

#[test]
fn references_protect_sets_and_swap_leaves_names_where_they_are() {
    let mut s = sets(
        "create a hash:ip\ncreate b hash:ip\nadd b 10.0.0.9\ncreate n hash:net\ncreate l list:set\nadd l a\n",
    );
    let refused = |r: Result<Answer, Wrong>| r.expect_err("refused").message;
    assert_eq!(
        refused(run(&mut s, "destroy a", NOW)),
        Refused::Busy.to_string()
    );
    assert_eq!(
        refused(run(&mut s, "rename a c", NOW)),
        Refused::Referenced.to_string()
    );
    assert_eq!(
        refused(run(&mut s, "swap a n", NOW)),
        Refused::TypeMismatch.to_string()
    );
    assert_eq!(run(&mut s, "swap a b", NOW), Ok(Answer::Done));
    assert_eq!(run(&mut s, "test a 10.0.0.9", NOW), Ok(Answer::InSet(true)));
    assert!(s.hold("b") && !s.hold("nosuch"));
    assert_eq!(refused(run(&mut s, "-X b", NOW)), Refused::Busy.to_string());
    s.release("b");
    assert_eq!(run(&mut s, "-X b", NOW), Ok(Answer::Done));
    assert_eq!(
        refused(run(&mut s, "x", NOW)),
        Refused::Busy.to_string(),
        "l refers to a"
    );
    assert_eq!(run(&mut s, "-F", NOW), Ok(Answer::Done));
    assert_eq!(run(&mut s, "x", NOW), Ok(Answer::Done));
    assert!(s.is_empty());
}

#[test]
fn short_names_and_options_anywhere_are_understood() {
    let mut s = Sets::new();
    for line in [
        "-N a iphash",
        "ipset n a hash:ip -exist",
        "-A a 10.0.0.1",
        "add -! a 10.0.0.1",
        "-exist del a 10.0.0.7",
    ] {
        assert_eq!(run(&mut s, line, NOW), Ok(Answer::Done), "{line}");
    }
    assert_eq!(run(&mut s, "-T a 10.0.0.1", NOW), Ok(Answer::InSet(true)));
    assert_eq!(
        run(&mut s, "list -n", NOW),
        Ok(Answer::Text("a\n".to_owned()))
    );
    let text = run(&mut s, "-L a -o save", NOW);
    assert_eq!(text, run(&mut s, "save a", NOW));
}
