//! Commands: `add`, `delete`, `flush`... with what they are about.
//!
//! Invariant: one that cannot be read is an error at its word, and nothing of it is kept.

use super::*;

impl Reader<'_> {
    pub(super) fn object_command(&mut self, verb: Verb) -> Read<()> {
        let (byte, word) = self.free(|c| (c.byte(), c.peek().to_owned()));
        if word == "table" {
            self.at += 1;
            return self.table_command(verb, byte);
        }
        let makes = matches!(verb, Verb::Add | Verb::Create);
        let ct = word == "ct";
        let kind = if ct {
            format!("ct {}", self.free(|c| c.ahead(1).to_owned()))
        } else {
            word.clone()
        };
        let object = ObjectKind::parse(&kind);
        let known = matches!(
            word.as_str(),
            "chain" | "rule" | "set" | "map" | "element" | "flowtable" | "meter"
        );
        if !known && object.is_none() {
            // A rule without `rule`: `add ip filter input accept` and the bare `insert
            // ...` are old spellings.
            return self.free(|c| {
                c.wrong("table, chain, rule, set, map, element, flowtable or an object's kind")
            });
        }
        self.at += if ct { 2 } else { 1 };
        let (family, table) = self.table_name()?;
        match word.as_str() {
            "rule" => self.rule_command(verb, family, &table, byte),
            "element" => self.element_command(verb, family, &table, byte),
            "chain" if makes => {
                let mut block = Block::default();
                self.chain_block(family, &table, byte, &mut block)?;
                self.emit(verb, family, &table, block);
                Ok(())
            }
            "set" | "map" | "meter" if makes => {
                let mut block = Block::default();
                self.set_block(word == "map", family, &table, byte, &mut block)?;
                self.emit(verb, family, &table, block);
                Ok(())
            }
            "flowtable" if makes => {
                let f = self.with(family, &table, |c| c.flowtable())?;
                self.push(verb, family, &table, What::Flowtable(Box::new(f)), byte);
                Ok(())
            }
            _ if makes => {
                let kind = object.unwrap_or(ObjectKind::Counter);
                let o = self.with(family, &table, |c| c.object(kind))?;
                self.push(verb, family, &table, What::Object(Box::new(o)), byte);
                Ok(())
            }
            _ => {
                let r = self.free(reference)?;
                let what = match word.as_str() {
                    "chain" => What::ChainRef(r),
                    "set" | "map" | "meter" => What::SetRef(r),
                    "flowtable" => What::FlowtableRef(r),
                    _ => What::ObjectRef(object.unwrap_or(ObjectKind::Counter), r),
                };
                // `delete chain x { type ... }` takes a device away from a chain:
                // the body says nothing else.
                if self.free(|c| c.peek() == "{") {
                    return self.free(|c| {
                        c.wrong("the end of the command: bodies of deletions are not read")
                    });
                }
                self.push(verb, family, &table, what, byte);
                Ok(())
            }
        }
    }

    pub(super) fn table_command(&mut self, verb: Verb, byte: u32) -> Read<()> {
        if !matches!(verb, Verb::Add | Verb::Create) {
            let family = self.free(|c| {
                let f = Family::parse(c.peek());
                c.at += usize::from(f.is_some());
                f.unwrap_or(Family::Ip)
            });
            let r = self.free(reference)?;
            let name = match &r {
                Ref::Name(n) => n.clone(),
                Ref::Handle(_) => "".into(),
            };
            self.push(verb, family, &name, What::TableRef(r), byte);
            return Ok(());
        }
        let (family, name) = self.table_name()?;
        let mut table = Table::new(family, name.clone());
        let mut block = Block::default();
        let at = self.commands.len();
        if self.free(|c| c.take("{")) {
            self.table_block(&mut table, &mut block);
        }
        let span = self.span(byte);
        let what = What::Table(Box::new(table));
        self.commands.insert(
            at,
            Command {
                verb,
                what,
                family,
                table: name.clone(),
                span,
            },
        );
        self.emit(verb, family, &name, block);
        Ok(())
    }

    /// The commands of a block: what rules and elements may name comes first.
    pub(in crate::nf::nft) fn emit(
        &mut self,
        verb: Verb,
        family: Family,
        table: &Arc<str>,
        block: Block,
    ) {
        for (c, byte) in block.chains {
            self.push(verb, family, table, What::Chain(Box::new(c)), byte);
        }
        for (o, byte) in block.objects {
            self.push(verb, family, table, What::Object(Box::new(o)), byte);
        }
        for (s, byte) in block.sets {
            self.push(verb, family, table, What::Set(Box::new(s)), byte);
        }
        for (f, byte) in block.flowtables {
            self.push(verb, family, table, What::Flowtable(Box::new(f)), byte);
        }
        for (set, elements, byte) in block.elements {
            self.push(
                Verb::Add,
                family,
                table,
                What::Elements(set, elements),
                byte,
            );
        }
        for (chain, rule, byte) in block.rules {
            self.push(
                Verb::Add,
                family,
                table,
                What::Rule(chain, At::Edge, Box::new(rule)),
                byte,
            );
        }
    }

    pub(super) fn rule_command(
        &mut self,
        verb: Verb,
        family: Family,
        table: &Arc<str>,
        byte: u32,
    ) -> Read<()> {
        let (chain, at) = self.free(|c| {
            let chain: Arc<str> = c.name("a chain's name")?.into();
            let mut at = At::Edge;
            loop {
                match c.peek() {
                    "handle" | "position" => {
                        c.at += 1;
                        at = At::Handle(c.number("a rule's handle")?);
                    }
                    "index" => {
                        c.at += 1;
                        at = At::Index(c.number("a rule's place from 0")?);
                    }
                    _ => return Ok((chain, at)),
                }
            }
        })?;
        if matches!(verb, Verb::Delete | Verb::Destroy | Verb::Replace) && at == At::Edge {
            return self.free(|c| c.wrong("`handle N`"));
        }
        if verb == Verb::Reset {
            self.free(|c| c.skip());
            return Ok(());
        }
        let mut rule = Rule::default();
        if !matches!(verb, Verb::Delete | Verb::Destroy) {
            rule = self.rule(family, table);
        }
        self.push(
            verb,
            family,
            table,
            What::Rule(chain, at, Box::new(rule)),
            byte,
        );
        Ok(())
    }

    /// A rule; what is wrong in it is reported, it is kept.
    pub(in crate::nf::nft) fn rule(&mut self, family: Family, table: &Arc<str>) -> Rule {
        let mut wrong = Vec::new();
        let byte = self.free(|c| c.byte());
        let mut rule = self.with(family, table, |c| c.rule(&mut wrong));
        rule.line = self.span(byte).line;
        for w in &wrong {
            self.error(w);
        }
        rule
    }

    pub(super) fn element_command(
        &mut self,
        verb: Verb,
        family: Family,
        table: &Arc<str>,
        byte: u32,
    ) -> Read<()> {
        let (set, elements) = self.with(family, table, |c| {
            let at = c.at;
            let set: Arc<str> = c.name("a set's name")?.into();
            let Some((key, data)) = (c.sets)(&set) else {
                c.at = at;
                return c.wrong("a set or map that exists");
            };
            Ok((set, c.elements(&key, data.as_deref())?))
        })?;
        self.push(verb, family, table, What::Elements(set, elements), byte);
        Ok(())
    }
}

fn reference(c: &mut Cursor<'_>) -> Read<Ref> {
    if c.take("handle") {
        return Ok(Ref::Handle(c.number("a handle")?));
    }
    Ok(Ref::Name(c.name("a name")?.into()))
}
