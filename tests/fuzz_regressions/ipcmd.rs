//! Any text as `ip`, `bridge` and `sysctl` lines, carried out on a namespace with a few devices.

use podpath::base::{Instant, NodeId, NsId, Origin, Span};
use podpath::import::ipcmd;
use podpath::net::NetNs;

/// No panic, however the lines are combined.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut ns = NetNs::new(NsId(0), "fuzz", NodeId(0));
    let devices = "ip link add d0 type dummy; ip link add br0 type bridge; ip link add d1 type dummy master br0";
    for line in ipcmd::split_script(devices)
        .into_iter()
        .chain(ipcmd::split_script(&text))
    {
        let parsed = ipcmd::parse(line, &Span::default());
        let _ = ipcmd::parse_batch(line, &Span::default());
        if let Ok(command) = parsed {
            let _ = ipcmd::apply(&command, &mut ns.edit(), Instant::ZERO, &Origin::Kernel);
        }
    }
}
