//! Name servers of a test that runs a stub resolver without a network: they answer at once, from a list of
//! records, or as a case says.

use podpath::base::Instant;
use podpath::endpoint::Errno;
use podpath::kube::dns::client::message::{self, Head};
use podpath::kube::dns::client::text::{rcode_name, type_name, type_number};
use podpath::kube::dns::client::{Action, Answer, Event, Lookup, Resolver, Sock};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

/// What a server does with a query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Behaviour {
    /// Nothing.
    Drop,
    /// This response code.
    Rcode(u16),
    /// ICMP port unreachable, or RST.
    Unreachable,
}

/// One rule: a server, a name or `*`, a type, what is done, and how often.
#[derive(Clone, Debug)]
pub struct Rule {
    /// `None`: every server.
    pub server: Option<IpAddr>,
    /// Name with its final dot; `*`: every name.
    pub name: String,
    /// `None`: every type.
    pub qtype: Option<u16>,
    /// What it does.
    pub what: Behaviour,
    /// How often yet.
    pub times: u32,
}

/// All servers.
#[derive(Clone, Debug, Default)]
pub struct Servers {
    /// Owner in lower case, type, data.
    pub records: Vec<(String, u16, Vec<u8>)>,
    /// The first that fits counts.
    pub rules: Vec<Rule>,
    /// Answers by UDP are cut to nothing and carry TC.
    pub truncate: bool,
    /// Nobody listens for TCP.
    pub tcp_refused: bool,
}

/// One query that arrived.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Seen {
    /// When.
    pub at: Instant,
    /// Which socket it came from.
    pub sock: Sock,
    /// Which server.
    pub server: IpAddr,
    /// By TCP.
    pub tcp: bool,
    /// Name.
    pub name: String,
    /// Type.
    pub qtype: u16,
}

impl Seen {
    /// As the vectors write it.
    pub fn line(&self) -> String {
        let proto = if self.tcp { "tcp" } else { "udp" };
        let s = (self.at.as_secs_f64() + 0.5) as u64;
        let after = if s == 0 {
            String::new()
        } else {
            format!(" +{s}s")
        };
        format!(
            "{} {proto} {} {} {}{after}",
            self.server,
            self.sock,
            self.name,
            type_name(self.qtype)
        )
    }
}

impl Servers {
    /// Adds `owner ttl IN TYPE data`.
    pub fn record(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [owner, _, "IN", rtype, data] = words.as_slice() else {
            panic!("not a record: {line}");
        };
        let rtype = type_number(rtype).expect("a type");
        let data = match data.parse::<IpAddr>() {
            Ok(IpAddr::V4(a)) => a.octets().to_vec(),
            Ok(IpAddr::V6(a)) => a.octets().to_vec(),
            Err(_) => data.bytes().collect(),
        };
        self.records.push((owner.to_ascii_lowercase(), rtype, data));
    }

    /// The reply; `None`: nothing comes; `Err`: unreachable.
    fn reply(&mut self, server: IpAddr, tcp: bool, query: &[u8]) -> Result<Option<Vec<u8>>, ()> {
        if tcp && self.tcp_refused {
            return Err(());
        }
        let p = message::parse(query).expect("a query");
        let q = &p.questions[0];
        let fits = |r: &&mut Rule| {
            r.times > 0
                && r.server.is_none_or(|s| s == server)
                && (r.name == "*" || r.name.eq_ignore_ascii_case(&q.name))
                && r.qtype.is_none_or(|t| t == q.qtype)
        };
        if let Some(rule) = self.rules.iter_mut().find(fits) {
            rule.times -= 1;
            return match rule.what {
                Behaviour::Drop => Ok(None),
                Behaviour::Unreachable => Err(()),
                Behaviour::Rcode(code) => Ok(Some(make(query, code, false, &[]))),
            };
        }
        let name = q.name.to_ascii_lowercase();
        let found: Vec<&(String, u16, Vec<u8>)> = self
            .records
            .iter()
            .filter(|r| r.0 == name && r.1 == q.qtype)
            .collect();
        let below = format!(".{name}");
        let known = self
            .records
            .iter()
            .any(|r| r.0 == name || r.0.ends_with(&below));
        if self.truncate && !tcp {
            return Ok(Some(make(query, 0, true, &[])));
        }
        Ok(Some(make(query, if known { 0 } else { 3 }, false, &found)))
    }
}

/// A reply with RA to `query`.
fn make(query: &[u8], rcode: u16, tc: bool, records: &[&(String, u16, Vec<u8>)]) -> Vec<u8> {
    let mut m = query.to_vec();
    // Header and question only: an OPT record of the query is not repeated.
    let (_, after) = message::name_at(query, 12).expect("a name");
    m.truncate(after + 4);
    m[2] = 0x81 | if tc { 2 } else { 0 };
    m[3] = 0x80 | rcode as u8;
    m[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
    m[10..12].copy_from_slice(&[0, 0]);
    for (_, rtype, data) in records {
        m.extend_from_slice(&[0xc0, 12]);
        m.extend_from_slice(&rtype.to_be_bytes());
        m.extend_from_slice(&[0, 1, 0, 0, 0, 5]);
        m.extend_from_slice(&(data.len() as u16).to_be_bytes());
        m.extend_from_slice(data);
    }
    m
}

/// What comes back to a resolver.
enum Back {
    Datagram(Sock, SocketAddr, Vec<u8>),
    Message(Sock, Vec<u8>),
    Failed(Sock),
}

/// Runs a look-up to its end: the answer, and what the servers saw. Time goes on only when nothing is on its way.
pub fn run(lookup: &mut Lookup, servers: &mut Servers) -> (Answer, Vec<Seen>) {
    let (mut now, mut seen) = (Instant::ZERO, Vec::new());
    let mut back: VecDeque<Back> = VecDeque::new();
    let mut open: BTreeMap<Sock, bool> = BTreeMap::new();
    for _ in 0..10_000 {
        for action in lookup.actions() {
            act(action, now, servers, &mut seen, &mut back, &mut open);
        }
        if let Some(answer) = lookup.answer() {
            assert_eq!(open.len(), 0, "sockets left open");
            return (answer.clone(), seen);
        }
        match back.pop_front() {
            Some(Back::Datagram(sock, from, m)) if open.contains_key(&sock) => {
                assert!(Head::of(&m).is_some(), "{}", rcode_name(0));
                lookup.event(
                    now,
                    Event::Datagram {
                        sock,
                        from,
                        message: &m,
                    },
                );
            }
            Some(Back::Message(sock, m)) if open.contains_key(&sock) => {
                lookup.event(now, Event::Message { sock, message: &m });
            }
            Some(Back::Failed(sock)) if open.contains_key(&sock) => {
                lookup.event(
                    now,
                    Event::Failed {
                        sock,
                        errno: Errno::ConnRefused,
                    },
                );
            }
            Some(_) => {}
            None => {
                now = lookup.due().expect("something to wait for").max(now);
                lookup.tick(now);
            }
        }
    }
    panic!("a look-up without an end");
}

fn act(
    action: Action,
    at: Instant,
    servers: &mut Servers,
    seen: &mut Vec<Seen>,
    back: &mut VecDeque<Back>,
    open: &mut BTreeMap<Sock, bool>,
) {
    let mut ask = |servers: &mut Servers, sock, server: SocketAddr, tcp, message: &[u8]| {
        let p = message::parse(message).expect("a query");
        let q = p.questions[0].clone();
        seen.push(Seen {
            at,
            sock,
            server: server.ip(),
            tcp,
            name: q.name,
            qtype: q.qtype,
        });
        servers.reply(server.ip(), tcp, message)
    };
    match action {
        Action::Udp { sock, server } => {
            open.insert(sock, server.is_some());
        }
        Action::Send { sock, to, message } => match ask(servers, sock, to, false, &message) {
            Ok(Some(m)) => back.push_back(Back::Datagram(sock, to, m)),
            // Only a connected socket hears of it.
            Err(()) if open.get(&sock) == Some(&true) => back.push_back(Back::Failed(sock)),
            _ => {}
        },
        Action::Tcp {
            sock,
            server,
            messages,
        } => {
            open.insert(sock, true);
            for message in messages {
                match ask(servers, sock, server, true, &message) {
                    Ok(Some(m)) => back.push_back(Back::Message(sock, m)),
                    Ok(None) => {}
                    Err(()) => back.push_back(Back::Failed(sock)),
                }
            }
        }
        Action::Close { sock } => {
            open.remove(&sock);
        }
    }
}
