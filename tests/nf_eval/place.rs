//! Matches that ask the namespace: kinds of addresses, reverse path, sockets and who owns them.

use crate::nf::{World, syn, tcp, udp};
use podpath::net::{Binding, Owner, SocketId};
use podpath::nf::{Hook, TableName};
use podpath::wire::{Frame, proto};

fn matches(w: &mut World, f: &Frame, hook: Hook, devs: (&str, &str)) -> bool {
    let chain = hook.chain();
    let before = w.packets(chain)[0];
    w.at_hook(&mut f.clone(), TableName::Mangle, hook, devs);
    w.packets(chain)[0] > before
}

fn mangle(hook: Hook, words: &str) -> String {
    let chain = hook.chain();
    format!("*mangle\n:{chain} ACCEPT [0:0]\n-A {chain} {words}\nCOMMIT\n")
}

#[track_caller]
fn check(f: &Frame, hook: Hook, devs: (&str, &str), words: &str, want: bool) {
    let v6 = f.l3()[0] >> 4 == 6;
    let text = mangle(hook, words);
    let mut w = if v6 {
        World::v6(&text)
    } else {
        World::new(&text)
    };
    assert_eq!(matches(&mut w, f, hook, devs), want, "{words}");
}

#[test]
fn kinds_of_addresses() {
    let hook = Hook::Prerouting;
    let to = |dst: &str| tcp("10.0.0.9", dst, 1, 2, 2, &[]);
    for (dst, kind, want) in [
        ("10.0.0.1", "LOCAL", true),
        ("10.1.0.1", "LOCAL", true),
        ("127.0.0.53", "LOCAL", true),
        ("10.1.0.9", "LOCAL", false),
        ("10.1.0.9", "UNICAST", true),
        ("10.0.0.1", "UNICAST,LOCAL", true),
        ("10.0.0.1", "UNICAST", false),
        ("10.0.0.255", "BROADCAST", true),
        ("255.255.255.255", "BROADCAST", true),
        ("0.0.0.0", "BROADCAST", true),
        ("224.0.0.1", "MULTICAST", true),
        ("8.8.8.8", "UNICAST", true),
    ] {
        check(
            &to(dst),
            hook,
            ("eth0", ""),
            &format!("-m addrtype --dst-type {kind}"),
            want,
        );
        check(
            &to(dst),
            hook,
            ("eth0", ""),
            &format!("-m addrtype ! --dst-type {kind}"),
            !want,
        );
    }
    check(
        &to("10.1.0.1"),
        hook,
        ("eth0", ""),
        "-m addrtype --dst-type LOCAL --limit-iface-in",
        false,
    );
    check(
        &to("10.1.0.1"),
        hook,
        ("cni0", ""),
        "-m addrtype --dst-type LOCAL --limit-iface-in",
        true,
    );
    check(
        &to("10.1.0.1"),
        hook,
        ("eth0", ""),
        "-m addrtype ! --src-type LOCAL --dst-type LOCAL",
        true,
    );
    let out = ("", "cni0");
    check(
        &to("10.1.0.1"),
        Hook::Postrouting,
        out,
        "-m addrtype --dst-type LOCAL --limit-iface-out",
        true,
    );
}

#[test]
fn kinds_of_ipv6_addresses() {
    let hook = Hook::Prerouting;
    let to = |dst: &str| tcp("fd00::9", dst, 1, 2, 2, &[]);
    for (dst, kind, want) in [
        ("fd00::1", "LOCAL", true),
        ("fd01::9", "LOCAL", false),
        ("fd01::9", "UNICAST", true),
        // Unlike in IPv4 an own address is unicast as well.
        ("fd00::1", "UNICAST", true),
        ("ff02::1", "MULTICAST", true),
        ("ff02::1", "UNICAST", false),
        ("2001:db8::1", "UNREACHABLE", true),
        ("fd01::9", "UNREACHABLE", false),
    ] {
        check(
            &to(dst),
            hook,
            ("eth0", ""),
            &format!("-m addrtype --dst-type {kind}"),
            want,
        );
    }
    check(
        &to("fd01::1"),
        hook,
        ("eth0", ""),
        "-m addrtype --dst-type LOCAL --limit-iface-in",
        false,
    );
    check(
        &to("fd00::1"),
        hook,
        ("eth0", ""),
        "-m addrtype --dst-type LOCAL --limit-iface-in",
        true,
    );
}

#[test]
fn reverse_path() {
    let hook = Hook::Prerouting;
    let from = |src: &str| udp(src, "10.1.0.9", 1, 2, b"");
    for (src, words, want) in [
        ("10.0.0.9", "", true),
        ("10.0.0.9", "--invert", false),
        ("10.1.0.7", "", false),
        ("10.1.0.7", "--loose", true),
        ("8.8.8.8", "--loose", false),
        ("8.8.8.8", "--invert", true),
        ("10.0.0.1", "", false),
        ("10.0.0.1", "--accept-local --loose", true),
    ] {
        check(
            &from(src),
            hook,
            ("eth0", ""),
            &format!("-m rpfilter {words}"),
            want,
        );
    }
    check(&from("8.8.8.8"), hook, ("lo", ""), "-m rpfilter", true);
    let from = |src: &str| udp(src, "fd01::9", 1, 2, b"");
    check(&from("fd00::9"), hook, ("eth0", ""), "-m rpfilter", true);
    check(&from("fd01::7"), hook, ("eth0", ""), "-m rpfilter", false);
}

/// A server on any address, one on an address of eth0, a client's connection.
fn with_sockets(text: &str) -> World {
    let mut w = World::new(text);
    let eth0 = "10.0.0.1".parse().unwrap();
    let far = ("10.0.0.9".parse().unwrap(), 443);
    for (id, proto, port, local, remote) in [
        (1, proto::TCP, 80, None, None),
        (2, proto::TCP, 81, Some(eth0), None),
        (3, proto::TCP, 5000, Some(eth0), Some(far)),
    ] {
        let b = Binding {
            proto,
            port,
            local,
            remote,
        };
        w.ns.sockets_mut()
            .bind(b, SocketId(id))
            .expect("a free port");
    }
    let envoy = Owner {
        uid: 1337,
        gid: 1338,
        groups: vec![7],
        transparent: true,
        mark: 9,
    };
    w.ns.sockets_mut().set_owner(SocketId(3), envoy);
    w
}

#[test]
fn sockets() {
    let hook = Hook::Prerouting;
    let to = |dport| tcp("10.0.0.9", "10.0.0.1", 443, dport, 2, &[]);
    for (port, words, want) in [
        (80, "", false),
        (80, "--nowildcard", true),
        (81, "", true),
        (82, "", false),
        (5000, "", true),
        (5000, "--transparent", true),
        (81, "--transparent", false),
    ] {
        let mut w = with_sockets(&mangle(hook, &format!("-m socket {words}")));
        assert_eq!(
            matches(&mut w, &to(port), hook, ("eth0", "")),
            want,
            "{port} {words}"
        );
    }
    let mut w = with_sockets(&mangle(hook, "-m socket --transparent --restore-skmark"));
    let mut f = to(5000);
    w.at_hook(&mut f, TableName::Mangle, hook, ("eth0", ""));
    assert_eq!(f.mark, 9);
}

#[test]
fn owners() {
    let hook = Hook::Output;
    let mut own = tcp("10.0.0.1", "10.0.0.9", 5000, 443, 2, &[]);
    own.local = true;
    let mut root = tcp("10.0.0.1", "10.0.0.9", 81, 7, 2, &[]);
    root.local = true;
    let mut nobody = tcp("10.0.0.1", "10.0.0.9", 9999, 443, 4, &[]);
    nobody.local = true;
    for (f, words, want) in [
        (&own, "--uid-owner 1337", true),
        (&own, "--uid-owner 1000-2000", true),
        (&own, "! --uid-owner 1337", false),
        (&own, "--gid-owner 1338", true),
        (&own, "--gid-owner 7", false),
        (&own, "--gid-owner 7 --suppl-groups", true),
        (&own, "--socket-exists", true),
        (&own, "! --socket-exists", false),
        (&root, "--uid-owner 0", true),
        (&root, "! --uid-owner 1337", true),
        // The kernel's own answer has no socket.
        (&nobody, "--socket-exists", false),
        (&nobody, "! --socket-exists", true),
        (&nobody, "--uid-owner 0", false),
        (&nobody, "! --uid-owner 1337", true),
    ] {
        let mut w = with_sockets(&mangle(hook, &format!("-m owner {words}")));
        assert_eq!(matches(&mut w, f, hook, ("", "eth0")), want, "{words}");
    }
    let mut w = with_sockets(&mangle(hook, "-m owner --socket-exists"));
    assert!(
        !matches(&mut w, &syn(80), hook, ("", "eth0")),
        "a forwarded packet has no socket"
    );
}
