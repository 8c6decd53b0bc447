//! The sysctls that kube-proxy sets when it starts.
//!
//! kubernetes `cmd/kube-proxy/app/server_linux.go` (setupConntrack, getConntrackMax), `conntrack.go`,
//! defaults of `pkg/proxy/apis/config/v1alpha1/defaults.go`; `pkg/proxy/iptables/proxier.go` (NewProxier:
//! route_localnet), `pkg/proxy/ipvs/proxier.go` (NewProxier). A value that is 0 is left as the kernel has it.

use core::time::Duration;

use super::config::KubeProxyConfiguration;
use super::ipvs;
use super::settings::{Mode, Settings};
use crate::kube::service::Family;

const PER_CORE: u32 = 32 * 1024;
const LEAST: u32 = 128 * 1024;
const ESTABLISHED: Duration = Duration::from_secs(24 * 3600);
const CLOSE_WAIT: Duration = Duration::from_secs(3600);
/// NodePorts at 127.0.0.1 need it.
pub const ROUTE_LOCALNET: &str = "net.ipv4.conf.all.route_localnet";
/// Whether segments outside the window are INVALID.
pub const BE_LIBERAL: &str = "net.netfilter.nf_conntrack_tcp_be_liberal";

/// Names and values in the order in which they are set; `cpus` is the machine's number of them.
pub fn sysctls(
    config: &KubeProxyConfiguration,
    settings: &[Settings],
    cpus: u32,
) -> Vec<(&'static str, String)> {
    let ct = &config.conntrack;
    let mut out: Vec<(&'static str, String)> = Vec::new();
    let per_core = ct.max_per_core.unwrap_or(PER_CORE);
    if per_core > 0 {
        let floor = ct.min.unwrap_or(LEAST);
        let max = per_core.saturating_mul(cpus).max(floor);
        out.push(("net.netfilter.nf_conntrack_max", max.to_string()));
    }
    let timeouts = [
        (
            "net.netfilter.nf_conntrack_tcp_timeout_established",
            ct.tcp_established_timeout.unwrap_or(ESTABLISHED),
        ),
        (
            "net.netfilter.nf_conntrack_tcp_timeout_close_wait",
            ct.tcp_close_wait_timeout.unwrap_or(CLOSE_WAIT),
        ),
    ];
    let seconds = |(name, time): (&'static str, Duration)| {
        let whole = time.as_secs();
        (whole > 0).then(|| (name, whole.to_string()))
    };
    out.extend(timeouts.into_iter().filter_map(seconds));
    if ct.tcp_be_liberal {
        out.push((BE_LIBERAL, "1".to_owned()));
    }
    let udp = [
        ("net.netfilter.nf_conntrack_udp_timeout", ct.udp_timeout),
        (
            "net.netfilter.nf_conntrack_udp_timeout_stream",
            ct.udp_stream_timeout,
        ),
    ];
    let said = udp
        .into_iter()
        .filter_map(|(name, time)| Some((name, time?)));
    out.extend(said.filter_map(seconds));
    let localnet =
        |s: &Settings| s.mode == Mode::Iptables && s.family == Family::V4 && s.localhost_node_ports;
    if settings.iter().any(localnet) {
        out.push((ROUTE_LOCALNET, "1".to_owned()));
    }
    if let Some(s) = settings.iter().find(|s| s.mode == Mode::Ipvs) {
        out.extend(ipvs::sysctls(&s.ipvs));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(config: serde_json::Value, cpus: u32) -> Vec<(&'static str, String)> {
        sysctls(&KubeProxyConfiguration::of(&config).unwrap(), &[], cpus)
    }

    #[test]
    fn defaults_and_what_is_said() {
        let text = |v: Vec<(&str, String)>| {
            let one = |(k, v): (&str, String)| format!("{}={v}", k.rsplit('.').next().unwrap_or(k));
            v.into_iter().map(one).collect::<Vec<_>>().join(" ")
        };
        let usual =
            "nf_conntrack_tcp_timeout_established=86400 nf_conntrack_tcp_timeout_close_wait=3600";
        assert_eq!(
            text(of(json!({}), 2)),
            format!("nf_conntrack_max=131072 {usual}")
        );
        assert_eq!(
            text(of(json!({}), 16)),
            format!("nf_conntrack_max=524288 {usual}")
        );
        // As kind writes it, and kubeadm's nulls.
        let kind = json!({"conntrack": {"maxPerCore": 0, "min": null,
            "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": null}});
        assert_eq!(
            text(of(kind, 8)),
            "nf_conntrack_tcp_timeout_close_wait=3600"
        );
        let all = json!({"conntrack": {"maxPerCore": 1, "min": 2, "tcpBeLiberal": true,
            "tcpEstablishedTimeout": "1m", "tcpCloseWaitTimeout": "0", "udpTimeout": "30s",
            "udpStreamTimeout": "3m0s"}});
        assert_eq!(
            text(of(all, 4)),
            "nf_conntrack_max=4 nf_conntrack_tcp_timeout_established=60 nf_conntrack_tcp_be_liberal=1 \
             nf_conntrack_udp_timeout=30 nf_conntrack_udp_timeout_stream=180"
        );
    }
}
