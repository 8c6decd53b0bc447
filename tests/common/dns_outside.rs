//! Upstreams of a case of the vectors as sockets on the loopback address: UDP and TCP on one port each.

use crate::dns_upstream::Upstream;
use podpath::kube::dns::Transport;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The sockets; they close with this value.
pub struct Outside {
    over: Arc<AtomicBool>,
    at: BTreeMap<String, SocketAddr>,
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

impl Outside {
    /// Opens one for each entry of `upstreams`.
    pub fn start(case: &Value) -> Outside {
        let mut out = Outside {
            over: Arc::default(),
            at: BTreeMap::new(),
        };
        for (address, value) in case["upstreams"].as_object().into_iter().flatten() {
            let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
            let at = tcp.local_addr().expect("an address");
            let udp = UdpSocket::bind(at).expect("the same port for UDP");
            out.at.insert(address.clone(), at);
            let upstream = Arc::new(Mutex::new(Upstream::new(value)));
            let (over, other) = (Arc::clone(&out.over), Arc::clone(&upstream));
            udp.set_read_timeout(Some(Duration::from_millis(50)))
                .expect("a timeout");
            tcp.set_nonblocking(true)
                .expect("a listener that does not block");
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while !over.load(Ordering::Relaxed) {
                    let Ok((len, from)) = udp.recv_from(&mut buffer) else {
                        continue;
                    };
                    let reply = other
                        .lock()
                        .expect("no panic")
                        .reply(&buffer[..len], Transport::Udp);
                    reply.map(|r| udp.send_to(&r, from));
                }
            });
            let over = Arc::clone(&out.over);
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    match tcp.accept() {
                        Ok((stream, _)) => drop(serve_one(stream, &upstream)),
                        Err(_) => std::thread::sleep(Duration::from_millis(5)),
                    }
                }
            });
        }
        out
    }

    /// A Corefile with these sockets for the addresses it names.
    pub fn corefile(&self, text: &str) -> String {
        let line = |line: &str| match line.trim_start().starts_with("forward ") {
            true => self.at.iter().fold(line.to_owned(), |line, (address, at)| {
                let words: Vec<String> = line
                    .split(' ')
                    .map(|w| match w == address {
                        true => at.to_string(),
                        false => w.to_owned(),
                    })
                    .collect();
                words.join(" ")
            }),
            false => line.to_owned(),
        };
        let lines: Vec<String> = text.lines().map(line).collect();
        lines.join("\n") + "\n"
    }
}

fn serve_one(mut stream: std::net::TcpStream, upstream: &Mutex<Upstream>) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut bytes)?;
    if let Some(reply) = upstream
        .lock()
        .expect("no panic")
        .reply(&bytes, Transport::Tcp)
    {
        stream.write_all(&[&(reply.len() as u16).to_be_bytes()[..], &reply].concat())?;
    }
    Ok(())
}
