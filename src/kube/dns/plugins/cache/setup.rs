//! The words of `cache`: `plugin/cache/setup.go`.

use core::time::Duration;

use hickory_proto::rr::Name;

use super::super::super::config::Reader;
use super::super::super::corefile::Line;
use crate::base::limits::DNS_CACHE_MAX;

/// Entries of a store by default: 256 shards of 39.
const CAPACITY: usize = 9_984;

/// Bounds of one store.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    pub capacity: usize,
    /// Seconds.
    pub most: u32,
    /// Seconds.
    pub least: u32,
    /// Zones whose replies are not kept.
    pub except: Vec<Name>,
}

/// `prefetch AMOUNT [DURATION [PERCENT%]]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prefetch {
    pub amount: u32,
    pub every: Duration,
    pub percent: u32,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub zones: Vec<Name>,
    pub success: Bounds,
    pub denial: Bounds,
    /// Seconds that failures are kept.
    pub failure: u32,
    pub prefetch: Option<Prefetch>,
    /// `serve_stale`: for how long.
    pub stale: Option<Duration>,
    /// `serve_stale ... verify`.
    pub verify: bool,
    pub keep_ttl: bool,
}

impl Settings {
    /// The TTL that a reply with so many seconds left carries.
    pub(super) fn shown(&self, left: i64, whole: u32) -> u32 {
        if self.keep_ttl {
            whole
        } else {
            u32::try_from(left).unwrap_or(0)
        }
    }

    pub(super) fn read(line: &Line, reader: &mut Reader<'_>) -> Settings {
        let bounds = |most: u32| Bounds {
            capacity: CAPACITY,
            most,
            least: 5,
            except: Vec::new(),
        };
        let mut out = Settings {
            zones: Vec::new(),
            success: bounds(3_600),
            denial: bounds(1_800),
            failure: 5,
            prefetch: None,
            stale: None,
            verify: false,
            keep_ttl: false,
        };
        let first = line.args.first().and_then(|w| w.text.parse::<u32>().ok());
        let zones = line
            .args
            .get(usize::from(first.is_some())..)
            .unwrap_or_default();
        out.zones = reader.zones_or_block(zones);
        if let Some(ttl) = first {
            (out.success.most, out.denial.most) = (ttl, ttl);
        }
        for option in &line.body {
            out.option(option, reader);
        }
        out
    }

    fn option(&mut self, line: &Line, reader: &mut Reader<'_>) {
        let first = line.args.first().map(|w| w.text.as_str());
        match line.name.text.as_str() {
            "success" => store(&mut self.success, line, reader),
            "denial" => store(&mut self.denial, line, reader),
            "servfail" => match reader.duration(line, 0) {
                Some(d) if d <= Duration::from_secs(300) => {
                    self.failure = u32::try_from(d.as_secs()).unwrap_or(5)
                }
                Some(_) => {
                    reader.error(&line.name, "servfail is 5 minutes at most", "write 0 to 5m")
                }
                None => {}
            },
            "prefetch" => {
                let every = line
                    .args
                    .get(1)
                    .map_or(Some(Duration::from_secs(60)), |_| reader.duration(line, 1));
                let percent = line
                    .args
                    .get(2)
                    .map_or(Some(10), |w| w.text.strip_suffix('%')?.parse().ok());
                let percent = percent.filter(|p| (1..=100).contains(p));
                if percent.is_none() {
                    reader.error(
                        &line.name,
                        "the percentage is 1% to 100%",
                        "write prefetch 10 1m 10%",
                    );
                }
                let amount: Option<u32> = reader.number(line, 0);
                self.prefetch = match (amount.filter(|n| *n > 0), every, percent) {
                    (Some(amount), Some(every), Some(percent)) => Some(Prefetch {
                        amount,
                        every,
                        percent,
                    }),
                    _ => None,
                };
            }
            "serve_stale" => {
                let hour = Duration::from_secs(3_600);
                self.stale = line
                    .args
                    .first()
                    .map_or(Some(hour), |_| reader.duration(line, 0));
                match line
                    .args
                    .get(1)
                    .map(|w| w.text.to_ascii_lowercase())
                    .as_deref()
                {
                    None | Some("immediate") => {}
                    Some("verify") => {
                        self.verify = true;
                        if line.args.len() > 2 {
                            reader.warning(
                                &line.name,
                                "the timeout of verify is not modelled: it waits",
                                "",
                            );
                        }
                    }
                    Some(_) => {
                        reader.error(&line.name, "serve_stale takes immediate or verify", "")
                    }
                }
            }
            "disable" => {
                let zones = match line.args.get(1..) {
                    Some(words) if !words.is_empty() => reader.zones(words),
                    _ => self.zones.clone(),
                };
                match first {
                    Some("success") => self.success.except = zones,
                    Some("denial") => self.denial.except = zones,
                    _ => reader.error(
                        &line.name,
                        "disable takes success or denial",
                        "write disable success [ZONES]",
                    ),
                }
            }
            "keepttl" => self.keep_ttl = true,
            _ => reader.unknown_option(line, "cache"),
        }
    }
}

/// `CAPACITY [TTL [MINTTL]]`.
fn store(bounds: &mut Bounds, line: &Line, reader: &mut Reader<'_>) {
    if let Some(capacity) = reader.number::<usize>(line, 0) {
        // Shards share it: CoreDNS rounds down to a multiple of 256, four at least in each.
        bounds.capacity = ((capacity / 256).max(4) * 256).min(DNS_CACHE_MAX);
    }
    if line.args.len() > 1 {
        bounds.most = reader.number(line, 1).unwrap_or(bounds.most);
    }
    if line.args.len() > 2 {
        bounds.least = reader.number(line, 2).unwrap_or(bounds.least);
    }
}
