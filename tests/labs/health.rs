//! What follows when servers fail, come back, drain and are disabled.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fulcrum_e2e::Lab;
use fulcrum_e2e::client::{expected, get};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::process::{Process, wait_for};
use fulcrum_e2e::topology::{self, Topology};
use serde_json::Value;

const VIP: &str = "172.16.100.9";

/// From when a server fails to when that is known: interval times fall.
const FALL: Duration = Duration::from_millis(500 * 2);

/// What a busy machine may need for everything else.
const SLACK: Duration = Duration::from_secs(10);

/// Checks go by a network that the data plane does not own.
const SERVICE: &str = r#"
[[check]]
name = "web"
type = "http"
path = "/"
interval = "500ms"
timeout = "500ms"
rise = 1
fall = 2
[[service]]
address = "172.16.100.9:80"
protocol = "tcp"
scheduler = "rr"
checks = ["web"]
[service.sorry-server]
address = "192.168.20.7:8081"
forward = "nat"
[[service.server]]
address = "192.168.20.7:8080"
forward = "nat"
check-address = "10.99.0.7"
[[service.server]]
address = "192.168.20.8:8080"
forward = "nat"
check-address = "10.99.0.8"
"#;

fn start(lab: &Lab) -> (Topology, Director) {
    let mut net = topology::nat(lab);
    net.manage(lab);
    let apology = "server { listen 8081; location / { return 200 'sorry\\n'; } }";
    net.servers[0].serve_http_like("sorry", apology, &[8081]);
    let network = format!("{}{SERVICE}", net.network);
    let director = Director::start(&net.director, lab.directory(), &Setup::TWO, &network);
    wait_for("two servers that are up", SLACK, || (states(&director) == ["up", "up"]).then_some(()));
    (net, director)
}

/// How the service's servers are, the sorry server aside.
fn states(director: &Director) -> Vec<String> {
    servers(director)
        .iter()
        .map(|row| row["health"]["state"].as_str().unwrap_or_default().to_owned())
        .collect()
}

fn servers(director: &Director) -> Vec<Value> {
    let rows: Value = serde_json::from_str(&director.fulcrum("server list --json")).expect("JSON");
    rows.as_array().into_iter().flatten().filter(|row| row["sorry"] == false).cloned().collect()
}

/// The first event of a kind after those up to a number, of a server or of the service.
fn event(director: &Director, kind: &str, after: u64) -> Value {
    wait_for(&format!("an event {kind}"), SLACK, || {
        let output = director.try_fulcrum(&format!("events --json --after {after}"));
        let events: Value = serde_json::from_slice(&output.stdout).ok()?;
        events.as_array()?.iter().find(|event| event["event"] == kind).cloned()
    })
}

fn number(event: &Value) -> u64 {
    event["number"].as_u64().expect("a number")
}

fn time(event: &Value) -> SystemTime {
    let text = event["time"].as_str().expect("a time");
    humantime::parse_rfc3339(text).expect("a time")
}

fn held(director: &Director) -> Vec<String> {
    director.listing().into_iter().filter(|row| row.kind == "->").map(|row| row.address).collect()
}

fn stop_http(lab: &Lab, net: &Topology, server: usize) {
    let pid = lab.directory().join(&net.servers[server].name).join("nginx.pid");
    let pid = fs::read_to_string(pid).expect("nginx runs");
    net.servers[server].inside.sh(&format!("kill {}", pid.trim()));
}

#[test]
fn servers_that_fail_are_out_and_come_back_and_all_down_says_sorry() {
    let lab = Lab::new("verdicts");
    let (mut net, mut director) = start(&lab);
    assert_eq!(get(&net.client, VIP, 4), expected([("web7", 2), ("web8", 2)]));

    let failed = SystemTime::now();
    stop_http(&lab, &net, 1);
    let down = event(&director, "server-down", 0);
    assert!(time(&down) + Duration::from_secs(1) > failed && time(&down) < failed + FALL + SLACK, "{down}");
    assert_eq!(down["server"], "192.168.20.8:8080");
    assert!(down["why"].as_str().is_some_and(|why| why.starts_with("check web: ")), "{down}");
    wait_for("one server", SLACK, || (held(&director) == ["192.168.20.7:8080"]).then_some(()));
    assert_eq!(get(&net.client, VIP, 4), expected([("web7", 4)]));
    assert_eq!(director.ipvsadm("-S -n").lines().filter(|line| line.starts_with("-a ")).count(), 2);
    assert_eq!(director.status().expect("control answers")["control"]["servers_down"], 1);
    let said = director.control().log();
    let line = said.lines().find(|line| line.contains("server-down")).expect("a line about it");
    for word in ["192.168.20.8:8080", "172.16.100.9:80", "check web: "] {
        assert!(line.contains(word), "{line}");
    }

    // Another control process goes on with what was known, before its first probe and after.
    director.control().kill();
    assert_eq!(get(&net.client, VIP, 4), expected([("web7", 4)]));
    director.start_control();
    director.wait_programmed(SLACK);
    let link = director.status().expect("control answers")["link"].clone();
    assert_eq!([&link["full_pushes"], &link["increments"]], [0, 0], "nothing was to be changed");
    assert_eq!(states(&director)[1], "down");
    assert_eq!(get(&net.client, VIP, 4), expected([("web7", 4)]));

    stop_http(&lab, &net, 0);
    let on = event(&director, "sorry-on", 0);
    wait_for("the sorry server", SLACK, || (held(&director) == ["192.168.20.7:8081"]).then_some(()));
    assert_eq!(get(&net.client, VIP, 2), expected([("sorry", 2)]));

    net.servers[1].serve_http(&[8080]);
    event(&director, "sorry-off", number(&on));
    wait_for("one server", SLACK, || (held(&director) == ["192.168.20.8:8080"]).then_some(()));
    assert_eq!(get(&net.client, VIP, 4), expected([("web8", 4)]));
    net.servers[0].serve_http(&[8080]);
    wait_for("both servers in their order", SLACK, || {
        (held(&director) == ["192.168.20.7:8080", "192.168.20.8:8080"]).then_some(())
    });
    assert_eq!(get(&net.client, VIP, 4), expected([("web7", 2), ("web8", 2)]));
}

#[test]
fn a_drained_server_keeps_what_it_has_and_a_disabled_one_stays_so() {
    let lab = Lab::new("drain");
    let (net, mut director) = start(&lab);
    let mut command = net.client.command("curl");
    command.args(["-sS", "--limit-rate", "2M", "-o", "/dev/null", "-w", "got %{size_download}\n"]);
    command.arg(format!("http://{VIP}/big"));
    let mut download = Process::start(&mut command, lab.directory().join("download.log"));
    let session = wait_for("a session", SLACK, || {
        director.sessions().into_iter().find(|row| row.state == "ESTABLISHED")
    });
    let (address, _) = session.destination.rsplit_once(':').expect("address and port");
    let (mine, other) = match address {
        "192.168.20.7" => (0, "web8"),
        _ => (1, "web7"),
    };

    director.fulcrum(&format!("server drain {address} --deadline 1h"));
    assert_eq!(get(&net.client, VIP, 4), expected([(other, 4)]));
    assert!(download.is_running(), "it should take ten seconds: {}", download.log());
    let row = &servers(&director)[mine];
    assert_eq!([&row["health"]["state"], &row["admin"]], ["draining", "drain"]);
    assert_eq!([&row["weight"], &row["health"]["effective_weight"]], [1, 0]);
    assert_eq!(row["active"], 1, "{row}");
    assert!(director.fulcrum("server list").contains("1 connections left"));
    assert!(download.wait(Duration::from_secs(60)).success());
    download.wait_said(&format!("got {}", fulcrum_e2e::server::BIG), SLACK);

    // The time to drain is over: it is out. So it stays for another process, and whatever ipvsadm makes of its weight.
    director.fulcrum(&format!("server drain tcp {VIP}:80 {address}:8080 --deadline 1s"));
    event(&director, "server-disabled", 0);
    wait_for("one server", SLACK, || (held(&director).len() == 1).then_some(()));
    director.control().kill();
    director.start_control();
    director.wait_programmed(SLACK);
    director.ipvsadm(&format!("-e -t {VIP}:80 -r {address}:8080 -m -w 5"));
    assert_eq!(states(&director)[mine], "disabled");
    assert_eq!(get(&net.client, VIP, 4), expected([(other, 4)]));

    director.fulcrum(&format!("server enable {address}"));
    assert_eq!(get(&net.client, VIP, 4), expected([("web7", 2), ("web8", 2)]));
    assert_eq!(servers(&director)[mine]["weight"], 5);
    let before = event(&director, "server-enabled", 0);
    assert!(time(&before) > UNIX_EPOCH);
}

/// As clients see it: a server that answers at its own address and not at the VIP is down.
#[test]
fn a_check_by_the_way_of_clients_sees_what_they_see() {
    let lab = Lab::new("viavip");
    let net = topology::dr(&lab);
    let network =
        net.network.replacen("name = \"eth0\"\nport", "name = \"eth0\"\nexception = \"fc-eth0\"\nport", 1);
    let service = r#"
[[check]]
name = "web"
type = "http"
path = "/"
interval = "500ms"
timeout = "500ms"
rise = 1
fall = 2
via = "vip"
[[service]]
address = "192.168.0.210:80"
protocol = "tcp"
scheduler = "rr"
checks = ["web"]
[[service.server]]
address = "192.168.0.221"
forward = "dr"
[[service.server]]
address = "192.168.0.222"
forward = "dr"
"#;
    net.director.sh("ip addr add 192.168.0.1/24 dev eth0");
    let mut director = Director::start(&net.director, lab.directory(), &Setup::TWO, &(network + service));
    let both = |wanted: [&str; 2]| wait_for(wanted[1], SLACK, || (states(&director) == wanted).then_some(()));
    both(["up", "up"]);
    assert_eq!(get(&net.client, "192.168.0.210", 4), expected([("web221", 2), ("web222", 2)]));
    let vip = |what: &str| net.servers[1].inside.sh(&format!("ip addr {what} 192.168.0.210/32 dev lo"));
    vip("del");
    both(["up", "down"]);
    assert_eq!(get(&net.client, "192.168.0.210", 4), expected([("web221", 4)]));
    vip("add");
    both(["up", "up"]);
    // A data plane that was started anew is told of the probes again.
    director.dataplane().kill();
    director.start_dataplane();
    director.wait_programmed(SLACK);
    vip("del");
    wait_for("down again", SLACK, || (states(&director) == ["up", "down"]).then_some(()));
}
