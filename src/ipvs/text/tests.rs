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
