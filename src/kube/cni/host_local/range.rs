//! Ranges and sets of ranges (host-local backend/allocator/range.go, range_set.go).

use crate::kube::cni::addr::{network, next_ip, parse_cidr, parse_ip_field};
use crate::kube::cni::json::At;
use core::fmt;
use ipnetwork::IpNetwork;
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range as configured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RangeConf {
    subnet: Option<IpNetwork>,
    start: Option<IpAddr>,
    end: Option<IpAddr>,
    gateway: Option<IpAddr>,
}

/// A range ready to allocate from: first and last address, both included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// First.
    pub start: IpAddr,
    /// Last.
    pub end: IpAddr,
    /// Its subnet.
    pub subnet: IpNetwork,
    /// Never given out.
    pub gateway: IpAddr,
}

impl RangeConf {
    /// Reads one.
    pub fn read(at: &At<'_>) -> Result<Self, String> {
        let ip = |k| parse_ip_field(at.string(k)?);
        let subnet = at
            .raw("subnet")
            .map(|_| at.string("subnet").and_then(parse_cidr))
            .transpose()?;
        Ok(RangeConf {
            start: ip("rangeStart")?,
            end: ip("rangeEnd")?,
            subnet,
            gateway: ip("gateway")?,
        })
    }

    /// Whether the old style of configuration, a range in `ipam` itself, was used.
    pub fn has_subnet(&self) -> bool {
        self.subnet.is_some()
    }

    /// Checks and completes the range.
    fn canonicalize(self) -> Result<Range, String> {
        let subnet = self.subnet.ok_or("IP <nil> not v4 nor v6")?;
        let bits = if subnet.is_ipv4() { 32 } else { 128 };
        if subnet.prefix() > bits - 2 {
            return Err(format!("Network {subnet} too small to allocate from"));
        }
        if matches!(subnet.ip(), IpAddr::V6(a) if a.to_ipv4_mapped().is_some()) {
            return Err("IPNet IP and Mask version mismatch".into());
        }
        if subnet.ip() != subnet.network() {
            return Err(format!(
                "Network has host bits set. For a subnet mask of length {} the network address is {}",
                subnet.prefix(),
                subnet.network()
            ));
        }
        let first = next_ip(subnet.ip());
        let gateway = self.gateway.unwrap_or(first);
        let within = |ip: IpAddr, from: Option<IpAddr>| {
            ip.is_ipv4() == subnet.is_ipv4() && subnet.contains(ip) && from.is_none_or(|f| ip >= f)
        };
        // A start is checked against an end that was given, so a reversed pair is blamed on the start.
        let reversed = |s: IpAddr| {
            self.end
                .is_some_and(|e| s > e || e.is_ipv4() != s.is_ipv4())
        };
        if let Some(s) = self.start.filter(|s| !within(*s, None) || reversed(*s)) {
            return Err(format!("RangeStart {s} not in network {subnet}"));
        }
        let start = self.start.unwrap_or(first);
        if let Some(e) = self.end.filter(|e| !within(*e, Some(start))) {
            return Err(format!("RangeEnd {e} not in network {subnet}"));
        }
        Ok(Range {
            start,
            end: self.end.unwrap_or_else(|| last_ip(subnet)),
            subnet: network(subnet),
            gateway,
        })
    }
}

/// The last address of a subnet, IPv4's broadcast excluded.
fn last_ip(subnet: IpNetwork) -> IpAddr {
    match subnet {
        IpNetwork::V4(n) => IpAddr::V4(Ipv4Addr::from(u32::from(n.broadcast()).wrapping_sub(1))),
        IpNetwork::V6(n) => IpAddr::V6(Ipv6Addr::from(u128::from(n.ip()) | !u128::from(n.mask()))),
    }
}

impl Range {
    /// Whether `ip` may come from this range.
    pub fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.subnet.is_ipv4()
            && self.subnet.contains(ip)
            && self.start <= ip
            && ip <= self.end
    }

    fn overlaps(&self, o: &Range) -> bool {
        self.contains(o.start)
            || self.contains(o.end)
            || o.contains(self.start)
            || o.contains(self.end)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.end)
    }
}

/// A set of ranges: one address is taken from each set. Never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RangeSet(Vec<Range>);

impl RangeSet {
    /// Checks the ranges of a set.
    pub fn new(confs: &[RangeConf]) -> Result<Self, String> {
        if confs.is_empty() {
            return Err("empty range set".into());
        }
        let mut set: Vec<Range> = Vec::new();
        for c in confs {
            let r = c.canonicalize()?;
            if set
                .first()
                .is_some_and(|f| f.start.is_ipv4() != r.start.is_ipv4())
            {
                return Err("mixed address families".into());
            }
            set.push(r);
        }
        for (i, a) in set.iter().enumerate() {
            if let Some(b) = set.iter().skip(i + 1).find(|b| a.overlaps(b)) {
                return Err(format!("subnets {a} and {b} overlap"));
            }
        }
        Ok(RangeSet(set))
    }

    /// The ranges in order.
    pub fn ranges(&self) -> &[Range] {
        &self.0
    }

    /// Its family.
    pub fn is_ipv4(&self) -> bool {
        self.0.first().is_some_and(|r| r.start.is_ipv4())
    }

    /// The range an address belongs to, with its place in the set.
    pub fn range_of(&self, ip: IpAddr) -> Option<(usize, &Range)> {
        self.0.iter().enumerate().find(|(_, r)| r.contains(ip))
    }

    /// Whether any address is in both sets.
    pub fn overlaps(&self, o: &RangeSet) -> bool {
        self.0.iter().any(|a| o.0.iter().any(|b| a.overlaps(b)))
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(Range::to_string).collect();
        f.write_str(&all.join(","))
    }
}

/// Reads `[[{"subnet": ...}], ...]` without checking it yet.
pub fn read_sets(sets: &[Value]) -> Result<Vec<Vec<RangeConf>>, String> {
    let mut out = Vec::new();
    for set in sets {
        let Value::Array(ranges) = set else {
            if set.is_null() {
                out.push(Vec::new());
                continue;
            }
            return Err("json: cannot unmarshal object into Go struct field IPAMConfig.ipam.ranges of type \
                        allocator.RangeSet"
                .into());
        };
        out.push(
            ranges
                .iter()
                .map(|r| RangeConf::read(&At::root(r, "allocator.Range")?))
                .collect::<Result<_, _>>()?,
        );
    }
    Ok(out)
}
