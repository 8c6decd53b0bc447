//! The plugins of a server, as a closed set, and how a query is handed to one.
//!
//! A plugin answers, passes the query on, or leaves a frame to see the reply. What each does is in the file
//! of its name; CoreDNS's README of the plugin is the contract, its source the judge.

pub mod acl;
pub mod autopath;
pub mod cache;
pub mod file;
pub mod forward;
pub mod header;
pub mod hosts;
pub mod kubernetes;
pub mod log;
pub mod looping;
pub mod rewrite;
pub mod simple;
pub mod template;
pub mod transfer;

use std::net::IpAddr;

use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{Name, RData, Record};

use super::config::Reader;
use super::corefile::Line;
use super::engine::{Ctx, Frame, Job, Step};

/// One plugin of a chain.
#[derive(Clone, Debug)]
pub enum Plugin {
    /// Logs every query.
    Log(log::Log),
    /// Logs what failed.
    Errors,
    /// Names of the machine itself.
    Local,
    /// Who may ask what.
    Acl(acl::Acl),
    /// ANY is answered with HINFO.
    Any,
    /// version.bind and its like.
    Chaos(simple::Chaos),
    /// Shuffles addresses.
    Loadbalance,
    /// Keeps replies.
    Cache(Box<cache::Cache>),
    /// Changes queries and undoes it in replies.
    Rewrite(rewrite::Rewrite),
    /// Sets flags of replies.
    Header(header::Header),
    /// Searches for clients.
    Autopath(autopath::Autopath),
    /// Leaves out what was not asked for.
    Minimal,
    /// Answers made of patterns.
    Template(template::Templates),
    /// Whole zones.
    Transfer(transfer::Transfer),
    /// A hosts file.
    Hosts(Box<hosts::Hosts>),
    /// The cluster: by number among the server's.
    Kubernetes(usize),
    /// Zone files.
    File(file::Files),
    /// Finds that a server asks itself.
    Loop(looping::Loop),
    /// Other servers.
    Forward(Box<forward::Forward>),
    /// Who asks.
    Whoami,
    /// A smaller EDNS size.
    Bufsize(u16),
}

impl Plugin {
    /// Its name in a Corefile.
    pub fn name(&self) -> &'static str {
        match self {
            Plugin::Log(_) => "log",
            Plugin::Errors => "errors",
            Plugin::Local => "local",
            Plugin::Acl(_) => "acl",
            Plugin::Any => "any",
            Plugin::Chaos(_) => "chaos",
            Plugin::Loadbalance => "loadbalance",
            Plugin::Cache(_) => "cache",
            Plugin::Rewrite(_) => "rewrite",
            Plugin::Header(_) => "header",
            Plugin::Autopath(_) => "autopath",
            Plugin::Minimal => "minimal",
            Plugin::Template(_) => "template",
            Plugin::Transfer(_) => "transfer",
            Plugin::Hosts(_) => "hosts",
            Plugin::Kubernetes(_) => "kubernetes",
            Plugin::File(_) => "file",
            Plugin::Loop(_) => "loop",
            Plugin::Forward(_) => "forward",
            Plugin::Whoami => "whoami",
            Plugin::Bufsize(_) => "bufsize",
        }
    }

    /// Hands a query to it.
    pub(super) fn serve(&mut self, job: &mut Job, ctx: &mut Ctx<'_>) -> Step {
        match self {
            Plugin::Log(log) => log.serve(job, ctx),
            Plugin::Errors => {
                job.push(Frame::Errors(log::subject(&job.request)));
                Step::Next
            }
            Plugin::Local => simple::local(job, ctx),
            Plugin::Acl(acl) => acl.serve(job, ctx),
            Plugin::Any => simple::any(job, ctx),
            Plugin::Chaos(chaos) => chaos.serve(job, ctx),
            Plugin::Loadbalance => {
                job.push(Frame::Loadbalance);
                Step::Next
            }
            Plugin::Cache(cache) => cache.serve(job, ctx),
            Plugin::Rewrite(rewrite) => rewrite.serve(job, ctx),
            Plugin::Header(header) => header.serve(job),
            Plugin::Autopath(autopath) => autopath.serve(job, ctx),
            Plugin::Minimal => {
                job.push(Frame::Minimal);
                Step::Next
            }
            Plugin::Template(templates) => templates.serve(job, ctx),
            Plugin::Transfer(transfer) => transfer.serve(job, ctx),
            Plugin::Hosts(hosts) => hosts.serve(job, ctx),
            Plugin::Kubernetes(i) => match ctx.kubes.get(*i) {
                Some(kube) => kube.serve(job, ctx, *i),
                None => Step::Next,
            },
            Plugin::File(files) => files.serve(job, ctx),
            Plugin::Loop(looping) => looping.serve(job, ctx),
            Plugin::Forward(forward) => forward.serve(job, ctx),
            Plugin::Whoami => simple::whoami(job, ctx),
            Plugin::Bufsize(size) => simple::bufsize(job, *size),
        }
    }
}

/// The plugin that directives of one name make; `kube` is the `kubernetes` of their block.
pub(super) fn read(
    lines: &[&Line],
    reader: &mut Reader<'_>,
    kube: Option<usize>,
) -> Option<Plugin> {
    let line = lines.first()?;
    Some(match line.name.text.as_str() {
        "log" => Plugin::Log(log::Log::read(line, reader)),
        "errors" => {
            let known = ["consolidate", "stacktrace", "show_first"];
            for option in &line.body {
                if !known.contains(&option.name.text.as_str()) {
                    reader.unknown_option(option, "errors");
                }
            }
            Plugin::Errors
        }
        "local" => Plugin::Local,
        "acl" => Plugin::Acl(acl::Acl::read(lines, reader)),
        "any" => Plugin::Any,
        "chaos" => Plugin::Chaos(simple::Chaos::read(line)),
        "loadbalance" => return simple::loadbalance(line, reader),
        "cache" => Plugin::Cache(Box::new(cache::Cache::read(line, reader))),
        "rewrite" => Plugin::Rewrite(rewrite::Rewrite::read(lines, reader)),
        "header" => Plugin::Header(header::Header::read(lines, reader)),
        "autopath" => Plugin::Autopath(autopath::Autopath::read(line, reader, kube)),
        "minimal" => Plugin::Minimal,
        "template" => Plugin::Template(template::Templates::read(lines, reader)),
        "transfer" => Plugin::Transfer(transfer::Transfer::read(lines, reader, kube)),
        "hosts" => Plugin::Hosts(Box::new(hosts::Hosts::read(line, reader))),
        "file" => Plugin::File(file::Files::read(lines, reader)),
        "loop" => Plugin::Loop(looping::Loop::read(line, reader)),
        "forward" => Plugin::Forward(Box::new(forward::Forward::read(line, reader)?)),
        "whoami" => Plugin::Whoami,
        "bufsize" => Plugin::Bufsize(match line.args.first() {
            None => 1_232,
            Some(_) => reader.number(line, 0)?,
        }),
        _ => return None,
    })
}

/// An A or AAAA record.
pub(super) fn address_record(name: Name, ttl: u32, ip: IpAddr) -> Record {
    let data = match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    };
    Record::from_rdata(name, ttl, data)
}
