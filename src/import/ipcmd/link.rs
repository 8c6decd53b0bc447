//! `ip link ...` and `bridge ...`.

use super::is;
use super::types::*;
use super::words::Words;
use crate::base::Finding;
use crate::wire::MacAddr;
use core::time::Duration;

/// `ip link` behind the object's name.
pub(super) fn link(w: &mut Words<'_>) -> Result<Command, Finding> {
    match w.peek() {
        None => return Ok(Command::Show),
        Some(c) if is(c, "show") || is(c, "list") || c == "ls" => return Ok(Command::Show),
        Some(_) => {}
    }
    match w.next("a command")? {
        c if is(c, "set") => {
            let dev = device(w)?;
            let changes = changes(w)?;
            Ok(Command::LinkSet { dev, changes })
        }
        c if is(c, "add") => add(w),
        c if is(c, "delete") => {
            let dev = device(w)?;
            if w.take("type") {
                w.next("a kind")?;
            }
            end(w)?;
            Ok(Command::LinkDel { dev })
        }
        c => Err(w.bad(c, "add, set, del or show")),
    }
}

fn device(w: &mut Words<'_>) -> Result<String, Finding> {
    if w.peek() == Some("dev") {
        w.skip();
    }
    Ok(w.next("a device name")?.to_owned())
}

/// Nothing may follow.
pub(super) fn end(w: &mut Words<'_>) -> Result<(), Finding> {
    if w.peek().is_some() {
        Err(w.extra())
    } else {
        Ok(())
    }
}

fn changes(w: &mut Words<'_>) -> Result<Vec<LinkChange>, Finding> {
    let mut out = Vec::new();
    while let Some(word) = w.peek() {
        w.skip();
        match word {
            "type" => match w.next("a kind")? {
                "bridge" => bridge_options(w, &mut out)?,
                "bridge_slave" => out.extend(port_flags(w)?.into_iter().map(LinkChange::Port)),
                kind => return Err(w.bad(kind, "bridge or bridge_slave")),
            },
            _ => out.push(change(w, word)?),
        }
    }
    Ok(out)
}

fn change(w: &mut Words<'_>, word: &str) -> Result<LinkChange, Finding> {
    Ok(match word {
        "up" => LinkChange::Up(true),
        "down" => LinkChange::Up(false),
        "mtu" => LinkChange::Mtu(w.number("an MTU in bytes")?),
        "address" => LinkChange::Mac(w.value("a MAC address")?),
        "master" => LinkChange::Master(Some(w.next("a bridge")?.to_owned())),
        "nomaster" => LinkChange::Master(None),
        "name" => LinkChange::Name(w.next("a name")?.to_owned()),
        "promisc" => LinkChange::Promisc(w.on_off()?),
        "arp" => LinkChange::Arp(w.on_off()?),
        "netns" => LinkChange::Netns(w.next("a namespace")?.to_owned()),
        // Queue lengths and labels change no packet's way here.
        "txqueuelen" | "qlen" | "alias" | "group" => {
            LinkChange::Ignored(word.to_owned(), w.next("a value")?.to_owned())
        }
        other => {
            return Err(w.bad(
                other,
                "a setting of a device (up, down, mtu, address, master, ...)",
            ));
        }
    })
}

fn bridge_options(w: &mut Words<'_>, out: &mut Vec<LinkChange>) -> Result<(), Finding> {
    while let Some(word) = w.peek() {
        w.skip();
        let change = match word {
            "ageing_time" => {
                LinkChange::Ageing(Duration::from_millis(u64::from(w.number("1/100 s")?) * 10))
            }
            "group_fwd_mask" => {
                let mask = w.number("a mask of 16 bits")?;
                LinkChange::GroupFwdMask(
                    u16::try_from(mask).map_err(|_| w.bad("", "a mask of 16 bits"))?,
                )
            }
            "vlan_filtering" => LinkChange::VlanFiltering(w.on_off()?),
            // Off is what podpath is: no spanning tree, no snooping, and so no forward delay either.
            "stp_state" | "mcast_snooping" | "mcast_querier" => match w.on_off()? {
                false => continue,
                true => return Err(w.bad("1", "0 (podpath has no spanning tree and no snooping)")),
            },
            "forward_delay" => {
                w.number("a delay in 1/100 s")?;
                continue;
            }
            other => self::change(w, other)?,
        };
        out.push(change);
    }
    Ok(())
}

fn port_flags(w: &mut Words<'_>) -> Result<Vec<PortChange>, Finding> {
    let mut out = Vec::new();
    while let Some(word) = w.peek() {
        w.skip();
        let flag = match word {
            "hairpin" => PortFlag::Hairpin,
            "learning" => PortFlag::Learning,
            "flood" => PortFlag::Flood,
            "mcast_flood" => PortFlag::McastFlood,
            "bcast_flood" => PortFlag::BcastFlood,
            "isolated" => PortFlag::Isolated,
            other => {
                return Err(w.bad(
                    other,
                    "hairpin, learning, flood, mcast_flood, bcast_flood or isolated",
                ));
            }
        };
        out.push(PortChange {
            flag,
            on: w.on_off()?,
        });
    }
    Ok(out)
}

fn add(w: &mut Words<'_>) -> Result<Command, Finding> {
    let mut dev = None;
    let mut changes = Vec::new();
    loop {
        match w.next("type KIND")? {
            "type" => break,
            "name" | "dev" => dev = Some(w.next("a device name")?.to_owned()),
            word @ ("mtu" | "address" | "up" | "master" | "txqueuelen") => {
                changes.push(change(w, word)?)
            }
            word if dev.is_none() => dev = Some(word.to_owned()),
            other => return Err(w.bad(other, "type KIND")),
        }
    }
    let kind = match w.next("a kind")? {
        "dummy" => NewLink::Dummy,
        "bridge" => {
            bridge_options(w, &mut changes)?;
            NewLink::Bridge
        }
        "veth" => veth(w)?,
        "vxlan" => vxlan(w)?,
        "ipip" => ipip(w)?,
        other => return Err(w.bad(other, "dummy, bridge, veth, vxlan or ipip")),
    };
    end(w)?;
    let dev = dev.ok_or_else(|| w.bad("type", "a device name first"))?;
    Ok(Command::LinkAdd { dev, kind, changes })
}

fn veth(w: &mut Words<'_>) -> Result<NewLink, Finding> {
    if !w.take("peer") {
        return Err(w.extra());
    }
    w.take("name");
    let peer = w.next("the peer's name")?.to_owned();
    let netns = if w.take("netns") {
        Some(w.next("a namespace")?.to_owned())
    } else {
        None
    };
    Ok(NewLink::Veth { peer, netns })
}

fn vxlan(w: &mut Words<'_>) -> Result<NewLink, Finding> {
    // Linux's default port is the one from before IANA's 4789 (drivers/net/vxlan: vxlan_port).
    let (mut vni, mut port, mut local, mut under) = (None, 8472, None, None);
    let (mut learning, mut ttl, mut udp_csum) = (true, Some(0), true);
    while let Some(word) = w.peek() {
        w.skip();
        match word {
            "id" | "vni" => vni = Some(w.number("a VNI")?),
            "dstport" => port = w.value("a UDP port")?,
            "local" => local = Some(w.value("an IP address")?),
            "dev" => under = Some(w.next("a device")?.to_owned()),
            "learning" => learning = true,
            "nolearning" => learning = false,
            "ttl" if w.take("inherit") => ttl = None,
            "ttl" => ttl = Some(w.value("a TTL")?),
            "udpcsum" => udp_csum = true,
            "noudpcsum" => udp_csum = false,
            other => {
                return Err(w.bad(
                    other,
                    "id, local, dev, dstport, ttl, [no]learning or [no]udpcsum",
                ));
            }
        }
    }
    let vni = vni.ok_or_else(|| w.bad("", "id VNI"))?;
    Ok(NewLink::Vxlan {
        vni,
        port,
        local,
        under,
        learning,
        ttl,
        udp_csum,
    })
}

fn ipip(w: &mut Words<'_>) -> Result<NewLink, Finding> {
    let (mut local, mut remote, mut ttl, mut pmtudisc) = (None, None, 0, true);
    while let Some(word) = w.peek() {
        w.skip();
        match word {
            "local" => local = Some(w.value("an IPv4 address")?),
            "remote" => remote = Some(w.value("an IPv4 address")?),
            "ttl" if w.take("inherit") => ttl = 0,
            "ttl" => ttl = w.value("a TTL")?,
            "pmtudisc" => pmtudisc = true,
            "nopmtudisc" => pmtudisc = false,
            other => return Err(w.bad(other, "local, remote, ttl or [no]pmtudisc")),
        }
    }
    Ok(NewLink::Ipip {
        local,
        remote,
        ttl,
        pmtudisc,
    })
}

/// `bridge link|fdb` behind the program's name.
pub(super) fn bridge(w: &mut Words<'_>) -> Result<Command, Finding> {
    let mut object = w.next("link or fdb")?;
    while object.starts_with('-') {
        object = w.next("link or fdb")?;
    }
    let verb = w.peek().unwrap_or("show");
    if is(verb, "show") || is(verb, "list") {
        return Ok(Command::Show);
    }
    w.skip();
    match object {
        o if is(o, "link") && verb == "set" => {
            let dev = device(w)?;
            let changes = port_flags(w)?;
            Ok(Command::BridgeLink { dev, changes })
        }
        o if is(o, "fdb") => fdb(w, verb),
        _ => Err(w.bad(verb, "link set, or fdb add, append, replace, del")),
    }
}

fn fdb(w: &mut Words<'_>, verb: &str) -> Result<Command, Finding> {
    let op = match verb {
        "add" => Op::Add,
        "append" => Op::Append,
        "replace" => Op::Replace,
        "change" => Op::Change,
        v if is(v, "delete") => Op::Del,
        other => return Err(w.bad(other, "add, append, replace or del")),
    };
    let mac: MacAddr = w.value("a MAC address")?;
    let (mut dev, mut dst, mut vlan) = (None, None, None);
    let (mut master, mut own, mut life) = (false, false, FdbLife::Permanent);
    while let Some(word) = w.peek() {
        w.skip();
        match word {
            "dev" => dev = Some(w.next("a device")?.to_owned()),
            "dst" => dst = Some(w.value("an IP address")?),
            "vlan" => vlan = Some(w.value("a VLAN id")?),
            "self" => own = true,
            "master" => master = true,
            "permanent" | "local" => life = FdbLife::Permanent,
            "static" => life = FdbLife::Static,
            "dynamic" => life = FdbLife::Dynamic,
            other => {
                return Err(w.bad(
                    other,
                    "dev, dst, vlan, self, master, permanent, static or dynamic",
                ));
            }
        }
    }
    let dev = dev.ok_or_else(|| w.bad("", "dev DEVICE"))?;
    Ok(Command::Fdb {
        op,
        fdb: FdbSpec {
            mac,
            dev,
            dst,
            vlan,
            master,
            own: own || !master,
            life,
        },
    })
}
