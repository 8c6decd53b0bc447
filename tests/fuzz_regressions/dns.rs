//! A Corefile and messages: the first line's octets up to a 0 byte are the Corefile, the rest are messages to the
//! server and from its upstreams, each behind an octet that says which and how long. Nothing may panic, hang or
//! grow, and every reply is a message.

use podpath::base::Instant;
use podpath::kube::dns::{
    Arrival, Client, Corefile, Environment, Objects, Outcome, Responder, Transport, codec,
};

/// The body of the target.
pub fn run(data: &[u8]) {
    let (corefile, mut rest) = match data.iter().position(|b| *b == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[][..]),
    };
    let environment = Environment::default();
    let text = String::from_utf8_lossy(corefile);
    let (parsed, _) = Corefile::parse("fuzz", &text, &environment.around);
    let (mut dns, _) = Responder::new(&parsed, &environment);
    dns.learn(Instant::ZERO, &Objects::default());
    dns.start(Instant::ZERO);
    let mut now = Instant::ZERO;
    let mut steps = 0;
    while let Some((kind, after)) = rest.split_first() {
        steps += 1;
        if steps > 200 {
            break;
        }
        let Some((len, after)) = after.split_first() else {
            break;
        };
        let (message, later) = after.split_at(usize::from(*len).min(after.len()));
        rest = later;
        let transport = if kind & 1 == 0 {
            Transport::Udp
        } else {
            Transport::Tcp
        };
        let client = Client {
            from: ([10, 0, 0, 1], 4000).into(),
            port: 53,
            transport,
        };
        now += core::time::Duration::from_millis(u64::from(*kind) * 10);
        dns.tick(now);
        match (kind >> 1 & 1, dns.next_send()) {
            (1, Some(send)) => {
                // An id that fits, so that the rest is looked at.
                let mut reply = message.to_vec();
                for (to, from) in reply.iter_mut().zip(send.bytes.iter().take(2)) {
                    *to = *from;
                }
                dns.upstream_reply(now, send.exchange, Arrival::Message(reply));
            }
            _ => {
                let plain = dns.query(now, &client, message);
                if let Outcome::Reply(bytes) = plain {
                    assert!(bytes.len() <= 65_535 && bytes.get(2).is_some_and(|f| f & 0x80 != 0));
                    assert!(
                        codec::reply(&bytes).is_some()
                            || bytes.get(2).is_some_and(|f| f & 0x78 != 0)
                    );
                }
            }
        }
        while dns.next_answer().is_some() {}
        let _ = dns.next_log();
    }
    assert!(dns.open() <= steps + 64);
}
