//! `podpath reach`'s output: who reaches whom as a table, CSV, JSON, dot, and a heat map in SVG or HTML; of a
//! cluster by policy, of a cluster by policy and by the path, or of a change.
//!
//! [`Shown`] is what there is to show, `Mark` what a cell comes to; each format has a file. Names come from
//! manifests: every writer escapes them. Invariant: same input, same bytes.

mod csv;
mod diff;
mod dot;
mod heat;
mod json;
mod page;
mod style;
mod table;
mod words;

use crate::cluster::reach::{PathCell, Paths};
use crate::kube::policy::reach::{Kind, PortCell, Reach, Seen};

pub use csv::csv;
pub use dot::dot;
pub use heat::svg;
pub use json::json;
pub use page::html;

/// What there is to show.
#[derive(Debug)]
pub struct Shown<'r> {
    /// By policy; of two states for a change.
    pub reach: &'r Reach<'r>,
    /// By the path.
    pub paths: Option<&'r Paths>,
    /// What the cluster is, or what is compared, in words.
    pub title: String,
}

/// The text: a table, or a list of what changes.
pub fn table(shown: &Shown<'_>) -> String {
    match shown.is_change() {
        true => diff::text(shown),
        false => table::text(shown),
    }
}

/// What a cell comes to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Mark {
    /// Nothing was asked.
    Nothing,
    /// Every port is open.
    Open,
    /// Some are.
    Partly,
    /// None is.
    Closed,
    /// A change opens something.
    Opened,
    /// A change closes something.
    Shut,
    /// A change does both.
    Both,
    /// Policies allow it and the path does not.
    Broken,
    /// The path lets pass what policies deny.
    Leak,
    /// The path was not tried.
    Untried,
}

impl Mark {
    pub(super) const ALL: [Mark; 10] = [
        Mark::Open,
        Mark::Partly,
        Mark::Closed,
        Mark::Opened,
        Mark::Shut,
        Mark::Both,
        Mark::Broken,
        Mark::Leak,
        Mark::Untried,
        Mark::Nothing,
    ];

    /// What it means; the second is of a change.
    pub(super) fn meaning(self, change: bool) -> &'static str {
        match (self, change) {
            (Mark::Nothing, _) => "no policy is asked",
            (Mark::Open, false) => "open",
            (Mark::Open, true) => "open as before",
            (Mark::Partly, false) => "some ports or pairs",
            (Mark::Partly, true) => "some open, as before",
            (Mark::Closed, false) => "closed",
            (Mark::Closed, true) => "closed as before",
            (Mark::Opened, _) => "opened",
            (Mark::Shut, _) => "closed now",
            (Mark::Both, _) => "some opened, some closed",
            (Mark::Broken, _) => "allowed, but the path fails",
            (Mark::Leak, _) => "denied, but the path lets it pass",
            (Mark::Untried, _) => "path not tried",
        }
    }

    /// One character for it.
    pub(super) fn sign(self) -> char {
        match self {
            Mark::Nothing => ' ',
            Mark::Open => '✔',
            Mark::Partly => '◐',
            Mark::Closed => '·',
            Mark::Opened => '+',
            Mark::Shut => '−',
            Mark::Both => '±',
            Mark::Broken => '✖',
            Mark::Leak => '!',
            Mark::Untried => '?',
        }
    }
}

impl Shown<'_> {
    /// Whether two states are compared.
    pub(super) fn is_change(&self) -> bool {
        self.reach.states.len() > 1
    }

    /// The state that is shown: the only one, or the one after the change.
    pub(super) fn last(&self) -> usize {
        self.reach.states.len().saturating_sub(1)
    }

    /// What was found on the path of a port of a cell.
    pub(super) fn path(&self, from: usize, to: usize, port: usize) -> Option<&PathCell> {
        self.paths?.cells.get(&(from, to, port))
    }

    /// What a cell comes to.
    pub(super) fn mark(&self, from: usize, to: usize, ports: &[PortCell]) -> Mark {
        if self.is_change() {
            let (mut up, mut down) = (0, 0);
            for port in ports {
                let (opened, closed) = port.change();
                up += opened;
                down += closed;
            }
            match (up, down) {
                (0, 0) => {}
                (_, 0) => return Mark::Opened,
                (0, _) => return Mark::Shut,
                _ => return Mark::Both,
            }
        }
        if self.paths.is_some() && !ports.iter().all(|p| p.pairs == 0) {
            return self.path_mark(from, to, ports.len());
        }
        match Seen::of(ports, self.last()) {
            Seen::Nothing => Mark::Nothing,
            Seen::Open => Mark::Open,
            Seen::Partly => Mark::Partly,
            Seen::Closed => Mark::Closed,
        }
    }

    fn path_mark(&self, from: usize, to: usize, ports: usize) -> Mark {
        let cells: Vec<&PathCell> = (0..ports).filter_map(|p| self.path(from, to, p)).collect();
        let sum = |of: fn(&PathCell) -> u64| cells.iter().map(|c| of(c)).sum::<u64>();
        let (tried, reached) = (sum(|c| c.tried), sum(|c| c.reached));
        let leaks = cells.iter().any(|c| c.differ > 0 && c.reached > c.allowed);
        let breaks = cells.iter().any(|c| c.differ > 0 && c.reached <= c.allowed);
        match (tried, reached) {
            (0, _) => Mark::Untried,
            _ if breaks || sum(|c| c.mtu) > 0 => Mark::Broken,
            _ if leaks => Mark::Leak,
            (_, 0) => Mark::Closed,
            (tried, reached) if tried == reached => Mark::Open,
            _ => Mark::Partly,
        }
    }

    /// `1 pod`, `3 nodes`...: what a group's ends are.
    pub(super) fn ends(&self, group: usize) -> String {
        let Some(g) = self.reach.groups.get(group) else {
            return String::new();
        };
        let plural = |one: &str| match g.count {
            1 => format!("1 {one}"),
            n => format!("{n} {one}s"),
        };
        match g.kind {
            Kind::Pods => plural("pod"),
            Kind::Nodes if g.host_pods.is_empty() => plural("node"),
            Kind::Nodes => format!("{} with {} hostNetwork", plural("node"), g.host_pods.len()),
            Kind::Outside => "addresses".into(),
            Kind::Service => "Service".into(),
        }
    }

    /// What the whole comes to, in a line.
    pub(super) fn summary(&self) -> String {
        let r = self.reach;
        let mut kinds = [0_usize; 4];
        for group in &r.groups {
            if let Some(count) = kinds.get_mut(group.kind as usize) {
                *count += 1;
            }
        }
        let [classes, nodes, outside, services] = kinds;
        let many = |n: u64, one: &str, more: &str| match n {
            1 => format!("1 {one}"),
            n => format!("{n} {more}"),
        };
        let of = |n: usize, one: &str, more: &str| many(n as u64, one, more);
        let mut parts = vec![format!(
            "{} in {}",
            many(r.pods(), "pod", "pods"),
            of(classes, "class", "classes")
        )];
        if nodes > 0 {
            let on = r.groups.iter().filter(|g| g.kind == Kind::Nodes);
            let count: u64 = on.map(|g| g.count).sum();
            parts.push(format!("{} in {nodes}", many(count, "node", "nodes")));
        }
        if outside > 0 {
            parts.push(format!("addresses outside in {outside}"));
        }
        if services > 0 {
            parts.push(of(services, "Service", "Services"));
        }
        format!("{}, {}", r.family.name(), parts.join(", "))
    }

    /// What was left out; empty when nothing was.
    pub(super) fn left(&self) -> String {
        let left = self.reach.left;
        let mut out = Vec::new();
        let pods = |n: usize| if n == 1 { "1 pod has" } else { "pods have" }.to_owned();
        for (n, what) in [
            (
                left.no_address,
                format!("no {} address", self.reach.family.name()),
            ),
            (left.finished, "ended".into()),
        ] {
            match n {
                0 => {}
                1 => out.push(format!("{} {what}", pods(1))),
                n => out.push(format!("{n} {} {what}", pods(n))),
            }
        }
        if left.outside > 0 {
            out.push(format!("{} more ranges outside", left.outside));
        }
        match out.is_empty() {
            true => String::new(),
            false => format!("not shown: {}", out.join(", ")),
        }
    }
}
