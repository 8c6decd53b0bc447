//! `nf::apply` against the real iptables, ip6tables and their -restore: random command sequences, statuses,
//! messages and `-save -c` compared after every step.
//!
//! Opt-in: needs root, the iptables package and `PODPATH_IPTABLES=SEQUENCES` (such as 20). It works in a
//! network namespace of its own, which it deletes. A failing sequence is printed whole.

#![allow(missing_docs, reason = "a test binary")]

use podpath::base::{Origin, Rng};
use podpath::nf::apply::{Restore, Tool, restore, run};
use podpath::nf::{Backend, Family, RuleSet};
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

/// A namespace that goes when the test ends, however it ends.
struct Ns(String);

impl Ns {
    fn new(name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let done = Command::new("ip").args(["netns", "add", &name]).status();
        assert!(done.is_ok_and(|s| s.success()), "ip netns add {name}");
        Ns(name)
    }

    fn run(&self, program: &str, args: &[&str], input: &str) -> Output {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.0, program])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a process");
        let mut stdin = child.stdin.take().expect("its input");
        stdin.write_all(input.as_bytes()).expect("written");
        drop(stdin);
        child.wait_with_output().expect("its end")
    }
}

impl Drop for Ns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn program(tool: Tool) -> String {
    let back = match tool.backend {
        Backend::Nft => "nft",
        Backend::Legacy => "legacy",
    };
    format!("{}-{back}", tool.name())
}

fn saved(ns: &Ns, tool: Tool) -> String {
    let out = ns.run(&format!("{}-save", program(tool)), &["-c"], "");
    let text = String::from_utf8(out.stdout).expect("text");
    let lines = text.lines().filter(|l| !l.starts_with('#'));
    lines.map(|l| format!("{l}\n")).collect()
}

fn pick<'a>(rng: &mut Rng, of: &[&'a str]) -> &'a str {
    of[usize::try_from(rng.next_u64() % of.len() as u64).expect("an index")]
}

const USER: [&str; 5] = ["aa", "Bb", "c-c", "KUBE-X", "zz"];

fn chain(rng: &mut Rng, table: &str) -> String {
    let builtin = match table {
        "nat" => ["PREROUTING", "POSTROUTING", "OUTPUT", "INPUT"],
        "mangle" => ["PREROUTING", "FORWARD", "OUTPUT", "POSTROUTING"],
        "raw" => ["PREROUTING", "OUTPUT", "OUTPUT", "PREROUTING"],
        _ => ["INPUT", "FORWARD", "OUTPUT", "FORWARD"],
    };
    match rng.next_u64() % 5 {
        0 | 1 => pick(rng, &builtin).to_owned(),
        _ => pick(rng, &USER).to_owned(),
    }
}

/// A rule's words; most are good, some are not.
fn rule(rng: &mut Rng, v6: bool) -> Vec<String> {
    let (one, two, net) = match v6 {
        true => ("fd00::1", "fd00::1,fd00::2", "fd00:1::/64"),
        false => ("10.0.0.1", "10.0.0.1,10.0.0.2", "10.1.0.0/16"),
    };
    let mut out: Vec<&str> = Vec::new();
    match rng.next_u64() % 10 {
        0 => out.extend(["-s", two]),
        1 => out.extend(["!", "-d", net]),
        2 => out.extend(["-s", one, "-d", net]),
        _ => {}
    }
    match rng.next_u64() % 12 {
        0 => out.extend(["-i", "eth0"]),
        1 => out.extend(["-o", "eth+"]),
        _ => {}
    }
    match rng.next_u64() % 7 {
        0 => out.extend(["-p", "tcp", "--dport", "80"]),
        1 => out.extend(["-m", "comment", "--comment", "a \"b\" c", "-p", "udp"]),
        2 => out.extend(["-m", "mark", "--mark", "0x4000/0x4000"]),
        3 => out.extend(["-p", "tcp", "-m", "multiport", "--dports", "1,2:3"]),
        4 => out.extend(["-m", "addrtype", "--dst-type", "LOCAL"]),
        _ => {}
    }
    match rng.next_u64() % 16 {
        0..=1 => out.extend(["-j", "ACCEPT"]),
        2 => out.extend(["-j", "DROP"]),
        3 => out.extend(["-j", "RETURN"]),
        4 => out.extend(["-j", "MASQUERADE"]),
        5 => out.extend(["-j", "REJECT"]),
        6 => out.extend(["-j", "MARK", "--or-mark", "0x4000"]),
        7 => out.extend(["-j", "NOTRACK"]),
        8 => out.extend(["-j", "DNAT", "--to-destination", one]),
        9 => out.extend(["-g", pick(rng, &USER)]),
        10 => {}
        _ => out.extend(["-j", pick(rng, &USER)]),
    }
    if rng.next_u64().is_multiple_of(12) {
        out.extend(["-c", "7", "8"]);
    }
    out.into_iter().map(str::to_owned).collect()
}

/// One command's words, the table left out.
fn command(rng: &mut Rng, table: &str, v6: bool, rules: &mut Vec<Vec<String>>) -> Vec<String> {
    let c = chain(rng, table);
    let n = (rng.next_u64() % 4).to_string();
    let few = rules_few(rules);
    let mut a_rule = |rng: &mut Rng| {
        let known = !rules.is_empty() && rng.next_u64().is_multiple_of(3);
        let at = usize::try_from(rng.next_u64()).unwrap_or(0) % rules.len().max(1);
        if known {
            return rules[at].clone();
        }
        let new = rule(rng, v6);
        rules.push(new.clone());
        new
    };
    let words = |w: &[&str]| w.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let with = |head: &[&str], rule: Vec<String>| [words(head), rule].concat();
    let chains = if few { 34 } else { 26 };
    match rng.next_u64() % chains {
        0..=7 => with(&["-A", &c], a_rule(rng)),
        8 => with(&["-I", &c], a_rule(rng)),
        9 => with(&["-I", &c, &n], a_rule(rng)),
        10 => words(&["-D", &c, &n]),
        11 | 12 => with(&["-D", &c], a_rule(rng)),
        13 => with(&["-R", &c, &n], a_rule(rng)),
        14 => with(&["-C", &c], a_rule(rng)),
        15..=18 => words(&["-N", pick(rng, &USER)]),
        19 => words(&["-X", pick(rng, &USER)]),
        20 => words(&["-X"]),
        21 => words(&["-F", &c]),
        22 => words(&["-E", pick(rng, &USER), pick(rng, &USER)]),
        23 => words(&["-P", &c, pick(rng, &["ACCEPT", "DROP", "RETURN"])]),
        24 => words(&["-Z"]),
        25 => words(&["-S", &c]),
        _ => words(&["-N", pick(rng, &USER)]),
    }
}

/// Early in a sequence chains are wanted most.
fn rules_few(rules: &[Vec<String>]) -> bool {
    rules.len() < 6
}

fn quoted(words: &[String]) -> String {
    let quote = |w: &String| match w.contains(' ') {
        true => format!("\"{}\"", w.replace('"', "\\\"")),
        false => w.clone(),
    };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

/// A restore input of one or two tables.
fn input(rng: &mut Rng, v6: bool, rules: &mut Vec<Vec<String>>) -> String {
    let mut out = String::new();
    for _ in 0..=rng.next_u64() % 2 {
        let table = pick(rng, &["nat", "filter", "mangle"]);
        out.push_str(&format!("*{table}\n"));
        for name in USER {
            match rng.next_u64() % 3 {
                0 => out.push_str(&format!(":{name} - [0:0]\n")),
                1 if rng.next_u64().is_multiple_of(8) => out.push_str(":INPUT ACCEPT [5:6]\n"),
                _ => {}
            }
        }
        for _ in 0..rng.next_u64() % 7 {
            let words = match rng.next_u64() % 3 {
                0 => command(rng, table, v6, rules),
                _ => [vec!["-A".to_owned(), chain(rng, table)], rule(rng, v6)].concat(),
            };
            // nft 1.8.9 cannot rename a chain in the batch that makes it; podpath can.
            if words[0] == "-E" {
                continue;
            }
            if rng.next_u64().is_multiple_of(4)
                && words[0] == "-A"
                && !words.contains(&"-c".to_owned())
            {
                out.push_str("[3:4] ");
            }
            out.push_str(&quoted(&words));
            out.push('\n');
        }
        if !rng.next_u64().is_multiple_of(12) {
            out.push_str("COMMIT\n");
        }
    }
    out
}

/// What one step says and leaves, of the real tool and of ours.
struct Step {
    text: String,
    real: (i32, String, String),
    ours: (i32, String, String),
}

fn step(
    rng: &mut Rng,
    ns: &Ns,
    tool: Tool,
    ours: &mut RuleSet,
    rules: &mut Vec<Vec<String>>,
) -> Step {
    let v6 = tool.family == Family::V6;
    let restoring = rng.next_u64().is_multiple_of(6);
    let (text, out, said) = if restoring {
        let text = input(rng, v6, rules);
        let options = Restore {
            noflush: !rng.next_u64().is_multiple_of(4),
            counters: rng.next_u64().is_multiple_of(3),
            table: None,
        };
        let mut args = Vec::new();
        args.extend(options.noflush.then_some("-n"));
        args.extend(options.counters.then_some("-c"));
        // Its own name, for its messages.
        let out = ns.run(&format!("{}-restore", program(tool)), &args, &text);
        let said = restore(ours, tool, options, "-", &text, None).map(|o| o.stdout);
        (format!("restore {args:?}\n{text}"), out, said)
    } else {
        let table = pick(rng, &["nat", "filter", "filter", "mangle", "raw"]);
        let words = command(rng, table, v6, rules);
        let mut args = vec!["-w", "-t", table];
        args.extend(words.iter().map(String::as_str));
        let out = ns.run(&program(tool), &args, "");
        let said = run(ours, tool, &args, &Origin::Kernel).map(|o| o.stdout);
        (
            quoted(&args.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()),
            out,
            said,
        )
    };
    let name = |t: String| match tool.backend {
        Backend::Nft => t.replace("tables-nft-restore", "tables-restore"),
        Backend::Legacy => t.replace("tables-legacy-restore", "tables-restore"),
    };
    let stderr = name(String::from_utf8_lossy(&out.stderr).into_owned());
    let stdout = String::from_utf8_lossy(&out.stdout).into_owned();
    let (status, mine) = match said {
        Ok(text) => (0, (String::new(), text)),
        Err(r) => (i32::from(r.status), (r.stderr, String::new())),
    };
    let stdout = if restoring { String::new() } else { stdout };
    Step {
        text,
        real: (out.status.code().unwrap_or(-1), stderr, stdout),
        ours: (status, mine.0, mine.1),
    }
}

#[test]
fn random_commands_do_what_the_real_tools_do() {
    let asked = std::env::var("PODPATH_IPTABLES").unwrap_or_default();
    let Ok(count) = asked.parse::<u64>() else {
        println!(
            "NOT RUN: PODPATH_IPTABLES=SEQUENCES is not set; nothing was compared with iptables"
        );
        return;
    };
    let seed = std::env::var("PODPATH_IPTABLES_SEED");
    let first = seed.ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let (mut steps, mut good) = (0u32, 0u32);
    for seed in first..first + count {
        for family in [Family::V4, Family::V6] {
            for backend in [Backend::Nft, Backend::Legacy] {
                let tool = Tool { family, backend };
                let (s, g) = sequence(seed, tool);
                steps += s;
                good += g;
            }
        }
    }
    println!("{steps} steps, {good} of them carried out, all as the real tools");
    assert!(
        good * 4 > steps,
        "too few commands were good ones to say much"
    );
}

fn sequence(seed: u64, tool: Tool) -> (u32, u32) {
    let ns = Ns::new("h4-commands");
    let mut rng = Rng::new(seed);
    let mut ours = RuleSet::new(tool.family);
    let (mut rules, mut done, mut good) = (Vec::new(), Vec::new(), 0);
    for _ in 0..40 {
        let s = step(&mut rng, &ns, tool, &mut ours, &mut rules);
        done.push(s.text.clone());
        let history = || format!("seed {seed}, {}:\n{}", program(tool), done.join("\n"));
        assert_eq!(
            s.ours.0,
            s.real.0,
            "status; {:?} {:?}\n{}",
            s.ours,
            s.real,
            history()
        );
        let strict = std::env::var("PODPATH_IPTABLES_STRICT").is_ok();
        if strict {
            assert_eq!(s.ours.1, s.real.1, "standard error\n{}", history());
        }
        assert_eq!(s.ours.2, s.real.2, "standard output\n{}", history());
        let (real, mine) = (saved(&ns, tool), ours.to_save(true));
        assert_eq!(mine, real, "ours, real; said {:?}\n{}", s.real, history());
        good += u32::from(s.real.0 == 0);
    }
    (done.len() as u32, good)
}
