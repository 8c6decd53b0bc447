//! When a round is over: every event has been read, no fragment is left waiting, and the bridge knows where
//! everybody is.

use super::super::net::Shape;
use super::super::packet::shifted;
use super::super::round::{LOCAL, Round, Sent};
use super::{FRAMES_MAX, Kernel, run};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

/// How long conntrack -E may take to tell of a connection.
const EVENT_WAIT: Duration = Duration::from_secs(5);
/// No event for so long means that there are no more.
const QUIET: Duration = Duration::from_millis(12);

impl Kernel {
    /// Ends reassembly that a round left unfinished: a timeout's ICMP error would be counted by a later round.
    /// A fragment that overlaps what is queued kills the queue, and begins one where there is none (kernel:
    /// `inet_frag_queue_insert`, `IPFRAG_OVERLAP`).
    pub(super) fn forget_fragments(&self, r: &Round) -> Result<u32, String> {
        let mut before = queued();
        for s in r.sent.iter().filter(|s| s.at != LOCAL) {
            for shift in [8, 16, 24] {
                let Some(data) = shifted(&s.data, shift) else {
                    break;
                };
                if before == 0 {
                    return Ok(0);
                }
                let (at, what) = (s.at.clone(), String::new());
                let t_us = 0;
                self.put(&Sent {
                    t_us,
                    at,
                    data,
                    what,
                })?;
                let after = queued();
                let killed = after < before;
                before = after;
                if killed {
                    break;
                }
            }
        }
        Ok(before)
    }

    /// Puts every link address back behind its port, and forgets who was spoken to. The bridge learned what
    /// rules wrote, and who answered on a cable that a frame of another's came out of (`dup`, `fwd`, flooding):
    /// the entry moves, static or not (`br_fdb_update`).
    pub(super) fn forget_places(&self) -> Result<(), String> {
        if self.shape != Shape::Bridged {
            return Ok(());
        }
        // Not by `ip link set`: its notice makes listener reports (`addrconf_notify`, NETDEV_CHANGE), which later
        // rounds would count.
        let flush = ["fdb", "flush", "dev", "br0", "nopermanent", "nostatic"];
        run("bridge", &flush, "")?;
        for line in self.shape.lines() {
            if let Some(rest) = line.strip_prefix("bridge fdb add ") {
                let words = ["fdb", "replace"].into_iter();
                let words: Vec<&str> = words.chain(rest.split_whitespace()).collect();
                run("bridge", &words, "")?;
            }
        }
        // A neighbour that has been spoken to keeps a link header: what is translated within the bridge then
        // goes right to its port, and by br0's own queue otherwise (`br_nf_pre_routing_finish_bridge`).
        let mut batch = "neigh flush dev br0 nud permanent\n".to_owned();
        for line in self.shape.lines() {
            if let Some(rest) = line.strip_prefix("ip neigh")
                && rest.contains("dev br0")
            {
                batch += &format!("neigh{rest}\n");
            }
        }
        run("ip", &["-batch", "-"], &batch).map(drop)
    }

    /// Reads events to the last: that of a connection made now, which comes behind those of the round however
    /// busy the machine is.
    pub(super) fn last_event(&self, out: &mut Vec<String>) -> Result<(), String> {
        let words = "-I -p udp -s 127.9.9.9 -d 127.9.9.8 --sport 9 --dport 9 -t 9";
        let words: Vec<&str> = words.split(' ').collect();
        run("conntrack", &words, "")?;
        loop {
            match self.lines.recv_timeout(EVENT_WAIT) {
                Ok(l) if l.contains("src=127.9.9.9") => return Ok(()),
                Ok(l) => out.push(l),
                Err(e) => return Err(format!("conntrack -E does not tell of a connection: {e}")),
            }
        }
    }

    /// Reads events until none come for a moment; false if they go on.
    pub(super) fn events_until_quiet(&self, out: &mut Vec<String>) -> bool {
        for _ in 0..FRAMES_MAX {
            match self.lines.recv_timeout(QUIET) {
                Ok(l) => out.push(l),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return true,
            }
        }
        false
    }
}

/// Packets that the router has sent to itself: copies of copies turn there without a frame or an event.
pub(super) fn own_packets() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    let line = text.lines().find_map(|l| l.trim().strip_prefix("lo:"));
    let packets = line.and_then(|l| l.split_whitespace().nth(1));
    packets.and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Reassembly queues of the namespace, IPv4's and IPv6's (`FRAG: inuse 2 memory 4608`).
pub(super) fn queued() -> u32 {
    let of = |file: &str| -> u32 {
        let text = std::fs::read_to_string(format!("/proc/thread-self/net/{file}"));
        let text = text.unwrap_or_default();
        let line = text.lines().find(|l| l.starts_with("FRAG"));
        let used = line.and_then(|l| l.split_whitespace().nth(2));
        used.and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    of("sockstat") + of("sockstat6")
}
