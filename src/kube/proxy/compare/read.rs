//! Reads what the modes write into [`Chains`]: the words that kube-proxy uses, and no others.
//!
//! A rule with a word that is not known is an error: better no comparison than a wrong one.

use std::net::{IpAddr, SocketAddr};

use ipnetwork::IpNetwork;

use super::rules::{Act, Chains, End, Key, Part, Rule, Set, Test};
use crate::kube::service::Protocol;

/// Whether a line was understood; what was not otherwise.
type Read<T> = Result<T, String>;

/// Adds the rules of a restore input; chains are named `TABLE/CHAIN`. `set` finds the entries of an ipset,
/// and whether they are addresses alone.
pub(super) fn iptables(
    text: &str,
    set: &dyn Fn(&str) -> (Set, bool),
    out: &mut Chains,
) -> Read<()> {
    let mut table = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(rest) = line.strip_prefix("-A ") {
            let words = words(rest);
            let (chain, rule) = words.split_first().ok_or(line)?;
            let rule = iptables_rule(table, rule, set).map_err(|e| format!("{e}: {line}"))?;
            out.add(&format!("{table}/{chain}"), rule);
        }
    }
    Ok(())
}

fn iptables_rule(table: &str, words: &[&str], set: &dyn Fn(&str) -> (Set, bool)) -> Read<Rule> {
    let (mut tests, mut act, mut yes) = (Vec::new(), Act::Nothing, true);
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or("ends early");
        let test = match word {
            "!" => {
                yes = false;
                continue;
            }
            // The name of a match, a comment, a counter: the options say the rest.
            "-m" | "--comment" | "--nfacct-name" | "--name" | "--seconds" | "--probability" => {
                value()?;
                None
            }
            "--reap" | "--set" | "--random-fully" => None,
            "--mode" | "--rcheck" => {
                if word == "--mode" {
                    value()?;
                }
                Some(Test::Maybe)
            }
            "-d" | "--vaddr" => Some(Test::To(vec![net(value()?)?], yes)),
            "-s" => Some(Test::From(vec![net(value()?)?], yes)),
            "-i" => {
                value()?;
                Some(Test::FromPods(yes))
            }
            "-p" | "--vproto" => Some(Test::Protocol(protocol(value()?)?)),
            "--dport" | "--vport" => Some(Test::Port(number(value()?)?)),
            "--dst-type" => value().map(|_| Some(Test::ToLocal))?,
            "--src-type" => value().map(|_| Some(Test::FromLocal(yes)))?,
            "--physdev-is-in" => Some(Test::Maybe),
            "--ctstate" => {
                let new = value()?.split(',').any(|state| state == "NEW");
                (new != yes).then_some(Test::Never)
            }
            // Packets are marked on the way to an endpoint only, and then nothing more is read of them.
            "--mark" => {
                value()?;
                yes.then_some(Test::Never)
            }
            "--match-set" => {
                let (entries, addresses) = set(value()?);
                let part = match (value()?, addresses) {
                    ("dst", true) => Part::Dst,
                    (dimensions, _) => part(dimensions)?,
                };
                Some(Test::InSet(entries, part))
            }
            "-j" => {
                act = iptables_target(table, value()?, &mut words)?;
                None
            }
            other => return Err(format!("unknown word {other}")),
        };
        tests.extend(test);
        yes = true;
    }
    Ok(Rule { tests, act })
}

fn iptables_target(table: &str, target: &str, rest: &mut dyn Iterator<Item = &str>) -> Read<Act> {
    Ok(match target {
        "DROP" => Act::End(End::Drop),
        "REJECT" => Act::End(End::Reject),
        "ACCEPT" => Act::End(End::Accept),
        "RETURN" => Act::Return,
        "MASQUERADE" => Act::Nothing,
        "MARK" => {
            rest.nth(1);
            Act::Nothing
        }
        "DNAT" => {
            let to = rest.nth(1).and_then(|to| to.parse::<SocketAddr>().ok());
            Act::End(End::Dnat(to.ok_or("no address")?))
        }
        chain => Act::Jump(format!("{table}/{chain}")),
    })
}

fn part(dimensions: &str) -> Read<Part> {
    Ok(match dimensions {
        "dst,dst" => Part::DstPort,
        "dst,dst,src" => Part::DstPortSrc,
        "dst" => Part::Port,
        // Only for masquerading: the test is of no effect.
        "src,dst" => Part::DstPort,
        other => return Err(format!("unknown dimensions {other}")),
    })
}

/// Adds one rule to a chain that kube-proxy does not write whole.
pub(super) fn iptables_one(table: &str, chain: &str, rule: &str, out: &mut Chains) -> Read<()> {
    let none = |_: &str| (Set::default(), false);
    let rule = iptables_rule(table, &words(rule), &none)?;
    out.add(&format!("{table}/{chain}"), rule);
    Ok(())
}

/// Adds a script of `nft -f` that is written on a clean machine.
pub(super) fn nft(script: &str, out: &mut Chains) -> Read<()> {
    let wrong = |line: &str, e: String| format!("{e}: {line}");
    // Rules may stand before the elements of the sets that they test.
    for line in script.lines().filter(|l| l.starts_with("add element ")) {
        if let ["add", "element", _, _, name, "{", body @ .., "}"] = words(line).as_slice() {
            nft_element(name, body, out).map_err(|e| wrong(line, e))?;
        }
    }
    for line in script.lines().filter(|l| l.starts_with("add rule ")) {
        if let ["add", "rule", _, _, chain, rule @ ..] = words(line).as_slice() {
            let rule = nft_rule(rule, out).map_err(|e| wrong(line, e))?;
            out.add(chain, rule);
        }
    }
    Ok(())
}

fn nft_element(name: &str, body: &[&str], out: &mut Chains) -> Read<()> {
    let at = body.iter().position(|w| *w == "comment" || *w == ":");
    let (key, rest) = body.split_at(at.unwrap_or(body.len()));
    let value = rest.split(|w| *w == ":").nth(1);
    let key: Vec<&str> = key.iter().copied().filter(|w| *w != ".").collect();
    match (key.as_slice(), value) {
        ([ip], None) => {
            let ip: IpAddr = ip.parse().map_err(|_| format!("no address {ip}"))?;
            out.sets.entry((*name).to_owned()).or_default().insert(ip);
        }
        ([ip, p, port], Some(verdict)) => {
            let ip: IpAddr = ip.parse().map_err(|_| format!("no address {ip}"))?;
            put(name, (Some(ip), protocol(p)?, number(port)?), verdict, out)?;
        }
        ([p, port], Some(verdict)) => {
            put(name, (None, protocol(p)?, number(port)?), verdict, out)?;
        }
        _ => return Err("unknown element".into()),
    }
    Ok(())
}

fn put(map: &str, key: Key, verdict: &[&str], out: &mut Chains) -> Read<()> {
    let act = nft_verdict(verdict)?.ok_or("no verdict")?;
    let map = out.maps.entry(map.to_owned()).or_default();
    map.insert(key, act);
    Ok(())
}

fn nft_verdict(words: &[&str]) -> Read<Option<Act>> {
    Ok(Some(match words {
        ["goto", to] => Act::Goto((*to).to_owned()),
        ["jump", to] => Act::Jump((*to).to_owned()),
        ["drop"] => Act::End(End::Drop),
        ["reject"] => Act::End(End::Reject),
        ["return"] => Act::Return,
        _ => return Ok(None),
    }))
}

/// One rule.
fn nft_rule(words: &[&str], known: &Chains) -> Read<Rule> {
    let mut tests = Vec::new();
    let mut rest = words;
    let done = |tests, act| Ok(Rule { tests, act });
    loop {
        if let Some(act) = nft_verdict(without_comment(rest))? {
            return done(tests, act);
        }
        let (test, after): (Option<Test>, &[&str]) = match rest {
            [] | ["comment", ..] => return done(tests, Act::Nothing),
            ["ct", "state", "new", after @ ..] => (None, after),
            [
                "ip" | "ip6",
                "daddr",
                ".",
                "meta",
                "l4proto",
                ".",
                "th",
                "dport",
                "vmap",
                map,
            ]
            | ["meta", "l4proto", ".", "th", "dport", "vmap", map] => {
                return done(tests, Act::Map(map.trim_start_matches('@').to_owned()));
            }
            ["ip" | "ip6", side @ ("daddr" | "saddr"), after @ ..] => {
                let (test, after) = addresses(after, *side == "daddr", known)?;
                (Some(test), after)
            }
            ["fib", "daddr", "type", "local", after @ ..] => (Some(Test::ToLocal), after),
            ["fib", "saddr", "type", "local", after @ ..] => (Some(Test::FromLocal(true)), after),
            ["iifname", "!=", _, after @ ..] => (Some(Test::FromPods(false)), after),
            ["iifname", _, after @ ..] => (Some(Test::FromPods(true)), after),
            ["meta", "l4proto", p, after @ ..] => (Some(Test::Protocol(protocol(p)?)), after),
            [p @ ("tcp" | "udp" | "sctp"), "dport", port, after @ ..] => {
                tests.push(Test::Protocol(protocol(p)?));
                (Some(Test::Port(number(port)?)), after)
            }
            ["numgen", "random", "mod", _, "vmap", "{", choices @ .., "}"] => {
                return done(tests, Act::Choose(nft_choices(choices)?));
            }
            ["dnat", "to", to] => {
                let to = to.parse().map_err(|_| format!("no address {to}"))?;
                return done(tests, Act::End(End::Dnat(to)));
            }
            // Masquerading and affinity.
            ["mark", "and", _, "==", "0", after @ ..] => (Some(Test::Maybe), after),
            ["mark", "set", ..] | ["masquerade", ..] | ["update", ..] => {
                return done(tests, Act::Nothing);
            }
            [word, ..] => return Err(format!("unknown word {word}")),
        };
        tests.extend(test);
        rest = after;
    }
}

/// `0 : goto A , 1 : goto B`.
fn nft_choices(words: &[&str]) -> Read<Vec<Act>> {
    let one = |words: &[&str]| match words {
        [_, ":", verdict @ ..] => nft_verdict(verdict)?.ok_or("no verdict".to_owned()),
        _ => Err("no choice".to_owned()),
    };
    words.split(|w| *w == ",").map(one).collect()
}

/// A test of addresses, and the words behind it.
fn addresses<'a>(words: &'a [&'a str], to: bool, known: &Chains) -> Read<(Test, &'a [&'a str])> {
    let (yes, words) = match words {
        ["!=", rest @ ..] => (false, rest),
        rest => (true, rest),
    };
    let test = |nets| match to {
        true => Test::To(nets, yes),
        false => Test::From(nets, yes),
    };
    let (first, rest) = words.split_first().ok_or("ends early")?;
    if let Some(name) = first.strip_prefix('@') {
        // Of clients, connections fill them.
        if !to {
            return Ok((Test::Maybe, rest));
        }
        let ips = known.sets.get(name).cloned().unwrap_or_default();
        return Ok((Test::ToAny(ips), rest));
    }
    if *first != "{" {
        return Ok((test(vec![net(first)?]), rest));
    }
    let end = rest.iter().position(|w| *w == "}").ok_or("open brace")?;
    let (inner, after) = rest.split_at(end);
    let listed = inner.iter().flat_map(|w| w.split(','));
    let nets: Read<Vec<IpNetwork>> = listed.filter(|w| !w.is_empty()).map(net).collect();
    Ok((test(nets?), after.get(1..).unwrap_or_default()))
}

fn without_comment<'a>(words: &'a [&'a str]) -> &'a [&'a str] {
    let end = words.iter().position(|w| *w == "comment");
    words.get(..end.unwrap_or(words.len())).unwrap_or_default()
}

fn net(text: &str) -> Read<IpNetwork> {
    text.parse().map_err(|_| format!("no network {text}"))
}

fn number(text: &str) -> Read<u16> {
    text.parse().map_err(|_| format!("no port {text}"))
}

fn protocol(text: &str) -> Read<Protocol> {
    match text {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "sctp" => Ok(Protocol::Sctp),
        other => Err(format!("unknown protocol {other}")),
    }
}

/// A line's words; a quoted text is one.
fn words(line: &str) -> Vec<&str> {
    let mut out = Vec::new();
    for (i, part) in line.split('"').enumerate() {
        if i % 2 == 1 {
            out.push(part);
        } else {
            out.extend(part.split_whitespace());
        }
    }
    out
}
