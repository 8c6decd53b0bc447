//! The zone's own records and its transfer: `ns.go`, `xfr.go` and SOA of `plugin/backend_lookup.go`.

use std::net::IpAddr;

use hickory_proto::rr::rdata::{CNAME, NS, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record};

use super::super::super::cluster::{Kind, Service, Slice};
use super::super::super::names;
use super::super::address_record;
use super::Kubernetes;
use super::index::host_label;

impl Kubernetes {
    /// The SOA record; names end in the zone as it was asked.
    pub(super) fn soa(&self, zone: &Name) -> Option<Record> {
        let ttl = self.options.ttl;
        let data = SOA::new(
            names::under("ns.dns", zone)?,
            names::under("hostmaster", zone)?,
            self.serial,
            7_200,
            1_800,
            86_400,
            ttl,
        );
        Some(Record::from_rdata(
            zone.clone(),
            ttl.min(300),
            RData::SOA(data),
        ))
    }

    /// Names and addresses of the zone's servers (`nsAddrs`): the Services that this server is an endpoint
    /// of, else its own addresses.
    pub(super) fn servers(&self, zone: &Name) -> Vec<(Name, IpAddr)> {
        let mut out = Vec::new();
        let mut endpoint = false;
        for local in &self.options.local {
            for (slice, service) in self.index.by_endpoint(*local) {
                endpoint = true;
                let Some(service) = service else { continue };
                let Some(owner) = self.owner(&service.name, &service.namespace, zone) else {
                    continue;
                };
                match &service.kind {
                    Kind::Headless => out.extend(slice.addresses.iter().filter_map(|a| {
                        let host = host_label(a, self.options.pod_names);
                        Some((names::under(&host, &owner)?, a.ip))
                    })),
                    Kind::ClusterIps(ips) => out.extend(ips.iter().map(|ip| (owner.clone(), *ip))),
                    Kind::External(_) => {}
                }
            }
        }
        if endpoint {
            return out;
        }
        let name = names::under("ns.dns", zone);
        let local = self.options.local.iter();
        local.filter_map(|ip| Some((name.clone()?, *ip))).collect()
    }

    /// The whole zone, from SOA to SOA; the SOA alone for an IXFR that is up to date.
    pub(in super::super) fn transfer(
        &self,
        zone: &Name,
        serial: Option<u32>,
    ) -> Option<Vec<Record>> {
        names::longest(&self.options.zones, zone)?;
        let soa = self.soa(zone)?;
        let mut out = vec![soa.clone()];
        if serial == Some(self.serial) && self.serial != 0 {
            return Some(out);
        }
        let ttl = self.options.ttl;
        let servers = self.servers(zone);
        let mut seen: Vec<&Name> = Vec::new();
        for (name, _) in &servers {
            if !seen.contains(&name) {
                seen.push(name);
                out.push(Record::from_rdata(
                    zone.clone(),
                    ttl,
                    RData::NS(NS(name.clone())),
                ));
            }
        }
        // The glue carries no TTL (`nsAddrs` leaves the header's at 0).
        out.extend(
            servers
                .iter()
                .map(|(name, ip)| address_record(name.clone(), 0, *ip)),
        );
        for entry in self.index.by_name() {
            if let Some(service) = entry
                .service
                .as_ref()
                .filter(|s| self.index.exposed(&s.namespace))
            {
                self.transfer_service(service, &entry.slices, zone, &mut out);
            }
        }
        out.push(soa);
        Some(out)
    }

    fn transfer_service(
        &self,
        service: &Service,
        slices: &[Slice],
        zone: &Name,
        out: &mut Vec<Record>,
    ) {
        let Some(owner) = self.owner(&service.name, &service.namespace, zone) else {
            return;
        };
        let ttl = self.options.ttl;
        let srv = |name: &str, protocol: &str, weight: u16, port: u16, target: &Name| {
            let labels = format!("_{name}._{protocol}").to_ascii_lowercase();
            let at = names::under(&labels, &owner)?;
            let data = SRV::new(0, weight, port, target.clone());
            Some(Record::from_rdata(at, ttl, RData::SRV(data)))
        };
        match &service.kind {
            Kind::ClusterIps(ips) => {
                out.extend(ips.iter().map(|ip| address_record(owner.clone(), ttl, *ip)));
                for port in &service.ports {
                    let Some(number) = port.number else { continue };
                    let data = SRV::new(0, 100, number, owner.clone());
                    out.push(Record::from_rdata(owner.clone(), ttl, RData::SRV(data)));
                    if !port.name.is_empty() {
                        out.extend(srv(&port.name, &port.protocol, 100, number, &owner));
                    }
                }
            }
            Kind::Headless => {
                for slice in slices {
                    let weight = u16::try_from(100 / slice.addresses.len().max(1))
                        .unwrap_or(1)
                        .max(1);
                    for address in &slice.addresses {
                        let label = host_label(address, self.options.pod_names);
                        let Some(host) = names::under(&label, &owner) else {
                            continue;
                        };
                        out.push(address_record(owner.clone(), ttl, address.ip));
                        out.push(address_record(host.clone(), ttl, address.ip));
                        for port in slice.ports.iter().filter(|p| !p.name.is_empty()) {
                            let number = port.number.unwrap_or(0);
                            out.extend(srv(&port.name, &port.protocol, weight, number, &host));
                        }
                    }
                }
            }
            Kind::External(target) if target.parse::<IpAddr>().is_err() => {
                if let Some(name) = names::parse(target) {
                    out.push(Record::from_rdata(owner, ttl, RData::CNAME(CNAME(name))));
                }
            }
            Kind::External(_) => {}
        }
    }
}
