//! A recording's networks in a world of podpath, every namespace configured.

use crate::build::{self, Line};
use crate::plan;
use crate::recordings::Recording;
use crate::scenario::{self, End};
use crate::topo::Topo;
use podpath::base::{Instant, NsId, Origin, Span};
use podpath::import::ipcmd::{Command, apply, derived_mac, parse};
use podpath::net::{DeviceKind, LinkSpec, PortAt};
use podpath::path::NoTrace;
use podpath::sim::World;
use std::collections::BTreeMap;

/// The world, and what could not be built in it.
pub struct Built {
    pub world: World,
    pub lacks: Vec<String>,
}

/// Builds it: the recorder's commands, then the changes of its steps.
pub fn build(r: &Recording<'_>) -> Built {
    let mut s = scenario::load_scenario(r).expect("scenario.json");
    let trace = scenario::load_trace(r).expect("trace.json");
    let frames = scenario::load_frames(r, &trace).expect("frames");
    // Without its role an endpoint is a node like any other: it gets its addresses and routes too.
    s.netns.values_mut().for_each(|n| n.role.clear());
    let topo = Topo::new(&s, |ns| r.text(&format!("dumps/{ns}/ip-addr.txt")));
    let mut b = Builder {
        world: World::new(1),
        ns: BTreeMap::new(),
        lacks: Vec::new(),
    };
    for n in s.netns.keys() {
        let node = b.world.add_node(n.as_str());
        b.ns.insert(n.clone(), b.world.add_ns(n.as_str(), node));
    }
    b.networks(&topo);
    b.world.run_until(Instant::from_secs(900), &mut NoTrace);
    let plan = plan::make(&topo, &trace, &frames, &|_| None);
    for c in &plan.changes {
        // Rules are no part of what is shown here.
        if let plan::What::Command(command) = &c.what {
            b.command(&c.ns, &format!("{command:?}"), command);
        }
    }
    let at = b.world.now() + std::time::Duration::from_secs(10);
    b.world.run_until(at, &mut NoTrace);
    Built {
        world: b.world,
        lacks: b.lacks,
    }
}

struct Builder {
    world: World,
    ns: BTreeMap<String, NsId>,
    lacks: Vec<String>,
}

impl Builder {
    fn networks(&mut self, topo: &Topo<'_>) {
        let b = build::commands(topo);
        self.lacks.extend(b.lacks);
        b.first.iter().for_each(|l| self.line(l));
        for [x, y] in &b.cables {
            if let (Some(x), Some(y)) = (self.veth(topo, x), self.veth(topo, y)) {
                self.world.connect(x, y).expect("both ends are there");
            }
        }
        b.then.iter().for_each(|l| self.line(l));
    }

    fn veth(&mut self, topo: &Topo<'_>, e: &End) -> Option<PortAt> {
        let named = topo.macs.get(&(e.ns.clone(), e.dev.clone())).copied();
        let spec = LinkSpec {
            name: e.dev.clone(),
            kind: DeviceKind::Veth,
            mac: named.unwrap_or_else(|| derived_mac(&e.ns, &e.dev)),
            mtu: None,
            origin: Origin::Scenario("scenario.json".into()),
        };
        let ns = *self.ns.get(&e.ns)?;
        let dev = self.world.edit(ns, |edit| edit.link_add(spec))?.ok()?;
        Some(PortAt { ns, dev })
    }

    fn line(&mut self, (ns, line): &Line) {
        match parse(line, &Span::new("scenario.json", 0, 0)) {
            Ok(c) => self.command(ns, line, &c),
            Err(e) => self.lacks.push(format!("{ns}: {line}: {}", e.message)),
        }
    }

    fn command(&mut self, ns: &str, text: &str, c: &Command) {
        let Some(id) = self.ns.get(ns).copied() else {
            return self.lacks.push(format!("no namespace {ns}: {text}"));
        };
        let (now, origin) = (self.world.now(), Origin::Scenario(text.into()));
        if let Some(Err(e)) = self.world.edit(id, |e| apply(c, e, now, &origin)) {
            self.lacks.push(format!("{ns}: {text}: {e}"));
        }
    }
}
