//! `ipset save`, `ipset list` and `ipset list -terse`.
//!
//! libipset session.c and print.c, checked against ipset 7.17. Changes nothing. Invariant: what save
//! prints is read
//! back as equal sets, and printed again as the same bytes.

use std::fmt::Write as _;

use super::element::{Element, Ext, SkbInfo, Timeout, show_key};
use super::header::Header;
use super::kind::Method;
use super::member::Member;
use super::sets::{Content, Set, Sets};
use crate::base::Instant;

/// Nominal size of a set and of an element: what the kernel reports depends on its allocator and build.
const SET_BYTES: usize = 200;
const ELEMENT_BYTES: usize = 64;

impl Sets {
    /// `ipset save`.
    pub fn save(&self, now: Instant) -> String {
        let mut out = String::new();
        for (name, set) in self.iter() {
            save_set(name, set, now, &mut out);
        }
        out
    }

    /// `ipset save NAME`; `None` if there is no such set.
    pub fn save_one(&self, name: &str, now: Instant) -> Option<String> {
        let mut out = String::new();
        save_set(name, self.get(name)?, now, &mut out);
        Some(out)
    }

    /// `ipset list`, or with `terse` `ipset list -terse`.
    ///
    /// "Size in memory" is a nominal figure.
    pub fn list(&self, terse: bool, now: Instant) -> String {
        let mut out = String::new();
        for (i, (name, set)) in self.iter().enumerate() {
            if i > 0 {
                out.push('\n');
            }
            self.list_set(name, set, terse, now, &mut out);
        }
        out
    }

    /// `ipset list NAME`; `None` if there is no such set.
    pub fn list_one(&self, name: &str, terse: bool, now: Instant) -> Option<String> {
        let mut out = String::new();
        self.list_set(name, self.get(name)?, terse, now, &mut out);
        Some(out)
    }

    fn list_set(&self, name: &str, set: &Set, terse: bool, now: Instant, out: &mut String) {
        let count = set.len(now);
        let _ = writeln!(out, "Name: {name}\nType: {}", set.type_name());
        if let Some(header) = set.header() {
            let _ = writeln!(out, "Revision: {}", header.kind.revision());
        }
        out.push_str("Header:");
        show_options(set, out);
        let bytes = SET_BYTES + count * ELEMENT_BYTES;
        let references = self.references(name);
        let _ = writeln!(
            out,
            "\nSize in memory: {bytes}\nReferences: {references}\nNumber of entries: {count}"
        );
        if !terse {
            out.push_str("Members:\n");
            for line in lines(set, now) {
                out.push_str(&line);
                out.push('\n');
            }
        }
    }
}

fn show_options(set: &Set, out: &mut String) {
    match &set.content {
        Content::Store(header, _) | Content::List(header, _) => header.show(out),
        Content::Unknown(unknown) if unknown.options.is_empty() => {}
        Content::Unknown(unknown) => {
            let _ = write!(out, " {}", unknown.options);
        }
    }
}

fn save_set(name: &str, set: &Set, now: Instant, out: &mut String) {
    let _ = write!(out, "create {name} {}", set.type_name());
    show_options(set, out);
    out.push('\n');
    for line in lines(set, now) {
        let _ = writeln!(out, "add {name} {line}");
    }
}

/// The elements as they are added.
fn lines(set: &Set, now: Instant) -> Vec<String> {
    match &set.content {
        Content::Store(header, store) => {
            let by_key = header.kind.method() == Method::Bitmap;
            let all = store.elements.sorted(by_key, now).into_iter();
            all.map(|e| element(header, e, now)).collect()
        }
        Content::List(header, members) => {
            let live = members.iter().filter(|m| m.ext.timeout.live(now));
            live.map(|m| member(header, m, now)).collect()
        }
        Content::Unknown(unknown) => unknown.lines.iter().map(|l| l.to_string()).collect(),
    }
}

/// An element with its extensions.
pub(super) fn element(header: &Header, e: &Element, now: Instant) -> String {
    let mut out = String::new();
    show_key(header.kind, header.family, &e.key, e.mac, &mut out);
    timeout(header, e.ext.timeout, now, &mut out);
    out.push_str(if e.nomatch { " nomatch" } else { "" });
    out.push_str(if e.wildcard { " wildcard" } else { "" });
    extensions(header, &e.ext, &mut out);
    if let Some(unknown) = &e.unknown {
        let _ = write!(out, " {unknown}");
    }
    out
}

fn member(header: &Header, m: &Member, now: Instant) -> String {
    let mut out = m.name.to_string();
    timeout(header, m.ext.timeout, now, &mut out);
    extensions(header, &m.ext, &mut out);
    if let Some(unknown) = &m.unknown {
        let _ = write!(out, " {unknown}");
    }
    out
}

fn timeout(header: &Header, timeout: Timeout, now: Instant, out: &mut String) {
    if header.timeout.is_some() {
        let _ = write!(out, " timeout {}", timeout.left(now));
    }
}

/// Counters, comment and skbinfo, as far as the set has them and they are not empty.
fn extensions(header: &Header, ext: &Ext, out: &mut String) {
    if header.counters {
        let _ = write!(out, " packets {} bytes {}", ext.packets, ext.bytes);
    }
    if let Some(comment) = ext.comment.as_ref().filter(|_| header.comment) {
        let _ = write!(out, " comment \"{comment}\"");
    }
    if !header.skbinfo {
        return;
    }
    let SkbInfo {
        mark,
        mask,
        prio,
        queue,
    } = ext.skb;
    if (mark, mask) != (0, 0) {
        let _ = write!(out, " skbmark 0x{mark:x}");
        if mask != u32::MAX {
            let _ = write!(out, "/0x{mask:x}");
        }
    }
    if prio != 0 {
        let _ = write!(out, " skbprio {:x}:{:x}", prio >> 16, prio & 0xffff);
    }
    if queue != 0 {
        let _ = write!(out, " skbqueue {queue}");
    }
}
