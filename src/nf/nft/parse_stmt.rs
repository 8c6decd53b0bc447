//! Reading statements and set elements.
//!
//! Invariant: a statement that is not understood becomes [`Stmt::Unknown`] with the rest of its
//! rule, and one error.

use smallvec::SmallVec;

use super::cursor::{Cursor, Read, Wrong};
use super::elements::{Data, Element, Part};
use super::expr::*;
use super::fields;
use super::lex::Kind;
use super::model::{Family, ObjectKind, Rule};
use super::parse_expr::literal;
use super::symbols;
use super::types::{Type, Value};
use crate::nf::Counters;

impl<'a> Cursor<'a> {
    /// A rule to the end of its line; what could not be read is in the errors and in it.
    pub fn rule(&mut self, wrong: &mut Vec<Wrong>) -> Rule {
        let mut rule = Rule::default();
        while !self.ended() {
            let start = self.at;
            if self.peek() == "comment"
                && self
                    .lexed
                    .tokens
                    .get(self.at + 1)
                    .is_some_and(|t| t.kind == Kind::Quoted)
            {
                self.at += 1;
                rule.comment = self.quoted("a text").ok().map(Into::into);
                continue;
            }
            match self.statement() {
                Ok(s) => rule.stmts.push(s),
                Err(w) => {
                    wrong.push(w);
                    self.at = start;
                    let (end, comment) = self.rest_of_rule();
                    rule.stmts
                        .push(Stmt::Unknown(self.between(start, end).into()));
                    rule.comment = comment.or(rule.comment);
                }
            }
        }
        rule.handle = self.handle();
        rule
    }

    /// Skips to the rule's end; the place where its text ends, and its comment.
    fn rest_of_rule(&mut self) -> (usize, Option<Box<str>>) {
        let start = self.at;
        self.skip();
        if self.at == start {
            self.at += 1;
        }
        let last = |back: usize| {
            self.at
                .checked_sub(back)
                .and_then(|i| self.lexed.tokens.get(i))
        };
        match (last(2), last(1)) {
            (Some(a), Some(b))
                if self.at >= start + 3
                    && b.kind == Kind::Quoted
                    && self.lexed.get(a) == "comment" =>
            {
                (self.at - 2, Some(self.lexed.get(b).into()))
            }
            _ => (self.at, None),
        }
    }

    fn statement(&mut self) -> Read<Stmt> {
        let next = self.ahead(1);
        let set_verb = next == "@" || next == "add" || next == "update";
        match self.peek() {
            "accept" | "drop" | "continue" | "return" | "jump" | "goto" => {
                Ok(Stmt::Verdict(self.verdict()?))
            }
            "counter" | "limit" | "quota" | "last" => self.stateful_stmt(),
            "ct" if matches!(next, "count" | "helper" | "timeout" | "expectation") => {
                self.ct_stmt()
            }
            "log" => self.log(),
            "reject" => self.reject(),
            "dnat" | "snat" | "masquerade" | "redirect" => self.nat(),
            "notrack" => {
                self.at += 1;
                Ok(Stmt::Notrack)
            }
            "tproxy" => self.tproxy(),
            "queue" => self.queue(),
            "dup" => self.dup(),
            "fwd" => self.fwd(),
            "add" | "update" | "delete" | "set" if set_verb => self.set_op(),
            "meter" => self.meter(),
            "flow" => self.flow(),
            "synproxy" => self.synproxy_stmt(),
            "reset" => self.reset(),
            "xt" => {
                self.at += 1;
                let kind = self.any_word("`match` or `target`")?.into();
                Ok(Stmt::Xt(kind, self.any_word("a name")?.into()))
            }
            _ => self.comparison(),
        }
    }

    /// A verdict.
    pub fn verdict(&mut self) -> Read<Verdict> {
        let word = self.peek();
        let v = match word {
            "accept" => Verdict::Accept,
            "drop" => Verdict::Drop,
            "continue" => Verdict::Continue,
            "return" => Verdict::Return,
            "jump" | "goto" => {
                self.at += 1;
                let chain = self.name("a chain's name")?.into();
                return Ok(if word == "jump" {
                    Verdict::Jump(chain)
                } else {
                    Verdict::Goto(chain)
                });
            }
            _ => return self.wrong("accept, drop, continue, return, jump or goto"),
        };
        self.at += 1;
        Ok(v)
    }

    fn comparison(&mut self) -> Read<Stmt> {
        let left = self.expression()?;
        let types = left.dtypes();
        if self.take("vmap") {
            return Ok(Stmt::Vmap(left, self.map_right(&types, &[Type::Verdict])?));
        }
        if self.take("set") {
            let right = self.assigned(&left)?;
            return Ok(Stmt::Set(left, right));
        }
        let op = match self.peek() {
            "==" | "eq" => RelOp::Eq,
            "!=" | "ne" => RelOp::Ne,
            "!" if matches!(types.as_slice(), [t] if t.is_flags()) => RelOp::Not,
            "<" | "lt" => RelOp::Lt,
            ">" | "gt" => RelOp::Gt,
            "<=" | "le" => RelOp::Le,
            ">=" | "ge" => RelOp::Ge,
            _ => RelOp::Implicit,
        };
        if op != RelOp::Implicit {
            self.at += 1;
        }
        let right = self.right(&types)?;
        Ok(Stmt::Match { left, op, right })
    }

    /// What `set` gives: an expression, a map, or a literal of the left side's type.
    fn assigned(&mut self, left: &Expr) -> Read<Expr> {
        let Some(dtype) = left.dtype() else {
            return self.wrong("a single field before `set`");
        };
        if self.at_expression() {
            let key = self.expression()?;
            return self.mapped(key, &[dtype]);
        }
        self.right(&[dtype])
    }

    /// `map {...}` behind an expression, if it is there.
    fn mapped(&mut self, key: Expr, data: &[Type]) -> Read<Expr> {
        if !self.take("map") {
            return Ok(key);
        }
        let types = key.dtypes();
        let of = self.map_right(&types, data)?;
        Ok(Expr::Map(Box::new(key), Box::new(of)))
    }

    fn map_right(&mut self, key: &[Type], data: &[Type]) -> Read<Expr> {
        if self.take("@") {
            return Ok(Expr::SetRef(self.name("a map's name")?.into()));
        }
        if self.peek() != "{" {
            return self.wrong("`@name` or `{`");
        }
        Ok(Expr::Set(self.elements(key, Some(data))?))
    }

    fn stateful_stmt(&mut self) -> Read<Stmt> {
        let kind = match self.peek() {
            "counter" => ObjectKind::Counter,
            "limit" => ObjectKind::Limit,
            "quota" => ObjectKind::Quota,
            _ => return Ok(Stmt::State(self.stateful()?)),
        };
        if self.ahead(1) == "name" {
            self.at += 2;
            return Ok(Stmt::Object(kind, self.object_name(kind)?));
        }
        Ok(Stmt::State(self.stateful()?))
    }

    fn object_name(&mut self, kind: ObjectKind) -> Read<Expr> {
        if self.at_expression() {
            let key = self.expression()?;
            return self.mapped(key, &[Type::Object(kind)]);
        }
        Ok(Expr::Value(Value::Text(
            self.name("an object's name")?.into(),
            false,
        )))
    }

    /// `counter`, `limit`, `quota`, `ct count`, `last` with what belongs to them.
    pub fn stateful(&mut self) -> Read<Stateful> {
        match self.peek() {
            "counter" => {
                self.at += 1;
                Ok(Stateful::Counter(self.counters()?))
            }
            "limit" => {
                self.at += 1;
                Ok(Stateful::Limit(self.limit()?))
            }
            "quota" => {
                self.at += 1;
                Ok(Stateful::Quota(self.quota()?))
            }
            "last" => {
                self.at += 1;
                let used = self.take("used") && !self.take("never");
                Ok(Stateful::Last(if used { Some(self.time()?) } else { None }))
            }
            _ => {
                self.expect("ct")?;
                self.expect("count")?;
                let over = self.take("over");
                Ok(Stateful::CtCount {
                    over,
                    count: self.number("a number of connections")?,
                })
            }
        }
    }

    /// `packets P bytes B`, or nothing.
    pub fn counters(&mut self) -> Read<Counters> {
        if !self.take("packets") {
            return Ok(Counters::default());
        }
        let packets = self.number("a number of packets")?;
        self.expect("bytes")?;
        let bytes = self.number("a number of bytes")?;
        Ok(Counters { packets, bytes })
    }

    /// What stands behind `limit`.
    pub fn limit(&mut self) -> Read<Limit> {
        self.expect("rate")?;
        let over = self.take("over");
        if !over {
            self.take("until");
        }
        let mut rate: u64 = self.number("a rate")?;
        let bytes = self.peek() != "/";
        let unit = if bytes {
            let word = self.any_word("`bytes/second` or `/second`")?;
            let Some((size, unit)) = word.split_once('/') else {
                self.at -= 1;
                return self.wrong("`bytes/second`, `kbytes/second` or `mbytes/second`");
            };
            rate = self.scaled(rate, size)?;
            unit
        } else {
            self.at += 1;
            self.any_word("a unit of time")?
        };
        let per = match unit {
            "second" => 1,
            "minute" => 60,
            "hour" => 3_600,
            "day" => 86_400,
            "week" => 604_800,
            _ => {
                self.at -= 1;
                return self.wrong("second, minute, hour, day or week");
            }
        };
        let mut burst = if bytes { 0 } else { 5 };
        if self.take("burst") {
            let n: u64 = self.number("a burst")?;
            let word = self.any_word("`packets` or `bytes`")?;
            let n = if word == "packets" {
                n
            } else {
                self.scaled(n, word)?
            };
            burst = u32::try_from(n).unwrap_or(u32::MAX);
        }
        Ok(Limit {
            over,
            rate,
            per,
            bytes,
            burst,
        })
    }

    fn scaled(&self, n: u64, unit: &str) -> Read<u64> {
        let by = match unit {
            "bytes" => 1,
            "kbytes" => 1024,
            "mbytes" => 1024 * 1024,
            _ => return self.wrong("bytes, kbytes or mbytes"),
        };
        match n.checked_mul(by) {
            Some(n) => Ok(n),
            None => self.wrong("fewer bytes"),
        }
    }

    /// What stands behind `quota`.
    pub fn quota(&mut self) -> Read<Quota> {
        let over = self.take("over");
        if !over {
            self.take("until");
        }
        let amount = |c: &mut Self| {
            let n = c.number("a number of bytes")?;
            let unit = c.any_word("bytes, kbytes or mbytes")?;
            c.scaled(n, unit)
        };
        let bytes = amount(self)?;
        let used = if self.take("used") { amount(self)? } else { 0 };
        Ok(Quota { over, bytes, used })
    }

    fn ct_stmt(&mut self) -> Read<Stmt> {
        let kind = match (self.ahead(1), self.ahead(2)) {
            ("count", _) => return Ok(Stmt::State(self.stateful()?)),
            ("helper", "set") => ObjectKind::CtHelper,
            ("timeout", "set") => ObjectKind::CtTimeout,
            ("expectation", "set") => ObjectKind::CtExpect,
            _ => return self.comparison(),
        };
        self.at += 3;
        Ok(Stmt::Object(kind, self.object_name(kind)?))
    }

    fn log(&mut self) -> Read<Stmt> {
        self.at += 1;
        let mut log = Log::default();
        loop {
            match self.peek() {
                "prefix" => {
                    self.at += 1;
                    log.prefix = Some(self.any_word("a text")?.into());
                }
                "level" => {
                    self.at += 1;
                    log.level = Some(self.log_level()?);
                }
                "group" => {
                    self.at += 1;
                    log.group = Some(self.number("a group's number")?);
                }
                "snaplen" => {
                    self.at += 1;
                    log.snaplen = Some(self.number("a length")?);
                }
                "queue-threshold" => {
                    self.at += 1;
                    log.threshold = Some(self.number("a number of packets")?);
                }
                "flags" => {
                    self.at += 1;
                    log.flags |= self.log_flags()?;
                }
                _ => return Ok(Stmt::Log(log)),
            }
        }
    }

    fn log_level(&mut self) -> Read<Box<str>> {
        const LEVELS: [&str; 9] = [
            "emerg", "alert", "crit", "err", "warn", "notice", "info", "debug", "audit",
        ];
        let word = match self.peek() {
            "warning" => "warn",
            "error" => "err",
            "panic" => "emerg",
            other => other,
        };
        match LEVELS.iter().find(|l| **l == word) {
            Some(l) => {
                self.at += 1;
                Ok((*l).into())
            }
            None => self.wrong(format!("one of {}", LEVELS.join(", "))),
        }
    }

    /// uapi nf_log.h NF_LOG_*.
    fn log_flags(&mut self) -> Read<u8> {
        let word = self.any_word("`tcp`, `ip`, `skuid`, `ether` or `all`")?;
        let mut bits = 0;
        match word {
            "skuid" => return Ok(8),
            "ether" => return Ok(32),
            "all" => return Ok(47),
            "ip" => {
                self.expect("options")?;
                return Ok(4);
            }
            "tcp" => {}
            _ => return self.wrong("`tcp`, `ip`, `skuid`, `ether` or `all`"),
        }
        loop {
            bits |= match self.any_word("`sequence` or `options`")? {
                "sequence" => 1,
                "options" => 2,
                _ => return self.wrong("`sequence` or `options`"),
            };
            if !self.take(",") {
                return Ok(bits);
            }
        }
    }

    fn reject(&mut self) -> Read<Stmt> {
        self.at += 1;
        if !self.take("with") {
            return Ok(Stmt::Reject(Reject::Default));
        }
        let table = match self.any_word("`icmp`, `icmpv6`, `icmpx` or `tcp reset`")? {
            "tcp" => {
                self.expect("reset")?;
                return Ok(Stmt::Reject(Reject::TcpReset));
            }
            "icmp" => (symbols::ICMP_CODE, Reject::Icmp as fn(u8) -> Reject),
            "icmpv6" => (symbols::ICMPV6_CODE, Reject::Icmpv6 as fn(u8) -> Reject),
            "icmpx" => (symbols::ICMPX_CODE, Reject::Icmpx as fn(u8) -> Reject),
            _ => return self.wrong("`icmp`, `icmpv6`, `icmpx` or `tcp reset`"),
        };
        self.take("type");
        let word = self.peek();
        let code = table
            .0
            .iter()
            .find(|s| s.0 == word)
            .map(|s| s.1)
            .or_else(|| super::types::number(word));
        match code.and_then(|c| u8::try_from(c).ok()) {
            Some(code) => {
                self.at += 1;
                Ok(Stmt::Reject(table.1(code)))
            }
            None => {
                let words: Vec<_> = table.0.iter().map(|s| s.0).collect();
                self.wrong(format!("one of {}", words.join(", ")))
            }
        }
    }

    fn ip_family(&mut self) -> Option<IpFamily> {
        let ahead = matches!(self.ahead(1), "to" | "prefix" | "addr" | "interval");
        match self.peek() {
            "ip" if ahead => {
                self.at += 1;
                Some(IpFamily::Ip)
            }
            "ip6" if ahead => {
                self.at += 1;
                Some(IpFamily::Ip6)
            }
            _ => None,
        }
    }

    /// The type of an address here: the written family's, the table's, or what the address looks like.
    fn addr_type(&self, family: Option<IpFamily>) -> Type {
        match (family, self.family) {
            (Some(f), _) => f.dtype(),
            (None, Family::Ip) => Type::Ipv4,
            (None, Family::Ip6) => Type::Ipv6,
            _ if self.peek() == "[" || self.peek().contains(':') => Type::Ipv6,
            _ => Type::Ipv4,
        }
    }

    /// An address or an expression that gives one, `:port` behind it.
    fn addr_port(&mut self, family: Option<IpFamily>) -> Read<(Option<Expr>, Option<Expr>)> {
        let mut addr = None;
        if self.peek() != ":" {
            let t = self.addr_type(family);
            addr = Some(if self.at_expression() {
                let key = self.expression()?;
                self.mapped(key, &[t, Type::InetService])?
            } else {
                literal(self.part(t)?)
            });
        }
        let port = if self.take(":") {
            Some(self.port()?)
        } else {
            None
        };
        Ok((addr, port))
    }

    fn port(&mut self) -> Read<Expr> {
        if self.at_expression() {
            let key = self.expression()?;
            return self.mapped(key, &[Type::InetService]);
        }
        Ok(literal(self.part(Type::InetService)?))
    }

    fn nat(&mut self) -> Read<Stmt> {
        let kind = match self.any_word("a kind of NAT")? {
            "dnat" => NatKind::Dnat,
            "snat" => NatKind::Snat,
            "masquerade" => NatKind::Masquerade,
            _ => NatKind::Redirect,
        };
        let mut nat = Nat {
            kind,
            family: self.ip_family(),
            prefix: false,
            addr: None,
            port: None,
            random: false,
            fully_random: false,
            persistent: false,
        };
        nat.prefix = self.take("prefix");
        if self.take("addr") {
            self.expect(".")?;
            self.expect("port")?;
        }
        self.take("interval");
        let addressed = matches!(kind, NatKind::Dnat | NatKind::Snat);
        if addressed {
            self.take("to");
            (nat.addr, nat.port) = self.addr_port(nat.family)?;
        } else if self.take("to") {
            self.take(":");
            nat.port = Some(self.port()?);
        }
        loop {
            match self.peek() {
                "random" => nat.random = true,
                "fully-random" => nat.fully_random = true,
                "persistent" => nat.persistent = true,
                _ => break,
            }
            self.at += 1;
            if !self.take(",") {
                break;
            }
        }
        if addressed && nat.addr.is_none() && nat.port.is_none() {
            return self.wrong("an address");
        }
        Ok(Stmt::Nat(nat))
    }

    fn tproxy(&mut self) -> Read<Stmt> {
        self.at += 1;
        let family = self.ip_family();
        self.expect("to")?;
        let (addr, port) = self.addr_port(family)?;
        Ok(Stmt::Tproxy(Tproxy { family, addr, port }))
    }

    fn queue(&mut self) -> Read<Stmt> {
        self.at += 1;
        let mut q = Queue {
            to: None,
            bypass: false,
            fanout: false,
        };
        let mut word = self.peek();
        if word == "flags" {
            self.at += 1;
            self.queue_flags(&mut q)?;
            word = self.peek();
        }
        if matches!(word, "num" | "to") {
            self.at += 1;
            let number = [Type::Integer(16)];
            q.to = Some(if self.at_expression() {
                let key = self.expression()?;
                self.mapped(key, &number)?
            } else {
                literal(self.part(Type::Integer(16))?)
            });
        }
        if matches!(self.peek(), "bypass" | "fanout") {
            self.queue_flags(&mut q)?;
        }
        Ok(Stmt::Queue(q))
    }

    fn queue_flags(&mut self, q: &mut Queue) -> Read<()> {
        loop {
            match self.peek() {
                "bypass" => q.bypass = true,
                "fanout" => q.fanout = true,
                _ => return self.wrong("`bypass` or `fanout`"),
            }
            self.at += 1;
            if !self.take(",") {
                return Ok(());
            }
        }
    }

    fn device(&mut self) -> Read<Expr> {
        if self.at_expression() {
            let key = self.expression()?;
            return self.mapped(key, &[Type::IfIndex]);
        }
        self.right(&[Type::IfIndex])
    }

    fn dup(&mut self) -> Read<Stmt> {
        self.at += 1;
        self.expect("to")?;
        if self.family == Family::Netdev {
            return Ok(Stmt::Dup(self.device()?, None));
        }
        let t = self.addr_type(None);
        let to = if self.at_expression() {
            let key = self.expression()?;
            self.mapped(key, &[t])?
        } else {
            self.right(&[t])?
        };
        let device = if self.take("device") {
            Some(self.device()?)
        } else {
            None
        };
        Ok(Stmt::Dup(to, device))
    }

    fn fwd(&mut self) -> Read<Stmt> {
        self.at += 1;
        let family = self.ip_family();
        self.expect("to")?;
        let Some(f) = family else {
            return Ok(Stmt::Fwd(Fwd {
                family,
                addr: None,
                device: self.device()?,
            }));
        };
        let addr = if self.at_expression() {
            let key = self.expression()?;
            self.mapped(key, &[f.dtype()])?
        } else {
            self.right(&[f.dtype()])?
        };
        self.expect("device")?;
        Ok(Stmt::Fwd(Fwd {
            family,
            addr: Some(addr),
            device: self.device()?,
        }))
    }

    fn set_op(&mut self) -> Read<Stmt> {
        let old = self.take("set");
        let verb = match self.any_word("add, update or delete")? {
            "add" => SetVerb::Add,
            "update" => SetVerb::Update,
            "delete" => SetVerb::Delete,
            _ => return self.wrong("add, update or delete"),
        };
        let mut op = self.empty_op(verb);
        if old {
            op.key = self.expression()?;
            self.op_options(&mut op)?;
            self.expect("@")?;
            op.set = self.name("a set's name")?.into();
            return Ok(Stmt::SetOp(op));
        }
        self.expect("@")?;
        op.set = self.name("a set's name")?.into();
        self.op_body(&mut op)?;
        Ok(Stmt::SetOp(op))
    }

    fn empty_op(&self, verb: SetVerb) -> SetOp {
        SetOp {
            verb,
            set: "".into(),
            meter: None,
            key: Expr::Concat(Vec::new()),
            timeout: None,
            comment: None,
            state: SmallVec::new(),
            data: None,
        }
    }

    fn op_body(&mut self, op: &mut SetOp) -> Read<()> {
        self.expect("{")?;
        op.key = self.expression()?;
        self.op_options(op)?;
        if self.take(":") {
            let types = (self.sets)(&op.set).and_then(|s| s.1);
            let data = types
                .as_ref()
                .and_then(|t| t.first().copied())
                .unwrap_or(Type::Mark);
            op.data = Some(if self.at_expression() {
                let key = self.expression()?;
                self.mapped(key, &[data])?
            } else {
                self.right(types.as_deref().unwrap_or(&[data]))?
            });
        }
        self.expect("}")
    }

    fn op_options(&mut self, op: &mut SetOp) -> Read<()> {
        loop {
            match self.peek() {
                "timeout" => {
                    self.at += 1;
                    op.timeout = Some(self.time()?);
                }
                "comment" => {
                    self.at += 1;
                    op.comment = Some(self.quoted("a text in quotes")?.into());
                }
                "counter" | "limit" | "quota" | "ct" | "last" => op.state.push(self.stateful()?),
                _ => return Ok(()),
            }
        }
    }

    fn meter(&mut self) -> Read<Stmt> {
        self.at += 1;
        let mut op = self.empty_op(SetVerb::Update);
        op.set = self.name("a meter's name")?.into();
        op.meter = Some(65_535);
        if self.take("size") {
            op.meter = Some(self.number("a size")?);
        }
        self.op_body(&mut op)?;
        Ok(Stmt::SetOp(op))
    }

    fn flow(&mut self) -> Read<Stmt> {
        self.at += 1;
        if !self.take_any(&["add", "offload"]) {
            return self.wrong("`add @NAME`");
        }
        self.expect("@")?;
        Ok(Stmt::Flow(self.name("a flow table's name")?.into()))
    }

    fn synproxy_stmt(&mut self) -> Read<Stmt> {
        self.at += 1;
        if self.take("name") {
            return Ok(Stmt::Object(
                ObjectKind::Synproxy,
                self.object_name(ObjectKind::Synproxy)?,
            ));
        }
        let mut s = Synproxy::default();
        while self.synproxy_option(&mut s)? {}
        Ok(Stmt::Synproxy(s))
    }

    /// One option of a SYN proxy; whether there was one.
    pub fn synproxy_option(&mut self, s: &mut Synproxy) -> Read<bool> {
        match self.peek() {
            "mss" => {
                self.at += 1;
                s.mss = Some(self.number("a segment size")?);
            }
            "wscale" => {
                self.at += 1;
                s.wscale = Some(self.number("a window scale")?);
            }
            "timestamp" => {
                self.at += 1;
                s.timestamp = true;
            }
            "sack-perm" => {
                self.at += 1;
                s.sack_perm = true;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn reset(&mut self) -> Read<Stmt> {
        self.at += 1;
        self.expect("tcp")?;
        self.expect("option")?;
        let word = self.peek();
        let known = fields::ext_kind(fields::TCP_OPTIONS, word).map(|k| k.1);
        let kind = known.or_else(|| super::types::number(word).and_then(|n| u8::try_from(n).ok()));
        match kind {
            Some(k) => {
                self.at += 1;
                Ok(Stmt::ResetTcpOption(k))
            }
            None => self.wrong("a TCP option"),
        }
    }

    /// `{ key [options] [: data], ... }`; sets inside sets (from variables) are taken apart.
    pub fn elements(&mut self, key: &[Type], data: Option<&[Type]>) -> Read<Vec<Element>> {
        self.expect("{")?;
        let mut out = Vec::new();
        loop {
            self.newlines();
            if self.take("}") {
                return Ok(out);
            }
            if self.peek() == "{" {
                if self.depth >= crate::base::limits::NFT_DEPTH_MAX {
                    return self.wrong("fewer sets inside one another");
                }
                self.depth += 1;
                let inner = self.elements(key, data);
                self.depth -= 1;
                out.extend(inner?);
            } else {
                out.push(self.element(key, data)?);
            }
            self.newlines();
            if !self.take(",") && self.peek() != "}" {
                return self.wrong("`,` or `}`");
            }
        }
    }

    fn element(&mut self, key: &[Type], data: Option<&[Type]>) -> Read<Element> {
        let mut e = Element::default();
        if self.take("*") {
            e.key.push(Part::Any);
        } else {
            for (i, t) in key.iter().enumerate() {
                if i > 0 {
                    self.newlines();
                    self.expect(".")?;
                }
                e.key.push(self.part(*t)?);
            }
        }
        self.element_options(&mut e)?;
        if let Some(types) = data {
            // nft takes elements of maps without data where they are to be deleted.
            if self.take(":") {
                self.newlines();
                e.data = Some(self.datum(types)?);
                self.element_options(&mut e)?;
            }
        }
        Ok(e)
    }

    fn element_options(&mut self, e: &mut Element) -> Read<()> {
        loop {
            match self.peek() {
                "timeout" => {
                    self.at += 1;
                    e.timeout = Some(self.time()?);
                }
                "expires" => {
                    self.at += 1;
                    e.expires = Some(self.time()?);
                }
                "comment" => {
                    self.at += 1;
                    e.comment = Some(self.quoted("a text in quotes")?.into());
                }
                "counter" | "limit" | "quota" | "ct" | "last" => e.state.push(self.stateful()?),
                _ => return Ok(()),
            }
        }
    }

    fn datum(&mut self, types: &[Type]) -> Read<Data> {
        match types.first() {
            Some(Type::Verdict) => return Ok(Data::Verdict(self.verdict()?)),
            Some(Type::Object(_)) => {
                return Ok(Data::Object(self.name("an object's name")?.into()));
            }
            _ => {}
        }
        let mut parts = SmallVec::new();
        for (i, t) in types.iter().enumerate() {
            if i > 0 && !self.take(".") {
                break;
            }
            parts.push(self.part(*t)?);
        }
        Ok(Data::Values(parts))
    }
}
