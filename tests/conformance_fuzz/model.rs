//! Podpath playing a round: the same router from the same lines, the same frames at the same moments.

use super::conntrack::choice;
use super::net::{CABLES, host_mac, mac};
use super::round::{Backend, LOCAL, Out, Outcome, Round};
use crate::engine;
use podpath::base::{Instant, NsId, Origin, Span};
use podpath::import::ipcmd::{apply, parse};
use podpath::net::{DeviceKind, LinkSpec, PortAt};
use podpath::nf::Family;
use podpath::path::Direction;
use podpath::sim::{Captures, SendOptions, World};
use podpath::wire::{Frame, MacAddr};
use std::time::Duration;

/// Virtual time of the first frame: what interfaces say while they come up is over.
const BEGIN: Instant = Instant::from_secs(1000);

/// What podpath makes of a round.
pub fn play(r: &Round) -> Result<Outcome, String> {
    let mut m = Model::new(r)?;
    m.load(r)?;
    m.run(r)
}

struct Model {
    world: World,
    router: NsId,
    ends: NsId,
    captures: Captures,
}

impl Model {
    fn new(r: &Round) -> Result<Self, String> {
        let mut world = World::new(r.seed ^ r.number);
        let node = world.add_node("router");
        let far = world.add_node("hosts");
        let (router, ends) = (world.add_ns("router", node), world.add_ns("hosts", far));
        let captures = Captures::at([]);
        let mut m = Model {
            world,
            router,
            ends,
            captures,
        };
        for (key, value) in r.shape.sysctls() {
            if !key.contains("bridge") {
                m.line(router, &format!("sysctl -w {key}={value}"))?;
            }
        }
        for key in ["all", "default"] {
            m.line(
                ends,
                &format!("sysctl -w net.ipv6.conf.{key}.disable_ipv6=1"),
            )?;
        }
        let mut far_ends = Vec::new();
        for (i, near) in CABLES.iter().enumerate() {
            let a = m.veth(router, near, None)?;
            let b = m.veth(ends, &format!("e{i}"), Some(&mac(host_mac(i))))?;
            m.world.connect(a, b).map_err(|e| e.to_string())?;
            m.line(ends, &format!("ip link set e{i} up"))?;
            far_ends.push((b.ns, b.dev));
        }
        for l in r.shape.lines() {
            m.line(router, &l)?;
        }
        for (key, value) in r.shape.sysctls() {
            if key.contains("bridge") {
                m.line(router, &format!("sysctl -w {key}={value}"))?;
            }
        }
        m.world.run_until(Instant::from_secs(990), &mut m.captures);
        m.captures = Captures::at(far_ends);
        Ok(m)
    }

    fn veth(&mut self, ns: NsId, name: &str, mac: Option<&str>) -> Result<PortAt, String> {
        let mac: MacAddr = mac
            .unwrap_or("02:00:00:00:00:ff")
            .parse()
            .map_err(|_| "a link address")?;
        let spec = LinkSpec {
            name: name.to_owned(),
            kind: DeviceKind::Veth,
            mac,
            mtu: None,
            origin: Origin::Scenario("round".into()),
        };
        let made = self
            .world
            .edit(ns, |e| e.link_add(spec))
            .ok_or("no namespace")?;
        let dev = made.map_err(|e| e.to_string())?;
        Ok(PortAt { ns, dev })
    }

    fn line(&mut self, ns: NsId, line: &str) -> Result<(), String> {
        let c =
            parse(line, &Span::new("round", 0, 0)).map_err(|e| format!("{line}: {}", e.message))?;
        let (now, origin) = (self.world.now(), Origin::Scenario("round".into()));
        let done = self.world.edit(ns, |e| apply(&c, e, now, &origin));
        match done {
            Some(Ok(_)) => Ok(()),
            Some(Err(e)) => Err(format!("{line}: {e}")),
            None => Err(format!("{line}: no namespace")),
        }
    }

    fn load(&mut self, r: &Round) -> Result<(), String> {
        let (family, backend) = (family(r), backend(r.backend));
        if r.backend == Backend::Legacy {
            // The kernel has a legacy table, and with nat also conntrack, from the moment it was first named.
            for f in [Family::V4, Family::V6] {
                engine::restore(
                    &mut self.world,
                    self.router,
                    f,
                    backend,
                    false,
                    super::EMPTY,
                )?;
            }
        }
        for (k, v) in &r.sysctl {
            self.line(self.router, &format!("sysctl -w {k}={v}"))?;
        }
        if !r.sets.is_empty() {
            engine::restore_sets(&mut self.world, self.router, &r.sets)?;
        }
        if r.nft_first {
            super::nft_model::load(&mut self.world, self.router, &r.nft)?;
        }
        engine::restore(
            &mut self.world,
            self.router,
            family,
            backend,
            false,
            &r.rules,
        )?;
        if !r.nft_first {
            super::nft_model::load(&mut self.world, self.router, &r.nft)?;
        }
        for e in &r.kernel.events {
            if let Some((tuple, choice)) = choice(e) {
                engine::force_next(&mut self.world, self.router, tuple, choice);
            }
        }
        Ok(())
    }

    fn run(mut self, r: &Round) -> Result<Outcome, String> {
        let mut last = 0;
        for s in &r.sent {
            last = s.t_us;
            let t = BEGIN + Duration::from_micros(s.t_us);
            self.world.run_until(t, &mut self.captures);
            if s.at == LOCAL {
                let options = SendOptions {
                    raw: true,
                    ..SendOptions::default()
                };
                // Refused or without a route: both are results.
                let _ = self
                    .world
                    .send_with(self.router, &s.data, options, &mut self.captures);
                continue;
            }
            let dev = format!("e{}", s.at.trim_start_matches('r'));
            let ends = self.world.ns(self.ends).ok_or("no namespace")?;
            let dev = ends.dev_by_name(&dev).ok_or("no such cable")?.id;
            let at = PortAt { ns: self.ends, dev };
            self.world
                .transmit(at, Frame::ethernet(&s.data), &mut self.captures);
        }
        let end = BEGIN + Duration::from_micros(last) + Duration::from_millis(15);
        self.world.run_until(end, &mut self.captures);
        let out = self.frames();
        let (family, backend) = (family(r), backend(r.backend));
        let mut conntrack = Vec::new();
        for v6 in r.families() {
            let family = if *v6 { Family::V6 } else { Family::V4 };
            conntrack.extend(engine::connections(&mut self.world, self.router, family)?);
        }
        Ok(Outcome {
            out,
            save: engine::save(&self.world, self.router, family, backend)?,
            conntrack,
            events: Vec::new(),
            sets: engine::save_sets(&mut self.world, self.router)?,
            nft: super::nft_model::list(&self.world, self.router, &r.nft),
        })
    }

    /// What came out of the router: what the far ends got, cable by cable.
    fn frames(&mut self) -> Vec<Out> {
        let taken = self.captures.take();
        let ends = self.world.ns(self.ends);
        let name = |dev| ends.map_or("", |n| n.dev_name(dev));
        let mut out: Vec<Out> = taken
            .iter()
            .filter(|c| c.dir == Direction::In && super::kernel::wanted(&c.data))
            .map(|c| Out {
                at: name(c.dev).replace('e', "r"),
                data: c.data.to_vec(),
            })
            .collect();
        out.sort_by(|a, b| a.at.cmp(&b.at));
        out
    }
}

fn family(r: &Round) -> Family {
    if r.v6 { Family::V6 } else { Family::V4 }
}

fn backend(b: Backend) -> podpath::nf::Backend {
    match b {
        Backend::Legacy => podpath::nf::Backend::Legacy,
        Backend::Nft => podpath::nf::Backend::Nft,
    }
}
