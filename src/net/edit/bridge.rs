//! Bridges: who is a port, and what a bridge takes from its ports (carrier, MAC, MTU).
//!
//! Kernel: `net/bridge/br_if.c`, `br_stp.c`, `br_stp_if.c`. No spanning tree.
//! Invariant: a bridge's own address and its ports' are local entries of its FDB.

use super::{Edit, EditError};
use crate::base::{DevId, Instant};
use crate::net::bridge::{Bridge, BridgePort, FdbEntry};
use crate::net::device::Device;
use crate::wire::MacAddr;

impl Edit<'_> {
    /// A bridge's own address is a local entry of its FDB.
    pub(super) fn own_fdb_entry(&mut self, id: DevId, mac: MacAddr) {
        let Some(b) = self.ns.dev_mut(id).and_then(Device::bridge_mut) else {
            return;
        };
        b.fdb.flush_port(id, true);
        if mac == MacAddr::ZERO {
            return; // kernel: `fdb_add_local` takes valid addresses only
        }
        let e = FdbEntry {
            port: id,
            local: true,
            is_static: true,
            updated: Instant::ZERO,
        };
        b.fdb.put(0, mac, e);
    }

    pub(super) fn port_fdb_entry(&mut self, bridge: DevId, port: DevId, mac: MacAddr) {
        let Some(b) = self.ns.dev_mut(bridge).and_then(Device::bridge_mut) else {
            return;
        };
        b.fdb.flush_port(port, true);
        let e = FdbEntry {
            port,
            local: true,
            is_static: true,
            updated: Instant::ZERO,
        };
        b.fdb.put(0, mac, e);
    }

    /// A bridge follows a port; `lost`: the port went down or lost its carrier, which a bridge that is down
    /// does not hear of (kernel: `br_device_event`, `br_port_carrier_check`).
    pub(super) fn refresh_master(&mut self, port: DevId, lost: bool) {
        let master = self.ns.dev(port).and_then(|d| d.master.as_ref());
        if let Some(bridge) = master.map(|m| m.0) {
            let up = self.ns.dev(bridge).is_some_and(|b| b.up);
            self.refresh_bridge(bridge, lost && up);
        }
    }

    /// A bridge that comes up enables its ports, one that goes down disables them
    /// (kernel: `br_stp_enable_bridge`, `br_stp_disable_bridge`).
    pub(super) fn bridge_switched(&mut self, bridge: DevId, up: bool) {
        let Some(d) = self.ns.dev(bridge) else { return };
        let ports = d.bridge().map(|b| b.ports.as_slice()).unwrap_or_default();
        let live = |p: &DevId| self.ns.dev(*p).is_some_and(Device::is_running);
        if ports.iter().any(live) {
            let _ = self.set_carrier(bridge, up);
        }
    }

    /// Carrier: of any port that runs; without one it is lost with a port, not before, so that a bridge which
    /// never had a live port has it (kernel: `br_port_state_selection`, called when ports are enabled and
    /// disabled and when the bridge's MAC changes). MAC and MTU: the smallest of the ports', none and 1500
    /// without ports, unless set by hand (`br_stp_recalculate_bridge_id`, `br_mtu_auto_adjust`).
    pub(super) fn refresh_bridge(&mut self, bridge: DevId, lost: bool) {
        let Some(d) = self.ns.dev(bridge) else { return };
        let Some(b) = d.bridge() else { return };
        let ports: Vec<&Device> = b.ports.iter().filter_map(|p| self.ns.dev(*p)).collect();
        let live = ports.iter().any(|p| p.is_running());
        let mtu = ports.iter().map(|p| p.mtu).min().unwrap_or(1500);
        let mac = ports.iter().map(|p| p.mac).min().unwrap_or(MacAddr::ZERO);
        let (mtu, mac) = ((!b.mtu_set).then_some(mtu), (!b.mac_set).then_some(mac));
        let mac = mac.filter(|m| *m != d.mac);
        let carrier = live || d.carrier && !lost && mac.is_none();
        if let Some(d) = self.ns.dev_mut(bridge) {
            d.mtu = mtu.unwrap_or(d.mtu);
        }
        if let Some(mac) = mac {
            self.apply_mac(bridge, mac);
        }
        let _ = self.set_carrier(bridge, carrier);
    }

    /// `ip link set DEV master BRIDGE` or `nomaster`.
    pub fn set_master(&mut self, dev: DevId, bridge: Option<DevId>) -> Result<(), EditError> {
        let old = self.known(dev)?.master.as_ref().map(|m| m.0);
        if let Some(old) = old.filter(|o| Some(*o) != bridge) {
            if let Some(b) = self.ns.dev_mut(old).and_then(Device::bridge_mut) {
                b.ports.retain(|p| *p != dev);
                b.fdb.flush_port(dev, true);
            }
            self.known_mut(dev)?.master = None;
            self.refresh_bridge(old, true);
        }
        let Some(bridge) = bridge.filter(|b| Some(*b) != old) else {
            return Ok(());
        };
        let name = self.known(bridge)?.name.clone();
        let b = self
            .known_mut(bridge)?
            .bridge_mut()
            .ok_or(EditError::WrongKind(name, "bridge"))?;
        b.ports.insert(0, dev);
        let d = self.known_mut(dev)?;
        d.master = Some((bridge, BridgePort::default()));
        let mac = d.mac;
        self.port_fdb_entry(bridge, dev, mac);
        self.refresh_bridge(bridge, false);
        Ok(())
    }

    /// The flags of a bridge port, to be changed (`bridge link set`).
    pub fn port(&mut self, dev: DevId) -> Result<&mut BridgePort, EditError> {
        let d = self.known_mut(dev)?;
        let name = d.name.clone();
        d.master
            .as_mut()
            .map(|m| &mut m.1)
            .ok_or(EditError::WrongKind(name, "bridge port"))
    }

    /// The settings of a bridge, to be changed (`ip link set BR type bridge ...`).
    pub fn bridge(&mut self, dev: DevId) -> Result<&mut Bridge, EditError> {
        let d = self.known_mut(dev)?;
        let name = d.name.clone();
        d.bridge_mut().ok_or(EditError::WrongKind(name, "bridge"))
    }

    pub(super) fn apply_mac(&mut self, dev: DevId, mac: MacAddr) {
        if let Some(d) = self.ns.dev_mut(dev) {
            d.mac = mac;
        }
        self.own_fdb_entry(dev, mac);
    }
}
