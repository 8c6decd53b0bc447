//! Ranges that numbers are taken from: a low band that dynamic allocation leaves for people as long as it
//! can, and the rest.
//!
//! kubernetes `pkg/registry/core/service/allocator/bitmap.go` (randomScanStrategyWithOffset),
//! `ipallocator/ipallocator.go` and `portallocator/allocator.go` (calculateRangeOffset; KEP 3070, KEP 3668).
//! A draw begins at a random place of the upper band and goes on to the next free number; only when the
//! upper band is full, the lower one is used. Invariant: a number is given once.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::base::Rng;
use crate::kube::store::Name;

/// A range of offsets.
#[derive(Clone, Debug)]
pub(super) struct Range {
    size: u128,
    band: u128,
    taken: BTreeMap<u128, Name>,
}

impl Range {
    fn new(size: u128, band: u128) -> Self {
        Range {
            size,
            band: if band < size { band } else { 0 },
            taken: BTreeMap::new(),
        }
    }

    /// Reserves an offset; who has it already otherwise.
    fn take(&mut self, offset: u128, who: &Name) -> Result<(), Name> {
        if let Some(owner) = self.taken.get(&offset) {
            return Err(owner.clone());
        }
        self.taken.insert(offset, who.clone());
        Ok(())
    }

    /// A free offset, now taken; none when all are.
    fn next(&mut self, rng: &mut Rng, who: &Name) -> Option<u128> {
        let draw = |rng: &mut Rng, size: u128| {
            u128::from(rng.below(u64::try_from(size).unwrap_or(u64::MAX)))
        };
        let upper = self.size - self.band;
        let start = self.band + draw(rng, upper);
        let found = self
            .free(start, self.size)
            .or_else(|| self.free(self.band, start));
        let found = found.or_else(|| {
            let start = draw(rng, self.band);
            self.free(start, self.band).or_else(|| self.free(0, start))
        })?;
        self.taken.insert(found, who.clone());
        Some(found)
    }

    /// The first free offset of `from..to`.
    fn free(&self, from: u128, to: u128) -> Option<u128> {
        let mut at = from;
        for taken in self
            .taken
            .range(from..to.max(from))
            .map(|(offset, _)| *offset)
        {
            if taken != at {
                break;
            }
            at += 1;
        }
        (at < to).then_some(at)
    }
}

/// Why an address or port cannot be had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// It is in none of the ranges.
    Outside,
    /// Somebody has it.
    Taken(Name),
}

/// The addresses of one Service CIDR: without the network's own and without IPv4's broadcast.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    /// The CIDR.
    pub net: IpNetwork,
    range: Range,
}

impl Addresses {
    /// All of them free. Of a wide IPv6 range the first 2^64 are used.
    pub fn new(net: IpNetwork) -> Self {
        const MIN: u128 = 16;
        const MAX: u128 = 256;
        const STEP: u128 = 16;
        let bits = if net.is_ipv4() { 32 } else { 128 } - u32::from(net.prefix());
        let all = 1_u128 << bits.min(64);
        let unused = if net.is_ipv4() { 2 } else { 1 };
        // calculateRangeOffset: a sixteenth, 16 at least and 256 at most.
        let band = if all <= MIN {
            0
        } else {
            (all / STEP).clamp(MIN, MAX)
        };
        Addresses {
            net,
            range: Range::new(all.saturating_sub(unused), band),
        }
    }

    /// Reserves an address.
    pub fn take(&mut self, ip: IpAddr, who: &Name) -> Result<(), Refused> {
        let offset = number(ip).checked_sub(number(self.net.network()) + 1);
        let inside = ip.is_ipv4() == self.net.is_ipv4();
        let offset = offset.filter(|offset| inside && *offset < self.range.size);
        let offset = offset.ok_or(Refused::Outside)?;
        self.range.take(offset, who).map_err(Refused::Taken)
    }

    /// The `n`-th address of the range, 1 for the first.
    pub fn nth(&self, n: u128) -> Option<IpAddr> {
        (n >= 1 && n <= self.range.size).then(|| address(self.net, n))
    }

    /// A free address, now taken.
    pub fn next(&mut self, rng: &mut Rng, who: &Name) -> Option<IpAddr> {
        let offset = self.range.next(rng, who)?;
        Some(address(self.net, offset + 1))
    }
}

/// The node ports.
#[derive(Clone, Debug)]
pub(super) struct Ports {
    first: u16,
    last: u16,
    range: Range,
}

impl Ports {
    /// All of `first..=last` free.
    pub fn new(first: u16, last: u16) -> Self {
        const MIN: u128 = 16;
        const MAX: u128 = 128;
        const STEP: u128 = 32;
        let size = u128::from(last.saturating_sub(first)) + 1;
        // portallocator calculateRangeOffset: a 32nd, 16 at least and 128 at most: 86 of the usual range.
        let band = if size <= MIN {
            0
        } else {
            (size / STEP).clamp(MIN, MAX)
        };
        Ports {
            first,
            last,
            range: Range::new(size, band),
        }
    }

    /// Reserves a port.
    pub fn take(&mut self, port: u16, who: &Name) -> Result<(), Refused> {
        let offset = port.checked_sub(self.first).filter(|_| port <= self.last);
        let offset = offset.ok_or(Refused::Outside)?;
        self.range
            .take(u128::from(offset), who)
            .map_err(Refused::Taken)
    }

    /// A free port, now taken.
    pub fn next(&mut self, rng: &mut Rng, who: &Name) -> Option<u16> {
        let offset = u16::try_from(self.range.next(rng, who)?).ok()?;
        self.first.checked_add(offset)
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

/// The network's address plus `n`.
pub(super) fn address(net: IpNetwork, n: u128) -> IpAddr {
    match net {
        IpNetwork::V4(net) => {
            let n = u32::try_from(n).unwrap_or(u32::MAX);
            IpAddr::V4(u32::from(net.network()).saturating_add(n).into())
        }
        IpNetwork::V6(net) => IpAddr::V6(u128::from(net.network()).saturating_add(n).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(name: &str) -> Name {
        Name::new("default", name)
    }

    #[test]
    fn dynamic_addresses_leave_the_lower_band_until_the_upper_is_full() {
        // 62 usable, the first 16 are the band.
        let mut all = Addresses::new("10.0.0.0/26".parse().unwrap());
        let mut rng = Rng::new(7);
        let mut last_octets = Vec::new();
        while let Some(IpAddr::V4(ip)) = all.next(&mut rng, &who("a")) {
            last_octets.push(ip.octets()[3]);
        }
        let (upper, lower) = last_octets.split_at(46);
        assert!(upper.iter().all(|o| (17..=62).contains(o)), "{upper:?}");
        assert!(lower.iter().all(|o| (1..=16).contains(o)), "{lower:?}");
        assert_eq!(last_octets.len(), 62);
        last_octets.sort_unstable();
        last_octets.dedup();
        assert_eq!(last_octets.len(), 62);
    }

    #[test]
    fn the_usual_node_ports_have_86_static_ones() {
        let mut ports = Ports::new(30000, 32767);
        let mut rng = Rng::new(1);
        let drawn: Vec<u16> = (0..2682)
            .filter_map(|_| ports.next(&mut rng, &who("a")))
            .collect();
        assert!(drawn.iter().all(|p| *p >= 30086) && drawn.len() == 2682);
        assert!(ports.next(&mut rng, &who("a")).is_some_and(|p| p < 30086));
    }

    #[test]
    fn edges_are_refused() {
        let mut all = Addresses::new("10.96.0.0/12".parse().unwrap());
        for ip in ["10.96.0.0", "10.111.255.255", "10.112.0.1", "fd00::1"] {
            assert_eq!(
                all.take(ip.parse().unwrap(), &who("a")),
                Err(Refused::Outside),
                "{ip}"
            );
        }
        let ip = "10.96.0.1".parse().unwrap();
        assert_eq!((all.nth(1), all.take(ip, &who("a"))), (Some(ip), Ok(())));
        assert_eq!(all.take(ip, &who("b")), Err(Refused::Taken(who("a"))));
        assert_eq!(
            Ports::new(30000, 32767).take(32768, &who("a")),
            Err(Refused::Outside)
        );
        assert!(
            Addresses::new("10.0.0.0/32".parse().unwrap())
                .next(&mut Rng::new(1), &who("a"))
                .is_none()
        );
        let wide = Addresses::new("fd00::/48".parse().unwrap()).next(&mut Rng::new(1), &who("a"));
        assert!(wide.is_some_and(|ip| ip.to_string().starts_with("fd00:")));
    }
}
