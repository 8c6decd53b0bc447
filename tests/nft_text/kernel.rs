//! Rules in tables of every family, as they were recorded, and the comparison with the real nft.

use super::{apply, differs, still, text};
use std::process::Command;

/// What stands in the tables beside the rule; the hook does not matter for the text.
const OBJECTS: &str = "chain other { }
counter cnt1 { }
limit lim1 { rate 10/second; }
quota q1 { over 10 mbytes; }
ct helper ftp-std { type \"ftp\" protocol tcp; }
ct timeout to1 { protocol tcp; policy = { established : 100 }; }
ct expectation exp1 { protocol tcp; dport 80; timeout 10s; size 5; }
synproxy sp1 { mss 1460; wscale 7; timestamp sack-perm; }
set set1 { type ipv4_addr; }
set set2 { type ipv4_addr . inet_service; }
set dyn1 { type ipv4_addr; flags dynamic,timeout; }
set dyn2 { type ipv4_addr . inet_service; flags dynamic,timeout; }
map dmap { type ipv4_addr : mark; flags dynamic,timeout; }
map vm1 { type ipv4_addr . inet_proto . inet_service : verdict; }
set set6 { type ipv6_addr; }
map natm { type ipv4_addr . inet_service : ipv4_addr . inet_service; }";

/// The rule as it is listed after it was added.
pub fn listed(table: &str, rule: &str) -> Result<String, String> {
    let family = table.trim_end_matches("snat").trim_end_matches("nat");
    let hook = match family {
        "netdev" => "type filter hook ingress device lo priority 0;",
        _ => "type filter hook input priority 0;",
    };
    let script = format!(
        "table {family} t {{\n{OBJECTS}\nchain c {{ {hook} }}\n}}\nadd rule {family} t c {rule}\n"
    );
    let set = apply(&script)?;
    let table = set.tables.values().next().ok_or("no table")?;
    let chain = table.chains.get("c").ok_or("no chain")?;
    let rules: Vec<_> = chain.rules.iter().map(|r| r.text(table.family)).collect();
    Ok(rules.join("\n"))
}

fn run(words: &[&str]) -> Result<String, String> {
    let (program, rest) = words.split_first().ok_or("no words")?;
    let out = Command::new(program)
        .args(rest)
        .output()
        .map_err(|e| e.to_string())?;
    match out.status.success() {
        true => Ok(String::from_utf8_lossy(&out.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&out.stderr).into_owned()),
    }
}

/// A namespace that goes when the test ends.
struct NetNs(String);

impl NetNs {
    fn new() -> Result<Self, String> {
        let name = format!("n1-nft-{}", std::process::id());
        run(&["ip", "netns", "add", &name])?;
        let ns = NetNs(name);
        ns.run(&["ip", "link", "set", "lo", "up"])?;
        Ok(ns)
    }

    fn run(&self, words: &[&str]) -> Result<String, String> {
        let mut all = vec!["ip", "netns", "exec", self.0.as_str()];
        all.extend(words);
        run(&all)
    }
}

impl Drop for NetNs {
    fn drop(&mut self) {
        let _ = run(&["ip", "netns", "del", &self.0]);
    }
}

/// Every recorded script loaded into the kernel now.
#[test]
fn the_kernel_still_says_so() {
    if std::env::var_os("PODPATH_NFT").is_none() {
        eprintln!(
            "SKIPPED: the comparison with the real nft needs root and PODPATH_NFT=1; the recordings were checked"
        );
        return;
    }
    let mut bad = Vec::new();
    let path = std::env::temp_dir().join(format!("n1-nft-{}.nft", std::process::id()));
    let file = path.to_string_lossy().into_owned();
    for s in super::data("scripts") {
        let (name, script) = (text(&s, "name"), text(&s, "script"));
        let one = || -> Result<String, String> {
            let ns = NetNs::new()?;
            std::fs::write(&path, script).map_err(|e| e.to_string())?;
            ns.run(&["nft", "-f", &file])?;
            ns.run(&["nft", "list", "ruleset"])
        };
        match (one(), apply(script)) {
            (Ok(kernel), Ok(ours)) => {
                let d = differs(&still(&kernel), &still(&ours.to_text()));
                bad.extend(d.map(|d| format!("{name}: {d}")));
            }
            (k, o) => bad.push(format!(
                "{name}: kernel {:?}, podpath {:?}",
                k.err(),
                o.err()
            )),
        }
    }
    let _ = std::fs::remove_file(&path);
    super::none(bad);
}
