//! What MASQUERADE took its address from goes away: its connections go with it.
//!
//! Kernel: the notifiers of nf_nat_masquerade.c. Whoever changes devices and addresses calls these.
//! Invariant: connections that SNAT mapped to the same address stay.

use crate::base::DevId;
use crate::nf::ct::{Conntrack, Dir};
use std::net::IpAddr;

/// A device was set down or deleted: ends the connections masqueraded through it; returns how many
/// (kernel: `masq_device_event`).
pub fn device_down(ct: &mut Conntrack, dev: DevId) -> usize {
    ct.delete(|c| c.masq_dev() == Some(dev))
}

/// An address was taken from a device: ends the connections masqueraded with it; returns how many (kernel:
/// `masq_inet_event`, `masq_inet6_event`).
pub fn address_removed(ct: &mut Conntrack, dev: DevId, ip: IpAddr) -> usize {
    ct.delete(|c| c.masq_dev() == Some(dev) && c.tuple(Dir::Reply).dst == ip)
}
