//! `net.netfilter.nf_conntrack_*` of one namespace.
//!
//! Timeouts are whole seconds, as `proc_dointvec_jiffies` takes them. `nf_conntrack_max` and `_buckets`
//! are the machine's in the kernel and the namespace's here: podpath's namespaces are whole machines
//! or pods, which track nothing. Defaults are those of Linux 6.18.

use super::sctp::SctpState;
use super::tcp::TcpState;
use core::time::Duration;

/// `net.netfilter.nf_conntrack_*`
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(
    missing_docs,
    reason = "the sysctls' own names, nf_conntrack_ left out"
)]
pub struct CtSysctl {
    pub max: i32,
    pub buckets: i32,
    pub expect_max: i32,
    pub acct: i32,
    pub checksum: i32,
    pub events: i32,
    pub helper: i32,
    pub log_invalid: i32,
    pub timestamp: i32,
    pub generic_timeout: i32,
    pub icmp_timeout: i32,
    pub icmpv6_timeout: i32,
    pub udp_timeout: i32,
    pub udp_timeout_stream: i32,
    pub gre_timeout: i32,
    pub gre_timeout_stream: i32,
    pub tcp_be_liberal: i32,
    pub tcp_ignore_invalid_rst: i32,
    pub tcp_loose: i32,
    pub tcp_max_retrans: i32,
    pub tcp_timeout_syn_sent: i32,
    pub tcp_timeout_syn_recv: i32,
    pub tcp_timeout_established: i32,
    pub tcp_timeout_fin_wait: i32,
    pub tcp_timeout_close_wait: i32,
    pub tcp_timeout_last_ack: i32,
    pub tcp_timeout_time_wait: i32,
    pub tcp_timeout_close: i32,
    pub tcp_timeout_max_retrans: i32,
    pub tcp_timeout_unacknowledged: i32,
    pub sctp_timeout_closed: i32,
    pub sctp_timeout_cookie_wait: i32,
    pub sctp_timeout_cookie_echoed: i32,
    pub sctp_timeout_established: i32,
    pub sctp_timeout_shutdown_sent: i32,
    pub sctp_timeout_shutdown_recd: i32,
    pub sctp_timeout_shutdown_ack_sent: i32,
    pub sctp_timeout_heartbeat_sent: i32,
}

impl Default for CtSysctl {
    fn default() -> Self {
        CtSysctl {
            max: 262_144,
            buckets: 262_144,
            expect_max: 4096,
            acct: 0,
            checksum: 1,
            events: 2,
            helper: 0,
            log_invalid: 0,
            timestamp: 0,
            generic_timeout: 600,
            icmp_timeout: 30,
            icmpv6_timeout: 30,
            udp_timeout: 30,
            udp_timeout_stream: 120,
            gre_timeout: 30,
            gre_timeout_stream: 180,
            tcp_be_liberal: 0,
            tcp_ignore_invalid_rst: 0,
            tcp_loose: 1,
            tcp_max_retrans: 3,
            tcp_timeout_syn_sent: 120,
            tcp_timeout_syn_recv: 60,
            tcp_timeout_established: 432_000,
            tcp_timeout_fin_wait: 120,
            tcp_timeout_close_wait: 60,
            tcp_timeout_last_ack: 30,
            tcp_timeout_time_wait: 120,
            tcp_timeout_close: 10,
            tcp_timeout_max_retrans: 300,
            tcp_timeout_unacknowledged: 300,
            sctp_timeout_closed: 10,
            sctp_timeout_cookie_wait: 3,
            sctp_timeout_cookie_echoed: 3,
            sctp_timeout_established: 210,
            sctp_timeout_shutdown_sent: 3,
            sctp_timeout_shutdown_recd: 3,
            sctp_timeout_shutdown_ack_sent: 3,
            sctp_timeout_heartbeat_sent: 30,
        }
    }
}

/// Seconds of a sysctl as a duration.
pub(super) fn secs(v: i32) -> Duration {
    Duration::from_secs(v.max(0) as u64)
}

impl CtSysctl {
    /// The value behind a name from which `net.netfilter.nf_conntrack_` was taken.
    pub(crate) fn slot(&mut self, key: &str) -> Option<&mut i32> {
        Some(match key {
            "max" => &mut self.max,
            "buckets" => &mut self.buckets,
            "expect_max" => &mut self.expect_max,
            "acct" => &mut self.acct,
            "checksum" => &mut self.checksum,
            "events" => &mut self.events,
            "helper" => &mut self.helper,
            "log_invalid" => &mut self.log_invalid,
            "timestamp" => &mut self.timestamp,
            "generic_timeout" => &mut self.generic_timeout,
            "icmp_timeout" => &mut self.icmp_timeout,
            "icmpv6_timeout" => &mut self.icmpv6_timeout,
            "udp_timeout" => &mut self.udp_timeout,
            "udp_timeout_stream" => &mut self.udp_timeout_stream,
            "gre_timeout" => &mut self.gre_timeout,
            "gre_timeout_stream" => &mut self.gre_timeout_stream,
            _ => return self.slot_tcp_sctp(key),
        })
    }

    fn slot_tcp_sctp(&mut self, key: &str) -> Option<&mut i32> {
        Some(match key {
            "tcp_be_liberal" => &mut self.tcp_be_liberal,
            "tcp_ignore_invalid_rst" => &mut self.tcp_ignore_invalid_rst,
            "tcp_loose" => &mut self.tcp_loose,
            "tcp_max_retrans" => &mut self.tcp_max_retrans,
            "tcp_timeout_syn_sent" => &mut self.tcp_timeout_syn_sent,
            "tcp_timeout_syn_recv" => &mut self.tcp_timeout_syn_recv,
            "tcp_timeout_established" => &mut self.tcp_timeout_established,
            "tcp_timeout_fin_wait" => &mut self.tcp_timeout_fin_wait,
            "tcp_timeout_close_wait" => &mut self.tcp_timeout_close_wait,
            "tcp_timeout_last_ack" => &mut self.tcp_timeout_last_ack,
            "tcp_timeout_time_wait" => &mut self.tcp_timeout_time_wait,
            "tcp_timeout_close" => &mut self.tcp_timeout_close,
            "tcp_timeout_max_retrans" => &mut self.tcp_timeout_max_retrans,
            "tcp_timeout_unacknowledged" => &mut self.tcp_timeout_unacknowledged,
            "sctp_timeout_closed" => &mut self.sctp_timeout_closed,
            "sctp_timeout_cookie_wait" => &mut self.sctp_timeout_cookie_wait,
            "sctp_timeout_cookie_echoed" => &mut self.sctp_timeout_cookie_echoed,
            "sctp_timeout_established" => &mut self.sctp_timeout_established,
            "sctp_timeout_shutdown_sent" => &mut self.sctp_timeout_shutdown_sent,
            "sctp_timeout_shutdown_recd" => &mut self.sctp_timeout_shutdown_recd,
            "sctp_timeout_shutdown_ack_sent" => &mut self.sctp_timeout_shutdown_ack_sent,
            "sctp_timeout_heartbeat_sent" => &mut self.sctp_timeout_heartbeat_sent,
            _ => return None,
        })
    }

    /// Life of a TCP connection in a state (kernel: `tcp_timeouts`). SYN_SENT2 has no sysctl of its
    /// own and keeps the default of SYN_SENT.
    pub fn tcp_timeout(&self, s: TcpState) -> Duration {
        secs(match s {
            TcpState::None | TcpState::SynSent => self.tcp_timeout_syn_sent,
            TcpState::SynRecv => self.tcp_timeout_syn_recv,
            TcpState::Established => self.tcp_timeout_established,
            TcpState::FinWait => self.tcp_timeout_fin_wait,
            TcpState::CloseWait => self.tcp_timeout_close_wait,
            TcpState::LastAck => self.tcp_timeout_last_ack,
            TcpState::TimeWait => self.tcp_timeout_time_wait,
            TcpState::Close => self.tcp_timeout_close,
            TcpState::SynSent2 => 120,
        })
    }

    /// Life of an SCTP association in a state (kernel: `sctp_timeouts`).
    pub fn sctp_timeout(&self, s: SctpState) -> Duration {
        secs(match s {
            SctpState::None | SctpState::Closed => self.sctp_timeout_closed,
            SctpState::CookieWait => self.sctp_timeout_cookie_wait,
            SctpState::CookieEchoed => self.sctp_timeout_cookie_echoed,
            SctpState::Established => self.sctp_timeout_established,
            SctpState::ShutdownSent => self.sctp_timeout_shutdown_sent,
            SctpState::ShutdownRecd => self.sctp_timeout_shutdown_recd,
            SctpState::ShutdownAckSent => self.sctp_timeout_shutdown_ack_sent,
            SctpState::HeartbeatSent => self.sctp_timeout_heartbeat_sent,
        })
    }
}
