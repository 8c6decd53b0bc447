//! Whatever arrives: no panic, no client left behind.

use crate::net::*;
use podpath::base::Instant;
use podpath::endpoint::{App, Config, Reply, Stack};
use podpath::wire::{IpHeader, proto};
use std::time::Duration;

/// Flips bytes of a TCP header or an ICMP message and makes the checksums right again.
fn garble(packet: &mut [u8], at: usize, with: u8) {
    let h = IpHeader::parse(packet).unwrap();
    let l4 = h.header_len;
    let span = (packet.len() - l4).min(44);
    packet[l4 + at % span] ^= with;
    let (sum_at, sum) = match h.proto {
        proto::TCP => (l4 + 16, true),
        proto::UDP => (l4 + 6, true),
        _ => (l4 + 2, h.proto == proto::ICMPV6),
    };
    packet[sum_at..sum_at + 2].fill(0);
    let c = match sum {
        true => podpath::wire::checksum::l4(h.src, h.dst, h.proto, &packet[l4..]),
        false => podpath::wire::checksum::of(&packet[l4..]),
    };
    packet[sum_at..sum_at + 2].copy_from_slice(&c.to_be_bytes());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(256))]

    /// Whatever the peer and the routers send, a stack neither panics nor keeps a client for ever.
    #[test]
    fn no_packet_breaks_a_stack(
        seed in 0u64..1000,
        flips in proptest::collection::vec((0usize..60, 0usize..64, 1u8..), 1..24),
        errors in proptest::collection::vec((0usize..40, 1u8..13, 0u8..16, 0u32..2000), 0..6),
        v6: bool,
    ) {
        let addr = if v6 { addr6 } else { addr };
        let mut net = Net::new(seed, 1500);
        net.stacks[1].listen_tcp(None, 80, App::Echo).unwrap();
        let start = net.now;
        let id = net.connect_from(addr(0, 4000), addr(1, 80), pattern(20_000), Reply::Len(20_000), 20);
        for n in 0..400 {
            net.flush();
            let Some(((at, _), (to, mut packet))) = net.queue.pop_first() else {
                let next = net.stacks.iter().filter_map(Stack::poll_at).min();
                let Some(next) = next else { break };
                net.now = net.now.max(next);
                continue;
            };
            net.now = net.now.max(at);
            for (_, at, with) in flips.iter().filter(|(i, ..)| *i == n) {
                garble(&mut packet, *at, *with);
            }
            net.deliver(to, &packet);
            for (_, typ, code, rest) in errors.iter().filter(|(i, ..)| *i == n) {
                let e = icmp(addr(9, 0).ip(), *typ, *code, *rest, &packet);
                net.stacks[1 - to].receive(net.now, &e);
            }
        }
        net.run(start + Duration::from_secs(3000));
        proptest::prop_assert!(net.end(id).is_some());
        let left: Vec<_> = net.stacks.iter().flat_map(Stack::sockets).map(|s| s.state).collect();
        // A server whose client vanished without a word waits for ever, as in the kernel.
        let ended = left.iter().all(|s| matches!(*s, "LISTEN" | "ESTAB"));
        proptest::prop_assert!(ended, "{left:?}\n{}", net.dump());
    }

    /// Raw bytes are refused, not believed.
    #[test]
    fn no_bytes_break_a_stack(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..120)) {
        let mut stack = Stack::new(Config::new(1, 1500));
        stack.listen_tcp(None, 80, App::Echo).unwrap();
        stack.receive(Instant::ZERO, &bytes);
        stack.poll(Instant::from_secs(1));
    }
}
