//! The lines of `conntrack -E`.
//!
//! Invariant: who asked for an event (`[USERSPACE] portid=...`) is kept as it was printed.

use super::entry::Entry;
use super::list::Style;
use super::parse::{Words, is_noise, parse_entry, push};
use crate::base::Finding;
use crate::nf::ct::event::{Event, EventKind};
use core::fmt;

/// One printed event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventLine {
    /// `[1795275315.102113]`, the seconds and microseconds, with `-o timestamp`.
    pub stamp: Option<(u64, u32)>,
    /// Which kind.
    pub kind: EventKind,
    /// The connection.
    pub entry: Entry,
    /// Who asked for it, as printed: `[USERSPACE] portid=1`.
    pub sender: Option<String>,
}

impl EventKind {
    /// As printed, without brackets.
    pub fn word(self) -> &'static str {
        match self {
            EventKind::New => "NEW",
            EventKind::Update => "UPDATE",
            EventKind::Destroy => "DESTROY",
        }
    }
}

impl fmt::Display for EventLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((s, us)) = self.stamp {
            write!(f, "[{s}.{us:06}]\t")?;
        }
        write!(f, "{:>9} {}", format!("[{}]", self.kind.word()), self.entry)?;
        if let Some(s) = &self.sender {
            write!(f, " {s}")?;
        }
        Ok(())
    }
}

/// An event as `conntrack -E` prints it. A mark of 0, users and the counters of what lives on are not
/// in the message (kernel: `ctnetlink_conntrack_event`).
pub fn event_line(e: &Event) -> EventLine {
    let mut entry = Entry::of(&e.conn, e.at, Style::Plain);
    entry.uses = None;
    entry.mark = entry.mark.filter(|m| *m != 0);
    if e.kind == EventKind::Destroy {
        entry.timeout = entry.timeout.filter(|s| *s != 0);
    } else {
        entry.delta_time = None;
        entry.sides.iter_mut().for_each(|s| s.counters = None);
    }
    EventLine {
        stamp: None,
        kind: e.kind,
        entry,
        sender: None,
    }
}

/// Reads what `conntrack -E` printed, each event with its line.
pub fn parse_events(file: &str, text: &str) -> (Vec<(u32, EventLine)>, Vec<Finding>) {
    let mut out = Vec::new();
    let mut findings = Vec::new();
    for (line, number) in text.lines().zip(1u32..) {
        if is_noise(line) {
            continue;
        }
        match parse_event(&mut Words::new(line)) {
            Ok(event) => out.push((number, event)),
            Err(wrong) => push(&mut findings, wrong.finding(file, number)),
        }
    }
    (out, findings)
}

fn stamp(word: &str) -> Option<(u64, u32)> {
    let (s, us) = word.strip_prefix('[')?.strip_suffix(']')?.split_once('.')?;
    let us = Some(us).filter(|us| us.len() == 6)?;
    Some((s.parse().ok()?, us.parse().ok()?))
}

fn parse_event(w: &mut Words<'_>) -> Result<EventLine, super::parse::Wrong> {
    let stamp = stamp(w.peek());
    if stamp.is_some() {
        w.next();
    }
    let kind = match w.peek() {
        "[NEW]" => EventKind::New,
        "[UPDATE]" => EventKind::Update,
        "[DESTROY]" => EventKind::Destroy,
        _ => return w.wrong("[NEW], [UPDATE] or [DESTROY]"),
    };
    w.next();
    let entry = parse_entry(w)?;
    let mut sender = String::new();
    while !w.peek().is_empty() {
        let who = w.peek();
        let first = sender.is_empty();
        if first != (who == "[USERSPACE]") || !first && !who.contains('=') {
            return w.wrong("the end of the line, or who asked for the event");
        }
        if !first {
            sender.push(' ');
        }
        sender.push_str(w.next());
    }
    Ok(EventLine {
        stamp,
        kind,
        entry,
        sender: Some(sender).filter(|s| !s.is_empty()),
    })
}
