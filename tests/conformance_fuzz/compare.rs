//! What came of a round, the kernel's against podpath's.
//!
//! Compared: every frame out of every cable, in order, byte by byte; of the tables the round loaded every chain,
//! rule text and counter, native ones included (`nft_compare.rs`); every connection with its tuples, state,
//! flags, mark and zone; every set with its entries. Left out, since the kernel draws them:
//! - the IPv4 identification of ICMP messages and TCP resets, which the router may have made itself, and the
//!   flow label of the same in IPv6 (a header checksum that fits is then taken as such);
//! - the link addresses of resets where a rule makes copies (uninitialised memory: [`blind_resets`]);
//! - ports and echo ids that nobody told ([`Drawn`]);
//! - the time of day in ICMP timestamp replies (RFC 792);
//! - `initval` and `bucketsize` of sets, and the order of their entries;
//! - the remaining time of a connection by one second: the kernel is asked some milliseconds after the end.
//!
//! A round that the kernel itself plays in two ways is undetermined ([`amounts`]): said, counted, and no pass.

use super::drawn::Drawn;
use super::packet::{ICMP, RST, TCP, checksum};
use super::round::{Out, Outcome, Round};
use super::tables;

/// Receive and transmit times follow the sender's own.
const TIMESTAMP_REPLY: u8 = 14;

/// Everything that differs, a line or two for each.
pub fn differences(r: &Round, kernel: &Outcome, ours: &Outcome) -> Vec<String> {
    let blind = Blind {
        resets: blind_resets(r),
        drawn: Drawn::of(r),
    };
    let mut out = frames(&kernel.out, &ours.out, &blind);
    let loaded: Vec<&str> = r
        .rules
        .lines()
        .filter_map(|l| l.strip_prefix('*'))
        .collect();
    out.extend(tables::counters(&kernel.save, &ours.save, &|t| loaded.contains(&t)).1);
    out.extend(
        tables::connections(
            &tables::lines(&kernel.conntrack),
            &tables::lines(&ours.conntrack),
            1,
        )
        .1,
    );
    out.extend(tables::sets(&kernel.sets, &ours.sets).1);
    out.extend(super::nft_compare::differences(&kernel.nft, &ours.nft));
    out
}

/// What a round's frames cannot be compared in.
struct Blind {
    /// Link addresses of resets.
    resets: bool,
    /// Numbers that the kernel drew and did not tell.
    drawn: Option<Drawn>,
}

/// Whether a reset may answer a copy: out of a bridge's port it goes to the link addresses in front of the
/// copy, which `pskb_copy` leaves as the memory was (kernel: `nf_send_reset`, `nf_dup_ipv4`).
fn blind_resets(r: &Round) -> bool {
    r.copies() && (r.rules.contains("tcp-reset") || r.nft.contains("tcp reset"))
}

fn frames(kernel: &[Out], ours: &[Out], blind: &Blind) -> Vec<String> {
    let mut out = Vec::new();
    for cable in super::net::CABLES {
        let of = |list: &[Out]| -> Vec<Vec<u8>> {
            let here = list.iter().filter(|o| o.at == cable);
            here.map(|o| normal(&o.data, blind)).collect()
        };
        let (a, b) = (of(kernel), of(ours));
        let first = (0..a.len().max(b.len())).find(|i| a.get(*i) != b.get(*i));
        if let Some(i) = first {
            let show = |f: Option<&Vec<u8>>| f.map_or("(none)".to_owned(), |f| hex(f));
            out.push(format!(
                "{cable} frame {i} of {} / {}\n  kernel  {}\n  podpath {}",
                a.len(),
                b.len(),
                show(a.get(i)),
                show(b.get(i))
            ));
        }
    }
    out
}

/// The first bytes are enough to see which frame it is.
fn hex(b: &[u8]) -> String {
    let text: String = b.iter().take(120).map(|x| format!("{x:02x}")).collect();
    match b.len() {
        0..=120 => text,
        n => format!("{text}.. ({n} bytes)"),
    }
}

/// How much came of a round: frames out of each cable, every rule's and policy's counters, how many
/// connections. Two plays by the kernel that differ here did not do the same: something in it hung on how
/// long things took (a loop of errors and copies turns until the round is over). Random ports change none.
pub fn amounts(o: &Outcome, rules: &str) -> Vec<String> {
    let count = |c: &&str| o.out.iter().filter(|f| f.at == **c).count();
    let mut out: Vec<String> = super::net::CABLES
        .iter()
        .map(|c| format!("{c}: {} frames", count(c)))
        .collect();
    // Of tables that the round did not load, counters go on from whatever was before.
    let mut ours = false;
    for l in o.save.lines().filter(|l| !l.starts_with('#')) {
        if l.starts_with('*') {
            ours = rules.lines().any(|r| r == l);
        }
        if ours {
            out.push(l.to_owned());
        }
    }
    out.push(format!("{} connections", o.conntrack.len()));
    out.extend(super::nft_compare::amounts(&o.nft));
    out
}

/// Whether a frame, IPv4 without options or IPv6, is a TCP segment with RST.
fn is_reset(f: &[u8]) -> bool {
    let (proto, flags) = match f.get(12..15) {
        Some([8, 0, 0x45]) => (23, 47),
        Some([0x86, 0xdd, _]) => (20, 67),
        _ => return false,
    };
    f.get(proto) == Some(&TCP) && f.get(flags).is_some_and(|x| x & RST != 0)
}

/// A frame with what the kernel draws put to zero.
fn normal(f: &[u8], blind: &Blind) -> Vec<u8> {
    let mut f = f.to_vec();
    if blind.resets && is_reset(&f) {
        f[..12].fill(0);
    }
    if let Some(drawn) = &blind.drawn {
        drawn.hide(&mut f);
    }
    let Some(p) = f.get_mut(14..) else { return f };
    match p.first().map(|b| b >> 4) {
        Some(4) if p.len() >= 20 => {
            let end = (usize::from(p[0] & 15) * 4).min(p.len());
            let icmp = p[9] == ICMP;
            let own = icmp || (p[9] == TCP && p.get(end + 13).is_some_and(|x| x & RST != 0));
            if own && checksum(&p[..end]) == 0 {
                p[4..6].fill(0);
                p[10..12].fill(0);
            }
            if let Some(reply) = p.get_mut(end..end + 20)
                && icmp
                && reply[0] == TIMESTAMP_REPLY
            {
                reply[2..4].fill(0);
                reply[12..].fill(0);
            }
        }
        Some(6) if p.len() >= 40 => {
            let reset = p[6] == TCP && p.get(53).is_some_and(|x| x & RST != 0);
            if p[6] == super::packet::ICMP6 || reset {
                p[1] &= 0xF0;
                p[2..4].fill(0);
            }
            // An error may quote such a packet, label and all.
            let quotes = p[6] == super::packet::ICMP6 && p.get(40).is_some_and(|t| *t < 128);
            let own = |q: &[u8]| q[6] == super::packet::ICMP6 || q[6] == TCP && q[53] & RST != 0;
            if let Some(q) = p.get_mut(48..102)
                && quotes
                && own(q)
            {
                q[1] &= 0xF0;
                q[2..4].fill(0);
                p[42..44].fill(0);
            }
        }
        _ => {}
    }
    f
}
