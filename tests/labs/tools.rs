//! What helps at three in the morning, beside what really happens: captures, traces, the doctor.

use std::path::Path;
use std::time::Duration;

use fulcrum_e2e::Lab;
use fulcrum_e2e::client::{assert_answered, get};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::net::run;
use fulcrum_e2e::process::{Process, wait_for};
use fulcrum_e2e::topology;
use serde_json::Value;

/// A service by NAT whose servers listen.
const WEB: &str = "
    -A -t 172.16.100.9:80 -s rr
    -a -t 172.16.100.9:80 -r 192.168.20.7:8080 -m
    -a -t 172.16.100.9:80 -r 192.168.20.8:8080 -m";

const SOON: Duration = Duration::from_secs(20);

/// A capture that has begun.
fn capture(director: &Director, lab: &Lab, name: &str, arguments: &str) -> Process {
    let file = lab.directory().join(format!("{name}.pcapng"));
    let mut command = director.command(&format!("capture {arguments} --write {}", file.display()));
    let process = Process::start(&mut command, lab.directory().join(format!("{name}.log")));
    process.wait_said("fulcrum: capturing", SOON);
    process
}

/// A capture as tcpdump reads it.
fn read(lab: &Path, name: &str) -> String {
    run(std::process::Command::new("tcpdump").arg("-nr").arg(lab.join(format!("{name}.pcapng"))))
}

#[test]
fn a_capture_has_what_went_through_and_what_did_not() {
    let lab = Lab::new("capture");
    let net = topology::nat(&lab);
    let director = Director::start(&net.director, lab.directory(), &Setup::MISDIRECTED, &net.network);
    director.ipvsadm_lines(WEB);

    let mut service = capture(&director, &lab, "service", "--service tcp 172.16.100.9:80");
    let refused = director.try_fulcrum("capture --write /dev/null");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("somebody captures already"), "{refused:?}");
    assert_answered(&get(&net.client, "172.16.100.9", 2), 2);
    net.client.sh("ping -c1 172.16.100.1");
    service.signal("INT");
    assert!(service.wait(SOON).success(), "{}", service.log());
    assert!(service.log().contains("0 found no room; interrupted"), "{}", service.log());
    let said = read(lab.directory(), "service");
    let count = |ends: &str| said.lines().filter(|line| line.contains(ends)).count();
    // Opened twice, at each server once, and both ways on both sides; nothing else.
    assert_eq!(count("> 172.16.100.9.80: Flags [S]"), 2, "{said}");
    assert_eq!(count("> 192.168.20.7.8080: Flags [S]"), 1, "{said}");
    assert_eq!(count("> 192.168.20.8.8080: Flags [S]"), 1, "{said}");
    assert_eq!(count("IP 192.168.20.7.8080 > 172.16.100.50."), count("IP 192.168.20.7.8080 > "), "{said}");
    assert_eq!(count("IP 172.16.100.9.80 > 172.16.100.50."), count("IP 192.168.20."), "{said}");
    assert_eq!(count("172.16.100.1 "), 0, "{said}");

    let mut drops = capture(&director, &lab, "drops", "--drop no-service --client 172.16.100.50 --count 1");
    net.client.try_sh("curl -s --max-time 5 http://172.16.100.9:81/");
    assert!(drops.wait(SOON).success(), "{}", drops.log());
    let said = read(lab.directory(), "drops");
    assert_eq!(
        said.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())).count(),
        1,
        "{said}"
    );
    assert!(said.contains("> 172.16.100.9.81: Flags [S]"), "{said}");
    let bytes = std::fs::read(lab.directory().join("drops.pcapng")).expect("the capture is there");
    let reason = b"dropped: no-service: TCP to an own address";
    assert!(bytes.windows(reason.len()).any(|window| window == reason));

    // Whoever goes away without a word leaves nothing behind.
    let mut gone = capture(&director, &lab, "gone", "--port wan");
    gone.kill();
    wait_for("room for another capture", SOON, || {
        director.try_fulcrum("capture --duration 10ms --write /dev/null").status.success().then_some(())
    });
    assert_answered(&get(&net.client, "172.16.100.9", 2), 2);
}

/// `fulcrum trace ARGS… --json`.
fn trace(director: &Director, arguments: &str) -> Value {
    let text = director.fulcrum(&format!("trace {arguments} --json"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// What a trace said about something, with its details.
fn told(trace: &Value, about: &str) -> String {
    let steps = trace["steps"].as_array().expect("a list");
    steps.iter().find(|step| step["about"] == about).map_or(String::new(), |step| step.to_string())
}

#[test]
fn a_trace_says_what_happens() {
    let lab = Lab::new("trace");
    let net = topology::nat(&lab);
    let director = Director::start(&net.director, lab.directory(), &Setup::MISDIRECTED, &net.network);
    director.ipvsadm_lines(
        "-A -t 172.16.100.9:80 -s sh
         -a -t 172.16.100.9:80 -r 192.168.20.7:8080 -m -w 3
         -a -t 172.16.100.9:80 -r 192.168.20.8:8080 -m",
    );
    // Of nobody is known yet where he is: a server is chosen, and its MAC address asked for.
    let before = trace(&director, "172.16.100.50 172.16.100.9:80");
    assert_eq!(
        (&before["session"], &before["certain"]),
        (&Value::Bool(false), &Value::Bool(true)),
        "{before:#}"
    );
    assert_eq!(before["verdict"], "hold", "{before:#}");
    let server = before["server"].as_str().expect("one is chosen").to_owned();

    // The connection that comes then goes there, and is known with its ends.
    let script = "exec 3<>/dev/tcp/172.16.100.9/80; echo up; read line; exec 3>&-";
    let mut command = net.client.command("bash");
    command.args(["-c", script]);
    let mut client = Process::start(&mut command, lab.directory().join("client.log"));
    client.wait_said("up", SOON);
    let row =
        director.sessions().into_iter().find(|row| row.virtual_ == "172.16.100.9:80").expect("a session");
    assert_eq!(row.destination, server);
    let during = trace(&director, &format!("{} 172.16.100.9:80", row.source));
    assert_eq!(
        (&during["session"], &during["verdict"]),
        (&Value::Bool(true), &"forward".into()),
        "{during:#}"
    );
    assert_eq!(during["server"], server.as_str(), "{during:#}");
    assert!(told(&during, "session").contains("ESTABLISHED on worker"), "{during:#}");
    assert!(told(&during, "next hop").contains("(reachable)"), "{during:#}");
    let mac = net.director.sh("cat /sys/class/net/lan/address");
    let frame = format!("{} > ", mac.trim());
    let packet = format!("; {} > {server} tcp", row.source);
    let verdict = told(&during, "verdict");
    assert!(verdict.contains(&frame) && verdict.contains(&packet), "{verdict}");
    client.say("enough");
    assert!(client.wait(SOON).success());

    // Of what would be refused it says why, and what comes near; nothing of this has touched the director.
    let dropped = director.drops("no-service");
    let missing = trace(&director, "172.16.100.50 172.16.100.9:81");
    assert_eq!((&missing["verdict"], &missing["reason"]), (&"drop".into(), &"no-service".into()));
    assert!(told(&missing, "service").contains("near: tcp 172.16.100.9:80, of another port"), "{missing:#}");
    assert_eq!(director.drops("no-service"), dropped);
    net.client.try_sh("curl -s --max-time 5 http://172.16.100.9:81/");
    assert_eq!(director.drops("no-service"), dropped + 1);
    let again = director.fulcrum("trace 172.16.100.50 172.16.100.9:81");
    assert!(again.contains("\ndropped in the last minute") && again.contains("  1 no-service: "), "{again}");
}

#[test]
fn the_doctor_finds_what_is_wrong_and_leaves_a_good_set_up_in_peace() {
    let lab = Lab::new("doctor");
    let net = topology::nat(&lab);
    let director = Director::start(&net.director, lab.directory(), &Setup::TWO, &net.network);
    director.ipvsadm_lines(WEB);
    assert_answered(&get(&net.client, "172.16.100.9", 6), 6);
    let good = director.try_fulcrum("doctor --quiet");
    let said = String::from_utf8_lossy(&good.stdout).into_owned();
    assert_eq!((good.status.code(), &*said), (Some(0), "no errors, no warnings\n"));

    // One server answers around the director, one is not there, and to one no way leads.
    net.servers[0].inside.sh("ip route replace default via 192.168.20.8");
    director.ipvsadm_lines(
        "-A -t 172.16.100.10:80
         -a -t 172.16.100.10:80 -r 192.168.20.7:8080 -m
         -A -t 172.16.100.11:80
         -a -t 172.16.100.11:80 -r 192.168.20.99:80 -m
         -A -t 172.16.100.12:80
         -a -t 172.16.100.12:80 -r 10.9.9.9:80 -m",
    );
    net.client.try_sh(
        "for host in 10 10 10 10 11 12; do curl -s --max-time 2 http://172.16.100.$host/ & done; wait",
    );
    let bad = director.try_fulcrum("doctor --quiet");
    let said = String::from_utf8_lossy(&bad.stdout).into_owned();
    assert_eq!(bad.status.code(), Some(2), "{said}");
    for (about, advice) in [
        (
            "error    server 192.168.20.7:8080: of tcp 172.16.100.10:80: ",
            "ip route replace default via 192.168.20.1",
        ),
        ("error    neighbour 192.168.20.99: does not answer on lan", "it is the way to 192.168.20.99:80"),
        (
            "error    server 10.9.9.9:80: no way leads there (no-route",
            "fulcrum route add 10.9.9.9 via GATEWAY",
        ),
    ] {
        assert!(said.contains(about) && said.contains(advice), "no `{about}` or `{advice}` in\n{said}");
    }
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error")).collect();
    assert_eq!(errors.len(), 3, "{said}");
}
