//! An element as it is written, and the keys it stands for.
//!
//! libipset parse.c (`ipset_parse_elem` and the parsers of each dimension) and the kernel's `*_uadt`
//! functions, which
//! expand ranges. Does not touch a set. Invariant: at most IPSET_RANGE_MAX keys.

use super::addr;
use super::element::{IfaceName, Key};
use super::header::Header;
use super::kind::{Dim, Kind, Method};
use super::names::{self, PortSpec};
use super::packet::finish;
use super::wrong::Refused;
use crate::base::limits::IPSET_RANGE_MAX;
use crate::nf::Family;
use crate::wire::MacAddr;

/// An address, network or range as written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct AddrSpec {
    from: u128,
    to: Option<u128>,
    prefix: Option<u8>,
}

/// An element as written.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Spec {
    addrs: [Option<AddrSpec>; 2],
    port: Option<PortSpec>,
    pub(super) mac: Option<MacAddr>,
    mark: u32,
    iface: IfaceName,
    physdev: bool,
}

/// Why an element cannot be read (where in the word, what was expected) or is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum NoKeys {
    Expected(usize, String),
    Refused(Refused),
}

impl From<Refused> for NoKeys {
    fn from(why: Refused) -> Self {
        NoKeys::Refused(why)
    }
}

/// Which forms an address may have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// One address.
    Single,
    /// An address, a network or a range; of IPv6 one address.
    Many,
    /// A network or a range; of IPv6 a network.
    Net,
}

fn form(kind: Kind, dim: Dim, second: bool) -> Form {
    match dim {
        Dim::Net => Form::Net,
        _ if second || matches!(kind, Kind::HashIpMac | Kind::BitmapIpMac) => Form::Single,
        _ => Form::Many,
    }
}

fn read_addr(text: &str, family: Family, form: Form) -> Result<AddrSpec, String> {
    let what = || {
        let v6 = family == Family::V6;
        match (form, v6) {
            (Form::Single, false) | (Form::Many, true) | (Form::Single, true) => {
                format!("one {} address", if v6 { "IPv6" } else { "IPv4" })
            }
            (_, false) => "an IPv4 address, a network ADDRESS/PREFIX or a range FROM-TO".to_owned(),
            (_, true) => "an IPv6 address or a network ADDRESS/PREFIX".to_owned(),
        }
    };
    let one = |t| addr::read(family, t);
    let width = addr::width(family);
    if let Some((net, prefix)) = text.split_once('/') {
        let prefix = addr::uint(prefix).and_then(|p| u8::try_from(p).ok());
        let prefix = prefix.filter(|p| *p <= width);
        let host = form == Form::Many && family == Family::V6;
        let prefix = prefix.filter(|p| form != Form::Single && (!host || *p == width));
        let prefix = prefix.ok_or_else(what)?;
        let from = one(net).ok_or_else(what)?;
        return Ok(AddrSpec {
            from,
            to: None,
            prefix: Some(prefix),
        });
    }
    let range = (family == Family::V4 && form != Form::Single)
        .then(|| text.split_once('-'))
        .flatten();
    if let Some((from, to)) = range {
        let (from, to) = one(from).zip(one(to)).ok_or_else(what)?;
        return Ok(AddrSpec {
            from,
            to: Some(to),
            prefix: None,
        });
    }
    let from = one(text).ok_or_else(what)?;
    Ok(AddrSpec {
        from,
        to: None,
        prefix: None,
    })
}

/// ether_aton(3): six bytes of one or two hexadecimal digits.
fn read_mac(text: &str) -> Result<MacAddr, String> {
    let what = || "a link-layer address like 00:11:22:33:44:55".to_owned();
    text.parse().map_err(|_| what())
}

impl Spec {
    /// Reads an element of a set that is no list.
    pub(super) fn read(header: &Header, text: &str) -> Result<Spec, NoKeys> {
        let dims = header.kind.dims();
        let parts: Vec<&str> = text.split(',').collect();
        let optional = usize::from(header.kind == Kind::BitmapIpMac);
        if parts.len() > dims.len() || parts.len() + optional < dims.len() {
            let form: Vec<&str> = dims.iter().map(|d| form_name(*d)).collect();
            let what = format!("{}, as {} has it", form.join(","), header.kind.name());
            return Err(NoKeys::Expected(0, what));
        }
        let mut spec = Spec::default();
        let mut at = 0;
        let mut second = false;
        for (dim, part) in dims.iter().zip(&parts) {
            spec.part(header, *dim, part, &mut second)
                .map_err(|what| NoKeys::Expected(at, what))?;
            at += part.len() + 1;
        }
        Ok(spec)
    }

    fn part(
        &mut self,
        header: &Header,
        dim: Dim,
        text: &str,
        second: &mut bool,
    ) -> Result<(), String> {
        match dim {
            Dim::Ip | Dim::Net => {
                let read = read_addr(text, header.family, form(header.kind, dim, *second))?;
                self.addrs[usize::from(*second)] = Some(read);
                *second = true;
            }
            Dim::Port => self.port = Some(names::read_port(text, header.family)?),
            Dim::Mac => self.mac = Some(read_mac(text)?),
            Dim::Mark => {
                let mark = addr::uint(text).and_then(|n| u32::try_from(n).ok());
                self.mark = mark.ok_or_else(|| "a mark from 0 to 0xffffffff".to_owned())?;
            }
            Dim::Iface => {
                let name = text.strip_prefix("physdev:");
                self.physdev = name.is_some();
                let name = name.unwrap_or(text);
                if name.is_empty() || name.len() > IfaceName::MAX {
                    return Err("an interface's name of 1 to 15 characters".to_owned());
                }
                self.iface = IfaceName::new(name);
            }
            Dim::Set => return Err("a set's name".to_owned()),
        }
        Ok(())
    }

    /// The keys it stands for; with `first_only` (test) the first alone.
    pub(super) fn keys(&self, header: &Header, first_only: bool) -> Result<Vec<Key>, Refused> {
        let first = self.places(header, false, first_only)?;
        let second = self.places(header, true, first_only)?;
        let ports = match self.port {
            None => 0..=0,
            Some(p) if first_only => p.from..=p.from,
            Some(p) => p.from..=p.to.unwrap_or(p.from),
        };
        let count = first.len() as u128 * second.len() as u128 * ports.len() as u128;
        if count > IPSET_RANGE_MAX {
            return Err(Refused::TooMany);
        }
        let mut out = Vec::new();
        for (ip, cidr) in &first {
            for port in ports.clone() {
                for (ip2, cidr2) in &second {
                    let key = Key {
                        ip: *ip,
                        cidr: *cidr,
                        ip2: *ip2,
                        cidr2: *cidr2,
                        proto: self.port.map_or(0, |p| p.proto),
                        port,
                        mark: self.mark,
                        iface: self.iface,
                        physdev: self.physdev,
                        ..Key::default()
                    };
                    out.push(finish(header, key, self.mac)?.0);
                }
            }
        }
        Ok(out)
    }

    /// Addresses and prefix lengths that one of the two places stands for. As in the kernel, a hash's mask is
    /// applied to where a range begins, not to each of its addresses.
    fn places(
        &self,
        header: &Header,
        second: bool,
        first_only: bool,
    ) -> Result<Vec<(u128, u8)>, Refused> {
        let family = header.family;
        let Some(spec) = self.addrs[usize::from(second)] else {
            return Ok(vec![(0, 0)]);
        };
        let width = addr::width(family);
        if header.kind.nets()[usize::from(second)] {
            return networks(&spec, header, first_only);
        }
        let bitmap = header.kind.method() == Method::Bitmap;
        let masked = if bitmap || second {
            u128::MAX
        } else {
            header.mask
        };
        let mut from = spec.from & masked;
        if !second && from == 0 && matches!(header.kind, Kind::HashIp | Kind::HashIpPort) {
            return Err(Refused::Null);
        }
        let mut to = spec.to.unwrap_or(from);
        if let Some(prefix) = spec.prefix {
            if prefix == 0 && !first_only {
                return Err(Refused::Prefix);
            }
            let mask = addr::mask(family, prefix);
            if !first_only {
                from &= mask;
            }
            to = from | (addr::full(family) & !mask);
        }
        if from > to {
            (from, to) = (to, from);
        }
        if first_only || family == Family::V6 {
            to = from;
        }
        if bitmap && (from < header.range.0 || to > header.range.1) {
            return Err(Refused::Range);
        }
        // Only hash:ip and bitmap:ip go from network to network (`hosts` of their `uadt`).
        let step = match header.kind {
            Kind::HashIp | Kind::BitmapIp => header.step,
            _ => 1,
        };
        if (to - from) / step >= IPSET_RANGE_MAX {
            return Err(Refused::TooMany);
        }
        let mut out = Vec::new();
        while from <= to {
            out.push((from, width));
            match from.checked_add(step) {
                Some(next) => from = next,
                None => break,
            }
        }
        Ok(out)
    }

    /// What `test` takes less of than `add` (libipset's `.full` masks): no ranges, no networks of hosts;
    /// hash:ip
    /// takes all, a second network may be a range.
    pub(super) fn testable(&self, kind: Kind) -> Result<(), &'static str> {
        if self.port.is_some_and(|p| p.to.is_some()) {
            return Err("one port: test takes no range");
        }
        match self.addrs[0] {
            Some(_) if kind == Kind::HashIp => Ok(()),
            Some(a) if a.to.is_some() => Err("one address: test takes no range"),
            Some(a) if a.prefix.is_some() && !kind.nets()[0] => {
                Err("one address: test takes no network here")
            }
            _ => Ok(()),
        }
    }
}

/// A network, or the networks that a range is made of (`ip_set_range_to_cidr`).
fn networks(
    spec: &AddrSpec,
    header: &Header,
    first_only: bool,
) -> Result<Vec<(u128, u8)>, Refused> {
    let family = header.family;
    let width = addr::width(family);
    let Some(to) = spec.to.filter(|_| !first_only) else {
        let prefix = spec.prefix.unwrap_or(width);
        if prefix == 0 && !header.kind.zero_prefix() {
            return Err(Refused::Prefix);
        }
        return Ok(vec![(spec.from & addr::mask(family, prefix), prefix)]);
    };
    let (mut from, to) = (spec.from.min(to), spec.from.max(to));
    if from == 0 && to == addr::full(family) {
        return Err(Refused::WholeRange);
    }
    let mut out = Vec::new();
    loop {
        let (prefix, last) = addr::first_prefix(family, from, to);
        out.push((from, prefix));
        if last >= to {
            return Ok(out);
        }
        from = last + 1;
    }
}

fn form_name(dim: Dim) -> &'static str {
    match dim {
        Dim::Ip => "ADDRESS",
        Dim::Net => "NETWORK",
        Dim::Port => "[PROTO:]PORT",
        Dim::Mac => "MAC",
        Dim::Mark => "MARK",
        Dim::Iface => "[physdev:]INTERFACE",
        Dim::Set => "SET",
    }
}
