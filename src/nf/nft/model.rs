//! A rule set: tables, chains, sets, objects, flow tables.
//!
//! Data only: reading is in `parse`, changing by commands in `apply`, evaluation is elsewhere.
//! Invariant: names are
//! unique per table and kind, and order is that in which they were made (which is the order nft
//! lists them in).

use indexmap::IndexMap;
use smallvec::SmallVec;
use std::sync::Arc;

use super::elements::Elements;
use super::expr::{Expr, Limit, Quota, Stateful, Stmt, Synproxy};
use super::types::Type;
use crate::base::Origin;
use crate::nf::Counters;

macro_rules! words {
    ($($(#[$meta:meta])* $name:ident { $($v:ident = $text:literal,)+ })+) => { $(
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
        pub enum $name { $(#[doc = concat!("`", $text, "`")] $v,)+ }

        impl $name {
            /// The one that is spelt so.
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($text => Some($name::$v),)+ _ => None }
            }

            /// How it is spelt.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$v => $text,)+ }
            }

            /// All of them.
            pub const ALL: &[$name] = &[$($name::$v),+];
        }
    )+ };
}

words! {
    /// Which packets a table sees.
    Family { Ip = "ip", Ip6 = "ip6", Inet = "inet", Arp = "arp", Bridge = "bridge", Netdev = "netdev", }
    /// What a base chain is for.
    ChainType { Filter = "filter", Nat = "nat", Route = "route", }
    /// Where a base chain stands.
    HookName {
        Ingress = "ingress", Prerouting = "prerouting", Input = "input", Forward = "forward", Output = "output",
        Postrouting = "postrouting", Egress = "egress",
    }
    /// What happens at a base chain's end.
    Policy { Accept = "accept", Drop = "drop", }
    /// A named object's kind.
    ObjectKind {
        Counter = "counter", Quota = "quota", CtHelper = "ct helper", Limit = "limit", CtTimeout = "ct timeout",
        Secmark = "secmark", CtExpect = "ct expectation", Synproxy = "synproxy",
    }
}

/// All tables of a namespace, in the order in which they were made.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Ruleset {
    /// The tables.
    pub tables: IndexMap<(Family, Arc<str>), Table>,
    /// The last handle that was given to a table (kernel: nft_net.table_handle).
    pub(super) last_handle: u64,
}

impl Ruleset {
    /// Says of the rules whose maker nobody has named where they come from.
    pub fn claim(&mut self, mut of: impl FnMut(&str, &Rule) -> Origin) {
        let chains = self.tables.values_mut().flat_map(|t| t.chains.values_mut());
        for c in chains {
            for r in c.rules.iter_mut().filter(|r| r.origin == Origin::Kernel) {
                r.origin = of(&c.name, r);
            }
        }
    }
}

/// A table.
#[derive(Clone, PartialEq, Debug)]
pub struct Table {
    /// Its family.
    pub family: Family,
    /// Its name.
    pub name: Arc<str>,
    /// Its number.
    pub handle: u64,
    /// `flags dormant`: its chains are not run.
    pub dormant: bool,
    /// `flags owner`: a process holds it.
    pub owner: bool,
    /// `flags persist`.
    pub persist: bool,
    /// Its comment.
    pub comment: Option<Box<str>>,
    /// Named objects.
    pub objects: IndexMap<(ObjectKind, Arc<str>), Object>,
    /// Sets and maps.
    pub sets: IndexMap<Arc<str>, Set>,
    /// Flow tables.
    pub flowtables: IndexMap<Arc<str>, Flowtable>,
    /// Chains.
    pub chains: IndexMap<Arc<str>, Chain>,
    /// The last handle given in it.
    pub(super) last_handle: u64,
}

impl Table {
    /// An empty one.
    pub fn new(family: Family, name: impl Into<Arc<str>>) -> Self {
        Table {
            family,
            name: name.into(),
            handle: 0,
            dormant: false,
            owner: false,
            persist: false,
            comment: None,
            objects: IndexMap::new(),
            sets: IndexMap::new(),
            flowtables: IndexMap::new(),
            chains: IndexMap::new(),
            last_handle: 0,
        }
    }

    /// The next handle in this table (kernel: nf_tables_alloc_handle).
    pub(super) fn next_handle(&mut self) -> u64 {
        self.last_handle = self.last_handle.saturating_add(1);
        self.last_handle
    }
}

/// What makes a chain a base chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Base {
    /// Its type.
    pub kind: ChainType,
    /// Where it stands.
    pub hook: HookName,
    /// Devices it is bound to (netdev, and inet ingress).
    pub devices: Vec<Box<str>>,
    /// When it runs.
    pub priority: i32,
    /// What happens at its end.
    pub policy: Policy,
}

/// A chain.
#[derive(Clone, PartialEq, Debug)]
pub struct Chain {
    /// Its name.
    pub name: Arc<str>,
    /// Its number.
    pub handle: u64,
    /// Its comment.
    pub comment: Option<Box<str>>,
    /// Only base chains have it.
    pub base: Option<Base>,
    /// Its rules in order.
    pub rules: Vec<Rule>,
}

impl Chain {
    /// An empty regular chain.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Chain {
            name: name.into(),
            handle: 0,
            comment: None,
            base: None,
            rules: Vec::new(),
        }
    }
}

/// A rule.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Rule {
    /// Its number, unique in its table; 0 as long as it has none.
    pub handle: u64,
    /// What it does, in order.
    pub stmts: Vec<Stmt>,
    /// Its comment.
    pub comment: Option<Box<str>>,
    /// Its 1-based line in the input, 0 if it has none.
    pub line: u32,
    /// Who made it; [`Origin::Kernel`] as long as nobody has said so.
    pub origin: Origin,
}

impl Rule {
    /// Whether all of it is understood.
    pub fn is_known(&self) -> bool {
        !self
            .stmts
            .iter()
            .any(|s| matches!(s, Stmt::Unknown(_) | Stmt::Xt(..)))
    }
}

/// How a set's key or data is declared.
#[derive(Clone, PartialEq, Debug)]
pub enum SetType {
    /// `type ipv4_addr . inet_service`.
    Types(SmallVec<[Type; 4]>),
    /// `typeof ip saddr . tcp dport`.
    Typeof(Expr),
}

impl SetType {
    /// The types, one per field.
    pub fn dtypes(&self) -> SmallVec<[Type; 4]> {
        match self {
            SetType::Types(t) => t.clone(),
            SetType::Typeof(e) => e.dtypes(),
        }
    }
}

/// What an element is given if the set says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SetFlags {
    /// `constant`
    pub constant: bool,
    /// `dynamic`
    pub dynamic: bool,
    /// `interval`
    pub interval: bool,
    /// `timeout`
    pub timeout: bool,
}

/// A set or, if it has `data`, a map.
#[derive(Clone, PartialEq, Debug)]
pub struct Set {
    /// Its name.
    pub name: Arc<str>,
    /// Its number.
    pub handle: u64,
    /// Its key.
    pub key: SetType,
    /// What it maps to; [`Type::Verdict`] alone is a verdict map, [`Type::Object`] an object map.
    pub data: Option<SetType>,
    /// `: interval TYPE`: the data are ranges.
    pub data_interval: bool,
    /// Its flags.
    pub flags: SetFlags,
    /// `policy memory`.
    pub memory: bool,
    /// The most elements it takes.
    pub size: Option<u32>,
    /// Elements' timeout in milliseconds.
    pub timeout: Option<u64>,
    /// Time between sweeps in milliseconds.
    pub gc_interval: Option<u64>,
    /// `auto-merge`.
    pub auto_merge: bool,
    /// State that every element gets: `counter`, `limit rate`...
    pub state: SmallVec<[Stateful; 1]>,
    /// Its comment.
    pub comment: Option<Box<str>>,
    /// Its elements.
    pub elements: Elements,
}

impl Set {
    /// An empty set with this key.
    pub fn new(name: impl Into<Arc<str>>, key: SetType) -> Self {
        Set {
            name: name.into(),
            handle: 0,
            elements: Elements::new(&key.dtypes()),
            key,
            data: None,
            data_interval: false,
            flags: SetFlags::default(),
            memory: false,
            size: None,
            timeout: None,
            gc_interval: None,
            auto_merge: false,
            state: SmallVec::new(),
            comment: None,
        }
    }

    /// Whether it maps keys to verdicts.
    pub fn is_vmap(&self) -> bool {
        self.data
            .as_ref()
            .is_some_and(|d| d.dtypes().as_slice() == [Type::Verdict])
    }
}

/// A named object.
#[derive(Clone, PartialEq, Debug)]
pub struct Object {
    /// Its name.
    pub name: Arc<str>,
    /// Its number.
    pub handle: u64,
    /// Its comment.
    pub comment: Option<Box<str>>,
    /// What it is.
    pub body: ObjectBody,
}

/// What an object holds.
#[derive(Clone, PartialEq, Debug)]
pub enum ObjectBody {
    /// `counter`
    Counter(Counters),
    /// `quota`
    Quota(Quota),
    /// `limit`
    Limit(Limit),
    /// `ct helper`
    CtHelper {
        /// The helper's name in the kernel: `ftp`.
        helper: Box<str>,
        /// `tcp` or `udp`.
        protocol: u8,
        /// The family, `ip`, `ip6` or `inet`.
        l3: Option<Family>,
    },
    /// `ct timeout`
    CtTimeout {
        /// The protocol.
        protocol: u8,
        /// The family.
        l3: Option<Family>,
        /// State and seconds, in written order.
        policy: Vec<(Box<str>, u32)>,
    },
    /// `ct expectation`
    CtExpect {
        /// The protocol.
        protocol: u8,
        /// The port that is awaited.
        dport: u16,
        /// For how long, in milliseconds.
        timeout: u64,
        /// How many at a time.
        size: u8,
        /// The family.
        l3: Option<Family>,
    },
    /// `synproxy`
    Synproxy(Synproxy),
    /// `secmark`
    Secmark(Box<str>),
}

impl ObjectBody {
    /// Its kind.
    pub fn kind(&self) -> ObjectKind {
        match self {
            ObjectBody::Counter(_) => ObjectKind::Counter,
            ObjectBody::Quota(_) => ObjectKind::Quota,
            ObjectBody::Limit(_) => ObjectKind::Limit,
            ObjectBody::CtHelper { .. } => ObjectKind::CtHelper,
            ObjectBody::CtTimeout { .. } => ObjectKind::CtTimeout,
            ObjectBody::CtExpect { .. } => ObjectKind::CtExpect,
            ObjectBody::Synproxy(_) => ObjectKind::Synproxy,
            ObjectBody::Secmark(_) => ObjectKind::Secmark,
        }
    }
}

/// A flow table; kept, its fast path is not emulated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flowtable {
    /// Its name.
    pub name: Arc<str>,
    /// Its number.
    pub handle: u64,
    /// Always `ingress`.
    pub hook: HookName,
    /// When it runs.
    pub priority: i32,
    /// Its devices.
    pub devices: Vec<Box<str>>,
    /// `flags offload`.
    pub offload: bool,
    /// `counter`.
    pub counter: bool,
}
