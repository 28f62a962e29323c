//! FTP with vsftpd and curl: control connections are read, data connections follow them, active and passive.

use std::fs;

use fulcrum_e2e::Lab;
use fulcrum_e2e::client::same_as_big;
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::net::Family;
use fulcrum_e2e::server::big_file;
use fulcrum_e2e::topology;

const VIP: &str = "172.16.100.9";

/// curl's options for each way to come to a data connection, and the command that it then sends.
const WAYS: [(&str, &str, Option<Family>); 4] = [
    ("--disable-epsv", "PASV", Some(Family::V4)),
    ("", "EPSV", None),
    ("--disable-eprt -P -", "PORT", Some(Family::V4)),
    ("-P -", "EPRT", None),
];

/// Lists, fetches and stores in every way.
fn files_come_and_go(name: &str, family: Family, setup: &Setup, how: &str, servers: [&str; 2]) {
    let lab = Lab::new(&format!("{name}{family:?}{}", setup.workers()));
    let mut net = topology::stage(&lab);
    net.servers.iter_mut().for_each(|server| server.serve_ftp());
    let director = Director::start(&net.director, lab.directory(), setup, &net.network);
    let mut lines = vec![format!("-A -t {VIP}:21 -s rr")];
    if how == "-b" {
        lines.push(format!("-P -t {VIP}:21 -z 192.168.20.200"));
    }
    lines.extend(servers.map(|server| format!("-a -t {VIP}:21 -r {server}:21 {how}")));
    director.ipvsadm_lines(&family.words(&lines.join("\n")));

    let captures = net.capture(&lab);
    let url = format!("ftp://{}", family.host(VIP));
    let big = big_file(lab.directory());
    let (copy, sent) = (lab.directory().join("copy"), fs::read(&big).expect("it is there"));
    let mut answered = std::collections::BTreeSet::new();
    for (number, (options, command, only)) in WAYS.into_iter().enumerate() {
        if only.is_some_and(|only| only != family) {
            continue;
        }
        let curl = format!("curl -sS -v --max-time 20 {options}");
        for _ in 0..2 {
            let name = net.client.sh(&format!("{curl} {url}/name 2> {}/said", lab.directory().display()));
            answered.insert(name.trim().to_owned());
        }
        let said = fs::read_to_string(lab.directory().join("said")).unwrap_or_default();
        assert!(said.contains(&format!("> {command}")), "curl was to send {command}:\n{said}");
        let listing = net.client.sh(&format!("{curl} {url}/ 2>/dev/null"));
        assert!(listing.contains("name") && listing.contains("big"), "{command}: {listing}");
        net.client.sh(&format!("{curl} -o {} {url}/big 2>/dev/null", copy.display()));
        same_as_big(&copy, lab.directory());
        let stored = format!("stored{number}");
        net.client.sh(&format!("{curl} -T {} {url}/up/{stored} 2>/dev/null", big.display()));
        let arrived =
            net.servers.iter().any(|server| server.uploaded(&stored).is_some_and(|got| got == sent));
        assert!(arrived, "{command}: no server has the upload as it was sent");
    }
    assert_eq!(answered.len(), 2, "both servers have answered: {answered:?}");
    captures.stop();
}

const NEAR: [&str; 2] = ["192.168.20.7", "192.168.20.8"];
const ANYWHERE: [&str; 2] = ["192.168.20.8", "192.168.30.9"];

#[test]
fn ftp_through_nat() {
    files_come_and_go("ftpnat", Family::V4, &Setup::ONE, "-m", NEAR);
}

#[test]
fn ftp_through_nat_over_workers() {
    files_come_and_go("ftpnat", Family::V4, &Setup::MISDIRECTED, "-m", NEAR);
}

#[test]
fn ftp_of_ipv6_through_nat() {
    files_come_and_go("ftpnat", Family::V6, &Setup::MISDIRECTED, "-m", NEAR);
}

#[test]
fn ftp_through_fullnat() {
    files_come_and_go("ftpfnat", Family::V4, &Setup::ONE, "-b", ANYWHERE);
}

#[test]
fn ftp_through_fullnat_over_workers() {
    files_come_and_go("ftpfnat", Family::V4, &Setup::MISDIRECTED, "-b", ANYWHERE);
}

#[test]
fn ftp_of_ipv6_through_fullnat() {
    files_come_and_go("ftpfnat", Family::V6, &Setup::MISDIRECTED, "-b", ANYWHERE);
}
