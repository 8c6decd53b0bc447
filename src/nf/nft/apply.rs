//! Carrying a script out on a rule set, all of it or nothing (kernel: nf_tables_commit, nf_tables_abort).
//!
//! Handles are given as the kernel gives them: one counter per table. Invariant: after an error the
//! rule set is as it
//! was.

use std::sync::Arc;

use super::elements::Element;
use super::model::*;
use super::normal;
use super::script::{At, Command, Ref, Script, Verb, What};
use crate::base::Finding;

type Done = Result<(), String>;

impl Ruleset {
    /// Reads a listing (or a script) from nothing, keeping all that can be kept.
    pub fn parse(file: &str, text: &str) -> (Ruleset, Vec<Finding>) {
        let mut set = Ruleset::default();
        let (script, mut findings) = Script::parse(file, text, &set);
        for c in script.commands {
            let span = c.span.clone();
            if let Err(e) = set.command(c, false) {
                findings.push(Finding::error(span, e, "the command is left out"));
            }
        }
        (set, findings)
    }

    /// Carries a script out. `Err`: the first command that the kernel refuses, nothing has changed.
    pub fn apply(&mut self, script: &Script) -> Result<(), Finding> {
        if script.refused {
            let span = script
                .commands
                .first()
                .map_or_else(Default::default, |c| c.span.clone());
            return Err(Finding::error(
                span,
                "the script has errors",
                "nothing of the script was carried out",
            ));
        }
        let mut next = self.clone();
        for c in &script.commands {
            let span = c.span.clone();
            let refused = |e| Finding::error(span, e, "nothing of the script was carried out");
            next.command(c.clone(), true).map_err(refused)?;
        }
        next.check().map_err(|e| {
            let span = script
                .commands
                .last()
                .map_or_else(Default::default, |c| c.span.clone());
            Finding::error(span, e, "nothing of the script was carried out")
        })?;
        *self = next;
        Ok(())
    }

    /// The table of a command.
    fn table_of(&mut self, c: &Command) -> Result<&mut Table, String> {
        let key = (c.family, c.table.clone());
        let missing = || format!("no such table: {} {}", c.family.as_str(), c.table);
        self.tables.get_mut(&key).ok_or_else(missing)
    }

    /// One command; `strict` gives rules the kernel's form.
    pub(super) fn command(&mut self, c: Command, strict: bool) -> Done {
        let verb = c.verb;
        match c.what {
            What::Ruleset(family) => {
                self.tables.retain(|k, _| family.is_some_and(|f| f != k.0));
                Ok(())
            }
            What::Table(t) => self.add_table(verb, *t),
            What::TableRef(ref r) => self.table_ref(verb, c.family, r),
            _ => {
                let implied = !strict
                    && verb == Verb::Add
                    && !self.tables.contains_key(&(c.family, c.table.clone()));
                if implied {
                    self.add_table(Verb::Add, Table::new(c.family, c.table.clone()))?;
                }
                self.table_of(&c)?.command(verb, c.what, strict)
            }
        }
    }

    fn add_table(&mut self, verb: Verb, mut t: Table) -> Done {
        let key = (t.family, t.name.clone());
        if let Some(old) = self.tables.get_mut(&key) {
            if verb == Verb::Create {
                return Err(format!(
                    "table {} {} is there already",
                    t.family.as_str(),
                    t.name
                ));
            }
            // An added table that is there already keeps its comment; only `dormant`
            // may change (nf_tables_updtable).
            old.dormant = t.dormant;
            return Ok(());
        }
        self.last_handle = match t.handle {
            0 => self.last_handle + 1,
            h => h.max(self.last_handle),
        };
        if t.handle == 0 {
            t.handle = self.last_handle;
        }
        self.tables.insert(key, t);
        Ok(())
    }

    fn table_ref(&mut self, verb: Verb, family: Family, r: &Ref) -> Done {
        let hit = self.tables.values().find(|t| {
            t.family == family
                && match r {
                    Ref::Name(n) => t.name == *n,
                    Ref::Handle(h) => t.handle == *h,
                }
        });
        let Some(key) = hit.map(|t| (t.family, t.name.clone())) else {
            return if verb == Verb::Destroy {
                Ok(())
            } else {
                Err("no such table".into())
            };
        };
        match verb {
            Verb::Delete | Verb::Destroy => {
                self.tables.shift_remove(&key);
            }
            Verb::Flush => {
                // nft flush table: rules only.
                let chains = self
                    .tables
                    .get_mut(&key)
                    .into_iter()
                    .flat_map(|t| t.chains.values_mut());
                chains.for_each(|c| c.rules.clear());
            }
            _ => {}
        }
        Ok(())
    }

    /// What the kernel checks before it commits: jumps and sets that rules name exist.
    fn check(&self) -> Done {
        self.tables.values().try_for_each(Table::check)
    }
}

fn gone<T>(hit: Option<T>, verb: Verb, what: &str) -> Done {
    match hit {
        Some(_) => Ok(()),
        None if verb == Verb::Destroy => Ok(()),
        None => Err(format!("no such {what}")),
    }
}

/// The name of what a reference means.
fn named<'a>(r: &Ref, mut all: impl Iterator<Item = (&'a Arc<str>, u64)>) -> Option<Arc<str>> {
    all.find(|(name, handle)| match r {
        Ref::Name(n) => n == *name,
        Ref::Handle(h) => h == handle,
    })
    .map(|n| n.0.clone())
}

impl Table {
    fn command(&mut self, verb: Verb, what: What, strict: bool) -> Done {
        match what {
            What::Chain(c) => self.add_chain(verb, *c),
            What::ChainRef(r) => self.chain_ref(verb, &r),
            What::Rename(old, new) => self.rename(&old, &new),
            What::Rule(chain, at, rule) => self.rule(verb, &chain, at, *rule, strict),
            What::Set(s) => self.add_set(verb, *s),
            What::SetRef(r) => self.set_ref(verb, &r),
            What::Elements(set, elements) => self.elements(verb, &set, elements),
            What::Object(o) => self.add_object(verb, *o),
            What::ObjectRef(kind, r) => {
                let objects = self
                    .objects
                    .iter()
                    .filter(|o| o.0.0 == kind)
                    .map(|o| (&o.0.1, o.1.handle));
                let name = named(&r, objects);
                if verb == Verb::Reset {
                    return name
                        .map(|n| self.reset(kind, &n))
                        .ok_or_else(|| format!("no such {}", kind.as_str()));
                }
                gone(
                    name.and_then(|n| self.objects.shift_remove(&(kind, n))),
                    verb,
                    kind.as_str(),
                )
            }
            What::Flowtable(f) => self.add_flowtable(verb, *f),
            What::FlowtableRef(r) => {
                let name = named(&r, self.flowtables.iter().map(|f| (f.0, f.1.handle)));
                gone(
                    name.and_then(|n| self.flowtables.shift_remove(&n)),
                    verb,
                    "flow table",
                )
            }
            What::Ruleset(_) | What::Table(_) | What::TableRef(_) => Ok(()),
        }
    }

    fn handle(&mut self, given: u64) -> u64 {
        if given == 0 {
            return self.next_handle();
        }
        self.last_handle = self.last_handle.max(given);
        given
    }

    fn add_chain(&mut self, verb: Verb, mut c: Chain) -> Done {
        if let Some(old) = self.chains.get_mut(&c.name) {
            if verb == Verb::Create {
                return Err(format!("chain {} is there already", c.name));
            }
            return match (&mut old.base, c.base) {
                (_, None) => Ok(()),
                (Some(a), Some(b))
                    if a.hook == b.hook && a.kind == b.kind && a.priority == b.priority =>
                {
                    a.policy = b.policy;
                    Ok(())
                }
                _ => Err(format!(
                    "chain {} is there already with another hook",
                    c.name
                )),
            };
        }
        c.handle = self.handle(c.handle);
        self.chains.insert(c.name.clone(), c);
        Ok(())
    }

    fn chain_ref(&mut self, verb: Verb, r: &Ref) -> Done {
        let name = named(r, self.chains.iter().map(|c| (c.0, c.1.handle)));
        let Some(name) = name else {
            return gone(None::<()>, verb, "chain");
        };
        match verb {
            Verb::Flush => {
                self.chains
                    .get_mut(&name)
                    .into_iter()
                    .for_each(|c| c.rules.clear());
                Ok(())
            }
            Verb::Delete | Verb::Destroy => {
                self.chains.shift_remove(&name);
                Ok(())
            }
            _ => Err("chains are flushed, deleted or destroyed by name".into()),
        }
    }

    fn rename(&mut self, old: &Arc<str>, new: &Arc<str>) -> Done {
        if self.chains.contains_key(new) {
            return Err(format!("chain {new} is there already"));
        }
        let Some((at, _, mut c)) = self.chains.shift_remove_full(old) else {
            return Err(format!("no such chain: {old}"));
        };
        c.name = new.clone();
        self.chains.shift_insert(at, new.clone(), c);
        self.rename_jumps(old, new);
        Ok(())
    }

    fn rename_jumps(&mut self, old: &str, new: &str) {
        let turn = |v: &mut super::Verdict| {
            if let super::Verdict::Jump(c) | super::Verdict::Goto(c) = v
                && **c == *old
            {
                *c = new.into();
            }
        };
        for r in self.chains.values_mut().flat_map(|c| &mut c.rules) {
            normal::verdicts_mut(r, &mut { turn });
        }
        for e in self.sets.values_mut().flat_map(|s| s.elements.iter_mut()) {
            if let Some(super::Data::Verdict(v)) = &mut e.data {
                turn(v);
            }
        }
    }

    fn rule(&mut self, verb: Verb, chain: &Arc<str>, at: At, mut rule: Rule, strict: bool) -> Done {
        let given = if matches!(verb, Verb::Delete | Verb::Destroy) {
            1
        } else {
            rule.handle
        };
        rule.handle = if given == 0 {
            self.next_handle()
        } else {
            given
        };
        self.last_handle = self.last_handle.max(given);
        if strict {
            normal::rule(self, &mut rule);
        }
        let Some(c) = self.chains.get_mut(chain) else {
            return Err(format!("no such chain: {chain}"));
        };
        let place = match at {
            At::Edge => None,
            At::Index(i) if i < c.rules.len() => Some(i),
            At::Index(i) => return Err(format!("chain {chain} has no rule {i}")),
            At::Handle(h) => match c.rules.iter().position(|r| r.handle == h) {
                Some(i) => Some(i),
                None if verb == Verb::Destroy => return Ok(()),
                None => return Err(format!("chain {chain} has no rule with handle {h}")),
            },
        };
        match (verb, place) {
            (Verb::Insert, p) => c.rules.insert(p.unwrap_or(0), rule),
            (Verb::Add | Verb::Create, Some(p)) => c.rules.insert(p + 1, rule),
            (Verb::Add | Verb::Create, None) => c.rules.push(rule),
            (Verb::Replace, Some(p)) => c.rules.splice(p..=p, [rule]).for_each(drop),
            (Verb::Delete | Verb::Destroy, Some(p)) => drop(c.rules.remove(p)),
            _ => return Err("a rule is replaced and deleted by its handle".into()),
        }
        Ok(())
    }

    fn add_set(&mut self, verb: Verb, mut s: Set) -> Done {
        if let Some(old) = self.sets.get(&s.name) {
            let same = old.key.dtypes() == s.key.dtypes() && old.data.is_some() == s.data.is_some();
            return match verb {
                Verb::Create => Err(format!("set {} is there already", s.name)),
                _ if same => Ok(()),
                _ => Err(format!("set {} is there already with other types", s.name)),
            };
        }
        s.handle = self.handle(s.handle);
        if s.flags.dynamic && s.size.is_none() {
            // nftables evaluate.c: a set that rules fill has a bound.
            s.size = Some(65_535);
        }
        self.sets.insert(s.name.clone(), s);
        Ok(())
    }

    fn set_ref(&mut self, verb: Verb, r: &Ref) -> Done {
        let name = named(r, self.sets.iter().map(|s| (s.0, s.1.handle)));
        let Some(name) = name else {
            return gone(None::<()>, verb, "set");
        };
        match verb {
            Verb::Flush => self
                .sets
                .get_mut(&name)
                .into_iter()
                .for_each(|s| s.elements.clear()),
            Verb::Delete | Verb::Destroy => drop(self.sets.shift_remove(&name)),
            _ => return Err("sets are flushed, deleted or destroyed by name".into()),
        }
        Ok(())
    }

    fn elements(&mut self, verb: Verb, set: &Arc<str>, elements: Vec<Element>) -> Done {
        let Some(s) = self.sets.get_mut(set) else {
            return Err(format!("no such set: {set}"));
        };
        for mut e in elements {
            match verb {
                Verb::Add | Verb::Create => {
                    normal::element(s, &mut e);
                    s.put(verb, e)?;
                }
                _ => gone(s.elements.remove(&e), verb, "element")?,
            }
        }
        let most = s.size.map_or(usize::MAX, |n| n as usize);
        if s.elements.len() > most {
            return Err(format!("set {set} is full: {most} elements"));
        }
        if s.auto_merge {
            s.elements.merge();
        }
        Ok(())
    }

    fn add_object(&mut self, verb: Verb, mut o: Object) -> Done {
        let key = (o.body.kind(), o.name.clone());
        if self.objects.contains_key(&key) {
            let text = format!("{} {} is there already", key.0.as_str(), o.name);
            return if verb == Verb::Create {
                Err(text)
            } else {
                Ok(())
            };
        }
        o.handle = self.handle(o.handle);
        self.objects.insert(key, o);
        Ok(())
    }

    fn reset(&mut self, kind: ObjectKind, name: &Arc<str>) {
        match self
            .objects
            .get_mut(&(kind, name.clone()))
            .map(|o| &mut o.body)
        {
            Some(ObjectBody::Counter(c)) => *c = Default::default(),
            Some(ObjectBody::Quota(q)) => q.used = 0,
            _ => {}
        }
    }

    fn add_flowtable(&mut self, verb: Verb, mut f: Flowtable) -> Done {
        if self.flowtables.contains_key(&f.name) {
            let text = format!("flow table {} is there already", f.name);
            return if verb == Verb::Create {
                Err(text)
            } else {
                Ok(())
            };
        }
        f.handle = self.handle(f.handle);
        self.flowtables.insert(f.name.clone(), f);
        Ok(())
    }

    fn check(&self) -> Done {
        let missing = |v: &super::Verdict| match v {
            super::Verdict::Jump(c) | super::Verdict::Goto(c) => {
                (!self.chains.contains_key(&**c)).then(|| c.clone())
            }
            _ => None,
        };
        let mut bad = None;
        for r in self.chains.values().flat_map(|c| &c.rules) {
            normal::verdicts(r, &mut |v| bad = bad.take().or(missing(v)));
        }
        for e in self.sets.values().flat_map(|s| s.elements.iter()) {
            if let Some(super::Data::Verdict(v)) = &e.data {
                bad = bad.or(missing(v));
            }
        }
        match bad {
            Some(c) => Err(format!(
                "table {} {}: no such chain: {c}",
                self.family.as_str(),
                self.name
            )),
            None => self.sets_named(),
        }
    }

    fn sets_named(&self) -> Done {
        let mut bad = None;
        for r in self.chains.values().flat_map(|c| &c.rules) {
            normal::sets(r, &mut |name| {
                if !self.sets.contains_key(name) {
                    bad.get_or_insert(name.to_owned());
                }
            });
        }
        match bad {
            Some(s) => Err(format!(
                "table {} {}: no such set: {s}",
                self.family.as_str(),
                self.name
            )),
            None => Ok(()),
        }
    }
}

impl Set {
    /// Puts an element in as `add element` or `create element` does.
    fn put(&mut self, verb: Verb, e: Element) -> Done {
        let Err(e) = self.elements.insert(e) else {
            return Ok(());
        };
        let same = self.elements.same(&e);
        match same {
            // The same key with the same data is no error of `add` (nft_set_insert: EEXIST is dropped).
            Some(old) if verb == Verb::Add && (self.data.is_none() || old.data == e.data) => Ok(()),
            Some(_) => Err(format!("set {}: an element is there already", self.name)),
            None if self.auto_merge => {
                self.elements.absorb(*e);
                Ok(())
            }
            None => Err(format!("set {}: an element overlaps another", self.name)),
        }
    }
}
