//! The command lines that change a namespace: `ip link|addr|route|rule|neigh`, `bridge link|fdb`, `sysctl`,
//! `iptables` with its kin, whose words [`crate::nf::apply`] reads, `nft`, which [`crate::nf::nft::command`]
//! does, and `ipvsadm` ([`crate::ipvs`]).
//!
//! Manifests of kind Fault and Cluster, and the kernel recordings, name changes in these words. Parsing
//! needs no namespace: names stay names. Commands that only show something parse to [`Command::Show`].
//! Invariant: a word that is not understood is an error with its column; no word is skipped (syntax:
//! iproute2's ip-link(8), ip-address(8), ip-route(8), ip-rule(8), ip-neighbour(8), bridge(8)).

mod apply;
mod ipvsadm;
mod l3;
mod link;
mod types;
mod words;

pub use apply::{ApplyError, apply, derived_mac};
pub use types::*;

use crate::base::{Finding, Span};
use crate::nf;
use words::Words;

/// Parses one command line that begins with `ip`, `bridge`, `sysctl`, `nft`, `ipvsadm` or a program of
/// iptables.
///
/// `at` is where the line begins; findings point at the word.
pub fn parse(line: &str, at: &Span) -> Result<Command, Finding> {
    if nf::apply::is_line(line) {
        nf::apply::check_line(line, at)?;
        let line = line.to_owned();
        return Ok(Command::Iptables { line });
    }
    if nf::nft::command::is_line(line) {
        nf::nft::command::check_line(line, at)?;
        let line = line.to_owned();
        return Ok(Command::Nft { line });
    }
    if ipvsadm::is_line(line) {
        ipvsadm::check(line, at)?;
        let line = line.to_owned();
        return Ok(Command::Ipvsadm { line });
    }
    let mut w = Words::new(line, at)?;
    match w.next("a command")? {
        "ip" => ip(&mut w),
        "bridge" => link::bridge(&mut w),
        "sysctl" => sysctl(&mut w),
        other => Err(w.bad(other, "ip, bridge, sysctl, iptables, nft or ipvsadm")),
    }
}

/// Parses one line of `ip -batch`, which does not name `ip` itself.
pub fn parse_batch(line: &str, at: &Span) -> Result<Command, Finding> {
    ip(&mut Words::new(line, at)?)
}

/// Cuts a shell line into simple commands at `;`, `&&`, `||` and line ends outside quotes.
///
/// Only the cutting is a shell's; a command with a pipe, a substitution or a redirection stays one piece.
pub fn split_script(script: &str) -> Vec<&str> {
    let (mut out, mut from, mut quote) = (Vec::new(), 0, None);
    let mut chars = script.char_indices().peekable();
    while let Some((i, c)) = chars.next() {
        match quote {
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if c == '\'' || c == '"' => quote = Some(c),
            None => {
                let double = chars.peek().is_some_and(|(_, n)| *n == c);
                if matches!(c, ';' | '\n') || (double && matches!(c, '&' | '|')) {
                    out.push(script[from..i].trim());
                    from = i + 1;
                    if double && matches!(c, '&' | '|') {
                        chars.next();
                        from = i + 2;
                    }
                }
            }
        }
    }
    out.push(script[from..].trim());
    out.retain(|s| !s.is_empty());
    out
}

fn ip(w: &mut Words<'_>) -> Result<Command, Finding> {
    let mut v6 = None;
    loop {
        match w.next("an object (link, addr, route, rule, neigh)")? {
            "-4" => v6 = Some(false),
            "-6" => v6 = Some(true),
            "-force" | "-o" | "-d" | "-s" | "-br" | "-j" => {}
            // iproute2 takes the first object of which the word is a prefix (`matches`), in its own order.
            o if is(o, "link") => return link::link(w),
            o if is(o, "address") => return l3::addr(w),
            o if is(o, "route") => return l3::route(w, v6),
            o if is(o, "rule") => return l3::rule(w, v6),
            o if is(o, "neighbour") || is(o, "neighbor") => return l3::neigh(w),
            other => return Err(w.bad(other, "link, addr, route, rule or neigh")),
        }
    }
}

/// Whether `word` abbreviates `full`, as iproute2 permits.
fn is(word: &str, full: &str) -> bool {
    !word.is_empty() && full.starts_with(word)
}

fn sysctl(w: &mut Words<'_>) -> Result<Command, Finding> {
    let mut item = w.next("key=value")?;
    while matches!(item, "-w" | "-q" | "-qw" | "-e") {
        item = w.next("key=value")?;
    }
    let (key, value) = item
        .split_once('=')
        .ok_or_else(|| w.bad(item, "key=value"))?;
    let mut value = value.to_owned();
    // `sysctl -w a=1 b=2` sets two keys; one command of ours is one change, so a second pair is refused.
    while let Some(more) = w.peek() {
        if more.contains('=') {
            return Err(w.extra());
        }
        value = format!("{value} {more}");
        w.skip();
    }
    // The shell's quotes around a value of several words.
    let value = value.trim_matches(['\'', '"']).to_owned();
    Ok(Command::Sysctl {
        key: sysctl_name(key),
        value,
    })
}

/// `sysctl` accepts `/` for `.`, and then a dot stands for itself (`net/ipv4/conf/flannel.1/rp_filter`).
pub fn sysctl_name(key: &str) -> String {
    match (key.find('/'), key.find('.')) {
        (Some(s), d) if d.is_none_or(|d| s < d) => key.replace('/', "."),
        _ => key.to_owned(),
    }
}

#[cfg(test)]
mod tests;
