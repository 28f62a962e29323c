//! ipvsadm, as Debian has it; and the bytes that go through what it sets up.

use std::fs;
use std::time::Duration;

use fulcrum_e2e::Lab;
use fulcrum_e2e::client::{assert_answered, expected, get};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::net::run;
use fulcrum_e2e::process::{Process, program, wait_for, wait_listening};
use fulcrum_e2e::server::big_file;
use fulcrum_e2e::topology;

use super::{ipvsadm, through, try_ipvsadm};

const SOON: Duration = Duration::from_secs(10);

/// What both ways of asking have to say alike, without what changes from one moment to the next.
const LISTINGS: [&str; 8] = [
    "-Ln",
    "-Ln --stats",
    "-Ln --stats --exact",
    "-Ln --thresholds",
    "-Ln --persistent-conn",
    "-Ln -t 172.16.100.9:80",
    "-L --timeout",
    "-Sn",
];

#[test]
fn ipvsadm_of_the_kernel_operates_the_director() {
    let lab = Lab::new("dooripvsadm");
    let net = topology::nat(&lab);
    let director = Director::start(&net.director, lab.directory(), &Setup::TWO, &net.network);
    let kernels = |words: &str| ipvsadm(&director, &net.director, words);
    for line in [
        "-A -t 172.16.100.9:80 -s rr",
        "-a -t 172.16.100.9:80 -r 192.168.20.7:8080 -m",
        "-a -t 172.16.100.9:80 -r 192.168.20.8:8080 -m -x 1000 -y 10",
        "-A -u 172.16.100.9:53 -s wlc -p 300",
        "-a -u 172.16.100.9:53 -r 192.168.20.7:5001 -m -w 3",
        "-A -t [fd00:100::9]:80 -s mh -b mh-port",
        "-a -t [fd00:100::9]:80 -r [fd00:20::7]:8080 -m",
        "-A -f 7 -s sh",
        "-a -f 7 -r 192.168.20.8:0 -g",
        "--set 700 0 200",
    ] {
        assert_eq!(kernels(line), "", "{line}");
    }
    assert_eq!(get(&net.client, "172.16.100.9", 6), expected([("web7", 3), ("web8", 3)]));
    wait_for("the closing of connections", SOON, || {
        director.sessions().iter().all(|row| row.state == "TIME_WAIT").then_some(())
    });
    let alike = || {
        for listing in LISTINGS {
            assert_eq!(kernels(listing), director.ipvsadm(listing), "{listing}");
        }
    };
    alike();
    assert!(kernels("-Ln --rate").contains("CPS    InPPS   OutPPS"));
    // Sessions come by a file of /proc, in any order and with seconds that go by.
    let ends = |listing: String| {
        let mut rows: Vec<String> = listing
            .lines()
            .skip(2)
            .map(|row| row.split_whitespace().enumerate().filter(|(n, _)| *n != 1).map(|(_, w)| w).collect())
            .collect();
        rows.sort();
        rows
    };
    assert_eq!(ends(kernels("-Lnc")), ends(director.ipvsadm("-Lnc")));
    assert_eq!(ends(kernels("-Lnc")).len(), 6);

    // What one saves the other restores.
    let saved = kernels("-Sn");
    assert_eq!(kernels("-Z"), "");
    alike();
    assert_eq!(kernels("-C"), "");
    assert_eq!(director.ipvsadm("-Sn"), "");
    fs::write(lab.directory().join("saved"), &saved).expect("the lab's directory is writable");
    let file = lab.directory().join("saved");
    let mut restore = through(&director, &net.director, "sh -c");
    restore.arg(format!("exec /sbin/ipvsadm -R <{}", file.display()));
    run(&mut restore);
    assert_eq!(kernels("-Sn"), saved);
    alike();
    assert_eq!(get(&net.client, "172.16.100.9", 4), expected([("web7", 2), ("web8", 2)]));

    for (line, complaint) in [
        ("-A -t 172.16.100.9:80 -s rr", "Service already exists"),
        ("-A -t 172.16.100.9:81 -s nosuch", "Scheduler or persistence engine not found"),
        ("-D -t 172.16.100.9:81", "No such service"),
        ("-a -t 172.16.100.9:81 -r 192.168.20.7", "Service not defined"),
        ("-a -t 172.16.100.9:80 -r 192.168.20.7:8080 -m", "Destination already exists"),
        ("-d -t 172.16.100.9:80 -r 192.168.20.9:8080", "No such destination"),
    ] {
        let refused = try_ipvsadm(&director, &net.director, line);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(complaint), "{line}: {said}");
    }
    assert_eq!(kernels("-Sn"), saved, "what is refused changes nothing");
}

#[test]
fn without_control_ipvsadm_finds_no_ipvs() {
    let lab = Lab::new("doornone");
    let net = topology::nat(&lab);
    let mut director = Director::start(&net.director, lab.directory(), &Setup::ONE, &net.network);
    ipvsadm(&director, &net.director, "-A -t 172.16.100.9:80 -s rr");
    director.control().kill();
    let refused = try_ipvsadm(&director, &net.director, "-Ln");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("fulcrum-control is not there"), "{said}");
    let mut anyway = net.director.command(program("fulcrum"));
    anyway.env("FULCRUM_SOCKET", director.socket()).args(["run", "--anyway", "/sbin/ipvsadm", "-Ln"]);
    let refused = anyway.output().expect("ip can be run");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("Can't initialize ipvs"), "{said}");
    director.start_control();
    wait_for("control", SOON, || {
        try_ipvsadm(&director, &net.director, "-Ln -t 172.16.100.9:80").status.success().then_some(())
    });
}

/// A client, a director and a server in namespaces of their own; a file goes through netcat by each way of forwarding.
#[test]
fn a_file_goes_through_by_every_way_of_forwarding() {
    let lab = Lab::new("doornc");
    let net = topology::stage(&lab);
    let director = Director::start(&net.director, lab.directory(), &Setup::ONE, &net.network);
    let sent = fs::read(big_file(lab.directory())).expect("it is there");
    let sent = &sent[..2 << 20];
    let outgoing = lab.directory().join("outgoing");
    fs::write(&outgoing, sent).expect("the lab's directory is writable");
    for (vip, flag) in [("172.16.100.10", "-g"), ("172.16.100.9", "-m"), ("172.16.100.11", "-i")] {
        ipvsadm(&director, &net.director, "-C");
        ipvsadm(&director, &net.director, &format!("-A -t {vip}:8888 -s rr"));
        ipvsadm(&director, &net.director, &format!("-a -t {vip}:8888 -r 192.168.20.7:8888 {flag}"));
        let incoming = lab.directory().join(format!("incoming{flag}"));
        let server = &net.servers[0].inside;
        let mut command = server.command("sh");
        command.args(["-c", &format!("exec nc -N -l 8888 >{}", incoming.display())]);
        let mut listener = Process::start(&mut command, lab.directory().join(format!("nc{flag}.log")));
        wait_listening(server, "tcp", 8888);
        net.client.sh(&format!("nc -N -w 5 {vip} 8888 <{}", outgoing.display()));
        assert!(listener.wait(SOON).success(), "{flag}");
        assert!(fs::read(&incoming).is_ok_and(|got| got == sent), "{flag}: not as it was sent");
    }
}

#[test]
fn a_flush_under_load_harms_nobody() {
    let lab = Lab::new("doorflush");
    let net = topology::nat(&lab);
    let director = Director::start(&net.director, lab.directory(), &Setup::TWO, &net.network);
    let rules = "-A -t 172.16.100.9:80 -s rr
-a -t 172.16.100.9:80 -r 192.168.20.7:8080 -m
-a -t 172.16.100.9:80 -r 192.168.20.8:8080 -m
";
    let file = lab.directory().join("rules");
    fs::write(&file, rules).expect("the lab's directory is writable");
    let restore = || {
        let mut restore = through(&director, &net.director, "sh -c");
        run(restore.arg(format!("exec /sbin/ipvsadm -R <{}", file.display())));
    };
    restore();
    assert_answered(&get(&net.client, "172.16.100.9", 2), 2);
    let script = "while :; do curl -s --max-time 1 http://172.16.100.9/ >/dev/null; done";
    let mut command = net.client.command("sh");
    command.args(["-c", script]);
    let mut load = Process::start(&mut command, lab.directory().join("load.log"));
    for _ in 0..10 {
        ipvsadm(&director, &net.director, "-C");
        assert_eq!(ipvsadm(&director, &net.director, "-Sn"), "");
        restore();
    }
    load.kill_all();
    assert_answered(&get(&net.client, "172.16.100.9", 6), 6);
    assert_eq!(ipvsadm(&director, &net.director, "-Ln"), director.ipvsadm("-Ln"));
    assert!(director.is_programmed());
}
