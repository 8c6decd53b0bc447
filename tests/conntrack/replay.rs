//! Plays a recording of the kernel's conntrack against ours.
//!
//! A recording is a list of steps: `>` a packet from the client, `<` one from the server, `sysctl`,
//! `sleep`, `list`; below each what the kernel said: `= NEW` what `-m conntrack --ctstate` matched,
//! `| ...` the lines of `conntrack -L -o extended` right after.

use super::packet;
use podpath::base::{Instant, NodeId, NsId, Rng};
use podpath::net::NetNs;
use podpath::nf::ct::text::{Style, list, list_expectations};
use podpath::nf::ct::{Conntrack, Helped, Template, Tracked, helper};
use podpath::nf::eval::{At, Cx};
use podpath::nf::{Family, Hook};
use podpath::wire::{CtInfo, CtRef, Frame, IpHeader};
use std::collections::BTreeMap;
use std::time::Duration;

/// A namespace with its table and clock.
pub struct Player {
    ns: NetNs,
    pub ct: Conntrack,
    pub now: Instant,
    rng: Rng,
    v6: bool,
    /// `-t raw -A PREROUTING -p PROTO --dport PORT -j CT --helper`, as protocol, port and template.
    helpers: Vec<(u8, u16, u32)>,
}

/// The state `-m conntrack` sees.
pub fn state_of(f: &Frame) -> &'static str {
    match f.ct {
        CtRef::Untracked => "UNTRACKED",
        CtRef::None | CtRef::Orphan | CtRef::Template { .. } => "INVALID",
        CtRef::Conn { info, .. } => match info {
            CtInfo::New => "NEW",
            CtInfo::Established | CtInfo::EstablishedReply => "ESTABLISHED",
            CtInfo::Related | CtInfo::RelatedReply => "RELATED",
        },
    }
}

impl Player {
    pub fn new(v6: bool) -> Player {
        Player {
            ns: NetNs::new(NsId(0), "router", NodeId(0)),
            ct: Conntrack::default(),
            now: Instant::from_millis(1_000_001),
            rng: Rng::new(1),
            v6,
            helpers: Vec::new(),
        }
    }

    fn helper(&mut self, name: &str) {
        let (proto, port) = if name == "ftp" { (6, 21) } else { (17, 69) };
        let template = Template {
            helper: helper::by_name(name),
            ..Template::default()
        };
        let family = if self.v6 { Family::V6 } else { Family::V4 };
        let template = self.ct.new_template(family, template).unwrap();
        self.helpers.push((proto, port, template));
    }

    fn template(&self, bytes: &[u8]) -> CtRef {
        let Ok(h) = IpHeader::parse_lax(bytes) else {
            return CtRef::None;
        };
        let dport = h.ports(bytes).map(|p| p.1);
        let rule = self
            .helpers
            .iter()
            .find(|r| r.0 == h.proto && Some(r.1) == dport);
        CtRef::template(rule.map(|r| r.2))
    }

    pub fn sysctl(&mut self, setting: &str) {
        let (key, value) = setting.split_once('=').unwrap();
        self.ns.edit().sysctl_set(key, value).unwrap();
    }

    /// Lets a packet through PREROUTING and POSTROUTING; what state it had.
    pub fn send(&mut self, bytes: &[u8]) -> &'static str {
        let mut f = Frame::ip(bytes);
        f.ct = self.template(bytes);
        let assume = BTreeMap::new();
        let mut cx = Cx {
            now: self.now,
            rng: &mut self.rng,
            steps: None,
            assume: &assume,
        };
        let mut at = At {
            hook: Hook::Prerouting,
            family: if self.v6 { Family::V6 } else { Family::V4 },
            input: None,
            output: None,
        };
        let tracked = self.ct.track(&self.ns, &mut f, &at, &mut cx);
        let state = state_of(&f);
        at.hook = Hook::Postrouting;
        let helped = self.ct.helper(&self.ns, &f, &at, &mut cx);
        if tracked == Tracked::Accept && helped == Helped::Accept {
            self.ct.confirm(&self.ns, &mut f, &at, &mut cx);
        }
        self.ct.end_walk();
        state
    }

    pub fn pass(&mut self, d: Duration) {
        self.now += d;
    }

    /// `conntrack -L -o extended`, sorted.
    pub fn list(&self) -> Vec<String> {
        let entries = list(&self.ct, self.now, Style::Extended);
        let mut lines: Vec<String> = entries
            .iter()
            .map(|e| without_age(&e.to_string()))
            .collect();
        lines.sort();
        lines
    }
}

/// The tool's `delta-time` counts turns of the wall clock's second, which a recording does not tell.
fn without_age(line: &str) -> String {
    let words = line.split(' ').map(|w| match w.split_once('=') {
        Some(("delta-time", _)) => "delta-time=?",
        _ => w,
    });
    words.collect::<Vec<_>>().join(" ")
}

/// What a step between two packets takes when the kernel is recorded.
const STEP: Duration = Duration::from_millis(12);

/// Plays all cases of a recording; a line per difference.
pub fn play(recording: &str) -> (usize, Vec<String>) {
    let mut player = Player::new(false);
    let (mut case, mut steps, mut wrong) = (String::new(), 0, Vec::new());
    let mut lines = recording.lines().peekable();
    while let Some(line) = lines.next() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut state = None;
        match words.as_slice() {
            ["#", "case", ..] => {
                case = line.to_owned();
                player = Player::new(line.contains(" v6"));
                continue;
            }
            ["sysctl", setting] => {
                player.sysctl(setting);
                continue;
            }
            ["sleep", s] => {
                player.pass(Duration::from_secs_f64(s.parse().unwrap()));
                continue;
            }
            ["helper", name] => {
                player.helper(name);
                continue;
            }
            ["list"] => {}
            [way @ (">" | "<"), rest @ ..] => {
                let bytes = packet::packet(rest, player.v6, *way == ">");
                state = Some(player.send(&bytes));
            }
            _ => continue,
        }
        player.pass(STEP);
        let mut said = None;
        let mut expected = Vec::new();
        let mut announced = Vec::new();
        while let Some(next) = lines.peek() {
            if let Some(s) = next.strip_prefix("= ") {
                said = Some(s.to_owned());
            } else if let Some(l) = next.strip_prefix("x ") {
                announced.push(l.to_owned());
            } else if let Some(l) = next.strip_prefix("| ") {
                expected.push(without_age(l));
            } else {
                break;
            }
            lines.next();
        }
        expected.sort();
        expected.append(&mut announced);
        let mut ours = player.list();
        ours.append(&mut list_expectations(&player.ct, player.now));
        steps += 1;
        if said.as_deref() != state || ours != expected {
            wrong.push(format!(
                "{case}\n  {line}\n  kernel {said:?}\n    {}\n  ours   {state:?}\n    {}",
                expected.join("\n    "),
                ours.join("\n    ")
            ));
        }
        player.pass(STEP);
    }
    (steps, wrong)
}
