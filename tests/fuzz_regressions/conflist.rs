//! Any bytes as a conflist: parsed and, if that succeeds, ADD, CHECK and DEL of it.

use podpath::base::{NodeId, NsId, Origin};
use podpath::kube::cni::list::{NetworkList, Results, RuntimeConf};
use podpath::kube::cni::{CniState, Host, NodeNamespaces, Registry};
use podpath::net::NetNs;

/// No panic, whatever the configuration asks for.
pub fn run(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else {
        return;
    };
    let (Some(list), _) = NetworkList::parse("fuzz", text) else {
        return;
    };
    if list.plugins.len() > 16 {
        return;
    }
    let mut nss = NodeNamespaces::new(NetNs::new(NsId(0), "n1", NodeId(0)));
    nss.add_pod("/run/netns/a", NetNs::new(NsId(1), "a", NodeId(0)));
    let mut state = CniState::new(1);
    let env = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
    state
        .files
        .insert("/run/flannel/subnet.env".into(), env.into());
    let plugins = Registry::standard();
    let mut host = Host::new(&mut nss, &mut state, &plugins, Origin::Kernel);
    let rt = RuntimeConf {
        container_id: "c".into(),
        netns: "/run/netns/a".into(),
        ifname: "eth0".into(),
        ..RuntimeConf::default()
    };
    let mut results = Results::new();
    let _ = list.add(&rt, &mut host, &mut results);
    let _ = list.check(&rt, &mut host, &results);
    let _ = list.del(&rt, &mut host, &mut results);
}
