//! The part of a configuration that every plugin shares (`types.NetConf`) and the previous result in it.

use crate::kube::cni::json::{At, Obj};
use crate::kube::cni::result::{CniResult, Dns};
use serde_json::Value;

/// Common fields.
#[derive(Clone, Debug)]
pub struct NetConf {
    /// `name`
    pub name: String,
    /// `cniVersion`, possibly empty.
    pub version: String,
    /// `ipam.type`, possibly empty.
    pub ipam_type: String,
    /// `dns`
    pub dns: Dns,
    /// `prevResult`
    pub prev_result: Option<Value>,
}

impl NetConf {
    /// Reads the common fields of `conf`.
    pub fn read(conf: &At<'_>) -> Result<Self, String> {
        let ipam = conf.object("ipam", "ipam", "types.IPAM")?;
        Ok(NetConf {
            name: conf.string("name")?.to_owned(),
            version: conf.string("cniVersion")?.to_owned(),
            ipam_type: ipam
                .map(|i| i.string("type"))
                .transpose()?
                .unwrap_or("")
                .to_owned(),
            dns: Dns::read(conf, "dns")?,
            prev_result: conf
                .object("prevResult", "prevResult", "map[string]interface {}")?
                .and_then(|_| conf.raw("prevResult").cloned()),
        })
    }

    /// The previous result, read as the configuration's version (`version.ParsePrevResult`); `None` when the
    /// configuration has none.
    pub fn previous(&self) -> Result<Option<CniResult>, String> {
        let Some(Value::Object(prev)) = &self.prev_result else {
            return Ok(None);
        };
        let said = prev
            .iter()
            .rev()
            .find(|(k, _)| k.eq_ignore_ascii_case("cniVersion"));
        let mut prev: Obj = prev.clone();
        if said.is_none() {
            prev.insert("cniVersion".into(), self.version.clone().into());
        }
        CniResult::from_json(&Value::Object(prev), &self.version)
            .map(Some)
            .map_err(|e| format!("could not parse prevResult: {e}"))
    }
}
