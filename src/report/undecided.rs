//! What a probe's answer rests on without anybody knowing it: which real server was next.
//!
//! A dump sorts the real servers of a virtual service and says nothing of where its scheduler stands. Says
//! so once for each service and node that a probe met. Invariant: no line where nothing was open.

use crate::path::{Event, EventKind, Step};
use serde_json::{Value, json};

/// One choice that was made for want of knowledge.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Choice {
    place: String,
    virt: String,
    server: String,
    of: u32,
}

/// The choices among a probe's events, in their order, each once.
pub fn choices(events: &[Event]) -> Vec<Choice> {
    let mut out: Vec<Choice> = Vec::new();
    for e in events {
        let EventKind::Step(Step::Ipvs {
            virt, server, open, ..
        }) = &e.kind
        else {
            continue;
        };
        let choice = Choice {
            place: e.ns_name.clone(),
            virt: virt.to_string(),
            server: server.to_string(),
            of: *open,
        };
        if *open > 0 && !out.contains(&choice) {
            out.push(choice);
        }
    }
    out
}

/// A line for each.
pub fn text(all: &[Choice]) -> String {
    all.iter().fold(String::new(), |out, c| {
        let Choice {
            place,
            virt,
            server,
            of,
        } = c;
        out + &format!(
            "{place}: the dump does not say which of {of} real servers of {virt} is next; {server} was taken\n"
        )
    })
}

/// `[{"namespace", "virtual", "server", "of"}]`
pub fn json(all: &[Choice]) -> Value {
    let one = |c: &Choice| json!({"namespace": c.place, "virtual": c.virt, "server": c.server, "of": c.of});
    all.iter().map(one).collect()
}
