//! Which local ports are open: what decides deliver, reset or port unreachable.
//!
//! The sockets' own state machines live in `endpoint`; here is only the lookup
//! (kernel: `__inet_lookup_skb`, `__udp4_lib_lookup`).

use crate::wire::Tuple;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A socket of the world.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SocketId(pub u32);

/// What a socket is bound to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Binding {
    /// IP protocol.
    pub proto: u8,
    /// Local port, or echo id for ICMP.
    pub port: u16,
    /// Local address; `None` for any.
    pub local: Option<IpAddr>,
    /// Remote address and port of a connected socket.
    pub remote: Option<(IpAddr, u16)>,
}

/// Whose a socket is and what was set on it; netfilter asks (`-m owner`, `-m socket`, `TPROXY`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// IP_TRANSPARENT is set.
    pub transparent: bool,
    /// SO_MARK.
    pub mark: u32,
}

/// Root's, nothing set.
static ROOT: Owner = Owner {
    uid: 0,
    gid: 0,
    groups: Vec::new(),
    transparent: false,
    mark: 0,
};

/// The sockets of a namespace.
#[derive(Clone, Debug, Default)]
pub struct SocketTable {
    bound: BTreeMap<Binding, SocketId>,
    owners: BTreeMap<SocketId, Owner>,
}

impl SocketTable {
    /// Binds; gives back the socket that already holds exactly this binding, if any.
    pub fn bind(&mut self, b: Binding, id: SocketId) -> Result<(), SocketId> {
        if let Some(old) = self.bound.get(&b) {
            return Err(*old);
        }
        self.bound.insert(b, id);
        Ok(())
    }

    /// Closes every binding of a socket.
    pub fn close(&mut self, id: SocketId) {
        self.bound.retain(|_, s| *s != id);
        self.owners.remove(&id);
    }

    /// Says whose a socket is; without, it is root's.
    pub fn set_owner(&mut self, id: SocketId, owner: Owner) {
        self.owners.insert(id, owner);
    }

    /// Whose a socket is.
    pub fn owner(&self, id: SocketId) -> &Owner {
        self.owners.get(&id).unwrap_or(&ROOT)
    }

    /// Closes one binding.
    pub fn unbind(&mut self, b: &Binding) {
        self.bound.remove(b);
    }

    /// The best socket for a packet with this tuple: connected, then bound to the address, then to any.
    pub fn lookup(&self, t: &Tuple) -> Option<SocketId> {
        self.find(t).map(|(_, id)| id)
    }

    /// The same with what it is bound to.
    pub fn find(&self, t: &Tuple) -> Option<(Binding, SocketId)> {
        let base = Binding {
            proto: t.proto,
            port: t.dport,
            local: None,
            remote: None,
        };
        [
            Binding {
                local: Some(t.dst),
                remote: Some((t.src, t.sport)),
                ..base
            },
            Binding {
                remote: Some((t.src, t.sport)),
                ..base
            },
            Binding {
                local: Some(t.dst),
                ..base
            },
            base,
        ]
        .iter()
        .find_map(|b| Some((*b, *self.bound.get(b)?)))
    }

    /// All bindings in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Binding, SocketId)> {
        self.bound.iter().map(|(b, s)| (b, *s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_socket_wins() {
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let mut s = SocketTable::default();
        let any = Binding {
            proto: 6,
            port: 80,
            local: None,
            remote: None,
        };
        s.bind(any, SocketId(1)).unwrap();
        s.bind(
            Binding {
                local: Some(b),
                remote: Some((a, 4000)),
                ..any
            },
            SocketId(2),
        )
        .unwrap();
        assert_eq!(s.bind(any, SocketId(3)), Err(SocketId(1)));
        let t = Tuple {
            proto: 6,
            src: a,
            dst: b,
            sport: 4000,
            dport: 80,
        };
        assert_eq!(s.lookup(&t), Some(SocketId(2)));
        assert_eq!(s.lookup(&Tuple { sport: 4001, ..t }), Some(SocketId(1)));
        s.close(SocketId(1));
        assert_eq!(s.lookup(&Tuple { sport: 4001, ..t }), None);
    }
}
