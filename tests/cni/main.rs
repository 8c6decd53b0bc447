//! The CNI recordings (real plugin binaries 1.1.1, driven as libcni drives them) against podpath's plugins.
//!
//! Reads the folder `PODPATH_ORACLE` (default `../shared/oracle`), else `tests/recordings/oracle.tar.gz`.
//! Compared: what libcni hands each plugin, stdout, exit code, addresses, routes, bridge ports, ip_forward,
//! host-local's files, iptables-save and ip6tables-save.

mod compare;
mod load;
mod names;
mod replay;
mod state;

use replay::replay;

#[test]
fn every_recorded_case_is_equal() {
    let cases = load::cases();
    assert!(
        cases.len() >= 17,
        "only {} CNI cases were found",
        cases.len()
    );
    let mut failed = Vec::new();
    let mut calls = 0;
    for case in &cases {
        let r = replay(case);
        calls += r.calls;
        let shown = r
            .differences
            .iter()
            .take(6)
            .map(|d| format!("    {d}"))
            .collect::<Vec<_>>()
            .join("\n");
        println!(
            "{} {}: {} calls, {} differences",
            if r.differences.is_empty() {
                "ok  "
            } else {
                "FAIL"
            },
            case.name,
            r.calls,
            r.differences.len()
        );
        r.notes.iter().for_each(|n| println!("    note: {n}"));
        if !r.differences.is_empty() {
            failed.push(format!("{}\n{shown}", case.name));
        }
    }
    println!("{} cases, {calls} plugin calls", cases.len());
    assert!(
        failed.is_empty(),
        "{} of {} cases differ:\n{}",
        failed.len(),
        cases.len(),
        failed.join("\n")
    );
}

#[test]
fn portmap_check_of_an_ipv4_result_succeeds_unlike_the_plugin() {
    let case = load::cases()
        .into_iter()
        .find(|c| c.name == "portmap")
        .expect("the portmap case");
    let recorded: Vec<i64> = case.steps[1].calls.iter().map(|c| c.rc).collect();
    assert_eq!(recorded, [0, 1], "the recording shows the plugin's defect");
    let r = replay(&case);
    assert_eq!(
        r.portmap_checks,
        [0],
        "podpath's portmap CHECK answers success"
    );
}

#[test]
fn a_changed_recording_is_noticed() {
    let mut case = load::cases()
        .into_iter()
        .find(|c| c.name == "bridge-basic")
        .expect("bridge-basic");
    let lines = case.steps[0].state["node"]["ip_route"]
        .as_array_mut()
        .expect("routes");
    lines[0] = "10.244.2.0/24 dev cni0 proto kernel scope link src 10.244.1.1".into();
    assert!(!replay(&case).differences.is_empty());
}

#[test]
fn a_changed_rule_is_noticed() {
    let mut case = load::cases()
        .into_iter()
        .find(|c| c.name == "portmap")
        .expect("portmap");
    let lines = case.steps[0].state["node"]["iptables_save"]
        .as_array_mut()
        .expect("rules");
    assert!(lines.len() > 20, "{} lines", lines.len());
    lines.remove(10);
    let found = replay(&case).differences;
    assert!(
        found.iter().any(|d| d.contains("iptables_save")),
        "{found:?}"
    );
}
