//! Faults in virtual time: they begin when they are due, and what can be put back is when they end.
//!
//! Commands in a namespace, changes of the underlay, kube-proxies that stop or lag, objects that change.
//! Time goes on between probes only: [`Scenario::wait_until`] stops at every moment at which something is
//! due.

use crate::base::{Finding, Instant, Origin, Severity, Span};
use crate::cluster::change::{block, uplinks};
use crate::cluster::scenario::Healing;
use crate::cluster::{Scenario, dns, run_command};
use crate::kube::podpath_v1alpha1::{DnsServerState, FaultSpec, ProbeSpec, UnderlayFault};
use crate::path::NoTrace;

impl Scenario {
    /// Faults that are due begin, those whose time is over end.
    pub fn apply_due(&mut self) -> Vec<Finding> {
        let now = self.cluster.lab.now();
        // What was due before the fault comes before it.
        let mut findings = self.cluster.advance_proxies();
        while self.pending.first().is_some_and(|f| f.0 <= now) {
            let (_, name, spec) = self.pending.remove(0);
            self.begin(&name, &spec, &mut findings);
        }
        let (over, still): (Vec<_>, Vec<_>) = std::mem::take(&mut self.healing)
            .into_iter()
            .partition(|h| h.at <= now);
        self.healing = still;
        for healed in over {
            for (at, link) in healed.links {
                *self.cluster.lab.world.link_mut(at) = link;
            }
            for (node, was) in healed.proxies {
                self.cluster.set_proxy(Some(&node), &was);
            }
            for pod in healed.dns {
                let running = Some(DnsServerState::Running);
                dns::set(&mut self.cluster, pod.as_deref(), running, Some(u32::MAX));
            }
        }
        if dns::readiness(&mut self.cluster) {
            if self.beginning.is_none() {
                self.beginning = Some(Box::new(self.cluster.store.clone()));
            }
            findings.extend(self.cluster.objects_changed());
        }
        findings.extend(self.cluster.advance_proxies());
        findings
    }

    /// Lets time go on until `t`, with every Fault and every kube-proxy's write at its own time.
    pub fn wait_until(&mut self, t: Instant) -> Vec<Finding> {
        let mut findings = self.apply_due();
        while let Some(next) = self.next_change().filter(|next| *next <= t) {
            let before = self.cluster.lab.now();
            if !self.cluster.lab.run_until(next, &mut NoTrace) || next <= before {
                break;
            }
            findings.extend(self.apply_due());
        }
        if self.cluster.lab.now() < t {
            self.cluster.lab.run_until(t, &mut NoTrace);
            findings.extend(self.apply_due());
        }
        findings
    }

    /// Lets time go on until a probe may start.
    pub(super) fn wait_for(&mut self, probe: &ProbeSpec) -> Vec<Finding> {
        self.wait_until(Instant::ZERO + probe.at.unwrap_or_default())
    }

    fn next_change(&self) -> Option<Instant> {
        let begins = self.pending.first().map(|f| f.0);
        let ends = self.healing.iter().map(|h| h.at).min();
        let all = [begins, ends, self.cluster.next_sync()];
        all.into_iter().flatten().min()
    }

    fn begin(&mut self, name: &str, spec: &FaultSpec, findings: &mut Vec<Finding>) {
        let at = self.span(name, "spec.commands");
        let place = spec
            .node
            .as_ref()
            .and_then(|n| self.cluster.nodes.get(n))
            .map(|n| n.ns);
        let pod = spec
            .pod
            .as_ref()
            .and_then(|p| {
                self.cluster
                    .pods
                    .values()
                    .find(|x| x.name.to_string() == *p)
            })
            .map(|p| p.ns);
        for line in &spec.commands {
            match pod.or(place) {
                Some(ns) => {
                    // The first line of a command with input: an origin is one line.
                    let short = line.lines().next().unwrap_or_default();
                    let origin = Origin::Scenario(format!("fault {name}: {short}").into());
                    if let Err(f) = run_command(&mut self.cluster, ns, line, &at, origin) {
                        findings.push(f);
                    }
                }
                None => findings.push(Finding::error(
                    at.clone(),
                    format!("fault {name}: no such node or pod"),
                    "name one that exists",
                )),
            }
        }
        self.change_objects(name, spec, findings);
        if let Some(to) = &spec.kube_proxy {
            let before = self.cluster.set_proxy(spec.node.as_deref(), to);
            if before.is_empty() {
                let at = self.span(name, "spec.kubeProxy");
                let message = format!("fault {name}: no kube-proxy runs there");
                findings.push(Finding::warning(
                    at,
                    message,
                    "set spec.proxy.mode of the Cluster to iptables",
                ));
            }
            if let Some(until) = spec.until {
                self.healing.push(Healing {
                    at: Instant::ZERO + until,
                    links: Vec::new(),
                    proxies: before,
                    dns: Vec::new(),
                });
            }
        }
        if let Some(u) = &spec.underlay {
            self.change_underlay(spec, u);
        }
        self.change_dns(name, spec, findings);
    }

    fn change_dns(&mut self, name: &str, spec: &FaultSpec, findings: &mut Vec<Finding>) {
        let Some(to) = &spec.coredns else { return };
        let pod = spec.pod.as_deref();
        if !dns::set(&mut self.cluster, pod, to.state, to.queries_per_second) {
            findings.push(Finding::warning(
                self.span(name, "spec.coredns"),
                format!("fault {name}: no DNS server runs there"),
                "a pod of kube-system labelled k8s-app: kube-dns and a ConfigMap coredns make one",
            ));
        }
        if let Some(until) = spec.until {
            self.healing.push(Healing {
                at: Instant::ZERO + until,
                links: Vec::new(),
                proxies: Vec::new(),
                dns: vec![spec.pod.clone()],
            });
        }
        // The process acts, and the kubelet sees it.
        let now = self.cluster.lab.now();
        self.cluster.lab.run_until(now, &mut NoTrace);
    }

    /// The place of a field of a Fault.
    fn span(&self, name: &str, path: &str) -> Span {
        let all = self.cluster.store.faults.values();
        let found = all.into_iter().find(|f| f.name.to_string() == name);
        found.map(|f| f.source.span_of(path)).unwrap_or_default()
    }

    fn change_objects(&mut self, name: &str, spec: &FaultSpec, findings: &mut Vec<Finding>) {
        if spec.apply.is_empty() && spec.delete.is_empty() {
            return;
        }
        if self.beginning.is_none() {
            self.beginning = Some(Box::new(self.cluster.store.clone()));
        }
        for (i, object) in spec.apply.iter().enumerate() {
            let at = self.span(name, &format!("spec.apply[{i}]"));
            let found = self.cluster.store.apply(object, &at);
            findings.extend(found.into_iter().filter(|f| f.severity != Severity::Note));
        }
        for (i, object) in spec.delete.iter().enumerate() {
            if !self.cluster.store.delete(object) {
                let at = self.span(name, &format!("spec.delete[{i}]"));
                let message = format!(
                    "fault {name}: there is no {}/{} to delete",
                    object.namespace, object.name
                );
                findings.push(Finding::warning(
                    at,
                    message,
                    "only objects of the input can be deleted",
                ));
            }
        }
        findings.extend(self.cluster.objects_changed());
    }

    fn change_underlay(&mut self, spec: &FaultSpec, u: &UnderlayFault) {
        let blocks: Vec<_> = u.blocked.iter().map(|b| block(&self.cluster, b)).collect();
        let mut before = Vec::new();
        let only = spec.link.as_deref().map(|l| self.uplink_ns(l));
        for up in uplinks(&self.cluster) {
            if only.is_some_and(|o| o != Some(up.ns)) {
                continue;
            }
            let link = self.cluster.lab.world.link_mut(up);
            before.push((up, link.clone()));
            link.blocked.extend(blocks.iter().cloned());
            if let Some(p) = u.loss_percent {
                link.loss_ppm = (p.clamp(0.0, 100.0) * 10_000.0) as u32;
            }
            link.latency = u.latency.unwrap_or(link.latency);
            link.mtu = u.mtu.or(link.mtu);
        }
        if let Some(until) = spec.until {
            self.healing.push(Healing {
                at: Instant::ZERO + until,
                links: before,
                proxies: Vec::new(),
                dns: Vec::new(),
            });
        }
    }
}
