//! The words behind `podpath bench`: scenarios, and captures behind `replay`; sizes such as `1G`.
//!
//! Invariant: a job with a capture is a replay.

use super::args::{BenchArgs, Scenario};
use crate::cli::out;
use clap::builder::{EnumValueParser, PossibleValue, TypedValueParser};
use clap::{Arg, Command, Error};
use std::ffi::OsStr;
use std::path::PathBuf;

/// A word as typed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Word {
    /// A scenario.
    Scenario(Scenario),
    /// A capture, for the `replay` before it.
    File(PathBuf),
}

/// Takes a scenario's name; anything with a dot or a slash is a file.
#[derive(Clone, Debug)]
pub struct WordParser;

impl TypedValueParser for WordParser {
    type Value = Word;

    fn parse_ref(&self, c: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<Word, Error> {
        let text = value.to_string_lossy();
        if text.contains(['.', '/']) {
            return Ok(Word::File(value.into()));
        }
        let scenario = EnumValueParser::<Scenario>::new().parse_ref(c, arg, value)?;
        Ok(Word::Scenario(scenario))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let all = EnumValueParser::<Scenario>::new();
        let all: Vec<PossibleValue> = all.possible_values()?.collect();
        Some(Box::new(all.into_iter()))
    }
}

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Job {
    /// The scenario.
    pub scenario: Scenario,
    /// Its capture, where it is a replay of one that is there.
    pub file: Option<PathBuf>,
}

/// The jobs in order.
pub fn jobs(a: &BenchArgs) -> anyhow::Result<Vec<Job>> {
    let mut jobs: Vec<Job> = Vec::new();
    for word in &a.scenarios {
        match word {
            Word::Scenario(scenario) => jobs.push(Job {
                scenario: *scenario,
                file: None,
            }),
            Word::File(file) => match jobs.last_mut() {
                Some(Job {
                    scenario: Scenario::Replay,
                    file: slot @ None,
                }) => *slot = Some(file.clone()),
                _ => {
                    return Err(out::stop(
                        &file.display().to_string(),
                        "a capture without a replay",
                        "write `podpath bench replay FILE.pcap`",
                    ));
                }
            },
        }
    }
    let nothing = |j: &Job| j.scenario == Scenario::Replay && j.file.is_none();
    if a.make.is_none() && jobs.iter().any(nothing) {
        return Err(out::stop(
            "bench replay",
            "expected a capture",
            "name one, or let one be made: podpath bench replay --make FILE.pcap --bytes 1G",
        ));
    }
    if a.make.is_some() && !jobs.iter().any(nothing) {
        return Err(out::stop(
            "--make",
            "no replay without a capture follows",
            "write `podpath bench replay --make FILE.pcap`",
        ));
    }
    Ok(jobs)
}

/// `1500`, `64k`, `16M`, `1G`: bytes.
pub fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" => 0,
        "k" | "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        unit => return Err(format!("unknown unit {unit:?} (expected k, M or G)")),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("{text:?} is no size (expected 64M or 1G)"))?;
    let bytes = number.checked_mul(1 << shift).filter(|n| *n <= 1 << 40);
    bytes.ok_or_else(|| format!("{text} is more than 1024G"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("1500"), Ok(1500));
        assert_eq!(size("64k"), Ok(65_536));
        assert_eq!(size("1G"), Ok(1 << 30));
        for wrong in ["", "G", "1T", "-1", "99999999G", "1.5G"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
