//! Services and real servers are added, edited, deleted (kernel: ip_vs_ctl.c).
//!
//! Invariant: a real server that goes is kept, not `available`, while a connection refers to it, and is
//! found again when it comes back (kernel: `ip_vs_trash_get_dest`).

use super::service::{Dest, DestId, DestSpec, Service, ServiceSpec, Virtual};
use super::stats::Stats;
use super::{Ipvs, sched};
use crate::base::{Origin, limits};
use core::fmt;

/// Why a change was refused, in ipvsadm's words (libipvs: `ipvs_strerror`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// EEXIST of a service.
    ServiceExists,
    /// ESRCH of a service.
    NoService,
    /// ESRCH of a destination's service.
    ServiceNotDefined,
    /// EEXIST of a destination.
    DestExists,
    /// ENOENT of a destination.
    NoDest,
    /// ERANGE: a weight below 0, or a lower threshold above the upper one.
    Range,
    /// ENOMEM: our own bound.
    Full,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::ServiceExists => "Service already exists",
            Refused::NoService => "No such service",
            Refused::ServiceNotDefined => "Service not defined",
            Refused::DestExists => "Destination already exists",
            Refused::NoDest => "No such destination",
            Refused::Range => "Numerical result out of range",
            Refused::Full => "Cannot allocate memory",
        })
    }
}

impl Ipvs {
    /// `ipvsadm -A`
    pub fn add_service(&mut self, spec: ServiceSpec) -> Result<(), Refused> {
        if self.services.contains_key(&spec.at) {
            return Err(Refused::ServiceExists);
        }
        if self.services.len() >= limits::IPVS_SERVICES_MAX {
            return Err(Refused::Full);
        }
        let at = spec.at;
        let mut svc = Service {
            spec,
            dests: Vec::new(),
            state: Default::default(),
            stats: Stats::default(),
            order_unknown: false,
            origin: Origin::Kernel,
        };
        sched::init(&mut svc, &self.dests);
        self.services.insert(at, svc);
        Ok(())
    }

    /// `ipvsadm -E`
    pub fn edit_service(&mut self, spec: ServiceSpec) -> Result<(), Refused> {
        let svc = self.services.get_mut(&spec.at).ok_or(Refused::NoService)?;
        let other = svc.spec.sched != spec.sched;
        svc.spec = spec;
        if other {
            sched::init(svc, &self.dests);
        }
        Ok(())
    }

    /// `ipvsadm -D`
    pub fn del_service(&mut self, at: &Virtual) -> Result<(), Refused> {
        let svc = self.services.remove(at).ok_or(Refused::NoService)?;
        svc.dests.iter().for_each(|id| self.retire(*id));
        Ok(())
    }

    /// `ipvsadm -C`
    pub fn flush(&mut self) {
        for (_, svc) in core::mem::take(&mut self.services) {
            svc.dests.iter().for_each(|id| self.retire(*id));
        }
    }

    /// `ipvsadm -Z`, of one service or all.
    pub fn zero(&mut self, at: Option<&Virtual>) -> Result<(), Refused> {
        if at.is_some_and(|at| !self.services.contains_key(at)) {
            return Err(Refused::NoService);
        }
        let chosen = |v: &Virtual| at.is_none_or(|at| at == v);
        for (_, svc) in self.services.iter_mut().filter(|(v, _)| chosen(v)) {
            svc.stats.zero();
            for id in &svc.dests {
                if let Some(d) = self.dests.get_mut(id) {
                    d.stats.zero();
                }
            }
        }
        if at.is_none() {
            self.total.zero();
        }
        Ok(())
    }

    /// `ipvsadm -a`: the new destination becomes the first (`list_add_rcu`).
    pub fn add_dest(&mut self, at: &Virtual, spec: DestSpec) -> Result<DestId, Refused> {
        in_range(&spec)?;
        if self.find_dest(at, &spec)?.is_some() {
            return Err(Refused::DestExists);
        }
        let trashed = self.dests.iter().find(|(_, d)| {
            !d.available && d.of == *at && (d.spec.ip, d.spec.port) == (spec.ip, spec.port)
        });
        let id = match trashed.map(|(id, _)| *id) {
            Some(id) => id,
            None if self.dests.len() >= limits::IPVS_DESTS_MAX => return Err(Refused::Full),
            None => self.new_dest(at, spec),
        };
        if let Some(d) = self.dests.get_mut(&id) {
            d.available = true;
            d.last_weight = spec.weight;
            update(d, spec);
        }
        if let Some(svc) = self.services.get_mut(at) {
            svc.dests.insert(0, id);
            sched::changed(svc, &self.dests);
        }
        Ok(id)
    }

    fn new_dest(&mut self, at: &Virtual, spec: DestSpec) -> DestId {
        let id = DestId(self.next_dest);
        self.next_dest += 1;
        let dest = Dest {
            spec,
            of: *at,
            last_weight: spec.weight,
            active: 0,
            inactive: 0,
            persistent: 0,
            available: false,
            overload: false,
            stats: Stats::default(),
            refs: 0,
        };
        self.dests.insert(id, dest);
        id
    }

    /// `ipvsadm -e`
    pub fn edit_dest(&mut self, at: &Virtual, spec: DestSpec) -> Result<(), Refused> {
        in_range(&spec)?;
        let id = self.find_dest(at, &spec)?.ok_or(Refused::NoDest)?;
        if let Some(d) = self.dests.get_mut(&id) {
            if spec.weight != 0 {
                d.last_weight = spec.weight;
            }
            update(d, spec);
        }
        if let Some(svc) = self.services.get_mut(at) {
            sched::changed(svc, &self.dests);
        }
        Ok(())
    }

    /// `ipvsadm -d`; of `spec` only address and port count.
    pub fn del_dest(&mut self, at: &Virtual, spec: &DestSpec) -> Result<(), Refused> {
        let id = self.find_dest(at, spec)?.ok_or(Refused::NoDest)?;
        if let Some(svc) = self.services.get_mut(at) {
            sched::leaving(svc, id);
            svc.dests.retain(|d| *d != id);
            sched::changed(svc, &self.dests);
        }
        self.retire(id);
        Ok(())
    }

    /// Says that a service's list came from a listing, whose order is not the kernel's.
    pub fn order_unknown(&mut self, at: &Virtual) {
        if let Some(svc) = self.services.get_mut(at) {
            svc.order_unknown = svc.dests.len() > 1;
        }
    }

    /// Says who made a service, and from what.
    pub fn set_origin(&mut self, at: &Virtual, origin: Origin) {
        if let Some(svc) = self.services.get_mut(at) {
            svc.origin = origin;
        }
    }

    fn find_dest(&self, at: &Virtual, spec: &DestSpec) -> Result<Option<DestId>, Refused> {
        let svc = self.services.get(at).ok_or(Refused::ServiceNotDefined)?;
        let is = |id: &&DestId| {
            let d = self.dests.get(id);
            d.is_some_and(|d| (d.spec.ip, d.spec.port) == (spec.ip, spec.port))
        };
        Ok(svc.dests.iter().find(is).copied())
    }

    fn retire(&mut self, id: DestId) {
        if let Some(d) = self.dests.get_mut(&id) {
            d.available = false;
            if d.refs == 0 {
                self.dests.remove(&id);
            }
        }
    }
}

fn in_range(spec: &DestSpec) -> Result<(), Refused> {
    match spec.weight < 0 || spec.lower > spec.upper {
        true => Err(Refused::Range),
        false => Ok(()),
    }
}

/// `__ip_vs_update_dest`
fn update(d: &mut Dest, spec: DestSpec) {
    if spec.upper == 0 || spec.upper > d.spec.upper {
        d.overload = false;
    }
    d.spec = spec;
}
