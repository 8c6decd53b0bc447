//! Lines of ipvsadm's listings: connections, counters, timeouts (ipvsadm: `print_conn`, `print_largenum`).
//!
//! A line is its words; a fault names the word it is about. Invariant: what `super::list` prints of a
//! connection is read as the same connection.

use super::super::loaded::Listed;
use super::super::state::{self, Timeouts};
use super::command::{Show, endpoint};
use crate::base::limits::IPVS_EXPIRE_SECS_MAX;
use crate::wire::proto;
use core::time::Duration;
use std::net::SocketAddr;

type Fault = (usize, String);

/// `TCP 14:58  ESTABLISHED 10.244.0.5:41234   10.96.0.10:80      10.244.1.2:8080`
pub(super) fn conn(w: &[&str]) -> Result<Listed, Fault> {
    let word = |i: usize| {
        let missing = || (i, "the line ends too early".to_owned());
        w.get(i).copied().ok_or_else(missing)
    };
    let proto = match word(0)? {
        "TCP" => proto::TCP,
        "UDP" => proto::UDP,
        "SCTP" => proto::SCTP,
        "IP" => 0,
        other => {
            return Err((
                0,
                format!("`{other}` is not a protocol (TCP, UDP, SCTP, IP)"),
            ));
        }
    };
    let left = expire(word(1)?).map_err(|why| (1, why))?;
    let name = word(2)?;
    let at = |i: usize| {
        let text = word(i)?;
        let (ip, port) = endpoint((i, text))?;
        let port = port.ok_or_else(|| (i, format!("`{text}` has no port")))?;
        Ok(SocketAddr::new(ip, port))
    };
    let (client, virt, dest) = (at(3)?, at(4)?, at(5)?);
    if client.is_ipv4() != virt.is_ipv4() {
        return Err((4, "client and virtual address are of two families".into()));
    }
    if w.len() > 6 {
        return Err((6, "nothing is expected behind the destination".into()));
    }
    // A client's port is 0 in templates only (`ip_vs_sched_persist`); both sorts of them have these names.
    let template = match name {
        "ASSURED" => true,
        "NONE" => client.port() == 0,
        _ => false,
    };
    let state = match (template, name) {
        (true, name) => u8::from(name == "ASSURED"),
        (false, name) => state::of_name(proto, name).ok_or_else(|| {
            (
                2,
                format!("`{name}` is not a state of {}", word(0).unwrap_or("")),
            )
        })?,
    };
    Ok(Listed {
        proto,
        client,
        virt,
        dest,
        template,
        state,
        left,
    })
}

/// `MM:SS`
fn expire(text: &str) -> Result<Duration, String> {
    let fault = || format!("`{text}` is not a time (minutes:seconds)");
    let (minutes, secs) = text.split_once(':').ok_or_else(fault)?;
    let plain = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if !plain(minutes) || !plain(secs) {
        return Err(fault());
    }
    let minutes: u64 = minutes.parse().map_err(|_| fault())?;
    let secs: u64 = secs.parse().ok().filter(|s| *s < 60).ok_or_else(fault)?;
    let all = minutes.saturating_mul(60).saturating_add(secs);
    if all > IPVS_EXPIRE_SECS_MAX {
        return Err(format!("`{text}` is longer than any connection lives"));
    }
    Ok(Duration::from_secs(all))
}

/// The columns from word `from` on; as many as the listing has.
pub(super) fn numbers(w: &[&str], from: usize, show: Show) -> Result<Vec<u64>, Fault> {
    let expected = match show {
        Show::Stats | Show::Rate => 5,
        Show::Table => 2,
        _ => 4,
    };
    let rest = w.get(from..).unwrap_or_default();
    let mut out = Vec::with_capacity(expected);
    for i in 0..expected {
        let missing = || (from + i, "the line ends too early".to_owned());
        let text = *rest.get(i).ok_or_else(missing)?;
        out.push(number(text).ok_or_else(|| (from + i, format!("`{text}` is not a number")))?);
    }
    if rest.len() > expected {
        return Err((from + expected, "more columns than the heading has".into()));
    }
    Ok(out)
}

/// A count with or without `K`, `M`, `G`, `T`, which are powers of a thousand.
fn number(text: &str) -> Option<u64> {
    let (digits, factor) = match text.chars().last()? {
        'K' => (text.strip_suffix('K')?, 1000),
        'M' => (text.strip_suffix('M')?, 1_000_000),
        'G' => (text.strip_suffix('G')?, 1_000_000_000),
        'T' => (text.strip_suffix('T')?, 1_000_000_000_000),
        _ => (text, 1),
    };
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// `Timeout (tcp tcpfin udp): 900 120 300`
pub(super) fn timeouts(w: &[&str]) -> Result<Timeouts, Fault> {
    let secs = |i: usize| {
        let text = w.get(i).copied().unwrap_or("");
        text.parse::<u32>()
            .map_err(|_| (i, format!("`{text}` is not a timeout in seconds")))
    };
    Ok(Timeouts {
        tcp: secs(4)?,
        tcp_fin: secs(5)?,
        udp: secs(6)?,
    })
}
