//! What a stack is told at birth: the device's MTU and the sysctls that show on the wire.

/// The net.ipv4.tcp_* sysctls an endpoint obeys; the defaults are Linux 6.18's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpSysctl {
    /// tcp_syn_retries.
    pub syn_retries: u32,
    /// tcp_syn_linear_timeouts: SYN timeouts of 1 s before they double (0: kernels before 6.5).
    pub syn_linear_timeouts: u32,
    /// tcp_synack_retries.
    pub synack_retries: u32,
    /// tcp_retries2.
    pub retries2: u32,
    /// tcp_orphan_retries (its default 0 means 8, `tcp_orphan_retries()`).
    pub orphan_retries: u32,
    /// The shift announced, as it follows from tcp_rmem\[2\] (6 MiB: 7).
    pub window_scale: u8,
}

impl Default for TcpSysctl {
    fn default() -> Self {
        TcpSysctl {
            syn_retries: 6,
            syn_linear_timeouts: 4,
            synack_retries: 5,
            retries2: 15,
            orphan_retries: 8,
            window_scale: 7,
        }
    }
}

/// A stack's configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Every random number of the stack follows from it.
    pub seed: u64,
    /// MTU of the device packets leave by, in bytes.
    pub mtu: u32,
    /// TTL or hop limit of TCP and UDP packets (net.ipv4.ip_default_ttl).
    pub ttl: u8,
    /// TCP's own.
    pub tcp: TcpSysctl,
}

impl Config {
    /// Linux defaults behind a device of `mtu` bytes.
    pub fn new(seed: u64, mtu: u32) -> Self {
        Config {
            seed,
            mtu,
            ttl: 64,
            tcp: TcpSysctl::default(),
        }
    }
}
