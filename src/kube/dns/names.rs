//! Domain names: from text and to text, suffixes, longest matching zone.
//!
//! Text is that of master files (RFC 1035 section 5.1): `\.` and `\DDD` escapes, a final dot or none; names
//! are always absolute here. Case is kept, comparison ignores it. Does no IDNA: labels are octets.

use hickory_proto::rr::Name;

/// A name from text; `.` and the empty text are the root. None for what is no name.
pub fn parse(text: &str) -> Option<Name> {
    if matches!(text, "" | ".") {
        return Some(Name::root());
    }
    let mut labels: Vec<Vec<u8>> = vec![Vec::new()];
    let mut bytes = text.bytes().peekable();
    while let Some(b) = bytes.next() {
        match b {
            b'.' => {
                if labels.last().is_some_and(Vec::is_empty) {
                    return None;
                }
                if bytes.peek().is_some() {
                    labels.push(Vec::new());
                }
            }
            b'\\' => {
                let first = bytes.next()?;
                let octet = if first.is_ascii_digit() {
                    let (second, third) = (bytes.next()?, bytes.next()?);
                    let digits = [first, second, third];
                    std::str::from_utf8(&digits).ok()?.parse::<u8>().ok()?
                } else {
                    first
                };
                labels.last_mut()?.push(octet);
            }
            _ => labels.last_mut()?.push(b),
        }
    }
    from_labels(labels.iter().map(Vec::as_slice))
}

/// A name from labels, the leftmost first.
pub fn from_labels<'a>(labels: impl Iterator<Item = &'a [u8]>) -> Option<Name> {
    let mut name = Name::from_labels(labels).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// Labels before a zone.
pub fn join<'a>(labels: impl Iterator<Item = &'a [u8]>, zone: &'a Name) -> Option<Name> {
    let all: Vec<&[u8]> = labels.chain(zone.iter()).collect();
    from_labels(all.into_iter())
}

/// One or more dotted labels before a zone.
pub fn under(text: &str, zone: &Name) -> Option<Name> {
    join(text.split('.').map(str::as_bytes), zone)
}

/// The name as master files write it, with the final dot.
pub fn text(name: &Name) -> String {
    if name.iter().next().is_none() {
        return ".".to_owned();
    }
    let mut out = String::with_capacity(name.len());
    for label in name.iter() {
        for &b in label {
            match b {
                b'.' | b' ' | b'\'' | b'@' | b';' | b'(' | b')' | b'"' | b'\\' => {
                    out.push('\\');
                    out.push(char::from(b));
                }
                0x21..=0x7e => out.push(char::from(b)),
                _ => out.push_str(&format!("\\{b:03}")),
            }
        }
        out.push('.');
    }
    out
}

/// The same in lower case.
pub fn lower_text(name: &Name) -> String {
    let mut out = text(name);
    out.make_ascii_lowercase();
    out
}

/// Whether all letters are in lower case.
pub fn is_lower(name: &Name) -> bool {
    !name.iter().flatten().any(u8::is_ascii_uppercase)
}

/// The last `labels` labels, in the case they have.
pub fn suffix(name: &Name, labels: usize) -> Name {
    let skip = name.iter().count().saturating_sub(labels);
    from_labels(name.iter().skip(skip)).unwrap_or_else(Name::root)
}

/// How many labels a name has; the root has none.
pub fn labels(name: &Name) -> usize {
    name.iter().count()
}

/// The longest of the zones that the name is in (`plugin.Zones.Matches`).
pub fn longest<'a>(zones: &'a [Name], name: &Name) -> Option<&'a Name> {
    let fits = zones.iter().filter(|zone| zone.zone_of(name));
    // The first of equals, as CoreDNS takes.
    fits.fold(None, |best: Option<&Name>, zone| match best {
        Some(b) if labels(b) >= labels(zone) => best,
        _ => Some(zone),
    })
}

/// Whether a name is in-addr.arpa, ip6.arpa or below.
pub fn is_reverse(name: &Name) -> bool {
    let text = lower_text(name);
    let below = |top: &str| {
        text.strip_suffix(top)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    below("in-addr.arpa.") || below("ip6.arpa.")
}

/// The address that a name below in-addr.arpa or ip6.arpa stands for.
pub fn reverse_address(name: &Name) -> Option<std::net::IpAddr> {
    let labels: Vec<String> = name
        .iter()
        .map(|l| String::from_utf8_lossy(l).to_ascii_lowercase())
        .collect();
    let (top, kind) = (labels.last()?, labels.get(labels.len().checked_sub(2)?)?);
    if top != "arpa" {
        return None;
    }
    let digits = labels.get(..labels.len() - 2)?;
    match kind.as_str() {
        "in-addr" if digits.len() == 4 => {
            let dotted: Vec<&str> = digits.iter().rev().map(String::as_str).collect();
            dotted
                .join(".")
                .parse::<std::net::Ipv4Addr>()
                .ok()
                .map(Into::into)
        }
        "ip6" if digits.len() == 32 => {
            let mut value = 0_u128;
            for digit in digits.iter().rev() {
                let nibble = u128::from_str_radix(digit, 16)
                    .ok()
                    .filter(|_| digit.len() == 1)?;
                value = value << 4 | nibble;
            }
            Some(std::net::Ipv6Addr::from(value).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_with_escapes_and_case() {
        for t in [".", "a.", "_x._tcp.Foo.local.", "a\\.b.c.", "sp\\ ace.x."] {
            assert_eq!(text(&parse(t).unwrap()), t);
        }
        assert_eq!(text(&parse("no.dot").unwrap()), "no.dot.");
        assert_eq!(text(&parse("a\\032b").unwrap()), "a\\ b.");
        for bad in ["a..b", ".a", "a\\", "a\\9", &"x".repeat(64)] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn longest_zone_wins_and_case_does_not_count() {
        let zones: Vec<Name> = [".", "local.", "cluster.local."]
            .iter()
            .filter_map(|z| parse(z))
            .collect();
        let found = |n: &str| longest(&zones, &parse(n).unwrap()).map(text);
        assert_eq!(found("a.CLUSTER.local").as_deref(), Some("cluster.local."));
        assert_eq!(found("xcluster.local").as_deref(), Some("local."));
        assert_eq!(found("com").as_deref(), Some("."));
    }

    #[test]
    fn reverse_names_are_addresses() {
        let at = |n: &str| reverse_address(&parse(n).unwrap()).map(|a| a.to_string());
        assert_eq!(at("1.0.96.10.in-addr.arpa").as_deref(), Some("10.96.0.1"));
        assert_eq!(at("0.96.10.in-addr.arpa"), None);
        let nibbles = "1.".to_owned() + &"0.".repeat(27) + "0.0.d.f.ip6.arpa";
        assert_eq!(at(&nibbles).as_deref(), Some("fd00::1"));
    }
}
