//! Servers that nobody has talked to yet, and the kernel's socket table kept equal to the stacks'.
//!
//! A namespace gets a stack when the first packet or client needs one; until then a server is one small
//! record. Invariant: what the kernel model's table binds is what listeners and stacks say.

use crate::endpoint::{App, Errno, SocketChange, SocketInfo, Stack};
use crate::net::{Binding, SocketId, SocketTable};
use crate::wire::{Tuple, proto};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// A bound server.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub proto: u8,
    pub addr: Option<IpAddr>,
    pub port: u16,
    pub app: App,
}

impl Server {
    /// What the kernel's table says of it.
    pub(super) fn binding(&self) -> Binding {
        Binding {
            proto: self.proto,
            port: self.port,
            local: self.addr,
            remote: None,
        }
    }

    /// Whether another server cannot be bound beside it (no SO_REUSEPORT).
    pub(super) fn clashes(&self, proto: u8, addr: Option<IpAddr>, port: u16) -> bool {
        let overlap = self.addr.is_none() || addr.is_none() || self.addr == addr;
        (self.proto, self.port) == (proto, port) && overlap
    }

    /// Binds it in a stack.
    pub(super) fn bind(&self, stack: &mut Stack) -> Result<(), Errno> {
        match self.proto {
            proto::TCP => stack.listen_tcp(self.addr, self.port, self.app.clone()),
            proto::UDP => stack.listen_udp(self.addr, self.port, self.app.clone()),
            _ => Err(Errno::Invalid),
        }
    }
}

fn binding(s: &SocketInfo) -> Binding {
    Binding {
        proto: s.proto,
        port: s.port,
        local: s.addr,
        remote: s.peer.map(|p| (p.ip(), p.port())),
    }
}

/// The tuple a connected socket sends along.
fn tuple(s: &SocketInfo) -> Option<Tuple> {
    let (src, peer) = (s.addr?, s.peer?);
    Some(Tuple {
        proto: s.proto,
        src,
        dst: peer.ip(),
        sport: s.port,
        dport: peer.port(),
    })
}

/// What a stack's connected sockets did since the last look, by the tuples they send along.
#[derive(Debug, Default)]
pub(super) struct Mirrored {
    /// Open now and not before.
    pub opened: Vec<Tuple>,
    /// Gone.
    pub gone: Vec<Tuple>,
}

/// Brings the kernel's table up to date.
pub(super) fn mirror(stack: &mut Stack, table: &mut SocketTable, next: &mut u32) -> Mirrored {
    let Some(changes) = stack.changes() else {
        return mirror_all(stack, table, next);
    };
    let mut m = Mirrored::default();
    for c in changes {
        match c {
            SocketChange::Opened(s) => {
                open(table, &s, next);
                m.gone.retain(|t| Some(*t) != tuple(&s));
                m.opened.extend(tuple(&s));
            }
            SocketChange::Closed(s) => {
                table.unbind(&binding(&s));
                m.gone.extend(tuple(&s));
            }
        }
    }
    m
}

/// A listener of a new stack is bound already and keeps its id.
fn open(table: &mut SocketTable, s: &SocketInfo, next: &mut u32) {
    if table.bind(binding(s), SocketId(*next)).is_ok() {
        *next = next.wrapping_add(1);
    }
}

/// The same from the whole list, when there were too many changes to keep.
fn mirror_all(stack: &Stack, table: &mut SocketTable, next: &mut u32) -> Mirrored {
    let sockets = stack.sockets();
    let wanted: BTreeSet<Binding> = sockets.iter().map(binding).collect();
    let old: Vec<Binding> = table.iter().map(|(b, _)| *b).collect();
    let mut m = Mirrored::default();
    for b in old.into_iter().filter(|b| !wanted.contains(b)) {
        table.unbind(&b);
        if let (Some(src), Some((dst, dport))) = (b.local, b.remote) {
            m.gone.push(Tuple {
                proto: b.proto,
                src,
                dst,
                sport: b.port,
                dport,
            });
        }
    }
    for s in &sockets {
        open(table, s, next);
        m.opened.extend(tuple(s));
    }
    m
}
