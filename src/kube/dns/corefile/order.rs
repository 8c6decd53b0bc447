//! The order of plugins by version of CoreDNS: `plugin.cfg`, which the order in the file never changes.
//!
//! Also which plugins podpath plays, and for the others what they could change, so that a Corefile with one
//! is not silently answered differently.

/// A version of CoreDNS, as far as order and behaviour differ.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Version {
    /// 1.9 to 1.13 (Kubernetes 1.25 to 1.35 install 1.9.3 to 1.13.1).
    #[default]
    V1_13,
    /// 1.14: rewrite, autopath and acl stand before cache; forward ends after 2 tries per upstream.
    V1_14,
}

/// coredns v1.13.2 `plugin.cfg`.
const V1_13: &[&str] = &[
    "root",
    "metadata",
    "geoip",
    "cancel",
    "tls",
    "quic",
    "timeouts",
    "multisocket",
    "reload",
    "nsid",
    "bufsize",
    "bind",
    "debug",
    "trace",
    "ready",
    "health",
    "pprof",
    "prometheus",
    "errors",
    "log",
    "dnstap",
    "local",
    "dns64",
    "acl",
    "any",
    "chaos",
    "loadbalance",
    "tsig",
    "cache",
    "rewrite",
    "header",
    "dnssec",
    "autopath",
    "minimal",
    "template",
    "transfer",
    "hosts",
    "route53",
    "azure",
    "clouddns",
    "k8s_external",
    "kubernetes",
    "file",
    "auto",
    "secondary",
    "etcd",
    "loop",
    "forward",
    "grpc",
    "erratic",
    "whoami",
    "on",
    "sign",
    "view",
    "nomad",
];

/// coredns v1.14.7 `plugin.cfg`.
const V1_14: &[&str] = &[
    "root",
    "metadata",
    "geoip",
    "cancel",
    "proxyproto",
    "quic",
    "grpc_server",
    "https",
    "https3",
    "timeouts",
    "multisocket",
    "reload",
    "nsid",
    "bufsize",
    "bind",
    "debug",
    "trace",
    "ready",
    "health",
    "pprof",
    "shed",
    "prometheus",
    "errors",
    "log",
    "dnstap",
    "local",
    "dns64",
    "any",
    "chaos",
    "loadbalance",
    "tsig",
    "rewrite",
    "autopath",
    "acl",
    "cache",
    "header",
    "dnssec",
    "tls",
    "minimal",
    "template",
    "transfer",
    "hosts",
    "route53",
    "azure",
    "clouddns",
    "k8s_external",
    "kubernetes",
    "file",
    "auto",
    "secondary",
    "etcd",
    "loop",
    "forward",
    "grpc",
    "erratic",
    "whoami",
    "on",
    "sign",
    "view",
    "nomad",
];

impl Version {
    /// The version that text names: `1.13.2`, `v1.14.0`, an image's tag.
    pub fn of(text: &str) -> Option<Version> {
        let numbers = text.trim_start_matches('v');
        let mut parts = numbers.split(['.', '-']).map(str::parse::<u32>);
        match (parts.next()?.ok()?, parts.next()?.ok()?) {
            (1, 0..=13) => Some(Version::V1_13),
            (1, _) => Some(Version::V1_14),
            _ => None,
        }
    }

    /// All plugins in the order a query meets them.
    pub fn plugins(self) -> &'static [&'static str] {
        match self {
            Version::V1_13 => V1_13,
            Version::V1_14 => V1_14,
        }
    }

    /// A plugin's place in the order; none for what this version does not have.
    pub fn place(self, plugin: &str) -> Option<usize> {
        self.plugins().iter().position(|p| *p == plugin)
    }
}

/// Plugins that are in the order but not played, and what each could change of an answer.
pub const NOT_PLAYED: &[(&str, &str)] = &[
    ("geoip", "other plugins may choose by the client's country"),
    (
        "nsid",
        "replies to queries with the NSID option would carry the server's id",
    ),
    ("tls", "the block would speak DNS over TLS only"),
    (
        "proxyproto",
        "the client's address would come from the PROXY header",
    ),
    ("grpc_server", "limits of gRPC connections"),
    ("https", "limits of HTTPS connections"),
    ("https3", "limits of HTTPS connections"),
    ("quic", "limits of QUIC connections"),
    ("shed", "queries would be refused under load"),
    ("dns64", "AAAA answers would be made from A records"),
    ("tsig", "queries would have to be signed"),
    (
        "dnssec",
        "answers would be signed for clients that ask with DO",
    ),
    ("route53", "zones of Route 53 would be answered"),
    ("azure", "zones of Azure DNS would be answered"),
    ("clouddns", "zones of Google Cloud DNS would be answered"),
    (
        "k8s_external",
        "external addresses of Services would be answered in its zone",
    ),
    ("auto", "zones of a folder's files would be answered"),
    (
        "secondary",
        "zones transferred from a primary would be answered",
    ),
    ("etcd", "names in etcd would be answered"),
    ("grpc", "queries would be forwarded over gRPC"),
    ("on", "commands would be run at start and stop"),
    ("sign", "zone files would be signed"),
    (
        "view",
        "the block would answer only queries that fit its expression",
    ),
    ("nomad", "services of Nomad would be answered"),
    (
        "erratic",
        "replies would be dropped, delayed or truncated on purpose",
    ),
];

/// Plugins that change no answer: metrics, tracing, processes.
pub const NO_EFFECT: &[&str] = &[
    "root",
    "metadata",
    "cancel",
    "timeouts",
    "multisocket",
    "debug",
    "trace",
    "pprof",
    "prometheus",
    "dnstap",
];

/// Plugins that may stand in one block several times.
pub const REPEATABLE: &[&str] = &[
    "forward", "rewrite", "template", "transfer", "view", "on", "file", "bind", "acl", "header",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_differ_where_they_should() {
        let before = |v: Version, a: &str, b: &str| v.place(a) < v.place(b);
        assert!(before(Version::V1_13, "cache", "rewrite"));
        assert!(before(Version::V1_14, "rewrite", "cache"));
        assert_eq!(Version::of("v1.13.2"), Some(Version::V1_13));
        assert_eq!(Version::of("1.14.0"), Some(Version::V1_14));
        assert_eq!(Version::of("latest"), None);
        assert_eq!(Version::V1_13.place("nonesuch"), None);
        for (name, _) in NOT_PLAYED {
            let known = Version::V1_13.place(name).or(Version::V1_14.place(name));
            assert!(known.is_some(), "{name}");
        }
    }
}
