//! `podpath dns serve` over real sockets: UDP, TCP, what is no query, many TCP clients.
//!
//! `make dns-dig` asks with dig, `tests/dns_hostile.rs` sends what no client sends.

#[path = "common/dns_process.rs"]
#[allow(dead_code, reason = "shared with the other tests of the server")]
mod dns_process;

use dns_process::{Server, query, socket};
use hickory_proto::op::Message;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

const COREFILE: &str = "cluster.local in-addr.arpa {\n errors\n kubernetes cluster.local in-addr.arpa {\n  pods insecure\n\
    ttl 30\n }\n cache 30\n loadbalance\n transfer cluster.local {\n  to *\n }\n}\n";

const MANIFESTS: &str = r#"{"apiVersion": "v1", "kind": "List", "items": [
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
    {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "cart", "namespace": "shop"},
     "spec": {"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]}},
    {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "out", "namespace": "shop"},
     "spec": {"type": "ExternalName", "externalName": "www.example.net"}}]}"#;

fn serve(corefile: &str) -> Server {
    Server::start(corefile, MANIFESTS, &[])
}

fn over_udp(at: SocketAddr, bytes: &[u8]) -> Option<Message> {
    Message::from_vec(&dns_process::over_udp(at, bytes)?).ok()
}

fn over_tcp(at: SocketAddr, bytes: &[u8]) -> Option<Message> {
    Message::from_vec(&dns_process::over_tcp(at, bytes)?).ok()
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
    let socket = socket(server.at, Duration::from_secs(5));
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
fn files_that_change_are_taken_in() {
    let corefile = |ttl: u32| {
        format!(
            ".:53 {{\n errors\n kubernetes cluster.local {{\n  ttl {ttl}\n }}\n reload 2s 1s\n}}\n"
        )
    };
    let server = serve(&corefile(30));
    let name = "cart.shop.svc.cluster.local";
    let ttl =
        || over_udp(server.at, &query(name, 1)).and_then(|m| m.answers.first().map(|r| r.ttl));
    let becomes = |wanted: Option<u32>| {
        (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            ttl() == wanted
        })
    };
    assert_eq!(ttl(), Some(30));
    // `reload` sees the new Corefile; one that is wrong changes nothing.
    std::fs::write(server.folder.join("Corefile"), corefile(7)).unwrap();
    assert!(becomes(Some(7)));
    std::fs::write(server.folder.join("Corefile"), "nonsense {").unwrap();
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(ttl(), Some(7));
    // A Service that is gone is gone without `reload`, whatever the Corefile on disk.
    std::fs::write(server.folder.join("Corefile"), corefile(7)).unwrap();
    let gone = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}]}"#;
    std::fs::write(server.folder.join("cluster.json"), gone).unwrap();
    assert!(becomes(None));
}
