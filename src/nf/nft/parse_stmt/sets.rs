//! Statements that change sets, and the elements of sets and maps.
//!
//! Invariant: sets inside sets are taken apart, so many deep at most.

use super::super::cursor::{Cursor, Read};
use super::super::elements::{Data, Element, Part};
use super::super::expr::*;
use super::super::types::Type;
use smallvec::SmallVec;

impl Cursor<'_> {
    pub(super) fn set_op(&mut self) -> Read<Stmt> {
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

    pub(super) fn meter(&mut self) -> Read<Stmt> {
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
