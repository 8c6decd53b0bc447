//! Configuration of a namespace: what `ip`, `bridge` and `sysctl -w` do, with the kernel's side effects
//! (connected routes, link-local addresses, a bridge's own MAC and MTU, flushes when a link goes down).
//!
//! The only way to change configuration; dropping the guard makes a new epoch.
//! Text commands are parsed elsewhere (`import::ipcmd`); here are their effects.

mod addr;
mod bridge;
mod l2;
mod route;
mod sysctl;

use crate::base::{DevId, Origin};
use crate::net::device::{DevStats, Device, DeviceKind, PortAt};
use crate::net::fib::FibEditError;
use crate::net::netns::NetNs;
use crate::net::sysctl::SysctlError;
use crate::nf::nat::masquerade;
use crate::wire::MacAddr;
use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// A device to be made.
#[derive(Clone, Debug)]
pub struct LinkSpec {
    /// Its name, at most 15 bytes.
    pub name: String,
    /// What it is.
    pub kind: DeviceKind,
    /// Link address.
    pub mac: MacAddr,
    /// MTU; the kind's default when `None`.
    pub mtu: Option<u32>,
    /// Who makes it.
    pub origin: Origin,
}

/// Why a change was refused; the words are the kernel's or `ip`'s.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EditError {
    /// A device of that name is there.
    #[error("device {0:?}: File exists")]
    LinkExists(String),
    /// There is no such device.
    #[error("Cannot find device {0:?}")]
    NoDevice(String),
    /// The name is empty or longer than 15 bytes.
    #[error("{0:?} is not a valid device name (1 to 15 bytes, no slash or space)")]
    BadName(String),
    /// The MTU is outside what the kind permits.
    #[error("mtu {0} is out of range for this device")]
    BadMtu(u32),
    /// The address is there.
    #[error("address {0}: File exists")]
    AddrExists(IpNetwork),
    /// The address is not there.
    #[error("address {0}: Cannot assign requested address")]
    NoAddr(IpNetwork),
    /// The device is not of the kind the change needs.
    #[error("{0:?} is not a {1}")]
    WrongKind(String, &'static str),
    /// A route or rule change was refused.
    #[error(transparent)]
    Fib(#[from] FibEditError),
    /// The entry is not there.
    #[error("No such file or directory")]
    Missing,
    /// A sysctl was refused.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
}

/// A namespace open for configuration.
pub struct Edit<'a> {
    ns: &'a mut NetNs,
}

impl Drop for Edit<'_> {
    fn drop(&mut self) {
        self.ns.epoch += 1;
    }
}

impl Edit<'_> {
    /// Netfilter, made on first use.
    pub fn netfilter(&mut self) -> &mut crate::nf::Netfilter {
        self.ns.nf_mut()
    }

    /// IPVS, made on first use.
    pub fn ipvs_change<R>(&mut self, change: impl FnOnce(&mut crate::ipvs::Ipvs) -> R) -> R {
        self.ns.ipvs_change(change)
    }
}

impl std::ops::Deref for Edit<'_> {
    type Target = NetNs;
    fn deref(&self) -> &NetNs {
        self.ns
    }
}

impl<'a> Edit<'a> {
    pub(crate) fn new(ns: &'a mut NetNs) -> Self {
        Edit { ns }
    }

    pub(crate) fn add_loopback(&mut self) {
        let id = self.push_device(
            "lo",
            DeviceKind::Loopback,
            MacAddr::ZERO,
            65_536,
            Origin::Kernel,
        );
        if let Some(d) = self.ns.dev_mut(id) {
            d.carrier = true;
        }
    }

    fn push_device(
        &mut self,
        name: &str,
        kind: DeviceKind,
        mac: MacAddr,
        mtu: u32,
        origin: Origin,
    ) -> DevId {
        let id = DevId(self.ns.devices.len() as u32 + 1);
        let carrier = !matches!(kind, DeviceKind::Veth);
        self.ns.devices.push(Some(Device {
            id,
            name: name.to_owned(),
            mac,
            mtu,
            up: false,
            carrier,
            promisc: false,
            kind,
            master: None,
            peer: None,
            addrs: Vec::new(),
            conf4: self.ns.sysctl.default4,
            conf6: self.ns.sysctl.default6,
            parms4: self.ns.sysctl.neigh4,
            parms6: self.ns.sysctl.neigh6,
            stats: DevStats::default(),
            origin,
        }));
        id
    }

    fn known(&self, dev: DevId) -> Result<&Device, EditError> {
        self.ns
            .dev(dev)
            .ok_or_else(|| EditError::NoDevice(format!("#{}", dev.0)))
    }

    fn known_mut(&mut self, dev: DevId) -> Result<&mut Device, EditError> {
        self.ns
            .dev_mut(dev)
            .ok_or_else(|| EditError::NoDevice(format!("#{}", dev.0)))
    }

    /// The device of that name.
    pub fn find(&self, name: &str) -> Result<DevId, EditError> {
        self.ns
            .dev_by_name(name)
            .map(|d| d.id)
            .ok_or_else(|| EditError::NoDevice(name.to_owned()))
    }

    /// `ip link add`. The device is down.
    pub fn link_add(&mut self, spec: LinkSpec) -> Result<DevId, EditError> {
        let n = &spec.name;
        if n.is_empty() || n.len() > 15 || n.contains(['/', ' ']) || n == "." || n == ".." {
            return Err(EditError::BadName(spec.name));
        }
        if self.ns.dev_by_name(n).is_some() {
            return Err(EditError::LinkExists(spec.name));
        }
        let default = match &spec.kind {
            DeviceKind::Loopback => 65_536,
            DeviceKind::Vxlan(v) => {
                v.lower.and_then(|l| self.ns.dev(l)).map_or(1500, |l| l.mtu) - 50
            }
            DeviceKind::Ipip(_) => 1480,
            _ => 1500,
        };
        let mtu = spec.mtu.unwrap_or(default);
        let id = self.push_device(&spec.name, spec.kind, spec.mac, default, spec.origin);
        self.own_fdb_entry(id, spec.mac);
        if spec.mtu.is_some() {
            self.set_mtu(id, mtu).inspect_err(|_| {
                self.ns.devices.pop();
            })?;
            // Given at creation it is not set by hand: `rtnl_create_link` does not call `br_change_mtu`.
            if let Some(b) = self.ns.dev_mut(id).and_then(Device::bridge_mut) {
                b.mtu_set = false;
            }
        }
        Ok(id)
    }

    /// `ip link del`.
    pub fn link_del(&mut self, dev: DevId) -> Result<(), EditError> {
        self.known(dev)?;
        self.set_up(dev, false)?;
        self.set_master(dev, None)?;
        let ports: Vec<DevId> = self
            .known(dev)?
            .bridge()
            .map(|b| b.ports.clone())
            .unwrap_or_default();
        for p in ports {
            self.set_master(p, None)?;
        }
        self.ns.neigh.forget(dev, None);
        self.ns
            .fib
            .retain(&|_, r| !r.nexthops.iter().any(|n| n.dev == Some(dev)));
        if let Some(slot) = self.ns.devices.get_mut(dev.0 as usize - 1) {
            *slot = None;
        }
        Ok(())
    }

    /// `ip link set DEV up|down`, with the routes and addresses that come and go with it.
    pub fn set_up(&mut self, dev: DevId, up: bool) -> Result<(), EditError> {
        let d = self.known_mut(dev)?;
        if d.up == up {
            return Ok(());
        }
        d.up = up;
        let lo = matches!(d.kind, DeviceKind::Loopback);
        if up {
            if lo {
                self.loopback_addresses(dev)?;
            }
            let addrs = self.known(dev)?.addrs.clone();
            addrs.iter().for_each(|a| self.connected_routes(dev, a));
            self.came_up(dev);
        } else {
            self.went_down(dev);
            if let Some(nf) = self.ns.nf.as_deref_mut() {
                masquerade::device_down(&mut nf.ct, dev);
            }
        }
        self.bridge_switched(dev, up);
        self.refresh_master(dev, !up);
        Ok(())
    }

    /// Whether the other end is there: set by whoever knows both ends.
    pub fn set_carrier(&mut self, dev: DevId, carrier: bool) -> Result<(), EditError> {
        let d = self.known_mut(dev)?;
        if d.carrier != carrier {
            d.carrier = carrier;
            if carrier {
                self.came_up(dev);
            } else {
                // kernel: neigh_carrier_down
                self.ns.neigh.flush(dev);
            }
            self.refresh_master(dev, !carrier);
        }
        Ok(())
    }

    /// Tells a device where its cable ends.
    pub fn set_peer(&mut self, dev: DevId, peer: Option<PortAt>) -> Result<(), EditError> {
        self.known_mut(dev)?.peer = peer;
        Ok(())
    }

    /// `ip link set DEV name NAME`.
    pub fn rename(&mut self, dev: DevId, name: &str) -> Result<(), EditError> {
        if self.ns.dev_by_name(name).is_some() {
            return Err(EditError::LinkExists(name.to_owned()));
        }
        self.known_mut(dev)?.name = name.to_owned();
        Ok(())
    }

    /// `ip link set DEV promisc on|off`.
    pub fn set_promisc(&mut self, dev: DevId, on: bool) -> Result<(), EditError> {
        self.known_mut(dev)?.promisc = on;
        Ok(())
    }

    /// `ip link set DEV mtu N`. A VXLAN device cannot exceed its lower device less 50 (IPv4) or 70 bytes.
    pub fn set_mtu(&mut self, dev: DevId, mtu: u32) -> Result<(), EditError> {
        let d = self.known(dev)?;
        let max = match &d.kind {
            DeviceKind::Vxlan(v) => {
                let over = if matches!(v.local, Some(IpAddr::V6(_))) {
                    70
                } else {
                    50
                };
                v.lower
                    .and_then(|l| self.ns.dev(l))
                    .map_or(65_535, |l| l.mtu)
                    - over
            }
            DeviceKind::Ipip(_) => 65_535 - 20,
            DeviceKind::Loopback => u32::MAX,
            _ => 65_535,
        };
        if mtu < 68 || mtu > max {
            return Err(EditError::BadMtu(mtu));
        }
        let d = self.known_mut(dev)?;
        d.mtu = mtu;
        if let Some(b) = d.bridge_mut() {
            b.mtu_set = true;
        }
        self.refresh_master(dev, false);
        Ok(())
    }

    /// `ip link set DEV address MAC`.
    pub fn set_mac(&mut self, dev: DevId, mac: MacAddr) -> Result<(), EditError> {
        let other = self.known(dev)?.mac != mac;
        self.apply_mac(dev, mac);
        let d = self.known_mut(dev)?;
        if let Some(b) = d.bridge_mut() {
            b.mac_set = true;
            self.refresh_bridge(dev, other);
        }
        if let Some((master, _)) = self.known(dev)?.master.clone() {
            self.port_fdb_entry(master, dev, mac);
            self.refresh_bridge(master, false);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{NodeId, NsId};
    use crate::net::addr::IfAddr;
    use crate::net::fib::{AddMode, Route, table};

    fn ns() -> NetNs {
        NetNs::new(NsId(0), "n1", NodeId(0))
    }

    fn spec(name: &str, kind: DeviceKind) -> LinkSpec {
        LinkSpec {
            name: name.into(),
            kind,
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            mtu: None,
            origin: Origin::Kernel,
        }
    }

    #[test]
    fn an_address_brings_its_routes_and_takes_them_away() {
        let mut ns = ns();
        let before = ns.epoch();
        let mut e = ns.edit();
        let d = e.link_add(spec("eth0", DeviceKind::Uplink)).unwrap();
        let a: IpNetwork = "10.0.0.5/24".parse().unwrap();
        e.addr_add(d, IfAddr::new(a, Origin::Kernel)).unwrap();
        assert!(
            e.route_output(None, "10.0.0.9".parse().unwrap(), None, 0, 0)
                .is_err(),
            "down: no subnet route"
        );
        e.set_up(d, true).unwrap();
        let f = e
            .route_output(None, "10.0.0.9".parse().unwrap(), None, 0, 0)
            .unwrap();
        assert_eq!(
            e.source_for(&f, "10.0.0.9".parse().unwrap()),
            Some("10.0.0.5".parse().unwrap())
        );
        assert!(e.is_local("10.0.0.5".parse().unwrap()));
        let via = Route::unicast(
            "0.0.0.0/0".parse().unwrap(),
            Some("10.0.0.1".parse().unwrap()),
            None,
            Origin::Kernel,
        );
        e.route_add(table::MAIN, via.clone(), AddMode::New).unwrap();
        assert_eq!(
            e.route_add(table::MAIN, via, AddMode::New),
            Err(FibEditError::Exists.into())
        );
        let bad = Route::unicast(
            "1.0.0.0/8".parse().unwrap(),
            Some("9.9.9.9".parse().unwrap()),
            None,
            Origin::Kernel,
        );
        assert_eq!(
            e.route_add(table::MAIN, bad, AddMode::New),
            Err(FibEditError::BadGateway.into())
        );
        e.addr_del(d, a).unwrap();
        assert!(!e.is_local("10.0.0.5".parse().unwrap()));
        drop(e);
        assert!(ns.epoch() > before);
    }

    #[test]
    fn a_bridge_follows_its_ports_until_set_by_hand() {
        let mut ns = ns();
        let mut e = ns.edit();
        let br = e
            .link_add(spec("cni0", DeviceKind::Bridge(Box::default())))
            .unwrap();
        let v = e
            .link_add(LinkSpec {
                mtu: Some(1400),
                mac: MacAddr([1, 2, 3, 4, 5, 6]),
                ..spec("veth1", DeviceKind::Veth)
            })
            .unwrap();
        e.set_master(v, Some(br)).unwrap();
        assert_eq!(
            (e.dev(br).unwrap().mtu, e.dev(br).unwrap().mac),
            (1400, MacAddr([1, 2, 3, 4, 5, 6]))
        );
        e.set_mtu(br, 1300).unwrap();
        e.set_mtu(v, 1200).unwrap();
        assert_eq!(e.dev(br).unwrap().mtu, 1300);
    }

    /// Checked against a kernel, 6.18.
    #[test]
    fn a_bridge_without_ports() {
        let mut ns = ns();
        let mut e = ns.edit();
        let bridge = |mtu| LinkSpec {
            mtu,
            ..spec("br0", DeviceKind::Bridge(Box::default()))
        };
        let br = e.link_add(bridge(Some(1400))).unwrap();
        e.set_up(br, true).unwrap();
        assert!(e.dev(br).unwrap().carrier, "nobody has decided yet");
        let port = LinkSpec {
            mac: MacAddr([2, 0, 0, 0, 0, 9]),
            ..spec("v0", DeviceKind::Veth)
        };
        let v = e.link_add(port).unwrap();
        e.set_master(v, Some(br)).unwrap();
        let d = e.dev(br).unwrap();
        assert_eq!((d.carrier, d.mtu), (false, 1500), "its MAC changed");
        e.set_up(v, true).unwrap();
        e.set_carrier(v, true).unwrap();
        assert!(e.dev(br).unwrap().carrier);
        assert!(e.dev(v).unwrap().link_local().is_some(), "ports too");
        e.link_del(v).unwrap();
        let d = e.dev(br).unwrap();
        assert_eq!((d.carrier, d.mtu, d.mac), (false, 1500, MacAddr::ZERO));
    }

    #[test]
    fn what_goes_with_addresses() {
        let mut ns = ns();
        let mut e = ns.edit();
        let [a, b] = ["a", "b"].map(|n| e.link_add(spec(n, DeviceKind::Uplink)).unwrap());
        for d in [a, b] {
            e.set_up(d, true).unwrap();
        }
        let add = |e: &mut Edit<'_>, d, net: &str| {
            let addr = IfAddr::new(net.parse().unwrap(), Origin::Kernel);
            e.addr_add(d, addr).unwrap();
        };
        add(&mut e, a, "10.0.0.1/24");
        add(&mut e, a, "10.0.0.7/24");
        add(&mut e, b, "10.0.0.1/32");
        let text = |e: &Edit<'_>, want: &str| {
            let t = e.fib().table(table::LOCAL).unwrap();
            let all = t.routes(want.starts_with("10")).into_iter();
            let lines = all.map(|r| crate::net::text::route_text(e, r));
            lines.filter(|l| l.contains(want)).collect::<Vec<_>>()
        };
        let locals = text(&e, "10.0.0.1 dev");
        assert_eq!(locals.len(), 2, "{locals:?}");
        assert!(text(&e, "10.0.0.7")[0].ends_with("src 10.0.0.1"));
        let ip = "10.0.0.9".parse().unwrap();
        let mac = MacAddr([2; 6]);
        let permanent = crate::net::NudState::Permanent;
        e.neigh_set(a, ip, mac, permanent, Origin::Kernel).unwrap();
        e.addr_del(a, "10.0.0.1/24".parse().unwrap()).unwrap();
        assert!(
            e.neigh().get(a, ip).is_none(),
            "the last address took it along"
        );
        assert_eq!(text(&e, "10.").len(), 1, "b's is left");
        add(&mut e, a, "fd00::1/64");
        let anycast = |e: &Edit<'_>| text(e, "anycast").len();
        assert_eq!(anycast(&e), 0);
        e.sysctl_set("net.ipv6.conf.all.forwarding", "1").unwrap();
        assert_eq!(anycast(&e), 3, "fe80:: of both, fd00:: of a");
        e.addr_del(a, "fd00::1/64".parse().unwrap()).unwrap();
        assert_eq!(anycast(&e), 2);
        e.sysctl_set("net.ipv6.conf.all.forwarding", "0").unwrap();
        assert_eq!(anycast(&e), 0);
    }

    #[test]
    fn forwarding_for_all_reaches_every_device_but_rp_filter_does_not() {
        let mut ns = ns();
        let mut e = ns.edit();
        let d = e.link_add(spec("flannel.1", DeviceKind::Dummy)).unwrap();
        e.sysctl_set("net.ipv4.ip_forward", "1").unwrap();
        e.sysctl_set("net.ipv4.conf.all.rp_filter", "1").unwrap();
        assert!(e.forwards(d, true));
        assert_eq!(e.dev(d).unwrap().conf4.rp_filter, 0);
        assert_eq!(e.conf_max(d, |c| c.rp_filter), 1);
        assert!(e.sysctl_set("net.ipv4.conf.nope.rp_filter", "1").is_err());
    }
}
