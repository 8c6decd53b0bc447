//! One plugin call: environment and stdin in, stdout and exit code out.
//!
//! The checks that libcni's `skel` makes before a plugin's own code runs, in its order
//! (containernetworking/cni pkg/skel/skel.go, pkg/utils/utils.go, pkg/version).

use crate::kube::cni::error::{
    CniError, DECODING_FAILURE, INCOMPATIBLE_VERSION, INVALID_CONFIG, INVALID_ENVIRONMENT,
};
use crate::kube::cni::host::Host;
use crate::kube::cni::json::{self, At, quote, quote_list};
use crate::kube::cni::{CniPlugin, Command};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What the environment and stdin of a call say.
#[derive(Clone, Debug)]
pub struct CmdArgs {
    /// `CNI_CONTAINERID`
    pub container_id: String,
    /// `CNI_NETNS`: path of the pod's namespace; empty when it is gone.
    pub netns: String,
    /// `CNI_IFNAME`
    pub ifname: String,
    /// `CNI_ARGS`
    pub args: String,
    /// `CNI_PATH`
    pub path: String,
    /// The configuration on stdin.
    pub conf: Value,
}

/// What a call leaves.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Output {
    /// Exit code.
    pub rc: u8,
    /// Everything printed on stdout; empty for a successful CHECK or DEL.
    pub stdout: String,
    /// The same as JSON.
    pub value: Option<Value>,
}

impl Output {
    fn ok(value: Option<Value>) -> Self {
        Output {
            rc: 0,
            stdout: value.as_ref().map(json::pretty).unwrap_or_default(),
            value,
        }
    }

    /// A failed call.
    pub fn failed(e: &CniError) -> Self {
        let v = e.to_json();
        Output {
            rc: 1,
            stdout: json::pretty(&v),
            value: Some(v),
        }
    }
}

/// The environment of a call, by variable name.
pub type Env = BTreeMap<String, String>;

/// Runs a plugin as its binary would run.
pub fn run(plugin: &dyn CniPlugin, env: &Env, stdin: &str, host: &mut Host<'_>) -> Output {
    match dispatch(plugin, env, stdin, host) {
        Ok(v) => Output::ok(v),
        Err(e) => Output::failed(&e),
    }
}

const VARS: &[(&str, bool)] = &[
    ("CNI_CONTAINERID", true),
    ("CNI_NETNS", false),
    ("CNI_IFNAME", true),
    ("CNI_PATH", true),
];

fn dispatch(
    plugin: &dyn CniPlugin,
    env: &Env,
    stdin: &str,
    host: &mut Host<'_>,
) -> Result<Option<Value>, CniError> {
    let var = |k: &str| env.get(k).map_or("", String::as_str);
    let cmd = var("CNI_COMMAND");
    let needs = matches!(cmd, "ADD" | "CHECK" | "DEL");
    let mut missing = Vec::new();
    if cmd.is_empty() {
        missing.push("CNI_COMMAND");
    }
    let wanted = VARS
        .iter()
        .filter(|(_, on_del)| needs && (*on_del || cmd != "DEL"));
    missing.extend(wanted.map(|v| v.0).filter(|k| var(k).is_empty()));
    if !missing.is_empty() {
        let msg = format!("required env variables [{}] missing", missing.join(","));
        return Err(CniError::new(INVALID_ENVIRONMENT, msg, ""));
    }
    if cmd == "VERSION" {
        return Ok(Some(version_info(plugin)));
    }
    let conf = parse_stdin(stdin).map_err(|e| {
        CniError::new(
            DECODING_FAILURE,
            format!("error unmarshall network config: {e}"),
            "",
        )
    })?;
    let args = CmdArgs {
        container_id: var("CNI_CONTAINERID").into(),
        netns: var("CNI_NETNS").into(),
        ifname: var("CNI_IFNAME").into(),
        args: var("CNI_ARGS").into(),
        path: var("CNI_PATH").into(),
        conf,
    };
    let command = match cmd {
        "ADD" => Some(Command::Add),
        "CHECK" => Some(Command::Check),
        "DEL" => Some(Command::Del),
        _ => None,
    };
    validate(&args)?;
    let Some(command) = command else {
        return Err(CniError::new(
            INVALID_ENVIRONMENT,
            format!("unknown CNI_COMMAND: {cmd}"),
            "",
        ));
    };
    call(plugin, command, &args, host)
}

/// Runs a plugin whose arguments are at hand: what a plugin that delegates does.
pub fn delegate(
    plugin: &dyn CniPlugin,
    command: Command,
    args: &CmdArgs,
    host: &mut Host<'_>,
) -> Result<Option<Value>, CniError> {
    validate(args)?;
    call(plugin, command, args, host)
}

fn call(
    plugin: &dyn CniPlugin,
    command: Command,
    args: &CmdArgs,
    host: &mut Host<'_>,
) -> Result<Option<Value>, CniError> {
    let decoding = |e: String| CniError::new(DECODING_FAILURE, e, "");
    let version = decode_version(&args.conf).map_err(decoding)?;
    if command == Command::Check {
        if !at_least(&version, "0.4.0").map_err(decoding)? {
            return Err(CniError::new(
                INCOMPATIBLE_VERSION,
                "config version does not allow CHECK",
                "",
            ));
        }
        let mut newer = false;
        for v in plugin.versions() {
            newer |= at_least(v, &version).map_err(decoding)?;
        }
        if !newer {
            return Err(CniError::new(
                INCOMPATIBLE_VERSION,
                "plugin version does not allow CHECK",
                "",
            ));
        }
    }
    if !plugin.versions().contains(&version.as_str()) {
        let details = format!(
            "config is {}, plugin supports {}",
            quote(&version),
            quote_list(plugin.versions())
        );
        return Err(CniError::new(
            INCOMPATIBLE_VERSION,
            "incompatible CNI versions",
            details,
        ));
    }
    match command {
        Command::Add => plugin.add(args, host).map(Some),
        Command::Check => plugin.check(args, host).map(|()| None),
        Command::Del => plugin.del(args, host).map(|()| None),
    }
}

/// What `CNI_COMMAND=VERSION` prints.
pub fn version_info(plugin: &dyn CniPlugin) -> Value {
    let mut m = Map::new();
    m.insert("cniVersion".into(), "1.0.0".into());
    m.insert("supportedVersions".into(), plugin.versions().into());
    m.into()
}

fn parse_stdin(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|e| {
        if e.is_eof() {
            "unexpected end of JSON input".into()
        } else {
            format!("invalid character: {e}")
        }
    })
}

/// `^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`
fn valid_name(s: &str) -> bool {
    let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    s.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric()) && s.bytes().all(ok)
}

fn validate(a: &CmdArgs) -> Result<(), CniError> {
    let undecodable = |e: String| {
        CniError::new(
            DECODING_FAILURE,
            format!("error unmarshall network config: {e}"),
            "",
        )
    };
    let conf =
        At::root(&a.conf, "struct { Name string \"json:\\\"name\\\"\" }").map_err(undecodable)?;
    let name = conf.string("name").map_err(undecodable)?;
    if name.is_empty() {
        return Err(CniError::new(INVALID_CONFIG, "missing network name", ""));
    }
    if !valid_name(name) {
        return Err(CniError::new(
            INVALID_CONFIG,
            "invalid characters found in network name",
            name,
        ));
    }
    if !valid_name(&a.container_id) {
        return Err(CniError::new(
            INVALID_ENVIRONMENT,
            "invalid characters in containerID",
            &*a.container_id,
        ));
    }
    valid_ifname(&a.ifname)
}

fn valid_ifname(n: &str) -> Result<(), CniError> {
    let bad = |msg: &str, details: &str| Err(CniError::new(INVALID_ENVIRONMENT, msg, details));
    if n.is_empty() {
        bad("interface name is empty", "")
    } else if n.len() > 15 {
        bad(
            "interface name is too long",
            "interface name should be less than 16 characters",
        )
    } else if n == "." || n == ".." {
        bad("interface name is . or ..", "")
    } else if n.contains(|c: char| c == '/' || c == ':' || c.is_whitespace()) {
        bad(
            "interface name contains / or : or whitespace characters",
            "",
        )
    } else {
        Ok(())
    }
}

/// The version a configuration or result says it has; 0.1.0 when it says none.
pub fn decode_version(conf: &Value) -> Result<String, String> {
    let wrap = |e: String| format!("decoding version from network config: {e}");
    let at = At::root(
        conf,
        "struct { CNIVersion string \"json:\\\"cniVersion\\\"\" }",
    )
    .map_err(wrap)?;
    let v = at.string("cniVersion").map_err(wrap)?;
    Ok(if v.is_empty() {
        "0.1.0".into()
    } else {
        v.into()
    })
}

/// Whether version `a` is `b` or newer (`GreaterThanOrEqualTo`).
pub fn at_least(a: &str, b: &str) -> Result<bool, String> {
    Ok(parse_version(a)? >= parse_version(b)?)
}

fn parse_version(v: &str) -> Result<[i64; 3], String> {
    if v.is_empty() {
        return Err("invalid version \"\": the version is empty".into());
    }
    let parts: Vec<&str> = v.split('.').collect();
    if parts.len() >= 4 {
        return Err(format!("invalid version {}: too many parts", quote(v)));
    }
    let mut out = [0; 3];
    for ((slot, part), name) in out.iter_mut().zip(&parts).zip(["major", "minor", "micro"]) {
        *slot = part.parse().map_err(|_| {
            let q = quote(part);
            format!("failed to convert {name} version part {q}: strconv.Atoi: parsing {q}: invalid syntax")
        })?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_versions() {
        assert!(
            valid_name("a") && valid_name("a-b_c.9") && !valid_name("-a") && !valid_name("a/b")
        );
        assert!(at_least("0.4.0", "0.3.1").unwrap() && !at_least("0.3.1", "0.4.0").unwrap());
        assert!(at_least("1.0", "0.4.0").unwrap());
        assert_eq!(
            at_least("1.2.3.4", "0.4.0").unwrap_err(),
            "invalid version \"1.2.3.4\": too many parts"
        );
    }
}
