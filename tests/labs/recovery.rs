//! What clients get while servers fail and come back: quiesced servers, a quorum with hysteresis, slow start.

use std::time::Duration;

use fulcrum_e2e::Lab;
use fulcrum_e2e::client::{expected, get};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::process::{Process, wait_for};
use fulcrum_e2e::topology::{self, Topology};
use serde_json::Value;

const VIP: &str = "172.16.100.9";

/// What a busy machine may need for everything.
const SLACK: Duration = Duration::from_secs(20);

/// A server is asked at a port of its own, so that it can be down and go on with what it has.
const HEALTH: &str = "health";

fn be_well(net: &mut Topology, server: usize) {
    let body = "server { listen 9090; location / { return 200 'well\\n'; } }";
    net.servers[server].serve_http_like(HEALTH, body, &[9090]);
}

/// Two servers by NAT that are up. `more` is of the service, `weight` of each server.
fn start(lab: &Lab, more: &str, weight: u32) -> (Topology, Director) {
    let mut net = topology::nat(lab);
    net.manage(lab);
    let apology = "server { listen 8081; location / { return 200 'sorry\\n'; } }";
    net.servers[0].serve_http_like("sorry", apology, &[8081]);
    (0..2).for_each(|server| be_well(&mut net, server));
    let servers = [7, 8].map(|last| {
        format!(
            "[[service.server]]
address = \"192.168.20.{last}:8080\"
forward = \"nat\"
weight = {weight}
check-address = \"10.99.0.{last}\"
check-port = 9090
"
        )
    });
    let service = format!(
        "[[check]]
name = \"web\"
type = \"http\"
path = \"/\"
interval = \"500ms\"
timeout = \"500ms\"
rise = 1
fall = 2
[[service]]
address = \"{VIP}:80\"
protocol = \"tcp\"
scheduler = \"wrr\"
checks = [\"web\"]
{more}
{}",
        servers.concat()
    );
    let director =
        Director::start(&net.director, lab.directory(), &Setup::TWO, &(net.network.clone() + &service));
    wait_states(&director, ["up", "up"]);
    (net, director)
}

const SORRY: &str = "[service.sorry-server]
address = \"192.168.20.7:8081\"
forward = \"nat\"";

fn servers(director: &Director) -> Vec<Value> {
    let rows: Value = serde_json::from_str(&director.fulcrum("server list --json")).expect("JSON");
    rows.as_array().into_iter().flatten().filter(|row| row["sorry"] == false).cloned().collect()
}

/// Waits until servers are in these states.
fn wait_states(director: &Director, wanted: [&str; 2]) {
    wait_for(&format!("servers that are {wanted:?}"), SLACK, || {
        let are = servers(director).iter().map(|row| row["health"]["state"].clone()).collect::<Vec<_>>();
        (are == wanted).then_some(())
    });
}

/// Servers in the data plane, with their weights.
fn held(director: &Director) -> Vec<(String, u64)> {
    let rows = director.listing().into_iter().filter(|row| row.kind == "->");
    rows.map(|row| (row.address, row.numbers[0])).collect()
}

/// Waits until the data plane has these servers.
fn wait_held<const N: usize>(director: &Director, wanted: [(&str, u64); N]) {
    let wanted = wanted.map(|(address, weight)| (address.to_owned(), weight));
    wait_for(&format!("{wanted:?}"), SLACK, || {
        (held(director) == wanted && director.is_programmed()).then_some(())
    });
}

fn events(director: &Director, kind: &str) -> usize {
    let events: Value = serde_json::from_str(&director.fulcrum("events --json")).expect("JSON");
    events.as_array().into_iter().flatten().filter(|event| event["event"] == kind).count()
}

const WEB7: &str = "192.168.20.7:8080";
const WEB8: &str = "192.168.20.8:8080";
const APOLOGY: &str = "192.168.20.7:8081";

#[test]
fn a_quiesced_server_keeps_its_connections_and_gets_no_new_ones() {
    let lab = Lab::new("quiesce");
    let (mut net, director) = start(&lab, "on-failure = \"quiesce\"", 1);
    let mut command = net.client.command("curl");
    command.args(["-sS", "--limit-rate", "4M", "-o", "/dev/null", "-w", "got %{size_download}\n"]);
    command.arg(format!("http://{VIP}/big"));
    let mut download = Process::start(&mut command, lab.directory().join("download.log"));
    let session = wait_for("a session", SLACK, || {
        director.sessions().into_iter().find(|row| row.state == "ESTABLISHED")
    });
    let (mine, weights, other) = match session.destination.as_str() {
        WEB7 => (0, [(WEB7, 0), (WEB8, 1)], "web8"),
        _ => (1, [(WEB7, 1), (WEB8, 0)], "web7"),
    };

    net.servers[mine].kill(HEALTH);
    wait_held(&director, weights);
    assert!(download.is_running(), "it should take five seconds: {}", download.log());
    assert_eq!(get(&net.client, VIP, 4), expected([(other, 4)]));
    assert!(download.wait(Duration::from_secs(60)).success());
    download.wait_said(&format!("got {}", fulcrum_e2e::server::BIG), SLACK);

    be_well(&mut net, mine);
    wait_held(&director, [(WEB7, 1), (WEB8, 1)]);
    assert_eq!(get(&net.client, VIP, 4), expected([("web7", 2), ("web8", 2)]));
}

#[test]
fn a_quorum_is_lost_late_and_regained_late_and_meanwhile_it_says_sorry() {
    let lab = Lab::new("quorum");
    // Lost below 2, regained from 4 on.
    let more = format!("quorum = 3\nhysteresis = 1\n{SORRY}");
    let (mut net, director) = start(&lab, &more, 2);
    assert_eq!(get(&net.client, VIP, 4), expected([("web7", 2), ("web8", 2)]));
    net.servers[1].kill(HEALTH);
    wait_held(&director, [(WEB7, 2)]);
    assert_eq!(get(&net.client, VIP, 4), expected([("web7", 4)]));
    assert_eq!(events(&director, "quorum-lost"), 0);
    net.servers[0].kill(HEALTH);
    wait_held(&director, [(APOLOGY, 1)]);
    assert_eq!(get(&net.client, VIP, 4), expected([("sorry", 4)]));
    be_well(&mut net, 1);
    wait_states(&director, ["down", "up"]);
    assert_eq!(get(&net.client, VIP, 4), expected([("sorry", 4)]));
    assert_eq!((events(&director, "quorum-lost"), events(&director, "quorum-gained")), (1, 0));
    be_well(&mut net, 0);
    wait_held(&director, [(WEB7, 2), (WEB8, 2)]);
    assert_eq!(get(&net.client, VIP, 4), expected([("web7", 2), ("web8", 2)]));
    assert_eq!(events(&director, "quorum-gained"), 1);
}

#[test]
fn a_server_that_comes_back_gets_a_share_that_grows() {
    const WEIGHT: u64 = 10;
    const ROUND: usize = 20;
    // So far from its share a server may be in a round: by wrr its turns are not spread evenly, and weights change meanwhile.
    const UNEVEN: usize = 3;
    let lab = Lab::new("slowstart");
    let (mut net, director) = start(&lab, "slow-start = 6", WEIGHT as u32);
    let share = |net: &Topology| get(&net.client, VIP, ROUND).get("web8").copied().unwrap_or(0);
    assert_eq!(share(&net), ROUND / 2);
    let weight = || {
        let held = held(&director).into_iter().find(|(server, _)| server == WEB8);
        held.map_or(0, |(_, weight)| weight)
    };
    net.servers[1].kill(HEALTH);
    wait_held(&director, [(WEB7, WEIGHT)]);
    assert_eq!(share(&net), 0);

    be_well(&mut net, 1);
    wait_for("a server that is back", SLACK, || (weight() > 0).then_some(()));
    // Its weight before a round of requests and after it, and what it got of that.
    let mut rounds = Vec::new();
    wait_for("its whole weight", SLACK, || {
        let before = weight();
        rounds.push((before, share(&net), weight()));
        (before == WEIGHT).then_some(())
    });
    let of = |weight: u64| ROUND * weight as usize / (WEIGHT + weight) as usize;
    for &(before, got, after) in &rounds {
        let expected = of(before).saturating_sub(UNEVEN)..=of(after) + UNEVEN;
        assert!(expected.contains(&got), "{rounds:?}");
    }
    let partial = rounds.iter().filter(|(_, _, after)| *after < WEIGHT).count();
    assert!(partial >= 1, "it had its whole weight at once: {rounds:?}");
    assert_eq!(rounds.last().map(|(_, got, _)| *got), Some(ROUND / 2), "{rounds:?}");
}
