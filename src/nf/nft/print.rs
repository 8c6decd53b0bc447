//! Printing a rule set as `nft list ruleset` does.
//!
//! Order in a table: flags, comment, objects, sets and maps, flow tables, chains (nftables rule.c
//! `table_print`). Invariant: a listing that is read and printed is the same text, but for objects
//! that a script put
//! in another order.

use core::fmt::Write as _;

use super::elements::Elements;
use super::model::*;
use super::print_expr as px;
use super::priority;
use super::time;
use super::types::Type;

impl Ruleset {
    /// As `nft list ruleset` prints it.
    pub fn to_text(&self) -> String {
        self.print(false)
    }

    /// As `nft -a list ruleset` prints it: with handles.
    pub fn to_text_with_handles(&self) -> String {
        self.print(true)
    }

    fn print(&self, handles: bool) -> String {
        let mut p = Printer {
            out: String::new(),
            handles,
        };
        self.tables.values().for_each(|t| p.table(t));
        p.out
    }
}

impl Rule {
    /// One rule as it is listed, without its line's indentation.
    pub fn text(&self, family: Family) -> String {
        let mut out = String::new();
        px::rule(family, self, &mut out);
        out
    }
}

struct Printer {
    out: String,
    handles: bool,
}

/// How many elements stand on one line (nftables expression.c `calculate_delim`).
fn per_line(types: &[Type]) -> usize {
    match types {
        [Type::Ipv4 | Type::CtState | Type::CtStatus | Type::PktType] => 2,
        [
            Type::Integer(_)
            | Type::Hex(_)
            | Type::InetService
            | Type::InetProto
            | Type::Mark
            | Type::NfProto
            | Type::CtDir
            | Type::IfIndex
            | Type::ClassId
            | Type::Uid
            | Type::Gid
            | Type::ArpOp
            | Type::TcpFlag,
        ] => 5,
        _ => 1,
    }
}

impl Printer {
    fn line(&mut self, depth: usize, text: &str) {
        self.out.extend(core::iter::repeat_n('\t', depth));
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn open(&mut self, depth: usize, text: &str, handle: u64) {
        self.out.extend(core::iter::repeat_n('\t', depth));
        let _ = write!(self.out, "{text} {{");
        if self.handles && handle != 0 {
            let _ = write!(self.out, " # handle {handle}");
        }
        self.out.push('\n');
    }

    fn table(&mut self, t: &Table) {
        self.open(
            0,
            &format!("table {} {}", t.family.as_str(), t.name),
            t.handle,
        );
        let flags: Vec<_> = [
            (t.dormant, "dormant"),
            (t.owner, "owner"),
            (t.persist, "persist"),
        ]
        .into_iter()
        .filter(|f| f.0)
        .map(|f| f.1)
        .collect();
        let mut first = true;
        if !flags.is_empty() {
            self.line(1, &format!("flags {}", flags.join(",")));
            first = false;
        }
        if let Some(c) = &t.comment {
            self.line(1, &format!("comment \"{c}\""));
            // nft 1.0.6 puts an empty line only behind flags, so that a comment alone
            // is followed by the first object.
        }
        let mut sep = |p: &mut Printer| {
            if !first {
                p.out.push('\n');
            }
            first = false;
        };
        for o in t.objects.values() {
            sep(self);
            self.object(o);
        }
        for s in t.sets.values() {
            sep(self);
            self.set(s);
        }
        for f in t.flowtables.values() {
            sep(self);
            self.flowtable(t.family, f);
        }
        for c in t.chains.values() {
            sep(self);
            self.chain(t.family, c);
        }
        self.line(0, "}");
    }

    fn object(&mut self, o: &Object) {
        self.open(
            1,
            &format!("{} {}", o.body.kind().as_str(), o.name),
            o.handle,
        );
        if let Some(c) = &o.comment {
            self.line(2, &format!("comment \"{c}\""));
        }
        let mut text = String::new();
        match &o.body {
            ObjectBody::Counter(c) => {
                self.line(2, &format!("packets {} bytes {}", c.packets, c.bytes))
            }
            ObjectBody::Quota(q) => {
                px::quota(q, &mut text);
                self.line(2, &text);
            }
            ObjectBody::Limit(l) => {
                px::limit(l, &mut text);
                self.line(2, &text);
            }
            ObjectBody::Synproxy(s) => {
                px::synproxy(s, "\n\t\t", &mut text);
                self.out.push_str(text.trim_start_matches('\n'));
                self.out.push('\n');
            }
            ObjectBody::Secmark(c) => self.line(2, &format!("\"{c}\"")),
            other => self.ct_object(other),
        }
        self.line(1, "}");
    }

    fn ct_object(&mut self, body: &ObjectBody) {
        let proto = |n: u8| {
            let mut out = String::new();
            Type::InetProto.show(&super::Value::Num(u128::from(n)), &mut out);
            out
        };
        let l3 = |p: &mut Printer, l3: &Option<Family>| {
            if let Some(f) = l3 {
                p.line(2, &format!("l3proto {}", f.as_str()));
            }
        };
        match body {
            ObjectBody::CtHelper {
                helper,
                protocol,
                l3: f,
            } => {
                self.line(
                    2,
                    &format!("type \"{helper}\" protocol {}", proto(*protocol)),
                );
                l3(self, f);
            }
            ObjectBody::CtTimeout {
                protocol,
                l3: f,
                policy,
            } => {
                self.line(2, &format!("protocol {}", proto(*protocol)));
                l3(self, f);
                let list: Vec<_> = policy
                    .iter()
                    .map(|p| format!("{} : {}", p.0, p.1))
                    .collect();
                self.line(2, &format!("policy = {{ {} }}", list.join(", ")));
            }
            ObjectBody::CtExpect {
                protocol,
                dport,
                timeout,
                size,
                l3: f,
            } => {
                self.line(2, &format!("protocol {}", proto(*protocol)));
                self.line(2, &format!("dport {dport}"));
                let mut text = String::from("timeout ");
                time::show(*timeout, &mut text);
                self.line(2, &text);
                self.line(2, &format!("size {size}"));
                l3(self, f);
            }
            _ => {}
        }
    }

    fn set_type(t: &SetType, out: &mut String) {
        match t {
            SetType::Typeof(e) => px::expr(e, &[], out),
            SetType::Types(list) => {
                for (i, t) in list.iter().enumerate() {
                    if i > 0 {
                        out.push_str(" . ");
                    }
                    match t {
                        Type::Object(kind) => out.push_str(kind.as_str()),
                        t => out.push_str(t.name()),
                    }
                }
            }
        }
    }

    fn set(&mut self, s: &Set) {
        let word = if s.data.is_some() { "map" } else { "set" };
        self.open(1, &format!("{word} {}", s.name), s.handle);
        let mut text = String::from(if matches!(s.key, SetType::Typeof(_)) {
            "typeof "
        } else {
            "type "
        });
        Self::set_type(&s.key, &mut text);
        if let Some(d) = &s.data {
            text.push_str(if s.data_interval {
                " : interval "
            } else {
                " : "
            });
            Self::set_type(d, &mut text);
        }
        self.line(2, &text);
        self.set_options(s);
        if !s.elements.is_empty() {
            let data = s.data.as_ref().map(SetType::dtypes);
            self.elements(&s.elements, data.as_deref());
        }
        self.line(1, "}");
    }

    fn set_options(&mut self, s: &Set) {
        if s.memory {
            self.line(2, "policy memory");
        }
        if let Some(n) = s.size {
            self.line(2, &format!("size {n}"));
        }
        let f = &s.flags;
        let words = [
            (f.constant, "constant"),
            (f.dynamic, "dynamic"),
            (f.interval, "interval"),
            (f.timeout, "timeout"),
        ];
        let words: Vec<_> = words.into_iter().filter(|w| w.0).map(|w| w.1).collect();
        // `timeout` alone says nothing where a timeout is set.
        if !words.is_empty() && (words != ["timeout"] || s.timeout.is_none()) {
            self.line(2, &format!("flags {}", words.join(",")));
        }
        for state in &s.state {
            let mut text = String::new();
            match state {
                super::expr::Stateful::Counter(_) => text.push_str("counter"),
                other => px::stateful(other, &mut text),
            }
            self.line(2, &text);
        }
        for (word, ms) in [("timeout", s.timeout), ("gc-interval", s.gc_interval)] {
            if let Some(ms) = ms {
                let mut text = format!("{word} ");
                time::show(ms, &mut text);
                self.line(2, &text);
            }
        }
        if s.auto_merge {
            self.line(2, "auto-merge");
        }
        if let Some(c) = &s.comment {
            self.line(2, &format!("comment \"{c}\""));
        }
    }

    fn elements(&mut self, elements: &Elements, data: Option<&[Type]>) {
        self.out.push_str("\t\telements = { ");
        let most = per_line(elements.types());
        for (i, e) in elements.listed().into_iter().enumerate() {
            match (i, i % most) {
                (0, _) => {}
                (_, 0) => self.out.push_str(",\n\t\t\t     "),
                _ => self.out.push_str(", "),
            }
            px::element(e, elements.types(), data, &mut self.out);
        }
        self.out.push_str(" }\n");
    }

    fn flowtable(&mut self, family: Family, f: &Flowtable) {
        self.open(1, &format!("flowtable {}", f.name), f.handle);
        let hook = f.hook.as_str();
        self.line(
            2,
            &format!(
                "hook {hook} priority {}",
                priority::show(family, f.hook, f.priority)
            ),
        );
        if !f.devices.is_empty() {
            let list: Vec<_> = f.devices.iter().map(|d| d.to_string()).collect();
            self.line(2, &format!("devices = {{ {} }}", list.join(", ")));
        }
        if f.offload {
            self.line(2, "flags offload");
        }
        if f.counter {
            self.line(2, "counter");
        }
        self.line(1, "}");
    }

    fn chain(&mut self, family: Family, c: &Chain) {
        self.open(1, &format!("chain {}", c.name), c.handle);
        if let Some(text) = &c.comment {
            self.line(2, &format!("comment \"{text}\""));
        }
        if let Some(b) = &c.base {
            let mut text = format!("type {} hook {}", b.kind.as_str(), b.hook.as_str());
            match b.devices.as_slice() {
                [] => {}
                [one] => drop(write!(text, " device \"{one}\"")),
                many => {
                    let list: Vec<_> = many.iter().map(|d| format!("\"{d}\"")).collect();
                    let _ = write!(text, " devices = {{ {} }}", list.join(", "));
                }
            }
            let priority = priority::show(family, b.hook, b.priority);
            let _ = write!(text, " priority {priority}; policy {};", b.policy.as_str());
            self.line(2, &text);
        }
        for r in &c.rules {
            self.out.push_str("\t\t");
            px::rule(family, r, &mut self.out);
            if self.handles && r.handle != 0 {
                let _ = write!(self.out, " # handle {}", r.handle);
            }
            self.out.push('\n');
        }
        self.line(1, "}");
    }
}
