//! Starting podpath in a folder of the test's own, with an environment that no terminal colours or widens.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Folders made so far: tests run side by side.
static FOLDERS: AtomicU32 = AtomicU32::new(0);

/// The package's own folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The topology that the captures in pcaps/ are replayed in, as `-t` takes it.
pub fn vxlan() -> String {
    format!("{}/topologies/two-node-vxlan", root().display())
}

/// A capture of pcaps/ by its path.
pub fn capture(name: &str) -> String {
    format!("{}/pcaps/{name}", root().display())
}

/// A folder that is removed when the test ends.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        let n = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("podpath-cli-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a temporary folder");
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file into it.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, content).expect("a file");
        self
    }

    /// Runs podpath in it.
    pub fn podpath(&self, args: &[&str]) -> Run {
        let o = command(args)
            .current_dir(&self.0)
            .output()
            .expect("podpath");
        Run {
            args: args.join(" "),
            code: o.status.code(),
            out: String::from_utf8(o.stdout).expect("UTF-8"),
            err: String::from_utf8(o.stderr).expect("UTF-8"),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// podpath, not started yet.
pub fn command(args: &[&str]) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_podpath"));
    for name in [
        "NO_COLOR",
        "CLICOLOR",
        "CLICOLOR_FORCE",
        "FORCE_COLOR",
        "TERM",
    ] {
        c.env_remove(name);
    }
    c.env("COLUMNS", "100").args(args).stdin(Stdio::null());
    c
}

/// Runs podpath where no files of the test's own are needed.
pub fn podpath(args: &[&str]) -> Run {
    Folder::new().podpath(args)
}

/// What a run left.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run {
    pub args: String,
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Run {
    /// The same run, if it ended as promised.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "podpath {}\n{}{}",
            self.args,
            self.out,
            self.err
        );
        self
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|e| panic!("podpath {}: {e}\n{}", self.args, self.out))
    }

    /// Command, standard error and exit code, paths of this machine taken out.
    pub fn said(&self) -> String {
        let mut s = String::new();
        let _ = writeln!(s, "$ podpath {}", self.args);
        let _ = write!(s, "{}[exit {}]\n\n", self.err, self.code.unwrap_or(-1));
        s.replace(&format!("{}/", root().display()), "")
    }
}
