//! resolv.conf as a libc reads it.
//!
//! Sources: glibc 2.36 `resolv/res_init.c` (`res_vinit_1`, `res_setoptions`), musl
//! `src/network/resolvconf.c` (`__get_resolv_conf`). The two disagree: glibc adds up `options` lines and
//! knows many, musl reads three, and passes over every line of 256 bytes or more, a long search list
//! included.
//! Not here: the domain of the host's own name, which glibc takes for a search list where none is written;
//! pods' host names have none. Invariant: at least one nameserver, at most three.

use std::net::{IpAddr, Ipv4Addr};

/// Nameservers that are used (MAXNS).
pub const NAMESERVERS_MAX: usize = 3;

/// What is left of the text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conf {
    /// One to three; 127.0.0.1 when none is written.
    pub nameservers: Vec<IpAddr>,
    /// The search list in order.
    pub search: Vec<String>,
    /// Dots from which on a name is tried as it is before the search list.
    pub ndots: u32,
    /// Seconds to wait for a server (musl: for all tries together).
    pub timeout: u32,
    /// Tries.
    pub attempts: u32,
    /// Begin with another server each time (`rotate`).
    pub rotate: bool,
    /// A before AAAA (`single-request`).
    pub single_request: bool,
    /// The same, each from a socket of its own (`single-request-reopen`).
    pub single_request_reopen: bool,
    /// TCP from the start (`use-vc`).
    pub use_vc: bool,
    /// A name without dots is not tried as it is after a search list (`no-tld-query`).
    pub no_tld_query: bool,
    /// Send an OPT record (`edns0`).
    pub edns0: bool,
    /// Set and believe the AD bit (`trust-ad`).
    pub trust_ad: bool,
    /// Never ask for AAAA (`no-aaaa`, new in 2.36).
    pub no_aaaa: bool,
}

impl Default for Conf {
    fn default() -> Self {
        Conf {
            nameservers: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            search: Vec::new(),
            ndots: 1,
            timeout: 5,
            attempts: 2,
            rotate: false,
            single_request: false,
            single_request_reopen: false,
            use_vc: false,
            no_tld_query: false,
            edns0: false,
            trust_ad: false,
            no_aaaa: false,
        }
    }
}

impl Conf {
    /// As glibc 2.36 reads it.
    pub fn glibc(text: &str) -> Conf {
        let mut conf = Conf::default();
        let mut servers = Vec::new();
        for line in text.lines() {
            // A comment begins in the first column only; a keyword ends with a blank.
            if line.starts_with([';', '#']) {
                continue;
            }
            let Some((word, rest)) = line.split_once([' ', '\t']) else {
                continue;
            };
            let mut words = rest.split([' ', '\t']).filter(|w| !w.is_empty());
            match word {
                "domain" => {
                    if let Some(domain) = words.next() {
                        conf.search = vec![domain.to_owned()];
                    }
                }
                "search" => {
                    let list: Vec<String> = words.map(str::to_owned).collect();
                    if !list.is_empty() {
                        conf.search = list;
                    }
                }
                "nameserver" if servers.len() < NAMESERVERS_MAX => {
                    servers.extend(words.next().and_then(address));
                }
                "options" => words.for_each(|w| conf.glibc_option(w)),
                _ => {}
            }
        }
        conf.with(servers)
    }

    fn glibc_option(&mut self, word: &str) {
        // atoi, then the cap: RES_MAXNDOTS, RES_MAXRETRANS, RES_MAXRETRY.
        let number = |digits: &str, max| leading_number(digits).unwrap_or(0).min(max);
        if let Some(n) = word.strip_prefix("ndots:") {
            self.ndots = number(n, 15);
        } else if let Some(n) = word.strip_prefix("timeout:") {
            self.timeout = number(n, 30);
        } else if let Some(n) = word.strip_prefix("attempts:") {
            self.attempts = number(n, 5);
        } else if word.starts_with("rotate") {
            self.rotate = true;
        } else if word.starts_with("edns0") {
            self.edns0 = true;
        } else if word.starts_with("single-request-reopen") {
            self.single_request_reopen = true;
        } else if word.starts_with("single-request") {
            self.single_request = true;
        } else if word.starts_with("no_tld_query") || word.starts_with("no-tld-query") {
            self.no_tld_query = true;
        } else if word.starts_with("use-vc") {
            self.use_vc = true;
        } else if word.starts_with("trust-ad") {
            self.trust_ad = true;
        } else if word.starts_with("no-aaaa") {
            self.no_aaaa = true;
        }
    }

    /// As musl 1.2.3 and 1.2.5 read it.
    pub fn musl(text: &str) -> Conf {
        let mut conf = Conf::default();
        let mut servers = Vec::new();
        for line in text.split_inclusive('\n') {
            // fgets into char[256]: a line that does not fit with its end is passed over.
            if line.len() > 255 || (line.len() == 255 && !line.ends_with('\n')) {
                continue;
            }
            let blank = |c: char| c.is_ascii_whitespace() || c == '\x0b';
            let keyword = |word: &str| line.strip_prefix(word).filter(|r| r.starts_with(blank));
            if let Some(rest) = keyword("options") {
                let find = |name: &str| {
                    let at = rest.find(name)? + name.len();
                    leading_number(rest.get(at..)?)
                };
                conf.ndots = find("ndots:").map_or(conf.ndots, |n| n.min(15));
                conf.attempts = find("attempts:").map_or(conf.attempts, |n| n.min(10));
                conf.timeout = find("timeout:").map_or(conf.timeout, |n| n.min(60));
            } else if let Some(rest) = keyword("nameserver") {
                if servers.len() < NAMESERVERS_MAX {
                    servers.extend(rest.split(blank).find(|w| !w.is_empty()).and_then(address));
                }
            } else if let Some(rest) = keyword("domain").or_else(|| keyword("search")) {
                let words = rest.split(blank).filter(|w| !w.is_empty());
                conf.search = words.map(str::to_owned).collect();
            }
        }
        conf.with(servers)
    }

    fn with(mut self, servers: Vec<IpAddr>) -> Conf {
        if !servers.is_empty() {
            self.nameservers = servers;
        }
        self
    }
}

/// An address, with or without a scope.
fn address(word: &str) -> Option<IpAddr> {
    word.split('%').next()?.parse().ok()
}

/// Digits at the beginning; more than fits is as good as the cap.
fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit());
    let digits = &text[..end.unwrap_or(text.len())];
    (!digits.is_empty()).then(|| digits.parse().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_read_differently() {
        let text = "# kubelet\nnameserver 10.96.0.10\nsearch a.test b.test\nsearch c.test\n\
                    options ndots:5 rotate\noptions timeout:99 attempts:9 single-request-reopen\n";
        let (g, m) = (Conf::glibc(text), Conf::musl(text));
        assert_eq!(
            (g.search.as_slice(), g.ndots, g.timeout, g.attempts),
            (&["c.test".to_owned()][..], 5, 30, 5)
        );
        assert!(g.rotate && g.single_request_reopen && !g.single_request);
        assert_eq!(
            (m.search.as_slice(), m.ndots, m.timeout, m.attempts),
            (&["c.test".to_owned()][..], 5, 60, 9)
        );
        assert!(!m.rotate);
        assert_eq!(
            Conf::glibc("").nameservers,
            [IpAddr::V4(Ipv4Addr::LOCALHOST)]
        );
    }

    #[test]
    fn musl_passes_over_long_lines_and_both_over_a_fourth_server() {
        let long = format!(
            "search {}\n",
            ["some.quite.long.domain.example.org"; 9].join(" ")
        );
        assert_eq!(Conf::glibc(&long).search.len(), 9);
        assert_eq!(Conf::musl(&long).search.len(), 0);
        let four = "nameserver 1.1.1.1\nnameserver x\nnameserver fe80::1%eth0\nnameserver 3.3.3.3\nnameserver 4.4.4.4\n";
        for conf in [Conf::glibc(four), Conf::musl(four)] {
            assert_eq!(conf.nameservers.len(), 3);
            assert_eq!(conf.nameservers[1], "fe80::1".parse::<IpAddr>().unwrap());
        }
    }
}
