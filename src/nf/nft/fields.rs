//! Header fields: which bits of which header, and their types.
//!
//! As nftables proto.c, exthdr.c, tcpopt.c and ipopt.c describe them. Tables only; reading packets
//! is the evaluator's.

use super::types::Type::{self, *};

/// Where a payload's offset starts (uapi: enum nft_payload_bases).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Base {
    /// `@ll`: link layer header.
    Link,
    /// `@nh`: network header.
    Network,
    /// `@th`: transport header.
    Transport,
    /// `@ih`: behind the transport header.
    Inner,
}

impl Base {
    /// As raw payloads spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Base::Link => "ll",
            Base::Network => "nh",
            Base::Transport => "th",
            Base::Inner => "ih",
        }
    }

    /// The one that is spelt so.
    pub fn parse(word: &str) -> Option<Self> {
        [Base::Link, Base::Network, Base::Transport, Base::Inner]
            .into_iter()
            .find(|b| b.as_str() == word)
    }
}

/// One field of a header.
#[derive(PartialEq, Eq, Debug)]
pub struct Field {
    /// The header's name: `ip`.
    pub proto: &'static str,
    /// The field's name: `saddr`; arp's addresses are `saddr ip`.
    pub name: &'static str,
    /// Where its offset starts.
    pub base: Base,
    /// First bit from there.
    pub offset: u16,
    /// How its values are written; [`Field::bits`] is its true width.
    pub dtype: Type,
    /// Width in bits.
    pub bits: u16,
}

const fn f(
    proto: &'static str,
    base: Base,
    name: &'static str,
    offset: u16,
    bits: u16,
    dtype: Type,
) -> Field {
    Field {
        proto,
        name,
        base,
        offset,
        dtype,
        bits,
    }
}

const LL: Base = Base::Link;
const NH: Base = Base::Network;
const TH: Base = Base::Transport;

const fn i(proto: &'static str, base: Base, name: &'static str, offset: u16, bits: u16) -> Field {
    f(proto, base, name, offset, bits, Integer(bits))
}

/// Every payload field by name. Where two fields of a header are the same bits, the first is printed.
pub static FIELDS: &[Field] = &[
    f("ether", LL, "daddr", 0, 48, Ether),
    f("ether", LL, "saddr", 48, 48, Ether),
    f("ether", LL, "type", 96, 16, EtherType),
    i("vlan", LL, "pcp", 112, 3),
    i("vlan", LL, "dei", 115, 1),
    i("vlan", LL, "cfi", 115, 1),
    i("vlan", LL, "id", 116, 12),
    f("vlan", LL, "type", 128, 16, EtherType),
    i("arp", NH, "htype", 0, 16),
    f("arp", NH, "ptype", 16, 16, EtherType),
    i("arp", NH, "hlen", 32, 8),
    i("arp", NH, "plen", 40, 8),
    f("arp", NH, "operation", 48, 16, ArpOp),
    f("arp", NH, "saddr ether", 64, 48, Ether),
    f("arp", NH, "saddr ip", 112, 32, Ipv4),
    f("arp", NH, "daddr ether", 144, 48, Ether),
    f("arp", NH, "daddr ip", 192, 32, Ipv4),
    i("ip", NH, "version", 0, 4),
    i("ip", NH, "hdrlength", 4, 4),
    f("ip", NH, "dscp", 8, 6, Dscp),
    f("ip", NH, "ecn", 14, 2, Ecn),
    i("ip", NH, "length", 16, 16),
    i("ip", NH, "id", 32, 16),
    i("ip", NH, "frag-off", 48, 16),
    i("ip", NH, "ttl", 64, 8),
    f("ip", NH, "protocol", 72, 8, InetProto),
    i("ip", NH, "checksum", 80, 16),
    f("ip", NH, "saddr", 96, 32, Ipv4),
    f("ip", NH, "daddr", 128, 32, Ipv4),
    i("ip6", NH, "version", 0, 4),
    f("ip6", NH, "dscp", 4, 6, Dscp),
    f("ip6", NH, "ecn", 10, 2, Ecn),
    i("ip6", NH, "flowlabel", 12, 20),
    i("ip6", NH, "length", 32, 16),
    f("ip6", NH, "nexthdr", 48, 8, InetProto),
    i("ip6", NH, "hoplimit", 56, 8),
    f("ip6", NH, "saddr", 64, 128, Ipv6),
    f("ip6", NH, "daddr", 192, 128, Ipv6),
    f("icmp", TH, "type", 0, 8, IcmpType),
    f("icmp", TH, "code", 8, 8, IcmpCode),
    i("icmp", TH, "checksum", 16, 16),
    i("icmp", TH, "id", 32, 16),
    i("icmp", TH, "sequence", 48, 16),
    i("icmp", TH, "gateway", 32, 32),
    i("icmp", TH, "mtu", 48, 16),
    f("icmpv6", TH, "type", 0, 8, Icmpv6Type),
    f("icmpv6", TH, "code", 8, 8, Icmpv6Code),
    i("icmpv6", TH, "checksum", 16, 16),
    i("icmpv6", TH, "parameter-problem", 32, 32),
    i("icmpv6", TH, "mtu", 32, 32),
    i("icmpv6", TH, "id", 32, 16),
    i("icmpv6", TH, "sequence", 48, 16),
    i("icmpv6", TH, "max-delay", 32, 16),
    f("icmpv6", TH, "taddr", 64, 128, Ipv6),
    f("icmpv6", TH, "daddr", 192, 128, Ipv6),
    f("igmp", TH, "type", 0, 8, IgmpType),
    i("igmp", TH, "mrt", 8, 8),
    i("igmp", TH, "checksum", 16, 16),
    i("igmp", TH, "group", 32, 32),
    f("tcp", TH, "sport", 0, 16, InetService),
    f("tcp", TH, "dport", 16, 16, InetService),
    i("tcp", TH, "sequence", 32, 32),
    i("tcp", TH, "ackseq", 64, 32),
    i("tcp", TH, "doff", 96, 4),
    i("tcp", TH, "reserved", 100, 4),
    f("tcp", TH, "flags", 104, 8, TcpFlag),
    i("tcp", TH, "window", 112, 16),
    i("tcp", TH, "checksum", 128, 16),
    i("tcp", TH, "urgptr", 144, 16),
    f("udp", TH, "sport", 0, 16, InetService),
    f("udp", TH, "dport", 16, 16, InetService),
    i("udp", TH, "length", 32, 16),
    i("udp", TH, "checksum", 48, 16),
    f("udplite", TH, "sport", 0, 16, InetService),
    f("udplite", TH, "dport", 16, 16, InetService),
    i("udplite", TH, "csumcov", 32, 16),
    i("udplite", TH, "checksum", 48, 16),
    f("sctp", TH, "sport", 0, 16, InetService),
    f("sctp", TH, "dport", 16, 16, InetService),
    i("sctp", TH, "vtag", 32, 32),
    i("sctp", TH, "checksum", 64, 32),
    f("dccp", TH, "sport", 0, 16, InetService),
    f("dccp", TH, "dport", 16, 16, InetService),
    f("dccp", TH, "type", 67, 4, DccpType),
    f("th", TH, "sport", 0, 16, InetService),
    f("th", TH, "dport", 16, 16, InetService),
    f("ah", TH, "nexthdr", 0, 8, InetProto),
    i("ah", TH, "hdrlength", 8, 8),
    i("ah", TH, "reserved", 16, 16),
    i("ah", TH, "spi", 32, 32),
    i("ah", TH, "sequence", 64, 32),
    i("esp", TH, "spi", 0, 32),
    i("esp", TH, "sequence", 32, 32),
    f("comp", TH, "nexthdr", 0, 8, InetProto),
    f("comp", TH, "flags", 8, 8, Bitmask(8)),
    i("comp", TH, "cpi", 16, 16),
];

/// The payload field of that header and name.
pub fn payload(proto: &str, name: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|f| f.proto == proto && f.name == name)
}

/// The headers that a payload expression may start with.
pub fn is_header(proto: &str) -> bool {
    FIELDS.iter().any(|f| f.proto == proto)
}

/// The IP protocol that a transport header's fields ask for (`th` asks for none).
pub fn l4proto(proto: &str) -> Option<u8> {
    Some(match proto {
        "icmp" => 1,
        "igmp" => 2,
        "tcp" => 6,
        "udp" => 17,
        "dccp" => 33,
        "esp" => 50,
        "ah" => 51,
        "icmpv6" => 58,
        "comp" => 108,
        "sctp" => 132,
        "udplite" => 136,
        _ => return None,
    })
}

/// A field of an IPv6 extension header, TCP option, IP option or SCTP chunk.
#[derive(PartialEq, Eq, Debug)]
pub struct ExtField {
    /// The header's or option's name.
    pub header: &'static str,
    /// Its number: next header, option kind, chunk type.
    pub kind: u8,
    /// The field's name.
    pub name: &'static str,
    /// First bit from the start of the header or option.
    pub offset: u16,
    /// Width in bits.
    pub bits: u16,
    /// How its values are written.
    pub dtype: Type,
}

const fn x(
    header: &'static str,
    kind: u8,
    name: &'static str,
    offset: u16,
    bits: u16,
    dtype: Type,
) -> ExtField {
    ExtField {
        header,
        kind,
        name,
        offset,
        bits,
        dtype,
    }
}

const fn xi(
    header: &'static str,
    kind: u8,
    name: &'static str,
    offset: u16,
    bits: u16,
) -> ExtField {
    x(header, kind, name, offset, bits, Integer(bits))
}

/// IPv6 extension headers; `kind` is the next-header number.
pub static EXTHDRS: &[ExtField] = &[
    x("hbh", 0, "nexthdr", 0, 8, InetProto),
    xi("hbh", 0, "hdrlength", 8, 8),
    x("rt", 43, "nexthdr", 0, 8, InetProto),
    xi("rt", 43, "hdrlength", 8, 8),
    xi("rt", 43, "type", 16, 8),
    xi("rt", 43, "seg-left", 24, 8),
    x("rt0", 43, "addr[1]", 64, 128, Ipv6),
    x("rt2", 43, "addr", 64, 128, Ipv6),
    xi("srh", 43, "last-entry", 32, 8),
    xi("srh", 43, "flags", 40, 8),
    xi("srh", 43, "tag", 48, 16),
    x("srh", 43, "sid[1]", 64, 128, Ipv6),
    x("frag", 44, "nexthdr", 0, 8, InetProto),
    xi("frag", 44, "reserved", 8, 8),
    xi("frag", 44, "frag-off", 16, 13),
    xi("frag", 44, "reserved2", 29, 2),
    xi("frag", 44, "more-fragments", 31, 1),
    xi("frag", 44, "id", 32, 32),
    x("dst", 60, "nexthdr", 0, 8, InetProto),
    xi("dst", 60, "hdrlength", 8, 8),
    x("mh", 135, "nexthdr", 0, 8, InetProto),
    xi("mh", 135, "hdrlength", 8, 8),
    x("mh", 135, "type", 16, 8, MhType),
    xi("mh", 135, "reserved", 24, 8),
    xi("mh", 135, "checksum", 32, 16),
];

/// TCP options; every one also has `kind` and `length`.
pub static TCP_OPTIONS: &[ExtField] = &[
    xi("eol", 0, "kind", 0, 8),
    xi("nop", 1, "kind", 0, 8),
    xi("maxseg", 2, "kind", 0, 8),
    xi("maxseg", 2, "length", 8, 8),
    xi("maxseg", 2, "size", 16, 16),
    xi("window", 3, "kind", 0, 8),
    xi("window", 3, "length", 8, 8),
    xi("window", 3, "count", 16, 8),
    xi("sack-perm", 4, "kind", 0, 8),
    xi("sack-perm", 4, "length", 8, 8),
    xi("sack", 5, "kind", 0, 8),
    xi("sack", 5, "length", 8, 8),
    xi("sack", 5, "left", 16, 32),
    xi("sack", 5, "right", 48, 32),
    xi("sack0", 5, "left", 16, 32),
    xi("sack0", 5, "right", 48, 32),
    xi("sack1", 5, "left", 80, 32),
    xi("sack1", 5, "right", 112, 32),
    xi("sack2", 5, "left", 144, 32),
    xi("sack2", 5, "right", 176, 32),
    xi("sack3", 5, "left", 208, 32),
    xi("sack3", 5, "right", 240, 32),
    xi("timestamp", 8, "kind", 0, 8),
    xi("timestamp", 8, "length", 8, 8),
    xi("timestamp", 8, "tsval", 16, 32),
    xi("timestamp", 8, "tsecr", 48, 32),
    xi("md5sig", 19, "kind", 0, 8),
    xi("md5sig", 19, "length", 8, 8),
    xi("mptcp", 30, "kind", 0, 8),
    xi("mptcp", 30, "length", 8, 8),
    xi("mptcp", 30, "subtype", 16, 4),
    xi("fastopen", 34, "kind", 0, 8),
    xi("fastopen", 34, "length", 8, 8),
];

/// IP options.
pub static IP_OPTIONS: &[ExtField] = &[
    xi("rr", 7, "type", 0, 8),
    xi("rr", 7, "length", 8, 8),
    xi("rr", 7, "ptr", 16, 8),
    xi("rr", 7, "addr", 24, 32),
    xi("lsrr", 131, "type", 0, 8),
    xi("lsrr", 131, "length", 8, 8),
    xi("lsrr", 131, "ptr", 16, 8),
    xi("lsrr", 131, "addr", 24, 32),
    xi("ssrr", 137, "type", 0, 8),
    xi("ssrr", 137, "length", 8, 8),
    xi("ssrr", 137, "ptr", 16, 8),
    xi("ssrr", 137, "addr", 24, 32),
    xi("ra", 148, "type", 0, 8),
    xi("ra", 148, "length", 8, 8),
    xi("ra", 148, "value", 16, 16),
];

/// SCTP chunks (nftables sctp_chunk.c).
pub static SCTP_CHUNKS: &[ExtField] = &[
    xi("data", 0, "type", 0, 8),
    xi("data", 0, "flags", 8, 8),
    xi("data", 0, "length", 16, 16),
    xi("data", 0, "tsn", 32, 32),
    xi("data", 0, "stream", 64, 16),
    xi("data", 0, "ssn", 80, 16),
    xi("data", 0, "ppid", 96, 32),
    xi("init", 1, "init-tag", 32, 32),
    xi("init", 1, "a-rwnd", 64, 32),
    xi("init", 1, "num-outbound-streams", 96, 16),
    xi("init", 1, "num-inbound-streams", 112, 16),
    xi("init", 1, "initial-tsn", 128, 32),
    xi("init-ack", 2, "init-tag", 32, 32),
    xi("init-ack", 2, "a-rwnd", 64, 32),
    xi("init-ack", 2, "num-outbound-streams", 96, 16),
    xi("init-ack", 2, "num-inbound-streams", 112, 16),
    xi("init-ack", 2, "initial-tsn", 128, 32),
    xi("sack", 3, "cum-tsn-ack", 32, 32),
    xi("sack", 3, "a-rwnd", 64, 32),
    xi("sack", 3, "num-gap-ack-blocks", 96, 16),
    xi("sack", 3, "num-dup-tsns", 112, 16),
    xi("heartbeat", 4, "type", 0, 8),
    xi("heartbeat-ack", 5, "type", 0, 8),
    xi("abort", 6, "type", 0, 8),
    xi("shutdown", 7, "cum-tsn-ack", 32, 32),
    xi("shutdown-ack", 8, "type", 0, 8),
    xi("error", 9, "type", 0, 8),
    xi("cookie-echo", 10, "type", 0, 8),
    xi("cookie-ack", 11, "type", 0, 8),
    xi("ecne", 12, "lowest-tsn", 32, 32),
    xi("cwr", 13, "lowest-tsn", 32, 32),
    xi("shutdown-complete", 14, "type", 0, 8),
    xi("asconf-ack", 128, "seqno", 32, 32),
    xi("forward-tsn", 192, "new-cum-tsn", 32, 32),
    xi("asconf", 193, "seqno", 32, 32),
];

/// The field `name` of `header` in one of the tables above.
pub fn ext(table: &'static [ExtField], header: &str, name: &str) -> Option<&'static ExtField> {
    table.iter().find(|f| f.header == header && f.name == name)
}

/// The number of a header, option or chunk.
pub fn ext_kind(table: &'static [ExtField], header: &str) -> Option<(&'static str, u8)> {
    table
        .iter()
        .find(|f| f.header == header)
        .map(|f| (f.header, f.kind))
}

macro_rules! keys {
    ($(#[$meta:meta])* $name:ident { $($v:ident = $text:literal : $dtype:expr,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
        pub enum $name { $(#[doc = concat!("`", $text, "`")] $v,)+ }

        impl $name {
            /// The one that is spelt so.
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($text => Some($name::$v),)+ _ => None }
            }

            /// How it is spelt.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$v => $text,)+ }
            }

            /// The type of what it gives.
            pub fn dtype(self) -> Type {
                match self { $($name::$v => $dtype,)+ }
            }
        }
    };
}

keys! {
    /// A `meta` key (uapi: enum nft_meta_keys).
    MetaKey {
        Length = "length": Integer(32), Protocol = "protocol": EtherType, Priority = "priority": ClassId,
        Mark = "mark": Mark, Iif = "iif": IfIndex, IifName = "iifname": IfName, IifType = "iiftype": IfType,
        Oif = "oif": IfIndex, OifName = "oifname": IfName, OifType = "oiftype": IfType, SkUid = "skuid": Uid,
        SkGid = "skgid": Gid, NfTrace = "nftrace": Integer(1), RtClassId = "rtclassid": Realm,
        IbrName = "ibrname": IfName, ObrName = "obrname": IfName, PktType = "pkttype": PktType,
        Cpu = "cpu": Integer(32), IifGroup = "iifgroup": DevGroup, OifGroup = "oifgroup": DevGroup,
        Cgroup = "cgroup": Integer(32), Random = "random": Integer(32), Ipsec = "ipsec": Boolean,
        NfProto = "nfproto": NfProto, L4Proto = "l4proto": InetProto, IifKind = "iifkind": IfName,
        OifKind = "oifkind": IfName, IbrPvid = "ibrpvid": Integer(16), IbrVproto = "ibrvproto": EtherType,
        Time = "time": Time, Day = "day": Day, Hour = "hour": Hour, Sdif = "sdif": IfIndex,
        SdifName = "sdifname": IfName, SecMark = "secmark": Integer(32), Broute = "broute": Integer(8),
    }
}

keys! {
    /// A `ct` key (uapi: enum nft_ct_keys).
    CtKey {
        State = "state": CtState, Direction = "direction": CtDir, Status = "status": CtStatus, Mark = "mark": Mark,
        Expiration = "expiration": Relative, Helper = "helper": Text(16), Label = "label": CtLabel,
        L3Proto = "l3proto": NfProto, Protocol = "protocol": InetProto, Bytes = "bytes": Integer(64),
        Packets = "packets": Integer(64), AvgPkt = "avgpkt": Integer(64), Zone = "zone": Integer(16),
        Id = "id": Integer(32), SecMark = "secmark": Integer(32), Event = "event": CtEvent,
        Ip4Saddr = "ip saddr": Ipv4, Ip4Daddr = "ip daddr": Ipv4, Ip6Saddr = "ip6 saddr": Ipv6,
        Ip6Daddr = "ip6 daddr": Ipv6, ProtoSrc = "proto-src": InetService, ProtoDst = "proto-dst": InetService,
    }
}

impl MetaKey {
    /// Whether nft prints it without `meta` in front.
    pub fn is_bare(self) -> bool {
        matches!(
            self,
            MetaKey::Iif
                | MetaKey::IifName
                | MetaKey::IifGroup
                | MetaKey::Oif
                | MetaKey::OifName
                | MetaKey::OifGroup
        )
    }

    /// Whether it may be written without `meta` in front.
    pub fn may_be_bare(self) -> bool {
        let others = [
            MetaKey::IifType,
            MetaKey::OifType,
            MetaKey::Mark,
            MetaKey::SkUid,
            MetaKey::SkGid,
            MetaKey::NfTrace,
            MetaKey::RtClassId,
            MetaKey::IbrName,
            MetaKey::ObrName,
            MetaKey::PktType,
            MetaKey::Cpu,
            MetaKey::Cgroup,
        ];
        self.is_bare() || others.contains(&self)
    }
}
