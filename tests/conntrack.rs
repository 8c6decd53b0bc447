//! Connection tracking against recordings of Linux 6.18's own, step by step.

#[path = "conntrack/packet.rs"]
mod packet;
#[path = "conntrack/replay.rs"]
mod replay;
#[path = "conntrack/table.rs"]
mod table;
#[path = "conntrack/text.rs"]
mod text;

fn same_as_kernel(recording: &str) {
    let (steps, wrong) = replay::play(recording);
    assert!(steps > 20, "only {steps} steps: is this a recording?");
    assert!(
        wrong.is_empty(),
        "{} of {steps} steps differ:\n{}",
        wrong.len(),
        wrong
            .iter()
            .take(12)
            .cloned()
            .collect::<Vec<_>>()
            .join("\n")
    );
}

/// Opening, closing, resets, windows, challenge ACKs, retransmissions, pickup.
#[test]
fn tcp() {
    same_as_kernel(include_str!("data/conntrack/tcp.txt"));
}

/// Each kind of segment from each side in each state, and the answer to it.
#[test]
fn tcp_transitions() {
    same_as_kernel(include_str!("data/conntrack/tcp-transitions.txt"));
}

/// Random walks around the window's edges.
#[test]
fn tcp_random() {
    same_as_kernel(include_str!("data/conntrack/tcp-random.txt"));
}

/// UDP, ICMP, GRE, SCTP and the rest.
#[test]
fn other_protocols() {
    same_as_kernel(include_str!("data/conntrack/other.txt"));
}

/// Each chunk from each side in each state of an association, and random walks.
#[test]
fn sctp() {
    same_as_kernel(include_str!("data/conntrack/sctp.txt"));
}

/// ftp and tftp announce connections; the lines of `conntrack -L expect` are compared too.
#[test]
fn helpers() {
    same_as_kernel(include_str!("data/conntrack/helper.txt"));
}
