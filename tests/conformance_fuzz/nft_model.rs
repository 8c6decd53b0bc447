//! Native rules in podpath: loading a script, listing.

use podpath::base::{Instant, NsId};
use podpath::nf::nft::Script;
use podpath::sim::{Captures, World};

/// Virtual time of loading.
const LOADED: Instant = Instant::from_millis(999_990);

/// Loads a script, all of it or nothing.
pub fn load(world: &mut World, ns: NsId, script: &str) -> Result<(), String> {
    if script.is_empty() {
        return Ok(());
    }
    // Just before the first frame: elements' times run from here.
    world.run_until(LOADED, &mut Captures::at([]));
    let now = world.now();
    let nf = world.ns_mut(ns).ok_or("no namespace")?.nf_mut();
    let mut set = nf.nft_ruleset(now);
    let (script, findings) = Script::parse("script", script, &set);
    if let Some(f) = findings.first() {
        return Err(f.to_string());
    }
    set.apply(&script).map_err(|f| f.to_string())?;
    nf.set_nft(set, now);
    Ok(())
}

/// All native rules, if the script has any.
pub fn list(world: &World, ns: NsId, script: &str) -> String {
    let nf = world.ns(ns).and_then(|ns| ns.nf());
    match nf.filter(|_| !script.is_empty()) {
        Some(nf) => nf.nft_ruleset(world.now()).to_json().to_string(),
        None => String::new(),
    }
}
