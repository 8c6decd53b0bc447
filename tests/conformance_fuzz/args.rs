//! The command line.

/// What the rules of a round are written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// iptables alone.
    Iptables,
    /// nftables alone.
    Nft,
    /// iptables and nftables.
    Both,
}

/// What to do.
#[derive(Debug, Default)]
pub struct Args {
    /// New rounds; none: what is kept is replayed.
    pub rounds: Option<u64>,
    /// The first round's number.
    pub first: u64,
    /// Seed; drawn from the clock when absent.
    pub seed: Option<u64>,
    /// Frames of a round.
    pub packets: usize,
    /// Go on after a difference, and shrink none.
    pub keep_going: bool,
    /// Where this machine cannot run it, say so and end well.
    pub may_skip: bool,
    /// Keep rounds in this file (`.jsonl.gz`) instead of comparing them.
    pub record: Option<String>,
    /// Compare the kernel with itself: what differs then is drawn by it, or the comparison is too sharp.
    pub twice: bool,
    /// What the rules are written in; nothing: mixed.
    pub kind: Option<Kind>,
    /// Everything that differs.
    pub verbose: bool,
    /// Replay only rounds whose name holds one of these.
    pub names: Vec<String>,
}

impl Args {
    /// Reads the arguments (without the program's name).
    pub fn parse(args: impl Iterator<Item = String>) -> Result<Args, String> {
        let mut out = Args {
            packets: 40,
            ..Args::default()
        };
        let mut args = args;
        while let Some(a) = args.next() {
            let mut number = || -> Result<u64, String> {
                let v = args.next().unwrap_or_default();
                v.parse().map_err(|_| format!("{a} {v}: a number"))
            };
            match a.as_str() {
                "--rounds" => out.rounds = Some(number()?),
                "--first" => out.first = number()?,
                "--seed" => out.seed = Some(number()?),
                "--packets" => out.packets = number()? as usize,
                "--keep-going" => out.keep_going = true,
                "--may-skip" => out.may_skip = true,
                "--kernel-twice" => out.twice = true,
                "--record" => out.record = args.next(),
                "--kind" => out.kind = kind(args.next().as_deref())?,
                "-v" | "--verbose" => out.verbose = true,
                // Options that `cargo test` users pass to the standard harness.
                "--test-threads" | "--format" | "--color" | "--skip" => drop(args.next()),
                "--nocapture" | "--no-capture" | "--show-output" | "--exact" | "-q" | "--quiet" => {
                }
                _ if a.starts_with('-') => {
                    return Err(format!(
                        "unknown option {a}; known: --rounds N --first N --seed S --packets N --keep-going \
                         --may-skip --kernel-twice --kind iptables|nft|both|mixed --record FILE -v NAME..."
                    ));
                }
                _ => out.names.push(a),
            }
        }
        Ok(out)
    }
}

fn kind(word: Option<&str>) -> Result<Option<Kind>, String> {
    Ok(Some(match word {
        Some("iptables") => Kind::Iptables,
        Some("nft") => Kind::Nft,
        Some("both") => Kind::Both,
        Some("mixed") => return Ok(None),
        _ => return Err("--kind iptables, nft, both or mixed".to_owned()),
    }))
}
