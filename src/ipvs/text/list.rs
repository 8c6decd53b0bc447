//! What `ipvsadm -S` and `-L` print (ipvsadm 1.31: `print_service_entry`, `print_conn`).
//!
//! Services and destinations are sorted unless `--nosort` is given. Connections come in the order they were
//! made: the kernel's is that of a table hashed with a random seed.

use super::super::Ipvs;
use super::super::conn::Conn;
use super::super::service::{Dest, Forward, Mask, Service, Virtual};
use super::super::table::Refused;
use super::super::{state, stats::Stats};
use super::command::{List, Show};
use super::sort;
use crate::base::Instant;
use crate::wire::proto;
use core::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// `ip_vs_conn_tab_size` of a kernel that was not told otherwise.
const TABLE_SIZE: u32 = 4096;

/// `ipvsadm -Sn`
pub fn save(vs: &Ipvs) -> String {
    let mut out = String::new();
    for s in services(vs, false) {
        let _ = write!(out, "-A {} -s {}", s.spec.at, s.spec.sched.name());
        if s.spec.flags != 0 {
            let _ = write!(out, " -b {}", flags(s));
        }
        if let Some(secs) = s.spec.persistent {
            let _ = write!(out, " -p {secs}{}", mask(s, "-M"));
        }
        if let Some(pe) = &s.spec.pe {
            let _ = write!(out, " --pe {pe}");
        }
        if s.spec.ops {
            out += " --ops";
        }
        out.push('\n');
        for d in dests(vs, s, false) {
            let (at, to) = (s.spec.at, server(d));
            let method = match d.spec.fwd {
                Forward::Masq => "-m",
                Forward::Tunnel(..) => "-i",
                _ => "-g",
            };
            let _ = writeln!(out, "-a {at} -r {to} {method} -w {}", d.spec.weight);
        }
    }
    out
}

/// `ipvsadm -Ln` with its options.
pub fn list(vs: &Ipvs, l: &List, now: Instant) -> Result<String, Refused> {
    let mut out = String::new();
    match l.show {
        Show::Conns => return Ok(conns(vs, now)),
        Show::Timeouts => {
            let t = vs.timeouts;
            let _ = writeln!(
                out,
                "Timeout (tcp tcpfin udp): {} {} {}",
                t.tcp, t.tcp_fin, t.udp
            );
            return Ok(out);
        }
        _ => {}
    }
    match l.one {
        Some(at) => {
            title(&mut out, l.show);
            entry(&mut out, vs, vs.service(&at).ok_or(Refused::NoService)?, l);
        }
        None => {
            let _ = writeln!(out, "IP Virtual Server version 1.2.1 (size={TABLE_SIZE})");
            title(&mut out, l.show);
            for s in services(vs, l.nosort) {
                entry(&mut out, vs, s, l);
            }
        }
    }
    Ok(out)
}

fn title(out: &mut String, show: Show) {
    let first = "Prot LocalAddress:Port";
    let numbers = |c: [&str; 5]| c.iter().fold(String::new(), |s, c| s + &format!(" {c:>8}"));
    *out += &match show {
        Show::Stats => {
            let c = numbers(["Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"]);
            format!("{first:<33}{c}\n  -> RemoteAddress:Port\n")
        }
        Show::Rate => {
            let c = numbers(["CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"]);
            format!("{first:<33}{c}\n  -> RemoteAddress:Port\n")
        }
        Show::Thresholds => format!(
            "{first:<33} {:<10} {:<10} {:<10} {:<10}\n  -> RemoteAddress:Port\n",
            "Uthreshold", "Lthreshold", "ActiveConn", "InActConn"
        ),
        Show::Persistent => format!(
            "{first:<33} {:<9} {:<11} {:<10} {:<10}\n  -> RemoteAddress:Port\n",
            "Weight", "PersistConn", "ActiveConn", "InActConn"
        ),
        _ => "Prot LocalAddress:Port Scheduler Flags\n  \
              -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n"
            .to_owned(),
    };
}

fn entry(out: &mut String, vs: &Ipvs, s: &Service, l: &List) {
    let name = name(&s.spec.at);
    let _ = match l.show {
        Show::Stats => writeln!(out, "{name:<33}{}", columns(s.stats.shown(), l.exact)),
        Show::Rate => writeln!(out, "{name:<33}{}", columns(s.stats.rates(), l.exact)),
        _ => writeln!(out, "{name} {}", describe(s)),
    };
    for d in dests(vs, s, l.nosort) {
        let (to, st): (String, &Stats) = (server(d), &d.stats);
        let (w, active, inactive) = (d.spec.weight, d.active, d.inactive);
        let _ = match l.show {
            Show::Stats => writeln!(out, "  -> {to:<28}{}", columns(st.shown(), l.exact)),
            Show::Rate => writeln!(out, "  -> {to:<28}{}", columns(st.rates(), l.exact)),
            Show::Thresholds => {
                let (u, lo) = (d.spec.upper, d.spec.lower);
                writeln!(
                    out,
                    "  -> {to:<28} {u:<10} {lo:<10} {active:<10} {inactive:<10}"
                )
            }
            Show::Persistent => {
                let p = d.persistent;
                writeln!(
                    out,
                    "  -> {to:<28} {w:<9} {p:<11} {active:<10} {inactive:<10}"
                )
            }
            _ => {
                let fwd = d.spec.fwd.name();
                writeln!(
                    out,
                    "  -> {to:<28} {fwd:<7} {w:<6} {active:<10} {inactive:<10}"
                )
            }
        };
    }
}

fn name(at: &Virtual) -> String {
    match *at {
        Virtual::Addr { proto, ip, port } => {
            let p = match proto {
                proto::TCP => "TCP ",
                proto::UDP => "UDP ",
                _ => "SCTP",
            };
            format!("{p} {}", SocketAddr::new(ip, port))
        }
        Virtual::Mark { mark, v6: false } => format!("FWM  {mark}"),
        Virtual::Mark { mark, v6: true } => format!("FWM  {mark} IPv6"),
    }
}

fn flags(s: &Service) -> String {
    let names = s.spec.sched.flag_names();
    let set = names.iter().enumerate();
    let set = set.filter(|(i, _)| s.spec.flags & (1 << i) != 0);
    set.map(|(_, n)| *n).collect::<Vec<_>>().join(",")
}

fn mask(s: &Service, word: &str) -> String {
    match s.spec.mask {
        Mask::V4(Ipv4Addr::BROADCAST) | Mask::V6(128) => String::new(),
        Mask::V4(m) => format!(" {word} {m}"),
        Mask::V6(n) => format!(" {word} {n}"),
    }
}

fn describe(s: &Service) -> String {
    let mut out = s.spec.sched.name().to_owned();
    if s.spec.flags != 0 {
        let _ = write!(out, " ({})", flags(s));
    }
    if let Some(secs) = s.spec.persistent {
        let _ = write!(out, " persistent {secs}{}", mask(s, "mask"));
    }
    if let Some(pe) = &s.spec.pe {
        let _ = write!(out, " pe {pe}");
    }
    if s.spec.ops {
        out += " ops";
    }
    out
}

fn server(d: &Dest) -> String {
    SocketAddr::new(d.spec.ip, d.spec.port).to_string()
}

fn services(vs: &Ipvs, nosort: bool) -> Vec<&Service> {
    let all: Vec<&Service> = vs.services().collect();
    if nosort {
        return all;
    }
    sort::sorted(all, &|a, b| sort::services(&a.spec.at, &b.spec.at))
}

fn dests<'a>(vs: &'a Ipvs, s: &'a Service, nosort: bool) -> Vec<&'a Dest> {
    let all: Vec<&Dest> = vs.dests_of(s).collect();
    if nosort {
        return all;
    }
    let at = |d: &Dest| (d.spec.ip, d.spec.port);
    sort::sorted(all, &|a, b| sort::ends(at(a), at(b)))
}

/// `print_largenum`
fn columns(values: [u64; 5], exact: bool) -> String {
    values.iter().fold(String::new(), |s, v| {
        s + &match *v {
            v if exact || v < 100_000_000 => format!(" {v:>8}"),
            v if v < 1_000_000_000 => format!("{:>8}K", v / 1000),
            v if v < 100_000_000_000 => format!("{:>8}M", v / 1_000_000),
            v if v < 100_000_000_000_000 => format!("{:>8}G", v / 1_000_000_000),
            v => format!("{:>8}T", v / 1_000_000_000_000),
        }
    })
}

fn conns(vs: &Ipvs, now: Instant) -> String {
    let mut out = format!(
        "IPVS connection entries\npro expire {:<11} {:<18} {:<18} destination\n",
        "state", "source", "virtual"
    );
    for (_, c) in vs.conns().iter() {
        conn(&mut out, c, now);
    }
    out
}

fn conn(out: &mut String, c: &Conn, now: Instant) {
    let p = match c.key.proto {
        proto::TCP => "TCP",
        proto::UDP => "UDP",
        proto::SCTP => "SCTP",
        _ => "IP",
    };
    let state = match (c.template, c.state) {
        (true, 0) => "NONE",
        (true, _) => "ASSURED",
        (false, s) => state::name(c.key.proto, s),
    };
    let secs = c.expires.since(now).as_secs();
    let expire = format!("{:02}:{:02}", secs / 60, secs % 60);
    let at = |ip: IpAddr, port| SocketAddr::new(ip, port).to_string();
    let (client, virt) = (at(c.key.caddr, c.key.cport), at(c.key.vaddr, c.key.vport));
    let dest = at(c.daddr, c.dport);
    let _ = writeln!(
        out,
        "{p:<3} {expire:<6} {state:<11} {client:<18} {virt:<18} {dest}"
    );
}
