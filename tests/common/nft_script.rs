//! What scripts of `nft -f` leave, on the level of commands: objects, rules as words, elements.
//!
//! As strict as the kernel where kube-proxy's syncs depend on it: nothing is deleted that is not there or
//! that something still leads to, no element gets a second value, no rule goes into a chain that is not there.
//! Words are compared as they are written, but for how a number is written and blanks around commas.

use std::collections::BTreeMap;

/// The tables' contents. Keys are `FAMILY TABLE NAME`.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct State {
    /// Tables, chains, sets and maps: kind and key, with what stands between the braces.
    pub objects: BTreeMap<(String, String), String>,
    /// Rules by chain.
    pub rules: BTreeMap<String, Vec<String>>,
    /// Elements by set or map: key to value and comment.
    pub elements: BTreeMap<String, BTreeMap<String, String>>,
}

impl State {
    /// What a script leaves on a clean machine.
    pub fn of(script: &str) -> Result<State, String> {
        let mut state = State::default();
        state.run(script)?;
        Ok(state)
    }

    /// Runs a script.
    pub fn run(&mut self, script: &str) -> Result<(), String> {
        for line in script.lines().filter(|l| !l.trim().is_empty()) {
            self.command(&words(line))
                .map_err(|e| format!("{e}: {line}"))?;
        }
        Ok(())
    }

    fn command(&mut self, words: &[String]) -> Result<(), String> {
        let [verb, kind, family, table, rest @ ..] = words else {
            return Err("not understood".into());
        };
        let name = rest.first().cloned().unwrap_or_default();
        let key = match kind.as_str() {
            "table" => format!("{family} {table}"),
            _ => format!("{family} {table} {name}"),
        };
        let body = |from: usize| rest.get(from..).unwrap_or_default().join(" ");
        match (verb.as_str(), kind.as_str()) {
            ("add", "table") => self.object(kind, &key, body(0)),
            ("add", "chain" | "set" | "map") => self.object(kind, &key, body(1)),
            ("add", "rule") => {
                self.there("chain", &key)?;
                self.rules.entry(key).or_default().push(body(1));
                Ok(())
            }
            ("flush", "chain") => {
                self.there("chain", &key)?;
                self.rules.remove(&key);
                Ok(())
            }
            ("flush", "set" | "map") => {
                self.there(kind, &key)?;
                self.elements.remove(&key);
                Ok(())
            }
            ("delete", "chain") => self.delete_chain(&key, &name),
            ("delete", "set") => {
                self.there("set", &key)?;
                self.unused(&format!("@{name}"))?;
                self.elements.remove(&key);
                self.objects.remove(&("set".into(), key));
                Ok(())
            }
            ("add", "element") => self.add_element(&key, &rest[1..]),
            ("delete", "element") => {
                let wanted = element(&rest[1..])?.0;
                let held = self.elements.get_mut(&key).and_then(|e| e.remove(&wanted));
                held.map(drop).ok_or("no such element".into())
            }
            _ => Err("not understood".into()),
        }
    }

    fn object(&mut self, kind: &str, key: &str, body: String) -> Result<(), String> {
        let at = (kind.to_owned(), key.to_owned());
        match self.objects.get(&at) {
            Some(held) if !body.is_empty() && *held != body => Err(format!("there as {held}")),
            Some(_) => Ok(()),
            None => {
                self.objects.insert(at, body);
                Ok(())
            }
        }
    }

    fn there(&self, kind: &str, key: &str) -> Result<(), String> {
        let there = self
            .objects
            .contains_key(&(kind.to_owned(), key.to_owned()));
        there.then_some(()).ok_or(format!("no {kind} {key}"))
    }

    fn delete_chain(&mut self, key: &str, name: &str) -> Result<(), String> {
        self.there("chain", key)?;
        if self.rules.get(key).is_some_and(|r| !r.is_empty()) {
            return Err("chain has rules".into());
        }
        self.unused(name)?;
        self.objects.remove(&("chain".into(), key.to_owned()));
        Ok(())
    }

    /// No rule or element has the word.
    fn unused(&self, word: &str) -> Result<(), String> {
        let has = |text: &String| text.split(' ').any(|w| w == word);
        let rule = self.rules.values().flatten().any(has);
        let element = self.elements.values().flat_map(BTreeMap::values).any(has);
        (!rule && !element).then_some(()).ok_or("in use".into())
    }

    fn add_element(&mut self, container: &str, body: &[String]) -> Result<(), String> {
        if self.there("set", container).is_err() {
            self.there("map", container)?;
        }
        let (key, value) = element(body)?;
        let goes = value.split(' ').skip_while(|w| *w != "goto").nth(1);
        if let Some(to) = goes {
            let table = container.rsplit_once(' ').map_or("", |(table, _)| table);
            self.there("chain", &format!("{table} {to}"))?;
        }
        let held = self.elements.entry(container.to_owned()).or_default();
        match held.get(&key) {
            Some(other) if *other != value => Err(format!("there with {other}")),
            _ => {
                held.insert(key, value);
                Ok(())
            }
        }
    }

    /// What differs, a line each.
    pub fn differences(&self, found: &State) -> Vec<String> {
        let mut out = Vec::new();
        let all = |s: &State| -> BTreeMap<String, String> {
            let objects = s
                .objects
                .iter()
                .map(|((kind, key), body)| (format!("{kind} {key}"), body.clone()));
            let rules = s.rules.iter().flat_map(|(chain, rules)| {
                let each = rules.iter().enumerate();
                each.map(move |(i, r)| (format!("rule {chain} {i}"), r.clone()))
            });
            let elements = s.elements.iter().flat_map(|(of, held)| {
                held.iter()
                    .map(move |(key, value)| (format!("element {of} {key}"), value.clone()))
            });
            objects.chain(rules).chain(elements).collect()
        };
        let (want, have) = (all(self), all(found));
        for (key, value) in &want {
            match have.get(key) {
                Some(other) if other == value => {}
                other => {
                    out.push(format!("- {key}: {value}"));
                    out.extend(other.map(|o| format!("+ {key}: {o}")));
                }
            }
        }
        let extra = have.iter().filter(|(key, _)| !want.contains_key(*key));
        out.extend(extra.map(|(key, value)| format!("+ {key}: {value}")));
        out
    }

    /// Without the chains that have no rules and that nothing leads to.
    #[must_use]
    pub fn without_idle_chains(&self) -> State {
        let mut out = self.clone();
        out.objects.retain(|(kind, key), body| {
            let name = key.rsplit(' ').next().unwrap_or_default();
            let idle = kind == "chain" && body.is_empty() && !self.rules.contains_key(key);
            !(idle && self.unused(name).is_ok())
        });
        out
    }
}

/// `{ KEY comment "..." : VALUE }`: the key, and the rest.
fn element(body: &[String]) -> Result<(String, String), String> {
    let inner = match body {
        [open, inner @ .., close] if open == "{" && close == "}" => inner,
        _ => return Err("no braces".into()),
    };
    let ends = |w: &String| w == "comment" || w == ":";
    let split = inner.iter().position(ends).unwrap_or(inner.len());
    let (key, rest) = inner.split_at(split);
    Ok((key.join(" "), rest.join(" ")))
}

/// A line's words; a quoted text is one, commas stand alone, numbers have one form.
fn words(line: &str) -> Vec<String> {
    let mut out = Vec::new();
    for (i, part) in line.split('"').enumerate() {
        if i % 2 == 1 {
            out.push(format!("\"{part}\""));
            continue;
        }
        let apart = part.replace(',', " , ");
        out.extend(apart.split_whitespace().map(number));
    }
    out
}

fn number(word: &str) -> String {
    match word.strip_prefix("0x").map(|h| u32::from_str_radix(h, 16)) {
        Some(Ok(n)) => format!("{n:#x}"),
        _ => word.to_owned(),
    }
}
