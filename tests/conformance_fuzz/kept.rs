//! Rounds kept as data: the corpus, and a file for every difference that was once found.

use super::round::Round;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// Every kept round with its name: regressions first.
pub fn all() -> Result<Vec<(String, Round)>, String> {
    let mut out = Vec::new();
    let dir = data().join("nf_regressions");
    let mut paths: Vec<PathBuf> = match std::fs::read_dir(&dir) {
        Ok(read) => read.flatten().map(|e| e.path()).collect(),
        Err(_) => Vec::new(),
    };
    paths.retain(|p| p.extension().is_some_and(|e| e == "json"));
    paths.sort();
    for p in paths {
        let fail = |e: &dyn std::fmt::Display| format!("{}: {e}", p.display());
        let text = std::fs::read_to_string(&p).map_err(|e| fail(&e))?;
        let round = serde_json::from_str(&text).map_err(|e| fail(&e))?;
        let stem = p.file_stem().unwrap_or_default().to_string_lossy();
        out.push((format!("regression/{stem}"), round));
    }
    for (name, file) in [
        ("corpus", "nf_corpus.jsonl.gz"),
        ("nft", "nft_corpus.jsonl.gz"),
    ] {
        corpus(name, &data().join(file), &mut out)?;
    }
    Ok(out)
}

/// The rounds of a corpus.
fn corpus(name: &str, corpus: &Path, out: &mut Vec<(String, Round)>) -> Result<(), String> {
    let fail = |e: &dyn std::fmt::Display| format!("{}: {e}", corpus.display());
    let file = std::fs::File::open(corpus).map_err(|e| fail(&e))?;
    let mut text = String::new();
    GzDecoder::new(file)
        .read_to_string(&mut text)
        .map_err(|e| fail(&e))?;
    for line in text.lines() {
        let round: Round = serde_json::from_str(line).map_err(|e| fail(&e))?;
        out.push((format!("{name}/{}-{}", round.seed, round.number), round));
    }
    Ok(())
}

/// Writes a corpus.
pub fn write_corpus(path: &str, rounds: &[Round]) -> Result<(), String> {
    let fail = |e: &dyn std::fmt::Display| format!("{path}: {e}");
    let file = std::fs::File::create(path).map_err(|e| fail(&e))?;
    let mut gz = GzEncoder::new(file, Compression::best());
    for r in rounds {
        let line = serde_json::to_string(r).map_err(|e| fail(&e))?;
        writeln!(gz, "{line}").map_err(|e| fail(&e))?;
    }
    gz.finish().map_err(|e| fail(&e))?;
    Ok(())
}

/// Keeps a round that differed; its path.
pub fn write_regression(r: &Round) -> Result<String, String> {
    let dir = data().join("nf_regressions");
    let path = dir.join(format!("{}-{}.json", r.seed, r.number));
    let fail = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let text = serde_json::to_string_pretty(r).map_err(|e| fail(&e))?;
    std::fs::create_dir_all(&dir).map_err(|e| fail(&e))?;
    std::fs::write(&path, text + "\n").map_err(|e| fail(&e))?;
    Ok(path.display().to_string())
}

/// A round for people.
pub fn describe(r: &Round) -> String {
    let family = match (r.v6, r.dual) {
        (_, true) => "both families",
        (false, _) => "IPv4",
        (true, _) => "IPv6",
    };
    let mut out = format!(
        "{family}, {:?}, {:?}, {:?}{}\n{}{}{}",
        r.shape,
        r.backend,
        r.sysctl,
        if r.nft_first { ", nft first" } else { "" },
        r.sets,
        r.rules,
        r.nft
    );
    for s in &r.sent {
        let hex: String = s.data.iter().map(|b| format!("{b:02x}")).collect();
        out += &format!("{:>6} us {} {} {hex}\n", s.t_us, s.at, s.what);
    }
    out
}
