//! Text in and out.

use super::*;
use proptest::prelude::*;

/// Sorted as ipvsadm does: the difference of two addresses is a signed number, so 192... is before 10...
const RULES: &str = "-A -t 192.168.50.11:30080 -s rr
-A -t 10.96.0.1:443 -s rr
-a -t 10.96.0.1:443 -r 10.0.0.1:6443 -m -w 1
-A -t 10.96.0.2:80 -s sh -b sh-fallback,sh-port -p 10800 -M 255.255.255.0
-a -t 10.96.0.2:80 -r 10.0.0.1:80 -g -w 3
-a -t 10.96.0.2:80 -r 10.0.0.2:80 -i -w 0
-A -u 10.96.0.10:53 -s wrr --ops
-a -u 10.96.0.10:53 -r 10.0.0.9:53 -m -w 1
-A -t [fd00::1]:80 -s mh -p 300 -M 64
-a -t [fd00::1]:80 -r [fd00:1::2]:8080 -m -w 1
-A -f 1 -s wlc
-a -f 1 -r 10.0.0.3:0 -g -w 1
-A -f 1 -6 -s lc
";

fn loaded(text: &str) -> (Ipvs, Vec<Finding>) {
    let (commands, mut findings) = parse(text, "f");
    let mut vs = Ipvs::default();
    findings.extend(load(&mut vs, &commands, true, Instant::ZERO));
    (vs, findings)
}

#[test]
fn what_is_saved_is_read_back() {
    let (vs, findings) = loaded(RULES);
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!(save(&vs), RULES);
    let unknown: Vec<bool> = vs.services().map(|s| s.order_unknown).collect();
    assert_eq!(unknown.iter().filter(|u| **u).count(), 1);
}

#[test]
fn a_listing_is_read_as_the_commands_that_make_it() {
    let (mut vs, _) = loaded(RULES);
    let shown = run(&mut vs, &command(&["-Ln"]).unwrap(), Instant::ZERO).unwrap();
    let (commands, findings) = parse_listing(&shown, "f");
    assert!(findings.is_empty(), "{findings:?}");
    let mut again = Ipvs::default();
    assert!(load(&mut again, &commands, true, Instant::ZERO).is_empty());
    assert_eq!(save(&again), save(&vs));
}

#[test]
fn faults_are_placed_and_the_rest_is_loaded() {
    let text = "-A -t 10.96.0.1:80 -s rr\n  -A -t nonsense -s rr\n-A -t 10.96.0.2:80 -s best\n\
                -a -t 10.96.0.1:80\n# a comment\n\n-x\n-a -t 10.96.0.9:80 -r 10.0.0.1 -m\n";
    let (vs, findings) = loaded(text);
    let said: Vec<String> = findings
        .iter()
        .map(|f| format!("{}: {}", f.span, f.message))
        .collect();
    assert_eq!(
        said,
        [
            "f:2:9: `nonsense` is not an address with or without a port (10.0.0.1:80, [fd00::1]:80)",
            "f:3:23: unknown scheduler `best`",
            "f:4:19: which real server? -r ADDRESS[:PORT]",
            "f:7:1: `-x` needs a value",
            "f:8:1: Service not defined",
        ]
    );
    assert_eq!(vs.services().count(), 1);
}

#[test]
fn long_options_and_defaults() {
    let long = "--add-service --tcp-service=10.0.0.1:80 --persistent --scheduler wrr";
    let words: Vec<&str> = long.split(' ').collect();
    let Ok(Command::AddService(s)) = command(&words) else {
        panic!("not read");
    };
    assert_eq!((s.persistent, s.sched.name()), (Some(360), "wrr"));
    let words = ["-a", "-t", "10.0.0.1:80", "-r", "10.0.0.2:99"];
    let Ok(Command::AddDest(_, d)) = command(&words) else {
        panic!("not read");
    };
    // Without translation the port is the service's.
    assert_eq!((d.port, d.weight), (80, 1));
    assert_eq!(command(&["-Lnc"]), command(&["-L", "-n", "-c"]));
    assert!(command(&["-L", "-A"]).is_err());
    assert!(command(&[]).is_err());
}

#[test]
fn what_is_refused_is_said_in_ipvsadms_words() {
    let (mut vs, _) = loaded(RULES);
    let mut say = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let c = command(&words).unwrap();
        run(&mut vs, &c, Instant::ZERO).map_err(|e| e.to_string())
    };
    let err = |s: &str| Err(s.to_owned());
    assert_eq!(say("-A -t 10.96.0.1:443"), err("Service already exists"));
    assert_eq!(say("-D -t 10.96.0.1:9"), err("No such service"));
    assert_eq!(
        say("-d -t 10.96.0.1:443 -r 1.1.1.1:1"),
        err("No such destination")
    );
    let again = "-a -t 10.96.0.1:443 -r 10.0.0.1:6443 -m";
    assert_eq!(say(again), err("Destination already exists"));
    assert_eq!(say("-Z -t 10.96.0.1:9"), err("No such service"));
    assert_eq!(say("--set 0 0 5"), Ok(String::new()));
    assert_eq!(
        say("-L --timeout"),
        Ok("Timeout (tcp tcpfin udp): 900 120 5\n".into())
    );
    assert_eq!(say("-C"), Ok(String::new()));
    assert_eq!(say("-Sn"), Ok(String::new()));
}

proptest! {
    #[test]
    fn any_text_prints_what_it_reads(
        lines in proptest::collection::vec(
            ("-[AEDaed]", "-[tuf]", "(10\\.0\\.0\\.[12](:80)?|[12]|\\[fd00::1\\]:8)", "(-s (rr|mh|wlc))?", "(-p|-p 5|-o|-m|-i|-w 3|-r 10\\.1\\.0\\.[12]:7|)", "(-m|-i|-r 10\\.1\\.0\\.[12]|-x|)"),
            0..20,
        )
    ) {
        let line = |l: &(String, String, String, String, String, String)| {
            format!("{} {} {} {} {} {}\n", l.0, l.1, l.2, l.3, l.4, l.5)
        };
        let text: String = lines.iter().map(line).collect();
        let (vs, _) = loaded(&text);
        let saved = save(&vs);
        let (again, findings) = loaded(&saved);
        prop_assert!(findings.is_empty(), "{findings:?}\n{saved}");
        prop_assert_eq!(save(&again), saved);
    }
}

/// Everything that ipvsadm lists, one behind the other.
const DUMP: &str = include_str!("../../../fuzz/seeds/ipvsadm/every-listing");

fn from_dump(text: &str) -> (Ipvs, Vec<String>) {
    let (dump, mut findings) = parse_dump(text, "f");
    let mut vs = Ipvs::default();
    findings.extend(load_dump(&mut vs, &dump, true, Instant::ZERO));
    let said = findings
        .iter()
        .map(|f| format!("{}: {}", f.span, f.message));
    (vs, said.collect())
}

fn listing(vs: &mut Ipvs, words: &str) -> String {
    let words: Vec<&str> = words.split(' ').collect();
    run(vs, &command(&words).unwrap(), Instant::ZERO).unwrap()
}

/// The lines of a dump from one that begins so to the next heading.
fn part(from: &str) -> String {
    let lines = DUMP.lines().skip_while(|l| !l.starts_with(from));
    let end =
        |l: &&str| !l.starts_with("Prot ") && !l.starts_with("IPVS ") && !l.starts_with("Timeout");
    let mut lines = lines.peekable();
    let title = lines.next().unwrap_or_default();
    let rest: Vec<&str> = lines.take_while(end).collect();
    format!("{title}\n{}\n", rest.join("\n"))
}

#[test]
fn a_whole_dump_is_loaded_and_printed_back() {
    let (mut vs, said) = from_dump(DUMP);
    assert_eq!(said, Vec::<String>::new());
    let conns = part("IPVS connection");
    let listed = listing(&mut vs, "-Lnc");
    assert_eq!(listed, conns);
    assert!(
        listing(&mut vs, "-Ln")
            .contains("10.244.1.2:8080              Masq    1      1          0")
    );
    let stats = listing(&mut vs, "-Ln --stats");
    for line in part("Prot LocalAddress:Port               Conns").lines() {
        assert!(stats.contains(line), "{line} in\n{stats}");
    }
    let rates = listing(&mut vs, "-Ln --rate");
    assert!(rates.contains(
        "TCP  10.96.0.10:80                       1       10        9      640      800"
    ));
    let thresholds = listing(&mut vs, "-Ln --thresholds");
    assert!(
        thresholds.contains("10.244.1.2:8080              10         5          1"),
        "{thresholds}"
    );
    // A template knows its connections, and none is found by a packet of another.
    let of = |port: u16| vs.conns().iter().find(move |(_, c)| c.key.cport == port);
    let (id, template) = of(0).expect("the template");
    assert_eq!(
        (template.controls, of(5353).and_then(|c| c.1.control)),
        (1, Some(id))
    );
    assert_eq!(
        of(41234).map(|c| (c.1.state, c.1.inactive)),
        Some((1, false))
    );
}

#[test]
fn a_loaded_connection_ends_when_the_dump_said() {
    let (mut vs, _) = from_dump(DUMP);
    let before = vs.conns().len();
    vs.expire(Instant::from_secs(29));
    assert_eq!(vs.conns().len(), before);
    vs.expire(Instant::from_secs(30));
    assert_eq!(vs.conns().len(), before - 1, "the SCTP one");
}

#[test]
fn faults_in_listings_are_placed_and_the_rest_is_loaded() {
    let text = "TCP 00:10 NONE 10.0.0.1:1 10.0.0.2:2 10.0.0.3:3
pro expire state       source             virtual            destination
TCP 14:58  ESTABLISHED 10.244.0.5:41234   10.96.0.10:80      10.244.1.2:8080
TCP 14:58  BEST        10.244.0.5:41235   10.96.0.10:80      10.244.1.2:8080
TCP 14:61  ESTABLISHED 10.244.0.5:41236   10.96.0.10:80      10.244.1.2:8080
TCP 14:58  ESTABLISHED 10.244.0.5         10.96.0.10:80      10.244.1.2:8080
UDP 04:58  UDP         10.244.0.5:41238   10.96.0.10:80
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
TCP  10.96.0.10:80                       7       42       40      12Z        0
TCP  10.96.0.10:80                       7       42       40       12        0
  -> 10.244.1.2:8080                     7       42       40       12
";
    let (vs, said) = from_dump(text);
    assert_eq!(
        said,
        [
            "f:1:1: a command or the heading of a listing was expected",
            "f:4:12: `BEST` is not a state of TCP",
            "f:5:5: `14:61` is not a time (minutes:seconds)",
            "f:6:24: `10.244.0.5` has no port",
            "f:7:56: the line ends too early",
            "f:9:67: `12Z` is not a number",
            "f:11:70: the line ends too early",
            "f:10:1: there is no such service",
        ]
    );
    assert_eq!(vs.conns().len(), 1);
}

#[test]
fn connections_known_by_number_only_weigh_with_the_scheduler() {
    let table = DUMP.split("IPVS connection").next().unwrap();
    let (mut vs, said) = from_dump(table);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].contains("1 active and 0 inactive connections are known by number only"),
        "{said:?}"
    );
    assert!(listing(&mut vs, "-Ln").contains("Masq    1      1          0"));
    let (_, said) = from_dump(&table.replace("1      1          0", "1      9          0"));
    assert!(said[0].contains("9 active"), "{said:?}");
    let (_, said) = from_dump(&DUMP.replacen("1      1          0", "1      9          0", 1));
    assert!(said[0].contains("the table counts"), "{said:?}");
}
