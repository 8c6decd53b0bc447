//! Random ipset commands over a few addresses, so that they meet.

use podpath::base::Rng;

fn pick<'a>(rng: &mut Rng, of: &[&'a str]) -> &'a str {
    of[rng.below(of.len() as u64) as usize]
}

/// Types that kernels usually have.
const TYPES: &[&str] = &[
    "hash:ip",
    "hash:net",
    "hash:net,port",
    "hash:net,iface",
    "hash:ip,port",
    "hash:ip,port,ip",
    "hash:ip,port,net",
    "bitmap:ip",
    "bitmap:ip,mac",
    "bitmap:port",
    "list:set",
];

/// A type and its create options.
pub fn create(rng: &mut Rng, kind: &str) -> String {
    let mut out = String::new();
    let some = |rng: &mut Rng, one_in| rng.below(one_in) == 0;
    match kind {
        "bitmap:port" => out.push_str(" range 20-90"),
        "bitmap:ip" if some(rng, 3) => out.push_str(" range 10.0.0.0/16 netmask 28"),
        k if k.starts_with("bitmap") => out.push_str(" range 10.0.0.0-10.0.0.40"),
        "list:set" => {}
        _ => {
            if some(rng, 3) {
                out.push_str(" family inet6");
            }
            if some(rng, 6) {
                out.push_str(" maxelem 5");
            }
            let v6 = out.contains("inet6");
            match (kind, rng.below(6)) {
                ("hash:ip" | "hash:ip,port", 0) => {
                    out.push_str(if v6 { " netmask 64" } else { " netmask 28" })
                }
                ("hash:ip" | "hash:ip,port", 1) => {
                    out.push_str(if v6 {
                        " bitmask ffff::ffff"
                    } else {
                        " bitmask 255.255.0.7"
                    });
                }
                _ => {}
            }
        }
    }
    for (option, value) in [
        ("timeout", " 300"),
        ("counters", ""),
        ("comment", ""),
        ("skbinfo", ""),
    ] {
        if some(rng, 3) {
            out.push_str(&format!(" {option}{value}"));
        }
    }
    out
}

fn ip(rng: &mut Rng, v6: bool, form: &str) -> String {
    let of: &[&str] = match (v6, form) {
        (false, "one") => &[
            "10.0.0.1",
            "10.0.0.2",
            "10.0.0.17",
            "10.1.2.3",
            "0.0.0.0",
            "10.0.0.40",
            "10.1",
        ],
        (false, "many") => &[
            "10.0.0.1",
            "10.0.0.2",
            "10.0.0.16/30",
            "10.0.0.3-10.0.0.9",
            "10.0.0.12-10.0.0.5",
            "0.0.0.0",
            "10.0.0.33/29",
            "10.0.0.300",
            "10.0.0.0/0",
            "10.1.2.3",
        ],
        (false, _) => &[
            "10.0.0.0/8",
            "10.0.0.0/24",
            "10.0.0.0/30",
            "10.0.0.1",
            "10.0.0.2/32",
            "0.0.0.0/0",
            "10.0.0.3-10.0.0.12",
            "0.0.0.0-255.255.255.255",
            "10.1.2.3/16",
            "10.0.0.9/33",
        ],
        (true, "one" | "many") => &[
            "2001:db8::1",
            "2001:db8::2",
            "fe80::1",
            "::",
            "2001:db8::1/128",
            "2001:db8::/64",
        ],
        (true, _) => &[
            "2001:db8::/32",
            "2001:db8::/64",
            "2001:db8::1",
            "fe80::/10",
            "::/0",
            "2001:db8::5/126",
        ],
    };
    pick(rng, of).to_owned()
}

fn port(rng: &mut Rng) -> &'static str {
    pick(
        rng,
        &[
            "80",
            "tcp:80",
            "udp:53",
            "tcp:20-24",
            "udp:30-28",
            "icmp:echo-request",
            "icmp:3/1",
            "icmpv6:echo-request",
            "sctp:7",
            "vrrp:0",
            "ospf:1",
            "tcp:70000",
            "http",
            "tcp:https",
            "253:0",
            "0:0",
            "icmp:ping",
            "tcp",
        ],
    )
}

/// An element of a set.
pub fn element(rng: &mut Rng, kind: &str, v6: bool) -> String {
    let parts: Vec<String> = match kind {
        "bitmap:ip" => vec![ip(rng, false, "many")],
        "bitmap:ip,mac" => {
            let mac = pick(rng, &["00:11:22:33:44:55", "0:1:2:3:4:5", "00:11:22:33:44"]);
            let ip = ip(rng, false, "one");
            if rng.below(2) == 0 {
                vec![ip]
            } else {
                vec![ip, mac.to_owned()]
            }
        }
        "bitmap:port" => vec![
            pick(
                rng,
                &[
                    "80",
                    "tcp:80",
                    "20-25",
                    "udp:85-95",
                    "19",
                    "90",
                    "smtp",
                    "sctp:80",
                ],
            )
            .to_owned(),
        ],
        "list:set" => {
            let name = pick(rng, &["s0", "s1", "s2", "s3", "nosuch"]).to_owned();
            let other = pick(rng, &["s0", "s1", "s2", "s3"]);
            return match rng.below(4) {
                0 => format!("{name} before {other}"),
                1 => format!("{name} after {other}"),
                _ => name,
            };
        }
        kind => {
            let dims = kind.split_once(':').map_or("", |k| k.1).split(',');
            let mut second = false;
            let mut out = Vec::new();
            for dim in dims {
                out.push(match dim {
                    "ip" if second => ip(rng, v6, "one"),
                    "ip" => ip(rng, v6, "many"),
                    "net" => ip(rng, v6, "net"),
                    "port" => port(rng).to_owned(),
                    _ => pick(
                        rng,
                        &[
                            "eth0",
                            "eth1",
                            "eth",
                            "physdev:eth0",
                            "averyveryverylongname",
                        ],
                    )
                    .to_owned(),
                });
                second = true;
            }
            out
        }
    };
    parts.join(",")
}

fn options(rng: &mut Rng) -> String {
    let mut out = String::new();
    let all = [
        "timeout 100",
        "timeout 0",
        "packets 5 bytes 60",
        "packets 7",
        "comment \"a b\"",
        "skbmark 0x10/0xff",
        "skbprio 1:a",
        "skbqueue 3",
        "nomatch",
        "nomatch",
        "wildcard",
        "frob",
    ];
    for option in all {
        if rng.below(9) == 0 && option != "frob" {
            out.push(' ');
            out.push_str(option);
        }
    }
    out
}

/// A script of some sixty commands.
pub fn script(rng: &mut Rng) -> Vec<String> {
    let mut kinds = Vec::new();
    let mut lines = Vec::new();
    for i in 0..4 {
        let kind = if i == 3 { "list:set" } else { pick(rng, TYPES) };
        let options = create(rng, kind);
        kinds.push((kind, options.contains("inet6")));
        lines.push(format!("create s{i} {kind}{options}"));
    }
    for _ in 0..60 {
        let at = rng.below(4) as usize;
        let (kind, v6) = kinds[at];
        let element = element(rng, kind, v6);
        let exist = if rng.below(4) == 0 { "-exist " } else { "" };
        lines.push(match rng.below(20) {
            0..=10 => format!("{exist}add s{at} {element}{}", options(rng)),
            11..=13 => format!("{exist}del s{at} {element}"),
            14..=16 if rng.below(4) == 0 => format!("test s{at} {element} nomatch"),
            14..=16 => format!("test s{at} {element}"),
            17 if rng.below(4) == 0 => format!("flush s{at}"),
            17 => format!("{exist}create s{at} {kind}"),
            18 if rng.below(3) == 0 => format!("destroy s{at}"),
            18 => format!("rename s{at} s{}", rng.below(5)),
            _ => format!("swap s{at} s{}", rng.below(4)),
        });
    }
    lines
}
