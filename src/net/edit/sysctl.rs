//! `sysctl -w`, with what a change reaches beyond its own value.
//!
//! Names and values are `net::sysctl`'s.

use super::{Edit, EditError};
use crate::base::DevId;
use crate::net::sysctl::{SetSysctl, SysctlError, SysctlKey, parse_value, set_conf};

impl Edit<'_> {
    /// `sysctl -w KEY=VALUE`.
    pub fn sysctl_set(&mut self, key: &str, value: &str) -> Result<SetSysctl, EditError> {
        let key = key.replace('/', ".");
        let done = match SysctlKey::parse(&key) {
            SysctlKey::Conf(v4, dev, k) => self.set_dev_conf(&key, v4, dev, k, value)?,
            SysctlKey::Neigh(v4, dev, k) => self.set_neigh_parm(&key, v4, dev, k, value)?,
            SysctlKey::Other("net.ipv4.ip_forward") => {
                self.set_dev_conf(&key, true, "all", "forwarding", value)?
            }
            SysctlKey::Other(k) => self.ns.sysctl.set_global(k, value)?,
        };
        Ok(done)
    }

    /// `default` reaches the devices too, as it does while nobody set theirs (kernel:
    /// `neigh_copy_dflt_parms`).
    pub(super) fn set_neigh_parm(
        &mut self,
        key: &str,
        v4: bool,
        dev: &str,
        k: &str,
        value: &str,
    ) -> Result<SetSysctl, EditError> {
        let v = u64::try_from(parse_value(key, value)?).unwrap_or(0);
        let known = if dev == "default" {
            let s = &mut self.ns.sysctl;
            let mut known = if v4 {
                s.neigh4.set(k, v)
            } else {
                s.neigh6.set(k, v)
            };
            for d in self.ns.devices.iter_mut().flatten() {
                known &= if v4 {
                    d.parms4.set(k, v)
                } else {
                    d.parms6.set(k, v)
                };
            }
            known
        } else {
            let id = self.find(&dev.replace('/', "."))?;
            let d = self.known_mut(id)?;
            if v4 {
                d.parms4.set(k, v)
            } else {
                d.parms6.set(k, v)
            }
        };
        if known {
            return Ok(SetSysctl::Done);
        }
        self.ns
            .sysctl
            .other
            .insert(key.to_owned(), value.to_owned());
        Ok(SetSysctl::NotModelled)
    }

    pub(super) fn set_dev_conf(
        &mut self,
        key: &str,
        v4: bool,
        dev: &str,
        k: &str,
        value: &str,
    ) -> Result<SetSysctl, EditError> {
        let v = parse_value(key, value)?;
        let s = &mut self.ns.sysctl;
        let done = match dev {
            "all" => set_conf(&mut s.all4, &mut s.all6, v4, k, v),
            "default" => set_conf(&mut s.default4, &mut s.default6, v4, k, v),
            name => {
                let name = name.replace('/', ".");
                let missing = || SysctlError::NoDevice {
                    key: key.to_owned(),
                    dev: name.clone(),
                };
                let id = self
                    .ns
                    .dev_by_name(&name)
                    .map(|d| d.id)
                    .ok_or_else(missing)?;
                let d = self.known_mut(id)?;
                set_conf(&mut d.conf4, &mut d.conf6, v4, k, v)
            }
        };
        // Writing these to `all` writes them to every device and to `default`
        // (kernel: `inet_forward_change`, `addrconf_forward_change`, `addrconf_disable_change`).
        if dev == "all" && (k == "forwarding" || !v4 && k == "disable_ipv6") {
            let s = &mut self.ns.sysctl;
            set_conf(&mut s.default4, &mut s.default6, v4, k, v);
            for d in self.ns.devices.iter_mut().flatten() {
                set_conf(&mut d.conf4, &mut d.conf6, v4, k, v);
            }
        }
        if done == SetSysctl::NotModelled {
            self.ns
                .sysctl
                .other
                .insert(key.to_owned(), value.to_owned());
        }
        if !v4 && k == "disable_ipv6" {
            self.disable_ipv6_effects(dev, v);
        }
        if !v4 && k == "forwarding" {
            let reached = self.ns.devices().filter(|d| dev == "all" || d.name == dev);
            let ids: Vec<DevId> = reached.map(|d| d.id).collect();
            ids.into_iter().for_each(|id| self.forwarding6_changed(id));
        }
        Ok(done)
    }

    /// Disabling IPv6 takes the addresses away; enabling brings the link-local one back.
    pub(super) fn disable_ipv6_effects(&mut self, dev: &str, v: i32) {
        let ids: Vec<DevId> = self
            .ns
            .devices()
            .filter(|d| dev == "all" || d.name == dev)
            .map(|d| d.id)
            .collect();
        for id in ids {
            if v == 0 {
                self.came_up(id);
                continue;
            }
            if let Some(d) = self.ns.dev_mut(id) {
                d.addrs.retain(|a| a.net.is_ipv4());
            }
            self.ns
                .fib
                .retain(&|_, r| r.dst.is_ipv4() || !r.nexthops.iter().any(|n| n.dev == Some(id)));
        }
    }
}
