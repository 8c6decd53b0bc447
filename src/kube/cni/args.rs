//! `CNI_ARGS`: `KEY=VALUE;KEY=VALUE`.
//!
//! As `types.LoadArgs` reads them: a key the plugin does not know is an error unless `IgnoreUnknown` is
//! true (containernetworking/cni pkg/types/args.go). Keys are case-sensitive.

use crate::kube::cni::json::{quote, quote_list};

/// The values of the keys in `known`, in order of appearance.
pub fn load(args: &str, known: &[&str]) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    let mut unknown = Vec::new();
    let mut ignore = false;
    if args.is_empty() {
        return Ok(found);
    }
    for pair in args.split(';') {
        let kv: Vec<&str> = pair.split('=').collect();
        let [key, value] = kv.as_slice() else {
            return Err(format!("ARGS: invalid pair {}", quote(pair)));
        };
        if *key == "IgnoreUnknown" {
            ignore = boolean(pair, value)?;
        } else if known.contains(key) {
            found.push(((*key).to_owned(), (*value).to_owned()));
        } else {
            unknown.push(pair);
        }
    }
    if !unknown.is_empty() && !ignore {
        return Err(format!("ARGS: unknown args {}", quote_list(&unknown)));
    }
    Ok(found)
}

fn boolean(pair: &str, value: &str) -> Result<bool, String> {
    let v = value.to_lowercase();
    match v.as_str() {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(bad_value(
            pair,
            &format!("boolean unmarshal error: invalid input {v}"),
        )),
    }
}

/// A value that its field refuses.
pub fn bad_value(pair: &str, why: &str) -> String {
    format!("ARGS: error parsing value of pair {}: {why}", quote(pair))
}

/// The last value of `key`, if there is one that is not empty.
pub fn last<'a>(found: &'a [(String, String)], key: &str) -> Option<&'a str> {
    found
        .iter()
        .rev()
        .find(|(k, _)| k == key)
        .map(|(_, v)| v.as_str())
        .filter(|v| !v.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_need_leave() {
        assert_eq!(
            load("K8S_POD_NAME=x;b", &["IP"]).unwrap_err(),
            "ARGS: invalid pair \"b\""
        );
        assert_eq!(
            load("K8S_POD_NAME=x", &["IP"]).unwrap_err(),
            "ARGS: unknown args [\"K8S_POD_NAME=x\"]"
        );
        let got = load("IgnoreUnknown=True;K8S_POD_NAME=x;IP=1.2.3.4", &["IP"]).unwrap();
        assert_eq!(last(&got, "IP"), Some("1.2.3.4"));
        assert!(
            load("IgnoreUnknown=yes", &[])
                .unwrap_err()
                .contains("invalid input yes")
        );
    }
}
