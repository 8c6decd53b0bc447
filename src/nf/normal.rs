//! What is filled in or refused once all options of an extension are read.
//!
//! The defaults are those iptables-save 1.8.9 prints or leaves out (the extensions' `x6_fcheck`,
//! `init`, `save`). Invariant: afterwards two spellings of one match or target are equal values.

use core::net::IpAddr;

use super::field::Is;
use super::flags::Weekdays;
use super::matches::*;
use super::rate::{Burst, Rate};
use super::table::Family;
use super::target::{FullMark, LogLevel, RejectWith};
use super::value::{Hex, MarkMask, Name, PortRange, prefix_mask};
use super::{Match, Target};

/// A condition on the options together; the error says what was expected.
fn need(ok: bool, what: &str) -> Result<(), String> {
    if ok { Ok(()) } else { Err(what.to_owned()) }
}

/// `N:M` that is every port is no question.
fn drop_any(ports: &mut Option<Is<PortRange>>) {
    if ports.is_some_and(|p| !p.not && p.value.min == 0 && p.value.max == u16::MAX) {
        *ports = None;
    }
}

/// A value that is the default is not printed.
fn drop_default<T: PartialEq>(slot: &mut Option<T>, default: T) {
    if slot.as_ref() == Some(&default) {
        *slot = None;
    }
}

/// Completes a match.
pub(super) fn finish_match(m: &mut Match, family: Family) -> Result<(), String> {
    match m {
        Match::Tcp(t) => {
            if let Some(syn) = t.syn.take() {
                need(t.flags.is_none(), "either --syn or --tcp-flags")?;
                t.flags = Some(Is {
                    not: syn.not,
                    value: TcpFlags::SYN,
                });
            }
            drop_any(&mut t.sport);
            drop_any(&mut t.dport);
        }
        Match::Udp(u) => {
            drop_any(&mut u.sport);
            drop_any(&mut u.dport);
        }
        Match::Multiport(p) => {
            let given = [&p.sports, &p.dports, &p.ports]
                .iter()
                .filter(|p| p.is_some())
                .count();
            need(given == 1, "one of --sports, --dports, --ports")?;
        }
        Match::Comment(c) => {
            // uapi xt_comment.h XT_MAX_COMMENT_LEN is 256 with the closing zero.
            need(
                c.text.as_ref().is_some_and(|t| t.0.len() < 256),
                "a --comment of at most 255 bytes",
            )?;
        }
        Match::Statistic(s) => match s.mode {
            Some(StatisticMode::Random) => {
                need(
                    s.probability.is_some() && s.every.is_none(),
                    "--probability with --mode random",
                )?;
            }
            Some(StatisticMode::Nth) => {
                need(
                    s.every.is_some_and(|e| e.value > 0),
                    "--every above 0 with --mode nth",
                )?;
                let packet = *s.packet.get_or_insert(0);
                need(
                    s.every.is_some_and(|e| packet < e.value),
                    "--packet below --every",
                )?;
            }
            None => return Err("--mode random or --mode nth".to_owned()),
        },
        Match::Recent(r) => {
            need(r.op.is_some(), "one of --set, --rcheck, --update, --remove")?;
            r.name.get_or_insert(Name("DEFAULT".to_owned()));
            r.mask.get_or_insert(prefix_mask(128, family));
            r.side.get_or_insert(RecentSide::Source);
        }
        Match::Limit(l) => {
            l.rate.get_or_insert(LimitRate::DEFAULT);
            drop_default(&mut l.burst, 5);
        }
        Match::Hashlimit(h) => finish_hashlimit(h, family)?,
        Match::String(s) => {
            need(
                s.pattern.is_some() && s.algo.is_some(),
                "--string or --hex-string, and --algo",
            )?;
            drop_default(&mut s.from, 0);
            drop_default(&mut s.to, u16::MAX);
        }
        Match::Time(t) => finish_time(t),
        Match::Set(s) => need(s.set.is_some(), "--match-set NAME src|dst,...")?,
        Match::Connlimit(c) => {
            need(
                c.upto.is_some() != c.above.is_some(),
                "--connlimit-upto or --connlimit-above",
            )?;
            c.mask
                .get_or_insert(if family == Family::V4 { 32 } else { 128 });
            c.side.get_or_insert(LimitSide::Source);
        }
        Match::Connbytes(c) => {
            let all = c.amount.is_some() && c.mode.is_some() && c.dir.is_some();
            need(all, "--connbytes with --connbytes-mode and --connbytes-dir")?;
        }
        _ => {}
    }
    may_be_empty(m.name(), m.module().map(printed))
}

fn printed(module: &dyn super::Module) -> String {
    let mut out = String::new();
    module.print(&mut out);
    out
}

/// Extensions that do something without any option; every other needs one.
fn may_be_empty(name: &str, text: Option<String>) -> Result<(), String> {
    const EMPTY: [&str; 12] = [
        "tcp",
        "udp",
        "sctp",
        "socket",
        "rpfilter",
        "CT",
        "LOG",
        "NFLOG",
        "NOTRACK",
        "MASQUERADE",
        "REDIRECT",
        "owner",
    ];
    match text {
        Some(t) if t.is_empty() && !EMPTY.contains(&name) => Err(format!("an option of `{name}`")),
        _ => Ok(()),
    }
}

fn finish_hashlimit(h: &mut Hashlimit, family: Family) -> Result<(), String> {
    need(h.name.is_some(), "--hashlimit-name")?;
    match h.rate.map(|r| r.rate) {
        None => return Err("--hashlimit-upto or --hashlimit-above".to_owned()),
        Some(Rate::Packet(_)) => {
            let burst = h.burst.get_or_insert(Burst::Packets(5));
            need(
                matches!(burst, Burst::Packets(_)),
                "a burst in packets, as the rate",
            )?;
        }
        Some(Rate::Bytes(_)) => {}
    }
    let full = if family == Family::V4 { 32 } else { 128 };
    drop_default(&mut h.srcmask, full);
    drop_default(&mut h.dstmask, full);
    drop_default(&mut h.gcinterval, 1_000);
    Ok(())
}

fn finish_time(t: &mut Time) {
    if t.start.is_some() || t.stop.is_some() {
        t.start.get_or_insert(DayTime(0));
        t.stop.get_or_insert(DayTime(86_399));
    }
    for days in t.monthdays.iter_mut().filter(|d| d.not) {
        *days = Is::plain(Monthdays(Monthdays::ALL & !days.value.0));
    }
    for days in t.weekdays.iter_mut().filter(|d| d.not) {
        *days = Is::plain(Weekdays(0x7f & !days.value.0));
    }
    t.datestop.get_or_insert(Moment::LAST);
}

/// Completes a target.
pub(super) fn finish_target(t: &mut Target, family: Family) -> Result<(), String> {
    match t {
        Target::Reject(r) => {
            let with = match (r.with.unwrap_or(RejectWith::PortUnreachable), family) {
                (RejectWith::PortUnreachable, Family::V6) => RejectWith::V6PortUnreachable,
                (w, _) => w,
            };
            let v6 = with >= RejectWith::V6NoRoute;
            let fits = with == RejectWith::TcpReset || v6 == (family == Family::V6);
            need(fits, "an answer of this family for --reject-with")?;
            r.with = Some(with);
        }
        Target::Log(l) => drop_default(&mut l.level, LogLevel(4)),
        Target::Nflog(n) => drop_default(&mut n.group, 0),
        Target::Connmark(c) => {
            let ops = u8::from(c.xmark.is_some()) + u8::from(c.copy.is_some());
            need(ops == 1, "one of --set-xmark, --save-mark, --restore-mark")?;
            let both = c.mask.take();
            if c.copy.is_some() {
                c.nfmask = c.nfmask.or(both).or(Some(Hex(u32::MAX)));
                c.ctmask = c.ctmask.or(both).or(Some(Hex(u32::MAX)));
            }
        }
        Target::Dnat(d) => need(d.to.is_some(), "--to-destination")?,
        Target::Snat(s) => need(s.to.is_some(), "--to-source")?,
        Target::Tproxy(p) => {
            need(p.port.is_some(), "--on-port")?;
            let any: IpAddr = prefix_mask(0, family);
            p.ip.get_or_insert(any);
            p.mark
                .get_or_insert(FullMark(MarkMask { value: 0, mask: 0 }));
        }
        Target::Nfqueue(q) if q.balance.is_none() => {
            q.num.get_or_insert(0);
        }
        _ => {}
    }
    may_be_empty(t.name(), t.module().map(printed))
}
