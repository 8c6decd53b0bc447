//! A namespace's state as `ip` and `bridge` of iproute2 print it, and as their `-j` prints it.
//!
//! Each object is written once and gives both forms, as iproute2's own `print_*(PRINT_ANY, ...)` do.
//! Order is the kernel's where it follows from the state (device index, FIB trie walk, address lists);
//! where the kernel lists a hash table (neighbours, FDB) it is by device and address. Numbers podpath
//! does not model (queues, GSO limits, bridge timers) are a fresh kernel's. Judge: the dumps of
//! tests/recordings, in tests/show.rs.

mod addr;
mod bridge_link;
mod detail;
mod fdb;
pub mod ipvs;
mod link;
mod neigh;
pub mod netfilter;
mod out;
mod route;
mod rule;
pub mod services;

use crate::base::{Instant, NsId};
use crate::net::NetNs;
use out::Obj;
use serde_json::Value;

pub use crate::net::text::table_name;
pub use route::route_line;

/// What to show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ShowWhat {
    /// `ip addr`
    Addr,
    /// `ip link`
    Link,
    /// `ip route`
    Route {
        /// Which tables.
        table: RouteTables,
    },
    /// `ip rule`
    Rule,
    /// `ip neigh`
    Neigh,
    /// `bridge fdb`
    Fdb,
    /// `bridge link`
    BridgeLink,
}

/// Which routing tables `ip route` shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RouteTables {
    /// The main table, as without `table`.
    #[default]
    Main,
    /// `table all`
    All,
    /// `table ID`
    One(u32),
}

/// Address family, as `-4` and `-6` choose it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Family {
    /// Neither flag: both families, except for routes of one table and rules, which then are IPv4's.
    #[default]
    Any,
    /// `-4`
    V4,
    /// `-6`
    V6,
}

impl Family {
    fn shows(self, v4: bool) -> bool {
        match self {
            Family::Any => true,
            Family::V4 => v4,
            Family::V6 => !v4,
        }
    }

    /// The families to list where `ip` without a flag means IPv4.
    fn or_v4(self) -> &'static [bool] {
        match self {
            Family::Any | Family::V4 => &[true],
            Family::V6 => &[false],
        }
    }
}

/// How to show it.
#[derive(Clone, Copy, Default)]
pub struct Ctx<'a> {
    /// Virtual now: bridge entries that aged away by then are not shown.
    pub now: Instant,
    /// `-d`
    pub details: bool,
    /// `-4` or `-6`
    pub family: Family,
    /// Names the namespace at the other end of a cable, for `link-netns`; nothing is said without it.
    pub netns: Option<&'a dyn Fn(NsId) -> Option<String>>,
}

fn objects(ns: &NetNs, what: ShowWhat, cx: &Ctx<'_>) -> Vec<Obj> {
    match what {
        ShowWhat::Addr => addr::list(ns, cx),
        ShowWhat::Link => link::list(ns, cx),
        ShowWhat::Route { table } => route::list(ns, table, cx),
        ShowWhat::Rule => rule::list(ns, cx),
        ShowWhat::Neigh => neigh::list(ns, cx),
        ShowWhat::Fdb => fdb::list(ns, cx),
        ShowWhat::BridgeLink => bridge_link::list(ns, cx),
    }
}

/// The text, every line ended.
pub fn text(ns: &NetNs, what: ShowWhat, cx: &Ctx<'_>) -> String {
    objects(ns, what, cx).into_iter().map(Obj::line).collect()
}

/// The `-j` form: an array of objects with iproute2's keys in its order.
pub fn json(ns: &NetNs, what: ShowWhat, cx: &Ctx<'_>) -> Value {
    objects(ns, what, cx).into_iter().map(Obj::value).collect()
}
