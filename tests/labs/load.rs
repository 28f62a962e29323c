//! Changes while traffic runs: servers deleted or quiesced, ten thousand connections, client ports that come again.

use std::collections::BTreeMap;
use std::time::Duration;

use fulcrum_e2e::Lab;
use fulcrum_e2e::client::{Load, expected, get, same_as_big, tally};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::process::{Process, program, wait_for};
use fulcrum_e2e::topology::{self, Topology};

const TWO_SERVERS: &str = "
    -A -t 172.16.100.9:80 -s rr
    -a -t 172.16.100.9:80 -r 192.168.20.7:8080 -m
    -a -t 172.16.100.9:80 -r 192.168.20.8:8080 -m";

fn nat(lab: &Lab, setup: &Setup) -> (Topology, Director) {
    let net = topology::nat(lab);
    let director = Director::start(&net.director, lab.directory(), setup, &net.network);
    director.ipvsadm_lines(TWO_SERVERS);
    (net, director)
}

/// Waits for so many answers of a load.
fn wait_answers(load: &Load, count: usize) {
    wait_for("answers", Duration::from_secs(30), || {
        (load.so_far().values().sum::<usize>() >= count).then_some(())
    });
}

#[test]
fn a_server_of_weight_0_finishes_what_it_has_and_gets_nothing_new() {
    let lab = Lab::new("weight0");
    let (net, director) = nat(&lab, &Setup::TWO);
    // A download that takes a few seconds, at whichever server it is.
    let copy = lab.directory().join("slow");
    let mut command = net.client.command("curl");
    command.args(["-sS", "--fail", "--max-time", "30", "--limit-rate", "5M", "-o"]).arg(&copy);
    command.arg("http://172.16.100.9/big");
    let mut slow = Process::start(&mut command, lab.directory().join("slow.log"));
    let (busy, other) = wait_for("an active connection", Duration::from_secs(30), || {
        let listing = director.listing();
        let row = listing.iter().find(|row| row.kind == "->" && row.numbers[1] == 1)?;
        Some(if row.address.starts_with("192.168.20.7") {
            ("192.168.20.7", "web8")
        } else {
            ("192.168.20.8", "web7")
        })
    });
    let load = Load::start(&net.client, "172.16.100.9", 4, &lab.directory().join("load.log"));
    wait_answers(&load, 20);
    director.ipvsadm(&format!("-e -t 172.16.100.9:80 -r {busy}:8080 -m -w 0"));
    assert_eq!(get(&net.client, "172.16.100.9", 10), expected([(other, 10)]));
    let answers = load.finish();
    assert_eq!(answers.get("-"), None, "requests without an answer: {answers:?}");
    assert!(slow.wait(Duration::from_secs(30)).success(), "{}", slow.log());
    same_as_big(&copy, lab.directory());
}

#[test]
fn a_deleted_server_gets_nothing_new_and_takes_nobody_else_down() {
    let lab = Lab::new("delete");
    let (net, director) = nat(&lab, &Setup::TWO);
    let load = Load::start(&net.client, "172.16.100.9", 5, &lab.directory().join("load.log"));
    wait_answers(&load, 20);
    director.ipvsadm("-d -t 172.16.100.9:80 -r 192.168.20.7:8080");
    assert_eq!(get(&net.client, "172.16.100.9", 10), expected([("web8", 10)]));
    let answers = load.finish();
    // As in IPVS, a connection that was open at the deleted server is served no more: there was at most one.
    assert!(answers.get("-").copied().unwrap_or(0) <= 1, "{answers:?}");
    assert!(!director.listing().iter().any(|row| row.address.starts_with("192.168.20.7")));
    assert!(
        director.sessions().iter().any(|row| row.destination == "192.168.20.7:8080"),
        "its sessions stay"
    );
}

#[test]
fn ten_thousand_connections_at_once() {
    const COUNT: u64 = 10_000;
    let lab = Lab::new("tenk");
    let (net, director) = nat(&lab, &Setup::TWO);
    net.client.sh("sysctl -qw net.ipv4.ip_local_port_range='10000 60000'");
    let script = format!(
        "ulimit -n $(ulimit -Hn); exec {} hold 172.16.100.9:80 {COUNT}",
        program("fulcrum-lab").display()
    );
    let mut command = net.client.command("sh");
    command.args(["-c", &script]);
    let mut clients = Process::start(&mut command, lab.directory().join("hold.log"));
    wait_for("ten thousand open connections", Duration::from_secs(60), || {
        assert!(clients.is_running(), "{}", clients.log());
        clients.log().lines().any(|line| line == "open").then_some(())
    });
    let active: Vec<u64> =
        director.listing().iter().filter(|r| r.kind == "->").map(|r| r.numbers[1]).collect();
    assert_eq!(active.iter().sum::<u64>(), COUNT);
    assert!(active.iter().all(|n| n.abs_diff(COUNT / 2) <= 2), "{active:?}");
    assert_eq!(director.sessions().len() as u64, COUNT);
    clients.say("ask");
    assert!(clients.wait(Duration::from_secs(60)).success(), "{}", clients.log());
    let answered: BTreeMap<String, u64> = (clients.log().lines())
        .filter_map(|line| line.strip_prefix("server ")?.split_once(' '))
        .map(|(name, count)| (name.to_owned(), count.parse().expect("a number")))
        .collect();
    assert_eq!(answered.values().sum::<u64>(), COUNT);
    assert!(answered.values().all(|n| n.abs_diff(COUNT / 2) <= 2), "{answered:?}");
    wait_for("no active connection", Duration::from_secs(20), || {
        director.listing().iter().all(|row| row.kind != "->" || row.numbers[1] == 0).then_some(())
    });
}

#[test]
fn a_client_port_that_comes_again_is_served_every_time() {
    let lab = Lab::new("reuse");
    let (net, director) = nat(&lab, &Setup::ONE);
    let helper = program("fulcrum-lab");
    for flag in ["", "--reset"] {
        let answers = net.client.sh(&format!("{} reuse 40000 172.16.100.9:80 20 {flag}", helper.display()));
        assert_eq!(tally(&answers), expected([("web7", 10), ("web8", 10)]), "{flag}");
    }
    assert_eq!(director.sessions().len(), 1, "one client port, one session");
}
