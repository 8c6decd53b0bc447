//! `podpath dns serve` as a process of its own, for tests that talk to it over real sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Folders made so far: tests run side by side.
static FOLDERS: AtomicU32 = AtomicU32::new(0);

/// A running server; it ends with this value.
pub struct Server {
    /// The process.
    pub child: Child,
    /// Where it listens, UDP and TCP.
    pub at: SocketAddr,
    /// Its Corefile and manifests lie here, as `Corefile` and `cluster.json`.
    pub folder: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Server {
    /// Starts one on a free port of the loopback address and waits until it listens; `more` are arguments.
    pub fn start(corefile: &str, manifests: &str, more: &[&str]) -> Server {
        let n = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("podpath-dns-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let (file, objects) = (folder.join("Corefile"), folder.join("cluster.json"));
        std::fs::write(&file, corefile).expect("writable");
        std::fs::write(&objects, manifests).expect("writable");
        // Another build of it, where one is named.
        let built = std::env::var_os("PODPATH_BIN").filter(|b| !b.is_empty());
        let mut command = Command::new(built.unwrap_or(env!("CARGO_BIN_EXE_podpath").into()));
        command.args([
            "dns",
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--duration",
            "300s",
            "--corefile",
        ]);
        command.arg(&file).arg("-f").arg(&objects).args(more);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut said = Vec::new();
        let at = loop {
            match lines.next() {
                Some(Ok(line)) if line.contains("listening on") => {
                    let address = line.split_whitespace().find_map(|w| w.parse().ok());
                    break address.expect("an address");
                }
                Some(Ok(line)) => said.push(line),
                _ => panic!("it does not listen: {}\n{corefile}", said.join("\n")),
            }
        };
        // A full pipe would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        Server { child, at, folder }
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

/// A query with RD set: header, one question of class IN.
pub fn query(name: &str, kind: u16) -> Vec<u8> {
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

/// A socket that waits at most so long for each reply.
pub fn socket(at: SocketAddr, wait: Duration) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(wait)).expect("a timeout");
    socket.connect(at).expect("connected");
    socket
}

/// As a resolver asks: again when nothing came, which on a full socket of a busy machine happens.
pub fn over_udp(at: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
    let (socket, mut buffer) = (socket(at, Duration::from_secs(5)), [0; 65_535]);
    (0..5).find_map(|_| {
        // An error that an earlier datagram brought about is not this one's.
        let _ = socket.send(bytes);
        let len = socket.recv(&mut buffer).ok()?;
        Some(buffer[..len].to_vec())
    })
}

/// One query over a connection of its own; none where it is closed instead.
pub fn over_tcp(at: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(at).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let framed = [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    stream.write_all(&framed).ok()?;
    let mut len = [0; 2];
    stream.read_exact(&mut len).ok()?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut message).ok()?;
    Some(message)
}
