//! Any text as an nftables listing, as a script on what it made, as JSON, and packets through what it made.

use podpath::base::{Instant, NodeId, NsId, Origin, Rng};
use podpath::net::{DeviceKind, IfAddr, LinkSpec, NetNs};
use podpath::nf::eval::{At, Cx, Verdict};
use podpath::nf::hook::OpKind;
use podpath::nf::nft::eval::link::{self, LinkAt, LinkHook};
use podpath::nf::nft::{self, Ruleset, Script};
use podpath::nf::{Family, Hook, Netfilter, eval, nat};
use podpath::wire::{Frame, MacAddr, build};
use std::collections::BTreeMap;

/// No panic; what is printed is printed again the same after it was read.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (mut set, findings) = Ruleset::parse("fuzz", &text);
    let listing = set.to_text();
    let (again, _) = Ruleset::parse("again", &listing);
    if findings.is_empty() {
        assert_eq!(again.to_text(), listing);
    }
    let (script, _) = Script::parse("script", &text, &set);
    let _ = set.apply(&script);
    let json = set.to_json().to_string();
    let _ = Ruleset::parse_json("json", &json).0.to_text();
    let _ = Ruleset::parse_json("json", &text).0.to_text();
    carry_out(set);
}

/// A few packets through every hook.
fn carry_out(set: Ruleset) {
    let ns = host();
    let dev = ns.dev_by_name("d0").map(|d| d.id);
    let now = Instant::from_secs(1);
    let (mut nf, mut rng) = (Netfilter::default(), Rng::new(1));
    nf.set_nft(set, now);
    let assume = BTreeMap::new();
    for (family, packet) in packets() {
        let mut frame = Frame::ip(&packet);
        let (mac, proto) = (MacAddr([2, 0, 0, 0, 0, 2]), frame.ethertype());
        frame.set_ethernet(MacAddr([2, 0, 0, 0, 0, 1]), mac, proto);
        for hook in Hook::ALL {
            let arrives = matches!(hook, Hook::Prerouting | Hook::Input | Hook::Forward);
            let at = At {
                hook,
                family,
                input: dev.filter(|_| arrives),
                output: dev.filter(|_| !matches!(hook, Hook::Prerouting | Hook::Input)),
            };
            let mut steps = Vec::new();
            let mut cx = Cx {
                now,
                rng: &mut rng,
                steps: Some(&mut steps),
                assume: &assume,
            };
            let (mut fx, mut f) = (Vec::new(), frame.clone());
            for op in nf.ops(family, hook).to_vec() {
                let done = match op.kind {
                    OpKind::Nft { chain, .. } => {
                        nft::eval::run(&mut nf, &ns, &mut f, &at, chain, &mut cx, &mut fx)
                    }
                    OpKind::Conntrack => {
                        nf.ct.track(&ns, &mut f, &at, &mut cx);
                        Verdict::Accept
                    }
                    OpKind::Nat => nat::hook(&mut nf, &mut f, &at, &mut cx, &mut |nf, f, cx, c| {
                        eval::nat_chain(nf, &ns, f, &at, c, cx, &mut fx)
                    })
                    .unwrap_or(Verdict::Accept),
                    _ => Verdict::Accept,
                };
                if done != Verdict::Accept {
                    break;
                }
            }
            below(&mut nf, &ns, &frame, LinkHook::Bridge(hook), &at, &mut cx);
            below(&mut nf, &ns, &frame, LinkHook::Ingress, &at, &mut cx);
            below(&mut nf, &ns, &frame, LinkHook::Egress, &at, &mut cx);
        }
    }
    let _ = nf.nft_ruleset(now).to_text();
}

/// A frame through the chains below the IP layer, whatever device they are for.
fn below(nf: &mut Netfilter, ns: &NetNs, f: &Frame, hook: LinkHook, at: &At, cx: &mut Cx<'_>) {
    let at = LinkAt {
        hook,
        input: at.input,
        output: at.output,
    };
    for op in nf.link_ops(hook).to_vec() {
        let (mut f, mut fx) = (f.clone(), Vec::new());
        let _ = link::run(nf, ns, &mut f, &at, &op, None, cx, &mut fx);
    }
}

fn host() -> NetNs {
    let mut ns = NetNs::new(NsId(0), "n", NodeId(0));
    let mut edit = ns.edit();
    let made = edit.link_add(LinkSpec {
        name: "d0".to_owned(),
        kind: DeviceKind::Uplink,
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        mtu: None,
        origin: Origin::Kernel,
    });
    if let Ok(dev) = made {
        let _ = edit.set_up(dev, true);
        for a in ["10.0.0.1/24", "fd00::1/64"] {
            if let Ok(a) = a.parse() {
                let _ = edit.addr_add(dev, IfAddr::new(a, Origin::Kernel));
            }
        }
    }
    drop(edit);
    ns
}

/// TCP, UDP and echo requests, a later fragment, and packets cut short.
fn packets() -> Vec<(Family, Vec<u8>)> {
    let mut tcp = vec![
        0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 2, 0xfa, 0xf0, 0, 0, 0, 0,
    ];
    tcp.extend([2, 4, 5, 0xb4]);
    let udp = [0x9c, 0x40, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4];
    let echo = [8, 0, 0xf7, 0xfd, 0, 1, 0, 1];
    let mut out = Vec::new();
    for (family, src, dst) in [
        (Family::V4, "10.0.0.9", "10.0.0.1"),
        (Family::V6, "fd00::9", "fd00::1"),
    ] {
        let (Ok(src), Ok(dst)) = (src.parse(), dst.parse()) else {
            continue;
        };
        for (proto, l4) in [
            (6, &tcp[..]),
            (17, &udp),
            (1, &echo),
            (58, &echo),
            (132, &udp),
        ] {
            let p = build::ip_packet(src, dst, proto, 64, 0, 7, false, l4);
            for keep in [p.len(), p.len() - l4.len(), p.len() - 7] {
                out.push((family, p.get(..keep).unwrap_or_default().to_vec()));
            }
            if family == Family::V4 {
                let mut later = p.clone();
                later[7] = 1;
                out.push((family, later));
            }
        }
    }
    out
}
