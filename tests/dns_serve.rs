//! `podpath dns serve` over real sockets: UDP, TCP, what is no query, many TCP clients.
//!
//! `cargo test --test dns_serve -- --ignored` also asks with dig, where it is installed.

use hickory_proto::op::Message;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const COREFILE: &str = "cluster.local in-addr.arpa {\n errors\n kubernetes cluster.local in-addr.arpa {\n  pods insecure\n\
    ttl 30\n }\n cache 30\n loadbalance\n transfer cluster.local {\n  to *\n }\n}\n";

const MANIFESTS: &str = r#"{"apiVersion": "v1", "kind": "List", "items": [
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
    {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "cart", "namespace": "shop"},
     "spec": {"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]}},
    {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "out", "namespace": "shop"},
     "spec": {"type": "ExternalName", "externalName": "www.example.net"}}]}"#;

/// Folders made so far: tests run side by side.
static FOLDERS: AtomicU32 = AtomicU32::new(0);

struct Server {
    child: Child,
    at: SocketAddr,
    folder: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn serve(corefile: &str) -> Server {
    let n = FOLDERS.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("podpath-dns-{}-{n}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (file, manifests) = (folder.join("Corefile"), folder.join("cluster.json"));
    std::fs::write(&file, corefile).unwrap();
    std::fs::write(&manifests, MANIFESTS).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_podpath"))
        .args([
            "dns",
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--duration",
            "60s",
            "--corefile",
        ])
        .arg(&file)
        .arg("-f")
        .arg(&manifests)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let said = lines
        .find_map(|l| l.ok().filter(|l| l.contains("listening on")))
        .expect("it listens");
    let at = said
        .split_whitespace()
        .find_map(|w| w.parse().ok())
        .expect("an address");
    Server { child, at, folder }
}

fn query(name: &str, kind: u16) -> Vec<u8> {
    let mut out = vec![0xAB, 0xCD, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    out.push(0);
    out.extend(kind.to_be_bytes());
    out.extend([0, 1]);
    out
}

fn socket(at: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    socket.connect(at).unwrap();
    socket
}

/// As a resolver asks: again when nothing came, which on a full socket of a busy machine happens.
fn over_udp(at: SocketAddr, bytes: &[u8]) -> Option<Message> {
    let (socket, mut buffer) = (socket(at), [0; 65_535]);
    (0..5).find_map(|_| {
        socket.send(bytes).unwrap();
        let len = socket.recv(&mut buffer).ok()?;
        Message::from_vec(&buffer[..len]).ok()
    })
}

fn over_tcp(at: SocketAddr, bytes: &[u8]) -> Option<Message> {
    let mut stream = TcpStream::connect(at).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    stream
        .write_all(&[&(bytes.len() as u16).to_be_bytes()[..], bytes].concat())
        .unwrap();
    let mut len = [0; 2];
    stream.read_exact(&mut len).ok()?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut message).ok()?;
    Message::from_vec(&message).ok()
}

#[test]
fn real_clients_are_answered_over_udp_and_tcp() {
    let server = serve(COREFILE);
    let name = "cart.shop.svc.cluster.local";
    for round in 0..3 {
        for got in [
            over_udp(server.at, &query(name, 1)),
            over_tcp(server.at, &query(name, 1)),
        ] {
            let got = got.unwrap_or_else(|| panic!("no reply in round {round}"));
            assert_eq!((got.metadata.id, got.answers.len()), (0xABCD, 1));
            assert_eq!(got.answers[0].data.to_string(), "10.96.0.7");
        }
    }
    assert_eq!(
        over_udp(server.at, &query("nope.cluster.local", 1))
            .map(|m| u16::from(m.metadata.response_code)),
        Some(3)
    );
    assert_eq!(
        over_udp(server.at, &query("example.com", 1)).map(|m| u16::from(m.metadata.response_code)),
        Some(5)
    );
    assert!(
        over_tcp(server.at, &query("cluster.local", 252))
            .unwrap()
            .answers
            .len()
            > 5
    );
    // Neither octets of no meaning nor half a query stop it.
    let socket = socket(server.at);
    for len in 0..200_u8 {
        socket
            .send(&vec![len.wrapping_mul(37); usize::from(len)])
            .unwrap();
        let whole = query(name, 1);
        socket
            .send(&whole[..usize::from(len).min(whole.len())])
            .unwrap();
    }
    assert!(over_udp(server.at, &query(name, 1)).is_some());
    // More TCP clients than there are places: those in are served, and UDP is.
    let open: Vec<TcpStream> = (0..150)
        .filter_map(|_| TcpStream::connect(server.at).ok())
        .collect();
    assert!(over_udp(server.at, &query(name, 1)).is_some());
    drop(open);
    let again = (0..50).find_map(|_| {
        std::thread::sleep(Duration::from_millis(100));
        over_tcp(server.at, &query(name, 1))
    });
    assert!(again.is_some());
}

#[test]
fn upstreams_are_asked_over_real_sockets() {
    let upstream = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = upstream.local_addr().unwrap();
    let answering = std::thread::spawn(move || {
        let mut buffer = [0; 512];
        upstream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let (len, from) = upstream.recv_from(&mut buffer).unwrap();
        let mut reply = buffer[..len].to_vec();
        reply[2] |= 0x80;
        reply[7] = 1;
        reply.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
        upstream.send_to(&reply, from).unwrap();
    });
    let server = serve(&format!(".:53 {{\n forward . {at}\n cache\n}}"));
    let got = over_udp(server.at, &query("www.example.net", 1)).unwrap();
    assert_eq!(got.answers[0].data.to_string(), "192.0.2.1");
    answering.join().unwrap();
    // The second time it is in the cache: nobody answers any more.
    assert_eq!(
        over_udp(server.at, &query("www.example.net", 1)).map(|m| m.answers.len()),
        Some(1)
    );
}

#[test]
#[ignore = "asks with dig, which must be installed"]
fn dig_understands_every_kind_of_reply() {
    let server = serve(COREFILE);
    let port = server.at.port().to_string();
    for (words, expected) in [
        ("cart.shop.svc.cluster.local A", "10.96.0.7"),
        (
            "_http._tcp.cart.shop.svc.cluster.local SRV",
            "0 100 80 cart.shop.svc.cluster.local.",
        ),
        ("-x 10.96.0.7", "cart.shop.svc.cluster.local."),
        ("out.shop.svc.cluster.local CNAME", "www.example.net."),
        ("dns-version.cluster.local TXT", "\"1.1.0\""),
        (
            "cluster.local SOA",
            "ns.dns.cluster.local. hostmaster.cluster.local.",
        ),
        ("10-1-2-3.shop.pod.cluster.local A", "10.1.2.3"),
        ("cluster.local AXFR", "cart.shop.svc.cluster.local."),
    ] {
        for transport in ["+notcp", "+tcp"] {
            let out = Command::new("dig")
                .args(["@127.0.0.1", "-p", &port, transport, "+time=5"])
                .args(words.split(' '))
                .output();
            let out = out.expect("dig is installed");
            let text = String::from_utf8_lossy(&out.stdout).into_owned();
            assert!(text.contains(expected), "{words} {transport}: {text}");
            assert!(
                !text.contains(";; Warning") && !text.contains("parser"),
                "{text}"
            );
        }
    }
}
