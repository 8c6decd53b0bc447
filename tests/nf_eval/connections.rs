//! Matches on the connection, and CT, NOTRACK, CONNMARK.

use crate::nf::{World, filter, syn, tcp, udp};
use podpath::nf::ct::{CtStatus, Dir};
use podpath::nf::eval::Verdict;
use podpath::nf::{Hook, TableName};
use podpath::wire::{CtRef, Frame};

const A: &str = "10.0.0.9";
const B: &str = "10.1.0.9";

/// Tracks a packet and says which of the rules match it.
fn says(w: &mut World, f: &mut Frame) -> Vec<bool> {
    let before = w.packets("FORWARD");
    w.track(f, Hook::Prerouting);
    assert_eq!(w.forward(f), Verdict::Accept);
    w.confirm(f);
    let after = w.packets("FORWARD");
    let hits = before.iter().zip(&after).map(|(a, b)| a < b);
    hits.take(after.len() - 1).collect()
}

/// SYN, SYN-ACK and ACK through one rule each.
#[track_caller]
fn handshake(cases: &[(&str, [bool; 3])]) {
    let rules: Vec<&str> = cases.iter().map(|c| c.0).collect();
    let mut w = World::new(&filter(&rules.join("\n")));
    let mut packets = [
        syn(80),
        tcp(B, A, 80, 40000, 0x12, &[]),
        tcp(A, B, 40000, 80, 0x10, &[]),
    ];
    for (i, f) in packets.iter_mut().enumerate() {
        let hits = says(&mut w, f);
        for ((words, want), hit) in cases.iter().zip(hits) {
            assert_eq!(hit, want[i], "{words}, packet {i}");
        }
        w.wait(1_000);
    }
}

const YES: [bool; 3] = [true; 3];
const NO: [bool; 3] = [false; 3];

#[test]
fn states_and_directions() {
    handshake(&[
        ("-m conntrack --ctstate NEW", [true, false, false]),
        ("-m conntrack --ctstate ESTABLISHED", [false, true, true]),
        ("-m conntrack ! --ctstate NEW", [false, true, true]),
        ("-m conntrack --ctstate RELATED,ESTABLISHED,NEW", YES),
        ("-m conntrack --ctstate INVALID", NO),
        ("-m conntrack --ctstate SNAT", NO),
        ("-m conntrack ! --ctstate SNAT,DNAT", YES),
        ("-m conntrack --ctdir ORIGINAL", [true, false, true]),
        ("-m conntrack --ctdir REPLY", [false, true, false]),
        ("-m state --state NEW", [true, false, false]),
        ("-m state --state RELATED,ESTABLISHED", [false, true, true]),
    ]);
}

#[test]
fn tuples_status_and_life() {
    handshake(&[
        ("-m conntrack --ctproto 6", YES),
        ("-m conntrack ! --ctproto 17", YES),
        (
            "-m conntrack --ctorigsrc 10.0.0.9 --ctorigdst 10.1.0.0/24",
            YES,
        ),
        ("-m conntrack ! --ctorigsrc 10.0.0.9", NO),
        (
            "-m conntrack --ctreplsrc 10.1.0.9 --ctrepldst 10.0.0.9",
            YES,
        ),
        ("-m conntrack --ctorigsrcport 40000 --ctorigdstport 80", YES),
        ("-m conntrack --ctreplsrcport 1:79", NO),
        ("-m conntrack --ctrepldstport 40000", YES),
        ("-m conntrack --ctstatus SEEN_REPLY", [false, true, true]),
        ("-m conntrack --ctstatus ASSURED", [false, false, true]),
        ("-m conntrack --ctstatus CONFIRMED", [false, true, true]),
        ("-m conntrack ! --ctstatus CONFIRMED", [true, false, false]),
        ("-m conntrack --ctstatus NONE", NO),
        // 120 s after a SYN, 60 after its answer, five days then; a packet refreshes before rules run.
        ("-m conntrack --ctexpire 119:120", [true, false, false]),
        ("-m conntrack --ctexpire 59:60", [false, true, false]),
        (
            "-m conntrack --ctexpire 431000:432000",
            [false, false, true],
        ),
    ]);
}

/// Without a connection only `--ctstate` is asked (kernel 6.18, packets under NOTRACK).
#[test]
fn packets_without_a_connection() {
    let rules = "-m conntrack --ctstate UNTRACKED\n-m conntrack --ctstate INVALID\n\
                 -m conntrack ! --ctstate INVALID --ctdir ORIGINAL\n-m conntrack --ctstatus NONE\n\
                 -m conntrack ! --ctstatus ASSURED\n-m connmark ! --mark 1\n-m state --state INVALID";
    let mut w = World::new(rules);
    let mut f = syn(80);
    f.ct = CtRef::Untracked;
    assert_eq!(
        says(&mut w, &mut f),
        [true, false, true, false, false, false, false]
    );
    let mut odd = tcp(B, A, 80, 40000, 0x12, &[]);
    let invalid = [false, true, false, false, false, false, true];
    assert_eq!(says(&mut w, &mut odd), invalid);
}

#[test]
fn translated_connections_have_states_of_their_own() {
    let mut w = World::new("-m conntrack --ctstate DNAT\n-m conntrack --ctstate SNAT");
    let mut f = syn(80);
    w.track(&mut f, Hook::Prerouting);
    let CtRef::Conn { id, .. } = f.ct else {
        panic!("no connection")
    };
    w.nf.ct
        .get_mut(id)
        .expect("it")
        .status
        .set(CtStatus::DST_NAT);
    assert_eq!(says(&mut w, &mut f), [true, false]);
}

#[test]
fn connection_marks_are_set_saved_and_restored() {
    let rules = "*mangle\n:FORWARD ACCEPT [0:0]\n\
                 -A FORWARD -m connmark --mark 0x10/0xf0\n\
                 -A FORWARD -p tcp --dport 80 -j CONNMARK --set-xmark 0x11/0xff\n\
                 -A FORWARD -p tcp --dport 81 -j CONNMARK --save-mark --nfmask 0xf --ctmask 0xff\n\
                 -A FORWARD -p tcp --sport 80 -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xf\n\
                 -A FORWARD -m connmark ! --mark 0x11\nCOMMIT\n";
    let mut w = World::new(rules);
    let show = |w: &mut World, mut f: Frame, mark: u32| {
        f.mark = mark;
        w.track(&mut f, Hook::Prerouting);
        w.at_hook(&mut f, TableName::Mangle, Hook::Forward, ("eth0", "cni0"));
        w.confirm(&mut f);
        let CtRef::Conn { id, .. } = f.ct else {
            panic!("no connection")
        };
        (f.mark, w.nf.ct.get(id).expect("it").mark)
    };
    assert_eq!(show(&mut w, syn(80), 0), (0, 0x11));
    assert_eq!(
        show(&mut w, tcp(B, A, 80, 40000, 0x12, &[]), 0xf000),
        (0xf001, 0x11)
    );
    assert_eq!(show(&mut w, syn(81), 0x7777), (0x7777, 7));
    assert_eq!(w.packets("FORWARD"), [1, 1, 1, 1, 1, 3]);
}

#[test]
fn ct_and_notrack_decide_before_tracking() {
    let rules = "*raw\n:PREROUTING ACCEPT [0:0]\n\
                 -A PREROUTING -p tcp --dport 1 -j NOTRACK\n-A PREROUTING -p tcp --dport 2 -j CT --notrack\n\
                 -A PREROUTING -p tcp --dport 3 -j CT --zone 7\n-A PREROUTING -p tcp --dport 4 -j CT --zone-orig mark\n\
                 -A PREROUTING -p tcp --dport 5 -j CT --helper ftp\nCOMMIT\n";
    let mut w = World::new(rules);
    let mut show = |port| {
        let mut f = syn(port);
        f.mark = 9;
        w.at_hook(&mut f, TableName::Raw, Hook::Prerouting, ("eth0", ""));
        w.track(&mut f, Hook::Prerouting);
        match f.ct {
            CtRef::Conn { id, .. } => {
                let c = w.nf.ct.get(id).expect("it");
                Some((c.zones().orig, c.zones().reply, c.helper()))
            }
            _ => {
                assert_eq!(f.ct, CtRef::Untracked);
                None
            }
        }
    };
    assert_eq!((show(1), show(2)), (None, None));
    assert_eq!(show(3), Some((7, 7, None)));
    assert_eq!(show(4), Some((9, 0, None)));
    assert_eq!(show(5), Some((0, 0, Some("ftp"))));
    assert_eq!(show(6), Some((0, 0, None)));
}

/// Kernel 6.18, ten pings: the first two have not three packets yet; `--set` sets and matches at once.
#[test]
fn bytes_and_labels() {
    let rules = "-m connbytes --connbytes 3 --connbytes-mode packets --connbytes-dir original\n\
                 -m connbytes ! --connbytes 3 --connbytes-mode packets --connbytes-dir both\n\
                 -m connbytes --connbytes 40:50 --connbytes-mode avgpkt --connbytes-dir original\n\
                 -m connbytes --connbytes 1 --connbytes-mode bytes --connbytes-dir reply\n\
                 -m connlabel --label \"5\"\n-m connlabel --label \"5\" --set\n-m connlabel ! --label \"5\"";
    let mut w = World::new("");
    w.load(rules, podpath::nf::Family::V4, podpath::nf::Backend::Legacy);
    for _ in 0..10 {
        says(&mut w, &mut udp(A, B, 7, 53, b"0123456789ab"));
    }
    assert_eq!(w.packets("FORWARD"), [8, 2, 10, 0, 9, 10, 0, 10]);
}

#[test]
fn connlimit_counts_living_connections() {
    let mut w = World::new(
        "-p tcp -m connlimit --connlimit-above 2\n-p tcp -m connlimit --connlimit-upto 2",
    );
    let from = |w: &mut World, port| says(w, &mut tcp(A, B, port, 80, 2, &[]));
    assert_eq!(from(&mut w, 1), [false, true]);
    assert_eq!(from(&mut w, 2), [false, true]);
    assert_eq!(from(&mut w, 3), [true, false]);
    assert_eq!(
        from(&mut w, 1),
        [true, false],
        "a packet of a counted one is no new one"
    );
    let other = says(&mut w, &mut tcp("10.0.0.8", B, 1, 80, 2, &[]));
    assert_eq!(other, [false, true]);
    w.nf.ct.delete(|c| c.tuple(Dir::Original).sport != 1);
    assert_eq!(from(&mut w, 1), [false, true]);
}

#[test]
fn the_helper_is_the_masters() {
    let mut w = World::new(
        "-m helper --helper \"ftp\"\n-m helper ! --helper \"ftp\"\n-m helper --helper \"\"",
    );
    assert_eq!(says(&mut w, &mut syn(80)), [false, true, false]);
    let mut control = syn(21);
    w.track(&mut control, Hook::Prerouting);
    w.confirm(&mut control);
    let mut data = syn(2000);
    w.track(&mut data, Hook::Prerouting);
    let (CtRef::Conn { id: master, .. }, CtRef::Conn { id, .. }) = (control.ct, data.ct) else {
        panic!("no connections")
    };
    w.nf.ct.get_mut(master).expect("it").set_helper(Some("ftp"));
    w.nf.ct.get_mut(id).expect("it").set_master(master, None);
    assert_eq!(says(&mut w, &mut data), [true, false, true]);
}
