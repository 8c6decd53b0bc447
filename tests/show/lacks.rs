//! What podpath's kernel model does not know yet, so that `show` cannot print it: one entry per fact.
//!
//! A pin that no difference needs any more fails the test: then the model has learned it and the pin goes.

/// One missing fact.
pub struct Pin {
    /// What is missing.
    pub what: &'static str,
    /// Whether a difference (`RECORDING NAMESPACE DUMP: -LINE` or `+LINE`) comes of it.
    pub is: fn(&str) -> bool,
}

/// All of them.
pub const PINNED: &[Pin] = &[
    Pin {
        what: "addresses remember `nodad`",
        is: |d| {
            d.contains("inet6 ")
                && (d.ends_with("scope global nodad ")
                    || d.contains(": +") && d.ends_with("scope global "))
        },
    },
    Pin {
        what: "a bridge port keeps its number when another leaves",
        is: |d| d.starts_with("own/bridge-ports n1 ip-link.txt: ") && d.contains("bridge_slave"),
    },
    Pin {
        what: "links become ready in batches of up to a second, in no set order (`linkwatch`): eth0 last",
        is: |d| {
            d.starts_with("captures/v6-clusterip n1 ip-route.txt: ") && d.contains(" dev eth0 ")
        },
    },
];
