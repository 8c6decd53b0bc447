//! What the kernel's side needs of this machine: root, programs, and the folder of the oracle.
//!
//! Looks before anything is built, and names everything that is missing at once. Invariant: nothing is
//! changed here.

use crate::cli::out;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the oracle lies, if not beside the project.
pub(in crate::cli::bench) const VARIABLE: &str = "PODPATH_SHARED";
/// Its parts that are used.
const PARTS: [&str; 6] = [
    "oracle/oracle",
    "oracle/tools/kp.py",
    "oracle/bench/pps.c",
    "oracle/bench/cps.c",
    "oracle/topologies/two-node-vxlan.json",
    "oracle/topologies/two-node-hostgw.json",
];
/// Programs that are called, by the oracle or from here.
const PROGRAMS: [&str; 15] = [
    "python3",
    "cc",
    "ip",
    "bridge",
    "ethtool",
    "ping",
    "nice",
    "taskset",
    "sh",
    "cat",
    "conntrack",
    "nft",
    "iptables-restore",
    "iptables-legacy",
    "iptables-legacy-restore",
];
/// Where root's programs are, whether or not they are on the path.
const SYSTEM: [&str; 2] = ["/usr/sbin", "/sbin"];

/// The search path for programs, the system's own folders included.
pub(super) fn path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    let more = SYSTEM.iter().map(|s| (*s).to_owned());
    let parts = path.split(':').filter(|p| !p.is_empty()).map(str::to_owned);
    parts.chain(more).collect::<Vec<_>>().join(":")
}

/// The folder that is shared with other projects: beside this one, if nobody says otherwise.
pub(in crate::cli::bench) fn shared() -> PathBuf {
    std::env::var_os(VARIABLE).map_or_else(|| PathBuf::from("../shared"), PathBuf::from)
}

/// The folder of the oracle, if this machine can run its programs.
pub(super) fn oracle() -> anyhow::Result<PathBuf> {
    let shared = shared();
    let missing = missing(&shared, &path(), is_root());
    if !missing.is_empty() {
        return Err(out::stop(
            "bench kernel",
            format!("the kernel cannot be measured here: {}", missing.join("; ")),
            format!("run it as root where these are; {VARIABLE} names the folder that has oracle/"),
        ));
    }
    Ok(std::fs::canonicalize(shared.join("oracle"))?)
}

/// Whether namespaces can be made (the effective user of proc(5)).
fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}

fn missing(shared: &Path, path: &str, root: bool) -> Vec<String> {
    let mut all = Vec::new();
    if !root {
        all.push("not root".to_owned());
    }
    let there = |name: &str| {
        path.split(':')
            .any(|dir| Path::new(dir).join(name).is_file())
    };
    let programs: Vec<&str> = PROGRAMS.into_iter().filter(|p| !there(p)).collect();
    if !programs.is_empty() {
        all.push(format!("no {}", programs.join(", ")));
    }
    let parts: Vec<&str> = PARTS
        .into_iter()
        .filter(|p| !shared.join(p).is_file())
        .collect();
    if !parts.is_empty() {
        all.push(format!("no {} in {}", parts.join(", "), shared.display()));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let all = missing(Path::new("/nowhere"), "/nowhere", false);
        assert_eq!(all.len(), 3, "{all:?}");
        assert_eq!(all[0], "not root");
        assert!(all[1].starts_with("no python3, cc, ip,"), "{all:?}");
        assert!(
            all[2].contains("oracle/bench/pps.c") && all[2].ends_with("in /nowhere"),
            "{all:?}"
        );
    }
}
