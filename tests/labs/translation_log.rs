//! Who was behind a local address and port: told to a real collector, nfcapd.

use std::fs;
use std::time::Duration;

use fulcrum_e2e::Lab;
use fulcrum_e2e::client::get;
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::process::{Process, wait_for, wait_listening};
use fulcrum_e2e::topology;

const SERVICE: &str = "
[[service]]
address = \"172.16.100.9:80\"
protocol = \"tcp\"
scheduler = \"rr\"
local-pool = \"inside\"
timeouts = { tcp-time-wait = 1, tcp-close = 1, tcp-fin-wait = 1, tcp-last-ack = 1 }

[[service.server]]
address = \"192.168.30.7:8080\"
forward = \"fullnat\"
";

#[test]
fn a_collector_is_told_of_begins_and_ends() {
    let lab = Lab::new("translog");
    let net = topology::fullnat(&lab, "addresses = [\"192.168.20.200\"]\nports = \"20000-20003\"");
    net.director.sh("ip link set lo up");
    let flows = lab.directory().join("flows");
    fs::create_dir(&flows).unwrap();
    let mut collector = net.director.command("nfcapd");
    collector.args(["-b", "127.0.0.1", "-p", "4739", "-t", "3600", "-w"]).arg(&flows);
    let mut collector = Process::start(&mut collector, lab.directory().join("nfcapd.log"));
    wait_listening(&net.director, "udp", 4739);

    let mut director =
        Director::start(&net.director, lab.directory(), &Setup::ONE, &format!("{}{SERVICE}", net.network));
    let text = fs::read_to_string(director.config()).unwrap();
    let log = "[dataplane]\ntranslation-log = \"127.0.0.1:4739\"\nobservation-domain = 42\n";
    fs::write(director.config(), text.replace("[dataplane]\n", log)).unwrap();
    director.dataplane().stop();
    director.start_dataplane();
    director.wait_programmed(Duration::from_secs(30));

    assert_eq!(get(&net.client, "172.16.100.9", 2).values().sum::<usize>(), 2);
    let exported =
        |director: &Director| director.status()?["dataplane"]["translation_log"]["exported"].as_u64();
    wait_for("two begins and two ends", Duration::from_secs(30), || {
        exported(&director).filter(|exported| *exported == 4)
    });
    // What the collector has is in its file when it ends.
    collector.stop();
    let shown = net.director.sh(&format!("nfdump -q -R {} -o raw", flows.display()));
    // `name = value` lines; without the blanks that align them.
    let lines: Vec<String> =
        shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let count = |line: &str| lines.iter().filter(|found| found.starts_with(line)).count();
    for (line, times) in [
        ("nat event = 4", 2),
        ("nat event = 5", 2),
        ("proto = 6 TCP", 4),
        ("src addr = 172.16.100.50", 4),
        ("dst addr = 172.16.100.9", 4),
        ("dst port = 80", 4),
        ("src xlt ip = 192.168.20.200", 4),
        ("src xlt port = 2000", 4),
        ("dst xlt ip = 192.168.30.7", 4),
        ("dst xlt port = 8080", 4),
    ] {
        assert_eq!(count(line), times, "{line} in {shown}");
    }
    let log = director.fulcrum("status --verbose");
    assert!(log.contains("translations told to 127.0.0.1:4739: 4"), "{log}");
}
