//! `net.ipv4.vs.*` of one namespace (kernel: `vs_vars` of ip_vs_ctl.c, and lblc's and lblcr's own).
//!
//! Whole numbers as the kernel takes them; `sync_threshold` and `run_estimation`'s friends that only the
//! sync daemon reads are not here. Defaults are those of Linux 6.1.

/// `net.ipv4.vs.*`
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the sysctls' own names")]
pub struct VsSysctl {
    pub amemthresh: i32,
    pub am_droprate: i32,
    pub drop_entry: i32,
    pub drop_packet: i32,
    pub conntrack: i32,
    pub secure_tcp: i32,
    pub snat_reroute: i32,
    pub cache_bypass: i32,
    pub expire_nodest_conn: i32,
    pub sloppy_tcp: i32,
    pub sloppy_sctp: i32,
    pub expire_quiescent_template: i32,
    pub nat_icmp_send: i32,
    pub pmtu_disc: i32,
    pub backup_only: i32,
    pub conn_reuse_mode: i32,
    pub schedule_icmp: i32,
    pub ignore_tunneled: i32,
    pub run_estimation: i32,
    pub lblc_expiration: i32,
    pub lblcr_expiration: i32,
}

impl Default for VsSysctl {
    fn default() -> Self {
        VsSysctl {
            amemthresh: 1024,
            am_droprate: 10,
            drop_entry: 0,
            drop_packet: 0,
            conntrack: 0,
            secure_tcp: 0,
            snat_reroute: 1,
            cache_bypass: 0,
            expire_nodest_conn: 0,
            sloppy_tcp: 0,
            sloppy_sctp: 0,
            expire_quiescent_template: 0,
            nat_icmp_send: 0,
            pmtu_disc: 1,
            backup_only: 0,
            conn_reuse_mode: 1,
            schedule_icmp: 0,
            ignore_tunneled: 0,
            run_estimation: 1,
            lblc_expiration: 86_400,
            lblcr_expiration: 86_400,
        }
    }
}

impl VsSysctl {
    /// The value behind a name from which `net.ipv4.vs.` was taken.
    pub(crate) fn slot(&mut self, key: &str) -> Option<&mut i32> {
        Some(match key {
            "amemthresh" => &mut self.amemthresh,
            "am_droprate" => &mut self.am_droprate,
            "drop_entry" => &mut self.drop_entry,
            "drop_packet" => &mut self.drop_packet,
            "conntrack" => &mut self.conntrack,
            "secure_tcp" => &mut self.secure_tcp,
            "snat_reroute" => &mut self.snat_reroute,
            "cache_bypass" => &mut self.cache_bypass,
            "expire_nodest_conn" => &mut self.expire_nodest_conn,
            "sloppy_tcp" => &mut self.sloppy_tcp,
            "sloppy_sctp" => &mut self.sloppy_sctp,
            "expire_quiescent_template" => &mut self.expire_quiescent_template,
            "nat_icmp_send" => &mut self.nat_icmp_send,
            "pmtu_disc" => &mut self.pmtu_disc,
            "backup_only" => &mut self.backup_only,
            "conn_reuse_mode" => &mut self.conn_reuse_mode,
            "schedule_icmp" => &mut self.schedule_icmp,
            "ignore_tunneled" => &mut self.ignore_tunneled,
            "run_estimation" => &mut self.run_estimation,
            "lblc_expiration" => &mut self.lblc_expiration,
            "lblcr_expiration" => &mut self.lblcr_expiration,
            _ => return None,
        })
    }
}
