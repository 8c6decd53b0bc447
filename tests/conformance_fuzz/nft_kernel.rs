//! Native rules in the kernel: loading a script, taking out what is refused, listing, cleaning up.
//!
//! Called with the thread in the router's namespace.

use super::kernel::run;
use super::round::Round;
use std::time::Duration;

/// Most commands of one script that may be refused.
const REFUSED_MAX: usize = 60;
/// Whether connections are counted.
const ACCOUNTING: &str = "/proc/sys/net/netfilter/nf_conntrack_acct";
/// What rules held (conntrack, NAT) is let go by a worker a little after they are gone
/// (`nf_tables_trans_destroy_work`).
const LET_GO: Duration = Duration::from_millis(25);

/// Most waits of 50 microseconds for a frame to be worked off: what turns in a loop never is.
const WAITS_MAX: usize = 100;

/// Waits until no processor has frames left to receive: on a busy machine they are worked off by a thread of
/// the kernel's own (`ksoftirqd`), not in the sender's context. The twelfth number of a line is the backlog's
/// length (`softnet_seq_show`).
pub fn worked_off() {
    for _ in 0..WAITS_MAX {
        let text = std::fs::read_to_string("/proc/net/softnet_stat").unwrap_or_default();
        let waiting = |l: &str| {
            l.split_whitespace()
                .nth(11)
                .is_some_and(|n| n != "00000000")
        };
        if !text.lines().any(waiting) {
            return;
        }
        std::thread::sleep(Duration::from_micros(50));
    }
}

/// Loads a script, all of it or nothing; of a `fresh` one the commands that are refused are taken out.
pub fn load(script: &mut String, fresh: bool) -> Result<(), String> {
    for _ in 0..REFUSED_MAX {
        if script.is_empty() {
            return Ok(());
        }
        // A rule that asks how much a connection carried turned it on, in a batch that was refused too.
        let _ = std::fs::write(ACCOUNTING, "0");
        let Err(e) = run("nft", &["-f", "-"], script) else {
            return Ok(());
        };
        if std::env::var_os("NFT_REFUSED").is_some() {
            eprintln!("{e}");
        }
        let mut lines = refused(&e);
        // A table that was found wrong stays so for the rest of the batch (`nft_table_validate`).
        if e.contains("not supported") {
            lines.truncate(1);
        }
        if lines.is_empty() || !fresh {
            return Err(e);
        }
        let kept = script.lines().enumerate();
        let kept = kept.filter(|(i, _)| !lines.contains(&(i + 1)));
        *script = kept.map(|(_, l)| format!("{l}\n")).collect();
    }
    Err("nft -f: too many commands are refused".to_owned())
}

/// Numbers of the lines that a message names (`/dev/stdin:12:1-20: Error: ...`).
fn refused(message: &str) -> Vec<usize> {
    let number = |l: &str| -> Option<usize> {
        let (_, rest) = l.split_once("/dev/stdin:")?;
        rest.split(':').next()?.parse().ok()
    };
    message
        .lines()
        .filter(|l| l.contains("Error"))
        .filter_map(number)
        .collect()
}

/// All native rules, if the round has any.
pub fn list(r: &Round) -> Result<String, String> {
    match r.nft.is_empty() {
        true => Ok(String::new()),
        false => run("nft", &["-j", "list", "ruleset"], "").map(|t| t.trim().to_owned()),
    }
}

/// Empties what native rules left behind.
pub fn clean(r: &Round) -> Result<(), String> {
    if r.nft.is_empty() {
        return Ok(());
    }
    run("nft", &["flush", "ruleset"], "")?;
    let _ = std::fs::write(ACCOUNTING, "0");
    std::thread::sleep(LET_GO);
    Ok(())
}
