//! The configuration file and run-time changes, with both processes at work.

use std::fs;
use std::path::PathBuf;

use fulcrum_e2e::Lab;
use fulcrum_e2e::client::{assert_answered, expected, get};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::topology::{self, Topology};

const SERVICE: &str = "
[[service]]
address = \"172.16.100.9:80\"
protocol = \"tcp\"
scheduler = \"rr\"
[[service.server]]
address = \"192.168.20.7:8080\"
forward = \"nat\"
";

fn start(lab: &Lab) -> (Topology, Director) {
    let net = topology::nat(lab);
    let network = format!("{}{SERVICE}", net.network);
    let director = Director::start(&net.director, lab.directory(), &Setup::ONE, &network);
    (net, director)
}

/// A copy of the configuration with something replaced.
fn changed(lab: &Lab, director: &Director, from: &str, to: &str) -> PathBuf {
    let text = fs::read_to_string(director.config()).expect("it was written");
    assert!(text.contains(from), "`{from}` is in the file");
    let file = lab.directory().join("changed.toml");
    fs::write(&file, text.replace(from, to)).expect("the lab's directory is writable");
    file
}

#[test]
fn a_file_is_checked_compared_and_applied_as_a_whole() {
    let lab = Lab::new("apply");
    let (net, director) = start(&lab);
    assert_eq!(get(&net.client, "172.16.100.9", 2), expected([("web7", 2)]));

    let good = changed(&lab, &director, "192.168.20.7:8080", "192.168.20.8:8080");
    director.fulcrum(&format!("check {}", good.display()));
    let differences = director.fulcrum(&format!("diff {}", good.display()));
    assert!(
        differences.contains("192.168.20.7:8080") && differences.contains("192.168.20.8:8080"),
        "{differences}"
    );
    assert_eq!(get(&net.client, "172.16.100.9", 2), expected([("web7", 2)]), "so far nothing has changed");
    director.fulcrum(&format!("apply {}", good.display()));
    assert_eq!(get(&net.client, "172.16.100.9", 2), expected([("web8", 2)]));
    assert_eq!(director.fulcrum(&format!("diff {}", good.display())).trim(), "nothing would change");

    // One mistake, and nothing of the file is applied; file and line are named.
    let text = fs::read_to_string(&good).expect("it was written");
    let bad = lab.directory().join("bad.toml");
    fs::write(&bad, text.replace("192.168.20.8:8080", "192.168.20.7:8080").replace("\"rr\"", "\"rrr\""))
        .expect("the lab's directory is writable");
    for command in ["check", "apply"] {
        let output = director.try_fulcrum(&format!("{command} {}", bad.display()));
        assert!(!output.status.success(), "{command} of a bad file");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("bad.toml:") && said.contains("rrr"), "{said}");
    }
    assert_eq!(get(&net.client, "172.16.100.9", 2), expected([("web8", 2)]));
}

#[test]
fn changes_at_run_time_survive_both_processes() {
    let lab = Lab::new("survive");
    let (net, mut director) = start(&lab);
    director.ipvsadm("-a -t 172.16.100.9:80 -r 192.168.20.8:8080 -m");
    let before = director.fulcrum("ipvsadm -Sn");
    let (dataplane, control) = director.stop();
    assert!(dataplane.success() && control.success(), "data plane: {dataplane}, control: {control}");
    director.start_control();
    director.start_dataplane();
    director.wait_programmed(std::time::Duration::from_secs(30));
    assert_eq!(director.fulcrum("ipvsadm -Sn"), before);
    assert_eq!(get(&net.client, "172.16.100.9", 4), expected([("web7", 2), ("web8", 2)]));
}

#[test]
fn a_restore_of_many_lines_is_one_transaction() {
    let lab = Lab::new("restore");
    let (net, director) = start(&lab);
    let saved = director.fulcrum("ipvsadm -Sn");
    let many: String =
        (1..=500).map(|n| format!("-A -t 172.16.101.{}:{} -s rr\n", n % 250 + 1, 1000 + n)).collect();
    let good = lab.directory().join("good.lines");
    fs::write(&good, &many).expect("the lab's directory is writable");
    let bad = lab.directory().join("bad.lines");
    fs::write(&bad, format!("-C\n{many}-A -t 172.16.101.1:1250 -s nosuch\n"))
        .expect("the lab's directory is writable");

    let restore = |file: &PathBuf| {
        let input = fs::File::open(file).expect("it was written");
        director.command("ipvsadm -R").stdin(input).output().expect("fulcrum can be run")
    };
    assert!(!restore(&bad).status.success());
    assert_eq!(director.fulcrum("ipvsadm -Sn"), saved, "a restore that fails changes nothing");
    let output = restore(&good);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(director.fulcrum("ipvsadm -Sn").lines().count(), saved.lines().count() + 500);
    assert_answered(&get(&net.client, "172.16.100.9", 4), 4);
}
