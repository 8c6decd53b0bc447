//! One rule line: words to matches and a target, and back.
//!
//! Options belong to the extension that was named last and has them; without one, the protocol's own
//! extension is loaded, as iptables does (xshared.c `do_parse`, `command_default`). Invariant: an
//! extension or option that is not known makes [`Match::Unknown`] or [`Target::Unknown`] with its
//! words; only wrong values are errors.

use super::field::{Flag, Is, Value};
use super::normal::{finish_match, finish_target};
use super::table::{Counters, Family};
use super::value::{AddrMask, IfName, Protocol};
use super::words::{self, Word};
use super::{Match, Target};

/// What is wrong: which word, and what was expected.
pub(super) type Wrong = (usize, String);

/// The parts of a rule line after its chain.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// One rule's matches for each pair of source and destination that was listed.
    pub matches: Vec<Vec<Match>>,
    /// What it does.
    pub target: Target,
    /// `-c packets bytes`.
    pub counters: Option<Counters>,
}

/// Who takes an option.
#[derive(Clone, Copy)]
enum Owner {
    Match(usize),
    Target,
}

struct Reader<'a> {
    words: &'a [Word],
    next: usize,
    end: usize,
    family: Family,
    sources: Vec<Is<AddrMask>>,
    destinations: Vec<Is<AddrMask>>,
    header: [Option<Match>; 4],
    protocol_at: Option<usize>,
    matches: Vec<(usize, Match)>,
    target: Option<(usize, Target)>,
    owners: Vec<Owner>,
    counters: Option<Counters>,
}

/// Reads the words of a rule; `is_chain` says which targets are chains of the table.
pub(super) fn read(
    words: &[Word],
    end: usize,
    family: Family,
    is_chain: &dyn Fn(&str) -> bool,
) -> Result<Parsed, Wrong> {
    let mut r = Reader {
        words,
        next: 0,
        end,
        family,
        sources: Vec::new(),
        destinations: Vec::new(),
        header: [None, None, None, None],
        protocol_at: None,
        matches: Vec::new(),
        target: None,
        owners: Vec::new(),
        counters: None,
    };
    while r.next < words.len() {
        r.one(is_chain)?;
    }
    r.settle_target();
    r.close()
}

impl<'a> Reader<'a> {
    fn word(&mut self, what: &str) -> Result<&'a Word, Wrong> {
        let word = self
            .words
            .get(self.next)
            .ok_or_else(|| (self.end, what.to_owned()))?;
        self.next += 1;
        Ok(word)
    }

    fn one(&mut self, is_chain: &dyn Fn(&str) -> bool) -> Result<(), Wrong> {
        let mut word = self.word("an option")?;
        let not = word.text == "!";
        if not {
            word = self.word("an option after `!`")?;
        }
        let never = |what: &str| match not {
            true => Err((word.at, format!("no `!` before {what}"))),
            false => Ok(()),
        };
        match word.text.as_str() {
            "-s" | "--source" | "--src" => self.sources = self.addresses(not, &word.text)?,
            "-d" | "--destination" | "--dst" => {
                self.destinations = self.addresses(not, &word.text)?
            }
            "-i" | "--in-interface" => {
                let name = self.value::<IfName>("an interface")?;
                self.set(0, word, Match::InInterface(Is { not, value: name }))?;
            }
            "-o" | "--out-interface" => {
                let name = self.value::<IfName>("an interface")?;
                self.set(1, word, Match::OutInterface(Is { not, value: name }))?;
            }
            "-p" | "--protocol" | "--proto" => {
                let protocol = self.value::<Protocol>("a protocol")?;
                self.protocol_at = Some(word.at);
                self.set(
                    2,
                    word,
                    Match::Protocol(Is {
                        not,
                        value: protocol,
                    }),
                )?;
            }
            "-f" | "--fragment" => self.set(3, word, Match::Fragment(Is { not, value: Flag }))?,
            "-m" | "--match" => {
                never("-m")?;
                self.load_match()?;
            }
            "-j" | "--jump" | "-g" | "--goto" => {
                never(&word.text)?;
                self.load_target(word, is_chain)?;
            }
            "-c" | "--set-counters" => {
                let (packets, bytes) = (self.value("packets")?, self.value("bytes")?);
                self.counters = Some(Counters { packets, bytes });
            }
            "-4" | "--ipv4" | "-6" | "--ipv6" => never(&word.text)?,
            o if o.starts_with('-') && o.len() > 1 => self.option(not, word)?,
            o => return Err((word.at, format!("an option, not `{o}`"))),
        }
        Ok(())
    }

    fn value<T: Value>(&mut self, what: &str) -> Result<T, Wrong> {
        let word = self.word(what)?;
        T::read("", &[&word.text], self.family).map_err(|e| (word.at, got(&e, &word.text)))
    }

    fn set(&mut self, at: usize, word: &Word, m: Match) -> Result<(), Wrong> {
        match self.header.get_mut(at) {
            Some(slot @ None) => {
                *slot = Some(m);
                Ok(())
            }
            _ => Err((word.at, format!("`{}` once at most", word.text))),
        }
    }

    fn addresses(&mut self, not: bool, option: &str) -> Result<Vec<Is<AddrMask>>, Wrong> {
        let word = self.word("an address")?;
        let taken = if option == "-s" || option.contains("so") || option == "--src" {
            !self.sources.is_empty()
        } else {
            !self.destinations.is_empty()
        };
        if taken {
            return Err((word.at, format!("`{option}` once at most")));
        }
        let one = |text: &str| {
            let value = AddrMask::read("", &[text], self.family);
            value
                .map(|value| Is { not, value })
                .map_err(|e| (word.at, got(&e, text)))
        };
        let all = word
            .text
            .split(',')
            .map(one)
            .collect::<Result<Vec<_>, _>>()?;
        match all.len() {
            1 => Ok(all),
            2..=64 if !not => Ok(all),
            2..=64 => Err((word.at, "one address after `!`".to_owned())),
            _ => Err((word.at, "at most 64 addresses".to_owned())),
        }
    }

    fn load_match(&mut self) -> Result<(), Wrong> {
        let word = self.word("a match's name")?;
        let name = if word.text == "icmpv6" {
            "icmp6"
        } else {
            word.text.as_str()
        };
        let unknown = || Match::Unknown {
            name: name.to_owned(),
            args: Vec::new(),
        };
        self.push(word.at, Match::new(name).unwrap_or_else(unknown));
        Ok(())
    }

    fn push(&mut self, at: usize, m: Match) {
        self.owners.push(Owner::Match(self.matches.len()));
        self.matches.push((at, m));
    }

    /// A name that only looked as if options of its own followed is a chain's: they were the rule's.
    fn settle_target(&mut self) {
        if let Some((_, target)) = &mut self.target
            && let Target::Unknown { name, args } = target
            && args.is_empty()
            && !EXTENSIONS.contains(&name.as_str())
        {
            *target = Target::Jump(core::mem::take(name));
        }
    }

    fn load_target(&mut self, option: &Word, is_chain: &dyn Fn(&str) -> bool) -> Result<(), Wrong> {
        let word = self.word("a target")?;
        if self.target.is_some() {
            return Err((option.at, "one target at most".to_owned()));
        }
        let name = word.text.clone();
        let goto = option.text.starts_with("-g") || option.text == "--goto";
        let more = self
            .words
            .get(self.next)
            .is_some_and(|w| w.text.starts_with("--") || w.text == "!");
        let target = match Target::new(&name) {
            Some(_) if goto => return Err((word.at, "a user chain to go to".to_owned())),
            Some(t) => t,
            None if goto => Target::Goto(name),
            None if is_chain(&name) => Target::Jump(name),
            None if more || EXTENSIONS.contains(&name.as_str()) => Target::Unknown {
                name,
                args: Vec::new(),
            },
            None => Target::Jump(name),
        };
        self.target = Some((word.at, target));
        self.owners.push(Owner::Target);
        Ok(())
    }

    /// Gives an option to the extension that takes it.
    fn option(&mut self, not: bool, word: &Word) -> Result<(), Wrong> {
        let (name, inline) = match word.text.split_once('=') {
            Some((n, v)) if n.starts_with("--") => (n, Some(v)),
            _ => (word.text.as_str(), None),
        };
        let takes = |r: &Self, o: &Owner| match *o {
            Owner::Match(i) => r.matches.get(i)?.1.module()?.words(name),
            Owner::Target => r.target.as_ref()?.1.module()?.words(name),
        };
        let mut found = self
            .owners
            .iter()
            .rev()
            .find_map(|o| Some((*o, takes(self, o)?)));
        let own = |m: &Match| m.module().is_some_and(|m| m.words(name).is_some());
        // After an extension that is not known an option may be that one's: it stays with it.
        let unknown = |m: &(usize, Match)| m.1.is_unknown() && Some(m.0) > self.protocol_at;
        let doubt = self.matches.iter().any(unknown);
        if found.is_none()
            && !doubt
            && let Some(m) = self.implicit().filter(own)
        {
            self.push(word.at, m);
            found = self.owners.last().and_then(|o| Some((*o, takes(self, o)?)));
        }
        let Some((owner, count)) = found else {
            return self.unknown(not, word);
        };
        let mut args: Vec<&str> = inline.into_iter().collect();
        while args.len() < count {
            args.push(&self.word(&format!("a value after `{name}`"))?.text);
        }
        let at = self
            .words
            .get(self.next.saturating_sub(1))
            .map_or(word.at, |w| w.at);
        let family = self.family;
        let module = match owner {
            Owner::Match(i) => self.matches.get_mut(i).and_then(|m| m.1.module_mut()),
            Owner::Target => self.target.as_mut().and_then(|t| t.1.module_mut()),
        };
        match module.map(|m| m.take(name, not, &args, family)) {
            Some(Err(e)) if args.is_empty() => Err((word.at, e)),
            Some(Err(e)) => Err((at, got(&e, &args.join(" ")))),
            _ => Ok(()),
        }
    }

    /// The extension of the rule's protocol, unless it is loaded already.
    fn implicit(&self) -> Option<Match> {
        let Match::Protocol(Is { not: false, value }) = self.header.get(2)?.as_ref()? else {
            return None;
        };
        let name = match value.0 {
            58 => "icmp6",
            _ => value.name()?,
        };
        let loaded = self.matches.iter().any(|m| m.1.name() == name);
        (!loaded).then(|| Match::new(name)).flatten()
    }

    /// Keeps an option that nobody takes with the extension named last.
    fn unknown(&mut self, not: bool, word: &Word) -> Result<(), Wrong> {
        let mut more: Vec<String> = not.then(|| "!".to_owned()).into_iter().collect();
        more.push(word.text.clone());
        while let Some(next) = self.words.get(self.next) {
            if next.text == "!" || (next.text.starts_with('-') && next.text.len() > 1) {
                break;
            }
            more.push(next.text.clone());
            self.next += 1;
        }
        let args = match self.owners.last() {
            Some(Owner::Match(i)) => self.matches.get_mut(*i).and_then(|(_, m)| {
                if let Some(args) = m.module().map(printed_words) {
                    *m = Match::Unknown {
                        name: m.name().to_owned(),
                        args,
                    };
                }
                if let Match::Unknown { args, .. } = m {
                    Some(args)
                } else {
                    None
                }
            }),
            Some(Owner::Target) => self.target.as_mut().and_then(|(_, t)| {
                let args = t.module().map(printed_words).unwrap_or_default();
                if !matches!(t, Target::Unknown { .. } | Target::Goto(_)) {
                    *t = Target::Unknown {
                        name: t.name().to_owned(),
                        args,
                    };
                }
                if let Target::Unknown { args, .. } = t {
                    Some(args)
                } else {
                    None
                }
            }),
            None => None,
        };
        match args {
            Some(args) => args.extend(more),
            None => {
                return Err((
                    word.at,
                    format!("an option that is known here, not `{}`", word.text),
                ));
            }
        }
        Ok(())
    }

    fn close(self) -> Result<Parsed, Wrong> {
        let family = self.family;
        let mut rest: Vec<Match> = self
            .header
            .into_iter()
            .flatten()
            .filter(|m| !asks_nothing(m))
            .collect();
        for (at, mut m) in self.matches {
            finish_match(&mut m, family).map_err(|e| (at, e))?;
            rest.push(m);
        }
        let target = match self.target {
            Some((at, mut t)) => finish_target(&mut t, family)
                .map(|()| t)
                .map_err(|e| (at, e))?,
            None => Target::None,
        };
        let each = |list: Vec<Is<AddrMask>>| -> Vec<Option<Is<AddrMask>>> {
            if list.is_empty() {
                vec![None]
            } else {
                list.into_iter().map(Some).collect()
            }
        };
        let (sources, destinations) = (each(self.sources), each(self.destinations));
        let mut matches = Vec::new();
        for s in &sources {
            for d in &destinations {
                let asks = |a: &Is<AddrMask>| a.not || !a.value.is_any();
                let from = s.filter(asks).map(Match::Source).into_iter();
                let to = d.filter(asks).map(Match::Destination);
                matches.push(from.chain(to).chain(rest.iter().cloned()).collect());
            }
        }
        Ok(Parsed {
            matches,
            target,
            counters: self.counters,
        })
    }
}

/// Targets that are extensions although podpath does not know them (man iptables-extensions).
const EXTENSIONS: [&str; 18] = [
    "TRACE",
    "CLUSTERIP",
    "CONNSECMARK",
    "DNPT",
    "ECN",
    "HMARK",
    "IDLETIMER",
    "LED",
    "MIRROR",
    "RATEEST",
    "SAME",
    "SECMARK",
    "SNPT",
    "SYNPROXY",
    "TCPOPTSTRIP",
    "ULOG",
    "FLOWOFFLOAD",
    "TARPIT",
];

fn got(expected: &str, text: &str) -> String {
    format!("{expected}, not `{text}`")
}

/// `-p all` and `-i +` ask nothing and are not kept.
fn asks_nothing(m: &Match) -> bool {
    match m {
        Match::Protocol(p) => !p.not && p.value.0 == 0,
        Match::InInterface(i) | Match::OutInterface(i) => !i.not && i.value.0 == "+",
        _ => false,
    }
}

fn printed_words(module: &dyn super::Module) -> Vec<String> {
    let mut text = String::new();
    module.print(&mut text);
    words::split(&text, 0)
        .unwrap_or_default()
        .into_iter()
        .map(|w| w.text)
        .collect()
}

/// Prints matches and target as iptables-save does, each part with a leading space.
pub(super) fn print(matches: &[Match], target: &Target, out: &mut String) {
    for m in matches {
        let header = |not: bool, option: &str, out: &mut String| {
            out.push_str(if not { " ! " } else { " " });
            out.push_str(option);
        };
        match m {
            Match::Source(a) | Match::Destination(a) => {
                let option = if matches!(m, Match::Source(_)) {
                    "-s "
                } else {
                    "-d "
                };
                header(a.not, option, out);
                a.value.text(out);
            }
            Match::InInterface(i) | Match::OutInterface(i) => {
                let option = if matches!(m, Match::InInterface(_)) {
                    "-i "
                } else {
                    "-o "
                };
                header(i.not, option, out);
                i.value.text(out);
            }
            Match::Protocol(p) => {
                header(p.not, "-p ", out);
                p.value.text(out);
            }
            Match::Fragment(f) => header(f.not, "-f", out),
            Match::Unknown { name, args } => verbatim(" -m ", name, args, out),
            _ => {
                out.push_str(" -m ");
                out.push_str(m.name());
                m.module().into_iter().for_each(|module| module.print(out));
            }
        }
    }
    match target {
        Target::None => {}
        Target::Goto(chain) => verbatim(" -g ", chain, &[], out),
        Target::Unknown { name, args } => verbatim(" -j ", name, args, out),
        t => {
            verbatim(" -j ", t.name(), &[], out);
            t.module().into_iter().for_each(|module| module.print(out));
        }
    }
}

fn verbatim(option: &str, name: &str, args: &[String], out: &mut String) {
    let bare = |s: &str| !s.is_empty() && !s.contains([' ', '\t', '"']);
    out.push_str(option);
    for (i, word) in core::iter::once(name)
        .chain(args.iter().map(String::as_str))
        .enumerate()
    {
        out.push_str(if i > 0 { " " } else { "" });
        match bare(word) {
            true => out.push_str(word),
            false => words::always_quote(word, out),
        }
    }
}
