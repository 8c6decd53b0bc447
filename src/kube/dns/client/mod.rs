//! A pod's side of DNS: the resolv.conf it is given, and what getaddrinfo(3) makes of it.
//!
//! [`resolv_conf`] is the kubelet's part, [`conf`] how a libc reads the text, [`glibc`] and [`musl`] the stub
//! resolvers as state machines: [`Action`]s out, [`Event`]s and time in; they open no sockets. [`message`]
//! reads and writes what they put on the wire, as raw as the libcs do; [`order`] is getaddrinfo's sorting.
//! Not here: nscd, /etc/hosts (the caller's), DNSSEC, mDNS.
//! Invariant: same resolv.conf, name, seed, events and times: same actions and answer.
//! Tests: here, tests/dns_client.rs, and `dns/stub-resolver` and `dns/pod-resolv-conf` of tests/vectors.

pub mod conf;
pub mod dig;
pub mod glibc;
pub mod message;
pub mod musl;
pub mod order;
pub mod resolv_conf;
pub mod text;

use crate::base::Instant;
use crate::endpoint::Errno;
use core::fmt;
use core::str::FromStr;
use std::net::{IpAddr, SocketAddr};

/// A libc of a stated version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Libc {
    /// glibc 2.36 (Debian 12).
    #[default]
    Glibc236,
    /// musl 1.2.3 (Alpine 3.16, 3.17): the last one without TCP.
    Musl123,
    /// musl 1.2.5 (Alpine 3.20 and later).
    Musl125,
}

impl Libc {
    /// Every one.
    pub const ALL: [Libc; 3] = [Libc::Glibc236, Libc::Musl123, Libc::Musl125];

    /// Name and version as the vectors write them: `glibc-2.36`.
    pub const fn name(self) -> &'static str {
        match self {
            Libc::Glibc236 => "glibc-2.36",
            Libc::Musl123 => "musl-1.2.3",
            Libc::Musl125 => "musl-1.2.5",
        }
    }

    /// What `gai_strerror` says.
    pub const fn error_text(self, e: Eai) -> &'static str {
        match (self, e) {
            (Libc::Glibc236, Eai::NoName) => "Name or service not known",
            (Libc::Glibc236, Eai::NoData) => "No address associated with hostname",
            (Libc::Glibc236, Eai::Again) => "Temporary failure in name resolution",
            (Libc::Glibc236, Eai::Fail) => "Non-recoverable failure in name resolution",
            (_, Eai::NoName) => "Name does not resolve",
            (_, Eai::NoData) => "Name has no usable address",
            (_, Eai::Again) => "Try again",
            (_, Eai::Fail) => "Non-recoverable error",
        }
    }
}

impl FromStr for Libc {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "glibc" => Ok(Libc::Glibc236),
            "musl" => Ok(Libc::Musl125),
            _ => Libc::ALL
                .into_iter()
                .find(|l| l.name() == text)
                .ok_or_else(|| {
                    format!(
                        "expected glibc, musl, glibc-2.36, musl-1.2.3 or musl-1.2.5, found \"{text}\""
                    )
                }),
        }
    }
}

/// An error of getaddrinfo(3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Eai {
    /// EAI_NONAME: there is no such name.
    NoName,
    /// EAI_NODATA: the name is there and has no address of the wanted family.
    NoData,
    /// EAI_AGAIN: no server gave an answer that could be used.
    Again,
    /// EAI_FAIL: a server refused for good.
    Fail,
}

impl Eai {
    /// The constant's name in netdb.h.
    pub const fn name(self) -> &'static str {
        match self {
            Eai::NoName => "EAI_NONAME",
            Eai::NoData => "EAI_NODATA",
            Eai::Again => "EAI_AGAIN",
            Eai::Fail => "EAI_FAIL",
        }
    }
}

/// Which addresses are asked for (`ai_family`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Family {
    /// AF_UNSPEC: A and AAAA.
    #[default]
    Any,
    /// AF_INET: A.
    V4,
    /// AF_INET6: AAAA.
    V6,
}

/// A socket of one look-up, numbered from 1 in the order of opening.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Sock(pub u32);

impl fmt::Display for Sock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

/// What a resolver does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Opens a UDP socket: connected to a server and told of every ICMP error (`__res_enable_icmp`:
    /// IP_RECVERR), or for all servers and told of none.
    Udp {
        /// The socket.
        sock: Sock,
        /// The only peer, if connected.
        server: Option<SocketAddr>,
    },
    /// Sends a query as a datagram.
    Send {
        /// From this socket.
        sock: Sock,
        /// To this server.
        to: SocketAddr,
        /// The message.
        message: Vec<u8>,
    },
    /// Connects and sends queries as one stream.
    Tcp {
        /// The socket.
        sock: Sock,
        /// To this server.
        server: SocketAddr,
        /// The messages, without their lengths.
        messages: Vec<Vec<u8>>,
    },
    /// Closes a socket.
    Close {
        /// Which.
        sock: Sock,
    },
}

/// What a resolver is told.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A datagram came.
    Datagram {
        /// On this socket.
        sock: Sock,
        /// From here.
        from: SocketAddr,
        /// The message.
        message: &'a [u8],
    },
    /// A whole message came on a stream.
    Message {
        /// On this socket.
        sock: Sock,
        /// The message, without its length.
        message: &'a [u8],
    },
    /// The peer closed the stream.
    Closed {
        /// This socket.
        sock: Sock,
    },
    /// A call on the socket failed.
    Failed {
        /// This socket.
        sock: Sock,
        /// The error.
        errno: Errno,
    },
}

/// What getaddrinfo(3) returns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The addresses as they stood in the answers, not yet sorted; empty with an error.
    pub addresses: Vec<IpAddr>,
    /// The error, if it failed.
    pub error: Option<Eai>,
    /// The response code that decided: 0 where a name has no address; `None` where no server answered.
    pub rcode: Option<u16>,
    /// The name that was found or asked for last, with the final dot.
    pub asked: String,
    /// When.
    pub at: Instant,
}

/// One call of getaddrinfo(3) under way.
#[derive(Clone, Debug)]
pub struct Lookup {
    machine: Machine,
}

#[derive(Clone, Debug)]
enum Machine {
    Glibc(Box<glibc::Glibc>),
    Musl(Box<musl::Musl>),
}

impl Lookup {
    /// Begins to look a name up with what a libc reads in `resolv_conf`. `seed` decides query ids and the
    /// server that `rotate` begins with.
    pub fn start(
        now: Instant,
        libc: Libc,
        resolv_conf: &str,
        name: &str,
        family: Family,
        seed: u64,
    ) -> Self {
        let machine = match libc {
            Libc::Glibc236 => {
                let conf = conf::Conf::glibc(resolv_conf);
                Machine::Glibc(Box::new(glibc::Glibc::start(now, conf, name, family, seed)))
            }
            Libc::Musl123 | Libc::Musl125 => {
                let conf = conf::Conf::musl(resolv_conf);
                let tcp = libc == Libc::Musl125;
                Machine::Musl(Box::new(musl::Musl::start(
                    now, conf, tcp, name, family, seed,
                )))
            }
        };
        Lookup { machine }
    }

    /// The result, once there is one.
    pub fn answer(&self) -> Option<&Answer> {
        match &self.machine {
            Machine::Glibc(m) => m.answer(),
            Machine::Musl(m) => m.answer(),
        }
    }
}

/// Something that asks: a [`Lookup`] or a [`dig::Dig`].
pub trait Resolver {
    /// What it does next, in order; each action is told once.
    fn actions(&mut self) -> Vec<Action>;
    /// When [`Resolver::tick`] has something to do.
    fn due(&self) -> Option<Instant>;
    /// Time went on.
    fn tick(&mut self, now: Instant);
    /// Something happened on a socket; what belongs to a closed one is passed over.
    fn event(&mut self, now: Instant, event: Event<'_>);
    /// When it had its result, if it has.
    fn ended(&self) -> Option<Instant>;
}

impl Resolver for Lookup {
    fn actions(&mut self) -> Vec<Action> {
        match &mut self.machine {
            Machine::Glibc(m) => m.actions(),
            Machine::Musl(m) => m.actions(),
        }
    }

    fn due(&self) -> Option<Instant> {
        match &self.machine {
            Machine::Glibc(m) => m.due(),
            Machine::Musl(m) => m.due(),
        }
    }

    fn tick(&mut self, now: Instant) {
        match &mut self.machine {
            Machine::Glibc(m) => m.tick(now),
            Machine::Musl(m) => m.tick(now),
        }
    }

    fn event(&mut self, now: Instant, event: Event<'_>) {
        match &mut self.machine {
            Machine::Glibc(m) => m.event(now, event),
            Machine::Musl(m) => m.event(now, event),
        }
    }

    fn ended(&self) -> Option<Instant> {
        self.answer().map(|a| a.at)
    }
}
