//! `podpath show WHO WHAT`: state as ip and bridge print it.

use crate::cli::args::{Format, Global, ShowArgs, What};
use crate::cli::{Exit, load, out, trace};
use crate::cluster::Scenario;
use crate::ipvs::text::Show;
use crate::kube::manifest::closest;
use crate::net::NetNs;
use crate::nf::{self, TableName};
use crate::report::show::ipvs::Listing;
use crate::report::show::{self, Ctx, Family, RouteTables, ShowWhat};
use std::io::Write;

/// Shows.
pub fn run(g: &Global, a: &ShowArgs) -> anyhow::Result<Exit> {
    let a = &ShowArgs {
        json: a.json || a.output == Format::Json,
        ..a.clone()
    };
    let inputs = load::inputs(g, None)?;
    let Some(mut s) = load::scenario(g, &inputs) else {
        return Ok(Exit::Failed);
    };
    if a.after_probes {
        s.run_probes(&mut |_| {});
    }
    if matches!(
        a.what,
        What::Iptables | What::Ip6tables | What::Nft | What::Ipset | What::Ipvs | What::Conntrack
    ) {
        return netfilter(g, &s, a);
    }
    let Some(what) = what(a)? else {
        return services(&s, a);
    };
    let ns = find(g, &s, &a.who)?;
    let names = |id| s.cluster.lab.world.ns(id).map(|n| n.name.clone());
    let family = match (a.ipv4, a.ipv6) {
        (true, _) => Family::V4,
        (_, true) => Family::V6,
        _ => Family::Any,
    };
    let cx = Ctx {
        now: s.cluster.lab.now(),
        details: a.details,
        family,
        netns: Some(&names),
    };
    let mut o = anstream::stdout();
    if a.json {
        writeln!(o, "{}", show::json(ns, what, &cx))?;
    } else {
        write!(o, "{}", show::text(ns, what, &cx))?;
    }
    Ok(Exit::Clean)
}

/// Rules, sets and connections, as their own tools print them.
fn netfilter(g: &Global, s: &Scenario, a: &ShowArgs) -> anyhow::Result<Exit> {
    if a.json && a.what != What::Nft {
        let why =
            "iptables, ipset, ipvsadm and conntrack are shown as their tools print them: no JSON";
        return Err(out::stop("--json", why, "leave it out"));
    }
    let ns = find(g, s, &a.who)?;
    let now = s.cluster.lab.now();
    if a.what == What::Ipvs {
        write!(anstream::stdout(), "{}", ipvs(ns, now, a)?)?;
        return Ok(Exit::Clean);
    }
    let table = match a.table.as_deref() {
        None | Some("all") => None,
        Some(t) => Some(TableName::parse(t).ok_or_else(|| {
            let given = format!("--table {t}");
            out::stop(&given, "expected raw, mangle, nat, filter or security", "")
        })?),
    };
    let text = match a.what {
        What::Ip6tables => show::netfilter::rules(ns, nf::Family::V6, table, a.counters),
        What::Nft => show::netfilter::native(ns, now, a.json),
        What::Ipset => show::netfilter::sets(ns, now),
        What::Conntrack if a.counters => show::netfilter::statistics(ns),
        What::Conntrack => {
            let wanted = |v4: bool| if v4 { !a.ipv6 } else { !a.ipv4 };
            show::netfilter::connections(ns, now, &wanted)
        }
        _ => show::netfilter::rules(ns, nf::Family::V4, table, a.counters),
    };
    write!(anstream::stdout(), "{text}")?;
    Ok(Exit::Clean)
}

/// Services, real servers and connections of IPVS, as ipvsadm lists them.
fn ipvs(ns: &NetNs, now: crate::base::Instant, a: &ShowArgs) -> anyhow::Result<String> {
    let listing = match a.table.as_deref() {
        None if a.counters => Listing::Show(Show::Stats),
        None => Listing::Show(Show::Table),
        Some("save") => Listing::Save,
        Some("stats") => Listing::Show(Show::Stats),
        Some("rate") => Listing::Show(Show::Rate),
        Some("thresholds") => Listing::Show(Show::Thresholds),
        Some("persistent") => Listing::Show(Show::Persistent),
        Some("connections") => Listing::Show(Show::Conns),
        Some("timeouts") => Listing::Show(Show::Timeouts),
        Some(t) => {
            let wanted =
                "expected save, stats, rate, thresholds, persistent, connections or timeouts";
            return Err(out::stop(&format!("--table {t}"), wanted, ""));
        }
    };
    Ok(show::ipvs::text(ns, listing, now))
}

/// The cluster's Services, as the node's kube-proxy has them.
fn services(s: &Scenario, a: &ShowArgs) -> anyhow::Result<Exit> {
    let bare = a.who.strip_prefix("node/").unwrap_or(&a.who);
    let Some(node) = s.cluster.nodes.get(bare) else {
        let names: Vec<&str> = s.cluster.nodes.keys().map(String::as_str).collect();
        let help = match closest(bare, names.iter().copied()) {
            Some(name) => format!("did you mean {name}?"),
            None => format!("there are {}", names.join(", ")),
        };
        return Err(out::stop(
            &a.who,
            "services are shown of a node; this is none",
            help,
        ));
    };
    let mut o = anstream::stdout();
    if a.json {
        writeln!(o, "{}", show::services::json(&s.cluster, node))?;
    } else {
        write!(o, "{}", show::services::text(&s.cluster, node))?;
    }
    Ok(Exit::Clean)
}

/// What of a namespace; none for what is no namespace's.
fn what(a: &ShowArgs) -> anyhow::Result<Option<ShowWhat>> {
    Ok(Some(match a.what {
        What::Services
        | What::Iptables
        | What::Ip6tables
        | What::Nft
        | What::Ipset
        | What::Ipvs
        | What::Conntrack => {
            return Ok(None);
        }
        What::Addr => ShowWhat::Addr,
        What::Link => ShowWhat::Link,
        What::Rule => ShowWhat::Rule,
        What::Neigh => ShowWhat::Neigh,
        What::Fdb => ShowWhat::Fdb,
        What::Bridge => ShowWhat::BridgeLink,
        What::Route => ShowWhat::Route {
            table: match a.table.as_deref() {
                None | Some("main") => RouteTables::Main,
                Some("all") => RouteTables::All,
                Some("local") => RouteTables::One(crate::net::table::LOCAL),
                Some(n) => RouteTables::One(n.parse().map_err(|_| {
                    out::stop(
                        &format!("--table {n}"),
                        "expected a table's number, main, local or all",
                        "",
                    )
                })?),
            },
        },
    }))
}

/// A namespace by any name a person would use: node, pod, host, gateway, switch.
pub fn find<'a>(g: &Global, s: &'a Scenario, who: &str) -> anyhow::Result<&'a NetNs> {
    let world = &s.cluster.lab.world;
    let bare = who.strip_prefix("node/").unwrap_or(who);
    if let Some(n) = world.ns_by_name(bare) {
        return Ok(n);
    }
    let target = trace::target(g, who)?;
    let found = s.namespace(&target).ok().and_then(|id| world.ns(id));
    found.ok_or_else(|| nobody(s, who))
}

/// There is nobody by this name: who is there.
pub fn nobody(s: &Scenario, who: &str) -> anyhow::Error {
    const NAMES: usize = 12;
    let mut names: Vec<&str> = s
        .cluster
        .lab
        .world
        .spaces()
        .iter()
        .map(|n| n.name.as_str())
        .collect();
    let help = match closest(who, names.iter().copied()) {
        Some(name) => format!("did you mean {name}?"),
        None => {
            let more = if names.len() > NAMES { ", ..." } else { "" };
            names.truncate(NAMES);
            format!("there are {}{more}", names.join(", "))
        }
    };
    out::stop(
        who,
        "there is no such node, pod or host with a network here",
        help,
    )
}
