//! The smoltcp side of one connection: an `Interface` of its own, a queue each way, a clock of its own.
//!
//! One interface per connection (about a kilobyte, made when the connection is) gives what a shared one
//! cannot: any local address the kernel delivered, the connection's own path MTU (smoltcp fixes the MTU when
//! an interface is made: a smaller one means a new interface around the same socket), and a clock that
//! stands still while Linux would not retransmit yet.
//! Invariant: the clock never runs backward, and passes a smoltcp timer only in [`Machine::expire`].

use crate::base::Instant;
use core::time::Duration;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, ChecksumCapabilities, Device, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as Clock;
use smoltcp::wire::{HardwareAddress, IpCidr};
use std::collections::VecDeque;
use std::net::IpAddr;

/// Rounds of smoltcp's egress in one step: a full buffer in the smallest segments, and some.
const EGRESS_ROUNDS_MAX: usize = 4096;

/// The queues between a connection and smoltcp.
#[derive(Debug)]
struct Pipe {
    rx: VecDeque<Vec<u8>>,
    tx: VecDeque<Vec<u8>>,
    mtu: usize,
}

/// A packet on its way into smoltcp.
struct Rx(Vec<u8>);

impl phy::RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

/// Room for a packet on its way out.
struct Tx<'a>(&'a mut VecDeque<Vec<u8>>);

impl phy::TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}

impl Device for Pipe {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Clock) -> Option<(Rx, Tx<'_>)> {
        let packet = self.rx.pop_front()?;
        Some((Rx(packet), Tx(&mut self.tx)))
    }

    fn transmit(&mut self, _: Clock) -> Option<Tx<'_>> {
        Some(Tx(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ip;
        caps.max_transmission_unit = self.mtu;
        // Verified before a packet gets here, written after it leaves: `segment::encode`.
        caps.checksum = ChecksumCapabilities::ignored();
        caps
    }
}

/// One smoltcp TCP socket with everything it needs to run.
pub(super) struct Machine {
    iface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    pipe: Pipe,
    local: IpAddr,
    seed: u64,
    clock: i64,
    seen: Instant,
    timer: Option<i64>,
}

impl Machine {
    /// A closed socket at `local` (unicast) with buffers of `rx` and `tx` bytes behind a path of `mtu`.
    pub(super) fn new(
        now: Instant,
        seed: u64,
        local: IpAddr,
        mtu: usize,
        rx: usize,
        tx: usize,
    ) -> Self {
        let mut pipe = Pipe {
            rx: VecDeque::new(),
            tx: VecDeque::new(),
            mtu,
        };
        let mut socket = tcp::Socket::new(
            tcp::SocketBuffer::new(vec![0; rx]),
            tcp::SocketBuffer::new(vec![0; tx]),
        );
        // Linux acknowledges the first segments of a connection at once (TCP_MAX_QUICKACKS).
        socket.set_ack_delay(None);
        // The peer's window is presented in whole segments, see `Conn::present`.
        socket.set_nagle_enabled(false);
        // Only switches the option on; the value is written by `Conn::emit`.
        socket.set_tsval_generator(Some(|| 0));
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        let iface = interface(&mut pipe, seed, local, 0);
        Machine {
            iface,
            sockets,
            handle,
            pipe,
            local,
            seed,
            clock: 0,
            seen: now,
            timer: None,
        }
    }

    /// The socket.
    pub(super) fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// The socket's state.
    pub(super) fn state(&self) -> tcp::State {
        self.sockets.get::<tcp::Socket<'_>>(self.handle).state()
    }

    /// Starts a connect; false when an endpoint cannot be used.
    pub(super) fn connect(&mut self, remote: (IpAddr, u16), local: (IpAddr, u16)) -> bool {
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        socket.connect(self.iface.context(), remote, local).is_ok()
    }

    /// Feeds one IP packet to the socket.
    pub(super) fn ingress(&mut self, packet: Vec<u8>) {
        self.pipe.rx.push_back(packet);
        let clock = Clock::from_micros(self.clock);
        self.iface
            .poll_ingress_single(clock, &mut self.pipe, &mut self.sockets);
    }

    /// Lets the socket send all it wants to now, and returns it.
    pub(super) fn egress(&mut self) -> VecDeque<Vec<u8>> {
        let clock = Clock::from_micros(self.clock);
        for _ in 0..EGRESS_ROUNDS_MAX {
            let sent = self
                .iface
                .poll_egress(clock, &mut self.pipe, &mut self.sockets);
            if sent == smoltcp::iface::PollResult::None {
                break;
            }
        }
        let at = self.iface.poll_at(clock, &self.sockets);
        self.timer = at.map(|t| t.total_micros());
        core::mem::take(&mut self.pipe.tx)
    }

    /// Throws away what the socket has sent since the last egress.
    pub(super) fn discard(&mut self) {
        self.pipe.tx.clear();
    }

    /// Whether the socket waits for a timer (after an egress).
    pub(super) fn waits(&self) -> bool {
        self.timer.is_some()
    }

    /// Lets time pass up to `now`, but not as far as the socket's timer.
    pub(super) fn advance(&mut self, now: Instant) {
        let passed = now.since(self.seen);
        self.seen = now;
        let to = self.clock.saturating_add(micros(passed));
        self.clock = match self.timer {
            Some(t) if t <= to => self.clock.max(t - 1),
            _ => to,
        };
    }

    /// Lets the socket's timer expire: it retransmits or probes with the next egress.
    pub(super) fn expire(&mut self) {
        if let Some(t) = self.timer {
            self.clock = self.clock.max(t);
        }
    }

    /// Narrows the path: segments made from now on fit `mtu`.
    pub(super) fn set_mtu(&mut self, mtu: usize) {
        self.pipe.mtu = mtu;
        self.iface = interface(&mut self.pipe, self.seed, self.local, self.clock);
    }
}

fn micros(d: Duration) -> i64 {
    i64::try_from(d.as_micros()).unwrap_or(i64::MAX)
}

fn interface(pipe: &mut Pipe, seed: u64, local: IpAddr, clock: i64) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = seed;
    let mut iface = Interface::new(config, pipe, Clock::from_micros(clock));
    let prefix = if local.is_ipv4() { 32 } else { 128 };
    iface.update_ip_addrs(|addrs| {
        // The vector is empty and holds at least one address: it cannot be full.
        let _ = addrs.push(IpCidr::new(local.into(), prefix));
    });
    iface
}
