//! host-local's folder: `lock`, `last_reserved_ip.N` and one file per leased address
//! (host-local backend/disk/backend.go).
//!
//! A lease's content is the container id, CR LF, the interface name. Older versions wrote the id alone,
//! which still counts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Bound;

const DEFAULT_DIR: &str = "/var/lib/cni/networks";

/// One network's folder among a node's files.
pub struct Store<'a> {
    files: &'a mut BTreeMap<String, String>,
    dir: String,
}

impl<'a> Store<'a> {
    /// Opens the folder, which creates its lock file.
    pub fn open(files: &'a mut BTreeMap<String, String>, data_dir: &str, network: &str) -> Self {
        let base = if data_dir.is_empty() {
            DEFAULT_DIR
        } else {
            data_dir.trim_end_matches('/')
        };
        let dir = format!("{base}/{network}/");
        files.entry(format!("{dir}lock")).or_default();
        Store { files, dir }
    }

    fn lease(id: &str, ifname: &str) -> String {
        format!("{}\r\n{ifname}", id.trim())
    }

    /// Files of the folder (and below it) with their names, in order.
    fn walk(&self) -> impl Iterator<Item = (&str, &str)> {
        let from = (Bound::Included(self.dir.clone()), Bound::Unbounded);
        self.files
            .range::<String, _>(from)
            .take_while(|(p, _)| p.starts_with(&self.dir))
            .map(|(p, c)| (p.get(self.dir.len()..).unwrap_or(""), c.as_str()))
    }

    fn with_content<'s>(&'s self, content: &'s str) -> impl Iterator<Item = &'s str> {
        self.walk()
            .filter(move |(_, c)| c.trim() == content)
            .map(|(n, _)| n)
    }

    /// How many files there are: an upper bound of leases.
    pub fn len(&self) -> usize {
        self.walk().count()
    }

    /// Never: the lock file is there.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Leases `ip`; false when it is leased already.
    pub fn reserve(&mut self, id: &str, ifname: &str, ip: IpAddr, set: usize) -> bool {
        let path = format!("{}{ip}", self.dir);
        if self.files.contains_key(&path) {
            return false;
        }
        self.files.insert(path, Self::lease(id, ifname));
        self.files.insert(
            format!("{}last_reserved_ip.{set}", self.dir),
            ip.to_string(),
        );
        true
    }

    /// The address last leased from a set.
    pub fn last_reserved(&self, set: usize) -> Option<IpAddr> {
        self.files
            .get(&format!("{}last_reserved_ip.{set}", self.dir))?
            .parse()
            .ok()
    }

    /// Whether the container has any lease.
    pub fn has_lease(&self, id: &str, ifname: &str) -> bool {
        self.with_content(&Self::lease(id, ifname)).next().is_some()
            || self.with_content(id.trim()).next().is_some()
    }

    /// The container's addresses.
    pub fn leases(&self, id: &str, ifname: &str) -> Vec<IpAddr> {
        let (new, old) = (Self::lease(id, ifname), id.trim());
        self.walk()
            .filter(|(_, c)| c.trim() == new || c.trim() == old)
            .filter_map(|(n, _)| n.rsplit('/').next()?.parse().ok())
            .collect()
    }

    /// Removes the container's leases.
    pub fn release(&mut self, id: &str, ifname: &str) {
        let lease = Self::lease(id, ifname);
        for content in [lease.as_str(), id.trim()] {
            let gone: Vec<String> = self
                .with_content(content)
                .map(|n| format!("{}{n}", self.dir))
                .collect();
            gone.iter().for_each(|p| {
                self.files.remove(p);
            });
            if !gone.is_empty() {
                return;
            }
        }
    }
}
