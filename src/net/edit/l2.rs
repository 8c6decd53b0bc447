//! `ip neigh` and `bridge fdb`.
//!
//! What is learned from traffic does not come here: that is the walk's, and makes no new epoch.

use super::{Edit, EditError};
use crate::base::{DevId, Instant, Origin};
use crate::net::bridge::FdbEntry;
use crate::net::device::{DeviceKind, VxlanDst};
use crate::net::neigh::NudState;
use crate::wire::MacAddr;
use std::net::IpAddr;

impl Edit<'_> {
    /// `ip neigh replace ... nud STATE`.
    pub fn neigh_set(
        &mut self,
        dev: DevId,
        ip: IpAddr,
        mac: MacAddr,
        state: NudState,
        origin: Origin,
    ) -> Result<(), EditError> {
        self.known(dev)?;
        self.ns
            .neigh
            .put(dev, ip, state, mac, Instant::ZERO, origin);
        Ok(())
    }

    /// `ip neigh del`.
    pub fn neigh_del(&mut self, dev: DevId, ip: IpAddr) -> Result<(), EditError> {
        self.ns
            .neigh
            .remove(dev, ip)
            .map(|_| ())
            .ok_or(EditError::Missing)
    }

    /// `ip neigh flush dev DEV`: all but permanent entries.
    pub fn neigh_flush(&mut self, dev: DevId) {
        self.ns.neigh.flush(dev);
    }

    /// `ip neigh add proxy`.
    pub fn proxy_add(&mut self, dev: DevId, ip: IpAddr, origin: Origin) -> Result<(), EditError> {
        self.known(dev)?;
        self.ns.neigh.add_proxy(dev, ip, origin);
        Ok(())
    }

    /// `ip neigh del proxy`.
    pub fn proxy_del(&mut self, dev: DevId, ip: IpAddr) -> Result<(), EditError> {
        if self.ns.neigh.del_proxy(dev, ip) {
            Ok(())
        } else {
            Err(EditError::Missing)
        }
    }

    /// `bridge fdb add|replace MAC dev PORT master [static]`, or of the bridge itself (`self`, local).
    pub fn fdb_set(
        &mut self,
        port: DevId,
        vlan: u16,
        mac: MacAddr,
        is_static: bool,
        now: Instant,
    ) -> Result<(), EditError> {
        let d = self.known(port)?;
        let (bridge, local) = match &d.master {
            Some((b, _)) => (*b, false),
            None if d.bridge().is_some() => (port, true),
            None => return Err(EditError::WrongKind(d.name.clone(), "bridge port")),
        };
        self.bridge(bridge)?.fdb.put(
            vlan,
            mac,
            FdbEntry {
                port,
                local,
                is_static,
                updated: now,
            },
        );
        Ok(())
    }

    /// `bridge fdb del MAC dev PORT master`.
    pub fn fdb_del(&mut self, port: DevId, vlan: u16, mac: MacAddr) -> Result<(), EditError> {
        let d = self.known(port)?;
        let bridge = d.master.as_ref().map_or(port, |m| m.0);
        if self.bridge(bridge)?.fdb.remove(vlan, mac) {
            Ok(())
        } else {
            Err(EditError::Missing)
        }
    }

    /// `bridge fdb append MAC dev VXLAN dst IP`.
    pub fn vxlan_fdb_add(
        &mut self,
        dev: DevId,
        mac: MacAddr,
        ip: IpAddr,
        replace: bool,
    ) -> Result<(), EditError> {
        let d = self.known_mut(dev)?;
        let name = d.name.clone();
        let DeviceKind::Vxlan(v) = &mut d.kind else {
            return Err(EditError::WrongKind(name, "vxlan"));
        };
        let list = v.fdb.entry(mac).or_default();
        if replace {
            list.clear();
        }
        if !list.iter().any(|e| e.ip == ip) {
            list.push(VxlanDst { ip, learned: None });
        }
        Ok(())
    }

    /// `bridge fdb del MAC dev VXLAN [dst IP]`.
    pub fn vxlan_fdb_del(
        &mut self,
        dev: DevId,
        mac: MacAddr,
        ip: Option<IpAddr>,
    ) -> Result<(), EditError> {
        let d = self.known_mut(dev)?;
        let name = d.name.clone();
        let DeviceKind::Vxlan(v) = &mut d.kind else {
            return Err(EditError::WrongKind(name, "vxlan"));
        };
        let list = v.fdb.get_mut(&mac).ok_or(EditError::Missing)?;
        let before = list.len();
        list.retain(|e| ip.is_some_and(|i| e.ip != i));
        let gone = list.len() < before;
        if list.is_empty() {
            v.fdb.remove(&mac);
        }
        if gone {
            Ok(())
        } else {
            Err(EditError::Missing)
        }
    }
}
