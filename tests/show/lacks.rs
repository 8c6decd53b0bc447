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
        what: "subnet-router anycast routes of a device that forwards IPv6",
        is: |d| d.contains("ip-route.txt: -anycast "),
    },
    Pin {
        what: "addresses remember `nodad`",
        is: |d| {
            d.contains("inet6 ")
                && (d.ends_with("scope global nodad ")
                    || d.contains(": +") && d.ends_with("scope global "))
        },
    },
    Pin {
        what: "a vxlan device computes outer UDP checksums by default over IPv4 too",
        is: |d| d.contains("ip-link.txt") && d.contains("    vxlan id ") && d.contains("udpcsum "),
    },
    Pin {
        what: "bridge ports have link-local addresses of their own",
        is: |d| d.starts_with("captures/v6-clusterip "),
    },
    Pin {
        what: "a bridge port keeps its number when another leaves",
        is: |d| d.starts_with("own/bridge-ports n1 ip-link.txt: ") && d.contains("bridge_slave"),
    },
    Pin {
        what: "the local route of a secondary address has the primary as its source",
        is: |d| d.starts_with("own/l3-echo n1 ip-route.txt: ") && d.contains("local 10.1.0.7 "),
    },
    Pin {
        what: "an address on two devices has two local routes",
        is: |d| d.starts_with("own/pods-ptp ") && d.contains(" dev veth2 table local "),
    },
    Pin {
        what: "routes remember `mtu lock`",
        is: |d| d.starts_with("own/l3-mtu ") && d.contains("10.8.1.0/24 "),
    },
    Pin {
        what: "the last IPv4 address of a device takes its neighbours along (`fib_disable_ip`)",
        is: |d| {
            d.starts_with("own/icmp-source n1 ip-neigh.txt: +10.3.0.11 ")
                || d.starts_with("own/vxlan-flood ") && d.contains("ip-neigh.txt: +10.244.")
        },
    },
];
