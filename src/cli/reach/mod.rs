//! `podpath reach`: who can reach whom, by policy or by the real path, and what a change opens and closes.
//!
//! Here states are loaded, arguments become a question, and the answer is written; the rest is
//! `kube::policy::reach`, `cluster::reach` and `report::reach`.

mod args;
mod ends;

pub use args::ReachArgs;

use crate::base::limits;
use crate::cli::args::Global;
use crate::cli::policy::Known;
use crate::cli::{Exit, load, out};
use crate::cluster::Scenario;
use crate::cluster::reach::{Paths, TooMany, paths, settle};
use crate::kube::policy::L4;
use crate::kube::policy::reach::{Question, Reach, State};
use crate::kube::service::Family;
use crate::kube::store::Store;
use crate::report::reach::{self as report, Shown};
use args::{By, Output};
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Runs the command.
pub fn run(g: &Global, a: &ReachArgs) -> anyhow::Result<Exit> {
    let Some(asked) = Asked::load(g, a)? else {
        return Ok(Exit::Failed);
    };
    let Asked {
        known,
        mut scenario,
        title,
    } = asked;
    let states: Vec<State<'_>> = known.iter().map(state).collect();
    let question = question(g, a, &known)?;
    let reach = Reach::new(&states, &question);
    for (list, flag) in [(&reach.rows, "--from"), (&reach.columns, "--to")] {
        if list.is_empty() {
            return Err(out::stop(
                flag,
                "nobody is left by what was asked for",
                "look at --from, --to, -n and -l; `--from pods` is every pod",
            ));
        }
    }
    if reach.cells() > limits::REACH_CELLS_MAX {
        let (rows, columns) = (reach.rows.len(), reach.columns.len());
        return Err(out::stop(
            "",
            format!(
                "{rows} rows and {columns} columns; at most {} cells are shown",
                limits::REACH_CELLS_MAX
            ),
            "narrow it down by -n, -l, --from or --to, or leave --by pod out",
        ));
    }
    let found = match &mut scenario {
        Some(s) => Some(tried(s, &reach)?),
        None => None,
    };
    let shown = Shown {
        reach: &reach,
        paths: found.as_ref(),
        title,
    };
    write(a, &shown)?;
    Ok(match a.exit_code && shown.differs() {
        true => Exit::Findings,
        false => Exit::Clean,
    })
}

/// What is asked about.
struct Asked {
    known: Vec<Known>,
    scenario: Option<Scenario>,
    title: String,
}

impl Asked {
    /// None when findings, already printed, stop the command.
    fn load(g: &Global, a: &ReachArgs) -> anyhow::Result<Option<Asked>> {
        if let [before, after] = a.diff.as_slice() {
            let mut known = Vec::new();
            for path in [before, after] {
                let Some(store) = store(g, Some(path))? else {
                    return Ok(None);
                };
                let Some(one) = Known::of(store, g) else {
                    return Ok(None);
                };
                known.push(one);
            }
            return Ok(Some(Asked {
                known,
                scenario: None,
                title: format!("{} to {}", before.display(), after.display()),
            }));
        }
        let what = named(g, a.topology.as_deref());
        if a.path {
            let inputs = load::inputs(g, a.topology.as_deref())?;
            let Some(mut scenario) = load::scenario(g, &inputs) else {
                return Ok(None);
            };
            if out::findings(&settle(&mut scenario), g.quiet) {
                return Ok(None);
            }
            let title = format!("{what}, {}", scenario.cluster.cni);
            return Ok(Some(Asked {
                known: vec![Known::of_cluster(&scenario.cluster)],
                scenario: Some(scenario),
                title,
            }));
        }
        let Some(first) = store(g, a.topology.as_deref())? else {
            return Ok(None);
        };
        let mut stores = vec![first];
        let mut title = what;
        if !a.with.is_empty() || !a.without.is_empty() {
            let Some(changed) = changed(g, a, &stores)? else {
                return Ok(None);
            };
            stores.push(changed);
            for path in &a.with {
                title += &format!(" with {}", path.display());
            }
            for object in &a.without {
                title += &format!(" without {object}");
            }
        }
        let known: Option<Vec<Known>> = stores.into_iter().map(|s| Known::of(s, g)).collect();
        Ok(known.map(|known| Asked {
            known,
            scenario: None,
            title,
        }))
    }
}

/// The inputs by name.
fn named(g: &Global, topology: Option<&Path>) -> String {
    let all = topology.into_iter().chain(g.dir.as_deref());
    let all = all.chain(g.files.iter().map(PathBuf::as_path));
    let names: Vec<String> = all
        .map(|p| match p.to_string_lossy().as_ref() {
            "-" => "standard input".to_owned(),
            name => name.to_owned(),
        })
        .collect();
    names.join(", ")
}

fn store(g: &Global, topology: Option<&Path>) -> anyhow::Result<Option<Store>> {
    let (store, findings) = Store::load(&load::inputs(g, topology)?);
    Ok((!out::findings(&findings, g.quiet)).then_some(store))
}

/// The first store after `--with` and `--without`.
fn changed(g: &Global, a: &ReachArgs, stores: &[Store]) -> anyhow::Result<Option<Store>> {
    let mut store = stores.first().cloned().unwrap_or_default();
    let alone = Global {
        files: Vec::new(),
        dir: None,
        ..g.clone()
    };
    for path in &a.with {
        let (over, mut findings) = Store::load(&load::inputs(&alone, Some(path))?);
        // What these manifests refer to stands in the others.
        findings.retain(|f| f.is_error());
        if out::findings(&findings, g.quiet) {
            return Ok(None);
        }
        store.overlay(over);
    }
    for object in &a.without {
        if !store.remove(object) {
            return Err(out::stop(
                &format!("--without {object}"),
                "there is no such object",
                "write KIND/NAMESPACE/NAME as it stands in the manifests",
            ));
        }
    }
    Ok(Some(store))
}

fn state(known: &Known) -> State<'_> {
    State {
        store: &known.store,
        policies: &known.policies,
        inventory: &known.inventory,
        views: &known.views,
    }
}

fn question(g: &Global, a: &ReachArgs, known: &[Known]) -> anyhow::Result<Question> {
    let mut pods = known.iter().flat_map(|k| k.inventory.pods());
    let has_v4 = pods.any(|p| p.is_selectable() && p.addresses.iter().any(IpAddr::is_ipv4));
    let any = known
        .iter()
        .flat_map(|k| k.inventory.pods())
        .any(|p| p.is_selectable() && !p.addresses.is_empty());
    let family = match (a.ipv4, a.ipv6) {
        (true, _) => Family::V4,
        (_, true) => Family::V6,
        _ if has_v4 || !any => Family::V4,
        _ => Family::V6,
    };
    let mut hosts: Vec<(String, IpAddr)> = Vec::new();
    for k in known {
        let cluster = k.store.cluster();
        for host in cluster.into_iter().flat_map(|c| &c.spec.external_hosts) {
            let mut ips = host.addresses.iter().map(|a| a.ip());
            let ip = ips.find(|ip| Family::of(*ip) == family);
            let fresh = !hosts.iter().any(|(name, _)| *name == host.name);
            hosts.extend(ip.filter(|_| fresh).map(|ip| (host.name.clone(), ip)));
        }
    }
    let mut ports: Vec<L4> = a
        .port
        .iter()
        .map(|p| L4::Port(p.protocol, p.number))
        .collect();
    ports.sort_by_key(|l4| match l4 {
        L4::Port(protocol, number) => (*number, *protocol),
        L4::Other => (0, crate::kube::service::Protocol::Tcp),
    });
    ports.dedup();
    let namespaces = |own: &[String]| -> Vec<String> {
        let both = g.namespace.iter().flat_map(|n| n.split(','));
        both.map(str::to_owned).chain(own.iter().cloned()).collect()
    };
    let ends = ends::Names {
        g,
        known,
        hosts: &hosts,
        family,
    };
    Ok(Question {
        family,
        ports,
        from: ends.of(
            &a.from,
            namespaces(&a.from_namespace),
            [&a.selector, &a.from_selector],
            false,
        )?,
        to: ends.of(
            &a.to,
            namespaces(&a.to_namespace),
            [&a.selector, &a.to_selector],
            true,
        )?,
        by_pod: a.by == By::Pod,
        hosts,
    })
}

fn tried(s: &mut Scenario, reach: &Reach<'_>) -> anyhow::Result<Paths> {
    let bar = match super::interactive() {
        true => indicatif::ProgressBar::new_spinner().with_message("probes"),
        false => indicatif::ProgressBar::hidden(),
    };
    let found = paths(s, reach, &mut || bar.inc(1));
    bar.finish_and_clear();
    found.map_err(|TooMany(count)| {
        out::stop(
            "--path",
            format!(
                "{count} probes; at most {} are made",
                limits::REACH_PROBES_MAX
            ),
            "narrow it down by -n, -l, --from, --to or --port",
        )
    })
}

fn write(a: &ReachArgs, shown: &Shown<'_>) -> anyhow::Result<()> {
    let text = match a.output {
        Output::Table => report::table(shown),
        Output::Csv => report::csv(shown),
        Output::Json => format!("{:#}\n", report::json(shown)),
        Output::Dot => report::dot(shown),
        Output::Svg => report::svg(shown),
        Output::Html => report::html(shown),
    };
    match &a.out {
        Some(path) => {
            let plain = anstream::adapter::strip_str(&text).to_string();
            fs::write(path, plain).map_err(|e| {
                let message = format!("it could not be written: {e}");
                out::stop(&path.display().to_string(), message, "")
            })
        }
        None => Ok(write!(anstream::stdout(), "{text}")?),
    }
}
