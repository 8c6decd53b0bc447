//! Netfilter of one namespace of a world, as the judges use it: load, command, force, read out.
//!
//! The one place in the tests that knows how podpath does it.

use podpath::base::NsId;
use podpath::nf::ct::CtTuple;
use podpath::nf::forced::Choice;
use podpath::nf::{Backend, Family};
use podpath::sim::World;

/// Whether podpath has an engine; the judges that need one say so while it has not.
pub const READY: bool = false;
const LACKS: &str = "needs netfilter";

/// Carries out the input of `iptables-restore`.
pub fn restore(
    world: &mut World,
    ns: NsId,
    family: Family,
    backend: Backend,
    noflush: bool,
    text: &str,
) -> Result<(), String> {
    let _ = (world, ns, family, backend, noflush, text);
    Err(LACKS.to_owned())
}

/// Carries out a line that begins with iptables, ip6tables or one of their relatives.
pub fn command(world: &mut World, ns: NsId, line: &str) -> Result<String, String> {
    let _ = (world, ns, line);
    Err(LACKS.to_owned())
}

/// Carries out the input of `ipset restore`.
pub fn restore_sets(world: &mut World, ns: NsId, text: &str) -> Result<(), String> {
    let _ = (world, ns, text);
    Err(LACKS.to_owned())
}

/// Carries out a line that begins with conntrack: `-F`, `-D`.
pub fn conntrack_command(world: &mut World, ns: NsId, line: &str) -> Result<(), String> {
    let _ = (world, ns, line);
    Err(LACKS.to_owned())
}

/// What `iptables-save -c` prints.
pub fn save(world: &World, ns: NsId, family: Family, backend: Backend) -> Result<String, String> {
    let _ = (world, ns, family, backend);
    Err(LACKS.to_owned())
}

/// What `conntrack -L -o extended` prints.
pub fn connections(world: &mut World, ns: NsId, family: Family) -> Result<Vec<String>, String> {
    let _ = (world, ns, family);
    Err(LACKS.to_owned())
}

/// What `ipset save` prints.
pub fn save_sets(world: &mut World, ns: NsId) -> Result<String, String> {
    let _ = (world, ns);
    Err(LACKS.to_owned())
}

/// Decides for a connection.
pub fn force(world: &mut World, ns: NsId, orig: CtTuple, choice: Choice) {
    if let Some(ns) = world.ns_mut(ns) {
        ns.nf_mut().forced.insert(orig, choice);
    }
}
