//! A Corefile's blocks to servers with their plugins in order.
//!
//! Each plugin reads its own words; here are the order, what may stand once, what is unknown and what is
//! known but not played (said with what it could change). Every error names its place; the other blocks and
//! plugins are still built, so that one mistake does not hide the next.

use std::net::IpAddr;

use core::time::Duration;
use hickory_proto::rr::Name;

use super::corefile::{
    Block, Corefile, Line, ServerKey, Surroundings, Version, Word, order, zones,
};
use super::names;
use super::plugins::{self, Plugin, kubernetes};
use crate::base::Finding;
use crate::kube::manifest::closest;

/// What surrounds a server.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Environment {
    /// Files and variables that the Corefile names.
    pub around: Surroundings,
    /// Addresses of its interfaces: they decide the zone's NS records.
    pub addresses: Vec<IpAddr>,
    /// Search list of its own resolv.conf: autopath tries it.
    pub search: Vec<String>,
    /// Which CoreDNS it plays.
    pub version: Version,
    /// Unix time when virtual time began, seconds.
    pub unix: u32,
    /// Of every random choice.
    pub seed: u64,
}

/// Which names of a plugin without an answer go on to the next (`plugin/pkg/fall`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fallthrough(Vec<Name>);

impl Fallthrough {
    /// All names.
    pub fn all() -> Fallthrough {
        Fallthrough(vec![Name::root()])
    }

    /// Whether a name falls through.
    pub fn through(&self, name: &Name) -> bool {
        self.0.iter().any(|zone| zone.zone_of(name))
    }
}

/// `health`, `ready` and `reload` of a block: they answer no DNS.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Care {
    /// Where `/health` is served.
    pub health: Option<String>,
    /// How long the server goes on after it was told to stop.
    pub lameduck: Duration,
    /// Where `/ready` is served.
    pub ready: Option<String>,
    /// `ready { monitor continuously }`: what was ready once is asked again.
    pub ready_again: bool,
    /// Seconds between looks at the Corefile, and its jitter.
    pub reload: Option<(Duration, Duration)>,
}

/// One server block on one port.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its port.
    pub port: u16,
    /// The zones it is chosen for.
    pub zones: Vec<Name>,
    /// The chain.
    pub plugins: Vec<Plugin>,
    /// Whether classes other than IN are let in (`forward` and `chaos` do that).
    pub any_class: bool,
    /// Not DNS.
    pub care: Care,
    /// The block as written.
    pub key: Word,
}

/// What is built of a Corefile.
#[derive(Clone, Debug, Default)]
pub struct Built {
    /// Servers in the order of the file.
    pub servers: Vec<Server>,
    /// The `kubernetes` plugins of all servers.
    pub kubes: Vec<kubernetes::Kubernetes>,
}

/// What plugins read their words with.
pub struct Reader<'a> {
    /// The version played.
    pub version: Version,
    /// The block's zones, for plugins that name none.
    pub block_zones: Vec<Name>,
    /// What surrounds the server.
    pub environment: &'a Environment,
    findings: &'a mut Vec<Finding>,
}

impl Reader<'_> {
    /// An error at a word.
    pub fn error(&mut self, at: &Word, message: impl Into<String>, help: &str) {
        self.findings
            .push(Finding::error(at.span.clone(), message, help));
    }

    /// A warning at a word.
    pub fn warning(&mut self, at: &Word, message: impl Into<String>, help: &str) {
        self.findings
            .push(Finding::warning(at.span.clone(), message, help));
    }

    /// An option that the plugin does not have.
    pub fn unknown_option(&mut self, line: &Line, plugin: &str) {
        let message = format!(
            "`{}` is no option of {plugin}: CoreDNS would not start",
            line.name.text
        );
        self.error(
            &line.name,
            message,
            "look at the plugin's page on coredns.io",
        );
    }

    /// Findings of a file that was read.
    pub fn add(&mut self, findings: Vec<Finding>) {
        self.findings.extend(findings);
    }

    /// The zones of words, those of the block where there are none.
    pub fn zones_or_block(&mut self, words: &[Word]) -> Vec<Name> {
        if words.is_empty() {
            self.block_zones.clone()
        } else {
            self.zones(words)
        }
    }

    /// The zones of words.
    pub fn zones(&mut self, words: &[Word]) -> Vec<Name> {
        let mut out = Vec::new();
        for word in words {
            match zones(&word.text) {
                Some(found) => out.extend(found),
                None => self.error(
                    word,
                    format!("`{}` is no zone", word.text),
                    "write a domain or a CIDR",
                ),
            }
        }
        out
    }

    /// `fallthrough [ZONES...]`.
    pub fn fallthrough(&mut self, words: &[Word]) -> Fallthrough {
        if words.is_empty() {
            Fallthrough::all()
        } else {
            Fallthrough(self.zones(words))
        }
    }

    /// A number, an error where there is none.
    pub fn number<T: std::str::FromStr>(&mut self, line: &Line, i: usize) -> Option<T> {
        let number = line.args.get(i).and_then(|w| w.text.parse().ok());
        if number.is_none() {
            let at = line.args.get(i).unwrap_or(&line.name).clone();
            self.error(
                &at,
                format!("{} takes a number here", line.name.text),
                "write a number",
            );
        }
        number
    }

    /// A duration as Go writes it, an error where there is none.
    pub fn duration(&mut self, line: &Line, i: usize) -> Option<Duration> {
        let found = line.args.get(i).and_then(|w| duration(&w.text));
        if found.is_none() {
            let at = line.args.get(i).unwrap_or(&line.name).clone();
            self.error(
                &at,
                format!("{} takes a duration here", line.name.text),
                "write 5s, 1m30s or 500ms",
            );
        }
        found
    }
}

/// `time.ParseDuration` without signs and fractions below a nanosecond.
pub fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut total, mut rest) = (Duration::ZERO, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = rest.split_at(digits);
        let end = unit
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(unit.len());
        let (unit, after) = unit.split_at(end);
        let seconds = match unit {
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let part = number.parse::<f64>().ok()? * seconds;
        total = total.checked_add(Duration::try_from_secs_f64(part).ok()?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

/// Builds all servers. No Corefile: `whoami` and `log` for every name, as CoreDNS does.
pub fn build(corefile: &Corefile, environment: &Environment) -> (Built, Vec<Finding>) {
    let (mut out, mut findings) = (Built::default(), Vec::new());
    let mut taken: Vec<(u16, Name)> = Vec::new();
    for block in &corefile.blocks {
        let mut ports: Vec<(u16, Vec<Name>, Word)> = Vec::new();
        for key in &block.keys {
            let Some(parsed) = ServerKey::parse(&key.text) else {
                let message = format!(
                    "`{}` is no zone: [scheme://]zone[:port] was expected",
                    key.text
                );
                findings.push(Finding::error(
                    key.span.clone(),
                    message,
                    "write a domain or a CIDR",
                ));
                continue;
            };
            if parsed.scheme != "dns" {
                let message = format!(
                    "{} is not modelled: this server answers plain DNS",
                    parsed.scheme
                );
                findings.push(Finding::warning(key.span.clone(), message, ""));
            }
            for zone in parsed.zones {
                if taken.contains(&(parsed.port, zone.clone())) {
                    let message = format!(
                        "{} is served a second time on port {}",
                        names::text(&zone),
                        parsed.port
                    );
                    let help = "CoreDNS would not start: give the zone to one block";
                    findings.push(Finding::error(key.span.clone(), message, help));
                    continue;
                }
                taken.push((parsed.port, zone.clone()));
                match ports.iter_mut().find(|(port, _, _)| *port == parsed.port) {
                    Some((_, zones, _)) => zones.push(zone),
                    None => ports.push((parsed.port, vec![zone], key.clone())),
                }
            }
        }
        let all: Vec<Name> = ports
            .iter()
            .flat_map(|(_, zones, _)| zones.clone())
            .collect();
        for (i, (port, zones, key)) in ports.into_iter().enumerate() {
            let mut own = Vec::new();
            let reader = Reader {
                version: environment.version,
                block_zones: all.clone(),
                environment,
                findings: &mut own,
            };
            let server = server(block, port, zones, key, reader, &mut out.kubes);
            if i == 0 {
                findings.append(&mut own);
            }
            out.servers.push(server);
        }
    }
    (out, findings)
}

fn server(
    block: &Block,
    port: u16,
    zones: Vec<Name>,
    key: Word,
    mut reader: Reader<'_>,
    kubes: &mut Vec<kubernetes::Kubernetes>,
) -> Server {
    let mut lines: Vec<(usize, &Line)> = Vec::new();
    for line in &block.directives {
        let name = line.name.text.as_str();
        match reader.version.place(name) {
            None => unknown(&line.name, &mut reader),
            Some(place) => {
                let again = lines.iter().any(|(p, _)| *p == place);
                if again && !order::REPEATABLE.contains(&name) {
                    reader.error(
                        &line.name,
                        format!("{name} stands twice in this block"),
                        "merge the two",
                    );
                    continue;
                }
                lines.push((place, line));
            }
        }
    }
    lines.sort_by_key(|(place, _)| *place);
    let mut server = Server {
        port,
        zones,
        plugins: Vec::new(),
        any_class: false,
        care: Care::default(),
        key,
    };
    // `bind ADDRESS` leaves kubernetes without addresses of its own.
    let bound = lines.iter().any(|(_, l)| {
        l.name.text == "bind" && l.args.iter().any(|a| a.text.parse::<IpAddr>().is_ok())
    });
    let own = reader
        .environment
        .addresses
        .iter()
        .filter(|a| !a.is_loopback() && !bound);
    let local: Vec<IpAddr> = own.copied().collect();
    let lines: Vec<&Line> = lines.into_iter().map(|(_, line)| line).collect();
    // autopath and transfer stand before kubernetes in the order, and mean the one of their block.
    let kube = lines
        .iter()
        .any(|l| l.name.text == "kubernetes")
        .then_some(kubes.len());
    let mut rest = lines.as_slice();
    while let Some((first, after)) = rest.split_first() {
        // rewrite, template and transfer are one plugin however often they stand there.
        let same = after
            .iter()
            .take_while(|l| l.name.text == first.name.text)
            .count();
        let merged = matches!(
            first.name.text.as_str(),
            "rewrite" | "template" | "transfer" | "file" | "acl" | "header"
        );
        let take = if merged { same + 1 } else { 1 };
        let (now, later) = rest.split_at(take);
        rest = later;
        match now.first() {
            Some(l) if l.name.text == "kubernetes" => {
                let options = kubernetes::Options::read(l, &mut reader, local.clone());
                server.plugins.push(Plugin::Kubernetes(kubes.len()));
                kubes.push(kubernetes::Kubernetes::new(options));
            }
            _ => add(now, &mut server, &mut reader, kube),
        }
    }
    let files = server.plugins.iter().find_map(|p| match p {
        Plugin::File(files) => Some(files.clone()),
        _ => None,
    });
    for plugin in &mut server.plugins {
        if let (Plugin::Transfer(transfer), Some(files)) = (plugin, &files) {
            transfer.files = files.clone();
        }
    }
    server.any_class = server
        .plugins
        .iter()
        .any(|p| matches!(p, Plugin::Forward(_) | Plugin::Chaos(_)));
    server
}

fn unknown(word: &Word, reader: &mut Reader<'_>) {
    let message = format!(
        "there is no plugin `{}` in this CoreDNS: it would not start; podpath goes on without",
        word.text
    );
    let near = closest(&word.text, reader.version.plugins().iter().copied());
    let help = near.map_or(String::new(), |n| format!("did you mean {n}?"));
    reader.error(word, message, &help);
}

fn add(lines: &[&Line], server: &mut Server, reader: &mut Reader<'_>, kube: Option<usize>) {
    let Some(line) = lines.first() else { return };
    let name = line.name.text.as_str();
    match name {
        "health" => {
            let at = line.args.first().map_or(":8080", |w| w.text.as_str());
            server.care.health = Some(at.to_owned());
            for option in &line.body {
                match option.name.text.as_str() {
                    "lameduck" => {
                        server.care.lameduck = reader.duration(option, 0).unwrap_or_default()
                    }
                    _ => reader.unknown_option(option, "health"),
                }
            }
        }
        "ready" => {
            let at = line.args.first().map_or(":8181", |w| w.text.as_str());
            server.care.ready = Some(at.to_owned());
            for option in &line.body {
                match (
                    option.name.text.as_str(),
                    option.args.first().map(|w| w.text.as_str()),
                ) {
                    ("monitor", Some("continuously")) => server.care.ready_again = true,
                    ("monitor", Some("until-ready")) => {}
                    _ => reader.unknown_option(option, "ready"),
                }
            }
        }
        "reload" => {
            let read = |i: usize, reader: &mut Reader<'_>, default: u64| {
                line.args
                    .get(i)
                    .map_or(Some(Duration::from_secs(default)), |_| {
                        reader.duration(line, i)
                    })
            };
            let (every, jitter) = (read(0, reader, 30), read(1, reader, 15));
            server.care.reload = every.zip(jitter);
        }
        "bind" => {}
        _ if order::NO_EFFECT.contains(&name) => {}
        _ => match order::NOT_PLAYED.iter().find(|(n, _)| *n == name) {
            Some((_, what)) => {
                let message = format!("{name} is not played: {what}");
                reader.warning(
                    &line.name,
                    message,
                    "answers of this block may differ from CoreDNS's",
                );
            }
            None => {
                server.plugins.extend(plugins::read(lines, reader, kube));
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Built, Vec<String>) {
        let environment = Environment::default();
        let (corefile, mut findings) = Corefile::parse("Corefile", text, &environment.around);
        let (built, more) = build(&corefile, &environment);
        findings.extend(more);
        (built, findings.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn plugins_stand_in_the_order_of_the_version() {
        let (built, findings) =
            read(". {\n forward . 10.0.0.1\n cache 30\n hosts { }\n rewrite name a b\n errors\n}");
        assert_eq!(findings, Vec::<String>::new());
        let chain: Vec<&str> = built.servers[0].plugins.iter().map(Plugin::name).collect();
        assert_eq!(chain, ["errors", "cache", "rewrite", "hosts", "forward"]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let (_, findings) = read(
            "a.b a.b {\n cach 30\n dns64\n cache\n cache\n kubernetes {\n  pod verified\n }\n}",
        );
        let has = |part: &str| {
            assert!(
                findings.iter().any(|f| f.contains(part)),
                "{part}: {findings:?}"
            )
        };
        has("Corefile:1:5: error: a.b. is served a second time");
        has("Corefile:2:2: error: there is no plugin `cach`");
        has("did you mean cache?");
        has("Corefile:3:2: warning: dns64 is not played: AAAA answers would be made");
        has("Corefile:5:2: error: cache stands twice");
        has("Corefile:7:3: error: `pod` is no option of kubernetes");
    }

    #[test]
    fn durations() {
        assert_eq!(duration("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(duration("1.5s"), Some(Duration::from_millis(1_500)));
        assert_eq!(duration("0"), Some(Duration::ZERO));
        for bad in ["", "5", "s", "5x", "-5s"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }
}
