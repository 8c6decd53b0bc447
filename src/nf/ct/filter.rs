//! Which connections `conntrack -L` shows and `-D` deletes: the tool's own options.
//!
//! conntrack-tools src/conntrack.c: `filter_nat`, `nfct_cmp` with the attributes that were given.
//! Invariant: an option that is not given lets everything through; one that is not known is an error
//! that names it.

use super::conn::{Conn, CtStatus};
use super::more::ProtoState;
use super::text::State;
use super::tuple::{CtTuple, Dir, GRE, UDPLITE};
use crate::wire::proto;
use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// The criteria; all that are given must hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// `-f`: IPv4 or IPv6; `None` is both.
    pub v4: Option<bool>,
    /// `-p`
    pub proto: Option<u8>,
    /// `-s`, `--orig-src`
    pub orig_src: Option<IpNetwork>,
    /// `-d`, `--orig-dst`
    pub orig_dst: Option<IpNetwork>,
    /// `-r`, `--reply-src`
    pub reply_src: Option<IpNetwork>,
    /// `-q`, `--reply-dst`
    pub reply_dst: Option<IpNetwork>,
    /// `--sport`, `--orig-port-src`
    pub orig_sport: Option<u16>,
    /// `--dport`, `--orig-port-dst`
    pub orig_dport: Option<u16>,
    /// `--reply-port-src`
    pub reply_sport: Option<u16>,
    /// `--reply-port-dst`
    pub reply_dport: Option<u16>,
    /// `--icmp-type`, `--icmp-code`, `--icmp-id`
    pub icmp: (Option<u8>, Option<u8>, Option<u16>),
    /// `--state`
    pub state: Option<State>,
    /// `-u`: bits that must be set, bits that must not.
    pub status: (u32, u32),
    /// `-m VALUE[/MASK]`
    pub mark: Option<(u32, u32)>,
    /// `-w`
    pub zone: Option<u16>,
    /// `--orig-zone`, `--reply-zone`
    pub zones: (Option<u16>, Option<u16>),
    /// `-g`, `-n`: the source is translated, to this network if one is given.
    pub src_nat: Option<Option<IpNetwork>>,
    /// `-j`: source or destination is translated.
    pub any_nat: bool,
    /// `-g`: the destination is translated, from this network if one is given.
    pub dst_nat: Option<Option<IpNetwork>>,
}

/// Why words are no filter.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FilterError {
    /// An option that `conntrack` does not have, or that selects nothing.
    #[error("conntrack: unknown option {0:?}")]
    Unknown(String),
    /// Ports or an ICMP type, and no `-p` that has them.
    #[error("conntrack: ports, ICMP types and states need the protocol: -p")]
    NoProtocol,
    /// An option without its value.
    #[error("conntrack: option {0} needs a value")]
    Missing(String),
    /// A value that is not what the option takes.
    #[error("conntrack: {option} expects {expected}, found {value:?}")]
    Bad {
        /// The option.
        option: String,
        /// What it takes.
        expected: &'static str,
        /// What was given.
        value: String,
    },
}

impl Filter {
    /// Reads the words behind `conntrack -L` or `-D`.
    pub fn parse(words: &[&str]) -> Result<Filter, FilterError> {
        let mut f = Filter::default();
        // `--state` is a name of the protocol's, which may be given later.
        let mut state = None;
        let mut at = words.iter().copied().peekable();
        while let Some(word) = at.next() {
            let (option, inline) = match word.split_once('=') {
                Some((o, v)) if o.starts_with("--") => (o, Some(v)),
                _ => (word, None),
            };
            match option {
                "-j" | "--any-nat" => f.any_nat = true,
                "-z" | "--zero" => {}
                "-g" | "--dst-nat" | "-n" | "--src-nat" => {
                    let value = inline.or_else(|| at.next_if(|w| !w.starts_with('-')));
                    let net = value
                        .map(|v| parse_value(option, "a network", v))
                        .transpose()?;
                    if matches!(option, "-g" | "--dst-nat") {
                        f.dst_nat = Some(net);
                    } else {
                        f.src_nat = Some(net);
                    }
                }
                _ => {
                    let value = inline.or_else(|| at.next());
                    let value = value.ok_or_else(|| FilterError::Missing(option.to_owned()));
                    if option == "--state" {
                        state = Some(value?.to_owned());
                    } else {
                        f.set(option, value)?;
                    }
                }
            }
        }
        if let Some(name) = state {
            let known = f.proto.and_then(|p| State::of_name(p, &name));
            f.state = Some(known.ok_or_else(|| bad("--state", "a state of the protocol", &name))?);
        }
        if f.proto.is_none() && f.asks_for_protocol() {
            return Err(FilterError::NoProtocol);
        }
        Ok(f)
    }

    fn set(&mut self, o: &str, value: Result<&str, FilterError>) -> Result<(), FilterError> {
        let port = |v: &str| parse_value(o, "a port", v).map(Some);
        let net = |v: &str| parse_value(o, "an address or network", v).map(Some);
        match o {
            "-p" | "--proto" => self.proto = Some(proto_of(value?)?),
            "-f" | "--family" => self.v4 = Some(family_of(value?)?),
            "-s" | "--src" | "--orig-src" => self.orig_src = net(value?)?,
            "-d" | "--dst" | "--orig-dst" => self.orig_dst = net(value?)?,
            "-r" | "--reply-src" => self.reply_src = net(value?)?,
            "-q" | "--reply-dst" => self.reply_dst = net(value?)?,
            "--sport" | "--orig-port-src" => self.orig_sport = port(value?)?,
            "--dport" | "--orig-port-dst" => self.orig_dport = port(value?)?,
            "--reply-port-src" => self.reply_sport = port(value?)?,
            "--reply-port-dst" => self.reply_dport = port(value?)?,
            "--icmp-type" => self.icmp.0 = Some(parse_value(o, "a number", value?)?),
            "--icmp-code" => self.icmp.1 = Some(parse_value(o, "a number", value?)?),
            "--icmp-id" => self.icmp.2 = Some(parse_value(o, "a number", value?)?),
            "-u" | "--status" => self.status = status_of(value?)?,
            "-m" | "--mark" => self.mark = Some(mark_of(value?)?),
            "-w" | "--zone" => self.zone = Some(parse_value(o, "a zone", value?)?),
            "--orig-zone" => self.zones.0 = Some(parse_value(o, "a zone", value?)?),
            "--reply-zone" => self.zones.1 = Some(parse_value(o, "a zone", value?)?),
            // How the tool prints or how long it listens selects nothing.
            "-o" | "--output" | "-b" | "--buffer-size" => drop(value?),
            _ => return Err(FilterError::Unknown(o.to_owned())),
        }
        Ok(())
    }

    /// Whether there is a criterion that only a protocol gives sense.
    fn asks_for_protocol(&self) -> bool {
        let ports = [
            self.orig_sport,
            self.orig_dport,
            self.reply_sport,
            self.reply_dport,
        ];
        self.icmp != (None, None, None) || ports.iter().any(Option::is_some)
    }

    /// Whether a connection is meant.
    pub fn matches(&self, c: &Conn) -> bool {
        let [orig, reply] = &c.tuples();
        let zones = c.zones();
        let (must, must_not) = self.status;
        let no = |set: bool| !set;
        no(self.v4.is_some_and(|v4| v4 != orig.src.is_ipv4()))
            && no(self.proto.is_some_and(|p| p != orig.proto))
            && within(self.orig_src, orig.src)
            && within(self.orig_dst, orig.dst)
            && within(self.reply_src, reply.src)
            && within(self.reply_dst, reply.dst)
            && self.ports_match(orig, reply)
            && no(self.state.is_some_and(|s| Some(s) != state_of(c)))
            && c.status.0 & must == must
            && !c.status.any(must_not)
            && no(self.mark.is_some_and(|(v, mask)| c.mark & mask != v))
            && no(self
                .zone
                .is_some_and(|z| zones.orig != z || zones.reply != z))
            && no(self.zones.0.is_some_and(|z| zones.orig != z))
            && no(self.zones.1.is_some_and(|z| zones.reply != z))
            && self.nat_matches(c)
    }

    fn ports_match(&self, orig: &CtTuple, reply: &CtTuple) -> bool {
        let is = |want: Option<u16>, t: &CtTuple, have: u16| {
            want.is_none_or(|w| w == have && !t.is_icmp())
        };
        let (typ, code) = orig.icmp();
        let icmp = |given: bool| given || orig.is_icmp();
        is(self.orig_sport, orig, orig.sport)
            && is(self.orig_dport, orig, orig.dport)
            && is(self.reply_sport, reply, reply.sport)
            && is(self.reply_dport, reply, reply.dport)
            && icmp(self.icmp == (None, None, None))
            && self.icmp.0.is_none_or(|t| t == typ)
            && self.icmp.1.is_none_or(|c| c == code)
            && self.icmp.2.is_none_or(|id| id == orig.sport)
    }

    /// Kernel and tool agree that a connection is translated if its status says so (`filter_nat`).
    fn nat_matches(&self, c: &Conn) -> bool {
        let src = c.status.any(CtStatus::SRC_NAT);
        let dst = c.status.any(CtStatus::DST_NAT);
        (!self.any_nat || src || dst)
            && self
                .src_nat
                .is_none_or(|net| src && within(net, c.tuple(Dir::Reply).dst))
            && self
                .dst_nat
                .is_none_or(|net| dst && within(net, c.tuple(Dir::Reply).src))
    }
}

fn state_of(c: &Conn) -> Option<State> {
    match c.proto() {
        ProtoState::Tcp(t) => Some(State::Tcp(t.state)),
        ProtoState::Sctp(s) => Some(State::Sctp(s.state)),
        _ => None,
    }
}

fn within(net: Option<IpNetwork>, a: IpAddr) -> bool {
    net.is_none_or(|n| n.contains(a))
}

fn bad(option: &str, expected: &'static str, value: &str) -> FilterError {
    FilterError::Bad {
        option: option.to_owned(),
        expected,
        value: value.to_owned(),
    }
}

fn parse_value<T: core::str::FromStr>(
    option: &str,
    expected: &'static str,
    v: &str,
) -> Result<T, FilterError> {
    v.parse().map_err(|_| bad(option, expected, v))
}

fn proto_of(v: &str) -> Result<u8, FilterError> {
    Ok(match v {
        "tcp" => proto::TCP,
        "udp" => proto::UDP,
        "udplite" => UDPLITE,
        "icmp" => proto::ICMP,
        "icmpv6" => proto::ICMPV6,
        "sctp" => proto::SCTP,
        "gre" => GRE,
        "igmp" => 2,
        "ipip" | "ipencap" => proto::IPIP,
        "dccp" => 33,
        "esp" => 50,
        "ah" => 51,
        "ipv6-icmp" => proto::ICMPV6,
        v => return parse_value("-p", "a protocol", v),
    })
}

fn family_of(v: &str) -> Result<bool, FilterError> {
    match v {
        "ipv4" => Ok(true),
        "ipv6" => Ok(false),
        v => Err(bad("-f", "ipv4 or ipv6", v)),
    }
}

fn mark_of(v: &str) -> Result<(u32, u32), FilterError> {
    let number = |t: &str| match t.strip_prefix("0x") {
        Some(h) => u32::from_str_radix(h, 16).ok(),
        None => t.parse().ok(),
    };
    let (value, mask) = v.split_once('/').unwrap_or((v, "0xffffffff"));
    match (number(value), number(mask)) {
        (Some(v), Some(m)) => Ok((v, m)),
        _ => Err(bad("-m", "a mark or mark/mask", v)),
    }
}

fn status_of(v: &str) -> Result<(u32, u32), FilterError> {
    let (mut must, mut must_not) = (0, 0);
    for word in v.split(',') {
        match word {
            "ASSURED" => must |= CtStatus::ASSURED,
            "SEEN_REPLY" => must |= CtStatus::SEEN_REPLY,
            "UNREPLIED" => must_not |= CtStatus::SEEN_REPLY,
            "FIXED_TIMEOUT" => must |= CtStatus::FIXED_TIMEOUT,
            "EXPECTED" => must |= CtStatus::EXPECTED,
            "OFFLOAD" => must |= CtStatus::OFFLOAD,
            "HW_OFFLOAD" => must |= CtStatus::HW_OFFLOAD,
            _ => return Err(bad("-u", "ASSURED, SEEN_REPLY, UNREPLIED and the like", v)),
        }
    }
    Ok((must, must_not))
}
