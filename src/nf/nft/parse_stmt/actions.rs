//! Statements that tell of, refuse or hand over a packet: log, reject, queue, flow tables, SYN proxies;
//! resetting TCP options.
//!
//! Invariant: codes and levels are read by nft's own names or as numbers.

use super::super::cursor::{Cursor, Read};
use super::super::expr::*;
use super::super::fields;
use super::super::model::ObjectKind;
use super::super::parse_expr::literal;
use super::super::symbols;
use super::super::types::{Type, number};

impl Cursor<'_> {
    pub(super) fn log(&mut self) -> Read<Stmt> {
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

    pub(super) fn reject(&mut self) -> Read<Stmt> {
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
            .or_else(|| number(word));
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

    pub(super) fn queue(&mut self) -> Read<Stmt> {
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

    pub(super) fn flow(&mut self) -> Read<Stmt> {
        self.at += 1;
        if !self.take_any(&["add", "offload"]) {
            return self.wrong("`add @NAME`");
        }
        self.expect("@")?;
        Ok(Stmt::Flow(self.name("a flow table's name")?.into()))
    }

    pub(super) fn synproxy_stmt(&mut self) -> Read<Stmt> {
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

    pub(super) fn reset(&mut self) -> Read<Stmt> {
        self.at += 1;
        self.expect("tcp")?;
        self.expect("option")?;
        let word = self.peek();
        let known = fields::ext_kind(fields::TCP_OPTIONS, word).map(|k| k.1);
        let kind = known.or_else(|| number(word).and_then(|n| u8::try_from(n).ok()));
        match kind {
            Some(k) => {
                self.at += 1;
                Ok(Stmt::ResetTcpOption(k))
            }
            None => self.wrong("a TCP option"),
        }
    }
}
