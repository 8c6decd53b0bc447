//! Matches that remember: how often, how fast, who was seen. Counts come from a kernel (6.18, ten pings).

use crate::nf::{World, filter, syn, udp};
use podpath::nf::Family;
use podpath::nf::{Backend, Hook, TableName};

/// Packets counted by the first rules after `n` packets that are `ms` apart.
fn counts(rules: &str, n: usize, ms: u64) -> Vec<u64> {
    let mut w = World::new(rules);
    for _ in 0..n {
        w.forward(&mut syn(80));
        w.wait(ms);
    }
    let mut all = w.packets("FORWARD");
    all.pop();
    all
}

#[test]
fn every_nth() {
    let rules = "-m statistic --mode nth --every 3 --packet 1\n-m statistic --mode nth --every 3 --packet 0\n\
                 -m statistic --mode nth ! --every 5 --packet 0";
    assert_eq!(counts(rules, 10, 2), [3, 4, 8]);
    assert_eq!(counts(rules, 1, 2), [0, 1, 0]);
    assert_eq!(counts(rules, 2, 2), [1, 1, 1]);
}

#[test]
fn limit_begins_full_and_fills_up() {
    assert_eq!(
        counts("-m limit --limit 3/hour --limit-burst 6", 10, 2),
        [6]
    );
    assert_eq!(
        counts("-m limit --limit 2/sec --limit-burst 1", 11, 250),
        [6]
    );
    assert_eq!(counts("-m limit --limit 10/sec", 20, 1_000), [20]);
}

/// iptables-nft turns it into nft's own limit, which counts nanoseconds.
#[test]
fn limit_of_the_nft_back_end() {
    let mut w = World::new("");
    w.load(
        "-m limit --limit 3/hour --limit-burst 6 -j DROP",
        Family::V4,
        Backend::Nft,
    );
    let at = podpath::nf::eval::At {
        hook: Hook::Forward,
        family: Family::V4,
        input: None,
        output: None,
    };
    for _ in 0..10 {
        w.ask(&mut syn(80), &at, Backend::Nft, TableName::Filter);
        w.wait(2);
    }
    let set = w.nf.rule_set(Family::V4, Backend::Nft).expect("rules");
    let forward = set
        .table(TableName::Filter)
        .and_then(|t| t.chain("FORWARD"));
    assert_eq!(forward.expect("a chain").counters.packets, 4);
}

#[test]
fn hashlimit_has_a_bucket_for_each() {
    let upto = "-m hashlimit --hashlimit-upto 10/min --hashlimit-burst 4 --hashlimit-mode srcip --hashlimit-name h1";
    let above = "-m hashlimit --hashlimit-above 10/min --hashlimit-burst 4 --hashlimit-mode srcip --hashlimit-name h2";
    assert_eq!(counts(&format!("{upto}\n{above}"), 10, 2), [4, 6]);
    let mut w = World::new(upto);
    for host in 1..4 {
        for _ in 0..6 {
            w.forward(&mut udp(&format!("10.0.0.{host}"), "10.1.0.9", 1, 2, b""));
        }
    }
    assert_eq!(w.packets("FORWARD")[0], 12);
    // One bucket for the network.
    let mut w = World::new(&format!("{upto} --hashlimit-srcmask 24"));
    for host in 1..4 {
        w.forward(&mut udp(&format!("10.0.0.{host}"), "10.1.0.9", 1, 2, b""));
        w.forward(&mut udp(&format!("10.0.0.{host}"), "10.1.0.9", 1, 2, b""));
    }
    assert_eq!(w.packets("FORWARD")[0], 4);
    // By port.
    let by_port = upto.replace("srcip", "srcip,dstport");
    let mut w = World::new(&by_port);
    (0..12).for_each(|i| {
        w.forward(&mut syn(80 + i % 2));
    });
    assert_eq!(w.packets("FORWARD")[0], 8);
}

#[test]
fn hashlimit_fills_up_forgets_and_counts_bytes() {
    let second = "-m hashlimit --hashlimit-upto 2/sec --hashlimit-burst 1 --hashlimit-mode srcip --hashlimit-name a";
    assert_eq!(counts(second, 11, 250), [6]);
    // An entry that was idle for its expiry begins anew, full.
    let slow = "-m hashlimit --hashlimit-upto 1/hour --hashlimit-burst 2 --hashlimit-mode srcip \
                --hashlimit-name b --hashlimit-htable-expire 3000";
    let mut w = World::new(slow);
    (0..5).for_each(|_| {
        w.forward(&mut syn(80));
    });
    assert_eq!(w.packets("FORWARD")[0], 2);
    w.wait(5_000);
    (0..5).for_each(|_| {
        w.forward(&mut syn(80));
    });
    assert_eq!(w.packets("FORWARD")[0], 4);
    // A second's worth of bytes, in chunks of 16 and one more for each packet.
    let bytes = "-m hashlimit --hashlimit-upto 1kb/s --hashlimit-mode srcip --hashlimit-name c";
    assert_eq!(counts(bytes, 10, 2), [10]);
    assert!(counts(bytes, 40, 2)[0] < 30);
}

#[test]
fn hashlimit_compares_rates() {
    let rule = "-m hashlimit --hashlimit-above 5/sec --hashlimit-burst 1 --hashlimit-mode srcip \
                --hashlimit-name r --hashlimit-rate-match";
    // Six in the first second are within rate and burst, then all that come are above.
    assert_eq!(counts(rule, 10, 10), [4]);
}

#[test]
fn recent_counts_visits() {
    let rules = "-m recent --name k1 --update --seconds 60 --hitcount 3\n-m recent --name k1 --set\n\
                 -m recent --name k2 --rcheck --seconds 60 --hitcount 3\n-m recent --name k2 ! --set";
    assert_eq!(counts(rules, 10, 2), [7, 10, 7, 0]);
    let w = {
        let mut w = World::new(rules);
        (0..40).for_each(|_| {
            w.forward(&mut syn(80));
        });
        w
    };
    // Rings are the longest that a rule asks for: `--hitcount 3` makes four, a rule without makes 32.
    let seen: Vec<_> = w.nf.state.recent("k1").expect("a list").entries().collect();
    assert_eq!(seen, [("10.0.0.9".parse().unwrap(), 32)]);
}

#[test]
fn recent_forgets_by_time_on_request_and_when_full() {
    let within = "-m recent --name l --rcheck --seconds 1\n-m recent --name l --set";
    assert_eq!(counts(within, 5, 500), [4, 5]);
    assert_eq!(counts(within, 5, 1_500), [0, 5]);
    let remove =
        "-m recent --name l --remove\n-m recent --name l --rcheck\n-m recent --name l --set";
    assert_eq!(counts(remove, 4, 1), [3, 0, 4]);
    let mut w = World::new("-m recent --name l --set");
    for host in 0..120 {
        w.forward(&mut udp(&format!("10.0.1.{host}"), "10.1.0.9", 1, 2, b""));
    }
    let list = w.nf.state.recent("l").expect("a list");
    assert_eq!(list.entries().count(), 100);
    assert_eq!(list.entries().next().unwrap().0.to_string(), "10.0.1.20");
}

#[test]
fn recent_masks_and_takes_either_side() {
    let rules = "-m recent --name n --mask 255.255.255.0 --rcheck -j DROP\n-m recent --name n --mask 255.255.255.0 --set";
    let mut w = World::new(rules);
    w.forward(&mut udp("10.0.0.1", "10.1.0.9", 1, 2, b""));
    w.forward(&mut udp("10.0.0.2", "10.1.0.9", 1, 2, b""));
    assert_eq!(w.packets("FORWARD"), [1, 1, 1]);
    let rules = "-m recent --name d --rdest --rcheck -j DROP\n-m recent --name d --rdest --set";
    let mut w = World::new(rules);
    w.forward(&mut udp("10.0.0.1", "10.1.0.9", 1, 2, b""));
    w.forward(&mut udp("10.0.0.2", "10.1.0.9", 1, 2, b""));
    assert_eq!(w.packets("FORWARD"), [1, 1, 1]);
}

#[test]
fn a_list_is_shared_by_name_and_goes_with_its_last_rule() {
    let mut w = World::new("-m recent --name l --set");
    w.forward(&mut syn(80));
    w.load("-m recent --name l --rcheck", Family::V4, Backend::Legacy);
    w.forward(&mut syn(80));
    assert_eq!(w.packets("FORWARD"), [1, 1]);
    w.load("-j ACCEPT", Family::V4, Backend::Legacy);
    w.load("-m recent --name l --rcheck", Family::V4, Backend::Legacy);
    w.forward(&mut syn(80));
    assert_eq!(w.packets("FORWARD"), [0, 1]);
}

#[test]
fn nfacct_counts_over_rules() {
    let text = filter("-m nfacct --nfacct-name a\n-p tcp -m nfacct --nfacct-name a");
    let mut w = World::new(&text);
    w.forward(&mut syn(80));
    let c = w.nf.state.nfacct["a"];
    assert_eq!((c.packets, c.bytes), (2, 80));
}
