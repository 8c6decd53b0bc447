//! The members of a list:set, in order.
//!
//! Kernel: ip_set_list_set.c. Members are names here and indexes there; a set that is a member cannot be
//! renamed,
//! and swapping exchanges what is behind two names, so both come to the same. Does not look into the members.
//! Invariant: a name is there once.

use std::sync::Arc;

use super::element::{Ext, ExtIn};
use super::header::Header;
use super::store::write_ext;
use super::wrong::Refused;
use crate::base::Instant;

/// One member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// The set's name.
    pub name: Arc<str>,
    /// Extensions.
    pub ext: Ext,
    /// Option words that are not known, as they stood.
    pub unknown: Option<Box<str>>,
}

/// `before NAME` or `after NAME`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Before(Arc<str>),
    After(Arc<str>),
}

/// Where a member that is there would have to stand; true if it does.
fn stands(members: &[Member], at: usize, place: Option<&Place>) -> bool {
    let neighbour = match place {
        None => return true,
        Some(Place::Before(name)) => (members.get(at + 1), name),
        Some(Place::After(name)) => (at.checked_sub(1).and_then(|p| members.get(p)), name),
    };
    neighbour.0.is_some_and(|m| m.name == *neighbour.1)
}

/// `list_set_uadd`.
pub(super) fn add(
    members: &mut Vec<Member>,
    header: &Header,
    name: Arc<str>,
    place: Option<&Place>,
    ext: &ExtIn,
    exist: bool,
    now: Instant,
) -> Result<(), Refused> {
    members.retain(|m| m.ext.timeout.live(now));
    let find = |name: &Arc<str>| members.iter().position(|m| m.name == *name);
    let at = match place {
        None => Some(members.len()),
        Some(Place::Before(other)) => find(other),
        Some(Place::After(other)) => find(other).map(|at| at + 1),
    };
    let at =
        at.filter(|_| !matches!(place, Some(Place::Before(n) | Place::After(n)) if *n == name));
    let at = at.ok_or(Refused::Neighbour)?;
    if let Some(old) = find(&name).and_then(|at| members.get_mut(at)) {
        if !exist {
            return Err(Refused::Exists);
        }
        write_ext(&mut old.ext, header, ext, now);
        return Ok(());
    }
    let mut member = Member {
        name,
        ext: Ext::default(),
        unknown: ext.unknown.clone(),
    };
    write_ext(&mut member.ext, header, ext, now);
    members.insert(at.min(members.len()), member);
    Ok(())
}

/// `list_set_udel`.
pub(super) fn del(
    members: &mut Vec<Member>,
    name: &str,
    place: Option<&Place>,
    now: Instant,
) -> Result<(), Refused> {
    members.retain(|m| m.ext.timeout.live(now));
    let at = members.iter().position(|m| &*m.name == name);
    let at = at.ok_or(match place {
        Some(_) => Refused::Neighbour,
        None => Refused::Missing,
    })?;
    if !stands(members, at, place) {
        return Err(Refused::Neighbour);
    }
    members.remove(at);
    Ok(())
}

/// `list_set_utest`.
pub(super) fn test(members: &[Member], name: &str, place: Option<&Place>, now: Instant) -> bool {
    let live: Vec<Member> = members
        .iter()
        .filter(|m| m.ext.timeout.live(now))
        .cloned()
        .collect();
    let at = live.iter().position(|m| &*m.name == name);
    at.is_some_and(|at| stands(&live, at, place))
}
