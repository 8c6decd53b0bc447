//! Where the recordings are: a folder laid out like ../shared/oracle, and the archives of tests/recordings.
//!
//! `PODPATH_ORACLE` names the folder (default `../shared/oracle`, or `tests/recordings/oracle.tar.gz` where
//! that is absent); it may hold only some of `captures/`, `cni/`, `ipvs/`. `tests/recordings/own.tar.gz` is
//! always read too. A recording is called `captures/NAME`, `cni/NAME`, `ipvs/NAME`, and one of our own
//! captures `own/NAME`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

/// What a recording shows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Frames at interfaces.
    Captures,
    /// CNI plugin calls.
    Cni,
    /// IPVS scheduling decisions.
    Ipvs,
}

impl Kind {
    /// All kinds, in the order they are run.
    pub const ALL: [Kind; 3] = [Kind::Captures, Kind::Cni, Kind::Ipvs];

    /// The folder's name.
    pub fn dir(self) -> &'static str {
        match self {
            Kind::Captures => "captures",
            Kind::Cni => "cni",
            Kind::Ipvs => "ipvs",
        }
    }
}

/// One place recordings come from.
enum Store {
    Folder(PathBuf),
    Archive(BTreeMap<String, Vec<u8>>),
}

/// A named place of recordings.
pub struct Source {
    /// As shown to the user.
    pub label: String,
    /// Whether these are our own recordings (`own.tar.gz`).
    pub own: bool,
    store: Store,
}

impl Source {
    /// A folder.
    pub fn folder(path: &Path) -> Result<Self, String> {
        if !path.is_dir() {
            return Err(format!("{}: not a folder", path.display()));
        }
        Ok(Source {
            label: path.display().to_string(),
            own: false,
            store: Store::Folder(path.to_path_buf()),
        })
    }

    /// A .tar.gz, read into memory; a leading `./` of its names is dropped.
    pub fn archive(path: &Path, own: bool) -> Result<Self, String> {
        let label = path.display().to_string();
        let fail = |e: std::io::Error| format!("{label}: {e}");
        let file = std::fs::File::open(path).map_err(fail)?;
        let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(file));
        let mut files = BTreeMap::new();
        for entry in tar.entries().map_err(fail)? {
            let mut entry = entry.map_err(fail)?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let name = entry
                .path()
                .map_err(fail)?
                .to_string_lossy()
                .trim_start_matches("./")
                .to_owned();
            let mut data = Vec::new();
            entry.read_to_end(&mut data).map_err(fail)?;
            files.insert(name, data);
        }
        Ok(Source {
            label,
            own,
            store: Store::Archive(files),
        })
    }

    /// The bytes of `name`, a path inside the source.
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        match &self.store {
            Store::Folder(dir) => std::fs::read(dir.join(name)).ok(),
            Store::Archive(files) => files.get(name).cloned(),
        }
    }

    /// Names directly below the folder `dir`, sorted.
    pub fn list(&self, dir: &str) -> Vec<String> {
        let names: BTreeSet<String> = match &self.store {
            Store::Folder(root) => std::fs::read_dir(root.join(dir))
                .map(|d| {
                    d.flatten()
                        .map(|e| e.file_name().to_string_lossy().into_owned())
                        .collect()
                })
                .unwrap_or_default(),
            Store::Archive(files) => {
                let prefix = if dir.is_empty() {
                    String::new()
                } else {
                    format!("{dir}/")
                };
                let below = files.keys().filter_map(|k| k.strip_prefix(&prefix));
                below
                    .filter_map(|k| k.split('/').next())
                    .map(str::to_owned)
                    .collect()
            }
        };
        names.into_iter().collect()
    }

    /// The names of the recordings of one kind.
    fn names(&self, kind: Kind) -> Vec<String> {
        match kind {
            Kind::Captures => {
                let here = self.list("captures").into_iter();
                here.filter(|n| self.read(&format!("captures/{n}/scenario.json")).is_some())
                    .collect()
            }
            Kind::Cni | Kind::Ipvs => {
                let here = self.list(&format!("{}/results", kind.dir()));
                here.iter()
                    .filter_map(|n| n.strip_suffix(".json"))
                    .map(str::to_owned)
                    .collect()
            }
        }
    }
}

/// One recording: where it is and what it is called.
pub struct Recording<'a> {
    /// The source it lies in.
    pub source: &'a Source,
    /// Its kind.
    pub kind: Kind,
    /// Its own name, without the kind.
    pub name: String,
}

impl Recording<'_> {
    /// The name under which it is selected, printed and pinned.
    pub fn label(&self) -> String {
        let kind = if self.source.own && self.kind == Kind::Captures {
            "own"
        } else {
            self.kind.dir()
        };
        format!("{kind}/{}", self.name)
    }

    /// A file of a capture's folder.
    pub fn file(&self, name: &str) -> Option<Vec<u8>> {
        self.source.read(&format!("captures/{}/{name}", self.name))
    }

    /// A file of a capture's folder as text.
    pub fn text(&self, name: &str) -> Option<String> {
        self.file(name).and_then(|b| String::from_utf8(b).ok())
    }
}

/// All sources of one run.
pub struct Recordings {
    beside: PathBuf,
    sources: Vec<Source>,
}

impl Recordings {
    /// Finds the sources below the package folder `root`; `oracle` is the value of `PODPATH_ORACLE`.
    pub fn find(root: &Path, oracle: Option<&str>) -> Result<Self, String> {
        let mut sources = Vec::new();
        let (beside, packed) = (
            root.join("../shared/oracle"),
            root.join("tests/recordings/oracle.tar.gz"),
        );
        match oracle {
            Some(dir) => sources
                .push(Source::folder(Path::new(dir)).map_err(|e| format!("PODPATH_ORACLE: {e}"))?),
            None if beside.is_dir() => sources.push(Source::folder(&beside)?),
            None if packed.is_file() => sources.push(Source::archive(&packed, false)?),
            None => {}
        }
        let own = root.join("tests/recordings/own.tar.gz");
        if own.is_file() {
            sources.push(Source::archive(&own, true)?);
        }
        if sources.is_empty() {
            return Err(
                "no recordings: set PODPATH_ORACLE to a folder with captures/, cni/ or ipvs/"
                    .to_owned(),
            );
        }
        Ok(Recordings { beside, sources })
    }

    /// Every recording, sorted by source and kind.
    pub fn all(&self) -> Vec<Recording<'_>> {
        let mut out = Vec::new();
        for source in &self.sources {
            for kind in Kind::ALL {
                out.extend(source.names(kind).into_iter().map(|name| Recording {
                    source,
                    kind,
                    name,
                }));
            }
        }
        out
    }

    /// A file that scenarios name as `@oracle/...`: from any source, or else from the default folder, since a
    /// folder of recordings alone does not have the rule files they name.
    pub fn shared(&self, name: &str) -> Option<Vec<u8>> {
        let found = self.sources.iter().find_map(|s| s.read(name));
        found.or_else(|| std::fs::read(self.beside.join(name)).ok())
    }

    /// The places in use, for the reader of the output.
    pub fn labels(&self) -> Vec<&str> {
        self.sources.iter().map(|s| s.label.as_str()).collect()
    }
}
