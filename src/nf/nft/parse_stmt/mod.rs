//! Reading statements: a rule from its first to its last, comparisons, verdicts.
//!
//! The others by what they do: `state`, `actions`, `nat`, `sets`. Invariant: a statement that is not
//! understood becomes [`Stmt::Unknown`] with the rest of its rule, and one error.

mod actions;
mod nat;
mod sets;
mod state;

use super::cursor::{Cursor, Read, Wrong};
use super::expr::*;
use super::lex::Kind;
use super::model::Rule;
use super::types::Type;

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
}
