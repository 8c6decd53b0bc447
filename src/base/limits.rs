//! Every cap in one place. Hitting one is a named drop reason or a finding, never a hang or a crash.

use core::time::Duration;

/// Largest frame that is carried, in bytes (a GSO-free Ethernet frame of 64 KiB IP).
pub const FRAME_MAX: usize = 65_536 + 64;
/// Headroom in front of a new frame: VXLAN over IPv6 with a VLAN tag (14+4+40+8+8) twice, rounded up.
pub const HEADROOM: usize = 128;
/// Devices a frame may pass inside one namespace before the walk gives up
/// (kernel: XMIT_RECURSION_LIMIT, 8 nested transmits, and the bridge's own re-entries).
pub const WALK_DEPTH_MAX: u32 = 24;
/// Devices one frame may pass in all before the world calls it a loop (TTL stops layer 3 earlier).
pub const HOPS_MAX: u16 = 1_024;
/// Frames of the backlog that are received before a process's own packet goes on
/// (kernel: netdev_budget times MAX_SOFTIRQ_RESTART, then ksoftirqd).
pub const SOFTIRQ_FRAMES_MAX: usize = 3_000;
/// Events a world may hold.
pub const EVENT_QUEUE_MAX: usize = 1 << 20;
/// Steps kept in one trace; more are counted, not stored.
pub const TRACE_STEPS_MAX: usize = 20_000;
/// Rules that are not understood and that one run remembers having met.
pub const UNDECIDED_MAX: usize = 256;
/// Endpoints of one Service that `--all-endpoints` follows.
pub const ENDPOINT_RUNS_MAX: usize = 256;
/// Branches of one probe that are followed where rules that are not understood decide.
pub const FORK_BRANCHES_MAX: usize = 16;
/// Bytes that may wait for one unresolved neighbour (kernel: unres_qlen_bytes = SK_WMEM_DEFAULT).
pub const NEIGH_QUEUE_BYTES: usize = 212_992;
/// Bytes held in all IPv4 reassembly queues of a namespace (kernel: net.ipv4.ipfrag_high_thresh).
pub const FRAG_HIGH_THRESH: usize = 4 * 1024 * 1024;
/// FDB entries a bridge learns (kernel: unlimited by default; ours, so that a fuzzer cannot eat memory).
pub const FDB_MAX: usize = 1 << 16;
/// Bridged frames of a namespace whose TEE copies may still ask what became of them: copies come right
/// behind.
pub const BRIDGE_SHARED_MAX: usize = 256;
/// Ports NAT tries in the first round of its search (kernel: NF_NAT_MAX_ATTEMPTS).
pub const NAT_ATTEMPTS_MAX: u32 = 128;
/// The last attempts of a round, which may take the port of a closed connection (NF_NAT_HARDER_THRESH).
pub const NAT_HARDER_ATTEMPTS: u32 = NAT_ATTEMPTS_MAX / 4;
/// Path-MTU cache entries of a namespace.
pub const PMTU_CACHE_MAX: usize = 1 << 14;
/// Documents in one manifest stream.
pub const DOCUMENTS_MAX: usize = 1_000_000;
/// Nesting of a YAML or JSON document.
pub const DOCUMENT_DEPTH_MAX: usize = 128;
/// Bytes of one input file that is read into memory (pcap files are streamed and not bound by this).
pub const INPUT_BYTES_MAX: u64 = 4 << 30;
/// Bytes a capture is read in at a time, and so what its reader holds while no packet is larger.
pub const CAPTURE_WINDOW: usize = 256 * 1024;
/// Largest block of a capture that is held in memory (Wireshark: MAX_BLOCK_SIZE, 16 MiB).
pub const CAPTURE_BLOCK_MAX: usize = 16 * 1024 * 1024;
/// Largest packet a pcap file may claim when its own snapshot length is smaller (libpcap: MAXIMUM_SNAPLEN).
pub const CAPTURE_FRAME_MAX: usize = 262_144;
/// Interfaces one capture may describe.
pub const CAPTURE_INTERFACES_MAX: usize = 1 << 16;
/// Virtual time one probe may take before it is called a timeout, if it sets none itself.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(30);
/// Values that the aliases of one input may stand for beyond those written
/// (go-yaml v2 refuses by ratio, `decode.go` allowedAliasRatio; a plain cap is easier to explain).
pub const ALIAS_NODES_MAX: u64 = 1_000_000;
/// Wrong fields that are reported for one object before the rest of it is given up.
pub const FIELD_ERRORS_MAX: usize = 32;
/// TCP connections one endpoint stack holds; a further SYN is dropped as by a full listen queue.
pub const ENDPOINT_CONNECTIONS_MAX: usize = 4096;
/// Datagram and echo clients one endpoint stack waits for at a time.
pub const ENDPOINT_CLIENTS_MAX: usize = 4096;
/// Closed connections one endpoint stack remembers (kernel: net.ipv4.tcp_max_tw_buckets).
pub const ENDPOINT_TIMEWAIT_MAX: usize = 8192;
/// Path MTUs one endpoint stack remembers.
pub const ENDPOINT_PMTU_MAX: usize = 1024;
/// Packets and events one endpoint stack holds for its caller; more packets are dropped as by a full queue.
pub const ENDPOINT_QUEUE_MAX: usize = 1 << 16;
/// Largest send or receive buffer of an endpoint's connection, in bytes.
pub const ENDPOINT_BUFFER: usize = 65_535;
/// Bytes of one HTTP request head that a server keeps.
pub const ENDPOINT_REQUEST_MAX: usize = 16 * 1024;
/// Packets sent by sockets whose cause a lab remembers; the oldest are forgotten.
pub const LAB_LINEAGES_MAX: usize = 1 << 20;
/// Bytes of a reply that a lab keeps for whoever asked; the rest is counted.
pub const LAB_REPLY_BYTES: usize = 64 * 1024;
/// Steps a lab takes without time going on before it gives up the moment.
pub const LAB_STEPS_PER_MOMENT: u64 = 1 << 22;
/// Rounds of sending and refusals in one step of a namespace's sockets.
pub const LAB_SEND_ROUNDS: usize = 64;
/// Ends of frames' ways that are kept to explain one probe; the oldest are forgotten.
pub const LAB_ENDS_MAX: usize = 1 << 14;
/// Attempts of one probe.
pub const LAB_ATTEMPTS_MAX: u32 = 1 << 16;
/// Free client ports that are tried before a client is told that there is none.
pub const LAB_PORT_TRIES: usize = 64;
/// Things that came for one program of a lab and that it has not read; further ones are lost.
pub const LAB_MAIL_MAX: usize = 1 << 16;
/// How long a program of a lab keeps a TCP connection that says nothing (a connect gives up after 127 s).
pub const LAB_TCP_TIMEOUT: Duration = Duration::from_secs(300);
/// CNAMEs a resolver outside the cluster follows.
pub const DNS_CNAMES_MAX: usize = 16;
/// Messages one look-up or dig keeps a record of.
pub const DNS_ASKED_MAX: usize = 4_096;
/// Plugins of one CNI network list.
pub const CNI_PLUGINS_MAX: usize = 64;
/// CNI plugins that delegate to one another; a plugin that names itself as its IPAM would never end.
pub const CNI_DELEGATE_DEPTH_MAX: u32 = 8;
/// Lines of one netfilter dump that are reported one by one; further ones are counted.
pub const NF_FINDINGS_MAX: usize = 1_000;
/// Connections, dead ones included, one namespace's table can hold whatever `nf_conntrack_max` says.
pub const CT_SLOTS_MAX: usize = 1 << 23;
/// Different `-j CT` templates of one namespace.
pub const CT_TEMPLATES_MAX: usize = 1 << 16;
/// Events kept for one listener; further ones are counted (kernel: a full netlink socket, ENOBUFS).
pub const CT_EVENTS_MAX: usize = 1 << 16;
/// Chains that may call each other at a time (kernel: as many as the table has chains); a rule set that nests
/// deeper is a finding.
pub const NF_CALL_DEPTH_MAX: u32 = 1_024;
/// Entries of one hashlimit table (kernel: a multiple of its buckets, set from the memory there is).
pub const NF_HASHLIMIT_MAX: usize = 1 << 16;
/// Connections one `-m connlimit` rule remembers; the kernel has no bound but the conntrack table's.
pub const NF_CONNLIMIT_MAX: usize = 1 << 16;
/// Jumps one below the other that the kernel's nft back end follows (NFT_JUMP_STACK_SIZE).
pub const NF_CHAIN_DEPTH_MAX: usize = 16;
/// Elements one ipset holds, whatever its `maxelem` (kernel: no cap but maxelem; ours, so that a fuzzer
/// cannot eat memory).
pub const IPSET_ELEMENTS_MAX: usize = 1 << 20;
/// Elements one line of an ipset may stand for (`add s 10.0.0.0/8` would be 2^24).
pub const IPSET_RANGE_MAX: u128 = 1 << 18;
/// Sets of one namespace (kernel: CONFIG_IP_SET_MAX, 256, and grown by 64 when they are used up).
pub const IPSET_SETS_MAX: usize = 65_534;
/// Changes that one kube-proxy has heard of and not yet written; the oldest is then passed over.
pub const PROXY_PENDING_MAX: usize = 1_024;
/// Syncs of one kube-proxy that are remembered; the oldest are forgotten.
pub const PROXY_SYNCS_MAX: usize = 256;
/// Bytes of restore inputs that one kube-proxy keeps after they were carried out; the oldest are forgotten.
pub const PROXY_TEXT_BYTES: usize = 4 * 1024 * 1024;
/// Announced connections one namespace waits for, whatever `nf_conntrack_expect_max` says.
pub const CT_EXPECT_MAX: usize = 1 << 14;
/// Expressions, sets and parentheses of one nftables rule inside one another.
pub const NFT_DEPTH_MAX: usize = 64;
/// Words and signs of one nftables script after its variables were replaced.
pub const NFT_TOKENS_MAX: usize = 1 << 26;
/// Rules and chain ends that one packet passes in one native nftables base chain.
pub const NFT_STEPS_MAX: usize = 1 << 20;
/// Numbers of a draw that are tried for a choice that is made beforehand.
pub const NFT_DRAW_MAX: u32 = 1 << 16;
/// Elements of native sets whose counters compiled paths bring along; those of further ones are walked.
pub const NFT_NOTED_MAX: usize = 1 << 18;
/// Variables of an nftables script that stand for one another.
pub const NFT_DEFINE_DEPTH_MAX: usize = 16;
/// IPVS connections and templates of one namespace (kernel: no bound but memory).
pub const IPVS_CONNS_MAX: usize = 1 << 20;
/// IPVS services of one namespace (kernel: no bound).
pub const IPVS_SERVICES_MAX: usize = 1 << 17;
/// IPVS real servers of one namespace, over all services (kernel: no bound).
pub const IPVS_DESTS_MAX: usize = 1 << 21;
/// Virtual addresses one lblc or lblcr service remembers (kernel: trims to 16384 from time to time).
pub const IPVS_CACHE_MAX: usize = 1 << 14;
/// The longest time an IPVS connection is read with, in seconds: ipvsadm's largest timeout (`MAX_TIMEOUT`).
pub const IPVS_EXPIRE_SECS_MAX: u64 = 31 * 24 * 3600;
/// Words of one line of ipvsadm's input.
pub const IPVSADM_WORDS_MAX: usize = 256;
/// Words of a Corefile with everything it imports.
pub const DNS_COREFILE_TOKENS_MAX: usize = 1 << 16;
/// Imports and braces of a Corefile inside one another.
pub const DNS_IMPORT_DEPTH_MAX: usize = 16;
/// Records of one zone file.
pub const DNS_ZONE_RECORDS_MAX: usize = 1 << 20;
/// Queries one DNS server has open at a time, its own refreshes included; further ones get no reply (CoreDNS
/// has no bound but memory and `max_concurrent`).
pub const DNS_JOBS_MAX: usize = 1 << 16;
/// Look-ups of names that one query may need inside one another (an ExternalName of another zone's
/// ExternalName ...); CoreDNS has no bound, a query that needs more is SERVFAIL here.
pub const DNS_LOOK_UP_DEPTH_MAX: usize = 16;
/// Steps through plugins that one event may take.
pub const DNS_STEPS_MAX: usize = 1 << 12;
/// Encoded replies that are kept for the next same question.
pub const DNS_HOT_MAX: usize = 1 << 16;
/// Octets of a reply that is kept so; the smallest UDP reply a client must take (RFC 1035 section 2.3.4).
pub const DNS_HOT_OCTETS_MAX: usize = 512;
/// Entries of a cache, whatever its capacity says (CoreDNS: 9984 by default, no bound).
pub const DNS_CACHE_MAX: usize = 1 << 20;
/// Upstreams of one forward (CoreDNS `plugin/forward/setup.go`, `max`).
pub const DNS_UPSTREAMS_MAX: usize = 15;
/// Lines of a DNS server's log that wait to be fetched; the oldest are forgotten.
pub const DNS_LOG_MAX: usize = 1_024;
/// Decisions of plugins that one traced query records.
pub const DNS_DECISIONS_MAX: usize = 256;
/// TCP clients of `dns serve` at a time; further ones are closed at once.
pub const DNS_TCP_CLIENTS_MAX: usize = 128;
/// Queries to upstreams over TCP that `dns serve` has open at a time; further ones count as broken.
pub const DNS_TCP_UPSTREAMS_MAX: usize = 64;
/// CNAMEs inside one zone that are followed (CoreDNS `plugin/backend_lookup.go`, `maxCnameChainLength`).
pub const DNS_CNAME_CHAIN_MAX: usize = 10;
/// Ports of rules that `reach` asks of a destination that declares none.
pub const REACH_RULE_PORTS_MAX: usize = 8;
/// Classes of addresses outside the cluster that `reach` shows.
pub const REACH_OUTSIDE_MAX: usize = 256;
/// Frames' ways that `reach --path` tries.
pub const REACH_PROBES_MAX: usize = 20_000;
/// Cells of a table of `reach`.
pub const REACH_CELLS_MAX: usize = 1 << 22;
/// Squares of a heat map of `reach` whose reasons are written into its page.
pub const REACH_TIPS_MAX: usize = 160_000;
/// Places for answers of tables that are given again, in each rule set.
pub const RECALL_PLACES: usize = 1 << 12;
/// Workers that share a world's traffic: a bit each in one word.
pub const SHARD_WORKERS_MAX: u16 = 64;
/// Flows that are known to be another worker's than their hash says; of more, those not met for longest go.
pub const SHARD_EXCEPTIONS_MAX: usize = 1 << 24;
/// Datagrams whose fragments are known to be a worker's.
pub const SHARD_DATAGRAMS_MAX: usize = 1 << 14;
