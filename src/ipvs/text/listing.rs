//! `ipvsadm -Ln` as input: the services and destinations it shows.
//!
//! Counts of connections are not configuration; `super::dump` reads them. Invariant: every destination
//! belongs to the last service above it.

use super::super::sched::Scheduler;
use super::super::service::{DestSpec, Forward, Mask, ServiceSpec, TunnelKind, TunnelSum, Virtual};
use super::command::{Command, endpoint, netmask};
use super::{Placed, finding, split};
use crate::base::{Finding, Span};
use crate::wire::proto;
use std::sync::Arc;

/// Reads a listing; a line that cannot be read is a finding.
pub fn parse_listing(text: &str, file: impl Into<Arc<str>>) -> (Vec<Placed>, Vec<Finding>) {
    let file: Arc<str> = file.into();
    let (mut out, mut findings) = (Vec::new(), Vec::new());
    let mut service: Option<Virtual> = None;
    for (i, line) in text.lines().enumerate() {
        let words = split(line);
        let texts: Vec<&str> = words.iter().map(|w| w.1).collect();
        let read = match texts.first().copied() {
            None | Some("IP" | "Prot") => continue,
            Some("->") if texts.get(1) == Some(&"RemoteAddress:Port") => continue,
            Some(_) => row(&texts, service),
        };
        let column = |word: usize| words.get(word).map_or(1, |w| w.0);
        let place = |word| Span::new(file.clone(), i as u32 + 1, column(word));
        match read {
            Ok(command) => {
                if let Command::AddService(s) = &command {
                    service = Some(s.at);
                }
                let span = place(0);
                out.push(Placed { command, span });
            }
            Err((word, why)) => {
                if texts.first() != Some(&"->") {
                    service = None;
                }
                findings.push(finding(place(word), why));
            }
        }
    }
    (out, findings)
}

type Fault = (usize, String);

/// A line: a service, or a real server of the service above.
pub(super) fn row(w: &[&str], above: Option<Virtual>) -> Result<Command, Fault> {
    match w.first() {
        Some(&"->") => destination(w, above),
        _ => virtual_service(w),
    }
}

/// The service that a line begins with, and the number of words that name it.
pub(super) fn service_name(w: &[&str]) -> Result<(Virtual, usize), Fault> {
    let proto = match w.first().copied() {
        Some("TCP") => proto::TCP,
        Some("UDP") => proto::UDP,
        Some("SCTP") => proto::SCTP,
        Some("FWM") => 0,
        _ => {
            return Err((
                0,
                "a service (TCP, UDP, SCTP, FWM) or `->` was expected".into(),
            ));
        }
    };
    let missing = |n| move || (n, "the line ends too early".to_owned());
    let name = *w.get(1).ok_or_else(missing(1))?;
    let mut next = 2;
    let at = if proto == 0 {
        let v6 = w.get(2) == Some(&"IPv6");
        next += usize::from(v6);
        let mark = name.parse().ok().filter(|m| *m != 0);
        let mark = mark.ok_or_else(|| (1, format!("`{name}` is not a firewall mark")))?;
        Virtual::Mark { mark, v6 }
    } else {
        let (ip, port) = endpoint((1, name))?;
        let port = port.unwrap_or(0);
        Virtual::Addr { proto, ip, port }
    };
    Ok((at, next))
}

fn virtual_service(w: &[&str]) -> Result<Command, Fault> {
    let (at, next) = service_name(w)?;
    let missing = |n| move || (n, "the line ends too early".to_owned());
    let sched = *w.get(next).ok_or_else(missing(next))?;
    let unknown = || (next, format!("unknown scheduler `{sched}`"));
    let mut spec = ServiceSpec {
        at,
        sched: Scheduler::of_name(sched).ok_or_else(unknown)?,
        flags: 0,
        persistent: None,
        mask: Mask::all(at.is_v6()),
        ops: false,
        pe: None,
    };
    extras(&mut spec, w, next + 1)?;
    Ok(Command::AddService(spec))
}

fn extras(spec: &mut ServiceSpec, w: &[&str], mut i: usize) -> Result<(), Fault> {
    while let Some(word) = w.get(i) {
        let value = w.get(i + 1).copied().unwrap_or("");
        match *word {
            "ops" => {
                spec.ops = true;
                i += 1;
                continue;
            }
            "persistent" => {
                let secs = value.parse();
                let fault = |_| (i + 1, format!("`{value}` is not a timeout in seconds"));
                spec.persistent = Some(secs.map_err(fault)?);
            }
            "mask" => spec.mask = netmask(i + 1, value, spec.at.is_v6())?,
            "pe" => spec.pe = Some(value.to_owned()),
            flags => {
                let inside = flags.strip_prefix('(').and_then(|f| f.strip_suffix(')'));
                let inside = inside.ok_or_else(|| (i, format!("unknown word `{flags}`")))?;
                for name in inside.split(',') {
                    let bit = spec.sched.flag_names().iter().position(|n| *n == name);
                    let bit = bit.ok_or_else(|| (i, format!("unknown flag `{name}`")))?;
                    spec.flags |= 1 << bit;
                }
                i += 1;
                continue;
            }
        }
        i += 2;
    }
    Ok(())
}

fn destination(w: &[&str], service: Option<Virtual>) -> Result<Command, Fault> {
    let at = service.ok_or((0, "a destination without a service above it".to_owned()))?;
    let missing = |n| move || (n, "the line ends too early".to_owned());
    let (ip, port) = endpoint((1, w.get(1).ok_or_else(missing(1))?))?;
    let fwd = match *w.get(2).ok_or_else(missing(2))? {
        "Masq" => Forward::Masq,
        "Local" => Forward::Local,
        "Tunnel" => Forward::Tunnel(TunnelKind::Ipip, TunnelSum::None),
        "Route" => Forward::Droute,
        other => return Err((2, format!("unknown forwarding method `{other}`"))),
    };
    let weight = *w.get(3).ok_or_else(missing(3))?;
    let spec = DestSpec {
        ip,
        port: port.unwrap_or(0),
        fwd,
        weight: weight
            .parse()
            .map_err(|_| (3, format!("`{weight}` is not a weight")))?,
        upper: 0,
        lower: 0,
    };
    Ok(Command::AddDest(at, spec))
}
