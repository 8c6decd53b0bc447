//! The words of `forward`: `plugin/forward/setup.go`, `plugin/pkg/parse/host.go`.

use std::net::{IpAddr, SocketAddr};

use core::time::Duration;
use hickory_proto::rr::Name;

use super::super::super::config::Reader;
use super::super::super::corefile::{Line, Word, zones};
use super::super::super::names;
use super::super::log;
use super::{Forward, Policy, Upstream};
use crate::base::limits::DNS_UPSTREAMS_MAX;

impl Forward {
    /// Reads a directive; none when there is nobody to ask.
    pub(in super::super) fn read(line: &Line, reader: &mut Reader<'_>) -> Option<Forward> {
        let Some((from, to)) = line.args.split_first() else {
            reader.error(
                &line.name,
                "forward needs a zone and upstreams",
                "write forward . 10.0.0.1",
            );
            return None;
        };
        let from_zone = zones(&from.text).and_then(|z| z.into_iter().next());
        let Some(from_zone) = from_zone else {
            reader.error(from, "this is no zone", "write forward . 10.0.0.1");
            return None;
        };
        let addresses: Vec<SocketAddr> = to.iter().flat_map(|w| upstreams(w, reader)).collect();
        if addresses.is_empty() {
            reader.error(
                &line.name,
                "forward has nobody to ask",
                "name an address or a resolv.conf",
            );
            return None;
        }
        if addresses.len() > DNS_UPSTREAMS_MAX {
            let message = format!(
                "more than {DNS_UPSTREAMS_MAX} upstreams: {}",
                addresses.len()
            );
            reader.error(&line.name, message, "CoreDNS would not start");
        }
        let upstream = |address: SocketAddr| Upstream {
            address,
            fails: 0,
            checking: false,
        };
        let mut out = Forward {
            from: from_zone,
            except: Vec::new(),
            upstreams: addresses
                .into_iter()
                .take(DNS_UPSTREAMS_MAX)
                .map(upstream)
                .collect(),
            policy: Policy::Random,
            max_fails: 2,
            force_tcp: false,
            prefer_udp: false,
            max_concurrent: 0,
            max_attempts: None,
            interval: Duration::from_millis(500),
            check_name: Name::root(),
            check_rd: true,
            failfast: false,
            failover: Vec::new(),
            next: Vec::new(),
            before_forward: false,
            concurrent: 0,
            robin: 0,
        };
        for option in &line.body {
            out.option(option, reader);
        }
        Some(out)
    }

    fn option(&mut self, line: &Line, reader: &mut Reader<'_>) {
        match line.name.text.as_str() {
            "except" => self.except.extend(reader.zones(&line.args)),
            "max_fails" => self.max_fails = reader.number(line, 0).unwrap_or(self.max_fails),
            "max_connect_attempts" => self.max_attempts = reader.number(line, 0),
            "health_check" => {
                let interval = reader.duration(line, 0).filter(|d| !d.is_zero());
                self.interval = interval.unwrap_or(self.interval);
                let mut words = line.args.iter().skip(1);
                while let Some(word) = words.next() {
                    match word.text.as_str() {
                        "no_rec" => self.check_rd = false,
                        "domain" => match words.next().and_then(|w| names::parse(&w.text)) {
                            Some(name) => self.check_name = name,
                            None => reader.error(word, "domain needs a name", ""),
                        },
                        _ => reader.error(word, "health_check takes no_rec and domain NAME", ""),
                    }
                }
            }
            "force_tcp" => self.force_tcp = true,
            "prefer_udp" => self.prefer_udp = true,
            // Connections are the caller's.
            "expire" | "max_idle_conns" | "max_age" | "read_timeout" | "doh_method"
            | "source_address" => {}
            "tls" | "tls_servername" => {
                reader.warning(&line.name, "TLS to upstreams is not modelled", "");
            }
            "policy" => match line.args.first().map(|w| w.text.as_str()) {
                Some("random") => self.policy = Policy::Random,
                Some("round_robin") => self.policy = Policy::RoundRobin,
                Some("sequential") => self.policy = Policy::Sequential,
                _ => reader.error(
                    &line.name,
                    "policy takes random, round_robin or sequential",
                    "",
                ),
            },
            "max_concurrent" => self.max_concurrent = reader.number(line, 0).unwrap_or(0),
            "failfast_all_unhealthy_upstreams" => self.failfast = true,
            "next" | "failover" => {
                for word in &line.args {
                    match log::rcode(&word.text) {
                        Some(rcode) if line.name.text == "next" => self.next.push(rcode),
                        Some(rcode) => self.failover.push(rcode),
                        None => reader.error(
                            word,
                            "this is no response code",
                            "write SERVFAIL, NXDOMAIN ...",
                        ),
                    }
                }
            }
            _ => reader.unknown_option(line, "forward"),
        }
    }
}

/// The addresses of a word: `[scheme://]address[:port]`, or the nameservers of a file.
fn upstreams(word: &Word, reader: &mut Reader<'_>) -> Vec<SocketAddr> {
    let (scheme, bare) = word.text.split_once("://").unwrap_or(("dns", &word.text));
    let port = match scheme {
        "dns" => 53,
        _ => {
            reader.warning(
                word,
                format!("{scheme} to upstreams is not modelled: plain DNS is sent"),
                "",
            );
            if scheme == "tls" { 853 } else { 443 }
        }
    };
    // tls://9.9.9.9%dns.quad9.net names the certificate.
    let bare = bare.split('%').next().unwrap_or(bare);
    if let Some(address) = address(bare, port) {
        return vec![address];
    }
    match reader.environment.around.files.get(bare) {
        Some(text) => {
            let servers = text
                .lines()
                .filter_map(|l| l.trim().strip_prefix("nameserver"));
            servers
                .filter_map(|s| address(s.split('#').next()?.trim(), port))
                .collect()
        }
        None => {
            reader.error(
                word,
                format!("`{bare}` is neither an address nor a file that is known"),
                "write an address, or hand the resolv.conf in",
            );
            Vec::new()
        }
    }
}

fn address(text: &str, port: u16) -> Option<SocketAddr> {
    let ip = text
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    ip.map(|ip| SocketAddr::new(ip, port))
        .or_else(|_| text.parse())
        .ok()
}
