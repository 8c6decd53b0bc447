//! A node's dump: what `ipvsadm -Sn`, `-Ln` with `--stats`, `--rate`, `--thresholds` or `--persistent-conn`,
//! `-Lnc` and `-Ln --timeout` print, one behind the other in any order.
//!
//! Headings say which listing a line belongs to. What services and real servers are is read first, then
//! connections, then counters. Invariant: a line that cannot be read is a finding with its place and column,
//! and all other lines count.

use super::super::loaded::Listed;
use super::super::service::Virtual;
use super::super::state::Timeouts;
use super::super::{DestSpec, Forward, Ipvs, Refused};
use super::command::{Command, Show, endpoint};
use super::{Placed, command, finding, listing, rows, run, split};
use crate::base::{Finding, Instant, Span};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What was read of a dump.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Dump {
    /// Lines of `-Sn`.
    pub saved: Vec<Placed>,
    /// Lines of `-Ln`, as the commands that make them.
    pub listed: Vec<Placed>,
    /// Numbers of `-Ln`, `--stats`, `--rate` and `--thresholds`.
    pub numbers: Vec<Numbers>,
    /// Lines of `-Lnc`; none where the dump has no such listing.
    pub conns: Option<Vec<(Listed, Span)>>,
    /// `--timeout`'s line.
    pub timeouts: Option<Timeouts>,
}

/// A line's numbers about a service, or about a real server of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Numbers {
    /// The listing it stands in.
    pub show: Show,
    /// The service.
    pub at: Virtual,
    /// The real server.
    pub dest: Option<(IpAddr, u16)>,
    /// Its columns.
    pub values: Vec<u64>,
    /// Where it stands.
    pub span: Span,
}

/// Where a line is.
#[derive(Default)]
struct Reader {
    out: Dump,
    show: Option<Show>,
    /// The service above, of the listing that is being read.
    service: Option<Virtual>,
}

/// Reads a dump.
pub fn parse_dump(text: &str, file: impl Into<Arc<str>>) -> (Dump, Vec<Finding>) {
    let file: Arc<str> = file.into();
    let mut findings = Vec::new();
    let mut reader = Reader::default();
    for (i, line) in text.lines().enumerate() {
        let words = split(line);
        let texts: Vec<&str> = words.iter().map(|w| w.1).collect();
        let place = |word: usize| {
            let end = line.chars().count() as u32 + 1;
            let column = words.get(word).map_or(end, |w| w.0);
            Span::new(file.clone(), i as u32 + 1, column)
        };
        if let Err((word, why)) = reader.line(&texts, &place(0)) {
            findings.push(finding(place(word), why));
        }
    }
    (reader.out, findings)
}

impl Reader {
    fn line(&mut self, w: &[&str], span: &Span) -> Result<(), (usize, String)> {
        if self.heading(w) {
            return Ok(());
        }
        let span = span.clone();
        match (w, self.show) {
            (["Timeout", "(tcp", ..], _) => {
                self.out.timeouts = Some(rows::timeouts(w)?);
            }
            (["ipvsadm", rest @ ..], _) => {
                let command = command(rest).map_err(|(at, why)| (at + 1, why))?;
                self.out.saved.push(Placed { command, span });
            }
            ([first, ..], _) if first.starts_with('-') && *first != "->" => {
                let command = command(w)?;
                self.out.saved.push(Placed { command, span });
            }
            (_, None) => {
                return Err((
                    0,
                    "a command or the heading of a listing was expected".into(),
                ));
            }
            (_, Some(Show::Conns)) => {
                let conn = rows::conn(w)?;
                self.out.conns.get_or_insert_default().push((conn, span));
            }
            (_, Some(show)) => self.row(show, w, span)?,
        }
        Ok(())
    }

    /// Whether the line is a heading, an empty one or a comment.
    fn heading(&mut self, w: &[&str]) -> bool {
        let show = match w {
            [] => return true,
            [first, ..] if first.starts_with('#') => return true,
            ["IP", "Virtual", "Server", ..] | ["->", "RemoteAddress:Port", ..] => return true,
            ["IPVS", "connection", "entries"] => Show::Conns,
            ["pro", "expire", "state", ..] => Show::Conns,
            ["Prot", _, "Scheduler", ..] => Show::Table,
            ["Prot", _, "Conns", ..] => Show::Stats,
            ["Prot", _, "CPS", ..] => Show::Rate,
            ["Prot", _, "Uthreshold", ..] => Show::Thresholds,
            ["Prot", _, "Weight", ..] => Show::Persistent,
            _ => return false,
        };
        if show == Show::Conns {
            self.out.conns.get_or_insert_default();
        }
        (self.show, self.service) = (Some(show), None);
        true
    }

    /// A line about a service or a real server.
    fn row(&mut self, show: Show, w: &[&str], span: Span) -> Result<(), (usize, String)> {
        let of_server = w.first() == Some(&"->");
        let above = self.service;
        if !of_server {
            // Should it fail, what follows belongs to no service.
            self.service = None;
        }
        let at = match (show, of_server) {
            (Show::Table, _) => {
                let command = listing::row(w, above)?;
                let at = match &command {
                    Command::AddService(s) => s.at,
                    Command::AddDest(at, _) => *at,
                    _ => return Ok(()),
                };
                let span = span.clone();
                self.out.listed.push(Placed { command, span });
                at
            }
            (_, true) => {
                let missing = "a real server without a service above it";
                above.ok_or((0, missing.to_owned()))?
            }
            (_, false) => listing::service_name(w)?.0,
        };
        let (dest, rest) = match of_server {
            true => {
                let text = *w.get(1).ok_or((1, "the line ends too early".to_owned()))?;
                let (ip, port) = endpoint((1, text))?;
                let skip = if show == Show::Table { 4 } else { 2 };
                (Some((ip, port.unwrap_or(0))), skip)
            }
            false => (None, listing::service_name(w)?.1),
        };
        if !of_server {
            self.service = Some(at);
        }
        let bare = matches!(show, Show::Table | Show::Thresholds | Show::Persistent);
        if bare && !of_server {
            return Ok(());
        }
        let values = rows::numbers(w, rest, show)?;
        let numbers = Numbers {
            show,
            at,
            dest,
            values,
            span,
        };
        self.out.numbers.push(numbers);
        Ok(())
    }
}

/// Makes IPVS what a dump says; `nfct` is `net.ipv4.vs.conntrack`. What does not fit is a finding; a note
/// says what a dump leaves open.
pub fn load_dump(vs: &mut Ipvs, dump: &Dump, nfct: bool, now: Instant) -> Vec<Finding> {
    let mut findings = super::load(vs, &dump.saved, true, now);
    for placed in &dump.listed {
        if !agrees(vs, &placed.command) {
            findings.extend(super::load(vs, core::slice::from_ref(placed), true, now));
        }
    }
    if let Some(t) = dump.timeouts {
        let _ = run(vs, &Command::Timeouts(t), now);
    }
    for (conn, span) in dump.conns.iter().flatten() {
        if let Err(why) = vs.add_listed(conn, nfct, now) {
            findings.push(finding(span.clone(), why.to_string()));
        }
    }
    vs.join_templates();
    for numbers in &dump.numbers {
        findings.extend(count(vs, numbers, dump.conns.is_some()));
    }
    findings
}

/// Whether `-Sn` has said the same; it says `-g` of a real server on the host itself, which a listing knows.
fn agrees(vs: &mut Ipvs, listed: &Command) -> bool {
    match listed {
        Command::AddService(s) => vs.service(&s.at).is_some(),
        Command::AddDest(at, d) => match vs.find_listed(at, (d.ip, d.port)) {
            Some(id) => {
                let known = vs.dest(id).map(|d| d.spec);
                if let Some(spec) = known.filter(|_| d.fwd == Forward::Local) {
                    let fwd = Forward::Local;
                    // It is there, and nothing else of it changes.
                    let _ = vs.edit_dest(at, DestSpec { fwd, ..spec });
                }
                true
            }
            None => false,
        },
        _ => false,
    }
}

fn count(vs: &mut Ipvs, n: &Numbers, conns_known: bool) -> Option<Finding> {
    let missing = || {
        let what = match n.dest {
            Some((ip, port)) => format!("{} is no real server", SocketAddr::new(ip, port)),
            None => "there is no such service".to_owned(),
        };
        let help =
            "its numbers are left out; `ipvsadm -Sn` or `-Ln` of the same node says what it is";
        Some(Finding::error(n.span.clone(), what, help))
    };
    let id = match n.dest {
        Some(dest) => match vs.find_listed(&n.at, dest) {
            Some(id) => Some(id),
            None => return missing(),
        },
        None if vs.service(&n.at).is_none() => return missing(),
        None => None,
    };
    let value = |i: usize| n.values.get(i).copied().unwrap_or(0);
    let five = core::array::from_fn(value);
    match (n.show, id) {
        (Show::Stats, id) => vs.listed_stats(&n.at, id, |stats| stats.set_counts(five)),
        (Show::Rate, id) => vs.listed_stats(&n.at, id, |stats| stats.set_rates(five)),
        (Show::Thresholds, Some(id)) => {
            let spec = vs.dest(id)?.spec;
            let small = |i| u32::try_from(value(i)).unwrap_or(u32::MAX);
            let (upper, lower) = (small(0), small(1));
            let spec = DestSpec {
                upper,
                lower,
                ..spec
            };
            if let Err(why @ Refused::Range) = vs.edit_dest(&n.at, spec) {
                return Some(finding(n.span.clone(), why.to_string()));
            }
        }
        (Show::Table, Some(id)) => return counted(vs, n, id, (value(0), value(1)), conns_known),
        _ => {}
    }
    None
}

/// ActiveConn and InActConn of a real server.
fn counted(
    vs: &mut Ipvs,
    n: &Numbers,
    id: super::super::DestId,
    (active, inactive): (u64, u64),
    conns_known: bool,
) -> Option<Finding> {
    let d = vs.dest(id)?;
    let have = (u64::from(d.active), u64::from(d.inactive));
    if have == (active, inactive) {
        return None;
    }
    if conns_known {
        let said = format!(
            "{active} active and {inactive} inactive connections are counted here, the connection table has \
             {} and {}: the table counts",
            have.0, have.1
        );
        return Some(Finding::note(n.span.clone(), said));
    }
    vs.count_unseen(id, active, inactive);
    let said = format!(
        "{active} active and {inactive} inactive connections are known by number only (`ipvsadm -Lnc` lists \
         them): they weigh with the scheduler and do not end"
    );
    Some(Finding::note(n.span.clone(), said))
}
