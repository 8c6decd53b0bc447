//! Restore, commands and their refusals on small rule sets; `tests/iptables_commands.rs` asks the real tools.

use super::*;
use crate::base::Span;
use crate::nf::{Netfilter, TableName};

const NFT: Tool = Tool {
    family: Family::V4,
    backend: Backend::Nft,
};
const LEGACY: Tool = Tool {
    family: Family::V4,
    backend: Backend::Legacy,
};

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

/// Carries out lines; what the first refused one says.
fn all(set: &mut RuleSet, tool: Tool, lines: &[&str]) -> Result<String, Refused> {
    let mut out = String::new();
    for line in lines {
        out = run(set, tool, &words(line), &Origin::Kernel)?.stdout;
    }
    Ok(out)
}

fn noflush(set: &mut RuleSet, tool: Tool, text: &str) -> Result<Outcome, Refused> {
    let options = Restore {
        noflush: true,
        ..Restore::default()
    };
    restore(set, tool, options, "in", text, None)
}

#[test]
fn a_restore_is_whole_or_not_at_all_by_table() {
    for tool in [NFT, LEGACY] {
        let mut set = RuleSet::new(Family::V4);
        all(
            &mut set,
            tool,
            &["-N KUBE-A", "-A KUBE-A -j RETURN", "-A INPUT -j KUBE-A"],
        )
        .unwrap();
        let text = "*nat\n:KUBE-B - [0:0]\nCOMMIT\n*filter\n:KUBE-A - [0:0]\n-A KUBE-A -j DROP\n-X KUBE-A\nCOMMIT\n";
        let before = set.table(TableName::Filter).cloned();
        let refused = noflush(&mut set, tool, text).unwrap_err();
        assert_eq!(refused.finding.span.to_string(), "in:7:4", "{tool:?}");
        assert_eq!(set.table(TableName::Filter).cloned(), before, "{tool:?}");
        assert!(
            set.table(TableName::Nat)
                .is_some_and(|t| t.chain("KUBE-B").is_some())
        );
    }
}

#[test]
fn a_declared_chain_is_flushed_and_others_stay() {
    let mut set = RuleSet::new(Family::V4);
    all(
        &mut set,
        NFT,
        &[
            "-N A",
            "-A A -j ACCEPT",
            "-N B",
            "-A B -j ACCEPT",
            "-A INPUT -j B",
        ],
    )
    .unwrap();
    noflush(
        &mut set,
        NFT,
        "*filter\n:A - [0:0]\n:INPUT DROP [0:0]\n-A A -j DROP\n-A A -j B\nCOMMIT\n",
    )
    .unwrap();
    let text = "-P INPUT DROP\n-P FORWARD ACCEPT\n-P OUTPUT ACCEPT\n-N A\n-N B\n-A INPUT -j B\n\
                -A A -j DROP\n-A A -j B\n-A B -j ACCEPT\n";
    assert_eq!(all(&mut set, NFT, &["-S"]).unwrap(), text);
    restore(
        &mut set,
        NFT,
        Restore::default(),
        "in",
        "*filter\n:C - [0:0]\nCOMMIT\n",
        None,
    )
    .unwrap();
    // iptables-nft-restore 1.8.9 deletes the table and makes it anew, policies included.
    let left = all(&mut set, NFT, &["-S"]).unwrap();
    assert_eq!(
        left,
        "-P INPUT ACCEPT\n-P FORWARD ACCEPT\n-P OUTPUT ACCEPT\n-N C\n"
    );
}

#[test]
fn counters_are_taken_only_when_asked_for() {
    let text = "*filter\n:INPUT ACCEPT [5:6]\n[1:2] -A INPUT -j ACCEPT\nCOMMIT\n";
    for (counters, chain, rule) in [(true, "[5:6]", "[1:2]"), (false, "[0:0]", "[0:0]")] {
        let mut set = RuleSet::new(Family::V4);
        let options = Restore {
            counters,
            ..Restore::default()
        };
        restore(&mut set, NFT, options, "in", text, None).unwrap();
        let save = set.to_save(true);
        assert!(save.contains(&format!(":INPUT ACCEPT {chain}")), "{save}");
        assert!(
            save.contains(&format!("{rule} -A INPUT -j ACCEPT")),
            "{save}"
        );
    }
}

#[test]
fn refusals_read_as_the_tools() {
    let cases = [
        (
            "-X A",
            4,
            "iptables v1.8.9 (nf_tables):  CHAIN_DEL failed (Device or resource busy): chain A\n",
        ),
        ("-N A", 1, "iptables: Chain already exists.\n"),
        (
            "-D INPUT -j ACCEPT",
            1,
            "iptables: Bad rule (does a matching rule exist in that chain?).\n",
        ),
        (
            "-A A -j A",
            4,
            "iptables v1.8.9 (nf_tables):  RULE_APPEND failed (Too many links): rule in chain A\n",
        ),
        (
            "-A INPUT -j MASQUERADE",
            4,
            "iptables v1.8.9 (nf_tables):  RULE_APPEND failed (Invalid argument): rule in chain INPUT\n",
        ),
        ("-I INPUT 7", 1, "iptables: Index of insertion too big.\n"),
    ];
    let mut set = RuleSet::new(Family::V4);
    all(&mut set, NFT, &["-N A", "-A INPUT -j A"]).unwrap();
    let before = set.clone();
    for (line, status, said) in cases {
        let refused = all(&mut set, NFT, &[line]).unwrap_err();
        assert_eq!(
            (refused.status, refused.stderr.as_str()),
            (status, said),
            "{line}"
        );
        assert_eq!(set, before, "{line}");
    }
    assert!(check(&mut set, NFT, &words("-C INPUT -j A")).unwrap());
    assert!(!check(&mut set, NFT, &words("-C INPUT -j DROP")).unwrap());
    assert!(check(&mut set, NFT, &words("-C INPUT -j NOPE")).is_err());
}

#[test]
fn command_lines_reach_their_back_end() {
    let (mut nf, at) = (Netfilter::default(), Span::new("m.yaml", 7, 5));
    let run = |nf: &mut Netfilter, line: &str| run_line(nf, line, &at, &Origin::Kernel);
    run(
        &mut nf,
        "iptables-legacy -w 5 -t nat -A POSTROUTING -m comment --comment 'a b' -j ACCEPT",
    )
    .unwrap();
    run(
        &mut nf,
        "ip6tables-restore -n <<EOF\n*filter\n:X - [0:0]\n-A X -j DROP\nCOMMIT\nEOF",
    )
    .unwrap();
    let legacy = run(&mut nf, "iptables-save").unwrap().stdout;
    assert!(
        legacy.contains("-A POSTROUTING -m comment --comment \"a b\" -j ACCEPT"),
        "{legacy}"
    );
    let v6 = run(&mut nf, "ip6tables -S X").unwrap().stdout;
    assert_eq!(v6, "-N X\n-A X -j DROP\n");
    let wrong = run(&mut nf, "iptables-nft -A NOPE -j ACCEPT").unwrap_err();
    assert_eq!(wrong.span.to_string(), "m.yaml:7:21");
    let below = "iptables-restore -n <<EOF\n*filter\n-A NOPE -j ACCEPT\nCOMMIT\nEOF";
    assert_eq!(run(&mut nf, below).unwrap_err().span.line, 9);
    assert!(run(&mut nf, "iptables -S | grep x").is_err());
}
