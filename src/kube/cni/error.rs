//! A CNI error as a plugin prints it: code, message, details.
//!
//! Codes are those of the CNI specification ("Well-known Error Codes"). The text is the plugin's own, so
//! that a log line of a real node can be compared with ours.

use crate::kube::cni::json;
use serde_json::{Map, Value};

/// Versions do not agree.
pub const INCOMPATIBLE_VERSION: u32 = 1;
/// An environment variable is missing or malformed.
pub const INVALID_ENVIRONMENT: u32 = 4;
/// The configuration is not JSON of the expected shape.
pub const DECODING_FAILURE: u32 = 6;
/// The configuration is missing what it must have.
pub const INVALID_CONFIG: u32 = 7;
/// Everything else (what libcni's `skel` gives an ordinary Go error).
pub const INTERNAL: u32 = 999;

/// What a plugin answers when it fails.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{msg}{}{details}", if details.is_empty() { "" } else { "; " })]
pub struct CniError {
    /// Code.
    pub code: u32,
    /// One sentence.
    pub msg: String,
    /// More; empty when there is none.
    pub details: String,
}

impl CniError {
    /// An error with a code of its own.
    pub fn new(code: u32, msg: impl Into<String>, details: impl Into<String>) -> Self {
        CniError {
            code,
            msg: msg.into(),
            details: details.into(),
        }
    }

    /// The object the plugin prints (containernetworking/cni pkg/types/types.go, `Error`).
    pub fn to_json(&self) -> Value {
        let mut m = Map::new();
        m.insert("code".into(), self.code.into());
        m.insert("msg".into(), self.msg.clone().into());
        if !self.details.is_empty() {
            m.insert("details".into(), self.details.clone().into());
        }
        Value::Object(m)
    }

    /// Reads what another plugin printed; anything unreadable becomes its message.
    pub fn from_json(v: &Value) -> Self {
        let text = |k| {
            v.as_object()
                .and_then(|o| json::get(o, k))
                .and_then(Value::as_str)
                .unwrap_or("")
        };
        let code = v
            .as_object()
            .and_then(|o| json::get(o, "code"))
            .and_then(Value::as_u64);
        CniError::new(
            code.and_then(|c| u32::try_from(c).ok()).unwrap_or(0),
            text("msg"),
            text("details"),
        )
    }
}

impl From<String> for CniError {
    fn from(msg: String) -> Self {
        CniError::new(INTERNAL, msg, "")
    }
}

impl From<&str> for CniError {
    fn from(msg: &str) -> Self {
        CniError::new(INTERNAL, msg, "")
    }
}
