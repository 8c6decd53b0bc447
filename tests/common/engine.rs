//! Netfilter of one namespace of a world, as the judges use it: load, command, force, read out.
//!
//! The one place in the tests that knows how podpath does it.

use podpath::base::{NsId, Origin, Span};
use podpath::ipvs::text;
use podpath::nf::apply::{self, Restore, Tool};
use podpath::nf::ct::CtTuple;
use podpath::nf::ct::text::{Style, list};
use podpath::nf::forced::Choice;
use podpath::nf::nft::Script;
use podpath::nf::{Backend, Family, Netfilter};
use podpath::sim::World;
use std::net::IpAddr;

fn nf(world: &mut World, ns: NsId) -> Result<&mut Netfilter, String> {
    world
        .ns_mut(ns)
        .map(|ns| ns.nf_mut())
        .ok_or_else(|| "no such namespace".to_owned())
}

/// Carries out the input of `iptables-restore`.
pub fn restore(
    world: &mut World,
    ns: NsId,
    family: Family,
    backend: Backend,
    noflush: bool,
    text: &str,
) -> Result<(), String> {
    let options = Restore {
        noflush,
        ..Restore::default()
    };
    let tool = Tool { family, backend };
    let done = apply::on_netns(nf(world, ns)?, tool, |set| {
        apply::restore(set, tool, options, "rules", text, None)
    });
    done.map(|_| ()).map_err(|r| r.stderr)
}

/// Carries out a line that begins with iptables, ip6tables or one of their relatives; what it prints.
pub fn command(world: &mut World, ns: NsId, line: &str) -> Result<String, String> {
    let at = Span::new("script", 0, 0);
    let origin = Origin::Scenario(line.into());
    let done = apply::run_line(nf(world, ns)?, line, &at, &origin);
    done.map(|o| o.stdout).map_err(|f| f.to_string())
}

/// Carries out the input of `ipset restore`.
pub fn restore_sets(world: &mut World, ns: NsId, text: &str) -> Result<(), String> {
    let now = world.now();
    let findings = nf(world, ns)?.sets.restore("sets", text, now);
    match findings.iter().find(|f| f.is_error()) {
        Some(f) => Err(f.to_string()),
        None => Ok(()),
    }
}

/// Carries out the input of `ipvsadm -R`.
pub fn restore_ipvs(world: &mut World, ns: NsId, rules: &str) -> Result<(), String> {
    let now = world.now();
    let (commands, mut findings) = text::parse(rules, "ipvs");
    let ns = world.ns_mut(ns).ok_or("no such namespace")?;
    findings.extend(ns.ipvs_change(|vs| text::load(vs, &commands, false, now)));
    match findings.first() {
        Some(f) => Err(f.to_string()),
        None => Ok(()),
    }
}

/// Carries out the input of `nft -f`.
pub fn nft(world: &mut World, ns: NsId, text: &str) -> Result<(), String> {
    let now = world.now();
    let nf = nf(world, ns)?;
    let mut set = nf.nft_ruleset(now);
    let (script, findings) = Script::parse("rules", text, &set);
    if let Some(f) = findings.first() {
        return Err(f.to_string());
    }
    set.apply(&script).map_err(|f| f.to_string())?;
    nf.set_nft(set, now);
    Ok(())
}

/// What `nft list ruleset` prints.
pub fn list_nft(world: &World, ns: NsId) -> String {
    let nf = world.ns(ns).and_then(|ns| ns.nf());
    nf.map_or(String::new(), |nf| nf.nft_ruleset(world.now()).to_text())
}

/// Carries out a line that begins with ipvsadm; what it prints.
pub fn ipvsadm(world: &mut World, ns: NsId, line: &str) -> Result<String, String> {
    let now = world.now();
    let words: Vec<&str> = line.split_whitespace().skip(1).collect();
    let command = text::command(&words).map_err(|(_, why)| format!("{line}: {why}"))?;
    let ns = world.ns_mut(ns).ok_or("no such namespace")?;
    let done = ns.ipvs_change(|vs| text::run(vs, &command, now));
    done.map_err(|e| e.to_string())
}

/// Carries out `conntrack -F`, or `conntrack -D` with `-p`, `--orig-src` and `--orig-dst`.
pub fn conntrack_command(world: &mut World, ns: NsId, line: &str) -> Result<(), String> {
    let ct = &mut nf(world, ns)?.ct;
    let mut words = line.split_whitespace().skip(1);
    if words.next() == Some("-F") {
        ct.flush();
        return Ok(());
    }
    let (mut proto, mut src, mut dst) = (None, None, None);
    let address = |w: Option<&str>| -> Result<Option<IpAddr>, String> {
        let text = w.unwrap_or_default();
        text.parse()
            .map(Some)
            .map_err(|_| format!("not understood: {line}"))
    };
    while let Some(w) = words.next() {
        match w {
            "-p" => {
                proto = match words.next() {
                    Some("tcp") => Some(6),
                    Some("udp") => Some(17),
                    _ => return Err(format!("not understood: {line}")),
                }
            }
            "--orig-src" | "-s" => src = address(words.next())?,
            "--orig-dst" | "-d" => dst = address(words.next())?,
            _ => return Err(format!("not understood: {line}")),
        }
    }
    ct.delete(|c| {
        let t = &c.tuples()[0];
        proto.is_none_or(|p| p == t.proto)
            && src.is_none_or(|a| a == t.src)
            && dst.is_none_or(|a| a == t.dst)
    });
    Ok(())
}

/// What `iptables-save -c` prints.
pub fn save(world: &World, ns: NsId, family: Family, backend: Backend) -> Result<String, String> {
    let nf = world.ns(ns).and_then(|ns| ns.nf());
    let set = nf.and_then(|nf| nf.rule_set(family, backend));
    Ok(set.map_or(String::new(), |set| set.to_save(true)))
}

/// What `conntrack -L -o extended` prints.
pub fn connections(world: &mut World, ns: NsId, family: Family) -> Result<Vec<String>, String> {
    let now = world.now();
    let ct = &nf(world, ns)?.ct;
    let all = list(ct, now, Style::Extended);
    let of = all
        .iter()
        .filter(|e| Family::of(e.tuples()[0].src) == family);
    Ok(of.map(ToString::to_string).collect())
}

/// What `ipset save` prints.
pub fn save_sets(world: &mut World, ns: NsId) -> Result<String, String> {
    let now = world.now();
    Ok(nf(world, ns)?.sets.save(now))
}

/// Decides for a connection.
pub fn force(world: &mut World, ns: NsId, orig: CtTuple, choice: Choice) {
    if let Some(ns) = world.ns_mut(ns) {
        ns.nf_mut().forced.insert(orig, choice);
    }
}

/// Decides for the next connection of these addresses and ports, after those decided before.
pub fn force_next(world: &mut World, ns: NsId, orig: CtTuple, choice: Choice) {
    if let Some(ns) = world.ns_mut(ns) {
        ns.nf_mut().forced.append(orig, choice);
    }
}
