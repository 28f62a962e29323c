//! SCTP associations in every way of forwarding: handshake, data, shutdown, every CRC checked by both ends.

use std::time::Duration;

use fulcrum_e2e::Lab;
use fulcrum_e2e::client::{ask_sctp, expected};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::net::Family;
use fulcrum_e2e::process::wait_for;
use fulcrum_e2e::topology;

/// Associations in each way.
const COUNT: usize = 6;

/// VIP, ipvsadm's lines, whether answers come back through the director.
const WAYS: [(&str, &str, bool); 5] = [
    (
        "172.16.100.9",
        "-A --sctp-service 172.16.100.9:2905 -s rr
         -a --sctp-service 172.16.100.9:2905 -r 192.168.20.7:2906 -m
         -a --sctp-service 172.16.100.9:2905 -r 192.168.20.8:2906 -m",
        true,
    ),
    (
        "172.16.100.12",
        "-A --sctp-service 172.16.100.12:2905 -s rr
         -P --sctp-service 172.16.100.12:2905 -z 192.168.20.200
         -a --sctp-service 172.16.100.12:2905 -r 192.168.20.8:2906 -b
         -a --sctp-service 172.16.100.12:2905 -r 192.168.30.9:2906 -b",
        true,
    ),
    (
        "172.16.100.10",
        "-A --sctp-service 172.16.100.10:2905 -s rr
         -a --sctp-service 172.16.100.10:2905 -r 192.168.20.7 -g
         -a --sctp-service 172.16.100.10:2905 -r 192.168.20.8 -g",
        false,
    ),
    (
        "172.16.100.11",
        "-A --sctp-service 172.16.100.11:2905 -s rr
         -a --sctp-service 172.16.100.11:2905 -r 192.168.20.7 -i
         -a --sctp-service 172.16.100.11:2905 -r 192.168.20.8 -i --tun-type gue --tun-port 6080 --tun-csum",
        false,
    ),
    (
        "172.16.100.11",
        "-A --sctp-service 172.16.100.11:2906 -s rr
         -a --sctp-service 172.16.100.11:2906 -r 192.168.20.7 -i --tun-type gre --tun-csum
         -a --sctp-service 172.16.100.11:2906 -r 192.168.20.8 -i --tun-type gre",
        false,
    ),
];

fn associations_work(family: Family, setup: &Setup) {
    let lab = Lab::new(&format!("sctp{family:?}{}", setup.workers()));
    let mut net = topology::stage(&lab);
    net.servers[2].serve_sctp("192.168.30.9", 2906);
    for (server, address) in net.servers.iter_mut().zip(["192.168.20.7", "192.168.20.8"]) {
        server.serve_sctp(address, 2906);
        server.serve_sctp("172.16.100.10", 2905);
        for port in [2905, 2906] {
            server.serve_sctp("172.16.100.11", port);
        }
    }
    let director = Director::start(&net.director, lab.directory(), setup, &net.network);
    let captures = net.capture(&lab);
    for (number, (vip, lines, both_ways)) in WAYS.into_iter().enumerate() {
        director.ipvsadm_lines(&family.words(lines));
        let port = if number == 4 { 2906 } else { 2905 };
        let service = format!("{}:{port}", family.host(vip));
        let first = 30_000 + 100 * number as u16;
        let answers = ask_sctp(&net.client, &service, COUNT, first);
        let names = if vip == "172.16.100.12" { ["web2", "web3"] } else { ["web1", "web2"] };
        assert_eq!(answers, expected(names.map(|name| (name, COUNT / 2))), "{vip}");

        // Nobody answers the last packet of an association: it may be under way yet.
        let own = wait_for("associations that are closed", Duration::from_secs(10), || {
            let rows = director.sessions().into_iter();
            let own: Vec<_> = rows.filter(|row| row.virtual_ == service).collect();
            own.iter().all(|row| row.protocol == "SCTP" && row.state == "CLOSED").then_some(own)
        });
        assert_eq!(own.len(), COUNT, "{own:?}");
        // INIT, COOKIE ECHO, DATA, SACK, SHUTDOWN, SHUTDOWN COMPLETE; their answers, but for the last.
        let stats = director.stats();
        let at_vip = service.clone();
        let row = stats.iter().find(|row| row.kind == "SCTP" && row.service.ends_with(&at_vip));
        let numbers = &row.unwrap_or_else(|| panic!("{at_vip}: {stats:?}")).numbers;
        let out = if both_ways { 4 * COUNT as u64 } else { 0 };
        assert_eq!(numbers[..3], [COUNT as u64, 6 * COUNT as u64, out], "{vip}");
    }
    captures.stop();
}

#[test]
fn sctp_associations_work_in_every_way() {
    associations_work(Family::V4, &Setup::ONE);
}

#[test]
fn sctp_associations_work_over_workers_by_ipv6() {
    associations_work(Family::V6, &Setup::MISDIRECTED);
}
