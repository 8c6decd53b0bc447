//! Statements that keep a state: counters, limits, quotas, `ct count`, `last`; objects of these kinds.
//!
//! Invariant: what is left out is as nft has it: no packets counted, a burst of 5.

use super::super::cursor::{Cursor, Read};
use super::super::expr::*;
use super::super::model::ObjectKind;
use super::super::types::{Type, Value};
use crate::nf::Counters;

impl Cursor<'_> {
    pub(super) fn stateful_stmt(&mut self) -> Read<Stmt> {
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

    pub(super) fn object_name(&mut self, kind: ObjectKind) -> Read<Expr> {
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

    pub(super) fn ct_stmt(&mut self) -> Read<Stmt> {
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
}
