//! Every match: what a rule asks of a packet.
//!
//! Option names and printing order are those of the iptables 1.8.9 extensions (`extensions/libxt_*.c`,
//! `libipt_*.c`, `libip6t_*.c`), checked against that tool. Invariant: defaults are filled in when a
//! rule is read, so that two spellings of one match are equal.

use core::net::IpAddr;

use super::field::{Flag, Is, Module, Value, options};
pub use super::flags::{AddrTypes, CtStates, CtStatus, HashMode, TcpFlagSet, Weekdays};
pub use super::language::{DayTime, Moment, Monthdays, Pattern, U32, U32Op, U32Test};
pub use super::rate::{Burst, HashRate, LimitRate, Rate};
use super::table::Family;
use super::value::*;
use crate::wire::MacAddr;

pub use super::compound::{
    ChunkTypes, Dscp, Icmp6Type, IcmpType, Ports, Probability, SetRef, TcpFlags, Tos,
};

options! {
    /// `-m tcp`.
    Tcp {
        /// Source ports.
        sport: Option<Is<PortRange>> = "--sport" "--source-port",
        /// Destination ports.
        dport: Option<Is<PortRange>> = "--dport" "--destination-port",
        /// An option that the header carries.
        option: Option<Is<u8>> = "--tcp-option",
        /// Flags looked at and those of them that must be set; `--syn` is `FIN,SYN,RST,ACK SYN`.
        flags: Option<Is<TcpFlags>> = "--tcp-flags",
        /// `--syn` as read; moved into `flags`.
        syn: Option<Is<Flag>> = "--syn",
    }
    /// `-m udp`.
    Udp {
        /// Source ports.
        sport: Option<Is<PortRange>> = "--sport" "--source-port",
        /// Destination ports.
        dport: Option<Is<PortRange>> = "--dport" "--destination-port",
    }
    /// `-m sctp`.
    Sctp {
        /// Source ports.
        sport: Option<Is<PortRange>> = "--sport" "--source-port",
        /// Destination ports.
        dport: Option<Is<PortRange>> = "--dport" "--destination-port",
        /// Chunks.
        chunks: Option<Is<ChunkTypes>> = "--chunk-types",
    }
    /// `-m icmp`.
    Icmp {
        /// Type and codes.
        kind: Option<Is<IcmpType>> = "--icmp-type",
    }
    /// `-m icmp6`.
    Icmp6 {
        /// Type and codes.
        kind: Option<Is<Icmp6Type>> = "--icmpv6-type",
    }
    /// `-m multiport`; one of the three.
    Multiport {
        /// Source ports.
        sports: Option<Is<Ports>> = "--sports" "--source-ports",
        /// Destination ports.
        dports: Option<Is<Ports>> = "--dports" "--destination-ports",
        /// Either.
        ports: Option<Is<Ports>> = "--ports",
    }
    /// `-m addrtype`.
    AddrType {
        /// Type of the source address.
        src: Option<Is<AddrTypes>> = "--src-type",
        /// Type of the destination address.
        dst: Option<Is<AddrTypes>> = "--dst-type",
        /// Look only at the incoming device's addresses.
        iface_in: bool = "--limit-iface-in",
        /// Look only at the outgoing device's addresses.
        iface_out: bool = "--limit-iface-out",
    }
    /// `-m conntrack`.
    Conntrack {
        /// States.
        state: Option<Is<CtStates>> = "--ctstate",
        /// The connection's protocol.
        proto: Option<Is<ProtocolNumber>> = "--ctproto",
        /// Original source.
        origsrc: Option<Is<HostOrNet>> = "--ctorigsrc",
        /// Original destination.
        origdst: Option<Is<HostOrNet>> = "--ctorigdst",
        /// Source of replies.
        replsrc: Option<Is<HostOrNet>> = "--ctreplsrc",
        /// Destination of replies.
        repldst: Option<Is<HostOrNet>> = "--ctrepldst",
        /// Original source ports.
        origsrcport: Option<Is<PortRange>> = "--ctorigsrcport",
        /// Original destination ports.
        origdstport: Option<Is<PortRange>> = "--ctorigdstport",
        /// Source ports of replies.
        replsrcport: Option<Is<PortRange>> = "--ctreplsrcport",
        /// Destination ports of replies.
        repldstport: Option<Is<PortRange>> = "--ctrepldstport",
        /// Status bits, any of them.
        status: Option<Is<CtStatus>> = "--ctstatus",
        /// Seconds left.
        expire: Option<Is<Range<u64>>> = "--ctexpire",
        /// Direction of the packet.
        dir: Option<CtDir> = "--ctdir",
    }
    /// `-m state`.
    State {
        /// States.
        state: Option<Is<CtStates>> = "--state",
    }
    /// `-m comment`.
    Comment {
        /// The text.
        text: Option<Text> = "--comment",
    }
    /// `-m mark`.
    Mark {
        /// Value under a mask.
        mark: Option<Is<MarkMask>> = "--mark",
    }
    /// `-m connmark`.
    Connmark {
        /// Value under a mask.
        mark: Option<Is<MarkMask>> = "--mark",
    }
    /// `-m set`.
    Set {
        /// The set and which parts of the packet are looked up in it.
        set: Option<Is<SetRef>> = "--match-set" "--set",
        /// A `nomatch` element counts as found.
        return_nomatch: bool = "--return-nomatch",
        /// With `!`: the element's counters stay.
        update_counters: Option<Is<Flag>> = "--update-counters",
        /// With `!`: the counters in member sets stay.
        update_subcounters: Option<Is<Flag>> = "--update-subcounters",
        /// Packet counter equals.
        packets_eq: Option<Is<u64>> = "--packets-eq",
        /// Packet counter below.
        packets_lt: Option<u64> = "--packets-lt",
        /// Packet counter above.
        packets_gt: Option<u64> = "--packets-gt",
        /// Byte counter equals.
        bytes_eq: Option<Is<u64>> = "--bytes-eq",
        /// Byte counter below.
        bytes_lt: Option<u64> = "--bytes-lt",
        /// Byte counter above.
        bytes_gt: Option<u64> = "--bytes-gt",
    }
    /// `-m statistic`; stateful.
    Statistic {
        /// Random or every n-th.
        mode: Option<StatisticMode> = "--mode",
        /// Chance of a match.
        probability: Option<Is<Probability>> = "--probability",
        /// Every n-th packet.
        every: Option<Is<u32>> = "--every",
        /// The first that matches, from 0.
        packet: Option<u32> = "--packet",
    }
    /// `-m recent`; stateful.
    Recent {
        /// What to do with the list.
        op: Option<Is<RecentOp>> = "--set" "--rcheck" "--update" "--remove",
        /// Seen within so many seconds.
        seconds: Option<u32> = "--seconds",
        /// Forget older entries.
        reap: bool = "--reap",
        /// Seen so many times.
        hitcount: Option<u32> = "--hitcount",
        /// The TTL must be the remembered one.
        rttl: bool = "--rttl",
        /// The list.
        name: Option<Name> = "--name",
        /// Mask on the address.
        mask: Option<IpAddr> = "--mask",
        /// Which address.
        side: Option<RecentSide> = "--rsource" "--rdest",
    }
    /// `-m limit`; stateful.
    Limit {
        /// Sustained rate.
        rate: Option<LimitRate> = "--limit",
        /// Bucket size; `None` is 5.
        burst: Option<u32> = "--limit-burst",
    }
    /// `-m hashlimit`; stateful.
    Hashlimit {
        /// The rate and whether to match below or above it.
        rate: Option<HashRate> = "--hashlimit-upto" "--hashlimit-above" "--hashlimit",
        /// Bucket size.
        burst: Option<Burst> = "--hashlimit-burst",
        /// What a bucket is for.
        mode: Option<HashMode> = "--hashlimit-mode",
        /// The table.
        name: Option<Name> = "--hashlimit-name",
        /// Buckets.
        size: Option<u32> = "--hashlimit-htable-size",
        /// Entries at most.
        max: Option<u32> = "--hashlimit-htable-max",
        /// Milliseconds between collections.
        gcinterval: Option<u32> = "--hashlimit-htable-gcinterval",
        /// Milliseconds until an idle entry goes.
        expire: Option<u32> = "--hashlimit-htable-expire",
        /// Prefix length on the source.
        srcmask: Option<u8> = "--hashlimit-srcmask",
        /// Prefix length on the destination.
        dstmask: Option<u8> = "--hashlimit-dstmask",
        /// Compare rates instead of buckets.
        rate_match: bool = "--hashlimit-rate-match",
        /// Seconds of one rate.
        interval: Option<u32> = "--hashlimit-rate-interval",
    }
    /// `-m physdev`: bridge ports of a bridged packet.
    Physdev {
        /// It came through a bridge port.
        is_in: Option<Is<Flag>> = "--physdev-is-in",
        /// The port it came through.
        input: Option<Is<IfName>> = "--physdev-in",
        /// It leaves through a bridge port.
        is_out: Option<Is<Flag>> = "--physdev-is-out",
        /// The port it leaves through.
        output: Option<Is<IfName>> = "--physdev-out",
        /// It is bridged, not routed.
        is_bridged: Option<Is<Flag>> = "--physdev-is-bridged",
    }
    /// `-m mac`.
    MacSource {
        /// Source MAC.
        mac: Option<Is<MacAddr>> = "--mac-source",
    }
    /// `-m iprange`.
    IpRange {
        /// Source addresses.
        src: Option<Is<AddrRange>> = "--src-range",
        /// Destination addresses.
        dst: Option<Is<AddrRange>> = "--dst-range",
    }
    /// `-m rpfilter`.
    Rpfilter {
        /// Any device will do.
        loose: bool = "--loose",
        /// The mark takes part in the lookup.
        validmark: bool = "--validmark",
        /// A source that is local is accepted.
        accept_local: bool = "--accept-local",
        /// Match what fails.
        invert: bool = "--invert",
    }
    /// `-m socket`.
    Socket {
        /// Only transparent sockets.
        transparent: bool = "--transparent",
        /// Sockets bound to no address count too.
        nowildcard: bool = "--nowildcard",
        /// The packet takes the socket's mark.
        restore_skmark: bool = "--restore-skmark",
    }
    /// `-m owner`.
    Owner {
        /// There is a socket.
        exists: Option<Is<Flag>> = "--socket-exists",
        /// Its user ids.
        uid: Option<Is<Range<u32>>> = "--uid-owner",
        /// Its group ids.
        gid: Option<Is<Range<u32>>> = "--gid-owner",
        /// Supplementary groups count.
        suppl: bool = "--suppl-groups",
    }
    /// `-m length`: bytes of the packet from the IP header on.
    Length {
        /// The length.
        length: Option<Is<PortRange>> = "--length",
    }
    /// `-m ttl`.
    Ttl {
        /// Equals.
        eq: Option<Is<u8>> = "--ttl-eq" "--ttl",
        /// Below.
        lt: Option<u8> = "--ttl-lt",
        /// Above.
        gt: Option<u8> = "--ttl-gt",
    }
    /// `-m hl`, IPv6's hop limit.
    Hl {
        /// Equals.
        eq: Option<Is<u8>> = "--hl-eq" "--hl",
        /// Below.
        lt: Option<u8> = "--hl-lt",
        /// Above.
        gt: Option<u8> = "--hl-gt",
    }
    /// `-m tos`.
    TosMatch {
        /// Value under a mask.
        tos: Option<Is<Tos>> = "--tos",
    }
    /// `-m dscp`.
    DscpMatch {
        /// The six bits.
        dscp: Option<Is<Dscp>> = "--dscp" "--dscp-class",
    }
    /// `-m u32`.
    U32Match {
        /// The tests.
        tests: Option<Is<U32>> = "--u32",
    }
    /// `-m string`.
    StringMatch {
        /// What is looked for.
        pattern: Option<Is<Pattern>> = "--string" "--hex-string",
        /// How.
        algo: Option<Algo> = "--algo",
        /// First offset.
        from: Option<u16> = "--from",
        /// Last offset.
        to: Option<u16> = "--to",
        /// Letter case does not matter.
        icase: bool = "--icase",
    }
    /// `-m time`.
    Time {
        /// Seconds of the day from which on.
        start: Option<DayTime> = "--timestart",
        /// Seconds of the day until which.
        stop: Option<DayTime> = "--timestop",
        /// Days of the month; `!` is folded in.
        monthdays: Option<Is<Monthdays>> = "--monthdays",
        /// Days of the week; `!` is folded in.
        weekdays: Option<Is<Weekdays>> = "--weekdays",
        /// Not before.
        datestart: Option<Moment> = "--datestart",
        /// Not after.
        datestop: Option<Moment> = "--datestop",
        /// In the kernel's time zone.
        kerneltz: bool = "--kerneltz",
        /// A span over midnight is one span.
        contiguous: bool = "--contiguous",
    }
    /// `-m pkttype`.
    Pkttype {
        /// How the link layer saw it.
        kind: Option<Is<Cast>> = "--pkt-type",
    }
    /// `-m nfacct`; counts and always matches.
    Nfacct {
        /// The counter object.
        name: Option<Name> = "--nfacct-name",
    }
    /// `-m ecn`.
    Ecn {
        /// TCP's ECE.
        ece: Option<Is<Flag>> = "--ecn-tcp-ece",
        /// TCP's CWR.
        cwr: Option<Is<Flag>> = "--ecn-tcp-cwr",
        /// The IP header's two bits.
        ect: Option<Is<u8>> = "--ecn-ip-ect",
    }
    /// `-m cpu`.
    Cpu {
        /// Which one handles the packet.
        cpu: Option<Is<u32>> = "--cpu",
    }
    /// `-m helper`.
    Helper {
        /// Conntrack helper.
        name: Option<Is<Text>> = "--helper",
    }
    /// `-m realm`.
    Realm {
        /// Routing realm under a mask.
        realm: Option<Is<MarkMask>> = "--realm",
    }
    /// `-m connlimit`.
    Connlimit {
        /// Matches up to so many connections.
        upto: Option<u32> = "--connlimit-upto",
        /// Matches above so many.
        above: Option<u32> = "--connlimit-above",
        /// Prefix length that is one group.
        mask: Option<u8> = "--connlimit-mask",
        /// Which side.
        side: Option<LimitSide> = "--connlimit-saddr" "--connlimit-daddr",
    }
    /// `-m connbytes`.
    Connbytes {
        /// Amount, from:to.
        amount: Option<Is<OpenRange>> = "--connbytes",
        /// Of what.
        mode: Option<BytesMode> = "--connbytes-mode",
        /// In which direction.
        dir: Option<BytesDir> = "--connbytes-dir",
    }
    /// `-m connlabel`.
    Connlabel {
        /// Label, by number or name.
        label: Option<Is<Quoted>> = "--label",
        /// Set it if it is not.
        set: bool = "--set",
    }
}

/// A protocol always printed by number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ProtocolNumber(pub u8);

impl Value for ProtocolNumber {
    fn read(o: &str, w: &[&str], f: Family) -> Result<Self, String> {
        Ok(ProtocolNumber(Protocol::read(o, w, f)?.0))
    }
    fn text(&self, out: &mut String) {
        self.0.text(out);
    }
}

/// `N` (or `N:`) is from N on, `N:M` a range (libxt_connbytes).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OpenRange(pub Range<u64>);

impl Value for OpenRange {
    fn read(o: &str, w: &[&str], f: Family) -> Result<Self, String> {
        let text = w.first().copied().unwrap_or_default();
        let open = if text.contains(':') {
            text.to_owned()
        } else {
            format!("{text}:")
        };
        Range::read(o, &[&open], f).map(OpenRange)
    }
    fn text(&self, out: &mut String) {
        out.push_str(&match self.0.max {
            u64::MAX => self.0.min.to_string(),
            max => format!("{}:{max}", self.0.min),
        });
    }
}

choices! {
    /// Direction of a packet in its connection.
    CtDir { Original = "ORIGINAL", Reply = "REPLY", }
    /// How `-m statistic` chooses.
    StatisticMode { Random = "random", Nth = "nth", }
    /// Search algorithm; the answer is the same.
    Algo { Bm = "bm", Kmp = "kmp", }
    /// Link-layer destination.
    Cast { Unicast = "unicast" | "host", Broadcast = "broadcast", Multicast = "multicast", }
    /// What `-m connbytes` counts.
    BytesMode { Packets = "packets", Bytes = "bytes", AvgPkt = "avgpkt", }
    /// Whose packets it counts.
    BytesDir { Original = "original", Reply = "reply", Both = "both", }
}

option_choices! {
    /// What `-m recent` does.
    RecentOp { Set = "--set", Rcheck = "--rcheck", Update = "--update", Remove = "--remove", }
    /// Which address `-m recent` takes.
    RecentSide { Source = "--rsource", Dest = "--rdest", }
    /// Which address `-m connlimit` takes.
    LimitSide { Source = "--connlimit-saddr", Dest = "--connlimit-daddr", }
}

macro_rules! matches {
    ($($variant:ident($ty:ty) = $name:literal,)+) => {
        /// One thing a rule asks. Those of the IP header first, then `-m` extensions.
        #[derive(Clone, PartialEq, Eq, Debug)]
        #[allow(missing_docs, reason = "each extension is documented at its struct")]
        pub enum Match {
            /// `-s`.
            Source(Is<AddrMask>),
            /// `-d`.
            Destination(Is<AddrMask>),
            /// `-i`.
            InInterface(Is<IfName>),
            /// `-o`.
            OutInterface(Is<IfName>),
            /// `-p`.
            Protocol(Is<Protocol>),
            /// `-f`: a fragment that is not the first.
            Fragment(Is<Flag>),
            $($variant(Box<$ty>),)+
            /// An extension that is not known: its name and its words as they stood.
            Unknown { name: String, args: Vec<String> },
        }

        impl Match {
            /// The `-m` name; empty for a match of the IP header.
            pub fn name(&self) -> &str {
                match self {
                    $(Match::$variant(_) => $name,)+
                    Match::Unknown { name, .. } => name,
                    _ => "",
                }
            }

            /// Whether it is not understood.
            pub fn is_unknown(&self) -> bool {
                self.module().is_none() && !self.name().is_empty()
            }

            /// The extension of this name, no option set yet.
            pub(super) fn new(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Match::$variant(Box::default())),)+
                    _ => None,
                }
            }

            pub(super) fn module(&self) -> Option<&dyn Module> {
                match self {
                    $(Match::$variant(m) => Some(m.as_ref()),)+
                    _ => None,
                }
            }

            pub(super) fn module_mut(&mut self) -> Option<&mut dyn Module> {
                match self {
                    $(Match::$variant(m) => Some(m.as_mut()),)+
                    _ => None,
                }
            }
        }
    };
}

matches! {
    Tcp(Tcp) = "tcp", Udp(Udp) = "udp", Sctp(Sctp) = "sctp", Icmp(Icmp) = "icmp", Icmp6(Icmp6) = "icmp6",
    Multiport(Multiport) = "multiport", AddrType(AddrType) = "addrtype", Conntrack(Conntrack) = "conntrack",
    State(State) = "state", Comment(Comment) = "comment", Mark(Mark) = "mark", Connmark(Connmark) = "connmark",
    Set(Set) = "set", Statistic(Statistic) = "statistic", Recent(Recent) = "recent", Limit(Limit) = "limit",
    Hashlimit(Hashlimit) = "hashlimit", Physdev(Physdev) = "physdev", Mac(MacSource) = "mac",
    IpRange(IpRange) = "iprange", Rpfilter(Rpfilter) = "rpfilter", Socket(Socket) = "socket", Owner(Owner) = "owner",
    Length(Length) = "length", Ttl(Ttl) = "ttl", Hl(Hl) = "hl", Tos(TosMatch) = "tos", Dscp(DscpMatch) = "dscp",
    U32(U32Match) = "u32", String(StringMatch) = "string", Time(Time) = "time", Pkttype(Pkttype) = "pkttype",
    Nfacct(Nfacct) = "nfacct", Ecn(Ecn) = "ecn", Cpu(Cpu) = "cpu", Helper(Helper) = "helper", Realm(Realm) = "realm",
    Connlimit(Connlimit) = "connlimit", Connbytes(Connbytes) = "connbytes", Connlabel(Connlabel) = "connlabel",
}
