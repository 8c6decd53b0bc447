//! Reading blocks: tables, chains, sets, maps, objects, flow tables.
//!
//! Invariant: a statement of a block that cannot be read is an error, and the next one is read; a
//! block always ends
//! at its own brace.

mod objects;

use smallvec::SmallVec;
use std::sync::Arc;

use super::cursor::{Cursor, Read};
use super::lex::Kind;
use super::model::*;
use super::priority;
use super::script::{Block, Reader};
use super::types::Type;
use crate::nf::Counters;

impl Reader<'_> {
    /// Runs `one` for each statement of a block whose `{` has been taken.
    fn statements(
        &mut self,
        family: Family,
        table: &Arc<str>,
        one: &mut dyn FnMut(&mut Self) -> Read<()>,
    ) {
        loop {
            self.with(family, table, |c| c.separators());
            let (done, at) = self.with(family, table, |c| {
                (c.take("}") || c.token().is_none(), c.at)
            });
            if done {
                let closed = self.at > 0
                    && self
                        .lexed
                        .tokens
                        .get(self.at - 1)
                        .is_some_and(|t| self.lexed.get(t) == "}");
                if !closed {
                    let wrong = self.with(family, table, |c| c.wrong::<()>("`}`"));
                    wrong.err().iter().for_each(|w| self.error(w));
                }
                return;
            }
            let mut result = one(self);
            if result.is_ok() {
                result = self.with(family, table, |c| {
                    if c.ended() {
                        Ok(())
                    } else {
                        c.wrong("the end of the statement")
                    }
                });
            }
            if let Err(w) = result {
                self.error(&w);
                // From its start, so that braces inside it are balanced.
                self.at = at;
                self.with(family, table, |c| c.skip());
            }
            if self.at == at {
                self.at += 1;
            }
        }
    }

    /// A table's body.
    pub(super) fn table_block(&mut self, table: &mut Table, block: &mut Block) {
        let (family, name) = (table.family, table.name.clone());
        table.handle = self.with(family, &name, |c| c.handle());
        self.statements(family, &name.clone(), &mut |r| {
            let (byte, word, next) = r.with(family, &name, |c| {
                (c.byte(), c.peek().to_owned(), c.ahead(1).to_owned())
            });
            match word.as_str() {
                "comment" | "flags" => r.with(family, &name, |c| table_option(c, table)),
                "chain" => {
                    r.at += 1;
                    r.chain_block(family, &name, byte, block)
                }
                "set" | "map" | "meter" => {
                    r.at += 1;
                    r.set_block(word == "map", family, &name, byte, block)
                }
                "flowtable" => {
                    r.at += 1;
                    let f = r.with(family, &name, |c| c.flowtable())?;
                    block.flowtables.push((f, byte));
                    Ok(())
                }
                _ => {
                    let ct = word == "ct";
                    let kind = if ct { format!("ct {next}") } else { word };
                    let Some(kind) = ObjectKind::parse(&kind) else {
                        return r.with(family, &name, |c| {
                            c.wrong("chain, set, map, flowtable, flags, comment or an object")
                        });
                    };
                    r.at += if ct { 2 } else { 1 };
                    let o = r.with(family, &name, |c| c.object(kind))?;
                    block.objects.push((o, byte));
                    Ok(())
                }
            }
        });
    }

    /// `NAME [{ body }]` of a chain.
    pub(super) fn chain_block(
        &mut self,
        family: Family,
        table: &Arc<str>,
        byte: u32,
        block: &mut Block,
    ) -> Read<()> {
        let name = self.with(family, table, |c| {
            c.name("a chain's name").map(str::to_owned)
        })?;
        let mut chain = Chain::new(name.as_str());
        let mut rules = Vec::new();
        if self.with(family, table, |c| c.take("{")) {
            chain.handle = self.with(family, table, |c| c.handle());
            self.statements(family, table, &mut |r| {
                r.chain_statement(family, table, &mut chain, &mut rules)
            });
        }
        let name = chain.name.clone();
        block.chains.push((chain, byte));
        block
            .rules
            .extend(rules.into_iter().map(|(r, b)| (name.clone(), r, b)));
        Ok(())
    }

    fn chain_statement(
        &mut self,
        family: Family,
        table: &Arc<str>,
        chain: &mut Chain,
        rules: &mut Vec<(Rule, u32)>,
    ) -> Read<()> {
        let (byte, word, next) = self.with(family, table, |c| {
            (
                c.byte(),
                c.peek().to_owned(),
                c.lexed.tokens.get(c.at + 1).map(|t| t.kind),
            )
        });
        match word.as_str() {
            "type" => {
                let base = self.with(family, table, |c| c.hook())?;
                let policy = chain.base.as_ref().map(|b| b.policy);
                chain.base = Some(Base {
                    policy: policy.unwrap_or(base.policy),
                    ..base
                });
                Ok(())
            }
            "policy" => self.with(family, table, |c| {
                c.at += 1;
                let Some(p) = Policy::parse(c.peek()) else {
                    return c.wrong("`accept` or `drop`");
                };
                let Some(base) = &mut chain.base else {
                    return c.wrong("`type ... hook ...` before the policy");
                };
                base.policy = p;
                c.at += 1;
                Ok(())
            }),
            "comment" if next == Some(Kind::Quoted) => self.with(family, table, |c| {
                c.at += 1;
                chain.comment = Some(c.quoted("a text")?.into());
                Ok(())
            }),
            _ => {
                let rule = self.rule(family, table);
                rules.push((rule, byte));
                Ok(())
            }
        }
    }

    /// `NAME { body }` of a set or map.
    pub(super) fn set_block(
        &mut self,
        map: bool,
        family: Family,
        table: &Arc<str>,
        byte: u32,
        block: &mut Block,
    ) -> Read<()> {
        let name = self.with(family, table, |c| {
            let name = c.name("a set's name")?.to_owned();
            c.expect("{").map(|()| name)
        })?;
        let mut set = Set::new(name.as_str(), SetType::Types(SmallVec::new()));
        set.handle = self.with(family, table, |c| c.handle());
        let mut elements = Vec::new();
        let mut waiting = None;
        self.statements(family, table, &mut |r| {
            r.with(family, table, |c| match c.peek() {
                "elements" if set.key.dtypes().is_empty() => {
                    waiting = Some(c.at);
                    c.skip();
                    Ok(())
                }
                "elements" => set_elements(c, &set, &mut elements),
                _ => set_option(c, &mut set, map),
            })
        });
        if set.key.dtypes().is_empty() {
            return Err(super::cursor::Wrong {
                at: byte,
                expected: "a set with `type` or `typeof`".into(),
            });
        }
        if let Some(at) = waiting {
            let back = core::mem::replace(&mut self.at, at);
            let read = self.with(family, table, |c| set_elements(c, &set, &mut elements));
            read.err().iter().for_each(|w| self.error(w));
            self.at = back;
        }
        set.elements = super::elements::Elements::new(&set.key.dtypes());
        self.learn(family, table, &set);
        if !elements.is_empty() {
            block.elements.push((set.name.clone(), elements, byte));
        }
        block.sets.push((set, byte));
        Ok(())
    }
}

fn set_elements(
    c: &mut Cursor<'_>,
    set: &Set,
    out: &mut Vec<super::elements::Element>,
) -> Read<()> {
    c.at += 1;
    c.expect("=")?;
    let data = set.data.as_ref().map(SetType::dtypes);
    out.extend(c.elements(&set.key.dtypes(), data.as_deref())?);
    Ok(())
}

fn table_option(c: &mut Cursor<'_>, table: &mut Table) -> Read<()> {
    if c.take("comment") {
        table.comment = Some(c.quoted("a text in quotes")?.into());
        return Ok(());
    }
    c.at += 1;
    loop {
        match c.peek() {
            "dormant" => table.dormant = true,
            "owner" => table.owner = true,
            "persist" => table.persist = true,
            _ => return c.wrong("`dormant`, `owner` or `persist`"),
        }
        c.at += 1;
        if !c.take(",") {
            return Ok(());
        }
    }
}

fn set_type(c: &mut Cursor<'_>) -> Read<SetType> {
    let mut types = SmallVec::new();
    loop {
        let word = if c.peek() == "ct" {
            format!("ct {}", c.ahead(1))
        } else {
            c.peek().to_owned()
        };
        let object = match word.as_str() {
            "ct helper" => Some(Type::Object(ObjectKind::CtHelper)),
            "ct timeout" => Some(Type::Object(ObjectKind::CtTimeout)),
            "ct expectation" => Some(Type::Object(ObjectKind::CtExpect)),
            _ => None,
        };
        let Some(t) = object.or_else(|| Type::named(&word)) else {
            return c.wrong("a datatype such as ipv4_addr or inet_service");
        };
        types.push(t);
        c.at += if object.is_some() { 2 } else { 1 };
        if !c.take(".") {
            return Ok(SetType::Types(types));
        }
    }
}

fn set_option(c: &mut Cursor<'_>, set: &mut Set, map: bool) -> Read<()> {
    let word = c.peek();
    if matches!(word, "counter" | "limit" | "quota" | "ct" | "last") {
        set.state.push(c.stateful()?);
        return Ok(());
    }
    c.at += 1;
    match word {
        "type" | "typeof" => {
            let typed = word == "typeof";
            set.key = if typed {
                SetType::Typeof(c.typeof_expr()?)
            } else {
                set_type(c)?
            };
            if !map {
                return Ok(());
            }
            c.expect(":")?;
            set.data_interval = c.take("interval");
            let name = Type::named(c.peek());
            let word = matches!(name, Some(Type::Verdict | Type::Object(_)));
            set.data = Some(if typed && !word {
                SetType::Typeof(c.typeof_expr()?)
            } else {
                set_type(c)?
            });
        }
        "flags" => loop {
            match c.any_word("a flag")? {
                "constant" => set.flags.constant = true,
                "dynamic" => set.flags.dynamic = true,
                "interval" => set.flags.interval = true,
                "timeout" => set.flags.timeout = true,
                _ => {
                    c.at -= 1;
                    return c.wrong("`constant`, `dynamic`, `interval` or `timeout`");
                }
            }
            if !c.take(",") {
                break;
            }
        },
        "timeout" => {
            set.timeout = Some(c.time()?);
            set.flags.timeout = true;
        }
        "gc-interval" => set.gc_interval = Some(c.time()?),
        "size" => set.size = Some(c.number("a number of elements")?),
        "policy" => match c.any_word("`memory` or `performance`")? {
            "memory" => set.memory = true,
            "performance" => set.memory = false,
            _ => return c.wrong("`memory` or `performance`"),
        },
        "auto-merge" => set.auto_merge = true,
        "comment" => set.comment = Some(c.quoted("a text in quotes")?.into()),
        _ => {
            c.at -= 1;
            return c.wrong("type, typeof, flags, timeout, gc-interval, size, policy, auto-merge, comment or elements");
        }
    }
    Ok(())
}

impl Cursor<'_> {
    /// `type filter hook input [device ...] priority 0`.
    fn hook(&mut self) -> Read<Base> {
        self.expect("type")?;
        let Some(kind) = ChainType::parse(self.peek()) else {
            return self.wrong("`filter`, `nat` or `route`");
        };
        self.at += 1;
        self.expect("hook")?;
        let Some(hook) = HookName::parse(self.peek()) else {
            return self.wrong("a hook such as prerouting or input");
        };
        self.at += 1;
        let mut devices = Vec::new();
        if self.take("device") {
            devices.push(self.any_word("a device's name")?.into());
        } else if self.take("devices") {
            self.expect("=")?;
            devices = self.devices()?;
        }
        self.expect("priority")?;
        let priority = self.priority(hook)?;
        Ok(Base {
            kind,
            hook,
            devices,
            priority,
            policy: Policy::Accept,
        })
    }

    /// `{ eth0, eth1 }`.
    fn devices(&mut self) -> Read<Vec<Box<str>>> {
        self.expect("{")?;
        let mut out = Vec::new();
        loop {
            self.newlines();
            if self.take("}") {
                return Ok(out);
            }
            out.push(self.any_word("a device's name")?.into());
            self.newlines();
            if !self.take(",") && self.peek() != "}" {
                return self.wrong("`,` or `}`");
            }
        }
    }

    /// A number, or a name with an offset.
    fn priority(&mut self, hook: HookName) -> Read<i32> {
        let negative = self.take("-");
        if let Some(n) = super::types::number(self.peek()).and_then(|n| i32::try_from(n).ok()) {
            self.at += 1;
            return Ok(if negative { -n } else { n });
        }
        let word = self.peek();
        let Some(base) = priority::read(self.family, hook, word) else {
            return self.wrong("a number or a priority's name that this hook has");
        };
        self.at += 1;
        let sign = if self.take("+") {
            1
        } else if self.take("-") {
            -1
        } else {
            return Ok(base);
        };
        let n: i32 = self.number("a number")?;
        Ok(base.saturating_add(sign * n))
    }

    /// `NAME { hook ingress priority filter; devices = { ... }; ... }`.
    pub(super) fn flowtable(&mut self) -> Read<Flowtable> {
        let mut f = Flowtable {
            name: self.name("a flow table's name")?.into(),
            handle: 0,
            hook: HookName::Ingress,
            priority: 0,
            devices: Vec::new(),
            offload: false,
            counter: false,
        };
        self.body(|c, handle| {
            f.handle = handle.max(f.handle);
            match c.peek() {
                "hook" => {
                    c.at += 1;
                    let Some(h) = HookName::parse(c.peek()) else {
                        return c.wrong("`ingress`");
                    };
                    c.at += 1;
                    c.expect("priority")?;
                    f.hook = h;
                    f.priority = c.priority(h)?;
                }
                "devices" => {
                    c.at += 1;
                    c.expect("=")?;
                    f.devices = c.devices()?;
                }
                "flags" => {
                    c.at += 1;
                    c.expect("offload")?;
                    f.offload = true;
                }
                "counter" => {
                    c.at += 1;
                    f.counter = true;
                }
                _ => return c.wrong("hook, devices, flags or counter"),
            }
            Ok(())
        })?;
        Ok(f)
    }

    /// `{ statements }`; each gets the block's handle.
    fn body(&mut self, mut one: impl FnMut(&mut Self, u64) -> Read<()>) -> Read<u64> {
        self.expect("{")?;
        let handle = self.handle();
        loop {
            self.separators();
            if self.take("}") {
                return Ok(handle);
            }
            let at = self.at;
            one(self, handle)?;
            if self.at == at || self.token().is_none() {
                return self.wrong("`}`");
            }
        }
    }
}
