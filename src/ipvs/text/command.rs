//! What one ipvsadm line means (ipvsadm: `process_options`).
//!
//! Defaults are ipvsadm's: scheduler wlc, weight 1, direct routing, persistence of 360 s. Invariant: a
//! [`Command`] is complete; nothing in it depends on the services there are.

use super::super::sched::Scheduler;
use super::super::service::{DestSpec, Forward, Mask, ServiceSpec, TunnelKind, TunnelSum, Virtual};
use super::super::state::Timeouts;
use super::words::{At, Verb, Words};
use crate::wire::proto;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One ipvsadm command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// `-A`
    AddService(ServiceSpec),
    /// `-E`
    EditService(ServiceSpec),
    /// `-D`
    DelService(Virtual),
    /// `-C`
    Flush,
    /// `-Z`
    Zero(Option<Virtual>),
    /// `-a`
    AddDest(Virtual, DestSpec),
    /// `-e`
    EditDest(Virtual, DestSpec),
    /// `-d`; of the destination only address and port count.
    DelDest(Virtual, DestSpec),
    /// `--set`; 0 leaves one as it is.
    Timeouts(Timeouts),
    /// `-R`: further commands follow on standard input.
    Restore,
    /// `-S`
    Save,
    /// `-L`
    List(List),
}

/// What `-L` shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Show {
    /// Weights and connections.
    #[default]
    Table,
    /// `--stats`
    Stats,
    /// `--rate`
    Rate,
    /// `--thresholds`
    Thresholds,
    /// `--persistent-conn`
    Persistent,
    /// `-c`
    Conns,
    /// `--timeout`
    Timeouts,
}

/// `-L` with its options.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct List {
    /// What.
    pub show: Show,
    /// Of one service only.
    pub one: Option<Virtual>,
    /// Large numbers in full.
    pub exact: bool,
    /// In the kernel's order.
    pub nosort: bool,
}

type Fault = (usize, String);

impl Words<'_> {
    /// The command; `end` is the place to complain about what is missing.
    pub(super) fn command(self, end: usize) -> Result<Command, Fault> {
        let (_, verb) = self.verb.ok_or((
            0,
            "no command: one of -A -E -D -a -e -d -L -S ...".to_owned(),
        ))?;
        Ok(match verb {
            Verb::AddService => Command::AddService(self.service_spec(end)?),
            Verb::EditService => Command::EditService(self.service_spec(end)?),
            Verb::DelService => Command::DelService(self.needed(end)?),
            Verb::Flush => Command::Flush,
            Verb::Zero => Command::Zero(self.at()?),
            Verb::AddDest => Command::AddDest(self.needed(end)?, self.dest_spec(end)?),
            Verb::EditDest => Command::EditDest(self.needed(end)?, self.dest_spec(end)?),
            Verb::DelDest => Command::DelDest(self.needed(end)?, self.dest_spec(end)?),
            Verb::Timeouts => {
                let mut t = self
                    .timeouts
                    .iter()
                    .map(|w| number(*w, "a timeout in seconds"));
                let mut next = || {
                    t.next()
                        .unwrap_or(Err((end, "a timeout is missing".into())))
                };
                let (tcp, tcp_fin, udp) = (next()?, next()?, next()?);
                Command::Timeouts(Timeouts { tcp, tcp_fin, udp })
            }
            Verb::Restore => Command::Restore,
            Verb::Save => Command::Save,
            Verb::List => Command::List(List {
                show: self.show(),
                one: self.at()?,
                exact: self.exact,
                nosort: self.nosort,
            }),
        })
    }

    fn show(&self) -> Show {
        [
            (self.conns, Show::Conns),
            (self.timeout_list, Show::Timeouts),
            (self.stats, Show::Stats),
            (self.rate, Show::Rate),
            (self.thresholds, Show::Thresholds),
            (self.persistent_conn, Show::Persistent),
        ]
        .into_iter()
        .find(|s| s.0)
        .map_or(Show::Table, |s| s.1)
    }

    fn defines(&self) -> bool {
        let verb = self.verb.map(|v| v.1);
        matches!(verb, Some(Verb::AddService | Verb::EditService))
    }

    fn at(&self) -> Result<Option<Virtual>, Fault> {
        let Some((kind, (at, value))) = self.service else {
            return Ok(None);
        };
        if kind == 'f' {
            let mark: u32 = number((at, value), "a firewall mark")?;
            if mark == 0 {
                return Err((at, "a firewall mark is not 0".into()));
            }
            return Ok(Some(Virtual::Mark { mark, v6: self.v6 }));
        }
        let (ip, port) = endpoint((at, value))?;
        let proto = match kind {
            't' => proto::TCP,
            'u' => proto::UDP,
            _ => proto::SCTP,
        };
        let port = port.unwrap_or(0);
        if port == 0 && self.persistent.is_none() && self.defines() {
            return Err((at, "port 0 needs a persistent service (-p)".into()));
        }
        Ok(Some(Virtual::Addr { proto, ip, port }))
    }

    fn needed(&self, end: usize) -> Result<Virtual, Fault> {
        let missing = (
            end,
            "which service? one of -t, -u, --sctp-service, -f".to_owned(),
        );
        self.at()?.ok_or(missing)
    }

    fn service_spec(&self, end: usize) -> Result<ServiceSpec, Fault> {
        let at = self.needed(end)?;
        let sched = match self.sched {
            None => Scheduler::Wlc,
            Some((w, name)) => Scheduler::of_name(name)
                .ok_or_else(|| (w, format!("unknown scheduler `{name}`")))?,
        };
        let persistent = match self.persistent {
            None => None,
            Some((_, None)) => Some(360),
            Some((w, Some(secs))) => Some(number((w, secs), "a timeout in seconds")?),
        };
        let mask = match self.mask {
            None => Mask::all(at.is_v6()),
            Some((w, m)) => netmask(w, m, at.is_v6())?,
        };
        Ok(ServiceSpec {
            at,
            sched,
            flags: self.sched_flags(sched)?,
            persistent,
            mask,
            ops: self.ops,
            pe: self.pe.map(|p| p.1.to_owned()),
        })
    }

    fn sched_flags(&self, sched: Scheduler) -> Result<u8, Fault> {
        let Some((w, list)) = self.flags else {
            return Ok(0);
        };
        let mut bits = 0;
        for name in list.split(',') {
            let own = sched.flag_names().iter().position(|n| *n == name);
            let plain = ["flag-1", "flag-2", "flag-3"]
                .iter()
                .position(|n| *n == name);
            let bit = own.or(plain);
            let bit = bit.ok_or_else(|| (w, format!("unknown scheduler flag `{name}`")))?;
            bits |= 1 << bit;
        }
        Ok(bits)
    }

    fn dest_spec(&self, end: usize) -> Result<DestSpec, Fault> {
        let at = self.needed(end)?;
        let missing = (end, "which real server? -r ADDRESS[:PORT]".to_owned());
        let (ip, port) = endpoint(self.server.ok_or(missing)?)?;
        let fwd = match self.method {
            Some('m') => Forward::Masq,
            Some('i') => self.tunnel()?,
            _ => Forward::Droute,
        };
        // Without translation the port is the service's (ipvsadm: CMD_ADDDEST, CMD_EDITDEST).
        let removes = matches!(self.verb, Some((_, Verb::DelDest)));
        let by_mark = matches!(at, Virtual::Mark { .. });
        let own = port.filter(|_| fwd == Forward::Masq || by_mark || removes);
        if ip.is_ipv6() != at.is_v6() && !matches!(fwd, Forward::Tunnel(..)) {
            let w = self.server.map_or(end, |s| s.0);
            return Err((w, "another address family takes a tunnel (-i)".into()));
        }
        let optional =
            |w: Option<At<'_>>| w.map_or(Ok(0), |w| number(w, "a number of connections"));
        Ok(DestSpec {
            ip,
            port: own.unwrap_or(at.port()),
            fwd,
            weight: self.weight.map_or(Ok(1), |w| number(w, "a weight"))?,
            upper: optional(self.upper)?,
            lower: optional(self.lower)?,
        })
    }

    fn tunnel(&self) -> Result<Forward, Fault> {
        let port = match self.tun_port {
            None => None,
            Some(p) => Some(number(p, "a UDP port")?),
        };
        let kind = match self.tun_type {
            None | Some((_, "ipip")) => TunnelKind::Ipip,
            Some((w, "gue")) => TunnelKind::Gue {
                port: port.ok_or((w, "a GUE tunnel needs --tun-port".to_owned()))?,
            },
            Some((_, "gre")) => TunnelKind::Gre,
            Some((w, name)) => return Err((w, format!("unknown tunnel type `{name}`"))),
        };
        let sum = if kind == TunnelKind::Ipip {
            TunnelSum::None
        } else {
            self.tun_sum
        };
        Ok(Forward::Tunnel(kind, sum))
    }
}

fn number<N: core::str::FromStr>((at, text): At<'_>, what: &str) -> Result<N, Fault> {
    text.parse()
        .map_err(|_| (at, format!("`{text}` is not {what}")))
}

/// `10.0.0.1:80`, `[fd00::1]:80`, either without the port.
pub(super) fn endpoint((at, text): At<'_>) -> Result<(IpAddr, Option<u16>), Fault> {
    let fault = || {
        let wanted = "an address with or without a port (10.0.0.1:80, [fd00::1]:80)";
        (at, format!("`{text}` is not {wanted}"))
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (ip, port) = rest.split_once(']').ok_or_else(fault)?;
        let ip: Ipv6Addr = ip.parse().map_err(|_| fault())?;
        let port = match port.strip_prefix(':') {
            Some(p) => Some(p.parse().map_err(|_| fault())?),
            None if port.is_empty() => None,
            None => return Err(fault()),
        };
        return Ok((ip.into(), port));
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok((ip, None));
    }
    let (ip, port) = text.split_once(':').ok_or_else(fault)?;
    let ip: Ipv4Addr = ip.parse().map_err(|_| fault())?;
    Ok((ip.into(), Some(port.parse().map_err(|_| fault())?)))
}

pub(super) fn netmask(at: usize, text: &str, v6: bool) -> Result<Mask, Fault> {
    let mask = match v6 {
        false => text.parse().ok().map(Mask::V4),
        true => text.parse().ok().filter(|n| *n <= 128).map(Mask::V6),
    };
    let wanted = if v6 { "a prefix length" } else { "a netmask" };
    mask.ok_or_else(|| (at, format!("`{text}` is not {wanted}")))
}
