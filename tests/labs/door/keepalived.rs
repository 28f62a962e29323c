//! keepalived checks servers and operates the director, as it would the kernel.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use fulcrum_e2e::Lab;
use fulcrum_e2e::client::{expected, get};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::net::Namespace;
use fulcrum_e2e::process::{Process, wait_for};
use fulcrum_e2e::topology;

use super::{SORRY, all, checking, ipvsadm, join, serve_sorry, servers, through};

const SOON: Duration = Duration::from_secs(15);

/// keepalived with its files, its checks alone.
struct Keepalived {
    configuration: PathBuf,
    daemon: Process,
}

impl Keepalived {
    fn start(
        lab: &Lab,
        director: &Director,
        inside: &Namespace,
        name: &str,
        configuration: &str,
    ) -> Keepalived {
        let file = |end: &str| lab.directory().join(format!("{name}.{end}"));
        let path = file("conf");
        fs::write(&path, configuration).expect("the lab's directory is writable");
        let mut command = through(director, inside, "keepalived -n -l -D -C -f");
        command.arg(&path).arg("-p").arg(file("pid")).arg("-c").arg(file("checkers"));
        let daemon = Process::start(&mut command, file("log"));
        Keepalived { configuration: path, daemon }
    }

    fn reload(&self, configuration: &str) {
        fs::write(&self.configuration, configuration).expect("it is ours");
        self.daemon.signal("HUP");
    }

    /// Both of its processes at once, as an end of the machine would.
    fn crash(&mut self) {
        let id = self.daemon.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let mut kill = Command::new("kill");
        kill.arg("-KILL").args(children.split_whitespace()).arg(id.to_string());
        assert!(kill.status().is_ok_and(|status| status.success()));
        self.daemon.kill();
    }
}

const TCP: &str = "TCP_CHECK {\nconnect_timeout 1\nretry 0\n}";
const HTTP: &str = "HTTP_GET {\nconnect_timeout 1\nretry 0\nurl {\npath /\nstatus_code 200\n}\n}";

/// A block of the file for a service.
fn virtual_server(which: &str, more: &str, servers: &[String]) -> String {
    let common = "delay_loop 0.3\nlvs_method NAT\nprotocol TCP";
    format!("virtual_server {which} {{\n{common}\n{more}\n{}}}\n", servers.concat())
}

fn real_server(address: &str, more: &str, check: &str) -> String {
    format!("real_server {address} 8080 {{\n{more}\n{check}\n}}\n")
}

/// Two services by address and one by mark. `weight` is that of the second server.
fn services(weight: u32) -> String {
    let sorry = format!("sorry_server {}", SORRY.replace(':', " "));
    let [first, second] = ["192.168.20.7", "192.168.20.8"];
    [
        "global_defs {\nscript_user root\n}\n".to_owned(),
        virtual_server(
            "172.16.100.9 80",
            &format!("lvs_sched rr\n{sorry}"),
            &[real_server(first, "", TCP), real_server(second, &format!("weight {weight}"), TCP)],
        ),
        virtual_server(
            "172.16.100.9 8080",
            &format!("lvs_sched wlc\nquorum 2\n{sorry}"),
            &[real_server(first, "", HTTP), real_server(second, "", HTTP)],
        ),
        virtual_server("fwmark 7", "lvs_sched rr", &[real_server(first, "inhibit_on_failure", TCP)]),
    ]
    .concat()
}

const PLAIN: &str = "TCP 172.16.100.9:80";
const QUORUM: &str = "TCP 172.16.100.9:8080";
const MARK: &str = "FWM 7";

#[test]
fn keepalived_checks_servers_of_the_director() {
    let lab = Lab::new("doorkeepalived");
    let mut net = topology::nat(&lab);
    serve_sorry(&mut net);
    let mut director = Director::start(&net.director, lab.directory(), &Setup::ONE, &checking(&net));
    join(&net.director);
    net.client.sh("ip route add 10.77.0.0/24 via 172.16.100.1");
    director.fulcrum("mark add 7 --protocol tcp --to 10.77.0.7 --ports 8080");
    let mut keepalived = Keepalived::start(&lab, &director, &net.director, "keepalived", &services(1));
    let (first, second) = ("192.168.20.7:8080", "192.168.20.8:8080");
    let wait = |director: &Director, service: &str, expected: Vec<(String, u64)>| {
        wait_for(&format!("{expected:?} of {service}"), SOON, || {
            (servers(director, service) == expected).then_some(())
        });
    };
    wait(&director, PLAIN, all([first, second]));
    wait(&director, QUORUM, all([first, second]));
    wait(&director, MARK, all([first]));
    let both = expected([("web7", 2), ("web8", 2)]);
    assert_eq!(get(&net.client, "172.16.100.9", 4), both);
    assert_eq!(get(&net.client, "172.16.100.9:8080", 4), both);
    assert_eq!(get(&net.client, "10.77.0.7:8080", 1), expected([("web7", 1)]));

    // One fails: the other goes on; where two are asked for, nobody does but who excuses himself.
    net.servers[0].kill("http");
    wait(&director, PLAIN, all([second]));
    wait(&director, QUORUM, all([SORRY]));
    wait(&director, MARK, vec![(first.to_owned(), 0)]);
    assert_eq!(get(&net.client, "172.16.100.9", 2), expected([("web8", 2)]));
    assert_eq!(get(&net.client, "172.16.100.9:8080", 2), expected([("sorry", 2)]));

    // It comes back while control is started again: keepalived keeps its connection, and says what it has to say.
    director.control().kill();
    net.servers[0].serve_http(&[8080]);
    std::thread::sleep(Duration::from_millis(500));
    director.start_control();
    director.wait_programmed(SOON);
    wait(&director, PLAIN, all([first, second]));
    wait(&director, QUORUM, all([first, second]));
    wait(&director, MARK, all([first]));

    // All fail.
    net.servers.iter_mut().for_each(|server| server.kill("http"));
    wait(&director, PLAIN, all([SORRY]));
    assert_eq!(get(&net.client, "172.16.100.9", 1), expected([("sorry", 1)]));
    net.servers.iter_mut().for_each(|server| server.serve_http(&[8080]));
    wait(&director, PLAIN, all([first, second]));

    // Other weights, and a service less.
    let fewer = services(3).split("virtual_server fwmark").next().expect("there is a first part").to_owned();
    keepalived.reload(&fewer);
    wait_for("what the file says now", SOON, || {
        let weighted = servers(&director, PLAIN) == [(first.to_owned(), 1), (second.to_owned(), 3)];
        (weighted && !director.ipvsadm("-Sn").contains("-f 7")).then_some(())
    });
    assert!(keepalived.daemon.stop().success());
    assert_eq!(ipvsadm(&director, &net.director, "-Sn"), "", "a clean stop leaves nothing");
}

#[test]
fn what_a_keepalived_left_that_died_half_way_the_next_one_completes() {
    let lab = Lab::new("doorcrash");
    let net = topology::nat(&lab);
    let director = Director::start(&net.director, lab.directory(), &Setup::ONE, &net.network);
    const COUNT: usize = 12;
    let servers = ["192.168.20.7", "192.168.20.8"].map(|address| real_server(address, "", ""));
    let services = (1000..1000 + COUNT)
        .map(|port| virtual_server(&format!("172.16.100.9 {port}"), "lvs_sched rr", &servers));
    let configuration = "global_defs {\nlvs_flush_on_stop\n}\n".to_owned() + &services.collect::<String>();
    let lines = |director: &Director| director.ipvsadm("-Sn").lines().count();
    let start = |name: &str| Keepalived::start(&lab, &director, &net.director, name, &configuration);
    let mut first = start("first");
    wait_for("some of the services", SOON, || (lines(&director) > 5).then_some(()));
    first.crash();
    // Whatever it had said stands, with what it was just about to say, and both ways of asking agree on it.
    wait_for("one answer to both ways of asking", SOON, || {
        (ipvsadm(&director, &net.director, "-Sn") == director.ipvsadm("-Sn")).then_some(())
    });
    assert!((6..3 * COUNT).contains(&lines(&director)), "{}", director.ipvsadm("-Sn"));
    let mut second = start("second");
    wait_for("all of the services", SOON, || (lines(&director) == 3 * COUNT).then_some(()));
    let last = format!("172.16.100.9:{}", 1000 + COUNT - 1);
    assert_eq!(get(&net.client, &last, 4), expected([("web7", 2), ("web8", 2)]));
    assert!(second.daemon.stop().success());
    assert_eq!(lines(&director), 0);
}
