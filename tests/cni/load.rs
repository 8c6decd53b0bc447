//! The recorded cases, from the oracle's folder or the archive of it.

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// A recorded plugin call.
pub struct Call {
    pub plugin: String,
    pub stdin: Value,
    pub rc: i64,
    pub stdout: Value,
}

/// A step: one command to a list of plugins, and the state after it.
pub struct Step {
    pub env: BTreeMap<String, String>,
    pub spec: Value,
    pub calls: Vec<Call>,
    pub state: Value,
}

/// A case.
pub struct Case {
    pub name: String,
    pub conflist: Value,
    pub prepare: Vec<String>,
    pub ipam_only: bool,
    pub steps: Vec<Step>,
}

/// All cases by name.
pub fn cases() -> Vec<Case> {
    let files = files();
    let names = files
        .keys()
        .filter_map(|n| n.strip_prefix("results/")?.strip_suffix(".json"));
    names
        .map(|n| {
            named(
                n,
                &files["cases.json"],
                &files[&format!("results/{n}.json")],
            )
        })
        .collect()
}

/// One case: the text of `cases.json` says whether host-local is called directly, the other what happened.
pub fn named(name: &str, specs: &str, text: &str) -> Case {
    let specs: Value = serde_json::from_str(specs).expect("cases.json");
    let only: Vec<&str> = specs
        .as_array()
        .expect("a list of cases")
        .iter()
        .filter(|c| c["ipam_only"] == true)
        .filter_map(|c| c["name"].as_str())
        .collect();
    case(name, text, &only)
}

fn case(file: &str, text: &str, ipam_only: &[&str]) -> Case {
    let v: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{file}: {e}"));
    let name = v["name"].as_str().expect("a name").to_owned();
    let strings = |v: &Value| -> Vec<String> {
        v.as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    };
    Case {
        conflist: v["conflist"].clone(),
        prepare: strings(&v["prepare"]),
        ipam_only: ipam_only.contains(&name.as_str()),
        steps: v["steps"]
            .as_array()
            .expect("steps")
            .iter()
            .map(step)
            .collect(),
        name,
    }
}

fn step(v: &Value) -> Step {
    let env = v["env"].as_object().expect("env");
    let call = |c: &Value| Call {
        plugin: c["plugin"].as_str().unwrap_or("").to_owned(),
        stdin: c["stdin"].clone(),
        rc: c["rc"].as_i64().expect("rc"),
        stdout: c["stdout"].clone(),
    };
    Step {
        env: env
            .iter()
            .map(|(k, v)| (k.clone(), v.as_str().unwrap_or("").to_owned()))
            .collect(),
        spec: v["step"].clone(),
        calls: v["calls"]
            .as_array()
            .expect("calls")
            .iter()
            .map(call)
            .collect(),
        state: v["state"].clone(),
    }
}

/// Files below `cni/` by path.
fn files() -> BTreeMap<String, String> {
    let dir = std::env::var("PODPATH_ORACLE").unwrap_or_else(|_| "../shared/oracle".into());
    let cni = Path::new(&dir).join("cni");
    if cni.join("cases.json").is_file() {
        return from_folder(&cni);
    }
    println!(
        "NO FOLDER {}: using tests/recordings/oracle.tar.gz",
        cni.display()
    );
    from_archive(Path::new("tests/recordings/oracle.tar.gz"))
}

fn from_folder(dir: &Path) -> BTreeMap<String, String> {
    let read =
        |p: &Path| std::fs::read_to_string(p).unwrap_or_else(|e| panic!("{}: {e}", p.display()));
    let mut out = BTreeMap::from([("cases.json".to_owned(), read(&dir.join("cases.json")))]);
    for entry in std::fs::read_dir(dir.join("results"))
        .expect("results")
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".json") {
            out.insert(format!("results/{name}"), read(&entry.path()));
        }
    }
    out
}

fn from_archive(file: &Path) -> BTreeMap<String, String> {
    let f = std::fs::File::open(file).unwrap_or_else(|e| {
        panic!(
            "NO CNI RECORDINGS: neither PODPATH_ORACLE nor {}: {e}",
            file.display()
        )
    });
    let mut out = BTreeMap::new();
    for entry in tar::Archive::new(flate2::read::GzDecoder::new(f))
        .entries()
        .expect("an archive")
    {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").to_string_lossy().into_owned();
        if let Some(name) = path
            .trim_start_matches("./")
            .strip_prefix("cni/")
            .filter(|n| n.ends_with(".json"))
        {
            let mut text = String::new();
            entry.read_to_string(&mut text).expect("text");
            out.insert(name.to_owned(), text);
        }
    }
    assert!(
        out.contains_key("cases.json"),
        "{} holds no CNI recordings",
        file.display()
    );
    out
}
