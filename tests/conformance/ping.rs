//! `ping` run on an emulated node: read from its command line, sent through podpath's own output path.
//!
//! Podpath chooses route, source address, next hop and device. Identification, sequence number and payload
//! hold a process id and timestamps: they are taken from the recorded request where it shows, as an
//! endpoint's input would be; a request that never left is made of its pattern. Flags that would change the
//! packet and are not listed in [`parse`] make the scenario one that podpath cannot play.

use std::net::IpAddr;

use super::scenario::{Dir, Recorded};

/// An echo request to be sent by a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ping {
    /// To whom.
    pub dst: IpAddr,
    /// `-t`
    pub ttl: Option<u8>,
    /// `-m`
    pub mark: u32,
    /// `-M do` or the default; not `-M dont`.
    pub df: bool,
    /// Identification and sequence number, as one word.
    pub id_seq: u32,
    /// What follows them.
    pub payload: Vec<u8>,
}

/// Reads a command line of one request (`-c1`).
pub fn parse(line: &str) -> Result<Ping, String> {
    let (mut count, mut size, mut pattern) = (None, 56usize, None);
    let (mut dst, mut ttl, mut mark, mut df) = (None, None, 0, true);
    let mut words = line.split_whitespace().skip(1);
    while let Some(w) = words.next() {
        let Some(flag) = w.strip_prefix('-') else {
            dst = Some(w.parse().map_err(|_| format!("ping to a name: {w}"))?);
            continue;
        };
        let (name, stuck) = flag.split_at(flag.len().min(1));
        if matches!(name, "4" | "6" | "n" | "q" | "O" | "v") {
            continue;
        }
        let value = if stuck.is_empty() {
            words.next().unwrap_or("")
        } else {
            stuck
        };
        let bad = || format!("ping -{name} {value} is not understood");
        match name {
            "c" => count = Some(value.parse::<u32>().map_err(|_| bad())?),
            "s" => size = value.parse().map_err(|_| bad())?,
            "p" => pattern = Some(u8::from_str_radix(value, 16).map_err(|_| bad())?),
            "t" => ttl = Some(value.parse().map_err(|_| bad())?),
            "m" => mark = value.parse().map_err(|_| bad())?,
            "M" => df = value != "dont",
            "W" | "w" | "i" => {}
            _ => return Err(bad()),
        }
    }
    if count != Some(1) {
        return Err("ping sends more than one request".to_owned());
    }
    let payload = (0..size).map(|i| pattern.unwrap_or(i as u8)).collect();
    Ok(Ping {
        dst: dst.ok_or("ping without an address")?,
        ttl,
        mark,
        df,
        id_seq: 1,
        payload,
    })
}

/// The first recorded request out of a namespace to this address, from `after` on.
pub fn find<'f>(frames: &'f [Recorded], ns: &str, dst: IpAddr, after: u64) -> Option<&'f Recorded> {
    let prefix = format!("{ns}.");
    frames.iter().find(|f| {
        f.dir == Dir::Out
            && f.t_ns >= after
            && f.interface.starts_with(&prefix)
            && echo(f).is_some_and(|(to, _)| to == dst)
    })
}

/// Destination and message of an echo request (in no tunnel).
pub fn echo(f: &Recorded) -> Option<(IpAddr, &[u8])> {
    let p = if f.l3 {
        f.data.as_slice()
    } else {
        f.data.get(14..)?
    };
    let (to, message) = match p.first()? >> 4 {
        4 => {
            let o: [u8; 4] = p.get(16..20)?.try_into().ok()?;
            let end = usize::from(u16::from_be_bytes([*p.get(2)?, *p.get(3)?]));
            let body = p.get(usize::from(p.first()? & 15) * 4..end)?;
            (
                IpAddr::from(o),
                (*p.get(9)? == 1 && body.first() == Some(&8)).then_some(body)?,
            )
        }
        6 => {
            let o: [u8; 16] = p.get(24..40)?.try_into().ok()?;
            let body = p.get(40..)?;
            (
                IpAddr::from(o),
                (*p.get(6)? == 58 && body.first() == Some(&128)).then_some(body)?,
            )
        }
        _ => return None,
    };
    (message.len() >= 8).then_some((to, message))
}

impl Ping {
    /// The same with what the recorded request had in it.
    pub fn with_recorded(mut self, f: &Recorded) -> Self {
        if let Some((_, m)) = echo(f) {
            self.id_seq = m
                .get(4..8)
                .and_then(|b| b.try_into().ok())
                .map_or(1, u32::from_be_bytes);
            self.payload = m.get(8..).unwrap_or_default().to_vec();
        }
        self
    }
}
