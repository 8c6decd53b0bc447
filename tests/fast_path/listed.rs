//! What a tool lists after frames that were carried: counters of native rules, objects and elements, IPVS's
//! real servers, connections.

use crate::side::Side;
use crate::{Play, topology, traffic};
use podpath::ipvs::text::Show;
use podpath::net::NetNs;
use podpath::report::show::{ipvs, netfilter};
use std::net::IpAddr;
use std::time::Duration;

/// Frames of one flow, all at once.
const FRAMES: usize = 200;

/// A pod's frames to a Service, answered until they are carried; gives the node's namespace.
fn carried(side: &mut Side, service: IpAddr, lines: &[&str]) -> podpath::base::NsId {
    let from = 0;
    let node = side.ends[from].host.ns;
    for line in lines {
        assert!(side.command(node, line), "{line}");
    }
    let f = traffic::udp(&side.ends[from].clone(), service, (4000, 7), 30);
    let mut rng = podpath::base::Rng::new(1);
    for _ in 0..4 {
        side.send(from, std::slice::from_ref(&f));
        for (ns, f) in std::mem::take(&mut side.got) {
            let Some(at) = side.ends.iter().position(|e| e.ns == ns) else {
                continue;
            };
            let reply = traffic::answer(&mut rng, &side.ends[at].clone(), &f);
            side.send(at, &reply.into_iter().collect::<Vec<_>>());
        }
        // Replies are not answered in turn.
        side.got.clear();
        side.pass(Duration::from_millis(900));
    }
    side.fast.sync(&mut side.cluster.lab.world);
    for _ in 0..4 {
        side.send(from, &vec![f.clone(); FRAMES / 4]);
    }
    side.fast.sync(&mut side.cluster.lab.world);
    node
}

fn service(side: &Side) -> IpAddr {
    let all = side.cluster.desired.services.values();
    let mut ips = all.filter_map(|s| {
        let spec = s.body.spec.as_ref()?;
        let mut ports = spec.ports.iter().flatten();
        let udp = ports.any(|p| p.port == 7 && p.protocol.as_deref() == Some("UDP"));
        spec.cluster_ip.as_ref().filter(|_| udp)?.parse().ok()
    });
    ips.next().expect("a Service with UDP")
}

fn space(side: &Side, ns: podpath::base::NsId) -> &NetNs {
    side.cluster.lab.world.ns(ns).unwrap()
}

/// Both sides list the same, and all but the first frames were carried by entries.
fn same_and_carried(play: &Play, shown: &[String]) {
    assert_eq!(shown[0], shown[1]);
    let stats = play.fast.fast.stats();
    assert!(
        stats.hits + 4 >= FRAMES as u64,
        "{stats:?} {:?}",
        play.fast.fast.why_slow()
    );
}

#[test]
fn native_counters_are_exact_when_they_are_listed() {
    let build = || topology("services-vxlan", "nftables");
    let mut play = Play::new(build, None, 3);
    let lines = [
        "sysctl -w net.netfilter.nf_conntrack_acct=1",
        "nft add table inet watch",
        "nft add chain inet watch pre '{ type filter hook prerouting priority -350 ; }'",
        "nft add counter inet watch all",
        "nft add set inet watch clients '{ type inet_service ; counter ; }'",
        "nft add element inet watch clients '{ 4000 }'",
        "nft add rule inet watch pre udp sport 4000 counter name all",
        "nft add rule inet watch pre udp sport @clients counter",
        "nft add rule inet watch pre udp sport 4000 last",
    ];
    let mut shown = Vec::new();
    for side in [&mut play.fast, &mut play.slow] {
        let to = service(side);
        let node = carried(side, to, &lines);
        let now = side.cluster.lab.world.now();
        let mut text = netfilter::native(space(side, node), now, false);
        // The tunnel's own connection among them, whose packets are longer.
        text += &netfilter::connections(space(side, node), now, &|_| true);
        shown.push(text);
    }
    same_and_carried(&play, &shown);
    // The frames that were carried and the four before, 28 + 30 bytes each, wherever they are counted.
    let n = FRAMES + 4;
    let counted = format!("packets {n} bytes {}", n * 58);
    assert_eq!(shown[0].matches(&counted).count(), 3, "{}", shown[0]);
    assert!(shown[0].contains("last used 0"), "{}", shown[0]);
}

#[test]
fn real_servers_are_counted_and_estimated() {
    let build = || topology("services-vxlan", "ipvs");
    let mut play = Play::new(build, None, 3);
    let mut shown = Vec::new();
    for side in [&mut play.fast, &mut play.slow] {
        let to = service(side);
        let node = carried(side, to, &[]);
        let mut texts = Vec::new();
        // The estimator looks every two seconds: what a listing shows follows.
        for _ in 0..3 {
            let now = side.cluster.lab.world.now();
            for show in [Show::Stats, Show::Rate, Show::Conns, Show::Table] {
                let listing = ipvs::Listing::Show(show);
                texts.push(ipvs::text(space(side, node), listing, now));
            }
            texts.push(netfilter::connections(space(side, node), now, &|_| true));
            side.pass(Duration::from_millis(1300));
        }
        shown.push(texts.join("\n"));
    }
    same_and_carried(&play, &shown);
    let n = FRAMES + 4;
    assert!(shown[0].contains(&(n * 58).to_string()), "{}", shown[0]);
}

#[test]
fn a_new_connection_of_ipvs_ends_the_paths_of_strangers() {
    // A pod speaks to a real server, past the Service; then a client behind the same port speaks to the Service.
    let build = || topology("services-vxlan", "ipvs");
    let mut play = Play::new(build, None, 5);
    let to = service(&play.fast);
    let ends = play.fast.ends.clone();
    let direct: Vec<Vec<u8>> = (1..ends.len())
        .map(|n| traffic::udp(&ends[0], IpAddr::V4(ends[n].ip), (4000, 7), 9))
        .collect();
    for round in 0..40 {
        for f in &direct {
            play.send(0, &vec![f.clone(); 3], round);
            play.answer(round);
        }
        if round % 10 == 5 {
            play.send(0, &[traffic::udp(&ends[0], to, (4000, 7), 9)], round);
            play.answer(round);
        }
        play.pass(Duration::from_millis(300), round);
    }
    play.compare(40);
    let stats = play.fast.fast.stats();
    assert!(stats.hits > 20, "{stats:?} {:?}", play.fast.fast.why_slow());
}
