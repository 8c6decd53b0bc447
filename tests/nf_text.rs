//! iptables-save text in and out: real dumps come back byte for byte, and spellings are the kernel's.
//!
//! The dumps are those of the recordings inside the repository, and of ../shared where it is there.

#![allow(missing_docs, reason = "a test binary")]

#[path = "nf_text/props.rs"]
mod props;

use podpath::nf::{Family, Match, Rule, RuleSet, TableName};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// A dump's name, text and family.
type Dump = (String, String, Family);

fn family(name: &str) -> Family {
    let v6 = name.contains("ip6tables") || name.ends_with(".v6") || name.contains("v6-local");
    if v6 { Family::V6 } else { Family::V4 }
}

fn shared() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    if !path.is_dir() {
        println!(
            "NOT RUN: {} is absent; only the dumps inside the repository are read",
            path.display()
        );
        return None;
    }
    Some(path)
}

/// Every file below a folder.
fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, out);
        } else {
            out.push(path);
        }
    }
}

fn is_save(name: &str) -> bool {
    name.contains("tables-save") && name.ends_with(".txt")
}

fn recorded() -> Vec<Dump> {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings/oracle.tar.gz");
    let file = std::fs::File::open(archive).expect("the recordings");
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let mut out = Vec::new();
    for entry in tar.entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let name = entry.path().expect("a path").display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("its bytes");
        if is_save(&name) {
            out.push((
                name.clone(),
                String::from_utf8(bytes).expect("text"),
                family(&name),
            ));
        }
    }
    out
}

/// Strings below any `key` of a JSON document; arrays of strings are lines.
fn strings(value: &serde_json::Value, keys: &[&str], at: &str, out: &mut Vec<Dump>) {
    match value {
        serde_json::Value::Object(map) => {
            for (k, v) in map {
                let name = format!("{at}/{k}");
                let text = match v {
                    serde_json::Value::String(s) => Some(s.clone()),
                    serde_json::Value::Array(a) if a.iter().all(|l| l.is_string()) => Some(
                        a.iter()
                            .filter_map(|l| l.as_str())
                            .map(|l| format!("{l}\n"))
                            .collect(),
                    ),
                    _ => None,
                };
                match text.filter(|t| keys.contains(&k.as_str()) && t.contains("COMMIT")) {
                    Some(text) => out.push((name.clone(), text, family_of(map, &name))),
                    None => strings(v, keys, &name, out),
                }
            }
        }
        serde_json::Value::Array(list) => {
            for (i, v) in list.iter().enumerate() {
                strings(v, keys, &format!("{at}/{i}"), out);
            }
        }
        _ => {}
    }
}

fn family_of(map: &serde_json::Map<String, serde_json::Value>, name: &str) -> Family {
    match map.get("tool").and_then(|t| t.as_str()) {
        Some("ip6tables-save") => Family::V6,
        _ if name.contains("ip6tables") => Family::V6,
        _ => Family::V4,
    }
}

fn shared_dumps(shared: &Path) -> Vec<Dump> {
    let mut all = Vec::new();
    files(&shared.join("oracle/captures"), &mut all);
    files(&shared.join("oracle/rules"), &mut all);
    let mut out = Vec::new();
    for path in &all {
        let name = path.display().to_string();
        if is_save(&name) || name.ends_with(".v4") || name.ends_with(".v6") {
            let text = std::fs::read_to_string(path).expect("a text file");
            out.push((name.clone(), text, family(&name)));
        }
    }
    out
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).expect("a readable file")).expect("JSON")
}

/// What kube-proxy writes (and the kernel prints of it) in the vectors, and the CNI plugins' rules.
fn vector_dumps(shared: &Path) -> Vec<Dump> {
    let keys = [
        "iptables_save",
        "ip6tables_save",
        "restore_input",
        "dump",
        "full_state",
    ];
    let mut out = Vec::new();
    for name in [
        "iptables.json",
        "iptables-incremental.json",
        "kernel-dumps.json",
    ] {
        let doc = json(&shared.join("vectors/kube-proxy").join(name));
        let mut found = Vec::new();
        if let Some(cases) = doc["cases"].as_array() {
            for case in cases {
                let v6 = case["environment"]["ipFamily"] == "IPv6";
                let before = found.len();
                strings(case, &keys, &format!("{name}/{}", case["id"]), &mut found);
                for dump in found.iter_mut().skip(before).filter(|_| v6) {
                    dump.2 = Family::V6;
                }
            }
        } else {
            strings(&doc, &keys, name, &mut found);
        }
        assert!(!found.is_empty(), "no dumps in {name}");
        out.extend(found);
    }
    let mut results = Vec::new();
    files(&shared.join("oracle/cni/results"), &mut results);
    for path in results {
        strings(&json(&path), &keys, &path.display().to_string(), &mut out);
    }
    out
}

/// Parses without a finding, understands every rule, prints the input; counts the rules.
fn identity(dumps: &[Dump]) -> usize {
    let mut rules = 0;
    for (name, text, family) in dumps {
        let (set, findings) = RuleSet::parse(name, text, *family);
        let said: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(said.is_empty(), "{}", said.join("\n"));
        assert_eq!(set.to_text(), *text, "{name}");
        for rule in set
            .tables
            .iter()
            .flat_map(|t| &t.chains)
            .flat_map(|c| &c.rules)
        {
            assert!(rule.is_known(), "{}: {:?}", rule.origin, rule);
        }
        rules += set.rule_count();
        let again = RuleSet::parse(name, &set.to_save(false), *family);
        assert!(again.1.is_empty(), "{name}: {:?}", again.1);
        assert_eq!(
            again.0.canonical(),
            set.canonical(),
            "{name}: its save form"
        );
    }
    println!("{} dumps, {rules} rules", dumps.len());
    rules
}

/// What the kernel printed is also what the typed printer prints, without the text that was read.
fn printed_from_types(dumps: &[Dump]) {
    for (name, text, family) in dumps {
        let (set, _) = RuleSet::parse(name, text, *family);
        let counted = text.lines().any(|l| l.starts_with('['));
        let plain: String = text
            .lines()
            .filter(|l| !l.starts_with('#'))
            .map(|l| format!("{l}\n"))
            .collect();
        assert_eq!(set.to_save(counted), plain, "{name}");
    }
}

#[test]
fn recorded_dumps_are_printed_back() {
    let dumps = recorded();
    assert!(identity(&dumps) > 500, "{} dumps", dumps.len());
    printed_from_types(&dumps);
}

#[test]
fn shared_dumps_are_printed_back() {
    let Some(shared) = shared() else { return };
    assert!(identity(&shared_dumps(&shared)) > 500);
    assert!(identity(&vector_dumps(&shared)) > 500);
}

/// The rule as kube-proxy writes it for a kernel without nfacct, as the recording one is: counters are not
/// asked, and the rule that only counts what came to localhost is not written.
fn without_nfacct(rule: &Rule) -> Option<Rule> {
    let counts = |m: &Match| matches!(m, Match::Nfacct(_));
    let localhost = |m: &Match| match m {
        Match::Nfacct(n) => n
            .name
            .as_ref()
            .is_some_and(|n| n.0 == "localhost_nps_accepted_pkts"),
        _ => false,
    };
    if rule.matches().iter().any(localhost) {
        return None;
    }
    let rest = rule
        .matches()
        .iter()
        .filter(|m| !counts(m))
        .cloned()
        .collect();
    Some(Rule::new(rest, rule.target().clone(), rule.origin.clone()))
}

/// kube-proxy's input and what the kernel made of it have one canonical form.
#[test]
fn restore_form_and_save_form_are_one() {
    let Some(shared) = shared() else { return };
    let written = vector_dumps(&shared);
    let kernel = json(&shared.join("vectors/kube-proxy/kernel-dumps.json"));
    let mut rules = 0;
    for case in kernel["cases"].as_array().expect("cases") {
        let (id, tool) = (
            case["case"].as_str().unwrap_or_default(),
            case["tool"].as_str().unwrap_or_default(),
        );
        if !tool.contains("tables-save") {
            continue;
        }
        let prefix = format!("iptables.json/\"{id}\"/");
        let (_, input, family) = written
            .iter()
            .find(|w| w.0.starts_with(&prefix))
            .unwrap_or_else(|| panic!("no input for {id}"));
        let input = RuleSet::parse(id, input, *family).0.canonical();
        let dump = RuleSet::parse(id, case["dump"].as_str().unwrap_or_default(), *family)
            .0
            .canonical();
        for table in &input.tables {
            for chain in &table.chains {
                let real = dump.table(table.name).and_then(|t| t.chain(&chain.name));
                let Some(real) = real else {
                    assert!(
                        chain.rules.is_empty(),
                        "{id}: {} is not in the kernel",
                        chain.name
                    );
                    continue;
                };
                let input: Vec<_> = chain.rules.iter().filter_map(without_nfacct).collect();
                assert_eq!(real.rules, input, "{id}: {} {}", table.name, chain.name);
                rules += real.rules.len();
            }
        }
    }
    assert!(rules > 100, "{rules} rules compared");
}

/// `input => output` of the real iptables-restore and iptables-save 1.8.9 for every extension.
#[test]
fn every_spelling_prints_as_iptables_1_8_9_prints_it() {
    let cases = [
        (include_str!("data/nf/kernel4.txt"), Family::V4),
        (include_str!("data/nf/kernel6.txt"), Family::V6),
    ];
    let mut wrong = Vec::new();
    for (text, family) in cases {
        for line in text.lines() {
            let (input, output) = line.split_once(" =>").expect("input => output");
            let (input, output) = (input.trim(), output.trim());
            let file = format!("*filter\n:U - [0:0]\n-A INPUT {input}\nCOMMIT\n");
            let (set, findings) = RuleSet::parse("case", &file, family);
            assert_eq!(set.to_text(), file);
            let save = set.to_save(false);
            let printed = save
                .lines()
                .find_map(|l| l.strip_prefix("-A INPUT"))
                .unwrap_or("-")
                .trim();
            if printed != output || !findings.is_empty() {
                wrong.push(format!(
                    "{input}\n  kernel: {output}\n  ours:   {printed} {findings:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Bad lines are said with their place, kept, and the others still load.
#[test]
fn malformed_lines_are_said_and_kept() {
    let text = "-A INPUT -j ACCEPT\n*nosuch\n*filter\n:INPUT ACCEPT [0:0]\n:INPUT - [0:0]\n:A - [x:0]\n:USER DROP [0:0]\n\
        -A INPUT -p tcp --dport 99999 -j ACCEPT\n-A INPUT -s host.example -j DROP\n-A INPUT -m comment --comment \"open\n\
        -A INPUT --nosuch\n-A INPUT -j ACCEPT -j DROP\n-A INPUT ! -m tcp\n-A INPUT -p tcp -p udp\n[1:x] -A INPUT -j DROP\n\
        -A INPUT -m statistic --mode random -j DROP\n-A INPUT -m mark --mark zz\nwhat is this\n-X INPUT\n-D INPUT 7\n\
        -A INPUT -m nosuch --thing 1 \"a b\" -j NOSUCH --x 2\n-A INPUT -j ACCEPT\nCOMMIT\n*nat\n-A OUTPUT -j DROP\n";
    let (set, findings) = RuleSet::parse("bad.txt", text, Family::V4);
    let said: Vec<String> = findings
        .iter()
        .map(|f| format!("{}: {}", f.span, f.message))
        .collect();
    insta::assert_snapshot!(said.join("\n"));
    assert_eq!(set.to_text(), text);
    let rules = &set
        .table(TableName::Filter)
        .and_then(|t| t.chain("INPUT"))
        .expect("INPUT")
        .rules;
    assert_eq!(rules.len(), 2, "the unknown extension and the last rule");
    assert!(!rules[0].is_known() && rules[1].is_known());
    assert_eq!(set.table(TableName::Nat).map(|t| t.committed), Some(false));
}

/// Commands of restore are carried out and recorded; the text stays.
#[test]
fn commands_are_carried_out_and_recorded() {
    let text = "*filter\n:INPUT ACCEPT [5:60]\n:OLD - [0:0]\n-N NEW\n-A NEW -j RETURN\n-A INPUT -s 10.0.0.1,10.0.0.2 -j NEW\n\
        [1:60] -I INPUT -j OLD\n-A INPUT -j DROP\n-D INPUT -j DROP\n-D INPUT 1\n-X OLD\n-P FORWARD DROP\nCOMMIT\n";
    let (set, findings) = RuleSet::parse("f", text, Family::V4);
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!(set.to_text(), text);
    let expected = "*filter\n:INPUT ACCEPT [5:60]\n:NEW - [0:0]\n:FORWARD DROP [0:0]\n\
        -A INPUT -s 10.0.0.1/32 -j NEW\n-A INPUT -s 10.0.0.2/32 -j NEW\n-A NEW -j RETURN\nCOMMIT\n";
    assert_eq!(set.to_save(false), expected);
    assert_eq!(set.tables[0].commands.len(), 6);
}
