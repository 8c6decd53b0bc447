//! The bridge plugin's configuration.

use crate::kube::cni::args;
use crate::kube::cni::conf::NetConf;
use crate::kube::cni::json::At;
use serde_json::Value;

/// What the bridge plugin is asked for.
#[derive(Clone, Debug)]
pub struct Conf {
    /// Common fields.
    pub net: NetConf,
    /// `bridge`, default `cni0`.
    pub bridge: String,
    /// `isGateway`, also set by `isDefaultGateway`.
    pub is_gateway: bool,
    /// `isDefaultGateway`
    pub is_default_gateway: bool,
    /// `forceAddress`
    pub force_address: bool,
    /// `ipMasq`
    pub ip_masq: bool,
    /// `mtu`, 0 for the kernel's choice.
    pub mtu: i64,
    /// `hairpinMode`
    pub hairpin: bool,
    /// `promiscMode`
    pub promisc: bool,
    /// `vlan`, 0 for none.
    pub vlan: u16,
    /// `enabledad`
    pub enable_dad: bool,
    /// Link address asked for by `CNI_ARGS`, `args.cni.mac` or `runtimeConfig.mac`; empty for none.
    pub mac: String,
}

impl Conf {
    /// Reads stdin and `CNI_ARGS`.
    pub fn read(conf: &Value, cni_args: &str) -> Result<Self, String> {
        let mut c = load(conf).map_err(|e| format!("failed to load netconf: {e}"))?;
        let vlan = At::root(conf, "main.NetConf")?.int("vlan")?;
        c.vlan = u16::try_from(vlan)
            .ok()
            .filter(|v| *v <= 4094)
            .ok_or_else(|| format!("invalid VLAN ID {vlan} (must be between 0 and 4094)"))?;
        let env = args::load(cni_args, &["MAC"])?;
        if c.mac.is_empty() {
            c.mac = args::last(&env, "MAC").unwrap_or("").to_owned();
        }
        Ok(c)
    }
}

fn load(conf: &Value) -> Result<Conf, String> {
    let at = At::root(conf, "main.NetConf")?;
    let bridge = at
        .raw("bridge")
        .map(|_| at.string("bridge"))
        .transpose()?
        .unwrap_or("cni0")
        .to_owned();
    at.int("vlan")?;
    at.bool("macspoofchk")?;
    Ok(Conf {
        net: NetConf::read(&at)?,
        bridge,
        is_gateway: at.bool("isGateway")?,
        is_default_gateway: at.bool("isDefaultGateway")?,
        force_address: at.bool("forceAddress")?,
        ip_masq: at.bool("ipMasq")?,
        mtu: at.int("mtu")?,
        hairpin: at.bool("hairpinMode")?,
        promisc: at.bool("promiscMode")?,
        vlan: 0,
        enable_dad: at.bool("enabledad")?,
        mac: wanted_mac(&at)?,
    })
}

/// The runtime's wish wins over the configuration's.
fn wanted_mac(at: &At<'_>) -> Result<String, String> {
    let cni = at
        .object("args", "args", "struct")?
        .map(|a| a.object("cni", "args.cni", "main.BridgeArgs"));
    let cni = cni.transpose()?.flatten();
    let runtime = at.object("runtimeConfig", "runtimeConfig", "struct")?;
    for from in [runtime, cni].into_iter().flatten() {
        let mac = from.string("mac")?;
        if !mac.is_empty() {
            return Ok(mac.to_owned());
        }
    }
    Ok(String::new())
}
