//! The options of one ipvsadm line, before they mean anything (ipvsadm: `parse_options`).
//!
//! Short options may stand together (`-Lnc`), long ones may carry their value behind `=`. Invariant: every
//! option remembers the word it stood in.

use super::super::service::TunnelSum;

/// What the line does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verb {
    AddService,
    EditService,
    DelService,
    Flush,
    Zero,
    AddDest,
    EditDest,
    DelDest,
    Timeouts,
    Restore,
    Save,
    List,
}

/// A value and the word it stood in.
pub(super) type At<'a> = (usize, &'a str);

/// All options of a line.
#[derive(Clone, Debug, Default)]
pub(super) struct Words<'a> {
    pub verb: Option<(usize, Verb)>,
    /// `t`, `u`, `s` (SCTP) or `f`, and its value.
    pub service: Option<(char, At<'a>)>,
    pub server: Option<At<'a>>,
    pub sched: Option<At<'a>>,
    pub flags: Option<At<'a>>,
    pub pe: Option<At<'a>>,
    pub persistent: Option<(usize, Option<&'a str>)>,
    pub mask: Option<At<'a>>,
    pub weight: Option<At<'a>>,
    pub upper: Option<At<'a>>,
    pub lower: Option<At<'a>>,
    pub timeouts: Vec<At<'a>>,
    /// `g`, `i` or `m`.
    pub method: Option<char>,
    pub tun_type: Option<At<'a>>,
    pub tun_port: Option<At<'a>>,
    pub tun_sum: TunnelSum,
    pub v6: bool,
    pub ops: bool,
    pub conns: bool,
    pub timeout_list: bool,
    pub stats: bool,
    pub rate: bool,
    pub thresholds: bool,
    pub persistent_conn: bool,
    pub exact: bool,
    pub nosort: bool,
}

/// Long names of short options.
const LONG: &[(&str, char)] = &[
    ("add-service", 'A'),
    ("edit-service", 'E'),
    ("delete-service", 'D'),
    ("clear", 'C'),
    ("restore", 'R'),
    ("save", 'S'),
    ("add-server", 'a'),
    ("edit-server", 'e'),
    ("delete-server", 'd'),
    ("list", 'L'),
    ("zero", 'Z'),
    ("tcp-service", 't'),
    ("udp-service", 'u'),
    ("fwmark-service", 'f'),
    ("scheduler", 's'),
    ("persistent", 'p'),
    ("netmask", 'M'),
    ("real-server", 'r'),
    ("gatewaying", 'g'),
    ("ipip", 'i'),
    ("masquerading", 'm'),
    ("weight", 'w'),
    ("u-threshold", 'x'),
    ("l-threshold", 'y'),
    ("connection", 'c'),
    ("ipv6", '6'),
    ("ops", 'o'),
    ("sched-flags", 'b'),
    ("numeric", 'n'),
];

impl<'a> Words<'a> {
    pub(super) fn read(words: &[&'a str]) -> Result<Self, (usize, String)> {
        let mut w = Words::default();
        let mut i = 0;
        while let Some(word) = words.get(i) {
            let at = i;
            i += 1;
            if let Some(long) = word.strip_prefix("--") {
                let (name, value) = match long.split_once('=') {
                    Some((n, v)) => (n, Some(v)),
                    None => (long, None),
                };
                w.long(name, value, at, words, &mut i)?;
            } else if let Some(short) = word.strip_prefix('-').filter(|s| !s.is_empty()) {
                let mut rest = short;
                while let Some(c) = rest.chars().next() {
                    rest = rest.get(c.len_utf8()..).unwrap_or("");
                    let before = (!rest.is_empty()).then_some(rest);
                    if w.short(c, before, at, words, &mut i)? {
                        break;
                    }
                }
            } else if matches!(*word, "ops") {
                w.ops = true; // as older versions save it
            } else {
                return Err((at, format!("an option was expected, not `{word}`")));
            }
        }
        Ok(w)
    }

    fn long(
        &mut self,
        name: &str,
        value: Option<&'a str>,
        at: usize,
        words: &[&'a str],
        i: &mut usize,
    ) -> Result<(), (usize, String)> {
        if let Some((_, c)) = LONG.iter().find(|(n, _)| *n == name) {
            return self.short(*c, value, at, words, i).map(|_| ());
        }
        let mut take = || take(name, value, at, words, i);
        match name {
            "sctp-service" => self.service = Some(('s', take()?)),
            "tun-type" => self.tun_type = Some(take()?),
            "tun-port" => self.tun_port = Some(take()?),
            "pe" => self.pe = Some(take()?),
            "tun-nocsum" => self.tun_sum = TunnelSum::None,
            "tun-csum" => self.tun_sum = TunnelSum::Csum,
            "tun-remcsum" => self.tun_sum = TunnelSum::Remote,
            "stats" => self.stats = true,
            "rate" => self.rate = true,
            "thresholds" => self.thresholds = true,
            "persistent-conn" => self.persistent_conn = true,
            "exact" => self.exact = true,
            "nosort" => self.nosort = true,
            "sort" => {}
            "timeout" => self.timeout_list = true,
            "set" => {
                self.verb(at, Verb::Timeouts)?;
                for _ in 0..3 {
                    let next = words.get(*i).ok_or((at, set_needs()))?;
                    self.timeouts.push((*i, *next));
                    *i += 1;
                }
            }
            _ => return Err((at, format!("unknown option `--{name}`"))),
        }
        Ok(())
    }

    /// One short option; whether it used up the rest of its word.
    fn short(
        &mut self,
        c: char,
        value: Option<&'a str>,
        at: usize,
        words: &[&'a str],
        i: &mut usize,
    ) -> Result<bool, (usize, String)> {
        if let Some(verb) = verb(c) {
            self.verb(at, verb)?;
            return Ok(false);
        }
        if self.switch(c) {
            return Ok(false);
        }
        if c == 'p' {
            let digits = |w: &&&str| w.chars().all(|c| c.is_ascii_digit());
            let next = words.get(*i).filter(digits).copied();
            *i += usize::from(value.is_none() && next.is_some());
            self.persistent = Some((at, value.or(next)));
            return Ok(value.is_some());
        }
        let name = c.to_string();
        let slot = match c {
            't' | 'u' | 'f' => {
                self.service = Some((c, take(&name, value, at, words, i)?));
                return Ok(value.is_some());
            }
            's' => &mut self.sched,
            'M' => &mut self.mask,
            'r' => &mut self.server,
            'w' => &mut self.weight,
            'x' => &mut self.upper,
            'y' => &mut self.lower,
            'b' => &mut self.flags,
            _ => return Err((at, format!("unknown option `-{c}`"))),
        };
        *slot = Some(take(&name, value, at, words, i)?);
        Ok(value.is_some())
    }

    /// Options without a value.
    fn switch(&mut self, c: char) -> bool {
        match c {
            'g' | 'i' | 'm' => self.method = Some(c),
            'c' => self.conns = true,
            '6' => self.v6 = true,
            'o' => self.ops = true,
            'n' => {}
            _ => return false,
        }
        true
    }

    fn verb(&mut self, at: usize, verb: Verb) -> Result<(), (usize, String)> {
        match self.verb {
            Some(_) => Err((at, "a line has one command".into())),
            None => {
                self.verb = Some((at, verb));
                Ok(())
            }
        }
    }
}

fn set_needs() -> String {
    "`--set` needs three timeouts: tcp, tcpfin, udp".into()
}

fn verb(c: char) -> Option<Verb> {
    Some(match c {
        'A' => Verb::AddService,
        'E' => Verb::EditService,
        'D' => Verb::DelService,
        'C' => Verb::Flush,
        'Z' => Verb::Zero,
        'a' => Verb::AddDest,
        'e' => Verb::EditDest,
        'd' => Verb::DelDest,
        'R' => Verb::Restore,
        'S' => Verb::Save,
        'L' | 'l' => Verb::List,
        _ => return None,
    })
}

fn take<'a>(
    name: &str,
    value: Option<&'a str>,
    at: usize,
    words: &[&'a str],
    i: &mut usize,
) -> Result<At<'a>, (usize, String)> {
    if let Some(v) = value {
        return Ok((at, v));
    }
    let next = words.get(*i).ok_or_else(|| {
        let dashes = if name.len() > 1 { "--" } else { "-" };
        (at, format!("`{dashes}{name}` needs a value"))
    })?;
    *i += 1;
    Ok((*i - 1, *next))
}
