//! Rules, sets and connections of an emulated node: loaded and changed as the scenario says.

use super::engine;
use super::plan::{Load, RuleTool};
use super::play::Player;
use super::topo::Port;
use podpath::base::NsId;
use podpath::nf::{Backend, Family};
use podpath::wire::{Frame, MacAddr, build, proto};
use std::net::IpAddr;
use std::time::Duration;

/// How long a ping before the capture may take.
const PING: Duration = Duration::from_millis(50);

fn ns(p: &Player<'_, '_>, name: &str) -> Result<NsId, String> {
    p.ns.get(name)
        .copied()
        .ok_or_else(|| "no such namespace".to_owned())
}

/// Loads a rule set.
pub fn load(p: &mut Player<'_, '_>, name: &str, l: &Load) -> Result<(), String> {
    let ns = ns(p, name)?;
    let family = match l.tool {
        RuleTool::Ipset => return engine::restore_sets(&mut p.world, ns, &l.text),
        RuleTool::Ipvs => return engine::restore_ipvs(&mut p.world, ns, &l.text),
        RuleTool::Nft => return engine::nft(&mut p.world, ns, &l.text),
        RuleTool::Iptables => Family::V4,
        RuleTool::Ip6tables => Family::V6,
    };
    let backend = if l.legacy {
        Backend::Legacy
    } else {
        Backend::Nft
    };
    engine::restore(&mut p.world, ns, family, backend, !l.flush, &l.text)
}

/// Runs a script of netfilter's tools. Endpoints' own rules are theirs: they are not emulated.
pub fn script(p: &mut Player<'_, '_>, name: &str, script: &str) -> Result<(), String> {
    let ns = ns(p, name)?;
    super::script::run(script, &mut |line| match line.split_whitespace().next() {
        Some("conntrack") => {
            engine::conntrack_command(&mut p.world, ns, line).map(|()| String::new())
        }
        Some("ipvsadm") => engine::ipvsadm(&mut p.world, ns, line),
        Some("ipset") => Err(format!("not understood: {line}")),
        _ => engine::command(&mut p.world, ns, line),
    })
}

/// A pod pings an address before the capture: nobody recorded it, but rules counted it.
///
/// Both sides' packets are as `ping -c1` makes them. The node knows its pods' link addresses afterwards.
pub fn ping(p: &mut Player<'_, '_>, name: &str, dst: IpAddr) -> Result<(), String> {
    let from = endpoint(p, |port, _| port.0 == name).ok_or("no interface to ping from")?;
    send(p, &from, dst, 8)?;
    let answering = endpoint(p, |_, ip| ip == dst);
    if let Some(to) = answering {
        send(p, &to, from.ip, 0)?;
    }
    Ok(())
}

/// An endpoint on a bridge of a node: its interface, its address, the link addresses of both.
struct Pod {
    port: Port,
    ip: IpAddr,
    mac: MacAddr,
    bridge: Port,
    gateway: MacAddr,
}

fn endpoint(p: &Player<'_, '_>, wanted: impl Fn(&Port, IpAddr) -> bool) -> Option<Pod> {
    let topo = p.topo;
    topo.ends.iter().find_map(|(port, end)| {
        let ip: IpAddr = end.addr.first()?.split('/').next()?.parse().ok()?;
        let near = topo.peers.get(port)?;
        let master = topo.ends.get(near)?.master.clone()?;
        let bridge = (near.0.clone(), master);
        let fits = !topo.emulated(&port.0) && topo.emulated(&bridge.0) && wanted(port, ip);
        let (mac, gateway) = (*topo.macs.get(port)?, *topo.macs.get(&bridge)?);
        let port = port.clone();
        fits.then_some(Pod {
            port,
            ip,
            mac,
            bridge,
            gateway,
        })
    })
}

fn send(p: &mut Player<'_, '_>, from: &Pod, dst: IpAddr, kind: u8) -> Result<(), String> {
    p.seed_neighbour(&from.bridge, from.ip, from.mac);
    let at = p.port(&from.port).ok_or("no such interface")?;
    let message = build::icmp_message(from.ip, dst, kind, 0, 0x0001_0001, &[0; 56]);
    let packet = build::ip_packet(from.ip, dst, proto::ICMP, 64, 0, 1, kind == 8, &message);
    let mut frame = from.gateway.0.to_vec();
    frame.extend(from.mac.0);
    frame.extend([8, 0]);
    frame.extend_from_slice(&packet);
    p.world.transmit(at, Frame::ethernet(&frame), &mut p.obs);
    let until = p.world.now() + PING;
    p.world.run_until(until, &mut p.obs);
    Ok(())
}
